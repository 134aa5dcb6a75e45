"""Completions of many rows at once, with PyTorch.

Prompts of unequal length share a batch and a cache, and finished rows are dropped from it. The computation is
`Transformer.hidden`, as in training.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cadmus_gym.language import isa as op
from cadmus_gym.language.forms import Automata
from cadmus_gym.language.isa import Tokens
from cadmus_gym.transformer.cache import Cache
from cadmus_gym.transformer.model import Transformer, with_bos

# Measured with 1M parameters on a busy CPU:
SLOTS = 8  # A cache has a multiple of this many slots and grows by this many; attention reads all of them.
LEAST_SLOTS = 16  # Below 13 slots PyTorch's attention takes a slow path.
PROMPTS = 64  # Prompts read at once, padded to the longest of them.
ROWS = 16  # Rows are dropped this many at a time: oneDNN compiles a kernel for every new number of rows.


@torch.inference_mode()
def complete_batch(
    model: Transformer,
    shown: Tokens,
    lengths: NDArray[np.int32],
    automata: Automata,
    temperature: float,
    uniforms: NDArray[np.float64],
    raw: bool,
) -> tuple[Tokens, NDArray[np.float32], NDArray[np.float32], NDArray[np.int32]]:
    """Complete prompts (B, L) in the model's order of digits.

    Returns tokens, log-probabilities and raw log-probabilities, (B, M) each, and lengths (B,). A length of -1 - t means
    that the logits of the row are not finite at token t; then the other rows are incomplete, too.
    """
    rows, max_tokens = uniforms.shape
    tokens = np.zeros(uniforms.shape, np.uint8)
    log_probs, raw_log_probs = np.zeros((2, *uniforms.shape), np.float32)
    spent = np.zeros(rows, np.int32)
    cache = _read_prompts(model, shown, lengths)
    device = cache.positions.device
    last = torch.from_numpy(lengths).to(device, torch.int64)  # position of the last token; that of `<bos>` is 0
    following = with_bos(torch.from_numpy(shown).to(device)).gather(1, last[:, None])[:, 0]

    held = np.arange(rows)  # the rows in the cache
    ended = np.zeros(rows, np.bool_)  # which of those have ended; they get `<pad>` until they are dropped
    allowed = automata.mask()
    for step in range(max_tokens):
        if cache.length == cache.positions.shape[1]:
            cache.grow(cache.length + SLOTS)
        hidden = model.hidden(following[:, None], last[:, None], cache)[:, 0]
        allowed[ended] = np.arange(allowed.shape[1]) == op.PAD
        drawn = _draw(model.logits(hidden).float(), allowed, temperature, uniforms[held, step])
        chosen, *scores = (x.cpu().numpy() for x in drawn)
        broken = ~(np.isfinite(scores[0]) & np.isfinite(scores[1])) & ~ended  # nan and inf reach every log-softmax
        if broken.any():
            spent[held[broken]] = -1 - step
            break
        at = held[~ended]
        tokens[at, step], spent[at] = chosen[~ended], step + 1
        log_probs[at, step], raw_log_probs[at, step] = (score[~ended] for score in scores)
        automata.push(chosen)
        allowed = automata.mask()
        ended |= automata.done
        if not raw and not ended.all():
            # If only `end` is allowed, its log-probability is 0 and the model need not run.
            forced = ~ended & allowed[:, op.END] & (allowed.sum(1) == 1)
            tokens[held[forced], step + 1], spent[held[forced]] = op.END, step + 2
            ended |= forced
        running = np.flatnonzero(~ended)
        if running.size == 0:
            break
        following, room = drawn[0], -(-running.size // ROWS) * ROWS
        if room < held.size:
            # Running rows past the room move to places of rows that have ended; the others stay.
            kept = np.arange(room)
            late = running[running >= room]
            kept[np.setdiff1d(kept, running)[: late.size]] = late
            automata.select(kept)
            held, ended, allowed = held[kept], ended[kept], allowed[kept]
            places = torch.from_numpy(kept).to(device)
            following, last = following[places], last[places]
            cache.keep(places)
        last = last + 1
    return tokens, log_probs, raw_log_probs, spent


def _read_prompts(model: Transformer, shown: Tokens, lengths: NDArray[np.int32]) -> Cache:
    """Return a cache of all tokens but the last of prompts (B, L), which are sorted by their lengths (B,)."""
    # A prompt that repeats the one before it, for several completions, is read once.
    fresh = np.append(True, (shown[1:] != shown[:-1]).any(1) | (lengths[1:] != lengths[:-1]))
    device, few = model.embed_tokens.weight.device, lengths[fresh]
    longest = int(few[-1])
    prompts = with_bos(torch.from_numpy(shown[fresh]).to(device))
    cache = model.new_cache(len(prompts), max(LEAST_SLOTS, -(-(longest + 1) // SLOTS) * SLOTS))
    for start in range(0, len(prompts), PROMPTS):
        stop = min(start + PROMPTS, len(prompts))
        if (length := int(few[stop - 1])) > 0:
            model.hidden(prompts[start:stop, :length], cache=cache.part(start, stop), wanted=False)
    cache.length = longest
    # Hides the padding after each prompt from the tokens to come. (Attention is causal: no token of it was read.)
    cache.positions.masked_fill_(cache.positions >= torch.from_numpy(few).to(device)[:, None], -1)
    if len(prompts) < len(shown):
        source = torch.from_numpy(np.cumsum(fresh) - 1).to(device)
        return cache.copied(source)
    return cache


def _draw(
    logits: Tensor, allowed: NDArray[np.bool_], temperature: float, uniforms: NDArray[np.float64]
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw a token for each row of logits (B, 65). Return tokens, log-probabilities and raw ones, (B,) each."""
    masked = logits.masked_fill(~torch.from_numpy(allowed).to(logits.device), -math.inf)
    if temperature > 0:
        # The largest logit is shifted to 0 first, so that no temperature is too small.
        log_probs = ((masked - masked.amax(1, keepdim=True)) / temperature).log_softmax(1)
        # The inverse of the cumulative distribution, in float64, where 32 random bits cannot round up to the total. The
        # first token at which it exceeds the draw has a probability above 0.
        cumulative = log_probs.double().exp().cumsum(1)
        draws = torch.from_numpy(uniforms).to(logits.device)[:, None] * cumulative[:, -1:]
        tokens = (cumulative <= draws).sum(1)
    else:
        log_probs = masked.log_softmax(1)
        tokens = masked.argmax(1)
    at = tokens[:, None]
    return tokens, log_probs.gather(1, at)[:, 0], logits.log_softmax(1).gather(1, at)[:, 0]


@torch.inference_mode()
def batch_logits(model: Transformer, programs: Tokens) -> NDArray[np.float32]:
    """Return the logits that predict each token of programs (B, L) in the model's order of digits, (B, L, 65)."""
    rows = with_bos(torch.from_numpy(programs).to(model.embed_tokens.weight.device))
    logits: NDArray[np.float32] = model(rows[:, :-1]).float().cpu().numpy()
    return logits
