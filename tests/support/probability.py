"""Small settings of every family, and their programs and probabilities by enumeration."""

from __future__ import annotations

import functools
import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import cadmus_gym as cg
from cadmus_gym.language import isa as op
from cadmus_gym.language.isa import VOCABULARY
from cadmus_gym.language.verdicts import RAN
from cadmus_gym.streams.spec import Spec, Split, Thoughts
from cadmus_gym.streams.writing import attempt, keeps, new_workspace, sieve_of
from cadmus_gym.tasks import Choices, Family, sampling
from cadmus_gym.tasks.family import PROMPT, REFERENCE
from cadmus_gym.tasks.sampling import (
    CHOICE,
    DRAW_CELLS,
    DRAWN,
    DRAWS,
    GIVEN,
    OUTCOMES,
    SCRIPTED,
    SOURCE,
    TAKEN,
    TOTAL,
    WEIGHT,
)
from support.worked import Names, completed, thought_of

SIGMAS = 5.0


SMALL: dict[str, dict[str, Any]] = {
    "arith": {"operands": [0, 4], "operations": {"1": 2, "2": 1}, "limit": 30, "held_out": ["sub mul"]},
    "arith, uneven": {"operands": [-2, 3], "operations": {"1": 1}, "operators": {"add": 3, "mul": 1}, "limit": 99},
    "arith, held": {
        "operands": [2, 5],
        "operations": {"2": 1},
        "limit": 999,
        "held_out": ["sub mul", "mul mul"],
        "pool": "held",
    },
    "compare": {
        "lengths": {"1-2": 1},
        "relations": {"le": 1},
        "order": {"digit": 4, "tail": 1, "near": 1},
        "reserved": [11, 3],
        "reserved_from": 50,
    },
    "compare, lengths": {"lengths": {"1": 1, "3": 1}, "relations": {"gt": 1}, "order": {"length": 1}},
    "compare, swap": {"lengths": {"4": 1}, "relations": {"lt": 1}, "order": {"swap": 1}, "reserved_from": 5000},
    "compare, reserved": {
        "lengths": {"1-2": 1, "3": 1},
        "reserved": [16, 3],
        "reserved_from": 0,
        "pool": "reserved",
        "relations": {"ne": 1, "ge": 2},
        "outer": 0.4,
    },
    "logic": {
        "operands": [2, 2],
        "bits": {"1": 1, "2": 1},
        "terms": {"1": 1},
        "joined": {"0": 1, "1": 1},
        "relations": {"eq": 1, "lt": 2},
    },
    "logic, several": {
        "operands": [2, 2],
        "bits": {"1": 1},
        "terms": {"1": 1, "2": 2},
        "joined": {"0": 2, "1": 1},
        "bitwise": {"xor": 1},
        "relations": {"eq": 1, "lt": 2},
    },
    "stack": {
        "operands": [2, 3],
        "operators": {"add": 1, "sub": 3},
        "literals": {"2": 1},
        "moves": {"2": 3, "3": 1},
        "stack_words": {"dup": 1, "swap": 3, "over": 2},
        "held_out": ["dup dup"],
    },
    "stack, held": {
        "operands": [2, 3],
        "operators": {"add": 2, "sub": 1},
        "literals": {"4": 1},
        "moves": {"2": 1},
        "held_out": ["swap over", "dup rot"],
        "pool": "held",
    },
    "register": {"operands": [2, 3], "operations": {"2": 1}, "limit": 12},
    "register, several": {
        "operands": [2, 3],
        "operators": {"add": 2, "sub": 1},
        "operations": {"2": 1, "3": 1},
        "partners": {"literal": 1, "other": 2},
    },
    "branch": {
        "operands": [2, 3],
        "blocks": {"1": 1},
        "depths": {"1": 1},
        "relations": {"lt": 2, "ge": 1},
        "distance": 1,
        "limit": 9,
    },
    "branch, several": {
        "operands": [2, 2],
        "operators": {"add": 1, "sub": 1},
        "blocks": {"1": 1, "2": 2},
        "depths": {"1": 1},
        "relations": {"lt": 1, "ge": 2},
        "distance": 1,
        "limit": 9,
    },
    "loop": {"operands": [2, 4], "turns": [1, 3], "items": {"1": 1, "2": 1}, "factors": [2, 3], "limit": 40},
    "function": {"operands": [2, 3], "levels": [1, 2], "doubles": [2, 3], "factors": [2, 2], "limit": 40},
}


def small(name: str, **changes: Any) -> Spec:
    task = name.split(",")[0]
    values = {
        "splits": {"train": Split((0.3, 1.0)), "test": Split((0.0, 0.3))},
        "parameters": SMALL[name],
        "thoughts": Thoughts(0.5, "products", 30),
    }
    return Spec(f"Small-{task.title()}-v0", task, **{**values, **changes})


@dataclass
class Written:
    """A prompt that a writer can make and its reference, which is empty if it has none.

    ``operands`` is the probability of all draws but the choices, given these; ``kept`` is whether the split keeps it.
    """

    prompt: bytes
    reference: bytes
    operands: float
    kept: bool


