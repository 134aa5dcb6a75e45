"""Bodies of words without literals: drawn word by word, or the shortest bodies that exist.

A drawn body is a random walk of a given number of words. Each word is drawn by weight among those that run and lead to
a new state of stack and registers; a body of which any span of words can be left out is rejected. The shortest bodies
are found breadth first on symbolic inputs: for every stack that a given number of words can leave and fewer words
cannot, the first body in the order of `WORDS`. One of these bodies is drawn uniformly.

`min` and `max` need symbols that can be compared. These are truth tables (`tables`): two bodies of stack words, `min`
and `max` agree on all inputs if they agree on all inputs of 0 and 1, where `min` is "and" and `max` is "or" (the
zero-one principle; Knuth, The Art of Computer Programming, volume 3, 5.3.4).
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from cadmus_gym.language import isa as op
from cadmus_gym.language.hashing import Words64, join, mix
from cadmus_gym.language.isa import ID, Int, Ints, Tokens
from cadmus_gym.language.kernels import kernel
from cadmus_gym.language.verdicts import LARGEST
from cadmus_gym.tasks.checks import as_array, listed
from cadmus_gym.tasks.literals import body_at, literal_at, put, token_at
from cadmus_gym.tasks.sampling import OPERAND, categorical, uniform
from cadmus_gym.tasks.synthesis.drawing import read_shape

# Words that only order the stack come first, so that of equally short bodies `drop drop` is taken before `add drop`.
WORDS = ("dup", "drop", "swap", "over", "rot", "a!", "a@", "b!", "b@", "add", "sub", "mul", "min", "max")
DUP, DROP, SWAP, OVER, ROT, SET_A, GET_A, SET_B, GET_B, ADD, SUB, MUL, MIN, MAX = range(len(WORDS))
TOKENS = np.array([ID[word] for word in WORDS], np.int64)
NEEDS = np.array([1, 1, 2, 2, 3, 1, 0, 1, 0, 2, 2, 2, 2, 2], np.int64)  # values on the stack
EFFECTS = np.array([1, -1, 0, 1, 0, -1, 1, -1, 1, -1, -1, -1, -1, -1], np.int64)  # on the depth of the stack
REFERENCES = ("shortest", "drawn")
MOST_WORDS = 12
MOST_INPUTS = 6
MOST_BODIES = 3_000_000  # bodies tried for one more word, at most
CHUNK = 1 << 16  # bodies that are extended before the arrays grow again

# A state: the depth, the registers, and the stack. Inputs are above 0, so 0 is a register that was never set.
DEPTH, A, B, BOTTOM = range(4)
ROOM = 16
STATE = BOTTOM + ROOM

# Layout of the packed parameters; those of a family follow.
DRAWN_WORDS = 0  # whether a body is a walk
WEIGHTS = 1
SECTIONS = WEIGHTS + len(WORDS)  # first body and number of bodies, for each number of inputs and of words
OWN = SECTIONS + 2 * (MOST_INPUTS + 1) * (MOST_WORDS + 1)

# Layout of the working room; cells of a family follow.
BEGIN, STATE_NOW, SPARE = 0, STATE, 2 * STATE
BODY = 3 * STATE
SEEN = BODY + MOST_WORDS  # words of a given body
ALLOWED = SEEN + MOST_WORDS + 1
PASSED = ALLOWED + len(WORDS)  # states of a walk
FREE = PASSED + (MOST_WORDS + 1) * STATE


@kernel
def run_word(cells: Ints, word: Int, limit: Int) -> bool:
    """Run a word on a state; return False for a fault or a value beyond the limit. A negative limit means no limit."""
    depth = cells[DEPTH]
    if depth < NEEDS[word] or depth + EFFECTS[word] > ROOM:
        return False
    top = BOTTOM + depth - 1
    cells[DEPTH] = depth + EFFECTS[word]
    if word == DUP:
        cells[top + 1] = cells[top]
    elif word == OVER:
        cells[top + 1] = cells[top - 1]
    elif word == SWAP:
        cells[top], cells[top - 1] = cells[top - 1], cells[top]
    elif word == ROT:
        lowest = cells[top - 2]
        cells[top - 2], cells[top - 1], cells[top] = cells[top - 1], cells[top], lowest
    elif word == SET_A:
        cells[A] = cells[top]
    elif word == SET_B:
        cells[B] = cells[top]
    elif word == GET_A:
        cells[top + 1] = cells[A]
    elif word == GET_B:
        cells[top + 1] = cells[B]
    elif word >= MIN:  # of truth tables
        x, y = cells[top - 1], cells[top]
        cells[top - 1] = x & y if word == MIN else x | y
    elif word >= ADD:
        x, y = cells[top - 1], cells[top]
        value = x + y if word == ADD else x - y if word == SUB else x * y
        if 0 <= limit < abs(value):
            return False
        cells[top - 1] = value
    return True


@kernel
def is_idle(cells: Ints, word: Int) -> bool:
    """Whether a word that can run would do nothing useful: read a register that was never set, add or subtract with
    0, or multiply by 0, 1 or -1."""
    top = BOTTOM + cells[DEPTH] - 1
    if word == GET_A or word == GET_B:
        return bool(cells[A if word == GET_A else B] == 0)
    if word < ADD:
        return False
    least = 2 if word == MUL else 1
    return bool(abs(cells[top - 1]) < least or abs(cells[top]) < least)


@kernel
def copy(source: Ints, target: Ints) -> None:
    for k in range(STATE):
        target[k] = source[k]


@kernel
def leave_same(one: Ints, other: Ints, registers: bool) -> bool:
    """Whether two states have the same stack, and the same registers if these count."""
    same = one[DEPTH] == other[DEPTH] and (not registers or (one[A] == other[A] and one[B] == other[B]))
    for k in range(BOTTOM, BOTTOM + one[DEPTH]):
        same = same and one[k] == other[k]
    return bool(same)


@kernel
def run_body(body: Ints, count: Int, first: Int, last: Int, limit: Int, begin: Ints, cells: Ints) -> bool:
    """Run a body without its words from ``first`` to before ``last``; return whether there was no fault."""
    copy(begin, cells)
    runs = True
    for k in range(count):
        runs = runs and (first <= k < last or run_word(cells, body[k], limit))
    return runs


@kernel
def can_be_shorter(work: Ints, count: Int) -> bool:
    """Whether the body in ``work`` would leave the stack at STATE_NOW even without some span of its words.

    Only spans that do not change the depth are tried, since leaving out any other span changes the depth.
    """
    begin, now, spare = work[BEGIN : BEGIN + STATE], work[STATE_NOW : STATE_NOW + STATE], work[SPARE : SPARE + STATE]
    for first in range(count):
        change: Int = 0
        for last in range(first + 1, count + 1):
            change += EFFECTS[work[BODY + last - 1]]
            runs = change == 0 and run_body(work[BODY:], count, first, last, np.int64(LARGEST), begin, spare)
            if runs and leave_same(now, spare, False):
                return True
    return False


@kernel
def read_words(program: Tokens, work: Ints) -> Int:
    """Read the words of a given program's body to SEEN; return how many there are, -1 if some are not in `WORDS`."""
    position = body_at(program)
    for count in range(MOST_WORDS + 1):
        token = token_at(program, position + count)
        if token == op.END:
            return np.int64(count)
        work[SEEN + count] = -1
        for word in range(TOKENS.size):
            if TOKENS[word] == token:
                work[SEEN + count] = word
        if work[SEEN + count] < 0:
            break
    return np.int64(-1)


