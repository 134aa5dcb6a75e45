"""Completions from a model: batched, under a form, with the log-probabilities of what was drawn.

Prompts of unequal length share a batch and a cache; rows that have ended are dropped from it.
The computation is `Transformer.hidden`, the one that training runs, so a completion's log-probabilities are those
that a full forward pass over the finished program gives, to float tolerance, whatever else was in the batch.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from cadmus_gym.cache import Cache
from cadmus_gym.compiling import kernel
from cadmus_gym.forms import Automata, reverse_digits
from cadmus_gym.isa import BOS, END, PAD, Int, Ints, Tokens, as_tokens, check_ids
from cadmus_gym.model import Transformer, with_bos
from cadmus_gym.sampling import join

# Measured with 1M parameters on a busy CPU:
SLOTS = 8  # A cache has a multiple of so many slots, and grows by so many: attention reads all.
LEAST_SLOTS = 16  # Over less than 13 slots PyTorch attends in a slow way of its own.
PROMPTS = 64  # So many prompts are read at once, each such part padded to its own longest.
ROWS = 16  # Rows are dropped by so many; oneDNN compiles anew for each number of rows it meets.


@dataclass(frozen=True)
class Completions:
    """N completions of at most M tokens, in the order of their prompts. Rows are padded with 0.

    Tokens are in the language's own order of digits. Where the model writes the other one (``endian="little"``),
    log-probabilities stay in the order in which it wrote: ``log_probs[n, m]`` is that of
    ``cadmus_gym.forms.reverse_digits(tokens)[n, m]``.
    """

    tokens: Tokens  # (N, M) uint8, `end` included
    lengths: NDArray[np.int32]  # (N,)
    log_probs: NDArray[np.float32]  # (N, M), of the distribution drawn from: under the mask, at the temperature
    raw_log_probs: NDArray[np.float32] | None  # (N, M), of the model itself: no mask, temperature 1; on request
    programs: Tokens  # (N, L) uint8, prompt and completion
    prompt_lengths: NDArray[np.int32]  # (N,)


def complete(
    model: Transformer,
    prompts: ArrayLike | Sequence[str | ArrayLike],
    *,
    prompt_lengths: ArrayLike | None = None,
    form: str = "value",
    words: tuple[str, ...] = (),
    max_tokens: int = 64,
    thought_tokens: int | None = None,
    temperature: float = 0.0,
    seed: int = 0,
    batch_size: int = 256,
    endian: str | None = None,
    raw: bool = False,
    report: Callable[[int, int], None] | None = None,
) -> Completions:
    """Let a model complete prompts.

    prompts: (N, L) uint8 padded with 0, or a sequence of N texts or token arrays, in the language's own order of
        digits and without `<bos>`.
    prompt_lengths: (N,), for prompts given as one array; by default a prompt ends at its last token that is not 0.
    form, words: what a completion may look like; see `cadmus_gym.forms`.
    max_tokens: of a completion, thoughts and `end` included. Every form but "free" keeps enough of it to finish.
    thought_tokens: at most that many of them in thoughts, parentheses included. None: all that can be spared.
    temperature: 0 takes the likeliest allowed token, and reports log-probabilities at temperature 1.
    seed: with the same seed a row draws the same random numbers whatever the batch; row and step are hashed with it.
    batch_size: how many rows are computed at once; changes results by rounding only.
    endian: the order of digits the model reads and writes; by default its own, ``model.endian``.
    raw: return ``raw_log_probs`` too.
    report: called with (done, total) prompts after each batch.

    Raises ValueError for prompts that are none or that the form cannot finish, for what does not fit the model's
    context, and for any other argument out of range.
    """
    rows, lengths = _rows(prompts, prompt_lengths)
    endian = model.endian if endian is None else endian
    longest, context = int(lengths.max(initial=0)), model.config.context
    if longest >= context:
        raise ValueError(
            f"prompt {lengths.argmax()} has {longest} tokens; allowed: below {context}, the model's context"
        )
    if not 1 <= max_tokens <= context - longest:
        spare = f"1 to {context - longest}, what prompts of up to {longest} tokens leave of the context of {context}"
        raise ValueError(f"max_tokens = {max_tokens}; allowed: {spare}")
    if not 0.0 <= temperature < math.inf:
        raise ValueError(f"temperature = {temperature}; allowed: 0 (greedy) or a finite number above")
    if not 0 <= seed < 2**63:
        raise ValueError(f"seed = {seed}; allowed: 0 to 2**63 - 1")
    if batch_size < 1:
        raise ValueError(f"batch_size = {batch_size}; allowed: 1 or more")
    thoughts = max_tokens if thought_tokens is None else thought_tokens
    if thoughts < 0:
        raise ValueError(f"thought_tokens = {thoughts}; allowed: 0 or more, or None")
    automata = Automata(form, rows, lengths, max_tokens=max_tokens, thought_tokens=thoughts, words=words, endian=endian)
    shown = reverse_digits(rows) if endian == "little" else rows
    tokens = np.zeros((len(rows), max_tokens), np.uint8)
    log_probs, raw_log_probs = np.zeros((2, *tokens.shape), np.float32)
    spent = np.zeros(len(rows), np.int32)
    order = np.argsort(lengths, kind="stable")  # rows of a length go together, to waste little on padding
    for start in range(0, len(rows), batch_size):
        batch = order[start : start + batch_size]
        some = copy.copy(automata)
        some.select(batch)
        uniforms = np.zeros((batch.size, max_tokens))
        if temperature > 0:
            fill_uniforms(seed, batch, uniforms)
        tokens[batch], log_probs[batch], raw_log_probs[batch], spent[batch] = _complete_batch(
            model, shown[batch], lengths[batch], some, temperature, uniforms, raw
        )
        if report is not None:
            report(start + batch.size, len(rows))
    written = np.arange(spent.max(initial=0)) < spent[:, None]  # (N, M), M of the longest
    longest = written.shape[1]
    tokens, log_probs, raw_log_probs = tokens[:, :longest], log_probs[:, :longest], raw_log_probs[:, :longest]
    if endian == "little":
        tokens = reverse_digits(tokens)
    programs = np.zeros((len(rows), int((lengths + spent).max(initial=0))), np.uint8)
    programs[:, : rows.shape[1]] = rows[:, : programs.shape[1]]
    row, column = np.nonzero(written)
    programs[row, lengths[row] + column] = tokens[row, column]
    return Completions(tokens, spent, log_probs, raw_log_probs if raw else None, programs, lengths)


@torch.inference_mode()
def _complete_batch(
    model: Transformer,
    shown: Tokens,
    lengths: NDArray[np.int32],
    automata: Automata,
    temperature: float,
    uniforms: NDArray[np.float64],
    raw: bool,
) -> tuple[Tokens, NDArray[np.float32], NDArray[np.float32], NDArray[np.int32]]:
    """Complete prompts (B, L) as the model sees them: tokens, log-probabilities, raw ones (B, M), lengths (B,)."""
    rows, max_tokens = uniforms.shape
    tokens = np.zeros(uniforms.shape, np.uint8)
    log_probs, raw_log_probs = np.zeros((2, *uniforms.shape), np.float32)
    spent = np.zeros(rows, np.int32)
    cache = _read_prompts(model, shown, lengths)
    device = cache.positions.device
    last = torch.from_numpy(lengths).to(device, torch.int64)  # position of the last token; that of `<bos>` is 0
    following = with_bos(torch.from_numpy(shown).to(device)).gather(1, last[:, None])[:, 0]

    held = np.arange(rows)  # the rows in the cache
    ended = np.zeros(rows, np.bool_)  # which of those have ended; they are given `<pad>` until they are dropped
    allowed = automata.mask()
    for step in range(max_tokens):
        if cache.length == cache.positions.shape[1]:
            cache.grow(cache.length + SLOTS)
        hidden = model.hidden(following[:, None], last[:, None], cache)[:, 0]
        allowed[ended] = np.arange(allowed.shape[1]) == PAD
        drawn = _draw(model.logits(hidden).float(), allowed, temperature, uniforms[held, step])
        chosen, *scores = (x.cpu().numpy() for x in drawn)
        at = held[~ended]
        tokens[at, step], spent[at] = chosen[~ended], step + 1
        log_probs[at, step], raw_log_probs[at, step] = (score[~ended] for score in scores)
        automata.push(chosen)
        allowed = automata.mask()
        ended |= automata.done
        if not raw and not ended.all():
            # Where nothing but `end` is allowed its log-probability is 0, and the model need not be asked.
            forced = ~ended & allowed[:, END] & (allowed.sum(1) == 1)
            tokens[held[forced], step + 1], spent[held[forced]] = END, step + 2
            ended |= forced
        running = np.flatnonzero(~ended)
        if running.size == 0:
            break
        following, room = drawn[0], -(-running.size // ROWS) * ROWS
        if room < held.size:
            # What runs behind the room moves into the places of what has ended before it; the others stay.
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
    """Return a cache of prompts (B, L) in order of their lengths (B,), all but the last token of each (or `<bos>`)."""
    # A prompt that repeats the one before it (several completions are wanted) is read once.
    fresh = np.append(True, (shown[1:] != shown[:-1]).any(1) | (lengths[1:] != lengths[:-1]))
    device, few = model.embed_tokens.weight.device, lengths[fresh]
    longest = int(few[-1])
    prompts = with_bos(torch.from_numpy(shown[fresh]).to(device))
    cache = Cache(model, len(prompts), max(LEAST_SLOTS, -(-(longest + 1) // SLOTS) * SLOTS))
    for start in range(0, len(prompts), PROMPTS):
        stop = min(start + PROMPTS, len(prompts))
        if (length := int(few[stop - 1])) > 0:
            model.hidden(prompts[start:stop, :length], cache=cache.part(start, stop), wanted=False)
    cache.length = longest
    # What stands behind a prompt was read by no token of it, and from here on by none at all.
    cache.positions.masked_fill_(cache.positions >= torch.from_numpy(few).to(device)[:, None], -1)
    if len(prompts) < len(shown):
        source = torch.from_numpy(np.cumsum(fresh) - 1).to(device)
        return cache.copied(source)
    return cache


def _draw(
    logits: Tensor, allowed: NDArray[np.bool_], temperature: float, uniforms: NDArray[np.float64]
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw a token for each row of logits (B, 65): return it, its log-probability and its raw one, (B,) each."""
    masked = logits.masked_fill(~torch.from_numpy(allowed).to(logits.device), -math.inf)
    if temperature > 0:
        # The largest is moved to 0 first, so that no temperature is too small.
        log_probs = ((masked - masked.amax(1, keepdim=True)) / temperature).log_softmax(1)
        # Inverse of the cumulative distribution, in float64, where 32 random bits cannot round up to the total: the
        # first token at which it exceeds the draw has a probability above 0.
        cumulative = log_probs.double().exp().cumsum(1)
        draws = torch.from_numpy(uniforms).to(logits.device)[:, None] * cumulative[:, -1:]
        tokens = (cumulative <= draws).sum(1)
    else:
        log_probs = masked.log_softmax(1)
        tokens = masked.argmax(1)
    at = tokens[:, None]
    return tokens, log_probs.gather(1, at)[:, 0], logits.log_softmax(1).gather(1, at)[:, 0]


