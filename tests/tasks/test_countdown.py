"""Countdown: a target from numbers, each used at most once, and the probabilities of its programs."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import numpy as np
import pytest
from support.probability import SIGMAS, agree, rows_of, support
from support.stacks import Case, cases, keys, leave, needless, read

import cadmus_gym as cg
from cadmus_gym.streams.spec import Spec, Split

ID = "Cadmus-Countdown-v0"
SPLITS = list(cg.load_spec(ID).splits)
COUNT = 6000
WORDS = ("drop", "swap", "rot", "add", "sub", "mul")
SMALL: dict[str, dict[str, Any]] = {
    "shortest": {"inputs": [1, 6], "arity": {"3": 1}, "moves": {"0": 1, "1": 2}, "limit": 60},
    "drawn": {
        "inputs": [2, 5],
        "arity": {"3": 1},
        "moves": {"1": 2, "2": 1},
        "limit": 60,
        "instructions": {"drop": 1, "swap": 2, "rot": 1, "sub": 3, "mul": 2},
        "reference": "drawn",
    },
}


def spec_of(parameters: dict[str, Any]) -> Spec:
    splits = {"train": Split((0.3, 1.0)), "test": Split((0.0, 0.3))}
    return Spec("Small-Countdown-v0", "countdown", splits, apart="problems", parameters=parameters)


def problem(case: Case) -> tuple[tuple[int, ...], int]:
    return tuple(sorted(case.inputs)), case.outputs[0]


def steps(case: Case) -> list[tuple[str, int, int, int]]:
    """Return each operation, its operands and its result."""
    found = []
    for k, word in enumerate(case.body):
        if word in WORDS[3:]:
            before, after = leave(case.body[:k], case.inputs), leave(case.body[: k + 1], case.inputs)
            assert before is not None
            assert after is not None
            found.append((word, before[-2], before[-1], after[-1]))
    return found


@pytest.mark.parametrize("reference", ["shortest", "drawn"])
@pytest.mark.parametrize("split", SPLITS)
def test_all_programs_are_true_and_as_the_parameters_say(split: str, reference: str) -> None:
    spec = cg.load_spec(ID).override(reference=reference)
    parameters = spec.split_parameters(split)
    programs, _ = cg.Stream(spec, split).batch(0, COUNT)
    verdicts, passed = cg.run_batch(programs)
    assert (verdicts == cg.Verdict.TRUE).all()
    assert (passed == 1).all()
    low, high = parameters.inputs
    for case in map(read, programs):
        assert leave(case.body, case.inputs) == [*case.outputs]
        assert len(case.outputs) == 1
        assert all(low <= number <= high for number in case.inputs)
        assert str(len(case.inputs)) in parameters.arity
        moves = sum(word in ("swap", "rot") for word in case.body)
        assert str(moves) in parameters.moves
        assert len(case.body) == len(case.inputs) - 1 + moves
        assert {*case.body} <= {*WORDS}


@pytest.mark.parametrize("reference", ["shortest", "drawn"])
@pytest.mark.parametrize("split", SPLITS)
def test_every_word_matters_and_no_target_is_trivial(split: str, reference: str) -> None:
    spec = cg.load_spec(ID).override(reference=reference)
    limit = spec.split_parameters(split).limit
    for case in cases(spec, split, 2000):
        assert needless(case) is None, case
        for word, x, y, result in steps(case):
            assert min(abs(x), abs(y)) >= (2 if word == "mul" else 1), case
            assert abs(result) <= limit
        near = {*case.inputs}
        for x, y in itertools.permutations(case.inputs, 2):
            near |= {x + y, x - y, x * y}
        assert case.outputs[0] not in near


@pytest.mark.parametrize("reference", ["shortest", "drawn"])
def test_a_key_is_the_numbers_in_any_order_and_the_target(reference: str) -> None:
    parts = spec_of({"inputs": [2, 7], "arity": {"4": 1, "5": 1}, "limit": 200, "reference": reference})
    known: dict[int, Any] = {}
    held = {}
    for split in ("train", "test"):
        found = [problem(case) for case in cases(parts, split, COUNT)]
        for key, asked in zip(keys(parts, split, COUNT), found, strict=True):
            assert known.setdefault(key, asked) == asked
            assert key > 0
            assert (key >= 3 * 2**64 / 10) == (split == "train")
        held[split] = {*found}
    assert len({*known.values()}) == len(known) < 1.5 * COUNT  # so many problems are drawn more than once
    assert held["train"].isdisjoint(held["test"])


@pytest.mark.parametrize("split", SPLITS[1:])
def test_shipped_splits_share_no_problem_with_train(split: str) -> None:
    train, other = ({problem(case) for case in cases(ID, name, COUNT)} for name in ("train", split))
    assert train.isdisjoint(other)
    assert all(key < 2**64 / 10 for key in keys(ID, split, 2000))
    assert all(key >= 2**64 / 10 for key in keys(ID, "train", 2000))


def test_references_are_the_shortest_of_their_function() -> None:
    """Against all bodies of up to five words. Large inputs distinguish the functions."""
    shortest: dict[int, tuple[str, ...]] = {}
    inputs = (1_000_003, 10_000_000_019, 100_000_000_003)
    for size in range(1, 6):
        for body in itertools.product(WORDS, repeat=size):
            stack = leave(body, inputs)
            if stack is not None and len(stack) == 1:
                shortest.setdefault(stack[0], body)
    spec = spec_of({"arity": {"3": 1}, "moves": {"0": 1, "1": 1, "2": 1, "3": 1}})
    bodies = {case.body for split in ("train", "test") for case in cases(spec, split, COUNT)}
    functions = [leave(body, inputs) for body in bodies]
    assert len({stack[0] for stack in functions if stack}) == len(bodies) > 25
    for body, stack in zip(bodies, functions, strict=True):
        assert stack is not None
        assert shortest[stack[0]] == body  # also the first of its length


def lookup(spec: Spec, tries: int, count: int) -> float:
    """Return the share of test prompts that one of the most common bodies of train solves."""
    common = Counter(case.body for case in cases(spec, "train", COUNT)).most_common(tries)
    found = cases(spec, "test", count)
    return sum(any(leave(body, case.inputs) == [*case.outputs] for body, _ in common) for case in found) / count


def test_a_hundred_bodies_solve_few_prompts() -> None:
    """With four numbers there are 308 functions, so a hundred bodies solve half; hence the base has five."""
    spec = cg.load_spec(ID)
    assert lookup(spec, 1, 1000) < 0.02
    assert lookup(spec, 100, 1000) < 0.15
    assert 0.35 < lookup(spec_of(spec.parameters | {"arity": {"4": 1}}), 100, 1000) < 0.6


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("name", SMALL)
def test_probabilities_agree_with_enumeration_and_with_frequencies(name: str, split: str) -> None:
    spec = spec_of(SMALL[name])
    expected = support(spec, split)
    assert len(expected) > 100
    scores = cg.Stream(spec, split).score(rows_of(list(expected)), samples=200_000)
    truth = np.log(list(expected.values()))
    assert (np.abs(scores.log_prob - truth) <= SIGMAS * scores.error).all()
    assert scores.error.max() < 0.03
    agree(cg.Stream(spec, split, seed=5), expected, 200_000)


@pytest.mark.parametrize("name", SMALL)
def test_programs_that_the_stream_never_writes_have_probability_zero(name: str) -> None:
    train, test = (support(spec_of(SMALL[name]), split) for split in ("train", "test"))
    assert train.keys().isdisjoint(test)
    other = [program[:-2] + program[-1:] for program in train] + [program[:-1] + b"\x01\x02" for program in train]
    idle = cg.encode("swap swap end").tobytes()
    other += [*test, *(program[:-1] + idle for program in train)]
    assert (cg.Stream(spec_of(SMALL[name]), "train").score(rows_of(other), samples=1000).log_prob == -np.inf).all()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"inputs": [0, 9]}, r"inputs = \[0, 9\]: give \[lowest, highest\] within 1 to 9999"),
        ({"arity": {"2": 1}}, "arity: unknown '2'; give at least one of 3, 4, 5, 6"),
        ({"moves": {"8": 1}}, "moves: unknown '8'; give at least one of 0, 1"),
        ({"limit": 19}, "limit = 19: give at least the largest input, 20, at most 999999"),
        ({"reference": "tree"}, "reference = 'tree': known are shortest, drawn"),
        ({"instructions": {"dup": 1}}, "instructions: unknown 'dup'; give at least one of drop, swap, rot, add"),
        ({"instructions": {"drop": 1, "add": 1}}, "instructions: give swap, rot a weight too"),
        ({"instructions": {"drop": 1, "swap": 1, "rot": 1}}, "instructions: give one of add, sub, mul a weight"),
    ],
)
def test_mistakes_say_what_is_allowed(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        spec_of(parameters)