def enumerate_prompts(spec: Spec, split: str) -> tuple[dict[tuple[int, ...], float], dict[Any, list[Written]]]:
    """Return the probability of each kind of choices, and all prompts that can be written under it."""
    sieve = sieve_of(spec, split)
    length = spec.prompt_room + max(2, spec.reference_room)
    parameters, space = spec.family.pack(spec.split_parameters(split)), new_workspace(spec, SCRIPTED, length)
    script, marks = space.script, space.marks
    kinds: dict[tuple[int, ...], float] = {}
    written: dict[Any, list[Written]] = defaultdict(list)
    while True:
        sampling.rewind(script)
        program = np.zeros(length, np.uint8)
        space.rng[:] = 0
        outcome, key = attempt(spec.family.write(), parameters, program, space)
        assert outcome == RAN
        draws = script[DRAWS : DRAWS + DRAW_CELLS * script[DRAWN]].reshape(-1, DRAW_CELLS)
        chosen = draws[:, SOURCE] == CHOICE
        shares = draws[:, WEIGHT] / draws[:, TOTAL]
        kind = tuple(draws[chosen, TAKEN].tolist())
        kinds[kind] = float(np.prod(shares[chosen]))
        prompt, size = int(marks[PROMPT]), int(marks[REFERENCE])
        parts = program[:prompt].tobytes(), program[prompt : prompt + size].tobytes()
        kept = keeps(sieve, np.uint64(key), program, marks, space.machine)
        written[kind].append(Written(*parts, float(np.prod(shares[~chosen])), kept))
        left = np.flatnonzero(draws[:, TAKEN] + 1 < draws[:, OUTCOMES])
        if left.size == 0:
            return kinds, written
        draws[left[-1], TAKEN] += 1
        script[GIVEN] = left[-1] + 1


def completions(spec: Spec, prompt: bytes) -> dict[bytes, float]:
    """Return the programs that complete a prompt, with their probabilities."""
    names: Names = [VOCABULARY[token] for token in prompt]
    found: dict[bytes, float] = defaultdict(float)
    for thinks in (0, 1):
        thought = thought_of(names, spec.thoughts.style, spec.thoughts.limit) if thinks else []
        program = cg.encode(" ".join(completed(names, thought, spec.family.form)))
        found[program.tobytes()] += spec.thoughts.share if thinks else 1 - spec.thoughts.share
    return {program: share for program, share in found.items() if share > 0}


@functools.cache
def support_of(name: str, split: str) -> dict[bytes, float]:
    return support(small(name), split)


def support(spec: Spec, split: str) -> dict[bytes, float]:
    """Return all programs of a split with their probabilities, by enumeration."""
    kinds, written = enumerate_prompts(spec, split)
    assert math.fsum(kinds.values()) == pytest.approx(1, abs=1e-12)
    prompts: dict[tuple[bytes, bytes], float] = defaultdict(float)
    for kind, probability in kinds.items():
        assert math.fsum(one.operands for one in written[kind]) == pytest.approx(1, abs=1e-12)
        kept = math.fsum(one.operands for one in written[kind] if one.kept)
        assert kept > 0
        for one in written[kind]:
            if one.kept:
                prompts[one.prompt, one.reference] += probability * one.operands / kept
    programs: dict[bytes, float] = defaultdict(float)
    for (prompt, reference), probability in prompts.items():
        found = {prompt + reference + bytes([op.END]): 1.0} if reference else completions(spec, prompt)
        for program, share in found.items():
            programs[program] += probability * share
    return dict(programs)


def rows_of(programs: list[bytes], length: int = 0) -> NDArray[np.uint8]:
    rows = np.zeros((len(programs), max(length, *map(len, programs))), np.uint8)
    for row, program in zip(rows, programs, strict=True):
        row[: len(program)] = np.frombuffer(program, np.uint8)
    return rows


def labels(rows: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Return a hash of each row."""
    weights = np.random.default_rng(0).integers(0, 2**63, rows.shape[1], np.uint64) * np.uint64(2) + np.uint64(1)
    found = np.zeros(len(rows), np.uint64)
    for column, weight in zip(rows.T, weights, strict=True):
        found += column * weight
    return found


def agree(stream: cg.Stream, expected: Mapping[bytes, float], count: int) -> None:
    """Check the frequencies of programs against their probabilities, by chi-square."""
    programs, _ = stream.batch(0, count)
    names = labels(rows_of(list(expected), stream.length))
    assert np.unique(names).size == len(expected)
    seen, times = np.unique(labels(programs), return_counts=True)
    assert np.isin(seen, names).all()
    place = {int(name): int(number) for name, number in zip(seen, times, strict=True)}
    found = np.array([place.get(int(name), 0) for name in names])
    mean = count * np.array(list(expected.values()))
    rare = mean < 10
    assert mean[rare].sum() < count / 5
    found, mean = np.append(found[~rare], found[rare].sum()), np.append(mean[~rare], mean[rare].sum())
    found, mean = found[mean > 0], mean[mean > 0]
    square = float(((found - mean) ** 2 / mean).sum())
    freedom = found.size - 1
    assert abs(square - freedom) < SIGMAS * math.sqrt(2 * freedom), (square, freedom)


@dataclass(frozen=True)
class Sums:
    most: int = 9


def compose(parameters: Sums, choices: Choices) -> str:
    terms = choices.integer(2, 3, kind=True)
    numbers = [str(choices.integer(0, parameters.most)) for _ in range(terms)]
    return " ".join(numbers) + " add" * (terms - 1)


SUMS = Family("sums", 1, Sums, "value", lambda parameters: 20, compose=compose)
