"""Whether a split with other parameters than train is outside the training distribution.

A variant inherits splits: with ``operations = {1 = 1, 2 = 1, 3 = 1}``, the split `long` of Cadmus-Arith-v0 is no longer
out of distribution, and many of its prompts may be trained on.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from cadmus_gym.language.hashing import Words64
from cadmus_gym.language.isa import Tokens
from cadmus_gym.streams.problems import Reader, is_guided
from cadmus_gym.streams.spec import Spec

ASKED = 256  # prompts of a split to look for in train
DRAWN = 2048  # problems of train to compare with, for a family in plain Python


def may_overlap(spec: Spec, split: str) -> bool:
    """Whether a split of a spec without parts has other parameters than train; otherwise shares keep them apart."""
    if "train" not in spec.splits or split == "train":
        return False
    return bool(spec.split_parameters(split) != spec.split_parameters("train"))


def share_in_train(
    spec: Spec, prompts: Tokens, lengths: NDArray[np.integer], keys: Words64, train: Callable[[], Words64]
) -> float:
    """Return the share of prompts (N, P) with lengths (N,), or of whole programs, that train could also write and keep.

    This cannot be computed for a family in plain Python, or without log-probabilities. For those it is the share of
    ``keys`` (N,) that are among the keys that ``train`` returns.
    """
    if not is_guided(spec, "train"):
        return float(np.isin(keys, train()).mean())
    reader = Reader(spec, "train")
    problems = (reader.read(prompt[:length]) for prompt, length in zip(prompts, lengths, strict=True))
    return float(np.mean([problem is not None and problem.kept for problem in problems]))


def warn_of(spec: Spec, split: str, share: float, level: int) -> None:
    """Warn if train could write a share of a split; ``level`` is the stack level of the line to name."""
    if share > 0:
        warnings.warn(
            f"{spec.name} [splits.{split}]: train could write {share:.0%} of its prompts too, so it is not outside the "
            "training distribution, and its answers may have been trained on; give the split other parameters, or "
            "a share that does not overlap that of train",
            UserWarning,
            stacklevel=level + 1,
        )
