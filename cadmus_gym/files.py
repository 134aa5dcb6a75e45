"""Files and folders that are replaced as a whole or not at all, and checksums that show when they were changed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

PARTIAL = ".partial"  # what `atomic` writes to; a killed process leaves it, and the next one overwrites it
SUM = "sha256"  # key of a JSON file's checksum, which covers everything else in it


@contextlib.contextmanager
def atomic(path: Path, *, cache: bool = False) -> Iterator[IO[bytes]]:
    """Yield a binary file to write to. It replaces ``path`` when the block ends, unless the block raises.

    The content is flushed to the disk before the rename and the rename after it, so at every moment ``path`` holds
    either the old or the new content. Only one process at a time may write to a folder; with ``cache`` several may, and
    nothing is flushed.
    """
    partial = path.with_name(f"{uuid.uuid4().hex}{PARTIAL}" if cache else PARTIAL)
    try:
        with open(partial, "wb") as file:
            yield file
            file.flush()
            if not cache:
                os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise
    if not cache:
        flush(path.parent)


@contextlib.contextmanager
def atomic_folder(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield an empty folder to write to. It replaces ``folder`` when the block ends, unless the block raises.

    At every moment either the old or the new content exists, complete and flushed to the disk: as ``folder`` or, for
    the instant between two renames, as its sibling ``.previous`` (see `standing`). A link stays, and its target is
    replaced. Only one process at a time may write.
    """
    folder = Path(os.path.realpath(folder))
    new, previous = folder.with_name(folder.name + PARTIAL), folder.with_name(folder.name + ".previous")
    _remove(new)  # left by a process that was killed
    new.mkdir(parents=True)
    try:
        yield new
        for path in (*new.rglob("*"), new):
            flush(path)
        if folder.exists():
            _remove(previous)  # left by a process that was killed
            folder.rename(previous)
        new.rename(folder)
        flush(folder.parent)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    shutil.rmtree(previous, ignore_errors=True)


def standing(folder: str | os.PathLike[str]) -> Path:
    """Return where the last complete content of a folder written by `atomic_folder` is: there, or in ``.previous``."""
    folder, target = Path(folder), Path(os.path.realpath(folder))
    previous = target.with_name(target.name + ".previous")
    return previous if not os.path.exists(folder) and previous.is_dir() else folder


def flush(path: Path) -> None:
    """Flush a file, or the names in a folder, to the disk. A link is left alone."""
    if os.name == "nt" or path.is_symlink():  # Windows flushes only files opened for writing
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def check_output(path: Path) -> None:
    """Create the folder in which a file is to be written. Raises ValueError if the file cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise ValueError(f"{path} cannot be written: {error.strerror} ({path.parent})") from None
    if path.is_dir() or (path.exists() and not os.access(path, os.W_OK)):
        raise ValueError(f"{path} cannot be written: it is {'a folder' if path.is_dir() else 'read-only'}")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write an object to a file, with a checksum (see `atomic`)."""
    plain = json.loads(json.dumps(content, allow_nan=False))  # as it will be read
    plain[SUM] = _sum(plain)
    with atomic(path) as file:
        file.write((json.dumps(plain, indent=2) + "\n").encode())


def read_json(path: Path) -> dict[str, Any]:
    """Return the object that `write_json` wrote.

    Raises ValueError, naming the file, if it is damaged or was edited, and OSError if it cannot be read.
    """
    content = read_object(path)
    if SUM not in content:
        raise ValueError(f"{path} has no checksum; it is damaged, or was written by another version of Cadmus Gym")
    if content.pop(SUM) != _sum(content):
        raise ValueError(f"{path} was edited or is damaged: its content does not match its checksum")
    return content


def read_object(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file. Raises ValueError, naming the file, if it holds anything else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # not JSON, or not UTF-8
        raise ValueError(f"{path} is damaged: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} is damaged: it holds a {type(content).__name__}, not an object")
    return content


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content as 64 hexadecimal digits; for JSON, the same whatever the line ends."""
    if path.suffix == ".json":
        return hashlib.sha256(path.read_bytes().replace(b"\r\n", b"\n")).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sum(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
