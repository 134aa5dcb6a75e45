"""solve: give a function an input of which it leaves 1, as ``11 call`` does for ``def 3 mul 7 add 40 eq ret``.

The function is a condition (`cadmus_gym.tasks.synthesis.conditions`): an equation, or two comparisons joined by `and`.
A chain of one to three operations is drawn, then a solution, and what the chain must leave follows. A problem has one
to three solutions among all integers. Each of them makes the program true; the reference is the smallest in magnitude
within the range of answers, the positive one of two. So the prompt determines the reference.

The key is the hash of the set of solutions. So no condition of test has the solutions of one in train, whatever its
text.

Pairs of consecutive operators can be held out. Only splits with ``pool = "held"`` show them, one in every program.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field

import numpy as np

from cadmus_gym.language import isa as op
from cadmus_gym.language.hashing import Words64
from cadmus_gym.language.isa import Int, Ints, Tokens
from cadmus_gym.language.kernels import kernel
from cadmus_gym.tasks.checks import (
    as_array,
    check_held_out,
    check_pool,
    check_range,
    check_sizes,
    check_weights,
    listed,
    literal_room,
)
from cadmus_gym.tasks.family import PROMPT, REFERENCE, Family, writer
from cadmus_gym.tasks.literals import put, put_literal
from cadmus_gym.tasks.sampling import CHOICE, DERIVATION, IMPOSSIBLE, OPERAND, categorical, is_guided, uniform
from cadmus_gym.tasks.synthesis.conditions import (
    BOUND,
    CANDIDATES,
    CELLS,
    CHAIN,
    COUNT,
    EQUATION,
    FIRST,
    FOLDS,
    INTERVAL,
    KIND,
    KINDS,
    LINEAR,
    MOD,
    MOST,
    NUMBERS,
    OPERATORS,
    RESULT,
    SECOND,
    WINDOW,
    key_of,
    put_condition,
    reach,
    read_condition,
    run_chain,
    smallest_of,
    solve,
)

CHAINED = OPERATORS[:MOD]
CONSTANTS = {
    "add": (2, 99),
    "sub": (2, 99),
    "mul": (2, 9),
    "div": (2, 4),
    "product": (1, 20),
    "interval": (10, 60),
    "window": (6, 30),
}
MOST_CONSTANTS = {"interval": CANDIDATES - 1, "window": CANDIDATES // 2}
LARGEST_ANSWER, LARGEST_VALUE = 999_999, 9_999_999
MOST_SOLUTIONS = 3

# Layout of the packed parameters. Of each group of kinds and number of operations, the first of its chains and their
# number; the weights of the chains stand there, then the chains, as numbers in base BASE with one digit per operator.
LOW, HIGH, LIMIT = range(3)
KIND_WEIGHTS = 3
SIZES = KIND_WEIGHTS + len(KINDS)
BOUNDS = SIZES + MOST  # lowest and highest constant of each operator, of intervals and of windows
NAMES = (*OPERATORS, "interval", "window")
TABLES = BOUNDS + 2 * len(NAMES)
GROUPS = 3  # equations; bounds; intervals and windows
CHAINS = TABLES + 2 * GROUPS * MOST
BASE = 8
# Layout of the working room: the condition that is drawn, the one of a given program, and solutions.
DRAWN, SEEN, FOUND, SPARE = 0, CELLS, 2 * CELLS, 2 * CELLS + CANDIDATES


@dataclass(frozen=True)
class Parameters:
    """``answers`` [lowest, highest]; weights of the ``kinds`` of conditions, of the number of ``operations`` and of the
    ``operators``; ``constants`` of an operator, an interval or a window as [lowest, highest]; ``limit`` on the
    magnitude of every value; ``held_out`` pairs such as "mul sub", shown only if ``pool`` is "held"."""

    answers: tuple[int, int] = (-999, 999)
    kinds: dict[str, int] = field(default_factory=lambda: {"equation": 4, "bound": 2, "interval": 1, "window": 1})
    operations: dict[str, int] = field(default_factory=lambda: {"1": 1, "2": 3})
    operators: dict[str, int] = field(
        default_factory=lambda: {"add": 2, "sub": 2, "mul": 3, "div": 2, "abs": 2, "square": 1, "product": 1}
    )
    constants: dict[str, tuple[int, int]] = field(default_factory=dict)
    limit: int = 99_999
    held_out: tuple[str, ...] = ()
    pool: str = "open"

    def __post_init__(self) -> None:
        check_range("answers", self.answers, -LARGEST_ANSWER, LARGEST_ANSWER)
        check_weights("kinds", self.kinds, KINDS)
        check_sizes("operations", self.operations, 1, MOST)
        check_weights("operators", self.operators, CHAINED)
        for name, bounds in self.constants.items():
            if name not in CONSTANTS:
                raise ValueError(f"constants: unknown {name!r}; known are {', '.join(CONSTANTS)}")
            check_range(f"constants: {name}", bounds, 4 if name in MOST_CONSTANTS else 1, MOST_CONSTANTS.get(name, 999))
        largest = max(999, *map(abs, self.answers))
        if not largest <= self.limit <= LARGEST_VALUE:
            raise ValueError(f"limit = {self.limit}: give at least {largest}, at most {LARGEST_VALUE}")
        check_held_out(self.held_out, OPERATORS)
        check_pool(self.pool, self.held_out)
        for kind, size in itertools.product(self.kinds, map(int, self.operations)):
            chains = chains_of(self, min(KINDS.index(kind), INTERVAL), size)
            if not chains:
                raise ValueError(
                    f"operations: {size}: kind {kind!r} has no chain of that many operators among "
                    f"{', '.join(self.operators)} with {self.pool} pairs; give other numbers, kinds or operators"
                )
            if sum(chains.values()) >= 2**32:
                raise ValueError("operators: the products of these weights are too large; give smaller ones")


def chains_of(parameters: Parameters, group: int, size: int) -> dict[tuple[str, ...], int]:
    """Return the chains of that many operators for a group of kinds, with their weights.

    At most one operator takes several numbers to one. In a bound one does, and no `mul` before a `div` undoes it. No
    `mul` comes before a square or a product, which would leave small solutions alone. In an interval or a window the
    last one is `mod`, and the others are linear. A sum does not follow a sum, nor `mul` `mul`.
    """
    known = [name for name in parameters.operators if group != INTERVAL or name in LINEAR]
    chains: dict[tuple[str, ...], int] = {}
    for chain in itertools.product(known, repeat=size - (group == INTERVAL)):
        folds = [name for name in chain if name in FOLDS]
        if len(folds) > 1 or (group == BOUND and not folds):
            continue
        scaled = [name for name in folds if "mul" in chain[: chain.index(name)]]
        if scaled and (scaled[0] in ("square", "product") or (scaled[0] == "div" and group == BOUND)):
            continue
        whole = (*chain, "mod") if group == INTERVAL else chain
        pairs = [*itertools.pairwise(whole)]
        if any(one == other or {one, other} == {"add", "sub"} for one, other in pairs):
            continue
        held = any(f"{one} {other}" in parameters.held_out for one, other in pairs)
        if held == (parameters.pool == "held"):
            chains[whole] = math.prod(parameters.operators[name] for name in chain)
    return chains


def bounds_of(parameters: Parameters, name: str) -> tuple[int, int]:
    """Return the lowest and highest constant of an operator, an interval or a window."""
    return {**CONSTANTS, **parameters.constants}.get(name, (0, 0))


def pack(parameters: Parameters) -> Ints:
    table: list[int] = []
    listing: list[int] = []
    for group, size in itertools.product(range(GROUPS), range(1, MOST + 1)):
        chains = chains_of(parameters, group, size)
        table += [CHAINS + len(listing), len(chains)]
        listing += [*chains.values()]
        listing += [sum(OPERATORS.index(name) * BASE**k for k, name in enumerate(chain)) for chain in chains]
    return as_array(
        [
            *parameters.answers,
            parameters.limit,
            *listed(parameters.kinds, KINDS),
            *listed(parameters.operations, range(1, MOST + 1)),
            *(bound for name in NAMES for bound in bounds_of(parameters, name)),
            *table,
            *listing,
        ]
    )


def room(parameters: Parameters) -> int:
    """Of a prompt: both comparisons, each of at most two literals within the limit, and the longest chain."""
    operator = max(literal_room(bounds_of(parameters, name)[1]) for name in OPERATORS) + 3
    return max(map(int, parameters.operations)) * operator + 3 * literal_room(parameters.limit) + 12


def answer(parameters: Parameters) -> int:
    """Of a reference and its `end`."""
    return literal_room(max(map(abs, parameters.answers))) + len(("call", "end"))


@kernel
def draw_between(rng: Words64, script: Ints, low: Int, high: Int, seen: Int) -> Int:
    return low + uniform(rng, script, OPERAND, high - low + 1, seen - low)


@kernel
def find_chain(parameters: Ints, first: Int, count: Int, seen: Ints) -> Int:
    """The place of the chain of a given program among ``count`` chains, -1 if it is not among them."""
    code, unit = np.int64(0), np.int64(1)
    for k in range(seen[COUNT]):
        code += unit * seen[CHAIN + k]
        unit *= BASE
    for k in range(count):
        if parameters[first + k] == code:
            return np.int64(k)
    return np.int64(-1)


@kernel
def draw_chain(parameters: Ints, rng: Words64, script: Ints, drawn: Ints, seen: Ints) -> None:
    """Draw the kind, the number of operations and their operators."""
    drawn[KIND] = categorical(rng, script, CHOICE, parameters, KIND_WEIGHTS, len(KINDS), seen[KIND])
    drawn[COUNT] = 1 + categorical(rng, script, CHOICE, parameters, SIZES, MOST, seen[COUNT] - 1)
    at = TABLES + 2 * (MOST * min(drawn[KIND], np.int64(INTERVAL)) + drawn[COUNT] - 1)
    first, count = parameters[at], parameters[at + 1]
    place = find_chain(parameters, first + count, count, seen) if is_guided(script) else np.int64(0)
    code = parameters[first + count + categorical(rng, script, CHOICE, parameters, first, count, place)]
    for k in range(drawn[COUNT]):
        drawn[CHAIN + k] = code % BASE
        code //= BASE


@kernel
def draw_numbers(parameters: Ints, rng: Words64, script: Ints, drawn: Ints, seen: Ints) -> None:
    """Draw the numbers of the operators, and before them the size of an interval or the radius of a window.

    The modulus goes with it, so that a few of the numbers there are solutions.
    """
    kind, span = drawn[KIND], np.int64(0)
    if kind == INTERVAL or kind == WINDOW:
        at = BOUNDS + 2 * (len(OPERATORS) + kind - INTERVAL)
        cell = FIRST if kind == INTERVAL else SECOND
        drawn[cell] = draw_between(rng, script, parameters[at], parameters[at + 1], seen[cell])
        span = drawn[cell] if kind == INTERVAL else 2 * drawn[cell] - 1
    for k in range(drawn[COUNT]):
        operator = drawn[CHAIN + k]
        low, high = parameters[BOUNDS + 2 * operator], parameters[BOUNDS + 2 * operator + 1]
        if operator == MOD:
            low, high = span // 2, span
        drawn[NUMBERS + k] = 0
        if high > 0:
            drawn[NUMBERS + k] = draw_between(rng, script, low, high, seen[NUMBERS + k])


@kernel
def draw_bound(
    rng: Words64, script: Ints, drawn: Ints, seen: Ints, x: Int, limit: Int, found: Ints, spare: Ints
) -> bool:
    """Draw a bound that x is within and another solution of the equation is not; return whether there is one."""
    drawn[KIND] = EQUATION
    count = solve(drawn, limit, found, spare)
    drawn[KIND] = BOUND
    if count < 2:
        return False
    low, high = found[0], found[count - 1]
    place = uniform(rng, script, OPERAND, high - low, seen[SECOND] - low - seen[FIRST])
    drawn[FIRST] = np.int64(low + place >= x)
    drawn[SECOND] = low + place + drawn[FIRST]
    return True


@writer
def write(
    parameters: Ints, rng: Words64, script: Ints, program: Tokens, marks: Ints, work: Ints, machine: Ints
) -> np.uint64:
    marks[PROMPT], marks[REFERENCE] = 1, 1
    nothing, limit = np.uint64(0), parameters[LIMIT]
    drawn, seen = work[DRAWN : DRAWN + CELLS], work[SEEN : SEEN + CELLS]
    found, spare = work[FOUND : FOUND + CANDIDATES], work[SPARE : SPARE + CANDIDATES]
    seen_x = np.int64(0)
    if is_guided(script):  # each solution may be the one that was drawn
        read_condition(program, seen)
        if script[DERIVATION] >= solve(seen, limit, found, spare):
            script[IMPOSSIBLE] = 1
            return nothing
        seen_x = found[script[DERIVATION]]
    draw_chain(parameters, rng, script, drawn, seen)
    draw_numbers(parameters, rng, script, drawn, seen)
    most = reach(drawn, limit)
    low, high = max(parameters[LOW], -most), min(parameters[HIGH], most)
    if low > high:
        return nothing
    x = draw_between(rng, script, low, high, seen_x)
    drawn[RESULT] = run_chain(drawn, x, limit)
    if drawn[KIND] == INTERVAL:
        drawn[SECOND] = x // drawn[FIRST]
    elif drawn[KIND] == WINDOW:
        radius = drawn[SECOND] - 1
        drawn[FIRST] = draw_between(rng, script, x - radius, x + radius, seen[FIRST])
    elif drawn[KIND] == BOUND and not draw_bound(rng, script, drawn, seen, x, limit, found, spare):
        return nothing
    count = solve(drawn, limit, found, spare)
    if not 0 < count <= MOST_SOLUTIONS:
        return nothing
    reference = smallest_of(found, count, parameters[LOW], parameters[HIGH])
    marks[PROMPT] = put_condition(drawn, program)
    marks[REFERENCE] = put(program, put_literal(program, marks[PROMPT], reference), op.CALL) - marks[PROMPT]
    return key_of(found, count)


SOLVE = Family(
    name="solve",
    version=1,
    parameters=Parameters,
    form="argument",
    room=room,
    write=write,
    pack=pack,
    answer=answer,
    derivations=MOST_SOLUTIONS,
    determined=True,
)
