"""Running a prompt once, and keeping what each of its tokens did: the key, worked steps and strata all read
that tape."""

from __future__ import annotations

import numpy as np

from cadmus_gym.language import isa as op
from cadmus_gym.language.isa import Int, Ints, Tokens
from cadmus_gym.language.kernels import kernel
from cadmus_gym.language.machine import execute
from cadmus_gym.language.memory import STACK, fresh, load, store
from cadmus_gym.language.parsing import prepare
from cadmus_gym.language.verdicts import RAN, STEP_LIMIT, STEPS, SYNTAX

# The cells of a row of the tape: the token (of a literal its first digit), the two values on top before it, the one on
# top after it, how many there are then, and the token's position.
TOKEN, LEFT, RIGHT, RESULT, DEPTH, POSITION, ROW = range(7)
TAPE = STEPS * ROW  # integers of room that a tape takes


@kernel
def begin(program: Tokens, prompt: Int, machine: Ints) -> Int:
    """Close a prompt with `end` and prepare it to run; return RAN, or the verdict it has without a run."""
    program[prompt] = op.END
    fresh(machine)
    outcome, body, directives, cases = prepare(program[: prompt + 1], machine)
    return SYNTAX if outcome == RAN and (body > 0 or directives > 0 or cases > 0) else outcome


@kernel
def step(program: Tokens, position: Int, depth: Int, machine: Ints) -> tuple[Int, Int, Int, Int]:
    """Run the token at a position, of a literal all digits.

    Returns (outcome, depth, the position after it, tokens executed).
    """
    limit = 1
    if op.ZERO <= program[position] <= op.NINE:
        while op.ZERO <= program[position + limit] <= op.NINE:
            limit += 1
    outcome, depth, after, steps, _ = execute(program, position, True, depth, limit, machine)
    return RAN if outcome == STEP_LIMIT else outcome, depth, after, steps


@kernel
def walk(program: Tokens, prompt: Int, tape: Ints, machine: Ints) -> tuple[Int, Int, Int]:
    """Run a prompt, and write a row of the tape for each token (for a literal, one row).

    Returns (outcome, depth of the stack it left, rows).
    """
    outcome = begin(program, prompt, machine)
    depth: Int = 0
    position: Int = 0
    steps: Int = 0
    rows: Int = 0
    while outcome == RAN and program[position] != op.END:
        row = ROW * rows
        store(tape, row + TOKEN, np.int64(program[position]))
        store(tape, row + POSITION, position)
        store(tape, row + LEFT, load(machine, STACK + depth - 2))  # below the stack are two cells that may be read
        store(tape, row + RIGHT, load(machine, STACK + depth - 1))
        outcome, depth, position, taken = step(program, position, depth, machine)
        steps += taken
        if outcome == RAN and steps > STEPS:
            outcome = STEP_LIMIT
        if outcome == RAN:
            store(tape, row + DEPTH, depth)
            store(tape, row + RESULT, load(machine, STACK + depth - 1))
            rows += 1
    return outcome, depth, rows


@kernel
def solve(program: Tokens, prompt: Int, machine: Ints) -> tuple[Int, Int]:
    """Run a prompt without a tape: return (outcome, depth of the stack it left)."""
    outcome = begin(program, prompt, machine)
    if outcome != RAN:
        return outcome, 0
    outcome, depth, _, _, _ = execute(program, 0, True, 0, STEPS, machine)
    return outcome, depth
