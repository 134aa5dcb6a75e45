"""loop: evaluate a loop, such as ``12 3 times 5 add i sub next`` or ``7 begin 9 add dup 40 ge until``; a number.

A `times` loop has its number of turns before it. An `until` loop ends when the value reaches a bound, drawn among all
bounds that give the same number of turns. Most loops are of the first kind.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from cadmus_gym.language import isa as op
from cadmus_gym.language.hashing import Words64
from cadmus_gym.language.isa import Int, Ints, Tokens
from cadmus_gym.language.kernels import kernel
from cadmus_gym.language.verdicts import LARGEST, STEPS
from cadmus_gym.tasks.checks import (
    answer_within,
    as_array,
    check_range,
    check_share,
    check_sizes,
    check_weights,
    listed,
    literal_room,
)
from cadmus_gym.tasks.family import PROMPT, Family, writer
from cadmus_gym.tasks.literals import (
    OPERATORS,
    apply,
    count_tokens,
    draw_literal,
    is_literal,
    literal_at,
    put,
    put_literal,
    token_at,
)
from cadmus_gym.tasks.sampling import CHOICE, OPERAND, bernoulli, categorical, is_guided, threshold, uniform

KINDS = ("times", "until")
MOST = 4

LOW, HIGH, LIMIT, FEWEST, MOST_TURNS, LEAST_FACTOR, MOST_FACTOR, INDEXED = range(8)
KIND_WEIGHTS = 8
ITEMS = KIND_WEIGHTS + len(KINDS)
OPERATOR_WEIGHTS = ITEMS + MOST
ALLOWED = 0  # working room: weights of operators


@dataclass(frozen=True)
class Parameters:
    """``operands`` [lowest, highest], at least 1, and ``factors``, at least 2; weights of ``kinds``, of ``operators``,
    and of the number of ``items`` in the body of a `times` loop; [fewest, most] ``turns``; the share of items that are
    ``indexed``, that is, use `i`; ``limit`` on the magnitude of every value."""

    operands: tuple[int, int] = (5, 99)
    factors: tuple[int, int] = (2, 3)
    operators: dict[str, int] = field(default_factory=lambda: dict.fromkeys(OPERATORS, 1))
    kinds: dict[str, int] = field(default_factory=lambda: {"times": 16, "until": 1})
    turns: tuple[int, int] = (2, 5)
    items: dict[str, int] = field(default_factory=lambda: {"1": 1, "2": 1})
    indexed: float = 0.25
    limit: int = 9999

    def __post_init__(self) -> None:
        check_range("operands", self.operands, 1, 999_999)
        check_range("factors", self.factors, 2, 999)
        check_range("turns", self.turns, 1, 64)
        check_weights("operators", self.operators, OPERATORS)
        check_weights("kinds", self.kinds, KINDS)
        check_sizes("items", self.items, 1, MOST)
        if not {"add", "sub"} <= self.operators.keys():
            raise ValueError("operators: give both add and sub")
        check_share("indexed", self.indexed)
        reach = max(self.operands[1], self.turns[1]) * (1 + self.turns[1] * max(map(int, self.items)))
        if not reach <= self.limit <= LARGEST:
            raise ValueError(f"limit = {self.limit}: sums may reach {reach}; give at least that, at most {LARGEST}")
        digits = len(str(max(self.operands[1], self.factors[1])))
        bodies = {
            "times": max(map(int, self.items)) * (digits + 1) + len(("next",)),
            "until": digits + len(str(reach)) + len(("add", "dup", "neg", "ge", "until")),
        }
        steps = 2 * digits + 3 + self.turns[1] * max(bodies[kind] for kind in self.kinds)
        if steps > STEPS:
            raise ValueError(
                f"turns = {list(self.turns)}: they may take {steps} steps of the machine's {STEPS}; give fewer"
            )


def pack(parameters: Parameters) -> Ints:
    return as_array(
        [
            *parameters.operands,
            parameters.limit,
            *parameters.turns,
            *parameters.factors,
            threshold(parameters.indexed),
            *listed(parameters.kinds, KINDS),
            *listed(parameters.items, range(1, MOST + 1)),
            *listed(parameters.operators, OPERATORS),
        ]
    )


def room(parameters: Parameters) -> int:
    literal = literal_room(max(parameters.operands[1], parameters.factors[1]))
    times = 2 * literal + 2 + max(map(int, parameters.items)) * (literal + 1)
    return max(times, 2 * literal + literal_room(parameters.limit) + len(("begin", "add", "dup", "ge", "until")))


@kernel
def turns_of(program: Tokens, most: Int) -> Int:
    """Count the turns of a program's loop, up to ``most`` + 1."""
    value, position = literal_at(program, 0, False)
    if token_at(program, position) != op.BEGIN:
        return literal_at(program, position, False)[0]
    by, position = literal_at(program, position + 1, False)
    operator = token_at(program, position)
    bound, _ = literal_at(program, position + len(("add", "dup")), True)
    turns: Int = 0
    while turns <= most:
        value = apply(operator, value, by)
        turns += 1
        if abs(value) > LARGEST or (value <= bound if operator == op.SUB else value >= bound):
            break
    return turns


