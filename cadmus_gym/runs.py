"""What every script that trains needs around its loop: recipes, the folder of a run, states on the disk that survive
whatever happens, progress, a clean stop."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import hashlib
import io
import json
import math
import os
import shutil
import signal
import sys
import time
import tomllib
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import FrameType
from typing import Any, Protocol, get_type_hints

import torch
from tqdm import tqdm

STEP_DIGITS, SUM_DIGITS = 9, 16  # of a state's file name
OF_CALL = ("folder", "resume", "overwrite", "extend")  # settings that are not of a run, but of the call that starts it


# ---------------------------------------------------------------------------------------------- recipes and results


def read_values(path: Path, kind: type, where: str, without: Collection[str] = ()) -> dict[str, Any]:
    """Return the values a TOML file gives for the fields of a dataclass, but for those in ``without``.

    Raises ValueError, beginning with ``where``, for a file that is none, an unknown key or a missing one; the values
    are the dataclass's to check.
    """
    with open(path, "rb") as file:
        try:
            values = tomllib.load(file)
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{where}: {path} is not TOML: {error}") from None
    kinds, entries = get_type_hints(kind), [entry for entry in dataclasses.fields(kind) if entry.name not in without]
    known = [entry.name for entry in entries]
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise ValueError(f"{where}: unknown key {key!r}; {hint}known: {', '.join(known)}")
    required = [entry.name for entry in entries if entry.default is entry.default_factory is dataclasses.MISSING]
    for key in required:
        if key not in values:
            raise ValueError(f"{where}: key {key!r} is missing; required: {', '.join(required)}")
    return {key: float(value) if kinds[key] is float and type(value) is int else value for key, value in values.items()}


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a file that is there whole or not at all."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(partial, path)


# ---------------------------------------------------------------------------------------------- the folder of a run


class Settings(Protocol):
    """What all scripts ask about the folder of a run; a frozen dataclass."""

    @property
    def env(self) -> object: ...
    @property
    def folder(self) -> Path: ...
    @property
    def resume(self) -> bool: ...
    @property
    def overwrite(self) -> bool: ...


def first_flags(arguments: list[str], folder: Path | None, **texts: str | None) -> argparse.Namespace:
    """Return --folder, --resume and the flags of ``texts``, by which is known where all others have their defaults."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--folder", type=Path, default=folder)
    first.add_argument("--resume", action=argparse.BooleanOptionalAction, default=False)
    for name, default in texts.items():
        first.add_argument(f"--{name}", default=default)
    return first.parse_known_args(arguments)[0]


def started_with(folder: Path, name: str) -> dict[str, Any] | None:
    """Return the settings of the run in a folder, which its run.json has under that name; None where there is none."""
    path = folder / "run.json"
    if not path.is_file():
        return None
    return {**json.loads(path.read_text())[name], "folder": folder}


def check_resumed(before: Settings, now: Settings, free: Collection[str], flag: str = "--resume") -> None:
    """Raise ValueError where settings are not those of the run to be resumed, but for those named in ``free``."""
    for name, value in vars(before).items():
        if name not in free and getattr(now, name) != value:
            raise ValueError(
                f"{flag}: {name} = {getattr(now, name)!r}, but {before.folder} was started with {value!r}; "
                "leave the flag out, or start a run in another folder"
            )


