"""pretrain/train.py: stopped, killed, out of disk, diverged; and resumed."""

from __future__ import annotations

import math
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from support.pretraining import TINY, assert_same_weights, interrupt, scalars, start

from cadmus_gym.files import PARTIAL
from cadmus_gym.reports import models
from cadmus_gym.training import batches, learner, states
from cadmus_gym.transformer.checkpoint import load_model
from cadmus_gym.transformer.loss import losses
from cadmus_gym.transformer.model import Transformer


def send(folder: Path, signal_number: int, line: str, *arguments: str) -> tuple[int, str]:
    """Run the script until it prints a line that starts with ``line``, and send a signal.

    Returns the exit status and what it printed to stderr afterwards.
    """
    process = start(folder, *arguments)
    assert process.stderr is not None
    seen = ""
    while not seen.startswith(line):
        seen = process.stderr.readline()
        assert seen, "it ended too early"
    process.send_signal(signal_number)
    _, reported = process.communicate()
    return process.returncode, reported


def test_a_run_resumes_bit_exactly_after_ctrl_c(script: ModuleType, finished: tuple[Path, str, str]) -> None:
    folder = finished[0].parent / "stopped"
    status, reported = send(folder, signal.SIGINT, "step 4: true", *TINY)
    assert status == 130
    assert re.search(r"^stopping after this (step|evaluation); Ctrl-C again stops at once \(.*\)$", reported, re.M)
    assert "stopped and saved at step " in reported
    assert f"--folder {folder} --resume" in reported
    assert not (folder / "result.json").exists()
    assert script.main(["--folder", str(folder), "--resume"]) == 0
    assert_same_weights(finished[0], folder)
    curves, expected = scalars(folder), scalars(finished[0])
    assert curves["loss/all"] == expected["loss/all"]
    assert curves["truth/test"] == expected["truth/test"]


