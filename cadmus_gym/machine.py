"""The machine: judges programs, one or a batch, and traces one for people.

There is one source of semantics, `execute` below, for all three. It is called in two ways. Most programs are straight
lines, so a program is first run at once, without looking ahead; where that run meets its `end` in order, it is the
verdict. Everything else (a header, a block, a fault, no `end`) goes the long way: read the header, check the body and
note where its jumps lead, then run each case.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cadmus_gym.compiling import kernel
from cadmus_gym.isa import (
    BOS,
    END,
    ID,
    INSTRUCTIONS,
    NINE,
    VOCABULARY,
    ZERO,
    Int,
    Ints,
    Tokens,
    as_tokens,
    check_ids,
)

Scratch: TypeAlias = tuple[Ints, Ints, Ints, Ints, Ints, Ints, Ints, Ints]


class Verdict(IntEnum):
    """What came of a program; only TRUE is success."""

    TRUE = 0
    FALSE = 1
    SYNTAX = 2
    UNTERMINATED = 3
    DIRECTIVE = 4
    STACK_UNDERFLOW = 5
    STACK_OVERFLOW = 6
    VALUE_OVERFLOW = 7
    DIVISION_BY_ZERO = 8
    CONTROL_OVERFLOW = 9
    STEP_LIMIT = 10


LARGEST = 2147483647  # magnitude of a value
STACK_ROOM = 64
FRAME_ROOM = 64
STEPS = 1024
BLOCK_DEPTH = 16
MAX_DIRECTIVES = 8
MAX_CASES = 16
MAX_SIDE = 8  # integers on one side of a case

# Numba freezes module constants into the compiled code; enum members it would look up.
TRUE, FALSE, SYNTAX, UNTERMINATED = (int(Verdict[v]) for v in ("TRUE", "FALSE", "SYNTAX", "UNTERMINATED"))
DIRECTIVE, STEP_LIMIT = int(Verdict.DIRECTIVE), int(Verdict.STEP_LIMIT)
STACK_UNDERFLOW, STACK_OVERFLOW = int(Verdict.STACK_UNDERFLOW), int(Verdict.STACK_OVERFLOW)
VALUE_OVERFLOW, DIVISION_BY_ZERO = int(Verdict.VALUE_OVERFLOW), int(Verdict.DIVISION_BY_ZERO)
CONTROL_OVERFLOW = int(Verdict.CONTROL_OVERFLOW)
RAN = -1  # `execute` came to `end`
UNPREPARED = -2  # `execute` came to a token that needs the long way

CASE, TO, DO, USE, AVOID, WITHIN, EXACTLY = range(ID["case"], ID["exactly"] + 1)
COMMA, OPEN, CLOSE = ID[","], ID["("], ID[")"]
ADD, SUB, MUL, DIV, MOD, NEG, ABS, MIN, MAX, INC, DEC = range(ID["add"], ID["dec"] + 1)
EQ, NE, LT, LE, GT, GE = range(ID["eq"], ID["ge"] + 1)
AND, OR, NOT, XOR = range(ID["and"], ID["xor"] + 1)
DUP, DROP, SWAP, OVER, ROT, PICK = range(ID["dup"], ID["pick"] + 1)
SET_A, GET_A, SET_B, GET_B = range(ID["a!"], ID["b@"] + 1)
IF, ELSE, FI, TIMES, NEXT, INDEX, BEGIN, UNTIL = range(ID["if"], ID["until"] + 1)
DEF, RET, CALL = range(ID["def"], ID["call"] + 1)
BODY = COMMA  # ids from here on may stand in a body
BINARY = np.uint64(
    sum(1 << (x.id - BODY) for x in INSTRUCTIONS if (x.pops, x.pushes) == (2, 1))
)  # a bit for each token (x y -- z)


@kernel
def bit(token: Int) -> np.uint64:
    """The bit that stands for a token of a body in a set of tokens: there are 55, so a set is one uint64."""
    return np.uint64(1) << np.uint64(token - BODY)


@kernel
def execute(
    program: Tokens,
    start: Int,
    prepared: bool,
    jumps: Ints,
    stack: Ints,
    depth: Int,
    registers: Ints,
    frames: Ints,
    limit: Int,
) -> tuple[Int, Int, Int, Int, np.uint64]:
    """Run the body at ``start`` on a stack of ``depth`` values for at most ``limit`` tokens.

    Without ``prepared`` only a body without jumps can be run, and nothing behind the current token is known to be
    well-formed. Returns (outcome, depth, position, steps, executed): a fault's verdict, RAN or UNPREPARED; the depth
    of the stack; the position it stopped at; the number of tokens executed; the set of tokens executed (see `bit`).
    """
    registers[0] = 0
    registers[1] = 0
    executed = np.uint64(0)
    outcome = UNPREPARED
    steps = 0
    frame = 0
    position = start
    while position < program.size:
        token = np.int64(program[position])
        if token == END:
            outcome = RAN
            break
        if steps >= limit:
            outcome = STEP_LIMIT
            break
        if token < BODY:
            outcome = UNPREPARED
            break
        steps += 1
        executed |= bit(token)

        if ZERO <= token <= NINE:
            digit = token - ZERO
            if position > start and ZERO <= program[position - 1] <= NINE:
                value = 10 * stack[depth - 1] + digit
                if value > LARGEST:
                    outcome = VALUE_OVERFLOW
                    break
                stack[depth - 1] = value
            else:
                if depth == STACK_ROOM:
                    outcome = STACK_OVERFLOW
                    break
                stack[depth] = digit
                depth += 1
            position += 1

        elif BINARY & bit(token):
            if depth < 2:
                outcome = STACK_UNDERFLOW
                break
            x = stack[depth - 2]
            y = stack[depth - 1]
            if token == ADD:
                value = x + y
            elif token == SUB:
                value = x - y
            elif token == MUL:
                value = x * y
            elif token == EQ:
                value = np.int64(x == y)
            elif token == NE:
                value = np.int64(x != y)
            elif token == LT:
                value = np.int64(x < y)
            elif token == LE:
                value = np.int64(x <= y)
            elif token == GT:
                value = np.int64(x > y)
            elif token == GE:
                value = np.int64(x >= y)
            elif token == MIN:
                value = min(x, y)
            elif token == MAX:
                value = max(x, y)
            elif token == AND:
                value = x & y
            elif token == OR:
                value = x | y
            elif token == XOR:
                value = x ^ y
            else:
                if y == 0:
                    outcome = DIVISION_BY_ZERO
                    break
                value = x // y if token == DIV else x % y
            if value > LARGEST or value < -LARGEST:
                outcome = VALUE_OVERFLOW
                break
            depth -= 1
            stack[depth - 1] = value
            position += 1

        elif token == COMMA or token == FI or token == BEGIN:
            position += 1

        elif token == OPEN:
            position += 1
            while position < program.size and program[position] >= BODY and program[position] != OPEN:
                if program[position] == CLOSE:
                    break
                position += 1
            if position == program.size or program[position] != CLOSE:
                outcome = UNPREPARED
                break
            position += 1

        elif NEG <= token <= DEC or token == NOT:
            if depth < 1:
                outcome = STACK_UNDERFLOW
                break
            value = stack[depth - 1]
            if token == NEG:
                value = -value
            elif token == ABS:
                value = abs(value)
            elif token == INC:
                value += 1
            elif token == DEC:
                value -= 1
            else:
                value = np.int64(value == 0)
            if value > LARGEST or value < -LARGEST:
                outcome = VALUE_OVERFLOW
                break
            stack[depth - 1] = value
            position += 1

        elif token == DROP or token == SET_A or token == SET_B:
            if depth < 1:
                outcome = STACK_UNDERFLOW
                break
            depth -= 1
            if token == SET_A:
                registers[0] = stack[depth]
            elif token == SET_B:
                registers[1] = stack[depth]
            position += 1

        elif token == SWAP:
            if depth < 2:
                outcome = STACK_UNDERFLOW
                break
            value = stack[depth - 1]
            stack[depth - 1] = stack[depth - 2]
            stack[depth - 2] = value
            position += 1

        elif token == ROT:
            if depth < 3:
                outcome = STACK_UNDERFLOW
                break
            value = stack[depth - 3]
            stack[depth - 3] = stack[depth - 2]
            stack[depth - 2] = stack[depth - 1]
            stack[depth - 1] = value
            position += 1

        elif token == PICK:
            if depth < 1:
                outcome = STACK_UNDERFLOW
                break
            below = stack[depth - 1]
            if below < 0 or below >= depth - 1:
                outcome = STACK_UNDERFLOW
                break
            stack[depth - 1] = stack[depth - 2 - below]
            position += 1

        elif token == DUP or token == OVER or token == GET_A or token == GET_B:
            needs = 1 if token == DUP else 2 if token == OVER else 0
            if depth < needs:
                outcome = STACK_UNDERFLOW
                break
            if depth == STACK_ROOM:
                outcome = STACK_OVERFLOW
                break
            if token == GET_A:
                value = registers[0]
            elif token == GET_B:
                value = registers[1]
            else:
                value = stack[depth - needs]
            stack[depth] = value
            depth += 1
            position += 1

        elif not prepared:
            outcome = UNPREPARED
            break

        elif token == IF or token == UNTIL:
            if depth < 1:
                outcome = STACK_UNDERFLOW
                break
            depth -= 1
            position = jumps[position] if stack[depth] == 0 else position + 1

        elif token == ELSE or token == DEF:
            position = jumps[position]

        elif token == TIMES:
            if depth < 1:
                outcome = STACK_UNDERFLOW
                break
            turns = stack[depth - 1]
            if turns > 0 and frame == FRAME_ROOM:
                outcome = CONTROL_OVERFLOW
                break
            depth -= 1
            if turns > 0:
                frames[frame, 0] = 0
                frames[frame, 1] = turns
                frame += 1
                position += 1
            else:
                position = jumps[position]

        elif token == NEXT:
            frames[frame - 1, 0] += 1
            if frames[frame - 1, 0] < frames[frame - 1, 1]:
                position = jumps[position]
            else:
                frame -= 1
                position += 1

        elif token == INDEX:
            if depth == STACK_ROOM:
                outcome = STACK_OVERFLOW
                break
            stack[depth] = frames[frame - 1, 0]
            depth += 1
            position += 1

        elif token == CALL:
            if frame == FRAME_ROOM:
                outcome = CONTROL_OVERFLOW
                break
            frames[frame, 0] = position + 1
            frame += 1
            position = jumps[position]

        else:  # RET: a body of a function is entered by `call` alone, so its frame is there
            frame -= 1
            position = frames[frame, 0]
    return outcome, depth, position, steps, executed


@kernel
def read_integer(program: Tokens, position: Int) -> tuple[Int, Int]:
    """Return (position behind, value) of the INT at ``position``, or position -1 where none or too large a one stands."""
    value: Int = 0
    start = position
    while ZERO <= program[position] <= NINE:  # stops at the latest at `end`
        value = min(10 * value + np.int64(program[position]) - ZERO, np.int64(LARGEST + 1))
        position += 1
    if position == start or value > LARGEST:
        return -1, 0
    if program[position] == NEG:
        return position + 1, -value
    return position, value


@kernel
def read_header(
    program: Tokens, position: Int, directives: Ints, sizes: Ints, values: Ints
) -> tuple[Int, Int, Int]:
    """Read the header at ``position``; return (position of the body or -1, directives, cases).

    ``directives`` (8, 2) gets kind and operand, ``sizes`` (16, 2) the number of integers on each side of a case,
    ``values`` (16, 2, 8) those integers.
    """
    directive = 0
    case = 0
    while True:
        kind = program[position]
        position += 1
        if kind == DO:
            return position, directive, case
        if USE <= kind <= EXACTLY:
            if case > 0 or directive == MAX_DIRECTIVES:
                return -1, 0, 0
            if kind == USE or kind == AVOID:
                operand: Int = np.int64(program[position])
                if operand < BODY or operand == OPEN or operand == CLOSE:
                    return -1, 0, 0
                position += 1
            else:
                position, operand = read_integer(program, position)
                if position < 0 or operand < 0:
                    return -1, 0, 0
            directives[directive, 0] = kind
            directives[directive, 1] = operand
            directive += 1
        elif kind == CASE:
            if case == MAX_CASES:
                return -1, 0, 0
            for side in range(2):
                size = 0
                if ZERO <= program[position] <= NINE:
                    while True:
                        if size == MAX_SIDE:
                            return -1, 0, 0
                        position, value = read_integer(program, position)
                        if position < 0:
                            return -1, 0, 0
                        values[case, side, size] = value
                        size += 1
                        if program[position] != COMMA:
                            break
                        position += 1
                sizes[case, side] = size
                if side == 0:
                    if program[position] != TO:
                        return -1, 0, 0
                    position += 1
            case += 1
        else:
            return -1, 0, 0


@kernel
def read_body(program: Tokens, position: Int, jumps: Ints, opened: Ints) -> tuple[Int, np.uint64]:
    """Check the body at ``position`` and note in ``jumps`` where each control token leads.

    Returns (length without `end` and thoughts, or -1 for a syntax error; the set of tokens in it).
    """
    depth = 0
    loops = 0  # `times` among them
    function = -1
    length = 0
    present = np.uint64(0)
    while True:
        token = np.int64(program[position])
        if token == END:
            return (length if depth == 0 else -1), present
        if token < BODY or token == CLOSE:
            return -1, present
        if token == OPEN:
            position += 1
            while program[position] != CLOSE:
                if program[position] < BODY or program[position] == OPEN:
                    return -1, present
                position += 1
            position += 1
            continue
        length += 1
        present |= bit(token)
        if token == IF or token == TIMES or token == BEGIN or token == DEF:
            if depth == BLOCK_DEPTH or (token == DEF and (depth > 0 or function >= 0)):
                return -1, present
            if token == DEF:
                function = position
            if token == TIMES:
                loops += 1
            opened[depth] = position
            depth += 1
        elif token == ELSE or token == FI or token == NEXT or token == UNTIL or token == RET:
            if depth == 0:
                return -1, present
            opening = opened[depth - 1]
            opener = program[opening]
            if token == ELSE:
                if opener != IF:
                    return -1, present
                jumps[opening] = position + 1
                opened[depth - 1] = position
            else:
                if token == FI:
                    matches = opener == IF or opener == ELSE
                elif token == NEXT:
                    matches = opener == TIMES
                    loops -= 1
                elif token == UNTIL:
                    matches = opener == BEGIN
                else:
                    matches = opener == DEF
                if not matches:
                    return -1, present
                if token == UNTIL or token == NEXT:
                    jumps[position] = opening + 1
                jumps[opening] = position + 1
                depth -= 1
        elif token == CALL:
            if function < 0:
                return -1, present
            jumps[position] = function + 1
        elif token == INDEX and loops == 0:
            return -1, present
        position += 1


def scratch(length: int) -> Scratch:
    """Return the arrays a kernel works in, for programs of at most ``length`` tokens."""
    return (
        np.zeros(max(length, 1), np.int64),  # jumps
        np.zeros(STACK_ROOM, np.int64),  # stack
        np.zeros(2, np.int64),  # registers
        np.zeros((FRAME_ROOM, 2), np.int64),  # frames: turns done and turns in all, or where to return to
        np.zeros(BLOCK_DEPTH, np.int64),  # opened: where the blocks around a place begin
        np.zeros((MAX_DIRECTIVES, 2), np.int64),  # directives
        np.zeros((MAX_CASES, 2), np.int64),  # sizes
        np.zeros((MAX_CASES, 2, MAX_SIDE), np.int64),  # values
    )


@kernel
def prepare(program: Tokens, work: Scratch) -> tuple[Int, Int, Int, Int]:
    """Find all that can be told without a run: return (verdict or RAN, body, directives, cases), filling ``work``."""
    jumps, _, _, _, opened, directives, sizes, values = work
    stop = 0
    while stop < program.size and program[stop] != END:
        stop += 1
    if stop == program.size:
        return UNTERMINATED, 0, 0, 0
    body = 1 if program[0] == BOS else 0
    directive = 0
    cases = 0
    if CASE <= program[body] <= EXACTLY:
        body, directive, cases = read_header(program, body, directives, sizes, values)
        if body < 0:
            return SYNTAX, 0, 0, 0
    length, present = read_body(program, body, jumps, opened)
    if length < 0:
        return SYNTAX, 0, 0, 0
    for k in range(directive):
        kind = directives[k, 0]
        operand = directives[k, 1]
        if (
            (kind == AVOID and present & bit(operand))
            or (kind == WITHIN and length > operand)
            or (kind == EXACTLY and length != operand)
        ):
            return DIRECTIVE, body, directive, cases
    return RAN, body, directive, cases


@kernel
def load_inputs(case: Int, cases: Int, work: Scratch) -> Int:
    """Put the inputs of a case on the stack; return the depth."""
    _, stack, _, _, _, _, sizes, values = work
    if cases == 0:
        return 0
    for k in range(sizes[case, 0]):
        stack[k] = values[case, 0, k]
    return sizes[case, 0]


@kernel
def leaves_outputs(case: Int, cases: Int, depth: Int, work: Scratch) -> bool:
    """Whether a run left what it should: the outputs of its case, or exactly 1."""
    _, stack, _, _, _, _, sizes, values = work
    if cases == 0:
        return bool(depth == 1 and stack[0] == 1)
    if depth != sizes[case, 1]:
        return False
    for k in range(depth):
        if stack[k] != values[case, 1, k]:
            return False
    return True


@kernel
def judge(program: Tokens, work: Scratch) -> tuple[Int, Int, Int, Int, Int]:
    """Judge a program; return (verdict, passed, cases, depth, steps). ``work[1][:depth]`` is what the last run left."""
    jumps, stack, registers, frames, _, directives, _, _ = work
    start = 1 if program.size > 0 and program[0] == BOS else 0
    outcome, depth, _, steps, executed = execute(
        program, start, False, jumps, stack, 0, registers, frames, STEPS
    )
    if outcome == RAN:
        if depth == 1 and stack[0] == 1:
            return TRUE, 1, 1, depth, steps
        return FALSE, 0, 1, depth, steps

    verdict, body, directive, cases = prepare(program, work)
    runs = 0 if verdict == UNTERMINATED or verdict == SYNTAX else max(cases, 1)
    if verdict != RAN:
        return verdict, 0, runs, 0, 0
    verdict = TRUE
    passed = 0
    total = 0
    used = ~np.uint64(0)
    for case in range(runs):
        depth = load_inputs(case, cases, work)
        outcome, depth, _, steps, executed = execute(
            program, body, True, jumps, stack, depth, registers, frames, STEPS
        )
        total += steps
        used &= executed
        if outcome != RAN:
            depth = 0
        elif leaves_outputs(case, cases, depth, work):
            passed += 1
            outcome = TRUE
        else:
            outcome = FALSE
        if verdict == TRUE:
            verdict = outcome
    if verdict == TRUE:
        for k in range(directive):
            if directives[k, 0] == USE and not used & bit(directives[k, 1]):
                verdict = DIRECTIVE
    return verdict, passed, runs, depth, total


@kernel
def judge_rows(
    programs: Tokens, verdicts: NDArray[np.uint8], passed: NDArray[np.int32], work: Scratch
) -> None:
    """Judge the rows of ``programs`` (N, L) into ``verdicts`` (N,) and ``passed`` (N,)."""
    for k in range(programs.shape[0]):
        verdict, count, _, _, _ = judge(programs[k], work)
        verdicts[k] = verdict
        passed[k] = count


@dataclass(frozen=True)
class Outcome:
    """What came of a program.

    ``passed`` of ``cases`` runs were true (a program without cases asks for one run; 0 where it could not be read),
    ``stack`` is what the last run left, bottom first (empty after a fault or where nothing ran), and ``steps`` counts
    the tokens executed over all runs.
    """

    verdict: Verdict
    true: bool
    passed: int
    cases: int
    stack: tuple[int, ...]
    steps: int


@dataclass(frozen=True)
class Step:
    """One token executed: the state it left, or the fault it ended in (then the state before it)."""

    case: int
    position: int
    token: int
    stack: tuple[int, ...]
    registers: tuple[int, int]
    fault: Verdict | None = None

    def __str__(self) -> str:
        ending = self.fault.name if self.fault else " ".join(map(str, self.stack))
        return f"{self.position:4d}  {VOCABULARY[self.token]:6s}  {ending}"


def run(program: str | ArrayLike) -> Outcome:
    """Judge one program, given as text of token names or as (n,) token ids.

    Raises ValueError for what is no program: an unknown word, an id outside 0..64, another shape or dtype. Whatever
    is made of the 65 tokens is judged.
    """
    tokens = as_tokens(program)
    work = scratch(tokens.size)
    verdict, passed, cases, depth, steps = judge(tokens, work)
    return Outcome(Verdict(verdict), verdict == TRUE, passed, cases, tuple(work[1][:depth].tolist()), steps)


def run_batch(programs: ArrayLike, threads: int | None = None) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Judge programs (N, L), rows padded with 0; return their verdicts (N,) uint8 and passed cases (N,) int32.

    ``threads`` is the largest number of threads to use, by default one for each processor; it never changes results.
    Raises ValueError for another shape or dtype, or an id outside 0..64.
    """
    rows = np.asarray(programs)
    if rows.ndim != 2:
        raise ValueError(f"programs are rows of token ids, shape (N, L); this has shape {rows.shape}")
    tokens = (
        rows if rows.dtype == np.uint8 and rows.flags.c_contiguous and within_ids(rows) else check_ids(rows)
    )
    verdicts = np.empty(len(tokens), np.uint8)
    passed = np.empty(len(tokens), np.int32)
    spread(
        lambda part: judge_rows(tokens[part], verdicts[part], passed[part], scratch(tokens.shape[1])),
        len(tokens),
        threads,
    )
    return verdicts, passed


