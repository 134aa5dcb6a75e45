"""Equivalent bodies: rules that replace words of a body by others, such as `add` by `neg sub`.

A rule rewrites every occurrence of its words in a body. It holds for any stack, as long as no value leaves the range of
the machine and the registers hold nothing that is still needed.
"""

from __future__ import annotations

import numpy as np

from cadmus_gym.language import isa as op
from cadmus_gym.language.isa import ID, Int, Ints
from cadmus_gym.language.kernels import kernel

# `c` is any literal; `c-1` and `c+1` are its neighbours. No literal is below 0.
RULES = (
    ("add", "neg sub"),
    ("sub", "neg add"),
    ("inc", "1 add"),
    ("inc", "1 neg sub"),
    ("dec", "1 sub"),
    ("dec", "1 neg add"),
    ("neg", "0 swap sub"),
    ("neg", "dup dup add sub"),
    ("abs", "dup neg max"),
    ("abs", "dup 0 lt if neg fi"),
    ("min", "over over gt if swap fi drop"),
    ("min", "neg swap neg max neg"),
    ("max", "over over lt if swap fi drop"),
    ("max", "neg swap neg min neg"),
    ("mod", "over over div mul sub"),
    ("dup", "a! a@ a@"),
    ("dup", "0 pick"),
    ("over", "1 pick"),
    ("over", "swap dup rot swap"),
    ("swap", "a! b! a@ b@"),
    ("swap", "over rot drop"),
    ("swap sub", "sub neg"),
    ("2 add", "inc inc"),
    ("2 sub", "dec dec"),
    ("2 mul", "dup add"),
    ("3 mul", "dup dup add add"),
    ("c add", "c times inc next"),
    ("c sub", "c times dec next"),
    ("c mul", "0 , c times over add next swap drop"),
    ("c", "c-1 inc"),
    ("c", "c+1 dec"),
)
LITERAL, LESS, MORE, NOTHING = -1, -2, -3, -4
_CODES = {"c": LITERAL, "c-1": LESS, "c+1": MORE, **ID}


def _table(texts: list[str]) -> Ints:
    rows = [[_CODES[word] for word in text.split()] for text in texts]
    return np.array([row + [NOTHING] * (16 - len(row)) for row in rows], np.int64)


OLD, NEW = _table([old for old, _ in RULES]), _table([new for _, new in RULES])
WORDS = tuple(dict.fromkeys(word for _, new in RULES for word in new.split() if word in ID))


@kernel
def is_digit(cells: Ints, position: Int, size: Int) -> bool:
    return bool(0 <= position < size and op.ZERO <= cells[position] <= op.NINE)


@kernel
def match(old: Ints, cells: Ints, size: Int, position: Int) -> tuple[Int, Int, Int]:
    """Match the words of a rule in a body: (position after them or -1, where a literal begins, where it ends)."""
    first, last = position, position
    if is_digit(cells, position, size) and is_digit(cells, position - 1, size):
        return -1, first, last
    for code in old:
        if code == NOTHING:
            break
        if code == LITERAL:
            first = position
            while is_digit(cells, position, size):
                position += 1
            last = position
            if first == last:
                return -1, first, last
        elif position < size and cells[position] == code:
            position += 1
        else:
            return -1, first, last
    return position, first, last


@kernel
def put_neighbour(source: Ints, first: Int, last: Int, by: Int, target: Ints, size: Int) -> Int:
    """Write the literal next to the one in ``source[first:last]``; return the size of the target, -1 if below 0."""
    value: Int = by
    for k in range(first, last):
        value += (source[k] - op.ZERO) * 10 ** (last - 1 - k)
    if value < 0:
        return -1
    digits: Int = 1
    while value // 10**digits > 0:
        digits += 1
    if size + digits > target.size:
        return -1
    for k in range(digits):
        target[size + k] = op.ZERO + value // 10 ** (digits - 1 - k) % 10
    return size + digits


@kernel
def rewrite(rule: Int, source: Ints, size: Int, target: Ints) -> Int:
    """Rewrite a body ``source[:size]`` to ``target``; return its size, or -1 if the rule does not fit or there is no
    room."""
    position, written = np.int64(0), np.int64(0)
    found = False
    while position < size:
        after, first, last = match(OLD[rule], source, size, position)
        if after < 0:
            if written == target.size:
                return -1
            target[written] = source[position]
            position += 1
            written += 1
            continue
        found = True
        begin = written
        for code in NEW[rule]:
            if code == NOTHING:
                break
            if code == LESS or code == MORE:
                by = np.int64(-1 if code == LESS else 1)
                written = put_neighbour(source, first, last, by, target, written)
                if written < 0:
                    return -1
            elif code == LITERAL:
                if written + last - first > target.size:
                    return -1
                for k in range(first, last):
                    target[written] = source[k]
                    written += 1
            elif written == target.size:
                return -1
            else:
                target[written] = code
                written += 1
        if is_digit(target, begin, written) and is_digit(target, begin - 1, written):
            return -1  # two literals would merge
        position = after
    return written if found else np.int64(-1)
