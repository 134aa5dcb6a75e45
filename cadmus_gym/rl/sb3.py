"""Stable-Baselines3 and sb3-contrib: our vector environment as their VecEnv, the transformer as their policy.

    env = CadmusVecEnv(CadmusVectorEnv(64, "Cadmus-Arith-v0", endian="little", autoreset_mode="SameStep"))
    agent = MaskablePPO(
        TransformerPolicy, env, policy_kwargs={"model": "runs/nano"}, rollout_buffer_class=SequenceRolloutBuffer
    )

The action distribution is the softmax of the transformer's next-token logits under the mask, so an agent starts exactly
where pretraining ended. No token is read twice (`cadmus_gym.rl.prefixes`): in a rollout, a row that is the row of the
last step plus one token costs one token; in training, rows that begin another row of the minibatch share its pass. Both
agree with a separate pass over each row to float tolerance.
"""

from __future__ import annotations

import functools
import itertools
import os
import time
from collections.abc import Generator, Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import Space, Wrapper, spaces
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.buffers import MaskableRolloutBuffer, MaskableRolloutBufferSamples
from sb3_contrib.common.maskable.distributions import MaskableDistribution
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvStepReturn
from torch import Tensor, nn

from cadmus_gym.environments.episodes import ARRAYS, END_INFO, State, as_prompts
from cadmus_gym.environments.single import TokenSpace, check_options
from cadmus_gym.environments.vector import CadmusVectorEnv
from cadmus_gym.language.forms import SPENT
from cadmus_gym.language.isa import Tokens
from cadmus_gym.rl.prefixes import Trail, as_rows, lengths_of, shared_prefixes
from cadmus_gym.training.batches import plan_chunks
from cadmus_gym.transformer.checkpoint import load_model
from cadmus_gym.transformer.model import ModelConfig, Transformer, with_bos

# The value head shares the small learning rate of the transformer. Gains from 3 to 30 did equally well.
VALUE_GAIN = 10.0


