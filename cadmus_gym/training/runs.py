"""What every script that trains needs around its loop: recipes, the folder of a run, and states on the disk that
survive whatever happens.

A run depends on nothing outside its folder. Its settings are in `run.json`, with a checksum, and in each state.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import hashlib
import io
import json
import os
import pickle
import platform
import shutil
import sys
import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol, get_type_hints

import filelock
import torch

from cadmus_gym.files import flush, read_json, write_json

STEP_DIGITS, SUM_DIGITS = 9, 16  # of a state's file name
OF_CALL = ("folder", "resume", "overwrite", "extend")  # settings of the call that starts a run, not of the run
LOCK, OWNER = "lock", "owner"  # files of a run's folder: what the process that writes to it holds, and which that is


# ---------------------------------------------------------------------------------------------- recipes and results


def read_values(path: Path, kind: type, where: str, without: Collection[str] = ()) -> dict[str, Any]:
    """Return the values a TOML file gives for the fields of a dataclass, but for those in ``without``.

    Raises ValueError, beginning with ``where``, for a file that is none, an unknown key or a missing one; the values
    are the dataclass's to check.
    """
    with open(path, "rb") as file:
        try:
            values = tomllib.load(file)
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
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


def started_with(folder: Path, name: str, kind: type) -> dict[str, Any] | None:
    """Return the settings of the run in a folder, which its run.json has under that name; None where there is none.

    Raises ValueError where run.json is damaged or was edited, is of another script, or of a version of this one in
    which ``kind``, the dataclass of the settings, had other fields.
    """
    path = folder / "run.json"
    if not path.is_file():
        return None
    values = read_json(path).get(name)
    if not isinstance(values, dict):
        raise ValueError(f"{folder} is a run of another script: {path} has no {name!r}")
    known = {entry.name for entry in dataclasses.fields(kind)} - set(OF_CALL)
    if differing := sorted(known ^ values.keys()):
        what = "lacks" if differing[0] in known else "has the unknown"
        raise ValueError(
            f"{path} {what} setting {differing[0]!r}: another version of Cadmus Gym wrote it; resume it with that one"
        )
    return {**values, "folder": folder}


def check_resumed(before: Settings, now: Settings, free: Collection[str], flag: str = "--resume") -> None:
    """Raise ValueError where settings are not those of the run to be resumed, but for those named in ``free``."""
    for name, value in vars(before).items():
        if name not in free and getattr(now, name) != value:
            raise ValueError(
                f"{flag}: {name} = {getattr(now, name)!r}, but {before.folder} was started with {value!r}; "
                "leave the flag out, or start a run in another folder"
            )


def open_run(
    settings: Settings,
    name: str,
    digest: str,
    digests: Mapping[str, Any],
    held: ExitStack,
    *,
    free: Collection[str] = (),
    more: Mapping[str, Any] | None = None,
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Make a folder ready to be written to; return what run.json holds, the settings as ``name``, and a state.

    digest, digests: of the programs.
    held: takes the lock of the folder, which this process holds until it is closed.
    free: settings in which a run may differ from its own states, since they may change on the way.
    more: what else run.json is to hold.

    The state is what a run to be resumed continues from, or None. Raises ValueError for a folder that cannot be
    written to, one that another process writes to, one with anything in it that the settings do not allow to resume or
    to delete, and a run of other programs, or with states of another run.
    """
    values = {key: value for key, value in vars(settings).items() if key not in OF_CALL}
    about = {name: values, "digest": digest, "digests": digests, **(more or {})}
    folder, run, states = settings.folder, settings.folder / "run.json", settings.folder / "states"
    try:
        _resumes(settings)  # a folder that is not ours is not even locked
        folder.mkdir(parents=True, exist_ok=True)
        held.enter_context(locked(folder))
        if _resumes(settings):
            before = read_json(run)
            if before["digest"] != digest:
                raise ValueError(f"--resume: {settings.env} gives other programs than when {folder} was started")
            state = load_state(states, report=lambda line: print(line, file=sys.stderr))
            if state is not None:
                _check_same_run(states, before[name], json.loads(state.get("run", "{}")).get(name, {}), free)
        else:
            state = None
            _empty(folder)
            write_json(run, about)
        states.mkdir(exist_ok=True)
        (states / "partial").touch()
        (states / "partial").unlink()
    except OSError as error:
        raise ValueError(
            f"{folder} cannot be used: {error.strerror or error} ({error.filename}); name another --folder"
        ) from None
    return about, state


