"""Log-probabilities: held against every program a writer can make, and against how often streams write them."""

from __future__ import annotations

import dataclasses
import functools
import math
import statistics
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support.worked import Names, completed, thought_of

import cadmus_gym as cg
from cadmus_gym.language import isa as op
from cadmus_gym.language.isa import VOCABULARY
from cadmus_gym.language.memory import scratch
from cadmus_gym.language.verdicts import RAN
from cadmus_gym.streams.probability import Entropy, Scorer, Share, score_mixture
from cadmus_gym.streams.spec import Spec, Split, Thoughts
from cadmus_gym.streams.writing import attempt, keeps, sieve_of
from cadmus_gym.tasks import Choices, Family, sampling
from cadmus_gym.tasks.family import MARKS, PROMPT, WORK
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

IDS = list(cg.SPECS)
SPLITS = [(id, split) for id in IDS for split in cg.load_spec(id).splits]
SIGMAS = 5.0

# Settings with few programs, two splits and, of these, worked steps in a half.
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


# Every program of a setting, by scripts.


@dataclass
class Written:
    """A prompt that a writer can make: the probability of its operands under its choices, and whether it is kept."""

    prompt: bytes
    operands: float
    kept: bool


def enumerate_prompts(spec: Spec, split: str) -> tuple[dict[tuple[int, ...], float], dict[Any, list[Written]]]:
    """All ways to write a prompt: the probability of each kind of choices, and what can be written under it."""
    sieve = sieve_of(spec, split)
    length = spec.prompt_room + 2
    script = sampling.new_script(SCRIPTED)
    marks, parameters = np.zeros(MARKS, np.int64), spec.family.pack(spec.split_parameters(split))
    work, machine = np.zeros(WORK, np.int64), scratch(length)
    kinds: dict[tuple[int, ...], float] = {}
    written: dict[Any, list[Written]] = defaultdict(list)
    while True:
        sampling.rewind(script)
        program = np.zeros(length, np.uint8)
        rng = np.zeros(2, np.uint64)
        outcome, key = attempt(spec.family.write(), parameters, rng, script, program, marks, work, machine)
        assert outcome == RAN
        draws = script[DRAWS : DRAWS + DRAW_CELLS * script[DRAWN]].reshape(-1, DRAW_CELLS)
        chosen = draws[:, SOURCE] == CHOICE
        shares = draws[:, WEIGHT] / draws[:, TOTAL]
        kind = tuple(draws[chosen, TAKEN].tolist())
        kinds[kind] = float(np.prod(shares[chosen]))
        prompt = program[: marks[PROMPT]].tobytes()
        kept = keeps(sieve, np.uint64(key), program, marks, machine)
        written[kind].append(Written(prompt, float(np.prod(shares[~chosen])), kept))
        left = np.flatnonzero(draws[:, TAKEN] + 1 < draws[:, OUTCOMES])
        if left.size == 0:
            return kinds, written
        draws[left[-1], TAKEN] += 1
        script[GIVEN] = left[-1] + 1


def completions(spec: Spec, prompt: bytes) -> dict[bytes, float]:
    """The programs that a prompt is completed to, and how likely each is."""
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
    """All programs of a split with their probabilities, by enumeration alone."""
    kinds, written = enumerate_prompts(spec, split)
    assert math.fsum(kinds.values()) == pytest.approx(1, abs=1e-12)
    prompts: dict[bytes, float] = defaultdict(float)
    for kind, probability in kinds.items():
        assert math.fsum(one.operands for one in written[kind]) == pytest.approx(1, abs=1e-12)
        kept = math.fsum(one.operands for one in written[kind] if one.kept)
        assert kept > 0
        for one in written[kind]:
            if one.kept:
                prompts[one.prompt] += probability * one.operands / kept
    return {
        program: probability * share
        for prompt, probability in prompts.items()
        for program, share in completions(spec, prompt).items()
    }


def rows_of(programs: list[bytes], length: int = 0) -> NDArray[np.uint8]:
    rows = np.zeros((len(programs), max(length, *map(len, programs))), np.uint8)
    for row, program in zip(rows, programs, strict=True):
        row[: len(program)] = np.frombuffer(program, np.uint8)
    return rows


