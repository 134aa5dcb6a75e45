"""sort: leave order statistics of a few values, such as ``case 7 , 2 , 9 to 9 , 2 case 1 , 4 , 3 to 4 , 1 do``.

The answer is a program of stack words, registers, `min` and `max`, comparisons and conditionals. Literals are not
allowed, so it must compute from the inputs alone. Each output is an order statistic (the smallest value, the second
smallest and so on) or, with ``kept``, one of the inputs. A reference is the shortest body known, from `sorting.txt`.

The problem is the number of values and the pattern: which order statistic or input is at which place. The key is made
of these, so train has neither a held-out pattern nor its body. All values of a case are different. No order of the
values is repeated until every order has been shown, and in the second case no input has the rank that it has in the
first. So no order statistic coincides with an input in all cases, and a prompt shows one pattern only. Hidden cases may
have equal values.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cadmus_gym.language import isa as op
from cadmus_gym.language.hashing import Words64, join
from cadmus_gym.language.isa import ID, Int, Ints, Tokens
from cadmus_gym.language.kernels import kernel
from cadmus_gym.language.notation import disassemble
from cadmus_gym.language.verdicts import LARGEST, MAX_CASES
from cadmus_gym.tasks.checks import as_array, check_range, check_sizes, check_weights, listed, literal_room
from cadmus_gym.tasks.family import PROMPT, REFERENCE, STRATUM, Family, writer
from cadmus_gym.tasks.literals import literal_at, put, put_number, token_at
from cadmus_gym.tasks.sampling import CHOICE, INPUT, OPERAND, categorical, is_guided, is_key_enough, uniform
from cadmus_gym.tasks.synthesis.bodies import WORDS, index_of, words_of
from cadmus_gym.tasks.synthesis.hidden import LARGEST_INPUT
from cadmus_gym.tasks.synthesis.space import Posterior

TABLE = Path(__file__).with_name("sorting.txt")
INSTRUCTIONS = (
    *WORDS[: WORDS.index("add")],
    *("min", "max", "eq", "ne", "lt", "le", "gt", "ge", "if", "else", "fi"),
)
FEWEST, MOST = 2, 4  # inputs
SIDE = 4  # inputs or outputs of a case, at most
KEPT = ("no", "yes")
TOKENS = np.array([ID[word] for word in INSTRUCTIONS], np.int64)
MOST_VALUES = 512  # in a range of inputs, so that there are fewer than 2**32 sets to draw from

# A pattern has four bits per output: k for the k-th smallest value, MOST + k for the k-th input.
PER_CELL, CELLS, BITS = 12, 4, 5  # words of a body in one cell, cells of a body, bits of a word
MOST_WORDS = PER_CELL * CELLS

# All orders of each number of values: the ranks of the inputs.
ORDERS = np.zeros((MOST + 1, 24, MOST), np.int64)
NUMBERS = np.ones(MOST + 1, np.int64)  # how many there are
for _arity in range(FEWEST, MOST + 1):
    _orders = list(itertools.permutations(range(_arity)))
    NUMBERS[_arity] = len(_orders)
    ORDERS[_arity, : len(_orders), :_arity] = _orders

# Layout of the packed parameters.
LOW, HIGH = range(2)
ARITIES = 2
KEPT_WEIGHTS = ARITIES + MOST - FEWEST + 1
CASES = KEPT_WEIGHTS + len(KEPT)
SECTIONS = CASES + MAX_CASES  # for each number of inputs, with and without kept ones: first pattern, number of them
PATTERNS = SECTIONS + 2 * len(KEPT) * (MOST + 1)  # in ascending order in a section; the bodies follow them

# Layout of the working room: inputs and outputs of cases; those of a given program; how often each order was shown.
SHOWN = 2 * SIDE * MAX_CASES
COUNTS = 2 * SHOWN
BODY = 0  # cells of a reference


class Body(NamedTuple):
    """A pattern of a number of inputs, and the shortest body known for it."""

    inputs: int
    outputs: tuple[str, ...]  # such as s1, the smallest value, and x1, the first input
    words: tuple[str, ...]

    @property
    def keeps(self) -> bool:
        return any(output[0] == "x" for output in self.outputs)

    @property
    def pattern(self) -> int:
        return sum(
            (int(output[1:]) + MOST * (output[0] == "x")) << 4 * k for k, output in enumerate(self.outputs[::-1])
        )


@functools.cache
def table() -> tuple[Body, ...]:
    """Return all patterns with their bodies, as `benchmarks/sorting.py` found them."""
    bodies = []
    for line in TABLE.read_text().splitlines():
        inputs, *outputs = line.partition(": ")[0].split()
        bodies.append(Body(int(inputs), tuple(outputs), tuple(line.partition(": ")[2].split())))
    return tuple(bodies)


class Kind(NamedTuple):
    """The P patterns of a number of inputs, with or without inputs among the outputs, in ascending order.

    ``patterns``, their numbers of ``outputs`` and the numbers of ``words`` of their bodies, all (P,) int64; and the
    ``bodies``, (P, CELLS) int64.
    """

    patterns: Ints
    outputs: Ints
    words: Ints
    bodies: Ints


@functools.cache
def _kind(inputs: int, keeps: bool) -> Kind:
    found = [body for body in table() if (body.inputs, body.keeps) == (inputs, keeps)]
    found.sort(key=lambda body: body.pattern)
    bodies = np.zeros((len(found), CELLS), np.int64)
    for cells, body in zip(bodies, found, strict=True):
        for k, word in enumerate(body.words):
            cells[k // PER_CELL] |= INSTRUCTIONS.index(word) << BITS * (k % PER_CELL)
    return Kind(
        np.array([body.pattern for body in found], np.int64),
        np.array([len(body.outputs) for body in found], np.int64),
        np.array([len(body.words) for body in found], np.int64),
        bodies,
    )


@dataclass(frozen=True)
class Parameters:
    """``inputs`` [lowest, highest]; weights of the ``arity``, which is the number of values, of ``kept``, "no" or
    "yes", which says whether inputs are among the outputs, and of the number of ``cases`` shown; the fewest and most
    ``outputs``; ``length``, the fewest and most words of a reference. All patterns of one ``arity`` and ``kept`` are
    equally likely. The weights of ``kept`` hold before a split drops patterns."""

    inputs: tuple[int, int] = (0, 99)
    arity: dict[str, int] = field(default_factory=lambda: {"2": 1, "3": 4})
    kept: dict[str, int] = field(default_factory=lambda: {"no": 1, "yes": 3})
    cases: dict[str, int] = field(default_factory=lambda: {"4": 1, "5": 1, "6": 1})
    outputs: tuple[int, int] = (1, SIDE)
    length: tuple[int, int] = (1, MOST_WORDS)

    def __post_init__(self) -> None:
        check_range("inputs", self.inputs, -LARGEST_INPUT, LARGEST_INPUT)
        check_sizes("arity", self.arity, FEWEST, MOST)
        values, arity = self.inputs[1] - self.inputs[0] + 1, max(map(int, self.arity))
        if not arity <= values <= MOST_VALUES:
            raise ValueError(
                f"inputs = {list(self.inputs)}: give {arity} to {MOST_VALUES} values, since all {arity} of a case are "
                "different"
            )
        check_weights("kept", self.kept, KEPT)
        check_sizes("cases", self.cases, 2, MAX_CASES)
        check_range("outputs", self.outputs, 1, SIDE)
        check_range("length", self.length, 1, MOST_WORDS)
        for (inputs, keeps), kind in kinds_of(self).items():
            if kind.patterns.size == 0:
                raise ValueError(
                    f"arity = {inputs}, kept = {KEPT[keeps]!r}: no pattern of {self.outputs[0]} to {self.outputs[1]} "
                    f"outputs has a reference of {self.length[0]} to {self.length[1]} words; give wider outputs or "
                    "length"
                )


def kind_of(parameters: Parameters, inputs: int, keeps: bool) -> Kind:
    """Return the patterns of one kind that the parameters allow."""
    kind = _kind(inputs, keeps)
    (fewest, most), (shortest, longest) = parameters.outputs, parameters.length
    rows = (fewest <= kind.outputs) & (kind.outputs <= most) & (shortest <= kind.words) & (kind.words <= longest)
    return Kind(*(column[rows] for column in kind))


def kinds_of(parameters: Parameters) -> dict[tuple[int, bool], Kind]:
    """Return the patterns that the parameters allow, by kind."""
    kinds = itertools.product(map(int, sorted(parameters.arity)), (keeps == "yes" for keeps in parameters.kept))
    return {kind: kind_of(parameters, *kind) for kind in kinds}


def pack(parameters: Parameters) -> Ints:
    sections, kinds, start = np.zeros((MOST + 1, len(KEPT), 2), np.int64), kinds_of(parameters), PATTERNS
    for (inputs, keeps), kind in kinds.items():
        sections[inputs, int(keeps)] = start, kind.patterns.size
        start += kind.patterns.size
    own = [
        *parameters.inputs,
        *listed(parameters.arity, range(FEWEST, MOST + 1)),
        *listed(parameters.kept, KEPT),
        *listed(parameters.cases, range(1, MAX_CASES + 1)),
        *sections.ravel().tolist(),
    ]
    bodies = [np.column_stack([kind.words, kind.bodies]).ravel() for kind in kinds.values()]
    return np.concatenate([as_array(own), *(kind.patterns for kind in kinds.values()), *bodies])


def room(parameters: Parameters) -> int:
    """Return the tokens of a prompt, at most: its cases and `do`."""
    values = max(map(int, parameters.arity)) + parameters.outputs[1]
    return max(map(int, parameters.cases)) * (2 + values * literal_room(max(map(abs, parameters.inputs)))) + 1


def answer(parameters: Parameters) -> int:
    """Return the tokens of a reference and its `end`, at most."""
    return 1 + max(int(kind.words.max()) for kind in kinds_of(parameters).values())


@kernel
def read_cases(program: Tokens, cells: Ints) -> tuple[Int, Int, Int]:
    """Read the inputs and outputs of the cases of a program, `SIDE` cells each.

    Returns (inputs of a case, outputs, number of cases); all are 0 for cases that no prompt can have.
    """
    cases, position = np.int64(0), np.int64(0)
    inputs, outputs = np.int64(0), np.int64(0)
    while token_at(program, position) == op.CASE and cases < MAX_CASES:
        for side in range(2):
            position += 1
            count: Int = 0
            while count < SIDE:
                value, after = literal_at(program, position, True)
                if value > LARGEST:
                    break
                cells[(2 * cases + side) * SIDE + count] = value
                position, count = after, count + 1
            if cases == 0 and side == 0:
                inputs = count
            elif cases == 0:
                outputs = count
            elif count != (inputs if side == 0 else outputs):
                return np.int64(0), np.int64(0), np.int64(0)
            if side == 0 and token_at(program, position) != op.TO:
                return np.int64(0), np.int64(0), np.int64(0)
        cases += 1
    if token_at(program, position) != op.DO or inputs < FEWEST:
        return np.int64(0), np.int64(0), np.int64(0)
    return inputs, outputs, cases


@kernel
def value_of(cells: Ints, inputs: Int, term: Int) -> Int:
    """The value of an output of a pattern."""
    if term > MOST:
        return cells[term - MOST - 1]
    for k in range(inputs):
        below, equal = np.int64(0), np.int64(0)
        for j in range(inputs):
            below += np.int64(cells[j] < cells[k])
            equal += np.int64(cells[j] == cells[k])
        if below < term <= below + equal:
            return cells[k]
    return np.int64(0)


@kernel
def find_pattern(cells: Ints, inputs: Int, outputs: Int, cases: Int) -> Int:
    """The one pattern that fits all cases; -1 if none or several do."""
    pattern: Int = 0
    for k in range(outputs):
        found: Int = 0
        for term in range(1, MOST + inputs + 1):
            same = term <= inputs or term > MOST
            for case in range(cases):
                at = 2 * case * SIDE
                same = same and cells[at + SIDE + k] == value_of(cells[at:], inputs, np.int64(term))
            if same and found > 0:
                return np.int64(-1)
            if same:
                found = np.int64(term)
        if found == 0:
            return np.int64(-1)
        pattern = pattern << 4 | found
    return pattern


@kernel
def keeps_input(pattern: Int) -> bool:
    while pattern > 0:
        if pattern & 15 > MOST:
            return True
        pattern >>= 4
    return False


@kernel
def key_of(inputs: Int, pattern: Int) -> np.uint64:
    return max(join(np.uint64(inputs), np.uint64(pattern)), np.uint64(1))


@kernel
def choose(values: Int, count: Int) -> Int:
    """The number of sets of ``count`` out of so many values."""
    number: Int = 1
    for k in range(count):
        number = number * (values - k) // (k + 1)
    return number


@kernel
def find_order(cells: Ints, inputs: Int) -> Int:
    """The index of the order that the inputs of a case have; -1 if two are equal."""
    for order in range(NUMBERS[inputs]):
        same = True
        for k in range(inputs):
            below: Int = 0
            for j in range(inputs):
                below += np.int64(cells[j] < cells[k] or (j != k and cells[j] == cells[k]))
            same = same and below == ORDERS[inputs, order, k]
        if same:
            return np.int64(order)
    return np.int64(-1)


@kernel
def may_follow(order: Int, first: Int, inputs: Int, shown: Int, work: Ints) -> bool:
    """Whether the next case may have an order, after ``shown`` cases, the first of which has the order ``first``."""
    if work[COUNTS + order] != shown // NUMBERS[inputs]:
        return False
    if shown == 1:
        for k in range(inputs):
            if ORDERS[inputs, order, k] == ORDERS[inputs, first, k]:
                return False
    return True


@kernel
def draw_inputs(
    parameters: Ints, rng: Words64, script: Ints, inputs: Int, shown: Int, first: Int, seen: Ints, work: Ints
) -> Int:
    """Draw the inputs of the next case: an order, then a set of values; return the order.

    ``seen`` are the inputs in a given program, and ``first`` is the order of the first case.
    """
    low, size = parameters[LOW], parameters[HIGH] - parameters[LOW] + 1
    seen_order, seen_set = np.int64(-1), np.int64(-1)
    if is_guided(script):
        seen_order = find_order(seen, inputs)
    outcomes, wanted = np.int64(0), np.int64(-1)
    for order in range(NUMBERS[inputs]):
        if may_follow(order, first, inputs, shown, work):
            wanted = outcomes if order == seen_order else wanted
            outcomes += 1
    left, drawn = uniform(rng, script, INPUT, outcomes, wanted), np.int64(-1)
    while left >= 0:
        drawn += 1
        left -= np.int64(may_follow(drawn, first, inputs, shown, work))
    if seen_order >= 0:
        seen_set = np.int64(0)
        for k in range(inputs):
            value = seen[k] - low
            if not 0 <= value < size:
                seen_set = np.int64(-(2**62))
            else:
                seen_set += choose(value, ORDERS[inputs, seen_order, k] + 1)
    rest = uniform(rng, script, INPUT, choose(size, inputs), max(seen_set, np.int64(-1)))
    most = size
    for rank in range(inputs - 1, -1, -1):  # the largest value first (the combinatorial number system)
        least = np.int64(rank)
        while most - least > 1:
            middle = (least + most) // 2
            if choose(middle, np.int64(rank + 1)) <= rest:
                least = middle
            else:
                most = middle
        rest -= choose(least, np.int64(rank + 1))
        for k in range(inputs):
            if ORDERS[inputs, drawn, k] == rank:
                work[k] = low + least
        most = least
    work[COUNTS + drawn] += 1
    return drawn


@writer
def write(
    parameters: Ints, rng: Words64, script: Ints, program: Tokens, marks: Ints, work: Ints, machine: Ints
) -> np.uint64:
    seen_inputs, seen_outputs, seen_cases, seen = np.int64(0), np.int64(0), np.int64(0), np.int64(-1)
    if is_guided(script):
        seen_inputs, seen_outputs, seen_cases = read_cases(program, work[SHOWN:])
        seen = find_pattern(work[SHOWN:], seen_inputs, seen_outputs, seen_cases)
    seen_kept = np.int64(keeps_input(seen))
    inputs = FEWEST + categorical(rng, script, CHOICE, parameters, ARITIES, MOST - FEWEST + 1, seen_inputs - FEWEST)
    cases = 1 + categorical(rng, script, CHOICE, parameters, CASES, MAX_CASES, seen_cases - 1)
    kept = categorical(rng, script, OPERAND, parameters, KEPT_WEIGHTS, len(KEPT), seen_kept)
    section = SECTIONS + 2 * (len(KEPT) * inputs + kept)
    first, size = parameters[section], parameters[section + 1]
    row = first + uniform(rng, script, OPERAND, size, index_of(parameters, first, size, seen))
    pattern = parameters[row]
    marks[PROMPT], marks[REFERENCE], marks[STRATUM] = 1, 1, inputs
    key = key_of(inputs, pattern)
    if is_key_enough(script):
        return key
    for order in range(NUMBERS[inputs]):
        work[COUNTS + order] = 0
    outputs: Int = 1
    while pattern >> 4 * outputs > 0:
        outputs += 1
    position, first_order = np.int64(0), np.int64(-1)
    for case in range(cases):
        seen_here = work[SHOWN + 2 * SIDE * case :]
        order = draw_inputs(parameters, rng, script, inputs, case, first_order, seen_here, work)
        first_order = order if case == 0 else first_order
        position = put(program, position, op.CASE)
        for k in range(inputs):
            if k > 0:
                position = put(program, position, op.COMMA)
            position = put_number(program, position, work[k])
        position = put(program, position, op.TO)
        for k in range(outputs):
            if k > 0:
                position = put(program, position, op.COMMA)
            position = put_number(program, position, value_of(work, inputs, pattern >> 4 * (outputs - 1 - k) & 15))
    position = put(program, position, op.DO)
    marks[PROMPT] = position
    patterns: Int = 0
    for other in range(SECTIONS, PATTERNS, 2):
        patterns += parameters[other + 1]
    body = PATTERNS + patterns + (1 + CELLS) * (row - PATTERNS)
    for k in range(parameters[body]):
        word = parameters[body + 1 + k // PER_CELL] >> BITS * (k % PER_CELL) & 31
        position = put(program, position, TOKENS[word])
    marks[REFERENCE] = position - marks[PROMPT]
    return key


class Space:
    """All patterns of packed parameters, each with one body."""

    def __init__(self, parameters: Ints) -> None:
        sections = parameters[SECTIONS:PATTERNS].reshape(MOST + 1, len(KEPT), 2)
        self.weights = parameters[KEPT_WEIGHTS : KEPT_WEIGHTS + len(KEPT)]
        self.kinds: dict[tuple[int, int], tuple[Ints, Words64, Ints]] = {}
        bodies = parameters[PATTERNS + int(sections[:, :, 1].sum()) :].reshape(-1, 1 + CELLS)
        for inputs, kept in np.argwhere(sections[:, :, 1]).tolist():
            first, size = sections[inputs, kept].tolist()
            patterns = parameters[first : first + size]
            keys = np.array([key_of(inputs, pattern) for pattern in patterns], np.uint64)
            self.kinds[inputs, kept] = patterns, keys, bodies[first - PATTERNS : first - PATTERNS + size]

    def share(self, choices: Sequence[int], first: int, last: int) -> float:
        """Return the probability that the key lies in [first, last], given the outcomes of all CHOICE draws."""
        kept, shares = np.flatnonzero(self.weights), self.weights / self.weights.sum()
        inside = [_inside(self.kinds[FEWEST + choices[0], k][1], first, last).mean() for k in kept.tolist()]
        return float(shares[kept] @ inside)

    def functions(self, first: int = 0, last: int = 2**64 - 1) -> int:
        """Return the number of patterns whose keys lie in [first, last]."""
        return sum(int(_inside(keys, first, last).sum()) for _, keys, _ in self.kinds.values())

    def posterior(self, prompt: Tokens, first: int = 0, last: int = 2**64 - 1) -> Posterior:
        """Return the one function that fits a prompt (n,) uint8: its pattern. Raises ValueError for cases that do not
        show one pattern, and for a pattern that the split does not have."""
        cells = np.zeros(COUNTS, np.int64)
        inputs, outputs, cases = read_cases(prompt, cells)
        pattern = find_pattern(cells, inputs, outputs, cases)
        if pattern <= 0 or prompt[-1] != op.DO:
            raise ValueError(
                f"prompt {disassemble(prompt)!r}: expected a header of cases that show one pattern of order statistics "
                "and inputs"
            )
        patterns, keys, bodies = self.kinds.get(
            (inputs, int(keeps_input(pattern))),
            (np.zeros(0, np.int64), np.zeros(0, np.uint64), np.zeros((0, 1 + CELLS))),
        )
        rows = np.flatnonzero((patterns == pattern) & _inside(keys, first, last))
        if not rows.size:
            raise ValueError(f"prompt {disassemble(prompt)!r}: no reference of this split leaves its pattern")
        count, *words = bodies[rows[0]].tolist()
        body = np.zeros((1, MOST_WORDS + 1), np.uint8)
        spelled = [TOKENS[words[k // PER_CELL] >> BITS * (k % PER_CELL) & 31] for k in range(count)]
        body[0, : count + 1] = [*spelled, op.END]
        return Posterior(keys[rows], np.ones(1), np.ones(1), body)


def _inside(keys: Words64, first: int, last: int) -> NDArray[np.bool_]:
    return np.asarray((keys >= np.uint64(first)) & (keys <= np.uint64(last)))


@functools.lru_cache(maxsize=4)
def _space(parameters: bytes) -> Space:
    return Space(np.frombuffer(parameters, np.int64))


SORT = Family(
    name="sort",
    version=1,
    parameters=Parameters,
    form="words",
    room=room,
    write=write,
    pack=pack,
    answer=answer,
    words=lambda parameters: words_of(INSTRUCTIONS),
    inputs=lambda parameters: parameters.inputs,
    space=lambda packed: _space(packed.tobytes()),
    determined=True,
)
