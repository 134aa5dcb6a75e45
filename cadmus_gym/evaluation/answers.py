"""Completions for people to read, with the probabilities of all tokens allowed at each position.

The probabilities come from one forward pass over the finished program, masked by the form, at temperature 1.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cadmus_gym.arguments import check_whole
from cadmus_gym.evaluation.completing import rules_of, trained_on
from cadmus_gym.language import isa as op
from cadmus_gym.language.cases import table_of
from cadmus_gym.language.forms import Automata, Rules, check_prompt, reverse_digits
from cadmus_gym.language.isa import VOCABULARY, Tokens
from cadmus_gym.language.machine import Outcome, run
from cadmus_gym.language.notation import as_tokens, disassemble
from cadmus_gym.streams.problems import Reader
from cadmus_gym.streams.spec import Spec
from cadmus_gym.transformer.generate import check_temperature, generate, logits_of

if TYPE_CHECKING:
    from cadmus_gym.transformer.decoding import Decoder
    from cadmus_gym.transformer.model import Transformer

LEAST = 0.0005  # less likely alternatives are not shown
WIDTH = 100  # columns of a terminal
ABREAST = 5  # alternatives per line
OUTSIDE = "This prompt is outside the model's training distribution ({}); its probabilities mean little here."


@dataclass(frozen=True)
class Answer:
    """A model's completion of a prompt.

    ``written`` is the completion in the digit order in which the model wrote it. Row t of ``log_probs`` has the
    log-probabilities of all tokens allowed at position t, -inf for the others. ``outside`` says why the prompt is
    outside the model's training distribution, and is empty if it is not; see `outside_training`.
    """

    prompt: Tokens  # (p,)
    completion: Tokens  # (m,), in the digit order of the language
    written: Tokens  # (m,)
    log_probs: NDArray[np.float32]  # (m, 65)
    outcome: Outcome
    outside: str = ""

    @property
    def log_prob(self) -> float:
        """The log-probability of the completion, in nats."""
        return float(self.log_probs[np.arange(self.written.size), self.written].sum())

    @property
    def parts(self) -> tuple[str, str]:
        """Thoughts and answer, in the notation for people."""
        answer = int(np.flatnonzero(self.completion == op.CLOSE)[-1]) + 1 if op.CLOSE in self.completion else 0
        return disassemble(self.completion[:answer]), disassemble(self.completion[answer:])


def answer(
    model: Transformer | Decoder,
    prompt: str | ArrayLike,
    *,
    spec: str | Path | Spec | None = None,
    form: str | None = None,
    words: tuple[str, ...] = (),
    max_tokens: int | None = None,
    thought_tokens: int | None = None,
    temperature: float = 0.0,
    samples: int = 1,
    seed: int = 0,
) -> list[Answer]:
    """Let a model complete one prompt and return one answer per sample.

    ``prompt`` is text for `cadmus_gym.assemble` or token ids (n,). Form and budget are chosen as in
    `cadmus_gym.complete`, and the budget is cut to the model's context. Temperature 0 takes the most likely token; more
    than one sample needs a temperature above 0. Raises what `cadmus_gym.complete` raises, and ValueError for a prompt
    that no completion of this form turns into a well-formed program.
    """
    tokens = as_tokens(prompt)
    check_whole(samples=samples)
    temperature = check_temperature(temperature)
    if samples < 1 or (samples > 1 and temperature <= 0):
        raise ValueError(f"samples = {samples} at temperature {temperature}: more than one sample needs one above 0")
    rules = rules_of(
        model.card, spec=spec, form=form, words=words, max_tokens=max_tokens, thought_tokens=thought_tokens
    )
    check_whole(max_tokens=rules.max_tokens, thought_tokens=rules.thought_tokens)
    if max_tokens is None:
        rules = replace(rules, max_tokens=max(1, min(rules.max_tokens, model.config.context - tokens.size)))
    check_prompt(tokens, rules)
    done = generate(model, [tokens] * samples, rules, temperature=temperature, seed=seed)
    completions = [row[:size] for row, size in zip(done.tokens, done.lengths, strict=True)]
    tables = alternatives(model, tokens, completions, rules)
    little, outside = model.endian == "little", outside_training(model.card, tokens)
    return [
        Answer(tokens, row, reverse_digits(row) if little else row, table, run(np.concatenate([tokens, row])), outside)
        for row, table in zip(completions, tables, strict=True)
    ]


def outside_training(card: Mapping[str, Any], prompt: str | ArrayLike) -> str:
    """Say why a prompt is outside the distribution that a model with this card was trained on.

    The text is empty if the prompt is inside: a program of the split `train`, or of a split with the same parameters
    such as `test`, begins with it. It is also empty if this is unknown, because the card does not say, or because a
    family is written in plain Python or asks for programs, which a prompt does not determine.
    """
    tokens = as_tokens(prompt)
    try:
        specs = trained_on(card)
    except (ValueError, FileNotFoundError):
        return ""
    parts = [part for spec in specs for part, _ in spec.parts if "train" in part.splits]
    if tokens.size == 0 or not parts or any(part.family.pack is None or part.family.written for part in parts):
        return ""
    readers = [
        Reader(part, split)
        for part in parts
        for split in part.splits
        if part.split_parameters(split) == part.split_parameters("train")
    ]
    # The prompt may include the beginning of a completion, such as worked steps.
    for size in range(tokens.size, 0, -1):
        for problem in filter(None, (reader.read(tokens[:size]) for reader in readers)):
            if problem.kept and any(np.array_equal(program[: tokens.size], tokens) for program in problem.programs):
                return ""
    others = ((part, split) for part in parts for split in part.splits)
    read = ((part, split, Reader(part, split).read(tokens)) for part, split in others)
    found = [
        f"{part.id} {split}: {part.splits[split].description.rstrip('.')}" for part, split, p in read if p and p.kept
    ]
    return "; ".join(found) or f"no split of {', '.join(spec.id for spec in specs)} has such a prompt"


def alternatives(
    model: Transformer | Decoder,
    prompt: Tokens,
    completions: Sequence[Tokens],
    rules: Rules,
) -> list[NDArray[np.float32]]:
    """Return, for each completion (m,) of a prompt (p,), the log-probabilities of all tokens at each position, (m, 65).

    They are masked by the rules: -inf for a token that is not allowed. For a model with ``endian="little"``, rows are
    in the order in which it writes (`cadmus_gym.language.forms.reverse_digits`).
    """
    count, sizes = len(completions), np.array([row.size for row in completions])
    written = np.zeros((count, sizes.max(initial=0)), np.uint8)
    for row, completion in zip(written, completions, strict=True):
        row[: completion.size] = completion
    shown = np.tile(prompt, (count, 1))
    if model.endian == "little":  # separately: the model did not write the digits that end a prompt
        written, shown = reverse_digits(written), reverse_digits(shown)
    automata = Automata(rules, np.tile(prompt, (count, 1)), np.full(count, prompt.size), model.endian)
    allowed = np.zeros((*written.shape, len(VOCABULARY)), np.bool_)
    for step in range(written.shape[1]):
        allowed[:, step] = automata.mask()
        automata.push(written[:, step].astype(np.int64))
    logits = logits_of(model, np.concatenate([shown, written], axis=1))[:, prompt.size :]
    masked = np.where(allowed, logits, np.float32(-np.inf))
    with np.errstate(invalid="ignore"):  # past the end of a completion, nothing is allowed
        log_probs = masked - np.logaddexp.reduce(masked, axis=2, keepdims=True)
    return [row[:size] for row, size in zip(log_probs, sizes, strict=True)]


def as_text(answers: list[Answer], *, top: int = 5, endian: str = "big") -> str:
    """Return answers to one prompt as text of at most 100 columns.

    It shows how often each answer occurred, and the most frequent one token by token with up to ``top`` alternatives
    per token.
    """
    texts = [disassemble(one.completion) for one in answers]
    counts = Counter(texts)
    lines = [fill(disassemble(answers[0].prompt), WIDTH), ""]
    if len(answers) > 1:
        lines.append("times  verdict              log-probability  completion")
        for text, times in counts.most_common():
            one = answers[texts.index(text)]
            head = f"{times:5d}  {one.outcome.verdict.name:19s}  {one.log_prob:z15.4f}  "
            lines.append(fill(text, WIDTH, initial_indent=head, subsequent_indent=" " * len(head)))
        lines.append("")
    one = answers[texts.index(counts.most_common(1)[0][0])]
    for name, part in zip(("thoughts", "answer"), one.parts, strict=True):
        if part:
            lines.append(fill(part, WIDTH, initial_indent=f"{name:10s}", subsequent_indent=" " * 10))
    stack = " ".join(map(str, one.outcome.stack)) or "(empty)"
    left = f"{one.outcome.passed} of {one.outcome.cases} cases passed" if one.outcome.cases > 1 else f"stack {stack}"
    lines += table_of(np.concatenate([one.prompt, one.completion])) if one.outcome.cases > 1 else []
    lines += [
        fill(f"{one.outcome.verdict.name}, {left}, {one.outcome.steps} steps", WIDTH),
        f"log-probability {one.log_prob:z.4f}, probability {math.exp(one.log_prob):.2%}",
        *([fill(OUTSIDE.format(one.outside), WIDTH)] if one.outside else []),
        "",
        f"{'token':9s}{'probability':>11s}   alternatives",
    ]
    for token, row in zip(one.written.tolist(), np.exp(one.log_probs), strict=True):
        others = [k for k in np.argsort(-row, kind="stable").tolist() if k != token and row[k] >= LEAST][:top]
        cells = [f"{VOCABULARY[k]} {row[k]:.2%}" for k in others]
        parts = ["  ".join(cells[k : k + ABREAST]) for k in range(0, len(cells), ABREAST)] or [""]
        lines.append(f"{VOCABULARY[token]:9s}{row[token]:>11.2%}   {parts[0]}".rstrip())
        lines += [f"{'':23s}{part}" for part in parts[1:]]
    if endian == "little":
        lines += ["", "This model writes numbers from the last digit to the first."]
    return "\n".join(lines)
