"""The key-value cache: each new token of a row costs one token."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from cadmus_gym.transformer.config import ModelConfig


class Cache:
    """Keys and values of the tokens that a batch has read.

    A slot is a column of the batch. Its position may differ from row to row, and is -1 where a row has no token there
    (padding after a short prompt), so rows of unequal length need no alignment.

    Attention reads all slots, used or not, and masks those without a token: a CPU reads contiguous memory up to three
    times as fast. So give a cache few more slots than are in use, and let it `grow`.
    """

    def __init__(self, config: ModelConfig, rows: int, slots: int, like: Tensor) -> None:
        """Create an empty cache with the dtype and device of ``like``."""
        shape = (rows, config.groups, slots, config.head_width)
        # One tensor per layer. A masked slot is multiplied by 0, so its content must be finite from the start.
        self.keys = [torch.zeros(shape, dtype=like.dtype, device=like.device) for _ in range(config.layers)]
        self.values = [torch.zeros_like(keys) for keys in self.keys]
        self.positions = torch.full((rows, slots), -1, device=like.device)  # int64
        self.length = 0  # slots in use

    def extend(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write keys and values (B, G, T, d) after the slots in use; return those of all slots, (B, G, S, d)."""
        stop = self.length + keys.shape[2]
        self.keys[layer][:, :, self.length : stop] = keys
        self.values[layer][:, :, self.length : stop] = values
        if self.length == 0:
            return keys, values
        return self.keys[layer], self.values[layer]

    def part(self, start: int, stop: int) -> Cache:
        """Return a view of rows ``start`` to ``stop``."""
        part = copy.copy(self)
        part._replace(lambda store: store[start:stop])
        return part

    def keep(self, rows: Tensor) -> None:
        """Keep only these rows, (K,) int64 without repeats, in this order. Rows that stay in place are not copied."""
        kept = len(rows)
        moved = (rows != torch.arange(kept, device=rows.device)).nonzero()[:, 0]
        source = rows[moved]
        for store in (*self.keys, *self.values, self.positions):
            store[moved] = store[source]
        self._replace(lambda store: store[:kept])

    def grow(self, slots: int) -> None:
        """Enlarge the cache to this many slots."""
        more = slots - self.positions.shape[1]
        room = torch.zeros_like(self.keys[0][:, :, :1]).expand(-1, -1, more, -1)
        for store in (self.keys, self.values):
            for layer, held in enumerate(store):  # one at a time, to save memory
                store[layer] = torch.cat((held, room), dim=2)
        self.positions = F.pad(self.positions, (0, more), value=-1)

    def copied(self, rows: Tensor) -> Cache:
        """Return a copy of these rows, (K,) int64, repeats allowed."""
        fresh = copy.copy(self)
        fresh._replace(lambda store: store[rows])
        return fresh

    def _replace(self, change: Callable[[Tensor], Tensor]) -> None:
        self.keys, self.values = [change(keys) for keys in self.keys], [change(values) for values in self.values]
        self.positions = change(self.positions)