@kernel
def read_given(program: Tokens, most: Int, first: Int, work: Ints) -> tuple[Int, Int]:
    """Read a given program of one case: up to ``most`` inputs to ``work[first:]``, and the words of its body.

    Returns (number of inputs, number of words or -1 as of `read_words`).
    """
    _, inputs = read_shape(program)
    position: Int = 1
    for k in range(min(inputs, most)):
        work[first + k], position = literal_at(program, position, True)
    return inputs, read_words(program, work)


@kernel
def walk(
    parameters: Ints, rng: Words64, script: Ints, count: Int, least: Int, most: Int, limit: Int, work: Ints
) -> bool:
    """Draw ``count`` words that run from the state at BEGIN and leave ``least`` to ``most`` values; return whether
    there was a word to draw at every step."""
    now, spare = work[STATE_NOW : STATE_NOW + STATE], work[SPARE : SPARE + STATE]
    copy(work[BEGIN : BEGIN + STATE], now)
    for k in range(count):
        copy(now, work[PASSED + k * STATE : PASSED + (k + 1) * STATE])
        total, left = np.int64(0), count - k - 1
        for word in range(TOKENS.size):
            work[ALLOWED + word] = 0
            if parameters[WEIGHTS + word] == 0:
                continue
            copy(now, spare)
            if not run_word(spare, np.int64(word), limit) or is_idle(now, np.int64(word)):
                continue
            new = least - left <= spare[DEPTH] <= most + left
            for j in range(k + 1):
                new = new and not leave_same(spare, work[PASSED + j * STATE : PASSED + (j + 1) * STATE], True)
            if new:
                work[ALLOWED + word] = parameters[WEIGHTS + word]
                total += work[ALLOWED + word]
        if total == 0:
            return False
        work[BODY + k] = categorical(rng, script, OPERAND, work, ALLOWED, TOKENS.size, work[SEEN + k])
        run_word(now, work[BODY + k], limit)
    return True


