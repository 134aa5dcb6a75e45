"""Drawing a chain of steps, and the cases that show it.

A step is drawn by the weight of its kind among all that are feasible there, then its constants, operators and arms
uniformly. The inputs of a case are drawn uniformly among those that may be shown. When a program is scored, every draw
is found among the same outcomes, so its probability is exact.
"""

from __future__ import annotations

import numpy as np

from cadmus_gym.language import isa as op
from cadmus_gym.language.hashing import Words64, mix
from cadmus_gym.language.isa import Int, Ints, Tokens
from cadmus_gym.language.kernels import kernel
from cadmus_gym.language.machine import execute
from cadmus_gym.language.memory import STACK, fresh
from cadmus_gym.language.verdicts import LARGEST, MAX_CASES, RAN
from cadmus_gym.language.verdicts import STEPS as STEP_LIMIT
from cadmus_gym.tasks.family import PROMPT, REFERENCE, STRATUM, is_kept, writer
from cadmus_gym.tasks.literals import body_at, draw_cut, literal_at, may_cut, put, put_number, token_at
from cadmus_gym.tasks.sampling import (
    CERTAINTY,
    CHOICE,
    DOUBT,
    FORCED,
    GUIDED,
    IMPOSSIBLE,
    INPUT,
    MODE,
    OPERAND,
    categorical,
    is_guided,
    is_key_enough,
    is_random,
    keep,
    randbelow,
    replayed,
    uniform,
)
from cadmus_gym.tasks.synthesis import steps as chain
from cadmus_gym.tasks.synthesis.hidden import hash_outputs
from cadmus_gym.tasks.synthesis.optima import find_code, length_of, put_code

LARGE, LOOKED_AT = 5000, 2048  # steps of a kind above which the feasible ones are estimated, from so many
TRIES = 64  # proposals of a step, or of inputs, before all are looked at

GIVEN = ("0", "25", "50", "75", "any")  # percent of a body that the prompt gives; any: all beginnings equally likely
ANY = len(GIVEN) - 1

# Layout of the packed parameters.
LOW, HIGH, LIMIT, ONES, STANDARD_INPUTS = range(5)
ARITIES = 5  # weight of one input, and of two
SIZES = ARITIES + 2  # weights of the numbers of steps
CASES = SIZES + chain.MOST  # weights of the numbers of cases
GIVEN_PARTS = CASES + MAX_CASES  # weights of the shares of a body that the prompt gives
WEIGHTS = GIVEN_PARTS + len(GIVEN)  # weights of the kinds
UNITS = WEIGHTS + len(chain.KINDS)  # weight of one step of each kind
RANGES = UNITS + len(chain.KINDS)
PROBES = RANGES + chain.RANGES  # one input, then two: feasibility
KEYS = PROBES + 3 * chain.ROOM  # the same on the standard inputs: the key
OWN = KEYS + 3 * chain.ROOM  # the table of shortest bodies, one cell of 0 if references are as drawn

# Layout of the working room.
STEPS = chain.COLUMNS * chain.ROOM
SEEN = STEPS + 2 * (chain.MOST + 1)  # steps of a given body
ALLOWED = SEEN + 2 * (chain.MOST + 1)
SINGLE = ALLOWED + len(chain.KINDS)  # columns for other inputs, and the steps again
SHOWN_CASES = SINGLE + STEPS + 2 * (chain.MOST + 1)  # inputs and output of each case
WORK_ROOM = SHOWN_CASES + 3 * MAX_CASES


@kernel
def load_probes(parameters: Ints, first: Int, twos: bool, cells: Ints) -> None:
    start = first + chain.ROOM if twos else first
    for row in range(chain.ROOM):
        cells[chain.X * chain.ROOM + row] = parameters[start + row]
        cells[chain.Y * chain.ROOM + row] = parameters[start + chain.ROOM + row] if twos else 0


@kernel
def read_steps(parameters: Ints, program: Tokens, position: Int, twos: bool, work: Ints) -> Int:
    """Read the steps of a body to SEEN; return how many there are, or -1 if the body is no chain."""
    ranges = parameters[RANGES : RANGES + chain.RANGES]
    for count in range(chain.MOST + 1):
        if token_at(program, position) == op.END:
            return np.int64(count)
        if count == chain.MOST:
            break
        if twos and count == 0:
            kind, number, position = chain.merge_at(ranges, program, position)
        else:
            kind, number, position = chain.step_at(ranges, program, position)
        if kind < 0:
            break
        work[SEEN + 2 * count], work[SEEN + 2 * count + 1] = kind, number
    return np.int64(-1)


