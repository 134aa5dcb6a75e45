"""pretrain/minimal.py: it learns to compute what it was never shown."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "pretrain" / "minimal.py"


def test_it_learns(capsys: pytest.CaptureFixture[str]) -> None:
    specification = importlib.util.spec_from_file_location("minimal_script", SCRIPT)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules["minimal_script"] = module
    specification.loader.exec_module(module)
    true = module.main(module.Config(steps=200, evaluate_every=100, count=200))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "104,832 parameters"
    first, last = (float(line.split("loss ")[1].split()[0]) for line in lines[1:3])
    assert last < first < 4.2  # guessing loses 4.17 nats per token
    assert true > 0.1  # a constant is right in about one of a hundred
    assert lines[3].split()[-1] in ("TRUE", "FALSE")
    assert len(SCRIPT.read_text(encoding="utf-8").splitlines()) <= 100  # one screen and a half
