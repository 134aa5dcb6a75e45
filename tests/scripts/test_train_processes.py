"""pretrain/train.py: several processes, and the type of products."""

from __future__ import annotations

import json
import math
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from support.pretraining import SCRIPT, TINY, assert_same_weights, interrupt, scalars

import cadmus_gym as cg
from cadmus_gym.training import batches, learner
from cadmus_gym.training.optimizers import Muon, orthogonalized
from cadmus_gym.training.ranks import Ranks
from cadmus_gym.transformer.checkpoint import load_model

SPREAD = [*TINY, "--steps", "50", "--warmup", "1", "--evaluate-every", "25", "--save-every", "20"]


def start_ranks(folder: Path, count: int, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    command += [str(SCRIPT), "--folder", str(folder), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run of two processes that nothing interrupted: its folder, and what it printed."""
    folder = tmp_path_factory.mktemp("ranks") / "two"
    process = start_ranks(folder, 2, *SPREAD)
    printed, reported = process.communicate()
    assert process.returncode == 0, reported
    return folder, printed


def test_two_processes_train_as_one(script: ModuleType, two_ranks: tuple[Path, str], tmp_path: Path) -> None:
    folder, printed = two_ranks
    assert printed.count("; true of 16 prompts: ") == 1
    assert script.main(["--folder", str(tmp_path / "one"), *SPREAD]) == 0
    curves, expected = scalars(folder), scalars(tmp_path / "one")
    for tag in ("loss/all", "loss/completion", "loss/excess"):
        assert list(curves[tag]) == list(range(1, 51)), tag
        assert curves[tag] == pytest.approx(expected[tag], abs=1e-4), tag
    for tag in ("tokens/total", "rate/muon", "truth/test"):
        assert curves[tag] == expected[tag], tag
    assert load_model(folder / "model").record == load_model(tmp_path / "one" / "model").record
    card = load_model(folder / "model").card
    assert (card["processes"], card["tokens"]) == (2, load_model(tmp_path / "one" / "model").card["tokens"])
    assert card["digest"] == load_model(tmp_path / "one" / "model").card["digest"]


def test_two_processes_stop_together_and_resume_to_the_bit(two_ranks: tuple[Path, str], tmp_path: Path) -> None:
    process = start_ranks(tmp_path / "run", 2, *SPREAD)
    assert process.stderr is not None
    seen = ""
    while not seen.startswith("step 25: true"):
        seen = process.stderr.readline()
        assert seen, "ended before"
    process.send_signal(signal.SIGINT)
    _, reported = process.communicate()
    assert process.returncode != 0
    assert re.search(r"stopped and saved at step (\d+) of 50; resume with: the same torchrun command", reported), (
        reported
    )
    process = start_ranks(tmp_path / "run", 2, "--resume")
    _, reported = process.communicate()
    assert process.returncode == 0, reported
    assert_same_weights(two_ranks[0], tmp_path / "run")


def test_a_batch_is_a_multiple_of_the_processes(tmp_path: Path) -> None:
    process = start_ranks(tmp_path / "run", 2, *SPREAD, "--batch", "47")
    _, reported = process.communicate()
    assert process.returncode != 0
    assert "batch = 47; allowed: a multiple of the number of processes, 2" in reported
    assert not (tmp_path / "run").exists()


AUTO = [part for part in TINY if part not in ("--dtype", "float32")]


@pytest.mark.parametrize("faster", ["float32", "bfloat16"])
def test_the_faster_type_is_chosen_and_trains_as_if_it_had_been_asked_for(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], faster: str
) -> None:
    preflight = script.preflight

    def timed(*given: Any) -> dict[str, float]:
        found = preflight(*given)
        assert list(found) == ["float32", "bfloat16"]
        assert min(found.values()) > 0
        return {dtype: 2000.0 if dtype == faster else 1000.0 for dtype in found}

    with monkeypatch.context() as patch:
        patch.setattr(script, "preflight", timed)
        patch.setattr(learner, "HOPELESS", math.inf)
        assert script.main(["--folder", str(tmp_path / "auto"), *AUTO]) == 0
    assert f"tokens per core-second: computing in {faster}\n" in capsys.readouterr().err
    assert script.main(["--folder", str(tmp_path / "named"), *AUTO, "--dtype", faster]) == 0
    assert_same_weights(tmp_path / "auto", tmp_path / "named")
    card = load_model(tmp_path / "auto" / "model").card
    assert card["settings"]["dtype"] == faster
    assert card["preflight"][faster] == 2000
    assert load_model(tmp_path / "named" / "model").card["preflight"] is None
    assert json.loads((tmp_path / "auto" / "run.json").read_text())["config"]["dtype"] == faster


def test_a_resumed_run_keeps_its_type_and_times_nothing(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed = {"float32": 1.0, "bfloat16": 2.0}
    monkeypatch.setattr(script, "preflight", lambda *_: dict(timed))
    asked = ["--folder", str(tmp_path / "stopped"), *AUTO]
    with monkeypatch.context() as patch:
        interrupt(patch, script, 6)
        assert script.main(asked) == 130
    timed["float32"] = 3.0  # what a preflight would find now
    monkeypatch.setattr(script, "preflight", lambda *_: pytest.fail("timed again"))
    assert script.main([*asked, "--resume", "--dtype", "auto"]) == 0
    assert script.main(["--folder", str(tmp_path / "whole"), *AUTO, "--dtype", "bfloat16"]) == 0
    assert_same_weights(tmp_path / "stopped", tmp_path / "whole")
    assert load_model(tmp_path / "stopped" / "model").card["preflight"] == {"float32": 1.0, "bfloat16": 2.0}


def test_a_type_that_is_many_times_slower_is_timed_once(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 100.0, 200.0, 300.0, 400.0])
    monkeypatch.setattr(time, "process_time", lambda: next(ticks))
    stream, ranks = cg.Stream("Cadmus-Arith-v0"), Ranks("cpu")
    config = script.configure([*AUTO])
    chunks = batches.cut_chunks(batches.draw(stream, np.arange(48)), "little", [0, 16, 32, 48])
    found = script.preflight(config, chunks, ranks)
    tokens, padded = (sum(one) for one in zip(*((int(c.lengths.sum()), c.tokens.numel()) for c in chunks), strict=True))
    assert found["float32"] == pytest.approx(tokens / (padded / chunks[1].tokens.numel() + 1))
    assert found["bfloat16"] < found["float32"] / 50
    assert next(ticks) == 400.0  # nine times for float32, three for the other


def test_two_processes_choose_one_type(tmp_path: Path) -> None:
    """Each alone would choose another: the first one's preflight decides."""
    code = """
import os, runpy, sys
sys.argv = sys.argv[1:]
import importlib.util
spec = importlib.util.spec_from_file_location("train_script", sys.argv[0])
script = importlib.util.module_from_spec(spec)
sys.modules["train_script"] = script
spec.loader.exec_module(script)
rank = int(os.environ["RANK"])
script.preflight = lambda *_: {"float32": 1000.0 * rank, "bfloat16": 500.0}
sys.exit(script.main(sys.argv[1:]))
"""
    (tmp_path / "chosen.py").write_text(code)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += [str(tmp_path / "chosen.py"), str(SCRIPT), "--folder", str(tmp_path / "run"), *AUTO, "--steps", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "preflight: float32 0, bfloat16 500 tokens per core-second: computing in bfloat16" in done.stderr
    assert load_model(tmp_path / "run" / "model").card["settings"]["dtype"] == "bfloat16"


def test_muon_in_bfloat16_is_that_of_pytorch_to_the_bit_and_in_float32_its_like() -> None:
    moved = []
    for kind in ("theirs", torch.bfloat16, torch.float32):
        matrices = [torch.zeros(shape) for shape in ((16, 48), (48, 16), (16, 16))]
        random = torch.Generator().manual_seed(0)
        for matrix in matrices:
            matrix.normal_(generator=random)
        if isinstance(kind, torch.dtype):
            optimizer: torch.optim.Optimizer = Muon(matrices, 5e-3, 0.1, kind)
        else:
            optimizer = torch.optim.Muon(matrices, lr=5e-3, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
        for _ in range(5):
            for matrix in matrices[:2]:  # the last one has no gradient
                matrix.grad = torch.randn(matrix.shape, generator=random)
            optimizer.step()
        moved.append(torch.cat([matrix.flatten() for matrix in matrices]))
    theirs, low, high = moved
    assert torch.equal(low, theirs)
    assert not torch.equal(high, theirs)
    assert torch.allclose(high, theirs, atol=1e-3)


def test_newton_schulz_brings_singular_values_near_one() -> None:
    matrix = torch.randn(24, 60, generator=torch.Generator().manual_seed(0))
    for one in (matrix, matrix.T):
        found = orthogonalized(one, (3.4445, -4.775, 2.0315), 5)
        assert found.dtype == torch.float32
        values = torch.linalg.svdvals(found)
        assert 0.6 < float(values.min()) < float(values.max()) < 1.3
