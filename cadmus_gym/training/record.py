"""The record of a training: which of its candidates the focus chose for each row.

It holds one array for each training of a model that had a choice, named by its number, "0" for the first one.
"""

from __future__ import annotations

import io
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Choices: TypeAlias = NDArray[np.uint8]  # (rows,): row k was program number k * among + choices[k] of the stream


def unpack(record: bytes) -> dict[str, Choices]:
    """Return the choices of each training that had any, by its number."""
    if not record:
        return {}
    with np.load(io.BytesIO(record)) as arrays:
        return {name: arrays[name] for name in arrays.files}


def extended(record: bytes, training: int, choices: Choices) -> bytes:
    """Return a record with the choices of another training added; the same record if there are none."""
    if not choices.size:
        return record
    packed = io.BytesIO()
    arrays: dict[str, Any] = {**unpack(record), str(training): choices}
    np.savez_compressed(packed, **arrays)
    return packed.getvalue()
