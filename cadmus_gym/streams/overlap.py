"""Whether a split with parameters of its own leaves the training distribution, or asks what train asks too.

A variant inherits splits: with ``operations = {1 = 1, 2 = 1, 3 = 1}`` the split `long` of Cadmus-Arith-v0 is no longer
outside of anything, and much of it may be trained on.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from cadmus_gym.language.hashing import Words64
from cadmus_gym.language.isa import Tokens
from cadmus_gym.streams.probability import Scorer
from cadmus_gym.streams.spec import Spec

ASKED = 256  # prompts of a split that are looked at
DRAWN = 2048  # problems of train that those of a family in plain Python are looked for among


def may_overlap(spec: Spec, split: str) -> bool:
    """Whether a split of a spec that is no mixture has other parameters than train; otherwise shares keep it apart."""
    if "train" not in spec.splits or split == "train":
        return False
    return bool(spec.split_parameters(split) != spec.split_parameters("train"))


def share_in_train(
    spec: Spec, prompts: Tokens, lengths: NDArray[np.int32], keys: Words64, train: Callable[[], Words64]
) -> float:
    """Return which share of prompts (N, P) of those lengths (N,) train could write too, and keep.

    Of a family in plain Python that cannot be read from a prompt: there it is the share whose keys (N,) are among some
    of train, which ``train`` returns.
    """
    if spec.family.pack is None:
        return float(np.isin(keys, train()).mean())
    scorer = Scorer(spec, "train", 0, 1)
    problems = (scorer.read(prompt[:length]) for prompt, length in zip(prompts, lengths, strict=True))
    return float(np.mean([problem is not None and problem.kept for problem in problems]))


def warn_of(spec: Spec, split: str, share: float, level: int) -> None:
    """Warn where train writes a share of a split; ``level`` is how many calls up the line is that is named."""
    if share > 0:
        warnings.warn(
            f"{spec.name} [splits.{split}]: train could write {share:.0%} of its prompts too, so it is not outside the "
            "training distribution, and what is right there may have been trained on; give the split other "
            "parameters, or a share that does not meet that of train",
            UserWarning,
            stacklevel=level + 1,
        )
