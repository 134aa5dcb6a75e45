"""What the machine adds to a prompt: the key of its problem, worked steps, and the answer that makes it true.

The key is the hash of the expression that running the prompt computes: literals by their value, operations by what they
are applied to, operands of commutative ones in either order, whichever words moved them to their places. So `3 4 add`,
`4 3 add` and `3 4 swap add` are one problem, and so are two texts whose runs differ only in what has no part in the
answer.

What the expression contains says on which side the problem is: a problem with a held-out fact is never trained on
(`cadmus_gym.tasks.facts`).
"""

from __future__ import annotations

import numpy as np

from cadmus_gym.language import isa as op
from cadmus_gym.language.hashing import join, mix
from cadmus_gym.language.isa import Int, Ints, Tokens
from cadmus_gym.language.kernels import kernel
from cadmus_gym.language.machine import execute
from cadmus_gym.language.memory import STACK, fresh
from cadmus_gym.language.parsing import prepare
from cadmus_gym.language.verdicts import RAN, STEP_LIMIT, STEPS, SYNTAX
from cadmus_gym.tasks.facts import held_out, mirrors_held_out
from cadmus_gym.tasks.family import HELD, OPERATED, SHOWN
from cadmus_gym.tasks.literals import COMMA, put_literal

STYLES = ("none", "values", "products", "digits", "trace", "stack")
VALUES, PRODUCTS, DIGITS, TRACE, WHOLE = range(1, len(STYLES))
ANSWER_ROOMS = {"value": 14, "relation": 2}  # tokens of the longest answer: `,` ten digits `neg eq end`; `not end`
LEAST_THOUGHT = 3  # tokens of the shortest thought that holds one: a digit in parentheses
# Working room of `identify`: for each register and each value on the stack the hash of the expression it comes from,
# and FACTS cells further on what that contains.
HASH_A, HASH_B, HASHES = range(3)
FACTS = 128
OPERATION = 1  # whether it has an operation, and in steps of two, how many held-out facts
ONE_FACT, MOST_FACTS = 2, 2**40
SLACK = 40  # tokens of room a thought needs beyond its limit: what one instruction writes last


@kernel
def begin(program: Tokens, prompt: Int, machine: Ints) -> Int:
    """Close a prompt with `end` and make it ready to run; return RAN or the verdict it has without a run."""
    program[prompt] = op.END
    fresh(machine)
    outcome, body, directives, cases = prepare(program[: prompt + 1], machine)
    return SYNTAX if outcome == RAN and (body > 0 or directives > 0 or cases > 0) else outcome


@kernel
def step(program: Tokens, position: Int, depth: Int, machine: Ints) -> tuple[Int, Int, Int, Int]:
    """Run the token at a position, of a literal all digits: (outcome, depth, position after it, tokens executed)."""
    limit = 1
    if op.ZERO <= program[position] <= op.NINE:
        while op.ZERO <= program[position + limit] <= op.NINE:
            limit += 1
    outcome, depth, behind, steps, _ = execute(program, position, True, depth, limit, machine)
    return RAN if outcome == STEP_LIMIT else outcome, depth, behind, steps


