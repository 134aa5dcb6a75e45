"""Intervals against published values, resampling, and splits with repeated problems."""

import numpy as np
import pytest

from cadmus_gym.evaluation.intervals import lift_interval, tally, total, wilson_interval


@pytest.mark.parametrize(
    ("successes", "count", "low", "high"),
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (5, 10, 0.2366, 0.7634), (81, 263, 0.2553, 0.3662)],  # Newcombe 1998
)
def test_wilson_interval_against_published_values(successes: int, count: int, low: float, high: float) -> None:
    assert wilson_interval(successes, count) == pytest.approx((low, high), abs=1e-4)


def test_wilson_interval_needs_a_trial() -> None:
    with pytest.raises(ValueError, match="count = 0"):
        wilson_interval(0, 0)


def newcombe(both: int, won: int, lost: int, neither: int) -> tuple[float, float]:
    """Method 10 in the notation of the paper: cells e, f, g, h, shares (e + f) / n and (e + g) / n."""
    e, f, g, h = both, won, lost, neither
    n = e + f + g + h
    one, other = wilson_interval(e + f, n), wilson_interval(e + g, n)
    theta = (f - g) / n
    dl1, du1 = (e + f) / n - one[0], one[1] - (e + f) / n
    dl2, du2 = (e + g) / n - other[0], other[1] - (e + g) / n
    covariance = e * h - f * g
    if covariance > n / 2:
        covariance -= n / 2
    elif covariance >= 0:
        covariance = 0
    phi = covariance / ((e + f) * (g + h) * (e + g) * (f + h)) ** 0.5
    low = (dl1**2 - 2 * phi * dl1 * du2 + du2**2) ** 0.5
    high = (du1**2 - 2 * phi * du1 * dl2 + dl2**2) ** 0.5
    return theta - low, theta + high


