"""Our vector environment as SB3's VecEnv against DummyVecEnv, and the transformer as SB3's policy against itself."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.wrappers import TimeLimit
from hypothesis import given
from hypothesis import strategies as st
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.evaluation import evaluate_policy
from sb3_contrib.common.maskable.utils import get_action_masks
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnvWrapper, VecFrameStack, VecMonitor, VecNormalize

import cadmus_gym as cg
from cadmus_gym.environments.episodes import END_INFO
from cadmus_gym.evaluation.completing import complete
from cadmus_gym.language import isa as op
from cadmus_gym.language.forms import Automata, reverse_digits
from cadmus_gym.rl.sb3 import (
    SPARE,
    CadmusVecEnv,
    SequenceRolloutBuffer,
    TransformerPolicy,
    agent_state,
    lengths_of,
    restore_agent,
    shared_prefixes,
)
from cadmus_gym.training.batches import plan_chunks
from cadmus_gym.transformer.cache import Cache
from cadmus_gym.transformer.checkpoint import save_model
from cadmus_gym.transformer.model import ModelConfig, Transformer

TINY = ModelConfig(width=32, layers=2, heads=2, hidden=64, context=128)
# `0 eq end` is right three times in four: what anything that learns must learn in seconds.
EASY: dict[str, Any] = {
    "operands": [0, 1],
    "operators": {"mul": 1},
    "operations": {"1": 1},
    "thoughts": {"share": 0.0},
    "episode": {"max_tokens": 14, "thought_tokens": 0},
}
EASY_SPEC = cg.load_spec("Cadmus-Arith-v0", **EASY)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def model() -> Transformer:
    """Weights that differ in what they say of different programs."""
    model = Transformer(TINY, seed=1)
    model.endian = "little"
    with torch.no_grad():
        model.embed_tokens.weight.mul_(20)
    return model


@pytest.fixture(scope="module")
def folder(model: Transformer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_model(model, folder)
    return folder


def make(spec: str = "Cadmus-Arith-v0", count: int = 5, **keywords: Any) -> CadmusVecEnv:
    return CadmusVecEnv(cg.CadmusVectorEnv(count, spec, autoreset_mode="SameStep", **keywords))


def make_agent(env: CadmusVecEnv, model: Any = TINY, **keywords: Any) -> MaskablePPO:
    settings: dict[str, Any] = {
        "n_steps": 32,
        "batch_size": 64,
        "n_epochs": 2,
        "gamma": 1.0,
        "seed": 3,
        "device": "cpu",
    }
    settings |= {"policy_kwargs": {"model": model}, "rollout_buffer_class": SequenceRolloutBuffer}
    agent = MaskablePPO(TransformerPolicy, env, **{**settings, **keywords})
    agent.set_logger(Logger(None, []))
    return agent


def learn(agent: MaskablePPO, rollouts: int) -> None:
    agent.learn(rollouts * agent.n_steps * agent.n_envs, reset_num_timesteps=False)


def choose(masks: np.ndarray, rng: np.random.Generator, illegal: float = 0.0) -> np.ndarray:
    """Draw a token for each row of masks (N, 65), now and then an illegal one."""
    legal = (rng.random(masks.shape) * masks).argmax(1)
    return np.where(rng.random(len(masks)) < illegal, rng.integers(0, 65, len(masks)), legal)


# ---------------------------------------------------------------------------------------------- the environment


@pytest.mark.parametrize(
    ("spec", "overrides"),
    [
        ("Cadmus-Arith-v0", {"endian": "little", "split": "wide"}),
        ("Cadmus-Compare-v0", {}),
        ("Cadmus-Open-v0", {"episode": {"max_tokens": 7, "thought_tokens": 4}, "thoughts": {"share": 0.0}}),
    ],
)
def test_steps_are_those_of_dummy_vec_env(spec: str, overrides: dict[str, Any]) -> None:
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


def test_prompts_come_by_options_and_leave_the_streams_as_they_are() -> None:
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
        [{"prompt": "1 dup"}, {"prompt": object()}, {}, {}, {}],
        [{}, {"prompt": "1 end"}, {}, {}, {}],
        [{"prompt": ["1 dup", "2 dup"]}, {}, {}, {}, {}],
        [{}, "prompt", {}, {}, {}],
        [{}, {}, {}],
    ],
    ids=repr,
)
def test_a_reset_that_raises_changes_nothing(options: Any) -> None:
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


def test_episodes_that_were_changed_are_not_restored() -> None:
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
def test_bad_actions_are_a_value_error(actions: Any) -> None:
    ours = make()
    ours.reset()
    with pytest.raises(ValueError, match="token ids"):
        ours.step(actions)


def test_infos_may_be_written_into() -> None:
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


def test_an_environment_that_does_not_fit_is_refused() -> None:
    for keywords in ({}, {"autoreset_mode": "Disabled"}, {"autoreset_mode": "SameStep", "copy": False}):
        with pytest.raises(ValueError, match="make the environment with autoreset_mode='SameStep' and copy=True"):
            CadmusVecEnv(cg.CadmusVectorEnv(2, **keywords))


# ---------------------------------------------------------------------------------------------- the policy


def test_its_log_probabilities_are_those_of_complete(model: Transformer, folder: Path) -> None:
    env = make(count=30, endian="little")
    policy = make_agent(env, folder).policy
    spec = cg.load_spec("Cadmus-Arith-v0")
    prompts, lengths = cg.Stream(spec, "train").gather(np.arange(30), np.zeros(30, np.int64))
    prompts[np.arange(prompts.shape[1]) >= lengths[:, None]] = op.PAD
    done = complete(model, prompts, prompt_lengths=lengths, spec=spec, temperature=1.0, seed=5)
    automata = Automata(spec.rules, prompts, lengths, "little")
    written = reverse_digits(done.tokens)
    rows = np.zeros((30, env.observation_space.shape[0]), np.uint8)
    rows[:, : prompts.shape[1]] = reverse_digits(prompts)
    compared = 0
    for step in range(written.shape[1]):
        going = np.flatnonzero(done.lengths > step)
        observations, masks = torch.from_numpy(rows[going]), automata.mask()[going]
        tokens = torch.from_numpy(written[going, step].astype(np.int64))
        # in a rollout, in training, and as SB3 hands observations over elsewhere
        with torch.no_grad():
            of_rollout = policy.get_distribution(observations, masks).log_prob(tokens)
        values, of_training, entropy = policy.evaluate_actions(observations.float(), tokens, torch.from_numpy(masks))
        for log_probs in (of_rollout, of_training.detach()):
            np.testing.assert_allclose(log_probs.numpy(), done.log_probs[going, step], atol=1e-4)
        assert values.shape == (going.size, 1)
        assert not values.detach().any()  # the value head starts at 0
        assert entropy is not None
        assert entropy.shape == (going.size,)
        compared += going.size
        automata.push(written[:, step].astype(np.int64))
        rows[going, lengths[going] + step] = written[going, step]
    assert compared > 150
    assert np.unique(done.log_probs.round(3)).size > 100


def test_greedy_play_in_the_environment_is_what_complete_writes(folder: Path) -> None:
    env = make(EASY_SPEC, count=40, endian="little")
    agent = make_agent(env, folder)
    env.seed(11)
    rewards, _ = evaluate_policy(agent, env, n_eval_episodes=40, return_episode_rewards=True)
    prompts, lengths = cg.Stream(EASY_SPEC, "train").gather(np.arange(11, 51), np.zeros(40, np.int64))
    prompts[np.arange(prompts.shape[1]) >= lengths[:, None]] = op.PAD
    done = complete(agent.policy.transformer, prompts, prompt_lengths=lengths, spec=EASY_SPEC)
    true = cg.run_batch(done.programs)[0] == cg.Verdict.TRUE
    assert sum(rewards) == true.sum()


class Poisoned(Cache):
    """A cache whose slots hold something else before they are used."""

    def __init__(self, config: ModelConfig, rows: int, slots: int, like: torch.Tensor) -> None:
        super().__init__(config, rows, slots, like)
        for store in (*self.keys, *self.values):
            store.fill_(10.0)


def check_followed(policy: TransformerPolicy, observations: np.ndarray) -> None:
    with torch.no_grad():
        followed = policy.reader.follow(torch.from_numpy(observations))
        for row, hidden in zip(observations, followed, strict=True):
            alone = torch.tensor([[op.BOS, *row[row != op.PAD].tolist()]])
            torch.testing.assert_close(policy.transformer.hidden(alone)[0, -1], hidden, atol=1e-4, rtol=1e-4)


def test_followed_rows_are_read_as_rows_alone_are(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cadmus_gym.transformer.model.Cache", Poisoned)
    env = make(count=9, endian="little")
    policy = make_agent(env, folder).policy
    rng = np.random.default_rng(0)
    env.seed(0)
    observations = env.reset()
    for length in (2, 3, 4, 5):  # rows are short at first, then one much longer begins and goes on
        short = np.where(np.arange(observations.shape[1]) < length, observations, np.uint8(op.PAD))
        short[0, : {4: 40, 5: 41}.get(length, length)] = 7
        short[1, 1:length] = length  # one token longer, but not the row before
        check_followed(policy, short)
    for step in range(3 * SPARE):
        check_followed(policy, observations)
        if step % 25 == 24:  # another call in between, of rows that continue nothing
            check_followed(policy, rng.permutation(observations))
        masks = get_action_masks(env)
        masks[:3, cg.encode("end")] &= masks[:3].sum(1, keepdims=True) == 1  # some episodes grow long
        observations, _, _, _ = env.step(choose(masks, rng))


def test_followed_rows_are_read_anew_when_weights_have_changed(folder: Path) -> None:
    env = make(endian="little")
    policy = make_agent(env, folder).policy
    observations = torch.from_numpy(env.reset())
    with torch.no_grad():
        before = policy.reader.follow(observations)
        observations[torch.arange(5), lengths_of(observations.numpy())] = 1
    for change in (
        lambda: policy.optimizer.step(),
        lambda: policy.load_state_dict({name: 1.1 * one for name, one in policy.state_dict().items()}),
        lambda: policy.load_from_vector(0.9 * policy.parameters_to_vector()),
    ):
        for weight in policy.parameters():
            weight.grad = torch.ones_like(weight)
        change()
        observations[torch.arange(5), lengths_of(observations.numpy())] = 2
        followed = policy.reader.follow(observations)
        torch.testing.assert_close(followed, policy.reader(observations).detach(), atol=1e-5, rtol=1e-4)
    assert not torch.allclose(before, followed)


def test_many_rows_of_unequal_lengths_are_read_in_their_order(folder: Path) -> None:
    policy = make_agent(make(endian="little"), folder).policy
    rng = np.random.default_rng(0)
    rows = np.zeros((600, policy.observation_space.shape[0]), np.uint8)
    for row in rows:
        length = rng.integers(0, 12) if rng.random() < 0.9 else rng.integers(60, 98)
        row[:length] = rng.integers(1, 4 if length < 12 else 65, length)
    assert len(plan_chunks(np.sort(lengths_of(rows)), len(rows))) > 3
    with torch.no_grad():
        together = policy.reader(torch.from_numpy(rows))
        for row, hidden in zip(rows, together, strict=True):
            alone = policy.transformer.hidden(torch.tensor([[op.BOS, *row[row != op.PAD].tolist()]]))[0, -1]
            torch.testing.assert_close(hidden, alone, atol=1e-4, rtol=1e-4)


@given(st.lists(st.lists(st.integers(0, 2), max_size=6), min_size=1, max_size=12))
def test_each_row_begins_the_one_that_stands_for_it(programs: list[list[int]]) -> None:
    rows = np.array([program + [0] * (7 - len(program)) for program in programs], np.uint8)
    lengths = lengths_of(rows)
    chosen, where = shared_prefixes(rows, lengths)
    assert np.array_equal(lengths[chosen], np.sort(lengths[chosen]))
    for row, length, place in zip(rows, lengths, where, strict=True):
        assert np.array_equal(rows[chosen[place], :length], row[:length])
        assert not row[length:].any()
    distinct = {bytes(row[:length]) for row, length in zip(rows, lengths, strict=True)}
    longest = [one for one in distinct if not any(other != one and other.startswith(one) for other in distinct)]
    assert sorted(bytes(rows[k, : lengths[k]]) for k in chosen) == sorted(longest)


def test_gradients_are_those_of_rows_alone(folder: Path) -> None:
    env = make(count=4, endian="little")
    policy = make_agent(env, folder).policy
    rng = np.random.default_rng(0)
    rows, actions, masks = [env.reset()], [], []
    for _ in range(20):
        masks.append(get_action_masks(env))
        actions.append(choose(masks[-1], rng))
        rows.append(env.step(actions[-1])[0])
    observations = torch.from_numpy(np.concatenate(rows[:-1]))
    tokens, allowed = torch.from_numpy(np.concatenate(actions)), torch.from_numpy(np.concatenate(masks))
    torch.nn.init.normal_(policy.value_net.weight)
    gradients = []
    for together in (True, False):
        policy.optimizer.zero_grad()
        size = len(observations) if together else 1
        for part in zip(observations.split(size), tokens.split(size), allowed.split(size), strict=True):
            values, log_probs, _ = policy.evaluate_actions(*part)
            (values.sum() + log_probs.sum()).backward()
        gradients.append(torch.cat([weight.grad.flatten() for weight in policy.parameters()]))
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-3, atol=1e-3 * float(gradients[1].abs().max()))


def test_an_untrained_policy_never_ends_an_episode_illegally() -> None:
    env = make("Cadmus-Compare-v0", count=64)
    agent = make_agent(env)
    observations, ended = env.reset(), 0
    for _ in range(100):
        actions, _ = agent.predict(observations, action_masks=get_action_masks(env))
        observations, _, _, infos = env.step(actions)
        ends = [info for info in infos if info]
        assert not any(info["illegal"] for info in ends)
        ended += len(ends)
    assert ended > 500


def test_under_free_an_observation_ends_before_trailing_pads(folder: Path) -> None:
    env = make("Cadmus-Open-v0", endian="little")
    policy = make_agent(env, folder).policy
    observations = env.reset()
    shown = env.step(np.full(5, op.PAD))[0]
    np.testing.assert_array_equal(shown, observations)
    inside = env.step(np.full(5, 1))[0]  # `<pad>` in the middle is a token like others
    assert not np.array_equal(inside[0, : lengths_of(observations)[0]], inside[0])
    assert (lengths_of(inside) == lengths_of(observations) + 2).all()
    with torch.no_grad():
        read = policy.reader.follow(torch.from_numpy(inside))
        alone = policy.transformer.hidden(torch.tensor([[op.BOS, *inside[0, : lengths_of(inside)[0]].tolist()]]))[0, -1]
    torch.testing.assert_close(read[0], alone, atol=1e-5, rtol=1e-4)


def test_a_policy_knows_its_model_and_survives_a_file(folder: Path, tmp_path: Path) -> None:
    env = make(endian="little")
    policy = make_agent(env, folder).policy
    assert policy.transformer.endian == "little"
    policy.save(str(tmp_path / "policy.pt"))
    again = TransformerPolicy.load(str(tmp_path / "policy.pt"), device="cpu")
    assert again.transformer.endian == "little"
    for name, weight in policy.state_dict().items():
        assert torch.equal(again.state_dict()[name], weight)
    full = torch.ones((1, env.observation_space.shape[0]))
    fits = ModelConfig(width=32, layers=1, heads=2, hidden=64, context=100)
    assert make_agent(env, fits).policy.get_distribution(full).mode().shape == (1,)
    small = ModelConfig(width=32, layers=1, heads=2, hidden=64, context=99)
    with pytest.raises(ValueError, match="observations and `<bos>` take 100 positions, the model has 99"):
        make_agent(env, small)


class Scaled(VecEnvWrapper):
    """Observations from 0 to 1."""

    def __init__(self, env: CadmusVecEnv) -> None:
        super().__init__(env, gym.spaces.Box(0, 1, env.observation_space.shape, np.float32))

    def reset(self) -> np.ndarray:
        return self.venv.reset() / np.float32(64)

    def step_wait(self) -> Any:
        observations, *rest = self.venv.step_wait()
        return observations / np.float32(64), *rest


@pytest.mark.parametrize("wrapper", [Scaled, lambda env: VecFrameStack(env, 2), lambda env: VecFrameStack(env, 1)])
def test_a_wrapper_that_changes_the_observations_is_refused(wrapper: Any, folder: Path) -> None:
    wide = ModelConfig(width=32, layers=1, heads=2, hidden=64, context=1024)
    with pytest.raises(ValueError, match=r"reads tokens, the TokenSpace of a Cadmus environment, not Box\(0"):
        make_agent(wrapper(make()), wide)


def test_normalised_observations_are_refused() -> None:
    agent = make_agent(VecNormalize(make(EASY_SPEC)))
    with pytest.raises(ValueError, match=r"not token ids, whole numbers 0\.\.64: remove the wrapper"):
        learn(agent, 1)
    learn(make_agent(VecNormalize(make(EASY_SPEC), norm_obs=False), n_steps=2, batch_size=10), 1)


@pytest.mark.parametrize("value", [0.5, 65.0, -1.0, 256.0, np.nan, np.inf, 1e9])
def test_observations_that_are_not_tokens_are_refused(value: float) -> None:
    policy = make_agent(make()).policy
    rows = torch.zeros((2, policy.observation_space.shape[0]))
    rows[:, :3] = 64.0
    for dtype in (torch.float32, torch.float64, torch.uint8, torch.int64):
        policy.get_distribution(rows.to(dtype))
    rows[1, 2] = value
    for read in (policy.get_distribution, policy.predict_values):
        with pytest.raises(ValueError, match="not token ids"), torch.no_grad():
            read(rows)
    with pytest.raises(ValueError, match="not token ids"):
        policy.evaluate_actions(rows, torch.zeros(2, dtype=torch.int64))


def test_an_environment_in_the_other_order_of_digits_is_refused(folder: Path, tmp_path: Path) -> None:
    little, big = make(endian="little"), make(endian="big")
    with pytest.raises(ValueError, match="digits in the order 'little', the environment in 'big': give the env"):
        make_agent(big, folder)
    with pytest.raises(ValueError, match="digits in the order 'big', the environment in 'little'"):
        make_agent(little, policy_kwargs={"model": TINY, "endian": "big"})
    assert make_agent(little).policy.transformer.endian == "little"  # fresh weights take the environment's
    agent = make_agent(little, folder)
    with pytest.raises(ValueError, match="Observation spaces do not match"):
        agent.set_env(big)
    agent.save(tmp_path / "agent")
    with pytest.raises(ValueError, match="Observation spaces do not match"):
        MaskablePPO.load(tmp_path / "agent", env=big, device="cpu")
    again = MaskablePPO.load(tmp_path / "agent", env=make(endian="little"), device="cpu")
    assert again.policy.transformer.endian == "little"
    alone = MaskablePPO.load(tmp_path / "agent", device="cpu")
    with pytest.raises(ValueError, match="Observation spaces do not match"):
        alone.set_env(big)
    alone.set_env(make(endian="little"))


# ---------------------------------------------------------------------------------------------- learning


def test_minibatches_hold_whole_stretches_and_each_step_once() -> None:
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


def test_it_learns() -> None:
    env = make(EASY_SPEC, count=64)
    agent = make_agent(env, n_steps=16, batch_size=256, n_epochs=1, learning_rate=3e-3, stats_window_size=500)
    learn(agent, 2)
    before = np.mean(agent.ep_success_buffer)
    learn(agent, 16)
    assert before < 0.2
    assert np.mean(agent.ep_success_buffer) > 0.6


def test_what_is_saved_goes_on_to_the_bit() -> None:
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