@kernel
def read_shape(program: Tokens) -> tuple[Int, Int]:
    """The number of cases of a given program, and how many inputs the first one has."""
    cases, inputs = np.int64(0), np.int64(0)
    for position in range(program.size):
        if program[position] == op.DO:
            break
        cases += np.int64(program[position] == op.CASE)
        if cases == 1 and program[position] == op.TO:
            cases_end = position
            inputs = np.int64(1)
            for k in range(cases_end):
                inputs += np.int64(program[k] == op.COMMA)
    return cases, inputs


@kernel
def has_step(parameters: Ints, twos: bool, count: Int, first: Int, last: Int, work: Ints) -> bool:
    """Whether any step of the kinds that are allowed is feasible."""
    ranges, found = parameters[RANGES : RANGES + chain.RANGES], work[STEPS : STEPS + 2 * (chain.MOST + 1)]
    rows, limit = (np.int64(chain.ROOM) if twos else parameters[ONES]), parameters[LIMIT]
    for kind in range(first, last):
        if work[ALLOWED + kind] == 0:
            continue
        for number in range(chain.count_of(ranges, kind)):
            if chain.is_feasible(ranges, found, count, kind, number, work, rows, limit, twos):
                return True
    return False


@kernel
def draw_step(
    parameters: Ints, rng: Words64, script: Ints, twos: bool, count: Int, seen_kind: Int, seen_number: Int, work: Ints
) -> bool:
    """Draw a step to follow the first ``count`` of the chain in ``work``; return whether there is one."""
    ranges, found = parameters[RANGES : RANGES + chain.RANGES], work[STEPS : STEPS + 2 * (chain.MOST + 1)]
    rows, limit = (np.int64(chain.ROOM) if twos else parameters[ONES]), parameters[LIMIT]
    first, last = (chain.OPERATOR, len(chain.KINDS)) if twos and count == 0 else (0, chain.OPERATOR)
    before = chain.CLASSES[found[2 * count - 2]] if count > 0 else np.int64(-1)
    whole: Int = 0
    for kind in range(first, last):
        work[ALLOWED + kind] = 0 if chain.CLASSES[kind] == before else parameters[WEIGHTS + kind]
        whole += work[ALLOWED + kind]
    if whole == 0:
        return False
    if is_random(script, OPERAND):
        tries: Int = 0
        while tries != TRIES or has_step(parameters, twos, count, first, last, work):
            tries += 1
            left = randbelow(rng, OPERAND, whole)
            one = np.int64(first)
            while left >= work[ALLOWED + one]:
                left -= work[ALLOWED + one]
                one += 1
            number = randbelow(rng, OPERAND, chain.count_of(ranges, one))
            if chain.is_feasible(ranges, found, count, one, number, work, rows, limit, twos):
                return True
        return False
    if is_guided(script):
        return keep_step(parameters, script, twos, count, first, last, seen_kind, seen_number, work)
    wanted = replayed(script, OPERAND, 0)
    outcomes, total = np.int64(0), np.int64(0)
    taken, taken_kind, taken_number = np.int64(-1), np.int64(0), np.int64(0)
    for kind in range(first, last):
        if work[ALLOWED + kind] == 0:
            continue
        for number in range(chain.count_of(ranges, kind)):
            if not chain.is_feasible(ranges, found, count, kind, number, work, rows, limit, twos):
                continue
            if outcomes == wanted:
                taken, taken_kind, taken_number = outcomes, np.int64(kind), np.int64(number)
            outcomes += 1
            total += parameters[UNITS + kind]
    if taken < 0:
        script[IMPOSSIBLE] = np.int64(outcomes > 0 or script[IMPOSSIBLE])
        return False
    chain.is_feasible(ranges, found, count, taken_kind, taken_number, work, rows, limit, twos)
    keep(script, OPERAND, taken, outcomes, parameters[UNITS + taken_kind], total)
    return True


