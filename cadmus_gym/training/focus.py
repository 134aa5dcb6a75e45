"""Train more on what is still hard: choose each program from several of the stream, by the mean loss of its kind.

The kind of a program is a hash of its prompt without the digits: `12 7 add` and `3 99 add` are of one kind. The
programs remain those of the stream and of its split; only the frequency of each kind changes. It is importance sampling
by loss (Katharopoulos and Fleuret 2018, arXiv:1803.00942), with two differences: a table of kinds replaces the model
that predicts importance, and no weights correct for it. Late in training nearly all loss comes from rare kinds.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cadmus_gym.language import isa as op
from cadmus_gym.language.hashing import join, mix
from cadmus_gym.language.isa import Ints, Tokens
from cadmus_gym.language.kernels import kernel

KINDS = 1024  # size of the table; kinds with the same hash share an entry
AMONG = 8  # programs that a row is chosen from
MEMORY = 0.02  # weight of one program in the mean of its kind
START = 10.0  # nats per program, until there is a mean


@kernel
def fill_kinds(programs: Tokens, prompt_lengths: NDArray[np.int32], parts: Ints, kinds: Ints) -> None:
    """Write the table index of each program (N, L) into kinds (N,); parts (N,) are the parts of a mixture."""
    for row in range(kinds.size):
        word = mix(np.uint64(parts[row]))
        for place in range(prompt_lengths[row]):
            if not op.ZERO <= programs[row, place] <= op.NINE:
                word = join(word, np.uint64(programs[row, place]))
        kinds[row] = np.int64(word % np.uint64(KINDS))


class Focus:
    """The mean loss of each kind, and the choice of one of ``among`` programs in proportion to it."""

    def __init__(self, among: int = AMONG) -> None:
        self.among = among
        self.losses = np.full(KINDS, START)

    def choose(self, kinds: Ints, drawn: NDArray[np.bool_], uniforms: NDArray[np.float64]) -> Ints:
        """Return which of its programs each row takes, (N,), from kinds (N, among) and uniforms (N,).

        Rows that are not ``drawn`` (N,) take the first program.
        """
        chances = self.losses[kinds].cumsum(1)
        chosen: Ints = (chances <= uniforms[:, None] * chances[:, -1:]).sum(1)
        return np.where(drawn, np.minimum(chosen, self.among - 1), 0)

    def sums(self, kinds: Ints, losses: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the number and the summed loss of programs by kind, (2, KINDS), to be summed over processes."""
        return np.stack([np.bincount(kinds, minlength=KINDS), np.bincount(kinds, losses, minlength=KINDS)])

    def learn(self, sums: NDArray[np.float64]) -> None:
        """Update the means with the sums (2, KINDS) of a step."""
        counts, losses = sums
        met = counts > 0
        weight = 1 - (1 - MEMORY) ** counts[met]
        self.losses[met] += weight * (losses[met] / counts[met] - self.losses[met])
