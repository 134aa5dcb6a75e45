"""The driver of writers: attempts at a prompt until its problem is of the split, worked steps, the answer."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cadmus_gym.compiling import kernel
from cadmus_gym.isa import Int, Ints, Tokens, assemble
from cadmus_gym.machine import FALSE, RAN, STACK, Verdict
from cadmus_gym.sampling import CHOICE, OPERAND, RANDOM, Words64, happens, join, mix, new_script, threshold
from cadmus_gym.spec import Spec
from cadmus_gym.tasks.family import PROMPT, SOLVED, STRATUM, Choices, Writer
from cadmus_gym.tasks.solving import STYLES, identify, put_answer, solve, think

SHARE, STYLE, LIMIT, RELATION, NOTHING = range(5)  # what is wished of the completions of a stream
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
    """Write a prompt; return (RAN or the fault of a run of it, the key of its problem).

    ``marks[SOLVED]`` says whether it was run; then its answer is at the bottom of the stack.
    """
    marks[STRATUM] = 0
    key = write(parameters, dice, script, program, marks, work, machine)
    marks[SOLVED] = np.int64(key == 0)
    if key != 0:
        return RAN, key
    outcome, depth, key = identify(program, marks[PROMPT], work, machine)
    return outcome if outcome != RAN or depth == 1 else FALSE, key


@kernel
def answer_of(program: Tokens, marks: Ints, machine: Ints) -> tuple[Int, Int]:
    """Return (RAN or the fault of the prompt, its answer)."""
    if marks[SOLVED] == 0:
        outcome, depth = solve(program, marks[PROMPT], machine)
        if outcome != RAN or depth != 1:
            return outcome if outcome != RAN else FALSE, 0
    return RAN, machine[STACK]


@kernel
def finish(
    program: Tokens, prompt: Int, answer: Int, wish: Ints, thought: Tokens, dice: Words64, script: Ints, machine: Ints
) -> None:
    """Write worked steps where they are wished for, and the answer, behind a prompt."""
    size: Int = 0
    if happens(dice, script, CHOICE, wish[SHARE], False) and wish[STYLE] > 0:
        size = think(program, prompt, wish[STYLE], wish[LIMIT], thought, machine)
    for position in range(size):
        program[prompt + position] = thought[position]
    length = put_answer(program, prompt + size, answer, wish[RELATION] == 1)
    program[length:] = 0


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
    keys: Words64,
    thought: Tokens,
    dice: Words64,
    script: Ints,
    marks: Ints,
    work: Ints,
    machine: Ints,
) -> tuple[Int, Int]:
    """Write the programs of pairs (seed, index), keys within [first, last], and the keys of their problems.

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
        prompt_lengths[k], keys[k] = marks[PROMPT], key
        if wish[NOTHING]:
            programs[k, marks[PROMPT] :] = 0
            continue
        outcome, answer = answer_of(programs[k], marks, machine)
        if outcome != RAN:
            return k, outcome
        finish(programs[k], marks[PROMPT], answer, wish, thought, dice, script, machine)
    return -1, RAN


def wish(spec: Spec) -> Ints:
    """Return what a spec wishes of completions."""
    thoughts = spec.thoughts
    relation = spec.family.form == "relation"
    return np.array(
        [threshold(thoughts.share), STYLES.index(thoughts.style), thoughts.limit, relation, False], np.int64
    )


def compose_row(
    spec: Spec, split: str, origin: np.uint64, program: Tokens, wanted: Ints, thought: Tokens, work: Ints, machine: Ints
) -> tuple[int, np.uint64]:
    """Do for one program of a family in plain Python what `fill` does; return (length of the prompt, key).

    Raises ValueError for a prompt that is none, and where no problem of the split is found.
    """
    first, last = spec.split(split).interval
    parameters, compose = spec.split_parameters(split), spec.family.compose
    assert compose is not None
    choices = Choices()
    choices.dice[OPERAND] = mix(origin)
    for _ in range(ATTEMPTS):
        choices.dice[CHOICE] = origin
        text = compose(parameters, choices)
        tokens = assemble(text)
        if tokens.size > spec.prompt_room:
            raise ValueError(f"{text!r}: a prompt of {tokens.size} tokens, and room() allows {spec.prompt_room}")
        program[: tokens.size] = tokens
        outcome, depth, key = identify(program, tokens.size, work, machine)
        if outcome != RAN or depth != 1:
            raise ValueError(f"{text!r}: {explain(outcome if outcome != RAN else FALSE)}")
        if first <= key <= last:
            if wanted[NOTHING]:
                program[tokens.size :] = 0
            else:
                answer = machine[STACK]
                finish(program, tokens.size, answer, wanted, thought, choices.dice, new_script(RANDOM), machine)
            return int(tokens.size), key
    raise ValueError(no_problem(spec, split))


def explain(outcome: int) -> str:
    """Say what is wrong with a prompt."""
    return "leaves more or less than one value" if outcome == FALSE else Verdict(outcome).name


def no_problem(spec: Spec, split: str) -> str:
    return (
        f"{spec.id} [splits.{split}]: no problem found in {ATTEMPTS} attempts at one kind of program; its parameters "
        "allow too few problems for its share"
    )
