"""Counter-based random numbers for kernels, and the hash that tells problems apart.

A program is a function of a few integers alone, so nothing here keeps a state between programs or uses floating point.
Mixing is the finalizer of SplitMix64 (Steele, Lea and Flood, *Fast Splittable Pseudorandom Number Generators*, 2014);
numbers below a bound are drawn by multiplication with rejection, without bias (Lemire, *Fast Random Integer Generation
in an Interval*, 2019).
"""

from __future__ import annotations

from fractions import Fraction
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from cadmus_gym.compiling import kernel
from cadmus_gym.isa import Int

Words64: TypeAlias = NDArray[np.uint64]

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_LOW = np.uint64(0xFFFFFFFF)


@kernel
def mix(word: np.uint64) -> np.uint64:
    """A bijection of 64 bits that looks random."""
    word = (word ^ (word >> np.uint64(30))) * _FIRST
    word = (word ^ (word >> np.uint64(27))) * _SECOND
    return word ^ (word >> np.uint64(31))


@kernel
def join(left: np.uint64, right: np.uint64) -> np.uint64:
    """Hash two words into one; the order matters."""
    return mix(mix(left + GOLDEN) ^ right)


@kernel
def below(dice: Words64, die: Int, bound: Int) -> Int:
    """Draw an integer in [0, bound) with the die of that number; bound is at most 2**32."""
    size = np.uint64(bound)
    while True:
        dice[die] += GOLDEN
        product = (mix(np.uint64(dice[die])) >> np.uint64(32)) * size
        # The lowest 2**32 mod bound remainders would give some results once too often.
        if (product & _LOW) >= (np.uint64(1) << np.uint64(32)) % size:
            return np.int64(product >> np.uint64(32))


@kernel
def happens(dice: Words64, die: Int, threshold: Int) -> bool:
    """True with probability threshold / 2**32."""
    return bool(below(dice, die, 4294967296) < threshold)


def threshold(share: float) -> int:
    """Return the threshold of a share in [0, 1] for `happens`."""
    return int(Fraction(str(share)) * 2**32)