def test_a_stop_between_two_logged_steps_changes_neither_curves_nor_history(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [*TINY, "--log-every", "5"]
    assert script.main(["--folder", str(tmp_path / "whole"), *asked]) == 0
    with monkeypatch.context() as patch:
        interrupt(patch, script, 6)
        assert script.main(["--folder", str(tmp_path / "stopped"), *asked]) == 130
    assert script.main(["--folder", str(tmp_path / "stopped"), "--resume"]) == 0
    for tag in ("loss/all", "loss/completion"):
        assert scalars(tmp_path / "stopped")[tag] == scalars(tmp_path / "whole")[tag]
    one, other = (models.read(tmp_path / name / "model")[0]["history"] for name in ("whole", "stopped"))
    assert [point["loss"] for point in one] == [point["loss"] for point in other]


def test_a_signal_in_the_last_step_stops_before_the_evaluation(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        interrupt(patch, script, 12)
        assert script.main(["--folder", str(tmp_path / "run"), *TINY]) == 130
    assert "stopped and saved at step 12 of 12; resume with: " in capsys.readouterr().err
    assert not (tmp_path / "run" / "result.json").exists()
    assert script.main(["--folder", str(tmp_path / "run"), "--resume"]) == 0
    assert (tmp_path / "run" / "result.json").exists()


def test_focus_chooses_nothing_in_a_batch_of_one(script: ModuleType, tmp_path: Path) -> None:
    assert script.main(["--folder", str(tmp_path / "run"), *TINY, "--batch", "1", "--steps", "3"]) == 0


def test_a_killed_run_with_a_damaged_state_resumes_from_the_previous_one(
    script: ModuleType, finished: tuple[Path, str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = finished[0].parent / "killed"
    status, _ = send(folder, signal.SIGKILL, "step 8: true", *TINY)
    assert status == -signal.SIGKILL
    before, last = sorted((folder / "states").glob("*.pt"))
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 1
    last.write_bytes(content)
    assert script.main(["--folder", str(folder), *TINY, "--resume"]) == 0
    reported = capsys.readouterr().err
    assert f"{last} is damaged" in reported
    assert f"steps {int(before.name[:9])} to 12" in reported
    assert_same_weights(finished[0], folder)
    assert len(list((folder / "states").iterdir())) == 2


def test_a_run_killed_at_random_moments_ends_with_the_same_weights(
    script: ModuleType, finished: tuple[Path, str, str], tmp_path: Path
) -> None:
    """Two kills, or CADMUS_KILLS, while it starts, trains, evaluates or saves."""
    random, kills, delay = np.random.default_rng(), int(os.environ.get("CADMUS_KILLS", "2")), 1.0
    tiny = [*TINY, "--save-every", "1"]
    while kills:
        process = start(tmp_path / "run", *tiny, "--resume")
        try:
            _, reported = process.communicate(timeout=float(random.uniform(0, delay)))
        except subprocess.TimeoutExpired:
            process.kill()
            kills, delay = kills - 1, delay * 1.3
            process.communicate()
        else:  # it finished before the kill; start again
            assert process.returncode == 0, reported
            assert_same_weights(finished[0], tmp_path / "run")
            shutil.rmtree(tmp_path / "run")
            delay /= 2
    assert script.main(["--folder", str(tmp_path / "run"), *tiny, "--resume"]) == 0
    assert_same_weights(finished[0], tmp_path / "run")


def test_a_folder_is_neither_overwritten_nor_trained_twice(
    script: ModuleType, finished: tuple[Path, str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, printed, _ = finished
    asked = ["--folder", str(folder)]
    content = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}

    def says(status: int, *arguments: str) -> str:
        assert script.main([*asked, *arguments]) == status
        answer = capsys.readouterr()
        assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == content
        return answer.err if status else answer.out

    assert "already holds a run; --resume continues it, --overwrite deletes it" in says(2, *TINY)
    expected = "width = 24, but " + str(folder) + " was started with 16"
    assert expected in says(2, "--resume", "--width", "24")
    assert says(0, "--resume") == f"{folder} is already finished:\n{printed}"
    assert says(0, *TINY, "--resume").endswith(printed)

    (tmp_path / "notes").write_text("mine")
    asked = ["--folder", str(tmp_path)]
    assert "holds something other than a run" in says(2, *TINY, "--overwrite")
    assert (tmp_path / "notes").exists()

    asked = ["--folder", str(tmp_path / "run")]
    assert script.main([*asked, *TINY, "--steps", "2"]) == 0
    assert script.main([*asked, *TINY, "--steps", "3", "--overwrite"]) == 0
    assert load_model(tmp_path / "run" / "model").card["step"] == 3


def test_training_does_not_start_if_no_model_can_be_written(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run" / "model").mkdir(parents=True)
    (tmp_path / "run" / "model" / "notes").write_text("mine")
    assert script.main(["--folder", str(tmp_path / "run"), *TINY]) == 2
    assert "model holds notes and no model of this package" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "run").rglob("*")] == ["model", "notes"]


def test_a_nan_loss_stops_the_run_and_keeps_the_last_good_state(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[torch.Tensor] = []

    def poisoned(model: Transformer, tokens: torch.Tensor, ends: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        calls.append(tokens)
        of_prompts, of_completions = losses(model, tokens, ends)
        return of_prompts, of_completions * (math.nan if len(calls) > 6 else 1.0)

    monkeypatch.setattr(learner, "losses", poisoned)
    monkeypatch.setattr(batches, "plan_chunks", lambda lengths, batch, device: [0, batch])
    assert script.main(["--folder", str(tmp_path / "run"), *TINY]) == 1
    assert "stopped in step 7: the norm of the gradient is nan" in capsys.readouterr().err
    state = states.load_state(tmp_path / "run" / "states", print)
    assert state is not None
    assert state["counts"]["step"] == 6
    assert all(bool(weight.isfinite().all()) for weight in state["model"].values())


def test_a_run_stopped_by_a_full_disk_resumes(
    script: ModuleType,
    finished: tuple[Path, str, str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, fsync = finished[0].parent / "full", os.fsync
    left = [10]

    def full(handle: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device")
        fsync(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert script.main(["--folder", str(folder), *TINY]) == 1
    assert "No space left on device. All that was saved is intact" in capsys.readouterr().err
    assert not (folder / "states" / PARTIAL).exists()
    assert script.main(["--folder", str(folder), "--resume"]) == 0
    assert_same_weights(finished[0], folder)


def test_a_run_that_diverges_is_stopped(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[torch.Tensor] = []

    def worse(model: Transformer, tokens: torch.Tensor, ends: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        calls.append(tokens)
        of_prompts, of_completions = losses(model, tokens, ends)
        return of_prompts, of_completions * (2.0 if len(calls) > 6 else 1.0)

    monkeypatch.setattr(learner, "losses", worse)
    monkeypatch.setattr(batches, "plan_chunks", lambda lengths, batch, device: [0, batch])
    assert script.main(["--folder", str(tmp_path / "run"), *TINY]) == 1
    assert re.search(r"the loss is \d\.\d\d nats per token, 1\.5 times that of guessing", capsys.readouterr().err)
    state = states.load_state(tmp_path / "run" / "states", print)
    assert state is not None
    assert state["counts"]["step"] == 6