def labels(rows: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """One number a row."""
    weights = np.random.default_rng(0).integers(0, 2**63, rows.shape[1], np.uint64) * np.uint64(2) + np.uint64(1)
    found = np.zeros(len(rows), np.uint64)
    for column, weight in zip(rows.T, weights, strict=True):
        found += column * weight
    return found


def agree(stream: cg.Stream, expected: Mapping[bytes, float], count: int) -> None:
    """Hold how often programs come up against their probabilities, by chi-square."""
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


CASES = [(name, split) for name in SMALL for split in ("train", "test")]


@pytest.mark.parametrize(("name", "split"), CASES)
def test_probabilities_are_those_of_all_ways_to_write_a_program_and_of_what_is_seen(name: str, split: str) -> None:
    expected = support_of(name, split)
    stream = cg.Stream(small(name), split, seed=17)
    scores = stream.score(rows_of(list(expected)))
    assert scores.exact.all()
    np.testing.assert_allclose(np.exp(scores.log_prob), list(expected.values()), rtol=1e-9)
    assert math.fsum(np.exp(scores.log_prob)) == pytest.approx(1, abs=1e-9)
    np.testing.assert_allclose(scores.prompt + scores.completion, scores.log_prob, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(stream.log_prob(rows_of(list(expected))), scores.log_prob)
    assert len(expected) > 10
    agree(stream, expected, 500_000)


@pytest.mark.parametrize("name", SMALL)
def test_what_the_stream_never_writes_has_no_probability(name: str) -> None:
    spec = small(name)
    train, test = support_of(name, "train"), support_of(name, "test")
    assert train.keys().isdisjoint(test)
    stream = cg.Stream(spec, "train")
    never = [*test]
    for program in list(train)[:100]:
        names = [VOCABULARY[token] for token in program]
        wrong = [*names[:-1], "not", "end"] if spec.family.form == "relation" else [*names[:-2], "inc", "eq", "end"]
        never += [program[:-1], program[:-3], program[1:], cg.encode(" ".join(wrong)).tobytes()]
        never += [b"\x01" + program, program[:-1] + b"\x0a" + program[-1:]]
    never = [program for program in never if program not in train]
    assert len(never) > 300
    scores = stream.score(rows_of([*never, b"", bytes([op.END]), b"\x00" + next(iter(train))]))
    assert (scores.log_prob == -np.inf).all()
    assert (scores.completion == -np.inf).all()
    first = list(train)[:10]
    alone, followed = rows_of(first), rows_of([program + b"\x0d\x02" for program in first])
    np.testing.assert_array_equal(stream.log_prob(followed), stream.log_prob(alone))  # nothing behind `end` counts


@pytest.mark.parametrize("name", ["arith", "compare", "loop"])
def test_a_wrong_answer_leaves_the_probability_of_its_prompt(name: str) -> None:
    spec = small(name)
    stream = cg.Stream(spec, "test")
    programs, lengths = stream.batch(0, 50)
    right = stream.score(programs)
    for row, length in zip(programs, lengths, strict=True):
        row[length:] = 0
        wrong = cg.encode("not not end" if name == "compare" else "9 9 9 9 eq end")
        row[length : length + wrong.size] = wrong
    scores = stream.score(programs)
    np.testing.assert_array_equal(scores.prompt, right.prompt)
    assert (scores.log_prob == -np.inf).all()


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_worked_steps_have_their_share(share: float) -> None:
    spec = small("register", thoughts=Thoughts(share, "trace", 20))
    expected = support(spec, "train")
    scores = cg.Stream(spec, "train").score(rows_of(list(expected)))
    np.testing.assert_allclose(np.exp(scores.log_prob), list(expected.values()), rtol=1e-9)
    seen = np.unique(np.round(np.exp(scores.completion), 9))
    assert {share, 1 - share, 1.0} - {0.0} >= {*seen.tolist()}
    assert math.fsum(np.exp(scores.log_prob)) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("name", SMALL)
def test_estimated_normalisers_agree_with_exact_ones(name: str) -> None:
    spec = small(name, thoughts=Thoughts())
    for split in ("train", "test"):
        programs, _ = cg.Stream(spec, split, seed=3).batch(0, 300)
        exact = cg.Stream(spec, split).score(programs)
        rough = cg.Stream(spec, split).score(programs, budget=0, samples=20_000)
        assert exact.exact.all()
        assert not rough.exact.any()
        assert (np.abs(rough.log_prob - exact.log_prob) <= SIGMAS * rough.error).all()
        assert not np.array_equal(rough.log_prob, exact.log_prob)
        assert rough.error.max() < 0.1


def test_estimates_err_by_as_much_as_they_say() -> None:
    """Over all kinds of choices of all settings the error is one standard error in root mean square."""
    found = []
    for name in SMALL:
        spec = small(name, thoughts=Thoughts())
        for split in ("train", "test"):
            programs, _ = cg.Stream(spec, split, seed=3).batch(0, 300)
            exact = cg.Stream(spec, split).score(programs)
            rough = cg.Stream(spec, split).score(programs, budget=0, samples=500)
            pairs = np.stack([rough.log_prob - exact.log_prob, rough.error])
            found.append(np.unique(pairs.round(12), axis=1))
    errors, said = np.concatenate(found, axis=1)
    assert errors.size > 60
    assert 0.8 < np.sqrt(np.mean((errors / said) ** 2)) < 1.25
    # a share s of n draws has the variance s (1 - s) / n
    (share,) = (one for one in shares_of("branch", "test", 500))
    assert share.error == pytest.approx(math.sqrt(share.value * (1 - share.value) / 500), rel=1e-12)


def shares_of(name: str, split: str, samples: int) -> list[Share]:
    scorer = Scorer(small(name), split, 0, samples)
    for program in cg.Stream(small(name), split, seed=3).batch(0, 50)[0]:
        scorer.score(program[program > 0])
    return [*scorer.shares.values()]


def test_an_estimate_is_a_share_of_its_samples_with_the_error_of_one() -> None:
    spec = small("register")
    program = cg.Stream(spec, "test").batch(0, 1)[0][0]
    program = program[program > 0]
    exact, rough = Scorer(spec, "test", 100_000, 1), Scorer(spec, "test", 0, 500)
    (known, _, none), (prompt, _, variance) = exact.score(program), rough.score(program)
    (kept,), (share,) = exact.shares.values(), rough.shares.values()
    assert (none, kept.error) == (0, 0)
    assert share.value * 500 == round(share.value * 500) > 0
    assert share.error == pytest.approx(math.sqrt(share.value * (1 - share.value) / 500))
    assert variance == pytest.approx((share.error / share.value) ** 2)
    assert prompt + math.log(share.value) == pytest.approx(known + math.log(kept.value))


def test_shares_are_found_once_a_stream() -> None:
    stream = cg.Stream(small("register"), "test")
    programs, _ = stream.batch(0, 10)
    rough = stream.score(programs, budget=0, samples=100)
    np.testing.assert_array_equal(stream.score(programs).log_prob, rough.log_prob)
    assert not rough.exact.any()


def test_where_no_sample_is_kept_one_is_assumed() -> None:
    spec = small("register", splits={"rare": Split((0.0, 0.01))}, parameters={"operations": {"2": 1}})
    program = cg.Stream(spec, "rare").batch(0, 1)[0][0]
    scorer = Scorer(spec, "rare", 0, 2)
    assert math.isfinite(scorer.score(program[program > 0])[0])
    assert [share.value for share in scorer.shares.values()] == [0.5]


@pytest.mark.parametrize("name", ["compare", "compare, reserved"])
def test_derivations_that_divide_by_one_share_have_its_error_in_common(name: str) -> None:
    """A pair may be of several kinds, each with a share of its own, or have two reserved values, and one share."""
    scorer = Scorer(small(name), "test", 100_000, 1)
    programs, _ = cg.Stream(small(name), "test").batch(0, 200)
    several = both = 0
    for row in programs:
        program = row[row > 0]
        scorer.shares.clear()
        scorer.score(program)
        for number, (key, share) in enumerate(scorer.shares.items(), 1):
            scorer.shares[key] = Share(share.value, 0.1 * number * share.value)
        prompt, _, variance = scorer.score(program)
        expected = 0.0
        for key, share in list(scorer.shares.items()):  # how far the log-probability moves with each
            scorer.shares[key] = Share(share.value * (1 + 1e-6), share.error)
            expected += ((scorer.score(program)[0] - prompt) / 1e-6 * share.error / share.value) ** 2
            scorer.shares[key] = share
        assert variance == pytest.approx(expected, rel=1e-4)
        several += len(scorer.shares) > 1
        left, right, *_ = cg.disassemble(program).split()
        both += left != right and int(left) % 16 == int(right) % 16 == 3
    assert several if name == "compare" else both


def test_a_split_that_keeps_everything_needs_no_normaliser() -> None:
    spec = small("branch", splits={"all": Split()})
    programs, _ = cg.Stream(spec, "all").batch(0, 100)
    assert cg.Stream(spec, "all").score(programs, budget=0, samples=1).exact.all()


# Mixtures.


def write_small(folder: Path, name: str, share: float) -> Path:
    spec = small(name)
    path = folder / f"{name.replace(', ', '-')}.toml"
    parameters = "\n".join(f"{key} = {_toml(value)}" for key, value in spec.parameters.items())
    path.write_text(
        f'id = "{spec.id}"\ntask = "{spec.task}"\n[parameters]\n{parameters}\n'
        f'[thoughts]\nshare = {share}\nstyle = "products"\nlimit = 30\n'
        "[splits.train]\nshare = [0.3, 1.0]\n[splits.test]\nshare = [0.0, 0.3]\n"
    )
    return path


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(one)}" for key, one in value.items()) + " }"
    return str(value) if not isinstance(value, str) else f'"{value}"'


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_mixture_adds_up_its_parts(tmp_path: Path, split: str) -> None:
    """Also where two of them write the same programs."""
    weights = {"arith": 3, "arith, uneven": 2, "compare": 1, "function": 4}
    paths = {write_small(tmp_path, name, 0.5): weight for name, weight in weights.items()}
    expected: dict[bytes, float] = defaultdict(float)
    parts = {name: support_of(name, split) for name in weights}
    for name, weight in weights.items():
        for program, probability in parts[name].items():
            expected[program] += weight / 10 * probability
    assert len(expected) < sum(map(len, parts.values()))
    stream = cg.Stream(paths, split, seed=5)
    scores = stream.score(rows_of(list(expected)))
    np.testing.assert_allclose(np.exp(scores.log_prob), list(expected.values()), rtol=1e-9)
    assert math.fsum(np.exp(scores.log_prob)) == pytest.approx(1, abs=1e-9)
    assert scores.exact.all()
    agree(stream, expected, 500_000)


