"""Reading a program without running it: its header, its body, and where each jump leads."""

from __future__ import annotations

import numpy as np

from cadmus_gym.language import isa as op
from cadmus_gym.language.isa import Int, Ints, Tokens
from cadmus_gym.language.kernels import kernel
from cadmus_gym.language.memory import DIRECTIVES, JUMPS, OPENED, SIZES, VALUES, at, bit, load, store
from cadmus_gym.language.verdicts import (
    BLOCK_DEPTH,
    DIRECTIVE,
    LARGEST,
    MAX_CASES,
    MAX_DIRECTIVES,
    MAX_SIDE,
    RAN,
    SYNTAX,
    UNTERMINATED,
)


@kernel
def read_integer(program: Tokens, position: Int) -> tuple[Int, Int]:
    """Read the integer at ``position``; return (position after it, value), or -1 if missing or too large."""
    token = at(program, position)
    if not op.ZERO <= token <= op.NINE:
        return -1, 0
    value = np.int64(0)
    while op.ZERO <= token <= op.NINE:
        value = 10 * value + token - op.ZERO
        if value > LARGEST:
            return -1, 0
        position += 1
        token = at(program, position)
    if token == op.NEG:
        return position + 1, -value
    return position, value


@kernel
def read_header(program: Tokens, position: Int, work: Ints) -> tuple[Int, Int, Int]:
    """Read the header at ``position`` into ``work``; return (position of the body or -1, directives, cases)."""
    directives = 0
    cases = 0
    while True:
        kind = at(program, position)
        position += 1
        if kind == op.DO:
            return position, directives, cases
        if op.USE <= kind <= op.EXACTLY:
            if cases > 0 or directives == MAX_DIRECTIVES:
                return -1, 0, 0
            operand = at(program, position)
            if kind == op.USE or kind == op.AVOID:
                if operand < op.BODY or operand == op.OPEN or operand == op.CLOSE:
                    return -1, 0, 0
                position += 1
            else:
                position, operand = read_integer(program, position)
                if position < 0 or operand < 0:
                    return -1, 0, 0
            store(work, DIRECTIVES + 2 * directives, kind)
            store(work, DIRECTIVES + 2 * directives + 1, operand)
            directives += 1
        elif kind == op.CASE:
            if cases == MAX_CASES:
                return -1, 0, 0
            for side in range(2):
                first = VALUES + MAX_SIDE * (2 * cases + side)
                size = 0
                if op.ZERO <= at(program, position) <= op.NINE:
                    while True:
                        if size == MAX_SIDE:
                            return -1, 0, 0
                        position, value = read_integer(program, position)
                        if position < 0:
                            return -1, 0, 0
                        store(work, first + size, value)
                        size += 1
                        if at(program, position) != op.COMMA:
                            break
                        position += 1
                store(work, SIZES + 2 * cases + side, size)
                if side == 0:
                    if at(program, position) != op.TO:
                        return -1, 0, 0
                    position += 1
            cases += 1
        else:
            return -1, 0, 0


@kernel
def read_body(program: Tokens, position: Int, work: Ints) -> tuple[Int, np.uint64]:
    """Check the body at ``position`` and record in ``work`` where each control token and `(` jumps to.

    Returns the length without `end` and thoughts (-1 for a syntax error) and the set of its tokens (see `bit`).
    """
    depth = 0
    loops = 0  # the open blocks that are `times`
    function = -1
    length = 0
    present = np.uint64(0)
    while True:
        token = at(program, position)
        if token == op.END:
            return (length if depth == 0 else -1), present
        if token < op.BODY or token == op.CLOSE:
            return -1, present
        if token == op.OPEN:
            opening = position
            position += 1
            while at(program, position) != op.CLOSE:
                if at(program, position) < op.BODY or at(program, position) == op.OPEN:
                    return -1, present
                position += 1
            position += 1
            store(work, JUMPS + opening, position)
            continue
        length += 1
        present |= bit(token)
        if token == op.IF or token == op.TIMES or token == op.BEGIN or token == op.DEF:
            if depth == BLOCK_DEPTH or (token == op.DEF and (depth > 0 or function >= 0)):
                return -1, present
            if token == op.DEF:
                function = position
            elif token == op.TIMES:
                loops += 1
            store(work, OPENED + depth, position)
            depth += 1
        elif token == op.ELSE or token == op.FI or token == op.NEXT or token == op.UNTIL or token == op.RET:
            if depth == 0:
                return -1, present
            opening = load(work, OPENED + depth - 1)
            opener = at(program, opening)
            if token == op.ELSE:
                matches = opener == op.IF
            elif token == op.FI:
                matches = opener == op.IF or opener == op.ELSE
            elif token == op.NEXT:
                matches = opener == op.TIMES
            elif token == op.UNTIL:
                matches = opener == op.BEGIN
            else:
                matches = opener == op.DEF
            if not matches:
                return -1, present
            store(work, JUMPS + opening, position + 1)
            store(work, JUMPS + position, opening + 1)
            if token == op.ELSE:
                store(work, OPENED + depth - 1, position)
            else:
                depth -= 1
            if token == op.NEXT:
                loops -= 1
        elif token == op.CALL:
            if function < 0:
                return -1, present
            store(work, JUMPS + position, function + 1)
        elif token == op.INDEX and loops == 0:
            return -1, present
        position += 1


@kernel
def has_end(program: Tokens) -> bool:
    for position in range(program.size):  # noqa: SIM110 (a kernel has no generators)
        if at(program, position) == op.END:
            return True
    return False


@kernel
def prepare(program: Tokens, work: Ints) -> tuple[Int, Int, Int, Int]:
    """Read a program into ``work``; return (verdict or RAN, position of the body, directives, cases).

    The verdict is final if it is not RAN; otherwise the program has to be run."""
    # Reading stops at the first `end` or `<pad>`, so a row whose last token is neither must contain an `end`.
    if program.size == 0 or (at(program, program.size - 1) > op.END and not has_end(program)):
        return UNTERMINATED, 0, 0, 0
    body = 1 if at(program, 0) == op.BOS and program.size > 1 else 0
    directives, cases = 0, 0
    if op.CASE <= at(program, body) <= op.EXACTLY:
        body, directives, cases = read_header(program, body, work)
    length, present = np.int64(-1), np.uint64(0)
    if body >= 0:
        length, present = read_body(program, body, work)
    if length < 0:
        return (SYNTAX if has_end(program) else UNTERMINATED), 0, 0, 0
    for k in range(directives):
        kind = load(work, DIRECTIVES + 2 * k)
        operand = load(work, DIRECTIVES + 2 * k + 1)
        if (
            (kind == op.AVOID and present & bit(operand))
            or (kind == op.WITHIN and length > operand)
            or (kind == op.EXACTLY and length != operand)
        ):
            return DIRECTIVE, body, directives, cases
    return RAN, body, directives, cases