@kernel
def keep_step(
    parameters: Ints,
    script: Ints,
    twos: bool,
    count: Int,
    first: Int,
    last: Int,
    kind: Int,
    number: Int,
    work: Ints,
) -> bool:
    """Take the step that a given program shows, and record its weight among all that are feasible.

    How many of a kind are feasible is counted, or for a kind with many steps estimated from a fixed sample.
    """
    ranges, found = parameters[RANGES : RANGES + chain.RANGES], work[STEPS : STEPS + 2 * (chain.MOST + 1)]
    rows, limit = (np.int64(chain.ROOM) if twos else parameters[ONES]), parameters[LIMIT]
    possible = first <= kind < last and work[ALLOWED + kind] > 0
    if not possible or not chain.is_feasible(ranges, found, count, kind, number, work, rows, limit, twos):
        script[IMPOSSIBLE] = 1
        return False
    unit = parameters[UNITS + kind]
    if script[FORCED]:
        keep(script, OPERAND, 0, 1, unit, unit)
        return True
    total, variance = 0.0, 0.0
    for other in range(first, last):
        if work[ALLOWED + other] == 0:
            continue
        size = chain.count_of(ranges, other)
        looked_at = size if size <= LARGE else np.int64(LOOKED_AT)
        feasible: Int = 0
        for k in range(looked_at):
            one = np.int64(k)
            if size > LARGE:
                one = np.int64((mix(np.uint64(k)) >> np.uint64(32)) * np.uint64(size) >> np.uint64(32))
            feasible += np.int64(chain.is_feasible(ranges, found, count, other, one, work, rows, limit, twos))
        weight, share = float(parameters[UNITS + other]) * size, feasible / looked_at
        total += weight * share
        if size > LARGE:
            variance += weight * weight * share * (1.0 - share) / looked_at
    chain.is_feasible(ranges, found, count, kind, number, work, rows, limit, twos)
    keep(script, OPERAND, 0, 1, unit, max(unit, np.int64(total)))
    script[DOUBT] += np.int64(variance / (total * total) * CERTAINTY)
    return True


@kernel
def run_rows(parameters: Ints, count: Int, rows: Int, limit: Int, cells: Ints) -> bool:
    """Run the chain in the working room of ``cells`` on its columns of inputs; return whether values stay within the
    limit."""
    ranges = parameters[RANGES : RANGES + chain.RANGES]
    within = True
    for k in range(count):
        source = chain.FIRST + k - 1 if k > 0 else chain.X
        kind, number = cells[STEPS + 2 * k], cells[STEPS + 2 * k + 1]
        within = chain.run_step(ranges, kind, number, 0, cells, source, chain.FIRST + k, rows, limit) and within
    return within


@kernel
def is_within_domain(parameters: Ints, twos: bool, count: Int, work: Ints) -> bool:
    """Whether all values of the chain in ``work`` stay within the limit on all inputs, not only on the probes."""
    low, size = parameters[LOW], parameters[HIGH] - parameters[LOW] + 1
    if not twos and size <= chain.ROOM:  # the probes are all inputs
        return True
    copy_steps(count, work)
    single = work[SINGLE:]
    whole = size * size if twos else size
    for first in range(0, whole, chain.ROOM):
        rows = min(chain.ROOM, whole - first)
        for row in range(rows):
            number = first + row
            single[chain.X * chain.ROOM + row] = low + number % size
            single[chain.Y * chain.ROOM + row] = low + number // size
        if not run_rows(parameters, count, rows, parameters[LIMIT], single):
            return False
    return True


@kernel
def depends_on(parameters: Ints, column: Int, count: Int, work: Ints) -> bool:
    """Whether the output of a chain of two inputs depends on the one in ``column``, X or Y, for any value of the
    other."""
    low, size = parameters[LOW], parameters[HIGH] - parameters[LOW] + 1
    copy_steps(count, work)
    single, base = work[SINGLE:], np.int64(0)
    last = (chain.FIRST + count - 1) * chain.ROOM
    for other in range(size):
        for first in range(0, size, chain.ROOM):
            rows = min(chain.ROOM, size - first)
            for row in range(rows):
                single[column * chain.ROOM + row] = low + first + row
                single[(chain.X + chain.Y - column) * chain.ROOM + row] = low + other
            run_rows(parameters, count, rows, np.int64(LARGEST), single)
            if first == 0:
                base = single[last]
            for row in range(rows):
                if single[last + row] != base:
                    return True
    return False


@kernel
def copy_steps(count: Int, work: Ints) -> None:
    """Copy the steps of the chain in ``work`` to the room for other inputs."""
    for k in range(2 * count):
        work[SINGLE + STEPS + k] = work[STEPS + k]


