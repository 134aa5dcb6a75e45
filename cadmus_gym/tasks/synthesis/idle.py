"""Idle words: words of a body that can be left out, alone or with others, without changing what it does.

What a body does is judged on the standard probes. A word is idle if it lies in one span or in two spans of the body
whose removal changes the result of no probe, as in `0 add`, `neg neg`, `1 if 2 mul fi` or `dup 2 mul swap drop`. Only
spans that together leave the depth of the stack unchanged are tried. A directive `use W` holds if every case executes
W; it is met idly if every W in the body is idle.
"""

from __future__ import annotations

import numpy as np

from cadmus_gym.language import isa as op
from cadmus_gym.language.hashing import join
from cadmus_gym.language.isa import ID, VOCABULARY, Int, Ints, Tokens
from cadmus_gym.language.kernels import kernel
from cadmus_gym.language.memory import DIRECTIVES, STACK, bit, load, scratch
from cadmus_gym.language.parsing import prepare
from cadmus_gym.language.verdicts import RAN
from cadmus_gym.tasks.synthesis.hidden import PROBES, STANDARD, WIDTH, probes_of, read_inputs, run_on

# All probes, for each number of inputs from 1: (WIDTH, PROBES, WIDTH). If there are fewer, they are repeated.
_PROBES = np.zeros((WIDTH, PROBES, WIDTH), np.int64)
for _arity in range(1, WIDTH + 1):
    _found = probes_of(STANDARD, _arity)
    _PROBES[_arity - 1, :, :_arity] = _found[np.arange(PROBES) % len(_found)]
ROWS = np.array([len(probes_of(STANDARD, arity)) for arity in range(1, WIDTH + 1)], np.int64)

# By how much each token of a body changes the depth of the stack; of a literal, only the last digit counts.
EFFECTS = np.zeros(len(VOCABULARY), np.int64)
for _words, _effect in (
    ("add sub mul div mod min max eq ne lt le gt ge and or xor drop a! b! if times until", -1),
    ("dup over a@ b@ i 0 1 2 3 4 5 6 7 8 9", 1),
):
    EFFECTS[[ID[word] for word in _words.split()]] = _effect

# Layout of the working cells: the inputs of a run; what the whole body leaves on each probe; marks of idle positions;
# the change of depth up to each position.
LEFT = WIDTH
FLAGS = LEFT + PROBES
MOST = 64  # tokens of a body; a longer one counts as having no idle words
DEPTHS = FLAGS + MOST
ROOM = DEPTHS + MOST + 1


@kernel
def left_on(program: Tokens, body: Int, arity: Int, row: Int, cells: Ints, work: Ints) -> Int:
    """A hash of how the run of a prepared body on a probe ends, and of what it leaves."""
    for i in range(arity):
        cells[i] = _PROBES[arity - 1, row, i]
    outcome, depth, _ = run_on(program, body, cells, np.int64(0), arity, work)
    if outcome != RAN:
        return np.int64(outcome)
    key = np.uint64(depth)
    for k in range(depth):
        key = join(key, np.uint64(load(work, STACK + k)))
    return np.int64(key >> np.uint64(1)) + 64


@kernel
def is_idle(
    body: Tokens,
    size: Int,
    begin: Int,
    end: Int,
    again: Int,
    last: Int,
    arity: Int,
    shorter: Tokens,
    cells: Ints,
    work: Ints,
) -> bool:
    """Whether a body does the same without ``body[begin:end]`` and ``body[again:last]``; if so, mark them."""
    rest: Int = 0
    for k in range(size + 1):
        if not begin <= k < end and not again <= k < last:
            shorter[rest] = body[k]
            rest += 1
    if op.CASE <= shorter[0] < op.BODY or prepare(shorter[:rest], work)[0] != RAN:
        return False
    for row in range(ROWS[arity - 1]):
        if left_on(shorter[:rest], np.int64(0), arity, row, cells, work) != cells[LEFT + row]:
            return False
    for k in range(begin, last):
        if k < end or k >= again:
            cells[FLAGS + k] = 1
    return True


@kernel
def find_idle(body: Tokens, size: Int, arity: Int, shorter: Tokens, cells: Ints, work: Ints) -> bool:
    """Mark the idle words of a body of ``size`` tokens and its `end`; return whether there are any.

    ``cells[FLAGS + k]`` is 1 if token k is idle. ``shorter`` has room for the body.
    """
    for k in range(min(size, MOST)):
        cells[FLAGS + k] = 0
    outcome, first, _, _ = prepare(body[: size + 1], work)
    if outcome != RAN or size > MOST:
        return False
    for row in range(ROWS[arity - 1]):
        cells[LEFT + row] = left_on(body[: size + 1], first, arity, row, cells, work)
    depth: Int = 0
    for k in range(size + 1):
        cells[DEPTHS + k] = depth
        token = body[k]
        if not (op.ZERO <= token <= op.NINE and op.ZERO <= body[min(k + 1, size)] <= op.NINE):
            depth += EFFECTS[token]
    found = False
    for begin in range(size):
        for end in range(begin + 1, size + 1):
            change = cells[DEPTHS + end] - cells[DEPTHS + begin]
            if change == 0:
                found |= is_idle(body, size, begin, end, end, end, arity, shorter, cells, work)
            for again in range(end + 1, size):
                for last in range(again + 1, size + 1):
                    if change == cells[DEPTHS + again] - cells[DEPTHS + last]:
                        found |= is_idle(body, size, begin, end, again, last, arity, shorter, cells, work)
    return found


@kernel
def uses_idly(program: Tokens, body: Tokens, shorter: Tokens, cells: Ints, work: Ints) -> bool:
    """Whether a true program meets some directive `use` with idle words only.

    ``body`` and ``shorter`` have room for the program; ``cells`` has `ROOM` cells. Without cases of 1 to `WIDTH`
    inputs, no word is idle.
    """
    directives = prepare(program, work)[2]
    uses: Int = 0
    words = np.uint64(0)
    for k in range(directives):
        if load(work, DIRECTIVES + 2 * k) == op.USE:
            uses += 1
            words |= bit(load(work, DIRECTIVES + 2 * k + 1))
    if uses == 0:
        return False
    _, arity = read_inputs(program, cells, work)
    if arity == 0:
        return False
    position: Int = 0
    while program[position] != op.DO:
        position += 1
    position += 1
    size: Int = 0
    while program[position] != op.END:
        if program[position] == op.OPEN:
            while program[position] != op.CLOSE:
                position += 1
        else:
            body[size] = program[position]
            size += 1
        position += 1
    body[size] = op.END
    if not find_idle(body, size, arity, shorter, cells, work):
        return False
    for k in range(size):
        if cells[FLAGS + k] == 0:
            words &= ~bit(np.int64(body[k]))
    return bool(words != 0)


@kernel
def judge_idle(
    programs: Tokens, rows: Ints, body: Tokens, shorter: Tokens, cells: Ints, work: Ints, idle: Ints
) -> None:
    for k in rows:
        idle[k] = np.int64(uses_idly(programs[k], body, shorter, cells, work))


def idle_use(programs: Tokens, rows: Ints) -> Ints:
    """Return which programs (N, L) meet a `use` with idle words only, (N,) int64 of 0 and 1.

    Only ``rows``, those of true programs, are judged; all others are 0.
    """
    idle, size = np.zeros(len(programs), np.int64), programs.shape[1]
    buffers = np.zeros(size, np.uint8), np.zeros(size, np.uint8), np.zeros(ROOM, np.int64)
    judge_idle(programs, np.asarray(rows, np.int64), *buffers, scratch(size), idle)
    return idle
