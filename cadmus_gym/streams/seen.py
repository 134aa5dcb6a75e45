"""How often a program or a prompt is among some programs of a stream: by one pass over them, or by a kept index.

`Programs` writes the prompts of any programs once, for all questions at once: millions take seconds, and nothing is
kept. `Index` is for the first programs of a stream, and many questions one after another: it sorts them by their text.
A run is so many programs in a row; what is kept of it is their numbers in the order of their texts, four bytes each.
The texts themselves are not kept: a search writes those that it looks at once more, for all runs and questions at once.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cadmus_gym.files import atomic
from cadmus_gym.language import isa as op
from cadmus_gym.language.hashing import Words64
from cadmus_gym.language.isa import VOCABULARY, Ints, Tokens
from cadmus_gym.language.notation import as_tokens
from cadmus_gym.progress import Report
from cadmus_gym.streams.probability import Problem, Scorer
from cadmus_gym.streams.spec import Spec
from cadmus_gym.streams.stream import Stream

RUN = 2**22  # programs of a run: 1 GB of memory while it is sorted, 16 MB on the disk
QUERIES = 1024  # texts searched for at once
CHUNK = 2**15  # programs that are written at once
ABOUT, PARTIAL = "index.json", "partial"
AGAIN = "delete it and build again"

Offsets: TypeAlias = NDArray[np.uint32]
Pairs: TypeAlias = tuple[Ints, Ints]  # seeds and numbers of programs, both (N,)


class Programs:
    """Some programs of a stream in an order, such as those that a model was trained on; by default the first ones.

    ``pairs(start, stop)`` returns seeds and numbers of the programs from one place of the order to another.
    """

    def __init__(self, stream: Stream, count: int, pairs: Callable[[int, int], Pairs] | None = None) -> None:
        if count < 0:
            raise ValueError(f"count = {count}: give a number of programs from 0")
        self.stream, self.count, self.pairs = stream, count, pairs or self._first

    def ask(
        self,
        texts: Sequence[str | ArrayLike],
        prompts: Sequence[str | ArrayLike],
        upto: int | None = None,
        report: Report | None = None,
    ) -> tuple[Ints, Ints]:
        """Return how many of the first ``upto`` (default: all) begin with each text, and how many have each prompt.

        Both are int64, of shapes (T,) and (Q,). Texts and prompts are as for `Index`. ``report(done, upto)`` is called
        meanwhile. Raises ValueError for an invalid token, or for more programs than there are.
        """
        upto = self.count if upto is None else upto
        if not 0 <= upto <= self.count:
            raise ValueError(f"upto = {upto}; allowed: 0 to {self.count}, the number of programs")
        scan = Scan(self.stream, texts, prompts)
        for start in range(0, upto, CHUNK):
            stop = min(start + CHUNK, upto)
            scan.add(*self.pairs(start, stop))
            if report is not None:
                report(stop, upto)
        return scan.found()

    def _first(self, start: int, stop: int) -> Pairs:
        return np.full(stop - start, self.stream.seed), np.arange(start, stop)


class Scan:
    """Counts of texts and prompts among programs whose prompts are written once for all questions.

    A sum of tokens times odd numbers, modulo 2**64, stands for a text; texts with equal sums are compared themselves.
    """

    def __init__(self, stream: Stream, texts: Sequence[str | ArrayLike], prompts: Sequence[str | ArrayLike]) -> None:
        self.stream = stream
        self.texts, self.prompts = ([_unpadded(as_tokens(one)).tobytes() for one in some] for some in (texts, prompts))
        self.times, self.starts = dict.fromkeys(self.prompts, 0), dict.fromkeys(self.texts, 0)
        self._longer: dict[bytes, list[bytes]] = {}  # texts by the prompts that they may begin with
        for text in self.starts:
            for size in range(len(text)):
                self._longer.setdefault(text[:size], []).append(text)
        rng = np.random.default_rng(0)
        self._factors = rng.integers(2**64, size=stream.prompt_room, dtype=np.uint64) | np.uint64(1)
        self._whole = self._sums(self.times.keys() | self._longer.keys())
        sizes = sorted({len(text) for text in self.starts if len(text) <= stream.prompt_room})
        self._begun = {size: self._sums([text for text in self.starts if len(text) == size]) for size in sizes}

    def add(self, seeds: Ints, numbers: Ints) -> None:
        """Count in the programs of pairs (seed, number), both (N,)."""
        rows, lengths = self.stream.prompts(seeds, numbers)
        sums = np.cumsum(rows * self._factors, axis=1)
        longer: list[tuple[int, bytes]] = []  # rows with the texts that their programs may begin with
        for row in np.flatnonzero(np.isin(sums[:, -1], self._whole)).tolist():
            prompt = rows[row, : lengths[row]].tobytes()
            if prompt in self.times:
                self.times[prompt] += 1
            longer += [(row, text) for text in self._longer.get(prompt, ())]
        for size, begun in self._begun.items():
            hits = (lengths >= size) & (np.isin(sums[:, size - 1], begun) if size else True)
            for row in np.flatnonzero(hits).tolist():
                text = rows[row, :size].tobytes()
                if text in self.starts:
                    self.starts[text] += 1
        if longer:
            some = np.array([row for row, _ in longer])
            programs, _ = self.stream.gather(seeds[some], numbers[some])
            for program, (_, text) in zip(programs, longer, strict=True):
                self.starts[text] += program[: len(text)].tobytes() == text

    def found(self) -> tuple[Ints, Ints]:
        """Return how many programs begin with each text (T,), and how many have each prompt (Q,), int64."""
        begun, whole = [self.starts[text] for text in self.texts], [self.times[prompt] for prompt in self.prompts]
        return np.array(begun, np.int64), np.array(whole, np.int64)

    def _sums(self, words: Collection[bytes]) -> Words64:
        room = self.stream.prompt_room
        some = [np.frombuffer(word, np.uint8) for word in words if len(word) <= room]
        return np.array([(word * self._factors[: word.size]).sum() for word in some], np.uint64)


class Index:
    """The first programs of a stream, sorted: counts of programs and prompts, exact for every number of programs.

    ``folder`` keeps the runs, one file each, and resumes where it stopped interrupted; without one they stay in memory.
    ``run_size`` is that of the folder, 2**22 in a new one. Raises ValueError for a folder of another stream, seed or
    ``run_size``, one that holds something else, or a damaged file.
    """

    def __init__(
        self, stream: Stream, folder: str | os.PathLike[str] | None = None, run_size: int | None = None
    ) -> None:
        if run_size is not None and not 1 <= run_size <= 2**32:
            raise ValueError(f"run_size = {run_size}: give a number of programs from 1 to {2**32}")
        self.stream, self.folder = stream, None if folder is None else Path(folder)
        self.run_size = run_size or RUN
        self.runs: list[Offsets] = []  # of each run (run_size,) uint32, the programs' places in it, sorted by text
        self._files: list[Path] = []
        self._scorers = [Scorer(spec, stream.split, 0, 1) for spec in stream.specs]  # which read prompts
        if self.folder is not None and self.folder.exists():
            self._open(self.folder, run_size)

    @property
    def size(self) -> int:
        """The number of programs in the index."""
        return len(self.runs) * self.run_size

    def build(self, upto: int, report: Report | None = None) -> None:
        """Add runs until the index holds the first ``upto`` programs; ``report(done, wanted)`` is told of each.

        The sums of the files that are there are checked: ValueError names one that is damaged.
        """
        if upto < 0:
            raise ValueError(f"upto = {upto}: give a number of programs from 0")
        for path in self._files:
            if path.stem.rpartition("-")[2] != _sum(path):
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
        """Return (Q,) int64: how many of the first ``upto`` programs (default: all) begin with each text.

        A text is as for `cadmus_gym.assemble`, or token ids (n,), 0 at its end left out. Only itself begins with a
        whole program. Raises ValueError for an invalid token, or for more programs than the index has.
        """
        upto = self.size if upto is None else upto
        if not 0 <= upto <= self.size:
            raise ValueError(f"upto = {upto}: the index holds {self.size} programs; build({upto}) adds more")
        programs = [_unpadded(as_tokens(text)) for text in texts]
        counts = np.zeros(len(programs), np.int64)
        fitting = [k for k, program in enumerate(programs) if program.size <= self.stream.length]
        for some in (fitting[start : start + QUERIES] for start in range(0, len(fitting), QUERIES)):
            keys = np.zeros((2, len(some), self.stream.length), np.uint8)  # what sorts before the text, and after it
            keys[1] = 255
            for k, query in enumerate(some):
                keys[:, k, : programs[query].size] = programs[query]
            first, last = self._below(keys.reshape(-1, self.stream.length)).reshape(-1, 2, len(some)).swapaxes(0, 1)
            for run, start, stop in zip(range(len(self.runs)), first, last, strict=True):
                left = upto - run * self.run_size
                if left >= self.run_size:
                    counts[some] += stop - start
                elif left > 0:
                    inside = [np.count_nonzero(self.runs[run][a:b] < left) for a, b in zip(start, stop, strict=True)]
                    counts[some] += inside
        return counts

    def count_prompts(self, prompts: Sequence[str | ArrayLike], upto: int | None = None) -> Ints:
        """Return (Q,) int64: how many of the first ``upto`` programs have each of these as their whole prompt."""
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
        """Return what `count` and `count_prompts` do, as `Programs.ask`; ``report`` is not called, it is quick."""
        return self.count(texts, upto), self.count_prompts(prompts, upto)

    def neighbours(self, prompt: str | ArrayLike, upto: int | None = None) -> list[tuple[Tokens, int]]:
        """Return the prompts of the first ``upto`` programs that one token inserted, deleted or replaced makes of this
        one, (n,) uint8, each with the number of programs it has; the most frequent first."""
        edited = list(edits(as_tokens(prompt)))
        counts = self.count_prompts(edited, upto)
        order = np.argsort(-counts, kind="stable")
        return [(edited[k], int(counts[k])) for k in order if counts[k] > 0]

    def read(self, text: str | ArrayLike) -> list[Problem]:
        """Return what each part of the stream makes of a prompt, or of that of a program; none where it writes none."""
        tokens = _unpadded(as_tokens(text))
        return [problem for scorer in self._scorers if (problem := scorer.read(tokens)) is not None]

    def _below(self, keys: Tokens) -> Ints:
        """How many programs of each run sort before each key (Q, L): (R, Q)."""
        runs, queries = len(self.runs), len(keys)
        low, high = np.zeros((runs, queries), np.int64), np.full((runs, queries), self.run_size, np.int64)
        starts = np.arange(runs)[:, None] * self.run_size
        while (low < high).any():
            middle = np.minimum((low + high) // 2, self.run_size - 1)
            places = [run[at] for run, at in zip(self.runs, middle, strict=True)]
            wanted, where = np.unique(np.array(places, np.int64) + starts, return_inverse=True)
            programs, _ = self.stream.gather(np.full(wanted.size, self.stream.seed), wanted)
            texts = programs[where.reshape(runs, queries)]
            differ = (texts != keys).argmax(axis=2)  # the first token that does
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
        words = padded.view(">u8").astype(np.uint64)  # which sort as the eight tokens do
        return np.lexsort(words.T[::-1]).astype(np.uint32)

    def _about(self) -> dict[str, object]:
        return {"digest": self.stream.digest, "seed": self.stream.seed, "run_size": self.run_size}

    def _open(self, folder: Path, run_size: int | None) -> None:
        path = folder / ABOUT
        if not path.is_file():
            if not folder.is_dir() or any(name for name in os.listdir(folder) if name != PARTIAL):
                raise ValueError(f"{folder} holds something else than an index; name another folder")
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
        """Add a run by way of its file, which is there whole or not at all."""
        folder.mkdir(parents=True, exist_ok=True)
        about = folder / ABOUT
        if not about.exists():
            with atomic(about, folder / PARTIAL) as partial:
                partial.write_text(json.dumps(self._about()) + "\n", encoding="utf-8")
        packed = io.BytesIO()
        np.save(packed, run)
        path = folder / f"run-{len(self.runs):06}-{_sum(packed)}.npy"
        with atomic(path, folder / PARTIAL) as partial:
            partial.write_bytes(packed.getvalue())
        self._add(path)


def edits(tokens: Tokens) -> Iterator[Tokens]:
    """Yield what one token inserted, deleted or replaced makes of tokens (n,), each once."""
    words = [id for id in range(len(VOCABULARY)) if id not in (op.PAD, op.BOS, op.END)]
    given = tokens.tolist()
    found = {tuple(given)}
    for k in range(len(given) + 1):
        before, behind = given[:k], given[k:]
        for edited in [[*before, *behind[1:]], *([*before, word, *behind[r:]] for word in words for r in range(2))]:
            if tuple(edited) not in found:
                found.add(tuple(edited))
                yield np.array(edited, np.uint8)


def splits_of(spec: Spec, text: str | ArrayLike) -> dict[str, Problem]:
    """Return, of the splits that may write a prompt, or that of a program, what they make of it: those for which it is
    ``kept`` have its problem.

    A family in plain Python cannot say whether the parameters of a split lead to a prompt: then a problem is ``kept``
    by every split that would keep it if its parameters did (see `certain`).
    """
    tokens = _unpadded(as_tokens(text))
    found = {name: Scorer(spec, name, 0, 1).read(tokens) for name in spec.splits}
    return {name: problem for name, problem in found.items() if problem is not None}


def certain(spec: Spec) -> bool:
    """Whether a spec's family can say which prompts its splits write."""
    return spec.family.pack is not None


def _unpadded(tokens: Tokens) -> Tokens:
    used = np.flatnonzero(tokens != op.PAD)
    return tokens[: used[-1] + 1] if used.size else tokens[:0]


def _sum(file: Path | io.BytesIO) -> str:
    content = file.read_bytes() if isinstance(file, Path) else file.getbuffer()
    return hashlib.sha256(content).hexdigest()[:16]
