"""countdown: make a target from numbers, such as ``case 3 , 8 , 5 , 2 to 2 1 do``, each used at most once.

The answer is a program of `add` `sub` `mul` `swap` `rot` `drop`. None of them copies a value, so each number is used at
most once, and literals are not allowed. A reference and the numbers are drawn; the target is what the reference leaves.
Every word of it matters: none adds 0 or multiplies by 1, and no span of words can be left out. By default it is the
shortest body of its function (`cadmus_gym.tasks.synthesis.bodies`), so no function is much more common than others.

What is asked is the target and the numbers, in whatever order: that is the key. A target that is one of the numbers, or
one operation on two of them, is no problem.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from cadmus_gym.language import isa as op
from cadmus_gym.language.hashing import Words64, join
from cadmus_gym.language.isa import Int, Ints, Tokens
from cadmus_gym.language.kernels import kernel
from cadmus_gym.tasks.checks import check_range, check_sizes, check_weights, listed, literal_room
from cadmus_gym.tasks.family import PROMPT, REFERENCE, Family, writer
from cadmus_gym.tasks.literals import put, put_number
from cadmus_gym.tasks.sampling import CHOICE, OPERAND, categorical, is_guided, is_key_enough, uniform
from cadmus_gym.tasks.synthesis.bodies import (
    BEGIN,
    BOTTOM,
    DEPTH,
    FREE,
    MOST_INPUTS,
    MOST_WORDS,
    OWN,
    STATE_NOW,
    A,
    B,
    check_reference,
    draw_body,
    pack_bodies,
    put_body,
    read_given,
    words_of,
)

INSTRUCTIONS = ("drop", "swap", "rot", "add", "sub", "mul")
FEWEST = 3  # numbers
MOST_MOVES = MOST_WORDS - MOST_INPUTS + 1

LOW, HIGH, LIMIT = range(OWN, OWN + 3)
ARITIES = LIMIT + 1
MOVES = ARITIES + MOST_INPUTS - FEWEST + 1
NUMBERS = FREE  # working room: the numbers in their order, and in ascending order
SORTED = NUMBERS + MOST_INPUTS


@dataclass(frozen=True)
class Parameters:
    """``inputs`` [lowest, highest], from 1; weights of the ``arity``, how many numbers there are, and of the number of
    ``moves``: the words `swap` and `rot` of a reference; ``limit`` on the magnitude of every result; ``reference`` is
    "shortest" or "drawn"; ``instructions`` are the weights of words if it is drawn."""

    inputs: tuple[int, int] = (1, 20)
    arity: dict[str, int] = field(default_factory=lambda: {"4": 1, "5": 1})
    moves: dict[str, int] = field(default_factory=lambda: {"0": 1, "1": 2, "2": 3, "3": 2})
    limit: int = 999
    reference: str = "shortest"
    instructions: dict[str, int] = field(
        default_factory=lambda: {"drop": 1, "swap": 2, "rot": 3, "add": 2, "sub": 3, "mul": 3}
    )

    def __post_init__(self) -> None:
        check_range("inputs", self.inputs, 1, 9999)
        check_sizes("arity", self.arity, FEWEST, MOST_INPUTS)
        check_sizes("moves", self.moves, 0, MOST_MOVES)
        if not self.inputs[1] <= self.limit <= 999_999:
            raise ValueError(f"limit = {self.limit}: give at least the largest input, {self.inputs[1]}, at most 999999")
        check_reference(self.reference)
        check_weights("instructions", self.instructions, INSTRUCTIONS)
        if missing := [word for word in INSTRUCTIONS[:3] if word not in self.instructions]:
            raise ValueError(f"instructions: give {', '.join(missing)} a weight too")
        if not {*INSTRUCTIONS[3:]} & self.instructions.keys():
            raise ValueError(f"instructions: give one of {', '.join(INSTRUCTIONS[3:])} a weight")


def pack(parameters: Parameters) -> Ints:
    own = [
        *parameters.inputs,
        parameters.limit,
        *listed(parameters.arity, range(FEWEST, MOST_INPUTS + 1)),
        *listed(parameters.moves, range(MOST_MOVES + 1)),
    ]
    kinds = {(int(arity), int(arity) - 1 + int(moves)) for arity in parameters.arity for moves in parameters.moves}
    return pack_bodies(parameters.reference, parameters.instructions, own, kinds, (1, 1))


def room(parameters: Parameters) -> int:
    """Of a prompt: `case`, numbers, `to`, target and `do`."""
    return 3 + max(map(int, parameters.arity)) * literal_room(parameters.inputs[1]) + literal_room(parameters.limit)


def answer(parameters: Parameters) -> int:
    """Of a reference and its `end`."""
    return max(map(int, parameters.arity)) + max(map(int, parameters.moves))


@kernel
def is_near(arity: Int, target: Int, work: Ints) -> bool:
    """Whether the target is one of the numbers, or one operation on two of them."""
    for i in range(arity):
        x = work[NUMBERS + i]
        if x == target:
            return True
        for j in range(arity):
            y = work[NUMBERS + j]
            if i != j and (x + y == target or x - y == target or x * y == target):
                return True
    return False


@kernel
def key_of(arity: Int, target: Int, work: Ints) -> np.uint64:
    """The key of a problem: a hash of its numbers in ascending order, and of its target."""
    for i in range(arity):
        value, place = work[NUMBERS + i], i
        while place > 0 and work[SORTED + place - 1] > value:
            work[SORTED + place] = work[SORTED + place - 1]
            place -= 1
        work[SORTED + place] = value
    key = np.uint64(arity)
    for i in range(arity):
        key = join(key, np.uint64(work[SORTED + i]))
    return max(join(key, np.uint64(target)), np.uint64(1))


@writer
def write(
    parameters: Ints, rng: Words64, script: Ints, program: Tokens, marks: Ints, work: Ints, machine: Ints
) -> np.uint64:
    seen_inputs, seen_words = np.int64(0), np.int64(0)
    if is_guided(script):
        seen_inputs, seen_words = read_given(program, MOST_INPUTS, NUMBERS, work)
    arities = MOST_INPUTS - FEWEST + 1
    arity = FEWEST + categorical(rng, script, CHOICE, parameters, ARITIES, arities, seen_inputs - FEWEST)
    moves = categorical(rng, script, CHOICE, parameters, MOVES, MOST_MOVES + 1, seen_words - arity + 1)
    count = arity - 1 + moves
    marks[PROMPT], marks[REFERENCE] = 1, 1
    low, size = parameters[LOW], parameters[HIGH] - parameters[LOW] + 1
    work[BEGIN + DEPTH], work[BEGIN + A], work[BEGIN + B] = arity, 0, 0
    for k in range(arity):
        work[NUMBERS + k] = low + uniform(rng, script, OPERAND, size, work[NUMBERS + k] - low)
        work[BEGIN + BOTTOM + k] = work[NUMBERS + k]
    if not draw_body(parameters, rng, script, count, np.int64(1), np.int64(1), parameters[LIMIT], work):
        return np.uint64(0)
    target = work[STATE_NOW + BOTTOM]
    if is_near(arity, target, work):
        return np.uint64(0)
    key = key_of(arity, target, work)
    if is_key_enough(script):
        return key
    position = put(program, 0, op.CASE)
    for k in range(arity):
        if k > 0:
            position = put(program, position, op.COMMA)
        position = put_number(program, position, work[NUMBERS + k])
    position = put_number(program, put(program, position, op.TO), target)
    position = put(program, position, op.DO)
    marks[PROMPT] = position
    marks[REFERENCE] = put_body(program, position, count, work) - position
    return key


COUNTDOWN = Family(
    name="countdown",
    version=1,
    parameters=Parameters,
    form="words",
    room=room,
    write=write,
    pack=pack,
    answer=answer,
    words=lambda parameters: words_of(parameters.instructions),
)