@kernel
def is_problem(parameters: Ints, twos: bool, count: Int, work: Ints) -> bool:
    """Whether the chain in ``work``, which has been run on the probes, makes a problem.

    At least a fifth of its outputs there differ from all inputs, so there is something to show; values stay within the
    limit on all inputs; and of two inputs both matter.
    """
    rows = np.int64(chain.ROOM) if twos else parameters[ONES]
    last, new = (chain.FIRST + count - 1) * chain.ROOM, np.int64(0)
    for row in range(rows):
        value = work[last + row]
        new += np.int64(
            value != work[chain.X * chain.ROOM + row] and (not twos or value != work[chain.Y * chain.ROOM + row])
        )
    if 5 * new < rows or not is_within_domain(parameters, twos, count, work):
        return False
    if not twos:
        return True
    return depends_on(parameters, chain.X, count, work) and depends_on(parameters, chain.Y, count, work)


@kernel
def value_of(parameters: Ints, count: Int, x: Int, y: Int, work: Ints) -> Int:
    """What the chain in ``work`` makes of inputs."""
    copy_steps(count, work)
    single = work[SINGLE:]
    single[chain.X * chain.ROOM], single[chain.Y * chain.ROOM] = x, y
    run_rows(parameters, count, 1, np.int64(LARGEST), single)
    return single[(chain.FIRST + count - 1) * chain.ROOM]


@kernel
def key_of(parameters: Ints, twos: bool, count: Int, work: Ints) -> np.uint64:
    """The key of the chain in ``work``: the hash of its outputs on the standard probes, as of `hash_outputs`, or 0 if
    a run leaves the range of the machine."""
    load_probes(parameters, KEYS, twos, work)
    rows = np.int64(chain.ROOM) if twos else parameters[STANDARD_INPUTS]
    if not run_rows(parameters, count, rows, np.int64(LARGEST), work):
        return np.uint64(0)
    first = (chain.FIRST + count - 1) * chain.ROOM
    return hash_outputs(np.int64(2 if twos else 1), work[first : first + rows])


@kernel
def may_show(twos: bool, shown: Int, x: Int, y: Int, value: Int, work: Ints) -> bool:
    """Whether inputs may be those of the next case: they are new, the first output differs from its inputs, and the
    first three outputs differ."""
    for k in range(shown):
        at = SHOWN_CASES + 3 * k
        if work[at] == x and (work[at + 1] == y or not twos):
            return False
        if shown < 3 and work[at + 2] == value:
            return False
    return bool(shown > 0 or (value != x and (value != y or not twos)))


