"""Worked steps of programs that an agent writes: what a body leaves on the cases shown.

- stages: each step of the body and what it leaves, as in ``( 3 mul 9 , 15 , 0 2 add 11 , 17 , 2 )``. A step ends where
  every case has as many values on the stack as it has outputs. If the prompt has one case, a step ends after every
  word, and the whole stack is written.
- check: the body and what it leaves. In half of the programs a wrong attempt comes first: the body with one token
  changed, what it leaves up to the first wrong case, and `not`, as in ``( 3 add 6 not 3 mul 9 , 15 , 0 )``.

Whether there is an attempt, and which, is a function of the prompt and the reference.
"""

from __future__ import annotations

import numpy as np

from cadmus_gym.language import isa as op
from cadmus_gym.language.hashing import join, mix
from cadmus_gym.language.isa import ID, Int, Ints, Tokens
from cadmus_gym.language.kernels import kernel
from cadmus_gym.language.machine import execute, load_inputs
from cadmus_gym.language.memory import SIZES, STACK, VALUES, fresh, load
from cadmus_gym.language.parsing import prepare
from cadmus_gym.language.verdicts import DIRECTIVE, MAX_SIDE, RAN, STEPS
from cadmus_gym.tasks.family import PROMPT, REFERENCE
from cadmus_gym.tasks.literals import put, put_literal

WRITTEN_STYLES = ("none", "stages", "check")
STAGES, CHECK = 1, 2
# Words that may replace one another in a wrong attempt, by group; the size of each word's group, and where it begins.
GROUPS = ("add sub mul div mod min max", "neg abs inc dec", "dup drop swap over rot", "a! b!", "a@ b@")
SWAPPED = np.array([ID[word] for group in GROUPS for word in group.split()])
SIZES_OF = np.array([len(group.split()) for group in GROUPS for _ in group.split()])
BEGINS = np.array([sum(len(other.split()) for other in GROUPS[:k]) for k, g in enumerate(GROUPS) for _ in g.split()])


@kernel
def run_case(program: Tokens, body: Int, case: Int, cases: Int, machine: Ints) -> Int:
    """Run a prepared body on a case; return the depth of what it leaves, or -1 after a fault."""
    depth = load_inputs(case, cases, machine)
    fresh(machine)
    outcome, depth, _, _, _ = execute(program, body, True, depth, STEPS, machine)
    return depth if outcome == RAN else np.int64(-1)


@kernel
def is_right(case: Int, depth: Int, machine: Ints) -> bool:
    """Whether a run left the outputs of a case."""
    right = depth == load(machine, SIZES + 2 * case + 1)
    for k in range(min(depth, MAX_SIDE)):
        right = right and load(machine, STACK + k) == load(machine, VALUES + MAX_SIDE * (2 * case + 1) + k)
    return bool(right)


@kernel
def put_values(thought: Tokens, size: Int, stop: Int, depth: Int, machine: Ints) -> Int:
    """Write what a run left; return the new size, which exceeds ``stop`` if there is no room."""
    for k in range(depth):
        if size > stop:
            break
        size = put_literal(thought, size, load(machine, STACK + k))
    return size


@kernel
def put_tokens(thought: Tokens, size: Int, stop: Int, program: Tokens, first: Int, last: Int) -> Int:
    if size + last - first > stop:
        return stop + 1
    if op.ZERO <= program[first] <= op.NINE and op.ZERO <= thought[size - 1] <= op.NINE:
        size = put(thought, size, op.COMMA)
    for k in range(first, last):
        size = put(thought, size, program[k])
    return size


