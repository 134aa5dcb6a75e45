"""Steps: the small functions that the bodies of written programs are chains of, on fixed probe inputs.

A step takes the top of the stack to a new one; with two inputs the first step merges them. Whatever is known of a
function is known from its outputs on the probes: two bodies with the same outputs there are one problem, and a step may
follow others only where it does something on them (see `is_feasible`).

A step is a kind and a number below `count_of` that kind: its constants, operators and arms in mixed radix. Functions
here work on the columns of a table in one array, ``cells``: a column of `ROOM` values for each step, a row for each
probe.
"""

from __future__ import annotations

import numpy as np

from cadmus_gym.language import isa as op
from cadmus_gym.language.isa import Int, Ints, Tokens
from cadmus_gym.language.kernels import kernel
from cadmus_gym.tasks.literals import literal_at, put, put_literal, token_at

SIMPLE = ("add", "sub", "inc", "dec", "mul", "neg", "abs", "square", "div", "mod", "min", "max")
ADD, SUB, INC, DEC, MUL, NEG, ABS, SQUARE, DIV, MOD, MIN, MAX = range(len(SIMPLE))
CHAINED = (*SIMPLE, "combine", "condition", "parity", "loop")
COMBINE, CONDITION, PARITY, LOOP = range(len(SIMPLE), len(CHAINED))
MERGES = ("operator", "swap sub", "arm", "swap arm", "over", "compare")
OPERATOR, SWAP_SUB, ARM, SWAP_ARM, OVER, COMPARE = range(len(CHAINED), len(CHAINED) + len(MERGES))
KINDS = (*CHAINED, *MERGES)

# Kinds of one class do not follow one another.
CLASSES = np.array([0, 0, 0, 0, 1, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, *([11] * len(MERGES))])
OPERATORS = np.array([op.ADD, op.SUB, op.MUL, op.MIN, op.MAX])
RELATIONS = np.array([op.LT, op.GT])
# The token of each simple kind, which may follow a literal; 0 for `square`, which takes two tokens.
TOKENS = np.array([op.ADD, op.SUB, op.INC, op.DEC, op.MUL, op.NEG, op.ABS, 0, op.DIV, op.MOD, op.MIN, op.MAX])

ROOM = 64  # probes, at most
MOST = 3  # steps of a body
# Columns of `cells`: the inputs, what each step leaves, and room to compute in.
X, Y, FIRST = 0, 1, 2
SCRATCH = FIRST + MOST  # and the one after it
ARM_COLUMN = SCRATCH + 2
COLUMNS = ARM_COLUMN + 1

# Layout of the ranges: lowest constant and number of constants of each simple kind; where its steps begin among the
# simple ones; how many there are; those of the conditions, of the moduli of parity, and of the loops.
LOWEST = 0
COUNTS = LOWEST + len(SIMPLE)
STARTS = COUNTS + len(SIMPLE)
ARMS = STARTS + len(SIMPLE)
BOUNDS = ARMS + 1  # lowest and number of the constants of a condition
MODULI = BOUNDS + 2
TURNS = MODULI + 2
FACTORS = TURNS + 2
TERMS = FACTORS + 2
RANGES = TERMS + 2


@kernel
def count_of(ranges: Ints, kind: Int) -> Int:
    """How many steps there are of a kind."""
    arms = ranges[ARMS]
    if kind < COMBINE:
        return ranges[COUNTS + kind]
    if kind == COMBINE or kind == ARM or kind == SWAP_ARM:
        return arms * OPERATORS.size
    if kind == CONDITION:
        return ranges[BOUNDS + 1] * RELATIONS.size * arms * (arms + 1)
    if kind == PARITY:
        return ranges[MODULI + 1] * arms * (arms + 1)
    if kind == LOOP:
        return ranges[TURNS + 1] * ranges[FACTORS + 1] * ranges[TERMS + 1]
    if kind == OPERATOR:
        return OPERATORS.size
    if kind == OVER:
        return OPERATORS.size * OPERATORS.size
    if kind == COMPARE:
        return RELATIONS.size * OPERATORS.size * OPERATORS.size
    return 1  # SWAP_SUB


@kernel
def simple_of(ranges: Ints, arm: Int) -> tuple[Int, Int]:
    """The kind and the constant of a simple step."""
    kind: Int = MAX
    while ranges[STARTS + kind] > arm:
        kind -= 1
    return kind, ranges[LOWEST + kind] + arm - ranges[STARTS + kind]


