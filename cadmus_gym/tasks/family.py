"""What a task family is, and the kernels families share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numba
import numpy as np

from cadmus_gym.compiling import caching, kernel
from cadmus_gym.isa import ID, ZERO, Int, Ints, Tokens

# The two dice: choices are drawn alike in every attempt at a program, operands anew. So a split that keeps only some
# problems keeps the shares of all kinds of programs.
CHOICE, OPERAND = 0, 1
PROMPT, LENGTH = 0, 1  # places in a writer's marks
WORK = 64  # integers of working room a writer has

COMMA, NEG = ID[","], ID["neg"]

_WRITER = numba.uint64(
    numba.int64[::1], numba.uint64[::1], numba.uint8[::1], numba.int64[::1], numba.int64[::1]
)  # (parameters, dice, program, marks, work) -> key

Writer = Callable[..., Any]


@dataclass(frozen=True)
class Family:
    """A family of true programs.

    ``write(parameters, dice, program, marks, work)`` writes a program into ``program`` (L,) uint8, sets ``marks`` to
    the length of its prompt and its own, and returns the hash of the problem, the same for all texts of one problem.
    ``pack(parameters, share, style, limit)`` makes of the parameters and of the wish for worked steps the int64 array
    it is given; ``rooms(parameters)`` are the largest lengths of a prompt and of an answer. ``version`` counts changes
    of what is written; ``styles`` are the ways to work steps, the first of which writes none.
    """

    name: str
    version: int
    parameters: type
    styles: tuple[str, ...]
    form: str
    write: Writer
    pack: Callable[[Any, float, str, int], Ints]
    rooms: Callable[[Any], tuple[int, int]]


def writer(function: Writer) -> Writer:
    """Compile a writer to a plain function pointer, so that one driver serves every family and knows none."""
    with caching():
        return cast(Writer, numba.cfunc(_WRITER, nopython=True, cache=True, error_model="numpy", _nrt=False)(function))


@kernel
def put_literal(program: Tokens, position: Int, value: Int) -> Int:
    """Write an integer at a position, behind `,` where it would run into a digit; return the position behind it."""
    if position > 0 and ZERO <= program[position - 1] < ZERO + 10:
        program[position] = COMMA
        position += 1
    rest = abs(value)
    size = 1
    while rest >= 10:
        rest //= 10
        size += 1
    rest = abs(value)
    for k in range(position + size - 1, position - 1, -1):
        program[k] = ZERO + rest % 10
        rest //= 10
    position += size
    if value < 0:
        program[position] = NEG
        position += 1
    return position


def literal_room(largest: int) -> int:
    """Tokens that an integer of at most this magnitude may take, its sign and the `,` before it included."""
    return len(str(largest)) + 2


def check_weights(name: str, weights: dict[str, int], known: tuple[str, ...]) -> None:
    """Raise ValueError unless the weights are whole numbers from 1 to a million for some of the known keys."""
    allowed = f"give at least one of {', '.join(known)} with a whole number from 1 to 1000000"
    if not weights:
        raise ValueError(f"{name} = {{}}: {allowed}")
    for key, weight in weights.items():
        if key not in known:
            raise ValueError(f"{name}: unknown {key!r}; {allowed}")
        if not 1 <= weight <= 1_000_000:
            raise ValueError(f"{name}: {key} = {weight}; {allowed}")


def check_range(name: str, bounds: tuple[int, int], least: int, most: int) -> None:
    if not least <= bounds[0] <= bounds[1] <= most:
        raise ValueError(f"{name} = {list(bounds)}: give [lowest, highest] within {least} to {most}")


def as_array(values: list[int]) -> Ints:
    return np.array(values, np.int64)
