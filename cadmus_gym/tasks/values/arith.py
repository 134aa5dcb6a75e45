"""arith: evaluate a postfix expression, such as ``12 7 add 3 mul``; the answer is a number.

Operands are uniform. The shape of the expression is uniform among all shapes of its size. Each operator is drawn by
weight among those that keep the value within the limit, so no prompt is ever rejected.

A share of the operands can be negative: the language writes `neg` after the number, as in ``12 5 neg add``.

Pairs of consecutive operations can be held out. Only splits with ``pool = "held"`` show them, as their last two
operations.
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
    check_held_out,
    check_pool,
    check_range,
    check_share,
    check_sizes,
    check_weights,
    listed,
    literal_room,
)
from cadmus_gym.tasks.family import PROMPT, Family, writer
from cadmus_gym.tasks.literals import NEG, OPERATORS, apply, count_tokens, draw_literal, is_literal, token_at
from cadmus_gym.tasks.sampling import CHOICE, OPERAND, bernoulli, categorical, is_guided, threshold

MOST_OPERATIONS = 7

# Layout of the packed parameters.
LOW, HIGH, LIMIT, POOL, NEGATIVE = range(5)
SIZES = 5  # weight of each number of operations, from 1
WEIGHTS = SIZES + MOST_OPERATIONS  # weight of each operator
HELD = WEIGHTS + len(OPERATORS)  # for each operator and each next one, whether the pair is held out
SHAPES = HELD + len(OPERATORS) ** 2  # number of ways to continue, see `_shapes`
SIDE = MOST_OPERATIONS + 2
ALLOWED = SIDE  # working room: the values on the stack while writing, then weights


@dataclass(frozen=True)
class Parameters:
    """``operands`` [lowest, highest]; the share of positive operands that are made ``negative``; weights of
    ``operators`` and of the number of ``operations``; ``limit`` on the magnitude of every intermediate value;
    ``held_out`` pairs such as "sub mul", shown only if ``pool`` is "held"."""

    operands: tuple[int, int] = (0, 99)
    operators: dict[str, int] = field(default_factory=lambda: dict.fromkeys(OPERATORS, 1))
    operations: dict[str, int] = field(default_factory=lambda: {"1": 1, "2": 1})
    limit: int = 9999
    held_out: tuple[str, ...] = ()
    pool: str = "open"
    negative: float = 0.0

    def __post_init__(self) -> None:
        check_range("operands", self.operands, -LARGEST, LARGEST)
        check_share("negative", self.negative)
        if self.negative and self.operands[0] < 0:
            raise ValueError(
                f"negative = {self.negative}: operands = {list(self.operands)} already include numbers below 0; give 0"
            )
        check_weights("operators", self.operators, OPERATORS)
        check_sizes("operations", self.operations, 1, MOST_OPERATIONS)
        largest = max(map(abs, self.operands))
        if not largest <= self.limit <= LARGEST:
            raise ValueError(f"limit = {self.limit}: give at least the largest operand, {largest}, at most {LARGEST}")
        check_pool(self.pool, self.held_out)
        pairs = [pair for pair in check_held_out(self.held_out, OPERATORS) if {*pair} <= self.operators.keys()]
        if self.pool == "held":
            self._check_held(pairs, largest)
            return
        if any(second != "mul" for _, second in pairs):
            raise ValueError(f"held_out = {list(self.held_out)}: only pairs that end in mul can be held out")
        if pairs and not {"add", "sub"} <= self.operators.keys():
            raise ValueError(f"held_out = {list(self.held_out)}: needs both operators add and sub")
        # One of x + y and x - y is no larger than the larger operand. Without both, all values must be within limits.
        reach = self._reach(max(map(int, self.operations)))
        if reach > self.limit and not {"add", "sub"} <= self.operators.keys():
            raise ValueError(
                f"limit = {self.limit}: with operators {', '.join(self.operators)} a value may reach {reach}; raise "
                "the limit to that, or give both add and sub, one of which always stays within it"
            )

    def _check_held(self, pairs: list[tuple[str, str]], largest: int) -> None:
        if not pairs:
            raise ValueError(f"operators: give weights to those of a pair of held_out = {list(self.held_out)}")
        if self.operations.keys() != {"2"}:
            raise ValueError('operations: with pool = "held" there are two operations; give { 2 = 1 }')
        apart = 2 * largest if self.negative else self.operands[1] - self.operands[0]
        firsts = {"add": 2 * largest, "sub": apart, "mul": largest**2}
        reach = max(firsts[one] * largest if other == "mul" else firsts[one] + largest for one, other in pairs)
        if reach > self.limit:
            raise ValueError(f"limit = {self.limit}: held-out pairs may reach {reach}; raise the limit to that")

    def _reach(self, operations: int) -> int:
        """Return a bound on the values of expressions of that many operations."""
        reach = [max(map(abs, self.operands))]
        for size in range(1, operations + 1):
            pairs = [(reach[k], reach[size - 1 - k]) for k in range(size)]
            sums = [x + y for x, y in pairs] if {"add", "sub"} & self.operators.keys() else []
            reach.append(max(sums + ([x * y for x, y in pairs] if "mul" in self.operators else [])))
        return reach[-1]


def _shapes() -> list[int]:
    """Return the number of ways to complete a postfix expression, by literals left and values on the stack."""
    ways = [[0] * SIDE for _ in range(SIDE)]
    for literals in range(SIDE):
        for depth in range(SIDE - literals):
            if literals == 0:
                ways[literals][depth] = int(depth > 0)
            else:
                ways[literals][depth] = ways[literals - 1][depth + 1] + (ways[literals][depth - 1] if depth > 1 else 0)
    return [count for row in ways for count in row]


def pack(parameters: Parameters) -> Ints:
    held = [f"{one} {other}" in parameters.held_out for one in OPERATORS for other in OPERATORS]
    return as_array(
        [
            *parameters.operands,
            parameters.limit,
            parameters.pool == "held",
            threshold(parameters.negative),
            *listed(parameters.operations, range(1, MOST_OPERATIONS + 1)),
            *listed(parameters.operators, OPERATORS),
            *held,
            *_shapes(),
        ]
    )


def room(parameters: Parameters) -> int:
    operations = max(map(int, parameters.operations))
    return (operations + 1) * literal_room(max(map(abs, parameters.operands))) + operations


@kernel
def allow(parameters: Ints, x: Int, y: Int, previous: Int, left: Int, work: Ints) -> None:
    """Write the weights of the operators that may be applied to x and y after the ``previous`` one to ALLOWED.

    ``left`` is the number of operations left, including this one.
    """
    for k in range(3):
        weight = parameters[WEIGHTS + k]
        held = previous >= 0 and parameters[HELD + 3 * previous + k] == 1
        if parameters[POOL] == 0:
            if held or abs(apply(op.ADD + k, x, y)) > parameters[LIMIT]:
                weight = 0
        elif left == 1:
            weight = weight if held else 0
        else:  # what begins a pair
            begins = parameters[HELD + 3 * k] + parameters[HELD + 3 * k + 1] + parameters[HELD + 3 * k + 2]
            weight = weight if begins > 0 else 0
        work[ALLOWED + k] = weight


@writer
def write(
    parameters: Ints, rng: Words64, script: Ints, program: Tokens, marks: Ints, work: Ints, machine: Ints
) -> np.uint64:
    seen = count_tokens(program, op.ADD, op.MUL) - 1 if is_guided(script) else 0
    operations = 1 + categorical(rng, script, CHOICE, parameters, SIZES, MOST_OPERATIONS, seen)
    literals = operations + 1
    depth = 0
    position = 0
    previous: Int = -1
    while literals > 0 or depth > 1:
        work[ALLOWED] = parameters[SHAPES + SIDE * (literals - 1) + depth + 1] if literals > 0 else 0
        work[ALLOWED + 1] = parameters[SHAPES + SIDE * literals + depth] - work[ALLOWED]
        seen = np.int64(not is_literal(program, position))
        if categorical(rng, script, CHOICE, work, ALLOWED, 2, seen) == 0:
            low, high = parameters[LOW], parameters[HIGH]
            work[depth], position = draw_literal(rng, script, program, position, low, high)
            if parameters[NEGATIVE] > 0 and work[depth] > 0:
                negated = token_at(program, position) == NEG
                if bernoulli(rng, script, OPERAND, parameters[NEGATIVE], negated):
                    work[depth] = -work[depth]
                    program[position] = NEG
                    position += 1
            depth += 1
            literals -= 1
            continue
        x, y = work[depth - 2], work[depth - 1]
        allow(parameters, x, y, previous, literals + depth - 1, work)
        previous = categorical(rng, script, OPERAND, work, ALLOWED, 3, token_at(program, position) - op.ADD)
        work[depth - 2] = apply(op.ADD + previous, x, y)
        program[position] = op.ADD + previous
        position += 1
        depth -= 1
    marks[PROMPT] = position
    return np.uint64(0)


ARITH = Family("arith", 3, Parameters, "value", room, write, pack, answer_within)
