"""95 % intervals of truth rates, which count distinct problems.

A split with few problems repeats them, and a problem that is asked twice is answered alike twice: the second answer
says nothing new. So problems are the observations, and their prompts are clusters. The method is the usual one for such
a share: Wilson's interval at the effective number of observations, that of the independent ones that would estimate the
rate as well as the clusters do (Dean and Pagano 2015, Evaluating Confidence Interval Methods for Binomial Proportions
in Clustered Surveys, Journal of Survey Statistics and Methodology 3). The variance between problems is the linearised
one of a ratio of sums: the sum of (t_k - p n_k)² / n², where t_k of the n_k prompts of problem k are true, n is the
number of all prompts and p their truth rate. A problem that is asked often counts for as much as its share of the
prompts.

The effective number is at most the number D of distinct problems. It is D if all prompts or none are true: then the
variance is unknown, and D right problems have probability (1 - q)^D if each is wrong with probability q, however often
it is asked.
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
    """How many of ``count`` prompts are completed truly, and of how many distinct problems they are.

    ``true`` need not be whole if a prompt is completed several times. The other fields are sums over problems that an
    interval needs: of the squared number of prompts, of that number times the true ones, and of the squared number of
    true ones.
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
        """The number of independent observations that would say as much."""
        rate = self.rate
        spread = self.true_squares - 2 * rate * self.products + rate**2 * self.squares
        if not 0 < rate < 1 or spread <= 0:
            return self.problems
        return min(self.problems, max(1.0, rate * (1 - rate) * self.count**2 / spread))

    @property
    def interval(self) -> tuple[float, float]:
        return wilson_interval(self.rate * self.effective, self.effective)


def tally(true: NDArray[np.generic], keys: Words64) -> Tally:
    """Count prompts: which of them are completed truly, or which share of their samples is, (N,), with the keys of
    their problems, (N,). Raises ValueError if there are none."""
    if len(true) < 1 or len(true) != len(keys):
        raise ValueError(f"{len(true)} prompts, {len(keys)} keys: give at least one prompt and as many keys")
    places, counts = np.unique(keys, return_inverse=True, return_counts=True)[1:]
    right = np.zeros(counts.size, np.int64 if true.dtype == np.bool_ else np.float64)
    np.add.at(right, places.ravel(), true)
    sums = (one.sum().item() for one in (counts * counts, counts * right, right * right))
    return Tally(right.sum().item(), len(true), counts.size, *sums)


def total(tallies: Iterable[Tally]) -> Tally:
    """Return the tally of several that have no problem in common."""
    return Tally(*(sum(column) for column in zip(*map(astuple, tallies), strict=True)))


def wilson_interval(successes: float, count: float) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson 1927), which holds near 0 and 1 too."""
    if count < 1:
        raise ValueError(f"count = {count}: an interval needs at least one trial")
    share, spread = successes / count, Z95**2 / count
    middle = (share + spread / 2) / (1 + spread)
    half = Z95 * math.sqrt(max(0.0, share * (1 - share)) / count + spread / (4 * count)) / (1 + spread)
    return max(0.0, middle - half), min(1.0, middle + half)


def lift_interval(
    before: NDArray[np.bool_], after: NDArray[np.bool_], keys: Words64 | None = None
) -> tuple[float, float]:
    """Return the 95 % interval of the difference between two shares of the same prompts, after less before.

    Method 10 of Newcombe 1998 (Improved confidence intervals for the difference between binomial proportions based on
    paired data, Statistics in Medicine 17): the Wilson intervals of both shares, joined by their correlation. With the
    ``keys`` of the problems, (N,) uint64, all counts are scaled to the smaller effective number of both.
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
