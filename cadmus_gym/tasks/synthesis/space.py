"""The space of all reference bodies of a spec, with their exact probabilities: posteriors and ceilings.

With one or two steps and no blocks there are some 300,000 bodies, enumerated in seconds. Blocks or a third step make
too many; then `Space` raises an error, and probabilities of programs are estimates.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cadmus_gym.language import isa as op
from cadmus_gym.language.hashing import Words64
from cadmus_gym.language.isa import Int, Ints, Tokens
from cadmus_gym.language.kernels import kernel
from cadmus_gym.language.memory import SIZES, VALUES, scratch
from cadmus_gym.language.notation import disassemble
from cadmus_gym.language.parsing import prepare
from cadmus_gym.language.verdicts import LARGEST, MAX_SIDE
from cadmus_gym.tasks.synthesis import steps as chain
from cadmus_gym.tasks.synthesis.drawing import (
    ARITIES,
    HIGH,
    LIMIT,
    LOW,
    ONES,
    PROBES,
    RANGES,
    STEPS,
    UNITS,
    WEIGHTS,
    WORK_ROOM,
    is_problem,
    key_of,
    load_probes,
    run_rows,
    shown_probability,
    value_of,
)
from cadmus_gym.tasks.synthesis.drawing import (
    SIZES as STEP_COUNTS,
)
from cadmus_gym.tasks.synthesis.hidden import HIDDEN_INPUTS, ROOM, WIDTH, draw_hidden, read_inputs

MOST_PROPOSALS = 1_000_000  # of a next step, for all bodies so far; takes seconds
BODY_ROOM = 64  # tokens


@kernel
def extend(
    parameters: Ints, twos: bool, prefix: Ints, length: Int, work: Ints, steps: Ints, shares: NDArray[np.float64]
) -> Int:
    """Find the steps that may follow a prefix, (N, 2), and the share of each, (N,); return how many there are."""
    ranges, found = parameters[RANGES : RANGES + chain.RANGES], work[STEPS : STEPS + 2 * (chain.MOST + 1)]
    rows, limit = (np.int64(chain.ROOM) if twos else parameters[ONES]), parameters[LIMIT]
    load_probes(parameters, PROBES, twos, work)
    for k in range(length):
        found[2 * k], found[2 * k + 1] = prefix[2 * k], prefix[2 * k + 1]
        source = chain.FIRST + k - 1 if k > 0 else chain.X
        chain.run_step(ranges, found[2 * k], found[2 * k + 1], 0, work, source, chain.FIRST + k, rows, limit)
    first, last = (chain.OPERATOR, len(chain.KINDS)) if twos and length == 0 else (0, chain.OPERATOR)
    before = chain.CLASSES[found[2 * length - 2]] if length > 0 else np.int64(-1)
    count: Int = 0
    total = 0.0
    for kind in range(first, last):
        if parameters[WEIGHTS + kind] == 0 or chain.CLASSES[kind] == before:
            continue
        for number in range(chain.count_of(ranges, kind)):
            if chain.is_feasible(ranges, found, length, kind, number, work, rows, limit, twos):
                steps[count, 0], steps[count, 1] = kind, number
                shares[count] = parameters[UNITS + kind]
                total += parameters[UNITS + kind]
                count += 1
    for k in range(count):
        shares[k] /= total
    return count


@kernel
def load_body(body: Ints, count: Int, work: Ints) -> None:
    for k in range(2 * count):
        work[STEPS + k] = body[k]


@kernel
def find_keys(parameters: Ints, twos: bool, bodies: Ints, count: Int, work: Ints, keys: Words64) -> None:
    """Find the keys of bodies (N, 2 * count), 0 for those that are no problem."""
    for row in range(bodies.shape[0]):
        load_body(bodies[row], count, work)
        load_probes(parameters, PROBES, twos, work)
        run_rows(parameters, count, np.int64(chain.ROOM) if twos else parameters[ONES], parameters[LIMIT], work)
        keys[row] = np.uint64(0)
        if is_problem(parameters, twos, count, work):
            keys[row] = key_of(parameters, twos, count, work)


@kernel
def find_fitting(parameters: Ints, bodies: Ints, count: Int, cases: Ints, work: Ints, fits: NDArray[np.bool_]) -> None:
    """Find which bodies (N, 2 * count) leave the outputs of cases, (C, 3).

    Bodies with a common beginning stand together, so each step but the last is run once for many of them.
    """
    ranges, rows, limit = parameters[RANGES : RANGES + chain.RANGES], cases.shape[0], np.int64(LARGEST)
    ran: Int = 0  # how many steps of the body before stayed within the machine's range
    for k in range(rows):
        work[chain.X * chain.ROOM + k], work[chain.Y * chain.ROOM + k] = cases[k, 0], cases[k, 1]
    for row in range(bodies.shape[0]):
        same: Int = 0
        while row > 0 and same < count and same < ran and are_same_steps(bodies, row, same):
            same += 1
        ran = same
        for k in range(same, count):
            source = chain.FIRST + k - 1 if k > 0 else chain.X
            kind, number = bodies[row, 2 * k], bodies[row, 2 * k + 1]
            if not chain.run_step(ranges, kind, number, 0, work, source, chain.FIRST + k, rows, limit):
                break
            ran += 1
        last = (chain.FIRST + count - 1) * chain.ROOM
        fits[row] = ran == count
        for k in range(rows):
            fits[row] = fits[row] and work[last + k] == cases[k, 2]


@kernel
def find_shown(
    parameters: Ints, twos: bool, bodies: Ints, count: Int, cases: Ints, work: Ints, shown: NDArray[np.float64]
) -> None:
    """Find the probability that the inputs of cases (C, 3) are drawn, for each of bodies (N, 2 * count)."""
    for row in range(bodies.shape[0]):
        load_body(bodies[row], count, work)
        shown[row] = shown_probability(parameters, twos, count, cases, work)


@kernel
def are_same_steps(bodies: Ints, row: Int, k: Int) -> bool:
    """Whether step k of a body is that of the body before it."""
    return bool(bodies[row, 2 * k] == bodies[row - 1, 2 * k] and bodies[row, 2 * k + 1] == bodies[row - 1, 2 * k + 1])


@kernel
def find_agreements(
    parameters: Ints,
    arity: Int,
    bodies: Ints,
    counts: Ints,
    keys: Words64,
    shown: Int,
    cells: Ints,
    work: Ints,
    agree: NDArray[np.bool_],
) -> None:
    """Find which of the functions (F, steps) is right on all hidden cases of which other one: agree (F, F)."""
    for other in range(bodies.shape[0]):
        hidden = draw_hidden(keys[other], shown, arity, parameters[LOW], parameters[HIGH], cells)
        agree[:, other] = True
        for k in range(hidden):
            at = HIDDEN_INPUTS + WIDTH * k
            x, y = cells[at], (cells[at + 1] if arity == 2 else np.int64(0))
            load_body(bodies[other], counts[other], work)
            wanted = value_of(parameters, counts[other], x, y, work)
            for one in range(bodies.shape[0]):
                if agree[one, other]:
                    load_body(bodies[one], counts[one], work)
                    agree[one, other] = value_of(parameters, counts[one], x, y, work) == wanted


class Bodies(NamedTuple):
    """All N bodies of one kind: of so many inputs and steps."""

    arity: int
    steps: Ints  # (N, 2 * count): kind and number of each step
    shares: NDArray[np.float64]  # (N,): the probability of each body among all of its kind, before a split
    keys: Words64  # (N,)
    weight: float  # the probability of the kind

    @property
    def length(self) -> int:
        return int(self.steps.shape[1]) // 2


@dataclass(frozen=True)
class Posterior:
    """The F functions that fit a prompt, the most probable first.

    ``keys`` (F,) uint64; ``probabilities`` (F,) float64, which sum to 1; ``right`` (F,) float64, the probability that
    each function is right on all hidden cases; ``bodies`` (F, 64) uint8, the most probable body of each function and
    its `end`, padded with 0.
    """

    keys: Words64
    probabilities: NDArray[np.float64]
    right: NDArray[np.float64]
    bodies: Tokens

    @property
    def best(self) -> int:
        """The index of the optimal decision: the function that is most probably right on all hidden cases."""
        return int(self.right.argmax())

    @property
    def ceiling(self) -> float:
        """The probability that the optimal decision is right.

        On average no agent that writes one of the spec's functions exceeds it.
        """
        return float(self.right.max())

    @property
    def sampler(self) -> float:
        """The probability that a function drawn from the posterior is right: what an ideal model of the stream has."""
        return float(self.probabilities @ self.right)

    @property
    def identified(self) -> bool:
        """Whether one function has more than 95 % of the probability."""
        return bool(self.probabilities[0] > 0.95)


class Space:
    """All reference bodies of packed parameters of `cadmus_gym.tasks.synthesis.induce`.

    Building it takes seconds. Raises ValueError if there are too many bodies to enumerate.
    """

    def __init__(self, parameters: Ints) -> None:
        self.parameters = parameters
        self.work = np.zeros(WORK_ROOM, np.int64)
        self.kinds: dict[tuple[int, int], Bodies] = {}  # by arity and number of steps, both from 0
        arities, sizes = parameters[ARITIES : ARITIES + 2], parameters[STEP_COUNTS : STEP_COUNTS + chain.MOST]
        for arity in np.flatnonzero(arities).tolist():
            prefixes, shares = np.zeros((1, 0), np.int64), np.ones(1)
            for size in range(int(np.flatnonzero(sizes)[-1]) + 1):
                prefixes, shares = self._longer(arity == 1, prefixes, shares)
                if sizes[size] > 0:
                    keys = np.zeros(len(prefixes), np.uint64)
                    find_keys(parameters, arity == 1, prefixes, size + 1, self.work, keys)
                    weight = float(arities[arity] / arities.sum() * sizes[size] / sizes.sum())
                    self.kinds[arity, size] = Bodies(arity + 1, prefixes, shares, keys, weight)

    def _longer(self, twos: bool, prefixes: Ints, shares: NDArray[np.float64]) -> tuple[Ints, NDArray[np.float64]]:
        """Return all bodies that are one step longer, and their shares."""
        ranges = self.parameters[RANGES : RANGES + chain.RANGES]
        kinds = range(chain.OPERATOR, len(chain.KINDS)) if twos and not prefixes.shape[1] else range(chain.OPERATOR)
        proposals = sum(int(chain.count_of(ranges, k)) for k in kinds if self.parameters[WEIGHTS + k])
        if proposals * len(prefixes) > MOST_PROPOSALS:
            raise ValueError(
                f"{proposals * len(prefixes):,} bodies to look at are too many to enumerate; allowed: "
                f"{MOST_PROPOSALS:,}, as with one or two steps and no blocks"
            )
        rows: list[Ints] = []
        found: list[NDArray[np.float64]] = []
        room, shared = np.zeros((proposals, 2), np.int64), np.zeros(proposals)
        for prefix, share in zip(prefixes, shares, strict=True):
            count = extend(self.parameters, twos, prefix, prefix.size // 2, self.work, room, shared)
            rows.append(np.concatenate([np.tile(prefix, (count, 1)), room[:count]], axis=1))
            found.append(share * shared[:count])
        bodies = np.ascontiguousarray(np.concatenate(rows))
        return bodies, np.concatenate(found)

    def share(self, choices: Sequence[int], first: int, last: int) -> float:
        """Return the probability that the key lies in [first, last], given the outcomes of all CHOICE draws."""
        kind = self.kinds[choices[0], choices[1]]
        return float(kind.shares[_inside(kind.keys, first, last)].sum())

    def functions(self, first: int = 0, last: int = 2**64 - 1) -> int:
        """Return the number of different functions whose keys lie in [first, last]."""
        keys = np.concatenate([kind.keys[_inside(kind.keys, first, last)] for kind in self.kinds.values()])
        return int(np.unique(keys).size)

    def plain_bodies(self, keys: Words64) -> Tokens:
        """Return the most probable body of the function of each key (N,): (N, 64) uint8, padded with 0.

        A row is 0 for a key that no body has.
        """
        wanted, places = np.unique(keys, return_inverse=True)
        best, texts = np.zeros(wanted.size), np.zeros((wanted.size, BODY_ROOM), np.uint8)
        for kind in self.kinds.values():
            for row in np.flatnonzero(np.isin(kind.keys, wanted)).tolist():
                place, share = int(np.searchsorted(wanted, kind.keys[row])), float(kind.weight * kind.shares[row])
                if share > best[place]:
                    best[place] = share
                    texts[place, self._put(kind, row, texts[place]) :] = 0
        return texts[places]

    def _put(self, kind: Bodies, row: int, text: Tokens) -> int:
        """Write a body to ``text``; return its length."""
        ranges, position = self.parameters[RANGES : RANGES + chain.RANGES], 0
        for k in range(kind.length):
            position = chain.put_step(ranges, kind.steps[row, 2 * k], kind.steps[row, 2 * k + 1], text, position)
        return position

    def posterior(self, prompt: Tokens, first: int = 0, last: int = 2**64 - 1) -> Posterior:
        """Return the posterior of a prompt (n,) uint8 in a split whose keys lie in [first, last].

        Raises ValueError for a prompt that shows no cases of one or two inputs and one output, or that the split cannot
        write.
        """
        cases, arity, cells = _cases_of(prompt)
        masses: list[NDArray[np.float64]] = []
        fitting: list[tuple[Bodies, int]] = []
        for kind in self.kinds.values():
            if kind.arity != arity:
                continue
            kept, fits = _inside(kind.keys, first, last), np.zeros(len(kind.steps), np.bool_)
            find_fitting(self.parameters, kind.steps, kind.length, cases, self.work, fits)
            rows = np.flatnonzero(fits & kept)
            shown = np.zeros(rows.size)
            find_shown(self.parameters, arity == 2, kind.steps[rows], kind.length, cases, self.work, shown)
            masses.append(kind.weight / max(kind.shares[kept].sum(), 1e-300) * kind.shares[rows] * shown)
            fitting += [(kind, int(row)) for row in rows]
        weights = np.concatenate(masses) if masses else np.zeros(0)
        if not weights.sum() > 0:
            raise ValueError(f"prompt {disassemble(prompt)!r}: no function of this split has these cases")
        order = np.argsort(-weights, kind="stable")
        keys = np.array([fitting[k][0].keys[fitting[k][1]] for k in order], np.uint64)
        functions, places, which = np.unique(keys, return_index=True, return_inverse=True)
        sums = np.bincount(which.ravel(), weights[order])
        best = np.argsort(-sums, kind="stable")
        return self._judged(functions[best], sums[best] / sums.sum(), [fitting[order[places[k]]] for k in best], cells)

    def _judged(
        self, keys: Words64, probabilities: NDArray[np.float64], found: list[tuple[Bodies, int]], cells: Ints
    ) -> Posterior:
        arity, shown, size = found[0][0].arity, int(cells[-1]), len(found)
        bodies, counts = np.zeros((size, 2 * chain.MOST), np.int64), np.array([kind.length for kind, _ in found])
        texts = np.zeros((size, BODY_ROOM), np.uint8)
        for body, text, (kind, row) in zip(bodies, texts, found, strict=True):
            body[: 2 * kind.length] = kind.steps[row]
            text[self._put(kind, row, text)] = op.END
        agree = np.zeros((size, size), np.bool_)
        find_agreements(self.parameters, arity, bodies, counts, keys, shown, cells, self.work, agree)
        return Posterior(keys, probabilities, agree @ probabilities, texts)


@functools.lru_cache(maxsize=4)
def _space(parameters: bytes) -> Space | str:
    """Return a space, or the message of the error that there are too many bodies."""
    try:
        return Space(np.frombuffer(parameters, np.int64))
    except ValueError as error:
        return str(error)


def space_of(parameters: Ints) -> Space:
    """Return the space of packed parameters, or raise its ValueError; the last four results are kept."""
    found = _space(parameters.tobytes())
    if isinstance(found, str):
        raise ValueError(found)
    return found


def _inside(keys: Words64, first: int, last: int) -> NDArray[np.bool_]:
    return np.asarray((keys > 0) & (keys >= np.uint64(first)) & (keys <= np.uint64(last)))


def _cases_of(prompt: Tokens) -> tuple[Ints, int, Ints]:
    """Return the cases (C, 3) of a prompt, its number of inputs, and cells for `draw_hidden`, whose last is C."""
    program = np.append(prompt, np.array([op.END], np.uint8))
    cells, work = np.zeros(ROOM, np.int64), scratch(program.size)
    shown, arity = read_inputs(program, cells, work)
    directives = prepare(program, work)[2]
    plain = 0 < arity <= 2 and directives == 0 and all(work[SIZES + 2 * k + 1] == 1 for k in range(shown))
    if not plain or prompt[-1] != op.DO:
        raise ValueError(
            f"prompt {disassemble(prompt)!r}: only a header of cases with one or two inputs and one output has a "
            "posterior"
        )
    inputs = cells[: WIDTH * shown].reshape(shown, WIDTH)[:, :2]
    outputs = work[VALUES + MAX_SIDE + 2 * MAX_SIDE * np.arange(shown)]
    cells[-1] = shown
    return np.column_stack([inputs, outputs]), arity, cells
