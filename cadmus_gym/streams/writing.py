"""Writing programs: attempts at a prompt until the split keeps its problem, then worked steps and the answer."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cadmus_gym.language import isa as op
from cadmus_gym.language.hashing import Words64, fingerprints, join, mix
from cadmus_gym.language.isa import Int, Ints, Tokens
from cadmus_gym.language.kernels import kernel
from cadmus_gym.language.machine import run
from cadmus_gym.language.memory import STACK, scratch
from cadmus_gym.language.notation import assemble
from cadmus_gym.language.verdicts import FALSE, RAN, Verdict
from cadmus_gym.streams.spec import Spec
from cadmus_gym.tasks import styles_of
from cadmus_gym.tasks.ablations import GROWTH, is_needed, number_of
from cadmus_gym.tasks.facts import BOUND
from cadmus_gym.tasks.family import (
    BARRED,
    BY_KEY,
    FIRST_KEY,
    HELD,
    LAST_KEY,
    MARKS,
    OPERATED,
    PROMPT,
    REFERENCE,
    SHOWN,
    STRATUM,
    WALKED,
    WORK,
    Choices,
    Writer,
)
from cadmus_gym.tasks.sampling import CHOICE, INPUT, OPERAND, RANDOM, SOURCES, bernoulli, new_script, threshold
from cadmus_gym.tasks.solving import SLACK, identify, put_answer, think
from cadmus_gym.tasks.synthesis.hidden import function_key
from cadmus_gym.tasks.synthesis.thinking import think_written
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

    If ``marks[WALKED]`` is not 0, the prompt was run: its tape is in ``work`` and its answer on the stack. If
    ``marks[REFERENCE]`` is not 0, a reference of that length follows the prompt, and a key of 0 means no problem.
    """
    marks, work, machine = space.marks, space.work, space.machine
    marks[STRATUM:BY_KEY] = 0
    key = write(parameters, space.rng, space.script, program, marks, work, machine)
    if marks[PROMPT] >= program.size:  # leave room for one token of the answer
        return TOO_LONG, key
    if key != 0 or marks[REFERENCE] > 0:
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
    some problems rejects prompts that the writer barred. No split keeps a reference that is no problem.
    """
    bounds = sieve.bounds
    place = key
    if key == 0 and marks[REFERENCE] > 0:
        return False
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
def complete(program: Tokens, thinks: bool, options: Ints, space: Workspace) -> tuple[Int, Int]:
    """Write worked steps after a prompt, if it ``thinks``, and the answer or the reference.

    Returns (RAN or the fault of the prompt, the length of the program).
    """
    marks, thought = space.marks, space.thought
    prompt, reference = marks[PROMPT], marks[REFERENCE]
    answer: Int = 0
    size: Int = 0
    if reference == 0:
        outcome, answer = answer_of(program, marks, space.machine)
        if outcome != RAN:
            return outcome, 0
    if thinks and options[STYLE] > 0 and reference > 0:
        size = think_written(program, marks, options[STYLE], options[LIMIT], thought, space.machine)
    elif thinks and options[STYLE] > 0:
        size = think(program, marks, options[STYLE], options[LIMIT], thought, space.work, space.machine)
    for k in range(reference - 1, -1, -1):
        program[prompt + size + k] = program[prompt + k]
    for k in range(size):
        program[prompt + k] = thought[k]
    if reference == 0:
        return RAN, put_answer(program, prompt + size, answer, options[RELATION] == 1)
    program[prompt + size + reference] = op.END
    return RAN, prompt + size + reference + 1


@kernel
def finish(program: Tokens, options: Ints, space: Workspace) -> Int:
    """Complete a prompt as the options say; return RAN or the fault of the prompt."""
    if options[NOTHING]:
        length = space.marks[PROMPT] + space.marks[REFERENCE]
        program[length:] = 0
        if space.marks[REFERENCE] > 0:
            program[length] = op.END
        return RAN
    thinks = bernoulli(space.rng, space.script, CHOICE, options[SHARE], False)
    outcome, length = complete(program, thinks, options, space)
    program[length:] = 0
    return outcome


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

    With ``options[NOTHING]`` nothing follows a prompt but its reference, if it has one.

    Returns (-1, RAN), or the row that failed and why: the fault of a prompt, or RAN if the split kept none of ``most``
    attempts.
    """
    rng, marks, machine = space.rng, space.marks, space.machine
    marks[BY_KEY] = not sieve.bounds[BY_FACTS]
    marks[FIRST_KEY], marks[LAST_KEY] = np.int64(sieve.bounds[FROM]), np.int64(sieve.bounds[TO])
    for k in range(seeds.size):
        origin = join(join(base, np.uint64(seeds[k])), np.uint64(indices[k]))
        rng[OPERAND] = mix(origin)
        rng[INPUT] = mix(rng[OPERAND])
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
        outcome = finish(programs[k], options, space)
        if outcome != RAN:
            return k, outcome
    return -1, RAN


