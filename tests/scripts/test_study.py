"""benchmarks/study.py on a tiny study: it trains what is missing, sums up, and trains nothing twice."""

from __future__ import annotations

import contextlib
import io
import json
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from support.scripts import TOP, TRAIN, load_script

SCRIPT = TOP / "benchmarks" / "study.py"
STUDY = """
recipe = "nano-arith"
compute = [2e8]
seeds = [0]

[settings]
width = 16
layers = 1
heads = 2
batch = 16
threads = 1
final_count = 8
overrides = { operands = [0, 20] }

[runs."as it is"]

[runs."no worked steps"]
overrides = { operands = [0, 20], thoughts = { share = 0.0, style = "none" } }
"""


class InThisProcess(contextlib.nullcontext[object]):
    """A subprocess that runs train.py in this process: importing PyTorch takes longer than a tiny run."""

    def __init__(self, command: list[str], stdout: int) -> None:
        super().__init__(self)
        assert (command[:2], stdout) == ([sys.executable, str(TRAIN)], subprocess.DEVNULL)
        with contextlib.redirect_stdout(io.StringIO()):
            self.status = load_script(TRAIN).main(command[2:])

    def wait(self) -> int:
        return int(self.status)


@pytest.fixture
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
def test_a_study_trains_sums_up_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(tmp_path / "tiny.toml"), "--folder", str(tmp_path / "runs"), "--output", str(tmp_path)]
    (tmp_path / "tiny.toml").write_text(STUDY)
    command = [sys.executable, "-W", "error", str(SCRIPT), *arguments, "--only", "as it is"]
    first = subprocess.run(command, capture_output=True, text=True, check=False)
    assert first.returncode == 0, first.stderr
    assert first.stdout.count("pretrain/train.py") == 1

    script = load_script(SCRIPT)
    popen = SimpleNamespace(Popen=InThisProcess, DEVNULL=subprocess.DEVNULL)
    monkeypatch.setattr(script, "subprocess", popen)
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *arguments])
    (tmp_path / "tiny.toml").write_text(STUDY.replace("[2e8]", "[2e8, 4e8]"))
    args = script.Args(arguments[0], folder=tmp_path / "runs", output=tmp_path)
    script.main(args)
    assert capsys.readouterr().out.count("pretrain/train.py") == 3  # of four runs
    rows = json.loads((tmp_path / "tiny.json").read_text())["rows"]
    assert [(row["name"], row["compute"]) for row in rows] == [
        (name, compute) for compute in (2e8, 4e8) for name in ("as it is", "no worked steps")
    ]
    for row in rows:
        assert row["tokens"] == pytest.approx(row["compute"] / (6 * row["parameters"]), rel=0.15)
        assert row["excess"]["whole"] > 1  # nats per token: hardly trained
    assert rows[0]["digest"] == rows[2]["digest"] != rows[1]["digest"] == rows[3]["digest"]
    table = (tmp_path / "tiny.md").read_text()
    assert table.count("| as it is |") == table.count("| no worked steps |") == 2
    assert (tmp_path / "tiny.png").stat().st_size > 5000

    script.main(args)
    assert "train.py" not in capsys.readouterr().out
    assert json.loads((tmp_path / "tiny.json").read_text())["rows"] == rows

    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *arguments, "--only", "as it was"])
    with pytest.raises(SystemExit, match=r"^study.py: .*no run 'as it was'; known: as it is, no worked steps"):
        runpy.run_path(str(SCRIPT), run_name="__main__")
