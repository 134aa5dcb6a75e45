"""Search for the shortest bodies of many functions at once, without blocks, by observational equivalence.

All bodies of digits, `,` and `WORDS` are tried, shortest first. A body is right if it leaves the outputs of a function
on all inputs in the range of the probes, not only on the probes. The state of a prefix is what it leaves on all these
inputs, and whether it ends in a digit, since another digit would extend the literal. Of prefixes with equal states,
only the first, a shortest one, is extended. States are compared by 64-bit hashes. The last three tokens of the longest
bodies are not stored, and no columns are made for the last one: most of these bodies are rejected by a randomly
weighted sum over their outputs on the probes, and the rest are run on all inputs.

Values are columns of a table in one array, ``cells``: a row for each input, those of the probes first, and a column for
each place on the stack. ``sums`` holds the weighted sum of each column.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cadmus_gym.language import isa as op
from cadmus_gym.language.hashing import GOLDEN, Words64, mix
from cadmus_gym.language.isa import ID, Int, Ints, Tokens
from cadmus_gym.language.kernels import kernel
from cadmus_gym.language.verdicts import LARGEST
from cadmus_gym.progress import Report
from cadmus_gym.tasks.synthesis import steps as chain
from cadmus_gym.tasks.synthesis.drawing import RANGES, run_rows
from cadmus_gym.tasks.synthesis.hidden import STANDARD, probes_of
from cadmus_gym.tasks.synthesis.optima import LONGEST, WORDS, length_of
from cadmus_gym.tasks.synthesis.space import BODY_ROOM, Space, load_body

SHORTEST = 3  # and at most LONGEST: limits on the length of the bodies to try
ROOM = 900  # rows of a column: all pairs of inputs
DEPTH = (2 + 1 + LONGEST) // 2  # values on the stack, at most
SPARE, INPUTS = DEPTH, DEPTH + 1  # columns for a new value and for the inputs
COLUMNS = INPUTS + 2
BITS = 23  # of a filter's index
CHUNK = 4096  # prefixes


class Targets(NamedTuple):
    """Functions to search for, and what has been found.

    ``table`` (2, S): sum over the probes and index of each function plus 1, in the slots of a hash table. ``filter``
    has a bit for each sum that a function may have. ``wholes`` (F,): sums over all inputs. ``lengths`` (F,): tokens of
    the shortest body so far, and ``codes`` (F,): that body, if this search found it.
    """

    table: Ints
    filter: Words64
    wholes: Ints
    lengths: Ints
    codes: Ints


def inputs_of(arity: int) -> Ints:
    """Return all inputs (R, arity) int64 from -9 to 20, those of the probes first."""
    low, high = STANDARD
    probes = probes_of(STANDARD, arity).tolist()
    axes = np.meshgrid(*[np.arange(low, high + 1)] * arity, indexing="ij")
    every = np.stack(axes, axis=-1).reshape(-1, arity).tolist()
    return np.array(list(dict.fromkeys(map(tuple, probes + every))), np.int64)


@kernel
def weight_of(row: Int) -> Int:
    """The weight of a row in sums: odd and otherwise random."""
    return np.int64(mix(np.uint64(row + 1)) | np.uint64(1))


def sums_of(outputs: Ints) -> Ints:
    """Return the sums (F, 2) of outputs (F, R) on all inputs as of `inputs_of`: over the probes, and over all."""
    probes = min(64, outputs.shape[1])
    with np.errstate(over="ignore"):
        weighted = outputs * np.array([weight_of(row) for row in range(outputs.shape[1])], np.int64)
        return np.stack([weighted[:, :probes].sum(1), weighted.sum(1)], axis=1)


def code_of(tokens: Sequence[int] | Tokens) -> int:
    """Return a body as one number, six bits per token."""
    code = 0
    for token in tokens:
        code = code << 6 | int(token)
    return code


@kernel
def measure(
    parameters: Ints, bodies: Ints, count: Int, inputs: Ints, work: Ints, program: Tokens, sums: Ints, lengths: Ints
) -> None:
    """Find the sums (N, 2) of drawn bodies (N, 2 * count) as of `sums_of`, and how many tokens they have, (N,)."""
    ranges, last = parameters[RANGES : RANGES + chain.RANGES], (chain.FIRST + count - 1) * chain.ROOM
    for k in range(bodies.shape[0]):
        for step in range(count):
            kind, number = bodies[k, 2 * step], bodies[k, 2 * step + 1]
            lengths[k] = chain.put_step(ranges, kind, number, program, lengths[k])
        load_body(bodies[k], count, work)
        for first in range(0, inputs.shape[0], chain.ROOM):
            rows = min(chain.ROOM, inputs.shape[0] - first)
            for row in range(rows):
                work[chain.X * chain.ROOM + row] = inputs[first + row, 0]
                work[chain.Y * chain.ROOM + row] = inputs[first + row, inputs.shape[1] - 1]
            run_rows(parameters, count, rows, np.int64(LARGEST), work)
            for row in range(rows):
                sums[k, 1] += work[last + row] * weight_of(first + row)
            if first == 0:
                sums[k, 0] = sums[k, 1]


class Functions(NamedTuple):
    """The F functions of a space with a given number of inputs.

    ``keys`` (F,) uint64 ascending; ``sums`` (F, 2) as of `sums_of`; ``lengths`` (F,): tokens of the shortest body that
    is drawn. ``several`` (F,): whether bodies with this key differ on inputs that are not probes.
    """

    keys: Words64
    sums: Ints
    lengths: Ints
    several: NDArray[np.bool_]

    def take(self, rows: Ints) -> Functions:
        """Return the functions of some rows."""
        return Functions(self.keys[rows], self.sums[rows], self.lengths[rows], self.several[rows])


def functions_of(space: Space, arity: int) -> Functions:
    """Return the functions of ``arity`` inputs of a space."""
    keys, sums, lengths = [], [], []
    for kind in space.kinds.values():
        if kind.arity == arity:
            kept = np.ascontiguousarray(kind.steps[kind.keys > 0])
            keys.append(kind.keys[kind.keys > 0])
            sums.append(np.zeros((len(kept), 2), np.int64))
            lengths.append(np.zeros(len(kept), np.int64))
            program, inputs = np.zeros(BODY_ROOM, np.uint8), inputs_of(arity)
            measure(space.parameters, kept, kind.length, inputs, space.work, program, sums[-1], lengths[-1])
    every = np.concatenate(sums)
    unique, first, place = np.unique(np.concatenate(keys), return_index=True, return_inverse=True)
    least, several = np.full(unique.size, BODY_ROOM), np.zeros(unique.size, np.bool_)
    np.minimum.at(least, place, np.concatenate(lengths))
    several[place[every[:, 1] != every[first][place, 1]]] = True
    return Functions(unique, every[first], least, several)


@kernel
def is_digit(token: Int) -> bool:
    return bool(op.ZERO <= token <= op.NINE)


@kernel
def quotient_of(x: Int, y: Int) -> Int:
    """x // y. A float is exact enough for 32-bit numbers: a quotient below a whole number does not round up to it."""
    return np.int64(np.floor(float(x) / float(y)))


