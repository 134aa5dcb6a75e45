"""The kernels of an enumeration: states of prefixes, how a unit extends them, and which are kept.

The machine computes each state: a unit is a small program, run on the stack of each case. A conditional is not run as a
whole. `if` says by its jump which cases enter the arm, and until `else` or `fi` the others are left as they are.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cadmus_gym.language import isa as op
from cadmus_gym.language.hashing import GOLDEN, mix
from cadmus_gym.language.isa import Int, Ints, Tokens
from cadmus_gym.language.kernels import kernel
from cadmus_gym.language.machine import execute
from cadmus_gym.language.memory import REGISTERS, STACK, load, store
from cadmus_gym.language.verdicts import BLOCK_DEPTH, MAX_CASES, RAN, STEPS

# Why `grow` returns.
BUDGET, FULL, FOUND, EXHAUSTED = range(4)
# What `extend` finds: a state, a body that faults, one too long or too deep to be completed within the limit, and what
# is no candidate, because a word has no operands or a block no opening.
STATE, FAULT, LOST, SKIPPED = range(4)
# Cells of the cursor of `grow`: the length of the bodies that are tried, by how much they are longer than what they
# extend, the prefix and the unit that come next; prefixes and cells kept; candidates tried; the prefix that fits.
LENGTH, COST, NODE, UNIT, NODES, CELLS, TRIED, FIT, CURSOR = range(9)
ARM, KIND = (1 << MAX_CASES) - 1, MAX_CASES  # of a block: the cases that came to it, and the bit that says `else`
USED = 7  # the bit from which the cell with the depth of a case holds the directives that are met


class Space(NamedTuple):
    """What is searched, as kernels read it: U units, K cases.

    ``programs`` (U, W) uint8: a `,` and the tokens of each unit, then `end`. ``pops`` (U,): operands it takes.
    ``ends`` (U,): whether it ends in a digit. ``ranges`` (2, C, 2): the units that make a prefix longer by C tokens,
    from the first to past the last, after a prefix that does not end in a digit and after one that does.
    ``outputs`` (K, 9): their number and values. ``uses`` (D,): the bits of words of `use` directives.
    """

    programs: Tokens
    pops: Ints
    ends: NDArray[np.bool_]
    ranges: Ints
    outputs: Ints
    uses: NDArray[np.uint64]
    registers: bool  # whether states have them
    marked: bool  # whether states say if the prefix ends in a digit
    exact: bool  # whether only bodies of ``limit`` tokens fit, so that states have the length of the prefix
    idle: bool  # whether words are tried that no case executes
    limit: int  # tokens of the longest body


class Kept(NamedTuple):
    """The prefixes kept so far: states in ``cells``, one after another from ``starts`` on; the prefix and the unit of
    which each was made; and a hash table of 31 bits of a state's hash and the number of its prefix plus 1."""

    cells: NDArray[np.int32]
    starts: Ints
    parents: NDArray[np.int32]
    units: NDArray[np.int32]
    slots: Ints


@kernel
def cell(cells: NDArray[np.int32], k: Int) -> Int:
    return np.int64(cells[np.uint64(k)])