def test_a_mixture_by_hand() -> None:
    """Weights 1 and 3: prompts 0.25 * 0.2 + 0.75 * 0.1, whole programs 0.25 * 0.2 * 0.5 + 0.75 * 0.1."""
    parts: list[Any] = [
        SimpleNamespace(score=lambda _: (math.log(0.2), math.log(0.5), 0.01)),
        SimpleNamespace(score=lambda _: (math.log(0.1), 0.0, 0.04)),
    ]
    scores = score_mixture(parts, np.array([1, 3]), cg.assemble("1 2 add 3 eq end"))
    assert math.exp(scores.prompt) == pytest.approx(0.125)
    assert math.exp(scores.log_prob) == pytest.approx(0.1)
    assert math.exp(scores.completion) == pytest.approx(0.8)
    assert scores.error == pytest.approx(math.sqrt(0.25**2 * 0.01 + 0.75**2 * 0.04))
    assert not scores.exact


def test_a_mixture_with_estimates_says_how_good_they_are(tmp_path: Path) -> None:
    paths = {write_small(tmp_path, name, 0.5): 1 for name in ("arith", "arith, uneven", "loop")}
    programs, _ = cg.Stream(paths, "test", seed=3).batch(0, 300)
    exact = cg.Stream(paths, "test").score(programs)
    rough = cg.Stream(paths, "test").score(programs, budget=0, samples=20_000)
    assert not rough.exact.any()
    assert (np.abs(rough.log_prob - exact.log_prob) <= SIGMAS * rough.error).all()