def _resumes(settings: Settings) -> bool:
    """Whether there is a run to resume. Raises ValueError where the folder may be neither resumed nor deleted."""
    folder, run = settings.folder, settings.folder / "run.json"
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file")
    if settings.resume and run.is_file():
        return True
    left = {LOCK, OWNER, "run.partial"}  # by a process that was killed before it wrote run.json
    if folder.is_dir() and not {path.name for path in folder.iterdir()} <= left:
        if not run.is_file():
            raise ValueError(f"{folder} holds something other than a run; name another --folder")
        if not settings.overwrite:
            raise ValueError(f"{folder} already holds a run; --resume continues it, --overwrite deletes it")
    return False


def _empty(folder: Path) -> None:
    """Delete what is in the folder of a run, run.json last: until then it is known to be one."""
    for path in sorted(folder.iterdir(), key=lambda path: path.name == "run.json"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name not in (LOCK, OWNER):
            path.unlink()


def _check_same_run(states: Path, here: Mapping[str, Any], saved: Mapping[str, Any], free: Collection[str]) -> None:
    for key in here:
        if key not in free and (key not in saved or saved[key] != here[key]):
            was = f"with {key} = {saved[key]!r}" if key in saved else "which does not state its settings"
            raise ValueError(
                f"{states} holds a state of another run, {was}; run.json says {key} = {here[key]!r}. Restore the run's "
                "own states, or start it again with --overwrite"
            )


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder, which the system takes back when the process ends, whatever ends it.

    Raises ValueError where another process holds it.
    """
    lock, owner = filelock.FileLock(folder / LOCK), folder / OWNER
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        try:
            who = owner.read_text(encoding="utf-8")
        except OSError:  # it has written nothing yet
            who = "another process"
        raise ValueError(f"{folder} is in use by {who}; stop that, or name another --folder") from None
    try:
        owner.write_text(f"process {os.getpid()} on {platform.node()}", encoding="utf-8")
        yield
    finally:
        owner.unlink(missing_ok=True)
        lock.release()


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
    flush(folder)
    before = [old for old in _states(folder) if old.name[:STEP_DIGITS] < path.name[:STEP_DIGITS]]
    kept = {path, *before[len(before) - keep + 1 :]}  # not what a run that was set back has left of this step or later
    for old in set(_states(folder)) - kept:
        old.unlink()
    return path


def load_state(folder: Path, report: Callable[[str], None]) -> dict[str, Any] | None:
    """Return the last state of a folder that is whole, or None where there is none at all.

    ``report`` gets a line for each damaged one, which is passed over. Raises ValueError where all are, and for a file
    that is not a state. Nothing is unpickled but tensors and plain values.
    """
    states = _states(folder)
    for path in reversed(states):
        content = path.read_bytes()
        if _digits(content) == path.stem.partition("-")[2]:
            try:
                state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
            except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
                raise ValueError(f"{path} is not a training state: {str(error).splitlines()[0]}") from None
            if not isinstance(state, dict):
                raise ValueError(f"{path} is not a training state: it holds {type(state).__name__}")
            return state
        report(f"{path} is damaged: its SHA-256 sum is not the one in its name; trying the one before")
    if states:
        raise ValueError(f"{folder}: none of its {len(states)} states is whole")
    return None


def _states(folder: Path) -> list[Path]:
    return sorted(folder.glob("[0-9]*-*.pt"))


def _digits(content: bytes | memoryview) -> str:
    return hashlib.sha256(content).hexdigest()[:SUM_DIGITS]
