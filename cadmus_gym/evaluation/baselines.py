"""Baselines: policies that know nothing, cheats, and search.

None of them learns. The fixed policies show what can be earned without solving the problem. Search shows what trying
alone achieves: it runs the machine before it answers, which a policy in an environment cannot do.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cadmus_gym.environments.playing import put
from cadmus_gym.evaluation.search import Listing
from cadmus_gym.evaluation.truth import EVALUATION_SEED, earning, prompts_of
from cadmus_gym.language import forms
from cadmus_gym.language import isa as op
from cadmus_gym.language.hashing import Words64, fingerprints
from cadmus_gym.language.isa import ID, Ints, Tokens
from cadmus_gym.language.machine import run_batch
from cadmus_gym.language.notation import assemble, disassemble
from cadmus_gym.language.verdicts import Verdict
from cadmus_gym.progress import Report
from cadmus_gym.streams.loading import load_spec
from cadmus_gym.streams.spec import Spec
from cadmus_gym.streams.stream import Stream
from cadmus_gym.tasks.literals import COMMA, NEG

LAST_WORDS = 3  # words at the end of a prompt by which the table of training programs is indexed
ROOM, PART = 40, 20_000  # most tokens of these words, and of an answer; programs read at once
FITTED = 20_000  # programs in that table
PIECE = 64  # beginnings of completions that are continued at once
_TABLES: dict[tuple[str, int], Table] = {}  # the last table, by digest of train and number of programs
FIT_SEED = 2 * EVALUATION_SEED  # seed of the programs that fixed policies are fitted to, far from any evaluation seed

# Shortcuts seen in practice. If a form were a set of tokens instead of an automaton, the last one would need only
# digits, `eq` and `end`.
CHEATS = {"drop 1 end": "drop 1 end", "dup eq end": "dup eq end", "wrong eq 0 eq end": "31337 eq 0 eq end"}


def play(
    spec: str | Path | Spec, split: str, completions: list[Tokens], seed: int = EVALUATION_SEED, samples: int = 1
) -> NDArray[np.bool_]:
    """Play given completions of the first prompts of a split token by token; return which succeed, (N,) bool.

    ``samples`` completions in a row are of one prompt. A token that the form does not allow ends its episode.
    """
    spec, count = load_spec(spec), len(completions) // samples
    prompts, lengths = prompts_of(spec, split, count, seed)
    programs = put(spec, split, np.repeat(prompts, samples, axis=0), np.repeat(lengths, samples), completions)
    fits: NDArray[np.bool_] = run_batch(programs)[0] == Verdict.TRUE
    return earning(spec, split, programs, fits, count, seed)[0]


def random_legal(
    spec: str | Path | Spec, split: str, count: int, seed: int = EVALUATION_SEED, seeds: int = 1
) -> tuple[Tokens, NDArray[np.int32]]:
    """Complete the prompts of `prompts_of` with tokens drawn uniformly from the allowed ones.

    Returns programs (N, L) uint8 padded with 0, and prompt lengths (N,) int32.
    """
    spec = load_spec(spec)
    prompts, lengths = prompts_of(spec, split, count, seed, seeds)
    count = len(prompts)
    automata = forms.Automata(spec.rules, prompts, lengths)
    programs = np.concatenate([prompts, np.zeros((count, spec.episode.max_tokens), np.uint8)], axis=1)
    rng = np.random.default_rng(seed)
    position = lengths.astype(np.int64)
    while not automata.done.all():
        going = np.flatnonzero(~automata.done)
        mask = automata.mask()[going]
        tokens = np.zeros(count, np.int64)
        tokens[going] = (rng.random(mask.shape) * mask).argmax(1)
        programs[going, position[going]] = tokens[going]
        position[going] += 1
        automata.push(tokens)
    return programs, lengths


def without_thoughts(tokens: Tokens) -> Tokens:
    """Return tokens (n,) without `( ... )`."""
    inside = np.cumsum(tokens == op.OPEN) > np.cumsum(tokens == op.CLOSE)
    return np.asarray(tokens[~inside & (tokens != op.CLOSE)], np.uint8)


def best_constant(spec: str | Path | Spec, split: str, count: int = 5000, seed: int = FIT_SEED) -> Tokens:
    """Return the most frequent completion of the stream, without thoughts."""
    programs, lengths = Stream(spec, split, seed).batch(0, count)
    seen: Counter[bytes] = Counter()
    for program, length in zip(programs, lengths, strict=True):
        completion = program[length : int(np.argmax(program == op.END)) + 1]
        seen[without_thoughts(completion).tobytes()] += 1
    return np.frombuffer(seen.most_common(1)[0][0], np.uint8)


def literals(prompt: Tokens) -> list[Tokens]:
    """Return the literals of a prompt (n,), each as its digit tokens (d,)."""
    digit = (prompt >= op.ZERO) & (prompt <= op.NINE)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], digit, [False]])))
    return [prompt[begin:stop] for begin, stop in zip(edges[::2], edges[1::2], strict=True)]


def last_words(prompts: Tokens, lengths: NDArray[np.int32]) -> Tokens:
    """Return the last `LAST_WORDS` words of prompts (N, P) with these lengths (N,), right-aligned: (N, ROOM) uint8.

    A number with its sign is one word.
    """
    columns = lengths[:, None] - ROOM + np.arange(ROOM)
    rows = np.where(columns >= 0, np.take_along_axis(prompts, np.maximum(columns, 0), axis=1), 0)
    digits = (rows >= op.ZERO) & (rows <= op.NINE)
    after_digit = np.pad(digits, ((0, 0), (1, 0)))[:, :-1]
    starts = (rows > 0) & (rows != COMMA) & ~(after_digit & (digits | (rows == NEG)))
    to_come = np.cumsum(starts[:, ::-1], axis=1)[:, ::-1]  # words that start here or later
    return np.where((to_come <= LAST_WORDS) & (rows != COMMA), rows, 0).astype(np.uint8)


@dataclass(frozen=True, eq=False)
class Table:
    """The most frequent completion in train for each ending of a prompt, its last words."""

    seen: Words64  # (N,) hashes of the last words, sorted
    answers: Tokens  # (N, M) completions without thoughts, padded with 0

    def policy(self, prompt: Tokens) -> Tokens:
        """Return a completion (m,) of a prompt (n,), empty if its last words did not occur in train."""
        key = fingerprints(last_words(prompt[None], np.array([prompt.size], np.int32)))[0]
        place = min(int(np.searchsorted(self.seen, key)), len(self.seen) - 1)
        found = self.answers[place] if self.seen[place] == key else self.answers[0, :0]
        return found[found > 0]


def table_of(spec: Spec, fitted: int) -> Table:
    """Return the table of the first ``fitted`` programs of train."""
    stream, parts = Stream(spec, "train", FIT_SEED), []
    for start in range(0, fitted, PART):
        programs, lengths = stream.batch(start, min(PART, fitted - start))
        closed, width = programs == op.CLOSE, programs.shape[1]
        starts = np.where(closed.any(1), width - closed[:, ::-1].argmax(1), lengths)  # after the thoughts
        columns = starts[:, None] + np.arange(ROOM)
        answers = np.take_along_axis(programs, np.minimum(columns, width - 1), axis=1) * (columns < width)
        parts.append(np.hstack([last_words(programs, lengths), answers]).astype(np.uint8))
    pairs = np.concatenate(parts)
    _, rows, times = np.unique(fingerprints(pairs), return_index=True, return_counts=True)
    rows = rows[np.argsort(-times, kind="stable")]  # for equal last words, the most frequent comes first
    keys, first = np.unique(fingerprints(pairs[rows, :ROOM]), return_index=True)
    return Table(keys, pairs[rows[first], ROOM:])


def fixed_policies(
    spec: str | Path | Spec, split: str, most_literals: int = 4, fitted: int = FITTED
) -> dict[str, Callable[[Tokens], Tokens]]:
    """Return policies by name, each a function from a prompt (n,) to a completion (m,).

    ``fitted`` is the number of training programs in the table of last words, a policy that train itself does not get.
    """
    spec = load_spec(spec)
    constant = best_constant(spec, split)
    answer = np.array([ID["eq"], op.END], np.uint8)

    def copies(k: int) -> Callable[[Tokens], Tokens]:
        def policy(prompt: Tokens) -> Tokens:
            found = literals(prompt)
            return np.concatenate([found[k] if k < len(found) else found[-1], answer])

        return policy

    def always(completion: Tokens) -> Callable[[Tokens], Tokens]:
        return lambda prompt: completion

    policies: dict[str, Callable[[Tokens], Tokens]] = {f"constant `{disassemble(constant)}`": always(constant)}
    policies |= {f"copy literal {k + 1}": copies(k) for k in range(most_literals)}
    if "train" in spec.splits and split != "train":  # to which the table is fitted
        wanted = spec.digest_of("train"), fitted
        if wanted not in _TABLES:
            _TABLES.clear()
            _TABLES[wanted] = table_of(spec, fitted)
        policies[f"table of the last {LAST_WORDS} words"] = _TABLES[wanted].policy
    policies |= {f"cheat `{name}`": always(assemble(text)) for name, text in CHEATS.items()}
    if any(part.family.inputs is not None for part, _ in spec.parts):
        policies |= {"no word": always(np.array([op.END], np.uint8)), "output of the first case": _first_output}
    return policies


def _first_output(prompt: Tokens) -> Tokens:
    """Drop the inputs of a prompt with cases, and write the output of the first one."""
    cases = disassemble(prompt).split(" do")[0].split("case ")
    inputs, _, outputs = cases[min(1, len(cases) - 1)].partition("to")
    return assemble(" ".join(["drop"] * len(inputs.split()) + [*outputs.split(), "end"]))


def enumerate_completions(spec: str | Path | Spec, budget: int) -> Tokens:
    """Return the first ``budget`` completions that the form allows without thoughts, shortest first.

    They have shape (budget, M), uint8 padded with 0.
    """
    spec = load_spec(spec)
    nothing, none = np.zeros((1, 0), np.uint8), np.zeros(1, np.int64)
    automata = forms.Automata(replace(spec.rules, thought_tokens=0), nothing, none)
    complete: list[Tokens] = []
    open_ends: deque[tuple[Tokens, Ints]] = deque([(nothing, automata.cells)])
    while open_ends and len(complete) < budget:
        begun, cells = open_ends.popleft()
        automata.cells = cells
        rows, tokens = np.nonzero(automata.mask())
        automata.cells = cells[rows]
        automata.push(tokens)
        longer, ends = np.column_stack([begun[rows], tokens]).astype(np.uint8), tokens == op.END
        complete += [*longer[ends]]
        going, cells = longer[~ends], automata.cells[~ends]
        open_ends += [(going[k : k + PIECE], cells[k : k + PIECE]) for k in range(0, len(going), PIECE)]
    complete = complete[:budget]
    found = np.zeros((len(complete), max(map(len, complete))), np.uint8)
    for row, completion in zip(found, complete, strict=True):
        row[: len(completion)] = completion
    return found


def search(
    spec: str | Path | Spec,
    split: str,
    count: int,
    budget: int,
    seed: int = EVALUATION_SEED,
    report: Report | None = None,
    *,
    seeds: int = 1,
) -> tuple[Tokens, NDArray[np.int32]]:
    """Complete the prompts of `prompts_of` by search.

    Each prompt gets the first of ``budget`` completions, shortest first, that makes a true program, or the last one if
    none does. Returns programs (N, L) uint8 and prompt lengths (N,) int32. ``report`` is called with (done, N) prompts.
    """
    candidates = enumerate_completions(spec, budget)
    prompts, lengths = prompts_of(spec, split, count, seed, seeds)
    programs = np.zeros((len(prompts), prompts.shape[1] + candidates.shape[1]), np.uint8)
    method = Listing(candidates)
    for k, (row, prompt, length) in enumerate(zip(programs, prompts, lengths, strict=True)):
        found = method.begin(prompt[:length]).advance(budget).found
        completion = candidates[-1] if found is None else found
        row[:length], row[length : length + completion.size] = prompt[:length], completion
        if report is not None:
            report(k + 1, len(prompts))
    return programs, lengths