def within_ids(tokens: NDArray[np.uint8]) -> bool:
    return tokens.size == 0 or int(tokens.max()) < len(VOCABULARY)


def spread(work: Any, count: int, threads: int | None, least: int = 4096) -> None:
    """Call ``work(slice)`` for slices that cover ``range(count)``, on up to ``threads`` threads.

    Kernels release the GIL, so plain threads spread them; unlike OpenMP's, they survive a fork of the process.
    """
    if threads is not None and threads < 1:
        raise ValueError(f"threads = {threads}: at least 1, or None for one a processor")
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = max(1, min(threads or available, count // least))
    if threads == 1:
        work(slice(0, count))
        return
    bounds = [count * k // threads for k in range(threads + 1)]
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda k: work(slice(bounds[k], bounds[k + 1])), range(threads)))


def trace(program: str | ArrayLike) -> Iterator[Step]:
    """Yield one `Step` for each token executed, case by case; nothing for a program that is not run.

    Raises ValueError as `run` does.
    """
    tokens = as_tokens(program)
    work = scratch(tokens.size)
    jumps, stack, registers, frames, *_ = work
    verdict, body, _, cases = prepare(tokens, work)
    if verdict != RAN:
        return
    for case in range(max(cases, 1)):
        position, state = body, (0, 0)
        values: tuple[int, ...] = tuple(stack[: load_inputs(case, cases, work)].tolist())
        for limit in range(1, STEPS + 2):  # runs again up to each step: a body has at most 1024
            depth = load_inputs(case, cases, work)
            outcome, depth, behind, steps, _ = execute(
                tokens, body, True, jumps, stack, depth, registers, frames, min(limit, STEPS)
            )
            if outcome == RAN and steps < limit:
                break
            if outcome not in (RAN, STEP_LIMIT) or limit > STEPS:
                yield Step(case, position, int(tokens[position]), values, state, Verdict(outcome))
                break
            values, state = tuple(stack[:depth].tolist()), (int(registers[0]), int(registers[1]))
            yield Step(case, position, int(tokens[position]), values, state)
            position = behind


def standing(program: Tokens) -> tuple[int, ...]:
    """Return the stack as it stands behind a program that may still be in the making: of its first case, up to the first
    fault or the first block, whose end is not known yet."""
    work = scratch(program.size + 1)
    jumps, stack, registers, frames, _, directives, sizes, values = work
    body = 1 if program.size and program[0] == BOS else 0
    depth = 0
    if program.size > body and CASE <= program[body] <= EXACTLY:
        closed = np.append(program, np.uint8(END))  # the header is read up to `end` at the latest
        body, _, cases = read_header(closed, body, directives, sizes, values)
        if body < 0:
            return ()
        depth = load_inputs(0, cases, work)
    _, depth, *_ = execute(program, body, False, jumps, stack, depth, registers, frames, STEPS)
    return tuple(stack[:depth].tolist())