@kernel
def draw_case(
    parameters: Ints,
    rng: Words64,
    script: Ints,
    twos: bool,
    count: Int,
    shown: Int,
    seen_x: Int,
    seen_y: Int,
    work: Ints,
) -> bool:
    """Draw the inputs of a case, all that may be shown being equally likely; return whether
    there are any."""
    low, size = parameters[LOW], parameters[HIGH] - parameters[LOW] + 1
    whole = size * size if twos else size
    if is_random(script, INPUT):
        for _ in range(TRIES * TRIES):
            drawn = randbelow(rng, INPUT, whole)
            x, y = low + drawn % size, (low + drawn // size if twos else np.int64(0))
            value = value_of(parameters, count, x, y, work)
            if may_show(twos, shown, x, y, value, work):
                at = SHOWN_CASES + 3 * shown
                work[at], work[at + 1], work[at + 2] = x, y, value
                return True
        return False
    at, outcomes, taken = SHOWN_CASES + 3 * shown, np.int64(0), np.int64(-1)
    if is_guided(script) and script[FORCED]:
        inside = low <= seen_x < low + size and (not twos or low <= seen_y < low + size)
        value = value_of(parameters, count, seen_x, seen_y, work) if inside else np.int64(0)
        if not inside or not may_show(twos, shown, seen_x, seen_y, value, work):
            script[IMPOSSIBLE] = 1
            return False
        work[at], work[at + 1], work[at + 2] = seen_x, seen_y, value
        keep(script, INPUT, 0, 1, 1, 1)
        return True
    wanted = replayed(script, INPUT, 0)
    for number in range(whole):
        x, y = low + number % size, (low + number // size if twos else np.int64(0))
        value = value_of(parameters, count, x, y, work)
        if may_show(twos, shown, x, y, value, work):
            if (x == seen_x and y == seen_y) if script[MODE] == GUIDED else outcomes == wanted:
                taken = outcomes
                work[at], work[at + 1], work[at + 2] = x, y, value
            outcomes += 1
    if taken < 0:
        script[IMPOSSIBLE] = np.int64(outcomes > 0 or script[IMPOSSIBLE])
        return False
    keep(script, INPUT, taken, outcomes, 1, outcomes)
    return True


@kernel
def shown_probability(parameters: Ints, twos: bool, count: Int, cases: Ints, work: Ints) -> float:
    """The probability that the inputs of cases (C, 3) are drawn for the chain in ``work``, in their order."""
    low, size = parameters[LOW], parameters[HIGH] - parameters[LOW] + 1
    whole = size * size if twos else size
    probability = 1.0
    for k in range(cases.shape[0]):
        outcomes, there = 0, False
        for number in range(whole):
            x, y = low + number % size, (low + number // size if twos else np.int64(0))
            if may_show(twos, k, x, y, value_of(parameters, count, x, y, work), work):
                outcomes += 1
                there = there or (x == cases[k, 0] and (y == cases[k, 1] or not twos))
        if not there:
            return 0.0
        probability /= outcomes
        for cell in range(3):
            work[SHOWN_CASES + 3 * k + cell] = cases[k, cell]
    return probability


@kernel
def draw_shape(
    parameters: Ints, rng: Words64, script: Ints, cases: Int, inputs: Int, steps: Int
) -> tuple[bool, Int, Int]:
    """Draw (whether there are two inputs, the number of steps, that of cases); those of a given program are given."""
    twos = categorical(rng, script, CHOICE, parameters, ARITIES, 2, inputs - 1) == 1
    count = 1 + categorical(rng, script, CHOICE, parameters, SIZES, chain.MOST, steps - 1)
    return twos, count, 1 + categorical(rng, script, CHOICE, parameters, CASES, MAX_CASES, cases - 1)


@kernel
def draw_function(
    parameters: Ints, rng: Words64, script: Ints, twos: bool, count: Int, marks: Ints, work: Ints
) -> np.uint64:
    """Draw a chain of ``count`` steps; return the key of its function, 0 if it is no problem of the split."""
    load_probes(parameters, PROBES, twos, work)
    for k in range(count):
        if not draw_step(parameters, rng, script, twos, k, work[SEEN + 2 * k], work[SEEN + 2 * k + 1], work):
            return np.uint64(0)
    key = key_of(parameters, twos, count, work)
    if key == 0 or not is_kept(marks, key):
        return np.uint64(0)
    load_probes(parameters, PROBES, twos, work)
    run_rows(parameters, count, np.int64(chain.ROOM) if twos else parameters[ONES], parameters[LIMIT], work)
    return key if is_problem(parameters, twos, count, work) else np.uint64(0)


@kernel
def take_function(
    parameters: Ints,
    table: Ints,
    rng: Words64,
    script: Ints,
    twos: bool,
    count: Int,
    program: Tokens,
    marks: Ints,
    work: Ints,
) -> np.uint64:
    """Draw a function from the table of shortest bodies, and take the chain that is most probably drawn for it; return
    its key, or 0 if it is no problem of the split with so many steps. ``program`` is room for its body."""
    size = table[0]
    row = uniform(rng, script, OPERAND, size, 0)
    key, code = np.uint64(table[1 + row]), table[1 + 2 * size + row]
    if code == 0 or not is_kept(marks, key):
        return np.uint64(0)
    program[put_code(code, program, np.int64(0))] = op.END
    if read_steps(parameters, program, np.int64(0), twos, work) != count:
        return np.uint64(0)
    ranges, found = parameters[RANGES : RANGES + chain.RANGES], work[STEPS : STEPS + 2 * (chain.MOST + 1)]
    rows, limit = (np.int64(chain.ROOM) if twos else parameters[ONES]), parameters[LIMIT]
    load_probes(parameters, PROBES, twos, work)
    for k in range(count):
        kind, number = work[SEEN + 2 * k], work[SEEN + 2 * k + 1]
        if not chain.is_feasible(ranges, found, np.int64(k), kind, number, work, rows, limit, twos):
            return np.uint64(0)
    return key if is_problem(parameters, twos, count, work) else np.uint64(0)


@kernel
def put_cases(
    parameters: Ints,
    rng: Words64,
    script: Ints,
    twos: bool,
    count: Int,
    cases: Int,
    program: Tokens,
    position: Int,
    work: Ints,
) -> Int:
    """Draw the cases of the chain in ``work`` and write them and `do`; return the position after it, or -1 if there are
    not so many."""
    for shown in range(cases):
        x, y, after = np.int64(0), np.int64(0), position
        if is_guided(script):
            x, after = literal_at(program, position + 1, True)
            if twos:
                y, after = literal_at(program, after, True)
        if not draw_case(parameters, rng, script, twos, count, shown, x, y, work):
            return np.int64(-1)
        at = SHOWN_CASES + 3 * shown
        position = put_number(program, put(program, position, op.CASE), work[at])
        if twos:
            position = put_number(program, put(program, position, op.COMMA), work[at + 1])
        position = put_number(program, put(program, position, op.TO), work[at + 2])
    return put(program, position, op.DO)


@kernel
def put_chain(parameters: Ints, count: Int, program: Tokens, position: Int, work: Ints) -> Int:
    """Write the chain in ``work``; return the position after it."""
    ranges = parameters[RANGES : RANGES + chain.RANGES]
    for k in range(count):
        position = chain.put_step(ranges, work[STEPS + 2 * k], work[STEPS + 2 * k + 1], program, position)
    return position


@kernel
def is_same(
    parameters: Ints, twos: bool, count: Int, program: Tokens, position: Int, work: Ints, machine: Ints
) -> bool:
    """Whether the body at a position leaves what the chain in ``work`` makes, for all inputs in the range."""
    low, size = parameters[LOW], parameters[HIGH] - parameters[LOW] + 1
    arity = np.int64(2 if twos else 1)
    for number in range(size * size if twos else size):
        x, y = low + number % size, low + number // size
        machine[STACK], machine[STACK + 1] = x, y
        fresh(machine)
        outcome, depth, _, _, _ = execute(program, position, True, arity, STEP_LIMIT, machine)
        if outcome != RAN or depth != 1 or machine[STACK] != value_of(parameters, count, x, y, work):
            return False
    return True


@kernel
def put_shortest(
    parameters: Ints,
    table: Ints,
    key: np.uint64,
    twos: bool,
    count: Int,
    program: Tokens,
    first: Int,
    last: Int,
    work: Ints,
    machine: Ints,
) -> Int:
    """Write the body that the table has for a key over the chain at ``first``, which ends at ``last``, if it is shorter
    and makes the same of all inputs; return the position after the reference."""
    code = find_code(table, key)
    if code == 0 or length_of(code) >= last - first:
        return last
    end = put_code(code, program, first)
    program[end] = op.END
    if is_same(parameters, twos, count, program, first, work, machine):
        return end
    return put_chain(parameters, count, program, first, work)


@writer
def write(
    parameters: Ints, rng: Words64, script: Ints, program: Tokens, marks: Ints, work: Ints, machine: Ints
) -> np.uint64:
    seen_cases, seen_inputs, seen_steps = np.int64(0), np.int64(0), np.int64(0)
    if is_guided(script):
        seen_cases, seen_inputs = read_shape(program)
        seen_steps = read_steps(parameters, program, body_at(program), seen_inputs == 2, work)
    twos, count, cases = draw_shape(parameters, rng, script, seen_cases, seen_inputs, seen_steps)
    # What a prompt gives changes no program, so when one is scored nothing is given.
    given: Int = 0 if is_guided(script) else categorical(rng, script, CHOICE, parameters, GIVEN_PARTS, len(GIVEN), 0)
    marks[PROMPT], marks[REFERENCE], marks[STRATUM] = 1, 1, 1 + 2 * count + np.int64(twos)
    key = draw_function(parameters, rng, script, twos, count, marks, work)
    if key == 0 or is_key_enough(script):
        return key
    first = put_cases(parameters, rng, script, twos, count, cases, program, np.int64(0), work)
    if first < 0:
        return np.uint64(0)
    last = put_chain(parameters, count, program, first, work)
    last = put_shortest(parameters, parameters[OWN:], key, twos, count, program, first, last, work, machine)
    cut: Int = first
    if given == ANY:
        cut = draw_cut(rng, script, program, first, last)
    elif given > 0:
        cut = first + (last - first) * given // ANY
    while not may_cut(program, first, cut):
        cut -= 1
    marks[PROMPT], marks[REFERENCE] = cut, last - cut
    return key
