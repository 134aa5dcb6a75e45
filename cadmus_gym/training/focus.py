"""More of what is still wrong: a program to train on is drawn from several of the stream, by what its kind loses.

The kind of a program is a hash of its prompt without the digits, so `12 7 add` and `3 99 add` are of one kind. The
programs stay those of the stream, and its splits are kept; what changes is how often each kind is trained on. It is
importance sampling by loss (Katharopoulos and Fleuret 2018, arXiv:1803.00942), with a table of kinds instead of a
model, and without weights to undo it: near the end nearly all loss comes from kinds that the stream rarely shows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cadmus_gym.language import isa as op
from cadmus_gym.language.hashing import join, mix
from cadmus_gym.language.isa import Ints, Tokens
from cadmus_gym.language.kernels import kernel

KINDS = 1024  # places of the table; kinds whose hashes meet share one
AMONG = 8  # programs that a row is drawn from
MEMORY = 0.02  # what one program moves the mean of its kind
START = 10.0  # nats per program, until there is a mean


@kernel
def fill_kinds(programs: Tokens, prompt_lengths: NDArray[np.int32], parts: Ints, kinds: Ints) -> None:
    """Write into kinds (N,) the place of each program (N, L) in the table; parts (N,) are those of a mixture."""
    for row in range(kinds.size):
        word = mix(np.uint64(parts[row]))
        for place in range(prompt_lengths[row]):
            if not op.ZERO <= programs[row, place] <= op.NINE:
                word = join(word, np.uint64(programs[row, place]))
        kinds[row] = np.int64(word % np.uint64(KINDS))


class Focus:
    """The mean loss of each kind, and the choice by it, of one of ``among`` programs for each row of a batch."""

    def __init__(self, among: int = AMONG) -> None:
        self.among = among
        self.losses = np.full(KINDS, START)

    def choose(self, kinds: Ints, drawn: NDArray[np.bool_], uniforms: NDArray[np.float64]) -> Ints:
        """Return which of its programs each row takes, (N,), by kinds (N, among) and uniforms (N,).

        Rows that are not ``drawn`` (N,) take the first, which is what the stream has next.
        """
        chances = self.losses[kinds].cumsum(1)
        chosen: Ints = (chances <= uniforms[:, None] * chances[:, -1:]).sum(1)
        return np.where(drawn, np.minimum(chosen, self.among - 1), 0)

    def sums(self, kinds: Ints, losses: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return (2, KINDS), numbers and summed losses of programs by kind, to be added up over processes."""
        return np.stack([np.bincount(kinds, minlength=KINDS), np.bincount(kinds, losses, minlength=KINDS)])

    def learn(self, sums: NDArray[np.float64]) -> None:
        """Move the means by what a step has met, sums (2, KINDS)."""
        counts, losses = sums
        met = counts > 0
        weight = 1 - (1 - MEMORY) ** counts[met]
        self.losses[met] += weight * (losses[met] / counts[met] - self.losses[met])