@kernel
def stages(program: Tokens, first: Int, last: Int, stop: Int, thought: Tokens, machine: Ints) -> Int:
    """Write each step of ``program[first:last]`` and what it leaves; return the size, as of `put_values`."""
    size, begun = np.int64(1), first
    for end in range(first + 1, last + 1):
        kept = program[end]
        if op.ZERO <= program[end - 1] <= op.NINE:
            continue
        program[end] = op.END
        outcome, body, _, cases = prepare(program[: end + 1], machine)
        ends = outcome == RAN or outcome == DIRECTIVE
        for case in range(cases if ends else 0):
            depth = run_case(program[: end + 1], body, np.int64(case), cases, machine)
            ends = ends and depth >= 0 and (cases == 1 or depth == load(machine, SIZES + 2 * case + 1))
        if ends:
            size = put_tokens(thought, size, stop, program, begun, end)
            begun = end
            for case in range(cases):
                if size <= stop:
                    depth = run_case(program[: end + 1], body, np.int64(case), cases, machine)
                    size = put_values(thought, size, stop, depth, machine)
        program[end] = kept
        if size > stop:
            break
    return size


@kernel
def put_attempt(
    program: Tokens, first: Int, last: Int, stop: Int, thought: Tokens, size: Int, machine: Ints
) -> tuple[Int, bool]:
    """Write ``program[first:last]``, which `end` follows, and what it leaves, up to the first wrong case.

    Returns the size, as of `put_values`, and whether all cases are right. A fault leaves nothing.
    """
    outcome, body, _, cases = prepare(program[: last + 1], machine)
    size = put_tokens(thought, size, stop, program, first, last)
    if outcome != RAN and outcome != DIRECTIVE:
        return size, False
    for case in range(cases):
        depth = run_case(program[: last + 1], body, np.int64(case), cases, machine)
        if size > stop:
            break
        size = put_values(thought, size, stop, depth, machine)
        if not is_right(np.int64(case), depth, machine):
            return size, False
    return size, True


@kernel
def change(token: Int, word: np.uint64) -> Int:
    """What replaces a token: another digit for a digit, another word of its group for a word; else the token itself."""
    if op.ZERO <= token <= op.NINE:
        return op.ZERO + (token - op.ZERO + 1 + np.int64(word % np.uint64(9))) % 10
    for k in range(SWAPPED.size):
        if SWAPPED[k] == token:
            others = np.uint64(SIZES_OF[k] - 1)
            return SWAPPED[BEGINS[k] + (k - BEGINS[k] + 1 + np.int64(word % others)) % SIZES_OF[k]]
    return token


@kernel
def check(program: Tokens, first: Int, last: Int, stop: Int, thought: Tokens, machine: Ints) -> Int:
    """Write ``program[first:last]`` and what it leaves, in half of the programs after a wrong attempt; return the size,
    as of `put_values`."""
    word = np.uint64(0)
    for k in range(last):
        word = join(word, np.uint64(program[k]))
    after, size = program[last], np.int64(1)
    program[last] = op.END
    if word & np.uint64(1):
        for k in range(last - first):
            place = first + (k + np.int64(mix(word) >> np.uint64(33))) % (last - first)
            token = np.int64(program[place])
            program[place] = change(token, word >> np.uint64(8))
            wrong, right = put_attempt(program, first, last, stop, thought, np.int64(1), machine)
            same = program[place] == token
            program[place] = token
            if not same and not right and wrong <= stop:
                size = put(thought, wrong, op.NOT)
                break
    size, _ = put_attempt(program, first, last, stop, thought, size, machine)
    program[last] = after
    return size


@kernel
def think_written(program: Tokens, marks: Ints, style: Int, limit: Int, thought: Tokens, machine: Ints) -> Int:
    """Write worked steps of a style into ``thought``; return their length, or 0 if they do not fit ``limit``.

    The reference, of ``marks[REFERENCE]`` tokens, follows the prompt, and there is room for one more token after it.
    """
    first: Int = 0
    for k in range(marks[PROMPT]):
        if program[k] == op.DO:
            first = np.int64(k + 1)
    last = marks[PROMPT] + marks[REFERENCE]
    stop = limit - 1
    thought[0] = op.OPEN
    if style == STAGES:
        size = stages(program, first, last, stop, thought, machine)
    else:
        size = check(program, first, last, stop, thought, machine)
    if size > stop:
        return 0
    thought[size] = op.CLOSE
    return size + 1
