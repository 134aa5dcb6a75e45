"""95 % intervals of truth rates, with distinct problems as the units.

A split with few problems repeats them, and a repeated problem gets the same answer, which says nothing new. So problems
are the observations, and their prompts are clusters. The method is the usual one for a clustered proportion: Wilson's
interval at the effective sample size, the number of independent observations that would estimate the rate equally well
(Dean and Pagano 2015, Evaluating Confidence Interval Methods for Binomial Proportions in Clustered Surveys, Journal of
Survey Statistics and Methodology 3). The variance between problems is the linearised variance of a ratio: the sum of
(t_k - p n_k)² / n², where t_k of the n_k prompts of problem k are true, n is the number of prompts and p their truth
rate. A problem is weighted by its share of the prompts.

The effective sample size is at most D, the number of distinct problems. It is D if all prompts or none are true: the
variance is unknown then, and if each problem is wrong with probability q, D problems are all right with probability
(1 - q)^D, however often each is asked.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import astuple, dataclass

import numpy as np
from numpy.typing import NDArray

from cadmus_gym.language.hashing import Words64

Z95 = 1.959963984540054  # 97.5 % quantile of the normal distribution


@dataclass(frozen=True)
class Tally:
    """How many of ``count`` prompts have true completions, and how many distinct problems they are.

    ``true`` need not be an integer if a prompt is completed several times. The other fields are sums over problems k
    that an interval needs, with n_k prompts of which t_k are true: ``squares`` of n_k², ``products`` of n_k t_k,
    ``true_squares`` of t_k².
    """

    true: float
    count: int
    problems: int
    squares: int
    products: float
    true_squares: float

    @property
    def rate(self) -> float:
        return self.true / self.count

    @property
    def effective(self) -> float:
        """The effective sample size: the number of independent observations that are worth as much."""
        rate = self.rate
        spread = self.true_squares - 2 * rate * self.products + rate**2 * self.squares
        if not 0 < rate < 1 or spread <= 0:
            return self.problems
        return min(self.problems, max(1.0, rate * (1 - rate) * self.count**2 / spread))

    @property
    def interval(self) -> tuple[float, float]:
        return wilson_interval(self.rate * self.effective, self.effective)


def tally(true: NDArray[np.generic], keys: Words64) -> Tally:
    """Count prompts whose completions are true.

    ``true`` (N,) is bool, or the share of each prompt's samples that are true; ``keys`` (N,) uint64 identify the
    problems. Raises ValueError for no prompts or another number of keys.
    """
    if len(true) < 1 or len(true) != len(keys):
        raise ValueError(f"{len(true)} prompts, {len(keys)} keys: give at least one prompt and as many keys")
    places, counts = np.unique(keys, return_inverse=True, return_counts=True)[1:]
    right = np.zeros(counts.size, np.int64 if true.dtype == np.bool_ else np.float64)
    np.add.at(right, places.ravel(), true)
    sums = (one.sum().item() for one in (counts * counts, counts * right, right * right))
    return Tally(right.sum().item(), len(true), counts.size, *sums)


def total(tallies: Iterable[Tally]) -> Tally:
    """Return the sum of tallies that have no problem in common."""
    return Tally(*(sum(column) for column in zip(*map(astuple, tallies), strict=True)))


def wilson_interval(successes: float, count: float) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson 1927), which is valid near 0 and 1 too.

    Raises ValueError for a count below 1.
    """
    if count < 1:
        raise ValueError(f"count = {count}: an interval needs at least one trial")
    share, spread = successes / count, Z95**2 / count
    middle = (share + spread / 2) / (1 + spread)
    half = Z95 * math.sqrt(max(0.0, share * (1 - share)) / count + spread / (4 * count)) / (1 + spread)
    return max(0.0, middle - half), min(1.0, middle + half)


def lift_interval(
    before: NDArray[np.bool_], after: NDArray[np.bool_], keys: Words64 | None = None
) -> tuple[float, float]:
    """Return the 95 % interval of the difference, after minus before, between two truth rates on the same prompts.

    ``before`` and ``after`` (N,) say which prompts have true completions. This is method 10 of Newcombe 1998 (Improved
    confidence intervals for the difference between binomial proportions based on paired data, Statistics in Medicine
    17), which combines the Wilson intervals of both rates by their correlation. With ``keys`` of the problems, (N,)
    uint64, all counts are scaled to the smaller of the two effective sample sizes.
    """
    effective = len(before) if keys is None else min(tally(one, keys).effective for one in (before, after))
    scale = effective / len(before)
    count = scale * len(before)
    both, neither = scale * (before & after).sum().item(), scale * (~before & ~after).sum().item()
    won, lost = scale * (after & ~before).sum().item(), scale * (before & ~after).sum().item()
    (low_after, high_after), (low_before, high_before) = (
        wilson_interval(scale * x.sum().item(), count) for x in (after, before)
    )
    share_after, share_before = (both + won) / count, (both + lost) / count
    product = (both + won) * (lost + neither) * (both + lost) * (won + neither)
    covariance = both * neither - won * lost
    if covariance > 0:
        covariance = max(0.0, covariance - count / 2)  # Newcombe's correction for continuity
    correlation = covariance / math.sqrt(product) if product else 0.0

    def distance(one: float, other: float) -> float:
        return math.sqrt(max(0.0, one**2 - 2 * correlation * one * other + other**2))

    lift = share_after - share_before
    low = lift - distance(share_after - low_after, high_before - share_before)
    high = lift + distance(high_after - share_after, share_before - low_before)
    return low, high
