"""Policies that know nothing, cheats, and search: the background against which a score is read.

None of them learns. The fixed policies show what can be earned without solving the problem. Search shows what trying is
worth; it asks the machine before it answers, which a policy in an environment cannot do.
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
from cadmus_gym.evaluation.truth import EVALUATION_SEED, prompts_of
from cadmus_gym.language import forms
from cadmus_gym.language import isa as op
from cadmus_gym.language.hashing import Words64, fingerprints
from cadmus_gym.language.isa import ID, Tokens
from cadmus_gym.language.machine import run_batch
from cadmus_gym.language.notation import assemble, disassemble
from cadmus_gym.language.verdicts import Verdict
from cadmus_gym.progress import Report
from cadmus_gym.streams.loading import load_spec
from cadmus_gym.streams.spec import Spec
from cadmus_gym.streams.stream import Stream
from cadmus_gym.tasks.literals import COMMA, NEG

LAST_WORDS = 3  # of a prompt, by which a table of train's programs is looked up
ROOM, PART = 40, 20_000  # tokens of the longest of them, and of an answer; programs that are read at once
FITTED = 20_000  # programs in that table
_TABLES: dict[tuple[str, int], Table] = {}  # the last one, by digest of train and number of programs
FIT_SEED = 2 * EVALUATION_SEED  # of the programs that fixed policies are fitted to: far from any seed of prompts

# Shortcuts seen in the wild. Under a form that is a list of tokens instead of an automaton the last works with digits,
# `eq` and `end` alone.
CHEATS = {"drop 1 end": "drop 1 end", "dup eq end": "dup eq end", "wrong eq 0 eq end": "31337 eq 0 eq end"}


def play(
    spec: str | Path | Spec, split: str, completions: list[Tokens], seed: int = EVALUATION_SEED
) -> NDArray[np.bool_]:
    """Write given completions after the first prompts of a split, token by token in the environment; return which
    episodes were a success, (N,) bool. A token the form does not allow ends its episode."""
    spec = load_spec(spec)
    programs = put(spec, split, *prompts_of(spec, split, len(completions), seed), completions)
    return np.asarray(run_batch(programs)[0] == Verdict.TRUE)


def random_legal(
    spec: str | Path | Spec, split: str, count: int, seed: int = EVALUATION_SEED, seeds: int = 1
) -> tuple[Tokens, NDArray[np.int32]]:
    """Complete the prompts of `prompts_of` with tokens drawn uniformly among those allowed: programs (N, L) and prompt
    lengths (N,)."""
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
    """Return the literals of a prompt, each a row of digits."""
    digit = (prompt >= op.ZERO) & (prompt <= op.NINE)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], digit, [False]])))
    return [prompt[begin:stop] for begin, stop in zip(edges[::2], edges[1::2], strict=True)]


def last_words(prompts: Tokens, lengths: NDArray[np.int32]) -> Tokens:
    """Return the last `LAST_WORDS` words of prompts (N, P) of those lengths (N,), at the right of rows (N, ROOM); a
    number is one word, whose sign belongs to it."""
    columns = lengths[:, None] - ROOM + np.arange(ROOM)
    rows = np.where(columns >= 0, np.take_along_axis(prompts, np.maximum(columns, 0), axis=1), 0)
    digits = (rows >= op.ZERO) & (rows <= op.NINE)
    after_digit = np.pad(digits, ((0, 0), (1, 0)))[:, :-1]
    starts = (rows > 0) & (rows != COMMA) & ~(after_digit & (digits | (rows == NEG)))
    to_come = np.cumsum(starts[:, ::-1], axis=1)[:, ::-1]  # words from here on
    return np.where((to_come <= LAST_WORDS) & (rows != COMMA), rows, 0).astype(np.uint8)


@dataclass(frozen=True, eq=False)
class Table:
    """The most frequent completions of train by the last words of a prompt: hashes of the words (N,) in order, and
    completions (N, M) uint8 without thoughts, padded with 0."""

    seen: Words64
    answers: Tokens

    def policy(self, prompt: Tokens) -> Tokens:
        """Return a completion (m,) of a prompt (n,), empty if train did not show its last words."""
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
        starts = np.where(closed.any(1), width - closed[:, ::-1].argmax(1), lengths)  # where the thoughts are over
        columns = starts[:, None] + np.arange(ROOM)
        answers = np.take_along_axis(programs, np.minimum(columns, width - 1), axis=1) * (columns < width)
        parts.append(np.hstack([last_words(programs, lengths), answers]).astype(np.uint8))
    pairs = np.concatenate(parts)
    _, rows, times = np.unique(fingerprints(pairs), return_index=True, return_counts=True)
    rows = rows[np.argsort(-times, kind="stable")]  # of equal last words the first one is the most frequent
    keys, first = np.unique(fingerprints(pairs[rows, :ROOM]), return_index=True)
    return Table(keys, pairs[rows[first], ROOM:])


def fixed_policies(
    spec: str | Path | Spec, split: str, most_literals: int = 4, fitted: int = FITTED
) -> dict[str, Callable[[Tokens], Tokens]]:
    """Return policies by name, each a function from a prompt (n,) to a completion (m,).

    ``fitted`` is the number of programs of train in the table by last words, which only other splits have.
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
    if "train" in spec.splits and split != "train":  # of which it is a part
        wanted = spec.digest_of("train"), fitted
        if wanted not in _TABLES:
            _TABLES.clear()
            _TABLES[wanted] = table_of(spec, fitted)
        policies[f"table of the last {LAST_WORDS} words"] = _TABLES[wanted].policy
    policies |= {f"cheat `{name}`": always(assemble(text)) for name, text in CHEATS.items()}
    return policies


def enumerate_completions(spec: str | Path | Spec, budget: int) -> Tokens:
    """Return the first ``budget`` completions that a form allows without thoughts, shortest first: (budget, M)
    uint8."""
    spec = load_spec(spec)
    nothing, none = np.zeros((1, 0), np.uint8), np.zeros(1, np.int64)
    root = forms.Automata(replace(spec.rules, thought_tokens=0), nothing, none)
    complete: list[list[int]] = []
    open_ends: deque[tuple[list[int], NDArray[np.int64]]] = deque([([], root.cells)])
    while open_ends and len(complete) < budget:
        tokens, cells = open_ends.popleft()
        root.cells = cells.copy()
        for token in np.flatnonzero(root.mask()[0]):
            root.cells = cells.copy()
            root.push(np.array([token]))
            if token == op.END:
                complete.append([*tokens, int(token)])
            else:
                open_ends.append(([*tokens, int(token)], root.cells))
    rows = np.zeros((len(complete), max(map(len, complete))), np.uint8)
    for row, completion in zip(rows, complete, strict=True):
        row[: len(completion)] = completion
    return rows


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
    """Complete the prompts of `prompts_of` by search: with the first of ``budget`` completions, shortest first, that
    the machine finds true, or else with the last one.

    Returns programs (N, L) and prompt lengths (N,). ``report`` is called with (done, N) prompts.
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
