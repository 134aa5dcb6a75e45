"""The vector environment: many episodes, one kernel call per step."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from numpy.typing import ArrayLike, NDArray

from cadmus_gym.arguments import check_seed
from cadmus_gym.environments.episodes import END_INFO, Episodes, State, as_prompts
from cadmus_gym.environments.rendering import frame, text
from cadmus_gym.environments.single import CadmusEnv, Info, TokenSpace, check_options, check_render_mode
from cadmus_gym.language.isa import VOCABULARY, Ints, Tokens
from cadmus_gym.streams.loading import load_spec
from cadmus_gym.streams.spec import Spec


class CadmusVectorEnv(gymnasium.vector.VectorEnv[Tokens, Ints, NDArray[Any]]):
    """``num_envs`` environments like `CadmusEnv`, with Gymnasium's three autoreset modes.

    Reset with seed s, sub-environment k equals `CadmusEnv` reset with seed s + k, step by step. So choose seeds for
    different studies further apart than the number of sub-environments. Infos are those of Gymnasium's SyncVectorEnv,
    except that ``info["action_mask"]`` has the masks of all rows even if only some were reset. ``autoreset_mode`` is a
    `gymnasium.vector.AutoresetMode` or its value. With ``copy=False`` the next step overwrites the observations. The
    other arguments are those of `CadmusEnv`.
    """

    metadata: dict[str, Any] = dict(CadmusEnv.metadata)  # noqa: RUF012 (Gymnasium's)

    def __init__(
        self,
        num_envs: int = 1,
        spec: str | Path | Spec = "Cadmus-Arith-v0",
        *,
        split: str = "train",
        endian: str = "big",
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        copy: bool = True,
        render_mode: str | None = None,
        **overrides: Any,
    ) -> None:
        if isinstance(num_envs, bool) or not isinstance(num_envs, int) or num_envs < 1:
            raise ValueError(f"num_envs = {num_envs!r}: give an integer from 1")
        check_render_mode(render_mode)
        modes = [mode.value for mode in AutoresetMode]
        if not isinstance(autoreset_mode, AutoresetMode) and autoreset_mode not in modes:
            raise ValueError(f"autoreset_mode = {autoreset_mode!r}: known are {', '.join(modes)}")
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {**CadmusEnv.metadata, "autoreset_mode": self.autoreset_mode}
        self.num_envs, self.copy, self.render_mode = num_envs, copy, render_mode
        self.episodes = Episodes(load_spec(spec, **overrides), split, num_envs, endian)
        self.single_action_space = gymnasium.spaces.Discrete(len(VOCABULARY))
        self.single_observation_space = TokenSpace(self.episodes.room, endian)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self._all = np.arange(num_envs)
        self._none = np.zeros(num_envs, np.bool_)

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Tokens, Info]:
        """Begin episodes in all sub-environments, or in those of ``options["reset_mask"]`` (N,) bool.

        ``seed`` is one integer (k gets seed + k) or a list. ``options["prompt"]`` is one prompt for all, or a list with
        one for each sub-environment that is reset. Raises ValueError for invalid arguments, and then changes nothing.
        """
        options = check_options(options, ("prompt", "reset_mask"))
        rows = self._reset_rows(options.get("reset_mask"))
        seeds = self._seeds(seed)
        prompt = options.get("prompt")
        prompts = None if prompt is None else self.episodes.given(as_prompts(prompt, rows.size))
        super().reset(seed=int(seed) if isinstance(seed, (int, np.integer)) else None)
        seeded = np.array([row for row in rows if seeds[row] is not None], np.int64)
        self.episodes.seed(seeded, [seeds[row] for row in seeded])
        unseeded = rows[self.episodes.seeds[rows] < 0]
        self.episodes.seed(unseeded, self.np_random.integers(2**62, size=unseeded.size))
        self.episodes.begin(rows, prompts)
        info: Info = {}
        begun = self._none.copy()
        begun[rows] = True
        self._add(info, "action_mask", self.episodes.masks, begun)
        self._show()
        return self._observations(), info

    def _reset_rows(self, mask: Any) -> Ints:
        if mask is None:
            return self._all
        mask = np.asarray(mask)
        if mask.shape != (self.num_envs,) or mask.dtype != np.bool_ or not mask.any():
            raise ValueError(f"reset_mask: give a bool array of shape ({self.num_envs},) with at least one True")
        return np.flatnonzero(mask)

    def _seeds(self, seed: int | Sequence[int | None] | None) -> list[int | None]:
        """Return a seed for each sub-environment, or None to continue its stream."""
        if seed is None or isinstance(seed, (int, np.integer)):
            first = None if seed is None else check_seed(seed)
            return [None if first is None else check_seed(first + k) for k in range(self.num_envs)]
        listed = isinstance(seed, Sequence) and not isinstance(seed, (str, bytes))
        if not listed and not (isinstance(seed, np.ndarray) and seed.ndim == 1):
            raise ValueError(f"seed = {seed!r}: give an integer, or a list with one for each sub-environment")
        if len(seed) != self.num_envs:
            raise ValueError(f"{len(seed)} seeds for {self.num_envs} sub-environments: give one, or one for each")
        return [None if one is None else check_seed(one) for one in seed]

    def step(
        self, actions: ArrayLike
    ) -> tuple[Tokens, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], Info]:
        """Take one token, (N,) of any integer dtype, in each sub-environment."""
        episodes = self.episodes
        tokens = np.asarray(actions)
        if tokens.shape != (self.num_envs,) or tokens.dtype.kind not in "iu":
            raise ValueError(
                f"actions of shape {tokens.shape} and dtype {tokens.dtype}: give token ids of shape ({self.num_envs},)"
            )
        if tokens.min() < 0 or tokens.max() >= len(VOCABULARY):
            raise ValueError(f"actions from {tokens.min()} to {tokens.max()}: token ids are 0..{len(VOCABULARY) - 1}")
        idle = episodes.over
        if idle.any() and (self.autoreset_mode != AutoresetMode.NEXT_STEP or (episodes.seeds < 0).any()):
            raise gymnasium.error.ResetNeeded("an episode is over (or none has begun): call reset()")
        ended = episodes.step(np.ascontiguousarray(tokens, np.int64), idle)
        over = episodes.over & ~idle
        info: Info = {}
        if self.autoreset_mode == AutoresetMode.NEXT_STEP:
            begun = np.flatnonzero(idle)
            if begun.size:
                episodes.begin(begun)
            if ended:
                self._add_ends(info, over)
        elif self.autoreset_mode == AutoresetMode.SAME_STEP and ended:
            self._finish(info, over)
        elif ended:
            self._add_ends(info, over)
        self._add(info, "action_mask", episodes.masks, ~self._none)
        self._show()
        return self._observations(), episodes.rewards, episodes.terminated, episodes.truncated, info

    def _finish(self, info: Info, over: NDArray[np.bool_]) -> None:
        """Report how episodes ended, and begin the next ones in their rows."""
        rows = np.flatnonzero(over)
        final = np.full(self.num_envs, None, dtype=object)
        for row, tokens in zip(rows, self.episodes.tokens[rows], strict=True):
            final[row] = tokens
        self._add(info, "final_obs", final, over)
        last: Info = {}
        masks = np.zeros((self.num_envs, len(VOCABULARY)), np.int8)
        masks[rows] = self.episodes.masks[rows]
        self._add(last, "action_mask", masks, over.copy())
        self._add_ends(last, over)
        self._add(info, "final_info", last, over.copy())
        self.episodes.begin(rows)

    def _add_ends(self, info: Info, over: NDArray[np.bool_]) -> None:
        for k, (key, kind) in enumerate(END_INFO.items()):
            self._add(info, key, self.episodes.ends[k].astype(kind), over.copy())

    @staticmethod
    def _add(info: Info, key: str, values: Any, rows: NDArray[np.bool_]) -> None:
        info[key], info[f"_{key}"] = values, rows

    def action_masks(self) -> NDArray[np.bool_]:
        """Which tokens may come next, (N, 65) bool."""
        return self.episodes.masks.astype(np.bool_)

    def state(self, rows: ArrayLike | None = None) -> State:
        """A snapshot of the episodes of all sub-environments, or of some by index (n,)."""
        return self.episodes.state(self._rows(rows))

    def restore(self, state: State, rows: ArrayLike | None = None) -> tuple[Tokens, Info]:
        """Resume the episodes of a state in some or all sub-environments; return what `reset` would for all.

        Raises ValueError for a state of another environment and for one that was edited, and then changes nothing.
        """
        self.episodes.restore(state, self._rows(rows))
        info: Info = {}
        self._add(info, "action_mask", self.episodes.masks, ~self._none)
        return self._observations(), info

    def _rows(self, rows: ArrayLike | None) -> Ints:
        if rows is None:
            return self._all
        chosen = np.atleast_1d(np.asarray(rows))
        if chosen.ndim != 1 or chosen.dtype.kind not in "iu" or not np.isin(chosen, self._all).all():
            raise ValueError(f"rows {rows!r}: give indices of sub-environments, 0..{self.num_envs - 1}")
        return chosen.astype(np.int64)

    def render(self) -> tuple[Any, ...] | None:
        if self.render_mode == "ansi":
            return tuple(text(self.episodes, row) for row in range(self.num_envs))
        if self.render_mode == "rgb_array":
            return tuple(frame(self.episodes, row) for row in range(self.num_envs))
        return None

    def _show(self) -> None:
        if self.render_mode == "human":
            print("\n".join(text(self.episodes, row) for row in range(self.num_envs)), flush=True)

    def _observations(self) -> Tokens:
        return self.episodes.tokens.copy() if self.copy else self.episodes.tokens
