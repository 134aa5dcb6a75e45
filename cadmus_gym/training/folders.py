"""The folder of a run, which is all that the run needs: `run.json`, with a checksum, and the states."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import filelock

from cadmus_gym.files import PARTIAL, read_json, write_json
from cadmus_gym.training.settings import OF_CALL, Settings
from cadmus_gym.training.states import load_state

LOCK, OWNER = "lock", "owner"  # files in the folder: the lock, and the process that holds it


def open_folder(
    settings: Settings,
    name: str,
    digest: str,
    digests: Mapping[str, Any],
    held: ExitStack,
    *,
    free: Collection[str] = (),
    more: Mapping[str, Any] | None = None,
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Prepare the folder of a run; return the content of run.json, and the state to resume from or None.

    name: key of the settings in run.json.
    digest, digests: of the programs.
    held: holds the lock of the folder until it is closed.
    free: settings that may differ between run.json and a state.
    more: other keys of run.json.

    Raises ValueError if the folder cannot be written to, if another process writes to it, if it holds something that
    the settings do not allow to resume or delete, if the environment gives other programs than when the run was
    started, and if the states are of another run.
    """
    values = {key: value for key, value in vars(settings).items() if key not in OF_CALL}
    about = {name: values, "digest": digest, "digests": digests, **(more or {})}
    folder, run, states = settings.folder, settings.folder / "run.json", settings.folder / "states"
    try:
        _resumes(settings)  # before locking: a folder that is not ours stays untouched
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
        (states / PARTIAL).touch()
        (states / PARTIAL).unlink()
    except OSError as error:
        raise ValueError(
            f"{folder} cannot be used: {error.strerror or error} ({error.filename}); name another --folder"
        ) from None
    return about, state


def _resumes(settings: Settings) -> bool:
    """Whether there is a run to resume. Raises ValueError if the folder may be neither resumed nor deleted."""
    folder, run = settings.folder, settings.folder / "run.json"
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file")
    if settings.resume and run.is_file():
        return True
    left = {LOCK, OWNER, PARTIAL}  # left by a process that was killed before it wrote run.json
    if folder.is_dir() and not {path.name for path in folder.iterdir()} <= left:
        if not run.is_file():
            raise ValueError(f"{folder} holds something other than a run; name another --folder")
        if not settings.overwrite:
            raise ValueError(f"{folder} already holds a run; --resume continues it, --overwrite deletes it")
    return False


def _empty(folder: Path) -> None:
    """Delete the content of a run's folder. run.json goes last, since it marks the folder as a run."""
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
    """Hold the lock of a folder. The system releases it when the process ends, even if it is killed.

    Raises ValueError if another process holds it.
    """
    lock, owner = filelock.FileLock(folder / LOCK), folder / OWNER
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        try:
            who = owner.read_text(encoding="utf-8")
        except OSError:  # not written yet
            who = "another process"
        raise ValueError(f"{folder} is in use by {who}; stop that, or name another --folder") from None
    try:
        owner.write_text(f"process {os.getpid()} on {platform.node()}", encoding="utf-8")
        yield
    finally:
        owner.unlink(missing_ok=True)
        lock.release()
