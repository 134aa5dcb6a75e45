"""register: evaluate a program with two registers, such as ``12 a! 7 a@ add b! a@ b@ mul``; the answer is a number.

Each operation works on the register set last, together with a literal, the other register, or the same register again.
So every operation matters for the answer. At least one works on both registers, so one register is not enough. An
operation does not return the last literal, unless every operator would.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from cadmus_gym.language import isa as op
from cadmus_gym.language.hashing import Words64
from cadmus_gym.language.isa import Ints, Tokens
from cadmus_gym.tasks.checks import (
    answer_within,
    as_array,
    check_operators,
    check_range,
    check_sizes,
    check_weights,
    listed,
    literal_room,
)
from cadmus_gym.tasks.family import PROMPT, Family, writer
from cadmus_gym.tasks.literals import OPERATORS, count_tokens, draw_literal, draw_operator, is_literal, put, token_at
from cadmus_gym.tasks.sampling import CHOICE, OPERAND, categorical, is_guided, uniform

PARTNERS = ("literal", "other", "same")
MOST = 8
SET, GET = op.SET_A, op.GET_A  # of register a; those of register b are 2 higher

LOW, HIGH, LIMIT = range(3)
SIZES = 3
OPERATOR_WEIGHTS = SIZES + MOST
PARTNER_WEIGHTS = OPERATOR_WEIGHTS + len(OPERATORS)
ALLOWED, VALUES = 0, 3  # working room: weights of partners, values of the registers


@dataclass(frozen=True)
class Parameters:
    """``operands`` [lowest, highest], at least 0; weights of ``operators``, of the number of ``operations``, at least
    2, and of ``partners``, the other operand of an operation; ``limit`` on the magnitude of every value."""

    operands: tuple[int, int] = (2, 99)
    operators: dict[str, int] = field(default_factory=lambda: dict.fromkeys(OPERATORS, 1))
    operations: dict[str, int] = field(default_factory=lambda: {"2": 1, "3": 1})
    partners: dict[str, int] = field(default_factory=lambda: {"literal": 2, "other": 2, "same": 1})
    limit: int = 9999

    def __post_init__(self) -> None:
        check_range("operands", self.operands, 0, 999_999)
        check_operators(self.operators, self.operands, self.limit)
        check_sizes("operations", self.operations, 2, MOST)
        check_weights("partners", self.partners, PARTNERS)
        if not {"literal", "other"} <= self.partners.keys():
            raise ValueError(
                "partners: literal is needed until both registers are set, and other in every prompt; give both weights"
            )


def pack(parameters: Parameters) -> Ints:
    return as_array(
        [
            *parameters.operands,
            parameters.limit,
            *listed(parameters.operations, range(1, MOST + 1)),
            *listed(parameters.operators, OPERATORS),
            *listed(parameters.partners, PARTNERS),
        ]
    )


def room(parameters: Parameters) -> int:
    literal = literal_room(parameters.operands[1])
    return literal + 1 + max(map(int, parameters.operations)) * (literal + 3)


@writer
def write(
    parameters: Ints, rng: Words64, script: Ints, program: Tokens, marks: Ints, work: Ints, machine: Ints
) -> np.uint64:
    guided = is_guided(script)
    low, high = parameters[LOW], parameters[HIGH]
    seen = count_tokens(program, op.ADD, op.MUL) - 1 if guided else 0
    operations = 1 + categorical(rng, script, CHOICE, parameters, SIZES, MOST, seen)
    value, position = draw_literal(rng, script, program, 0, low, high)
    register = uniform(rng, script, OPERAND, 2, (token_at(program, position) - SET) // 2)
    position = put(program, position, SET + 2 * register)
    work[VALUES + register] = value
    both = False
    literal = value  # the last one
    joined = False  # whether an operation worked on both
    for k in range(operations):
        get = GET + 2 * register
        other_get = GET + 2 * (1 - register)
        # When guided: what the program has here, the register and its partner in either order.
        seen = 0
        first = True
        if guided:
            one, two = token_at(program, position), token_at(program, position + 1)
            first = one == get
            if is_literal(program, position):
                seen = 0
            elif first and two == get:
                seen = 2
            elif two == get or two == other_get:
                seen = 1
        for partner in range(3):
            work[ALLOWED + partner] = parameters[PARTNER_WEIGHTS + partner]
        if not both:
            work[ALLOWED + 1] = 0
        if 2 * abs(work[VALUES + register]) > parameters[LIMIT]:  # only x - x, which is 0, would be allowed
            work[ALLOWED + 2] = 0
        if k == operations - 1 and not joined:
            work[ALLOWED], work[ALLOWED + 2] = 0, 0
        partner = categorical(rng, script, OPERAND, work, ALLOWED, 3, seen)
        other = work[VALUES + register]
        forward = True
        if partner != 2:
            forward = uniform(rng, script, OPERAND, 2, np.int64(first)) == 1
        if forward:
            position = put(program, position, get)
        if partner == 0:
            other, position = draw_literal(rng, script, program, position, low, high)
            literal = other
        elif partner == 1:
            other = work[VALUES + 1 - register]
            joined = True
            position = put(program, position, other_get)
        else:
            position = put(program, position, get)
        if not forward:
            position = put(program, position, get)
        x, y = (work[VALUES + register], other) if forward else (other, work[VALUES + register])
        limit = parameters[LIMIT]
        value = draw_operator(rng, script, program, position, parameters, OPERATOR_WEIGHTS, limit, x, y, literal, work)
        position += 1
        if k < operations - 1:
            target = 1 - register
            if both or k < operations - 2:
                target = uniform(rng, script, OPERAND, 2, (token_at(program, position) - SET) // 2)
            position = put(program, position, SET + 2 * target)
            both = both or target != register
            register = target
            work[VALUES + register] = value
    marks[PROMPT] = position
    return np.uint64(0)


REGISTER = Family("register", 2, Parameters, "value", room, write, pack, answer_within)
