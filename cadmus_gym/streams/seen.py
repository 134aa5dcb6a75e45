"""How often a text or a prompt occurs among programs of a stream, by one pass over them.

The prompts of all programs are written once for all questions, in seconds for millions. `cadmus_gym.streams.index`
answers many questions one after another.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from cadmus_gym.language import isa as op
from cadmus_gym.language.hashing import Words64
from cadmus_gym.language.isa import VOCABULARY, Ints, Tokens
from cadmus_gym.language.notation import as_tokens
from cadmus_gym.progress import Report
from cadmus_gym.streams.problems import unpadded
from cadmus_gym.streams.stream import Stream

CHUNK = 2**15  # programs written at once

Pairs: TypeAlias = tuple[Ints, Ints]  # seeds and numbers of programs, both (N,)


class Programs:
    """A sequence of programs of a stream, such as those that a model was trained on; by default the first ``count``.

    ``pairs(start, stop)`` returns the seeds and numbers of programs start..stop of the sequence.
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
        """Count the first ``upto`` programs (default: all) that begin with each text, and those that have each prompt.

        Both counts are int64, of shapes (T,) and (Q,). Texts and prompts are text as for `cadmus_gym.assemble`, or
        token ids (n,), padded with 0. ``report(done, upto)`` is called after each chunk. Raises ValueError for an
        invalid token, or for more programs than there are.
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
    """Counts of texts and prompts among programs, whose prompts are written once for all questions.

    Texts are found by a hash, a sum of tokens times odd numbers modulo 2**64; those with equal hashes are compared.
    """

    def __init__(self, stream: Stream, texts: Sequence[str | ArrayLike], prompts: Sequence[str | ArrayLike]) -> None:
        self.stream = stream
        self.texts, self.prompts = ([unpadded(as_tokens(one)).tobytes() for one in some] for some in (texts, prompts))
        self.times, self.starts = dict.fromkeys(self.prompts, 0), dict.fromkeys(self.texts, 0)
        self._longer: dict[bytes, list[bytes]] = {}  # texts by their prefixes, each of which may be the prompt
        for text in self.starts:
            for size in range(len(text)):
                self._longer.setdefault(text[:size], []).append(text)
        rng = np.random.default_rng(0)
        self._factors = rng.integers(2**64, size=stream.prompt_room, dtype=np.uint64) | np.uint64(1)
        self._whole = self._sums(self.times.keys() | self._longer.keys())
        sizes = sorted({len(text) for text in self.starts if len(text) <= stream.prompt_room})
        self._begun = {size: self._sums([text for text in self.starts if len(text) == size]) for size in sizes}

    def add(self, seeds: Ints, numbers: Ints) -> None:
        """Add the programs of pairs (seed, number), both (N,), to the counts."""
        rows, lengths = self.stream.prompts(seeds, numbers)
        sums = np.cumsum(rows * self._factors, axis=1)
        longer: list[tuple[int, bytes]] = []  # rows, each with a text that its program may begin with
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
        """Return the number of programs that begin with each text (T,), and that have each prompt (Q,), int64."""
        begun, whole = [self.starts[text] for text in self.texts], [self.times[prompt] for prompt in self.prompts]
        return np.array(begun, np.int64), np.array(whole, np.int64)

    def _sums(self, words: Collection[bytes]) -> Words64:
        room = self.stream.prompt_room
        some = [np.frombuffer(word, np.uint8) for word in words if len(word) <= room]
        return np.array([(word * self._factors[: word.size]).sum() for word in some], np.uint64)


def edits(tokens: Tokens) -> Iterator[Tokens]:
    """Yield all results of inserting, deleting or replacing one token of tokens (n,), each once."""
    words = [id for id in range(len(VOCABULARY)) if id not in (op.PAD, op.BOS, op.END)]
    given = tokens.tolist()
    found = {tuple(given)}
    for k in range(len(given) + 1):
        before, after = given[:k], given[k:]
        for edited in [[*before, *after[1:]], *([*before, word, *after[r:]] for word in words for r in range(2))]:
            if tuple(edited) not in found:
                found.add(tuple(edited))
                yield np.array(edited, np.uint8)
