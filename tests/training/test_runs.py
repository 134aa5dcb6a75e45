"""Folders of runs that are edited, damaged, moved, used twice or unwritable; Ctrl-C; progress."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from support.pretraining import assert_same_weights
from support.scripts import PPO, TOP, TRAIN, entropies_remembered, load_script

from cadmus_gym import files, progress
from cadmus_gym.training import folders, interrupts, settings, states
from cadmus_gym.transformer.checkpoint import load_model, save_model
from cadmus_gym.transformer.model import ModelConfig, Transformer

SIZES = ModelConfig(width=16, layers=1, heads=2, context=128)
TRAINING = ["--width", "16", "--layers", "1", "--heads", "2", "--context", "128", "--batch", "16", "--steps", "3"]
TRAINING += ["--threads", "1", "--dtype", "float32", "--save-every", "1", "--evaluate-count", "2", "--final-count", "2"]
# Products of digits, of which an untrained model finds some: many are 0.
PRODUCTS: dict[str, Any] = {"operands": [0, 9], "operators": {"mul": 1}, "operations": {"1": 1}}
PRODUCTS |= {"thoughts": {"share": 0.0}, "episode": {"max_tokens": 14, "thought_tokens": 0}}
TUNING = [
    "--overrides",
    json.dumps(PRODUCTS),
    "--n-envs",
    "4",
    "--n-steps",
    "8",
    "--batch-size",
    "32",
    "--device",
    "cpu",
]
TUNING += ["--total-timesteps", "64", "--eval-episodes", "4", "--eval-freq", "64", "--save-freq", "32"]


@dataclass(frozen=True)
class Settings:
    """The settings of a script that does nothing."""

    folder: Path
    env: str = "Cadmus-Arith-v0"
    seed: int = 0
    resume: bool = False
    overwrite: bool = False


def open_folder(
    held: contextlib.ExitStack, folder: Path, digest: str = "d", **settings: Any
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    return folders.open_folder(Settings(folder, **settings), "settings", digest, {}, held)


@pytest.fixture
def held() -> Iterator[contextlib.ExitStack]:
    """Holds the locks of a test."""
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.fixture(scope="module", autouse=True)
def entropies() -> Iterator[None]:
    with entropies_remembered():
        yield


@pytest.fixture(scope="module")
def scripts() -> dict[str, ModuleType]:
    return {"train": load_script(TRAIN), "ppo": load_script(PPO)}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def finished(scripts: dict[str, ModuleType], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A finished run of each script, and of another seed, by name. No test may change them."""
    folder = tmp_path_factory.mktemp("runs")
    save_model(Transformer(SIZES, seed=4), folder / "parent", {"endian": "big", "made": "here"})
    for name, arguments in (("train", TRAINING), ("ppo", [*TUNING, "--checkpoint", str(folder / "parent")])):
        for seed in ("0", "1"):
            where = folder / (name if seed == "0" else f"other {name}")
            assert scripts[name].main(["--folder", str(where), *arguments, "--seed", seed]) == 0
    return {path.name: path for path in folder.iterdir()}


@pytest.fixture(params=["train", "ppo"])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def stopped(name: str, finished: dict[str, Path], tmp_path: Path) -> Path:
    """A run that was killed just before it wrote its result."""
    folder = tmp_path / "stopped"
    shutil.copytree(finished[name], folder)
    (folder / "result.json").unlink()
    return folder


def assert_refused(script: ModuleType, capsys: pytest.CaptureFixture[str], arguments: list[str], *parts: str) -> None:
    """Assert that a script prints one line with these parts and returns 2."""
    capsys.readouterr()
    assert script.main(arguments) == 2
    printed, reported = capsys.readouterr()
    assert printed == ""
    assert reported.count("\n") == 1
    for part in parts:
        assert part in reported


# ---------------------------------------------------------------------------------------------- folders and locks