def test_the_variance_of_a_mixture_is_that_of_its_parts(tmp_path: Path) -> None:
    """Of a sum of probabilities with independent errors, where several parts write the same program too."""
    weights = {"arith": 3, "arith, uneven": 2, "loop": 1}
    paths = {write_small(tmp_path, name, 0.5): weight for name, weight in weights.items()}
    programs, _ = cg.Stream(paths, "test", seed=3).batch(0, 300)
    parts = [cg.Stream(path, "test").score(programs, budget=0, samples=2000) for path in paths]
    shares = np.exp([part.log_prob for part in parts]) * np.array([[3], [2], [1]]) / 6  # (3, 300)
    assert ((shares > 0).sum(0) > 1).any()
    variance = (shares**2 * np.array([part.error for part in parts]) ** 2).sum(0) / shares.sum(0) ** 2
    whole = cg.Stream(paths, "test").score(programs, budget=0, samples=2000)
    np.testing.assert_allclose(whole.log_prob, np.log(shares.sum(0)), rtol=1e-12)
    np.testing.assert_allclose(whole.error, np.sqrt(variance), rtol=1e-9)


# Entropies.


def test_entropies_are_means_over_the_programs_of_a_stream() -> None:
    stream = cg.Stream(small("arith"), "train", seed=2)
    entropy, (programs, lengths) = stream.entropy(200), stream.batch(0, 200)
    scores = stream.score(programs)
    for logs, mean, error in (
        (scores.prompt, entropy.prompt, entropy.prompt_error),
        (scores.completion, entropy.completion, entropy.completion_error),
    ):
        assert mean == pytest.approx(-statistics.mean(logs.tolist()))
        assert error == pytest.approx(statistics.stdev(logs.tolist()) / math.sqrt(200)) != 0
    assert entropy.prompt_tokens == pytest.approx(lengths.mean())
    assert entropy.completion_tokens == pytest.approx(np.count_nonzero(programs) / 200 - lengths.mean())
    with pytest.raises(ValueError, match="count = 1"):
        stream.entropy(1)


