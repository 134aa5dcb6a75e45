"""An index of the first programs of a stream: counts of texts and prompts for many questions.

A run is a block of consecutive programs. The index keeps, for each run, the numbers of its programs in the order of
their texts, four bytes per program. The texts are not kept: a search writes the programs that it looks at again, for
all runs and questions at once.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cadmus_gym import files
from cadmus_gym.language.isa import Ints, Tokens
from cadmus_gym.language.notation import as_tokens
from cadmus_gym.progress import Report
from cadmus_gym.streams.problems import Problem, Reader, unpadded
from cadmus_gym.streams.seen import edits
from cadmus_gym.streams.stream import Stream

RUN = 2**22  # programs of a run: 1 GB of memory while it is sorted, 16 MB on disk
QUERIES = 1024  # texts searched for at once
ABOUT, DIGITS = "index.json", 16  # DIGITS of the checksum are in the name of a run's file
AGAIN = "delete it and build again"

Offsets: TypeAlias = NDArray[np.uint32]


class Index:
    """The first programs of a stream, sorted by text, for exact counts of texts and prompts.

    ``folder`` keeps the runs, one file each, so building resumes after an interruption; without a folder they stay in
    memory. ``run_size`` defaults to that of the folder, and to 2**22 for a new one. Raises ValueError for a folder with
    another stream, seed or ``run_size``, for one that holds anything else, and for a damaged file.
    """

    def __init__(
        self, stream: Stream, folder: str | os.PathLike[str] | None = None, run_size: int | None = None
    ) -> None:
        if run_size is not None and not 1 <= run_size <= 2**32:
            raise ValueError(f"run_size = {run_size}: give a number of programs from 1 to {2**32}")
        self.stream, self.folder = stream, None if folder is None else Path(folder)
        self.run_size = run_size or RUN
        self.runs: list[Offsets] = []  # one per run: the offsets of its programs, sorted by text, (run_size,) uint32
        self._files: list[Path] = []
        self._readers = [Reader(spec, stream.split) for spec in stream.specs]
        if self.folder is not None and self.folder.exists():
            self._open(self.folder, run_size)

    @property
    def size(self) -> int:
        """The number of programs in the index."""
        return len(self.runs) * self.run_size

    def build(self, upto: int, report: Report | None = None) -> None:
        """Add runs until the index holds the first ``upto`` programs; ``report(done, upto)`` is called after each.

        Raises ValueError for an existing file that does not match its checksum.
        """
        if upto < 0:
            raise ValueError(f"upto = {upto}: give a number of programs from 0")
        for path in self._files:
            if path.stem.rpartition("-")[2] != files.sha256(path)[:DIGITS]:
                raise ValueError(f"{path} is damaged: its SHA-256 is not the one in its name; {AGAIN}")
        while self.size < upto:
            run = self._sorted(len(self.runs))
            if self.folder is None:
                self.runs.append(run)
            else:
                self._keep(self.folder, run)
            if report is not None:
                report(min(self.size, upto), upto)

    def count(self, texts: Sequence[str | ArrayLike], upto: int | None = None) -> Ints:
        """Count the programs among the first ``upto`` (default: all) that begin with each text: (Q,) int64.

        A text is text as for `cadmus_gym.assemble`, or token ids (n,), padded with 0. A whole program counts only
        itself. Raises ValueError for an invalid token, or for more programs than the index has.
        """
        upto = self.size if upto is None else upto
        if not 0 <= upto <= self.size:
            raise ValueError(f"upto = {upto}: the index holds {self.size} programs; build({upto}) adds more")
        programs = [unpadded(as_tokens(text)) for text in texts]
        counts = np.zeros(len(programs), np.int64)
        fitting = [k for k, program in enumerate(programs) if program.size <= self.stream.length]
        for some in (fitting[start : start + QUERIES] for start in range(0, len(fitting), QUERIES)):
            keys = np.zeros(
                (2, len(some), self.stream.length), np.uint8
            )  # bounds below and above all programs that begin with the text
            keys[1] = 255
            for k, query in enumerate(some):
                keys[:, k, : programs[query].size] = programs[query]
            first, last = self._ranks(keys.reshape(-1, self.stream.length)).reshape(-1, 2, len(some)).swapaxes(0, 1)
            for run, start, stop in zip(range(len(self.runs)), first, last, strict=True):
                left = upto - run * self.run_size
                if left >= self.run_size:
                    counts[some] += stop - start
                elif left > 0:
                    inside = [np.count_nonzero(self.runs[run][a:b] < left) for a, b in zip(start, stop, strict=True)]
                    counts[some] += inside
        return counts

    def count_prompts(self, prompts: Sequence[str | ArrayLike], upto: int | None = None) -> Ints:
        """Count the programs among the first ``upto`` (default: all) that have each of these prompts: (Q,) int64.

        Raises ValueError for a task with prompts that many programs complete; `Programs` counts these too.
        """
        if any(spec.family.fits_many for spec in self.stream.specs):
            raise ValueError(
                f"an index of {self.stream.id} cannot count prompts, which many programs may complete; ask without an "
                "index (no --folder)"
            )
        found = [
            {program.tobytes() for part in self.read(p) for program in part.programs if part.kept} for p in prompts
        ]
        programs = [np.frombuffer(program, np.uint8) for some in found for program in some]
        owners = np.repeat(np.arange(len(found)), [len(some) for some in found])
        counts = np.zeros(len(found), np.int64)
        np.add.at(counts, owners, self.count(programs, upto))
        return counts

    def ask(
        self,
        texts: Sequence[str | ArrayLike],
        prompts: Sequence[str | ArrayLike],
        upto: int | None = None,
        report: Report | None = None,
    ) -> tuple[Ints, Ints]:
        """Return (`count` of texts, `count_prompts` of prompts), like `Programs.ask`; ``report`` is never called."""
        return self.count(texts, upto), self.count_prompts(prompts, upto)

    def neighbours(self, prompt: str | ArrayLike, upto: int | None = None) -> list[tuple[Tokens, int]]:
        """Return prompts of the first ``upto`` programs that are one edit of a token away (see `edits`).

        Each is (n,) uint8, with its number of programs; the most frequent come first.
        """
        edited = list(edits(as_tokens(prompt)))
        counts = self.count_prompts(edited, upto)
        order = np.argsort(-counts, kind="stable")
        return [(edited[k], int(counts[k])) for k in order if counts[k] > 0]

    def read(self, text: str | ArrayLike) -> list[Problem]:
        """Return how each part of the stream reads a prompt, or the prompt of a program; others are left out."""
        tokens = unpadded(as_tokens(text))
        return [problem for reader in self._readers if (problem := reader.read(tokens)) is not None]

    def _ranks(self, keys: Tokens) -> Ints:
        """Return how many programs of each run sort before each key (Q, L): (R, Q)."""
        runs, queries = len(self.runs), len(keys)
        low, high = np.zeros((runs, queries), np.int64), np.full((runs, queries), self.run_size, np.int64)
        starts = np.arange(runs)[:, None] * self.run_size
        while (low < high).any():
            middle = np.minimum((low + high) // 2, self.run_size - 1)
            places = [run[at] for run, at in zip(self.runs, middle, strict=True)]
            numbers, where = np.unique(np.array(places, np.int64) + starts, return_inverse=True)
            programs, _ = self.stream.gather(np.full(numbers.size, self.stream.seed), numbers)
            texts = programs[where.reshape(runs, queries)]
            differ = (texts != keys).argmax(axis=2)  # the first token that differs
            before = np.take_along_axis(texts, differ[..., None], 2)[..., 0] < keys[np.arange(queries), differ]
            low, high = (
                np.where((low < high) & before, middle + 1, low),
                np.where(before, high, np.minimum(high, middle)),
            )
        return low

    def _sorted(self, run: int) -> Offsets:
        programs, _ = self.stream.batch(run * self.run_size, self.run_size)
        padded = np.zeros((len(programs), -(-self.stream.length // 8) * 8), np.uint8)
        padded[:, : self.stream.length] = programs
        words = padded.view(">u8").astype(np.uint64)  # big-endian, so words sort like their eight tokens
        return np.lexsort(words.T[::-1]).astype(np.uint32)

    def _about(self) -> dict[str, object]:
        return {"digest": self.stream.digest, "seed": self.stream.seed, "run_size": self.run_size}

    def _open(self, folder: Path, run_size: int | None) -> None:
        path = folder / ABOUT
        if not path.is_file():
            if not folder.is_dir() or any(name for name in os.listdir(folder) if name != files.PARTIAL):
                raise ValueError(f"{folder} holds something other than an index; name another folder")
            return
        try:
            about = json.loads(path.read_text(encoding="utf-8"))
            self.run_size = int(about["run_size"]) if run_size is None else run_size
        except (ValueError, TypeError, KeyError):
            raise ValueError(f"{path} is damaged; {AGAIN}") from None
        for key, value in self._about().items():
            if about.get(key) != value:
                raise ValueError(f"{path}: {key} = {about.get(key)!r}, but {value!r} is requested; name another folder")
        for number, file in enumerate(sorted(folder.glob("run-*-*.npy"))):
            if file.stem.split("-")[1] != f"{number:06}":
                break  # the runs after a missing one are built again
            self._add(file)

    def _add(self, file: Path) -> None:
        try:
            run = np.load(file, mmap_mode="r")
        except (ValueError, EOFError) as error:
            raise ValueError(f"{file} is damaged: {error}; {AGAIN}") from None
        if run.shape != (self.run_size,) or run.dtype != np.uint32:
            raise ValueError(f"{file}: {run.dtype} of shape {run.shape}; allowed: uint32, ({self.run_size},); {AGAIN}")
        self.runs.append(run)
        self._files.append(file)

    def _keep(self, folder: Path, run: Offsets) -> None:
        """Write a run to a file of the folder and add it."""
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / ABOUT).exists():
            with files.atomic(folder / ABOUT) as file:
                file.write((json.dumps(self._about()) + "\n").encode())
        buffer = io.BytesIO()
        np.save(buffer, run)
        path = folder / f"run-{len(self.runs):06}-{hashlib.sha256(buffer.getbuffer()).hexdigest()[:DIGITS]}.npy"
        with files.atomic(path) as file:
            file.write(buffer.getbuffer())
        self._add(path)
