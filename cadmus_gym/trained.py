"""What a model was trained on: which of its candidates each row of each step took, in a file of the model's folder.

With `cadmus_gym.focus` a row takes one of several programs of the stream, by losses that are not the same to the bit
on another machine. So the choice is recorded. A run that starts from a model continues that model's record: it holds
an array for each training that had a choice, named by its number, "0" for the first one.
"""

from __future__ import annotations

import io
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Choices: TypeAlias = NDArray[np.uint8]  # (rows,): program number row * among + choice of the stream was trained on


def unpack(record: bytes) -> dict[str, Choices]:
    """Return the choices of each training that had one, by its number. Raises ValueError for damaged bytes."""
    if not record:
        return {}
    with np.load(io.BytesIO(record)) as arrays:
        return {name: arrays[name] for name in arrays.files}


def extended(record: bytes, training: int, choices: Choices) -> bytes:
    """Return a record to which the choices of another training are added; without any choices, the record as it is."""
    if not choices.size:
        return record
    packed = io.BytesIO()
    np.savez_compressed(packed, **{**unpack(record), str(training): choices})  # type: ignore[arg-type]
    return packed.getvalue()
