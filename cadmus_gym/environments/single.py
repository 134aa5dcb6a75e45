"""The single environment: an agent writes one token per step and is rewarded if its program is true."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeAlias

import gymnasium
import numpy as np
from numpy.typing import NDArray

from cadmus_gym.arguments import check_seed
from cadmus_gym.environments.episodes import Episodes, State, as_prompts
from cadmus_gym.environments.rendering import frame, text
from cadmus_gym.language import isa as op
from cadmus_gym.language.isa import VOCABULARY, Tokens
from cadmus_gym.streams.loading import load_spec
from cadmus_gym.streams.spec import Spec

Info: TypeAlias = dict[str, Any]
_ROW = np.zeros(1, np.int64)
_PLAYING = np.zeros(1, np.bool_)


class TokenSpace(gymnasium.spaces.Box):
    """Rows of ``length`` tokens, (L,) uint8, with digits in the order of ``endian``.

    Unlike plain boxes, spaces of different endians are not equal, so an agent trained under one is rejected by an
    environment of the other. A plain Box of the same shape has no endian and equals both.
    """

    def __init__(self, length: int, endian: str) -> None:
        super().__init__(op.PAD, len(VOCABULARY) - 1, (length,), np.uint8)
        self.endian = endian

    def __eq__(self, other: object) -> bool:
        return super().__eq__(other) and getattr(other, "endian", self.endian) == self.endian

    def __repr__(self) -> str:
        return f"TokenSpace({self.shape[0]}, endian={self.endian!r})"


def as_action(action: Any) -> int:
    """Return an action as int, or raise ValueError unless it is a token id."""
    value = action.item() if isinstance(action, (np.ndarray, np.generic)) and np.size(action) == 1 else action
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < len(VOCABULARY):
        raise ValueError(f"action {action!r}: an action is a token id, an integer 0..{len(VOCABULARY) - 1}")
    return value


class CadmusEnv(gymnasium.Env[Tokens, int]):
    """Write a true program, token by token.

    ## Description
    An episode begins with a prompt, the beginning of a true program drawn from a split of the spec. The agent writes
    the rest. At `end` the program is executed, and the reward is 1 if it is true.

    ## Action Space
    ``Discrete(65)``: the token to write. A token outside the form of a completion ends the episode with reward 0 and
    ``info["illegal"]``. Anything but a token id is a ValueError.

    ## Observation Space
    ``Box(0, 64, (L,), uint8)``: the prompt and the tokens written so far, padded with 0. It is a `TokenSpace`, which
    records the endian.

    ## Rewards
    0 until the end of the episode. Then, under ``truth``: 1 for a true program; ``cases``: the share of cases passed;
    ``hidden``: 1 if hidden cases pass too, which the prompt does not show. With ``idle_use = "refused"``, 0 for a
    program that meets a directive `use` with idle words only.

    ## Starting State
    Episode i after ``reset(seed=s)`` has the prompt of program i in the stream of seed s. ``reset(options={"prompt":
    text or token ids})`` begins with that prompt instead, and raises ValueError if no completion of the form fits it.
    A reset that raises changes nothing.

    ## Episode End
    Terminated by `end` or an illegal token. Truncated at the token budget under the form ``free`` only; all other
    forms have masks that leave a way to finish within the budget.

    ## Information
    ``action_mask`` (65,) int8, 1 = allowed, never all 0. After the end it is all 1, since no token is read until the
    next reset. The last step also has ``verdict`` (see `Verdict`), ``passed``, ``cases``, ``is_success`` and
    ``illegal``; and ``visible``, whether the program is true, ``hidden``, whether it is true on its hidden cases too,
    and ``hidden_cases``, their number. This number is 0 for a task without them, for a prompt from the options and for
    a program that is not true; then ``hidden`` equals ``visible``. ``idle_use`` says whether a true program meets a
    directive `use` with idle words only, as in `0 add` (`cadmus_gym.tasks.synthesis.idle`).

    ## Arguments
    ``spec``: a registered id, the path of a TOML file or a `Spec`; ``split``; ``endian``: "big", or "little" to show
    and read every run of digits reversed; ``render_mode``; and any value of the spec, or parameter of its task, by
    name. The error for an unknown name is both a ValueError and a TypeError.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 (Gymnasium's)
        "render_modes": ["ansi", "human", "rgb_array"],
        "render_fps": 4,
    }

    def __init__(
        self,
        spec: str | Path | Spec = "Cadmus-Arith-v0",
        *,
        split: str = "train",
        endian: str = "big",
        render_mode: str | None = None,
        **overrides: Any,
    ) -> None:
        check_render_mode(render_mode)
        self.episodes = Episodes(load_spec(spec, **overrides), split, 1, endian)
        self.action_space = gymnasium.spaces.Discrete(len(VOCABULARY))  # type: ignore[assignment]
        self.observation_space = TokenSpace(self.episodes.room, endian)  # type: ignore[assignment]
        self.render_mode = render_mode

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Tokens, Info]:
        # All arguments are checked before anything changes.
        prompt = check_options(options).get("prompt")
        prompts = None if prompt is None else self.episodes.given(as_prompts(prompt, 1))
        seed = None if seed is None else check_seed(seed)
        super().reset(seed=seed)
        if seed is not None:
            self.episodes.seed(_ROW, [seed])
        elif self.episodes.seeds[0] < 0:
            self.episodes.seed(_ROW, self.np_random.integers(2**62, size=1))
        self.episodes.begin(_ROW, prompts)
        self._show()
        return self._observation(), self._info()

    def step(self, action: int) -> tuple[Tokens, float, bool, bool, Info]:
        if self.episodes.over[0]:
            raise gymnasium.error.ResetNeeded("the episode is over (or none has begun): call reset()")
        self.episodes.step(np.array([as_action(action)], np.int64), _PLAYING)
        terminated, truncated = bool(self.episodes.terminated[0]), bool(self.episodes.truncated[0])
        info = self._info()
        if terminated or truncated:
            info |= self.episodes.end_info(0)
        self._show()
        return self._observation(), float(self.episodes.rewards[0]), terminated, truncated, info

    def action_masks(self) -> NDArray[np.bool_]:
        """Which tokens may come next, (65,) bool, for the maskable algorithms of sb3-contrib."""
        return np.asarray(self.episodes.masks[0], np.bool_)

    def state(self) -> State:
        """A snapshot of the episode."""
        return self.episodes.state(_ROW)

    def restore(self, state: State) -> tuple[Tokens, Info]:
        """Resume an episode; return what `reset` would. Raises ValueError for a state of another environment."""
        self.episodes.restore(state, _ROW)
        return self._observation(), self._info()

    def render(self) -> Any:
        if self.render_mode == "ansi":
            return text(self.episodes, 0)
        if self.render_mode == "rgb_array":
            return frame(self.episodes, 0)
        return None

    def _show(self) -> None:
        if self.render_mode == "human":
            print(text(self.episodes, 0), flush=True)

    def _observation(self) -> Tokens:
        return np.array(self.episodes.tokens[0])

    def _info(self) -> Info:
        return {"action_mask": self.episodes.masks[0]}


def check_render_mode(mode: str | None) -> None:
    if mode is not None and mode not in CadmusEnv.metadata["render_modes"]:
        raise ValueError(f"render_mode {mode!r}: known are {', '.join(CadmusEnv.metadata['render_modes'])}")


def check_options(options: dict[str, Any] | None, known: tuple[str, ...] = ("prompt",)) -> dict[str, Any]:
    options = {} if options is None else options
    if not isinstance(options, dict):
        raise ValueError(f"reset options: expected a dict, not {options!r}; known keys: {', '.join(known)}")
    for key in options:
        if key not in known:
            raise ValueError(f"reset options: unknown key {key!r}; known: {', '.join(known)}")
    return options
