"""Episodes for tests: players, comparisons of results, and the environments to run through."""

from __future__ import annotations

import contextlib
import copy
import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

import cadmus_gym as cg
from cadmus_gym.environments.episodes import ARRAYS
from cadmus_gym.language import isa as op
from cadmus_gym.language.forms import ENDIANS, reverse_digits

IDS = list(cg.SPECS)
FREE = [id for id in IDS if cg.load_spec(id).form == "free"]
BOUND = [id for id in IDS if id not in FREE]
MODES = [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP, AutoresetMode.DISABLED]
END_KEYS = {"verdict", "passed", "cases", "is_success", "illegal", "visible", "hidden", "hidden_cases", "idle_use"}
each_id = pytest.mark.parametrize("id", IDS)
each_endian = pytest.mark.parametrize("endian", ENDIANS)
each_mode = pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)


def equal(one: Any, other: Any, where: str = "") -> None:
    """Assert that two results of an environment are equal, including keys, types, dtypes and shapes."""
    assert type(one) is type(other), where
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            equal(one[key], other[key], f"{where}/{key}")
    elif isinstance(one, (tuple, list)):
        assert len(one) == len(other), where
        for k, (left, right) in enumerate(zip(one, other, strict=True)):
            equal(left, right, f"{where}[{k}]")
    elif isinstance(one, np.ndarray) and one.dtype == object:
        assert other.dtype == object, where
        equal(list(one), list(other), where)
    elif isinstance(one, np.ndarray):
        assert (one.dtype, one.shape) == (other.dtype, other.shape), where
        np.testing.assert_array_equal(one, other, err_msg=where)
    else:
        assert one == other, where


def reported(result: Any) -> Any:
    """The result of a reset with zeros in the masks of other rows, as SyncVectorEnv returns it."""
    observations, info = result
    return observations, {**info, "action_mask": info["action_mask"] * info["_action_mask"][:, None]}


def tokens_of(text: str, endian: str = "big") -> list[int]:
    tokens = cg.assemble(text)
    return (reverse_digits(tokens) if endian == "little" else tokens).tolist()


@functools.lru_cache(64)
def beginning(spec: str, split: str, seed: int, count: int) -> tuple[NDArray[np.uint8], list[int]]:
    """The first programs of a stream and the lengths of their prompts."""
    programs, lengths = cg.Stream(spec, split, seed=seed).batch(0, count)
    return programs, lengths.tolist()


def completion_of(observation: NDArray[np.uint8], endian: str, seed: int, spec: Any, split: str) -> list[int]:
    """The completion of a prompt in the stream's program, as an agent writes it, found by searching the stream."""
    for count in (1, 40, 700):  # most tests play few of them, and none plays more
        for program, length in zip(*beginning(spec, split, seed, count), strict=True):
            shown = reverse_digits(program) if endian == "little" else program
            if (shown[:length] == observation[:length]).all() and not observation[length:].any():
                return shown[length:][program[length:] > 0].tolist()
    raise AssertionError("a prompt that is not of the stream")


class Player:
    """Plays episodes side by side: true completions, legal tokens that end soon or late, sometimes any token."""

    def __init__(
        self, id: str, count: int, seed: int, endian: str, mode: AutoresetMode = AutoresetMode.NEXT_STEP
    ) -> None:
        self.chooser = np.random.default_rng(seed)
        self.mode, self.ignored = mode, np.zeros(count, np.bool_)
        self.id, self.seed, self.endian = id, seed, endian
        self.scripts: list[list[int] | None] = [None] * count
        self.fresh, self.lingers = [True] * count, [False] * count

    def choose(self, observations: NDArray[np.uint8], masks: NDArray[np.int8]) -> NDArray[np.int64]:
        return np.array([self._choose(k, *row) for k, row in enumerate(zip(observations, masks, strict=True))])

    def _choose(self, row: int, observation: NDArray[np.uint8], mask: NDArray[np.int8]) -> int:
        if self.ignored[row]:
            return int(self.chooser.integers(65))
        if self.fresh[row]:
            self.fresh[row] = False
            right, self.lingers[row] = self.chooser.random(2) < 0.5
            seed = self.seed + row
            self.scripts[row] = completion_of(observation, self.endian, seed, self.id, "train") if right else None
        script = self.scripts[row]
        if script:
            return script.pop(0)
        if self.chooser.random() < 0.02:
            return int(self.chooser.integers(65))
        legal = np.flatnonzero(mask)
        if self.lingers[row] and legal.size > 1:
            legal = legal[legal != op.END]
        elif op.END in legal and self.chooser.random() < 0.5:
            return op.END
        return int(self.chooser.choice(legal))

    def ended(self, over: NDArray[np.bool_]) -> None:
        self.ignored = over & (self.mode == AutoresetMode.NEXT_STEP)
        for row in np.flatnonzero(over):
            self.fresh[row] = True


def plays(id: str, split: str = "train", seed: int = 0, endian: str = "big") -> tuple[cg.CadmusEnv, list[int]]:
    """An environment at the start of an episode, and the tokens that end it well."""
    environment = cg.CadmusEnv(id, split=split, endian=endian)
    observation, _ = environment.reset(seed=seed)
    return environment, completion_of(observation, endian, seed, id, split)


def finish(environment: cg.CadmusEnv, prompt: str, completion: str) -> tuple[float, bool, bool, dict[str, Any]]:
    environment.reset(options={"prompt": prompt})
    result: Any = None
    for token in tokens_of(completion):
        result = environment.step(token)
    return result[1:]


BLOCK_WORDS = (
    "1",
    "2",
    ",",
    "add",
    "dup",
    "if",
    "else",
    "fi",
    "times",
    "next",
    "i",
    "begin",
    "until",
    "def",
    "ret",
    "call",
)


def words_spec(words: tuple[str, ...] = BLOCK_WORDS, max_tokens: int = 14) -> cg.Spec:
    """A spec of arithmetic prompts completed under the form `words`, with blocks."""
    thoughts = {"share": 0.0, "style": "none"}
    episode = {"max_tokens": max_tokens, "thought_tokens": 5}
    return cg.load_spec("Cadmus-Arith-v0", form="words", words=list(words), episode=episode, thoughts=thoughts)


@contextlib.contextmanager
def unchanged(environment: Any) -> Iterator[None]:
    """Assert that the block leaves an environment unchanged, including its random numbers."""
    before, rng = environment.state(), copy.deepcopy(environment.np_random.bit_generator.state)
    yield
    equal(vars(environment.state()), vars(before))
    assert environment.np_random.bit_generator.state == rng


def scribble(result: Any) -> None:
    """Overwrite every array of a result."""
    if isinstance(result, dict):
        result = list(result.values())
    if isinstance(result, (tuple, list)):
        for part in result:
            scribble(part)
    elif isinstance(result, cg.State):
        for name in ARRAYS:
            with pytest.raises(ValueError, match="read-only"):
                getattr(result, name)[...] = 7
    elif isinstance(result, np.ndarray) and result.dtype == object:
        scribble(list(result))
    elif isinstance(result, np.ndarray):
        result[...] = 7
