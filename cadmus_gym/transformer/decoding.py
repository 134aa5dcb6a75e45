"""Completions of a few rows, compiled, on one core and without PyTorch.

With one row and a small model PyTorch spends nearly all of its time on calls. Here the forward path of
`cadmus_gym.transformer.model` is written as loops, and a completion is one call, with the same automata and random
numbers as `cadmus_gym.transformer.batched`. Tests check that both return the same completions and, to float tolerance,
the same log-probabilities.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from cadmus_gym.language import isa as op
from cadmus_gym.language.forms import DONE, SPENT, STATE, Automata, Table, advance, mask_row
from cadmus_gym.language.isa import VOCABULARY, Int, Ints, Tokens
from cadmus_gym.language.kernels import Function, kernel
from cadmus_gym.transformer.config import ModelConfig
from cadmus_gym.transformer.model_files import read_model, shapes

if TYPE_CHECKING:
    from cadmus_gym.transformer.model import Transformer

Floats: TypeAlias = NDArray[np.float32]

# Limits up to which this is faster than PyTorch; ROWS = 0 turns it off. Measured on one core of an Intel Xeon with
# AVX-512 against one thread of PyTorch: with 1M parameters 4 times as fast for 1 to 4 rows, 2.6 times for 16 and 1.1
# times for 64; with 19M 1.3 times as fast for one row; with 38M slower for 4.
ROWS = 16
WORK = 20_000_000  # rows times parameters
BLOCK = 16  # tokens of a prompt that are read at once, so that each weight is loaded once for all of them

_decoders: WeakKeyDictionary[Transformer, Decoder] = WeakKeyDictionary()  # to reuse their memory


class Weights(NamedTuple):
    """The weights of L layers, stacked. The rows of a matrix are its outputs."""

    embedding: Floats  # (65, width)
    cos: Floats  # (context, d)
    sin: Floats  # (context, d), including the signs
    norms: Floats  # (L, 2, width)
    mapped: Floats  # (L, width + 2 shared, width): queries, keys, values
    mixed: Floats  # (L, width, width)
    opened: Floats  # (L, 2 hidden, width): gates, then the values they gate
    closed: Floats  # (L, width, hidden)
    norm: Floats  # (width,)
    output: Floats  # (65, width)


class Room(NamedTuple):
    """Memory for the computation of one row."""

    keys: Floats  # (L, G, slots, d)
    values: Floats
    pattern: Floats  # (slots,)
    residual: Floats  # (BLOCK, width)
    normed: Floats  # (BLOCK, width)
    mapped: Floats  # (BLOCK, width + 2 shared)
    mixed: Floats  # (BLOCK, width)
    opened: Floats  # (BLOCK, 2 hidden)
    gated: Floats  # (BLOCK, hidden)
    logits: Floats  # (BLOCK, 65)


class Decoder:
    """A transformer for a few rows at a time, as numpy arrays.

    It replaces a `Transformer` that only completes, and has the same ``config``, ``endian`` and ``card``.
    """

    def __init__(self, config: ModelConfig, card: dict[str, Any], endian: str = "big") -> None:
        self.config, self.card, self.endian = config, card, endian
        layers, width, hidden, shared = config.layers, config.width, config.hidden, config.groups * config.head_width
        embedding = np.empty((len(VOCABULARY), width), np.float32)
        self.weights = Weights(
            embedding,
            *_rotations(config),
            np.empty((layers, 2, width), np.float32),
            np.empty((layers, width + 2 * shared, width), np.float32),
            np.empty((layers, width, width), np.float32),
            np.empty((layers, 2 * hidden, width), np.float32),
            np.empty((layers, width, hidden), np.float32),
            np.empty(width, np.float32),
            embedding if config.tied else np.empty_like(embedding),
        )

    def fill(self, weights: Mapping[str, Floats]) -> None:
        """Copy all weights, named as in `cadmus_gym.transformer.model_files.shapes`, and "cos" and "sin" if given."""
        own = self.weights

        def join(target: Floats, *names: str) -> None:
            parts = [weights[f"layers.{k}.{name}.weight"] for k in range(self.config.layers) for name in names]
            np.concatenate(parts, out=target.reshape(-1, *parts[0].shape[1:]))

        join(own.norms, "input_layernorm", "post_attention_layernorm")
        join(own.mapped, "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
        join(own.mixed, "self_attn.o_proj")
        join(own.opened, "mlp.gate_proj", "mlp.up_proj")
        join(own.closed, "mlp.down_proj")
        own.embedding[:], own.norm[:] = weights["embed_tokens.weight"], weights["norm.weight"]
        if not self.config.tied:
            own.output[:] = weights["lm_head.weight"]
        for table in {"cos", "sin"} & weights.keys():
            getattr(own, table)[:] = weights[table]

    def complete(
        self,
        shown: Tokens,
        lengths: NDArray[np.int32],
        automata: Automata,
        temperature: float,
        uniforms: NDArray[np.float64],
        raw: bool,
    ) -> tuple[Tokens, Floats, Floats, NDArray[np.int32]]:
        """Complete prompts (B, L) in the model's order of digits, like `cadmus_gym.transformer.batched.complete_batch`.

        A length of -1 - t means that the logits of the row are not finite at token t.
        """
        count, most = uniforms.shape
        rows = np.zeros((count, 1 + shown.shape[1] + most), np.uint8)
        rows[:, 0], rows[:, 1 : 1 + shown.shape[1]] = op.BOS, shown
        tokens, spent = np.zeros((count, most), np.uint8), np.zeros(count, np.int32)
        log_probs, raw_log_probs = np.zeros((2, count, most), np.float32)
        room = self._room(rows.shape[1])
        for k in range(count):
            size = 1 + int(lengths[k])
            again = k > 0 and lengths[k - 1] == lengths[k] and np.array_equal(shown[k - 1], shown[k])
            spent[k] = complete_row(
                rows[k],
                size - 1 if again else 0,
                size,
                automata.cells[k],
                automata.table,
                automata.max_tokens,
                automata.thought_tokens,
                temperature,
                uniforms[k],
                raw,
                self.weights,
                room,
                self.config.norm_eps,
                log_probs[k],
                raw_log_probs[k],
            )
            made = max(int(spent[k]), 0)
            tokens[k, :made] = rows[k, size : size + made]
        return tokens, log_probs, raw_log_probs, spent

    def logits(self, programs: Tokens) -> Floats:
        """Return the logits that predict each token of programs (B, L) in the model's order of digits, (B, L, 65)."""
        found = np.empty((*programs.shape, len(VOCABULARY)), np.float32)
        room = self._room(programs.shape[1])
        for program, logits in zip(programs, found, strict=True):
            read_row(np.append(np.uint8(op.BOS), program[:-1]), self.weights, room, self.config.norm_eps, logits)
        return found

    def _room(self, slots: int) -> Room:
        config, shared = self.config, self.config.groups * self.config.head_width
        kept = config.layers, config.groups, slots, config.head_width
        columns = config.width, config.width, config.width + 2 * shared, config.width, 2 * config.hidden, config.hidden
        blocks = [np.empty((BLOCK, size), np.float32) for size in (*columns, len(VOCABULARY))]
        keys, values, pattern = (np.empty(shape, np.float32) for shape in (kept, kept, slots))
        return Room(keys, values, pattern, *blocks)


