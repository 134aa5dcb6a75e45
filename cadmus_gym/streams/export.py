"""Part of a stream as Parquet files, for tools that read tables. Needs pyarrow."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from cadmus_gym import files
from cadmus_gym.language import isa as op
from cadmus_gym.language.isa import VOCABULARY
from cadmus_gym.progress import Report
from cadmus_gym.streams.stream import Stream

SHARD = 2**20  # programs of a file, about 30 MB
ABOUT = "_export.json"  # readers of a folder of Parquet files skip names that start with `_` or `.`


def export_stream(
    stream: Stream,
    folder: str | os.PathLike[str],
    count: int,
    shard_size: int = SHARD,
    report: Report | None = None,
) -> list[Path]:
    """Write the first ``count`` programs of a stream to a folder, in files of ``shard_size``; return their paths.

    Columns: ``text`` as from `cadmus_gym.decode`, ``tokens`` list<uint8>, ``prompt_length`` int32, ``digest`` of the
    split (dictionary of strings), ``index`` int64. The metadata of each file's schema has id, split, seed and digest.
    Finished files are kept, so an export that was interrupted continues; ``report(done, count)`` is called after each.

    Raises ModuleNotFoundError without pyarrow; ValueError for a folder that holds anything but this export, or for a
    damaged file.
    """
    try:
        import pyarrow.parquet as parquet
    except ModuleNotFoundError:
        raise ModuleNotFoundError("export needs pyarrow: pip install '.[data]'") from None
    if not 0 <= count <= 2**63 or not 1 <= shard_size <= 2**24:
        raise ValueError(f"count = {count}, shard_size = {shard_size}: give from 0, and from 1 to {2**24}")
    folder = Path(folder)
    about = {"id": stream.id, "split": stream.split, "seed": str(stream.seed), "digest": stream.digest}
    _claim(folder, {**about, "count": count, "shard_size": shard_size})
    paths = []
    for start in range(0, count, shard_size):
        stop = min(start + shard_size, count)
        path = folder / f"{stream.split}-{start:012}-{stop:012}.parquet"
        if not path.exists():
            with files.atomic(path) as file:
                parquet.write_table(_table(stream, start, stop - start, about), file, compression="zstd")
        else:
            _check(path, stop - start, about)
        paths.append(path)
        if report is not None:
            report(stop, count)
    return paths


def _claim(folder: Path, about: dict[str, Any]) -> None:
    """Claim a folder for this export; raise ValueError if it holds anything else."""
    path = folder / ABOUT
    if path.is_file():
        try:
            before = dict(json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError):
            raise ValueError(f"{path} is damaged; delete the folder and export again") from None
        for key, value in about.items():
            if before.get(key) != value:
                raise ValueError(
                    f"{path}: {key} = {before.get(key)!r}, but {value!r} is requested; name another folder"
                )
        return
    if folder.exists() and (not folder.is_dir() or set(os.listdir(folder)) - {files.PARTIAL}):
        raise ValueError(f"{folder} holds something other than an export; name another folder")
    folder.mkdir(parents=True, exist_ok=True)
    with files.atomic(path) as file:
        file.write((json.dumps(about, indent=2) + "\n").encode())


def _check(path: Path, rows: int, about: dict[str, str]) -> None:
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    try:
        file = parquet.ParquetFile(path)
        found = {key.decode(): value.decode() for key, value in (file.schema_arrow.metadata or {}).items()}
    except (arrow.ArrowException, OSError) as error:
        raise ValueError(f"{path} is damaged: {error}; delete it and export again") from None
    if file.metadata.num_rows != rows or any(found.get(key) != value for key, value in about.items()):
        raise ValueError(f"{path} does not hold {rows} programs of {about}; delete it and export again")


def _table(stream: Stream, start: int, count: int, about: dict[str, str]) -> Any:
    """Return programs start..start+count as a pyarrow.Table."""
    import pyarrow as arrow
    import pyarrow.compute

    programs, prompt_lengths = stream.batch(start, count)
    used = programs != op.PAD
    ends = arrow.array(np.append(0, used.sum(axis=1).cumsum()).astype(np.int32))
    flat = programs[used]  # programs have no <pad> inside
    words = arrow.array(VOCABULARY).take(arrow.array(flat))
    columns = {
        "text": arrow.compute.binary_join(arrow.ListArray.from_arrays(ends, words), " "),
        "tokens": arrow.ListArray.from_arrays(ends, arrow.array(flat)),
        "prompt_length": arrow.array(prompt_lengths),
        "digest": arrow.DictionaryArray.from_arrays(np.zeros(count, np.int32), [stream.digest]),
        "index": arrow.array(np.arange(start, start + count, dtype=np.int64)),
    }
    return arrow.table(columns).replace_schema_metadata(about)
