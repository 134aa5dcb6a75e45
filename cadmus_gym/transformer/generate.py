"""Completions from a model: batched, constrained by a form, with their log-probabilities.

Many rows are computed by `cadmus_gym.transformer.batched`, a few by `cadmus_gym.transformer.decoding`. Either way the
log-probabilities agree, to float tolerance, with a full forward pass over the finished program, whatever else was in
the batch.
"""

from __future__ import annotations

import copy
import functools
import numbers
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cadmus_gym.arguments import check_seed, check_whole
from cadmus_gym.language import isa as op
from cadmus_gym.language.forms import Automata, Rules, reverse_digits
from cadmus_gym.language.hashing import join
from cadmus_gym.language.isa import Int, Ints, Tokens
from cadmus_gym.language.kernels import kernel
from cadmus_gym.language.notation import as_tokens, check_ids
from cadmus_gym.progress import Report
from cadmus_gym.transformer.decoding import Decoder, decoder_of

if TYPE_CHECKING:
    from cadmus_gym.transformer.model import Transformer

COLDEST, HOTTEST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Completions:
    """N completions of at most M tokens, in the order of their prompts. Rows are padded with 0.

    Tokens are in the language's own order of digits. Log-probabilities are in the model's: with ``endian="little"``,
    ``log_probs[n, m]`` belongs to ``cadmus_gym.language.forms.reverse_digits(tokens)[n, m]``.
    """

    tokens: Tokens  # (N, M) uint8, `end` included
    lengths: NDArray[np.int32]  # (N,)
    log_probs: NDArray[np.float32]  # (N, M), of the sampling distribution: masked, at the temperature
    raw_log_probs: NDArray[np.float32] | None  # (N, M), of the model: no mask, temperature 1; only with raw=True
    programs: Tokens  # (N, L) uint8, prompt and completion
    prompt_lengths: NDArray[np.int32]  # (N,)


def generate(
    model: Transformer | Decoder,
    prompts: ArrayLike | Sequence[str | ArrayLike],
    rules: Rules,
    *,
    prompt_lengths: ArrayLike | None = None,
    temperature: float = 0.0,
    seed: int = 0,
    batch_size: int = 256,
    endian: str | None = None,
    raw: bool = False,
    report: Report | None = None,
) -> Completions:
    """Complete prompts under these rules. The other arguments are those of `cadmus_gym.complete`.

    Raises ValueError for prompts that are invalid, cannot be finished under the rules or exceed the model's context,
    and for other arguments out of range; FloatingPointError for logits that are not finite.
    """
    rows, lengths = _rows(prompts, prompt_lengths)
    endian = model.endian if endian is None else endian
    max_tokens, thoughts = rules.max_tokens, rules.thought_tokens
    check_whole(max_tokens=max_tokens, thought_tokens=thoughts, batch_size=batch_size)
    temperature, seed = check_temperature(temperature), check_seed(seed)
    longest, context = int(lengths.max(initial=0)), model.config.context
    if longest >= context:
        raise ValueError(
            f"prompt {lengths.argmax()} has {longest} tokens; allowed: below {context}, the model's context"
        )
    if not 1 <= max_tokens <= context - longest:
        spare = f"1 to {context - longest}, what prompts of {longest} tokens leave of the context of {context}"
        raise ValueError(f"max_tokens = {max_tokens}; allowed: {spare}")
    if temperature > 0:  # float32 must be able to divide by it
        temperature = min(max(temperature, COLDEST), HOTTEST)
    if batch_size < 1:
        raise ValueError(f"batch_size = {batch_size}; allowed: 1 or more")
    if thoughts < 0:
        raise ValueError(f"thought_tokens = {thoughts}; allowed: 0 or more, or None")
    max_tokens = int(max_tokens)
    thoughts = min(int(thoughts), max_tokens + 1)  # more cannot be used
    rules = replace(rules, max_tokens=max_tokens, thought_tokens=thoughts)
    automata = Automata(rules, rows, lengths, endian)
    if endian == "little":
        automata.check_literals(rows, lengths)
    shown = reverse_digits(rows) if endian == "little" else rows
    tokens = np.zeros((len(rows), max_tokens), np.uint8)
    log_probs, raw_log_probs = np.zeros((2, *tokens.shape), np.float32)
    spent = np.zeros(len(rows), np.int32)
    complete_batch = _completer(model, min(len(rows), batch_size))
    order = np.argsort(lengths, kind="stable")  # batches of similar lengths need little padding
    for start in range(0, len(rows), batch_size):
        batch = order[start : start + batch_size]
        some = copy.copy(automata)
        some.select(batch)
        uniforms = np.zeros((batch.size, max_tokens))
        if temperature > 0:
            fill_uniforms(seed, batch, uniforms)
        tokens[batch], log_probs[batch], raw_log_probs[batch], spent[batch] = complete_batch(
            shown[batch], lengths[batch], some, temperature, uniforms, bool(raw)
        )
        if (broken := batch[spent[batch] < 0]).size:
            raise not_finite(model, int(broken.min()), int(-1 - spent[broken.min()]))
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


