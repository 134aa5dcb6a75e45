"""Stable-Baselines3: the vector environment, and training with it."""

from __future__ import annotations

import io
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.wrappers import TimeLimit
from sb3_contrib.common.maskable.utils import get_action_masks
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor
from support.sb3 import EASY_SPEC, choose, learn, make, make_agent

import cadmus_gym as cg
from cadmus_gym.environments.episodes import END_INFO
from cadmus_gym.rl.sb3 import (
    CadmusVecEnv,
    agent_state,
    restore_agent,
)


@pytest.mark.parametrize(
    ("spec", "overrides"),
    [
        ("Cadmus-Arith-v0", {"endian": "little", "split": "wide"}),
        ("Cadmus-Compare-v0", {}),
        ("Cadmus-Open-v0", {"episode": {"max_tokens": 7, "thought_tokens": 4}, "thoughts": {"share": 0.0}}),
    ],
)
def test_steps_equal_those_of_dummy_vec_env(spec: str, overrides: dict[str, Any]) -> None:
    ours = make(spec, **overrides)
    theirs = DummyVecEnv([lambda: Monitor(gym.make(spec, **overrides)) for _ in range(5)])
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    rng = np.random.default_rng(0)
    seen = dict.fromkeys(("ended", "truncated", "true", "illegal"), 0)
    for seed in (7, 7, 100):  # once in the middle of episodes
        ours.seed(seed)
        theirs.seed(seed)
        left, right = ours.reset(), theirs.reset()
        assert left.dtype == np.uint8
        np.testing.assert_array_equal(left, right)
        check_reset_infos(ours, theirs)
        for _ in range(150):
            masks = get_action_masks(ours)
            assert masks.dtype == np.bool_
            np.testing.assert_array_equal(masks, get_action_masks(theirs))
            actions = choose(masks, rng, illegal=0.03)
            left, left_rewards, left_dones, left_infos = ours.step(actions)
            right, right_rewards, right_dones, right_infos = theirs.step(actions)
            np.testing.assert_array_equal(left, right)
            assert left_rewards.dtype == right_rewards.dtype == np.float32
            np.testing.assert_array_equal(left_rewards, right_rewards)
            np.testing.assert_array_equal(left_dones, right_dones)
            for done, one, other in zip(left_dones, left_infos, right_infos, strict=True):
                if not done:
                    assert one == {}
                    continue
                assert one.keys() == other.keys()
                assert one["episode"]["t"] >= 0
                assert {k: one["episode"][k] for k in "rl"} == {k: other["episode"][k] for k in "rl"}
                for key in ("terminal_observation", "action_mask"):
                    np.testing.assert_array_equal(one[key], other[key])
                for key in (*END_INFO, "TimeLimit.truncated"):
                    assert one[key] == other[key]
                    assert type(one[key]) is type(other[key])
                seen["ended"] += 1
                seen["truncated"] += one["TimeLimit.truncated"]
                seen["true"] += one["is_success"]
                seen["illegal"] += one["illegal"]
            check_reset_infos(ours, theirs)
    assert seen["ended"] > 100
    assert seen["illegal"] > 10 or spec == "Cadmus-Open-v0"
    assert (seen["truncated"] > 10) == (spec == "Cadmus-Open-v0")
    assert seen["true"] > 10 or spec != "Cadmus-Compare-v0"


def check_reset_infos(ours: CadmusVecEnv, theirs: DummyVecEnv) -> None:
    for one, other in zip(ours.reset_infos, theirs.reset_infos, strict=True):
        assert one.keys() == other.keys() == {"action_mask"}
        np.testing.assert_array_equal(one["action_mask"], other["action_mask"])


def test_prompts_from_options_do_not_advance_the_streams() -> None:
    ours, theirs = make(), DummyVecEnv([lambda: gym.make("Cadmus-Arith-v0") for _ in range(5)])
    for options in ({"prompt": "7 2 add"}, [{"prompt": "1 2 mul"}, {}, {}, {"prompt": "3 4 sub 5"}, {}]):
        for env in (ours, theirs):
            env.seed(4)
            env.set_options(options)
        np.testing.assert_array_equal(ours.reset(), theirs.reset())
        check_reset_infos(ours, theirs)
        rng = np.random.default_rng(1)
        for _ in range(60):
            actions = choose(get_action_masks(ours), rng)
            np.testing.assert_array_equal(ours.step(actions)[0], theirs.step(actions)[0])
            check_reset_infos(ours, theirs)


@pytest.mark.parametrize(
    "options",
    [
        {"promt": "1 dup"},
        {"prompt": "fi"},
        {"prompt": 5},
        [{"prompt": "1 dup"}, {"prompt": object}, {}, {}, {}],
        [{}, {"prompt": "1 end"}, {}, {}, {}],
        [{"prompt": ["1 dup", "2 dup"]}, {}, {}, {}, {}],
        [{}, "prompt", {}, {}, {}],
        [{}, {}, {}],
    ],
    ids=repr,
)
def test_a_failed_reset_changes_nothing(options: Any) -> None:
    ours = make()
    ours.reset()
    before = ours.state()
    ours.seed(7)
    ours.set_options(options)
    with pytest.raises(ValueError, match=r"."):
        ours.reset()
    after = ours.state()
    for name, tensor in before.items():
        assert torch.equal(after[name], tensor), name


