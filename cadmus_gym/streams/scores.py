"""Scores of programs against a stream or a mixture, and entropies of streams."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cadmus_gym.language import isa as op
from cadmus_gym.language.isa import Ints, Tokens
from cadmus_gym.language.notation import check_ids
from cadmus_gym.streams.probability import Scorer, log_sum


@dataclass(frozen=True)
class Scores:
    """Log-probabilities of programs in nats, arrays of shape (N,) or ().

    ``log_prob`` of the whole program is the sum of ``prompt`` and ``completion``, the log-probabilities of the prompt
    and of the completion given the prompt. These two are nan for a task in which several references may go with a
    prompt (see `Stream.posterior`). ``error`` is the standard error of ``log_prob`` due to
    estimated normalisers. It is 0 and ``exact`` is True for kinds of programs with no more operands than the budget of
    `Stream.score`.
    """

    log_prob: NDArray[np.float64]
    prompt: NDArray[np.float64]
    completion: NDArray[np.float64]
    error: NDArray[np.float64]

    @property
    def exact(self) -> NDArray[np.bool_]:
        return np.asarray(self.error == 0)


@dataclass(frozen=True)
class Entropy:
    """Entropies of a stream in nats per program, estimated from ``count`` programs.

    ``whole`` is the entropy of the program, ``prompt`` that of the prompt and ``completion`` that of the completion
    given the prompt, with standard errors; the last two are nan for a task in which several references may go with a
    prompt.
    ``prompt_tokens`` and ``completion_tokens`` are mean lengths.
    """

    count: int
    whole: float
    whole_error: float
    prompt: float
    prompt_error: float
    completion: float
    completion_error: float
    prompt_tokens: float
    completion_tokens: float

    @classmethod
    def of(cls, scores: Scores, prompt_lengths: ArrayLike, lengths: ArrayLike) -> Entropy:
        """Return the entropies estimated from the scores of programs (N,), N >= 2, of a stream.

        ``prompt_lengths`` and ``lengths`` (N,) count tokens of the prompts and of the whole programs.
        """
        before, whole = np.asarray(prompt_lengths, np.int64), np.asarray(lengths, np.int64)
        wholes, prompts, completions, count = -scores.log_prob, -scores.prompt, -scores.completion, before.size
        return cls(
            count=count,
            whole=float(wholes.mean()),
            whole_error=float(wholes.std(ddof=1) / math.sqrt(count)),
            prompt=float(prompts.mean()),
            prompt_error=float(prompts.std(ddof=1) / math.sqrt(count)),
            completion=float(completions.mean()),
            completion_error=float(completions.std(ddof=1) / math.sqrt(count)),
            prompt_tokens=float(before.mean()),
            completion_tokens=float((whole - before).mean()),
        )

    def floor(self, prompt_weight: float = 1.0) -> float:
        """Return a lower bound on any model's loss, in nats per token, with tokens of the prompt weighted.

        With a weight other than 1, no model may reach the bound: that a prompt has ended shows only in the first token
        after it, and the bound counts that information with the prompt.
        """
        nats = self.whole if prompt_weight == 1 else prompt_weight * self.prompt + self.completion
        return nats / (prompt_weight * self.prompt_tokens + self.completion_tokens)


def score_mixture(scorers: Sequence[Scorer], weights: Ints, programs: ArrayLike) -> Scores:
    """Score programs (N, L) or (L,) against a weighted mixture, whose parts may write the same programs."""
    rows = check_ids(np.asarray(programs))
    if rows.ndim not in (1, 2):
        raise ValueError(f"programs are rows of token ids, (N, L) or (L,); this has shape {rows.shape}")
    shape = rows.shape[:-1]
    rows = rows.reshape(-1, rows.shape[-1])
    shares = np.log(weights / weights.sum())
    table = np.zeros((4, len(rows)))
    sizes = np.array([trimmed(program).size for program in rows], np.int64)
    for k, parts in enumerate(zip(*(scorer.score(rows, sizes) for scorer in scorers), strict=True)):
        prompts, wholes = shares + [part.prompt for part in parts], shares + [part.whole for part in parts]
        prompt, whole = log_sum(prompts), log_sum(wholes)
        error = 0.0
        if whole != -math.inf:
            error = math.sqrt(float(np.exp(2 * (wholes - whole)) @ np.array([part.variance for part in parts])))
        table[:, k] = whole, prompt, -math.inf if prompt == -math.inf else whole - prompt, error
    return Scores(*(row.reshape(shape) for row in table))


def trimmed(program: Tokens) -> Tokens:
    """Return a program up to its first `end`; empty if there is none."""
    ends = np.flatnonzero(program == op.END)
    return program[: ends[0] + 1] if ends.size else program[:0]
