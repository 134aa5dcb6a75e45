"""Scripts of the checkout as modules, and what makes their tests fast."""

from __future__ import annotations

import functools
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import cadmus_gym as cg

TOP = Path(__file__).resolve().parents[2]
TRAIN, PPO, MINIMAL = TOP / "pretrain" / "train.py", TOP / "agents" / "ppo.py", TOP / "pretrain" / "minimal.py"


@functools.cache
def load_script(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"{path.stem}_script", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look up their annotations
    spec.loader.exec_module(module)
    return module


ENTROPIES: dict[Any, Any] = {}


@contextmanager
def entropies_remembered() -> Iterator[None]:
    """Compute the entropy of a stream once for all runs on it: that takes longer than a tiny run."""
    entropy = cg.Stream.entropy

    def remembered(stream: cg.Stream, *given: Any, **named: Any) -> Any:
        key = stream.digest, stream.seed, given, tuple(named.items())
        if key not in ENTROPIES:
            ENTROPIES[key] = entropy(stream, *given, **named)
        return ENTROPIES[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cg.Stream, "entropy", remembered)
        yield
