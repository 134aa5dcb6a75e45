"""The machine: judges programs, one or a batch, and traces one for people.

All three use `execute` below, the one source of semantics. Most programs are straight lines, so a program is first run
without reading ahead; if that run reaches its `end`, the verdict is found. Any other program (a header, a block, a
fault, no `end`) takes the long way: read the header, check the body and find its jump targets, then run each case.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cadmus_gym.language import isa as op
from cadmus_gym.language.isa import VOCABULARY, Int, Ints, Tokens
from cadmus_gym.language.kernels import kernel, spread
from cadmus_gym.language.memory import (
    DIRECTIVES,
    FRAME,
    FRAMES,
    JUMPS,
    REGISTERS,
    SIZES,
    STACK,
    VALUES,
    at,
    bit,
    fresh,
    load,
    scratch,
    store,
)
from cadmus_gym.language.notation import as_tokens, check_ids, within_ids
from cadmus_gym.language.parsing import prepare, read_header
from cadmus_gym.language.verdicts import (
    CONTROL_OVERFLOW,
    DIRECTIVE,
    DIVISION_BY_ZERO,
    FALSE,
    FRAME_ROOM,
    LARGEST,
    MAX_SIDE,
    RAN,
    STACK_OVERFLOW,
    STACK_ROOM,
    STACK_UNDERFLOW,
    STEP_LIMIT,
    STEPS,
    SYNTAX,
    TRUE,
    UNPREPARED,
    UNTERMINATED,
    VALUE_OVERFLOW,
    Verdict,
)


@kernel
def execute(
    program: Tokens, start: Int, prepared: bool, depth: Int, limit: Int, work: Ints
) -> tuple[Int, Int, Int, Int, np.uint64]:
    """Run the body from ``start`` on a stack of ``depth`` values for at most ``limit`` tokens.

    Registers and frames stay in ``work``, so a run that reached its limit can be resumed; `fresh` resets them. Unless
    ``prepared``, only bodies without blocks can be run, and nothing after the current token is known to be well formed.
    Returns (outcome, depth, position, steps, executed): a fault's verdict, RAN or UNPREPARED; the depth of the stack;
    the position at which it stopped; the number of tokens executed; the set of them (see `bit`).

    Literals, thoughts and `,` are handled first, which keeps their checks out of the way of other instructions. For
    these, the table gives the stack effect, checked in one place. Each arm then computes from x and y, the top, the one
    ``value`` that becomes the top of the stack. The arms are a flat chain of equalities, which LLVM turns into a jump
    table.
    """
    a, b = load(work, REGISTERS), load(work, REGISTERS + 1)
    frame = load(work, FRAME)
    executed = np.uint64(0)
    outcome = RAN
    steps = 0
    position = start
    size = program.size
    while True:
        if not prepared and position == size:
            outcome = UNPREPARED
            break
        token = at(program, position)
        if steps >= limit:
            if token != op.END:
                outcome = STEP_LIMIT
            break
        if op.ZERO <= token <= op.NINE:  # and the rest of the literal
            steps += 1
            executed |= bit(token)
            if depth == STACK_ROOM:
                outcome = STACK_OVERFLOW
                break
            value = token - op.ZERO
            depth += 1
            while True:
                store(work, STACK + depth - 1, value)
                position += 1
                if not prepared and position == size:
                    break
                token = at(program, position)
                if not op.ZERO <= token <= op.NINE:
                    break
                if steps >= limit:
                    outcome = STEP_LIMIT
                    break
                steps += 1
                executed |= bit(token)
                value = 10 * value + token - op.ZERO
                if value > LARGEST:
                    outcome = VALUE_OVERFLOW
                    break
            if outcome != RAN:
                break
            continue
        if token < op.ZERO:
            if token == op.END:
                break
            if token == op.CLOSE or (not prepared and token < op.BODY):  # a lone `)`, since thoughts are skipped
                outcome = UNPREPARED
                break
            steps += 1
            executed |= bit(token)
            following = position + 1
            if token == op.OPEN and prepared:
                following = load(work, JUMPS + position)
            elif token == op.OPEN:
                while following < size and at(program, following) >= op.BODY and at(program, following) != op.OPEN:
                    if at(program, following) == op.CLOSE:
                        break
                    following += 1
                if following == size or at(program, following) != op.CLOSE:
                    outcome = UNPREPARED
                    break
                following += 1
            position = following
            continue

        if not prepared and token >= op.IF:
            outcome = UNPREPARED
            break
        steps += 1
        executed |= bit(token)
        pops = op.POPS[np.uint64(token)]
        pushes = op.PUSHES[np.uint64(token)]
        if depth < pops:
            outcome = STACK_UNDERFLOW
            break
        if depth - pops + pushes > STACK_ROOM:
            outcome = STACK_OVERFLOW
            break
        x = load(work, STACK + depth - 2)
        y = load(work, STACK + depth - 1)
        value = np.int64(0)
        following = position + 1

        if token == op.ADD:
            value = x + y
        elif token == op.SUB:
            value = x - y
        elif token == op.MUL:
            value = x * y
        elif token == op.DIV:
            if y == 0:
                outcome = DIVISION_BY_ZERO
                break
            value = x // y
        elif token == op.MOD:
            if y == 0:
                outcome = DIVISION_BY_ZERO
                break
            value = x % y
        elif token == op.NEG:
            value = -y
        elif token == op.ABS:
            value = abs(y)
        elif token == op.MIN:
            value = min(x, y)
        elif token == op.MAX:
            value = max(x, y)
        elif token == op.INC:
            value = y + 1
        elif token == op.DEC:
            value = y - 1
        elif token == op.EQ:
            value = np.int64(x == y)
        elif token == op.NE:
            value = np.int64(x != y)
        elif token == op.LT:
            value = np.int64(x < y)
        elif token == op.LE:
            value = np.int64(x <= y)
        elif token == op.GT:
            value = np.int64(x > y)
        elif token == op.GE:
            value = np.int64(x >= y)
        elif token == op.AND:
            value = x & y
        elif token == op.OR:
            value = x | y
        elif token == op.NOT:
            value = np.int64(y == 0)
        elif token == op.XOR:
            value = x ^ y
        elif token == op.DUP:
            value = y
        elif token == op.SWAP:
            store(work, STACK + depth - 2, y)
            value = x
        elif token == op.OVER:
            value = x
        elif token == op.ROT:
            value = load(work, STACK + depth - 3)
            store(work, STACK + depth - 3, x)
            store(work, STACK + depth - 2, y)
        elif token == op.PICK:
            if y < 0 or y >= depth - 1:
                outcome = STACK_UNDERFLOW
                break
            value = load(work, STACK + depth - 2 - y)
        elif token == op.SET_A:
            a = y
        elif token == op.GET_A:
            value = a
        elif token == op.SET_B:
            b = y
        elif token == op.GET_B:
            value = b
        elif token == op.IF or token == op.UNTIL:
            if y == 0:
                following = load(work, JUMPS + position)
        elif token == op.ELSE or token == op.DEF:
            following = load(work, JUMPS + position)
        elif token == op.TIMES:
            if y <= 0:
                following = load(work, JUMPS + position)
            elif frame == FRAMES + 2 * FRAME_ROOM:
                outcome = CONTROL_OVERFLOW
                break
            else:
                store(work, frame, 0)
                store(work, frame + 1, y)
                frame += 2
        elif token == op.NEXT:
            turns = load(work, frame - 2) + 1
            if turns < load(work, frame - 1):
                store(work, frame - 2, turns)
                following = load(work, JUMPS + position)
            else:
                frame -= 2
        elif token == op.INDEX:
            value = load(work, frame - 2)
        elif token == op.CALL:
            if frame == FRAMES + 2 * FRAME_ROOM:
                outcome = CONTROL_OVERFLOW
                break
            store(work, frame, following)
            frame += 2
            following = load(work, JUMPS + position)
        elif token == op.RET:  # only `call` enters a function, so its frame is there
            frame -= 2
            following = load(work, frame)
        # The rest do nothing more: `drop` `fi` `begin`.

        if value > LARGEST or value < -LARGEST:
            outcome = VALUE_OVERFLOW
            break
        depth += pushes - pops
        if pushes > 0:
            store(work, STACK + depth - 1, value)
        position = following
    store(work, REGISTERS, a)
    store(work, REGISTERS + 1, b)
    store(work, FRAME, frame)
    return outcome, depth, position, steps, executed


@kernel
def load_inputs(case: Int, cases: Int, work: Ints) -> Int:
    """Push the inputs of a case; return the depth of the stack."""
    if cases == 0:
        return 0
    size = load(work, SIZES + 2 * case)
    for k in range(size):
        store(work, STACK + k, load(work, VALUES + 2 * MAX_SIDE * case + k))
    return size


@kernel
def leaves_outputs(case: Int, cases: Int, depth: Int, work: Ints) -> bool:
    """Whether a run left the outputs of its case, or exactly 1 if there are no cases."""
    if cases == 0:
        return bool(depth == 1 and load(work, STACK) == 1)
    if depth != load(work, SIZES + 2 * case + 1):
        return False
    for k in range(depth):  # noqa: SIM110 (a kernel has no generators)
        if load(work, STACK + k) != load(work, VALUES + MAX_SIDE * (2 * case + 1) + k):
            return False
    return True


@kernel
def judge(program: Tokens, work: Ints) -> tuple[Int, Int, Int, Int, Int]:
    """Judge a program; return (verdict, passed, cases, depth of the last run's stack, steps)."""
    start = 1 if program.size > 0 and at(program, 0) == op.BOS else 0
    if program.size > start and not op.CASE <= at(program, start) <= op.EXACTLY:
        fresh(work)
        outcome, depth, _, steps, executed = execute(program, start, False, 0, STEPS, work)
        if outcome == RAN:
            if leaves_outputs(0, 0, depth, work):
                return TRUE, 1, 1, depth, steps
            return FALSE, 0, 1, depth, steps

    verdict, body, directives, cases = prepare(program, work)
    runs = 0 if verdict == UNTERMINATED or verdict == SYNTAX else max(cases, 1)
    if verdict != RAN:
        return verdict, 0, runs, 0, 0
    verdict = TRUE
    passed = 0
    total = 0
    depth = 0
    used = ~np.uint64(0)
    for case in range(runs):
        depth = load_inputs(case, cases, work)
        fresh(work)
        outcome, depth, _, steps, executed = execute(program, body, True, depth, STEPS, work)
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
        for k in range(directives):
            if load(work, DIRECTIVES + 2 * k) == op.USE and not used & bit(load(work, DIRECTIVES + 2 * k + 1)):
                verdict = DIRECTIVE
    return verdict, passed, runs, depth, total


@kernel
def judge_rows(programs: Tokens, verdicts: NDArray[np.uint8], passed: NDArray[np.int32], work: Ints) -> None:
    """Judge the rows of ``programs`` (N, L) into ``verdicts`` (N,) and ``passed`` (N,)."""
    for k in range(programs.shape[0]):
        verdict, count, _, _, _ = judge(programs[k], work)
        verdicts[k] = verdict
        passed[k] = count


@dataclass(frozen=True)
class Outcome:
    """The outcome of a program.

    ``passed`` of ``cases`` runs were true; a program without cases has one run, one that cannot be read has none.
    ``stack`` is what the last run left, bottom first; it is empty after a fault or if nothing ran. ``steps`` counts
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
    """One executed token: the state after it, or its fault and the state before it."""

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
    """Judge one program, given as text for `cadmus_gym.assemble` or as (n,) token ids.

    Every row of tokens has a verdict. Raises ValueError for anything else: an unknown word, an id outside 0..64,
    another shape or dtype.
    """
    tokens = as_tokens(program)
    work = scratch(tokens.size)
    verdict, passed, cases, depth, steps = judge(tokens, work)
    return Outcome(Verdict(verdict), verdict == TRUE, passed, cases, values(work, depth), steps)


def run_batch(programs: ArrayLike, threads: int | None = None) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Judge programs (N, L), rows padded with 0; return their verdicts (N,) uint8 and passed cases (N,) int32.

    At most ``threads`` threads are used, by default one per processor; their number never changes results.
    Raises ValueError for another shape or dtype, or an id outside 0..64.
    """
    rows = np.asarray(programs)
    if rows.ndim != 2:
        raise ValueError(f"programs are rows of token ids, shape (N, L); this has shape {rows.shape}")
    ready = rows.dtype == np.uint8 and rows.flags.c_contiguous and rows.flags.writeable  # else kernels recompile
    tokens = rows if ready and within_ids(rows) else check_ids(rows)
    verdicts = np.empty(len(tokens), np.uint8)
    passed = np.empty(len(tokens), np.int32)
    spread(
        lambda part: judge_rows(tokens[part], verdicts[part], passed[part], scratch(tokens.shape[1])),
        len(tokens),
        threads,
    )
    return verdicts, passed


def values(work: Ints, depth: int) -> tuple[int, ...]:
    return tuple(work[STACK : STACK + depth].tolist())


def trace(program: str | ArrayLike) -> Iterator[Step]:
    """Yield one `Step` per executed token, case by case; nothing for a program that is not run.

    Raises ValueError as `run` does.
    """
    tokens = as_tokens(program)
    work = scratch(tokens.size)
    verdict, body, _, cases = prepare(tokens, work)
    if verdict != RAN:
        return
    for case in range(max(cases, 1)):
        fresh(work)
        position, depth = body, load_inputs(case, cases, work)
        first, bottom = position, depth  # where the token or its literal begins, and the depth there
        stack, registers = values(work, depth), (0, 0)
        for taken in range(STEPS + 1):
            token = int(tokens[position])
            if not (position > first and op.ZERO <= token <= op.NINE and op.ZERO <= tokens[first] <= op.NINE):
                first, bottom = position, depth
            limit = 0 if taken == STEPS else 1 + position - first
            outcome, depth, following, steps, _ = execute(tokens, first, True, bottom, limit, work)
            if outcome == RAN and steps == 0:
                break
            if taken == STEPS or outcome not in (RAN, STEP_LIMIT):
                yield Step(case, position, token, stack, registers, Verdict(outcome))
                break
            stack, registers = values(work, depth), (int(work[REGISTERS]), int(work[REGISTERS + 1]))
            yield Step(case, position, token, stack, registers)
            position = following


def standing(program: Tokens) -> tuple[int, ...]:
    """Return the stack after an unfinished program: in its first case, up to the first fault or block."""
    work = scratch(program.size + 1)
    body = 1 if program.size and program[0] == op.BOS else 0
    depth = 0
    if program.size > body and op.CASE <= program[body] <= op.EXACTLY:
        closed = np.append(program, np.uint8(op.END))  # the header is read up to `end` at the latest
        body, _, cases = read_header(closed, body, work)
        if body < 0:
            return ()
        depth = load_inputs(0, cases, work)
    fresh(work)
    _, depth, *_ = execute(program, body, False, depth, STEPS, work)
    return values(work, depth)
