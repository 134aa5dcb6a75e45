"""pretrain/train.py: several processes, and the type of products."""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from support.pretraining import TINY, assert_same_weights, interrupt, scalars
from support.scripts import TOP, TRAIN

import cadmus_gym as cg
from cadmus_gym.training import batches, learner
from cadmus_gym.training.optimizers import Muon, orthogonalized
from cadmus_gym.training.ranks import Ranks
from cadmus_gym.transformer.checkpoint import load_model

SPREAD = [*TINY, "--steps", "24", "--warmup", "1", "--evaluate-every", "12", "--save-every", "10"]
AUTO = ["--dtype", "auto"]
# Each process would choose another type: the first one's choice counts.
FIRST, SECOND = {"float32": 1000.0, "bfloat16": 500.0}, {"float32": 100.0, "bfloat16": 500.0}
CHOOSING = f"learner.preflight = lambda *_: {SECOND}"
OTHER = """
import sys
from cadmus_gym.training import learner
from support.scripts import TRAIN, load_script
{}
sys.exit(load_script(TRAIN).main(sys.argv[1:]))
"""


def train_in_two(script: ModuleType, *arguments: str, changed: str = "") -> tuple[str, str]:
    """Train in this process and in another, which is ``changed`` by a line; return what they print.

    It is as with torchrun, but PyTorch is imported once instead of three times, which takes most of the time.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "PYTHONPATH": str(TOP / "tests")}
    command = [sys.executable, "-W", "error", "-c", OTHER.format(changed), *arguments]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    printed, reported = io.StringIO(), io.StringIO()
    with contextlib.ExitStack() as held:
        patch = held.enter_context(pytest.MonkeyPatch.context())
        for name, value in {**place, "RANK": "0"}.items():
            patch.setenv(name, value)
        other = held.enter_context(subprocess.Popen(command, env={**os.environ, "RANK": "1"}, **pipes))
        held.callback(other.kill)  # if this process fails; else it has ended
        held.enter_context(contextlib.redirect_stdout(printed))
        held.enter_context(contextlib.redirect_stderr(reported))
        status, others = script.main([*arguments]), other.communicate()
    assert (status, other.returncode) == (0, 0), (reported.getvalue(), others[1])
    return printed.getvalue() + others[0], reported.getvalue() + others[1]


@pytest.fixture(scope="module")
def two_ranks(script: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """An uninterrupted run of two processes that choose a type: its folder, and what it printed."""
    folder = tmp_path_factory.mktemp("ranks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(learner, "preflight", lambda *_: FIRST)
        return folder / "two", *train_in_two(script, "--folder", str(folder / "two"), *SPREAD, *AUTO, changed=CHOOSING)


def test_two_processes_train_as_one(script: ModuleType, two_ranks: tuple[Path, str, str], tmp_path: Path) -> None:
    folder, printed, _ = two_ranks
    assert printed.count("; true of 16 prompts: ") == 1
    assert script.main(["--folder", str(tmp_path / "one"), *SPREAD]) == 0
    curves, expected = scalars(folder), scalars(tmp_path / "one")
    for tag in ("loss/all", "loss/completion", "loss/excess_prompts", "loss/excess_completions"):
        assert list(curves[tag]) == list(range(1, 25)), tag
        assert curves[tag] == pytest.approx(expected[tag], abs=1e-4), tag
    for tag in ("tokens/total", "rate/muon", "truth/test"):
        assert curves[tag] == expected[tag], tag
    assert load_model(folder / "model").record == load_model(tmp_path / "one" / "model").record
    card = load_model(folder / "model").card
    assert (card["processes"], card["tokens"]) == (2, load_model(tmp_path / "one" / "model").card["tokens"])
    assert card["digest"] == load_model(tmp_path / "one" / "model").card["digest"]


def test_two_processes_choose_one_type(two_ranks: tuple[Path, str, str]) -> None:
    folder, _, reported = two_ranks
    assert reported.count("preflight: float32 1,000, bfloat16 500 tokens per core-second; computing in float32") == 1
    assert load_model(folder / "model").card["settings"]["dtype"] == "float32"


def test_two_processes_stop_together_and_resume_bit_exactly(
    script: ModuleType, two_ranks: tuple[Path, str, str], tmp_path: Path
) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(TRAIN)]
    command = [*torchrun, "--folder", str(tmp_path / "run"), *SPREAD]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    seen = ""
    while not seen.startswith("step 12: true"):
        seen = process.stderr.readline()
        assert seen, "it ended before the evaluation"
    process.send_signal(signal.SIGINT)
    _, reported = process.communicate()
    assert process.returncode != 0
    stopped = r"stopped and saved at step (\d+) of 24; resume with: the same torchrun command"
    assert len(re.findall(stopped, reported)) == 1, reported
    train_in_two(script, "--folder", str(tmp_path / "run"), "--resume")
    assert_same_weights(two_ranks[0], tmp_path / "run")


def test_a_batch_must_be_a_multiple_of_the_number_of_processes(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Two(Ranks):
        """The first of two processes, the other of which does the same."""

        def __init__(self, device: str) -> None:
            super().__init__(device)
            self.count = 2

        def gather(self, own: Any) -> list[Any]:
            return [own, own]

        def first(self, make: Any) -> Any:
            return make()

        def close(self) -> None:
            pass

    monkeypatch.setattr(script, "Ranks", Two)
    assert script.main(["--folder", str(tmp_path / "run"), *SPREAD, "--batch", "47"]) == 2
    assert "batch = 47; allowed: a multiple of the number of processes, 2" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("faster", ["float32", "bfloat16"])
def test_the_faster_type_is_chosen_and_trains_as_if_requested(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], faster: str
) -> None:
    preflight = learner.preflight

    def timed(*given: Any) -> dict[str, float]:
        found = preflight(*given)
        assert list(found) == ["float32", "bfloat16"]
        assert min(found.values()) > 0
        return {dtype: 2000.0 if dtype == faster else 1000.0 for dtype in found}

    with monkeypatch.context() as patch:
        patch.setattr(learner, "preflight", timed)
        patch.setattr(learner, "HOPELESS", math.inf)
        assert script.main(["--folder", str(tmp_path / "auto"), *TINY, *AUTO]) == 0
    assert f"tokens per core-second; computing in {faster}\n" in capsys.readouterr().err
    assert script.main(["--folder", str(tmp_path / "named"), *TINY, *AUTO, "--dtype", faster]) == 0
    assert_same_weights(tmp_path / "auto", tmp_path / "named")
    card = load_model(tmp_path / "auto" / "model").card
    assert card["settings"]["dtype"] == faster
    assert card["preflight"][faster] == 2000
    assert load_model(tmp_path / "named" / "model").card["preflight"] is None
    assert json.loads((tmp_path / "auto" / "run.json").read_text())["config"]["dtype"] == faster


def test_a_resumed_run_keeps_its_type_without_timing(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed = {"float32": 1.0, "bfloat16": 2.0}
    monkeypatch.setattr(learner, "preflight", lambda *_: dict(timed))
    asked = ["--folder", str(tmp_path / "stopped"), *TINY, *AUTO]
    with monkeypatch.context() as patch:
        interrupt(patch, script, 6)
        assert script.main(asked) == 130
    timed["float32"] = 3.0  # what a preflight would find now
    monkeypatch.setattr(learner, "preflight", lambda *_: pytest.fail("timed again"))
    assert script.main([*asked, "--resume", "--dtype", "auto"]) == 0
    assert script.main(["--folder", str(tmp_path / "whole"), *TINY, *AUTO, "--dtype", "bfloat16"]) == 0
    assert_same_weights(tmp_path / "stopped", tmp_path / "whole")
    assert load_model(tmp_path / "stopped" / "model").card["preflight"] == {"float32": 1.0, "bfloat16": 2.0}


def test_a_hopelessly_slow_type_is_timed_only_once(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 100.0, 200.0, 300.0, 400.0])
    monkeypatch.setattr(time, "process_time", lambda: next(ticks))
    stream, ranks = cg.Stream("Cadmus-Arith-v0"), Ranks("cpu")
    config = script.configure([*TINY, *AUTO])
    chunks = batches.cut_chunks(batches.draw(stream, np.arange(48)), "little", [0, 16, 32, 48])
    found = learner.preflight(config, chunks, ranks)
    tokens, padded = (sum(one) for one in zip(*((int(c.lengths.sum()), c.tokens.numel()) for c in chunks), strict=True))
    assert found["float32"] == pytest.approx(tokens / (padded / chunks[1].tokens.numel() + 1))
    assert found["bfloat16"] < found["float32"] / 50
    assert next(ticks) == 400.0  # nine times for float32, three for the other


def test_muon_equals_that_of_pytorch_to_the_bit_in_bfloat16_and_nearly_in_float32() -> None:
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
