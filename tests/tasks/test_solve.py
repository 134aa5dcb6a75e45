"""Solve: conditions on one number, their solutions by a second evaluation, and what guessing is worth."""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter, defaultdict
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support.probability import agree, enumerate_prompts, rows_of
from support.streams import close_to

import cadmus_gym as cg
from cadmus_gym.evaluation.baselines import best_constant, play
from cadmus_gym.language.forms import Automata
from cadmus_gym.language.isa import ID, VOCABULARY
from cadmus_gym.language.verdicts import TRUE
from cadmus_gym.streams.problems import splits_of
from cadmus_gym.streams.spec import Spec, Split
from cadmus_gym.tasks.synthesis.solve import Parameters, chains_of

SOLVE = "Cadmus-Solve-v0"
SPLITS = list(cg.load_spec(SOLVE).splits)
COUNT = 20_000
REACH = 25_000  # no solution of a shipped split is that large
BINARY = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.floor_divide,
    "mod": np.mod,
    "eq": np.equal,
    "lt": np.less,
    "gt": np.greater,
    "and": np.bitwise_and,
}

Rows = NDArray[np.uint8]


def words(tokens: Rows) -> list[str]:
    """Return tokens with each literal as one word, such as -12."""
    text = " ".join(VOCABULARY[token] for token in tokens)
    return re.sub(r"(\S+) neg", r"-\1", re.sub(r"(?<=\d) (?=\d)", "", text)).split()


def solutions(prompt: Rows, reach: int = REACH) -> list[int]:
    """Return all solutions of a condition up to that magnitude, by running its text on every integer."""
    definition, *body, last = words(prompt)
    assert (definition, last) == ("def", "ret")
    stack: list[NDArray[np.int64]] = [np.arange(-reach, reach + 1)]
    for word in body:
        if word == "dup":
            stack.append(stack[-1])
        elif word == "swap":
            stack[-2:] = stack[:-3:-1]
        elif word == "abs":
            stack.append(abs(stack.pop()))
        elif word in BINARY:
            right, left = stack.pop(), stack.pop()
            stack.append(BINARY[word](left, right).astype(np.int64))
        else:
            stack.append(np.full(2 * reach + 1, int(word)))
    (left_over,) = stack
    assert {*np.unique(left_over).tolist()} <= {0, 1}
    return [int(place) - reach for place in np.flatnonzero(left_over)]


def kind_of(prompt: Rows) -> str:
    body = words(prompt)
    if "and" not in body:
        return "equation"
    return {"div": "interval", "abs": "window"}.get(body[-5], "bound")


def operators_of(prompt: Rows) -> list[str]:
    """Return the operators of the chain."""
    text = " ".join(words(prompt)).split(" eq")[0]
    text = re.sub(r"dup -?\d+ add mul", "product", text.replace("dup mul", "square"))
    return [word for word in text.split() if word in (*BINARY, "abs", "square", "product")]


def prompts(split: str, count: int, seed: int = 0) -> list[Rows]:
    rows, lengths = cg.Stream(SOLVE, split).prompts([seed] * count, range(count))
    return [row[:length] for row, length in zip(rows, lengths, strict=True)]


def spelled(answer: int) -> Rows:
    digits = [ID[digit] for digit in str(abs(answer))]
    return np.array([*digits, *[ID["neg"]] * (answer < 0), ID["call"], ID["end"]], np.uint8)


@pytest.mark.parametrize("split", SPLITS)
def test_every_program_is_true_and_of_the_form(split: str) -> None:
    spec = cg.load_spec(SOLVE)
    programs, lengths = cg.Stream(spec, split, seed=5).batch(0, COUNT)
    assert (np.asarray(cg.run_batch(programs)[0]) == TRUE).all()
    prompt = np.where(np.arange(programs.shape[1]) < lengths[:, None], programs, 0)
    automata = Automata(spec.rules, prompt, lengths)
    for step in range(int(((programs > 0).sum(1) - lengths).max())):
        columns = np.minimum(lengths + step, programs.shape[1] - 1)
        tokens = programs[np.arange(COUNT), columns].astype(np.int64)
        assert (automata.mask()[np.arange(COUNT), tokens] | automata.done).all()
        automata.push(tokens)
    assert automata.done.all()
    assert programs.shape[1] == spec.prompt_room + spec.completion_room


