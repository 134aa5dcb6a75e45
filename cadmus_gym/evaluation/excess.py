"""Excess loss: nats per token above the generator's entropy, for prompts and for completions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cadmus_gym.evaluation.truth import EVALUATION_SEED
from cadmus_gym.language.forms import reverse_digits
from cadmus_gym.progress import Report
from cadmus_gym.streams.spec import Spec
from cadmus_gym.streams.stream import Stream

if TYPE_CHECKING:
    from cadmus_gym.transformer.model import Transformer

ROWS = 64  # programs per forward pass


@dataclass(frozen=True)
class ExcessLoss:
    """A model's excess loss on whole programs, on prompts and on completions, each with its standard error.

    Values are in nats per token: ``prompt`` per token of a prompt, ``completion`` per token of a completion.
    """

    whole: float
    whole_error: float
    prompt: float
    prompt_error: float
    completion: float
    completion_error: float


def measure_excess_loss(
    model: Transformer,
    spec: str | Path | Spec,
    split: str = "train",
    count: int = 1000,
    seed: int = EVALUATION_SEED,
    report: Report | None = None,
) -> ExcessLoss:
    """Measure a model's excess loss on the first ``count`` programs of a split.

    Let p be the generator and q the model. Both factor into a prompt x and a completion y given the prompt, so

        E[log p(x, y) - log q(x, y)] = E[log p(x) - log q(x)] + E[log p(y | x) - log q(y | x)]

    and the sum is a divergence, at least 0. The entropy in the first term, -E[log p(x)], is that of the choice of a
    problem. The entropy in the second is small: a prompt determines its worked steps and its answer, so that
    -log p(y | x) comes only from the choice whether to show worked steps. Each mean is divided by the mean length of
    its part. ``report`` is called with (done, total) programs.

    That a prompt has ended shows only in the first token after it, so a model pays for that in the completion: q(x) is
    the probability that a program begins with x. Where a prompt may be continued, as `12 7 add` by `5 mul`, no model
    brings the second term to 0, and the first one may fall below 0.

    The values are nan for a task without probabilities. Those of the parts are nan for a task in which programs are
    written, since many completions fit a prompt. Raises ValueError for a count below 2, which has no
    standard error, and FloatingPointError for a loss that is not finite.
    """
    if count < 2:
        raise ValueError(f"count = {count}: a standard error needs at least 2 programs")
    import torch

    from cadmus_gym.training.batches import program_lengths
    from cadmus_gym.transformer.loss import losses

    stream, device = Stream(spec, split, seed), next(model.parameters()).device
    programs, prompt_lengths = stream.batch(0, count)
    scores = stream.score(programs)
    excess = np.stack([scores.prompt, scores.completion])  # (2, N), log p here; -log q is added below
    whole = scores.log_prob.copy()
    if model.endian == "little":
        programs = reverse_digits(programs)
    lengths = program_lengths(programs)
    done = 0
    with torch.inference_mode():
        for rows in np.array_split(np.argsort(lengths, kind="stable"), -(-count // ROWS)):
            tokens = torch.from_numpy(programs[rows, : lengths[rows].max()]).to(device)
            parts = losses(model, tokens, torch.from_numpy(prompt_lengths[rows]).to(device))
            loss = np.stack([part.double().cpu().numpy() for part in parts])  # (2, n)
            if not (finite := np.isfinite(loss).all(0)).all():
                raise FloatingPointError(f"the loss of program {rows[~finite][0]} is not finite")
            excess[:, rows] += loss
            whole[rows] += loss.sum(0)
            done += rows.size
            if report is not None:
                report(done, count)
    return ExcessLoss(
        *_per_token(whole, lengths),
        *_per_token(excess[0], prompt_lengths),
        *_per_token(excess[1], lengths - prompt_lengths),
    )


def _per_token(excess: NDArray[np.float64], lengths: NDArray[np.integer]) -> tuple[float, float]:
    """Return the mean of ``excess`` (N,), nats per program, and its standard error, each divided by the mean length."""
    size = float(lengths.mean())
    return float(excess.mean() / size), float(excess.std(ddof=1) / math.sqrt(excess.size) / size)