@kernel
def run_simple(kind: Int, constant: Int, cells: Ints, source: Int, target: Int, rows: Int) -> None:
    """Apply a simple step to a column."""
    # One loop for each kind, which LLVM turns into vector instructions.
    if kind == ADD or kind == INC or kind == SUB or kind == DEC:
        by = constant if kind == ADD else -constant if kind == SUB else 1 if kind == INC else -1
        for row in range(rows):
            cells[target * ROOM + row] = cells[source * ROOM + row] + by
    elif kind == MUL or kind == NEG:
        by = constant if kind == MUL else -1
        for row in range(rows):
            cells[target * ROOM + row] = cells[source * ROOM + row] * by
    elif kind == ABS:
        for row in range(rows):
            cells[target * ROOM + row] = abs(cells[source * ROOM + row])
    elif kind == SQUARE:
        for row in range(rows):
            cells[target * ROOM + row] = cells[source * ROOM + row] * cells[source * ROOM + row]
    elif kind == DIV:
        for row in range(rows):
            cells[target * ROOM + row] = cells[source * ROOM + row] // constant
    elif kind == MOD:
        for row in range(rows):
            cells[target * ROOM + row] = cells[source * ROOM + row] % constant
    elif kind == MIN:
        for row in range(rows):
            cells[target * ROOM + row] = min(cells[source * ROOM + row], constant)
    else:
        for row in range(rows):
            cells[target * ROOM + row] = max(cells[source * ROOM + row], constant)


@kernel
def run_operator(operator: Int, cells: Ints, left: Int, right: Int, target: Int, rows: Int) -> None:
    """Apply one of `OPERATORS` to two columns."""
    if operator == 0:
        for row in range(rows):
            cells[target * ROOM + row] = cells[left * ROOM + row] + cells[right * ROOM + row]
    elif operator == 1:
        for row in range(rows):
            cells[target * ROOM + row] = cells[left * ROOM + row] - cells[right * ROOM + row]
    elif operator == 2:
        for row in range(rows):
            cells[target * ROOM + row] = cells[left * ROOM + row] * cells[right * ROOM + row]
    elif operator == 3:
        for row in range(rows):
            cells[target * ROOM + row] = min(cells[left * ROOM + row], cells[right * ROOM + row])
    else:
        for row in range(rows):
            cells[target * ROOM + row] = max(cells[left * ROOM + row], cells[right * ROOM + row])


@kernel
def is_within(cells: Ints, column: Int, rows: Int, limit: Int) -> bool:
    largest: Int = 0
    for row in range(rows):
        largest = max(largest, abs(cells[column * ROOM + row]))
    return bool(largest <= limit)


