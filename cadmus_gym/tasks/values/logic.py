"""logic: evaluate bitwise logic and comparisons, such as ``12 7 xor 3 9 lt 25 mul add``; the answer is a number.

Bitwise operations give a number. Then each of several truth values decides whether another number is added to it or
subtracted from it. A truth value comes from one comparison, or from two joined by a bitwise operation, and is about as
likely to be 1 as 0. So every comparison matters, and a policy that takes all of them to be true is seldom right.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from cadmus_gym.language import isa as op
from cadmus_gym.language.hashing import Words64
from cadmus_gym.language.isa import Int, Ints, Tokens
from cadmus_gym.language.kernels import kernel
from cadmus_gym.tasks.checks import as_array, check_range, check_share, check_sizes, check_weights, listed, literal_room
from cadmus_gym.tasks.family import PROMPT, Family, writer
from cadmus_gym.tasks.literals import count_tokens, draw_literal, literal_at, put, put_literal, token_at
from cadmus_gym.tasks.sampling import CHOICE, OPERAND, bernoulli, categorical, is_guided, threshold, uniform

BITWISE = ("and", "or", "xor")
RELATIONS = ("eq", "ne", "lt", "le", "gt", "ge")
MOST = 8

LOW, HIGH, NEGATED = range(3)
BITS = 3
TERMS = BITS + MOST
JOINED = TERMS + MOST  # from 0
BITWISE_WEIGHTS = JOINED + MOST + 1
RELATION_WEIGHTS = BITWISE_WEIGHTS + len(BITWISE)
KINDS = 0  # working room: weights of terms with one comparison and with two


@dataclass(frozen=True)
class Parameters:
    """``operands`` [lowest, highest], at least 0; weights of the number of ``bits`` (bitwise operations on numbers), of
    the number of ``terms`` (numbers multiplied by a truth value), of how many terms are ``joined`` from two
    comparisons, of ``bitwise`` operations, and of ``relations``; the share of comparisons that are ``negated``. The
    second number of eq and ne equals the first or is one more."""

    operands: tuple[int, int] = (2, 99)
    bits: dict[str, int] = field(default_factory=lambda: {"3": 1})
    terms: dict[str, int] = field(default_factory=lambda: {"4": 1})
    joined: dict[str, int] = field(default_factory=lambda: {"0": 1, "1": 1, "2": 1})
    bitwise: dict[str, int] = field(default_factory=lambda: dict.fromkeys(BITWISE, 1))
    relations: dict[str, int] = field(default_factory=lambda: dict.fromkeys(RELATIONS, 1))
    negated: float = 0.25

    def __post_init__(self) -> None:
        check_range("operands", self.operands, 0, 999_999)
        check_sizes("bits", self.bits, 1, MOST)
        check_sizes("terms", self.terms, 1, MOST)
        check_sizes("joined", self.joined, 0, MOST)
        if max(map(int, self.joined)) > min(map(int, self.terms)):
            raise ValueError(f"joined = {self.joined}: give at most the fewest terms, {min(map(int, self.terms))}")
        check_weights("bitwise", self.bitwise, BITWISE)
        check_weights("relations", self.relations, RELATIONS)
        check_share("negated", self.negated)


def pack(parameters: Parameters) -> Ints:
    return as_array(
        [
            *parameters.operands,
            threshold(parameters.negated),
            *listed(parameters.bits, range(1, MOST + 1)),
            *listed(parameters.terms, range(1, MOST + 1)),
            *listed(parameters.joined, range(MOST + 1)),
            *listed(parameters.bitwise, BITWISE),
            *listed(parameters.relations, RELATIONS),
        ]
    )


def room(parameters: Parameters) -> int:
    literal = literal_room(parameters.operands[1] + 1)
    bits, terms, joined = (max(map(int, sizes)) for sizes in (parameters.bits, parameters.terms, parameters.joined))
    comparison = 2 * literal + len(("lt", "not"))
    return (bits + 1) * literal + bits + terms * (comparison + literal + 2) + joined * (comparison + 1)


@kernel
def bitwise_token(k: Int) -> Int:
    return op.AND if k == 0 else op.OR if k == 1 else op.XOR


@kernel
def draw_bitwise(rng: Words64, script: Ints, program: Tokens, position: Int, parameters: Ints) -> Int:
    token = token_at(program, position)
    seen = 0 if token == op.AND else 1 if token == op.OR else 2 if token == op.XOR else -1
    return put(
        program, position, bitwise_token(categorical(rng, script, OPERAND, parameters, BITWISE_WEIGHTS, 3, seen))
    )


@kernel
def count_sizes(program: Tokens) -> tuple[Int, Int, Int]:
    """Count the bitwise operations on numbers, the terms, and the terms with two comparisons."""
    bits: Int = 0
    comparisons: Int = 0
    for position in range(program.size):
        token = program[position]
        if token == op.OPEN:
            break
        bits += np.int64(comparisons == 0 and (token == op.AND or token == op.OR or token == op.XOR))
        comparisons += np.int64(op.EQ <= token <= op.GE and token_at(program, position + 1) != op.END)
    terms = count_tokens(program, op.MUL, op.MUL)
    return bits, terms, comparisons - terms


@kernel
def relation_ahead(program: Tokens, position: Int) -> Int:
    """Return the index of the relation after the two literals at a position."""
    _, position = literal_at(program, position, False)
    _, position = literal_at(program, position, False)
    return token_at(program, position) - op.EQ


@kernel
def is_joined(program: Tokens, position: Int) -> bool:
    """Whether the term at a position has two comparisons."""
    _, position = literal_at(program, position, False)
    _, position = literal_at(program, position, False)
    position += 1
    if token_at(program, position) == op.NOT:
        position += 1
    _, position = literal_at(program, position, False)
    return bool(token_at(program, position) != op.MUL)


@kernel
def draw_comparison(rng: Words64, script: Ints, program: Tokens, position: Int, parameters: Ints) -> Int:
    """Write two literals, their relation, and perhaps `not`; return the position after them."""
    guided = is_guided(script)
    low, high = parameters[LOW], parameters[HIGH]
    seen = relation_ahead(program, position) if guided else 0
    relation = op.EQ + categorical(rng, script, OPERAND, parameters, RELATION_WEIGHTS, 6, seen)
    value, position = draw_literal(rng, script, program, position, low, high)
    if relation == op.EQ or relation == op.NE:
        seen = literal_at(program, position, False)[0] - value if guided else 0
        value += uniform(rng, script, OPERAND, 2, seen)
        position = put_literal(program, position, value)
    else:
        _, position = draw_literal(rng, script, program, position, low, high)
    position = put(program, position, relation)
    if bernoulli(rng, script, OPERAND, parameters[NEGATED], token_at(program, position) == op.NOT):
        position = put(program, position, op.NOT)
    return position


@writer
def write(
    parameters: Ints, rng: Words64, script: Ints, program: Tokens, marks: Ints, work: Ints, machine: Ints
) -> np.uint64:
    guided = is_guided(script)
    low, high = parameters[LOW], parameters[HIGH]
    seen_bits, seen_terms, seen_joined = count_sizes(program) if guided else (np.int64(1), np.int64(1), np.int64(0))
    bits = 1 + categorical(rng, script, CHOICE, parameters, BITS, MOST, seen_bits - 1)
    terms = 1 + categorical(rng, script, CHOICE, parameters, TERMS, MOST, seen_terms - 1)
    joined = categorical(rng, script, CHOICE, parameters, JOINED, MOST + 1, seen_joined)
    _, position = draw_literal(rng, script, program, 0, low, high)
    for _ in range(bits):
        _, position = draw_literal(rng, script, program, position, low, high)
        position = draw_bitwise(rng, script, program, position, parameters)
    for k in range(terms):
        work[KINDS], work[KINDS + 1] = terms - k - joined, joined
        seen = np.int64(is_joined(program, position)) if guided else np.int64(0)
        two = categorical(rng, script, OPERAND, work, KINDS, 2, seen)
        position = draw_comparison(rng, script, program, position, parameters)
        if two:
            joined -= 1
            position = draw_comparison(rng, script, program, position, parameters)
            position = draw_bitwise(rng, script, program, position, parameters)
        _, position = draw_literal(rng, script, program, position, low, high)
        position = put(program, position, op.MUL)
        sign = uniform(rng, script, OPERAND, 2, token_at(program, position) - op.ADD)
        position = put(program, position, op.ADD if sign == 0 else op.SUB)
    marks[PROMPT] = position
    return np.uint64(0)


LOGIC = Family("logic", 2, Parameters, "value", room, write, pack)
