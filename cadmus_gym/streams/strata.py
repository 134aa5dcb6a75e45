"""Strata: properties of prompts that make them easy or hard, for truth rates by stratum.

The machine runs a prompt, and the executed operations count; words that only move values do not. An operation is an
arithmetic, comparison or logic instruction, except a `neg` after a literal, which is its sign. Held-out facts are those
of the expression (`cadmus_gym.tasks.facts`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cadmus_gym.language import isa as op
from cadmus_gym.language.isa import VOCABULARY, Int, Ints, Tokens
from cadmus_gym.language.kernels import kernel, spread
from cadmus_gym.language.memory import scratch
from cadmus_gym.language.notation import check_ids, disassemble
from cadmus_gym.language.verdicts import RAN, Verdict
from cadmus_gym.streams.spec import Spec
from cadmus_gym.streams.stream import Stream, pairs_of
from cadmus_gym.tasks.family import HELD, MARKS, SHADOW, WALKED, WORK
from cadmus_gym.tasks.solving import identify
from cadmus_gym.tasks.walking import LEFT, POSITION, RESULT, RIGHT, ROW, TOKEN

OUTCOME, DEPTH, ANSWER, OPERATIONS, FIRST, SECOND, SET, CARRIES, GAP, FACTS, CELLS = range(11)
NONE = "none"
CROSSED = "operations, held-out facts"
STRATA = (
    "operators",
    "operations",
    "held-out facts",
    CROSSED,
    "negative literals",
    "carries",
    "near ties",
    "answer length",
)


@kernel
def carries(x: Int, y: Int) -> Int:
    """Count the carries of x + y in written addition, or the borrows if their signs differ."""
    larger, smaller = max(abs(x), abs(y)), min(abs(x), abs(y))
    borrows = (x < 0) != (y < 0)
    count: Int = 0
    carry: Int = 0
    while smaller > 0 or carry > 0:
        if borrows:
            carry = np.int64(larger % 10 < smaller % 10 + carry)
        else:
            carry = np.int64(larger % 10 + smaller % 10 + carry >= 10)
        count += carry
        larger //= 10
        smaller //= 10
    return count


@kernel
def carries_of_product(x: Int, y: Int) -> Int:
    """Count the carries of adding up the partial products of x * y, lowest first.

    They are those of worked steps of style "products": one for each digit of the factor with fewer digits, or of the
    right one if both have equally many.
    """
    factor, digits = abs(x), abs(y)
    size_x, size_y = 1, 1
    while 10**size_x <= factor:
        size_x += 1
    while 10**size_y <= digits:
        size_y += 1
    if size_x < size_y:
        factor, digits = digits, factor
    count: Int = 0
    total: Int = 0
    place = 1
    while digits > 0:
        part = digits % 10 * place * factor
        count += carries(total, part)
        total += part
        digits //= 10
        place *= 10
    return count


@kernel
def look(program: Tokens, rows: Int, tape: Ints, cells: Ints) -> None:
    """Count the operations, carries and gaps on the tape of a prompt, into cells (CELLS,)."""
    cells[:] = 0
    cells[GAP] = -1
    for k in range(rows):
        row = tape[ROW * k : ROW * (k + 2)]
        token, x, y, position = row[TOKEN], row[LEFT], row[RIGHT], row[POSITION]
        sign = token == op.NEG and position > 0 and op.ZERO <= program[position - 1] <= op.NINE
        cells[ANSWER] = row[RESULT]
        if sign or not op.ADD <= token <= op.XOR:
            continue
        if cells[OPERATIONS] < 2:
            cells[FIRST + cells[OPERATIONS]] = token
        cells[OPERATIONS] += 1
        cells[SET] |= np.int64(1) << (token - op.ADD)
        if token == op.ADD or token == op.SUB:
            cells[CARRIES] += carries(x, y if token == op.ADD else -y)
        elif token == op.INC or token == op.DEC:
            cells[CARRIES] += carries(y, np.int64(1 if token == op.INC else -1))
        elif token == op.MUL:
            cells[CARRIES] += carries_of_product(x, y)
        elif op.EQ <= token <= op.GE:
            gap = abs(x - y)
            cells[GAP] = gap if cells[GAP] < 0 else min(gap, cells[GAP])


@kernel
def look_at_rows(programs: Tokens, lengths: Ints, cells: Ints, marks: Ints, work: Ints, machine: Ints) -> None:
    for k in range(programs.shape[0]):
        outcome, depth, _ = identify(programs[k], lengths[k], marks, work, machine)
        look(programs[k], marks[WALKED] - 1, work[SHADOW:], cells[k])
        cells[k, OUTCOME], cells[k, DEPTH], cells[k, FACTS] = outcome, depth, marks[HELD]


@dataclass(frozen=True)
class Strata:
    """Properties of N prompts.

    ``operators`` holds the tokens of the first two executed operations, 0 for none; ``sets`` is the set of all of them,
    with bit k for token `add` + k. ``carries`` counts carries and borrows of executed `add`, `sub`, `inc` and `dec`,
    and of adding up partial products of `mul`; those inside partial products, `div` and `mod` are not counted.
    ``facts`` counts held-out facts in the expression, ``negatives`` negative literals in the text. ``gaps`` is the
    smallest abs(x - y) of executed comparisons, -1 for none. ``answers`` is the value on top at the end, and ``depths``
    the number of values left.
    """

    operators: Ints  # (N, 2)
    sets: Ints  # (N,), like all others
    operations: Ints
    facts: Ints
    negatives: Ints
    carries: Ints
    gaps: Ints
    answers: Ints
    depths: Ints

    def labels(self) -> dict[str, NDArray[np.str_]]:
        """Return the stratum of each prompt, (N,), for every name of `STRATA`.

        - operators: one or two executed operations in order, as in `mul sub`; the set of more, as in `{add, mul}`
        - operations: number of executed operations
        - held-out facts: their number; CROSSED combines both numbers, as in `2, 1` for one fact in two operations
        - negative literals: their number
        - carries: their number
        - near ties: the smallest difference of two compared numbers, `0`, `1`, `2-3` or `more`
        - answer length: number of digits, with `-` before that of a negative answer
        """
        pairs = np.column_stack([self.operators, np.where(self.operations > 2, self.sets, 0)])
        kinds, place = np.unique(pairs, axis=0, return_inverse=True)
        gaps = np.array(["0", "1", "2-3", "more", NONE])
        digits = [f"{'-' * (a < 0)}{len(str(abs(a)))}" if depth else NONE for a, depth in self._left()]
        return {
            "operators": np.array([_operators(*kind) for kind in kinds.tolist()])[place.ravel()],
            "operations": self.operations.astype(np.str_),
            "held-out facts": self.facts.astype(np.str_),
            CROSSED: np.array([f"{k}, {n}" for k, n in zip(self.operations, self.facts, strict=True)], np.str_),
            "negative literals": self.negatives.astype(np.str_),
            "carries": self.carries.astype(np.str_),
            "near ties": gaps[np.where(self.gaps < 0, 4, np.searchsorted([0, 1, 3], self.gaps))],
            "answer length": np.array(digits, np.str_),
        }

    def _left(self) -> list[tuple[int, int]]:
        return list(zip(self.answers.tolist(), self.depths.tolist(), strict=True))


def _operators(first: int, second: int, members: int) -> str:
    if members:
        return f"{{{', '.join(VOCABULARY[op.ADD + k] for k in range(op.XOR - op.ADD + 1) if members >> k & 1)}}}"
    return " ".join(VOCABULARY[token] for token in (first, second) if token) or NONE


def strata_of(prompts: Tokens, lengths: NDArray[np.integer], threads: int | None = None) -> Strata:
    """Return the properties of prompts (N, P) uint8, padded with 0, of lengths (N,).

    Raises ValueError for a prompt that does not run to its end, or has a header.
    """
    rows = np.zeros((len(prompts), prompts.shape[1] + 1), np.uint8)  # with room for `end`
    rows[:, :-1] = check_ids(prompts)
    sizes, cells = np.asarray(lengths, np.int64), np.zeros((len(rows), CELLS), np.int64)

    def work(part: slice) -> None:
        room = np.zeros(MARKS, np.int64), np.zeros(WORK, np.int64), scratch(rows.shape[1])
        look_at_rows(rows[part], sizes[part], cells[part], *room)

    spread(work, len(rows), threads)
    digits = (prompts >= op.ZERO) & (prompts <= op.NINE)
    for k in np.flatnonzero(cells[:, OUTCOME] != RAN)[:1]:
        prompt, verdict = disassemble(prompts[k, : sizes[k]]), Verdict(cells[k, OUTCOME]).name
        raise ValueError(f"prompt {k}, {prompt!r}, has no strata: running it gives {verdict}")
    return Strata(
        operators=cells[:, FIRST : SECOND + 1],
        sets=cells[:, SET],
        operations=cells[:, OPERATIONS],
        facts=cells[:, FACTS],
        negatives=(digits[:, :-1] & (prompts[:, 1:] == op.NEG)).sum(1),
        carries=cells[:, CARRIES],
        gaps=cells[:, GAP],
        answers=cells[:, ANSWER],
        depths=cells[:, DEPTH],
    )


def labels_of_written(prompts: Tokens, references: Tokens) -> dict[str, NDArray[np.str_]]:
    """Return the strata of prompts (N, P) that ask for programs, with their references (N, R): (N,) each.

    - directives: their kinds, in order
    - inputs: the number of inputs of the first case
    - cases: their number
    - reference length: the number of tokens of the reference without `end`
    """
    shown = [row[row != op.PAD].tolist() for row in prompts]
    kinds = [[VOCABULARY[token] for token in row if op.USE <= token <= op.EXACTLY] for row in shown]
    inputs = [1 + row[: row.index(op.TO)].count(op.COMMA) if op.TO in row else 0 for row in shown]
    return {
        "directives": np.array([" ".join(row) or NONE for row in kinds], np.str_),
        "inputs": np.array(inputs).astype(np.str_),
        "cases": (prompts == op.CASE).sum(1).astype(np.str_),
        "reference length": np.maximum((references != op.PAD).sum(1) - 1, 0).astype(np.str_),
    }


def families_of(spec: Spec, split: str, count: int, seed: int, seeds: int = 1) -> NDArray[np.str_]:
    """Return the families of the prompts that `cadmus_gym.evaluation.truth.prompts_of` returns, (N,)."""
    stream = Stream(spec, split, seed)
    names = np.array([part.task for part in stream.specs])
    named: NDArray[np.str_] = names[stream.parts(*pairs_of(count, seed, seeds))]
    return named
