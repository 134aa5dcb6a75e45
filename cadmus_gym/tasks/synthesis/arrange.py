"""arrange: bring values into an order, such as ``case 7 , 2 , 9 to 9 , 7 , 9 do``; some come twice, some not at all.

The answer is a program of stack words and registers. Values are distinct and literals are not allowed, so it has to
move what is there. A reference is the shortest body that leaves the arrangement, or one drawn word by word in which
every word matters (`cadmus_gym.tasks.synthesis.bodies`).

What is asked is the arrangement: which input stands where, without the values that stay where they are below all
others. That is its key, so neither an unseen arrangement nor its body is in train, on any number of inputs.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cadmus_gym.language import isa as op
from cadmus_gym.language.hashing import Words64, join
from cadmus_gym.language.isa import ID, Int, Ints, Tokens
from cadmus_gym.language.kernels import kernel
from cadmus_gym.language.memory import SIZES, scratch
from cadmus_gym.language.memory import VALUES as VALUES_SHOWN
from cadmus_gym.language.notation import disassemble
from cadmus_gym.language.parsing import prepare
from cadmus_gym.language.verdicts import MAX_SIDE, RAN
from cadmus_gym.tasks.checks import check_range, check_sizes, check_weights, listed, literal_room
from cadmus_gym.tasks.family import PROMPT, REFERENCE, Family, writer
from cadmus_gym.tasks.literals import put, put_number
from cadmus_gym.tasks.sampling import CHOICE, INPUT, categorical, is_guided, is_key_enough, uniform
from cadmus_gym.tasks.synthesis.bodies import (
    BEGIN,
    BODY,
    BOTTOM,
    DEPTH,
    DRAWN_WORDS,
    FREE,
    MOST_INPUTS,
    MOST_WORDS,
    OWN,
    SECTIONS,
    STATE,
    STATE_NOW,
    WORDS,
    A,
    B,
    check_reference,
    draw_body,
    pack_bodies,
    put_body,
    read_given,
    run_body,
    words_of,
)
from cadmus_gym.tasks.synthesis.space import Posterior

INSTRUCTIONS = WORDS[: WORDS.index("add")]
FEWEST = 2  # inputs

LOW, HIGH, LEAST, MOST = range(OWN, OWN + 4)
ARITIES = MOST + 1
MOVES = ARITIES + MOST_INPUTS - FEWEST + 1
VALUES = FREE  # working room: the inputs


@dataclass(frozen=True)
class Parameters:
    """``inputs`` [lowest, highest], from 1; weights of the ``arity``, the number of inputs, of the number of ``moves``,
    the words of a reference, and of ``instructions``; the least and most ``outputs``; ``reference`` is "shortest" or
    "drawn". The shortest ones are drawn uniformly, whatever the weights of their words."""

    inputs: tuple[int, int] = (1, 99)
    arity: dict[str, int] = field(default_factory=lambda: {"3": 1, "4": 1, "5": 1})
    moves: dict[str, int] = field(default_factory=lambda: {"3": 1, "4": 2, "5": 3, "6": 4})
    instructions: dict[str, int] = field(
        default_factory=lambda: {
            **{"dup": 2, "drop": 2, "swap": 3, "over": 3, "rot": 4},
            **{"a!": 2, "a@": 3, "b!": 1, "b@": 2},
        }
    )
    outputs: tuple[int, int] = (1, 6)
    reference: str = "shortest"

    def __post_init__(self) -> None:
        check_range("inputs", self.inputs, 1, 999_999)
        check_sizes("arity", self.arity, FEWEST, MOST_INPUTS)
        if self.inputs[1] - self.inputs[0] + 1 < max(map(int, self.arity)):
            raise ValueError(
                f"inputs = {list(self.inputs)}: give at least as many as arity has, {max(map(int, self.arity))}, since "
                "all are different"
            )
        check_sizes("moves", self.moves, 1, MOST_WORDS)
        check_weights("instructions", self.instructions, INSTRUCTIONS)
        check_range("outputs", self.outputs, 1, MAX_SIDE)
        check_reference(self.reference)


def pack(parameters: Parameters) -> Ints:
    own = [
        *parameters.inputs,
        *parameters.outputs,
        *listed(parameters.arity, range(FEWEST, MOST_INPUTS + 1)),
        *listed(parameters.moves, range(1, MOST_WORDS + 1)),
    ]
    kinds = {(int(arity), int(moves)) for arity in parameters.arity for moves in parameters.moves}
    return pack_bodies(parameters.reference, parameters.instructions, own, kinds, parameters.outputs)


def room(parameters: Parameters) -> int:
    """Of a prompt: `case`, inputs, `to`, outputs and `do`."""
    values = max(map(int, parameters.arity)) + parameters.outputs[1]
    return 3 + values * literal_room(parameters.inputs[1])


@kernel
def begin(arity: Int, cells: Ints) -> None:
    """Load the inputs 1, 2, 3 ..., the lowest first."""
    cells[DEPTH], cells[A], cells[B] = arity, 0, 0
    for k in range(arity):
        cells[BOTTOM + k] = k + 1


@kernel
def key_of(arity: Int, cells: Ints) -> np.uint64:
    """The key of the arrangement of inputs 1, 2, 3 ... in a state: a hash of it, without the inputs that stay where
    they are at the bottom and stand nowhere else. It is 0 if these are all inputs, and nothing else is there."""
    depth = cells[DEPTH]
    below: Int = 0
    while below < min(arity, depth) and cells[BOTTOM + below] == below + 1:
        below += 1
    for k in range(depth - 1, -1, -1):  # the inputs from one that stands elsewhere, too, count
        if k >= below:
            below = min(below, cells[BOTTOM + k] - 1)
    if below == arity and below == depth:
        return np.uint64(0)
    key = np.uint64(arity - below)
    for k in range(below, depth):
        key = join(key, np.uint64(cells[BOTTOM + k] - below))
    return max(join(key, np.uint64(depth - below)), np.uint64(1))


@kernel
def draw_values(parameters: Ints, rng: Words64, script: Ints, arity: Int, work: Ints) -> None:
    """Draw the inputs, all different; ``work`` has those of a given program in their places."""
    low, size = parameters[LOW], parameters[HIGH] - parameters[LOW] + 1
    for k in range(arity):
        seen = work[VALUES + k] - low
        if is_guided(script):
            smaller: Int = 0
            for j in range(k):
                smaller += np.int64(work[VALUES + j] < work[VALUES + k])
                if work[VALUES + j] == work[VALUES + k]:
                    seen = np.int64(-1)
            seen -= smaller
        rest = uniform(rng, script, INPUT, size - k, seen)
        value, taken = low + rest, np.int64(-1)
        while taken != value:  # pass over the values that are taken already
            taken = value
            value = low + rest
            for j in range(k):
                value += np.int64(work[VALUES + j] <= taken)
        work[VALUES + k] = value


@writer
def write(
    parameters: Ints, rng: Words64, script: Ints, program: Tokens, marks: Ints, work: Ints, machine: Ints
) -> np.uint64:
    seen_inputs, seen_words = np.int64(0), np.int64(0)
    if is_guided(script):
        seen_inputs, seen_words = read_given(program, MOST_INPUTS, VALUES, work)
    arities = MOST_INPUTS - FEWEST + 1
    arity = FEWEST + categorical(rng, script, CHOICE, parameters, ARITIES, arities, seen_inputs - FEWEST)
    count = 1 + categorical(rng, script, CHOICE, parameters, MOVES, MOST_WORDS, seen_words - 1)
    marks[PROMPT], marks[REFERENCE] = 1, 1
    begin(arity, work[BEGIN : BEGIN + STATE])
    least, most = parameters[LEAST], parameters[MOST]
    if not draw_body(parameters, rng, script, count, least, most, np.int64(-1), work):
        return np.uint64(0)
    now = work[STATE_NOW : STATE_NOW + STATE]
    key = key_of(arity, now)
    if is_key_enough(script):
        return key
    draw_values(parameters, rng, script, arity, work)
    position = put(program, 0, op.CASE)
    for k in range(arity):
        if k > 0:
            position = put(program, position, op.COMMA)
        position = put_number(program, position, work[VALUES + k])
    position = put(program, position, op.TO)
    for k in range(now[DEPTH]):
        if k > 0:
            position = put(program, position, op.COMMA)
        position = put_number(program, position, work[VALUES + now[BOTTOM + k] - 1])
    position = put(program, position, op.DO)
    marks[PROMPT] = position
    marks[REFERENCE] = put_body(program, position, count, work) - position
    return key


@kernel
def find_keys(codes: Ints, count: Int, arity: Int, work: Ints, keys: Words64, places: Ints) -> None:
    """Find the keys of the arrangements that bodies (N,) leave, and where the inputs stand, (N, MAX_SIDE)."""
    now = work[STATE_NOW : STATE_NOW + STATE]
    for row in range(codes.size):
        for k in range(count):
            work[BODY + k] = codes[row] >> 4 * (count - 1 - k) & 15
        begin(arity, work[BEGIN : BEGIN + STATE])
        run_body(work[BODY:], count, np.int64(0), np.int64(0), np.int64(-1), work[BEGIN : BEGIN + STATE], now)
        keys[row] = key_of(arity, now)
        for k in range(now[DEPTH]):
            places[row, k] = now[BOTTOM + k]


class Space:
    """All shortest bodies of packed parameters. Raises ValueError if the references are drawn."""

    def __init__(self, parameters: Ints) -> None:
        if parameters[DRAWN_WORDS]:
            raise ValueError("reference = 'drawn': only the shortest references are enumerated")
        self.kinds: dict[tuple[int, int], tuple[Ints, Words64, Ints]] = {}
        work = np.zeros(FREE, np.int64)
        sections = parameters[SECTIONS:OWN].reshape(MOST_INPUTS + 1, MOST_WORDS + 1, 2)
        for arity, count in np.argwhere(sections[:, :, 1]).tolist():
            first, size = sections[arity, count]
            codes = parameters[first : first + size]
            keys, places = np.zeros(size, np.uint64), np.zeros((size, MAX_SIDE), np.int64)
            find_keys(codes, count, arity, work, keys, places)
            self.kinds[arity, count] = codes, keys, places

    def share(self, choices: Sequence[int], first: int, last: int) -> float:
        """Return the probability that the key lies in [first, last], given the outcomes of all CHOICE draws."""
        _, keys, _ = self.kinds[FEWEST + choices[0], 1 + choices[1]]
        return float(_inside(keys, first, last).mean())

    def functions(self, first: int = 0, last: int = 2**64 - 1) -> int:
        """Return the number of different arrangements whose keys lie in [first, last]."""
        kept = [keys[_inside(keys, first, last)] for _, keys, _ in self.kinds.values()]
        return int(np.unique(np.concatenate(kept)).size)

    def posterior(self, prompt: Tokens, first: int = 0, last: int = 2**64 - 1) -> Posterior:
        """Return the one function that fits a prompt (n,) uint8: its arrangement. Raises ValueError for a prompt that
        cannot be written."""
        arity, wanted = _arrangement_of(prompt)
        for (inputs, count), (codes, keys, places) in self.kinds.items():
            rows = np.flatnonzero((places == wanted).all(1) & _inside(keys, first, last))
            if inputs == arity and rows.size:
                body = np.zeros((1, MOST_WORDS + 1), np.uint8)
                code = int(codes[rows[0]])
                body[0, : count + 1] = [*(ID[WORDS[code >> 4 * k & 15]] for k in range(count - 1, -1, -1)), op.END]
                return Posterior(keys[rows[:1]], np.ones(1), np.ones(1), body)
        raise ValueError(f"prompt {disassemble(prompt)!r}: no reference of this split leaves its arrangement")


def _arrangement_of(prompt: Tokens) -> tuple[int, Ints]:
    """Return the number of inputs of a prompt, and which of them stand where, (MAX_SIDE,), as in `find_keys`."""
    program = np.append(prompt, np.array([op.END], np.uint8))
    work, places = scratch(program.size), np.zeros(MAX_SIDE, np.int64)
    outcome, _, directives, cases = prepare(program, work)
    arity, size = work[SIZES : SIZES + 2].tolist()
    inputs, outputs = work[VALUES_SHOWN:][:arity].tolist(), work[VALUES_SHOWN + MAX_SIDE :][:size].tolist()
    plain = outcome == RAN and (directives, cases) == (0, 1) and prompt[-1] == op.DO
    if not plain or len({*inputs}) < arity or not {*outputs} <= {*inputs}:
        raise ValueError(f"prompt {disassemble(prompt)!r}: expected a header of one case that arranges distinct inputs")
    places[:size] = [1 + inputs.index(value) for value in outputs]
    return arity, places


def _inside(keys: Words64, first: int, last: int) -> NDArray[np.bool_]:
    return np.asarray((keys > 0) & (keys >= np.uint64(first)) & (keys <= np.uint64(last)))


@functools.lru_cache(maxsize=4)
def _space(parameters: bytes) -> Space:
    return Space(np.frombuffer(parameters, np.int64))


ARRANGE = Family(
    name="arrange",
    version=1,
    parameters=Parameters,
    form="words",
    room=room,
    write=write,
    pack=pack,
    answer=lambda parameters: max(map(int, parameters.moves)) + 1,
    words=lambda parameters: words_of(parameters.instructions),
    space=lambda packed: _space(packed.tobytes()),
)
