"""64-bit hashes of words, in kernels, and of rows of tokens, to find equal rows among millions.

`mix` is the finalizer of SplitMix64 (Steele, Lea and Flood, *Fast Splittable Pseudorandom Number Generators*, 2014).
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from cadmus_gym.language.isa import Tokens
from cadmus_gym.language.kernels import kernel

Words64: TypeAlias = NDArray[np.uint64]

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


@kernel
def mix(word: np.uint64) -> np.uint64:
    """A bijection on 64 bits whose output looks random."""
    word = (word ^ (word >> np.uint64(30))) * _FIRST
    word = (word ^ (word >> np.uint64(27))) * _SECOND
    return word ^ (word >> np.uint64(31))


@kernel
def join(left: np.uint64, right: np.uint64) -> np.uint64:
    """Hash two words into one. The order matters."""
    return mix(mix(left + GOLDEN) ^ right)


def fingerprints(rows: Tokens) -> Words64:
    """Return a 64-bit hash of each row (N, L). No two different rows with equal hashes are known."""
    padded = np.zeros((len(rows), -(-rows.shape[1] // 8) * 8), np.uint8)
    padded[:, : rows.shape[1]] = rows
    sums = np.zeros(len(rows), np.uint64)
    for column in padded.view("<u8").T:
        sums ^= column
        for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):  # the finalizer of MurmurHash3
            sums ^= sums >> np.uint64(33)
            sums *= np.uint64(factor)
    return sums


def distinct(sums: Words64) -> int:
    """Return the number of distinct hashes."""
    return 1 + int((np.diff(np.sort(sums)) != 0).sum())