class CadmusVecEnv(VecEnv):
    """A `CadmusVectorEnv` as a VecEnv of Stable-Baselines3.

    It returns what DummyVecEnv over single environments with Monitor returns, in one kernel call per step. Infos are
    empty except where an episode ended; masks come from ``env_method("action_masks")``. Sub-environments are rows of
    arrays, not objects: attributes are set for all of them at once, and the methods of one row that ``env_method``
    calls are ``action_masks``, ``render`` and ``state``.
    """

    def __init__(self, env: CadmusVectorEnv) -> None:
        if env.autoreset_mode != AutoresetMode.SAME_STEP or not env.copy:
            raise ValueError(
                f"CadmusVecEnv: autoreset_mode = {env.autoreset_mode.value!r}, copy = {env.copy}: SB3 needs an "
                f"environment with autoreset_mode={AutoresetMode.SAME_STEP.value!r} and copy=True"
            )
        self.env = env
        self._started = time.time()
        self._returns, self._lengths = np.zeros(env.num_envs), np.zeros(env.num_envs, np.int64)
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)

    def reset(self) -> Tokens:
        given = [check_options(options).get("prompt") for options in self._options]
        prompted = np.array([prompt is not None for prompt in given])
        prompts = [as_prompts(prompt, 1)[0] for prompt in given if prompt is not None]
        # Prompts first: only they can be wrong, and a reset that raises changes nothing.
        for rows, options in ((prompted, {"prompt": prompts}), (~prompted, {})):
            if rows.any():
                observations, _ = self.env.reset(seed=self._seeds, options={**options, "reset_mask": rows})
        masks = self.env.episodes.masks
        self.reset_infos = [{"action_mask": mask.copy()} for mask in masks]
        self._reset_seeds()
        self._reset_options()
        self._returns[:], self._lengths[:] = 0, 0
        return observations

    def step_async(self, actions: NDArray[np.integer]) -> None:
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        observations, rewards, terminated, truncated, info = self.env.step(self._actions)
        ended = terminated | truncated
        self._returns += rewards
        self._lengths += 1
        # Separate dicts, since wrappers may write into them; an empty one costs 20 ns.
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for row in np.flatnonzero(ended):
            last = info["final_info"]
            infos[row] = {
                "action_mask": last["action_mask"][row],
                **{key: kind(last[key][row]) for key, kind in END_INFO.items()},
                "TimeLimit.truncated": bool(truncated[row] and not terminated[row]),
                "terminal_observation": info["final_obs"][row],
                "episode": {
                    "r": round(float(self._returns[row]), 6),
                    "l": int(self._lengths[row]),
                    "t": round(time.time() - self._started, 6),
                },
            }
            self.reset_infos[row] = {"action_mask": info["action_mask"][row]}
        self._returns[ended], self._lengths[ended] = 0, 0
        return observations, rewards.astype(np.float32), ended, infos

    def close(self) -> None:
        self.env.close()

    def state(self) -> dict[str, Any]:
        """Return the state of all episodes as tensors, for `restore`."""
        episodes = self.env.state()
        arrays = {name: getattr(episodes, name) for name in ARRAYS}
        arrays |= {"returns": self._returns, "played": self._lengths}
        return {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}

    def restore(self, state: dict[str, Any]) -> Tokens:
        """Restore what `state` returned; return the observations (N, L). Raises ValueError for anything else."""
        known = (*ARRAYS, "returns", "played")
        if not isinstance(state, dict) or state.keys() != set(known):
            raise ValueError(f"these episodes cannot be restored: give a dict of {', '.join(known)}")
        arrays = {name: np.asarray(tensor).copy() for name, tensor in state.items()}
        returns, played = arrays.pop("returns"), arrays.pop("played")
        for given, own in ((returns, self._returns), (played, self._lengths)):
            if (given.dtype, given.shape) != (own.dtype, own.shape):
                raise ValueError(f"returns and played: give a number for each of {self.num_envs} sub-environments")
        observations, info = self.env.restore(State(**arrays, kind=self.env.episodes.kind))
        self._returns, self._lengths = returns, played
        self.reset_infos = [{"action_mask": mask} for mask in info["action_mask"]]
        return observations

    def get_images(self) -> Sequence[NDArray[np.uint8] | None]:
        return self.env.render() or [None] * self.num_envs

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        rows = self._get_indices(indices)
        if attr_name in ("action_masks", "render", "state"):
            return [functools.partial(self._of_row, attr_name, row) for row in rows]
        single = {"observation_space": self.observation_space, "action_space": self.action_space}
        value = single[attr_name] if attr_name in single else getattr(self.env, attr_name)
        return [value for _ in rows]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        if len(set(self._get_indices(indices))) != self.num_envs:
            raise ValueError(f"set_attr {attr_name!r}: sub-environments share their attributes; set it for all")
        setattr(self.env, attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any
    ) -> list[Any]:
        if method_name == "action_masks":
            masks = self.env.action_masks()
            return list(masks if indices is None else masks[list(self._get_indices(indices))])
        methods = self.get_attr(method_name, indices)
        if method_name not in ("render", "state"):
            raise AttributeError(
                f"no method {method_name!r} of one sub-environment; known: action_masks, render, state"
            )
        return [method(*method_args, **method_kwargs) for method in methods]

    def env_is_wrapped(
        self, wrapper_class: type[Wrapper[Any, Any, Any, Any]], indices: VecEnvIndices = None
    ) -> list[bool]:
        """True for Monitor: infos report the return and the length of an episode as it does."""
        return [wrapper_class is Monitor for _ in self._get_indices(indices)]

    def _of_row(self, method: str, row: int) -> Any:
        if method == "state":
            return self.env.state([row])
        values = self.env.action_masks() if method == "action_masks" else self.env.render()
        return None if values is None else values[row]


class SequenceRolloutBuffer(MaskableRolloutBuffer):
    """A rollout buffer whose minibatches are all steps of some sub-environments, not shuffled single steps.

    All steps of an episode are then read in one pass of the transformer, where single steps would need nearly a pass
    each. Sub-environments are shuffled every epoch. ``batch_size`` still counts steps; make it a multiple of
    ``n_steps``, so that no sub-environment is cut in two.
    """

    def get(  # type: ignore[override]  # as its parent does
        self, batch_size: int | None = None
    ) -> Generator[MaskableRolloutBufferSamples, None, None]:
        assert self.full
        if not self.generator_ready:
            for name in ("observations", "actions", "values", "log_probs", "advantages", "returns", "action_masks"):
                setattr(self, name, self.swap_and_flatten(getattr(self, name)))  # steps of a row adjoin
            self.generator_ready = True
        starts = torch.randperm(self.n_envs).numpy()[:, None] * self.buffer_size  # SB3 has seeded torch
        indices = (starts + np.arange(self.buffer_size)).ravel()
        size = indices.size if batch_size is None else batch_size
        for start in range(0, indices.size, size):
            yield self._get_samples(indices[start : start + size])