def test_the_floor_by_hand() -> None:
    entropy = Entropy(10, 6.0, 0.1, 2.0, 0.1, 5.0, 3.0)
    assert entropy.floor() == pytest.approx(8 / 8)
    assert entropy.floor(0.5) == pytest.approx(5 / 5.5)
    assert entropy.floor(0.0) == pytest.approx(2 / 3)


# What ships.


@pytest.mark.parametrize(("id", "split"), SPLITS)
def test_every_program_of_a_stream_has_a_probability(id: str, split: str) -> None:
    for changes in ({}, {"thoughts": {"share": 0.5, "style": "trace", "limit": 40}, "episode": {"max_tokens": 128}}):
        stream = cg.Stream(cg.load_spec(id, **changes), split, seed=8)
        programs, _ = stream.batch(0, 60)
        scores = stream.score(programs, budget=1000, samples=300)
        assert np.isfinite(scores.log_prob).all()
        assert (scores.log_prob < 0).all()
        assert (scores.completion <= 0).all()


@pytest.mark.parametrize("split", ["train", "test"])
def test_comparisons_have_exact_probabilities(split: str) -> None:
    """Those of all comparisons of a kind add up to the share of the kind, and estimates agree with them."""
    stream = cg.Stream("Cadmus-Compare-v0", split, seed=8)
    parameters = stream.specs[0].split_parameters(split)
    lengths, order = parameters.lengths, parameters.order
    weight, sixth = sum(lengths.values()), 1 / len(parameters.relations)

    def total(programs: list[str]) -> float:
        scores = stream.score(rows_of([cg.assemble(program).tobytes() for program in programs]))
        assert scores.exact.all()
        return math.fsum(np.exp(scores.log_prob))

    ties = [f"{value} {value} eq end" for value in range(100, 1000)]
    assert total(ties) == pytest.approx(sixth / 2 * lengths["3"] / weight, rel=1e-9)
    weights = dict.fromkeys(order, weight)  # of the classes of numbers that may be pairs of a kind
    weights["swap"] = lengths["4"] + lengths["5"]
    share = sum(order[kind] * lengths["1-2"] / weights[kind] for kind in order if kind != "swap") / sum(order.values())
    randbelow = [f"{x} {y} lt {'end' if x < y else 'not end'}" for x in range(100) for y in range(100)]
    assert total(randbelow) == pytest.approx(sixth * share, rel=1e-9)
    programs, _ = stream.batch(0, 40)
    exact, rough = stream.score(programs), cg.Stream(stream.specs[0], split).score(programs, budget=0, samples=20_000)
    assert exact.exact.all()
    assert (np.abs(rough.log_prob - exact.log_prob) <= SIGMAS * rough.error).all()
    assert rough.error.max() < 0.1


