"""Results belong to the caller: nothing returned changes later, and writing to it changes nothing."""

from __future__ import annotations

import copy
from itertools import combinations
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray
from support.episodes import each_id, each_mode, equal, scribble

import cadmus_gym as cg
from cadmus_gym.language.isa import ID


def frozen(result: Any) -> Any:
    return copy.deepcopy(result)


@each_id
@each_mode
def test_returned_results_never_change_later(id: str, mode: AutoresetMode) -> None:
    vector = cg.CadmusVectorEnv(4, id, autoreset_mode=mode)
    given: list[Any] = [vector.reset(seed=0)]
    kept = [frozen(given[0])]
    chooser = np.random.default_rng(0)

    def keep(result: Any) -> None:
        given.append(result)
        kept.append(frozen(result))

    for turn in range(60):
        keep(vector.step(chooser.integers(65, size=4)))
        over = given[-1][2] | given[-1][3]
        if mode == AutoresetMode.DISABLED and over.any():
            keep(vector.reset(options={"reset_mask": over}))
        if turn % 10 == 3:
            keep(vector.state())
            keep(vector.restore(given[-1], [0, 1, 2, 3]))
            keep(vector.restore(vector.state([2]), [1]))
            keep(vector.action_masks())
            if mode == AutoresetMode.DISABLED:
                keep(vector.reset())
    equal(
        [vars(one) if isinstance(one, cg.State) else one for one in given],
        [vars(one) if isinstance(one, cg.State) else one for one in kept],
    )


def arrays_of(result: Any) -> list[NDArray[Any]]:
    """All arrays in a result, at any depth."""
    if isinstance(result, dict):
        return arrays_of(list(result.values()))
    if isinstance(result, np.ndarray) and result.dtype != object:
        return [result]
    if isinstance(result, (tuple, list, np.ndarray)):
        return [array for part in result for array in arrays_of(part)]
    return []


@each_id
@each_mode
def test_writing_to_vector_results_changes_nothing(id: str, mode: AutoresetMode) -> None:
    one, other = (cg.CadmusVectorEnv(4, id, autoreset_mode=mode) for _ in range(2))
    equal(one.reset(seed=0), other.reset(seed=0))
    chooser = np.random.default_rng(0)
    for _ in range(60):
        actions = chooser.integers(65, size=4)
        result, expected = one.step(actions), other.step(actions)
        equal(result, expected)
        over = expected[2] | expected[3]
        given = arrays_of(result)
        assert not any(np.shares_memory(left, right) for left, right in combinations(given, 2))
        for part in (result, one.state(), one.action_masks()):
            scribble(part)
        equal(one.action_masks(), other.action_masks())
        if mode == AutoresetMode.DISABLED and over.any():
            again = one.reset(options={"reset_mask": over})
            equal(again, other.reset(options={"reset_mask": over}))
            scribble(again)


@each_id
def test_writing_to_results_changes_nothing(id: str) -> None:
    one, other = cg.CadmusEnv(id), cg.CadmusEnv(id)
    result = one.reset(seed=0)
    equal(result, other.reset(seed=0))
    chooser = np.random.default_rng(0)
    for _ in range(60):
        scribble(result)
        scribble(one.action_masks())
        scribble(one.state())
        token = int(chooser.choice(np.flatnonzero(other.action_masks())))
        result, expected = one.step(token), other.step(token)
        equal(result, expected)
        if expected[2] or expected[3]:
            result, expected = one.reset(), other.reset()
            equal(result, expected)


def test_a_given_prompt_is_copied() -> None:
    prompt = cg.encode("1 2 , 7 add")
    environment = cg.CadmusEnv("Cadmus-Arith-v0")
    environment.reset(options={"prompt": prompt})
    environment.step(ID["1"])
    np.testing.assert_array_equal(prompt, cg.encode("1 2 , 7 add"))
    prompt[:] = 0
    assert cg.decode(environment.step(ID["9"])[0][:5]) == "1 2 , 7 add"


def test_without_copies_observations_share_one_buffer() -> None:
    vector, reference = (cg.CadmusVectorEnv(3, "Cadmus-Arith-v0", copy=copies) for copies in (False, True))
    first, _ = vector.reset(seed=0)
    reference.reset(seed=0)
    for _ in range(30):
        actions = reference.action_masks().argmax(axis=1)
        result, expected = vector.step(actions), reference.step(actions)
        equal(result, expected)
        assert np.shares_memory(result[0], first)
        assert not np.shares_memory(expected[0], reference.step(actions)[0])
        vector.step(actions)
