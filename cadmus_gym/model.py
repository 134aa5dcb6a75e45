"""The transformer: Llama to the letter, small enough to read in one sitting, with named points to look in and edit.

Pre-norm RMSNorm, rotary positions (the two halves of a head are rotated against each other, as in Hugging Face's
port), SwiGLU, no biases, optionally grouped-query attention and tied embeddings. Parameters carry Hugging Face's names
without the leading ``model.``, so that a saved folder loads as ``transformers.LlamaForCausalLM``.

There is one forward path. Training calls ``model(tokens)`` on rows padded on the right: attention is causal, so what
stands behind a program never reaches it. Generation calls the same method with a `Cache` and with positions.

Sources: Touvron et al. 2023 (arXiv:2302.13971, Llama), Su et al. 2021 (arXiv:2104.09864, rotary positions), Shazeer 2020
(arXiv:2002.05202, SwiGLU), Ainslie et al. 2023 (arXiv:2305.13245, grouped queries); hook points after TransformerLens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cadmus_gym.isa import BOS, VOCABULARY

# Longer rows than this are faster through the fused kernel on a CPU too; see `Transformer.attention`.
PLAIN_ATTENTION_UP_TO = 64


@dataclass(frozen=True)
class ModelConfig:
    """Sizes of a transformer; the vocabulary is always the 65 tokens. The defaults make 1.0 million parameters.

    Raises ValueError, naming field, value and what is allowed.
    """

    width: int = 128  # of the residual stream
    layers: int = 5
    heads: int = 4
    key_value_heads: int | None = None  # None: as many as `heads`; fewer: grouped-query attention
    hidden: int = (
        344  # of the SwiGLU; 8/3 of the width makes it cost as much as a plain MLP of 4 times the width
    )
    context: int = 512  # positions, `<bos>` included
    rope_theta: float = 10_000.0
    norm_eps: float = 1e-5
    tied: bool = True  # whether the output layer is the embedding

    def __post_init__(self) -> None:
        if self.key_value_heads is None:
            object.__setattr__(self, "key_value_heads", self.heads)
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "tied":
                _check(isinstance(value, bool), field.name, value, "true or false")
            elif field.name in ("rope_theta", "norm_eps"):
                number = isinstance(value, (int, float)) and not isinstance(value, bool)
                _check(number and 0 < value < math.inf, field.name, value, "a number above 0")
                object.__setattr__(self, field.name, float(value))
            else:
                whole = isinstance(value, int) and not isinstance(value, bool)
                _check(whole and value > 0, field.name, value, "an integer above 0")
        _check(self.width % self.heads == 0, "heads", self.heads, f"a divisor of the width, {self.width}")
        even = self.head_width % 2 == 0
        _check(
            even, "heads", self.heads, f"such that width / heads is even (rotary); it is {self.head_width}"
        )
        groups = self.key_value_heads
        _check(
            self.heads % (groups or 1) == 0, "key_value_heads", groups, f"a divisor of heads, {self.heads}"
        )

    @property
    def head_width(self) -> int:
        return self.width // self.heads


def _check(holds: bool, name: str, value: object, allowed: str) -> None:
    if not holds:
        raise ValueError(f"ModelConfig: {name} = {value!r}; allowed: {allowed}")


def with_bos(tokens: Tensor) -> Tensor:
    """Return token rows (B, L) of any integer type with `<bos>` in front, (B, L + 1) int64.

    Programs start at their first real token; `<bos>` is what a model puts before them, in training as in
    generation: ``model(with_bos(programs)[:, :-1])`` holds at ``[:, t]`` the logits for ``programs[:, t]``.
    """
    return F.pad(tokens.long(), (1, 0), value=BOS)


class Hook(nn.Identity):
    """A named point of the computation. Costs a function call, changes nothing, and takes forward hooks."""


class Cache:
    """Keys and values of the tokens a batch has seen, allocated once; what `Transformer` needs to go on from there.

    A slot is a column of the batch. The position of its token differs from row to row, and -1 marks a slot that is
    no token of that row (the padding behind a short prompt), so rows of unequal length need no alignment.
    """

    def __init__(self, model: Transformer, rows: int, slots: int) -> None:
        config, weight = model.config, model.embed_tokens.weight
        shape = (rows, config.key_value_heads or config.heads, slots, config.head_width)
        self.keys = [
            torch.empty(shape, dtype=weight.dtype, device=weight.device) for _ in range(config.layers)
        ]
        self.values = [torch.empty_like(keys) for keys in self.keys]
        self.positions = torch.full((rows, slots), -1, device=weight.device)  # (B, slots) int64
        self.length = 0  # slots in use

    def extend(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write (B, G, T, d) keys and values behind the slots in use; return those of all slots, (B, G, S, d)."""
        stop = self.length + keys.shape[2]
        self.keys[layer][:, :, self.length : stop] = keys
        self.values[layer][:, :, self.length : stop] = values
        return self.keys[layer][:, :, :stop], self.values[layer][:, :, :stop]

    def select(self, rows: Tensor) -> None:
        """Keep these rows, (K,) int64 in ascending order, and forget the others. Moves memory, allocates little."""
        kept, used = len(rows), self.length
        for store in (self.keys, self.values):
            for layer, tensor in enumerate(store):
                tensor[:kept, :, :used] = tensor[:, :, :used].index_select(0, rows)
                store[layer] = tensor[:kept]
        self.positions = self.positions.index_select(0, rows)