@kernel
def push(token: Int, extends: bool, cells: Ints, depth: Int, target: Int, rows: Int, weights: Ints) -> tuple[Int, bool]:
    """Write the value that a token other than `dup swap over ,` leaves on a stack of ``depth`` values to a column.

    Returns (the sum of the column, whether no row has a fault). ``extends``: the previous token is a digit.
    """
    x, y, z = cells[depth - 2], cells[depth - 1], cells[target]
    total, magnitudes, zeros = np.int64(0), np.int64(0), np.int64(0)
    if is_digit(token):
        factor = 10 if extends else 0
        for row in range(rows):
            z[row] = factor * y[row] + token - op.ZERO
    elif token == op.ADD or token == op.SUB:
        sign = 1 if token == op.ADD else -1
        for row in range(rows):
            z[row] = x[row] + sign * y[row]
    elif token == op.MUL:
        for row in range(rows):
            z[row] = x[row] * y[row]
    elif token == op.DIV or token == op.MOD:
        for row in range(rows):
            zeros += np.int64(y[row] == 0)
        if zeros > 0:
            return np.int64(0), False
        if token == op.DIV:
            for row in range(rows):
                z[row] = quotient_of(x[row], y[row])
        else:
            for row in range(rows):
                z[row] = x[row] - y[row] * quotient_of(x[row], y[row])
    elif token == op.MIN:
        for row in range(rows):
            z[row] = min(x[row], y[row])
    elif token == op.MAX:
        for row in range(rows):
            z[row] = max(x[row], y[row])
    elif token == op.ABS:
        for row in range(rows):
            z[row] = abs(y[row])
    else:
        sign, by = (-1 if token == op.NEG else 1), np.int64(token == op.INC) - np.int64(token == op.DEC)
        for row in range(rows):
            z[row] = sign * y[row] + by
    for row in range(rows):
        total += z[row] * weights[row]
        magnitudes |= abs(z[row])
    return total, bool(magnitudes <= LARGEST)


