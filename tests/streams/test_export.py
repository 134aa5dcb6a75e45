"""Streams as Parquet files: complete, resumable, and checked."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

import cadmus_gym as cg
from cadmus_gym.__main__ import main
from cadmus_gym.files import PARTIAL
from cadmus_gym.streams.export import export_stream

arrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

ID = "Cadmus-Arith-v0"


@pytest.mark.parametrize("id", [ID, "Cadmus-Compare-v0", "Cadmus-Mix-v0"])
def test_files_hold_the_stream(id: str, tmp_path: Path) -> None:
    stream = cg.Stream(id, "test", seed=4)
    paths = export_stream(stream, tmp_path / "data", 2500, shard_size=1000)
    assert [path.name for path in paths] == [
        "test-000000000000-000000001000.parquet",
        "test-000000001000-000000002000.parquet",
        "test-000000002000-000000002500.parquet",
    ]
    table = parquet.read_table(tmp_path / "data")  # the whole folder, as users do
    kinds = {"text": "string", "tokens": "list<element: uint8>", "prompt_length": "int32", "index": "int64"}
    assert {name: str(table.schema.field(name).type) for name in kinds} == kinds
    assert arrow.types.is_dictionary(table.schema.field("digest").type)
    about = {"id": id, "split": "test", "seed": "4", "digest": stream.digest}
    for path in paths:
        metadata = parquet.read_schema(path).metadata
        assert {key: metadata[key.encode()].decode() for key in about} == about
    programs, lengths = stream.batch(0, 2500)
    read = table.to_pydict()
    assert read["tokens"] == [row[row > 0].tolist() for row in programs]
    assert read["text"] == [cg.decode(row[row > 0]) for row in programs]
    assert read["prompt_length"] == lengths.tolist()
    assert read["index"] == list(range(2500))
    assert set(read["digest"]) == {stream.digest}


def test_an_interrupted_export_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stream, batch, calls = cg.Stream(ID), cg.Stream.batch, []

    def killed(self: cg.Stream, start: int, count: int) -> object:
        calls.append((start, count))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return batch(self, start, count)

    monkeypatch.setattr(cg.Stream, "batch", killed)
    with pytest.raises(KeyboardInterrupt):
        export_stream(stream, tmp_path, 250, shard_size=100)
    (tmp_path / PARTIAL).write_bytes(b"half a file")
    replayed: list[tuple[int, int]] = []
    export_stream(stream, tmp_path, 250, shard_size=100, report=lambda *done: replayed.append(done))
    assert calls == [(0, 100), (100, 100), (100, 100), (200, 50)]
    assert replayed == [(100, 250), (200, 250), (250, 250)]
    assert parquet.read_table(tmp_path)["index"].to_pylist() == list(range(250))


def test_a_folder_with_other_content_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    export_stream(cg.Stream(ID), folder, 20, shard_size=10)
    for stream, count, key in (
        (cg.Stream(ID, seed=1), 20, "seed"),
        (cg.Stream(ID, "test"), 20, "split"),
        (cg.Stream(cg.load_spec(ID, limit=9998)), 20, "digest"),
        (cg.Stream(ID), 30, "count"),
    ):
        with pytest.raises(ValueError, match=rf"_export.json: {key} = .*name another folder"):
            export_stream(stream, folder, count, shard_size=10)
    (tmp_path / "notes.txt").touch()
    for path in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(ValueError, match="holds something other than an export"):
            export_stream(cg.Stream(ID), path, 20)
    with pytest.raises(ValueError, match="count = -1"):
        export_stream(cg.Stream(ID), tmp_path / "new", -1)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    stream = cg.Stream(ID)
    first, second = export_stream(stream, tmp_path, 20, shard_size=10)
    content = first.read_bytes()
    first.write_bytes(content[:-20])
    with pytest.raises(ValueError, match=rf"{first.name} is damaged"):
        export_stream(stream, tmp_path, 20, shard_size=10)
    first.write_bytes(content)
    parquet.write_table(parquet.read_table(second).slice(1), second)
    with pytest.raises(ValueError, match=rf"{second.name} does not hold 10 programs"):
        export_stream(stream, tmp_path, 20, shard_size=10)
    (tmp_path / "_export.json").write_text("{")
    with pytest.raises(ValueError, match=r"_export.json is damaged"):
        export_stream(stream, tmp_path, 20, shard_size=10)


def test_the_command_writes_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "data"
    assert main(["export", ID, str(folder), "--split", "wide", "--count", "300", "--seed", "2"]) == 0
    assert capsys.readouterr().out == "1 file\n"
    programs, _ = cg.Stream(ID, "wide", 2).batch(0, 300)
    (tokens,) = (parquet.read_table(folder)["tokens"].to_pylist(),)
    assert np.array_equal(np.concatenate(tokens), programs[programs > 0])


def test_without_pyarrow_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    assert main(["export", ID, str(tmp_path / "data"), "--count", "3"]) == 2
    assert "pip install '.[data]'" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()