def open_run(
    settings: Settings, name: str, digest: str, digests: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Make a folder ready to be written to; return what run.json holds, the settings as ``name``, and a state.

    The state is what a run to be resumed goes on from, or None. Raises ValueError where its programs were others, by
    ``digest``, and for a folder with anything in it that settings do not allow to go on with or to delete.
    """
    values = {key: value for key, value in vars(settings).items() if key not in OF_CALL}
    about = {name: values, "digest": digest, "digests": digests}
    folder, run = settings.folder, settings.folder / "run.json"
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file")
    if settings.resume and run.is_file():
        if json.loads(run.read_text())["digest"] != digest:
            raise ValueError(f"--resume: {settings.env} gives other programs than when {folder} was started")
        return about, load_state(folder / "states", report=lambda line: print(line, file=sys.stderr))
    if folder.is_dir() and any(folder.iterdir()):
        if not run.is_file():
            raise ValueError(f"{folder} holds something else than a run; name another folder")
        if not settings.overwrite:
            raise ValueError(f"{folder} holds a run; --resume goes on with it, --overwrite deletes it")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(run, about)
    return about, None


# ---------------------------------------------------------------------------------------------- states on the disk


def save_state(folder: Path, step: int, state: Mapping[str, Any], keep: int = 2) -> Path:
    """Write tensors, numbers and texts to a new file of a folder, and delete all but the last ``keep``.

    The file is written beside and renamed, flushed to the disk before and after; its name has the step and the first
    digits of its SHA-256 sum. Whatever happens meanwhile, the states before it stay.
    """
    folder.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    partial = folder / "partial"
    try:
        with open(partial, "wb") as file:
            file.write(buffer.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        path = folder / f"{step:0{STEP_DIGITS}}-{_digits(buffer.getbuffer())}.pt"
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    if os.name != "nt":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    before = [old for old in _states(folder) if old.name[:STEP_DIGITS] < path.name[:STEP_DIGITS]]
    kept = {path, *before[len(before) - keep + 1 :]}  # not what a run that was set back has left of this step or later
    for old in set(_states(folder)) - kept:
        old.unlink()
    return path


def load_state(folder: Path, report: Callable[[str], None]) -> dict[str, Any] | None:
    """Return the last state of a folder that is whole, or None where there is none at all.

    ``report`` is told of damaged ones, which are passed over. Raises ValueError where all are. Nothing is unpickled
    but tensors and plain values.
    """
    states = _states(folder)
    for path in reversed(states):
        content = path.read_bytes()
        if _digits(content) == path.stem.partition("-")[2]:
            state: dict[str, Any] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
            return state
        report(f"{path} is damaged: its SHA-256 sum is not the one in its name; trying the one before")
    if states:
        raise ValueError(f"{folder}: none of its {len(states)} states is whole")
    return None


def _states(folder: Path) -> list[Path]:
    return sorted(folder.glob("[0-9]*-*.pt"))


def _digits(content: bytes | memoryview) -> str:
    return hashlib.sha256(content).hexdigest()[:SUM_DIGITS]


# ---------------------------------------------------------------------------------------------- around the loop


class Stop:
    """Within its context Ctrl-C and a request to terminate only set ``signal``; the second one acts at once.

    Where it comes within ``patience`` seconds of the first it counts as the same.
    """

    def __init__(self, patience: float = 0.0) -> None:
        self.signal, self.patience, self.taken = 0, patience, -math.inf

    def __enter__(self) -> Stop:
        self._before = {number: signal.signal(number, self._take) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self.signal and time.monotonic() - self.taken >= self.patience:
            self.__exit__()
            signal.raise_signal(number)
        elif not self.signal:
            self.signal, self.taken = number, time.monotonic()

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


class Progress:
    """Steps done, on stderr: a bar on a terminal, elsewhere a plain line every ``seconds``; or, quiet, nothing."""

    def __init__(self, start: int, total: int, seconds: float = 15.0, quiet: bool = False) -> None:
        self.start, self.total, self.seconds, self.quiet = start, total, seconds, quiet
        self.began = self.printed = time.monotonic()
        on_terminal = sys.stderr.isatty() and not quiet
        self.bar = tqdm(initial=start, total=total, unit="step", dynamic_ncols=True) if on_terminal else None

    def update(self, step: int, shown: str) -> None:
        """Say that ``step`` steps are done, and what else there is to say."""
        if self.bar is not None:
            self.bar.set_postfix_str(shown, refresh=False)
            self.bar.update(step - self.bar.n)
            return
        now = time.monotonic()
        if now - self.printed >= self.seconds or step == self.total:
            self.printed = now
            left = (now - self.began) / (step - self.start) * (self.total - step)
            self.write(f"step {step}/{self.total}, {shown}, {left // 60:.0f} min {left % 60:.0f} s left")

    def write(self, line: str) -> None:
        if self.bar is not None:
            self.bar.write(line, file=sys.stderr)
        elif not self.quiet:
            print(line, file=sys.stderr, flush=True)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()
