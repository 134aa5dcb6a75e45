"""Arrange: programs of stack words and registers, their arrangements, and their probabilities."""

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

ID = "Cadmus-Arrange-v0"
SPLITS = list(cg.load_spec(ID).splits)
COUNT = 6000
SMALL: dict[str, dict[str, Any]] = {
    "shortest": {"inputs": [3, 6], "arity": {"2": 1, "3": 2}, "moves": {"2": 1, "3": 3}, "outputs": [1, 4]},
    "drawn": {
        "inputs": [1, 4],
        "arity": {"2": 2, "3": 1},
        "moves": {"2": 3, "3": 1},
        "instructions": {"dup": 2, "swap": 1, "rot": 3, "b!": 1, "b@": 2},
        "outputs": [2, 4],
        "reference": "drawn",
    },
}


def small(name: str) -> Spec:
    splits = {"train": Split((0.5, 1.0)), "test": Split((0.0, 0.5))}
    return Spec("Small-Arrange-v0", "arrange", splits, apart="problems", parameters=SMALL[name])


def arrangement(case: Case) -> tuple[int, tuple[int, ...]]:
    """Return how many inputs are moved, and where they stand, without the inputs that stay at the bottom and are
    nowhere else."""
    for below in range(len(case.inputs), -1, -1):
        inputs, outputs = case.inputs[below:], case.outputs[below:]
        if case.inputs[:below] == case.outputs[:below] and {*outputs} <= {*inputs}:
            return len(inputs), tuple(inputs.index(value) for value in outputs)
    raise AssertionError(case)


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
        assert len({*case.inputs}) == len(case.inputs)
        assert all(low <= value <= high for value in case.inputs)
        assert str(len(case.inputs)) in parameters.arity
        assert str(len(case.body)) in parameters.moves
        assert {*case.body} <= parameters.instructions.keys()
        assert parameters.outputs[0] <= len(case.outputs) <= parameters.outputs[1]
        assert case.inputs != case.outputs


@pytest.mark.parametrize("reference", ["shortest", "drawn"])
@pytest.mark.parametrize("split", SPLITS)
def test_every_word_matters(split: str, reference: str) -> None:
    for case in cases(cg.load_spec(ID).override(reference=reference), split, 3000):
        assert needless(case) is None, case


@pytest.mark.parametrize("reference", ["shortest", "drawn"])
def test_a_key_is_an_arrangement(reference: str) -> None:
    """The keys of all splits are equal just where the arrangements are, and splits keep theirs by it."""
    spec = cg.load_spec(ID).override(reference=reference)
    known: dict[int, Any] = {}
    held: dict[str, set[Any]] = {}
    for split in SPLITS:
        found = [arrangement(case) for case in cases(spec, split, COUNT)]
        for key, problem in zip(keys(spec, split, COUNT), found, strict=True):
            assert known.setdefault(key, problem) == problem
            assert key > 0
            assert (key >= 2**64 / 10) == (split == "train")
        held[split] = {*found}
    assert len({*known.values()}) == len(known)
    for split in SPLITS[1:]:
        assert held["train"].isdisjoint(held[split])
        assert len(held[split]) > 50


@pytest.mark.parametrize("arity", [2, 3])
def test_references_are_the_shortest(arity: int) -> None:
    """Against all bodies of up to four words."""
    words = ("dup", "drop", "swap", "over", "rot", "a!", "a@", "b!", "b@")
    inputs, shortest = tuple(range(1, arity + 1)), dict[Any, int]()
    for size in range(5):
        for body in itertools.product(words, repeat=size):
            stack = leave(body, inputs)
            if stack and 0 not in stack:
                shortest.setdefault(tuple(stack), size)
    moves = {str(size): 1 for size in (1, 2, 3, 4)}
    spec = Spec(
        "A-v0", "arrange", {"all": Split()}, apart="problems", parameters={"arity": {str(arity): 1}, "moves": moves}
    )
    found = cases(spec, "all", 20_000)
    for case in found:
        outputs = tuple(1 + case.inputs.index(value) for value in case.outputs)
        assert shortest[outputs] == len(case.body)
    asked = {stack for stack, size in shortest.items() if size > 0 and len(stack) <= 6}
    assert {tuple(1 + case.inputs.index(value) for value in case.outputs) for case in found} == asked
    bodies = {case.body for case in found}
    assert len(bodies) == len(asked)  # one for each arrangement