def load_decoder(name: str | os.PathLike[str]) -> Decoder:
    """Return the model of a folder, or a packaged model by its name. Errors are those of `load_model`."""
    found = read_model(name)
    decoder = Decoder(found.config, found.card, found.endian)
    decoder.fill(found.weights)
    return decoder


def decoder_of(model: Transformer | Decoder, rows: int) -> Decoder | None:
    """Return a decoder that completes this many rows faster than the model, or None.

    None if the model is too large, on a GPU, not in float32, or if anything in it is hooked or replaced. Weights are
    copied at each call, since no counter notices every way in which they can change.
    """
    if isinstance(model, Decoder):
        return model
    if rows > ROWS or model.attention != "auto":
        return None
    import torch
    from torch import nn

    from cadmus_gym.transformer.hooks import Hook
    from cadmus_gym.transformer.linear import Linear
    from cadmus_gym.transformer.model import MLP, Attention, Layer, Transformer

    plain = {Transformer, Layer, Attention, MLP, Linear, Hook, nn.Embedding, nn.ModuleList, nn.RMSNorm}
    for module in model.modules():
        replaced = any(hasattr(type(module), name) for name in vars(module))  # `logits`, say, by a function
        if type(module) not in plain or module._forward_hooks or module._forward_pre_hooks or replaced:
            return None
    weights, tables = dict(model.named_parameters()), {"cos": model.cos, "sin": model.sin}
    fits = {name: tuple(weight.shape) for name, weight in weights.items()} == shapes(model.config)
    fits = fits and all(x.shape == (model.config.context, model.config.head_width) for x in tables.values())
    work = rows * sum(weight.numel() for weight in weights.values())
    if not fits or work > WORK or torch.is_autocast_enabled("cpu"):
        return None
    if any(type(w) is not nn.Parameter or w.dtype != torch.float32 or not w.is_cpu for w in weights.values()):
        return None
    decoder = _decoders.get(model)
    if decoder is None or decoder.config != model.config:
        decoder = _decoders[model] = Decoder(model.config, {})
    decoder.fill({name: tensor.detach().numpy() for name, tensor in (weights | tables).items()})
    return decoder