class PrefixReader(BaseFeaturesExtractor):
    """The transformer's final hidden state at the last token of each observation: (B, L) -> (B, width).

    The last token is the last one that is not 0. Only the form ``free`` allows token 0 (`<pad>`); trailing ones are
    then not read.
    """

    def __init__(self, observation_space: Space[Any], model: Transformer) -> None:
        super().__init__(observation_space, model.config.width)
        self.transformer = model
        self._trail: Trail | None = None

    def forward(self, observations: Tensor) -> Tensor:
        """Read observations (B, L) of any dtype. Prefixes of others share their pass."""
        rows = as_rows(observations)
        lengths = lengths_of(rows)
        chosen, where = shared_prefixes(rows, lengths)
        found, members = [], []
        for first, stop in itertools.pairwise(plan_chunks(lengths[chosen], chosen.size, observations.device.type)):
            tokens = rows[chosen[first:stop], : lengths[chosen[stop - 1]]]
            hidden = self.transformer.hidden(with_bos(torch.from_numpy(tokens).to(observations.device)))
            here = np.flatnonzero((first <= where) & (where < stop))
            # `<bos>` is at 0, so the last token of a row of length n is at n.
            found.append(hidden[torch.from_numpy(where[here] - first), torch.from_numpy(lengths[here])])
            members.append(here)
        return torch.cat(found)[torch.from_numpy(np.argsort(np.concatenate(members)))]

    @torch.no_grad()
    def follow(self, observations: Tensor) -> Tensor:
        """Like `forward`, without gradients, for the successive steps of a rollout."""
        rows = as_rows(observations)
        weights = [(weight.data_ptr(), weight._version) for weight in self.transformer.parameters()]
        if self._trail is None or self._trail.rows.shape != rows.shape or self._trail.weights != weights:
            self._trail = Trail(self.transformer, rows.shape, weights)
        return self._trail.read(rows)

    def train(self, mode: bool = True) -> PrefixReader:
        if mode:
            self._trail = None  # frees its memory; the weights are about to change
        return super().train(mode)


class ValueHead(nn.Linear):
    """The value of a prefix, linear in its final hidden state; initially 0."""

    def __init__(self, width: int) -> None:
        super().__init__(width, 1)
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        return VALUE_GAIN * super().forward(hidden)


