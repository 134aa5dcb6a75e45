"""Files that are there whole or not at all, and that show when they were changed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SUM = "sha256"  # key of a JSON file's checksum, which covers everything else in it


@contextmanager
def atomic(path: Path, partial: Path | None = None) -> Iterator[Path]:
    """Yield a path to write a file to, which becomes ``path`` when the block ends without an error.

    At every moment ``path`` is what it was or the new file, whole and flushed to the disk. ``partial``, the
    file that is
    written to, is by default a sibling with the suffix ``.partial``; it never stays.
    """
    partial = path.with_suffix(".partial") if partial is None else partial
    try:
        yield partial
        with open(partial, "r+b") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    flush(path.parent)


@contextmanager
def atomic_folder(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield an empty folder to write to, which takes the place of ``folder`` when the block ends without an error.

    At every moment the old content or the new one stands, whole and flushed to the disk, as ``folder`` or, for the
    instant between two renames, as its sibling ``.previous``. For one writer at a time.
    """
    folder = Path(os.path.realpath(folder))  # a link stays, and its target is replaced
    new, previous = folder.with_name(folder.name + ".partial"), folder.with_name(folder.name + ".previous")
    remove(new)  # of a writer that was killed
    new.mkdir(parents=True)
    try:
        yield new
        for path in (*new.rglob("*"), new):
            flush(path)
        if folder.exists():
            remove(previous)  # of a writer that was killed, too
            folder.rename(previous)
        new.rename(folder)
        flush(folder.parent)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    shutil.rmtree(previous, ignore_errors=True)


def remove(path: Path) -> None:
    """Delete a file, a link or a folder with all that is in it, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write an object with its checksum to a file, as `atomic` does."""
    plain = json.loads(json.dumps(content, allow_nan=False))  # as it will be read
    plain[SUM] = _sum(plain)
    with atomic(path) as partial:
        partial.write_text(json.dumps(plain, indent=2) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """Return what `write_json` was given.

    Raises ValueError, naming the file, where it is damaged or was edited, OSError where it cannot be read.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # not JSON, or not UTF-8
        raise ValueError(f"{path} is damaged: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} is damaged: it holds {type(content).__name__} instead of an object")
    if SUM not in content:
        raise ValueError(f"{path} has no checksum; it is damaged, or was written by another version of Cadmus Gym")
    if content.pop(SUM) != _sum(content):
        raise ValueError(f"{path} was edited or is damaged: its checksum is not that of its content")
    return content


def check_output(path: Path) -> None:
    """Make the folder in which a file is to be written. Raises ValueError where the file cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise ValueError(f"{path} cannot be written: {error.strerror} ({path.parent})") from None
    if path.is_dir() or (path.exists() and not os.access(path, os.W_OK)):
        raise ValueError(f"{path} cannot be written: it is {'a folder' if path.is_dir() else 'read-only'}")


def flush(path: Path) -> None:
    """Flush a file, or the names in a folder, to the disk; not a link."""
    if os.name == "nt" or path.is_symlink():  # Windows neither opens folders nor flushes what was opened for reading
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sum(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
