"""Keys and values of tokens that a transformer has read, so that each further token costs one token."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from cadmus_gym.model import Transformer


class Cache:
    """Keys and values of the tokens that a batch has seen.

    A slot is a column of the batch. The position of its token may differ from row to row, and -1 marks a slot that
    is no token of that row (padding behind a short prompt), so that rows of unequal length need no alignment.

    Attention reads all slots, those not in use yet as well, and masks what is no token: on a CPU a block of memory
    without gaps is read up to three times as fast. So give a cache few slots more than are in use (see `copied`).
    """

    def __init__(self, model: Transformer, rows: int, slots: int) -> None:
        config, like = model.config, model.embed_tokens.weight
        shape = (config.layers, rows, config.groups, slots, config.head_width)
        # A masked slot counts 0 times what it holds, which therefore is finite from the start.
        self.keys = torch.zeros(shape, dtype=like.dtype, device=like.device)
        self.values = torch.zeros_like(self.keys)
        self.positions = torch.full((rows, slots), -1, device=like.device)  # int64
        self.length = 0  # slots in use

    def extend(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write (B, G, T, d) keys and values behind the slots in use; return those of all slots, (B, G, S, d)."""
        stop = self.length + keys.shape[2]
        self.keys[layer, :, :, self.length : stop] = keys
        self.values[layer, :, :, self.length : stop] = values
        if self.length == 0:
            return keys, values
        return self.keys[layer], self.values[layer]

    def part(self, start: int, stop: int) -> Cache:
        """Return rows ``start`` to ``stop`` as a cache of their own, in the same memory."""
        part = copy.copy(self)
        part.keys, part.values = self.keys[:, start:stop], self.values[:, start:stop]
        part.positions = self.positions[start:stop]
        return part

    def keep(self, rows: Tensor) -> None:
        """Keep these rows, (K,) int64, in this order; forget the others."""
        self.keys, self.values = self.keys.index_select(1, rows), self.values.index_select(1, rows)
        self.positions = self.positions.index_select(0, rows)

    def copied(self, rows: Tensor | None, slots: int) -> Cache:
        """Return a cache with room for ``slots`` that starts as a copy of these rows, (K,) int64, or of all."""
        fresh, more = copy.copy(self), slots - self.length
        if rows is not None:
            fresh.keep(rows)
        fresh.keys = F.pad(fresh.keys[:, :, :, : self.length], (0, 0, 0, more))
        fresh.values = F.pad(fresh.values[:, :, :, : self.length], (0, 0, 0, more))
        fresh.positions = F.pad(fresh.positions[:, : self.length], (0, more), value=-1)
        return fresh
