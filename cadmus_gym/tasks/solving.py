"""What the machine adds to a prompt: the key of its problem, worked steps, and the answer that makes it true.

The key is the hash of the expression that the prompt computes: literals by value, operations by their operands, in
either order if the operation is commutative. Words that only move values do not matter. So `3 4 add`, `4 3 add` and
`3 4 swap add` are one problem, and so are two prompts whose runs differ only in steps that the answer does not need.

A problem whose expression contains a held-out fact is never trained on (`cadmus_gym.tasks.facts`).
"""

from __future__ import annotations

import numpy as np

from cadmus_gym.language import isa as op
from cadmus_gym.language.hashing import join, mix
from cadmus_gym.language.isa import Int, Ints, Tokens
from cadmus_gym.language.kernels import kernel
from cadmus_gym.language.memory import STACK, load, store
from cadmus_gym.language.verdicts import SYNTAX
from cadmus_gym.tasks.facts import mirrors_held_out
from cadmus_gym.tasks.family import HELD, OPERATED, PROMPT, SHADOW, SHOWN, WALKED
from cadmus_gym.tasks.literals import COMMA, put_literal
from cadmus_gym.tasks.walking import BEFORE, DEPTH, LEFT, POSITION, RESULT, RIGHT, ROW, TOKEN, begin, step, walk

STYLES = ("none", "values", "products", "digits", "trace", "stack")
VALUES, PRODUCTS, DIGITS, TRACE, WHOLE = range(1, len(STYLES))
ANSWER_ROOMS = {"value": 14, "relation": 2}  # tokens of the longest answer: `,` ten digits `neg eq end`; `not end`
LEAST_THOUGHT = 3  # tokens of the shortest thought: a digit in parentheses
# Working room of `identify`: for each register and each value on the stack, the hash of its expression, and FACTS cells
# later the contents of that expression; one spare place to swap values.
HASH_A, HASH_B, SPARE, HASHES = range(4)
FACTS = 128
OPERATION = 1  # the bit says whether it has an operation; the others count held-out facts
ONE_FACT, MOST_FACTS = 2, 2**40
SLACK = 40  # tokens that a thought may write past its limit: those of one instruction


@kernel
def combine(token: Int, left: np.uint64, right: np.uint64) -> np.uint64:
    if token == op.GT or token == op.GE:
        left, right = right, left
        token -= op.GT - op.LT
    elif (
        not (token == op.SUB or token == op.DIV or token == op.MOD or token == op.LT or token == op.LE) and left > right
    ):
        left, right = right, left
    return join(join(np.uint64(token), left), right)


