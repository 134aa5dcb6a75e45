"""Readers of programs and statistics for tests of streams."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

import cadmus_gym as cg
from cadmus_gym.language.isa import VOCABULARY
from support.specs import VALUES

IDS = VALUES


NAMES = {"+": "add", "-": "sub", "*": "mul"}


SPLITS = [(id, split) for id in IDS for split in cg.load_spec(id).splits]


COUNT = 20_000


SIGMAS = 5.0


Rows = NDArray[np.uint8]


Lengths = NDArray[np.int32]


_LETTERS = bytes(
    ord({",": ",", "neg": "n", "add": "+", "sub": "-", "mul": "*", "(": "(", ")": ")", "end": "."}.get(name, name[0]))
    for name in VOCABULARY
)


def spelled(rows: Rows, lengths: Lengths) -> list[str]:
    """Return the first tokens of each row of arith, one letter per token: digits, `,` n + - * ( ), e for `eq`, `.` for
    `end`."""
    letters = np.frombuffer(_LETTERS, np.uint8)[rows]
    return [row[:length].tobytes().decode() for row, length in zip(letters, lengths.tolist(), strict=True)]


def evaluate(prompt: str) -> tuple[Any, int, list[tuple[str, int, int, int]], list[int], str]:
    """Return the problem's key, the value, the operations (operator, x, y, result), the operands, the shape."""
    stack: list[tuple[Any, int]] = []
    operations, operands, shape = [], [], ""
    for digits, sign, operator in re.findall(r"([0-9]+)(n?)|([-+*])", prompt):
        if digits:
            value = -int(digits) if sign else int(digits)
            stack.append((value, value))
            operands.append(value)
            shape += "x"
            continue
        (right, y), (left, x) = stack.pop(), stack.pop()
        result = x + y if operator == "+" else x - y if operator == "-" else x * y
        if operator != "-":
            left, right = sorted((left, right), key=repr)
        stack.append(((NAMES[operator], left, right), result))
        operations.append((operator, x, y, result))
        shape += "o"
    ((key, value),) = stack
    return key, value, operations, operands, shape


def pair(prompt: str) -> tuple[int, int]:
    """Return the problem of a comparison: its two numbers in ascending order."""
    one, other = re.findall(r"[0-9]+", prompt)
    return min(int(one), int(other)), max(int(one), int(other))


def close_to(seen: float, count: float, chance: float) -> bool:
    """Whether ``seen`` of ``count`` agrees with a probability, within SIGMAS standard deviations."""
    return abs(seen - count * chance) <= SIGMAS * math.sqrt(count * chance * (1 - chance)) + 1


def evenly(counts: NDArray[np.int64] | list[int]) -> bool:
    """Whether counts agree with a uniform distribution, by their chi-square."""
    seen = np.asarray(counts, float)
    expected = seen.sum() / seen.size
    return float(((seen - expected) ** 2 / expected).sum()) <= seen.size + SIGMAS * math.sqrt(2 * seen.size)
