"""Rewards for completions that another library has sampled, as token ids.

A completion is played into an environment token by token, so its reward is the one that an agent would get: 0 if it
breaks the form, exceeds the budget or never ends. Rewards are computed from ids, not from text: libraries drop `end`
from text as a special token, and no program is true without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cadmus_gym.environments.episodes import Episodes
from cadmus_gym.language.forms import reverse_digits
from cadmus_gym.language.isa import Tokens
from cadmus_gym.language.notation import as_tokens, assemble, bare
from cadmus_gym.streams.loading import load_spec
from cadmus_gym.streams.spec import Spec


def judge_ids(
    spec: str | Path | Spec,
    prompts: Iterable[str | ArrayLike],
    completion_ids: Iterable[ArrayLike],
    *,
    endian: str,
    split: str = "train",
) -> NDArray[np.float64]:
    """Return the rewards (N,) of completions in an environment of this spec.

    prompts: N texts in the notation for people, or N rows (n,) of ids as the model reads them. `<pad>` at either end
        of a row and `<bos>` in front are ignored.
    completion_ids: N rows (m,) of ids as the model wrote them. What follows `end` is ignored.
    endian: the order of digits in ids, the ``endian`` of a `Transformer`.
    split: its longest prompt is the longest that is allowed; prompts need not be from it.

    Raises ValueError for a prompt that is too long or that no completion of the form can finish, for anything but token
    ids, if there are not as many completions as prompts, for an unknown endian, and as `load_spec` does.
    """
    given = [
        assemble(row) if isinstance(row, str) else _read(row, f"prompt {k}", endian) for k, row in enumerate(prompts)
    ]
    written = [_row(row, f"completion {k}") for k, row in enumerate(completion_ids)]
    if len(written) != len(given):
        raise ValueError(f"{len(written)} completions for {len(given)} prompts")
    episodes, rewards = Episodes(load_spec(spec), split, len(given), endian), np.zeros(len(given))
    sizes = np.array([ids.size for ids in written], np.int64)
    actions = np.zeros((len(given), sizes.max(initial=0)), np.int64)
    for row, ids in zip(actions, written, strict=True):
        row[: ids.size] = ids
    episodes.begin(np.arange(len(given)), episodes.given(given))
    for position in range(actions.shape[1]):
        idle = episodes.over | (sizes <= position)
        if idle.all():
            break
        episodes.step(actions[:, position].copy(), idle)
        rewards += episodes.rewards
    return rewards


def reward_function(spec: str | Path | Spec, *, endian: str, split: str = "train") -> Callable[..., list[float]]:
    """Return a reward function for TRL, which calls `judge_ids` on prompts in the notation for people.

    It takes ``prompts`` and ``completion_ids`` and ignores other arguments. Raises ValueError as `judge_ids` does.
    """
    spec = load_spec(spec)
    judge_ids(spec, [], [], endian=endian, split=split)  # finds a mistake before training starts

    def cadmus_reward(prompts: list[str], completion_ids: list[list[int]], **_: Any) -> list[float]:
        rewards: list[float] = judge_ids(spec, prompts, completion_ids, endian=endian, split=split).tolist()
        return rewards

    return cadmus_reward


def _read(row: ArrayLike, where: str, endian: str) -> Tokens:
    """Return a prompt in the language's own order of digits."""
    ids = bare(_row(row, where))
    return reverse_digits(ids) if endian == "little" else ids


def _row(row: ArrayLike, where: str) -> Tokens:
    try:
        return as_tokens(np.asarray(row))
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