@kernel
def identify(program: Tokens, prompt: Int, marks: Ints, work: Ints, machine: Ints) -> tuple[Int, Int, np.uint64]:
    """Run a prompt and hash the expression it computes; return (outcome, depth, key).

    The tape stays in ``work`` (WORK,), and ``marks[WALKED]`` is its number of rows plus 1. Of the other marks, OPERATED
    says whether the expression has operations, and HELD counts its held-out facts, with repetitions. SHOWN says whether
    the run executes a held-out fact or one that mirrors it, even if the answer does not need it.
    """
    shadow, tape = work[:SHADOW], work[SHADOW:]
    outcome, depth, rows = walk(program, prompt, tape, machine)
    marks[WALKED] = rows + 1
    marks[OPERATED], marks[HELD], marks[SHOWN] = 0, 0, 0
    shadow[HASH_A] = np.int64(mix(np.uint64(0)))
    shadow[HASH_B] = shadow[HASH_A]
    shadow[HASH_A + FACTS], shadow[HASH_B + FACTS] = 0, 0
    one = mix(np.uint64(1))
    for k in range(rows):
        row = ROW * k
        before = load(tape, row + BEFORE)
        token, x, y = load(tape, row + TOKEN), load(tape, row + LEFT), load(tape, row + RIGHT)
        top = HASHES + before - 1  # of the values before the token
        if load(tape, row + DEPTH) > before + 1:
            outcome = SYNTAX
            break
        if op.ZERO <= token <= op.NINE or token == op.INDEX:
            store(shadow, top + 1, np.int64(mix(np.uint64(load(tape, row + RESULT)))))
            store(shadow, top + 1 + FACTS, 0)
        elif token == op.NEG and shadow[top] == np.int64(mix(np.uint64(y))):
            shadow[top] = np.int64(mix(np.uint64(-y)))
        elif token == op.NEG or token == op.ABS or token == op.NOT:
            shadow[top] = np.int64(join(np.uint64(token), np.uint64(shadow[top])))
        elif token == op.INC or token == op.DEC:
            shadow[top] = np.int64(combine(op.ADD if token == op.INC else op.SUB, np.uint64(shadow[top]), one))
            shadow[top + FACTS] |= OPERATION
        elif op.ADD <= token <= op.XOR:
            value = combine(token, np.uint64(load(shadow, top - 1)), np.uint64(load(shadow, top)))
            store(shadow, top - 1, np.int64(value))
            left, right = load(shadow, top - 1 + FACTS), load(shadow, top + FACTS)
            facts = left - (left & OPERATION) + right - (right & OPERATION)
            if mirrors_held_out(token, x, y):
                marks[SHOWN] = 1
                facts += ONE_FACT if x >= 2 and y >= 2 else 0
            store(shadow, top - 1 + FACTS, min(facts, MOST_FACTS) | OPERATION)
        elif token == op.SWAP:
            move(shadow, top, SPARE)
            move(shadow, top - 1, top)
            move(shadow, SPARE, top - 1)
        elif token == op.ROT:
            move(shadow, top - 2, SPARE)
            move(shadow, top - 1, top - 2)
            move(shadow, top, top - 1)
            move(shadow, SPARE, top)
        elif token == op.DUP:
            move(shadow, top, top + 1)
        elif token == op.OVER:
            move(shadow, top - 1, top + 1)
        elif token == op.PICK:
            move(shadow, top - 1 - y, top)
        elif token == op.SET_A or token == op.SET_B:
            move(shadow, top, HASH_A if token == op.SET_A else HASH_B)
        elif token == op.GET_A or token == op.GET_B:
            move(shadow, HASH_A if token == op.GET_A else HASH_B, top + 1)
        # All other tokens push nothing: `drop` `if` `until` `times` and so on.
    key = np.uint64(shadow[HASHES]) if depth > 0 else np.uint64(0)
    for k in range(1, depth):
        key = join(key, np.uint64(shadow[HASHES + k]))
    for k in range(depth):
        facts = shadow[HASHES + k + FACTS]
        marks[OPERATED] |= facts & OPERATION
        marks[HELD] += facts // ONE_FACT
    return outcome, depth, key


@kernel
def move(shadow: Ints, source: Int, target: Int) -> None:
    store(shadow, target, load(shadow, source))
    store(shadow, target + FACTS, load(shadow, source + FACTS))


@kernel
def put_parts(thought: Tokens, position: Int, stop: Int, x: Int, y: Int) -> Int:
    """Write the partial products of x and y: each digit of the factor with fewer digits, lowest first, times the other.

    Of two factors with equally many digits the right one is split. Nothing is written for a factor of one digit.
    """
    factor, digits = x, y
    if abs(digits) < 10 or abs(factor) < 10:
        return position
    size_x, size_y = 1, 1
    while 10**size_x <= abs(x):
        size_x += 1
    while 10**size_y <= abs(y):
        size_y += 1
    if size_x < size_y:
        factor, digits = y, x
    sign = -1 if digits < 0 else 1
    digits = abs(digits)
    place = 1
    while digits > 0 and position <= stop:
        position = put_literal(thought, position, sign * (digits % 10) * place * factor)
        digits //= 10
        place *= 10
    return position


