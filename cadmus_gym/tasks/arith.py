"""arith: evaluate an expression in postfix, such as ``12 7 add 3 mul``; the answer is a number.

Operands are uniform, the shape of the expression is uniform among all of its size, and each operator is drawn by weight
among those that keep the value within the limit: nothing is ever thrown away.
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

OPERATORS = ("add", "sub", "mul")
STYLES = ("none", "values", "products")
MOST_OPERATIONS = 7

ADD, SUB, MUL, EQ, OPEN, CLOSE = (ID[name] for name in ("add", "sub", "mul", "eq", "(", ")"))

# Layout of the packed parameters.
LOW, HIGH, LIMIT, THOUGHTS, STYLE, ROOM = range(6)
SIZES = 6  # weight of each number of operations, from 1
WEIGHTS = SIZES + MOST_OPERATIONS  # weight of each operator
SHAPES = WEIGHTS + len(OPERATORS)  # number of ways to go on, see `_shapes`
SIDE = MOST_OPERATIONS + 2
# Working room: the values and hashes on the stack while writing, then what each operation did.
HASHES, STEPS = SIDE, 2 * SIDE


@dataclass(frozen=True)
class Parameters:
    """``operands`` [lowest, highest]; weights of ``operators`` and of the number of ``operations``; ``limit`` on the
    magnitude of every value on the way."""

    operands: tuple[int, int] = (0, 99)
    operators: dict[str, int] = field(default_factory=lambda: dict.fromkeys(OPERATORS, 1))
    operations: dict[str, int] = field(default_factory=lambda: {"1": 1, "2": 1})
    limit: int = 9999

    def __post_init__(self) -> None:
        check_range("operands", self.operands, -LARGEST, LARGEST)
        check_weights("operators", self.operators, OPERATORS)
        check_weights("operations", self.operations, tuple(map(str, range(1, MOST_OPERATIONS + 1))))
        largest = max(map(abs, self.operands))
        if not largest <= self.limit <= LARGEST:
            raise ValueError(f"limit = {self.limit}: give at least the largest operand, {largest}, at most {LARGEST}")
        # Of x + y and x - y one is no larger than the larger of both. Without one of them all must be small enough.
        reach = self._reach(max(map(int, self.operations)))
        if reach > self.limit and not {"add", "sub"} <= self.operators.keys():
            raise ValueError(
                f"limit = {self.limit}: with operators {', '.join(self.operators)} a value may reach {reach}; raise "
                "the limit to that, or give both add and sub, one of which always stays within it"
            )

    def _reach(self, operations: int) -> int:
        """A bound on the values of expressions of that many operations."""
        reach = [max(map(abs, self.operands))]
        for size in range(1, operations + 1):
            pairs = [(reach[k], reach[size - 1 - k]) for k in range(size)]
            sums = [x + y for x, y in pairs] if {"add", "sub"} & self.operators.keys() else []
            reach.append(max(sums + ([x * y for x, y in pairs] if "mul" in self.operators else [])))
        return reach[-1]


def _shapes() -> list[int]:
    """Ways to complete a postfix expression, by the literals still to come and the values on the stack."""
    ways = [[0] * SIDE for _ in range(SIDE)]
    for literals in range(SIDE):
        for depth in range(SIDE - literals):
            if literals == 0:
                ways[literals][depth] = int(depth > 0)
            else:
                ways[literals][depth] = ways[literals - 1][depth + 1] + (ways[literals][depth - 1] if depth > 1 else 0)
    return [count for row in ways for count in row]


def pack(parameters: Parameters, share: float, style: str, limit: int) -> Ints:
    return as_array(
        [
            *parameters.operands,
            parameters.limit,
            threshold(share),
            STYLES.index(style),
            limit,
            *(parameters.operations.get(str(size), 0) for size in range(1, MOST_OPERATIONS + 1)),
            *(parameters.operators.get(name, 0) for name in OPERATORS),
            *_shapes(),
        ]
    )


def rooms(parameters: Parameters) -> tuple[int, int]:
    operations = max(map(int, parameters.operations))
    literal = literal_room(max(map(abs, parameters.operands)))
    return (operations + 1) * literal + operations, literal_room(parameters.limit) + len(("eq", "end"))


@kernel
def apply(operator: Int, x: Int, y: Int) -> Int:
    return x + y if operator == ADD else x - y if operator == SUB else x * y


@kernel
def put_steps(program: Tokens, position: Int, stop: Int, operations: Int, style: Int, work: Ints) -> Int:
    """Write what each operation came to but the last, whose value is the answer; return the position behind.

    Gives up with the first literal that goes beyond ``stop``: a row has room for one more, that of the answer.

    Style "products" first writes a product digit by digit: of the factor with fewer digits (the right one of two as
    long), lowest digit first, each times the other factor, where there is more than one such product.
    """
    for k in range(operations):
        at = STEPS + 4 * k
        operator, x, y, value = work[at], work[at + 1], work[at + 2], work[at + 3]
        if style == 2 and operator == MUL:
            factor, digits = x, y
            if abs(digits) >= 10 and abs(factor) >= 10:
                size_x, size_y = 1, 1
                while 10**size_x <= abs(x):
                    size_x += 1
                while 10**size_y <= abs(y):
                    size_y += 1
                if size_x < size_y:
                    factor, digits = y, x
                sign = -1 if digits < 0 else 1
                digits = abs(digits)
                place = 1
                while digits > 0:
                    position = put_literal(program, position, sign * (digits % 10) * place * factor)
                    if position > stop:
                        return position
                    digits //= 10
                    place *= 10
        if k < operations - 1:
            position = put_literal(program, position, value)
            if position > stop:
                return position
    return position


@writer
def write(parameters: Ints, dice: Words64, program: Tokens, marks: Ints, work: Ints) -> np.uint64:
    total = 0
    for k in range(MOST_OPERATIONS):
        total += parameters[SIZES + k]
    drawn = below(dice, CHOICE, total)
    operations = 0
    while drawn >= 0:
        drawn -= parameters[SIZES + operations]
        operations += 1
    thinks = happens(dice, CHOICE, parameters[THOUGHTS])

    literals = operations + 1
    depth = 0
    done = 0
    position = 0
    while literals > 0 or depth > 1:
        ways = parameters[SHAPES + SIDE * literals + depth]
        go_on = parameters[SHAPES + SIDE * (literals - 1) + depth + 1] if literals > 0 else 0
        if below(dice, CHOICE, ways) < go_on:
            value = parameters[LOW] + below(dice, OPERAND, parameters[HIGH] - parameters[LOW] + 1)
            position = put_literal(program, position, value)
            work[depth] = value
            work[HASHES + depth] = np.int64(mix(np.uint64(value)))
            depth += 1
            literals -= 1
            continue
        x, y = work[depth - 2], work[depth - 1]
        total = 0
        for k in range(3):
            if abs(apply(ADD + k, x, y)) <= parameters[LIMIT]:
                total += parameters[WEIGHTS + k]
        drawn = below(dice, OPERAND, total)
        operator = ADD - 1
        while drawn >= 0:
            operator += 1
            if abs(apply(operator, x, y)) <= parameters[LIMIT]:
                drawn -= parameters[WEIGHTS + operator - ADD]
        value = apply(operator, x, y)
        program[position] = operator
        position += 1
        depth -= 1
        left, right = np.uint64(work[HASHES + depth - 1]), np.uint64(work[HASHES + depth])
        if operator != SUB and left > right:
            left, right = right, left
        work[HASHES + depth - 1] = np.int64(join(join(np.uint64(operator), left), right))
        work[depth - 1] = value
        at = STEPS + 4 * done
        work[at], work[at + 1], work[at + 2], work[at + 3] = operator, x, y, value
        done += 1
    marks[PROMPT] = position

    if thinks and parameters[STYLE] > 0:
        program[position] = OPEN
        stop = position + parameters[ROOM] - 1
        behind = put_steps(program, position + 1, stop, operations, parameters[STYLE], work)
        if position + 1 < behind <= stop:
            program[behind] = CLOSE
            position = behind + 1
    position = put_literal(program, position, work[0])
    program[position] = EQ
    program[position + 1] = END
    marks[LENGTH] = position + 2
    return np.uint64(work[HASHES])


ARITH = Family("arith", 1, Parameters, STYLES, "value", write, pack, rooms)