def test_modified_state_is_not_restored() -> None:
    ours = make()
    ours.reset()
    ours.step(choose(get_action_masks(ours), np.random.default_rng(0)))
    state = ours.state()
    ours.reset()
    before = ours.state()
    assert not torch.equal(before["tokens"], state["tokens"])
    others = [None, {}, {**state, "more": state["over"]}, {key: state[key] for key in state if key != "played"}]
    others += [{**state, name: tensor[:3]} for name, tensor in state.items()]
    others += [{**state, name: tensor.to(torch.float16)} for name, tensor in state.items()]
    others += [{**state, "lengths": state["lengths"] + 1}, {**state, "tokens": state["tokens"] + 65}]
    for other in others:
        with pytest.raises(ValueError, match=r"cannot be restored|returns and played"):
            ours.restore(other)
        for name, tensor in before.items():
            assert torch.equal(ours.state()[name], tensor), name
    observations = ours.restore(state)
    np.testing.assert_array_equal(observations, state["tokens"].numpy())
    ours.step(choose(get_action_masks(ours), np.random.default_rng(0)))
    assert torch.equal(state["played"], torch.ones(5, dtype=torch.int64))  # it is a copy


@pytest.mark.parametrize("actions", [[1.5] * 5, [65] * 5, [1] * 4, None, "1", [True] * 5, [np.nan] * 5], ids=repr)
def test_invalid_actions_raise_value_error(actions: Any) -> None:
    ours = make()
    ours.reset()
    with pytest.raises(ValueError, match="token ids"):
        ours.step(actions)


def test_infos_are_separate_dicts() -> None:
    env = make()
    env.reset()
    infos = env.step(choose(get_action_masks(env), np.random.default_rng(0)))[3]
    infos[0]["mine"] = 1
    assert infos[1] == {}
    again = env.step(choose(get_action_masks(env), np.random.default_rng(0)))[3]
    assert "mine" not in again[0]


def test_attributes_and_methods_of_sub_environments() -> None:
    env = make(render_mode="rgb_array")
    env.seed(0)
    env.reset()
    assert env.get_attr("spec", [1, 2]) == [None, None]
    assert env.get_attr("action_space", 0) == [env.action_space]
    assert env.has_attr("action_masks")
    assert not env.has_attr("nothing")
    masks = env.env_method("action_masks")
    assert len(masks) == 5
    np.testing.assert_array_equal(env.env_method("action_masks", indices=[3])[0], masks[3])
    np.testing.assert_array_equal(env.get_attr("action_masks")[3](), masks[3])
    assert [len(state) for state in env.env_method("state", indices=[0, 4])] == [1, 1]
    with pytest.raises(AttributeError, match="no method 'reset' of one sub-environment; known: action_masks"):
        env.env_method("reset")
    env.set_attr("mine", 3)
    assert env.get_attr("mine") == [3] * 5
    with pytest.raises(ValueError, match="set it for all"):
        env.set_attr("mine", 4, [0])
    assert env.env_is_wrapped(Monitor) == [True] * 5
    assert env.env_is_wrapped(TimeLimit, [0]) == [False]
    with pytest.warns(UserWarning, match="already wrapped with a `Monitor`"):
        VecMonitor(env)
    picture = env.render()
    assert picture is not None
    assert picture.ndim == 3
    assert [image.shape for image in env.get_images()] == [env.get_images()[0].shape] * 5
    env.close()
    assert "program" in make(render_mode="ansi").env_method("render")[0]


def test_environment_longer_than_the_context_is_rejected() -> None:
    for keywords in ({}, {"autoreset_mode": "Disabled"}, {"autoreset_mode": "SameStep", "copy": False}):
        with pytest.raises(ValueError, match="SB3 needs an environment with autoreset_mode='SameStep' and copy=True"):
            CadmusVecEnv(cg.CadmusVectorEnv(2, **keywords))


def test_minibatches_have_whole_rows_and_each_step_once() -> None:
    agent = make_agent(make(count=6), n_steps=8, batch_size=16)
    learn(agent, 1)
    buffer = agent.rollout_buffer
    buffer.log_probs = np.arange(48, dtype=np.float32).reshape(48, 1)  # sub-environment by sub-environment
    drawn = [[batch.old_log_prob.numpy() for batch in buffer.get(16)] for _ in range(5)]
    for epoch in drawn:
        assert [len(batch) for batch in epoch] == [16, 16, 16]
        assert np.array_equal(np.sort(np.concatenate(epoch)), np.arange(48))
        stretches = np.concatenate(epoch).reshape(6, 8)
        assert (stretches == stretches[:, :1] + np.arange(8)).all()
        assert (stretches[:, 0] % 8 == 0).all()
    assert len({np.concatenate(epoch).tobytes() for epoch in drawn}) > 1
    assert len(list(buffer.get(None))) == 1


def test_ppo_learns() -> None:
    env = make(EASY_SPEC, count=64)
    agent = make_agent(env, n_steps=16, batch_size=256, n_epochs=1, learning_rate=3e-3, stats_window_size=500)
    learn(agent, 2)
    before = np.mean(agent.ep_success_buffer)
    learn(agent, 16)
    assert before < 0.2
    assert np.mean(agent.ep_success_buffer) > 0.6


def test_a_restored_agent_continues_bit_by_bit() -> None:
    whole = make_agent(make(EASY_SPEC, count=32))
    learn(whole, 2)
    file = io.BytesIO()
    torch.save(agent_state(whole), file)
    between = whole.policy.parameters_to_vector()
    learn(whole, 2)
    file.seek(0)
    resumed = make_agent(make(EASY_SPEC, count=32))
    restore_agent(resumed, torch.load(file, weights_only=True))
    learn(resumed, 2)
    assert resumed.num_timesteps == whole.num_timesteps
    for one, other in zip(whole.policy.parameters(), resumed.policy.parameters(), strict=True):
        assert torch.equal(one, other)
    np.testing.assert_array_equal(whole._last_obs, resumed._last_obs)
    assert not np.allclose(between, whole.policy.parameters_to_vector(), atol=1e-6)