def test_no_training_body_solves_a_test_prompt() -> None:
    bodies = {case.body for case in cases(ID, "train", COUNT)}
    for case in cases(ID, "test", 300):
        assert all(leave(body, case.inputs) != [*case.outputs] for body in bodies)


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("name", SMALL)
def test_probabilities_agree_with_enumeration_and_with_frequencies(name: str, split: str) -> None:
    spec = small(name)
    expected = support(spec, split)
    assert len(expected) > 100
    scores = cg.Stream(spec, split).score(rows_of(list(expected)), samples=200_000)
    truth = np.log(list(expected.values()))
    if name == "shortest":
        assert scores.exact.all()
        np.testing.assert_allclose(scores.log_prob, truth, rtol=1e-9)
    else:
        assert (np.abs(scores.log_prob - truth) <= SIGMAS * scores.error).all()
        assert scores.error.max() < 0.02
    agree(cg.Stream(spec, split, seed=5), expected, 200_000)


@pytest.mark.parametrize("name", SMALL)
def test_programs_that_the_stream_never_writes_have_probability_zero(name: str) -> None:
    train, test = (support(small(name), split) for split in ("train", "test"))
    assert train.keys().isdisjoint(test)
    other = [program[:-2] + program[-1:] for program in train] + [program[:-1] + b"\x01\x02" for program in train]
    idle = cg.encode("swap swap end").tobytes()
    other += [*test, *(program[:-1] + idle for program in train)]
    assert (cg.Stream(small(name), "train").score(rows_of(other), samples=1000).log_prob == -np.inf).all()


def test_kinds_have_their_weights() -> None:
    spec = cg.load_spec(ID)
    found = cases(spec, "test", COUNT)
    for seen, weights in (
        (Counter(str(len(case.inputs)) for case in found), spec.split_parameters("test").arity),
        (Counter(str(len(case.body)) for case in found), spec.split_parameters("test").moves),
    ):
        for name, weight in weights.items():
            share = weight / sum(weights.values())
            assert abs(seen[name] - COUNT * share) < SIGMAS * (COUNT * share * (1 - share)) ** 0.5


def test_a_prompt_has_one_arrangement() -> None:
    programs, lengths = cg.Stream(ID, "train").batch(0, 50)
    stream = cg.Stream(ID, "train")
    found = stream.keys(np.zeros(50, np.int64), np.arange(50))
    prompts = np.where(np.arange(programs.shape[1]) < lengths[:, None], programs, 0)
    for key, program, length, posterior in zip(found, programs, lengths, stream.posterior(prompts), strict=True):
        assert posterior.keys.tolist() == [key]
        assert (posterior.ceiling, posterior.sampler) == (1, 1)
        body = posterior.bodies[0]
        assert body[body > 0].tolist() == program[length:][program[length:] > 0].tolist()
    for wrong in ("case 1 to 2 do", "case 3 , 3 to 3 do", "case 1 , 2 to 1 case 1 , 2 to 1 do", "case 1 , 2 to 2 , 1"):
        with pytest.raises(ValueError, match="expected a header of one case that arranges distinct inputs"):
            stream.posterior(cg.encode(wrong))
    with pytest.raises(ValueError, match="no reference of this split leaves its arrangement"):
        stream.posterior(cg.encode("case 1 , 2 to 2 , 1 do"))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"inputs": [0, 9]}, r"inputs = \[0, 9\]: give \[lowest, highest\] within 1 to 999999"),
        ({"inputs": [1, 4]}, r"inputs = \[1, 4\]: give at least as many as arity has, 5, since all are different"),
        ({"arity": {"7": 1}}, "arity: unknown '7'; give at least one of 2, 3, 4, 5, 6"),
        ({"moves": {"0": 1}}, "moves: unknown '0'; give at least one of 1, 2"),
        ({"instructions": {"pick": 1}}, "instructions: unknown 'pick'; give at least one of dup, drop, swap"),
        ({"instructions": {"dup": 0}}, "instructions: dup = 0; give at least one of"),
        ({"outputs": [0, 3]}, r"outputs = \[0, 3\]: give \[lowest, highest\] within 1 to 8"),
        ({"reference": "best"}, "reference = 'best': known are shortest, drawn"),
    ],
)
def test_mistakes_say_what_is_allowed(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Spec("A-v0", "arrange", {"all": Split()}, apart="problems", parameters=parameters)


def test_a_number_of_words_without_a_shortest_reference_is_an_error() -> None:
    spec = Spec(
        "A-v0",
        "arrange",
        {"all": Split()},
        apart="problems",
        parameters={"arity": {"3": 1}, "moves": {"4": 1, "10": 1}},
    )
    with pytest.raises(ValueError, match="moves: with 3 inputs no shortest reference has 10 words, and the longest"):
        cg.Stream(spec, "all")
