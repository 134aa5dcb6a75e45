"""The transformer: exactly Llama, small enough to read in one sitting, with hook points in every layer.

Pre-norm RMSNorm, rotary positions (pairing the two halves of a head, as in Hugging Face's port), SwiGLU, no biases;
optionally grouped-query attention and tied embeddings. Parameters have Hugging Face's names without the leading
``model.``, so a saved folder loads as ``transformers.LlamaForCausalLM``.

There is one forward path. Training calls ``model(tokens)`` on rows padded on the right: attention is causal, so the
padding never reaches a program. Generation calls the same with a `Cache` and with positions. Rows of a batch should be
of similar length. Programs are not packed into one row: at these lengths attention between them would cost more than
the padding.

Sources: Touvron et al. 2023 (arXiv:2302.13971, Llama), Su et al. 2021 (arXiv:2104.09864, rotary positions), Shazeer
2020 (arXiv:2002.05202, SwiGLU), Ainslie et al. 2023 (arXiv:2305.13245, grouped queries). The hook points are a subset
of TransformerLens's.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import Tensor, nn

from cadmus_gym.language import isa as op
from cadmus_gym.language.forms import reverse_digits
from cadmus_gym.language.isa import VOCABULARY
from cadmus_gym.language.notation import as_tokens, assemble, bare, disassemble
from cadmus_gym.transformer.cache import Cache
from cadmus_gym.transformer.config import ModelConfig as ModelConfig
from cadmus_gym.transformer.hooks import Hook, Hooked
from cadmus_gym.transformer.linear import Linear, linear, together

# The longest row for which plain attention trains faster on a CPU; its memory for the gradient grows with the square.
# Measured on a Zen 5 core against the fused kernel: equally fast in float32, twice as fast in bfloat16. Without
# gradients the fused kernel is faster for whole rows, and equally fast for a token that is added to a cache.
PLAIN_UP_TO = 256
# Added to a masked score: exp() of it is 0 in every float type, and unlike -inf it keeps a row of padding finite.
HIDDEN = -3e4


def with_bos(tokens: Tensor) -> Tensor:
    """Return token rows (B, L) of any integer type with `<bos>` in front, (B, L + 1) int64.

    Programs start at their first real token, and the model puts `<bos>` before them. So the logits for
    ``programs[:, t]`` are ``model(with_bos(programs)[:, :-1])[:, t]``.
    """
    return F.pad(tokens.long(), (1, 0), value=op.BOS)


class View(NamedTuple):
    """Values that all layers share in one forward pass."""

    cos: Tensor  # (B or 1, T, 1, d), of the tokens' positions
    sin: Tensor
    mask: Tensor | None  # (B, 1, T, S), added to the scores; None: causal over the T tokens themselves
    plain: bool  # attention as matrix products, or the fused kernel
    cache: Cache | None


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate each pair (x[k], x[k + d/2]) of x (B, T, H, d) by its token's angles. ``sin`` includes the signs."""
    first, second = x.chunk(2, dim=-1)
    return torch.addcmul(x * cos.to(x.dtype), torch.cat((second, first), dim=-1), sin.to(x.dtype))


class Attention(nn.Module):
    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer, self.head_width, self.groups = layer, config.head_width, config.groups
        shared = config.groups * config.head_width
        self.q_proj = Linear(config.width, config.width)
        self.k_proj = Linear(config.width, shared)
        self.v_proj = Linear(config.width, shared)
        self.o_proj = Linear(config.width, config.width)
        self.pattern = Hook()  # (B, H, T, S), a distribution over keys
        self.mixed = Hook()  # (B, H, T, d), the output of each head

    def forward(self, x: Tensor, view: View) -> Tensor:
        rows, length, _ = x.shape
        mapped = together(x, (self.q_proj, self.k_proj, self.v_proj)).view(rows, length, -1, self.head_width)
        turned = rotate(mapped[:, :, : -self.groups], view.cos, view.sin).transpose(1, 2)  # (B, H + G, T, d)
        queries, keys = turned[:, : -self.groups], turned[:, -self.groups :]
        values = mapped[:, :, -self.groups :].transpose(1, 2)
        if view.cache is not None:
            keys, values = view.cache.extend(self.layer, keys, values)  # (B, G, S, d)
        if view.plain or self.pattern._forward_hooks:  # the fused kernel has no pattern to show
            mask = view.mask
            if mask is None:
                mask = torch.full((length, length), HIDDEN, dtype=x.dtype, device=x.device).triu(1)
            # Adjacent heads share keys. Their queries are concatenated, so that keys need not be repeated.
            grouped = (queries * self.head_width**-0.5).reshape(rows, keys.shape[1], -1, self.head_width)
            scores = (grouped @ keys.transpose(2, 3)).view(*queries.shape[:3], -1) + mask  # (B, H, T, S)
            pattern = self.pattern(scores.softmax(-1))
            mixed = (pattern.reshape(*grouped.shape[:3], -1) @ values).view(queries.shape)
        else:
            mixed = F.scaled_dot_product_attention(
                queries,
                keys,
                values,
                attn_mask=None if view.mask is None else view.mask.to(queries.dtype),
                is_causal=view.mask is None,
                enable_gqa=keys.shape[1] < queries.shape[1],
            )
        out: Tensor = self.o_proj(self.mixed(mixed).transpose(1, 2).reshape(rows, length, -1))
        return out

    def remember(self, x: Tensor, view: View, cache: Cache) -> None:
        """Write only the keys and values of x (B, T, width) to the cache."""
        keys, values = together(x, (self.k_proj, self.v_proj)).view(*x.shape[:2], -1, self.head_width).chunk(2, dim=2)
        cache.extend(self.layer, rotate(keys, view.cos, view.sin).transpose(1, 2), values.transpose(1, 2))