class TransformerPolicy(MaskableActorCriticPolicy):
    """The transformer as actor, with a linear value head on it as critic.

    model: the folder of a checkpoint, the name of a packaged model, or a `ModelConfig` for new weights.
    endian: the order of digits of new weights; by default the environment's.
    init_seed: of new weights.

    Raises ValueError if observations are not tokens in the model's order of digits, or do not fit its context.
    """

    def __init__(
        self,
        observation_space: spaces.Box,
        action_space: spaces.Discrete,
        lr_schedule: Schedule,
        model: str | os.PathLike[str] | ModelConfig | None = None,
        endian: str | None = None,
        init_seed: int = 0,
        **keywords: Any,
    ) -> None:
        if not isinstance(observation_space, TokenSpace):
            raise ValueError(
                f"TransformerPolicy reads the TokenSpace of a Cadmus environment, not {observation_space}: remove "
                "wrappers that change observations, such as VecFrameStack. For an agent saved without that space: "
                'load(..., custom_objects={"observation_space": env.observation_space})'
            )
        if model is None or isinstance(model, ModelConfig):
            transformer = Transformer(model or ModelConfig(), init_seed)
            transformer.endian = observation_space.endian if endian is None else endian
        else:
            transformer = load_model(model)
        if transformer.endian != observation_space.endian:
            raise ValueError(
                f"the model reads digits in the order {transformer.endian!r}, the environment writes them in "
                f"{observation_space.endian!r}: give the environment endian={transformer.endian!r}"
            )
        needed = observation_space.shape[0] + 1
        if needed > transformer.config.context:
            raise ValueError(
                f"observations and `<bos>` take {needed} positions, the model has {transformer.config.context}; "
                "give the environment a smaller max_tokens or train a model with a larger context"
            )
        super().__init__(
            observation_space,
            action_space,
            lr_schedule,
            net_arch=[],
            ortho_init=False,
            features_extractor_class=PrefixReader,
            features_extractor_kwargs={"model": transformer},
            **keywords,
        )

    @property
    def transformer(self) -> Transformer:
        return self.reader.transformer

    @property
    def reader(self) -> PrefixReader:
        assert isinstance(self.features_extractor, PrefixReader)
        return self.features_extractor

    def _build(self, lr_schedule: Schedule) -> None:
        self._build_mlp_extractor()  # empty, by net_arch=[]
        self.action_net = nn.Identity()
        self.value_net = ValueHead(self.features_dim)
        self.optimizer = self.optimizer_class(
            self.parameters(),
            lr=lr_schedule(1),  # type: ignore[call-arg]
            **self.optimizer_kwargs,
        )

    def _get_action_dist_from_latent(self, latent_pi: Tensor) -> MaskableDistribution:
        return self.action_dist.proba_distribution(action_logits=self.transformer.logits(latent_pi))

    def _get_constructor_parameters(self) -> dict[str, Any]:
        theirs = super()._get_constructor_parameters()
        names = ("observation_space", "action_space", "lr_schedule", "optimizer_class", "optimizer_kwargs")
        return {
            **{name: theirs[name] for name in names},
            "model": self.transformer.config,
            "endian": self.transformer.endian,
        }

    def extract_features(self, obs: PyTorchObs, features_extractor: BaseFeaturesExtractor | None = None) -> Tensor:
        assert isinstance(obs, Tensor)
        return self.reader(obs) if torch.is_grad_enabled() else self.reader.follow(obs)

    def get_distribution(self, obs: PyTorchObs, action_masks: NDArray[np.bool_] | None = None) -> MaskableDistribution:
        distribution = self._get_action_dist_from_latent(self.extract_features(obs))
        if action_masks is not None:
            distribution.apply_masking(action_masks)
        return distribution


def agent_state(agent: MaskablePPO) -> dict[str, Any]:
    """Return the whole training state of an agent between two calls of ``learn``, as tensors and plain values.

    ``torch.load(..., weights_only=True)`` reads it from a file, whereas loading SB3's .zip unpickles it and may run any
    code. An agent built in the same way continues from it bit by bit, on the same number of threads.
    """
    env = agent.get_env()
    assert isinstance(env, CadmusVecEnv)
    assert agent._last_episode_starts is not None
    return {
        "policy": agent.policy.state_dict(),
        "optimizer": agent.policy.optimizer.state_dict(),
        "timesteps": agent.num_timesteps,
        "updates": agent._n_updates,
        "episodes": env.state(),
        "starts": torch.from_numpy(agent._last_episode_starts.copy()),
        "random": torch.get_rng_state(),
        "random_cuda": torch.cuda.get_rng_state(agent.device) if agent.device.type == "cuda" else None,
    }


def posed(agent: MaskablePPO) -> dict[str, Any]:
    """Return which prompts an agent has acted on, ready for JSON.

    In sub-environment k these are the first ``prompts[k]`` of the stream of ``split`` with seed ``seed`` + k. ``seed``
    is None before the first reset.
    """
    env = agent.get_env()
    assert isinstance(env, CadmusVecEnv)
    episodes = env.env.episodes
    untouched = ~episodes.over & (episodes.cells[:, SPENT] == 0)  # begun, and no token written yet
    seed, prompts = int(episodes.seeds[0]), (episodes.indices - untouched).tolist()
    return {"split": episodes.stream.split, "seed": None if seed < 0 else seed, "prompts": prompts}


def restore_agent(agent: MaskablePPO, state: dict[str, Any]) -> None:
    """Restore a state that `agent_state` returned."""
    env = agent.get_env()
    assert isinstance(env, CadmusVecEnv)
    agent.policy.load_state_dict(state["policy"])
    agent.policy.optimizer.load_state_dict(state["optimizer"])
    agent.num_timesteps, agent._n_updates = state["timesteps"], state["updates"]
    agent._last_obs = env.restore(state["episodes"])
    agent._last_episode_starts = state["starts"].numpy().copy()
    torch.set_rng_state(state["random"])
    if agent.device.type == "cuda" and state["random_cuda"] is not None:
        torch.cuda.set_rng_state(state["random_cuda"], agent.device)
