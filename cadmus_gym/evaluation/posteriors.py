"""What can be known from the cases that a prompt shows: ceilings, and the policies that reach them.

The functions of a spec of `cadmus_gym.tasks.synthesis.induce` can be enumerated if their bodies have one or two steps
and no blocks. Then a prompt has an exact posterior, and from it follows how often an agent that writes one of these
functions can be right on hidden cases. An agent that has learned the distribution of the stream, and no more, is as
good as a draw from the posterior.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cadmus_gym.evaluation.truth import EVALUATION_SEED, prompts_of
from cadmus_gym.language.isa import Tokens
from cadmus_gym.progress import Report
from cadmus_gym.streams.spec import Spec
from cadmus_gym.streams.stream import Stream
from cadmus_gym.tasks.synthesis.space import Posterior


@dataclass(frozen=True)
class Ceiling:
    """Means over ``count`` prompts of a split.

    ``functions`` is how many functions fit a prompt. ``optimal`` is the probability that the optimal decision is right
    on all hidden cases, and ``sampler`` that of a function drawn from the posterior. ``identified`` is the share of
    prompts of which one function has more than 95 % of the posterior probability.
    """

    count: int
    functions: float
    optimal: float
    sampler: float
    identified: float


def ceiling_of(
    spec: str | Path | Spec,
    split: str = "test",
    count: int = 1000,
    seed: int = EVALUATION_SEED,
    *,
    held_out: bool = False,
    report: Report | None = None,
) -> Ceiling:
    """Return the ceiling of the first ``count`` prompts of a split.

    An agent cannot know which functions are held out, so all of them count; with ``held_out`` only those that the split
    keeps. ``report`` is called with (done, count) prompts. Raises ValueError if the functions cannot be enumerated.
    """
    stream = Stream(spec, split, seed)
    found: list[Posterior] = []
    for k, (prompt, length) in enumerate(zip(*prompts_of(spec, split, count, seed), strict=True)):
        found += stream.posterior(prompt[:length], held_out=held_out)
        if report is not None:
            report(k + 1, count)
    return Ceiling(
        count=count,
        functions=float(np.mean([posterior.keys.size for posterior in found])),
        optimal=float(np.mean([posterior.ceiling for posterior in found])),
        sampler=float(np.mean([posterior.sampler for posterior in found])),
        identified=float(np.mean([posterior.identified for posterior in found])),
    )


def optimal_decision(stream: Stream) -> Callable[[Tokens, NDArray[np.int32]], list[Tokens]]:
    """Return the policy that writes the function that is most probably right, for `cadmus_gym.evaluate`."""

    def policy(prompts: Tokens, lengths: NDArray[np.int32]) -> list[Tokens]:
        return [_body(found, found.best) for found in stream.posterior(prompts, lengths)]

    return policy


def posterior_sampler(stream: Stream, seed: int = 0) -> Callable[[Tokens, NDArray[np.int32]], list[Tokens]]:
    """Return the policy that writes a function drawn from the posterior, for `cadmus_gym.evaluate`."""
    rng = np.random.default_rng(seed)

    def policy(prompts: Tokens, lengths: NDArray[np.int32]) -> list[Tokens]:
        found = stream.posterior(prompts, lengths)
        return [_body(one, int(rng.choice(one.keys.size, p=one.probabilities))) for one in found]

    return policy


def _body(found: Posterior, which: int) -> Tokens:
    body: Tokens = found.bodies[which]
    return body[body > 0]
