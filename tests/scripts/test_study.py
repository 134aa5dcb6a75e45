"""benchmarks/study.py on a tiny study: it trains what is missing, sums up, and trains nothing twice."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "study.py"
STUDY = """
recipe = "nano-arith"
compute = [4e8, 8e8]
seeds = [0]

[settings]
width = 16
layers = 1
heads = 2
batch = 16
threads = 1
final_count = 8

[runs."as it is"]

[runs."no worked steps"]
overrides = { thoughts = { share = 0.0, style = "none" } }
"""


def study(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", str(SCRIPT), str(folder / "tiny.toml"), "--folder", str(folder / "runs")]
    return subprocess.run([*command, "--output", str(folder), *arguments], capture_output=True, text=True, check=False)


def test_a_study_trains_sums_up_and_goes_on(tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(STUDY)
    first = study(tmp_path, "--only", "as it is")
    assert first.returncode == 0, first.stderr
    done = study(tmp_path)
    assert done.returncode == 0, done.stderr
    assert first.stdout.count("pretrain/train.py") == done.stdout.count("pretrain/train.py") == 2  # of four runs
    rows = json.loads((tmp_path / "tiny.json").read_text())["rows"]
    assert [(row["name"], row["compute"]) for row in rows] == [
        (name, compute) for compute in (4e8, 8e8) for name in ("as it is", "no worked steps")
    ]
    for row in rows:
        assert row["tokens"] == pytest.approx(row["compute"] / (6 * row["parameters"]), rel=0.15)
        assert row["excess"]["whole"] > 1  # nats per token: hardly trained
    assert rows[0]["digest"] == rows[2]["digest"] != rows[1]["digest"] == rows[3]["digest"]
    table = (tmp_path / "tiny.md").read_text()
    assert table.count("| as it is |") == table.count("| no worked steps |") == 2
    assert (tmp_path / "tiny.png").stat().st_size > 5000

    again = study(tmp_path)
    assert again.returncode == 0
    assert "train.py" not in again.stdout
    assert json.loads((tmp_path / "tiny.json").read_text())["rows"] == rows

    wrong = study(tmp_path, "--only", "as it was")
    assert wrong.returncode == 1
    assert "no run 'as it was'; known: as it is, no worked steps" in wrong.stderr