@kernel
def index_of(parameters: Ints, first: Int, size: Int, code: Int) -> Int:
    """The index of a body among ``size`` bodies in ascending order, or -1."""
    low, high = np.int64(0), size
    while low < high:
        middle = (low + high) // 2
        if parameters[first + middle] < code:
            low = middle + 1
        else:
            high = middle
    return low if low < size and parameters[first + low] == code else np.int64(-1)


@kernel
def draw_body(
    parameters: Ints, rng: Words64, script: Ints, count: Int, least: Int, most: Int, limit: Int, work: Ints
) -> bool:
    """Draw a body of ``count`` words to run on the state at BEGIN; return whether it can be a reference.

    Its words are in ``work`` at BODY, and what it leaves, ``least`` to ``most`` values, is at STATE_NOW. Inputs without
    a ``limit`` are symbols: all different, and never computed with.
    """
    if parameters[DRAWN_WORDS]:
        return walk(parameters, rng, script, count, least, most, limit, work) and not can_be_shorter(work, count)
    section = SECTIONS + 2 * (work[BEGIN + DEPTH] * (MOST_WORDS + 1) + count)
    first, size = parameters[section], parameters[section + 1]
    code: Int = 0
    for k in range(count):
        code = code << 4 | work[SEEN + k]
    code = parameters[first + uniform(rng, script, OPERAND, size, index_of(parameters, first, size, code))]
    now = work[STATE_NOW : STATE_NOW + STATE]
    copy(work[BEGIN : BEGIN + STATE], now)
    for k in range(count):
        work[BODY + k] = code >> 4 * (count - 1 - k) & 15
        if is_idle(now, work[BODY + k]) or not run_word(now, work[BODY + k], limit):
            return False
    return limit < 0 or not can_be_shorter(work, count)  # the shortest for symbols may be too long for some numbers


@kernel
def put_body(program: Tokens, position: Int, count: Int, work: Ints) -> Int:
    """Write the body in ``work``; return the position after it."""
    for k in range(count):
        position = put(program, position, TOKENS[work[BODY + k]])
    return position


@kernel
def hash_stack(cells: Ints) -> np.uint64:
    key = np.uint64(cells[DEPTH])
    for k in range(BOTTOM, BOTTOM + cells[DEPTH]):
        key = join(key, np.uint64(cells[k]))
    return max(key, np.uint64(1))


@kernel
def hash_state(cells: Ints) -> np.uint64:
    return max(join(join(hash_stack(cells), np.uint64(cells[A])), np.uint64(cells[B])), np.uint64(1))


@kernel
def add_hash(slots: Words64, key: np.uint64) -> bool:
    """Add a hash above 0 to a table of 2**k slots, some of them free; return whether it is new."""
    mask = np.uint64(slots.size - 1)
    place = mix(key) & mask
    while slots[place] != 0:
        if slots[place] == key:
            return False
        place = (place + np.uint64(1)) & mask
    slots[place] = key
    return True


@kernel
def add_hashes(slots: Words64, keys: Words64) -> None:
    for key in keys:
        if key != 0:
            add_hash(slots, key)


@kernel
def holds_only(cells: Ints, known: Ints) -> bool:
    """Whether all values on a stack are ``known``; true if no values are."""
    for k in range(BOTTOM, BOTTOM + cells[DEPTH]):
        found = known.size == 0
        for value in known:
            found = found or value == cells[k]
        if not found:
            return False
    return True


