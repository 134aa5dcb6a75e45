"""Where pretraining begins: from a recipe, from a run to be resumed or extended, or from the weights of a model."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

import tyro

from cadmus_gym import files
from cadmus_gym.training import settings
from cadmus_gym.training.batches import Feed
from cadmus_gym.training.learner import Learner
from cadmus_gym.training.ledger import Ledger
from cadmus_gym.training.runs import Run
from cadmus_gym.training.settings import Pretraining
from cadmus_gym.transformer.checkpoint import WEIGHTS, find_model, load_model
from cadmus_gym.transformer.model import ModelConfig

Config = TypeVar("Config", bound=Pretraining)

# Settings that may change when a run is extended, and settings that the model to start from decides.
OF_PART = {"tokens", "steps", "stop_at_truth", "muon_rate", "adamw_rate", "warmup", "decay"}
OF_MODEL = ("width", "layers", "heads", "key_value_heads", "hidden", "tied")


def configure(arguments: list[str], kind: type[Config], free: Collection[str], recipes: Path) -> Config:
    """Return the settings: from flags, else from the run to be resumed or extended, else from the recipe.

    Raises ValueError for a mistake in a recipe, a value that is not allowed, and a flag that contradicts the run to be
    resumed or the model to start from; FileNotFoundError if there is no such model.
    """
    known = settings.first_flags(arguments, folder=None, recipe="nano-arith", start=None)
    folder, extending = known.folder or Path("runs") / Path(known.recipe).stem, "--extend" in arguments
    if known.resume and extending:
        raise ValueError("--resume and --extend: give one of them")
    values = settings.started_with(folder, "config", kind) if known.resume or extending else None
    if extending:
        return extended(arguments, folder, values, kind, free)
    if values is None:
        default = settings.read_recipe(known.recipe, kind, folder, recipes)
        start = known.start or default.start
        config = tyro.cli(kind, args=arguments, default=default if start is None else started(default, start))
        if start is not None:
            check_start(config, start)
        return config
    before = kind(**values)
    config = tyro.cli(kind, args=arguments, default=before)
    if config.dtype == "auto":  # it was settled when the run was started
        config = dataclasses.replace(config, dtype=before.dtype)
    settings.check_resumed(before, config, free)
    return config


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
    """Return the settings with the sizes and the digit order of the model to start from."""
    model = load_model(start)
    own: dict[str, Any] = {name: getattr(model.config, name) for name in OF_MODEL} | {"endian": model.endian}
    context = max(default.context, model.config.context)  # no weight depends on it
    return dataclasses.replace(default, **own, context=context, start=start)


def check_start(config: Config, start: str) -> None:
    """Raise ValueError if the sizes or the digit order are not those of the model to start from."""
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


def begin(
    config: Pretraining, state: Mapping[str, Any] | None, learner: Learner, feed: Feed, ledger: Ledger, run: Run
) -> bool:
    """Bring a run to where it begins: to a state, to the weights of the model to start from, or to fresh ones.

    Returns whether this brought something that no state holds yet. All processes must call it. Raises ValueError for a
    state of another version, or of a step before the run was extended.
    """
    counts = ledger.counts
    if state is not None:
        if "choices" not in state:
            raise ValueError(f"{run.states}: another version of Cadmus Gym wrote them; resume with that one")
        for part in (learner, feed, ledger):
            part.restore(state)
        run.saved = counts["step"]
    elif config.start is not None:
        model = load_model(config.start)
        learner.model.load_state_dict(model.state_dict())
        sums = {WEIGHTS: files.sha256(find_model(config.start) / WEIGHTS)}
        counts["parent"] = {**model.card, "name": config.start, "sha256": sums}
        feed.earlier = model.record
    if config.parts and counts["step"] < config.parts[-1]["step"]:
        raise ValueError(
            f"{run.states}: the last intact state is of step {counts['step']}, before the run was extended at "
            f"step {config.parts[-1]['step']}; start another run with --start {run.folder / 'model'}"
        )
    extended_now = counts["parts"] < len(config.parts)
    if extended_now:  # the result was written after the last state, with the last evaluation
        ledger.begin_part(ledger.ranks.first(lambda: files.read_json(run.result)), len(config.parts))
        ledger.ranks.first(run.write_about)
    ledger.start_clocks()
    return extended_now or (state is None and config.start is not None)


def finished_part(path: Path, parts: int) -> dict[str, Any] | None:
    """Return the result of a run that was extended ``parts`` times; None if its last part is not finished."""
    result = files.read_json(path) if path.is_file() else None
    return result if result is not None and result.get("parts", 0) == parts else None
