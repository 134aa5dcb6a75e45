"""Stable-Baselines3: the transformer as policy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.evaluation import evaluate_policy
from sb3_contrib.common.maskable.utils import get_action_masks
from stable_baselines3.common.vec_env import VecEnvWrapper, VecFrameStack, VecNormalize
from support.sb3 import EASY_SPEC, TINY, choose, learn, make, make_agent

import cadmus_gym as cg
from cadmus_gym.evaluation.completing import complete
from cadmus_gym.language import isa as op
from cadmus_gym.language.forms import Automata, reverse_digits
from cadmus_gym.rl.prefixes import SPARE, lengths_of, shared_prefixes
from cadmus_gym.rl.sb3 import (
    CadmusVecEnv,
    TransformerPolicy,
)
from cadmus_gym.training.batches import plan_chunks
from cadmus_gym.transformer.cache import Cache
from cadmus_gym.transformer.checkpoint import save_model
from cadmus_gym.transformer.model import ModelConfig, Transformer


@pytest.fixture(scope="module")
def folder(model: Transformer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_model(model, folder)
    return folder


def test_policy_log_probabilities_equal_those_of_complete(model: Transformer, folder: Path) -> None:
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
        # in a rollout, in training, and as float32, which SB3 passes elsewhere
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


def test_greedy_episodes_equal_complete(folder: Path) -> None:
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
    """A cache whose slots are not 0 before they are used."""

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


def test_follow_equals_forward(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cadmus_gym.transformer.model.Cache", Poisoned)
    env = make(count=9, endian="little")
    policy = make_agent(env, folder).policy
    rng = np.random.default_rng(0)
    env.seed(0)
    observations = env.reset()
    for length in (2, 3, 4, 5):  # rows are short at first, then one much longer begins and continues
        short = np.where(np.arange(observations.shape[1]) < length, observations, np.uint8(op.PAD))
        short[0, : {4: 40, 5: 41}.get(length, length)] = 7
        short[1, 1:length] = length  # one token longer, but not the row before
        check_followed(policy, short)
    for step in range(3 * SPARE):
        check_followed(policy, observations)
        if step % 25 == 24:  # another call in between, with unrelated rows
            check_followed(policy, rng.permutation(observations))
        masks = get_action_masks(env)
        masks[:3, cg.encode("end")] &= masks[:3].sum(1, keepdims=True) == 1  # some episodes grow long
        observations, _, _, _ = env.step(choose(masks, rng))


def test_follow_reads_rows_again_after_weights_changed(folder: Path) -> None:
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


def test_rows_of_unequal_lengths_keep_their_order(folder: Path) -> None:
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
def test_each_row_is_a_prefix_of_its_chosen_row(programs: list[list[int]]) -> None:
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


def test_gradients_equal_those_of_separate_rows(folder: Path) -> None:
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


def test_untrained_policy_never_takes_an_illegal_action() -> None:
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


def test_free_form_ignores_trailing_pads(folder: Path) -> None:
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


def test_a_saved_policy_loads_with_its_model(folder: Path, tmp_path: Path) -> None:
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
def test_wrapper_that_changes_observations_is_rejected(wrapper: Any, folder: Path) -> None:
    wide = ModelConfig(width=32, layers=1, heads=2, hidden=64, context=1024)
    with pytest.raises(ValueError, match=r"reads the TokenSpace of a Cadmus environment, not Box\(0"):
        make_agent(wrapper(make()), wide)


def test_normalized_observations_are_rejected() -> None:
    agent = make_agent(VecNormalize(make(EASY_SPEC)))
    with pytest.raises(ValueError, match=r"not token ids, whole numbers 0\.\.64: remove the wrapper"):
        learn(agent, 1)
    learn(make_agent(VecNormalize(make(EASY_SPEC), norm_obs=False), n_steps=2, batch_size=10), 1)


@pytest.mark.parametrize("value", [0.5, 65.0, -1.0, 256.0, np.nan, np.inf, 1e9])
def test_observations_that_are_not_tokens_are_rejected(value: float) -> None:
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


def test_environment_with_the_other_endian_is_rejected(folder: Path, tmp_path: Path) -> None:
    little, big = make(endian="little"), make(endian="big")
    with pytest.raises(ValueError, match="in the order 'little', the environment writes them in 'big': give the env"):
        make_agent(big, folder)
    with pytest.raises(ValueError, match="digits in the order 'big', the environment writes them in 'little'"):
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
