"""pretrain/train.py, run as a user runs it: what it prints and writes, that it learns, that it can be stopped."""

from __future__ import annotations

import dataclasses
import importlib.util
import io
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from itertools import count, pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import cadmus_gym as cg
from cadmus_gym.evaluation.truth import EVALUATION_SEED
from cadmus_gym.reports import models
from cadmus_gym.training import batches, interrupts, learner, states
from cadmus_gym.training.focus import START, Focus, fill_kinds
from cadmus_gym.training.ledger import Ledger
from cadmus_gym.training.optimizers import Muon, make_optimizers, orthogonalized, rate_at
from cadmus_gym.training.ranks import Ranks, device_of
from cadmus_gym.training.record import unpack
from cadmus_gym.transformer import model_files
from cadmus_gym.transformer.checkpoint import RECORD, load_model, save_model
from cadmus_gym.transformer.loss import losses
from cadmus_gym.transformer.model import ModelConfig, Transformer, with_bos

SCRIPT = Path(__file__).resolve().parents[2] / "pretrain" / "train.py"
TINY = ["--width", "16", "--layers", "2", "--heads", "2", "--context", "128", "--batch", "48", "--steps", "12"]
TINY += ["--threads", "1", "--dtype", "float32", "--log-every", "1", "--save-every", "2"]
TINY += ["--evaluate-every", "4", "--evaluate-count", "8", "--final-count", "16"]
SPLITS = ["train", "test", "wide", "long", "large", "pairs"]


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", str(SCRIPT), "--folder", str(folder), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run(folder: Path, *arguments: str) -> tuple[str, str]:
    """Run the script to its end; return what it printed to stdout and stderr."""
    process = start(folder, *arguments)
    printed, reported = process.communicate()
    assert process.returncode == 0, reported
    return printed, reported


