"""Running a prompt once, with a record of every token: the tape that the key, worked steps and strata read."""

from __future__ import annotations

import numpy as np

from cadmus_gym.language import isa as op
from cadmus_gym.language.isa import Int, Ints, Tokens
from cadmus_gym.language.kernels import kernel
from cadmus_gym.language.machine import execute
from cadmus_gym.language.memory import STACK, at, fresh, load, store
from cadmus_gym.language.parsing import prepare
from cadmus_gym.language.verdicts import RAN, STEP_LIMIT, STEPS, SYNTAX

# Cells of a row of the tape: the token (the first digit of a literal), its position, and the depth and the two values
# on top of the stack before it. The value on top and the depth after it are cells of the next row.
TOKEN, POSITION, BEFORE, LEFT, RIGHT, ROW = range(6)
RESULT, DEPTH = ROW + RIGHT, ROW + BEFORE
TAPE = (STEPS + 1) * ROW  # cells of a tape, with the row after the last token


@kernel
def begin(program: Tokens, prompt: Int, machine: Ints) -> Int:
    """Append `end` to a prompt and prepare it to run; return RAN, or the verdict of a prompt that cannot run."""
    program[prompt] = op.END
    fresh(machine)
    outcome, body, directives, cases = prepare(program[: prompt + 1], machine)
    return SYNTAX if outcome == RAN and (body > 0 or directives > 0 or cases > 0) else outcome


@kernel
def step(program: Tokens, position: Int, depth: Int, machine: Ints) -> tuple[Int, Int, Int, Int]:
    """Run the token at a position, or all digits of a literal.

    Returns (outcome, depth, position after it, tokens executed).
    """
    limit = 1
    if op.ZERO <= at(program, position) <= op.NINE:
        while op.ZERO <= at(program, position + limit) <= op.NINE:
            limit += 1
    outcome, depth, after, steps, _ = execute(program, position, True, depth, limit, machine)
    return RAN if outcome == STEP_LIMIT else outcome, depth, after, steps


@kernel
def walk(program: Tokens, prompt: Int, tape: Ints, machine: Ints) -> tuple[Int, Int, Int]:
    """Run a prompt and write a row of ``tape`` (TAPE,) for each token, one row for a literal.

    Returns (outcome, depth of the stack at the end, number of rows).
    """
    outcome = begin(program, prompt, machine)
    depth: Int = 0
    position: Int = 0
    steps: Int = 0
    rows: Int = 0
    while outcome == RAN and at(program, position) != op.END:
        row = ROW * rows
        store(tape, row + TOKEN, at(program, position))
        store(tape, row + POSITION, position)
        store(tape, row + BEFORE, depth)
        store(tape, row + LEFT, load(machine, STACK + depth - 2))  # two cells below the stack may be read
        store(tape, row + RIGHT, load(machine, STACK + depth - 1))
        outcome, depth, position, taken = step(program, position, depth, machine)
        steps += taken
        if outcome == RAN and steps > STEPS:
            outcome = STEP_LIMIT
        rows += np.int64(outcome == RAN)
    if outcome == RAN:
        store(tape, ROW * rows + BEFORE, depth)
        store(tape, ROW * rows + RIGHT, load(machine, STACK + depth - 1))
    return outcome, depth, rows


@kernel
def solve(program: Tokens, prompt: Int, machine: Ints) -> tuple[Int, Int]:
    """Run a prompt without a tape; return (outcome, depth of the stack at the end)."""
    outcome = begin(program, prompt, machine)
    if outcome != RAN:
        return outcome, 0
    outcome, depth, _, _, _ = execute(program, 0, True, 0, STEPS, machine)
    return outcome, depth
