"""function: evaluate a function, such as ``def dup if dup dec call mul else drop 3 fi ret 4 call 5 add``; a number.

There are four kinds: plain functions, applied twice, which are rare, and three kinds of recursion:

- count: f(n) from f(n - 1) and a literal, such as powers
- fold: f(n) from n and f(n - 1), such as factorials and sums
- double: f(n) from f(n - 1) and f(n - 2), such as Fibonacci numbers

The prompt contains the start f(0), and an operation follows the call, so most of these functions have no name.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from cadmus_gym.language import isa as op
from cadmus_gym.language.hashing import Words64
from cadmus_gym.language.isa import Int, Ints, Tokens
from cadmus_gym.language.kernels import kernel
from cadmus_gym.language.verdicts import LARGEST
from cadmus_gym.tasks.checks import (
    answer_within,
    as_array,
    check_operators,
    check_range,
    check_weights,
    listed,
    literal_room,
)
from cadmus_gym.tasks.family import PROMPT, Family, writer
from cadmus_gym.tasks.literals import (
    OPERATORS,
    apply,
    draw_literal,
    draw_operator,
    is_literal,
    literal_at,
    put,
    put_literal,
    token_at,
)
from cadmus_gym.tasks.sampling import CHOICE, OPERAND, categorical, is_guided, uniform

KINDS = ("plain", "count", "fold", "double")
PLAIN, COUNT, FOLD, DOUBLE = range(4)

LOW, HIGH, LIMIT, FEWEST, MOST_LEVELS, FEWEST_DOUBLE, MOST_DOUBLE, LEAST_FACTOR, MOST_FACTOR = range(9)
KIND_WEIGHTS = 9
OPERATOR_WEIGHTS = KIND_WEIGHTS + len(KINDS)
ALLOWED = 0  # working room: weights of operators
MOST = 48, 8  # levels of recursion, and of recursion that branches, within the machine's limits


@dataclass(frozen=True)
class Parameters:
    """``operands`` [lowest, highest], at least 0, and ``factors``, at least 2; weights of ``kinds`` and ``operators``;
    [fewest, most] ``levels`` of recursion, and ``doubles`` of recursion that branches; ``limit`` on the magnitude of
    every value."""

    operands: tuple[int, int] = (2, 99)
    factors: tuple[int, int] = (2, 3)
    operators: dict[str, int] = field(default_factory=lambda: dict.fromkeys(OPERATORS, 1))
    kinds: dict[str, int] = field(default_factory=lambda: {"plain": 1, "count": 5, "fold": 5, "double": 5})
    levels: tuple[int, int] = (2, 4)
    doubles: tuple[int, int] = (2, 4)
    limit: int = 9999

    def __post_init__(self) -> None:
        check_range("operands", self.operands, 0, 9_999)
        check_range("factors", self.factors, 2, 99)
        check_range("levels", self.levels, 1, MOST[0])
        check_range("doubles", self.doubles, 2, MOST[1])
        check_operators(self.operators, self.operands, self.limit)
        check_weights("kinds", self.kinds, KINDS)
        high, factor = self.operands[1], self.factors[1]
        before, last = 1, 1  # Fibonacci numbers
        for _ in range(self.doubles[1]):
            before, last = last, before + last
        sums = max(high * (1 + self.levels[1]), high + self.levels[1] * (self.levels[1] + 1) // 2)
        reach = max((high * factor + high) * factor + high, sums, (high + 1) * last)
        if reach > self.limit:
            raise ValueError(f"limit = {self.limit}: values may reach {reach}; give at least that, at most {LARGEST}")


def pack(parameters: Parameters) -> Ints:
    return as_array(
        [
            *parameters.operands,
            parameters.limit,
            *parameters.levels,
            *parameters.doubles,
            *parameters.factors,
            *listed(parameters.kinds, KINDS),
            *listed(parameters.operators, OPERATORS),
        ]
    )


def room(parameters: Parameters) -> int:
    return 5 * literal_room(max(parameters.operands[1], parameters.factors[1])) + 24


@kernel
def put_all(program: Tokens, position: Int, tokens: tuple[Int, ...]) -> Int:
    for token in tokens:
        program[position] = token
        position += 1
    return position


@kernel
def position_after(program: Tokens, token: Int) -> Int:
    """Return the position after the first occurrence of a token."""
    position: Int = 0
    while position < program.size and program[position] != token:
        position += 1
    return position + 1


@kernel
def kind_of(program: Tokens) -> Int:
    if token_at(program, 1) != op.DUP:
        return PLAIN
    if token_at(program, 2) != op.IF:
        return DOUBLE
    return COUNT if token_at(program, 3) == op.DEC else FOLD


@kernel
def draw_ahead(rng: Words64, script: Ints, source: Int, program: Tokens, token: Int, low: Int, high: Int) -> Int:
    """Draw the integer that will be written after the first occurrence of a token."""
    seen = literal_at(program, position_after(program, token), False)[0] - low if is_guided(script) else np.int64(0)
    return low + uniform(rng, script, source, high - low + 1, seen)


@kernel
def draw_factor(
    parameters: Ints, rng: Words64, script: Ints, program: Tokens, position: Int, operator: Int
) -> tuple[Int, Int]:
    """Draw the second operand of an operator and write it; return (value, position after it)."""
    low, high = parameters[LOW], parameters[HIGH]
    if operator == op.MUL:
        low, high = parameters[LEAST_FACTOR], parameters[MOST_FACTOR]
    return draw_literal(rng, script, program, position, low, high)


@kernel
def operator_after(program: Tokens, position: Int) -> Int:
    """Return the index of the operator at a position, or after the literal there."""
    if is_literal(program, position):
        _, position = literal_at(program, position, False)
    return token_at(program, position) - op.ADD


@kernel
def draw_recursion(
    parameters: Ints, rng: Words64, script: Ints, program: Tokens, kind: Int, start: Int, levels: Int, work: Ints
) -> Int:
    """Draw the operator of a recursive function, so that all levels stay within the limit."""
    for k in range(3):
        work[ALLOWED + k] = parameters[OPERATOR_WEIGHTS + k]
        value = start
        largest = np.int64(0)
        for n in range(1, levels + 1):
            if kind == COUNT:
                value = value * parameters[MOST_FACTOR] if op.ADD + k == op.MUL else value + parameters[HIGH]
            elif kind == FOLD:
                value = apply(op.ADD + k, n, value)
            largest = max(largest, abs(value))
            if largest > parameters[LIMIT]:
                break
        if op.ADD + k == op.MUL and (largest > parameters[LIMIT] or kind == DOUBLE):
            work[ALLOWED + k] = 0
    if kind == DOUBLE and levels == 2:  # f(1) - f(0) is 1 for every start
        work[ALLOWED + op.SUB - op.ADD] = 0
    seen: Int = 0
    if is_guided(script):
        position = position_after(program, op.CALL)
        if kind == DOUBLE:
            while position < program.size and program[position] != op.CALL:
                position += 1
            position += 1
        seen = operator_after(program, position)
    return op.ADD + categorical(rng, script, OPERAND, work, ALLOWED, 3, seen)


@kernel
def write_plain(parameters: Ints, rng: Words64, script: Ints, program: Tokens, work: Ints) -> tuple[Int, Int]:
    """Write a function of two operations and two calls to it; return (value, position after them)."""
    low, high = parameters[LOW], parameters[HIGH]
    position = put(program, 0, op.DEF)
    for k in range(3):
        work[ALLOWED + k] = parameters[OPERATOR_WEIGHTS + k]
    seen = operator_after(program, position)
    one = op.ADD + categorical(rng, script, OPERAND, work, ALLOWED, 3, seen)
    u, position = draw_factor(parameters, rng, script, program, position, one)
    position = put(program, position, one)
    v, position = draw_literal(rng, script, program, position, low, high)
    work[ALLOWED + op.MUL - op.ADD] = 0
    other = op.ADD + categorical(rng, script, OPERAND, work, ALLOWED, 3, token_at(program, position) - op.ADD)
    position = put(program, position, other)
    position = put(program, position, op.RET)
    value, position = draw_literal(rng, script, program, position, low, high)
    position = put(program, position, op.CALL)
    position = put(program, position, op.CALL)
    for _ in range(2):
        value = apply(other, apply(one, value, u), v)
    return value, position


@kernel
def write_recursion(
    parameters: Ints, rng: Words64, script: Ints, program: Tokens, kind: Int, work: Ints
) -> tuple[Int, Int]:
    """Write a recursive function and a call to it; return (value, position after it)."""
    low, high = parameters[LOW], parameters[HIGH]
    fewest, most = parameters[FEWEST], parameters[MOST_LEVELS]
    if kind == DOUBLE:
        fewest, most = parameters[FEWEST_DOUBLE], parameters[MOST_DOUBLE]
    levels = draw_ahead(rng, script, CHOICE, program, op.RET, fewest, most)
    start = draw_ahead(rng, script, OPERAND, program, op.ELSE if kind == DOUBLE else op.DROP, low, high)
    operator = draw_recursion(parameters, rng, script, program, kind, start, levels, work)
    by = np.int64(0)
    value, last = start, start
    position = put_all(program, 0, (op.DEF, op.DUP))
    if kind == DOUBLE:
        position = put_all(program, put_literal(program, position, 1), (op.GT, op.IF, op.DUP, op.DEC, op.CALL, op.SWAP))
        position = put_all(program, put_literal(program, position, 2), (op.SUB, op.CALL, operator, op.ELSE))
        position = put_all(program, put_literal(program, position, start), (op.ADD, op.FI, op.RET))
        value = start + 1
    else:
        if kind == COUNT:
            position = put_all(program, position, (op.IF, op.DEC, op.CALL))
            by, position = draw_factor(parameters, rng, script, program, position, operator)
        else:
            position = put_all(program, position, (op.IF, op.DUP, op.DEC, op.CALL))
        position = put_all(program, position, (operator, op.ELSE, op.DROP))
        position = put_all(program, put_literal(program, position, start), (op.FI, op.RET))
    position = put(program, put_literal(program, position, levels), op.CALL)
    for n in range(2 if kind == DOUBLE else 1, levels + 1):
        if kind == DOUBLE:
            value, last = apply(operator, value, last), value
        else:
            value = apply(operator, value, by) if kind == COUNT else apply(operator, n, value)
    return value, position


@writer
def write(
    parameters: Ints, rng: Words64, script: Ints, program: Tokens, marks: Ints, work: Ints, machine: Ints
) -> np.uint64:
    kind = categorical(rng, script, CHOICE, parameters, KIND_WEIGHTS, 4, kind_of(program))
    if kind == PLAIN:
        value, position = write_plain(parameters, rng, script, program, work)
    else:
        value, position = write_recursion(parameters, rng, script, program, kind, work)
    y, position = draw_literal(rng, script, program, position, parameters[LOW], parameters[HIGH])
    limit = parameters[LIMIT]
    draw_operator(rng, script, program, position, parameters, OPERATOR_WEIGHTS, limit, value, y, 0, work)
    marks[PROMPT] = position + 1
    return np.uint64(0)


FUNCTION = Family("function", 2, Parameters, "value", room, write, pack, answer_within)