@kernel
def depth_after(token: Int, extends: bool, depth: Int) -> Int:
    """The depth of the stack after a token, 0 if it has too few operands."""
    if is_digit(token):
        return depth if extends else depth + 1
    return depth - op.POPS[token] + op.PUSHES[token] if depth >= op.POPS[token] else np.int64(0)


@kernel
def run_code(code: Int, arity: Int, cells: Ints, sums: Ints, rows: Int, weights: Ints) -> tuple[Int, bool]:
    """Run a body on the inputs; return (depth of the stack, or 0 after a fault; whether it ends in a digit)."""
    depth, extends = arity, False
    for k in range(arity):
        sums[k] = sums[INPUTS + k]
        x, y = cells[INPUTS + k], cells[k]
        for row in range(rows):
            y[row] = x[row]
    for k in range(length_of(code) - 1, -1, -1):
        token = code >> 6 * k & 63
        after = depth if token == op.COMMA else depth_after(token, extends, depth)
        if after == 0:
            return np.int64(0), False
        if token == op.DUP or token == op.OVER:
            copied = depth - 1 if token == op.DUP else depth - 2
            x, y = cells[copied], cells[depth]
            sums[depth] = sums[copied]
            for row in range(rows):
                y[row] = x[row]
        elif token == op.SWAP:
            x, y = cells[depth - 2], cells[depth - 1]
            sums[depth - 1], sums[depth - 2] = sums[depth - 2], sums[depth - 1]
            for row in range(rows):
                x[row], y[row] = y[row], x[row]
        elif token != op.COMMA:
            sums[after - 1], runs = push(token, extends, cells, depth, after - 1, rows, weights)
            if not runs:
                return np.int64(0), False
        depth, extends = after, is_digit(token)
    return depth, extends


@kernel
def share_of(place: Int, total: Int) -> np.uint64:
    """What a column adds to the hash of a state."""
    return mix(np.uint64(total) + np.uint64(place + 1) * GOLDEN)


@kernel
def has_state(slots: Words64, tag: np.uint64, keep: bool) -> bool:
    """Whether a hash table has a state; if not, and if ``keep``, enter it."""
    mask = np.uint64(slots.size - 1)
    slot = tag & mask
    while slots[slot] != 0:
        if slots[slot] == tag:
            return True
        slot = (slot + np.uint64(1)) & mask
    if keep:
        slots[slot] = tag
    return False


@kernel
def enter_states(slots: Words64, old: Words64) -> None:
    for tag in old:
        if tag != 0:
            has_state(slots, tag, True)


@kernel
def bit_of(total: Int) -> tuple[np.uint64, np.uint64]:
    """Where a sum is in a filter: the word and the bit."""
    place = np.uint64(total) * GOLDEN >> np.uint64(64 - BITS)
    return place >> np.uint64(6), np.uint64(1) << (place & np.uint64(63))


@kernel
def enter_targets(sums: Ints, longer: Int, targets: Targets) -> None:
    """Enter the sums over the probes (F,) of all functions whose bodies have more than ``longer`` tokens."""
    table, filter = targets.table, targets.filter
    table[:] = 0
    filter[:] = 0
    mask = table.shape[1] - 1
    for k in range(sums.size):
        if targets.lengths[k] <= longer:
            continue
        word, bit = bit_of(sums[k])
        filter[word] |= bit
        slot = np.int64(mix(np.uint64(sums[k])) & np.uint64(mask))
        while table[1, slot] != 0:
            slot = slot + 1 & mask
        table[0, slot], table[1, slot] = sums[k], k + 1


@kernel
def find_target(targets: Targets, total: Int) -> Int:
    """The index of the function with a sum over the probes, or -1."""
    word, bit = bit_of(total)
    if not targets.filter[word] & bit:
        return np.int64(-1)
    mask = targets.table.shape[1] - 1
    slot: Int = np.int64(mix(np.uint64(total)) & np.uint64(mask))
    while targets.table[1, slot] != 0:
        if targets.table[0, slot] == total:
            return targets.table[1, slot] - 1
        slot = slot + 1 & mask
    return np.int64(-1)


