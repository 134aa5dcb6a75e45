"""What fine-tuning starts from: the weights of a checkpoint, or fresh ones."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cadmus_gym import files
from cadmus_gym.transformer.checkpoint import load_model
from cadmus_gym.transformer.config import ModelConfig
from cadmus_gym.transformer.model import Transformer


@dataclass(frozen=True)
class Start:
    """What a run starts from. It is kept in run.json, so that the checkpoint is not needed again."""

    sizes: dict[str, Any]  # fields of the model's config
    endian: str
    parent: dict[str, Any] | None = None  # card of the checkpoint; None: fresh weights
    weights: str | None = None  # SHA-256 of the checkpoint's weights


def find_start(folder: Path, resume: bool, checkpoint: str | None, endian: str) -> tuple[Start, Transformer | None]:
    """Return what a run starts from, and the model with its weights if they are still needed.

    endian: digit order of fresh weights.

    A run to be resumed has everything in its folder. If it was stopped before it wrote the weights, they are read from
    the checkpoint again. Raises ValueError if that has changed.
    """
    run, states = folder / "run.json", folder / "states"
    if not (resume and run.is_file()):
        if checkpoint is None:
            return Start(dataclasses.asdict(ModelConfig()), endian), None
        model = load_model(checkpoint)
        return Start(dataclasses.asdict(model.config), model.endian, model.card, weights_sum(model)), model
    start = Start(**files.read_json(run)["start"])
    if start.weights is None or any(states.glob("*.pt")):
        return start, None
    for place in (folder / "model", checkpoint or ""):
        with contextlib.suppress(ValueError, OSError):
            model = load_model(place)
            if weights_sum(model) == start.weights:
                return start, model
    raise ValueError(
        f"{folder} was stopped before it saved anything, and {checkpoint} is no longer the model it started from; "
        "start the run again with --overwrite"
    )


def weights_sum(model: Transformer) -> str:
    """Return the SHA-256 sum of a model's weights."""
    digest = hashlib.sha256()
    for name, weight in model.state_dict().items():
        digest.update(name.encode() + weight.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
