"""What policies of any kind write after prompts, as programs: token by token, as in an environment.

A token that the form does not allow ends a program there, and so does the end of the budget. Whatever a policy emits
has a verdict; only something other than an array of tokens is an error.
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
# From prompts (N, P) uint8, padded with 0, and their lengths (N,) int32 to completions: (N, M) integers padded with 0,
# or a sequence of N arrays (m,). Prompts and completions are in the language's own order of digits.
Policy: TypeAlias = Callable[[Tokens, NDArray[np.int32]], Completed]


@runtime_checkable
class Agent(Protocol):
    """What acts step by step as agents of Stable-Baselines3 do: observations (N, L) uint8 to actions (N,).

    Its ``predict`` is given ``action_masks`` (N, 65) bool where it has an argument of that name.
    """

    def predict(self, observation: Any, *, deterministic: bool = ...) -> tuple[Any, Any]: ...


def put(spec: Spec, split: str, prompts: Tokens, lengths: NDArray[np.int32], completions: Completed) -> Tokens:
    """Write completions after prompts (N, P) of a split: programs (N, L) uint8, each up to what the form forbids.

    Completions are as a `Policy` returns them; ids outside 0..64 are tokens that no form allows. Raises ValueError for
    anything else than (N, M) integers or N arrays (m,) of integers.
    """
    rows = _as_rows(completions, len(prompts))
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
    """Let an agent act after prompts (N, P) of a split; return programs (N, L) uint8.

    It sees what an environment of that ``endian`` shows; by default its transformer's, or "big" where it has none.
    Raises ValueError for an agent of observations of another size or of the other endian, and for actions that are not
    integers (N,).
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
            "spec as it was for training"
        )
    masked = "action_masks" in inspect.signature(agent.predict).parameters
    actions, held = np.zeros(len(prompts), np.int64), np.arange(len(prompts))
    while not episodes.over.all():
        running = ~episodes.over[held]
        if 2 * running.sum() <= held.size:  # not at every step: what a policy keeps of its rows would be lost
            held, running = held[running], running[running]
        options: dict[str, Any] = {}
        if masked:
            masks = episodes.masks[held].astype(np.bool_)
            masks[~running] = True  # what is chosen there is ignored, and a distribution needs something
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
    """Take one token (N,) in each episode that is not over; what is not the id of a token ends one."""
    known = (tokens >= 0) & (tokens < len(VOCABULARY))
    episodes.over = episodes.over | ~known
    episodes.step(np.where(known, tokens, op.PAD).astype(np.int64), episodes.over)


def _as_rows(completions: Completed, count: int) -> Ints:
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