@kernel
def operator_ahead(program: Tokens, position: Int) -> Int:
    """Return the index of the operator after the literal or `i` at a position."""
    if is_literal(program, position):
        _, position = literal_at(program, position, False)
    else:
        position += 1
    return token_at(program, position) - op.ADD


@kernel
def allow_operators(parameters: Ints, product: bool, work: Ints) -> None:
    for k in range(3):
        work[ALLOWED + k] = parameters[OPERATOR_WEIGHTS + k]
    if not product:
        work[ALLOWED + op.MUL - op.ADD] = 0


@kernel
def most_turns(value: Int, factor: Int, limit: Int, turns: Int) -> Int:
    """Return how many times a value can be multiplied within the limit, at most ``turns``."""
    count: Int = 0
    while count < turns and value * factor <= limit:
        value *= factor
        count += 1
    return count


@kernel
def write_times(
    parameters: Ints,
    rng: Words64,
    script: Ints,
    program: Tokens,
    position: Int,
    value: Int,
    turns: Int,
    items: Int,
    work: Ints,
) -> Int:
    """Write a `times` loop on ``value``; return the position after it."""
    low, high = parameters[LOW], parameters[HIGH]
    position = put(program, put_literal(program, position, turns), op.TIMES)
    reach = value + turns * items * max(high, turns)
    product = most_turns(reach, parameters[MOST_FACTOR], parameters[LIMIT], turns) == turns
    for _ in range(items):
        allow_operators(parameters, product, work)
        seen = operator_ahead(program, position) if is_guided(script) else 0
        operator = op.ADD + categorical(rng, script, OPERAND, work, ALLOWED, 3, seen)
        if operator == op.MUL:
            product = False
            least, largest = parameters[LEAST_FACTOR], parameters[MOST_FACTOR]
            _, position = draw_literal(rng, script, program, position, least, largest)
        elif bernoulli(rng, script, OPERAND, parameters[INDEXED], token_at(program, position) == op.INDEX):
            position = put(program, position, op.INDEX)
        else:
            _, position = draw_literal(rng, script, program, position, low, high)
        position = put(program, position, operator)
    return put(program, position, op.NEXT)


@kernel
def write_until(
    parameters: Ints, rng: Words64, script: Ints, program: Tokens, position: Int, value: Int, turns: Int, work: Ints
) -> Int:
    """Write a loop that ends when ``value``, above 0, reaches a bound after ``turns``; return the position after it."""
    guided = is_guided(script)
    position = put(program, position, op.BEGIN)
    product = most_turns(value, parameters[MOST_FACTOR], parameters[LIMIT], turns) == turns
    allow_operators(parameters, product, work)
    seen = operator_ahead(program, position) if guided else 0
    operator = op.ADD + categorical(rng, script, OPERAND, work, ALLOWED, 3, seen)
    low, high = parameters[LOW], parameters[HIGH]
    if operator == op.MUL:
        low, high = parameters[LEAST_FACTOR], parameters[MOST_FACTOR]
    by, position = draw_literal(rng, script, program, position, low, high)
    position = put(program, position, operator)
    position = put(program, position, op.DUP)
    # The last turn takes the value from `before` to `after`; the bound lies between them, or is `after`.
    before = value
    for _ in range(turns - 1):
        before = apply(operator, before, by)
    after = apply(operator, before, by)
    seen_bound = literal_at(program, position, True)[0] if guided else np.int64(0)
    sign = np.int64(-1 if operator == op.SUB else 1)
    beyond = 1 + uniform(rng, script, OPERAND, abs(after - before), sign * (seen_bound - before) - 1)
    position = put_literal(program, position, before + sign * beyond)
    position = put(program, position, op.LE if operator == op.SUB else op.GE)
    return put(program, position, op.UNTIL)


@writer
def write(
    parameters: Ints, rng: Words64, script: Ints, program: Tokens, marks: Ints, work: Ints, machine: Ints
) -> np.uint64:
    guided = is_guided(script)
    seen = np.int64(count_tokens(program, op.BEGIN, op.BEGIN) > 0) if guided else np.int64(0)
    until = categorical(rng, script, CHOICE, parameters, KIND_WEIGHTS, 2, seen)
    items: Int = 1
    if until == 0:
        seen = count_tokens(program, op.ADD, op.MUL) - 1 if guided else np.int64(0)
        items = 1 + categorical(rng, script, CHOICE, parameters, ITEMS, MOST, seen)
    fewest, most = parameters[FEWEST], parameters[MOST_TURNS]
    seen = turns_of(program, most) - fewest if guided else np.int64(0)
    turns = fewest + uniform(rng, script, CHOICE, most - fewest + 1, seen)
    value, position = draw_literal(rng, script, program, 0, parameters[LOW], parameters[HIGH])
    if until:
        position = write_until(parameters, rng, script, program, position, value, turns, work)
    else:
        position = write_times(parameters, rng, script, program, position, value, turns, items, work)
    marks[PROMPT] = position
    return np.uint64(0)


LOOP = Family("loop", 2, Parameters, "value", room, write, pack, answer_within)
