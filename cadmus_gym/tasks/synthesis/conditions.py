"""Conditions on one number, as arrays: their text, and all integers that meet them.

A condition compares what a chain of operations makes of a number, alone or together with a second comparison:

- equation: ``3 mul 7 add 40 eq``
- bound: ``dup 6 sub abs 9 eq swap 4 lt and``
- interval: ``dup 5 add 12 mod 7 eq swap 15 div 8 eq and``
- window: ``dup 12 mod 7 eq swap 50 sub abs 8 lt and``

The solutions of an equation are found from its result backwards, operation by operation. An interval or a window leaves
few numbers, which are tried. So the solutions are all there are among all integers.
"""

from __future__ import annotations

import numpy as np

from cadmus_gym.language import isa as op
from cadmus_gym.language.hashing import join, mix
from cadmus_gym.language.isa import Int, Ints, Tokens
from cadmus_gym.language.kernels import kernel
from cadmus_gym.tasks.literals import is_digit, literal_at, put, put_literal, token_at

KINDS = ("equation", "bound", "interval", "window")
EQUATION, BOUND, INTERVAL, WINDOW = range(len(KINDS))
OPERATORS = ("add", "sub", "mul", "div", "abs", "square", "product", "mod")
ADD, SUB, MUL, DIV, ABS, SQUARE, PRODUCT, MOD = range(len(OPERATORS))
LINEAR = ("add", "sub", "mul")
FOLDS = ("div", "abs", "square", "product")  # they take several numbers to one
MOST = 3  # operations

# Cells of a condition: its kind; the number of operations, their operators and their numbers; what they must leave; and
# two more: of a bound whether it is `lt`, and its number; of an interval its size and quotient; of a window its middle
# and radius.
KIND, COUNT, CHAIN = range(3)
NUMBERS = CHAIN + MOST
RESULT, FIRST, SECOND, CELLS = range(NUMBERS + MOST, NUMBERS + MOST + 4)
CANDIDATES = 128  # integers that are looked at, at most


@kernel
def operate(operator: Int, number: Int, x: Int) -> Int:
    if operator == ADD:
        return x + number
    if operator == SUB:
        return x - number
    if operator == MUL:
        return x * number
    if operator == DIV:
        return x // number
    if operator == MOD:
        return x % number
    if operator == ABS:
        return abs(x)
    return x * x if operator == SQUARE else x * (x + number)


@kernel
def run_chain(cells: Ints, x: Int, limit: Int) -> Int:
    """What the chain leaves of a number, or ``limit + 1`` if a magnitude on the way is above the limit."""
    for k in range(cells[COUNT]):
        x = operate(cells[CHAIN + k], cells[NUMBERS + k], x)
        if abs(x) > limit:
            return limit + 1
    return x


@kernel
def reach(cells: Ints, limit: Int) -> Int:
    """The largest magnitude of which the chain leaves nothing above the limit on the way; -1 if there is none."""
    low, high = np.int64(-1), limit
    while low < high:
        middle = (low + high + 1) // 2
        value, within = middle, True
        for k in range(cells[COUNT]):
            operator, number = cells[CHAIN + k], cells[NUMBERS + k]
            value = value + number if operator == SUB else operate(operator, number, value)
            within = within and value <= limit
            if not within:
                break
        if within:
            low = middle
        else:
            high = middle - 1
    return low


@kernel
def root_of(square: Int) -> Int:
    """The largest integer whose square is at most ``square``, from 0."""
    root, bit = np.int64(0), np.int64(1) << 31
    while bit > 0:
        if (root + bit) * (root + bit) <= square:
            root += bit
        bit >>= 1
    return root


@kernel
def sources_of(operator: Int, number: Int, value: Int, found: Ints, count: Int) -> Int:
    """Add to ``found`` the integers of which an operator leaves a value; return their number, -1 if too many."""
    if operator == ADD or operator == SUB:
        found[count] = value - number if operator == ADD else value + number
        return count + 1
    if operator == MUL:
        if value % number == 0:
            found[count] = value // number
            return count + 1
        return count
    if operator == DIV:
        if count + number > CANDIDATES:
            return np.int64(-1)
        for k in range(number):
            found[count + k] = number * value + k
        return count + number
    if value < 0 and operator != PRODUCT:
        return count
    twice = np.int64(0)  # the sum of both sources, times -1
    apart = 2 * value
    if operator == SQUARE:
        apart = 2 * root_of(value)
        if apart * apart != 4 * value:
            return count
    elif operator == PRODUCT:
        twice = number
        square = number * number + 4 * value
        apart = root_of(max(square, np.int64(0)))
        if apart * apart != square:
            return count
    found[count] = (apart - twice) // 2
    if apart == 0:
        return count + 1
    found[count + 1] = (-apart - twice) // 2
    return count + 2


@kernel
def solve_equation(cells: Ints, limit: Int, found: Ints, spare: Ints) -> Int:
    """Find all integers of which the chain leaves the result; return their number, -1 as `solve` does."""
    found[0] = cells[RESULT]
    count: Int = 1
    for k in range(cells[COUNT] - 1, -1, -1):
        for i in range(count):
            spare[i] = found[i]
        values = count
        count = 0
        for i in range(values):
            if abs(spare[i]) > limit or count + 2 > CANDIDATES:
                return np.int64(-1)
            count = sources_of(cells[CHAIN + k], cells[NUMBERS + k], spare[i], found, count)
            if count < 0:
                return np.int64(-1)
    for i in range(count):
        if abs(found[i]) > limit:
            return np.int64(-1)
    return count