@pytest.mark.parametrize("split", SPLITS)
def test_all_solutions_make_the_program_true_and_the_reference_is_the_smallest(split: str) -> None:
    low, high = cg.load_spec(SOLVE).split_parameters(split).answers
    programs, lengths = cg.Stream(SOLVE, split, seed=6).batch(0, 300)
    several = 0
    for program, length in zip(programs, lengths, strict=True):
        prompt = program[:length]
        found = solutions(prompt)
        assert 1 <= len(found) <= 3
        several += len(found) > 1
        best = min((x for x in found if low <= x <= high), key=lambda x: (abs(x), -x))
        np.testing.assert_array_equal(program[length:][program[length:] > 0], spelled(best))
        for x in {*found, *(x + 1 for x in found), *(x - 1 for x in found), -best, 0, 1}:
            assert (cg.run(np.concatenate([prompt, spelled(x)])).verdict == TRUE) == (x in found), words(prompt)
    assert several > 30


def test_splits_share_no_set_of_solutions() -> None:
    """Equal keys are equal sets of solutions, so train shares none with the others."""
    sets: dict[str, set[tuple[int, ...]]] = {}
    keys: dict[int, tuple[int, ...]] = {}
    for split in SPLITS:
        count, reach = (600, REACH) if split == "larger" else (2000, 2500)
        found = [tuple(solutions(prompt, reach)) for prompt in prompts(split, count, seed=8)]
        for key, one in zip(cg.Stream(SOLVE, split).keys([8] * count, range(count)).tolist(), found, strict=True):
            assert keys.setdefault(key, one) == one
        sets[split] = {*found}
    assert len({*keys.values()}) == len(keys) > 4000
    for split in SPLITS[1:]:
        assert sets["train"].isdisjoint(sets[split])
    assert not sets["test"].isdisjoint(sets["longer"])  # both are of the tenth that train leaves out


@pytest.mark.parametrize("split", ["train", "test"])
def test_kinds_and_numbers_of_operations_have_their_weights(split: str) -> None:
    parameters = Parameters()
    drawn = prompts(split, 8000)
    kinds, sizes = Counter(map(kind_of, drawn)), Counter(str(len(operators_of(prompt))) for prompt in drawn)
    for seen, weights in ((kinds, parameters.kinds), (sizes, parameters.operations)):
        assert seen.keys() == weights.keys()
        for name, weight in weights.items():
            assert close_to(seen[name], 8000, weight / sum(weights.values()))


def test_pairs_held_out_are_shown_by_one_split_alone() -> None:
    held = cg.load_spec(SOLVE).split_parameters("pairs").held_out
    for split in SPLITS:
        for prompt in prompts(split, 3000):
            operators = operators_of(prompt)
            pairs = {f"{one} {other}" for one, other in itertools.pairwise(operators)}
            assert pairs.isdisjoint(held) == (split != "pairs"), words(prompt)


def test_chains_are_those_that_leave_something_to_solve() -> None:
    parameters = Parameters(held_out=("mul sub",))
    equations, bounds, moduli = (chains_of(parameters, group, 2) for group in range(3))
    assert ("add", "mul") in equations
    assert {("mul", "sub"), ("add", "sub"), ("mul", "mul"), ("abs", "square"), ("mul", "square")}.isdisjoint(equations)
    assert equations["mul", "abs"] == 6
    assert ("mul", "div") in equations
    assert {("mul", "div"), ("add", "mul")}.isdisjoint(bounds)
    assert [*moduli] == [("add", "mod"), ("sub", "mod"), ("mul", "mod")]
    held = Parameters(held_out=("mul sub",), pool="held", kinds={"equation": 1}, operations={"2": 1})
    assert [*chains_of(held, 0, 2)] == [("mul", "sub")]


