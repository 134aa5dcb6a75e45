"""pretrain/train.py: from another model's weights, and trained further."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from support.pretraining import TINY, assert_same_weights, interrupt, scalars

import cadmus_gym as cg
from cadmus_gym.training import states
from cadmus_gym.training.ranks import device_of
from cadmus_gym.training.record import unpack
from cadmus_gym.transformer.checkpoint import load_model, save_model
from cadmus_gym.transformer.model import ModelConfig, Transformer


def test_a_run_reads_the_model_it_starts_from_only_once(
    script: ModuleType, finished: tuple[Path, str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished[0] / "model", tmp_path / "parent")
    parent = load_model(tmp_path / "parent")
    asked = ["--start", str(tmp_path / "parent"), "--recipe", "nano-compare", *TINY[6:], "--steps", "4"]  # no sizes
    assert script.main(["--folder", str(tmp_path / "whole"), *asked]) == 0
    with monkeypatch.context() as patch:
        save = script.Trainer.save
        interrupt(patch, script, 1)
        patch.setattr(script.Trainer, "save", lambda one: save(one) if one.counts["step"] == 0 else None)
        assert script.main(["--folder", str(tmp_path / "stopped"), *asked]) == 130
    state = states.load_state(tmp_path / "stopped" / "states", print)
    assert state is not None
    assert state["counts"]["step"] == 0
    for name, weight in parent.state_dict().items():
        assert torch.equal(state["model"][name], weight), name
    shutil.rmtree(tmp_path / "parent")
    assert script.main(["--folder", str(tmp_path / "stopped"), "--resume"]) == 0
    assert_same_weights(tmp_path / "stopped", tmp_path / "whole")
    model = load_model(tmp_path / "whole" / "model")
    assert (model.config.width, model.config.layers, model.endian) == (16, 2, "little")
    made = model.card["parent"]
    assert made["name"] == str(tmp_path / "parent")
    assert made["sha256"]["model.safetensors"] == parent.card["sha256"]["model.safetensors"]
    assert made["digest"] == cg.Stream("Cadmus-Arith-v0").digest
    assert model.card["digest"] != made["digest"]
    record, before = unpack(model.record), unpack(parent.record)
    assert list(record) == ["0", "1"]
    assert np.array_equal(record["0"], before["0"])
    assert record["1"].size == model.card["programs"]


def test_a_packaged_model_to_start_from_decides_the_sizes(script: ModuleType) -> None:
    config = script.configure(["--start", "nano-arith", "--recipe", "pico-arith", "--context", "300"])
    model = load_model("nano-arith")
    assert config.sizes == dataclasses.replace(model.config, context=300)
    assert config.endian == model.endian
    assert config.tokens == script.configure(["--recipe", "pico-arith"]).tokens  # all else is the recipe's


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ["--start", "nano-arith", "--width", "96"],
            "--start nano-arith: width = 96, but the model has 128; leave the",
        ),
        (["--start", "nano-arith", "--endian", "big"], "endian = 'big', but the model has 'little'"),
        (["--start", "nanno"], "no model 'nanno'.*models in the package: nano"),
        (["--extend"], "--extend: .* holds no run"),
        (["--extend", "--resume"], "--resume and --extend: give one of them"),
        (["--device", "cuda"], "device = cuda, but PyTorch finds no GPU; allowed here: cpu, auto"),
    ],
)
def test_start_extend_and_device_are_checked_before_training(
    script: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    expected: str,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert script.main(["--folder", str(tmp_path / "run"), *arguments]) == 2
    assert re.search(expected, capsys.readouterr().err)
    assert not (tmp_path / "run").exists()


def test_a_start_with_a_config_that_no_setting_covers_is_refused(script: ModuleType, tmp_path: Path) -> None:
    save_model(Transformer(ModelConfig(16, 2, 2, context=256, rope_theta=500.0)), tmp_path / "other")
    with pytest.raises(ValueError, match=r"the model has rope_theta = 500\.0, which train\.py has no setting for"):
        script.configure(["--start", str(tmp_path / "other")])


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert device_of("auto") == torch.device("cuda", 1)
    assert device_of("cpu") == torch.device("cpu")
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(ValueError, match="process 2 of this node has no GPU; start at most 2 processes"):
        device_of("cuda")


def test_an_extended_run_repeats_the_schedule_of_the_rates(
    script: ModuleType, finished: tuple[Path, str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished[0], folder)
    assert script.main(["--folder", str(folder), "--extend", "--steps", "12"]) == 2
    assert "--extend: steps = 12 in all; allowed: more than the 12 that" in capsys.readouterr().err
    assert script.main(["--folder", str(folder), "--extend", "--steps", "20", "--focus", "0"]) == 2
    assert "--extend: focus = 0.0, but" in capsys.readouterr().err
    assert (folder / "result.json").exists()

    rates = ["--warmup", "0.25", "--decay", "0.5", "--muon-rate", "1e-3"]
    assert script.main(["--folder", str(folder), "--extend", "--steps", "20", *rates]) == 0
    before, result = (json.loads((one / "result.json").read_text()) for one in (finished[0], folder))
    assert result["step"] == 20
    assert result["tokens"] > before["tokens"]
    assert result["history"][:3] == before["history"]
    assert [point["step"] for point in result["history"]] == [4, 8, 12, 16, 20]
    curve = scalars(folder)["rate/muon"]
    assert [curve[step] for step in range(13, 21)] == pytest.approx(
        [1e-3 * share for share in (0.5, 1, 1, 1, 1, 0.75, 0.5, 0.25)]
    )
    assert curve[12] == pytest.approx(scalars(finished[0])["rate/muon"][12])
    settings = load_model(folder / "model").card["settings"]
    assert (settings["steps"], settings["muon_rate"]) == (20, 1e-3)
    assert [(part["step"], part["steps"], part["muon_rate"]) for part in settings["parts"]] == [(12, 12, 5e-3)]

    assert script.main(["--folder", str(folder), "--resume"]) == 0
    assert script.main(["--folder", str(folder), "--extend", "--steps", "21"]) == 0
    parts = load_model(folder / "model").card["settings"]["parts"]
    assert [part["step"] for part in parts] == [12, 20]
    choices, first = (unpack(load_model(one / "model").record)["0"] for one in (folder, finished[0]))
    assert choices.size == 21 * 48
    assert np.array_equal(choices[: 12 * 48], first)


@pytest.mark.parametrize("at", [12, 16])
def test_an_extended_run_resumes_bit_exactly(
    script: ModuleType, finished: tuple[Path, str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """Interrupted within the part that was added, or killed as soon as run.json says that there is one."""
    for name in ("whole", "stopped"):
        shutil.copytree(finished[0], tmp_path / name)
    more = ["--extend", "--steps", "20", "--decay", "0.5"]
    assert script.main(["--folder", str(tmp_path / "whole"), *more]) == 0
    with monkeypatch.context() as patch:
        if at == 12:
            patch.setattr(script.Trainer, "train", lambda trainer: 130)
        else:
            interrupt(patch, script, at)
        assert script.main(["--folder", str(tmp_path / "stopped"), *more]) == 130
    assert script.main(["--folder", str(tmp_path / "stopped"), *more]) == 2  # it is not finished
    assert script.main(["--folder", str(tmp_path / "stopped"), "--resume"]) == 0
    assert_same_weights(tmp_path / "stopped", tmp_path / "whole")
    one, other = (json.loads((tmp_path / name / "result.json").read_text()) for name in ("whole", "stopped"))
    assert [point["loss"] for point in one["history"]] == [point["loss"] for point in other["history"]]


def test_a_state_from_before_the_extension_is_refused(
    script: ModuleType, finished: tuple[Path, str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished[0], folder)
    assert script.main(["--folder", str(folder), "--extend", "--steps", "14"]) == 0
    (folder / "result.json").unlink()
    for path in (folder / "states").iterdir():
        path.unlink()
    shutil.copy(min((finished[0] / "states").iterdir()), folder / "states")
    assert script.main(["--folder", str(folder), "--resume"]) == 2
    assert "is of step 10, before the run was extended at step 12; start another run with" in capsys.readouterr().err


def test_a_run_that_stopped_at_its_truth_rate_can_be_extended(script: ModuleType, tmp_path: Path) -> None:
    goal = [*TINY, "--stop-at-truth", "0"]
    assert script.main(["--folder", str(tmp_path / "run"), *goal]) == 0
    assert load_model(tmp_path / "run" / "model").card["step"] == 4
    assert script.main(["--folder", str(tmp_path / "run"), "--extend"]) == 0
    assert load_model(tmp_path / "run" / "model").card["step"] == 12
