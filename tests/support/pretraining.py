"""Shared by tests of pretraining: the settings of a tiny run, and what it leaves."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cadmus_gym.training import interrupts
from cadmus_gym.transformer.checkpoint import load_model
from support.scripts import TRAIN

TINY = ["--width", "16", "--layers", "2", "--heads", "2", "--context", "128", "--batch", "48", "--steps", "12"]
TINY += ["--threads", "1", "--dtype", "float32", "--log-every", "1", "--save-every", "2"]
TINY += ["--evaluate-every", "4", "--evaluate-count", "8", "--final-count", "16"]


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", str(TRAIN), "--folder", str(folder), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run(folder: Path, *arguments: str) -> tuple[str, str]:
    """Run the script to the end; return what it printed to stdout and stderr."""
    process = start(folder, *arguments)
    printed, reported = process.communicate()
    assert process.returncode == 0, reported
    return printed, reported


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_model(folder / "model").state_dict()


def assert_same_weights(one: Path, other: Path) -> None:
    """And their records: both were trained on the same programs."""
    assert load_model(one / "model").record == load_model(other / "model").record
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    for name, weight in first.items():
        assert torch.equal(weight, second[name]), name


def scalars(folder: Path) -> dict[str, dict[int, float]]:
    """Return TensorBoard's curves: tag -> step -> value."""
    events = EventAccumulator(str(folder))
    events.Reload()
    return {tag: {event.step: event.value for event in events.Scalars(tag)} for tag in events.Tags()["scalars"]}


def interrupt(patch: pytest.MonkeyPatch, script: ModuleType, at: int) -> None:
    """Simulate Ctrl-C in a step."""
    train_step = script.Trainer.train_step

    def interrupted(trainer: Any, batches: Any, stop: interrupts.Stop) -> Any:
        done = train_step(trainer, batches, stop)
        if trainer.counts["step"] == at:
            stop.signal = signal.SIGINT
        return done

    patch.setattr(script.Trainer, "train_step", interrupted)
