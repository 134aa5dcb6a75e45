"""Files and folders are replaced as a whole or not at all, and damage is noticed."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from cadmus_gym import files
from cadmus_gym.files import PARTIAL, atomic, atomic_folder


def test_json_is_read_as_written_and_rejected_if_changed(tmp_path: Path) -> None:
    path = tmp_path / "some.json"
    files.write_json(path, {"seed": 10, "rates": (0.1, 1e-7), "name": "Ontañón", "none": None})
    assert files.read_json(path) == {"seed": 10, "rates": [0.1, 1e-7], "name": "Ontañón", "none": None}
    text = path.read_text()
    for changed in (text.replace('"seed": 10', '"seed": 11'), text.replace('"none"', '"some"')):
        path.write_text(changed)
        with pytest.raises(ValueError, match=r"some.json was edited or is damaged"):
            files.read_json(path)
    for damaged in ("", text[: len(text) // 2], "[" * 100_000, '"text"', '{"seed": 10}', "\udcff"):
        path.write_bytes(damaged.encode(errors="surrogateescape"))
        with pytest.raises(ValueError, match=r"some.json (is damaged|has no checksum)"):
            files.read_json(path)


def test_atomic_replaces_the_file_at_the_end_of_the_block(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for content in (b"old", b"new"):
        (tmp_path / PARTIAL).write_bytes(b"left by a process that was killed")
        with atomic(path) as file:
            file.write(content)
            assert path.exists() == (content == b"new")
        assert path.read_bytes() == content


def test_atomic_keeps_the_old_file_if_the_block_raises(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def interrupted() -> None:
        with atomic(path) as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_several_may_write_to_a_cache_at_once(tmp_path: Path) -> None:
    with atomic(tmp_path / "kernel", cache=True) as one, atomic(tmp_path / "kernel", cache=True) as other:
        one.write(b"one")
        other.write(b"other")
    assert (tmp_path / "kernel").read_bytes() == b"one"
    assert [path.name for path in tmp_path.iterdir()] == ["kernel"]


def test_failed_write_keeps_the_old_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "some.json"
    files.write_json(path, {"seed": 1})
    flushed: list[int] = []

    def full(handle: int) -> None:
        flushed.append(handle)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        files.write_json(path, {"seed": 2})
    assert flushed  # before the rename
    assert files.read_json(path) == {"seed": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_check_output_names_a_path_that_cannot_be_written(tmp_path: Path) -> None:
    files.check_output(tmp_path / "new" / "table.json")
    assert list((tmp_path / "new").iterdir()) == []
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "table.json", tmp_path / "new", Path("/proc/table.json")):
        with pytest.raises(ValueError, match=rf"{path} cannot be written: "):
            files.check_output(path)


def test_atomic_folder_keeps_the_old_content_if_the_block_raises(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    with atomic_folder(folder) as new:
        (new / "step").write_text("1")
        (new / "inner").mkdir()
        (new / "inner" / "file").write_text("x")

    def fail() -> None:
        with atomic_folder(folder) as new:
            (new / "step").write_text("2")
            assert (folder / "step").read_text() == "1"
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        fail()
    assert (folder / "step").read_text() == "1"
    assert (folder / "inner" / "file").read_text() == "x"
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


def test_atomic_folder_overwrites_leftovers_of_killed_processes(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    for number in ("1", "2"):
        for left in ("state.partial", "state.previous"):
            (tmp_path / left).mkdir()
            (tmp_path / left / "step").write_text("old")
        with atomic_folder(folder) as new:
            (new / "step").write_text(number)
        assert (folder / "step").read_text() == number
        assert [path.name for path in tmp_path.iterdir()] == ["state"]
    (tmp_path / "state.partial").write_text("a file")
    (tmp_path / "state.previous").write_text("a file")
    with atomic_folder(folder) as new:
        (new / "step").write_text("3")
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the names of open files from /proc")
def test_content_is_flushed_before_the_rename_and_names_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rename can reach the disk before the content of what was renamed, unless that is flushed first."""
    events: list[str] = []
    rename, replace, fsync = Path.rename, os.replace, os.fsync

    def renaming(self: Path, target: Path) -> Path:
        events.append(f"rename {self.name}")
        return rename(self, target)

    def replacing(source: Path, target: Path) -> None:
        events.append(f"replace {target.name}")
        replace(source, target)

    def flushing(handle: int) -> None:
        events.append(f"flush {Path(os.readlink(f'/proc/self/fd/{handle}')).name}")
        fsync(handle)

    monkeypatch.setattr(Path, "rename", renaming)
    monkeypatch.setattr(os, "replace", replacing)
    monkeypatch.setattr(os, "fsync", flushing)
    with atomic(tmp_path / "y") as file:
        file.write(b"y")
    assert events == [f"flush {PARTIAL}", "replace y", f"flush {tmp_path.name}"]
    for _ in range(2):
        events.clear()
        with atomic_folder(tmp_path / "x") as new:
            (new / "inner").mkdir()
            (new / "inner" / "file").write_text("x")
    assert set(events[:3]) == {"flush inner", "flush file", "flush x.partial"}
    assert events[3:] == ["rename x", "rename x.partial", f"flush {tmp_path.name}"]
