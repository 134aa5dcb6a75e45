"""Truth rates before and after training, on the same prompts."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cadmus_gym.evaluation.intervals import lift_interval, tally
from cadmus_gym.evaluation.loopholes import find_loopholes
from cadmus_gym.language.hashing import Words64
from cadmus_gym.language.isa import Tokens
from cadmus_gym.language.machine import run_batch
from cadmus_gym.language.verdicts import Verdict

INTERVAL = "95 %, of problems, paired, Newcombe 1998 method 10"


class Measured(NamedTuple):
    """Which completions are true, and which of those are loopholes."""

    true: NDArray[np.bool_]  # (N,)
    loopholes: NDArray[np.bool_]  # (N,)

    def rates(self, keys: Words64) -> dict[str, Any]:
        return {
            "truth_rate": float(self.true.mean()),
            "interval": tally(self.true, keys).interval,
            "loophole_rate": float(self.loopholes.mean()),
        }


def judged(programs: Tokens, prompt_lengths: NDArray[np.int32]) -> Measured:
    """Return which of completed programs (N, L) are true, and which of those are loopholes."""
    return Measured(run_batch(programs)[0] == Verdict.TRUE, find_loopholes(programs, prompt_lengths))


def compare(before: Measured, after: Measured, keys: Words64) -> dict[str, Any]:
    """Return the rates before and after, and the lift of the truth rate with its paired interval.

    ``keys`` (N,) uint64 identify the problems of the prompts, the units of the intervals.
    """
    lift, interval = float(after.true.mean() - before.true.mean()), lift_interval(before.true, after.true, keys)
    return {"before": before.rates(keys), "after": after.rates(keys), "lift": lift, "lift_interval": interval}


def shown_lift(found: dict[str, Any]) -> str:
    """Return the result of `compare` as one line."""
    before, after, (low, high) = found["before"], found["after"], found["lift_interval"]
    points = f"{100 * found['lift']:+.2f} points [{100 * low:+.2f}, {100 * high:+.2f}]"
    loopholes = f"loopholes {before['loophole_rate']:.2%} -> {after['loophole_rate']:.2%}"
    return f"{before['truth_rate']:.2%} -> {after['truth_rate']:.2%}, lift {points}, {loopholes}"
