"""Completions under the rules of an environment, by default the one that the model was trained on by its card."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import ArrayLike

from cadmus_gym.language.forms import Rules
from cadmus_gym.progress import Report
from cadmus_gym.streams.loading import SPECS, load_spec
from cadmus_gym.streams.spec import Spec
from cadmus_gym.transformer.generate import Completions, generate

if TYPE_CHECKING:
    from cadmus_gym.transformer.decoding import Decoder
    from cadmus_gym.transformer.model import Transformer


def rules_of(
    card: Mapping[str, Any],
    *,
    spec: str | Path | Spec | None = None,
    form: str | None = None,
    words: tuple[str, ...] = (),
    max_tokens: int | None = None,
    thought_tokens: int | None = None,
) -> Rules:
    """Return the rules of a spec, by default those under which a model with this card was trained.

    The other arguments override parts of the rules. If the card does not say what the model was trained on, ``form`` is
    enough, and the budget is then the default of a spec. Raises ValueError if the spec, the form and the card all leave
    the rules open, and as `load_spec` does.
    """
    if spec is not None:
        own = load_spec(spec).rules
    else:
        try:
            own = asked_under(trained_on(card))
        except (ValueError, FileNotFoundError) as error:
            if form is None:
                raise ValueError(
                    f"{error}; give a form, such as form='value', or a spec, such as spec='Cadmus-Arith-v0'"
                ) from None
            own = Rules(form)
    return Rules(
        own.form if form is None else form,
        words or (own.words if form in (None, own.form) else ()),
        own.max_tokens if max_tokens is None else max_tokens,
        own.thought_tokens if thought_tokens is None else thought_tokens,
        own.body_tokens if form in (None, own.form) else (),
    )


def trained_on(card: Mapping[str, Any]) -> list[Spec]:
    """Return the specs that a model was trained on, according to its card: one, or those of a weighted mixture.

    Raises ValueError if the card does not say, and as `load_spec` does.
    """
    settings = card.get("settings")
    env = settings.get("env") if isinstance(settings, Mapping) else None
    if not isinstance(settings, Mapping) or not isinstance(env, (str, Mapping)) or not env:
        raise ValueError("the model's card does not say what it was trained on")
    names = (env,) if isinstance(env, str) else tuple(env)
    overrides = (settings.get("overrides") or {}) if isinstance(env, str) else {}
    return list(_specs(names, json.dumps(overrides), tuple(map(_stamp, names))))


@functools.lru_cache(maxsize=64)
def _specs(names: tuple[str, ...], overrides: str, stamps: tuple[object, ...]) -> tuple[Spec, ...]:
    """Load specs once, since reading the nine files of Cadmus-Mix-v0 takes longer than a short completion."""
    return tuple(load_spec(name, **json.loads(overrides)) for name in names)


def _stamp(name: str) -> object:
    """Return a value that changes when a spec's file is edited or its id is registered from another file."""
    path = Path(SPECS.get(name, name))
    return path, path.stat().st_mtime_ns if path.is_file() else None


def stages(card: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the cards of all trainings of a model, oldest first."""
    parent = card.get("parent")
    return [*(stages(parent) if isinstance(parent, Mapping) else []), card]


def ids_of(specs: list[Spec]) -> list[str]:
    """Return the ids of specs, and of the parts of mixtures among them."""
    return list(dict.fromkeys(id for spec in specs for id in (spec.id, *spec.mixture)))


def asked_under(specs: list[Spec]) -> Rules:
    """Return rules that allow the completions of all these specs.

    Raises ValueError if their forms cannot be combined.
    """
    rules = [spec.rules for spec in specs]
    forms = {(one.form, one.words, one.body_tokens) for one in rules}
    if len(forms) > 1 and {form for form, _, _ in forms} <= {"value", "relation", "answer"}:
        forms = {("answer", (), ())}
    if len(forms) > 1:
        raise ValueError(f"{', '.join(spec.id for spec in specs)} have forms that do not go together")
    ((form, words, body),) = forms
    return Rules(form, words, max(one.max_tokens for one in rules), max(one.thought_tokens for one in rules), body)


def complete(
    model: Transformer | Decoder,
    prompts: ArrayLike | Sequence[str | ArrayLike],
    *,
    prompt_lengths: ArrayLike | None = None,
    spec: str | Path | Spec | None = None,
    form: str | None = None,
    words: tuple[str, ...] = (),
    max_tokens: int | None = None,
    thought_tokens: int | None = None,
    temperature: float = 0.0,
    seed: int = 0,
    batch_size: int = 256,
    endian: str | None = None,
    raw: bool = False,
    report: Report | None = None,
) -> Completions:
    """Let a model complete prompts, by default with the form and budget of the environment it was trained on.

    prompts: (N, L) uint8 padded with 0, or a sequence of N texts for `cadmus_gym.assemble` or token arrays. Digits are
        in the order of the language, and there is no `<bos>`.
    prompt_lengths: (N,), if prompts are one array; by default a prompt ends at its last token that is not 0.
    spec: the environment whose form and budget apply; by default the one in ``model.card``.
    form, words: override what a completion may look like; see `cadmus_gym.language.forms`.
    max_tokens: overrides the most tokens of a completion, including thoughts and `end`. Every form but "free" reserves
        enough of them to finish.
    thought_tokens: overrides the most tokens in thoughts, including parentheses.
    temperature: 0 takes the most likely allowed token, and reports log-probabilities at temperature 1.
    seed: random numbers depend only on the seed, the row and the step, not on the batch size.
    batch_size: rows computed at once; it changes results only by rounding.
    endian: the digit order that the model reads and writes, "big" or "little"; by default ``model.endian``.
    raw: also return ``raw_log_probs``.
    report: called with (done, total) prompts after each batch.

    Raises ValueError if the model has no card and neither spec nor form is given, and as `load_spec` and
    `cadmus_gym.transformer.generate.generate` do.
    """
    rules = rules_of(
        model.card, spec=spec, form=form, words=words, max_tokens=max_tokens, thought_tokens=thought_tokens
    )
    return generate(
        model,
        prompts,
        rules,
        prompt_lengths=prompt_lengths,
        temperature=temperature,
        seed=seed,
        batch_size=batch_size,
        endian=endian,
        raw=raw,
        report=report,
    )
