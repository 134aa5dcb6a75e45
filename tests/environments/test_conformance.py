"""Conformance over the registry: checkers, spaces, specs, pickling and other processes."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env
from gymnasium.utils.env_match import check_environments_match
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from support.episodes import IDS, each_endian, each_id, equal, plays

import cadmus_gym as cg


@each_id
def test_check_env_of_gymnasium_passes_without_warnings(id: str) -> None:
    check_env(gymnasium.make(id).unwrapped)


@each_id
def test_check_env_of_stable_baselines_passes_without_warnings(id: str) -> None:
    checker = pytest.importorskip("stable_baselines3.common.env_checker")
    checker.check_env(gymnasium.make(id).unwrapped)


@each_id
@each_endian
def test_two_environments_with_one_seed_match(id: str, endian: str) -> None:
    one, other = (gymnasium.make(id, endian=endian) for _ in range(2))
    check_environments_match(one, other, num_steps=200, seed=5)


@each_id
def test_every_split_has_the_same_spaces(id: str) -> None:
    shapes = set()
    for split in cg.load_spec(id).splits:
        environment = gymnasium.make(id, split=split)
        assert environment.action_space == gymnasium.spaces.Discrete(65)
        space = environment.observation_space
        assert isinstance(space, gymnasium.spaces.Box)
        assert (space.dtype, space.low.min(), space.high.max()) == (np.uint8, 0, 64)
        shapes.add(space.shape)
        for seed in range(20):
            assert environment.reset(seed=seed)[0] in space
    assert len(shapes) == 1


@each_id
def test_vector_spaces_equal_those_of_sync_vector_env(id: str) -> None:
    vector = gymnasium.make_vec(id, num_envs=3)
    reference = gymnasium.make_vec(id, num_envs=3, vectorization_mode="sync")
    assert vector.num_envs == 3
    assert vector.single_action_space == reference.single_action_space
    assert vector.single_observation_space == reference.single_observation_space
    assert vector.action_space == reference.action_space
    assert vector.observation_space == reference.observation_space
    assert vector.metadata["autoreset_mode"] == AutoresetMode.NEXT_STEP
    observations, _ = vector.reset(seed=1)
    assert observations in vector.observation_space
    actions = vector.action_space.sample()
    assert vector.step(actions)[0] in vector.observation_space


@each_id
def test_make_accepts_an_id_with_the_module_name(id: str) -> None:
    assert isinstance(gymnasium.make(f"cadmus_gym:{id}").unwrapped, cg.CadmusEnv)
    gymnasium.register_envs(cg)


@each_id
def test_an_env_spec_makes_the_same_environment_after_json(id: str) -> None:
    reward = "truth" if cg.load_spec(id).reward == "hidden" else "cases"
    overrides = {"split": "test", "endian": "little", "episode": {"max_tokens": 125}, "reward": reward}
    first = gymnasium.make(id, **overrides)
    assert first.spec is not None
    again = [gymnasium.make(first.spec), gymnasium.make(EnvSpec.from_json(first.spec.to_json()))]
    json.loads(first.spec.to_json())
    for environment in again:
        check_environments_match(first, environment, num_steps=60, seed=3)


@each_id
def test_a_vector_env_spec_makes_the_same_environment_after_json(id: str) -> None:
    first = gymnasium.make_vec(id, num_envs=2, split="test")
    assert first.spec is not None
    for spec in (first.spec, EnvSpec.from_json(first.spec.to_json())):
        again = gymnasium.make_vec(spec, num_envs=2)
        equal(first.reset(seed=4), again.reset(seed=4))


@each_id
def test_a_pickled_environment_resumes(id: str) -> None:
    environment, rest = plays(id, seed=3)
    environment.step(rest[0])
    again = pickle.loads(pickle.dumps(environment))
    for token in rest[1:]:
        equal(again.step(token), environment.step(token))
    equal(again.reset(), environment.reset())


@each_id
def test_a_pickled_vector_environment_resumes(id: str) -> None:
    vector = cg.CadmusVectorEnv(4, id)
    vector.reset(seed=3)
    player = np.random.default_rng(0)
    for _ in range(30):
        vector.step(player.integers(65, size=4))
    for again in (pickle.loads(pickle.dumps(vector)), copy.deepcopy(vector)):
        state, steps = vector.state(), np.random.default_rng(1).integers(65, size=(30, 4))
        expected = [vector.step(actions) for actions in steps]
        equal([again.step(actions) for actions in steps], expected)
        vector.restore(state)


def test_spawned_workers_play_the_same_episodes() -> None:
    """One id suffices, since workers receive a spec like any other process."""
    id = IDS[-1]
    workers = AsyncVectorEnv([lambda: gymnasium.make(f"cadmus_gym:{id}")] * 2, context="spawn")
    try:
        here = SyncVectorEnv([lambda: gymnasium.make(id)] * 2)
        equal(workers.reset(seed=1), here.reset(seed=1))
        for actions in np.random.default_rng(0).integers(65, size=(40, 2)):
            equal(workers.step(actions), here.step(actions))
    finally:
        workers.close()


def test_a_fresh_process_finds_an_id_by_its_module_name() -> None:
    code = "import gymnasium; print(gymnasium.make('cadmus_gym:Cadmus-Arith-v0').reset(seed=1)[0].tolist())"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert json.loads(printed) == cg.CadmusEnv("Cadmus-Arith-v0").reset(seed=1)[0].tolist()


@each_endian
def test_spaces_of_different_endians_are_not_equal(endian: str) -> None:
    space = cg.CadmusEnv(endian=endian).observation_space
    other = cg.CadmusEnv(endian="big" if endian == "little" else "little").observation_space
    plain = gymnasium.spaces.Box(0, 64, space.shape, np.uint8)
    for again in (
        pickle.loads(pickle.dumps(space)),
        copy.deepcopy(space),
        cg.CadmusEnv(endian=endian).observation_space,
    ):
        assert again == space
        assert again != other
        assert repr(again) == f"TokenSpace({space.shape[0]}, endian={endian!r})"
    assert plain == space == plain  # a plain box has no endian
    assert space != gymnasium.spaces.Box(0, 64, (3,), np.uint8)
    assert space != 5
    assert cg.CadmusVectorEnv(2, endian=endian).single_observation_space == space