class View(NamedTuple):
    """What all layers share in one forward pass."""

    cos: Tensor  # (T, d/2) or (B, 1, T, d/2), by the tokens' positions
    sin: Tensor
    mask: (
        Tensor | None
    )  # added to the scores, (T, S) or (B, 1, T, S); None: causal over the T tokens themselves
    plain: bool  # attention as matrix products, so that there is a pattern to see; otherwise the fused kernel
    cache: Cache | None


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair (x[k], x[k + d/2]) of (B, H, T, d) by its token's angle."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


class Attention(nn.Module):
    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.head_width = config.head_width
        groups = config.key_value_heads or config.heads
        self.q_proj = nn.Linear(config.width, config.width, bias=False)
        self.k_proj = nn.Linear(config.width, groups * config.head_width, bias=False)
        self.v_proj = nn.Linear(config.width, groups * config.head_width, bias=False)
        self.o_proj = nn.Linear(config.width, config.width, bias=False)
        self.pattern = Hook()  # (B, H, T, S), each row a distribution over the keys
        self.mixed = Hook()  # (B, H, T, d), what each head read

    def forward(self, x: Tensor, view: View) -> Tensor:
        def split(projected: Tensor) -> Tensor:  # (B, T, n * d) -> (B, n, T, d)
            return projected.unflatten(-1, (-1, self.head_width)).transpose(1, 2)

        queries = rotate(split(self.q_proj(x)), view.cos, view.sin)  # (B, H, T, d)
        keys = rotate(split(self.k_proj(x)), view.cos, view.sin)  # (B, G, T, d)
        values = split(self.v_proj(x))
        if view.cache is not None:
            keys, values = view.cache.extend(self.layer, keys, values)  # (B, G, S, d)
        if view.plain:
            assert view.mask is not None
            shape = (*queries.shape[:3], keys.shape[2])  # (B, H, T, S)
            # Neighbouring heads share keys: lay their queries end to end, and there is nothing to repeat.
            grouped = (queries * self.head_width**-0.5).reshape(
                keys.shape[0], keys.shape[1], -1, self.head_width
            )
            scores = (grouped @ keys.transpose(2, 3)).view(shape) + view.mask
            pattern = self.pattern(scores.softmax(dim=-1))
            mixed = (pattern.reshape(*keys.shape[:2], -1, shape[3]) @ values).view(queries.shape)
        else:
            repeat = keys.shape[1] != queries.shape[1]
            mixed = F.scaled_dot_product_attention(
                queries, keys, values, view.mask, is_causal=view.mask is None, enable_gqa=repeat
            )
        out: Tensor = self.o_proj(self.mixed(mixed).transpose(1, 2).flatten(2))
        return out


