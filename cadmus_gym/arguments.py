"""Checks of arguments that many functions share."""

from __future__ import annotations

import numpy as np


def check_whole(**numbers: object) -> None:
    """Raise ValueError, naming the argument, unless all are whole numbers."""
    for name, number in numbers.items():
        if not is_whole(number):
            raise ValueError(f"{name} = {number!r}: expected a whole number")


def check_seed(seed: int) -> int:
    """Return a seed as an int. Raises ValueError unless it is a whole number from 0 to 2**63 - 1."""
    if not is_whole(seed) or not 0 <= seed < 2**63:
        raise ValueError(f"seed = {seed!r}: give a whole number from 0 to {2**63 - 1}")
    return int(seed)


def is_whole(value: object) -> bool:
    """Return whether a value is a whole number, of Python or numpy; a bool or a time span is not."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, (bool, np.timedelta64))