def options_of(spec: Spec) -> Ints:
    """Return the options of a spec for completions."""
    thoughts = spec.thoughts
    relation = spec.family.form == "relation"
    style = styles_of(spec.family).index(thoughts.style)
    return np.array([threshold(thoughts.share), style, thoughts.limit, relation, False], np.int64)


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
        np.zeros(SOURCES, np.uint64),
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

    Raises ValueError for text that is not a prompt, for a reference that is not true, and if no attempt gives a problem
    of the split.
    """
    sieve, choices = sieve_of(spec, split), Choices()
    space = new_workspace(spec, RANDOM, programs.shape[1])._replace(rng=choices.rng)
    marks, machine, attempts = space.marks, space.machine, attempts_of(spec, split)
    parameters, compose = spec.split_parameters(split), spec.family.compose
    assert compose is not None
    where = f"{spec.name} [splits.{split}]: task {spec.task!r}"
    for k, program in enumerate(programs):
        origin = np.uint64(join(np.uint64(join(base, np.uint64(seeds[k]))), np.uint64(indices[k])))
        choices.rng[OPERAND] = mix(origin)
        choices.rng[INPUT] = mix(np.uint64(choices.rng[OPERAND]))
        for _ in range(attempts):
            choices.rng[CHOICE] = origin
            composed = compose(parameters, choices)
            put = _put_written if spec.family.written else _put_prompt
            key = put(spec, where, composed, program, space)
            if keeps(sieve, key, program, marks, machine):
                break
        else:
            raise ValueError(no_problem(spec, split))
        prompt_lengths[k], keys[k] = marks[PROMPT], key
        finish(program, options, space)


def _assembled(where: str, text: Any, room: int, allowed: str, kind: str) -> Tokens:
    """Return the tokens of a text that a family composed, or raise ValueError."""
    try:
        tokens = assemble(text)
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{where}: {text!r} is not a {kind}: {error}") from None
    if tokens.size > room:
        raise ValueError(f"{where}: {text!r} has {tokens.size} tokens; allowed by {allowed}: at most {room}")
    return tokens


def _put_prompt(spec: Spec, where: str, text: Any, program: Tokens, space: Workspace) -> np.uint64:
    """Write a composed prompt into a program; return the key of its problem, or raise ValueError."""
    tokens = _assembled(where, text, spec.prompt_room, "room()", "prompt")
    program[: tokens.size] = tokens
    space.marks[PROMPT] = tokens.size
    outcome, depth, key = identify(program, tokens.size, space.marks, space.work, space.machine)
    if outcome != RAN or depth != 1:
        raise ValueError(f"{where}: {text!r}: {explain(outcome if outcome != RAN else FALSE)}")
    return np.uint64(key)


def _put_written(spec: Spec, where: str, composed: Any, program: Tokens, space: Workspace) -> np.uint64:
    """Write a composed prompt and its reference into a program; return the key of its problem, or raise ValueError."""
    if not isinstance(composed, tuple) or len(composed) != 2:
        raise ValueError(f"{where}: compose gave {composed!r}; allowed: a prompt and a reference, two texts")
    prompt = _assembled(where, composed[0], spec.prompt_room, "room()", "prompt")
    reference = _assembled(where, composed[1], spec.reference_room - 1, "answer()", "reference")
    size = prompt.size + reference.size
    if reference.size == 0:
        raise ValueError(f"{where}: an empty reference for {composed[0]!r}; give at least one token")
    if op.END in prompt or op.END in reference:
        raise ValueError(f"{where}: {composed!r} contains `end`; leave it out, it is added after the reference")
    program[: prompt.size], program[prompt.size : size], program[size] = prompt, reference, op.END
    space.marks[STRATUM:BY_KEY] = 0
    space.marks[PROMPT], space.marks[REFERENCE] = prompt.size, reference.size
    verdict = run(program[: size + 1]).verdict
    if verdict != Verdict.TRUE:
        raise ValueError(f"{where}: {composed[0]!r} with the reference {composed[1]!r} is {verdict.name}")
    if spec.family.inputs is None:
        return np.uint64(fingerprints(prompt[None])[0])
    body = 1 + prompt.tolist().index(op.DO) if op.DO in prompt else prompt.size
    return np.uint64(function_key(program[: size + 1], program[body : size + 1], space.machine))


def explain(outcome: int) -> str:
    """Say what is wrong with a prompt."""
    if outcome == TOO_LONG:
        return "longer than room() allows"
    return "leaves more or less than one value" if outcome == FALSE else Verdict(outcome).name


def attempts_of(spec: Spec, split: str) -> int:
    """Return how many failed attempts at one kind of program show that the split has no such problem."""
    first, last = spec.split(split).interval
    strict = spec.family.needs or spec.family.written  # few of the longer programs qualify
    if strict or (spec.apart == "facts" and first > 0):
        return ATTEMPTS
    return min(ATTEMPTS, math.ceil(CERTAIN * 2**64 / (last - first + 1)))


def no_problem(spec: Spec, split: str) -> str:
    return (
        f"{spec.name} [splits.{split}]: none of {attempts_of(spec, split)} attempts at one kind of program gave a "
        "problem of this split: its parameters allow too few. Give it a wider share, or parameters with more problems"
        + (", or apart = 'problems' if operations have no operands of at least 2" if spec.apart == "facts" else "")
        + (f". No prompt may give its answer under: {'; '.join(spec.family.needs)}" if spec.family.needs else "")
    )