def send(folder: Path, signal_number: int, line: str, *arguments: str) -> tuple[int, str]:
    """Run the script until it prints a line that begins so, send a signal; return exit status and what came behind."""
    process = start(folder, *arguments)
    assert process.stderr is not None
    seen = ""
    while not seen.startswith(line):
        seen = process.stderr.readline()
        assert seen, "ended before"
    process.send_signal(signal_number)
    _, reported = process.communicate()
    return process.returncode, reported


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("train_script", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look up their annotations
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """A run that nothing interrupted: its folder, and what it printed. No test may change it."""
    folder = tmp_path_factory.mktemp("runs") / "finished"
    return (folder, *run(folder, *TINY))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_model(folder / "model").state_dict()


def assert_same_weights(one: Path, other: Path) -> None:
    """Trained on the same programs, too, by the records of both."""
    assert load_model(one / "model").record == load_model(other / "model").record
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    for name, weight in first.items():
        assert torch.equal(weight, second[name]), name


def scalars(folder: Path) -> dict[str, dict[int, float]]:
    """What TensorBoard shows: tag -> step -> value."""
    events = EventAccumulator(str(folder))
    events.Reload()
    return {tag: {event.step: event.value for event in events.Scalars(tag)} for tag in events.Tags()["scalars"]}


# ---------------------------------------------------------------------------------------------- a run


def test_a_run_prints_one_line_and_writes_model_card_states_and_curves(finished: tuple[Path, str, str]) -> None:
    folder, printed, reported = finished
    assert printed.count("\n") == 1
    assert printed.startswith(f"{folder / 'model'}: ")
    for split in SPLITS:
        assert f"{split} " in printed
    assert ": 12 steps, " in printed
    assert "; true of 16 prompts: train " in printed
    assert "step 4: true train " in reported
    assert "step 12/12, loss " in reported
    assert f"{sum(weight.numel() for weight in weights(folder).values()):,} parameters, steps 0 to 12" in reported

    result = json.loads((folder / "result.json").read_text())
    assert result["line"] + "\n" == printed
    card = json.loads((folder / "model" / "card.json").read_text())
    stream = cg.Stream("Cadmus-Arith-v0", "train")
    assert card["digest"] == stream.digest
    assert card["digests"] == {"Cadmus-Arith-v0": cg.load_spec("Cadmus-Arith-v0").digests()}
    assert (card["settings"]["seed"], card["settings"]["width"], card["settings"]["recipe"]) == (0, 16, "nano-arith")
    assert (card["endian"], card["step"], card["steps"], card["programs"]) == ("little", 12, 12, 12 * 48)
    assert card["tokens"] == result["tokens"] > 12 * 48 * 10
    assert card["cpu_seconds"] > card["evaluation_cpu_seconds"] > 0
    assert card["commit"]
    assert card["hardware"]["cores"]
    assert [one["split"] for one in card["metrics"]] == SPLITS
    assert all(one["count"] == 16 and one["seed"] == EVALUATION_SEED for one in card["metrics"])
    assert [point["step"] for point in card["history"]] == [4, 8, 12]
    losses = scalars(folder)["loss/all"]
    for point in card["history"]:  # of all steps since the one before
        some = [losses[step] for step in range(point["step"] - 3, point["step"] + 1)]
        assert point["loss"] == pytest.approx(sum(some) / 4, rel=0.02)

    assert [path.name[:9] for path in sorted((folder / "states").iterdir())] == ["000000010", "000000012"]
    curves = scalars(folder)
    for tag in ("loss/all", "loss/completion", "gradient/norm", "tokens/second", "rate/muon", "rate/adamw"):
        assert list(curves[tag]) == list(range(1, 13)), tag
    for split in SPLITS:
        assert list(curves[f"truth/{split}"]) == list(curves[f"loopholes/{split}"]) == [4, 8, 12]
    texts = EventAccumulator(str(folder))
    texts.Reload()
    assert [event.step for event in texts.Tensors("completions/text_summary")] == [4, 8, 12]
    assert math.log(65) - 1 < curves["loss/all"][1] < math.log(65) + 1
    assert curves["rate/muon"][12] < curves["rate/muon"][1]


def test_the_speed_is_that_of_all_tokens(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = count()
    monkeypatch.setattr(time, "monotonic", lambda: float(next(ticks)))
    assert script.main(["--folder", str(tmp_path), *TINY]) == 0
    curves = scalars(tmp_path)
    for step in range(2, 13):
        tokens = curves["tokens/total"][step] - curves["tokens/total"][step - 1]
        seconds = tokens / curves["tokens/second"][step]
        assert seconds > 5
        assert seconds == pytest.approx(round(seconds), abs=1e-4)


def test_without_focus_it_trains_on_the_stream_as_it_stands(script: ModuleType, tmp_path: Path) -> None:
    assert script.main(["--folder", str(tmp_path / "plain"), *TINY, "--focus", "0"]) == 0
    programs, _ = cg.Stream("Cadmus-Arith-v0", "train").batch(0, 12 * 48)
    model = load_model(tmp_path / "plain" / "model")
    assert model.card["tokens"] == int((programs != 0).sum())
    assert (model.card["among"], model.record) == (1, b"")  # nothing was chosen


@pytest.mark.parametrize("more", [["--seed", "1"], ["--seed", "2", "--focus", "0.9"]], ids=["half", "most"])
def test_the_record_gives_the_programs_of_every_step(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: list[str]
) -> None:
    used, cut = [], batches.cut_chunks

    def cut_chunks(batch: batches.Batch, *given: Any) -> list[batches.Chunk]:
        used.append(batch.programs)
        return cut(batch, *given)

    monkeypatch.setattr(batches, "cut_chunks", cut_chunks)
    assert script.main(["--folder", str(tmp_path / "run"), *TINY, *more]) == 0
    card, record = load_model(tmp_path / "run" / "model").card, load_model(tmp_path / "run" / "model").record
    choices = unpack(record)["0"]
    assert choices.shape == (12 * 48,)
    assert set(choices.tolist()) == set(range(card["among"]))
    numbers = np.arange(12 * 48) * card["among"] + choices
    stream = cg.Stream("Cadmus-Arith-v0", seed=int(more[1]))
    programs, _ = stream.gather(np.full(numbers.size, stream.seed), numbers)
    assert np.array_equal(programs, np.concatenate(used))
    assert card["sha256"][RECORD] == model_files.sha256(tmp_path / "run" / "model" / RECORD)


def test_the_model_of_an_evaluation_has_the_record_up_to_there(
    script: ModuleType, finished: tuple[Path, str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt(monkeypatch, script, 6)
    assert script.main(["--folder", str(tmp_path / "run"), *TINY]) == 130
    whole, half = (unpack(load_model(one / "model").record)["0"] for one in (finished[0], tmp_path / "run"))
    assert np.array_equal(half, whole[: 4 * 48])
    state = states.load_state(tmp_path / "run" / "states", print)
    assert state is not None
    assert np.array_equal(state["choices"].numpy(), whole[: state["counts"]["step"] * 48])


def test_a_state_of_a_version_without_a_record_is_refused(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        interrupt(patch, script, 2)
        assert script.main(["--folder", str(tmp_path / "run"), *TINY]) == 130
    state = states.load_state(tmp_path / "run" / "states", print)
    assert state is not None
    del state["choices"]
    states.save_state(tmp_path / "run" / "states", 2, state)
    assert script.main(["--folder", str(tmp_path / "run"), "--resume"]) == 2
    assert "another version of Cadmus Gym wrote them; resume with that one" in capsys.readouterr().err


def test_of_a_family_without_probabilities_it_trains_without_a_floor(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = ["from cadmus_gym.tasks import Family", "from cadmus_gym.tasks.values.compare import Parameters"]
    lines += ["def compose(parameters, choices):", "    return f'{choices.integer(0, 99)} 7 add'"]
    lines += ["SUMS = Family('sums', 1, Parameters, 'value', lambda parameters: 6, compose=compose)"]
    (tmp_path / "own_sums.py").write_text("\n".join(lines))
    spec = ['id = "Sums-v0"', 'task = "own_sums:SUMS"']
    spec += ["[splits.train]", "share = [0.2, 1.0]", "[splits.test]", "share = [0.0, 0.2]"]
    (tmp_path / "sums.toml").write_text("\n".join(spec))
    monkeypatch.syspath_prepend(str(tmp_path))
    folder = tmp_path / "run"
    assert script.main(["--folder", str(folder), *TINY, "--env", str(tmp_path / "sums.toml"), "--log-every", "5"]) == 0
    card, config = models.read(folder / "model")
    assert card["floor"] is None
    assert "loss/completion" in scalars(folder)
    assert "loss/excess" not in scalars(folder)
    assert "50% of them chosen by focus among the stream's first 4,608" in models.page("sums", card, config)


def test_two_runs_of_a_seed_are_one_whatever_ran_before(script: ModuleType, finished: tuple[Path, str, str]) -> None:
    folder = finished[0].parent
    cg.Stream("Cadmus-Arith-v0", "train", seed=5).batch(0, 100)
    torch.manual_seed(7)
    assert script.main(["--folder", str(folder / "again"), *TINY]) == 0
    assert script.main(["--folder", str(folder / "other"), *TINY, "--seed", "1"]) == 0
    assert_same_weights(finished[0], folder / "again")
    with pytest.raises(AssertionError):
        assert_same_weights(finished[0], folder / "other")


def test_it_learns(script: ModuleType, tmp_path: Path) -> None:
    tiny = [*TINY, "--steps", "80", "--evaluate-every", "1000", "--save-every", "1000"]
    assert script.main(["--folder", str(tmp_path / "run"), *tiny]) == 0
    curve = scalars(tmp_path / "run")["loss/completion"]
    first, last = (np.mean([curve[step] for step in steps]) for steps in (range(1, 6), range(76, 81)))
    assert last < 0.6 * first


def test_mixtures_overrides_and_a_goal(script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mixture = {"Cadmus-Arith-v0": 2, "Cadmus-Compare-v0": 1}
    goal = ["--stop-at-truth", "0", "--endian", "big", "--optimizer", "adamw", "--dtype", "bfloat16"]
    assert script.main(["--folder", str(tmp_path / "mix"), *TINY, "--env", json.dumps(mixture), *goal]) == 0
    assert re.search(r"\n  Cadmus-Compare-v0: train .*, reserved ", capsys.readouterr().out)
    model = load_model(tmp_path / "mix" / "model")
    assert model.endian == "big"
    assert model.card["digest"] == cg.Stream(mixture).digest
    assert model.card["step"] == 4  # of 12: at the first evaluation the goal was reached
    assert script.main(["--folder", str(tmp_path / "mix"), "--resume"]) == 0
    (tmp_path / "mix" / "result.json").unlink()  # as if it had been killed just before the end
    assert script.main(["--folder", str(tmp_path / "mix"), "--resume"]) == 0
    assert load_model(tmp_path / "mix" / "model").card["step"] == 4

    overrides = {"thoughts": {"share": 0.0}}
    short = [*TINY, "--steps", "1", "--overrides", json.dumps(overrides)]
    assert script.main(["--folder", str(tmp_path / "short"), *short]) == 0
    spec = cg.load_spec("Cadmus-Arith-v0", **overrides)
    assert load_model(tmp_path / "short" / "model").card["digest"] == spec.digests()["train"]


# ---------------------------------------------------------------------------------------------- interrupted


def test_after_ctrl_c_it_resumes_as_if_nothing_had_been(script: ModuleType, finished: tuple[Path, str, str]) -> None:
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


def interrupt(patch: pytest.MonkeyPatch, script: ModuleType, at: int) -> None:
    """Let Ctrl-C come in a step."""
    train_step = script.Trainer.train_step

    def interrupted(trainer: Any, batches: Any, stop: interrupts.Stop) -> Any:
        done = train_step(trainer, batches, stop)
        if trainer.counts["step"] == at:
            stop.signal = signal.SIGINT
        return done

    patch.setattr(script.Trainer, "train_step", interrupted)


def test_a_stop_between_two_lines_of_the_log_changes_neither_curves_nor_history(
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


def test_a_batch_of_one_leaves_focus_nothing_to_choose(script: ModuleType, tmp_path: Path) -> None:
    assert script.main(["--folder", str(tmp_path / "run"), *TINY, "--batch", "1", "--steps", "3"]) == 0


def test_killed_and_with_its_last_state_damaged_it_resumes_from_the_one_before(
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


def test_killed_at_random_moments_it_ends_with_the_same_weights(
    finished: tuple[Path, str, str], tmp_path: Path
) -> None:
    """Three kills, or CADMUS_KILLS of them: while it starts, trains, evaluates or saves, whatever the moment hits."""
    random, kills, delay = np.random.default_rng(), int(os.environ.get("CADMUS_KILLS", "3")), 1.0
    tiny = [*TINY, "--save-every", "1"]
    while kills:
        process = start(tmp_path / "run", *tiny, "--resume")
        try:
            _, reported = process.communicate(timeout=float(random.uniform(0, delay)))
        except subprocess.TimeoutExpired:
            process.kill()
            kills, delay = kills - 1, delay * 1.3
            process.communicate()
        else:  # it had finished before; begin anew
            assert process.returncode == 0, reported
            assert_same_weights(finished[0], tmp_path / "run")
            shutil.rmtree(tmp_path / "run")
            delay /= 2
    run(tmp_path / "run", *tiny, "--resume")
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


def test_where_no_model_can_be_written_no_training_starts(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run" / "model").mkdir(parents=True)
    (tmp_path / "run" / "model" / "notes").write_text("mine")
    assert script.main(["--folder", str(tmp_path / "run"), *TINY]) == 2
    assert "model holds notes and no model of this package" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "run").rglob("*")] == ["model", "notes"]


def test_a_loss_that_is_no_number_stops_the_run_and_the_last_good_state_stays(
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


def test_a_full_disk_stops_the_run_and_it_resumes(
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
    assert "No space left on device. What was saved before is intact" in capsys.readouterr().err
    assert not (folder / "states" / "partial").exists()
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
    assert re.search(r"the loss is \d\.\d\d nats per token, half more than guessing loses", capsys.readouterr().err)
    state = states.load_state(tmp_path / "run" / "states", print)
    assert state is not None
    assert state["counts"]["step"] == 6


# ---------------------------------------------------------------------------------------------- several processes

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


# ---------------------------------------------------------------------------------------------- type of the products


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


# ---------------------------------------------------------------------------------------------- from another model


def test_a_run_starts_from_a_model_and_needs_it_no_more(
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


def test_a_packaged_model_is_a_start_and_its_sizes_count(script: ModuleType) -> None:
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
def test_a_start_an_extension_and_a_device_are_checked_before_the_work(
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


def test_what_a_recipe_cannot_say_of_a_start_is_refused(script: ModuleType, tmp_path: Path) -> None:
    save_model(Transformer(ModelConfig(16, 2, 2, context=256, rope_theta=500.0)), tmp_path / "other")
    with pytest.raises(ValueError, match=r"the model has rope_theta = 500\.0, which train\.py has no setting for"):
        script.configure(["--start", str(tmp_path / "other")])


def test_a_process_without_a_gpu_of_its_own_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert device_of("auto") == torch.device("cuda", 1)
    assert device_of("cpu") == torch.device("cpu")
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(ValueError, match="process 2 of this node has no GPU; start at most 2 processes"):
        device_of("cuda")


# ---------------------------------------------------------------------------------------------- trained further


def test_a_finished_run_is_extended_with_rates_that_rise_and_fall_anew(
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
def test_an_extended_run_resumes_to_the_bit(
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


def test_a_state_of_before_the_extension_is_refused(
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
    assert "is of step 10, before the run was extended at step 12; start another with" in capsys.readouterr().err


def test_a_run_that_stopped_at_its_goal_is_extended_to_its_end(script: ModuleType, tmp_path: Path) -> None:
    goal = [*TINY, "--stop-at-truth", "0"]
    assert script.main(["--folder", str(tmp_path / "run"), *goal]) == 0
    assert load_model(tmp_path / "run" / "model").card["step"] == 4
    assert script.main(["--folder", str(tmp_path / "run"), "--extend"]) == 0
    assert load_model(tmp_path / "run" / "model").card["step"] == 12


# ---------------------------------------------------------------------------------------------- waiting for data


@pytest.mark.parametrize(("data", "said"), [(0.3, True), (0.2, False)])
def test_much_waiting_for_programs_is_reported_once(
    script: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    data: float,
    said: bool,
) -> None:
    """A step of one second by the clock, of which so much is booked for data."""
    spent = {"data": data, "model": 1.0 - data, "optimizer": 0.0}
    clock = [0.0]

    def spend(ledger: Ledger, kind: str, since: float) -> float:
        clock[0] += spent.get(kind, 0.0)
        ledger.counts["times"][kind] += spent.get(kind, 0.0)
        return clock[0]

    monkeypatch.setattr(Ledger, "spend", spend)
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(script, "SETTLED", 6)
    assert script.main(["--folder", str(tmp_path / "run"), *TINY]) == 0
    line = "30% of the time is spent waiting for programs; focus draws 8 for each one it uses, --focus 0 draws one"
    assert capsys.readouterr().err.count(line) == said


# ---------------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"widht": "16"}, r"recipe .*mine.toml: unknown key 'widht'; did you mean 'width'\? known: env, endian, width"),
        ({"width": None}, r"recipe .*mine.toml: key 'width' is missing; required: env, endian"),
        ({"width": "0"}, r"recipe .*mine.toml: width = 0; allowed: a whole number from 1"),
        ({"width": '"wide"'}, r"width = 'wide'; allowed: a whole number from 1"),
        ({"heads": "3"}, r"heads = 3; allowed: what divides width = 128"),
        ({"muon_rate": "50"}, r"recipe .*mine.toml: muon_rate = 50.0; allowed: a number above 0, at most 1"),
        ({"adamw_rate": "nan"}, r"adamw_rate = nan; allowed: a number above 0, at most 1"),
        ({"decay": "-0.1"}, r"decay = -0.1; allowed: a number from 0 to 1"),
        ({"clip": "0"}, r"clip = 0.0; allowed: a number above 0"),
        ({"batch": "2.5"}, r"batch = 2.5; allowed: a whole number from 1"),
        ({"steps": "true"}, r"steps = True; allowed: a whole number from 1"),
        ({"endian": '"middle"'}, r"endian = 'middle'; allowed: big, little"),
        ({"dtype": '"float16"'}, r"dtype = 'float16'; allowed: auto, float32, bfloat16"),
        ({"seed": "-1"}, r"seed = -1; allowed: a whole number from 0"),
        ({"env": "7"}, r"env = 7; allowed: a text, or a table"),
        ({"width": "= 1"}, r"recipe .*mine.toml: .*mine.toml is not TOML"),
    ],
)
def test_a_mistake_in_a_recipe_is_named(
    script: ModuleType, tmp_path: Path, change: dict[str, str | None], expected: str
) -> None:
    lines = (SCRIPT.parent / "recipes" / "nano-arith.toml").read_text().splitlines()
    values = {line.split(" = ")[0]: line.split(" = ")[1] for line in lines if " = " in line} | change
    path = tmp_path / "mine.toml"
    path.write_text("\n".join(f"{key} = {value}" for key, value in values.items() if value is not None))
    with pytest.raises(ValueError, match=expected):
        script.configure(["--recipe", str(path)])


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--recipe", "nanno"], "recipe 'nanno': no file .*known: .*nano"),
        (["--env", "Cadmus-Arit-v0"], "did you mean Cadmus-Arith-v0"),
        (["--overrides", '{"thoughts": {"stile": 1}}'], "unknown key 'stile'; did you mean 'style'"),
        (["--env", '{"Cadmus-Arith-v0": 1}', "--overrides", '{"limit": 1}'], "overrides go with one env"),
        (["--context", "40"], "context = 40; allowed for Cadmus-Arith-v0: from "),
    ],
)
def test_a_mistake_in_a_flag_is_named_and_leaves_no_folder(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], expected: str
) -> None:
    folder = tmp_path / "run"
    assert script.main(["--folder", str(folder), *arguments]) == 2
    reported = capsys.readouterr().err
    assert reported.startswith("train.py: ")
    assert re.search(expected, reported)
    assert not folder.exists()


@pytest.mark.parametrize(
    ("recipe", "millions"),
    [
        ("pico-arith", 0.32),
        ("nano-arith", 1.0),
        ("nano-compare", 1.0),
        ("nano", 1.0),
        ("small", 10.6),
        ("base", 85.0),
        ("paper", 277.3),
    ],
)
def test_a_recipe_is_whole_and_of_the_size_it_says(script: ModuleType, recipe: str, millions: float) -> None:
    config = script.configure(["--recipe", recipe])
    assert config.folder == Path("runs") / recipe
    assert script.make_stream(config).specs  # the context holds its programs
    sizes = config.sizes
    of_layer = 2 * sizes.width * (sizes.width + sizes.groups * sizes.head_width) + 3 * sizes.width * sizes.hidden
    parameters = sizes.layers * (of_layer + 2 * sizes.width) + (65 + 1) * sizes.width
    assert parameters / 1e6 == pytest.approx(millions, abs=0.06)


def test_a_flag_goes_before_the_recipe_and_no_flag_before_what_a_run_was_started_with(
    script: ModuleType, finished: tuple[Path, str, str]
) -> None:
    assert script.configure([]).width == 128
    assert script.configure(["--width", "96"]).sizes == ModelConfig(96, 5, 4, hidden=256, context=256)
    assert script.configure([]).folder == Path("runs/nano-arith")
    with pytest.raises(SystemExit, match="2"):
        script.configure(["--resume", "--overwrite"])
    resumed = script.configure(["--folder", str(finished[0]), "--resume", "--threads", "2"])
    assert (resumed.width, resumed.threads, resumed.resume) == (16, 2, True)
    nano = Transformer(script.configure([]).sizes)
    assert sum(weight.numel() for weight in nano.parameters()) < 1.05e6


# ---------------------------------------------------------------------------------------------- the pieces


def programs_of(count: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    return cg.Stream("Cadmus-Arith-v0", seed=3).batch(0, count)


def test_the_loss_of_a_batch_is_that_of_its_programs_alone() -> None:
    model = Transformer(ModelConfig(16, 2, 2), seed=1).double()
    stream = cg.Stream("Cadmus-Arith-v0", seed=3)
    programs, ends = stream.batch(0, 24)
    lengths = batches.program_lengths(programs)
    alone = [
        losses(model, torch.from_numpy(row[None, :length]), torch.tensor([end]))
        for row, length, end in zip(programs, lengths, ends, strict=True)
    ]
    wide = losses(model, torch.from_numpy(programs), torch.from_numpy(ends))
    chunks = batches.cut_chunks(batches.draw(stream, np.arange(24)), "big", [0, 8, 24])
    cut = [losses(model, chunk.tokens, chunk.prompt_lengths) for chunk in chunks]
    order = np.argsort(lengths, kind="stable")
    for part in range(2):
        expected = torch.cat([sums[part] for sums in alone])
        assert torch.allclose(wide[part], expected, rtol=1e-5)
        assert torch.allclose(torch.cat([sums[part] for sums in cut]), expected[order], rtol=1e-5)

    program, end = programs[0, : lengths[0]], int(ends[0])
    log_probs = model(with_bos(torch.from_numpy(program[None]))[:, :-1])[0].log_softmax(-1)
    each = -log_probs[torch.arange(len(program)), torch.from_numpy(program).long()]
    assert alone[0][0].item() == pytest.approx(each[:end].sum().item(), rel=1e-5)
    assert alone[0][1].item() == pytest.approx(each[end:].sum().item(), rel=1e-5)


def test_chunks_hold_every_program_once_and_waste_little() -> None:
    stream = cg.Stream({"Cadmus-Arith-v0": 1, "Cadmus-Compare-v0": 1}, seed=3)
    programs, ends = stream.batch(0, 256)
    cuts = batches.plan_chunks(batches.program_lengths(stream.batch(0, 4096)[0]), 256)
    assert 1 < len(cuts) - 1 < 10
    assert all((stop - start) % batches.ROWS == 0 for start, stop in pairwise(cuts))
    seen, padded = [], 0
    batch = batches.draw(stream, np.arange(256))
    for chunk in batches.cut_chunks(batch, "big", cuts):
        padded += chunk.tokens.numel()
        assert (chunk.tokens[:, -1] != 0).any()
        rows = [bytes(row[row != 0].tolist()) for row in chunk.tokens.numpy()]
        assert chunk.lengths.tolist() == [len(row) for row in rows]
        seen += zip(rows, chunk.prompt_lengths.tolist(), batch.parts[chunk.rows].tolist(), strict=True)
    rows = [bytes(row[row != 0].tolist()) for row in programs]
    compares = [cg.decode(list(row[end:])) in ("end", "not end") for row, end in zip(rows, ends, strict=True)]
    assert sorted(seen) == sorted(zip(rows, ends.tolist(), map(int, compares), strict=True))
    assert padded < 1.3 * (programs != 0).sum()
    assert batches.plan_chunks([5, 9], 3) == [0, 3]
    assert batches.plan_chunks([7] * 100, 1024) == [0, 1024]  # of one length: nothing to gain by a cut
    assert batches.plan_chunks([100] * 9, 512) == [0, 32, 192, 352, 512]  # no pass above 16,384 tokens


def kinds_of(*prompts: str, parts: tuple[int, ...] = ()) -> list[int]:
    programs = [cg.assemble(prompt) for prompt in prompts]
    rows = np.zeros((len(programs), 20), np.uint8)
    for row, program in zip(rows, programs, strict=True):
        row[: program.size] = program
    kinds = np.zeros(len(programs), np.int64)
    lengths = np.array([program.size for program in programs], np.int32)
    fill_kinds(rows, lengths, np.array(parts or [0] * len(programs)), kinds)
    return list(kinds.tolist())


def test_a_kind_is_a_prompt_without_its_digits_and_the_part_it_is_of() -> None:
    same = kinds_of("12 7 add", "3 99 add", "123 0 add")
    assert len(set(same)) == 1
    assert len(set(kinds_of("12 7 add", "12 7 sub", "12 neg 7 add", "1 2 3 add add", "12 7 add 3 add"))) == 5
    assert len(set(kinds_of("12 7 add", "12 7 add", parts=(0, 1)))) == 2


def test_what_loses_more_is_drawn_more_and_the_rest_is_what_comes_next() -> None:
    focus, random = Focus(among=4), np.random.default_rng(0)
    kinds = np.arange(4)
    for _ in range(400):  # means become 1, 2, 3 and 4
        focus.learn(focus.sums(kinds, np.array([1.0, 2.0, 3.0, 4.0])))
    assert focus.losses[:4] == pytest.approx([1, 2, 3, 4], rel=1e-2)
    assert (focus.losses[4:] == START).all()
    drawn = np.arange(40_000) % 2 == 0
    chosen = focus.choose(np.tile(kinds, (40_000, 1)), drawn, random.random(40_000))
    assert (chosen[~drawn] == 0).all()
    assert np.bincount(chosen[drawn]) / 20_000 == pytest.approx([0.1, 0.2, 0.3, 0.4], abs=0.015)
    focus.losses[:] = 0.0  # nothing loses anything: no division by zero
    assert set(focus.choose(np.tile(kinds, (8, 1)), drawn[:8], random.random(8)).tolist()) <= {0, 1, 2, 3}

    one, other = Focus(), Focus()  # the mean after a batch is about that after its programs one by one
    one.learn(one.sums(np.zeros(50, np.int64), np.full(50, 2.0)))
    for _ in range(50):
        other.learn(other.sums(np.zeros(1, np.int64), np.full(1, 2.0)))
    assert one.losses[0] == pytest.approx(other.losses[0])


def test_rates_go_up_stay_and_go_down_in_a_line() -> None:
    rates = [rate_at(step, 100, warmup=0.1, decay=0.5) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * k for k in range(1, 11)])
    assert rates[10:51] == [1.0] * 41
    assert rates[50:] == pytest.approx([1 - 0.02 * k for k in range(50)])
    assert rate_at(0, 1, 0.0, 0.0) == 1.0


def test_each_weight_has_one_optimizer_and_only_matrices_of_layers_decay() -> None:
    model = Transformer(ModelConfig(16, 2, 2, tied=False))
    names = {id(weight): name for name, weight in model.named_parameters()}
    for muon_rate in (1e-2, None):
        found = make_optimizers(model, muon_rate, 1e-3, weight_decay=0.1)
        groups = [(kind, group) for kind, optimizer in found.items() for group in optimizer.param_groups]
        placed = [names[id(weight)] for _, group in groups for weight in group["params"]]
        assert sorted(placed) == sorted(names.values())
        decaying = [(kind, group) for kind, group in groups if group["weight_decay"] > 0]
        assert len(decaying) == 1
        kind, group = decaying[0]
        assert kind == ("muon" if muon_rate else "adamw")
        assert group["peak"] == (muon_rate or 1e-3)
        assert all(names[id(weight)].endswith("_proj.weight") for weight in group["params"])
        assert len(group["params"]) == 2 * 7


def test_states_survive_a_failing_write_and_are_never_unpickled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert states.load_state(tmp_path, print) is None
    for step in (5, 10, 15):
        states.save_state(tmp_path, step, {"step": step, "weight": torch.full((3,), step / 7)})
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            states.save_state(tmp_path, 20, {"step": 20})
    names = sorted(path.name for path in tmp_path.iterdir())
    assert [name[:9] for name in names] == ["000000010", "000000015"]
    state = states.load_state(tmp_path, print)
    assert state is not None
    assert state["step"] == 15
    assert torch.equal(state["weight"], torch.full((3,), 15 / 7))

    told: list[str] = []
    (tmp_path / names[1]).write_bytes((tmp_path / names[1]).read_bytes()[:-1])
    state = states.load_state(tmp_path, told.append)
    assert state is not None
    assert state["step"] == 10
    assert names[1] in told[0]
    states.save_state(tmp_path, 15, {"step": 15})  # takes the place of the damaged one
    assert not (tmp_path / names[1]).exists()
    assert len(list(tmp_path.iterdir())) == 2
    for path in tmp_path.iterdir():
        path.write_bytes(b"")
    with pytest.raises(ValueError, match="none of its 2 states is whole"):
        states.load_state(tmp_path, told.append)


class Pickled:
    """What would run a command, were it unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("exit 1",)


def test_a_state_with_an_object_in_it_is_refused(tmp_path: Path) -> None:
    path = states.save_state(tmp_path, 1, {"step": 1})
    buffer = io.BytesIO()
    torch.save({"step": Pickled()}, buffer)
    path.unlink()
    (tmp_path / f"000000001-{states._digits(buffer.getvalue())}.pt").write_bytes(buffer.getvalue())
    with pytest.raises(ValueError, match=r"000000001-\w+.pt is not a training state: Weights only load failed"):
        states.load_state(tmp_path, print)
