"""Hidden states of rows that are prefixes of each other, without reading a token twice.

In a rollout a row is often the row of the last step plus one token; a `Trail` then reads only that token. In training
a row is often the beginning of another row of the minibatch; `shared_prefixes` finds the rows that need to be read.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor

from cadmus_gym.language import isa as op
from cadmus_gym.language.isa import VOCABULARY, Ints, Tokens
from cadmus_gym.transformer.cache import Cache
from cadmus_gym.transformer.model import Transformer, with_bos

SPARE = 32  # steps of a rollout between two moves of the cache; a move copies as much as a step of attention reads


class Trail:
    """Keys and values of the rows (N, L) that were read last.

    In the cache all rows end at the same slot, whatever their lengths. A new row is written to the slots up to it.
    """

    def __init__(self, transformer: Transformer, shape: tuple[int, ...], weights: list[tuple[int, int]]) -> None:
        self.transformer, self.weights = transformer, weights
        self.rows = np.zeros(shape, np.uint8)
        self.lengths = np.full(shape[0], -2)  # no row is one token longer than that
        self.room = shape[1] + 1  # slots of the longest possible row
        self.cache = transformer.new_cache(shape[0], self.room + SPARE)
        self.cache.length = self.room

    def read(self, rows: Tokens) -> Tensor:
        """Return the final hidden state at the last token of each row, (N, width)."""
        device = self.cache.positions.device
        lengths = lengths_of(rows)
        begun = np.arange(rows.shape[1]) < self.lengths[:, None]
        going = (lengths == self.lengths + 1) & ((rows == self.rows) | ~begun).all(1)
        hidden = torch.empty((len(rows), self.transformer.config.width), dtype=self.cache.keys[0].dtype, device=device)
        if going.any():
            if self.cache.length == self.cache.positions.shape[1]:
                self._move_back()
            positions = torch.from_numpy(np.where(going, lengths, -1)).to(device)
            tokens = torch.from_numpy(rows[np.arange(len(rows)), lengths - 1]).to(device)
            window = self._window(1 + int(lengths[going].max()))
            hidden = self.transformer.hidden(tokens[:, None], positions[:, None], window)[:, 0]
            self.cache.length += 1
        if (new := np.flatnonzero(~going)).size:
            hidden[new] = self._begin(rows[new], lengths[new], torch.from_numpy(new).to(device))
        self.rows, self.lengths = rows, lengths
        return hidden

    def _window(self, length: int) -> Cache:
        """Return a view of the cache on rows of at most that length, with the next slot as the last one."""
        first = self.cache.length + 1 - length
        window = copy.copy(self.cache)
        seen = slice(first, first + length)
        window.keys = [keys[:, :, seen] for keys in self.cache.keys]
        window.values = [values[:, :, seen] for values in self.cache.values]
        window.positions, window.length = self.cache.positions[:, seen], length - 1
        return window

    def _begin(self, rows: Tokens, lengths: Ints, at: Tensor) -> Tensor:
        """Read whole rows (K, L) into rows ``at`` (K,) of the cache; return their final hidden states, (K, width)."""
        device, longest = at.device, int(lengths.max()) + 1
        places = np.arange(longest) - (longest - 1 - lengths[:, None])  # (K, T), negative before `<bos>`
        tokens = with_bos(torch.from_numpy(rows)).gather(1, torch.from_numpy(places.clip(min=0))).to(device)
        positions = torch.from_numpy(places.clip(min=-1)).to(device)
        part = self.transformer.new_cache(len(rows), longest)
        hidden = self.transformer.hidden(tokens, positions, part)[:, -1]
        stop = self.cache.length
        for store, new in zip((*self.cache.keys, *self.cache.values), (*part.keys, *part.values), strict=True):
            store[at, :, stop - longest : stop] = new
        self.cache.positions[at] = -1
        self.cache.positions[at, stop - longest : stop] = positions
        return hidden

    def _move_back(self) -> None:
        cache, width = self.cache, int(self.lengths.max()) + 1
        old, new = slice(cache.length - width, cache.length), slice(self.room - width, self.room)
        for store in (*cache.keys, *cache.values):
            store[:, :, new] = store[:, :, old].clone()
        cache.positions[:, new] = cache.positions[:, old].clone()
        cache.length = self.room


def as_rows(observations: Tensor) -> Tokens:
    """Return observations (B, L) of any dtype as uint8; SB3 passes some as float32.

    Raises ValueError if they are not token ids.
    """
    rows = observations.to(torch.uint8)
    if not ((rows == observations) & (rows < len(VOCABULARY))).all():
        raise ValueError(
            f"these observations are not token ids, whole numbers 0..{len(VOCABULARY) - 1}: remove the wrapper that "
            "changes them, such as VecNormalize"
        )
    tokens: Tokens = rows.cpu().numpy()
    return tokens


def lengths_of(rows: Tokens) -> Ints:
    """Return the number of tokens up to the last one that is not 0, (B,) int64."""
    lengths: Ints = np.where(rows != op.PAD, np.arange(1, rows.shape[1] + 1), 0).max(axis=1, initial=0)
    return lengths


def shared_prefixes(rows: Tokens, lengths: Ints) -> tuple[Ints, Ints]:
    """Choose the rows, of (B, L), that are not a prefix of another row.

    Returns their indices (C,), shortest first, and for each row the position (B,) among them of one it is a prefix of.
    """
    # In lexical order the rows that begin with a row follow right after it.
    order = np.lexsort(rows.T[::-1])
    first, second = rows[order[:-1]], rows[order[1:]]
    begun = np.arange(rows.shape[1]) < lengths[order[:-1], None]
    chosen = np.append(((first != second) & begun).any(1), True)
    by_length = np.argsort(lengths[order[chosen]], kind="stable")
    where = np.empty(len(rows), np.int64)
    where[order] = np.argsort(by_length)[np.cumsum(chosen) - chosen]
    return order[chosen][by_length], where
