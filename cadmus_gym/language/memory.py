"""The working memory of the machine: one array, in which a kernel keeps all that it needs for a program."""

from __future__ import annotations

import numpy as np

from cadmus_gym.language import isa as op
from cadmus_gym.language.isa import Int, Ints, Tokens
from cadmus_gym.language.kernels import kernel
from cadmus_gym.language.verdicts import BLOCK_DEPTH, FRAME_ROOM, MAX_CASES, MAX_DIRECTIVES, MAX_SIDE, STACK_ROOM

# Layout of a kernel's working room. One array instead of one for each purpose: arguments are passed and kept five to
# seven words an array, which for a program of ten tokens was a third of the time.
STACK = 2  # before it two cells that a binary operation on too few values may read
REGISTERS = STACK + STACK_ROOM
FRAME = REGISTERS + 2  # behind the last frame in use
FRAMES = FRAME + 1  # of two cells: turns done and turns in all, or where to return to
OPENED = FRAMES + 2 * FRAME_ROOM  # where the blocks around a place begin
DIRECTIVES = OPENED + BLOCK_DEPTH  # of two cells: kind and operand
SIZES = DIRECTIVES + 2 * MAX_DIRECTIVES  # of two cells: integers on each side of a case
VALUES = SIZES + 2 * MAX_CASES  # for each case and side
JUMPS = VALUES + 2 * MAX_SIDE * MAX_CASES  # for each position, where its control token or `(` leads


def scratch(length: int) -> Ints:
    """Return the working room of a kernel for programs of at most ``length`` tokens."""
    return np.zeros(JUMPS + max(length, 1), np.int64)


@kernel
def bit(token: Int) -> np.uint64:
    """The bit that stands for a token of a body in a set of tokens: there are 55, so a set is one uint64."""
    return np.uint64(1) << np.uint64(token - op.BODY)


@kernel
def at(program: Tokens, position: Int) -> Int:
    """The token at a position, unsigned for the index: Numba would look whether a signed one counts from the end."""
    return np.int64(program[np.uint64(position)])


@kernel
def load(work: Ints, cell: Int) -> Int:
    return work[np.uint64(cell)]


@kernel
def store(work: Ints, cell: Int, value: Int) -> None:
    work[np.uint64(cell)] = value


@kernel
def fresh(work: Ints) -> None:
    """Set registers and frames to what they are before the first token."""
    store(work, REGISTERS, 0)
    store(work, REGISTERS + 1, 0)
    store(work, FRAME, FRAMES)
