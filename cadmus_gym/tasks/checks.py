"""Checks of families' parameters, and helpers that pack them into arrays."""

from __future__ import annotations

import typing
from collections.abc import Iterable
from typing import Any

import numpy as np

from cadmus_gym.language.isa import Ints
from cadmus_gym.language.verdicts import LARGEST
from cadmus_gym.tasks.literals import OPERATORS


def check_operators(operators: dict[str, int], operands: tuple[int, int], limit: int) -> None:
    """Raise ValueError unless some operator keeps every value within the limit."""
    check_weights("operators", operators, OPERATORS)
    if not {"add", "sub"} <= operators.keys():
        raise ValueError("operators: give both add and sub, one of which always stays within the limit")
    if not operands[1] <= limit <= LARGEST:
        raise ValueError(f"limit = {limit}: give at least the largest operand, {operands[1]}, at most {LARGEST}")


def check_sizes(name: str, weights: dict[str, int], least: int, most: int) -> None:
    """Raise ValueError unless ``weights`` maps numbers in [least, most] to weights."""
    check_weights(name, weights, tuple(map(str, range(least, most + 1))))


def listed(weights: dict[str, int], known: Iterable[object]) -> list[int]:
    """Return the weight of each known key, 0 for a missing one."""
    return [weights.get(str(key), 0) for key in known]


def literal_room(largest: int) -> int:
    """Return the most tokens of an integer of at most this magnitude, including its sign and a `,` before it."""
    return len(str(largest)) + 2


def answer_within(parameters: Any) -> int:
    """Return the most tokens of an answer within ``parameters.limit``."""
    return literal_room(parameters.limit) + len(("eq", "end"))


def check_weights(name: str, weights: dict[str, int], known: tuple[str, ...]) -> None:
    """Raise ValueError unless at least one known key, and no other, has a weight from 1 to a million."""
    allowed = f"give at least one of {', '.join(known)} with a whole number from 1 to 1000000"
    if not weights:
        raise ValueError(f"{name} = {{}}: {allowed}")
    for key, weight in weights.items():
        if key not in known:
            raise ValueError(f"{name}: unknown {key!r}; {allowed}")
        if not 1 <= weight <= 1_000_000:
            raise ValueError(f"{name}: {key} = {weight}; {allowed}")


def check_range(name: str, bounds: tuple[int, int], least: int, most: int) -> None:
    if not least <= bounds[0] <= bounds[1] <= most:
        raise ValueError(f"{name} = {list(bounds)}: give [lowest, highest] within {least} to {most}")


def check_share(name: str, share: float) -> None:
    if not 0 <= share <= 1:
        raise ValueError(f"{name} = {share}: give a share from 0 to 1")


POOLS = ("open", "held")


def check_held_out(held_out: tuple[str, ...], known: tuple[str, ...]) -> list[tuple[str, str]]:
    """Return pairs such as "sub mul" as tuples, or raise ValueError."""
    pairs = [tuple(pair.split()) for pair in held_out]
    for pair in pairs:
        if len(pair) != 2 or not {*pair} <= {*known}:
            raise ValueError(f"held_out: {' '.join(pair)!r}: give pairs such as '{known[0]} {known[-1]}' of {known}")
    return typing.cast(list[tuple[str, str]], pairs)


def check_pool(pool: str, held_out: tuple[str, ...]) -> None:
    if pool not in POOLS:
        raise ValueError(f"pool = {pool!r}: known are {', '.join(POOLS)}")
    if pool == "held" and not held_out:
        raise ValueError('pool = "held": nothing is held out; give held_out')


def as_array(values: list[int]) -> Ints:
    return np.array(values, np.int64)
