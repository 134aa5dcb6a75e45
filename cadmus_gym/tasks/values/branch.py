"""branch: evaluate nested conditions, such as ``12 7 add dup 20 lt if 3 mul else 5 sub fi``; the answer is a number.

A value passes through several blocks of conditions, each nested to a given depth. Both arms of a condition compute
something. A condition compares two numbers, or the value with a number near it, and is as likely to hold as not. So a
policy that takes all conditions to be true, or all to be false, is seldom right.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from cadmus_gym.language import isa as op
from cadmus_gym.language.hashing import Words64
from cadmus_gym.language.isa import Int, Ints, Tokens
from cadmus_gym.language.kernels import kernel
from cadmus_gym.tasks.checks import (
    answer_within,
    as_array,
    check_operators,
    check_range,
    check_share,
    check_sizes,
    check_weights,
    listed,
    literal_room,
)
from cadmus_gym.tasks.family import PROMPT, Family, writer
from cadmus_gym.tasks.literals import OPERATORS, draw_literal, draw_operator, put, token_at
from cadmus_gym.tasks.sampling import CHOICE, OPERAND, bernoulli, categorical, is_guided, threshold, uniform

RELATIONS = ("lt", "le", "gt", "ge")
MOST = 4

LOW, HIGH, LIMIT, LIVE, DISTANCE = range(5)
BLOCKS = 5
DEPTHS = BLOCKS + MOST
OPERATOR_WEIGHTS = DEPTHS + MOST
RELATION_WEIGHTS = OPERATOR_WEIGHTS + len(OPERATORS)
# Working room: five cells for each open condition: the value before it, whether it holds, the depth of its second arm,
# whether that arm is being written, and the result of the first arm.
ENTRY, HOLDS, OTHER, SECOND, RESULT, FRAME = range(6)


@dataclass(frozen=True)
class Parameters:
    """``operands`` [lowest, highest], at least 0; weights of ``operators``, of the number of consecutive ``blocks``, of
    the nesting ``depths`` of a block, and of ``relations``; the share of ``live`` conditions, which compare the value
    with a number at most ``distance`` away; ``limit`` on the magnitude of every value, in both arms."""

    operands: tuple[int, int] = (2, 99)
    operators: dict[str, int] = field(default_factory=lambda: dict.fromkeys(OPERATORS, 1))
    blocks: dict[str, int] = field(default_factory=lambda: {"3": 1})
    depths: dict[str, int] = field(default_factory=lambda: {"1": 1, "2": 1})
    relations: dict[str, int] = field(default_factory=lambda: dict.fromkeys(RELATIONS, 1))
    live: float = 0.5
    distance: int = 20
    limit: int = 9999

    def __post_init__(self) -> None:
        check_range("operands", self.operands, 0, 999_999)
        check_operators(self.operators, self.operands, self.limit)
        check_sizes("blocks", self.blocks, 1, MOST)
        check_sizes("depths", self.depths, 1, MOST)
        check_weights("relations", self.relations, RELATIONS)
        check_share("live", self.live)
        if not 1 <= self.distance <= 999_999:
            raise ValueError(f"distance = {self.distance}: give a number from 1 to 999999")


def pack(parameters: Parameters) -> Ints:
    return as_array(
        [
            *parameters.operands,
            parameters.limit,
            threshold(parameters.live),
            parameters.distance,
            *listed(parameters.blocks, range(1, MOST + 1)),
            *listed(parameters.depths, range(1, MOST + 1)),
            *listed(parameters.operators, OPERATORS),
            *listed(parameters.relations, RELATIONS),
        ]
    )


def room(parameters: Parameters) -> int:
    literal = literal_room(parameters.operands[1])
    condition = literal + literal_room(parameters.limit + parameters.distance) + 1 + len(("if", "else", "fi"))
    arms = 1 << max(map(int, parameters.depths))
    block = (arms - 1) * condition + arms * (literal + 1)
    return 2 * literal + 1 + max(map(int, parameters.blocks)) * block


@kernel
def nesting(program: Tokens, position: Int) -> tuple[Int, Int]:
    """Return how deep conditions are nested up to the `else` or `fi` that closes an arm, and the position after it."""
    depth: Int = 0
    deepest: Int = 0
    while position < program.size and program[position] != 0:
        token = program[position]
        position += 1
        if token == op.IF:
            depth += 1
            deepest = max(deepest, depth)
        elif depth == 0 and (token == op.ELSE or token == op.FI):
            break
        elif token == op.FI:
            depth -= 1
    return deepest, position


@kernel
def count_blocks(program: Tokens) -> Int:
    """Count the outermost blocks of a prompt."""
    blocks: Int = 0
    depth: Int = 0
    for position in range(program.size):
        token = program[position]
        if token == op.OPEN or token == 0:
            break
        if token == op.IF:
            blocks += np.int64(depth == 0)
            depth += 1
        elif token == op.FI:
            depth -= 1
    return blocks


@kernel
def depth_of_block(program: Tokens, position: Int) -> Int:
    """Return how deep the first block at or after a position is nested."""
    depth: Int = 0
    deepest: Int = 0
    while position < program.size and program[position] != op.OPEN and program[position] != 0:
        if program[position] == op.IF:
            depth += 1
            deepest = max(deepest, depth)
        elif program[position] == op.FI:
            depth -= 1
            if depth == 0:
                break
        position += 1
    return deepest


@kernel
def holds_of(relation: Int, x: Int, y: Int) -> bool:
    if relation == op.LT:
        return bool(x < y)
    if relation == op.LE:
        return bool(x <= y)
    if relation == op.GT:
        return bool(x > y)
    return bool(x >= y)


@kernel
def draw_condition(
    rng: Words64, script: Ints, program: Tokens, position: Int, parameters: Ints, value: Int
) -> tuple[bool, Int]:
    """Write a condition and its `if`; return (whether it holds, the position after it)."""
    low, high, distance = parameters[LOW], parameters[HIGH], parameters[DISTANCE]
    if bernoulli(rng, script, OPERAND, parameters[LIVE], token_at(program, position) == op.DUP):
        x = value
        position = put(program, position, op.DUP)
        y, position = draw_literal(rng, script, program, position, value - distance, value + distance)
    else:
        x, position = draw_literal(rng, script, program, position, low, high)
        y, position = draw_literal(rng, script, program, position, low, high)
    seen = token_at(program, position) - op.LT
    relation = op.LT + categorical(rng, script, OPERAND, parameters, RELATION_WEIGHTS, 4, seen)
    position = put(program, position, relation)
    return holds_of(relation, x, y), put(program, position, op.IF)


@kernel
def write_block(
    rng: Words64, script: Ints, program: Tokens, position: Int, parameters: Ints, value: Int, work: Ints
) -> tuple[Int, Int]:
    """Write nested conditions on a value; return (the value after them, the position after them)."""
    guided = is_guided(script)
    low, high, limit = parameters[LOW], parameters[HIGH], parameters[LIMIT]
    seen = depth_of_block(program, position) - 1 if guided else np.int64(0)
    need = 1 + categorical(rng, script, CHOICE, parameters, DEPTHS, MOST, seen)
    frame: Int = 0
    while True:
        if need > 0:
            holds, position = draw_condition(rng, script, program, position, parameters, value)
            # One arm is one level less deep, the other at most that; all such pairs of depths are equally likely.
            seen = 0
            if guided:
                one, second = nesting(program, position)
                two, _ = nesting(program, second)
                seen = two if one == need - 1 else need + one
            pair = uniform(rng, script, OPERAND, 2 * need - 1, seen)
            one, two = (need - 1, pair) if pair < need else (pair - need, need - 1)
            work[frame + ENTRY], work[frame + HOLDS], work[frame + OTHER] = value, np.int64(holds), two
            work[frame + SECOND] = 0
            frame += FRAME
            need = one
            continue
        y, position = draw_literal(rng, script, program, position, low, high)
        value = draw_operator(rng, script, program, position, parameters, OPERATOR_WEIGHTS, limit, value, y, 0, work)
        position += 1
        while frame > 0 and work[frame - FRAME + SECOND] == 1:
            position = put(program, position, op.FI)
            frame -= FRAME
            if work[frame + HOLDS]:
                value = work[frame + RESULT]
        if frame == 0:
            return value, position
        position = put(program, position, op.ELSE)
        work[frame - FRAME + SECOND], work[frame - FRAME + RESULT] = 1, value
        value, need = work[frame - FRAME + ENTRY], work[frame - FRAME + OTHER]


@writer
def write(
    parameters: Ints, rng: Words64, script: Ints, program: Tokens, marks: Ints, work: Ints, machine: Ints
) -> np.uint64:
    low, high, limit = parameters[LOW], parameters[HIGH], parameters[LIMIT]
    seen = count_blocks(program) - 1 if is_guided(script) else np.int64(0)
    blocks = 1 + categorical(rng, script, CHOICE, parameters, BLOCKS, MOST, seen)
    x, position = draw_literal(rng, script, program, 0, low, high)
    y, position = draw_literal(rng, script, program, position, low, high)
    value = draw_operator(rng, script, program, position, parameters, OPERATOR_WEIGHTS, limit, x, y, 0, work)
    position += 1
    for _ in range(blocks):
        value, position = write_block(rng, script, program, position, parameters, value, work)
    marks[PROMPT] = position
    return np.uint64(0)


BRANCH = Family("branch", 2, Parameters, "value", room, write, pack, answer_within)
