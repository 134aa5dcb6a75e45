"""compare: does a relation hold between two numbers, such as ``812 97 lt``; the answer is `end` or `not end`.

Every relation holds with probability 1/2. Pairs of numbers are chosen so that all digits matter: of most random pairs,
the number of digits or the first digit alone gives the order. A pair that is not a tie is of one of these kinds:

- digit: the numbers differ in one digit
- swap: two digits change places, neither of them the first or the last
- tail: equal up to some digit, with random digits after it
- near: less than ten apart across a carry, such as 1999 and 2002
- length: of different lengths

The first digit that differs is seldom the first or the last; all others are equally likely. A tie replaces a pair of
the kind digit, so neither outer digits nor lengths give it away.

A class of values can be reserved: those from ``reserved_from`` on that leave the remainder ``reserved[1]`` when divided
by ``reserved[0]``. Only splits of all problems show them. With ``pool = "reserved"`` every tie is of a reserved value,
and every other pair is a reserved value and a number that differs from it in one digit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from cadmus_gym.language import isa as op
from cadmus_gym.language.hashing import Words64, join, mix
from cadmus_gym.language.isa import Int, Ints, Tokens
from cadmus_gym.language.kernels import kernel
from cadmus_gym.language.verdicts import LARGEST
from cadmus_gym.tasks.checks import as_array, check_share, check_weights, listed, literal_room
from cadmus_gym.tasks.facts import held_out
from cadmus_gym.tasks.family import BARRED, HELD, OPERATED, PROMPT, SHOWN, STRATUM, Family, writer
from cadmus_gym.tasks.literals import literal_at, put_literal, token_at
from cadmus_gym.tasks.sampling import (
    CHOICE,
    DERIVATION,
    IMPOSSIBLE,
    OPERAND,
    bernoulli,
    categorical,
    is_guided,
    threshold,
    uniform,
)

RELATIONS = ("eq", "ne", "lt", "le", "gt", "ge")
PAIRS = ("digit", "swap", "tail", "near", "length")
POOLS = ("open", "reserved")
MOST = 9  # digits of the longest numbers
LENGTHS = tuple(str(n) for n in range(1, MOST + 1)) + tuple(f"1-{n}" for n in range(2, MOST + 1))
NEEDED = {"swap": 4, "near": 2}  # digits of the numbers of such a pair
# Weights of the difference, from 1, of the first digits that differ. The closer they are, the less one number alone
# says about the order.
STEPS = (16, 8, 4, 2, 1, 1, 1, 1, 1)
TENS = np.array([10**k for k in range(MOST + 2)], np.int64)

# Layout of the packed parameters.
TIES, OUTER, POOL, MODULUS, REST, FROM = range(6)
WEIGHTS = 6  # of the relations
EQUALITY = WEIGHTS + len(RELATIONS)  # of the kinds of pairs under eq and ne
ORDER = EQUALITY + len(PAIRS)  # and under the others
APART = ORDER + len(PAIRS)  # of the steps
CLASSES = APART + len(STEPS)  # for each kind, of the classes of numbers, by the digits of their longest
CLASS_OF = CLASSES + len(PAIRS) * MOST  # for each count of digits the class it belongs to, 0 where there is none
LEAST = CLASS_OF + MOST  # for each class its least first digit: 0 where shorter numbers belong to it
RESERVED = LEAST + MOST  # for each class its first reserved value, and how many there are
DIGIT, SWAP, TAIL, NEAR, LENGTH = range(len(PAIRS))
# Working room: the values drawn, and those seen in a given program; and the outcomes of CHOICE, except digits of
# numbers, as digits in base MOST after a leading 1.
LOWER, HIGHER, KNOWN_LOWER, KNOWN_HIGHER, CHOSEN = range(5)
KINDS = MOST**5  # above any value of CHOSEN


@dataclass(frozen=True)
class Parameters:
    """Weights of the ``lengths`` of numbers, in digits: "5", or "1-2" for one or two. Weights of ``relations``; of the
    kinds of pairs that are not ties, for ``order`` (lt, le, gt, ge) and ``equality`` (eq, ne); the share of ``ties``
    among pairs of the kind digit that may be ties; how often the first digit that differs is an ``outer`` one, the
    first or the last."""

    lengths: dict[str, int] = field(default_factory=lambda: {"1-2": 2, "3": 4, "4": 14, "5": 80})
    relations: dict[str, int] = field(default_factory=lambda: dict.fromkeys(RELATIONS, 1))
    order: dict[str, int] = field(default_factory=lambda: {"digit": 25, "swap": 20, "tail": 49, "near": 4, "length": 2})
    equality: dict[str, int] = field(
        default_factory=lambda: {"digit": 64, "swap": 32, "tail": 2, "near": 1, "length": 1}
    )
    ties: float = 0.5
    outer: float = 0.03
    reserved: tuple[int, int] = (97, 13)
    reserved_from: int = 11000
    pool: str = "open"

    def __post_init__(self) -> None:
        check_weights("lengths", self.lengths, LENGTHS)
        check_weights("relations", self.relations, RELATIONS)
        check_weights("order", self.order, PAIRS)
        check_weights("equality", self.equality, PAIRS)
        check_share("ties", self.ties)
        check_share("outer", self.outer)
        modulus, rest = self.reserved
        if not (2 <= modulus <= 1_000_000 and 0 <= rest < modulus):
            raise ValueError(f"reserved = {[modulus, rest]}: give [modulus, rest] with 0 <= rest < modulus <= 1000000")
        if not 0 <= self.reserved_from <= LARGEST:
            raise ValueError(f"reserved_from = {self.reserved_from}: give a number from 0 to {LARGEST}")
        if self.pool not in POOLS:
            raise ValueError(f"pool = {self.pool!r}: known are {', '.join(POOLS)}")
        counts = [n for least, most, _ in self.classes() for n in range(least, most + 1)]
        for n in counts:
            if counts.count(n) > 1:
                raise ValueError(f"lengths: two of {', '.join(self.lengths)} have numbers of {n} digits; give one")
        if self.pool == "reserved":
            for name, (least, most, _) in zip(self.lengths, self.classes(), strict=True):
                if self.reserved_within(least, most)[1] == 0:
                    raise ValueError(f"lengths: {name}: the pool 'reserved' has no number of that length")
            return
        for name, weights, relations in (
            ("equality", self.equality, RELATIONS[:2]),
            ("order", self.order, RELATIONS[2:]),
        ):
            if self.relations.keys().isdisjoint(relations):
                continue
            for kind, digits in NEEDED.items():
                if kind in weights and max(counts) < digits:
                    raise ValueError(
                        f"{name}: {kind}: needs numbers of {digits} digits; leave it out, or give longer ones"
                    )
            if "length" in weights and len(counts) < 2:
                raise ValueError(f"{name}: length: needs numbers of two lengths; leave it out, or give more lengths")

    def classes(self) -> list[tuple[int, int, int]]:
        """Return (fewest digits, most digits, weight) of each class of numbers."""
        bounds = [tuple(map(int, name.split("-"))) for name in self.lengths]
        return [(one[0], one[-1], weight) for one, weight in zip(bounds, self.lengths.values(), strict=True)]

    def reserved_within(self, least: int, most: int) -> tuple[int, int]:
        """Return the first reserved value with ``least`` to ``most`` digits, and how many there are."""
        modulus, rest = self.reserved
        start = max(0 if least == 1 else 10 ** (least - 1), self.reserved_from)
        start += (rest - start) % modulus
        return start, max(0, math.ceil((10**most - start) / modulus))


def pack(parameters: Parameters) -> Ints:
    alone = parameters.pool == "reserved"
    pairs = {"digit": 1} if alone else None
    by_kind = np.zeros((len(PAIRS), MOST), np.int64)
    class_of, least_digit = np.zeros(MOST, np.int64), np.ones(MOST, np.int64)
    reserved = np.zeros((MOST, 2), np.int64)
    for least, most, weight in parameters.classes():
        by_kind[:, most - 1] = weight
        class_of[least - 1 : most] = most
        least_digit[most - 1] = least > 1
        reserved[most - 1] = parameters.reserved_within(least, most)
    for kind, digits in NEEDED.items():
        by_kind[PAIRS.index(kind), : digits - 1] = 0
    by_kind[LENGTH, : np.flatnonzero(class_of)[0] + 1] = 0
    return as_array(
        [
            threshold(parameters.ties),
            threshold(parameters.outer),
            POOLS.index(parameters.pool),
            *parameters.reserved,
            parameters.reserved_from,
            *listed(parameters.relations, RELATIONS),
            *listed(pairs or parameters.equality, PAIRS),
            *listed(pairs or parameters.order, PAIRS),
            *STEPS,
            *by_kind.ravel().tolist(),
            *class_of.tolist(),
            *least_digit.tolist(),
            *reserved.ravel().tolist(),
        ]
    )


def room(parameters: Parameters) -> int:
    longest = max(most for _, most, _ in parameters.classes())
    return 2 * literal_room(10**longest - 1) + 1


@kernel
def is_reserved(parameters: Ints, value: Int) -> bool:
    return bool(value >= parameters[FROM] and value % parameters[MODULUS] == parameters[REST])


@kernel
def digits_of(value: Int) -> Int:
    count: Int = 1
    while count < TENS.size and value >= TENS[count]:
        count += 1
    return count


@kernel
def class_of(parameters: Ints, value: Int) -> Int:
    digits = digits_of(value)
    return parameters[CLASS_OF + digits - 1] if digits <= MOST else np.int64(0)


@kernel
def note(work: Ints, drawn: Int) -> Int:
    """Add an outcome of CHOICE, below MOST, to the stratum and return it."""
    work[CHOSEN] = work[CHOSEN] * MOST + drawn
    return drawn


@kernel
def draw_digits(rng: Words64, script: Ints, marks: Ints, count: Int, free: Int, least: Int, seen: Int) -> Int:
    """Draw ``count`` digits, the first at least ``least``: the last ``free`` of them by OPERAND, the others by CHOICE.

    So a stratum has few operands for any length of numbers, and probabilities are summed over all of them.
    """
    if count == 0:
        return np.int64(0)
    free = min(free, count)
    low = least * TENS[count - 1]
    if free == count:
        return low + uniform(rng, script, OPERAND, TENS[count] - low, seen - low)
    low //= TENS[free]
    size = TENS[count - free] - low
    lead = uniform(rng, script, CHOICE, size, seen // TENS[free] - low)
    marks[STRATUM] = marks[STRATUM] * size + lead
    lead += low
    return lead * TENS[free] + uniform(rng, script, OPERAND, TENS[free], seen % TENS[free])


@kernel
def place_of(count: Int, one: Int, other: Int) -> Int:
    """Return the place, from 0, of the first of ``count`` digits that differs; ``count`` if none does."""
    place = np.int64(0)
    while place < count and one // TENS[count - 1 - place] == other // TENS[count - 1 - place]:
        place += 1
    return place


@kernel
def draw_place(parameters: Ints, rng: Words64, script: Ints, work: Ints, count: Int, kind: Int, seen: Int) -> Int:
    """Draw the place of the first of ``count`` digits that differs."""
    last = count - 1
    if kind == SWAP:
        place = 1 + uniform(rng, script, CHOICE, count - 3, seen - 1)
    elif count <= 2:
        place = uniform(rng, script, CHOICE, count - np.int64(kind == NEAR), seen)  # a carry needs a digit after it
    elif bernoulli(rng, script, CHOICE, parameters[OUTER], seen == 0 or seen == last):
        place = last * uniform(rng, script, CHOICE, 2 - np.int64(kind == NEAR), np.int64(seen != 0))
    else:
        place = 1 + uniform(rng, script, CHOICE, count - 2, seen - 1)
    return note(work, place)


@kernel
def draw_alike(parameters: Ints, rng: Words64, script: Ints, kind: Int, count: Int, marks: Ints, work: Ints) -> None:
    """Draw two numbers of one class, with ``count`` digits including leading zeros."""
    lower, higher = work[KNOWN_LOWER], work[KNOWN_HIGHER]
    least = parameters[LEAST + count - 1]
    seen = place_of(count, lower, higher) if is_guided(script) else np.int64(0)
    place = draw_place(parameters, rng, script, work, count, kind, seen)
    rest = count - 1 - place
    unit = TENS[rest]
    second = np.int64(1)  # of a swap, the unit of the other digit
    if kind == SWAP:
        seen = place_of(rest, lower % unit, higher % unit) if is_guided(script) else np.int64(0)
        second = TENS[rest - 1 - note(work, uniform(rng, script, CHOICE, rest - 1, seen))]
        rest -= 1
    free: Int = max(0, 3 - rest)  # digits drawn by OPERAND, besides those that differ
    if kind == NEAR:
        free = 1
    elif kind == TAIL and rest > 0:
        free = 0
    head = 10 * unit * draw_digits(rng, script, marks, place, free, least, lower // (10 * unit))
    first = least if place == 0 else np.int64(0)
    one, other = lower // unit % 10, higher // unit % 10
    if kind == NEAR:
        one = first + uniform(rng, script, OPERAND, 9 - first, one - first)
        under = 1 + uniform(rng, script, OPERAND, 9, unit - lower % unit - 1)
        work[LOWER] = head + (one + 1) * unit - under
        work[HIGHER] = head + (one + 1) * unit + uniform(rng, script, OPERAND, 10 - under, higher % unit)
        return
    step = 1 + categorical(rng, script, OPERAND, parameters, APART, 9 - first, other - one - 1)
    one = first + uniform(rng, script, OPERAND, 10 - first - step, one - first)
    other = one + step
    free = 1 if kind == TAIL else 3
    tail = lower % unit
    if kind == SWAP:
        tail = tail // (10 * second) * second + tail % second
    tail = draw_digits(rng, script, marks, rest, free, 0, tail)
    work[LOWER], work[HIGHER] = head + one * unit + tail, head + other * unit + tail
    if kind == SWAP:
        tail = tail // second * 10 * second + tail % second
        work[LOWER], work[HIGHER] = head + one * unit + other * second + tail, head + other * unit + one * second + tail
    elif kind == TAIL:
        work[HIGHER] = head + other * unit + draw_digits(rng, script, marks, rest, free, 0, higher % unit)


@kernel
def draw_lengths(parameters: Ints, rng: Words64, script: Ints, count: Int, marks: Ints, work: Ints) -> None:
    """Draw two numbers, the higher with ``count`` digits and the lower with fewer."""
    lower, higher = work[KNOWN_LOWER], work[KNOWN_HIGHER]
    shorter, known = np.int64(0), np.int64(-1)
    for digits in range(1, count):
        if parameters[CLASS_OF + digits - 1] > 0:
            if digits == digits_of(lower):
                known = shorter
            shorter += 1
    drawn = note(work, uniform(rng, script, CHOICE, shorter, known))
    size: Int = 0
    while drawn >= 0:
        size += 1
        drawn -= np.int64(parameters[CLASS_OF + size - 1] > 0)
    work[LOWER] = draw_digits(rng, script, marks, size, 2, np.int64(size > 1), lower)
    work[HIGHER] = draw_digits(rng, script, marks, count, 2, 1, higher)


@kernel
def draw_reserved(parameters: Ints, rng: Words64, script: Ints, tied: bool, count: Int, work: Ints) -> None:
    """Draw a reserved value and a number that differs from it in one digit, or a tie."""
    lower, higher = work[KNOWN_LOWER], work[KNOWN_HIGHER]
    known, other = (lower, higher) if script[DERIVATION] == 0 else (higher, lower)
    if script[DERIVATION] > 1:
        script[IMPOSSIBLE] = 1
    start, size = parameters[RESERVED + 2 * count - 2], parameters[RESERVED + 2 * count - 1]
    place = np.int64(0)
    if not tied:
        seen = place_of(count, lower, higher) if is_guided(script) else np.int64(0)
        place = draw_place(parameters, rng, script, work, count, DIGIT, seen)
    unit = TENS[count - 1 - place]
    modulus = parameters[MODULUS]
    rank = (known - start) // modulus if is_reserved(parameters, known) and known >= start else np.int64(-1)
    value = start + modulus * uniform(rng, script, OPERAND, size, rank)
    work[LOWER], work[HIGHER] = value, value
    if tied:
        return
    digit, digits = value // unit % 10, np.int64(10)
    first = parameters[LEAST + count - 1] if place == 0 else np.int64(0)
    seen = other // unit % 10
    drawn = first + uniform(rng, script, OPERAND, digits - first - 1, seen - first - np.int64(seen > digit))
    if drawn >= digit:
        drawn += 1
    work[LOWER] = min(value, value + (drawn - digit) * unit)
    work[HIGHER] = max(value, value + (drawn - digit) * unit)


@kernel
def draw_pair(parameters: Ints, rng: Words64, script: Ints, kind: Int, tied: bool, marks: Ints, work: Ints) -> None:
    """Draw the lower and the higher number, or a tie."""
    lower, higher = work[KNOWN_LOWER], work[KNOWN_HIGHER]
    known = class_of(parameters, higher)
    if kind == LENGTH:
        known = digits_of(higher)
    elif is_guided(script) and class_of(parameters, lower) != known:
        script[IMPOSSIBLE] = 1
    work[CHOSEN] = 1
    note(work, len(PAIRS) if tied else kind)
    count = 1 + note(work, categorical(rng, script, CHOICE, parameters, CLASSES + kind * MOST, MOST, known - 1))
    if parameters[POOL] == 1:
        draw_reserved(parameters, rng, script, tied, count, work)
    elif tied:
        work[LOWER] = draw_digits(rng, script, marks, count, 4, parameters[LEAST + count - 1], lower)
        work[HIGHER] = work[LOWER]
    elif kind == LENGTH:
        draw_lengths(parameters, rng, script, count, marks, work)
    else:
        draw_alike(parameters, rng, script, kind, count, marks, work)
    marks[STRATUM] = marks[STRATUM] * KINDS + work[CHOSEN]


@writer
def write(
    parameters: Ints, rng: Words64, script: Ints, program: Tokens, marks: Ints, work: Ints, machine: Ints
) -> np.uint64:
    seen: Int = 0
    x, y = np.int64(0), np.int64(0)
    if is_guided(script):
        x, position = literal_at(program, 0, False)
        y, position = literal_at(program, position, False)
        seen = token_at(program, position) - op.EQ
        work[KNOWN_LOWER], work[KNOWN_HIGHER] = min(x, y), max(x, y)
    relation = op.EQ + categorical(rng, script, CHOICE, parameters, WEIGHTS, 6, seen)
    order = np.int64(x > y) - np.int64(x < y)
    upward = relation == op.LT or relation == op.LE
    may_tie = relation == op.EQ or relation == op.LE or relation == op.GE
    same = relation == op.EQ or relation == op.NE
    truth = order < 0 if upward else order > 0
    if same:
        truth = (order == 0) == (relation == op.EQ)
    elif order == 0:
        truth = may_tie
    holds = uniform(rng, script, CHOICE, 2, np.int64(truth)) == 1
    tied = may_tie == holds
    ascending = holds == upward
    kind: Int = DIGIT
    if not (same and tied):
        # A pair may be of several kinds, or have two reserved values; each way is a derivation.
        seen = 0 if parameters[POOL] == 1 else script[DERIVATION]
        kind = categorical(rng, script, CHOICE, parameters, EQUALITY if same else ORDER, len(PAIRS), seen)
    if same and not tied:
        ascending = uniform(rng, script, CHOICE, 2, np.int64(order < 0)) == 1
    elif not same:
        tied = tied and kind == DIGIT and bernoulli(rng, script, CHOICE, parameters[TIES], order == 0)
    if tied and script[DERIVATION] > 0:
        script[IMPOSSIBLE] = 1
    draw_pair(parameters, rng, script, kind, tied, marks, work)
    lower, higher = work[LOWER], work[HIGHER]
    position = put_literal(program, 0, lower if ascending else higher)
    position = put_literal(program, position, higher if ascending else lower)
    program[position] = relation
    marks[PROMPT] = position + 1
    marks[OPERATED] = 1
    marks[HELD] = np.int64(held_out(op.SUB, lower, higher))
    marks[SHOWN] = marks[HELD]
    marks[BARRED] = np.int64(
        parameters[POOL] == 0 and (is_reserved(parameters, lower) or is_reserved(parameters, higher))
    )
    # All relations between two numbers are one problem: one answer gives the others away.
    return join(mix(np.uint64(lower)), np.uint64(higher))


COMPARE = Family("compare", 3, Parameters, "relation", room, write, pack, derivations=len(PAIRS))
