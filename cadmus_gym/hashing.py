"""Hashes of rows of tokens, so that equal rows are found among millions."""

from __future__ import annotations

import numpy as np

from cadmus_gym.isa import Tokens
from cadmus_gym.sampling import Words64


def fingerprints(rows: Tokens) -> Words64:
    """Return a hash of each row (N, L), of 64 bits, so that equal hashes are equal rows for all that is known."""
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
    return 1 + int((np.diff(np.sort(sums)) != 0).sum())
