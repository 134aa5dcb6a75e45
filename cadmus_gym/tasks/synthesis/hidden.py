"""Hidden cases: what a written program must do beyond the cases that its prompt shows.

They belong to the problem. Their inputs are drawn from the hash of its key and of the inputs shown, from the same
range: first salient ones (0, 1, -1, the ends of the range, ties; of more than two inputs, all 0), then others, all
different and none of them shown.
Their outputs are what the reference leaves. The *twin* of a program is the same header with hidden cases in place of
the visible ones, directives kept. A completion *fits* if its program is true, and *generalises* if its twin is true
too.

The key of a function is the hash of what it leaves on fixed probes, so two texts of one function are one problem.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cadmus_gym.language import isa as op
from cadmus_gym.language.hashing import GOLDEN, Words64, join, mix
from cadmus_gym.language.isa import VOCABULARY, Int, Ints, Tokens
from cadmus_gym.language.kernels import kernel
from cadmus_gym.language.machine import execute
from cadmus_gym.language.memory import DIRECTIVES, SIZES, STACK, VALUES, bit, fresh, load, scratch, store
from cadmus_gym.language.notation import disassemble
from cadmus_gym.language.parsing import prepare
from cadmus_gym.language.verdicts import MAX_CASES, MAX_SIDE, RAN, STEPS

HIDDEN = 16  # cases
WIDTH = 4  # inputs of a case, at most
HIDDEN_INPUTS = MAX_CASES * WIDTH  # where they begin, after those of the visible cases
ROOM = HIDDEN_INPUTS + HIDDEN * WIDTH + MAX_SIDE  # cells of a working array: inputs, and what the reference leaves
STANDARD = (-9, 20)  # the range of the probes
PROBES = 64  # at most
PACKED = 24  # bytes of a packed reference after its body
LARGEST_INPUT = 9999  # of hidden cases
VOCABULARY_SIZE = len(VOCABULARY)


class References(NamedTuple):
    """What was written for N prompts, and where their hidden inputs come from.

    ``bodies`` (N, R) uint8 are whole bodies with their `end`, including what a prompt gives of them, padded with 0; a
    prompt without a reference has only zeros. ``keys`` (N,) uint64 are the keys of the problems, and ``ranges`` (N, 2)
    int64 the lowest and highest input. A range of (0, -1) stands for a problem without hidden cases.
    """

    bodies: Tokens
    keys: Words64
    ranges: Ints

    def take(self, rows: Ints | slice) -> References:
        """Return the references of some rows."""
        return References(self.bodies[rows], self.keys[rows], self.ranges[rows])

    def packed(self) -> Tokens:
        """Return one row of bytes for each prompt, (N, R + 24) uint8: body, key, and lowest and highest input.

        A body is left out if there are no hidden cases.
        """
        bodies = np.where(self.ranges[:, :1] <= self.ranges[:, 1:], self.bodies, np.uint8(op.PAD))
        words = np.column_stack([self.keys, self.ranges.astype(np.uint64)]).astype("<u8")
        return np.column_stack([bodies, words.view(np.uint8)])


@kernel
def is_taken(cells: Ints, first: Int, count: Int, arity: Int) -> bool:
    """Whether the inputs at the end of ``cells``, of which there are ``arity``, are among ``count`` cases."""
    drawn = ROOM - MAX_SIDE
    for k in range(first, first + WIDTH * count, WIDTH):
        same = True
        for i in range(arity):
            same = same and cells[k + i] == cells[drawn + i]
        if same:
            return True
    return False


@kernel
def add_case(cells: Ints, shown: Int, count: Int, arity: Int) -> Int:
    """Add the inputs at the end of ``cells`` as a hidden case unless they are hidden or shown already; return how many
    hidden cases there are."""
    drawn = ROOM - MAX_SIDE
    if count < HIDDEN and not is_taken(cells, 0, shown, arity) and not is_taken(cells, HIDDEN_INPUTS, count, arity):
        for i in range(arity):
            cells[HIDDEN_INPUTS + WIDTH * count + i] = cells[drawn + i]
        count += 1
    return count


@kernel
def draw_hidden(key: np.uint64, shown: Int, arity: Int, low: Int, high: Int, cells: Ints) -> Int:
    """Draw the inputs of hidden cases after those of the ``shown`` visible ones in ``cells`` (ROOM,).

    Returns how many there are: `HIDDEN`, or all that the range has left.
    """
    if high < low:
        return np.int64(0)
    word = mix(key)
    for k in range(shown):
        for i in range(arity):
            word = join(word, np.uint64(cells[WIDTH * k + i]))
    count: Int = 0
    drawn = ROOM - MAX_SIDE
    zero = max(low, min(high, np.int64(0)))
    for x in (np.int64(0), np.int64(1), np.int64(-1), low, high):
        if low <= x <= high and (arity <= 2 or x == zero):
            for i in range(arity):
                cells[drawn + i] = x
            count = add_case(cells, shown, count, arity)
    if arity == 2:
        for x, y in ((low, high), (high, low), (zero, high), (high, zero)):
            cells[drawn], cells[drawn + 1] = x, y
            count = add_case(cells, shown, count, arity)
    size = high - low + 1
    whole = np.int64(1)
    for _ in range(arity):
        whole = min(whole * size, np.int64(HIDDEN + MAX_CASES))  # more make no difference
    least = min(np.int64(HIDDEN), whole - shown)
    while count < least:
        for i in range(arity):
            word += GOLDEN
            cells[drawn + i] = low + np.int64((mix(word) >> np.uint64(32)) * np.uint64(size) >> np.uint64(32))
        count = add_case(cells, shown, count, arity)
    return count


@kernel
def run_on(program: Tokens, body: Int, cells: Ints, first: Int, arity: Int, work: Ints) -> tuple[Int, Int, np.uint64]:
    """Run a prepared body on the inputs at ``cells[first:]``; return (outcome, depth, set of tokens executed)."""
    for i in range(arity):
        store(work, STACK + i, cells[first + i])
    fresh(work)
    outcome, depth, _, _, executed = execute(program, body, True, arity, STEPS, work)
    return outcome, depth, executed


@kernel
def read_inputs(program: Tokens, cells: Ints, work: Ints) -> tuple[Int, Int]:
    """Read the inputs of the cases of a program into ``cells``; return (number of cases, how many inputs each has).

    The second is 0 unless hidden cases can belong to it: all cases have equally many inputs, 1 to `WIDTH`.
    """
    _, _, _, shown = prepare(program, work)
    arity: Int = load(work, SIZES) if shown > 0 else 0
    if arity > WIDTH:
        arity = 0
    for k in range(shown):
        if load(work, SIZES + 2 * k) != arity:
            return shown, 0
        for i in range(arity):
            cells[WIDTH * k + i] = load(work, VALUES + 2 * MAX_SIDE * k + i)
    return shown, arity


@kernel
def judge_hidden(
    program: Tokens, reference: Tokens, key: np.uint64, low: Int, high: Int, cells: Ints, work: Ints
) -> tuple[bool, Int]:
    """Return whether a program that is true on its visible cases generalises, and its number of hidden cases.

    ``reference`` is a body with its `end`, ``key`` that of the problem, and inputs lie in [low, high]. Without hidden
    cases a program generalises. A hidden input on which the reference ends in a fault is left out.
    """
    if reference[0] == op.PAD or high < low:
        return True, 0
    shown, arity = read_inputs(program, cells, work)
    if arity == 0:
        return True, 0
    count = draw_hidden(key, shown, arity, low, high, cells)
    left = HIDDEN_INPUTS + WIDTH * HIDDEN
    judged: Int = 0
    generalises = True
    used = ~np.uint64(0)
    for k in range(count):
        first = HIDDEN_INPUTS + WIDTH * k
        outcome, body, _, _ = prepare(reference, work)
        outcome, depth, _ = run_on(reference, body, cells, first, arity, work)
        if outcome != RAN or depth > MAX_SIDE:
            continue
        judged += 1
        if not generalises:
            continue
        for i in range(depth):
            cells[left + i] = load(work, STACK + i)
        _, body, _, _ = prepare(program, work)
        outcome, own, executed = run_on(program, body, cells, first, arity, work)
        generalises = outcome == RAN and own == depth
        for i in range(min(own, depth)):
            generalises = generalises and load(work, STACK + i) == cells[left + i]
        used &= executed
    _, _, directives, _ = prepare(program, work)
    for k in range(directives):
        if load(work, DIRECTIVES + 2 * k) == op.USE and not used & bit(load(work, DIRECTIVES + 2 * k + 1)):
            generalises = False
    return generalises, judged


@kernel
def word_at(row: Tokens, first: Int) -> np.uint64:
    """Read eight bytes, the lowest first."""
    word = np.uint64(0)
    for k in range(8):
        word |= np.uint64(row[first + k]) << np.uint64(8 * k)
    return word


@kernel
def judge_packed(program: Tokens, row: Tokens, work: Ints) -> tuple[bool, Int]:
    """`judge_hidden` by a row of `References.packed`; ``work`` ends with `ROOM` cells of its own."""
    size = row.size - PACKED
    key, low, high = word_at(row, size), np.int64(word_at(row, size + 8)), np.int64(word_at(row, size + 16))
    return judge_hidden(program, row[:size], key, low, high, work[work.size - ROOM :], work)


@kernel
def are_references(rows: Tokens, work: Ints, right: NDArray[np.bool_]) -> None:
    """Find which rows are valid references, as of `References.packed`: zeros, or a body, and a range of inputs."""
    size = rows.shape[1] - PACKED
    for k in range(rows.shape[0]):
        low, high = np.int64(word_at(rows[k], size + 8)), np.int64(word_at(rows[k], size + 16))
        right[k] = low >= -LARGEST_INPUT and high <= LARGEST_INPUT and low - 1 <= high
        for position in range(size):
            right[k] = right[k] and rows[k, position] < VOCABULARY_SIZE
        if rows[k, 0] != op.PAD and right[k]:
            outcome, _, directives, cases = prepare(rows[k, :size], work)
            right[k] = outcome == RAN and directives == 0 and cases == 0


@kernel
def judge_hidden_rows(
    programs: Tokens,
    rows: Ints,
    bodies: Tokens,
    keys: Words64,
    ranges: Ints,
    true: Ints,
    counts: Ints,
    cells: Ints,
    work: Ints,
) -> None:
    for k in rows:
        generalises, counts[k] = judge_hidden(programs[k], bodies[k], keys[k], ranges[k, 0], ranges[k, 1], cells, work)
        true[k] = np.int64(generalises)


def generalise(programs: Tokens, rows: Ints, references: References) -> tuple[Ints, Ints]:
    """Judge those ``rows`` of programs (N, L) that are true by their references.

    Returns whether they generalise, and their number of hidden cases, both (N,) int64, and 0 for all other rows.
    """
    true, counts = np.zeros(len(programs), np.int64), np.zeros(len(programs), np.int64)
    room = np.zeros(ROOM, np.int64), scratch(programs.shape[1] + references.bodies.shape[1])
    judge_hidden_rows(programs, np.asarray(rows, np.int64), *references, true, counts, *room)
    return true, counts


def twin(program: Tokens, reference: Tokens, key: int, inputs: tuple[int, int]) -> str:
    """Return the text of a program's twin, for people.

    program: (n,) uint8 with cases and an `end`; reference: (r,) uint8 with its `end`; key: that of the problem; inputs:
    lowest and highest. Raises ValueError for a program whose cases cannot have hidden ones.
    """
    cells, work = np.zeros(ROOM, np.int64), scratch(program.size + reference.size)
    shown, arity = read_inputs(program, cells, work)
    if arity == 0:
        raise ValueError(f"{disassemble(program)!r} has no hidden cases: each case needs 1 to {WIDTH} inputs")
    count = draw_hidden(np.uint64(key), shown, arity, *inputs, cells)
    text = disassemble(program)
    parts = [text[: text.index("case")]]
    for k in range(count):
        first = HIDDEN_INPUTS + WIDTH * k
        outcome, body, _, _ = prepare(reference, work)
        outcome, depth, _ = run_on(reference, body, cells, first, arity, work)
        if outcome == RAN and depth <= MAX_SIDE:
            given, left = cells[first : first + arity].tolist(), work[STACK : STACK + depth].tolist()
            parts.append(" ".join(map(str, ["case", *given, "to", *left, ""])))
    return "".join(parts) + text[text.index("do ") :]


@kernel
def run_probes(reference: Tokens, probes: Ints, outputs: Ints, cells: Ints, work: Ints) -> bool:
    """Run a reference on probes (P, arity); return whether every run leaves one value, in ``outputs`` (P,)."""
    arity = probes.shape[1]
    outcome, body, _, _ = prepare(reference, work)
    for row in range(probes.shape[0]):
        for i in range(arity):
            cells[i] = probes[row, i]
        outcome, depth, _ = run_on(reference, body, cells, 0, arity, work)
        if outcome != RAN or depth != 1:
            return False
        outputs[row] = load(work, STACK)
    return True


@kernel
def hash_outputs(arity: Int, outputs: Ints) -> np.uint64:
    """Hash the outputs (P,) of a function on its probes; never 0."""
    key = np.uint64(arity)
    for output in outputs:
        key = join(key, np.uint64(output))
    return max(key, np.uint64(1))


def probes_of(inputs: tuple[int, int], arity: int) -> Ints:
    """Return the probes of a function of ``arity`` inputs from a range, (P, arity) int64 with P at most `PROBES`.

    They are the whole range of one input where it has room. Otherwise salient ones come first: the ends, 0, 1, -1 and
    their combinations, then ties, then others by a hash.
    """
    low, high = inputs
    size = high - low + 1
    found: list[tuple[int, ...]]
    salient = [n for n in dict.fromkeys((low, high, 0, 1, -1)) if low <= n <= high]
    order = sorted(range(low, high + 1), key=lambda n: int(mix(np.uint64(n - low))))
    if arity == 1:
        chosen = list(range(low, high + 1))
        if size > PROBES:
            chosen = [*salient, *(n for n in order if n not in salient)][:PROBES]
        return np.array(chosen, np.int64)[:, None]
    if arity == 2:
        found = [*((x, y) for x in salient for y in salient), *((n, n) for n in order[:6])]
    else:
        found = [(n,) * arity for n in (*salient, *order[:6])]
    most = size**arity
    numbers = sorted(range(most), key=lambda n: int(mix(np.uint64(n)))) if most <= 50_000 else map(int, _words(most))
    others = (tuple(low + n // size**k % size for k in range(arity - 1, -1, -1)) for n in numbers)
    unique = dict.fromkeys(found)
    for probe in others:
        if len(unique) >= PROBES:
            break
        unique[probe] = None
    return np.array(list(unique)[:PROBES], np.int64)


def _words(most: int) -> Ints:
    """Return numbers below ``most`` by a hash."""
    return np.array([int(mix(np.uint64(k))) % most for k in range(8 * PROBES)], np.int64)


def function_key(program: Tokens, reference: Tokens, work: Ints) -> int:
    """Return the key of the function that a reference (r,) with its `end` computes.

    The cases of the program (n,) say how many inputs it has. The key is 0 if that is no problem: the cases do not have
    1 to `WIDTH` inputs, a run ends in a fault or leaves anything but
    one value, there are fewer than four different outputs on the probes, or the output is always the same input.
    """
    cells = np.zeros(ROOM, np.int64)
    _, arity = read_inputs(program, cells, work)
    if arity == 0:
        return 0
    probes = probes_of(STANDARD, arity)
    outputs = np.zeros(len(probes), np.int64)
    if not run_probes(reference, probes, outputs, cells, work):
        return 0
    if np.unique(outputs).size < 4 or (probes == outputs[:, None]).all(0).any():
        return 0
    return int(hash_outputs(arity, outputs))
