"""Bodies of single words without literals: drawn word by word, or the shortest ones there are.

A drawn body is a walk of so many words. Each is drawn by weight among those that run and lead to a new state of stack
and registers; if any span of words could be left out, the body is no problem. The shortest bodies are found breadth
first on symbolic inputs: for every stack that so many words leave, and no fewer, the first body in the order of
`WORDS`. One of them is drawn uniformly.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable

import numpy as np

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
WORDS = ("dup", "drop", "swap", "over", "rot", "a!", "a@", "b!", "b@", "add", "sub", "mul")
DUP, DROP, SWAP, OVER, ROT, SET_A, GET_A, SET_B, GET_B, ADD, SUB, MUL = range(len(WORDS))
TOKENS = np.array([ID[word] for word in WORDS], np.int64)
NEEDS = np.array([1, 1, 2, 2, 3, 1, 0, 1, 0, 2, 2, 2], np.int64)  # values on the stack
EFFECTS = np.array([1, -1, 0, 1, 0, -1, 1, -1, 1, -1, -1, -1], np.int64)  # on the depth of the stack
REFERENCES = ("shortest", "drawn")
MOST_WORDS = 12
MOST_INPUTS = 6
MOST_BODIES = 3_000_000  # that are looked at for one more word

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
    """Run a word on a state. Return False for a fault, or a result above the limit; below 0 there is no limit."""
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
    elif word >= ADD:
        x, y = cells[top - 1], cells[top]
        value = x + y if word == ADD else x - y if word == SUB else x * y
        if 0 <= limit < abs(value):
            return False
        cells[top - 1] = value
    return True


@kernel
def is_idle(cells: Ints, word: Int) -> bool:
    """Whether a word that can run would do nothing of use: read a register that was never set, add 0, multiply by 0, 1
    or -1."""
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
    """Run a body, but for its words from ``first`` to before ``last``; return whether there was no fault."""
    copy(begin, cells)
    runs = True
    for k in range(count):
        runs = runs and (first <= k < last or run_word(cells, body[k], limit))
    return runs


@kernel
def can_be_shorter(work: Ints, count: Int) -> bool:
    """Whether the body in ``work`` leaves the same stack, that of its present state, without some span of its words.

    Only spans that do not change the depth are tried, since all others leave another one.
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
    """Read the words of the body of a given program to SEEN; return how many there are, -1 if it has others."""
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
    """Draw ``count`` words from the state at BEGIN that leave ``least`` to ``most`` values; return whether there are
    such words at every step."""
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
    """Where a body is among ``size`` ones in ascending order; -1 if it is not there."""
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
    """Draw a body of ``count`` words to run on the state at BEGIN; return whether it is one for a problem.

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
def load_code(code: Int, count: Int, arity: Int, cells: Ints) -> None:
    """Run a body on symbolic inputs."""
    cells[DEPTH], cells[A], cells[B] = arity, 0, 0
    for k in range(arity):
        cells[BOTTOM + k] = np.int64(mix(np.uint64(k + 1)) | np.uint64(1))
    for k in range(count):
        run_word(cells, code >> 4 * (count - 1 - k) & 15, np.int64(-1))


@kernel
def hash_stack(cells: Ints) -> np.uint64:
    key = np.uint64(cells[DEPTH])
    for k in range(BOTTOM, BOTTOM + cells[DEPTH]):
        key = join(key, np.uint64(cells[k]))
    return key


@kernel
def hash_state(cells: Ints) -> np.uint64:
    return join(join(hash_stack(cells), np.uint64(cells[A])), np.uint64(cells[B]))


@kernel
def extend(
    level: Ints,
    count: Int,
    arity: Int,
    left: Int,
    least: Int,
    most: Int,
    allowed: Ints,
    codes: Ints,
    states: Words64,
    stacks: Words64,
    cells: Ints,
    spare: Ints,
) -> Int:
    """Add every word to bodies (N,) of ``count`` words; return how many longer bodies there are.

    Of each of them: ``codes``, a hash of its state, and one of its stack, 0 if that has too few or too many values.
    """
    size: Int = 0
    twins = allowed[SET_A] and (allowed[GET_A] or not allowed[GET_B])  # what b does first, a could do
    for code in level:
        load_code(code, count, arity, cells)
        for word in range(TOKENS.size):
            twin = word == SET_B and cells[A] == 0 and twins
            if not allowed[word] or twin or (word < ADD and is_idle(cells, np.int64(word))):
                continue
            copy(cells, spare)
            if not run_word(spare, np.int64(word), np.int64(-1)) or spare[DEPTH] > most + left:
                continue
            codes[size] = code << 4 | word
            stacks[size] = hash_stack(spare) if least <= spare[DEPTH] <= most else np.uint64(0)
            states[size] = hash_state(spare)
            size += 1
    return size


def _new(hashes: Words64, old: Words64) -> tuple[Ints, Words64]:
    """Return the first places of the hashes that are not among old ones, and all hashes, both in ascending order."""
    unique, places = np.unique(hashes, return_index=True)
    fresh = ~np.isin(unique, old, assume_unique=True)
    return np.sort(places[fresh]), np.union1d(old, unique)


@functools.lru_cache(maxsize=16)
def shortest_bodies(
    arity: int, instructions: tuple[str, ...], words: int, outputs: tuple[int, int]
) -> tuple[Ints, ...]:
    """Return the shortest bodies to ``arity`` inputs of 0 to ``words`` words, by their number of words.

    Each is four bits per word, its place in `WORDS`, in ascending order. Each leaves another stack of so many
    ``outputs``, at least and at most, and none the inputs. Raises ValueError if there are too many.
    """
    allowed = np.array([word in instructions for word in WORDS], np.int64)
    level, found = np.zeros(1, np.int64), [np.zeros(0, np.int64)]
    cells, spare = np.zeros(STATE, np.int64), np.zeros(STATE, np.int64)
    load_code(0, 0, arity, cells)
    stacks = np.array([0, hash_stack(cells)], np.uint64)  # no stack, and that of the inputs
    states = np.array([hash_state(cells)], np.uint64)
    for count in range(1, words + 1):
        size = len(level) * int(allowed.sum())
        if size > MOST_BODIES:
            raise ValueError(
                f"moves: {size:,} bodies of {count} words are too many to search; allowed: {MOST_BODIES:,}. Give fewer "
                "moves, or reference = 'drawn'"
            )
        codes, keys, left = np.zeros(size, np.int64), np.zeros((2, size), np.uint64), words - count
        size = extend(level, count - 1, arity, left, *outputs, allowed, codes, keys[0], keys[1], cells, spare)
        places, stacks = _new(keys[1, :size], stacks)
        found.append(codes[places])
        places, states = _new(keys[0, :size], states)
        level = codes[places]
    return tuple(found)


def pack_bodies(
    reference: str,
    instructions: dict[str, int],
    own: list[int],
    kinds: Iterable[tuple[int, int]],
    outputs: tuple[int, int],
) -> Ints:
    """Return packed parameters: those of bodies, a family's ``own`` from `OWN` on, then the shortest bodies.

    ``kinds`` are pairs of a number of inputs and of words. Raises ValueError for a pair without a shortest body.
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
