"""Random numbers are uniform and unbiased, and bernoulli choices have their probability."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from support.streams import (
    close_to,
    evenly,
)

from cadmus_gym.language import hashing
from cadmus_gym.tasks import sampling
from cadmus_gym.tasks.sampling import RANDOM


def draws(bound: int, count: int, seed: int = 0) -> NDArray[np.int64]:
    rng = np.array([seed, 12345], np.uint64)
    return np.array([sampling.randbelow(rng, 0, bound) for _ in range(count)])


@pytest.mark.parametrize("bound", [1, 2, 3, 5, 6, 7, 10, 97, 100])
def test_randbelow_is_uniform(bound: int) -> None:
    values = draws(bound, 30_000, seed=bound)
    assert values.min() >= 0
    assert values.max() < bound
    assert evenly(np.bincount(values, minlength=bound))


@pytest.mark.parametrize("parts", [2, 3, 4])
def test_randbelow_has_no_bias_for_large_bounds(parts: int) -> None:
    """Without rejection, a bound of three quarters of the range would make every third number twice as likely."""
    values = draws(3 * 2**30, 30_000, seed=parts)
    assert values.max() < 3 * 2**30
    assert evenly(np.bincount(values % parts, minlength=parts))
    assert evenly(np.bincount(values * parts // (3 * 2**30), minlength=parts))


def test_randbelow_covers_the_whole_range() -> None:
    values = draws(2**32, 5000)
    assert evenly(np.bincount(values >> 28, minlength=16))
    assert values.max() >= 2**32 - 2**24


def test_mix_is_injective_and_unbiased_in_every_bit() -> None:
    mixed = [int(hashing.mix(np.uint64(word))) for word in range(1, 20_001)]
    assert len(set(mixed)) == 20_000
    for place in range(64):
        assert close_to(sum(word >> place & 1 for word in mixed), 20_000, 0.5), place


def test_join_depends_on_the_order() -> None:
    one, two = np.uint64(1), np.uint64(2)
    assert hashing.join(one, two) != hashing.join(two, one)


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_bernoulli_is_true_with_its_probability(share: float) -> None:
    rng, script, bound = np.zeros(2, np.uint64), sampling.new_script(RANDOM), sampling.threshold(share)
    happened = sum(bool(sampling.bernoulli(rng, script, 1, bound, False)) for _ in range(20_000))
    assert close_to(happened, 20_000, share)
    assert share not in (0.0, 1.0) or happened == 20_000 * share