@kernel
def solve(cells: Ints, limit: Int, found: Ints, spare: Ints) -> Int:
    """Write all solutions of a condition to ``found`` (CANDIDATES,) in ascending order; return their number.

    It is -1 if a magnitude on the way may be above the limit, or if there are too many integers to look at.
    """
    kind, first, second = cells[KIND], cells[FIRST], cells[SECOND]
    count: Int = 0
    if kind == EQUATION or kind == BOUND:
        for k in range(cells[COUNT]):
            if cells[CHAIN + k] != ABS and cells[CHAIN + k] != SQUARE and not 0 < cells[NUMBERS + k] <= limit:
                return np.int64(-1)
        size = solve_equation(cells, limit, found, spare)
        for i in range(size):
            if kind == EQUATION or (found[i] < second if first == 1 else found[i] > second):
                found[count] = found[i]
                count += 1
        if size < 0:
            return size
    else:
        low, size = (first * second, first) if kind == INTERVAL else (first - second + 1, 2 * second - 1)
        if not 0 < size <= CANDIDATES or abs(low) > limit or abs(low + size) > limit:
            return np.int64(-1)
        for x in range(low, low + size):
            value = run_chain(cells, x, limit)
            if value > limit:
                return np.int64(-1)
            if value == cells[RESULT]:
                found[count] = x
                count += 1
    for i in range(1, count):
        x, k = found[i], i
        while k > 0 and found[k - 1] > x:
            found[k] = found[k - 1]
            k -= 1
        found[k] = x
    return count


@kernel
def smallest_of(found: Ints, count: Int, low: Int, high: Int) -> Int:
    """The solution of smallest magnitude in [low, high], of two the one above 0; ``high + 1`` if none is there."""
    best = high + 1
    for i in range(count):
        if low <= found[i] <= high and (best > high or abs(found[i]) < abs(best) or found[i] == -best):
            best = found[i]
    return best


@kernel
def key_of(found: Ints, count: Int) -> np.uint64:
    """The hash of a set of solutions in ascending order."""
    key = mix(np.uint64(count))
    for i in range(count):
        key = join(key, np.uint64(found[i]))
    return key


@kernel
def put_chain(cells: Ints, program: Tokens, position: Int) -> Int:
    for k in range(cells[COUNT]):
        operator, number = cells[CHAIN + k], cells[NUMBERS + k]
        if operator == ABS:
            position = put(program, position, op.ABS)
        elif operator == SQUARE:
            position = put(program, put(program, position, op.DUP), op.MUL)
        elif operator == PRODUCT:
            position = put_literal(program, put(program, position, op.DUP), number)
            position = put(program, put(program, position, op.ADD), op.MUL)
        else:  # add sub mul div mod have neighbouring ids
            token = op.MOD if operator == MOD else op.ADD + operator
            position = put(program, put_literal(program, position, number), token)
    return position


@kernel
def put_condition(cells: Ints, program: Tokens) -> Int:
    """Write ``def CONDITION ret``; return the length."""
    kind, first, second = cells[KIND], cells[FIRST], cells[SECOND]
    position = put(program, 0, op.DEF)
    if kind != EQUATION:
        position = put(program, position, op.DUP)
    position = put_chain(cells, program, position)
    position = put(program, put_literal(program, position, cells[RESULT]), op.EQ)
    if kind != EQUATION:
        position = put(program, position, op.SWAP)
        if kind == BOUND:
            position = put(program, put_literal(program, position, second), op.LT if first == 1 else op.GT)
        else:
            position = put_literal(program, position, first)
            if kind == INTERVAL:
                position = put_literal(program, put(program, position, op.DIV), second)
            else:
                position = put(program, put(program, position, op.SUB), op.ABS)
                position = put_literal(program, position, second)
            position = put(program, position, op.EQ if kind == INTERVAL else op.LT)
        position = put(program, position, op.AND)
    return put(program, position, op.RET)


@kernel
def read_condition(program: Tokens, cells: Ints) -> None:
    """Read the condition at the beginning of a program as `put_condition` writes it; of any other text the kind is -1
    or the condition is another."""
    cells[:CELLS] = 0
    cells[KIND] = -1
    last: Int = 0
    while last < program.size and program[last] != op.RET:
        last += 1
    two = last > 0 and program[last - 1] == op.AND
    position: Int = 2 if two else 1
    count: Int = 0
    while count < MOST:
        token = token_at(program, position)
        number: Int = 0
        after: Int = position + 1
        operator: Int = -1
        if token == op.ABS:
            operator = ABS
        elif token == op.DUP and token_at(program, after) == op.MUL:
            operator, after = SQUARE, after + 1
        elif token == op.DUP:
            number, after = literal_at(program, after, False)
            operator, after = PRODUCT, after + 2
        elif is_digit(program, position):
            number, after = literal_at(program, position, False)
            token = token_at(program, after)
            if op.ADD <= token <= op.DIV:
                operator = token - op.ADD
            elif token == op.MOD:
                operator = MOD
            after += 1
        if operator < 0:
            break
        cells[CHAIN + count], cells[NUMBERS + count] = operator, number
        count += 1
        position = after
        if operator == MOD:
            break
    cells[COUNT] = count
    cells[RESULT], position = literal_at(program, position, True)
    if not two:
        cells[KIND] = EQUATION
        return
    value, position = literal_at(program, position + 2, True)  # after `eq swap`
    token = token_at(program, position)
    if token == op.GT or token == op.LT:
        cells[KIND], cells[FIRST], cells[SECOND] = BOUND, np.int64(token == op.LT), value
    elif token == op.DIV:
        cells[KIND], cells[FIRST] = INTERVAL, value
        cells[SECOND] = literal_at(program, position + 1, True)[0]
    elif token == op.SUB:
        cells[KIND], cells[FIRST] = WINDOW, value
        cells[SECOND] = literal_at(program, position + 2, True)[0]
