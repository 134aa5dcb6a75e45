"""Training states on disk. A kill or a full disk never costs more than the state being written."""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cadmus_gym.files import atomic

STEP_DIGITS, SUM_DIGITS = 9, 16  # of a state's file name


def save_state(folder: Path, step: int, state: Mapping[str, Any], keep: int = 2) -> Path:
    """Write tensors, numbers and strings to a new file in a folder, and delete all but the last ``keep`` files.

    The file name has the step and the first digits of the file's SHA-256 sum. The write is atomic: if it fails, the
    earlier states stay.
    """
    folder.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    path = folder / f"{step:0{STEP_DIGITS}}-{_digits(buffer.getbuffer())}.pt"
    with atomic(path) as file:
        file.write(buffer.getbuffer())
    before = [old for old in _states(folder) if old.name[:STEP_DIGITS] < path.name[:STEP_DIGITS]]
    kept = {path, *before[len(before) - keep + 1 :]}  # not later ones, of a run that was set back
    for old in set(_states(folder)) - kept:
        old.unlink()
    return path


def load_state(folder: Path, report: Callable[[str], None]) -> dict[str, Any] | None:
    """Return the last intact state in a folder, or None if there is no state at all.

    ``report`` gets a line for each damaged state, which is skipped. Raises ValueError if all are damaged, and for a
    file that is not a state. Only tensors and plain values are unpickled.
    """
    states = _states(folder)
    for path in reversed(states):
        content = path.read_bytes()
        if _digits(content) == path.stem.partition("-")[2]:
            try:
                state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
            except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
                raise ValueError(f"{path} is not a training state: {str(error).splitlines()[0]}") from None
            if not isinstance(state, dict):
                raise ValueError(f"{path} is not a training state: it holds {type(state).__name__}")
            return state
        report(f"{path} is damaged: its SHA-256 sum is not the one in its name; trying the previous one")
    if states:
        raise ValueError(f"{folder}: all of its {len(states)} states are damaged")
    return None


def as_tensor(content: bytes) -> torch.Tensor:
    """Return bytes as a state holds them, (N,) uint8; ``.numpy().tobytes()`` returns them again."""
    return torch.from_numpy(np.frombuffer(content, np.uint8).copy())


def _states(folder: Path) -> list[Path]:
    return sorted(folder.glob("[0-9]*-*.pt"))


def _digits(content: bytes | memoryview) -> str:
    return hashlib.sha256(content).hexdigest()[:SUM_DIGITS]
