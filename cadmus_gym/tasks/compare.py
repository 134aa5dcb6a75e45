"""compare: does a relation hold of two numbers, such as ``812 97 lt``; the answer is `end` or `not end`.

Whether it holds is a fair coin for each relation. Which numbers are compared is under control, because the count of
digits alone decides most random pairs: pairs are equal, near ties, of unequal length, or else of equal length.

A class of values can be reserved: those from ``reserved_from`` on that leave ``reserved[1]`` when divided by
``reserved[0]`` are shown only where ``pool = "reserved"``.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from cadmus_gym.compiling import kernel
from cadmus_gym.isa import Int, Ints, Tokens
from cadmus_gym.machine import EQ, GE, LARGEST, LE, LT, NE
from cadmus_gym.sampling import (
    CHOICE,
    DERIVATION,
    IMPOSSIBLE,
    OPERAND,
    Words64,
    happens,
    is_guided,
    join,
    mix,
    threshold,
    uniform,
    weighted,
)
from cadmus_gym.tasks.family import (
    PROMPT,
    STRATUM,
    Family,
    as_array,
    check_range,
    check_weights,
    literal_at,
    literal_room,
    put_literal,
    token_at,
    writer,
)

RELATIONS = ("eq", "ne", "lt", "le", "gt", "ge")
POOLS = ("open", "reserved")
LENGTHS = 10  # digits of the longest value

# Layout of the packed parameters.
LOW, SIZE, POOL, MODULUS, FIRST, TIES, DISTANCE = range(7)
KINDS = 7  # weights of pairs that are near, of unequal length, and of those that need not be either
WEIGHTS = KINDS + 3
CLASSES = WEIGHTS + len(RELATIONS)  # first rank of the values with 1, 2 ... digits, and the number of values
NEAR_PAIR, UNEQUAL_PAIR, LEVEL_PAIR = range(3)
LOWER, HIGHER, KNOWN_LOWER, KNOWN_HIGHER = range(4)  # working room: ranks, drawn and seen in a given program
DERIVATIONS = 5  # a pair is drawn near, or unequal or level with either value first


@dataclass(frozen=True)
class Parameters:
    """``values`` [lowest, highest], at least 0; weights of ``relations``; shares of pairs: ``ties`` (of those that may
    be equal), and of the others ``near`` (1 to ``distance`` apart in the order of values) and ``unequal`` (in
    length)."""

    values: tuple[int, int] = (0, 99999)
    relations: dict[str, int] = field(default_factory=lambda: dict.fromkeys(RELATIONS, 1))
    ties: float = 0.25
    near: float = 0.4
    distance: int = 3
    unequal: float = 0.2
    reserved: tuple[int, int] = (97, 13)
    reserved_from: int = 10000
    pool: str = "open"

    def __post_init__(self) -> None:
        check_range("values", self.values, 0, LARGEST)
        check_weights("relations", self.relations, RELATIONS)
        for name in ("ties", "near", "unequal"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} = {getattr(self, name)}: give a share from 0 to 1")
        if self.near + self.unequal > 1:
            raise ValueError(f"near = {self.near}, unequal = {self.unequal}: together at most 1")
        modulus, rest = self.reserved
        if not (2 <= modulus <= 1_000_000 and 0 <= rest < modulus):
            raise ValueError(f"reserved = {[modulus, rest]}: give [modulus, rest] with 0 <= rest < modulus <= 1000000")
        if not 0 <= self.reserved_from <= LARGEST:
            raise ValueError(f"reserved_from = {self.reserved_from}: give a number from 0 to {LARGEST}")
        if self.pool not in POOLS:
            raise ValueError(f"pool = {self.pool!r}: known are {', '.join(POOLS)}")
        starts = self.classes()
        sizes = [size for size in np.diff(starts).tolist() if size]
        if max(sizes, default=0) < 2:
            raise ValueError(
                f"values = {list(self.values)}: the pool {self.pool!r} has no two values of one length there"
            )
        if not 1 <= self.distance < starts[-1]:
            raise ValueError(
                f"distance = {self.distance}: give at least 1, less than the {starts[-1]} values to draw from"
            )
        if self.unequal and len(sizes) < 2:
            raise ValueError(
                f"unequal = {self.unequal}: all values {list(self.values)} of the pool have one length; give 0"
            )

    def first_reserved(self) -> int:
        """The least reserved value of the range, or more than its highest where there is none."""
        modulus, rest = self.reserved
        start = max(self.values[0], self.reserved_from)
        return start + (rest - start) % modulus

    def rank(self, value: int) -> int:
        """How many values of the pool are less than this one."""
        low, high = self.values
        value = min(max(value, low), high + 1)
        reserved = max(0, -((self.first_reserved() - value) // self.reserved[0]))
        return reserved if self.pool == "reserved" else value - low - reserved

    def classes(self) -> list[int]:
        return [self.rank(0 if digits == 0 else 10**digits) for digits in range(LENGTHS + 1)]


def pack(parameters: Parameters) -> Ints:
    classes = parameters.classes()
    near, unequal = threshold(parameters.near), threshold(parameters.unequal)
    return as_array(
        [
            parameters.values[0],
            classes[-1],
            POOLS.index(parameters.pool),
            parameters.reserved[0],
            parameters.first_reserved(),
            threshold(parameters.ties),
            parameters.distance,
            near,
            unequal,
            2**32 - near - unequal,
            *(parameters.relations.get(name, 0) for name in RELATIONS),
            *classes,
        ]
    )


def room(parameters: Parameters) -> int:
    return 2 * literal_room(parameters.values[1]) + 1


@kernel
def value_at(parameters: Ints, rank: Int) -> Int:
    """The value with that rank in the pool."""
    modulus = parameters[MODULUS]
    if parameters[POOL] == 1:
        return parameters[FIRST] + modulus * rank
    beyond = rank - (parameters[FIRST] - parameters[LOW])
    if beyond < 0:
        return parameters[LOW] + rank
    return parameters[FIRST] + beyond // (modulus - 1) * modulus + beyond % (modulus - 1) + 1


@kernel
def rank_of(parameters: Ints, value: Int) -> Int:
    """The rank of a value in the pool, or -1 where it is not in it."""
    modulus = parameters[MODULUS]
    beyond = value - parameters[FIRST]
    rank = value - parameters[LOW]
    if parameters[POOL] == 1:
        rank = beyond // modulus if beyond >= 0 and beyond % modulus == 0 else -1
    elif beyond >= 0:
        rank = rank - beyond // modulus - 1 if beyond % modulus > 0 else -1
    return rank if 0 <= rank < parameters[SIZE] else -1


@kernel
def class_of(parameters: Ints, rank: Int) -> Int:
    for k in range(LENGTHS):
        if parameters[CLASSES + k] <= rank < parameters[CLASSES + k + 1]:
            return k
    return -1


@kernel
def draw_class(parameters: Ints, dice: Words64, script: Ints, size: Int, limit: Int, other: Int, seen: Int) -> Int:
    """Draw a length, not ``other``, of at least ``size`` values, one of them of a rank below ``limit``."""
    count: Int = 0
    known: Int = -1
    for k in range(LENGTHS):
        start, stop = parameters[CLASSES + k], parameters[CLASSES + k + 1]
        if stop - start >= size and start < limit and k != other:
            if k == seen:
                known = count
            count += 1
    drawn = uniform(dice, script, OPERAND, count, known)
    for k in range(LENGTHS):
        start, stop = parameters[CLASSES + k], parameters[CLASSES + k + 1]
        if stop - start >= size and start < limit and k != other:
            if drawn == 0:
                return k
            drawn -= 1
    return -1


@kernel
def draw_rank(parameters: Ints, dice: Words64, script: Ints, length: Int, limit: Int, seen: Int) -> Int:
    start = parameters[CLASSES + length]
    size = min(parameters[CLASSES + length + 1], limit) - start
    return start + uniform(dice, script, OPERAND, size, seen - start)


@kernel
def draw_ranks(parameters: Ints, dice: Words64, script: Ints, tie: Int, marks: Ints, work: Ints) -> None:
    """Draw the ranks of two values, the lower and the higher."""
    size = parameters[SIZE]
    derivation = script[DERIVATION]
    known, other = work[KNOWN_LOWER], work[KNOWN_HIGHER]
    if derivation == 2 or derivation == 4:
        known, other = other, known
    if tie:
        if derivation > 0:
            script[IMPOSSIBLE] = 1
        length = draw_class(parameters, dice, script, 1, size, -1, class_of(parameters, known))
        lower = draw_rank(parameters, dice, script, length, size, known)
        higher = lower
        marks[STRATUM] = 1
        work[LOWER], work[HIGHER] = lower, higher
        return
    kind = weighted(dice, script, CHOICE, parameters, KINDS, 3, (derivation + 1) // 2)
    marks[STRATUM] = 2 + kind
    if kind == NEAR_PAIR:
        apart = 1 + uniform(dice, script, CHOICE, parameters[DISTANCE], other - known - 1)
        length = draw_class(parameters, dice, script, 1, size - apart, -1, class_of(parameters, known))
        lower = draw_rank(parameters, dice, script, length, size - apart, known)
        higher = lower + apart
        marks[STRATUM] += 3 * apart
    elif kind == UNEQUAL_PAIR:
        one = draw_class(parameters, dice, script, 1, size, -1, class_of(parameters, known))
        two = draw_class(parameters, dice, script, 1, size, one, class_of(parameters, other))
        lower = draw_rank(parameters, dice, script, min(one, two), size, min(known, other))
        higher = draw_rank(parameters, dice, script, max(one, two), size, max(known, other))
    else:
        length = draw_class(parameters, dice, script, 2, size, -1, class_of(parameters, known))
        lower = draw_rank(parameters, dice, script, length, size, known)
        stop = parameters[CLASSES + length + 1] - 1  # the other is one of all but the first, each as likely
        higher = draw_rank(parameters, dice, script, length, stop, other - np.int64(other > known))
        if higher >= lower:
            higher += 1
        else:
            lower, higher = higher, lower
    work[LOWER], work[HIGHER] = lower, higher


@writer
def write(
    parameters: Ints, dice: Words64, script: Ints, program: Tokens, marks: Ints, work: Ints, machine: Ints
) -> np.uint64:
    seen: Int = 0
    x, y = np.int64(0), np.int64(0)
    if is_guided(script):
        x, position = literal_at(program, 0, False)
        y, position = literal_at(program, position, False)
        seen = token_at(program, position) - EQ
        work[KNOWN_LOWER], work[KNOWN_HIGHER] = rank_of(parameters, min(x, y)), rank_of(parameters, max(x, y))
        if work[KNOWN_LOWER] < 0 or work[KNOWN_HIGHER] < 0:
            script[IMPOSSIBLE] = 1
    relation = EQ + weighted(dice, script, CHOICE, parameters, WEIGHTS, 6, seen)
    order = np.int64(x > y) - np.int64(x < y)
    upward = relation == LT or relation == LE
    may_tie = relation == EQ or relation == LE or relation == GE
    same = relation == EQ or relation == NE
    truth = order < 0 if upward else order > 0
    if same:
        truth = (order == 0) == (relation == EQ)
    elif order == 0:
        truth = may_tie
    holds = uniform(dice, script, CHOICE, 2, np.int64(truth)) == 1
    tied = may_tie == holds
    if tied and not same:
        tied = happens(dice, script, CHOICE, parameters[TIES], order == 0)
    ascending = holds == upward
    if same and not tied:
        ascending = uniform(dice, script, CHOICE, 2, np.int64(order < 0)) == 1
    draw_ranks(parameters, dice, script, np.int64(tied), marks, work)
    lower = value_at(parameters, work[LOWER])
    higher = value_at(parameters, work[HIGHER])
    position = put_literal(program, 0, lower if ascending else higher)
    position = put_literal(program, position, higher if ascending else lower)
    program[position] = relation
    marks[PROMPT] = position + 1
    # All questions about two numbers are one problem: who knows one answer knows the others.
    return join(mix(np.uint64(lower)), np.uint64(higher))


COMPARE = Family("compare", 2, Parameters, "relation", room, write, pack, derivations=DERIVATIONS)
