"""A stream as a torch dataset, whose workers and ranks share it out."""

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
    """Batches of a stream, from program ``start`` on: ``count`` programs, or without end.

    Give it to ``DataLoader(dataset, batch_size=None, num_workers=...)``. An item is a dict of ``tokens`` (B, L) int64,
    programs padded with 0 and without `<bos>` (see `cadmus_gym.transformer.model.with_bos`), L the same in all;
    ``prompt_length`` (B,) int64; ``index`` (B,) int64, the numbers of the programs. Only the last batch may be smaller.

    Batch b goes to rank b mod ``world_size``, by default those of torch.distributed, which may be initialised after the
    dataset is made but before it is iterated; the workers of a rank take its batches in turn. So a loader gives the
    same batches in the same order whatever its number of workers and however they are started, and all ranks together
    give each program once. Where ranks must do the same number of steps, ``count`` is to be a multiple of
    ``batch_size * world_size``. ``len`` is the number of this rank's batches; without a ``count`` there is none.

    Accelerate shards an iterable dataset among the ranks itself, and would shard this one a second time: do not pass a
    loader of it to ``prepare``.

    Raises ValueError as `Stream` does, and for a number out of range; RuntimeError, when iterated, where torchrun has
    started several processes and torch.distributed is not initialised.
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

        self._parent: tuple[int, int] | None = None  # rank and number of ranks of the process that pickled it

    def __getstate__(self) -> dict[str, Any]:
        # Workers that are not forked get a pickle, and know of no process group.
        return {**self.__dict__, "_parent": _distributed() or self._parent}

    def _share(self) -> tuple[int, int]:
        """Return rank and number of ranks: those given, or of the process group, of the parent's in a worker."""
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
    """Return this process's rank and the number of ranks; None where torch.distributed is not initialised."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return None