@kernel
def read_path(parents: NDArray[np.int32], words: Tokens, node: Int, path: Ints) -> Int:
    """Read the words of the body at a node of a tree; return how many there are."""
    count: Int = 0
    while node > 0:
        path[count] = words[node]
        node = parents[node]
        count += 1
    for k in range(count // 2):
        path[k], path[count - 1 - k] = path[count - 1 - k], path[k]
    return count


@kernel
def extend(
    parents: NDArray[np.int32],
    words: Tokens,
    first: Int,
    last: Int,
    size: Int,
    bounds: Ints,
    known: Ints,
    allowed: Ints,
    begin: Ints,
    states: Words64,
    stacks: Words64,
    found: Ints,
    path: Ints,
    cells: Ints,
    spare: Ints,
) -> tuple[Int, Int]:
    """Add every word to the bodies from ``first`` to before ``last`` of a tree of ``size`` bodies, and keep those that
    leave a new state.

    ``bounds`` are the lowest and highest depth of a wanted stack, and the highest depth on the way; ``known`` are the
    values that a wanted stack may hold, or empty for any. Returns the size of the tree, and how many bodies leave a new
    wanted stack; these are in ``found``.
    """
    count: Int = 0
    # b is not set before a, where a would do as well.
    twins = allowed[SET_A] and (allowed[GET_A] or not allowed[GET_B])
    for node in range(first, last):
        length = read_path(parents, words, node, path)
        run_body(path, length, np.int64(0), np.int64(0), np.int64(-1), begin, cells)
        for word in range(TOKENS.size):
            twin = word == SET_B and cells[A] == 0 and twins
            if not allowed[word] or twin or (word < ADD and is_idle(cells, np.int64(word))):
                continue
            copy(cells, spare)
            if not run_word(spare, np.int64(word), np.int64(-1)) or spare[DEPTH] > bounds[2]:
                continue
            if not add_hash(states, hash_state(spare)):
                continue
            asked = bounds[0] <= spare[DEPTH] <= bounds[1] and holds_only(spare, known)
            if asked and add_hash(stacks, hash_stack(spare)):
                found[count] = size
                count += 1
            parents[size], words[size] = node, word
            size += 1
    return size, count


def _larger(slots: Words64, most: int) -> Words64:
    """Return a table of hashes with room for ``most`` more, at most half full."""
    size = slots.size
    while size < 2 * (int(np.count_nonzero(slots)) + most):
        size *= 2
    larger = np.zeros(size, np.uint64)
    add_hashes(larger, slots)
    return larger


def search(
    symbols: Ints,
    instructions: Iterable[str],
    words: int,
    outputs: tuple[int, int],
    deepest: int = ROOM,
    known: Sequence[int] = (),
    most_bodies: int = 2**31,
) -> Iterator[list[Ints]]:
    """Yield the shortest bodies of 1 to ``words`` words on symbolic inputs, a list for each length.

    Each body is an array of its words, as indices into `WORDS`. Each leaves a different stack of ``outputs[0]`` to
    ``outputs[1]`` values, and none leaves just the inputs. If any values are ``known``, the stack holds no others. At
    most ``deepest`` values are on the stack on the way. States are compared by 64-bit hashes. Raises ValueError if more
    than ``most_bodies`` bodies would have to be tried for one more word.
    """
    allowed = np.array([word in {*instructions} for word in WORDS], np.int64)
    begin, cells, spare = (np.zeros(STATE, np.int64) for _ in range(3))
    begin[DEPTH], begin[BOTTOM : BOTTOM + symbols.size] = symbols.size, symbols
    values = np.array(known, np.int64)
    states, stacks, path = np.zeros(1 << 12, np.uint64), np.zeros(1 << 12, np.uint64), np.zeros(words + 1, np.int64)
    add_hash(states, np.uint64(hash_state(begin)))
    add_hash(stacks, np.uint64(hash_stack(begin)))
    parents, tokens = np.zeros(1 << 12, np.int32), np.zeros(1 << 12, np.uint8)
    first, last, kept, asked = 0, 1, 1, 1  # the bodies to be extended, the states, the stacks
    for count in range(1, words + 1):
        bounds = np.array([*outputs, min(deepest, outputs[1] + words - count)], np.int64)
        looked_at = (last - first) * int(allowed.sum())
        if looked_at > most_bodies:
            raise ValueError(
                f"{looked_at:,} bodies of {count} words are too many to search; allowed: {most_bodies:,}. Give fewer "
                "words"
            )
        bodies, size = list[Ints](), last
        for start in range(first, last, CHUNK):
            stop = min(last, start + CHUNK)
            most = (stop - start) * int(allowed.sum())
            if 2 * (kept + most) > states.size:
                states = _larger(states, most)
            if 2 * (asked + most) > stacks.size:
                stacks = _larger(stacks, most)
            if size + most > parents.size:
                room = size + most
                parents = np.concatenate([parents, np.zeros(room, np.int32)])
                tokens = np.concatenate([tokens, np.zeros(room, np.uint8)])
            found = np.zeros(most, np.int64)
            given = (
                parents,
                tokens,
                start,
                stop,
                size,
                bounds,
                values,
                allowed,
                begin,
                states,
                stacks,
                found,
                path,
                cells,
                spare,
            )
            longer, new = extend(*given)
            kept, asked, size = kept + longer - size, asked + new, longer
            bodies += [path[: read_path(parents, tokens, node, path)].copy() for node in found[:new]]
        first, last = last, size
        yield bodies


def tables(arity: int) -> Ints:
    """Return the truth table of each input over all inputs of 0 and 1, (arity,) int64."""
    return np.array([sum((row >> k & 1) << row for row in range(1 << arity)) for k in range(arity)], np.int64)


@functools.lru_cache(maxsize=16)
def shortest_bodies(
    arity: int, instructions: tuple[str, ...], words: int, outputs: tuple[int, int]
) -> tuple[Ints, ...]:
    """Return the shortest bodies of 0 to ``words`` words on ``arity`` inputs, by their number of words, as of `search`.

    Each is a number, four bits per word, its index in `WORDS`; they are in ascending order. Raises
    ValueError if there are too many.
    """
    symbols = np.array([int(mix(np.uint64(k + 1)) | np.uint64(1)) for k in range(arity)], np.uint64).view(np.int64)
    found = [np.zeros(0, np.int64)]
    try:
        for bodies in search(symbols, instructions, words, outputs, most_bodies=MOST_BODIES):
            codes = [sum(int(word) << 4 * k for k, word in enumerate(body[::-1])) for body in bodies]
            found.append(np.array(codes, np.int64))
    except ValueError as error:
        raise ValueError(f"moves: {error}, or reference = 'drawn'") from None
    return tuple(found)


def pack_bodies(
    reference: str,
    instructions: dict[str, int],
    own: list[int],
    kinds: Iterable[tuple[int, int]],
    outputs: tuple[int, int],
) -> Ints:
    """Return packed parameters: those of bodies, a family's ``own`` from `OWN` on, then the shortest bodies.

    ``kinds`` are pairs of numbers, of inputs and of words. Raises ValueError for a pair without a shortest body.
    """
    head = [reference == "drawn", *listed(instructions, WORDS)]
    sections, bodies = np.zeros((MOST_INPUTS + 1, MOST_WORDS + 1, 2), np.int64), [np.zeros(0, np.int64)]
    start = OWN + len(own)
    kinds = sorted(kinds)
    if reference == "shortest":
        longest = dict(kinds)  # the last pair of an arity has the most words
        for arity, words in kinds:
            found = shortest_bodies(arity, words_of(instructions), longest[arity], outputs)
            if found[words].size == 0:
                most = max((count for count in range(len(found)) if found[count].size), default=0)
                raise ValueError(
                    f"moves: with {arity} inputs no shortest reference has {words} words, and the longest has {most}; "
                    "give other moves, or reference = 'drawn'"
                )
            sections[arity, words] = start, found[words].size
            bodies.append(found[words])
            start += found[words].size
    return np.concatenate([as_array([*head, *sections.ravel().tolist(), *own]), *bodies])


def check_reference(reference: str) -> None:
    if reference not in REFERENCES:
        raise ValueError(f"reference = {reference!r}: known are {', '.join(REFERENCES)}")


def words_of(instructions: Iterable[str]) -> tuple[str, ...]:
    """Return words in the order of the vocabulary."""
    return tuple(sorted(instructions, key=ID.__getitem__))
