"""Checks of arguments that many functions take."""

from __future__ import annotations

import numpy as np


def check_whole(**numbers: object) -> None:
    """Raise ValueError, naming the first that is not, unless all are whole numbers."""
    for name, number in numbers.items():
        if not is_whole(number):
            raise ValueError(f"{name} = {number!r}: expected a whole number")


def check_seed(seed: int) -> int:
    """Return a seed as int, or raise ValueError unless it is a whole number from 0 to 2**63 - 1."""
    if not is_whole(seed) or not 0 <= seed < 2**63:
        raise ValueError(f"seed = {seed!r}: give a whole number from 0 to {2**63 - 1}")
    return int(seed)


def is_whole(value: object) -> bool:
    """Whether a value is a whole number, of Python or numpy. A bool is none, nor is a span of time."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, (bool, np.timedelta64))