def test_lift_interval_against_published_values_and_resampling() -> None:
    def pairs(both: int, won: int, lost: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
        before, after = ((1, 0, 1, 0), (1, 1, 0, 0))
        counts = (both, won, lost, neither)
        return np.repeat(np.array(before, bool), counts), np.repeat(np.array(after, bool), counts)

    # Newcombe 1998, table II
    assert lift_interval(*pairs(36, 12, 2, 0)) == pytest.approx((0.0569, 0.3404), abs=5e-5)
    # swapped, it has the other sign
    assert lift_interval(*pairs(36, 2, 12, 0)) == pytest.approx((-0.3404, -0.0569), abs=5e-5)
    # against resampling of prompts
    before, after = pairs(900, 180, 100, 820)
    rng = np.random.default_rng(0)
    lifts = [(after[rows].mean() - before[rows].mean()) for rows in rng.integers(0, 2000, (2000, 2000))]
    assert lift_interval(before, after) == pytest.approx(tuple(np.quantile(lifts, [0.025, 0.975])), abs=2e-3)
    # Newcombe's continuity correction: n / 2 is subtracted from a positive covariance, down to 0
    assert lift_interval(*pairs(20, 3, 2, 25)) == pytest.approx(newcombe(20, 3, 2, 25), abs=1e-12)
    assert lift_interval(*pairs(6, 2, 2, 3)) == pytest.approx(newcombe(6, 2, 2, 3), abs=1e-12)
    assert lift_interval(*pairs(2, 2, 2, 3)) == pytest.approx(newcombe(2, 2, 2, 3), abs=1e-12)
    assert lift_interval(*pairs(2, 9, 8, 3)) == pytest.approx(newcombe(2, 9, 8, 3), abs=1e-12)
    for same in (np.zeros(50, bool), np.ones(50, bool), np.arange(50) < 20):
        low, high = lift_interval(same, same)
        assert low <= 0 <= high


def test_distinct_problems_give_the_wilson_interval_of_prompts() -> None:
    true = np.arange(263) < 81
    found = tally(true, np.arange(263).astype(np.uint64))
    assert (found.true, found.count, found.problems) == (81, 263, 263)
    assert found.interval == pytest.approx(wilson_interval(81, 263))


def test_repeated_prompts_do_not_narrow_the_interval() -> None:
    true, keys = np.arange(40) < 30, np.arange(40).astype(np.uint64)
    once, often = tally(true, keys), tally(np.tile(true, 50), np.tile(keys, 50))
    assert (often.count, often.problems, often.rate) == (2000, 40, once.rate)
    assert often.interval == pytest.approx(once.interval)
    # one problem is one observation, however often it is repeated
    assert tally(np.ones(9, bool), np.zeros(9, np.uint64)).interval == wilson_interval(1, 1)


@pytest.mark.parametrize("rate", [0.5, 0.9, 0.99])
def test_intervals_cover_the_true_rate_nearly_as_often_as_stated(rate: float) -> None:
    """A split has 400 problems, some drawn far more often, and a model knows each with the same probability.

    Intervals that count prompts instead of problems cover that probability much less often.
    """
    rng = np.random.default_rng(int(100 * rate))
    weights = 1 / np.arange(1, 401) ** 0.7
    held = np.zeros(2)
    for _ in range(600):
        known = rng.random(400) < rate
        keys = rng.choice(400, 4000, p=weights / weights.sum())
        by_problems = tally(known[keys], keys.astype(np.uint64)).interval
        by_prompts = wilson_interval(int(known[keys].sum()), keys.size)
        held += [low <= rate <= high for low, high in (by_problems, by_prompts)]
    assert held[0] / 600 > 0.86
    assert held[1] / 600 < 0.5


def test_effective_sample_size_by_hand() -> None:
    """Three problems have 4, 2 and 1 prompts; the first and the last are known, so the rate is 5 / 7."""
    found = tally(np.array([1, 1, 1, 1, 0, 0, 1], bool), np.array([8, 8, 8, 8, 6, 6, 5], np.uint64))
    assert (found.true, found.count, found.problems) == (5, 7, 3)
    spread = (4 - 20 / 7) ** 2 + (10 / 7) ** 2 + (2 / 7) ** 2
    assert found.effective == pytest.approx(5 / 7 * 2 / 7 * 49 / spread)
    assert found.effective < 3
    assert found.interval == wilson_interval(5 / 7 * found.effective, found.effective)


def test_rates_of_0_and_1_count_distinct_problems() -> None:
    keys = np.repeat(np.arange(5), [1, 1, 1, 1, 996]).astype(np.uint64)
    assert tally(np.ones(1000, bool), keys).interval == wilson_interval(5, 5)
    assert tally(np.zeros(1000, bool), keys).interval == wilson_interval(0, 5)
    assert tally(np.full(1000, 0.5), keys).effective == 5  # every second sample of every prompt


def test_tallies_of_disjoint_problems_add_up() -> None:
    rng = np.random.default_rng(1)
    true, keys = rng.random(90) < 0.7, rng.integers(0, 20, 90).astype(np.uint64)
    parts = [tally(true[keys % 3 == k], keys[keys % 3 == k]) for k in range(3)]
    assert total(parts) == tally(true, keys)


def test_a_tally_needs_prompts_and_their_keys() -> None:
    for true, keys in ((0, 0), (2, 3)):
        with pytest.raises(ValueError, match=f"{true} prompts, {keys} keys"):
            tally(np.ones(true, bool), np.ones(keys, np.uint64))


def test_lift_interval_counts_problems() -> None:
    rng = np.random.default_rng(2)
    before, after = rng.random(60) < 0.5, rng.random(60) < 0.7
    keys = np.arange(60).astype(np.uint64)
    expected = lift_interval(before, after)
    assert lift_interval(before, after, keys) == pytest.approx(expected)
    again = lift_interval(np.tile(before, 20), np.tile(after, 20), np.tile(keys, 20))
    assert again == pytest.approx(expected)
    narrow = lift_interval(np.tile(before, 20), np.tile(after, 20))
    assert narrow[1] - narrow[0] < (again[1] - again[0]) / 2