@pytest.mark.parametrize("split", SPLITS)
def test_guesses_solve_few_prompts(split: str) -> None:
    """The commonest answers are those of the split itself, which no learner of train knows."""
    programs, lengths = cg.Stream(SOLVE, split, seed=77).batch(0, COUNT)
    references = Counter(int(words(program[length:])[0]) for program, length in zip(programs, lengths, strict=True))
    guesses = {
        "common": [answer for answer, _ in references.most_common(100)],
        "small": sorted(range(-50, 50), key=lambda x: (abs(x), -x)),
    }
    found = [{*solutions(prompt, 10_000 if split == "larger" else 1000)} for prompt in prompts(split, 2000, seed=9)]
    tries = {
        (name, k): np.mean([not {*some[:k]}.isdisjoint(one) for one in found])
        for name, some in guesses.items()
        for k in (1, 10, 100)
    }
    assert tries["common", 1] < 0.02
    assert tries["common", 10] < 0.08
    assert tries["common", 100] < 0.5
    assert tries["small", 10] < 0.04
    assert tries["small", 100] < 0.2
    assert play(SOLVE, split, [best_constant(SOLVE, split)] * 2000, seed=9).mean() < 0.02


# Probabilities, by enumeration of a small setting

TINY: dict[str, Any] = {
    "answers": [-20, 20],
    "kinds": {"equation": 2, "bound": 1, "interval": 1, "window": 1},
    "operations": {"1": 1, "2": 2},
    "operators": {"add": 2, "mul": 1, "div": 1, "square": 1},
    "constants": {"add": [2, 3], "mul": [2, 3], "div": [2, 2], "interval": [5, 7], "window": [4, 5]},
    "held_out": ["mul mod"],
    "limit": 999,
}


def tiny(**splits: Split) -> Spec:
    two = {"train": Split((0.3, 1.0)), "test": Split((0.0, 0.3))}
    return Spec("Tiny-Solve-v0", "solve", splits=splits or two, parameters=TINY, apart="problems")


def support(spec: Spec, split: str) -> dict[bytes, float]:
    """Return all programs of a split with their probabilities."""
    kinds, written = enumerate_prompts(spec, split)
    found: dict[bytes, float] = defaultdict(float)
    for kind, probability in kinds.items():
        kept = math.fsum(one.operands for one in written[kind] if one.kept)
        for one in written[kind]:
            if one.kept:
                prompt = np.frombuffer(one.prompt, np.uint8)
                inside = [x for x in solutions(prompt, 200) if -20 <= x <= 20]
                best = min(inside, key=lambda x: (abs(x), -x))
                found[one.prompt + spelled(best).tobytes()] += probability * one.operands / kept
    return found


@pytest.mark.parametrize("split", ["train", "test"])
def test_probabilities_agree_with_enumeration_and_with_frequencies(split: str) -> None:
    expected = support(tiny(), split)
    stream = cg.Stream(tiny(), split, seed=17)
    rows = rows_of(list(expected))
    scores = stream.score(rows)
    assert scores.exact.all()
    np.testing.assert_allclose(np.exp(scores.log_prob), list(expected.values()), rtol=1e-9)
    assert math.fsum(expected.values()) == pytest.approx(1, abs=1e-9)
    np.testing.assert_array_equal(scores.prompt, scores.log_prob)  # a prompt determines its reference
    assert (scores.completion == 0).all()
    agree(stream, expected, 300_000)


def test_programs_that_the_stream_never_writes_have_probability_zero() -> None:
    stream, other = cg.Stream(tiny(), "train"), cg.Stream(tiny(), "test")
    programs, lengths = stream.batch(0, 200)
    scores = stream.score(programs)
    assert (other.log_prob(programs) == -np.inf).all()
    never = []
    for program, length in zip(programs, lengths, strict=True):
        names = [VOCABULARY[token] for token in program[program > 0]]
        never += [names[:-1], [*names[:-1], "neg", "end"], ["(", ")", *names], names[1:], [*names[:length], "end"]]
        never += [[*names[:2], "0", *names[2:]], ["dup" if name == "and" else name for name in names[:-1]]]
    rows = rows_of([cg.encode(" ".join(names)).tobytes() for names in never if names != []])
    assert (stream.log_prob(rows) == -np.inf).all()
    for program, length in zip(programs, lengths, strict=True):
        program[length:] = 0
        program[length : length + 4] = cg.encode("9 9 call end")
    wrong = stream.score(programs)
    np.testing.assert_array_equal(wrong.prompt, scores.prompt)  # a wrong answer does not change it
    assert (wrong.log_prob == -np.inf).all()


