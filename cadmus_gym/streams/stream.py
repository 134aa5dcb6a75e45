"""Streams of true programs: program i is a pure function of (digest of the split, seed, i)."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cadmus_gym.arguments import check_seed, check_whole
from cadmus_gym.language import isa as op
from cadmus_gym.language.hashing import Words64, join
from cadmus_gym.language.isa import Ints, Tokens
from cadmus_gym.language.kernels import kernel, spread
from cadmus_gym.language.notation import check_ids, disassemble
from cadmus_gym.language.verdicts import RAN
from cadmus_gym.streams.loading import load_spec
from cadmus_gym.streams.overlap import ASKED, DRAWN, may_overlap, share_in_train, warn_of
from cadmus_gym.streams.probability import Scorer
from cadmus_gym.streams.scores import Entropy, Scores, score_mixture, trimmed
from cadmus_gym.streams.spec import Spec, check_mixture
from cadmus_gym.streams.writing import (
    NOTHING,
    attempts_of,
    compose_rows,
    explain,
    fill,
    new_workspace,
    no_problem,
    options_of,
    sieve_of,
)
from cadmus_gym.tasks.sampling import CHOICE, RANDOM, randbelow
from cadmus_gym.tasks.synthesis.hidden import References
from cadmus_gym.tasks.synthesis.space import Posterior

Source: TypeAlias = str | Path | Spec | Mapping[str, int]
PROBES = 16  # prompts drawn from each new stream
_PROBED: set[str] = set()  # digests
_COMPARED: set[tuple[str, str]] = set()  # digests of a split and of train; each pair is warned about once


def overlap_of(spec: Spec, split: str) -> float:
    """Return the share of a split's prompts that train could write too (see `cadmus_gym.streams.overlap`).

    It is 0 for a split with the parameters of train: their shares keep them apart. The spec must not be a mixture.
    """
    if not may_overlap(spec, split):
        return 0.0
    stream, rows = Stream(spec, split), (np.zeros(ASKED, np.int64), np.arange(ASKED))
    train = np.zeros(DRAWN, np.int64), np.arange(DRAWN)
    texts, lengths = stream.prompts(*rows)
    if spec.family.written:  # many problems share a prompt
        texts, _ = stream.gather(*rows)
        lengths = (texts != op.PAD).sum(1)
    return share_in_train(spec, texts, lengths, stream.keys(*rows), lambda: Stream(spec).keys(*train))


@kernel
def pick_parts(base: np.uint64, weights: Ints, seeds: Ints, indices: Ints, rng: Words64, parts: Ints) -> None:
    """Draw a part of a mixture for each pair (seed, index)."""
    total = weights.sum()
    for k in range(seeds.size):
        rng[CHOICE] = join(join(base, np.uint64(seeds[k])), np.uint64(indices[k]))
        drawn = randbelow(rng, CHOICE, total)
        part = -1
        while drawn >= 0:
            part += 1
            drawn -= weights[part]
        parts[k] = part


@kernel
def part_prompts(programs: Tokens, lengths: NDArray[np.int32], prompts: Tokens, bodies: Tokens) -> None:
    """Part programs (N, L) into prompts (N, P) and bodies (N, R), of which a prompt may give the beginning."""
    for row in range(programs.shape[0]):
        first = np.int64(lengths[row])
        for position in range(lengths[row]):
            prompts[row, position] = programs[row, position]
            if programs[row, position] == op.DO:
                first = np.int64(position + 1)
        for position in range(min(bodies.shape[1], programs.shape[1] - first)):
            bodies[row, position] = programs[row, first + position]


class Stream:
    """The true programs of one split of a spec, or of a mixture.

    ``spec`` is a registered id, the path of a TOML file, a `Spec`, or ``{id or path: weight}`` with whole weights for a
    mixture; ``seed`` is a whole number from 0. The same (digest, seed, index) gives the same program on every machine,
    in any range and with any number of threads. Raises ValueError for an unknown spec, split or weight, and if the
    parameters leave the split without problems.
    """

    def __init__(self, spec: Source, split: str = "train", seed: int = 0) -> None:
        self.split, self.seed = split, check_seed(seed)
        if isinstance(spec, Mapping):
            check_mixture(spec)
        whole = [(load_spec(s), w) for s, w in spec.items()] if isinstance(spec, Mapping) else [(load_spec(spec), 1)]
        parts = _flat(whole, split)
        self.specs = tuple(part for part, _ in parts)
        self.weights = np.array([weight for _, weight in parts], np.int64)
        digests = [part.digest_of(split) for part in self.specs]
        self.digest = whole[0][0].digest_of(split)
        if len(whole) > 1:
            mixture = json.dumps([[part.digest_of(split) for part, _ in whole], [weight for _, weight in whole]])
            self.digest = hashlib.sha256(mixture.encode()).hexdigest()
        self._bases = [np.uint64(int(digest[:16], 16)) for digest in digests]
        self._scorers: list[Scorer] | None = None
        self.id = "+".join(part.id for part, _ in whole)
        self.prompt_room = max(part.prompt_room for part, _ in whole)
        self.reference_room = max(part.reference_room for part, _ in whole)
        self.length = max(part.prompt_room + part.completion_room for part, _ in whole)
        self._short = self.prompt_room + max(1, self.reference_room)
        if self.digest not in _PROBED:  # fail early if the split cannot be written
            self.prompts(np.zeros(PROBES, np.int64), np.arange(PROBES))
            _PROBED.add(self.digest)
        for part in self.specs:
            if may_overlap(part, split):
                compared = part.digest_of(split), part.digest_of("train")
                if compared not in _COMPARED:
                    _COMPARED.add(compared)
                    warn_of(part, split, overlap_of(part, split), level=2)

    def batch(self, start: int, count: int, threads: int | None = None) -> tuple[Tokens, NDArray[np.int32]]:
        """Return programs start..start+count, (count, L) uint8 padded with 0, and prompt_lengths (count,) int32."""
        whole = all(isinstance(number, (int, np.integer)) for number in (start, count))
        if not whole or not 0 <= start <= start + count <= 2**63:
            raise ValueError(f"start = {start!r}, count = {count!r}: programs are numbered from 0 to {2**63 - 1}")
        indices = np.arange(start, start + count, dtype=np.int64)
        return self.gather(np.full(count, self.seed, np.int64), indices, threads)

    def gather(
        self, seeds: ArrayLike, indices: ArrayLike, threads: int | None = None
    ) -> tuple[Tokens, NDArray[np.int32]]:
        """Return the programs of pairs (seed, index), both (N,): (N, L) uint8 and prompt_lengths (N,) int32."""
        return self._gather(seeds, indices, self.length, threads)[:2]

    def prompts(
        self, seeds: ArrayLike, indices: ArrayLike, threads: int | None = None
    ) -> tuple[Tokens, NDArray[np.int32]]:
        """Return only the prompts of pairs (seed, index), both (N,): (N, P) uint8 padded with 0, lengths (N,) int32.

        This is faster than `gather`, which also writes worked steps and answers.
        """
        programs, lengths, _ = self._gather(seeds, indices, self._short, threads)
        if self.reference_room:
            programs[np.arange(programs.shape[1]) >= lengths[:, None]] = op.PAD
        return np.ascontiguousarray(programs[:, : self.prompt_room]), lengths

    def references(self, seeds: ArrayLike, indices: ArrayLike, threads: int | None = None) -> References:
        """Return what was written for the prompts of pairs (seed, index), both (N,), with R = ``reference_room``.

        Prompts of a task without references have empty ones.
        """
        return self.problems(seeds, indices, threads)[2]

    def problems(
        self, seeds: ArrayLike, indices: ArrayLike, threads: int | None = None
    ) -> tuple[Tokens, NDArray[np.int32], References]:
        """Return `prompts` and `references` of pairs (seed, index), both (N,), written once."""
        programs, lengths, keys = self._gather(seeds, indices, self._short, threads)
        prompts = np.zeros((len(programs), self.prompt_room), np.uint8)
        bodies = np.zeros((len(programs), self.reference_room), np.uint8)
        part_prompts(programs, lengths, prompts, bodies)
        parts = self.parts(seeds, indices)
        ranges = np.array([part.hidden_inputs(self.split) for part in self.specs], np.int64)
        written = np.array([part.family.written for part in self.specs])
        bodies[~written[parts]] = op.PAD
        return prompts, lengths, References(bodies, keys, ranges[parts])

    def posterior(
        self, prompts: ArrayLike, prompt_lengths: ArrayLike | None = None, *, held_out: bool = False
    ) -> list[Posterior]:
        """Return which functions fit each of N prompts, (N, P) or (P,) uint8 padded with 0, and how probable they are.

        All functions of the split's parameters count, since an agent cannot know which of them are held out. With
        ``held_out`` only those count that the split keeps. Raises ValueError if the references of the spec cannot be
        enumerated, for a mixture, and for a prompt that cannot be written.
        """
        spec = self.specs[0]
        if len(self.specs) > 1 or spec.family.space is None or spec.family.pack is None:
            raise ValueError(f"{self.id} has no posterior: it needs one task whose references can be enumerated")
        rows = np.atleast_2d(check_ids(np.asarray(prompts)))
        lengths = (rows != op.PAD).sum(1) if prompt_lengths is None else np.atleast_1d(np.asarray(prompt_lengths))
        space = spec.family.space(spec.family.pack(spec.split_parameters(self.split)))
        interval = spec.split(self.split).interval if held_out else (0, 2**64 - 1)
        return [space.posterior(row[:length], *interval) for row, length in zip(rows, lengths, strict=True)]

    def keys(self, seeds: ArrayLike, indices: ArrayLike, threads: int | None = None) -> Words64:
        """Return the keys of the problems of pairs (seed, index), which keep splits apart: (N,) uint64."""
        return self._gather(seeds, indices, self._short, threads)[2]

    def parts(self, seeds: ArrayLike, indices: ArrayLike) -> Ints:
        """Return the index in `specs` of the part that writes each pair (seed, index), both (N,): (N,) int64."""
        seeds, indices = _pairs(seeds, indices)
        parts = np.zeros(seeds.size, np.int64)
        if len(self.specs) > 1:
            base = np.uint64(int(self.digest[:16], 16))
            pick_parts(base, self.weights, seeds, indices, np.zeros(2, np.uint64), parts)
        return parts

    def _gather(
        self, seeds: ArrayLike, indices: ArrayLike, length: int, threads: int | None
    ) -> tuple[Tokens, NDArray[np.int32], Words64]:
        """Return rows of that many tokens, lengths of prompts, and keys.

        Rows of ``self.length`` tokens hold whole programs, shorter ones prompts and references, or room for an `end`.
        """
        seeds, indices = _pairs(seeds, indices)
        programs = np.zeros((seeds.size, length), np.uint8)
        prompt_lengths, keys = np.zeros(seeds.size, np.int32), np.zeros(seeds.size, np.uint64)
        if len(self.specs) == 1:
            self._fill(0, seeds, indices, programs, prompt_lengths, keys, threads)
            return programs, prompt_lengths, keys
        parts = self.parts(seeds, indices)
        for part in range(len(self.specs)):
            rows = np.flatnonzero(parts == part)
            some, lengths = np.zeros((rows.size, length), np.uint8), np.zeros(rows.size, np.int32)
            some_keys = np.zeros(rows.size, np.uint64)
            self._fill(part, seeds[rows], indices[rows], some, lengths, some_keys, threads)
            programs[rows], prompt_lengths[rows], keys[rows] = some, lengths, some_keys
        return programs, prompt_lengths, keys

    def log_prob(self, programs: ArrayLike) -> NDArray[np.float64]:
        """Return the natural-log probability of programs (N, L) or (L,) under the stream: (N,) or () float64.

        -inf for programs that the stream never writes, nan if a family has no probabilities. See `score` for accuracy.
        """
        return self.score(programs).log_prob

    def score(self, programs: ArrayLike, *, budget: int = 20_000_000, samples: int = 1_000_000) -> Scores:
        """Return how likely the stream is to write programs (N, L) or (L,), token ids padded with 0.

        A split keeps a share of the problems. For each kind of program, that share is summed over all operands if there
        are at most ``budget`` of them, and otherwise estimated from ``samples`` draws. It is computed once per stream
        and kind, with the budget and samples of the first call. A kind of comparison has at most 45,000 operands, so
        all probabilities of Cadmus-Compare-v0 are exact.
        """
        if self._scorers is None:
            self._scorers = [Scorer(spec, self.split, budget, samples) for spec in self.specs]
        return score_mixture(self._scorers, self.weights, programs)

    def entropy(self, count: int = 10_000, *, budget: int = 20_000_000, samples: int = 1_000_000) -> Entropy:
        """Return the entropies of the stream, estimated from the log-probabilities of its programs 0..count.

        ``budget`` and ``samples`` are those of `score`. For a family without probabilities the entropies are nan.
        """
        if count < 2:
            raise ValueError(f"count = {count}: a standard error needs at least 2 programs")
        programs, lengths = self.batch(0, count)
        scores = self.score(programs, budget=budget, samples=samples)
        return Entropy.of(scores, lengths, (programs != op.PAD).sum(1))

    def _fill(
        self,
        part: int,
        seeds: Ints,
        indices: Ints,
        programs: Tokens,
        prompt_lengths: NDArray[np.int32],
        keys: Words64,
        threads: int | None,
    ) -> None:
        spec, base = self.specs[part], self._bases[part]
        family, options, length = spec.family, options_of(spec), programs.shape[1]
        options[NOTHING] = length < self.length
        if family.pack is None:
            compose_rows(spec, self.split, base, seeds, indices, programs, prompt_lengths, keys, options)
            return
        packed, most = family.pack(spec.split_parameters(self.split)), attempts_of(spec, self.split)

        def work(rows: slice) -> None:
            row, outcome = fill(
                family.write(),
                packed,
                options,
                base,
                sieve_of(spec, self.split),
                seeds[rows],
                indices[rows],
                most,
                programs[rows],
                prompt_lengths[rows],
                keys[rows],
                new_workspace(spec, RANDOM, length),
            )
            if row >= 0 and outcome == RAN:
                raise ValueError(no_problem(spec, self.split))
            if row >= 0:
                where = f"{spec.name} [splits.{self.split}]: task {spec.task!r}"
                text = disassemble(trimmed(programs[rows][row]))
                raise ValueError(f"{where} wrote {text!r}: {explain(outcome)}")

        spread(work, seeds.size, threads, least=1024)


def _flat(specs: list[tuple[Spec, int]], split: str) -> list[tuple[Spec, int]]:
    """Return the parts of weighted specs that have the split, with whole weights."""
    named = isinstance(split, str)
    parts = [
        (spec, weight, [part for part in spec.parts if named and split in part[0].splits]) for spec, weight in specs
    ]
    for spec, _, some in parts:
        if not some:
            spec.split(split)  # raises an error that names the splits
    whole = math.lcm(*(sum(weight for _, weight in some) for _, _, some in parts))
    flat = [
        (part, outer * weight * (whole // sum(inner for _, inner in some)))
        for _, outer, some in parts
        for part, weight in some
    ]
    shared = math.gcd(*(weight for _, weight in flat))
    return [(part, weight // shared) for part, weight in flat]


def pairs_of(count: int, seed: int, seeds: int) -> tuple[Ints, Ints]:
    """Return the seeds and indices, (seeds * count,), of the first ``count`` programs of each of ``seeds`` seeds.

    Raises ValueError for a number of seeds below 1.
    """
    check_whole(count=count, seeds=seeds)
    if seeds < 1:
        raise ValueError(f"seeds = {seeds}; allowed: 1 or more")
    return np.repeat(seed + np.arange(seeds), count), np.tile(np.arange(count), seeds)


def _pairs(seeds: ArrayLike, indices: ArrayLike) -> tuple[Ints, Ints]:
    seeds, indices = _whole(seeds), _whole(indices)
    if seeds.shape != indices.shape:
        raise ValueError("seeds and indices are whole numbers from 0, both of shape (N,)")
    return seeds, indices


def _whole(numbers: ArrayLike) -> Ints:
    """Return seeds or indices as (N,) int64, or raise ValueError."""
    array = np.asarray(numbers)
    whole = array.size == 0 or (array.dtype.kind in "iu" and 0 <= array.min() <= array.max() < 2**63)
    if array.ndim != 1 or not whole:
        raise ValueError("seeds and indices are whole numbers from 0, both of shape (N,)")
    return np.ascontiguousarray(array, np.int64)