@kernel
def note(
    targets: Targets, total: Int, code: Int, length: Int, arity: Int, cells: Ints, sums: Ints, weights: Ints
) -> Int:
    """Note a body if it is right for a function for which only longer ones are known.

    ``total`` is its sum over the probes. Returns 1 if it is right on the probes alone, otherwise 0.
    ``weights`` are those of all inputs.
    """
    k = find_target(targets, total)
    if k < 0 or targets.lengths[k] <= length:
        return np.int64(0)
    depth, _ = run_code(code, arity, cells, sums, np.int64(weights.size), weights)
    if depth != 1 or sums[0] != targets.wholes[k]:
        return np.int64(1)
    targets.lengths[k], targets.codes[k] = length, code
    return np.int64(0)


@kernel
def extend(
    level: Ints,
    length: Int,
    most: Int,
    keep: bool,
    arity: Int,
    tokens: Ints,
    cells: Ints,
    sums: Ints,
    weights: Ints,
    slots: Words64,
    targets: Targets,
    longer: Ints,
) -> Int:
    """Write to ``longer`` the bodies of ``length`` tokens that extend those of a level, leave at most ``most`` values,
    and reach a state that is not in ``slots``; return how many there are. If ``keep``, enter their states there."""
    size: Int = 0
    rows, probes = np.int64(weights.size), min(np.int64(64), np.int64(weights.size))
    for code in level:
        depth, extends = run_code(code, arity, cells, sums, rows, weights)
        below = np.uint64(0)  # the part of the stack below its two top values
        for k in range(depth - 2):
            below += share_of(k, sums[k])
        under = share_of(depth - 2, sums[depth - 2]) if depth > 1 else np.uint64(0)
        for token in tokens:
            after = depth if token == op.COMMA else depth_after(token, extends, depth)
            if not 0 < after <= most or (token == op.COMMA and not extends):
                continue
            tag = below
            if token == op.COMMA:
                tag += under + share_of(depth - 1, sums[depth - 1])
            elif token == op.SWAP:
                tag += share_of(depth - 2, sums[depth - 1]) + share_of(depth - 1, sums[depth - 2])
            elif token == op.DUP or token == op.OVER:
                copied = sums[depth - 1 if token == op.DUP else depth - 2]
                tag += under + share_of(depth - 1, sums[depth - 1]) + share_of(depth, copied)
            else:
                total, runs = push(token, extends, cells, depth, SPARE, rows, weights)
                if not runs:
                    continue
                tag += np.uint64(0) if after < depth else under
                tag += share_of(depth - 1, sums[depth - 1]) if after > depth else np.uint64(0)
                tag += share_of(after - 1, total)
                if after == 1:
                    near: Int = 0
                    for row in range(probes):
                        near += cells[SPARE, row] * weights[row]
                    k = find_target(targets, near)
                    if k >= 0 and targets.wholes[k] == total and targets.lengths[k] > length:
                        targets.lengths[k], targets.codes[k] = length, code << 6 | token
            tag = max(np.uint64(1), mix(tag + np.uint64(2 * after + np.int64(is_digit(token))) * GOLDEN))
            if not has_state(slots, tag, keep):
                longer[size] = code << 6 | token
                size += 1
    return size


@kernel
def finish(
    level: Ints,
    length: Int,
    arity: Int,
    tokens: Ints,
    cells: Ints,
    sums: Ints,
    spare: Ints,
    spare_sums: Ints,
    weights: Ints,
    targets: Targets,
) -> Int:
    """Try all bodies of ``length`` and ``length`` - 1 tokens that extend those of a level, and note what is found.

    Returns how often a body was right on the probes alone. Sums are linear, so the sum after a last `add`, `sub`,
    `max`, `mod`, `neg`, `inc` or `dec` needs no column of its own.
    """
    rejected: Int = 0
    rows = min(np.int64(64), np.int64(weights.size))
    one: Int = 0
    for row in range(rows):
        one += weights[row]
    for code in level:
        depth, extends = run_code(code, arity, cells, sums, rows, weights)
        for token in tokens:
            after = depth_after(token, extends, depth)
            if not 0 < after <= 2 or token == op.COMMA:
                continue
            x, y = np.int64(0), np.int64(SPARE)
            if token == op.SWAP:
                x, y = np.int64(1), np.int64(0)
            elif token == op.DUP:
                y = np.int64(0)
            else:
                sums[SPARE], runs = push(token, extends, cells, depth, SPARE, rows, weights)
                if not runs:
                    continue
            longer = code << 6 | token
            left, right = sums[x], sums[y]
            u, v = cells[x], cells[y]
            if after == 1:
                rejected += note(targets, right, longer, length - 1, arity, spare, spare_sums, weights)
                absolute: Int = 0
                for row in range(rows):
                    absolute += abs(v[row]) * weights[row]
                for last, total in ((op.NEG, -right), (op.ABS, absolute), (op.INC, right + one), (op.DEC, right - one)):
                    rejected += note(targets, total, longer << 6 | last, length, arity, spare, spare_sums, weights)
                continue
            product, least, zeros = np.int64(0), np.int64(0), np.int64(0)
            for row in range(rows):
                product += u[row] * v[row] * weights[row]
                least += min(u[row], v[row]) * weights[row]
                zeros += np.int64(v[row] == 0)
            for last, total in (
                (op.ADD, left + right),
                (op.SUB, left - right),
                (op.MUL, product),
                (op.MIN, least),
                (op.MAX, left + right - least),
            ):
                rejected += note(targets, total, longer << 6 | last, length, arity, spare, spare_sums, weights)
            if zeros > 0:
                continue
            quotients, multiples = np.int64(0), np.int64(0)
            for row in range(rows):
                quotient = quotient_of(u[row], v[row])
                quotients += quotient * weights[row]
                multiples += quotient * v[row] * weights[row]
            for last, total in ((op.DIV, quotients), (op.MOD, left - multiples)):
                rejected += note(targets, total, longer << 6 | last, length, arity, spare, spare_sums, weights)
    return rejected