def _rotations(config: ModelConfig) -> tuple[Floats, Floats]:
    """Return the buffers ``cos`` and ``sin`` of a `Transformer`."""
    half = np.arange(0, config.head_width, 2, dtype=np.float32) / np.float32(config.head_width)
    frequencies = np.float32(1.0) / np.float32(config.rope_theta) ** half
    angles = np.outer(np.arange(config.context, dtype=np.float32), frequencies)
    cos, sin = np.cos(angles), np.sin(angles)
    return np.concatenate([cos, cos], axis=1), np.concatenate([-sin, sin], axis=1)


def sums(function: Function) -> Function:
    """Like `kernel`, but sums may be reordered, so that several terms are added at once."""
    return kernel(function, reassociate=True)


@kernel
def complete_row(
    tokens: Tokens,
    known: Int,
    size: Int,
    cells: Ints,
    table: Table,
    max_tokens: Int,
    thought_tokens: Int,
    temperature: float,
    uniforms: NDArray[np.float64],
    raw: bool,
    weights: Weights,
    room: Room,
    eps: float,
    log_probs: Floats,
    raw_log_probs: Floats,
) -> Int:
    """Write a completion after the first ``size`` tokens, of which ``known`` have been read into the room.

    Returns its length, or -1 - t if the logits are not finite at token t.
    """
    last = size - 1
    for start in range(known, last, BLOCK):
        read(tokens[start : min(start + BLOCK, last)], start, weights, room, eps)
    for step in range(max_tokens):
        read(tokens[last : last + 1], last, weights, room, eps)
        multiply(weights.output, room.normed[:1], room.logits[:1])
        allowed = table.masks[mask_row(cells, table, max_tokens, thought_tokens)]
        token, log_probs[step], raw_log_probs[step] = draw(room.logits[0], allowed, temperature, uniforms[step])
        if not (np.isfinite(log_probs[step]) and np.isfinite(raw_log_probs[step])):
            return -1 - step
        last += 1
        tokens[last] = token
        cells[SPENT] += 1
        advance(cells, token, table)
        if cells[STATE] == DONE:
            return step + 1
        if not raw and step + 1 < max_tokens:
            allowed = table.masks[mask_row(cells, table, max_tokens, thought_tokens)]
            choices = 0
            for k in range(allowed.size):
                choices += allowed[k]
            if choices == 1 and allowed[op.END]:  # its log-probability is 0, and the model need not run
                tokens[last + 1] = op.END
                return step + 2
    return max_tokens


@kernel
def read_row(tokens: Tokens, weights: Weights, room: Room, eps: float, logits: Floats) -> None:
    """Fill (T, 65) with the logits of the token after each of T tokens, the first of which is `<bos>`."""
    for start in range(0, tokens.size, BLOCK):
        stop = min(start + BLOCK, tokens.size)
        read(tokens[start:stop], start, weights, room, eps)
        multiply(weights.output, room.normed[: stop - start], logits[start:stop])


@kernel
def read(tokens: Tokens, position: Int, weights: Weights, room: Room, eps: float) -> None:
    """Read at most BLOCK tokens from ``position`` on, after all tokens before them.

    Writes their final hidden states to ``room.normed``, and adds their keys and values to the room.
    """
    count, head_width, groups = tokens.size, weights.cos.shape[1], room.keys.shape[1]
    width = weights.norm.size
    heads = width // head_width
    residual, normed, mapped, mixed = (
        room.residual[:count],
        room.normed[:count],
        room.mapped[:count],
        room.mixed[:count],
    )
    opened, gated = room.opened[:count], room.gated[:count]
    for t in range(count):
        move(weights.embedding[tokens[t]], residual[t])
    for layer in range(weights.mapped.shape[0]):
        normalize(residual, weights.norms[layer, 0], eps, normed)
        multiply(weights.mapped[layer], normed, mapped)
        for t in range(count):
            here = position + t
            cos, sin = weights.cos[here], weights.sin[here]
            for group in range(groups):
                key = width + group * head_width
                value = key + groups * head_width
                rotate(mapped[t, key : key + head_width], cos, sin, room.keys[layer, group, here])
                move(mapped[t, value : value + head_width], room.values[layer, group, here])
            for head in range(heads):
                part, group = head * head_width, head * groups // heads
                query = mixed[t, part : part + head_width]
                rotate(mapped[t, part : part + head_width], cos, sin, query)
                attend(query, room.keys[layer, group], room.values[layer, group], room.pattern[: here + 1])
        multiply(weights.mixed[layer], mixed, normed)
        add(normed, residual)
        normalize(residual, weights.norms[layer, 1], eps, normed)
        multiply(weights.opened[layer], normed, opened)
        gate(opened, gated)
        multiply(weights.closed[layer], gated, normed)
        add(normed, residual)
    normalize(residual, weights.norm, eps, normed)