def test_estimated_shares_agree_with_exact_ones() -> None:
    for split in ("train", "test"):
        programs, _ = cg.Stream(tiny(), split, seed=3).batch(0, 200)
        exact, rough = (
            cg.Stream(tiny(), split).score(programs),
            cg.Stream(tiny(), split).score(programs, budget=0, samples=20_000),
        )
        assert exact.exact.all()
        assert not rough.exact.any()
        assert (np.abs(rough.log_prob - exact.log_prob) <= 5 * rough.error).all()


def test_a_prompt_alone_says_its_problem_and_its_program() -> None:
    spec = cg.load_spec(SOLVE)
    for split in SPLITS:
        stream = cg.Stream(spec, split, seed=2)
        programs, lengths = stream.batch(0, 20)
        keys = stream.keys([2] * 20, range(20)).tolist()
        for program, length, key in zip(programs, lengths, keys, strict=True):
            for text in (program[:length], program):
                problem = splits_of(spec, text)[split]
                assert (problem.key, problem.kept) == (key, True)
                (written,) = problem.programs
                np.testing.assert_array_equal(written, program[program > 0])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"answers": (5, 1)}, "answers = [5, 1]: give [lowest, highest] within -999999 to 999999"),
        ({"answers": (0, 1_000_000)}, "answers = [0, 1000000]"),
        ({"kinds": {}}, "kinds = {}: give at least one of equation, bound, interval, window"),
        ({"kinds": {"circle": 1}}, "kinds: unknown 'circle'"),
        ({"operations": {"4": 1}}, "operations: unknown '4'; give at least one of 1, 2, 3"),
        ({"operators": {"mod": 1}}, "operators: unknown 'mod'; give at least one of add, sub, mul, div, abs"),
        ({"operators": {"add": 0}}, "operators: add = 0"),
        ({"operators": dict.fromkeys(("add", "mul", "abs"), 1_000_000)}, "operators: the products of these weights"),
        ({"operators": {"add": 1}}, "operations: 2: kind 'equation' has no chain of that many operators among add"),
        ({"constants": {"abs": (1, 2)}}, "constants: unknown 'abs'; known are add, sub, mul, div, product, interval"),
        ({"constants": {"mul": (0, 9)}}, "constants: mul = [0, 9]: give [lowest, highest] within 1 to 999"),
        ({"constants": {"window": (4, 65)}}, "constants: window = [4, 65]: give [lowest, highest] within 4 to 64"),
        ({"constants": {"interval": (3, 9)}}, "constants: interval = [3, 9]"),
        ({"limit": 998}, "limit = 998: give at least 999, at most 9999999"),
        ({"answers": (0, 5000), "limit": 4000}, "limit = 4000: give at least 5000"),
        ({"held_out": ("mul ret",)}, "held_out: 'mul ret': give pairs"),
        ({"pool": "held"}, 'pool = "held": nothing is held out'),
        ({"pool": "shut"}, "pool = 'shut': known are open, held"),
        ({"operators": {"add": 1, "mul": 1}}, "kind 'bound' has no chain of that many operators among add, mul"),
        ({"held_out": ("mul sub",), "pool": "held"}, "operations: 1: kind 'equation' has no chain"),
    ],
)
def test_wrong_parameters_are_a_value_error(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        Parameters(**changes)


def test_a_wrong_spec_says_where() -> None:
    with pytest.raises(ValueError, match=r"form = 'value': forbids the answers of task 'solve'; give argument, free"):
        cg.load_spec(SOLVE, form="value")
    with pytest.raises(ValueError, match="the task has no hidden cases"):
        cg.load_spec(SOLVE, reward="hidden")
    with pytest.raises(ValueError, match="max_tokens = 5: the task's own completions take up to 8"):
        cg.load_spec(SOLVE, episode={"max_tokens": 5, "thought_tokens": 0})
