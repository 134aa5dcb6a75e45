"""Kernels that write literals, operators and tokens into a program, and read them from one."""

from __future__ import annotations

import numpy as np

from cadmus_gym.language import isa as op
from cadmus_gym.language.hashing import Words64
from cadmus_gym.language.isa import ID, Int, Ints, Tokens
from cadmus_gym.language.kernels import kernel
from cadmus_gym.language.verdicts import LARGEST
from cadmus_gym.tasks.sampling import INPUT, OPERAND, categorical, is_guided, uniform

OPERATORS = ("add", "sub", "mul")
COMMA, NEG = ID[","], ID["neg"]


@kernel
def is_digit(program: Tokens, position: Int) -> bool:
    return bool(0 <= position < program.size and op.ZERO <= program[position] < op.ZERO + 10)


@kernel
def is_literal(program: Tokens, position: Int) -> bool:
    """Whether an integer, or the `,` before one, is at a position."""
    return bool(is_digit(program, position) or (position < program.size and program[position] == COMMA))


@kernel
def literal_at(program: Tokens, position: Int, signed: bool) -> tuple[Int, Int]:
    """Read the integer at a position, after an optional `,`: (value, position after it).

    The value is above LARGEST if there is none. With ``signed``, a `neg` after the digits is its sign.
    """
    if position < program.size and program[position] == COMMA:
        position += 1
    if not is_digit(program, position):
        return LARGEST + 1, position
    value = np.int64(0)
    while is_digit(program, position):
        if value <= LARGEST:
            value = 10 * value + np.int64(program[position]) - op.ZERO
        position += 1
    if signed and position < program.size and program[position] == NEG:
        return -value, position + 1
    return value, position


@kernel
def token_at(program: Tokens, position: Int) -> Int:
    return np.int64(program[position]) if position < program.size else np.int64(0)


@kernel
def body_at(program: Tokens) -> Int:
    """Return where the body of a program with a header begins, after `do` and any thoughts."""
    position: Int = 0
    while position < program.size and program[position] != op.DO:
        position += 1
    position += 1
    while token_at(program, position) == op.OPEN:
        while position < program.size and program[position] != op.CLOSE:
            position += 1
        position += 1
    return position


@kernel
def count_tokens(program: Tokens, first: Int, last: Int) -> Int:
    """Count the tokens in [first, last] before a program's thought."""
    count: Int = 0
    for position in range(program.size):
        if program[position] == op.OPEN or program[position] == 0:
            break
        count += np.int64(first <= program[position] <= last)
    return count


@kernel
def draw_literal(rng: Words64, script: Ints, program: Tokens, position: Int, low: Int, high: Int) -> tuple[Int, Int]:
    """Draw an integer uniform in [low, high] and write it; return (value, position after it)."""
    seen: Int = 0
    if is_guided(script):
        seen = literal_at(program, position, low < 0)[0] - low
    value = low + uniform(rng, script, OPERAND, high - low + 1, seen)
    return value, put_literal(program, position, value)


@kernel
def put_literal(program: Tokens, position: Int, value: Int) -> Int:
    """Write an integer, after a `,` if it would run into a digit; return the position after it."""
    if position > 0 and op.ZERO <= program[position - 1] < op.ZERO + 10:
        program[position] = COMMA
        position += 1
    return put_number(program, position, value)


@kernel
def put_number(program: Tokens, position: Int, value: Int) -> Int:
    """Write an integer, as a header spells it; return the position after it."""
    rest = abs(value)
    size = 1
    while rest >= 10:
        rest //= 10
        size += 1
    rest = abs(value)
    for k in range(position + size - 1, position - 1, -1):
        program[k] = op.ZERO + rest % 10
        rest //= 10
    position += size
    if value < 0:
        program[position] = NEG
        position += 1
    return position


@kernel
def apply(operator: Int, x: Int, y: Int) -> Int:
    return x + y if operator == op.ADD else x * y if operator == op.MUL else x - y


@kernel
def draw_operator(
    rng: Words64,
    script: Ints,
    program: Tokens,
    position: Int,
    parameters: Ints,
    weights: Int,
    limit: Int,
    x: Int,
    y: Int,
    avoided: Int,
    work: Ints,
) -> Int:
    """Draw add, sub or mul, write it, and return the value of applying it to x and y.

    It is drawn by weight among the operators whose value is within the limit, preferring values that are neither 0 nor
    plus or minus ``avoided``. Uses the last three cells of ``work``.
    """
    room = work.size - 3
    total = np.int64(0)
    for anything in range(2):
        for k in range(3):
            value = apply(op.ADD + k, x, y)
            allowed = abs(value) <= limit and ((value != 0 and abs(value) != avoided) or anything == 1)
            work[room + k] = parameters[weights + k] if allowed else 0
            total += work[room + k]
        if total > 0:
            break
    operator = op.ADD + categorical(rng, script, OPERAND, work, room, 3, token_at(program, position) - op.ADD)
    program[position] = operator
    return apply(operator, x, y)


@kernel
def put(program: Tokens, position: Int, token: Int) -> Int:
    """Write a token; return the position after it."""
    program[position] = token
    return position + 1


@kernel
def may_cut(program: Tokens, first: Int, cut: Int) -> bool:
    """Whether a prompt may end before a position of its body, which begins at ``first``: not after a digit."""
    return bool(cut == first or not op.ZERO <= program[cut - 1] <= op.NINE)


@kernel
def draw_cut(rng: Words64, script: Ints, program: Tokens, first: Int, last: Int) -> Int:
    """Draw how much of a body the prompt gives: at least one token and all but two, if it may end there."""
    places: Int = 0
    for cut in range(first + 1, last - 1):
        places += np.int64(may_cut(program, first, cut))
    if places == 0:
        return first
    left = uniform(rng, script, INPUT, places, 0)
    cut = first
    while left >= 0:
        cut += 1
        left -= np.int64(may_cut(program, first, cut))
    return cut
