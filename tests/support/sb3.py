"""Shared code of the tests of Stable-Baselines3."""

from __future__ import annotations

from typing import Any

import numpy as np
from sb3_contrib import MaskablePPO
from stable_baselines3.common.logger import Logger

import cadmus_gym as cg
from cadmus_gym.rl.sb3 import (
    CadmusVecEnv,
    SequenceRolloutBuffer,
    TransformerPolicy,
)
from cadmus_gym.transformer.model import ModelConfig

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