EXTREMES: list[tuple[str, dict[str, Any]]] = [
    ("arith", {"operands": [-2147483647, 2147483647], "limit": 2147483647, "operations": {"7": 1}}),
    ("compare", {"lengths": {"9": 1, "1-8": 1}}),
    ("logic", {"operands": [0, 999_999], "bits": {"8": 1}, "terms": {"8": 1}, "joined": {"8": 1}}),
    ("stack", {"operands": [0, 999_999], "limit": 2147483647, "literals": {"6": 1}, "moves": {"6": 1}}),
    ("register", {"operands": [0, 999_999], "limit": 2147483647, "operations": {"8": 1}}),
    (
        "branch",
        {"operands": [0, 999_999], "limit": 2147483647, "blocks": {"4": 1}, "depths": {"4": 1}, "distance": 999_999},
    ),
    ("loop", {"operands": [1, 9], "turns": [1, 64], "items": {"1": 1, "4": 1}, "limit": 2147483647}),
    ("function", {"operands": [0, 9999], "levels": [1, 48], "doubles": [2, 8], "limit": 2147483647}),
]


@pytest.mark.parametrize(("task", "parameters"), EXTREMES, ids=str)
def test_programs_of_extreme_parameters_have_a_probability_too(task: str, parameters: dict[str, Any]) -> None:
    spec = Spec("Extreme-v0", task, {"test": Split((0.0, 0.5))}, parameters=parameters)
    stream = cg.Stream(spec, "test")
    scores = stream.score(stream.batch(0, 100)[0], budget=0, samples=200)
    assert np.isfinite(scores.log_prob).all()


@pytest.mark.parametrize("id", IDS)
def test_anything_can_be_scored(id: str) -> None:
    stream = cg.Stream(id, "train", seed=4)
    chooser = np.random.default_rng(9)
    garbage = chooser.integers(0, 65, (2000, stream.length + 30))
    garbage[::2, 12] = op.END
    digits = np.where(chooser.random(garbage.shape) < 0.6, chooser.integers(13, 26, garbage.shape), garbage)
    true, _ = stream.batch(0, 700)
    changed = np.repeat(true, 3, axis=0)
    rows = np.arange(len(changed))
    size = (changed != 0).sum(axis=1)
    changed[rows, chooser.integers(0, size)] = chooser.integers(0, 65, len(changed))
    for programs in (garbage, digits, changed):
        scores = stream.score(programs, budget=1000, samples=100)
        assert not np.isnan(scores.log_prob).any()
        finite = np.isfinite(scores.log_prob)
        verdicts, _ = cg.run_batch(programs.astype(np.uint8))
        assert not verdicts[finite].any()  # what has a probability is true
    assert 0 < finite.sum() < len(changed)  # some changes lead to other programs, or to none


def test_shapes_and_mistakes() -> None:
    stream = cg.Stream(small("arith"), "train")
    programs, _ = stream.batch(0, 4)
    assert stream.log_prob(programs).shape == (4,)
    alone = stream.log_prob(programs[0])
    assert (alone.shape, float(alone)) == ((), float(stream.log_prob(programs)[0]))
    assert stream.log_prob(programs[:0]).shape == (0,)
    with pytest.raises(ValueError, match="shape"):
        stream.log_prob(programs[None])
    with pytest.raises(ValueError, match="token id"):
        stream.log_prob([[65]])


# A family in plain Python cannot tell.


@dataclass(frozen=True)
class Sums:
    most: int = 9


def compose(parameters: Sums, choices: Choices) -> str:
    terms = choices.integer(2, 3, kind=True)
    numbers = [str(choices.integer(0, parameters.most)) for _ in range(terms)]
    return " ".join(numbers) + " add" * (terms - 1)


SUMS = Family("sums", 1, Sums, "value", lambda parameters: 20, compose=compose)


def test_a_family_in_plain_python_has_no_probabilities() -> None:
    spec = Spec("Sums-v0", f"{__name__}:SUMS", {"train": Split((0.3, 1.0)), "test": Split((0.0, 0.3))})
    stream = cg.Stream(spec, "test")
    programs, _ = stream.batch(0, 200)
    assert not cg.run_batch(programs)[0].any()
    scores = stream.score(programs)
    assert np.isnan(scores.log_prob).all()
    assert not scores.exact.any()
    assert dataclasses.replace(scores).prompt.shape == (200,)
