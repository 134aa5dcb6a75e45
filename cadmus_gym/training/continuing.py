"""Pretraining that continues: a finished run with more steps, or another model's weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from pathlib import Path
from typing import Any, TypeVar

import tyro

from cadmus_gym import files
from cadmus_gym.training import settings
from cadmus_gym.training.settings import Pretraining
from cadmus_gym.transformer.checkpoint import load_model
from cadmus_gym.transformer.model import ModelConfig

Config = TypeVar("Config", bound=Pretraining)

# What an extended run may change in the part that is added, and what the model to start from decides.
OF_PART = {"tokens", "steps", "stop_at_truth", "muon_rate", "adamw_rate", "warmup", "decay"}
OF_MODEL = ("width", "layers", "heads", "key_value_heads", "hidden", "tied")


def extended(
    arguments: list[str], folder: Path, values: dict[str, Any] | None, kind: type[Config], free: Collection[str]
) -> Config:
    """Return the settings of a finished run with more steps, over which the rates rise and fall once more."""
    if values is None:
        raise ValueError(f"--extend: {folder} holds no run")
    before = kind(**values)
    result = finished_part(folder / "result.json", len(before.parts))
    if result is None:
        raise ValueError(f"--extend: {folder} is not finished; --resume continues it")
    default = dataclasses.replace(before, stop_at_truth=None)
    config = tyro.cli(kind, args=arguments, default=dataclasses.replace(default, extend=True))
    if config.tokens != before.tokens and config.steps == before.steps:
        config = dataclasses.replace(config, steps=None)
    if config.dtype == "auto":
        config = dataclasses.replace(config, dtype=before.dtype)
    settings.check_resumed(before, config, {*free, *OF_PART}, "--extend")
    total, done = (config.steps, result["step"]) if config.steps is not None else (config.tokens, result["tokens"])
    if total <= done:
        name = "steps" if config.steps is not None else "tokens"
        raise ValueError(f"--extend: {name} = {total:,} in all; allowed: more than the {done:,} that {folder} has had")
    part = {name: getattr(before, name) for name in sorted(OF_PART)} | {"step": result["step"]}
    return dataclasses.replace(config, extend=False, resume=True, parts=[*before.parts, part])


def started(default: Config, start: str) -> Config:
    """Return settings with the sizes and the order of digits of the model to start from."""
    model = load_model(start)
    own: dict[str, Any] = {name: getattr(model.config, name) for name in OF_MODEL} | {"endian": model.endian}
    context = max(default.context, model.config.context)  # on which no weight depends
    return dataclasses.replace(default, **own, context=context, start=start)


def check_start(config: Config, start: str) -> None:
    """Raise ValueError where settings are not those of the model to start from."""
    model = load_model(start)
    for name in ("endian", *OF_MODEL):
        own = model.endian if name == "endian" else getattr(model.config, name)
        if getattr(config, name) != own:
            raise ValueError(
                f"--start {start}: {name} = {getattr(config, name)!r}, but the model has {own!r}; leave the flag out"
            )
    for entry in dataclasses.fields(ModelConfig):
        own = getattr(model.config, entry.name)
        if entry.name != "context" and getattr(config.sizes, entry.name) != own:
            raise ValueError(
                f"--start {start}: the model has {entry.name} = {own!r}, which train.py has no setting for"
            )


def finished_part(path: Path, parts: int) -> dict[str, Any] | None:
    """Return the result of a run that was extended so many times; None where it is not finished."""
    result = files.read_json(path) if path.is_file() else None
    return result if result is not None and result.get("parts", 0) == parts else None