def check_temperature(temperature: object) -> float:
    """Return a temperature as a float. Raises ValueError unless it is finite and at least 0."""
    number = isinstance(temperature, numbers.Real) and not isinstance(temperature, bool)
    if not number or not 0 <= cast(float, temperature) <= sys.float_info.max:
        raise ValueError(f"temperature = {temperature!r}; allowed: 0 (greedy) or a finite number above")
    return float(cast(float, temperature))


def _completer(model: Transformer | Decoder, rows: int) -> Callable[..., Any]:
    """Return the function that completes a batch of this many rows."""
    if (decoder := decoder_of(model, rows)) is not None:
        return decoder.complete
    from cadmus_gym.transformer.batched import complete_batch

    assert not isinstance(model, Decoder)
    return functools.partial(complete_batch, model)


def logits_of(model: Transformer | Decoder, programs: Tokens) -> NDArray[np.float32]:
    """Return the logits that predict each token of programs (B, L) in the model's order of digits, (B, L, 65)."""
    if (decoder := decoder_of(model, len(programs))) is not None:
        return decoder.logits(programs)
    from cadmus_gym.transformer.batched import batch_logits

    assert not isinstance(model, Decoder)
    return batch_logits(model, programs)


def not_finite(model: Transformer | Decoder, prompt: int, step: int) -> FloatingPointError:
    """Return the error for logits that are not finite after a prompt and some tokens of its completion."""
    dtype, found = "float32", ""
    if not isinstance(model, Decoder):
        dtype = str(model.embed_tokens.weight.dtype).removeprefix("torch.")
        found = next((name for name, weight in model.named_parameters() if not weight.isfinite().all()), "")
    cause, cure = f"they overflow in {dtype}, or a hook changed them", "compute in another type, such as torch.float32"
    if found:
        cause, cure = f"{found} has weights that are NaN or infinite", "load an intact checkpoint"
    return FloatingPointError(
        f"prompt {prompt}: logits at token {step} of its completion are not finite: {cause}; {cure}"
    )


@kernel
def fill_uniforms(seed: Int, rows: Ints, uniforms: NDArray[np.float64]) -> None:
    """Fill (B, M) with uniform numbers in [0, 1), each a function of (seed, row, step) only."""
    for k in range(rows.size):
        word = join(np.uint64(seed), np.uint64(rows[k]))
        for step in range(uniforms.shape[1]):
            uniforms[k, step] = (join(word, np.uint64(step)) >> np.uint64(32)) * 2.0**-32


def _rows(
    prompts: ArrayLike | Sequence[str | ArrayLike], lengths: ArrayLike | None
) -> tuple[Tokens, NDArray[np.int32]]:
    """Return prompts as rows (N, L) uint8 padded with 0, and their lengths (N,)."""
    if isinstance(prompts, str) or not isinstance(prompts, Iterable):
        raise ValueError(f"prompts = {prompts!r}; allowed: a sequence of texts or arrays, or one array (N, L)")
    if isinstance(prompts, np.ndarray):
        rows = check_ids(prompts)
        if rows.ndim != 2:
            raise ValueError(f"prompts have shape {rows.shape}; allowed: (N, L), or a sequence of texts or arrays")
        used = np.where(rows != op.PAD, np.arange(1, rows.shape[1] + 1), 0).max(axis=1, initial=0)
        ends = np.asarray(used if lengths is None else lengths)
        if ends.shape != used.shape or ends.dtype.kind not in "iu":
            raise ValueError(f"prompt_lengths: {ends.dtype} of shape {ends.shape}; allowed: integers, {used.shape}")
        if ((ends < 0) | (ends > rows.shape[1])).any():
            raise ValueError(f"prompt_lengths run from {ends.min()} to {ends.max()}; allowed: 0 to {rows.shape[1]}")
        rows[np.arange(rows.shape[1]) >= ends[:, None]] = op.PAD
    else:
        if lengths is not None:
            raise ValueError("prompt_lengths goes with prompts in one array; those in a sequence have their own")
        programs = [as_tokens(prompt) for prompt in prompts]
        ends = np.array([program.size for program in programs], np.int32)
        rows = np.zeros((len(programs), ends.max(initial=0)), np.uint8)
        for row, program in zip(rows, programs, strict=True):
            row[: program.size] = program
    if rows.size and (starts := rows[:, 0] == op.BOS).any():
        raise ValueError(f"prompt {starts.argmax()} starts with <bos>; prompts start at their first real token")
    return rows, ends.astype(np.int32)
