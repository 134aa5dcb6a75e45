"""Batches with little padding, the same ones for any number of processes."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import NamedTuple, TypeVar

import numpy as np
import torch
import torch.distributed
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from cadmus_gym.language import isa as op
from cadmus_gym.language.forms import reverse_digits
from cadmus_gym.language.isa import Tokens
from cadmus_gym.streams.stream import Stream
from cadmus_gym.training.focus import AMONG, Focus, fill_kinds
from cadmus_gym.training.ranks import Ranks
from cadmus_gym.training.record import Choices, extended
from cadmus_gym.training.states import as_tensor

# The cost of one more pass through the model, in tokens that could be computed instead. Measured on a Zen 5 core with
# 1M parameters: 8 ms against 20 to 50 us per token. Anything from 250 to 600 gives the same speed, 1.6 times that of
# padding all rows to the longest. On a GPU the cost is that of launching kernels.
PASS_COSTS = {"cpu": 400, "cuda": 50_000}
# Most tokens in a pass, including padding. It bounds the memory: about 34 bytes per token, layer and number of the
# residual stream, so 280M parameters (width 1024, 20 layers) need 23 GB.
PASS_TOKENS = {"cpu": 1 << 14, "cuda": 1 << 15}
ROWS = 8  # a chunk has a multiple of this many rows

Result = TypeVar("Result")


def program_lengths(programs: Tokens) -> NDArray[np.int64]:
    """Return the lengths (N,) of programs (N, L) padded with 0."""
    used: NDArray[np.int64] = np.where(programs != op.PAD, np.arange(1, programs.shape[1] + 1), 0).max(
        axis=1, initial=0
    )
    return used


def plan_chunks(lengths: ArrayLike, batch: int, device: str = "cpu") -> list[int]:
    """Return where to cut batches sorted by length, [0, ..., batch], at the least cost.

    A chunk is padded to its longest row, each chunk costs `PASS_COSTS` more, and none has more than `PASS_TOKENS`
    tokens. ``lengths`` are those of a sample of programs; its quantiles stand for the lengths in a batch. The cuts stay
    the same at every step, since oneDNN compiles for every new number of rows, which takes longer than the padding.
    """
    sample, cost, most = np.sort(np.asarray(lengths)), PASS_COSTS[device], PASS_TOKENS[device]
    places = [*range(0, batch, ROWS), batch]
    longest = [int(sample[min(len(sample) * place // batch, len(sample) - 1)]) for place in places]
    best: list[tuple[int, int]] = [(0, 0)]  # for each place: the cost of all rows before it, and the previous cut
    for k in range(1, len(places)):
        sizes = [(places[k] - places[j]) * longest[k] for j in range(k)]
        best.append(min((best[j][0] + cost + sizes[j], j) for j in range(k) if sizes[j] <= most or j == k - 1))
    cuts, k = [batch], len(places) - 1
    while k > 0:
        k = best[k][1]
        cuts.append(places[k])
    return cuts[::-1]


class Batch(NamedTuple):
    """Programs of a stream, with their digits in the order of the language."""

    programs: Tokens  # (N, L), padded with 0
    prompt_lengths: NDArray[np.int32]  # (N,)
    parts: NDArray[np.int64]  # (N,), index of the spec that each belongs to
    kinds: NDArray[np.int64]  # (N,), see `cadmus_gym.training.focus`

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each prompt and of each completion, (N, 2)."""
        return np.stack([self.prompt_lengths, program_lengths(self.programs) - self.prompt_lengths], axis=1)

    def take(self, rows: NDArray[np.integer]) -> Batch:
        return Batch(*(values[rows] for values in self))


class Chunk(NamedTuple):
    """Rows of a batch with about the same length, which pass through a model together."""

    tokens: Tensor  # (B, T) uint8, in the model's digit order, padded with 0 to the longest row
    prompt_lengths: Tensor  # (B,) int32
    lengths: Tensor  # (B,) int64
    rows: Tensor  # (B,) int64, indices into the batch

    def to(self, device: torch.device) -> Chunk:
        return Chunk(*(part.to(device, non_blocking=True) for part in self))


