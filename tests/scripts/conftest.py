"""Fixtures of several tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from support.pretraining import TINY, run
from support.scripts import TRAIN, entropies_remembered, load_script


@pytest.fixture(scope="module", autouse=True)
def entropies() -> Iterator[None]:
    with entropies_remembered():
        yield


@pytest.fixture(scope="session")
def script() -> ModuleType:
    return load_script(TRAIN)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """An uninterrupted run: its folder, and what it printed to stdout and stderr. No test may change it."""
    folder = tmp_path_factory.mktemp("runs") / "finished"
    return (folder, *run(folder, *TINY))