def find_shortest(
    arity: int, limit: int, sums: Ints, lengths: Ints, report: Report | None = None
) -> tuple[Ints, Ints, int]:
    """Try all bodies of up to ``limit`` tokens of digits, `,` and `WORDS` for F functions of ``arity`` inputs, 1 or 2.

    ``sums`` (F, 2) int64 are those of the functions' outputs (`sums_of`), no two equal over the probes, and ``lengths``
    (F,) int64 the number of tokens of the shortest body known for each.

    Returns (``lengths`` after the search, (F,); the body found for each, (F,) int64, six bits per token, 0 if none is
    shorter; how often a body was right on the probes alone). ``report`` is called with (done, total): how many of the
    longest stored prefixes have been extended. Memory: some 30 bytes for each of these. Raises ValueError for a limit
    that is not allowed.
    """
    if not SHORTEST <= limit <= LONGEST:
        raise ValueError(f"limit = {limit}; allowed: {SHORTEST} to {LONGEST} tokens")
    inputs = inputs_of(arity)
    weights = np.array([weight_of(row) for row in range(len(inputs))], np.int64)
    tokens = np.array([op.COMMA, *range(op.ZERO, op.NINE + 1), *sorted(ID[word] for word in WORDS)], np.int64)
    # The sums of inputs are over all rows in the first two buffers, and over the probes in the one for the last tokens.
    cells, spare, near = np.zeros((3, COLUMNS, ROOM), np.int64)
    cell_sums, spare_sums, near_sums = np.zeros((3, COLUMNS), np.int64)
    for k in range(arity):
        near_sums[INPUTS + k], cell_sums[INPUTS + k] = sums_of(inputs[None, :, k])[0]
        spare_sums[INPUTS + k] = cell_sums[INPUTS + k]
        for room in (cells, spare, near):
            room[INPUTS + k, : len(inputs)] = inputs[:, k]
    table = np.zeros((2, 1 << max(4, int(4 * len(sums)).bit_length())), np.int64)
    targets = Targets(table, np.zeros(1 << BITS - 6, np.uint64), sums[:, 1].copy(), lengths.copy(), 0 * lengths)
    by_probes = np.ascontiguousarray(sums[:, 0])
    level, slots, states, rejected = np.zeros(1, np.int64), np.zeros(1 << 16, np.uint64), 0, 0
    longer = np.zeros(CHUNK * tokens.size, np.int64)
    for length in range(1, limit - 1):
        parts: list[NDArray[np.int64]] = []
        keep = length < limit - 2
        enter_targets(by_probes, length, targets)
        for first in range(0, len(level), CHUNK):
            if 2 * (states + longer.size) > slots.size:
                old, slots = slots, np.zeros(4 * slots.size, np.uint64)
                enter_states(slots, old)
            chunk = level[first : first + CHUNK]
            given = arity, tokens, cells, cell_sums, weights, slots, targets, longer
            size = int(extend(chunk, length, limit + 1 - length, keep, *given))
            if keep:
                states += size
                parts.append(longer[:size].copy())
                continue
            found = longer[:size], limit, arity, tokens, near, near_sums, spare, spare_sums, weights, targets
            rejected += int(finish(*found))
            if report is not None:
                report(min(first + CHUNK, len(level)), len(level))
        level = np.concatenate(parts) if keep else level
    return targets.lengths, targets.codes, rejected