@kernel
def solve(program: Tokens, prompt: Int, machine: Ints) -> tuple[Int, Int]:
    """Run a prompt: return (outcome, depth of the stack it left)."""
    outcome = begin(program, prompt, machine)
    if outcome != RAN:
        return outcome, 0
    outcome, depth, _, _, _ = execute(program, 0, True, 0, STEPS, machine)
    return outcome, depth


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
def identify(program: Tokens, prompt: Int, marks: Ints, shadow: Ints, machine: Ints) -> tuple[Int, Int, np.uint64]:
    """Run a prompt, and what each value was computed from beside it: (outcome, depth, key).

    The marks OPERATED, HELD and SHOWN say what the expression contains: whether it has operations, and how many
    held-out facts, one that stands in it twice counted twice; and whether the run executes one, also mirrored or
    without a part in the answer.
    """
    outcome = begin(program, prompt, machine)
    depth: Int = 0
    position: Int = 0
    steps: Int = 0
    marks[OPERATED], marks[HELD], marks[SHOWN] = 0, 0, 0
    shadow[HASH_A] = np.int64(mix(np.uint64(0)))
    shadow[HASH_B] = shadow[HASH_A]
    shadow[HASH_A + FACTS], shadow[HASH_B + FACTS] = 0, 0
    one = mix(np.uint64(1))
    while outcome == RAN and program[position] != op.END:
        token = np.int64(program[position])
        top = HASHES + depth - 1  # of the values before the token
        x = machine[STACK + depth - 2] if depth > 1 else np.int64(0)
        y = machine[STACK + depth - 1] if depth > 0 else np.int64(0)
        before = depth
        outcome, depth, position, taken = step(program, position, depth, machine)
        steps += taken
        if outcome != RAN or steps > STEPS:
            outcome = STEP_LIMIT if outcome == RAN else outcome
            break
        if op.ZERO <= token <= op.NINE or token == op.INDEX:
            shadow[top + 1] = np.int64(mix(np.uint64(machine[STACK + depth - 1])))
            shadow[top + 1 + FACTS] = 0
        elif token == op.NEG and shadow[top] == np.int64(mix(np.uint64(y))):
            shadow[top] = np.int64(mix(np.uint64(-y)))
        elif token == op.NEG or token == op.ABS or token == op.NOT:
            shadow[top] = np.int64(join(np.uint64(token), np.uint64(shadow[top])))
        elif token == op.INC or token == op.DEC:
            shadow[top] = np.int64(combine(op.ADD if token == op.INC else op.SUB, np.uint64(shadow[top]), one))
            shadow[top + FACTS] |= OPERATION
        elif op.ADD <= token <= op.XOR:
            value = combine(token, np.uint64(shadow[top - 1]), np.uint64(shadow[top]))
            shadow[top - 1] = np.int64(value)
            left, right = shadow[top - 1 + FACTS], shadow[top + FACTS]
            facts = left - (left & OPERATION) + right - (right & OPERATION)
            facts += ONE_FACT if held_out(token, x, y) else 0
            shadow[top - 1 + FACTS] = min(facts, MOST_FACTS) | OPERATION
            marks[SHOWN] |= np.int64(mirrors_held_out(token, x, y))
        elif token == op.SWAP:
            for cell in range(0, FACTS + 1, FACTS):
                shadow[top + cell], shadow[top - 1 + cell] = shadow[top - 1 + cell], shadow[top + cell]
        elif token == op.ROT:
            for cell in range(0, FACTS + 1, FACTS):
                third = shadow[top - 2 + cell]
                shadow[top - 2 + cell], shadow[top - 1 + cell] = shadow[top - 1 + cell], shadow[top + cell]
                shadow[top + cell] = third
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
        # What is left takes values away at the most: `drop` `if` `until` `times` and the like.
        if depth > before + 1:
            outcome = SYNTAX
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
    shadow[target], shadow[target + FACTS] = shadow[source], shadow[source + FACTS]


@kernel
def put_parts(thought: Tokens, position: Int, stop: Int, x: Int, y: Int) -> Int:
    """Write a product digit by digit: of the factor with fewer digits (the right one of two as long), lowest digit
    first, each times the other factor, where there is more than one such product."""
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
    """Write two numbers and what joining their bits came to in base 8, where digits are joined each for itself; nothing
    where a number is negative, or both have one such digit."""
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
def think(program: Tokens, prompt: Int, style: Int, limit: Int, thought: Tokens, machine: Ints) -> Int:
    """Run a prompt and write worked steps into ``thought``; return their length, 0 where none fit into ``limit``.

    The styles, of every instruction executed that computes something:

    - values: what it came to
    - products: also the parts of a product digit by digit, and the difference of two numbers that are compared
    - digits: also two numbers whose bits are joined, and what comes of it, in base 8
    - trace: its name, then what it came to
    - stack: for every instruction but literals, its name and all values on the stack after it

    The last value is left out where it is the answer.
    """
    outcome = begin(program, prompt, machine)
    depth: Int = 0
    position: Int = 0
    stop = limit - 1
    size: Int = 1
    last: Int = 1  # where what the last instruction wrote begins
    value: Int = 0
    thought[0] = op.OPEN
    while outcome == RAN and program[position] != op.END:
        token = np.int64(program[position])
        literal = op.ZERO <= token <= op.NINE or token == COMMA
        literal = literal or (token == op.NEG and position > 0 and op.ZERO <= program[position - 1] <= op.NINE)
        x = machine[STACK + depth - 2] if depth > 1 else np.int64(0)
        y = machine[STACK + depth - 1] if depth > 0 else np.int64(0)
        outcome, depth, position, _ = step(program, position, depth, machine)
        if outcome != RAN or literal or (style != WHOLE and not op.ADD <= token <= op.XOR):
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
            size = put_octal(thought, size, stop, x, y, machine[STACK + depth - 1])
            if size > stop:
                return 0
        last = size
        if style == TRACE or style == WHOLE:
            thought[size] = token
            size += 1
        value = machine[STACK + depth - 1] if depth > 0 else np.int64(0)
        for k in range(0 if style == WHOLE else depth - 1, depth):
            if size <= stop:
                size = put_literal(thought, size, machine[STACK + k])
    if depth > 0 and value == machine[STACK + depth - 1]:
        size = last
    if size == 1 or size > stop or outcome != RAN:
        return 0
    thought[size] = op.CLOSE
    return size + 1


@kernel
def put_answer(program: Tokens, position: Int, answer: Int, relation: bool) -> Int:
    """Write what completes a program whose prompt leaves ``answer``; return its length."""
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
