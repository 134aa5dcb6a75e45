"""The driver of writers: attempts at a prompt until its problem is of the split, worked steps, the answer."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cadmus_gym.compiling import kernel
from cadmus_gym.isa import Int, Ints, Tokens
from cadmus_gym.machine import FALSE, RAN, STACK
from cadmus_gym.sampling import CHOICE, OPERAND, Words64, happens, join, mix, threshold
from cadmus_gym.spec import Spec
from cadmus_gym.tasks.family import PROMPT, STRATUM, Writer
from cadmus_gym.tasks.solving import STYLES, identify, put_answer, solve, think

SHARE, STYLE, LIMIT, RELATION = range(4)  # what is wished of the completions of a stream
ATTEMPTS = 100_000  # a split's share of 1e-3 misses all of them less than once in 1e43 programs


@kernel
def attempt(
    write: Writer,
    parameters: Ints,
    dice: Words64,
    script: Ints,
    program: Tokens,
    marks: Ints,
    work: Ints,
    machine: Ints,
) -> tuple[Int, np.uint64]:
    """Write a prompt; return (RAN or its fault, the key of its problem), its answer at the bottom of the stack."""
    marks[STRATUM] = 0
    key = write(parameters, dice, script, program, marks, work, machine)
    if key != 0:
        outcome, depth = solve(program, marks[PROMPT], machine)
    else:
        outcome, depth, key = identify(program, marks[PROMPT], work, machine)
    return outcome if outcome != RAN or depth == 1 else FALSE, key


@kernel
def fill(
    write: Writer,
    parameters: Ints,
    wish: Ints,
    base: np.uint64,
    first: np.uint64,
    last: np.uint64,
    seeds: Ints,
    indices: Ints,
    programs: Tokens,
    prompt_lengths: NDArray[np.int32],
    thought: Tokens,
    dice: Words64,
    script: Ints,
    marks: Ints,
    work: Ints,
    machine: Ints,
) -> tuple[Int, Int]:
    """Write the programs of pairs (seed, index), keys within [first, last].

    Returns (-1, RAN), or the row that failed and why: the fault of a prompt, or RAN where none was found.
    """
    for k in range(seeds.size):
        origin = join(join(base, np.uint64(seeds[k])), np.uint64(indices[k]))
        dice[OPERAND] = mix(origin)
        attempts = 0
        while True:
            dice[CHOICE] = origin
            outcome, key = attempt(write, parameters, dice, script, programs[k], marks, work, machine)
            if outcome != RAN:
                return k, outcome
            if first <= key <= last:
                break
            attempts += 1
            if attempts == ATTEMPTS:
                return k, RAN
        prompt = marks[PROMPT]
        answer = machine[STACK]
        size: Int = 0
        if happens(dice, script, CHOICE, wish[SHARE], False) and wish[STYLE] > 0:
            size = think(programs[k], prompt, wish[STYLE], wish[LIMIT], thought, machine)
        for position in range(size):
            programs[k, prompt + position] = thought[position]
        length = put_answer(programs[k], prompt + size, answer, wish[RELATION] == 1)
        programs[k, length:] = 0
        prompt_lengths[k] = prompt
    return -1, RAN


def wish(spec: Spec) -> Ints:
    thoughts = spec.thoughts
    form = spec.family.form == "relation"
    return np.array([threshold(thoughts.share), STYLES.index(thoughts.style), thoughts.limit, form], np.int64)