def test_a_folder_is_opened_resumed_and_emptied(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with contextlib.ExitStack() as held:
        about, state = open_folder(held, folder, seed=3)
        assert state is None
        assert about["settings"] == {"env": "Cadmus-Arith-v0", "seed": 3}
        states.save_state(folder / "states", 5, {"step": 5, "run": json.dumps(about)})
    assert settings.started_with(folder, "settings", Settings) == {**about["settings"], "folder": folder}
    with contextlib.ExitStack() as held:
        _, state = open_folder(held, folder, seed=3, resume=True)
        assert state is not None
        assert state["step"] == 5
    with contextlib.ExitStack() as held, pytest.raises(ValueError, match="other programs than when"):
        open_folder(held, folder, "e", seed=3, resume=True)
    with contextlib.ExitStack() as held, pytest.raises(ValueError, match="already holds a run; --resume continues it"):
        open_folder(held, folder, seed=3)
    with contextlib.ExitStack() as held:
        _, state = open_folder(held, folder, seed=4, overwrite=True)
        assert state is None
    assert list((folder / "states").iterdir()) == []
    assert files.read_json(folder / "run.json")["settings"]["seed"] == 4


def test_a_run_starts_in_a_folder_left_by_a_kill_before_run_json_was_written(
    tmp_path: Path, held: contextlib.ExitStack
) -> None:
    (tmp_path / "run").mkdir()
    for name in ("lock", "owner", files.PARTIAL):
        (tmp_path / "run" / name).touch()
    open_folder(held, tmp_path / "run", resume=True)
    assert (tmp_path / "run" / "run.json").is_file()


def test_a_folder_with_other_files_is_not_touched(tmp_path: Path, held: contextlib.ExitStack) -> None:
    (tmp_path / "thesis.tex").touch()
    for flags in ({}, {"overwrite": True}, {"resume": True}):
        with pytest.raises(ValueError, match="holds something other than a run"):
            open_folder(held, tmp_path, **flags)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_link_to_a_folder_is_followed(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "disk")
    for flags in ({}, {"resume": True}, {"overwrite": True}):
        with contextlib.ExitStack() as held:
            open_folder(held, tmp_path / "run", **flags)
    assert (tmp_path / "run").is_symlink()
    assert (tmp_path / "disk" / "run.json").is_file()


@pytest.mark.parametrize("place", ["file/run", "nowhere", "/proc/run", "disk"])
def test_errors_name_a_folder_that_cannot_be_used(
    place: str, tmp_path: Path, held: contextlib.ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    if place == "disk":  # which is full
        monkeypatch.setattr(os, "fsync", lambda handle: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(ValueError, match=rf"{tmp_path / place} cannot be used: .*; name another --folder"):
        open_folder(held, tmp_path / place)


def test_unwritable_states_are_found_before_the_work(tmp_path: Path) -> None:
    with contextlib.ExitStack() as held:
        open_folder(held, tmp_path / "run")
    (tmp_path / "run" / "states").rmdir()
    (tmp_path / "run" / "states").touch()
    with contextlib.ExitStack() as held, pytest.raises(ValueError, match="cannot be used: "):
        open_folder(held, tmp_path / "run", resume=True)


HOLD = """
import contextlib, sys, time
from pathlib import Path
from cadmus_gym.training import folders
with folders.locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_one_process_at_a_time_holds_the_lock_until_it_is_killed(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    command = [sys.executable, "-c", HOLD, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        for flags in ({}, {"resume": True}, {"overwrite": True}):
            with (
                contextlib.ExitStack() as held,
                pytest.raises(ValueError, match=rf"is in use by process {process.pid} on .+; stop that"),
            ):
                open_folder(held, folder, **flags)
        process.kill()
    assert (folder / "owner").is_file()  # of a process that is gone
    with contextlib.ExitStack() as held:
        open_folder(held, folder)
        assert f"process {os.getpid()} on " in (folder / "owner").read_text()
    assert not (folder / "owner").exists()


def test_the_lock_is_released_if_a_run_is_refused(tmp_path: Path) -> None:
    with contextlib.ExitStack() as held:
        open_folder(held, tmp_path / "run")
    for _ in range(2):
        with contextlib.ExitStack() as held, pytest.raises(ValueError, match="gives other programs"):
            open_folder(held, tmp_path / "run", "e", resume=True)


# ---------------------------------------------------------------------------------------------- both scripts


def test_an_edited_or_damaged_run_json_is_refused(
    stopped: Path, name: str, scripts: dict[str, ModuleType], capsys: pytest.CaptureFixture[str]
) -> None:
    run, asked = stopped / "run.json", ["--folder", str(stopped), "--resume"]
    text = run.read_text()
    run.write_text(text.replace('"seed": 0', '"seed": 1'))
    assert_refused(scripts[name], capsys, asked, f"{name}.py: {run} was edited or is damaged")
    for damaged in (text[:-20], "", "[]"):
        run.write_text(damaged)
        assert_refused(scripts[name], capsys, asked, f"{name}.py: {run} is damaged")
    run.write_text(text)
    (stopped / "result.json").write_text("")
    assert_refused(scripts[name], capsys, asked, f"{name}.py: {stopped / 'result.json'} is damaged")


def test_errors_name_settings_of_another_version(
    stopped: Path, name: str, scripts: dict[str, ModuleType], capsys: pytest.CaptureFixture[str]
) -> None:
    path, asked = stopped / "run.json", ["--folder", str(stopped), "--resume"]
    run, key = files.read_json(path), {"train": "config", "ppo": "args"}[name]
    files.write_json(path, {**run, key: {**run[key], "spin": 1}})
    assert_refused(scripts[name], capsys, asked, "has the unknown setting 'spin': another version")
    files.write_json(path, {**run, key: {k: v for k, v in run[key].items() if k != "seed"}})
    assert_refused(scripts[name], capsys, asked, "lacks setting 'seed': another version")


def test_states_of_another_run_are_refused(
    stopped: Path,
    name: str,
    finished: dict[str, Path],
    scripts: dict[str, ModuleType],
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked, states = ["--folder", str(stopped), "--resume"], stopped / "states"
    shutil.rmtree(states)
    shutil.copytree(finished[f"other {name}"] / "states", states)
    assert_refused(
        scripts[name], capsys, asked, f"{states} holds a state of another run, with seed = 1; run.json says seed = 0"
    )
    shutil.rmtree(states)
    shutil.copytree(finished["ppo" if name == "train" else "train"] / "states", states)
    assert_refused(scripts[name], capsys, asked, f"{states} holds a state of another run, which does not state")


def test_a_run_of_the_other_script_is_refused(
    stopped: Path, name: str, scripts: dict[str, ModuleType], capsys: pytest.CaptureFixture[str]
) -> None:
    other = "ppo" if name == "train" else "train"
    assert_refused(scripts[other], capsys, ["--folder", str(stopped), "--resume"], "is a run of another script")


def test_a_run_in_use_is_refused(
    stopped: Path, name: str, scripts: dict[str, ModuleType], capsys: pytest.CaptureFixture[str]
) -> None:
    with folders.locked(stopped):
        asked = ["--folder", str(stopped), "--resume"]
        assert_refused(scripts[name], capsys, asked, f"{stopped} is in use by process {os.getpid()} on ")


def test_an_unwritable_folder_and_a_missing_gpu_are_found_before_training(
    name: str,
    tmp_path: Path,
    scripts: dict[str, ModuleType],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "file").touch()
    arguments = TRAINING if name == "train" else TUNING
    asked = ["--folder", str(tmp_path / "file" / "run"), *arguments]
    assert_refused(scripts[name], capsys, asked, f"{name}.py: {tmp_path / 'file' / 'run'}", " cannot be ")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    if name == "ppo":
        asked = ["--folder", str(tmp_path / "run"), *arguments, "--device", "cuda"]
        assert_refused(scripts[name], capsys, asked, "PyTorch finds no GPU; allowed here: cpu, auto")
        assert not (tmp_path / "run").exists()


def test_a_moved_and_linked_run_resumes(
    stopped: Path, name: str, finished: dict[str, Path], scripts: dict[str, ModuleType], tmp_path: Path
) -> None:
    moved = tmp_path / "moved"
    stopped.rename(tmp_path / "there")
    moved.symlink_to(tmp_path / "there")
    _, last = sorted((moved / "states").iterdir())
    last.unlink()  # so that there is something left to do
    assert scripts[name].main(["--folder", str(moved), "--resume"]) == 0
    assert_same_weights(moved, finished[name])


@pytest.mark.parametrize("saved", [True, False])
@pytest.mark.parametrize("change", ["deleted", "replaced"])
def test_ppo_resumes_without_the_checkpoint(
    saved: bool,
    change: str,
    finished: dict[str, Path],
    scripts: dict[str, ModuleType],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    parent, folder, ppo = tmp_path / "parent", tmp_path / "run", scripts["ppo"]
    shutil.copytree(finished["parent"], parent)
    asked = [*TUNING, "--checkpoint", str(parent), "--save-freq", "32" if saved else "1000000"]
    with monkeypatch.context() as patch:
        learn, rollouts = ppo.MaskablePPO.learn, []

        def killed(agent: Any, *arguments: Any, **options: Any) -> Any:
            rollouts.append(agent)
            if len(rollouts) > 1:
                raise RuntimeError("killed")
            return learn(agent, *arguments, **options)

        patch.setattr(ppo.MaskablePPO, "learn", killed)
        with pytest.raises(RuntimeError, match="killed"):
            ppo.main(["--folder", str(folder), *asked])
    assert bool(list((folder / "states").iterdir())) == saved
    shutil.rmtree(parent)
    if change == "replaced":  # by one of the same size with the other digit order
        save_model(Transformer(SIZES, seed=9), parent, {"endian": "little", "made": "elsewhere"})
    assert ppo.main(["--folder", str(folder), "--resume"]) == 0
    assert_same_weights(folder, finished["ppo"])
    model = load_model(folder / "model")
    assert model.endian == "big"
    assert model.card["parent"]["made"] == "here"

    if not saved:  # if the copy in the run is gone too
        for place in ("model", "states", "result.json"):
            path = folder / place
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        expected = "was stopped before it saved anything"
        assert_refused(ppo, capsys, ["--folder", str(folder), "--resume"], expected, "--overwrite")


@pytest.mark.parametrize(
    ("benchmark", "changes", "expected"),
    [
        ("speed", {}, "table.json cannot be written: "),
        ("speed", {"ids": ("Cadmus-Arit-v0",)}, "did you mean Cadmus-Arith-v0"),
        ("policies", {}, "table.json cannot be written: "),
        ("transformer", {}, "table.json cannot be written: "),
        ("transformer", {"env": "Cadmus-Arit-v0"}, "did you mean Cadmus-Arith-v0"),
        ("study", {"study": "factors"}, "factors.json cannot be written: "),
        ("study", {"study": "run.toml"}, "run.toml: not TOML: "),
        ("evaluate", {}, "model.safetensors is damaged"),
    ],
)
def test_benchmarks_find_mistakes_before_the_work(
    benchmark: str, changes: dict[str, Any], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if benchmark == "transformer":
        pytest.importorskip("transformers")
    (tmp_path / "file").touch()
    (tmp_path / "run.toml").write_text("recipe = ")
    save_model(Transformer(SIZES), tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    module = load_script(TOP / "benchmarks" / f"{benchmark}.py")
    if benchmark != "evaluate":
        changes = {"output": Path("file") if benchmark == "study" else Path("file/table.json"), **changes}
    else:
        changes = {"models": ("nano", "./model"), "count": 1, "elsewhere": 0, "pairs": 0}
        monkeypatch.setattr(module, "measure", lambda *_: pytest.fail("a model was measured"))
    with pytest.raises(ValueError, match=expected):
        module.main(module.Args(**changes))


# ---------------------------------------------------------------------------------------------- Ctrl-C

KERNEL = """
import hashlib, sys
from cadmus_gym.training import interrupts
with interrupts.Stop(lambda: "heard"):
    print("started", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)  # takes minutes in which no Python code runs in the main thread
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_within_a_kernel_the_first_signal_is_acknowledged_and_the_second_exits(number: int) -> None:
    command = [sys.executable, "-c", KERNEL]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "started\n"
        process.send_signal(number)
        assert process.stderr.readline() == "heard\n"
        assert process.poll() is None
        process.send_signal(number)
        assert process.stderr.readline() == "stopped at once\n"
        assert process.wait() == 128 + number


def test_a_signal_repeated_within_the_patience_counts_as_one(capfd: pytest.CaptureFixture[str]) -> None:
    handlers = [signal.getsignal(number) for number in interrupts.SIGNALS]
    threads = threading.active_count()
    with interrupts.Stop(lambda: "heard", patience=1000.0) as stop:
        assert stop.signal == 0
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        assert stop.signal == signal.SIGTERM
    assert capfd.readouterr().err == "heard\n"  # once
    assert [signal.getsignal(number) for number in interrupts.SIGNALS] == handlers
    assert threading.active_count() == threads


def test_the_resuming_command_works_outside_the_virtual_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["pretrain/train.py", "--steps", "3"])
    monkeypatch.delenv(interrupts.AGAIN, raising=False)
    monkeypatch.chdir(tmp_path)
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setenv("PATH", "")
    folder = Path("runs/my run")
    assert interrupts.resuming(folder) == ".venv/bin/python pretrain/train.py --folder 'runs/my run' --resume"
    monkeypatch.setenv("PATH", str(python.parent))
    assert interrupts.resuming(folder) == "python pretrain/train.py --folder 'runs/my run' --resume"
    monkeypatch.setattr(sys, "executable", "/opt/python")
    assert interrupts.resuming(folder) == "/opt/python pretrain/train.py --folder 'runs/my run' --resume"
    monkeypatch.setenv(interrupts.AGAIN, "make demo")
    assert interrupts.resuming(folder) == "make demo"


# ---------------------------------------------------------------------------------------------- progress


class Clock:
    """A clock that a test sets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr("time.monotonic", lambda: self.now)


def test_a_countdown_shows_the_share_done_and_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, lines = Clock(monkeypatch), list[str]()
    report = progress.countdown("programs", lines.append)
    for done in (40, 50, 60):  # 40 were there before
        report(done, 100)
        clock.now += 4
    assert lines == ["60 of 100 programs, 0 min 16 s left"]
    clock.now += 200
    report(99, 100)
    assert lines[1:] == ["99 of 100 programs, 0 min 4 s left"]
    clock.now = 100.0
    slow = progress.countdown("evaluating", lines.append, percent=True)
    clock.now += 60
    slow(1, 4)
    assert lines[2:] == ["evaluating: 25%"]  # one piece is too little for an estimate
    clock.now += 119.7
    progress.part_of(slow, 1, 2)(1, 2)
    assert lines[3:] == ["evaluating: 75%, 1 min 0 s left"]


def test_progress_prints_lines_at_intervals_and_one_at_the_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock(monkeypatch)
    bar = progress.Progress(10, 20)
    for step in range(11, 21):
        clock.now += 4
        bar.update(step, "loss 0.5" if step % 5 == 0 else None)
    bar.update(20, "loss 0.1")
    report = bar.part("evaluating")
    report(0, 2)
    clock.now += 5
    report(1, 2)
    progress.Progress(0, 8, unit="token").update(8)
    quiet = progress.Progress(0, 1, quiet=True)
    quiet.update(1, "unseen")
    quiet.part("unseen")(0, 1)
    assert capsys.readouterr().err.splitlines() == [
        "step 14/20, 0 min 24 s left",
        "step 18/20, loss 0.5, 0 min 8 s left",
        "step 20/20, loss 0.5, 0 min 0 s left",
        "evaluating: 50%, 0 min 5 s left",
        "token 8/8, 0 min 0 s left",
    ]