@kernel
def fill_uniforms(seed: Int, rows: Ints, uniforms: NDArray[np.float64]) -> None:
    """Fill (B, M) with numbers from 0 up to 1, each a function of (seed, row, step) alone."""
    for k in range(rows.size):
        word = join(np.uint64(seed), np.uint64(rows[k]))
        for step in range(uniforms.shape[1]):
            uniforms[k, step] = (join(word, np.uint64(step)) >> np.uint64(32)) * 2.0**-32


def _rows(
    prompts: ArrayLike | Sequence[str | ArrayLike], lengths: ArrayLike | None
) -> tuple[Tokens, NDArray[np.int32]]:
    """Return prompts as rows (N, L) uint8 padded with 0, and their lengths (N,)."""
    if isinstance(prompts, str):
        raise ValueError("prompts is one text; allowed: a sequence of them")
    if isinstance(prompts, np.ndarray):
        rows = check_ids(prompts)
        if rows.ndim != 2:
            raise ValueError(f"prompts have shape {rows.shape}; allowed: (N, L), or a sequence of texts or arrays")
        used = np.where(rows != PAD, np.arange(1, rows.shape[1] + 1), 0).max(axis=1, initial=0)
        ends = np.asarray(used if lengths is None else lengths)
        if ends.shape != used.shape or not np.issubdtype(ends.dtype, np.integer):
            raise ValueError(f"prompt_lengths: {ends.dtype} of shape {ends.shape}; allowed: integers, {used.shape}")
        if ((ends < 0) | (ends > rows.shape[1])).any():
            raise ValueError(f"prompt_lengths run from {ends.min()} to {ends.max()}; allowed: 0 to {rows.shape[1]}")
        rows[np.arange(rows.shape[1]) >= ends[:, None]] = PAD
    else:
        if lengths is not None:
            raise ValueError("prompt_lengths go with prompts in one array; those of a sequence have their own")
        programs = [as_tokens(prompt) for prompt in prompts]  # type: ignore[union-attr]
        ends = np.array([program.size for program in programs], np.int32)
        rows = np.zeros((len(programs), ends.max(initial=0)), np.uint8)
        for row, program in zip(rows, programs, strict=True):
            row[: program.size] = program
    if rows.size and (starts := rows[:, 0] == BOS).any():
        raise ValueError(f"prompt {starts.argmax()} starts with <bos>; prompts start at their first real token")
    return rows, ends.astype(np.int32)