@kernel
def draw(logits: Floats, allowed: NDArray[np.int8], temperature: float, uniform: float) -> tuple[Int, float, float]:
    """Draw a token. Return it, its log-probability under the mask and at the temperature, and its raw one."""
    top = masked_top = -np.inf
    token = 0
    for k in range(logits.size):
        top = max(top, np.float64(logits[k]))
        if allowed[k] and logits[k] > masked_top:
            masked_top, token = np.float64(logits[k]), k
    heat = temperature if temperature > 0 else 1.0
    total = masked_total = 0.0
    for k in range(logits.size):
        total += np.exp(logits[k] - top)
        if allowed[k]:
            masked_total += np.exp((logits[k] - masked_top) / heat)
    if temperature > 0:
        # Inverse of the cumulative distribution: the first token at which it exceeds the draw.
        goal, reached = uniform * masked_total, 0.0
        for k in range(logits.size):
            if allowed[k]:
                reached += np.exp((logits[k] - masked_top) / heat)
                if reached > goal:
                    token = k
                    break
    log_prob = (logits[token] - masked_top) / heat - np.log(masked_total)
    return token, log_prob, logits[token] - top - np.log(total)


@sums
def multiply(weight: Floats, x: Floats, out: Floats) -> None:
    """Fill (T, N) with x (T, K) times the transpose of weight (N, K)."""
    whole = weight.shape[0] // 4 * 4
    for n in range(0, whole, 4):
        w0, w1, w2, w3 = weight[n], weight[n + 1], weight[n + 2], weight[n + 3]
        for t in range(x.shape[0]):
            row = x[t]
            s0 = s1 = s2 = s3 = np.float32(0)
            for k in range(row.size):
                s0 += w0[k] * row[k]
                s1 += w1[k] * row[k]
                s2 += w2[k] * row[k]
                s3 += w3[k] * row[k]
            out[t, n], out[t, n + 1], out[t, n + 2], out[t, n + 3] = s0, s1, s2, s3
    for n in range(whole, weight.shape[0]):
        for t in range(x.shape[0]):
            total = np.float32(0)
            for k in range(weight.shape[1]):
                total += weight[n, k] * x[t, k]
            out[t, n] = total


@sums
def normalize(x: Floats, gain: Floats, eps: float, out: Floats) -> None:
    """Fill (T, K) with x divided by its root mean square, times the gain (K,)."""
    for t in range(x.shape[0]):
        total = np.float32(0)
        for k in range(gain.size):
            total += x[t, k] * x[t, k]
        scale = np.float32(1) / np.sqrt(total / np.float32(gain.size) + np.float32(eps))
        for k in range(gain.size):
            out[t, k] = x[t, k] * scale * gain[k]


@sums
def attend(query: Floats, keys: Floats, values: Floats, pattern: Floats) -> None:
    """Replace a query (d,) by its output over the first S keys and values. ``pattern`` (S,) is overwritten."""
    scale, top = np.float32(1) / np.sqrt(np.float32(query.size)), np.float32(-np.inf)
    for s in range(pattern.size):
        score, key = np.float32(0), keys[s]
        for k in range(query.size):
            score += query[k] * key[k]
        pattern[s] = score * scale
        top = max(top, pattern[s])
    total = np.float32(0)
    for s in range(pattern.size):
        pattern[s] = np.exp(pattern[s] - top)
        total += pattern[s]
    for k in range(query.size):
        query[k] = 0
    for s in range(pattern.size):
        share, value = pattern[s] / total, values[s]
        for k in range(query.size):
            query[k] += share * value[k]


@kernel
def rotate(x: Floats, cos: Floats, sin: Floats, out: Floats) -> None:
    """Rotate each pair (x[k], x[k + d/2]) by a token's angles."""
    half = x.size // 2
    for k in range(half):
        out[k] = x[k] * cos[k] + x[k + half] * sin[k]
        out[k + half] = x[k + half] * cos[k + half] + x[k] * sin[k + half]


@kernel
def gate(opened: Floats, gated: Floats) -> None:
    """Fill (T, K) with SiLU of the first K of 2 K columns, times the other K."""
    for t in range(gated.shape[0]):
        for k in range(gated.shape[1]):
            value = opened[t, k]
            gated[t, k] = value / (np.float32(1) + np.exp(-value)) * opened[t, k + gated.shape[1]]


@kernel
def add(x: Floats, out: Floats) -> None:
    for t in range(x.shape[0]):
        for k in range(x.shape[1]):
            out[t, k] += x[t, k]


@kernel
def move(x: Floats, out: Floats) -> None:
    for k in range(x.size):
        out[k] = x[k]
