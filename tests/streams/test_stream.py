"""Streams: true programs, each a pure function of (digest, split, seed, index)."""

from __future__ import annotations

import hashlib
import json
import math
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import naive
from support.streams import (
    COUNT,
    IDS,
    SIGMAS,
    SPLITS,
)

import cadmus_gym as cg
from cadmus_gym.language import forms
from cadmus_gym.language import isa as op
from cadmus_gym.language.forms import Automata, reverse_digits
from cadmus_gym.language.isa import ID, VOCABULARY

ROOT = Path(cg.__file__).parents[1]


@pytest.mark.parametrize(("id", "split"), SPLITS)
def test_every_program_is_true(id: str, split: str) -> None:
    programs, _ = cg.Stream(id, split, seed=1).batch(0, COUNT)
    verdicts, passed = cg.run_batch(programs)
    assert Counter(verdicts.tolist()) == {cg.Verdict.TRUE: COUNT}
    assert (passed >= 1).all()


@pytest.mark.parametrize(("id", "split"), SPLITS)
def test_every_program_is_true_for_the_naive_interpreter(id: str, split: str) -> None:
    programs, _ = cg.Stream(id, split, seed=2).batch(0, 300)
    verdicts = [naive.judge([VOCABULARY[token] for token in program if token]).verdict for program in programs]
    assert Counter(verdicts) == {"TRUE": 300}


@pytest.mark.parametrize(("id", "split"), SPLITS)
def test_a_program_is_prompt_completion_end_and_padding(id: str, split: str) -> None:
    stream = cg.Stream(id, split, seed=3)
    programs, lengths = stream.batch(0, COUNT)
    assert (programs.dtype, lengths.dtype) == (np.uint8, np.int32)
    assert programs.shape == (COUNT, stream.length)
    ends = programs == op.END
    assert (ends.sum(axis=1) == 1).all()
    stop = ends.argmax(axis=1)
    after = np.arange(stream.length) > stop[:, None]
    assert ((programs == 0) == after).all()
    assert ((lengths > 0) & (lengths <= stop)).all()
    assert lengths.max() <= stream.prompt_room


@pytest.mark.parametrize(("id", "split"), SPLITS)
def test_a_prompt_never_ends_inside_a_literal(id: str, split: str) -> None:
    programs, lengths = cg.Stream(id, split, seed=4).batch(0, COUNT)
    rows = np.arange(COUNT)
    last, first = programs[rows, lengths - 1], programs[rows, lengths]
    inside = (last >= op.ZERO) & (last <= op.NINE)
    continues = ((first >= op.ZERO) & (first <= op.NINE)) | (first == ID["neg"])
    assert not (inside & continues).any()


@pytest.mark.parametrize("endian", forms.ENDIANS)
@pytest.mark.parametrize(("id", "split"), SPLITS)
def test_every_completion_has_the_form_and_fits_the_budget(id: str, split: str, endian: str) -> None:
    spec = cg.load_spec(id)
    programs, lengths = cg.Stream(id, split, seed=5).batch(0, 4000)
    automata = Automata(spec.rules, programs, lengths, endian)
    shown = reverse_digits(programs) if endian == "little" else programs
    rows = np.arange(len(programs))
    position = lengths.astype(np.int64)
    while not automata.done.all():
        tokens = shown[rows, position]
        assert automata.mask()[rows, tokens][~automata.done].all()
        automata.push(tokens)
        position = np.where(automata.done, position, position + 1)
    assert (shown[rows, position] == op.END).all()


@pytest.mark.parametrize("id", IDS)
def test_a_changed_answer_is_false(id: str) -> None:
    """Another digit in an answer, or an added or removed `not`, makes a program false."""
    programs, lengths = cg.Stream(id, "train", seed=6).batch(0, 500)
    for program, length in zip(programs, lengths.tolist(), strict=True):
        names = [VOCABULARY[token] for token in program if token]
        if "eq" in names[length:]:
            digit = len(names) - 3 - (names[-3] == "neg")
            names[digit] = str((int(names[digit]) + 1) % 10)
        else:
            names[length:] = ["end"] if "not" in names[length:] else ["not", "end"]
        assert cg.run(cg.encode(" ".join(names))).verdict == cg.Verdict.FALSE, names


@pytest.mark.parametrize(("id", "split"), SPLITS)
def test_programs_do_not_depend_on_ranges_gathers_or_threads(id: str, split: str) -> None:
    stream = cg.Stream(id, split, seed=11)
    programs, lengths = stream.batch(100, 5000)
    for threads in (1, 2, 3, 7):
        for again in (stream.batch(100, 5000, threads), stream.gather([11] * 5000, range(100, 5100), threads)):
            np.testing.assert_array_equal(again[0], programs)
            np.testing.assert_array_equal(again[1], lengths)
    bounds = [0, 1, 2, 50, 1024, 1025, 5000]
    for start, stop in pairwise(bounds):
        part, of_part = stream.batch(100 + start, stop - start)
        np.testing.assert_array_equal(part, programs[start:stop])
        np.testing.assert_array_equal(of_part, lengths[start:stop])