@kernel
def put_octal(thought: Tokens, position: Int, stop: Int, x: Int, y: Int, joined: Int) -> Int:
    """Write two operands of a bitwise operation and its result in base 8, where each digit stands for its own bits.

    Nothing is written for negative operands, or if both have one octal digit.
    """
    if x < 0 or y < 0 or (x < 8 and y < 8):
        return position
    for number in (x, y, joined):
        written: Int = 0
        place: Int = 1
        while number > 0:
            written += number % 8 * place
            number //= 8
            place *= 10
        if position <= stop:
            position = put_literal(thought, position, written)
    return position


@kernel
def think(program: Tokens, marks: Ints, style: Int, limit: Int, thought: Tokens, work: Ints, machine: Ints) -> Int:
    """Write worked steps into ``thought``; return their length, or 0 if there are none or they do not fit ``limit``.

    The steps are read from the tape in ``work``; if ``marks[WALKED]`` is 0, the prompt is run first. The styles write,
    for every executed instruction that computes a value:

    - values: its result
    - products: also the partial products of `mul`, and the difference of two numbers that are compared
    - digits: also the operands and result of bitwise operations, in base 8
    - trace: its name and its result
    - stack: its name and the whole stack after it, for all instructions except literals

    The last value is left out if it is the answer.
    """
    tape = work[SHADOW:]
    if marks[WALKED] == 0:
        marks[WALKED] = walk(program, marks[PROMPT], tape, machine)[2] + 1
    rows = marks[WALKED] - 1
    if style == WHOLE:  # the tape holds only the top of the stack, so run the prompt again
        begin(program, marks[PROMPT], machine)
    depth: Int = 0
    stop = limit - 1
    size: Int = 1
    last: Int = 1  # where the last instruction's steps begin
    value: Int = 0
    thought[0] = op.OPEN
    for k in range(rows):
        row = tape[ROW * k : ROW * (k + 2)]
        token, x, y, position = row[TOKEN], row[LEFT], row[RIGHT], row[POSITION]
        if style == WHOLE:
            step(program, position, depth, machine)
        depth = row[DEPTH]
        literal = op.ZERO <= token <= op.NINE or token == COMMA
        literal = literal or (token == op.NEG and position > 0 and op.ZERO <= program[position - 1] <= op.NINE)
        if literal or (style != WHOLE and not op.ADD <= token <= op.XOR):
            continue
        if size > stop:
            return 0
        if (style == PRODUCTS or style == DIGITS) and token == op.MUL:
            size = put_parts(thought, size, stop, x, y)
            if size > stop:
                return 0
        if (style == PRODUCTS or style == DIGITS) and op.EQ <= token <= op.GE:
            size = put_literal(thought, size, x - y)
        if style == DIGITS and op.AND <= token <= op.XOR and token != op.NOT:
            size = put_octal(thought, size, stop, x, y, row[RESULT])
            if size > stop:
                return 0
        last = size
        if style == TRACE or style == WHOLE:
            thought[size] = token
            size += 1
        value = row[RESULT]
        if style == WHOLE:
            for place in range(depth):
                if size <= stop:
                    size = put_literal(thought, size, machine[STACK + place])
        elif size <= stop:
            size = put_literal(thought, size, value)
    if depth > 0 and value == tape[ROW * (rows - 1) + RESULT]:
        size = last
    if size == 1 or size > stop:
        return 0
    thought[size] = op.CLOSE
    return size + 1


@kernel
def put_answer(program: Tokens, position: Int, answer: Int, relation: bool) -> Int:
    """Write the completion of a prompt that leaves ``answer``; return the length of the program."""
    if relation:
        if answer == 0:
            program[position] = op.NOT
            position += 1
    else:
        position = put_literal(program, position, answer)
        program[position] = op.EQ
        position += 1
    program[position] = op.END
    return position + 1
