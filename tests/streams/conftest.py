"""Fixtures for tests of streams."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import pytest

import cadmus_gym as cg


@pytest.fixture
def write(tmp_path: Path) -> Any:
    """Write a TOML file and return its path."""

    def put(text: str | bytes, name: str = "my.toml") -> Path:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return put


@pytest.fixture
def registry() -> Iterator[None]:
    """Restore the registries after a test."""
    specs, known = dict(cg.SPECS), dict(gymnasium.registry)
    yield
    cg.SPECS.clear()
    cg.SPECS.update(specs)
    gymnasium.registry.clear()
    gymnasium.registry.update(known)