@kernel
def extend(space: Space, kept: Kept, node: Int, unit: Int, length: Int, end: Int, work: Ints) -> tuple[Int, Int, bool]:
    """Extend a prefix by a unit to ``length`` tokens, and write the state to the cells from ``end`` on.

    Returns (what was found, cells in use, whether the body fits).
    """
    cells, outputs = kept.cells, space.outputs
    program = space.programs[np.uint64(unit)]
    token = np.int64(program[1])
    pops = space.pops[np.uint64(unit)]
    cases = outputs.shape[0]
    source = kept.starts[np.uint64(node)]
    blocks, active = cell(cells, source) & 31, cell(cells, source) >> 5
    marks = 1 + np.int64(space.marked or space.exact)
    block: Int = 0
    opened = blocks
    if token == op.IF:
        opened += 1
        if blocks == BLOCK_DEPTH:
            return SKIPPED, end, False
    elif token == op.FI or token == op.ELSE:
        if blocks == 0:
            return SKIPPED, end, False
        block = cell(cells, source + marks + blocks - 1)
        if token == op.FI:
            opened -= 1
        elif block >> KIND:
            return SKIPPED, end, False
    if active == 0 and not space.idle and token != op.FI and token != op.ELSE:
        return SKIPPED, end, False  # whatever no case executes can be left out
    start: Int = 1
    if op.ZERO <= token <= op.NINE and space.ends[np.uint64(kept.units[np.uint64(node)])]:
        start = 0

    left = source + marks + blocks
    right = end + marks + opened
    jumped: Int = 0
    gap: Int = 0
    fits = opened == 0 and (length == space.limit or not space.exact)
    for case in range(cases):
        depth, used = cell(cells, left) & (1 << USED) - 1, cell(cells, left) >> USED
        written = right
        left += 1
        right += 1
        if active >> case & 1:
            if depth < pops:
                return SKIPPED, end, False
            if space.registers:
                store(work, REGISTERS, cell(cells, left))
                store(work, REGISTERS + 1, cell(cells, left + 1))
                left += 2
            for k in range(depth):
                store(work, STACK + k, cell(cells, left + k))
            left += depth
            outcome, depth, position, _, executed = execute(program, start, True, depth, STEPS, work)
            if outcome != RAN:
                return FAULT, end, False
            if token == op.IF and position > start + 1:
                jumped |= 1 << case
            for k in range(space.uses.size):
                if executed & space.uses[k]:
                    used |= 1 << k
            if space.registers:
                cells[np.uint64(right)] = load(work, REGISTERS)
                cells[np.uint64(right + 1)] = load(work, REGISTERS + 1)
                right += 2
            for k in range(depth):
                cells[np.uint64(right + k)] = load(work, STACK + k)
            right += depth
        else:
            for _ in range(depth + 2 * space.registers):
                cells[np.uint64(right)] = cells[np.uint64(left)]
                left += 1
                right += 1
        cells[np.uint64(written)] = depth | used << USED
        gap = max(gap, abs(depth - outputs[case, 0]))
        fits = fits and depth == outputs[case, 0] and used == (1 << space.uses.size) - 1
        if fits:
            for k in range(depth):
                fits = fits and cell(cells, right - depth + k) == outputs[case, 1 + k]
    if length + opened + gap > space.limit:  # a token moves the depth by at most one, and each block needs its `fi`
        return LOST, end, False

    for k in range(min(blocks, opened)):
        cells[np.uint64(end + marks + k)] = cells[np.uint64(source + marks + k)]
    if token == op.IF:
        cells[np.uint64(end + marks + blocks)] = active
        active &= ~jumped
    elif token == op.ELSE:
        cells[np.uint64(end + marks + blocks - 1)] = block | 1 << KIND
        active = block & ARM & ~active
    elif token == op.FI:
        active = block & ARM
    cells[np.uint64(end)] = opened | active << 5
    if marks == 2:
        cells[np.uint64(end + 1)] = np.int64(space.ends[np.uint64(unit)]) | 2 * length * np.int64(space.exact)
    return STATE, right, fits


@kernel
def fingerprint(cells: NDArray[np.int32], begin: Int, end: Int) -> Int:
    """A 31-bit hash of a state."""
    word = np.uint64(end - begin)
    for k in range(begin, end):
        word = (word ^ np.uint64(cell(cells, k))) * GOLDEN
        word ^= word >> np.uint64(29)
    return np.int64(mix(word) >> np.uint64(33))


