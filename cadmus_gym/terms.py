"""The terms of a completion: its form, the words of that form, and the tokens it may spend.

A spec has them; so has a model, by the specs that its card says it was trained on.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cadmus_gym.spec import SPECS, Episode, Spec, load_spec


@dataclass(frozen=True)
class Terms:
    """What a completion may look like, and the tokens it may spend, those of thoughts among them."""

    form: str
    words: tuple[str, ...]
    max_tokens: int
    thought_tokens: int


def terms_of(
    card: Mapping[str, Any],
    *,
    spec: str | Path | Spec | None = None,
    form: str | None = None,
    words: tuple[str, ...] = (),
    max_tokens: int | None = None,
    thought_tokens: int | None = None,
) -> Terms:
    """Return the terms of a spec, by default those under which a model with this card was trained.

    Any other argument replaces its part of them. A form alone is enough where the card does not say: the budget is then
    the one of a spec that sets none. Raises ValueError where neither a spec, a form nor the card gives them, and as
    `load_spec` does.
    """
    if spec is not None:
        own, own_words, episode = asked_under([load_spec(spec)])
    else:
        try:
            own, own_words, episode = asked_under(trained_on(card))
        except (ValueError, FileNotFoundError) as error:
            if form is None:
                raise ValueError(
                    f"{error}; give a form, such as form='value', or a spec, such as spec='Cadmus-Arith-v0'"
                ) from None
            own, own_words, episode = form, (), Episode()
    return Terms(
        own if form is None else form,
        words or (own_words if form in (None, own) else ()),
        episode.max_tokens if max_tokens is None else max_tokens,
        episode.thought_tokens if thought_tokens is None else thought_tokens,
    )


def trained_on(card: Mapping[str, Any]) -> list[Spec]:
    """Return the specs that a model was trained on, by its card: one, or those of a weighted mixture.

    Raises ValueError where the card does not say, and as `load_spec` does.
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
    """Load specs, once: reading the nine files of Cadmus-Mix-v0 takes longer than a short completion."""
    return tuple(load_spec(name, **json.loads(overrides)) for name in names)


def _stamp(name: str) -> object:
    """Return a value that changes when a spec's file is edited or its id is registered from another file."""
    path = Path(SPECS.get(name, name))
    return path, path.stat().st_mtime_ns if path.is_file() else None


def stages(card: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the cards of what a model was made in, the first training first."""
    parent = card.get("parent")
    return [*(stages(parent) if isinstance(parent, Mapping) else []), card]


def ids_of(specs: list[Spec]) -> list[str]:
    """Return the ids of specs and of the parts of those that are mixtures."""
    return list(dict.fromkeys(id for spec in specs for id in (spec.id, *spec.mixture)))


def asked_under(specs: list[Spec]) -> tuple[str, tuple[str, ...], Episode]:
    """Return the form, its words and the budget that allow the completions of all of these specs.

    Raises ValueError where their forms do not go together.
    """
    forms = {(spec.form, spec.words) for spec in specs}
    if len(forms) > 1 and {form for form, _ in forms} <= {"value", "relation", "answer"}:
        forms = {("answer", ())}
    if len(forms) > 1:
        raise ValueError(f"{', '.join(spec.id for spec in specs)} have forms that do not go together")
    ((form, words),) = forms
    episodes = [spec.episode for spec in specs]
    return form, words, Episode(max(e.max_tokens for e in episodes), max(e.thought_tokens for e in episodes))