class MLP(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.width, config.hidden, bias=False)
        self.up_proj = nn.Linear(config.width, config.hidden, bias=False)
        self.down_proj = nn.Linear(config.hidden, config.width, bias=False)
        self.activation = Hook()  # (B, T, hidden)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down_proj(self.activation(F.silu(self.gate_proj(x)) * self.up_proj(x)))
        return out


class Layer(nn.Module):
    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.residual_before = Hook()  # (B, T, width)
        self.input_layernorm = nn.RMSNorm(config.width, eps=config.norm_eps)
        self.self_attn = Attention(config, layer)
        self.residual_between = Hook()  # (B, T, width)
        self.post_attention_layernorm = nn.RMSNorm(config.width, eps=config.norm_eps)
        self.mlp = MLP(config)
        self.residual_after = Hook()  # (B, T, width)

    def forward(self, x: Tensor, view: View) -> Tensor:
        x = self.residual_before(x)
        x = self.residual_between(x + self.self_attn(self.input_layernorm(x), view))
        x = self.residual_after(x + self.mlp(self.post_attention_layernorm(x)))
        return x


class Transformer(nn.Module):
    """Tokens to logits over the 65 tokens.

    ``attention`` chooses the arithmetic, which agrees to float tolerance: "plain" (matrix products; on a CPU twice as
    fast on rows of a dozen tokens), "fused" (F.scaled_dot_product_attention), or "auto", the faster of the two for
    the device and the length at hand, and plain where somebody watches a pattern. ``endian`` is the order of digits
    that the model was trained in and ``card`` what is known about it; see `cadmus_gym.checkpoint`.
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, config: ModelConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        self.attention = "auto"
        self.endian = "big"
        self.card: dict[str, object] = {}
        self.embed_tokens = nn.Embedding(len(VOCABULARY), config.width)
        self.layers = nn.ModuleList(Layer(config, layer) for layer in range(config.layers))
        self.norm = nn.RMSNorm(config.width, eps=config.norm_eps)
        self.lm_head = None if config.tied else nn.Linear(config.width, len(VOCABULARY), bias=False)
        frequencies = config.rope_theta ** -(
            torch.arange(0, config.head_width, 2).float() / config.head_width
        )
        angles = torch.outer(torch.arange(config.context).float(), frequencies)  # (context, d/2)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)
        self.initialize(seed)

    @torch.no_grad()
    def initialize(self, seed: int) -> None:
        """Draw all weights afresh from a generator of their own.

        Matrices keep the size of what passes through them (variance 1 / inputs), whatever the width, since Muon and
        AdamW updates are sized relative to that; the two that write into the residual stream are divided by
        sqrt(2 layers), so that its size does not grow with depth (Radford et al. 2019, GPT-2, section 2.3).
        Embeddings have standard deviation 0.02 as there, so that a tied model starts near the uniform distribution.
        """
        generator = torch.Generator(self.embed_tokens.weight.device).manual_seed(seed)
        for name, weight in self.named_parameters():
            if weight.ndim == 1:
                weight.fill_(1.0)
                continue
            deviation = 0.02 if name in ("embed_tokens.weight", "lm_head.weight") else weight.shape[1] ** -0.5
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                deviation /= math.sqrt(2 * self.config.layers)
            weight.normal_(0.0, deviation, generator=generator)

    def forward(self, tokens: Tensor, positions: Tensor | None = None, cache: Cache | None = None) -> Tensor:
        """Return logits (B, T, 65) for the token behind each of ``tokens`` (B, T). See `hidden` for the rest."""
        return self.logits(self.hidden(tokens, positions, cache))

    def logits(self, hidden: Tensor) -> Tensor:
        """Apply the output layer: (..., width) -> (..., 65)."""
        return F.linear(hidden, (self.lm_head or self.embed_tokens).weight)

    def hidden(self, tokens: Tensor, positions: Tensor | None = None, cache: Cache | None = None) -> Tensor:
        """Return the normed residual stream (B, T, width) that the output layer reads, at every token.

        tokens: (B, T) of any integer type, rows padded on the right with anything; what a padded row gives at its
            real tokens is what it gives alone.
        positions: (B, T) int64, each token's place in its row from 0, -1 for padding. A token sees the tokens of its
            row at positions 0 up to its own, those in the cache included. By default 0, 1, 2 ... behind the cache.
        cache: holds the tokens before these, and is extended by these.

        Raises ValueError where tokens are no (B, T) or do not fit the context or the cache.
        """
        if tokens.ndim != 2 or tokens.shape[1] == 0:
            raise ValueError(f"tokens are (B, T) with T > 0; these have shape {tuple(tokens.shape)}")
        start = cache.length if cache is not None else 0
        length, stop = tokens.shape[1], start + tokens.shape[1]
        room = self.config.context if cache is None else cache.positions.shape[1]
        if stop > room or (positions is None and stop > self.config.context):
            raise ValueError(
                f"{stop} tokens in a row; the cache holds {room}, the context {self.config.context}"
            )
        view = self._view(positions, cache, start, length)
        x: Tensor = self.embed_tokens(tokens.long())
        for layer in self.layers:
            x = layer(x, view)
        if cache is not None:
            cache.length = stop
        out: Tensor = self.norm(x)
        return out

    def _view(self, positions: Tensor | None, cache: Cache | None, start: int, length: int) -> View:
        plain = self.attention == "plain"
        if self.attention == "auto":
            watched = any(layer.self_attn.pattern._forward_hooks for layer in self.layers)
            short = self.cos.device.type == "cpu" and start + length <= PLAIN_ATTENTION_UP_TO
            plain = short or watched
        elif self.attention not in ("plain", "fused"):
            raise ValueError(f"model.attention = {self.attention!r}; allowed: auto, plain, fused")
        lowest = torch.finfo(self.cos.dtype).min  # not -inf: a row of padding alone would become nan
        if positions is None and cache is None:
            mask = None
            if plain:
                mask = torch.full(
                    (length, length), lowest, dtype=self.cos.dtype, device=self.cos.device
                ).triu(1)
            return View(self.cos[:length], self.sin[:length], mask, plain, None)
        if positions is None:
            positions = torch.arange(start, start + length, device=self.cos.device).expand(-1, length)
        seen = positions
        if cache is not None:
            cache.positions[:, start : start + length] = positions
            seen = cache.positions[:, : start + length]  # (B, S)
        hidden = (seen < 0)[:, None, :] | (seen[:, None, :] > positions[:, :, None])  # (B, T, S)
        mask = torch.zeros(hidden.shape, dtype=self.cos.dtype, device=self.cos.device).masked_fill_(
            hidden, lowest
        )
        at = positions.clamp(min=0)
        return View(self.cos[at].unsqueeze(1), self.sin[at].unsqueeze(1), mask.unsqueeze(1), plain, cache)

    def hook_points(self) -> list[str]:
        """Return the names of all hook points, such as "layers.0.residual_between", in the order of computation.

        In each layer: residual_before, self_attn.pattern, self_attn.mixed, residual_between, mlp.activation,
        residual_after; their shapes stand beside them in the classes.
        """
        return [name for name, module in self.named_modules() if isinstance(module, Hook)]

    @contextmanager
    def hooked(self, actions: Mapping[str, Callable[[Tensor], Tensor | None]]) -> Iterator[None]:
        """Within this context, call ``actions[name](value)`` with the value at each named point.

        What an action returns takes the value's place, unless it is None. Names are those of `hook_points` or of any
        submodule that returns one tensor ("layers.0.self_attn.q_proj"). ValueError for any other.

            seen = []
            with model.hooked({"layers.1.residual_after": seen.append, "layers.0.mlp": torch.zeros_like}):
                model(tokens)
        """
        modules = dict(self.named_modules())
        if unknown := [name for name in actions if name not in modules]:
            raise ValueError(f"no hook point {unknown[0]!r}; known: {', '.join(self.hook_points())}")
        handles = []
        try:
            for name, action in actions.items():
                handles.append(
                    modules[name].register_forward_hook(
                        lambda module, inputs, value, action=action: action(value)
                    )
                )
            yield
        finally:
            for handle in handles:
                handle.remove()
