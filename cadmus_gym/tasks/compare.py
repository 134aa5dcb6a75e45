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
from cadmus_gym.isa import END, ID, Int, Ints, Tokens
from cadmus_gym.machine import LARGEST
from cadmus_gym.sampling import Words64, below, happens, join, mix, threshold
from cadmus_gym.tasks.family import (
    CHOICE,
    LENGTH,
    OPERAND,
    PROMPT,
    Family,
    as_array,
    check_range,
    check_weights,
    literal_room,
    put_literal,
    writer,
)

RELATIONS = ("eq", "ne", "lt", "le", "gt", "ge")
POOLS = ("open", "reserved")
EQ, NE, LT, LE, GT, GE = (ID[name] for name in RELATIONS)
NOT = ID["not"]
LENGTHS = 10  # digits of the longest value

# Layout of the packed parameters.
LOW, SIZE, POOL, MODULUS, FIRST, TIES, NEAR, DISTANCE, UNEQUAL = range(9)
WEIGHTS = 9
CLASSES = WEIGHTS + len(RELATIONS)  # first rank of the values with 1, 2 ... digits, and the number of values
LOWER, HIGHER = 0, 1  # working room


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


def pack(parameters: Parameters, share: float, style: str, limit: int) -> Ints:
    classes = parameters.classes()
    near = threshold(parameters.near)
    return as_array(
        [
            parameters.values[0],
            classes[-1],
            POOLS.index(parameters.pool),
            parameters.reserved[0],
            parameters.first_reserved(),
            threshold(parameters.ties),
            near,
            parameters.distance,
            near + threshold(parameters.unequal),
            *(parameters.relations.get(name, 0) for name in RELATIONS),
            *classes,
        ]
    )


def rooms(parameters: Parameters) -> tuple[int, int]:
    return 2 * literal_room(parameters.values[1]) + 1, len(("not", "end"))


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
def draw_class(parameters: Ints, dice: Words64, size: Int, limit: Int, other: Int) -> Int:
    """Draw a length, not ``other``, of at least ``size`` values, one of them of a rank below ``limit``."""
    count: Int = 0
    for k in range(LENGTHS):
        start, stop = parameters[CLASSES + k], parameters[CLASSES + k + 1]
        count += np.int64(stop - start >= size and start < limit and k != other)
    drawn = below(dice, OPERAND, count)
    for k in range(LENGTHS):
        start, stop = parameters[CLASSES + k], parameters[CLASSES + k + 1]
        if stop - start >= size and start < limit and k != other:
            if drawn == 0:
                return k
            drawn -= 1
    return -1


@kernel
def draw_rank(parameters: Ints, dice: Words64, length: Int, limit: Int) -> Int:
    start = parameters[CLASSES + length]
    return start + below(dice, OPERAND, min(parameters[CLASSES + length + 1], limit) - start)


@kernel
def draw_ranks(parameters: Ints, dice: Words64, tie: Int, work: Ints) -> None:
    """Draw the ranks of two values, the lower and the higher."""
    size = parameters[SIZE]
    kind = below(dice, CHOICE, 4294967296)
    if tie:
        lower = draw_rank(parameters, dice, draw_class(parameters, dice, 1, size, -1), size)
        higher = lower
    elif kind < parameters[NEAR]:
        apart = 1 + below(dice, CHOICE, parameters[DISTANCE])
        lower = draw_rank(parameters, dice, draw_class(parameters, dice, 1, size - apart, -1), size - apart)
        higher = lower + apart
    elif kind < parameters[UNEQUAL]:
        one = draw_class(parameters, dice, 1, size, -1)
        other = draw_class(parameters, dice, 1, size, one)
        lower = draw_rank(parameters, dice, min(one, other), size)
        higher = draw_rank(parameters, dice, max(one, other), size)
    else:
        length = draw_class(parameters, dice, 2, size, -1)
        lower = draw_rank(parameters, dice, length, size)
        higher = draw_rank(parameters, dice, length, parameters[CLASSES + length + 1] - 1)
        if higher >= lower:  # one of the others, each as likely
            higher += 1
        else:
            lower, higher = higher, lower
    work[LOWER] = lower
    work[HIGHER] = higher


@writer
def write(parameters: Ints, dice: Words64, program: Tokens, marks: Ints, work: Ints) -> np.uint64:
    total = 0
    for k in range(6):
        total += parameters[WEIGHTS + k]
    drawn = below(dice, CHOICE, total)
    relation: Int = EQ - 1
    while drawn >= 0:
        relation += 1
        drawn -= parameters[WEIGHTS + relation - EQ]
    holds = below(dice, CHOICE, 2) == 1
    tied = happens(dice, CHOICE, parameters[TIES])
    ascending = below(dice, CHOICE, 2) == 1
    if relation == EQ or relation == NE:
        tied = (relation == EQ) == holds
    else:
        if tied:
            tied = holds == (relation == LE or relation == GE)
        ascending = holds == (relation == LT or relation == LE)
    draw_ranks(parameters, dice, np.int64(tied), work)
    lower = value_at(parameters, work[LOWER])
    higher = value_at(parameters, work[HIGHER])
    position = put_literal(program, 0, lower if ascending else higher)
    position = put_literal(program, position, higher if ascending else lower)
    program[position] = relation
    position += 1
    marks[PROMPT] = position
    if not holds:
        program[position] = NOT
        position += 1
    program[position] = END
    marks[LENGTH] = position + 1
    # All questions about two numbers are one problem: who knows one answer knows the others.
    return join(mix(np.uint64(lower)), np.uint64(higher))


COMPARE = Family("compare", 1, Parameters, ("none",), "relation", write, pack, rooms)
