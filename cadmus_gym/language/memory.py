"""The working memory of the machine: the layout of the one array in which a kernel keeps its state."""

from __future__ import annotations

import numpy as np

from cadmus_gym.language import isa as op
from cadmus_gym.language.isa import Int, Ints, Tokens
from cadmus_gym.language.kernels import kernel
from cadmus_gym.language.verdicts import BLOCK_DEPTH, FRAME_ROOM, MAX_CASES, MAX_DIRECTIVES, MAX_SIDE, STACK_ROOM

# One array rather than one per purpose: an array argument takes five to seven words to pass, and for a program of ten
# tokens that was a third of the time.
STACK = 2  # preceded by two cells that an operation on too few values may read
REGISTERS = STACK + STACK_ROOM
FRAME = REGISTERS + 2  # the cell after the last frame in use
FRAMES = FRAME + 1  # two cells each: turns done and turns in total, or the position to return to
OPENED = FRAMES + 2 * FRAME_ROOM  # where the enclosing blocks begin
DIRECTIVES = OPENED + BLOCK_DEPTH  # two cells each: kind and operand
SIZES = DIRECTIVES + 2 * MAX_DIRECTIVES  # two cells each: the number of integers on each side of a case
VALUES = SIZES + 2 * MAX_CASES  # MAX_SIDE cells for each side of each case
JUMPS = VALUES + 2 * MAX_SIDE * MAX_CASES  # for each position, where its control token or `(` jumps to


def scratch(length: int) -> Ints:
    """Return working memory for programs of at most ``length`` tokens."""
    return np.zeros(JUMPS + max(length, 1), np.int64)


@kernel
def bit(token: Int) -> np.uint64:
    """The bit of a body token in a set of tokens; there are 55, so a set fits in one uint64."""
    return np.uint64(1) << np.uint64(token - op.BODY)


@kernel
def at(program: Tokens, position: Int) -> Int:
    """The token at a position. The index is unsigned, which saves Numba the check for a negative one."""
    return np.int64(program[np.uint64(position)])


@kernel
def load(work: Ints, cell: Int) -> Int:
    return work[np.uint64(cell)]


@kernel
def store(work: Ints, cell: Int, value: Int) -> None:
    work[np.uint64(cell)] = value


@kernel
def fresh(work: Ints) -> None:
    """Reset registers and frames for a new run."""
    store(work, REGISTERS, 0)
    store(work, REGISTERS + 1, 0)
    store(work, FRAME, FRAMES)
