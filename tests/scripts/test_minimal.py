"""pretrain/minimal.py learns operations that no training program executes."""

from __future__ import annotations

import pytest
from support.scripts import MINIMAL, load_script


def test_it_learns(capsys: pytest.CaptureFixture[str]) -> None:
    module = load_script(MINIMAL)
    true = module.main(module.Config(steps=200, evaluate_every=100, count=200))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "104,832 parameters"
    first, last = (float(line.split("loss ")[1].split()[0]) for line in lines[1:3])
    assert last < first < 4.2  # guessing loses 4.17 nats per token
    assert true > 0.1  # a constant is right in about one of a hundred
    assert lines[3].split()[-1] in ("TRUE", "FALSE")
    assert len(MINIMAL.read_text(encoding="utf-8").splitlines()) <= 100  # one screen and a half
