"""Playing any kind of policy: it completes prompts token by token, as in an environment.

An illegal token ends the program, and so does the end of the budget. Whatever a policy emits has a verdict; anything
other than an array of tokens is an error.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cadmus_gym.environments.episodes import Episodes
from cadmus_gym.language import isa as op
from cadmus_gym.language.forms import reverse_digits
from cadmus_gym.language.isa import VOCABULARY, Ints, Tokens
from cadmus_gym.streams.spec import Spec

Completed: TypeAlias = ArrayLike | Sequence[ArrayLike]
# A policy takes prompts (N, P) uint8, padded with 0, and lengths (N,) int32. It returns completions: (N, M) integers
# padded with 0, or a sequence of N arrays (m,). Prompts and completions are big-endian.
Policy: TypeAlias = Callable[[Tokens, NDArray[np.int32]], Completed]


@runtime_checkable
class Agent(Protocol):
    """An agent that acts step by step, as in Stable-Baselines3: observations (N, L) uint8 to actions (N,).

    Its ``predict`` receives ``action_masks`` (N, 65) bool if it has an argument of that name.
    """

    def predict(self, observation: Any, *, deterministic: bool = ...) -> tuple[Any, Any]: ...


def put(spec: Spec, split: str, prompts: Tokens, lengths: NDArray[np.int32], completions: Completed) -> Tokens:
    """Write completions after prompts (N, P) of a split; return programs (N, L) uint8, cut before any illegal token.

    Completions are as a `Policy` returns them; ids outside 0..64 are illegal under every form. Raises ValueError unless
    they are (N, M) integers or N arrays (m,) of integers.
    """
    rows = as_rows(completions, len(prompts))
    episodes = _begin(spec, split, prompts, lengths, "big")
    for tokens in rows.T:
        if episodes.over.all():
            break
        _step(episodes, tokens)
    return episodes.tokens[: len(prompts)]


def play(
    agent: Agent,
    spec: Spec,
    split: str,
    prompts: Tokens,
    lengths: NDArray[np.int32],
    *,
    endian: str | None = None,
    deterministic: bool = True,
) -> Tokens:
    """Let an agent complete prompts (N, P) of a split; return programs (N, L) uint8.

    The agent sees what an environment of this ``endian`` shows; the default is its transformer's, or "big" without one.
    Raises ValueError if the agent's observations have another size or endian, or its actions are not integers (N,).
    """
    own = getattr(getattr(getattr(agent, "policy", None), "transformer", None), "endian", None)
    if None not in (own, endian) and own != endian:
        raise ValueError(f"endian = {endian!r}: the agent's transformer reads and writes {own!r}")
    endian = endian or own or "big"
    episodes = _begin(spec, split, prompts, lengths, endian)
    space = getattr(agent, "observation_space", None)
    if space is not None and space.shape != (episodes.room,):
        raise ValueError(
            f"the agent's observations have shape {space.shape}, those of {spec.id} {(episodes.room,)}; override the "
            "spec as in training"
        )
    masked = "action_masks" in inspect.signature(agent.predict).parameters
    actions, held = np.zeros(len(prompts), np.int64), np.arange(len(prompts))
    while not episodes.over.all():
        running = ~episodes.over[held]
        if 2 * running.sum() <= held.size:  # seldom, since it discards what a policy caches of its rows
            held, running = held[running], running[running]
        options: dict[str, Any] = {}
        if masked:
            masks = episodes.masks[held].astype(np.bool_)
            masks[~running] = True  # ignored, but a distribution needs an allowed token
            options["action_masks"] = masks
        chosen = np.asarray(agent.predict(episodes.tokens[held], deterministic=deterministic, **options)[0])
        if chosen.shape != held.shape or chosen.dtype.kind not in "iu":
            raise ValueError(f"predict gave {chosen.dtype} of shape {chosen.shape}; allowed: integers, {held.shape}")
        actions[held] = chosen
        _step(episodes, actions)
    return reverse_digits(episodes.tokens) if endian == "little" else episodes.tokens


def _begin(spec: Spec, split: str, prompts: Tokens, lengths: NDArray[np.int32], endian: str) -> Episodes:
    episodes = Episodes(spec, split, max(1, len(prompts)), endian)
    episodes.begin(np.arange(len(prompts)), (prompts, lengths))
    return episodes


def _step(episodes: Episodes, tokens: Ints) -> None:
    """Take one token (N,) in each episode that is not over; an invalid id ends it."""
    known = (tokens >= 0) & (tokens < len(VOCABULARY))
    episodes.over = episodes.over | ~known
    episodes.step(np.where(known, tokens, op.PAD).astype(np.int64), episodes.over)


def as_rows(completions: Completed, count: int) -> Ints:
    """Return completions as rows (N, M) int64 padded with 0."""
    allowed = f"allowed: integers ({count}, M), or {count} arrays (m,) of integers"
    if isinstance(completions, (list, tuple)):
        parts = [np.asarray(one) for one in completions]
        parts = [part.astype(np.int64) if part.size == 0 else part for part in parts]
        for k, part in enumerate(parts):
            if part.ndim != 1 or part.dtype.kind not in "iu":
                raise ValueError(f"completion {k} is {part.dtype} of shape {part.shape}; {allowed}")
        rows = np.zeros((len(parts), max((part.size for part in parts), default=0)), np.int64)
        for row, part in zip(rows, parts, strict=True):
            row[: part.size] = part
    else:
        given = np.asarray(completions)
        if given.ndim != 2 or given.dtype.kind not in "iu":
            raise ValueError(f"completions are {given.dtype} of shape {given.shape}; {allowed}")
        rows = given.astype(np.int64)
    if len(rows) != count:
        raise ValueError(f"{len(rows)} completions for {count} prompts; {allowed}")
    return rows