def draw(stream: Stream, indices: NDArray[np.int64]) -> Batch:
    """Return the programs of a stream with these numbers, (N,)."""
    seeds = np.full(indices.size, stream.seed, np.int64)
    programs, prompt_lengths = stream.gather(seeds, indices, threads=1)
    parts, kinds = stream.parts(seeds, indices), np.zeros(indices.size, np.int64)
    fill_kinds(programs, prompt_lengths, parts, kinds)
    return Batch(programs, prompt_lengths, parts, kinds)


def cut_chunks(batch: Batch, endian: str, cuts: list[int]) -> list[Chunk]:
    """Return the programs of a batch, sorted by length and cut into chunks."""
    programs = reverse_digits(batch.programs) if endian == "little" else batch.programs
    lengths = program_lengths(programs)
    order = np.argsort(lengths, kind="stable")
    return [
        Chunk(
            torch.from_numpy(programs[rows, : lengths[rows].max()]),
            *(torch.from_numpy(values) for values in (batch.prompt_lengths[rows], lengths[rows], rows)),
        )
        for rows in np.split(order, cuts[1:-1])
    ]


def ahead(make: Callable[[int], Result], start: int, stop: int) -> Generator[Result, None, None]:
    """Yield make(start), ..., make(stop - 1). A thread makes each one while the previous one is used."""
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(make, start)
        for step in range(start, stop):
            ready = following.result()
            if step + 1 < stop:
                following = pool.submit(make, step + 1)
            yield ready


class Feed:
    """The batches of one process: every ``count``-th row of each batch, a ``share`` of all rows chosen by focus.

    Row k of step s has number n = s * batch + k. Without focus it is program n of the stream. With focus it is one of
    the `AMONG` programs from n * `AMONG`: the one that `cadmus_gym.training.focus` chooses for a ``share`` of the rows,
    the first for the others. So several processes together train on the same rows as one.
    """

    def __init__(self, stream: Stream, batch: int, share: float, rank: int = 0, count: int = 1) -> None:
        self.stream, self.batch = stream, batch
        self.rows = np.arange(rank, batch, count, dtype=np.int64)
        self.drawn = self.rows < int(share * batch)  # rows that the focus chooses; at least one is left
        self.focus = Focus(AMONG if share else 1)
        self.earlier = b""  # record of what the model to start from was trained on
        self.choices: Choices = np.zeros(0, np.uint8)  # of all processes, up to the last call of `record`
        self._own: list[Choices] = []  # of this process since then, one array per step

    def batches(self, start: int, stop: int) -> Generator[Batch, None, None]:
        """Yield the batch of each step. Its candidates are drawn while the previous batch is used."""
        with closing(ahead(self._candidates, start, stop)) as found:
            for step, candidates in enumerate(found, start):
                yield self._choose(step, candidates)

    def record(self, ranks: Ranks) -> Choices:
        """Return which of its candidates each row of every batch so far has taken, (steps * batch,) uint8.

        All processes must call it. Without focus a row has one candidate, and the record is empty.
        """
        own = np.array(self._own, np.uint8).reshape(-1, self.rows.size)
        together = np.stack(ranks.gather(own), 2)  # row k of process r is row k * count + r of the batch
        self.choices, self._own = np.concatenate([self.choices, together.ravel()]), []
        return self.choices

    def extended(self, training: int, ranks: Ranks) -> bytes:
        """Return the record of all trainings, this one with the number ``training``. All processes must call it."""
        return extended(self.earlier, training, self.record(ranks))

    def state(self, ranks: Ranks) -> dict[str, Tensor]:
        """Return what `restore` takes. All processes must call it."""
        choices, earlier = torch.from_numpy(self.record(ranks)), as_tensor(self.earlier)
        return {"focus": torch.tensor(self.focus.losses), "choices": choices, "earlier": earlier}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self.focus.losses, self.choices = state["focus"].numpy(), state["choices"].numpy()
        self.earlier = state["earlier"].numpy().tobytes()

    def _candidates(self, step: int) -> Batch:
        among = self.focus.among
        return draw(self.stream, ((step * self.batch + self.rows)[:, None] * among + np.arange(among)).ravel())

    def _choose(self, step: int, candidates: Batch) -> Batch:
        among = self.focus.among
        uniforms = np.random.default_rng((self.stream.seed, step)).random(self.batch)[self.rows]
        chosen = self.focus.choose(candidates.kinds.reshape(-1, among), self.drawn, uniforms)
        if among > 1:
            self._own.append(chosen.astype(np.uint8))
        return candidates.take(np.arange(self.rows.size) * among + chosen)