@kernel
def find(kept: Kept, tag: Int, begin: Int, end: Int) -> tuple[Int, Int]:
    """Find the state in cells from ``begin`` to ``end``, whose hash is ``tag``, among those kept.

    Returns (its prefix or -1, the slot of the table where it is or belongs).
    """
    cells, slots = kept.cells, kept.slots
    mask = slots.size - 1
    slot = tag & mask
    while True:
        entry = slots[np.uint64(slot)]
        if entry == 0:
            return -1, slot
        if entry >> 32 == tag:
            node = (entry & 0xFFFFFFFF) - 1
            other = kept.starts[np.uint64(node)]
            same = kept.starts[np.uint64(node + 1)] - other == end - begin
            k = begin
            while same and k < end:
                same = cells[np.uint64(k)] == cells[np.uint64(other + k - begin)]
                k += 1
            if same:
                return node, slot
        slot = slot + 1 & mask


@kernel
def keep(kept: Kept, cursor: Ints, node: Int, unit: Int, end: Int) -> None:
    """Keep the state that was written last, with what it was made of."""
    nodes = cursor[NODES]
    kept.parents[nodes], kept.units[nodes] = node, unit
    kept.starts[nodes + 1] = end
    cursor[NODES], cursor[CELLS] = nodes + 1, end


@kernel
def grow(space: Space, kept: Kept, cursor: Ints, layers: Ints, room: Int, budget: Int, work: Ints) -> Int:
    """Try up to ``budget`` candidates, from the cursor on; return why it stopped.

    ``layers[n]`` is the first prefix of n tokens. ``room`` is the number of cells of the largest state.
    """
    length, cost, node, unit = cursor[LENGTH], cursor[COST], cursor[NODE], cursor[UNIT]
    stop = cursor[TRIED] + budget
    widest = space.ranges.shape[1] - 1
    while True:
        if node == layers[length - cost + 1]:  # all prefixes of this length are extended by this cost
            cost += 1
            if cost > min(widest, length):
                nodes = cursor[NODES]
                layers[length + 1] = nodes
                if length == space.limit or nodes == layers[max(0, length + 1 - widest)]:
                    reason = EXHAUSTED
                    break
                length += 1
                cost = 1
            node = layers[length - cost]
            unit = -1
            continue
        after = np.int64(space.ends[np.uint64(kept.units[np.uint64(node)])])
        unit = max(unit, space.ranges[after, cost, 0])
        if unit >= space.ranges[after, cost, 1]:
            node += 1
            unit = -1
            continue
        if cursor[TRIED] >= stop:
            reason = BUDGET
            break
        nodes, end = cursor[NODES], cursor[CELLS]
        if nodes == kept.parents.size or end + room > kept.cells.size or 2 * nodes >= kept.slots.size:
            reason = FULL
            break
        found, filled, fits = extend(space, kept, node, unit, length, end, work)
        cursor[TRIED] += np.int64(found != SKIPPED)
        if fits:
            keep(kept, cursor, node, unit, filled)
            cursor[FIT] = nodes
            reason = FOUND
            break
        if found == STATE and length < space.limit:
            tag = fingerprint(kept.cells, end, filled)
            known, slot = find(kept, tag, end, filled)
            if known < 0:
                kept.slots[np.uint64(slot)] = tag << 32 | nodes + 1
                keep(kept, cursor, node, unit, filled)
            elif known >= layers[length] and space.ends[kept.units[known]] and not space.ends[unit]:
                kept.parents[known], kept.units[known] = node, unit  # as short, and a literal may follow without a `,`
        unit += 1
    cursor[LENGTH], cursor[COST], cursor[NODE], cursor[UNIT] = length, cost, node, unit
    return reason


@kernel
def enter(slots: Ints, old: Ints) -> None:
    """Enter all of an old hash table into an empty one."""
    mask = slots.size - 1
    for entry in old:
        if entry != 0:
            slot = entry >> 32 & mask
            while slots[np.uint64(slot)] != 0:
                slot = slot + 1 & mask
            slots[np.uint64(slot)] = entry
