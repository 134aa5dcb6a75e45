"""What a pretraining run is to do: the programs that it trains on, and in how many steps."""

from __future__ import annotations

import math
from collections.abc import Mapping

from cadmus_gym.streams.loading import load_spec
from cadmus_gym.streams.stream import Stream
from cadmus_gym.training.settings import Pretraining


def make_stream(config: Pretraining) -> Stream:
    """Return the programs to train on. Raises ValueError if they do not fit the other settings."""
    if isinstance(config.env, Mapping) and config.overrides:
        raise ValueError('overrides need a single env; for a mixture, write .toml files, each with `base = "ID"`')
    env = load_spec(config.env, **config.overrides) if isinstance(config.env, str) else config.env
    stream = Stream(env, split="train", seed=config.seed)
    for spec in stream.specs:
        needed = 1 + max(stream.length, spec.prompt_room + spec.episode.max_tokens)
        if config.context < needed:
            raise ValueError(
                f"recipe {config.recipe}: context = {config.context}; allowed for {spec.id}: from {needed}"
            )
        if config.stop_at_truth is not None and "test" not in spec.splits:
            raise ValueError(f"stop_at_truth = {config.stop_at_truth}: {spec.id} has no test split")
    return stream


def steps_of(config: Pretraining, length: float) -> tuple[int, int]:
    """Return the steps at which the schedule of the rates begins and ends, given the mean length of a program.

    It begins at 0, or where the run was last extended. Raises ValueError if no step is left.
    """
    first = config.parts[-1]["step"] if config.parts else 0
    steps = config.steps or math.ceil(config.tokens / (config.batch * length))
    if steps <= first:
        raise ValueError(f"--extend: {steps} steps in total; allowed: more than the {first} made so far")
    return first, steps
