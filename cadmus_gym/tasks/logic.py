"""logic: bitwise logic and comparisons of integers, such as ``12 7 xor 3 9 lt inc 25 mul add``; the answer is a number.

A number comes from bitwise operations, a truth value from comparisons joined by the same operations; the truth value
decides whether a further number is added, or taken away, once or twice.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from cadmus_gym.compiling import kernel
from cadmus_gym.isa import Int, Ints, Tokens
from cadmus_gym.machine import ADD, AND, EQ, GE, INC, MUL, NE, NOT, OR, SUB, XOR
from cadmus_gym.sampling import CHOICE, OPERAND, Words64, happens, is_guided, threshold, uniform, weighted
from cadmus_gym.tasks.family import (
    PROMPT,
    Family,
    as_array,
    check_range,
    check_sizes,
    check_weights,
    draw_literal,
    listed,
    literal_at,
    literal_room,
    put,
    put_literal,
    token_at,
    writer,
)

BITWISE = ("and", "or", "xor")
RELATIONS = ("eq", "ne", "lt", "le", "gt", "ge")
MOST = 8

LOW, HIGH, NEGATED = range(3)
BITS = 3
COMPARISONS = BITS + MOST
BITWISE_WEIGHTS = COMPARISONS + MOST
RELATION_WEIGHTS = BITWISE_WEIGHTS + len(BITWISE)


@dataclass(frozen=True)
class Parameters:
    """``operands`` [lowest, highest], at least 0; weights of the number of ``bits`` (bitwise operations on numbers), of
    the number of ``comparisons``, of ``bitwise`` operations and of ``relations``; the share ``negated`` of truth
    values. For eq and ne the second number is the first or one more."""

    operands: tuple[int, int] = (2, 99)
    bits: dict[str, int] = field(default_factory=lambda: {"1": 1, "2": 1})
    comparisons: dict[str, int] = field(default_factory=lambda: {"1": 1, "2": 1})
    bitwise: dict[str, int] = field(default_factory=lambda: dict.fromkeys(BITWISE, 1))
    relations: dict[str, int] = field(default_factory=lambda: dict.fromkeys(RELATIONS, 1))
    negated: float = 0.25

    def __post_init__(self) -> None:
        check_range("operands", self.operands, 0, 999_999)
        check_sizes("bits", self.bits, 1, MOST)
        check_sizes("comparisons", self.comparisons, 1, MOST)
        check_weights("bitwise", self.bitwise, BITWISE)
        check_weights("relations", self.relations, RELATIONS)
        if not 0 <= self.negated <= 1:
            raise ValueError(f"negated = {self.negated}: give a share from 0 to 1")


def pack(parameters: Parameters) -> Ints:
    return as_array(
        [
            *parameters.operands,
            threshold(parameters.negated),
            *listed(parameters.bits, range(1, MOST + 1)),
            *listed(parameters.comparisons, range(1, MOST + 1)),
            *listed(parameters.bitwise, BITWISE),
            *listed(parameters.relations, RELATIONS),
        ]
    )


def room(parameters: Parameters) -> int:
    literal = literal_room(parameters.operands[1] + 1)
    bits, comparisons = max(map(int, parameters.bits)), max(map(int, parameters.comparisons))
    return (bits + 2) * literal + bits + comparisons * (2 * literal + 3) + 3


@kernel
def bitwise_token(k: Int) -> Int:
    return AND if k == 0 else OR if k == 1 else XOR


@kernel
def draw_bitwise(dice: Words64, script: Ints, program: Tokens, position: Int, parameters: Ints) -> Int:
    token = token_at(program, position)
    seen = 0 if token == AND else 1 if token == OR else 2 if token == XOR else -1
    return put(program, position, bitwise_token(weighted(dice, script, OPERAND, parameters, BITWISE_WEIGHTS, 3, seen)))


@kernel
def count_sizes(program: Tokens) -> tuple[Int, Int]:
    """How many bitwise operations on numbers, and how many comparisons, a program's prompt has."""
    bits: Int = 0
    comparisons: Int = 0
    for position in range(program.size):
        token = program[position]
        if token == MUL:
            break
        bits += np.int64(comparisons == 0 and AND <= token <= XOR)
        comparisons += np.int64(EQ <= token <= GE)
    return bits, comparisons


@kernel
def relation_ahead(program: Tokens, position: Int) -> Int:
    """The relation behind the two literals at a position."""
    _, position = literal_at(program, position, False)
    _, position = literal_at(program, position, False)
    return token_at(program, position) - EQ


@writer
def write(
    parameters: Ints, dice: Words64, script: Ints, program: Tokens, marks: Ints, work: Ints, machine: Ints
) -> np.uint64:
    guided = is_guided(script)
    low, high = parameters[LOW], parameters[HIGH]
    seen_bits, seen_comparisons = count_sizes(program) if guided else (np.int64(1), np.int64(1))
    bits = 1 + weighted(dice, script, CHOICE, parameters, BITS, MOST, seen_bits - 1)
    comparisons = 1 + weighted(dice, script, CHOICE, parameters, COMPARISONS, MOST, seen_comparisons - 1)
    _, position = draw_literal(dice, script, program, 0, low, high)
    for _ in range(bits):
        _, position = draw_literal(dice, script, program, position, low, high)
        position = draw_bitwise(dice, script, program, position, parameters)
    for k in range(comparisons):
        seen = relation_ahead(program, position) if guided else 0
        relation = EQ + weighted(dice, script, OPERAND, parameters, RELATION_WEIGHTS, 6, seen)
        value, position = draw_literal(dice, script, program, position, low, high)
        if relation == EQ or relation == NE:
            seen = literal_at(program, position, False)[0] - value if guided else 0
            value += uniform(dice, script, OPERAND, 2, seen)
            position = put_literal(program, position, value)
        else:
            _, position = draw_literal(dice, script, program, position, low, high)
        position = put(program, position, relation)
        if happens(dice, script, OPERAND, parameters[NEGATED], token_at(program, position) == NOT):
            position = put(program, position, NOT)
        if k > 0:
            position = draw_bitwise(dice, script, program, position, parameters)
    position = put(program, position, INC)  # so that the number is never the answer
    _, position = draw_literal(dice, script, program, position, low, high)
    position = put(program, position, MUL)
    sign = uniform(dice, script, OPERAND, 2, token_at(program, position) - ADD)
    position = put(program, position, ADD if sign == 0 else SUB)
    marks[PROMPT] = position
    return np.uint64(0)


LOGIC = Family("logic", 1, Parameters, "value", room, write, pack)