class MLP(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate_proj = Linear(config.width, config.hidden)
        self.up_proj = Linear(config.width, config.hidden)
        self.down_proj = Linear(config.hidden, config.width)
        self.activation = Hook()  # (B, T, hidden)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down_proj(self.activation(F.silu(self.gate_proj(x)) * self.up_proj(x)))
        return out


class Layer(nn.Module):
    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.residual_before = Hook()  # (B, T, width), as are the other two
        self.input_layernorm = nn.RMSNorm(config.width, eps=config.norm_eps)
        self.self_attn = Attention(config, layer)
        self.residual_between = Hook()
        self.post_attention_layernorm = nn.RMSNorm(config.width, eps=config.norm_eps)
        self.mlp = MLP(config)
        self.residual_after = Hook()

    def forward(self, x: Tensor, view: View) -> Tensor:
        x = self.residual_before(x)
        x = self.residual_between(x + self.self_attn(self.input_layernorm(x), view))
        x = self.residual_after(x + self.mlp(self.post_attention_layernorm(x)))
        return x


class Transformer(Hooked):
    """A decoder from tokens to logits over the 65 tokens, with weights drawn from ``seed``.

    Attributes:
        attention: "plain" (matrix products), "fused" (F.scaled_dot_product_attention) or "auto", the faster of the two:
            fused on a GPU; on a CPU plain for gradients and for a single token. They agree to float tolerance. If the
            pattern is hooked, attention is always plain.
        endian: the order of digits the model was trained in.
        card, record: what else is known about the model, and what it was trained on. They are saved with it; see
            `cadmus_gym.transformer.checkpoint` and `cadmus_gym.evaluation.trained`.
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, config: ModelConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        self.attention, self.endian = "auto", "big"
        self.card: dict[str, object] = {}
        self.record = b""
        self.embed_tokens = nn.Embedding(len(VOCABULARY), config.width)
        self.layers = nn.ModuleList(Layer(config, layer) for layer in range(config.layers))
        self.norm = nn.RMSNorm(config.width, eps=config.norm_eps)
        self.lm_head = None if config.tied else Linear(config.width, len(VOCABULARY))
        frequencies = 1.0 / config.rope_theta ** (torch.arange(0, config.head_width, 2) / config.head_width)
        angles = torch.outer(torch.arange(config.context).float(), frequencies)  # (context, d/2)
        self.register_buffer("cos", torch.cat((angles.cos(), angles.cos()), dim=1), persistent=False)
        self.register_buffer("sin", torch.cat((-angles.sin(), angles.sin()), dim=1), persistent=False)
        self.initialize(seed)

    @torch.no_grad()
    def initialize(self, seed: int) -> None:
        """Draw new weights from a seed.

        A matrix has variance 1 / inputs, which preserves the scale of activations at every width. The two that write to
        the residual stream are divided by sqrt(2 layers), so that its scale does not grow with depth (Radford et al.
        2019, GPT-2, section 2.3). Embeddings have standard deviation 0.02, as there: a tied model starts near the
        uniform distribution. In 400 steps with Muon (one seed each), matrices of half the scale and embeddings of five
        times the scale did equally well, within two points of truth rate.
        """
        if self.embed_tokens.weight.is_meta:  # there are only names and shapes
            return
        generator = torch.Generator(self.embed_tokens.weight.device).manual_seed(seed)
        for name, weight in self.named_parameters():
            if weight.ndim == 1:
                weight.fill_(1.0)
                continue
            deviation = 0.02 if name.startswith(("embed_tokens", "lm_head")) else weight.shape[1] ** -0.5
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                deviation /= math.sqrt(2 * self.config.layers)
            weight.normal_(0.0, deviation, generator=generator)

    def encode(self, text: str) -> Tensor:
        """Return the ids (T,) int64 of a text in the notation for people, with `<bos>` in front.

        Digits are in the model's order, and ids on its device: ``model(model.encode("12 7 add")[None])``. Raises
        ValueError for an unknown word, and for a text that starts with `<bos>`.
        """
        program = assemble(text)
        if program[:1].tolist() == [op.BOS]:
            raise ValueError(f"{text!r} starts with <bos>, which is added; start at the first real token")
        row = torch.from_numpy(reverse_digits(program) if self.endian == "little" else program)
        return with_bos(row[None])[0].to(self.embed_tokens.weight.device)

    def decode(self, tokens: Tensor | ArrayLike) -> str:
        """Return ids (T,) in the model's order of digits as a text in the notation for people.

        `<bos>` in front and `<pad>` at either end are left out. Raises ValueError for anything but a row of token ids.
        """
        program = bare(as_tokens(tokens.cpu().numpy() if isinstance(tokens, Tensor) else tokens))
        return disassemble(reverse_digits(program) if self.endian == "little" else program)

    def new_cache(self, rows: int, slots: int) -> Cache:
        """Return an empty cache for ``rows`` of at most ``slots`` tokens."""
        return Cache(self.config, rows, slots, self.embed_tokens.weight)

    def forward(self, tokens: Tensor, positions: Tensor | None = None, cache: Cache | None = None) -> Tensor:
        """Return the logits (B, T, 65) of the token after each token. Arguments and errors are those of `hidden`."""
        return self.logits(self.hidden(tokens, positions, cache))

    def logits(self, hidden: Tensor) -> Tensor:
        """Apply the output layer: (..., width) -> (..., 65)."""
        return linear(hidden, (self.embed_tokens if self.lm_head is None else self.lm_head).weight)

    def hidden(
        self, tokens: Tensor, positions: Tensor | None = None, cache: Cache | None = None, *, wanted: bool = True
    ) -> Tensor:
        """Return the final hidden state of every token, (B, T, width), which the output layer reads.

        tokens: (B, T), any integer type. Padding on the right may be anything and changes nothing before it.
        positions: (B, T) int64, the position of each token in its row, from 0; -1 for padding anywhere. A token attends
            to positions 0 up to its own, including cached ones. Default: 0, 1, 2 ... after those in the cache.
        cache: keys and values of the tokens before these, to which these are added.
        wanted: False if only the cache is needed. Then the last layer computes keys and values only (unless something
            is hooked), and the result is meaningless.

        Raises ValueError unless tokens are (B, T) and fit the context and the cache.
        """
        start = 0 if cache is None else cache.length
        room = self.config.context if cache is None else cache.positions.shape[1]
        if positions is None:
            room = min(room, self.config.context)
        if tokens.ndim != 2 or not 0 < tokens.shape[1] <= room - start:
            raise ValueError(
                f"tokens have shape {tuple(tokens.shape)}; allowed: (B, T) with T from 1 to {room - start}, "
                f"the room left in the {'context' if cache is None else 'cache and the context'}"
            )
        view = self._view(tokens.shape[1], positions, cache, start)
        x: Tensor = self.embed_tokens(tokens.long())
        whole = wanted or any(module._forward_hooks for module in self.modules())
        for layer in self.layers if whole else self.layers[:-1]:
            x = layer(x, view)
        if cache is not None:
            if not whole:
                last = self.layers[-1]
                assert isinstance(last, Layer)
                last.self_attn.remember(last.input_layernorm(x), view, cache)
            cache.length += tokens.shape[1]
        out: Tensor = self.norm(x)
        return out

    def _view(self, length: int, positions: Tensor | None, cache: Cache | None, start: int) -> View:
        """Return the view of ``length`` tokens, and write their positions to the cache from slot ``start`` on."""
        if self.attention not in ("auto", "plain", "fused"):
            raise ValueError(f"model.attention = {self.attention!r}; allowed: auto, plain, fused")
        faster = self.cos.is_cpu and start + length <= PLAIN_UP_TO and (torch.is_grad_enabled() or length == 1)
        plain = self.attention == "plain" or (self.attention == "auto" and faster)
        causal = positions is None and start == 0
        if positions is None:
            positions = torch.arange(start, start + length, device=self.cos.device)[None]  # (B or 1, T)
        if cache is not None:
            cache.positions[:, start : start + length] = positions
        mask = None
        if not causal:
            seen = positions if cache is None or start == 0 else cache.positions  # (B, S)
            masked = (seen < 0)[:, None, :] | (seen[:, None, :] > positions[:, :, None])  # (B, T, S)
            mask = (masked.to(self.cos.dtype) * HIDDEN)[:, None]
        at = positions.clamp(min=0)
        return View(self.cos[at][:, :, None], self.sin[at][:, :, None], mask, plain, cache)
