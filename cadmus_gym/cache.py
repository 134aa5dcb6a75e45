"""Keys and values of tokens that a transformer has read, so that each further token costs one token."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from cadmus_gym.model import Transformer


class Cache:
    """Keys and values of the tokens that a batch has seen.

    A slot is a column of the batch. The position of its token may differ from row to row, and -1 marks a slot that
    is no token of that row (padding behind a short prompt), so that rows of unequal length need no alignment.
    """

    def __init__(self, model: Transformer, rows: int, slots: int) -> None:
        config, like = model.config, model.embed_tokens.weight
        shape = (config.layers, rows, config.groups, slots, config.head_width)
        self.keys = torch.empty(shape, dtype=like.dtype, device=like.device)
        self.values = torch.empty_like(self.keys)
        self.positions = torch.full((rows, slots), -1, device=like.device)  # int64
        self.length = 0  # slots in use

    def extend(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write (B, G, T, d) keys and values behind the slots in use; return all, (B, G, S, d)."""
        stop = self.length + keys.shape[2]
        self.keys[layer, :, :, self.length : stop] = keys
        self.values[layer, :, :, self.length : stop] = values
        if self.length == 0:
            return keys, values
        return self.keys[layer, :, :, :stop], self.values[layer, :, :, :stop]

    def part(self, start: int, stop: int) -> Cache:
        """Return rows ``start`` to ``stop`` as a cache of their own, in the same memory."""
        part = copy.copy(self)
        part.keys, part.values = self.keys[:, start:stop], self.values[:, start:stop]
        part.positions = self.positions[start:stop]
        return part

    def keep(self, rows: Tensor) -> None:
        """Keep these rows, (K,) int64 without repeats, in this order; forget the others.

        Only a row that changes its place is copied.
        """
        kept = len(rows)
        moved = (rows != torch.arange(kept, device=rows.device)).nonzero()[:, 0]
        for store in (self.keys, self.values):
            store[:, moved, :, : self.length] = store[:, rows[moved], :, : self.length]
        self.keys, self.values = self.keys[:, :kept], self.values[:, :kept]
        self.positions = self.positions.index_select(0, rows)

    def copied(self, rows: Tensor, slots: int) -> Cache:
        """Return a cache with room for ``slots`` that starts as a copy of these rows, (K,) int64, repeats allowed."""
        fresh, used = copy.copy(self), self.length
        shape = (len(self.keys), len(rows), self.keys.shape[2], slots, self.keys.shape[4])
        fresh.keys, fresh.values = self.keys.new_empty(shape), self.values.new_empty(shape)
        fresh.keys[:, :, :, :used] = self.keys[:, rows, :, :used]
        fresh.values[:, :, :, :used] = self.values[:, rows, :, :used]
        fresh.positions = self.positions.new_full((len(rows), slots), -1)
        fresh.positions[:, :used] = self.positions[rows, :used]
        return fresh
