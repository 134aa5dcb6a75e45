"""A stream as a torch dataset, divided among workers and ranks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import count as count_from
from typing import Any

import numpy as np
import torch
import torch.distributed
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from cadmus_gym.streams.stream import Source, Stream


class StreamDataset(IterableDataset[dict[str, Tensor]]):
    """Batches of ``count`` programs of a stream, starting with program ``start``; endless if ``count`` is None.

    Use it with ``DataLoader(dataset, batch_size=None, num_workers=...)``. An item is a dict of ``tokens`` (B, L) int64,
    programs padded with 0 and without `<bos>` (see `cadmus_gym.transformer.model.with_bos`), with the same L in all
    batches; ``prompt_length`` (B,) int64; ``index`` (B,) int64, the numbers of the programs. Only the last batch may be
    smaller.

    Batch b goes to rank b mod ``world_size``. By default, rank and world size are those of torch.distributed, which
    must be initialised before iteration. The workers of a rank take its batches in turn. So a loader yields the same
    batches in the same order for any number of workers, and all ranks together yield each program once. If all ranks
    must take the same number of steps, make ``count`` a multiple of ``batch_size * world_size``. ``len`` is the number
    of batches of this rank; an endless dataset has none.

    Accelerate shards an iterable dataset among ranks by itself and would shard this one twice: do not pass its loader
    to ``prepare``.

    Raises ValueError as `Stream` does, and for a number out of range. Iteration raises RuntimeError if torchrun started
    several processes and torch.distributed is not initialised.
    """

    def __init__(
        self,
        spec: Source,
        split: str = "train",
        seed: int = 0,
        *,
        start: int = 0,
        count: int | None = None,
        batch_size: int = 256,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        super().__init__()
        self.stream = Stream(spec, split, seed)
        for name, value, least in (("start", start, 0), ("count", count or 0, 0), ("batch_size", batch_size, 1)):
            if value < least:
                raise ValueError(f"{name} = {value}: give a number from {least}")
        if (rank is None) != (world_size is None):
            raise ValueError(f"rank = {rank}, world_size = {world_size}: give both or none")
        if rank is not None and world_size is not None and not 0 <= rank < world_size:
            raise ValueError(f"rank = {rank}: give a number from 0 to world_size - 1 = {world_size - 1}")
        self.start, self.count, self.batch_size = start, count, batch_size
        self.rank, self.world_size = rank, world_size

        self._parent: tuple[int, int] | None = None  # rank and world size of the process that pickled it

    def __getstate__(self) -> dict[str, Any]:
        # Workers that are not forked get a pickle and have no process group.
        return {**self.__dict__, "_parent": _distributed() or self._parent}

    def _share(self) -> tuple[int, int]:
        """Return rank and world size: as given, or of the process group, in a worker that of its parent."""
        if self.rank is not None and self.world_size is not None:
            return self.rank, self.world_size
        if (share := _distributed() or (self._parent if get_worker_info() else None)) is not None:
            return share
        if (processes := os.environ.get("WORLD_SIZE", "1")) != "1":
            raise RuntimeError(
                f"WORLD_SIZE = {processes}, but torch.distributed is not initialised, so all ranks would get the same "
                "programs: call init_process_group first, or give rank and world_size"
            )
        return 0, 1

    def __len__(self) -> int:
        if self.count is None:
            raise TypeError("a StreamDataset without a count has no end, and no len()")
        rank, ranks = self._share()
        batches = -(-self.count // self.batch_size)
        return max(0, -(-(batches - rank) // ranks))

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        rank, ranks = self._share()
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        for batch in count_from(rank + ranks * worker, ranks * workers):
            done = batch * self.batch_size
            size = self.batch_size if self.count is None else min(self.batch_size, self.count - done)
            if size <= 0:
                return
            first = self.start + done
            programs, prompt_lengths = self.stream.batch(first, size, threads=1 if info else None)
            yield {
                "tokens": torch.from_numpy(programs.astype(np.int64)),
                "prompt_length": torch.from_numpy(prompt_lengths.astype(np.int64)),
                "index": torch.arange(first, first + size),
            }


def _distributed() -> tuple[int, int] | None:
    """Return rank and world size, or None if torch.distributed is not initialised."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return None
