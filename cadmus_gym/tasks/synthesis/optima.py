"""A table of the shortest bodies of the functions of Cadmus-Induce-v0.

The functions are those of one or two steps without blocks: 292,903 keys. The table contains those with a body shorter
than any that is drawn. It was made by `python benchmarks/optima.py`, which tried all bodies of up to `Optima.tried`
tokens made of digits, `,` and the `WORDS` that references use. Nothing else was tried: no `drop`, `rot` or `pick`, no
registers, comparisons, logic or blocks.

A body is right if it leaves the outputs of the function on all inputs from -9 to 20. The key of a function of two
inputs depends on only 64 of the 900 pairs of inputs, and a few keys are shared by functions that differ on the others.
These keys were not searched: they are in the table, without a body. For every other key, the shortest body known is the
one in the table, or the shortest one drawn if the table has none. It is proven to be a shortest one if it has at most
`tried` + 1 tokens.

The file optima.npz, in the folder of this module, has the fields of `Optima`.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from cadmus_gym.language import isa as op
from cadmus_gym.language.hashing import Words64
from cadmus_gym.language.isa import VOCABULARY, Int, Ints, Tokens
from cadmus_gym.language.kernels import kernel
from cadmus_gym.tasks.literals import put

FILE = Path(__file__).with_name("optima.npz")
# The words that were tried, besides digits and `,`.
WORDS = tuple(VOCABULARY[token] for token in (*range(op.ADD, op.DEC + 1), op.DUP, op.SWAP, op.OVER))
LONGEST = 10  # tokens of a body, at most: six bits per token fit in an int64


class Optima(NamedTuple):
    """``keys`` (N,) uint64, ascending; ``codes`` (N,) int64: bodies, six bits per token, the last token lowest, 0 for a
    key that was not searched; ``plains`` (N,) int64: the bodies most probably drawn for these keys, 0 for a body of
    more than `LONGEST` tokens; ``tried`` (2,) int64: up to which length all bodies were tried, for one and two inputs.
    """

    keys: Words64
    codes: Ints
    plains: Ints
    tried: Ints


@functools.cache
def optima() -> Optima:
    """Return the table. Raises OSError if its file is missing."""
    with np.load(FILE) as file:
        return Optima(*(file[name] for name in Optima._fields))


def write_optima(path: Path, table: Optima) -> None:
    """Write a table to a file, compressed."""
    np.savez_compressed(path, allow_pickle=False, **table._asdict())


def pack_optima() -> Ints:
    """Return the table as kernels read it, (1 + 3 N,) int64: N, the keys, the codes, the plain bodies."""
    table = optima()
    return np.concatenate([[table.keys.size], table.keys.view(np.int64), table.codes, table.plains])


def code_of(body: ArrayLike) -> int:
    """Return a body (n,), without its `end`, as a code; 0 if it has more than `LONGEST` tokens."""
    tokens = np.asarray(body).tolist()
    return sum(token << 6 * k for k, token in enumerate(reversed(tokens))) if len(tokens) <= LONGEST else 0


@kernel
def find_code(table: Ints, key: np.uint64) -> Int:
    """The code of the body that a table as of `pack_optima` has for a key, or 0 if it has none."""
    low, high = np.int64(0), table[0]
    while low < high:
        middle = (low + high) // 2
        if np.uint64(table[1 + middle]) < key:
            low = middle + 1
        else:
            high = middle
    return table[1 + table[0] + low] if low < table[0] and np.uint64(table[1 + low]) == key else np.int64(0)


@kernel
def length_of(code: Int) -> Int:
    """The number of tokens of a body."""
    length: Int = 0
    while code >> 6 * length > 0:
        length += 1
    return length


@kernel
def put_code(code: Int, program: Tokens, position: Int) -> Int:
    """Write a body; return the position after it."""
    for k in range(length_of(code) - 1, -1, -1):
        position = put(program, position, code >> 6 * k & 63)
    return position


def shortest(keys: ArrayLike) -> tuple[Tokens, Ints]:
    """Return the bodies of the table for keys (M,) uint64: (M, 10) uint8 padded with 0, and their lengths (M,) int64.

    Both are 0 where the table has no body. Raises ValueError for keys that are not a row of uint64.
    """
    wanted = np.asarray(keys)
    if wanted.dtype != np.uint64 or wanted.ndim != 1:
        raise ValueError(f"keys: {wanted.dtype} of shape {wanted.shape}; allowed: uint64 of shape (M,)")
    bodies, lengths, table = np.zeros((wanted.size, LONGEST), np.uint8), np.zeros(wanted.size, np.int64), pack_optima()
    for k, key in enumerate(wanted):
        lengths[k] = put_code(find_code(table, key), bodies[k], 0)
    return bodies, lengths
