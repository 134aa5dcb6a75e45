"""Policies that answer from a part of a prompt: baselines for the scores on an environment.

A shortcut is a function from prompts (N, P) uint8, padded with 0, and their lengths (N,) to its guesses at the values
the prompts leave, (N,) int64. `COMPARE` lists shortcuts for two numbers and a relation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from cadmus_gym.language import isa as op
from cadmus_gym.language.isa import Ints, Tokens

Shortcut: TypeAlias = Callable[[Tokens, NDArray[np.integer]], Ints]
Order: TypeAlias = Callable[[Ints, Ints], Ints]

NO_DIGIT = -1


def two_numbers(prompts: Tokens, lengths: NDArray[np.integer]) -> tuple[Ints, Ints, Ints]:
    """Read prompts such as `812 97 lt`.

    Returns digits (N, 2, D), highest first and padded with -1; numbers of digits (N, 2); tokens of relations (N,).
    """
    written = prompts.astype(np.int64) - op.ZERO
    is_digit = (written >= 0) & (written <= 9)
    comma = np.argmin(is_digit, axis=1)  # between the numbers
    last = np.asarray(lengths, np.int64) - 1  # the relation
    starts = np.stack([np.zeros_like(comma), comma + 1], axis=1)
    counts = np.stack([comma, last], axis=1) - starts
    places = np.arange(counts.max(initial=1))
    columns = np.minimum(starts[:, :, None] + places, prompts.shape[1] - 1)
    digits = np.where(places < counts[:, :, None], written[np.arange(len(prompts))[:, None, None], columns], NO_DIGIT)
    return digits, counts, prompts[np.arange(len(prompts)), last].astype(np.int64)


def digit_at(digits: Ints, counts: Ints, place: int) -> Ints:
    """Return the digits (N, 2) at a place, counted from the end if negative; -1 if there is none."""
    places = counts + place if place < 0 else np.full_like(counts, place)
    inside = (places >= 0) & (places < digits.shape[2])
    found = np.take_along_axis(digits, np.clip(places, 0, digits.shape[2] - 1)[:, :, None], axis=2)[:, :, 0]
    return np.asarray(np.where(inside, found, NO_DIGIT))


def by_length(digits: Ints, counts: Ints) -> Ints:
    return np.asarray(np.sign(counts[:, 0] - counts[:, 1]))


def by_places(*places: int) -> Order:
    """Compare the digits at these places; the first pair that differs decides."""

    def order(digits: Ints, counts: Ints) -> Ints:
        found = np.zeros(len(digits), np.int64)
        for place in places:
            pair = digit_at(digits, counts, place)
            found = np.where(found == 0, np.sign(pair[:, 0] - pair[:, 1]), found)
        return found

    return order


def by_sum(digits: Ints, counts: Ints) -> Ints:
    sums = np.maximum(digits, 0).sum(axis=2)
    return np.asarray(np.sign(sums[:, 0] - sums[:, 1]))


def by_middle(digits: Ints, counts: Ints) -> Ints:
    """Compare the middle digits."""
    pair = np.take_along_axis(digits, counts[:, :, None] // 2, axis=2)[:, :, 0]
    return np.asarray(np.sign(pair[:, 0] - pair[:, 1]))


def by_first_number(places: slice) -> Order:
    """Call the first number larger if these digits of it are large."""

    def order(digits: Ints, counts: Ints) -> Ints:
        seen = digits[:, 0, places]
        return np.where((2 * seen - 9).sum(axis=1, where=seen != NO_DIGIT) > 0, 1, -1)

    return order


def by_count_of_equal_digits(digits: Ints, counts: Ints) -> Ints:
    """Call numbers equal if at most one digit differs; otherwise call the first larger."""
    same = ((digits[:, 0] == digits[:, 1]) & (digits[:, 0] != NO_DIGIT)).sum(axis=1)
    return np.where(same >= counts.max(axis=1) - 1, 0, 1)


def then(*orders: Order) -> Order:
    """Compare in one way, and if that finds both equal, in the next."""

    def order(digits: Ints, counts: Ints) -> Ints:
        found = np.zeros(len(digits), np.int64)
        for one in orders:
            found = np.where(found == 0, one(digits, counts), found)
        return found

    return order


def holds(relations: Ints, order: Ints) -> Ints:
    """Return 1 if a relation (N,) holds for an order (N,), the sign of the first number minus the second; else 0."""
    found = np.select(
        [relations == op.EQ, relations == op.NE, relations == op.LT, relations == op.LE, relations == op.GE],
        [order == 0, order != 0, order < 0, order <= 0, order >= 0],
        order > 0,
    )
    return np.asarray(found, np.int64)


def comparing(order: Order) -> Shortcut:
    """Return a shortcut that answers from a guess at the order of the two numbers."""

    def shortcut(prompts: Tokens, lengths: NDArray[np.integer]) -> Ints:
        digits, counts, relations = two_numbers(prompts, lengths)
        return holds(relations, order(digits, counts))

    return shortcut


OUTER = "relation by length and outer digits"
COMPARE: Mapping[str, Shortcut] = {
    OUTER: comparing(then(by_length, by_places(0, -1))),
    "relation alone": comparing(lambda digits, counts: np.zeros(len(digits), np.int64)),
    "length": comparing(by_length),
    "length, first digit": comparing(then(by_length, by_places(0))),
    "last digit": comparing(by_places(-1)),
    "second digit": comparing(by_places(1)),
    "middle digit": comparing(by_middle),
    "last digit but one": comparing(by_places(-2)),
    "sum of digits": comparing(by_sum),
    "first digit of the first number": comparing(by_first_number(slice(0, 1))),
    "all digits of the first number": comparing(by_first_number(slice(0, None))),
    "count of equal digits": comparing(by_count_of_equal_digits),
    "length, first two digits": comparing(then(by_length, by_places(0, 1))),
    "last two digits": comparing(by_places(-2, -1)),
    "length, first two and last two digits": comparing(then(by_length, by_places(0, 1, -2, -1))),
}
