"""Writing programs: attempts at a prompt until the split keeps its problem, then worked steps and the answer."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cadmus_gym.language.hashing import Words64, join, mix
from cadmus_gym.language.isa import Int, Ints, Tokens
from cadmus_gym.language.kernels import kernel
from cadmus_gym.language.memory import STACK, scratch
from cadmus_gym.language.notation import assemble
from cadmus_gym.language.verdicts import FALSE, RAN, Verdict
from cadmus_gym.streams.spec import Spec
from cadmus_gym.tasks.ablations import GROWTH, is_needed, number_of
from cadmus_gym.tasks.facts import BOUND
from cadmus_gym.tasks.family import (
    BARRED,
    HELD,
    MARKS,
    OPERATED,
    PROMPT,
    SHOWN,
    STRATUM,
    WALKED,
    WORK,
    Choices,
    Writer,
)
from cadmus_gym.tasks.sampling import CHOICE, OPERAND, RANDOM, bernoulli, new_script, threshold
from cadmus_gym.tasks.solving import SLACK, STYLES, identify, put_answer, think
from cadmus_gym.tasks.walking import solve

SHARE, STYLE, LIMIT, RELATION, NOTHING = range(5)  # cells of the options for completions
FROM, TO, BY_FACTS = range(3)  # cells of a sieve's bounds: the interval of a split, and whether facts decide
TOO_LONG = -3  # an outcome that no run has
ATTEMPTS = 100_000  # enough for a split that keeps a thousandth of the prompts
CERTAIN = 100  # attempts = CERTAIN / share of the split; all of them fail less than once in 1e43 programs
_HIGH = np.uint64(32)
_ALL = np.uint64(2**64 - 1)


class Sieve(NamedTuple):
    """What a split keeps: its bounds (FROM, TO, BY_FACTS), and the indices of ablations under which no prompt may give
    its answer, with room to rewrite and run a prompt."""

    bounds: Words64
    needs: Ints
    read: Tokens
    machine: Ints


class Workspace(NamedTuple):
    """Buffers of one thread that writes programs; all but ``thought`` are those of a writer (`Family`)."""

    rng: Words64
    script: Ints
    marks: Ints
    work: Ints
    machine: Ints
    thought: Tokens


@kernel
def attempt(write: Writer, parameters: Ints, program: Tokens, space: Workspace) -> tuple[Int, np.uint64]:
    """Write a prompt; return (RAN or its fault, the key of its problem).

    If ``marks[WALKED]`` is not 0, the prompt was run: its tape is in ``work`` and its answer on the stack.
    """
    marks, work, machine = space.marks, space.work, space.machine
    marks[STRATUM:] = 0
    key = write(parameters, space.rng, space.script, program, marks, work, machine)
    if marks[PROMPT] >= program.size:  # leave room for one token of the answer
        return TOO_LONG, key
    if key != 0:
        return RAN, key
    outcome, depth, key = identify(program, marks[PROMPT], marks, work, machine)
    return outcome if outcome != RAN or depth == 1 else FALSE, key


@kernel
def answer_of(program: Tokens, marks: Ints, machine: Ints) -> tuple[Int, Int]:
    """Return (RAN or the fault of a prompt, its answer)."""
    if marks[WALKED] == 0:
        outcome, depth = solve(program, marks[PROMPT], machine)
        if outcome != RAN or depth != 1:
            return outcome if outcome != RAN else FALSE, 0
    return RAN, machine[STACK]


@kernel
def keeps(sieve: Sieve, key: np.uint64, program: Tokens, marks: Ints, machine: Ints) -> bool:
    """Whether a split keeps what `attempt` wrote.

    If facts decide, problems with a held-out fact lie in the lowest tenth, and all others with an operation above it,
    spread by their keys. A split that begins above 0 also rejects prompts whose run shows a held-out fact. A split of
    some problems rejects prompts that the writer barred.
    """
    bounds = sieve.bounds
    place = key
    if marks[BARRED] and (bounds[FROM] > 0 or bounds[TO] < _ALL):
        return False
    if bounds[BY_FACTS]:
        if marks[HELD] > 0:
            place = (key >> _HIGH) * (BOUND >> _HIGH)
        elif marks[SHOWN] and bounds[FROM] > 0:
            return False
        elif marks[OPERATED]:
            place = BOUND + (key >> _HIGH) * ((~BOUND) >> _HIGH)
    if not bounds[FROM] <= place <= bounds[TO]:
        return False
    if sieve.needs.size == 0:
        return True
    outcome, answer = answer_of(program, marks, machine)
    prompt = marks[PROMPT]
    return bool(outcome != RAN or is_needed(program, prompt, answer, sieve.needs, sieve.read, sieve.machine))


@kernel
def finish(program: Tokens, answer: Int, options: Ints, space: Workspace) -> None:
    """Write worked steps, if the options call for them, and the answer after a prompt."""
    size: Int = 0
    marks, thought = space.marks, space.thought
    prompt = marks[PROMPT]
    if bernoulli(space.rng, space.script, CHOICE, options[SHARE], False) and options[STYLE] > 0:
        size = think(program, marks, options[STYLE], options[LIMIT], thought, space.work, space.machine)
    for position in range(size):
        program[prompt + position] = thought[position]
    length = put_answer(program, prompt + size, answer, options[RELATION] == 1)
    program[length:] = 0


@kernel
def fill(
    write: Writer,
    parameters: Ints,
    options: Ints,
    base: np.uint64,
    sieve: Sieve,
    seeds: Ints,
    indices: Ints,
    most: Int,
    programs: Tokens,
    prompt_lengths: NDArray[np.int32],
    keys: Words64,
    space: Workspace,
) -> tuple[Int, Int]:
    """Write the programs of pairs (seed, index), the lengths of their prompts and the keys of their problems.

    Returns (-1, RAN), or the row that failed and why: the fault of a prompt, or RAN if the split kept none of ``most``
    attempts.
    """
    rng, marks, machine = space.rng, space.marks, space.machine
    for k in range(seeds.size):
        origin = join(join(base, np.uint64(seeds[k])), np.uint64(indices[k]))
        rng[OPERAND] = mix(origin)
        attempts = 0
        while True:
            rng[CHOICE] = origin
            outcome, key = attempt(write, parameters, programs[k], space)
            if outcome != RAN:
                return k, outcome
            if keeps(sieve, key, programs[k], marks, machine):
                break
            attempts += 1
            if attempts == most:
                return k, RAN
        prompt_lengths[k], keys[k] = marks[PROMPT], key
        if options[NOTHING]:
            programs[k, marks[PROMPT] :] = 0
            continue
        outcome, answer = answer_of(programs[k], marks, machine)
        if outcome != RAN:
            return k, outcome
        finish(programs[k], answer, options, space)
    return -1, RAN


def options_of(spec: Spec) -> Ints:
    """Return the options of a spec for completions."""
    thoughts = spec.thoughts
    relation = spec.family.form == "relation"
    return np.array(
        [threshold(thoughts.share), STYLES.index(thoughts.style), thoughts.limit, relation, False], np.int64
    )


def sieve_of(spec: Spec, split: str) -> Sieve:
    """Return the sieve of a split, for use by one thread."""
    room = GROWTH * (spec.prompt_room + spec.completion_room) + 1
    return Sieve(
        np.array([*spec.split(split).interval, spec.apart == "facts"], np.uint64),
        np.array([number_of(name) for name in spec.family.needs], np.int64),
        np.zeros(room, np.uint8),
        scratch(room),
    )


def new_workspace(spec: Spec, mode: int, length: int) -> Workspace:
    """Return buffers to write programs of a spec of at most ``length`` tokens, with a script for that mode."""
    return Workspace(
        np.zeros(2, np.uint64),
        new_script(mode),
        np.zeros(MARKS, np.int64),
        np.zeros(WORK, np.int64),
        scratch(length),
        np.zeros(spec.thoughts.limit + SLACK, np.uint8),
    )


def compose_rows(
    spec: Spec,
    split: str,
    base: np.uint64,
    seeds: Ints,
    indices: Ints,
    programs: Tokens,
    prompt_lengths: NDArray[np.int32],
    keys: Words64,
    options: Ints,
) -> None:
    """Do the work of `fill` for a family in plain Python.

    Raises ValueError for text that is not a prompt, and if no attempt gives a problem of the split.
    """
    sieve, choices = sieve_of(spec, split), Choices()
    space = new_workspace(spec, RANDOM, programs.shape[1])._replace(rng=choices.rng)
    marks, work, machine = space.marks, space.work, space.machine
    attempts, room = attempts_of(spec, split), spec.prompt_room
    parameters, compose = spec.split_parameters(split), spec.family.compose
    assert compose is not None
    where = f"{spec.name} [splits.{split}]: task {spec.task!r}"
    for k, program in enumerate(programs):
        origin = np.uint64(join(np.uint64(join(base, np.uint64(seeds[k]))), np.uint64(indices[k])))
        choices.rng[OPERAND] = mix(origin)
        for _ in range(attempts):
            choices.rng[CHOICE] = origin
            text = compose(parameters, choices)
            try:
                tokens = assemble(text)
            except (ValueError, AttributeError) as error:
                raise ValueError(f"{where}: {text!r} is not a prompt: {error}") from None
            size = tokens.size
            if size > room:
                raise ValueError(f"{where}: {text!r} has {size} tokens; allowed by room(): at most {room}")
            program[:size] = tokens
            marks[PROMPT] = size
            outcome, depth, key = identify(program, size, marks, work, machine)
            if outcome != RAN or depth != 1:
                raise ValueError(f"{where}: {text!r}: {explain(outcome if outcome != RAN else FALSE)}")
            if keeps(sieve, np.uint64(key), program, marks, machine):
                break
        else:
            raise ValueError(no_problem(spec, split))
        prompt_lengths[k], keys[k] = size, key
        if options[NOTHING]:
            program[size:] = 0
        else:
            finish(program, machine[STACK], options, space)


def explain(outcome: int) -> str:
    """Say what is wrong with a prompt."""
    if outcome == TOO_LONG:
        return "longer than room() allows"
    return "leaves more or less than one value" if outcome == FALSE else Verdict(outcome).name


def attempts_of(spec: Spec, split: str) -> int:
    """Return how many failed attempts at one kind of program show that the split has no such problem."""
    first, last = spec.split(split).interval
    if spec.family.needs or (spec.apart == "facts" and first > 0):  # few of the longer programs qualify
        return ATTEMPTS
    return min(ATTEMPTS, math.ceil(CERTAIN * 2**64 / (last - first + 1)))


def no_problem(spec: Spec, split: str) -> str:
    return (
        f"{spec.name} [splits.{split}]: none of {attempts_of(spec, split)} attempts at one kind of program gave a "
        "problem of this split: its parameters allow too few. Give it a wider share, or parameters with more problems"
        + (", or apart = 'problems' if operations have no operands of at least 2" if spec.apart == "facts" else "")
        + (f". No prompt may give its answer under: {'; '.join(spec.family.needs)}" if spec.family.needs else "")
    )