@pytest.mark.parametrize("id", IDS)
def test_gather_takes_any_seeds_in_any_order(id: str) -> None:
    chooser = np.random.default_rng(0)
    seeds, indices = chooser.integers(0, 2**63 - 1, 60), chooser.integers(0, 2**63 - 1, 60)
    programs, lengths = cg.Stream(id, "test").gather(seeds, indices)
    order = chooser.permutation(60)
    again, of_again = cg.Stream(id, "test", seed=5).gather(seeds[order], indices[order])
    np.testing.assert_array_equal(again, programs[order])
    np.testing.assert_array_equal(of_again, lengths[order])
    for k in range(0, 60, 7):
        alone, _ = cg.Stream(id, "test", seed=int(seeds[k])).batch(int(indices[k]), 1)
        np.testing.assert_array_equal(alone[0], programs[k])


def fingerprints() -> dict[str, str]:
    prints = {}
    for id, split in SPLITS:
        programs, lengths = cg.Stream(id, split, seed=2**40).batch(2**33, 500)
        prints[f"{id} {split}"] = hashlib.sha256(programs.tobytes() + lengths.tobytes()).hexdigest()
    return prints


def test_another_process_gives_the_same_programs() -> None:
    code = "import json, test_stream; print(json.dumps(test_stream.fingerprints()))"
    folders = [str(ROOT), *map(str, Path(__file__).parents[:2])]
    path = f"import sys; sys.path[:0] = {folders}; "
    done = subprocess.run([sys.executable, "-c", path + code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == fingerprints()


@pytest.mark.parametrize(("id", "split"), SPLITS)
def test_neighbouring_seeds_and_indices_are_independent(id: str, split: str) -> None:
    count = 4000
    stream = cg.Stream(id, split)
    found = {seed: stream.gather([seed] * (count + 8), range(count + 8))[0] for seed in (0, 1, 2, 1000)}
    _, times = np.unique(np.concatenate(list(found.values())), axis=0, return_counts=True)
    total = int(times.sum())
    chance = float((times * (times - 1)).sum()) / (total * (total - 1))
    room = count * chance + SIGMAS * math.sqrt(count * chance) + SIGMAS
    lengths = {seed: (rows != 0).sum(axis=1) for seed, rows in found.items()}
    for one in found:
        for other in found:
            for apart in range(-4, 5):
                if (one, apart) == (other, 0):
                    continue
                here, there = slice(4, 4 + count), slice(4 + apart, 4 + apart + count)
                same = int((found[one][here] == found[other][there]).all(axis=1).sum())
                assert same <= room, (one, other, apart)
                if one != other or apart:
                    correlation = np.corrcoef(lengths[one][here], lengths[other][there])[0, 1]
                    assert abs(correlation) < SIGMAS / math.sqrt(count), (one, other, apart)


@pytest.mark.parametrize("seed", [-1, 2**63, 1.5, 1.0, "1", None, True, [1]])
def test_a_bad_seed_is_a_value_error(seed: Any) -> None:
    with pytest.raises(ValueError, match="seed"):
        cg.Stream("Cadmus-Arith-v0", seed=seed)


@pytest.mark.parametrize(
    ("seeds", "indices"),
    [
        ([-1], [0]),
        ([0], [-1]),
        ([0, 1], [0]),
        ([[0]], [[0]]),
        ([0.5], [0]),
        ([0], [1.7]),
        ([float("nan")], [0]),
        ([2**63], [0]),
        ([0], [2**63]),
        (["a"], [0]),
        ([None], [0]),
    ],
    ids=str,
)
def test_a_bad_seed_or_index_to_gather_is_a_value_error(seeds: Any, indices: Any) -> None:
    with pytest.raises(ValueError, match="whole numbers from 0"):
        cg.Stream("Cadmus-Arith-v0").gather(seeds, indices)


@pytest.mark.parametrize(("start", "count"), [(-1, 1), (0, -1), (0.5, 2), (0, 2.5), (2**63, 1), ("0", 1)], ids=str)
def test_a_bad_range_is_a_value_error(start: Any, count: Any) -> None:
    with pytest.raises(ValueError, match="start"):
        cg.Stream("Cadmus-Arith-v0").batch(start, count)


def test_prompts_equal_those_of_batch() -> None:
    stream = cg.Stream("Cadmus-Arith-v0")
    (prompts, lengths), (programs, same) = stream.prompts(np.zeros(200, int), np.arange(200)), stream.batch(0, 200)
    assert np.array_equal(lengths, same)
    inside = np.arange(stream.prompt_room) < lengths[:, None]
    assert np.array_equal(prompts, programs[:, : stream.prompt_room] * inside)


def test_the_last_program_has_the_number_before_2_to_the_63() -> None:
    stream = cg.Stream("Cadmus-Arith-v0")
    assert np.array_equal(stream.batch(2**63 - 1, 1)[0], stream.gather([0], [2**63 - 1])[0])


def test_zero_threads_are_a_value_error() -> None:
    with pytest.raises(ValueError, match="threads"):
        cg.Stream("Cadmus-Arith-v0").batch(0, 1, threads=0)


def test_empty_requests_give_empty_arrays() -> None:
    stream = cg.Stream("Cadmus-Arith-v0")
    for programs, lengths in (stream.batch(0, 0), stream.gather([], [])):
        assert (programs.shape, lengths.shape) == ((0, stream.length), (0,))