@kernel
def run_step(
    ranges: Ints, kind: Int, number: Int, left_out: Int, cells: Ints, source: Int, target: Int, rows: Int, limit: Int
) -> bool:
    """Apply a step to a column, a merge to the columns X and Y; return whether all values stay within the limit.

    ``left_out``: 0, or which of its parts is left out (see `parts_of`): the first arm or step, or the second one.
    """
    arms = ranges[ARMS]
    if kind < COMBINE:
        run_simple(kind, ranges[LOWEST + kind] + number, cells, source, target, rows)
    elif kind == COMBINE or kind == ARM or kind == SWAP_ARM:
        operator, arm = number % OPERATORS.size, number // OPERATORS.size
        simple, constant = simple_of(ranges, arm)
        swapped = kind == SWAP_ARM and left_out != 2
        left = source if kind == COMBINE else Y if swapped else X
        right = source if kind == COMBINE else X if swapped else Y
        if left_out != 1:
            run_simple(simple, constant, cells, right, ARM_COLUMN, rows)
            if not is_within(cells, ARM_COLUMN, rows, limit):
                return False
            right = ARM_COLUMN
        run_operator(operator, cells, left, right, target, rows)
    elif kind == CONDITION or kind == PARITY:
        second, rest = number % (arms + 1), number // (arms + 1)
        first, rest = rest % arms, rest // arms
        relation: Int = 0
        if kind == CONDITION:
            relation, rest = rest % RELATIONS.size, rest // RELATIONS.size
        constant = (ranges[BOUNDS] if kind == CONDITION else ranges[MODULI]) + rest
        simple, by = simple_of(ranges, first)
        if left_out == 1:
            for row in range(rows):
                cells[target * ROOM + row] = cells[source * ROOM + row]
        else:
            run_simple(simple, by, cells, source, target, rows)
        other = source
        if second < arms and left_out != 2:
            simple, by = simple_of(ranges, second)
            run_simple(simple, by, cells, source, ARM_COLUMN, rows)
            other = ARM_COLUMN
        for row in range(rows):
            value = cells[source * ROOM + row]
            holds = value > constant if relation == 1 else value < constant
            if kind == PARITY:
                holds = value % constant != 0
            if not holds:
                cells[target * ROOM + row] = cells[other * ROOM + row]
    elif kind == LOOP:
        by, rest = ranges[TERMS] + number % ranges[TERMS + 1], number // ranges[TERMS + 1]
        factor, turns = ranges[FACTORS] + rest % ranges[FACTORS + 1], ranges[TURNS] + rest // ranges[FACTORS + 1]
        factor, by = 1 if left_out == 1 else factor, 0 if left_out == 2 else by
        for row in range(rows):
            value = cells[source * ROOM + row]
            for _ in range(turns):
                value = value * factor + by
            cells[target * ROOM + row] = value
    elif kind == OPERATOR:
        run_operator(number, cells, X, Y, target, rows)
    elif kind == SWAP_SUB:
        run_operator(1, cells, X if left_out == 1 else Y, Y if left_out == 1 else X, target, rows)
    elif kind == OVER and left_out > 0:  # `over` with either operator
        operator = number % OPERATORS.size if left_out == 1 else number // OPERATORS.size
        run_operator(operator, cells, X, Y, target, rows)
    elif kind == OVER:  # x y x
        run_operator(number // OPERATORS.size, cells, Y, X, ARM_COLUMN, rows)
        if not is_within(cells, ARM_COLUMN, rows, limit):
            return False
        run_operator(number % OPERATORS.size, cells, X, ARM_COLUMN, target, rows)
    elif left_out > 0:  # COMPARE without a choice: one of its arms
        operator = number // OPERATORS.size % OPERATORS.size if left_out == 1 else number % OPERATORS.size
        run_operator(operator, cells, X, Y, target, rows)
    else:
        otherwise, rest = number % OPERATORS.size, number // OPERATORS.size
        run_operator(rest % OPERATORS.size, cells, X, Y, target, rows)
        run_operator(otherwise, cells, X, Y, ARM_COLUMN, rows)
        less = rest // OPERATORS.size == 0
        for row in range(rows):
            x, y = cells[X * ROOM + row], cells[Y * ROOM + row]
            if not (x < y if less else x > y):
                cells[target * ROOM + row] = cells[ARM_COLUMN * ROOM + row]
    return is_within(cells, target, rows, limit)


@kernel
def parts_of(kind: Int) -> Int:
    """How many parts of a step can be left out by themselves."""
    if kind == CONDITION or kind == PARITY or kind == LOOP or kind == SWAP_ARM or kind == OVER or kind == COMPARE:
        return 2
    return 1 if kind == COMBINE or kind == ARM or kind == SWAP_SUB else 0


@kernel
def are_equal(cells: Ints, one: Int, other: Int, rows: Int) -> bool:
    for row in range(rows):  # noqa: SIM110 (a kernel has no generators)
        if cells[one * ROOM + row] != cells[other * ROOM + row]:
            return False
    return True


@kernel
def count_changed(cells: Ints, one: Int, other: Int, rows: Int) -> Int:
    count: Int = 0
    for row in range(rows):
        count += np.int64(cells[one * ROOM + row] != cells[other * ROOM + row])
    return count


@kernel
def is_varied(cells: Ints, column: Int, rows: Int) -> bool:
    """Whether a column has at least four different values, none of them in more than half of its rows."""
    second, third, found = np.int64(0), np.int64(0), 1
    first = cells[column * ROOM + 0]
    majority, votes = first, 0
    varied = False
    for row in range(rows):
        value = cells[column * ROOM + row]
        if votes == 0:
            majority = value
        votes += 1 if value == majority else -1
        if varied or value == first or (found > 1 and value == second) or (found > 2 and value == third):
            continue
        if found == 1:
            second = value
        elif found == 2:
            third = value
        else:
            varied = True
        found += 1
    if not varied:
        return False
    times: Int = 0
    for row in range(rows):
        times += np.int64(cells[column * ROOM + row] == majority)
    return bool(2 * times <= rows)


@kernel
def is_sum_or_product(cells: Ints, source: Int, target: Int, rows: Int) -> bool:
    """Whether one column is the other with a constant added, or times a constant."""
    adds, multiplies = True, True
    by = cells[target * ROOM + 0] - cells[source * ROOM + 0]
    one: Int = 0
    while one < rows - 1 and cells[source * ROOM + one] == 0:
        one += 1
    for row in range(rows):
        adds = adds and cells[target * ROOM + row] - cells[source * ROOM + row] == by
        multiplies = (
            multiplies
            and cells[target * ROOM + row] * cells[source * ROOM + one]
            == cells[target * ROOM + one] * cells[source * ROOM + row]
        )
    return adds or (
        multiplies and cells[source * ROOM + one] != 0 and cells[target * ROOM + one] % cells[source * ROOM + one] == 0
    )


@kernel
def count_side(ranges: Ints, kind: Int, number: Int, cells: Ints, source: Int, rows: Int) -> Int:
    """In how many rows a step that has two sides takes the first of them; -1 where it has none."""
    if kind != CONDITION and kind != PARITY and kind != MIN and kind != MAX and kind != ABS:
        return -1
    arms = ranges[ARMS]
    constant, relation = np.int64(0), np.int64(0)
    if kind == CONDITION or kind == PARITY:
        rest = number // (arms + 1) // arms
        if kind == CONDITION:
            relation, rest = rest % RELATIONS.size, rest // RELATIONS.size
        constant = (ranges[BOUNDS] if kind == CONDITION else ranges[MODULI]) + rest
    elif kind != ABS:
        constant = ranges[LOWEST + kind] + number
    count: Int = 0
    for row in range(rows):
        value = cells[source * ROOM + row]
        if kind == PARITY:
            holds = value % constant != 0
        elif kind == MAX or (kind == CONDITION and relation == 1):
            holds = value > constant
        else:
            holds = value < constant
        count += np.int64(holds)
    return count


@kernel
def run_chain(
    ranges: Ints, steps: Ints, count: Int, leaving: Int, left_out: Int, cells: Ints, rows: Int, limit: Int
) -> Int:
    """Run a chain of steps (`steps` holds kind and number of each) with one of them, or a part of it, left out:
    ``left_out`` 0 for the whole step. Return the column of its result, or -1 where a value leaves the limit."""
    source: Int = FIRST + leaving - 1 if leaving > 0 else X  # what the steps before it left is there already
    for k in range(leaving, count):
        if k == leaving and left_out == 0:
            continue
        part = left_out if k == leaving else 0
        target = SCRATCH + k % 2
        if not run_step(ranges, steps[2 * k], steps[2 * k + 1], part, cells, source, target, rows, limit):
            return -1
        source = target
    return source


@kernel
def is_feasible(
    ranges: Ints, steps: Ints, count: Int, kind: Int, number: Int, cells: Ints, rows: Int, limit: Int, twos: bool
) -> bool:
    """Whether a step may follow the first ``count`` of a chain. If so it is in ``steps``, and its column is filled.

    Values stay within the limit. It changes at least a fifth of the probes, and a step that chooses between two sides
    takes each on at least a fifth. Its result has at least four values, none on more than half of the probes; it is no
    input, and not what is left where a step before, or a part of any step, is left out. What a combine makes is neither
    an operand nor a plain sum or product.
    """
    source: Int = FIRST + count - 1 if count > 0 else X
    target: Int = FIRST + count
    least = (rows + 4) // 5
    side = count_side(ranges, kind, number, cells, source, rows)
    if side >= 0 and not least <= side <= rows - least:
        return False
    if not run_step(ranges, kind, number, 0, cells, source, target, rows, limit):
        return False
    if count_changed(cells, source, target, rows) < least:
        return False
    if twos and count == 0 and count_changed(cells, Y, target, rows) < least:
        return False
    if not is_varied(cells, target, rows):
        return False
    if are_equal(cells, target, X, rows) or (twos and are_equal(cells, target, Y, rows)):
        return False
    if kind == COMBINE:
        simple, constant = simple_of(ranges, number // OPERATORS.size)
        run_simple(simple, constant, cells, source, SCRATCH, rows)
        if are_equal(cells, target, SCRATCH, rows) or is_sum_or_product(cells, source, target, rows):
            return False
    steps[2 * count], steps[2 * count + 1] = kind, number
    for k in range(count + 1):
        for part in range(parts_of(steps[2 * k]) + 1):
            if part == 0 and (k == count or (twos and k == 0)):  # the step itself; a merge cannot be left out
                continue
            column = run_chain(ranges, steps, count + 1, k, part, cells, rows, limit)
            if column >= 0 and are_equal(cells, column, target, rows):
                return False
    return True


@kernel
def put_simple(program: Tokens, position: Int, kind: Int, constant: Int) -> Int:
    """Write a simple step; return the position after it."""
    if kind == SQUARE:
        return put(program, put(program, position, op.DUP), op.MUL)
    if kind != INC and kind != DEC and kind != NEG and kind != ABS:
        position = put_literal(program, position, constant)
    return put(program, position, TOKENS[kind])


@kernel
def put_step(ranges: Ints, kind: Int, number: Int, program: Tokens, position: Int) -> Int:
    """Write a step; return the position after it."""
    arms = ranges[ARMS]
    if kind < COMBINE:
        return put_simple(program, position, kind, ranges[LOWEST + kind] + number)
    if kind == COMBINE or kind == ARM or kind == SWAP_ARM:
        if kind != ARM:
            position = put(program, position, op.DUP if kind == COMBINE else op.SWAP)
        simple, constant = simple_of(ranges, number // OPERATORS.size)
        position = put_simple(program, position, simple, constant)
        return put(program, position, OPERATORS[number % OPERATORS.size])
    if kind == CONDITION or kind == PARITY:
        second, rest = number % (arms + 1), number // (arms + 1)
        first, rest = rest % arms, rest // arms
        token: Int = op.MOD
        if kind == CONDITION:
            token, rest = RELATIONS[rest % RELATIONS.size], rest // RELATIONS.size
        constant = (ranges[BOUNDS] if kind == CONDITION else ranges[MODULI]) + rest
        position = put_literal(program, put(program, position, op.DUP), constant)
        position = put(program, put(program, position, token), op.IF)
        simple, by = simple_of(ranges, first)
        position = put_simple(program, position, simple, by)
        if second < arms:
            simple, by = simple_of(ranges, second)
            position = put_simple(program, put(program, position, op.ELSE), simple, by)
        return put(program, position, op.FI)
    if kind == LOOP:
        by, rest = ranges[TERMS] + number % ranges[TERMS + 1], number // ranges[TERMS + 1]
        factor, turns = ranges[FACTORS] + rest % ranges[FACTORS + 1], ranges[TURNS] + rest // ranges[FACTORS + 1]
        position = put(program, put_literal(program, position, turns), op.TIMES)
        position = put_simple(program, put_simple(program, position, MUL, factor), ADD, by)
        return put(program, position, op.NEXT)
    if kind == OPERATOR:
        return put(program, position, OPERATORS[number])
    if kind == SWAP_SUB:
        return put(program, put(program, position, op.SWAP), op.SUB)
    if kind == OVER:
        position = put(program, put(program, position, op.OVER), OPERATORS[number // OPERATORS.size])
        return put(program, position, OPERATORS[number % OPERATORS.size])
    otherwise, rest = number % OPERATORS.size, number // OPERATORS.size
    position = put(program, put(program, position, op.OVER), op.OVER)
    position = put(program, put(program, position, RELATIONS[rest // OPERATORS.size]), op.IF)
    position = put(program, put(program, position, OPERATORS[rest % OPERATORS.size]), op.ELSE)
    return put(program, put(program, position, OPERATORS[otherwise]), op.FI)


@kernel
def constant_at(program: Tokens, position: Int, lowest: Int, count: Int) -> tuple[Int, Int]:
    """Read a constant: (its number from the lowest, the position after it), or -1 where it is none of the range."""
    value, position = literal_at(program, position, False)
    return (value - lowest if lowest <= value < lowest + count else np.int64(-1)), position


@kernel
def simple_at(ranges: Ints, program: Tokens, position: Int) -> tuple[Int, Int]:
    """Read a simple step: (its number among them, or -1; the position after it)."""
    token = token_at(program, position)
    if token == op.DUP and token_at(program, position + 1) == op.MUL:
        kind, number, position = np.int64(SQUARE), np.int64(0), position + 2
    elif token == op.INC or token == op.DEC or token == op.NEG or token == op.ABS:
        kind = np.int64(INC if token == op.INC else DEC if token == op.DEC else NEG if token == op.NEG else ABS)
        number, position = np.int64(0), position + 1
    else:
        value, position = literal_at(program, position, False)
        token = token_at(program, position)
        position += 1
        kind = np.int64(-1)
        for k in range(TOKENS.size):
            if TOKENS[k] == token and k != INC and k != DEC and k != NEG and k != ABS and k != SQUARE:
                kind = np.int64(k)
        if kind < 0:
            return -1, position
        number = value - ranges[LOWEST + kind]
    if not 0 <= number < ranges[COUNTS + kind]:
        return -1, position
    return ranges[STARTS + kind] + number, position


@kernel
def operator_at(program: Tokens, position: Int) -> Int:
    """The number of the operator at a position, or -1."""
    token = token_at(program, position)
    for k in range(OPERATORS.size):
        if OPERATORS[k] == token:
            return np.int64(k)
    return np.int64(-1)


@kernel
def merge_at(ranges: Ints, program: Tokens, position: Int) -> tuple[Int, Int, Int]:
    """Read a merge: (its kind, its number, the position after it); -1 if there is none."""
    none = np.int64(-1), np.int64(-1), position
    token, following = token_at(program, position), token_at(program, position + 1)
    operator = operator_at(program, position)
    if operator >= 0:
        return np.int64(OPERATOR), operator, position + 1
    if token == op.SWAP and following == op.SUB:
        return np.int64(SWAP_SUB), np.int64(0), position + 2
    if token == op.OVER and following != op.OVER:
        one, other = operator_at(program, position + 1), operator_at(program, position + 2)
        if one < 0 or other < 0:
            return none
        return np.int64(OVER), OPERATORS.size * one + other, position + 3
    if token == op.OVER:
        relation = token_at(program, position + 2)
        one, other = operator_at(program, position + 4), operator_at(program, position + 6)
        if (
            (relation != op.LT and relation != op.GT)
            or token_at(program, position + 3) != op.IF
            or token_at(program, position + 5) != op.ELSE
            or token_at(program, position + 7) != op.FI
            or one < 0
            or other < 0
        ):
            return none
        number = (np.int64(relation == op.GT) * OPERATORS.size + one) * OPERATORS.size + other
        return np.int64(COMPARE), number, position + 8
    swapped = token == op.SWAP
    arm, after = simple_at(ranges, program, position + np.int64(swapped))
    operator = operator_at(program, after)
    if arm < 0 or operator < 0:
        return none
    return np.int64(SWAP_ARM if swapped else ARM), arm * OPERATORS.size + operator, after + 1


@kernel
def step_at(ranges: Ints, program: Tokens, position: Int) -> tuple[Int, Int, Int]:
    """Read a step that is no merge: (its kind, its number, the position after it); -1 if there is none."""
    none = np.int64(-1), np.int64(-1), position
    arms = ranges[ARMS]
    value, after = literal_at(program, position, False)
    if token_at(program, after) == op.TIMES and after > position:
        turns = value - ranges[TURNS]
        factor, after = constant_at(program, after + 1, ranges[FACTORS], ranges[FACTORS + 1])
        if token_at(program, after) != op.MUL:
            return none
        by, after = constant_at(program, after + 1, ranges[TERMS], ranges[TERMS + 1])
        ends = token_at(program, after) == op.ADD and token_at(program, after + 1) == op.NEXT
        if not ends or factor < 0 or by < 0 or not 0 <= turns < ranges[TURNS + 1]:
            return none
        return np.int64(LOOP), (turns * ranges[FACTORS + 1] + factor) * ranges[TERMS + 1] + by, after + 2
    if token_at(program, position) != op.DUP or token_at(program, position + 1) == op.MUL:
        arm, after = simple_at(ranges, program, position)
        if arm < 0:
            return none
        kind, constant = simple_of(ranges, arm)
        return kind, constant - ranges[LOWEST + kind], after
    value, after = literal_at(program, position + 1, False)
    token = token_at(program, after)
    if after > position + 1 and token_at(program, after + 1) == op.IF and token != op.MUL:
        rest, count = value - ranges[MODULI], ranges[MODULI + 1]
        if token == op.LT or token == op.GT:
            rest, count = value - ranges[BOUNDS], ranges[BOUNDS + 1]
        elif token != op.MOD:
            return none
        if not 0 <= rest < count:
            return none
        if token != op.MOD:
            rest = rest * RELATIONS.size + np.int64(token == op.GT)
        first, after = simple_at(ranges, program, after + 2)
        second = arms
        if first >= 0 and token_at(program, after) == op.ELSE:
            second, after = simple_at(ranges, program, after + 1)
        if first < 0 or second < 0 or token_at(program, after) != op.FI:
            return none
        return (
            np.int64(PARITY if token == op.MOD else CONDITION),
            (rest * arms + first) * (arms + 1) + second,
            after + 1,
        )
    arm, after = simple_at(ranges, program, position + 1)
    operator = operator_at(program, after)
    if arm < 0 or operator < 0:
        return none
    return np.int64(COMBINE), arm * OPERATORS.size + operator, after + 1
