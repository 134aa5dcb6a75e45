"""Induce: steps against the machine, functions apart, probabilities and posteriors against enumeration."""

from __future__ import annotations

import math
import random
from collections import defaultdict
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from support import naive
from support.probability import SIGMAS, agree, rows_of, support

import cadmus_gym as cg
from cadmus_gym.evaluation.posteriors import ceiling_of, optimal_decision, posterior_sampler
from cadmus_gym.streams.spec import Spec, Split
from cadmus_gym.tasks.synthesis import steps as chain
from cadmus_gym.tasks.synthesis.drawing import (
    LARGE,
    LIMIT,
    ONES,
    PROBES,
    STEPS,
    WORK_ROOM,
    is_problem,
    load_probes,
    run_rows,
    shown_probability,
)
from cadmus_gym.tasks.synthesis.hidden import STANDARD, probes_of, twin
from cadmus_gym.tasks.synthesis.induce import INDUCE, Parameters, pack, ranges_of
from cadmus_gym.tasks.synthesis.space import extend

ID = "Cadmus-Induce-v0"
SPLITS = list(cg.load_spec(ID).splits)
SMALL: dict[str, dict[str, Any]] = {
    "one input": {
        "inputs": [0, 15],
        "arity": {"1": 1},
        "steps": {"1": 1, "2": 2},
        "cases": {"1": 1},
        "kinds": {"add": 2, "mul": 1, "mod": 1, "neg": 1},
        "constants": {"add": [2, 3], "mul": [2, 3], "mod": [4, 6]},
    },
    "two inputs": {
        "inputs": [-7, 8],
        "arity": {"2": 1},
        "steps": {"1": 1},
        "cases": {"1": 1},
        "kinds": {"neg": 1},
        "merges": {"operator": 3, "swap sub": 1},
    },
    "blocks": {
        "inputs": [0, 15],
        "arity": {"1": 1},
        "steps": {"1": 1},
        "cases": {"1": 1},
        "kinds": {"parity": 1, "loop": 2},
        "constants": {"add": [2, 3], "sub": [2, 2], "mul": [2, 2], "div": [2, 2], "mod": [7, 7], "min": [9, 9]}
        | {"max": [5, 5]},
    },
    "given": {
        "inputs": [0, 15],
        "arity": {"1": 1},
        "steps": {"2": 1},
        "cases": {"1": 1},
        "given": {"0": 1, "50": 1, "any": 2},
        "kinds": {"add": 1, "neg": 1},
        "constants": {"add": [2, 3]},
    },
}


HALVES = {"train": Split((0.4, 1.0)), "test": Split((0.0, 0.4))}
WHOLE = {"all": Split()}


def small(name: str, splits: dict[str, Split] = HALVES, **parameters: Any) -> Spec:
    return Spec("Small-Induce-v0", "induce", splits, apart="problems", parameters=SMALL[name] | parameters)


def spelled(inputs: tuple[int, ...] | list[int]) -> list[str]:
    """Return the tokens that push some integers."""
    return cg.decode(cg.assemble(" ".join(map(str, inputs)))).split()


def outputs(body: list[str], probes: list[list[int]]) -> tuple[Any, ...]:
    """Return what a body leaves on probes, by the naive interpreter."""
    found = []
    for inputs in probes:
        outcome = naive.judge([*spelled(inputs), *([","] if body[0].isdecimal() else []), *body, "end"])
        found.append((outcome.verdict in ("TRUE", "FALSE"), tuple(outcome.stack)))
    return tuple(found)


def shown(id: str | Spec, split: str, count: int, seed: int = 0) -> list[tuple[list[str], list[str]]]:
    """Return headers and bodies of programs, as token names."""
    programs, _ = cg.Stream(id, split, seed).batch(0, count)
    texts = [cg.decode(program[program > 0]).split() for program in programs]
    return [(text[: text.index("do") + 1], text[text.index("do") + 1 : -1]) for text in texts]


def arity_of(header: list[str]) -> int:
    first = header[: header.index("to")]
    return 1 + first.count(",")


@pytest.mark.parametrize("kind", range(len(chain.KINDS)), ids=chain.KINDS)
def test_steps_compute_what_the_machine_does_and_are_read_back(kind: int) -> None:
    ranges, rng, program = ranges_of(Parameters()), random.Random(kind), np.zeros(64, np.uint8)
    merges = kind >= len(chain.CHAINED)
    cells = np.zeros((chain.COLUMNS, chain.ROOM), np.int64)
    cells[chain.X], cells[chain.Y] = np.random.default_rng(kind).integers(-9, 21, (2, chain.ROOM))
    for _ in range(60):
        number = rng.randrange(int(chain.count_of(ranges, kind)))
        program[:] = 0
        end = int(chain.put_step(ranges, kind, number, program, 0))
        read = chain.merge_at if merges else chain.step_at
        assert read(ranges, program, 0) == (kind, number, end)
        assert chain.run_step(ranges, kind, number, 0, cells.ravel(), chain.X, chain.FIRST, chain.ROOM, 2**40)
        for row in rng.sample(range(chain.ROOM), 4):
            inputs = cells[: 2 if merges else 1, row].tolist()
            body = cg.decode(program[:end]).split()
            parted = [*spelled(inputs), *([","] if body[0].isdecimal() else []), *body, "end"]
            assert naive.judge(parted).stack == [cells[chain.FIRST, row]], parted


@pytest.mark.parametrize("id", [ID, "Cadmus-Complete-v0"])
def test_no_function_of_a_held_out_split_is_in_a_training_stream(id: str) -> None:
    probes = {arity: probes_of(STANDARD, arity).tolist() for arity in (1, 2)}

    def functions(of: str, split: str, seeds: tuple[int, ...]) -> set[Any]:
        found = {}
        for seed in seeds:
            for header, body in shown(of, split, 400, seed):
                found[arity_of(header), tuple(body)] = None
        return {(arity, outputs(list(body), probes[arity])) for arity, body in found}

    train = functions(ID, "train", (0, 5)) | functions("Cadmus-Complete-v0", "train", (0,))
    for split in SPLITS[1:]:
        held_out = functions(id, split, (0, 9))
        assert len(held_out) > 30
        assert not held_out & train, split


@pytest.mark.parametrize("split", SPLITS)
def test_every_word_matters_and_values_stay_within_the_limit(split: str) -> None:
    parameters = cg.load_spec(ID).split_parameters(split)
    kept = 0
    for header, body in shown(ID, split, 60):
        arity = arity_of(header)
        probes = probes_of(parameters.inputs, arity).tolist()
        whole = outputs(body, probes)
        assert all(ran and len(stack) == 1 and abs(stack[0]) <= parameters.limit for ran, stack in whole)
        values = [stack[0] for _, stack in whole]
        assert len(set(values)) >= 4
        assert all(values != [inputs[k] for inputs in probes] for k in range(arity))
        assert max(values.count(value) for value in set(values)) <= len(values) / 2
        for first in range(len(body)):
            for last in range(first + 1, len(body) + 1):
                rest = body[:first] + body[last:]
                part = body[first:last]
                inside_literal = any(
                    0 < cut < len(body) and body[cut - 1].isdecimal() and body[cut].isdecimal() for cut in (first, last)
                )
                if rest and not inside_literal and part.count("if") == part.count("fi"):
                    kept += outputs(rest, probes) == whole
    assert kept == 0


def test_both_of_two_inputs_matter() -> None:
    grid = [[x, y] for x in range(-9, 21) for y in range(-9, 21)]
    for _, body in [one for one in shown(ID, "train", 400) if arity_of(one[0]) == 2][:60]:
        values = np.array([stack[0] for _, stack in outputs(body, grid)]).reshape(30, 30)
        assert (values != values[:1]).any()
        assert (values != values[:, :1]).any()


@pytest.mark.parametrize("split", SPLITS)
def test_cases_are_different_and_show_something(split: str) -> None:
    for header, _ in shown(ID, split, 300):
        cases = cg.disassemble(cg.encode(" ".join(header))).split(" do")[0].split("case ")[1:]
        pairs = [tuple(tuple(map(int, side.split())) for side in case.split("to")) for case in cases]
        assert len({inputs for inputs, _ in pairs}) == len(pairs)
        assert pairs[0][1][0] not in pairs[0][0]
        assert len({value for _, value in pairs[:3]}) == min(3, len(pairs))


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("split", ["train", "test"])
def test_probabilities_are_those_of_an_enumeration_and_programs_follow_them(name: str, split: str) -> None:
    spec = small(name)
    expected = support(spec, split)
    assert len(expected) > 20
    assert math.fsum(expected.values()) == pytest.approx(1, abs=1e-9)
    stream = cg.Stream(spec, split, seed=5)
    scores = stream.score(rows_of(list(expected)), samples=400_000)
    logs = np.log(list(expected.values()))
    assert np.abs(scores.log_prob - logs).max() < 1e-9
    assert scores.exact.all()
    assert np.isnan(scores.prompt).all()
    agree(stream, expected, 100_000)


def test_probabilities_of_blocks_are_estimates_with_errors_that_are_right() -> None:
    kinds = {"condition": 1, "add": 1}
    spec = small("one input", WHOLE, kinds=kinds, constants={"condition": [3, 12]}, steps={"1": 1})
    stream, parameters = cg.Stream(spec, "all"), pack(spec.split_parameters("all"))
    programs, _ = stream.batch(0, 60)
    scores = stream.score(programs, samples=200_000)
    assert 0 < scores.error.max() < 0.1
    ranges, work = ranges_of(spec.split_parameters("all")), np.zeros(WORK_ROOM, np.int64)
    sizes = {kind: int(chain.count_of(ranges, chain.KINDS.index(kind))) for kind in kinds}
    assert sizes["add"] < LARGE < sizes["condition"]
    steps, shares = np.zeros((sum(sizes.values()), 2), np.int64), np.zeros(sum(sizes.values()))
    count = extend(parameters, False, np.zeros(0, np.int64), 0, work, steps, shares)
    assert shares[:count].sum() == pytest.approx(1)
    whole = sum(
        share for step, share in zip(steps[:count], shares[:count], strict=True) if makes_problem(parameters, step)
    )
    for program, log_prob, error in zip(programs, scores.log_prob, scores.error, strict=True):
        kind, number, _ = chain.step_at(ranges, program, program.tolist().index(cg.VOCABULARY.index("do")) + 1)
        (row,) = np.flatnonzero((steps[:count] == (kind, number)).all(1))
        work[STEPS : STEPS + 2] = kind, number
        cases = np.array([[*inputs, *([0] * (2 - len(inputs))), *left] for inputs, left in cases_of(program)])
        shown_as = shown_probability(parameters, False, 1, cases, work)
        exact = math.log(shares[row]) - math.log(whole) + math.log(shown_as)
        assert abs(log_prob - exact) < SIGMAS * error


def makes_problem(parameters: Any, step: Any) -> bool:
    work = np.zeros(WORK_ROOM, np.int64)
    work[STEPS : STEPS + 2] = step
    load_probes(parameters, PROBES, False, work)
    run_rows(parameters, 1, parameters[ONES], parameters[LIMIT], work)
    return bool(is_problem(parameters, False, 1, work))


def cases_of(program: Any) -> list[tuple[list[int], list[int]]]:
    cases = cg.disassemble(program[program > 0]).split(" do")[0].split("case ")[1:]
    return [
        (list(map(int, case.split("to")[0].split())), list(map(int, case.split("to")[1].split()))) for case in cases
    ]


def test_posteriors_are_those_of_an_enumeration() -> None:
    kinds = {"add": 2, "mul": 1, "neg": 1}
    spec = small("one input", WHOLE, kinds=kinds, constants={"add": [2, 3], "mul": [2, 3]})
    expected = support(spec, "all")
    by_prompt: dict[bytes, dict[bytes, float]] = defaultdict(dict)
    for program, probability in expected.items():
        cut = program.index(cg.VOCABULARY.index("do")) + 1
        by_prompt[program[:cut]][program[cut:]] = probability
    stream, several = cg.Stream(spec, "all"), 0
    probes = [[x] for x in range(-9, 21)]
    for prompt, bodies in random.Random(0).sample(sorted(by_prompt.items()), 150):
        (found,) = stream.posterior(np.frombuffer(prompt, np.uint8))
        masses: dict[Any, float] = defaultdict(float)
        for body, probability in bodies.items():
            names = cg.decode(np.frombuffer(body[:-1], np.uint8)).split()
            masses[outputs(names, probes)] += probability / math.fsum(bodies.values())
        assert found.probabilities.sum() == pytest.approx(1)
        assert sorted(masses.values()) == pytest.approx(sorted(found.probabilities.tolist()), abs=1e-9)
        several += len(masses) > 1
        right = np.zeros(found.keys.size)
        for k, key in enumerate(found.keys.tolist()):
            own = found.bodies[k][found.bodies[k] > 0]
            program = np.concatenate([np.frombuffer(prompt, np.uint8), own])
            header = twin(program, own, key, (0, 15)).split(" do ")[0]
            for j, body in enumerate(found.bodies):
                right[j] += found.probabilities[k] * cg.run(f"{header} do {cg.disassemble(body[body > 0])}").true
        assert found.right == pytest.approx(right, abs=1e-9)
    assert several > 5


def test_ceilings_are_what_their_policies_reach() -> None:
    stream, count = cg.Stream(ID, "test"), 200
    ceiling = ceiling_of(ID, "test", count)
    assert 0.8 < ceiling.sampler < ceiling.optimal < 0.93
    assert 0.5 < ceiling.identified < 0.8
    for policy, rate in ((optimal_decision(stream), ceiling.optimal), (posterior_sampler(stream), ceiling.sampler)):
        found = cg.evaluate(policy, ID, "test", count)
        assert found.fit_rate == 1
        assert abs(found.truth_rate - rate) < SIGMAS * math.sqrt(rate * (1 - rate) / found.problems)
    assert ceiling_of(ID, "test", 50, held_out=True).optimal > ceiling.optimal


def test_a_posterior_is_refused_where_there_is_none() -> None:
    for id, split in ((ID, "longer"), (ID, "blocks")):
        stream = cg.Stream(id, split)
        with pytest.raises(ValueError, match="are too many to enumerate; allowed"):
            stream.posterior(*stream.prompts(np.zeros(1, np.int64), np.arange(1)))
    with pytest.raises(ValueError, match="has no posterior: it needs one task whose references can be enumerated"):
        cg.Stream("Cadmus-Arith-v0").posterior(cg.assemble("1 2 add"))
    stream = cg.Stream(ID)
    for prompt in ("do", "case to 3 do", "case 1 2 3 to 4 do", "case 1 to 2", "3 4 add"):
        with pytest.raises(ValueError, match="only a header of cases with one or two inputs and one output"):
            stream.posterior(cg.assemble(prompt))
    with pytest.raises(ValueError, match="no function of this split has these cases"):
        stream.posterior(cg.assemble("case 3 to 997 case 4 to -997 do"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inputs": (0, 9)}, "give at least 16 inputs"),
        ({"inputs": (9, 0)}, r"give \[lowest, highest\]"),
        ({"limit": 5}, "give at least the largest input"),
        ({"kinds": {}}, "give at least one of add, sub"),
        ({"kinds": {"compare": 1}}, "unknown 'compare'"),
        ({"merges": {"neg": 1}}, "unknown 'neg'"),
        ({"steps": {"4": 1}}, "steps: unknown '4'"),
        ({"cases": {"17": 1}}, "cases: unknown '17'"),
        ({"given": {"101": 1}}, "given: unknown '101'"),
        ({"given": {}}, "given = {}"),
        ({"constants": {"neg": (1, 2)}}, "constants: unknown 'neg'"),
        ({"constants": {"mod": (0, 3)}}, "constants: mod"),
        ({"arity": {"3": 1}}, "arity: unknown '3'"),
    ],
)
def test_mistakes_in_parameters_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Parameters(**changes)


def test_too_many_steps_of_a_kind_are_an_error() -> None:
    constants = dict.fromkeys(("add", "sub", "mul", "div", "mod", "min", "max", "condition"), (1, 999))
    with pytest.raises(ValueError, match="more than 2\\*\\*32 steps of one kind"):
        cg.Stream(cg.load_spec(ID, kinds={"condition": 1}, constants=constants, episode={"body_tokens": {}}))


def test_a_split_without_functions_is_an_error() -> None:
    changes = {"kinds": {"mod": 1}, "constants": {"mod": [900, 950]}, "arity": {"1": 1}}
    spec = cg.load_spec(ID, **changes, episode={"body_tokens": {}})
    with pytest.raises(ValueError, match="gave a problem of this split"):
        cg.Stream(spec, "train")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"words": ["add", "1"]}, "references use 0, 2, 3"),
        ({"reward": "cases"}, "a constant would pass some of the cases"),
        ({"form": "value"}, "forbids the answers of task 'induce'; give words, free"),
        ({"thoughts": {"share": 1.0, "style": "values"}}, "known are none, stages, check for task 'induce'"),
        ({"episode": {"body_tokens": {"4": 5}}}, "too few; references have up to"),
        ({"episode": {"body_tokens": {"17": 50}}}, "for a number of cases from 0 to 16"),
    ],
)
def test_mistakes_in_a_spec_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cg.load_spec(ID, **changes)
    with pytest.raises(ValueError, match="reward = 'hidden': the task has no hidden cases"):
        cg.load_spec("Cadmus-Arith-v0", reward="hidden")


def test_a_family_that_writes_needs_words_and_a_room() -> None:
    for changes, message in (
        ({"words": None}, "words go with form = 'words'"),
        ({"answer": None}, "give answer, the room of a reference"),
        ({"needs": ("no turn",)}, "ablations are of prompts that leave a value"),
        ({"form": "value", "words": None}, "hidden cases go with form = 'words'"),
        ({"form": "program"}, "known are value, relation, words, argument"),
    ):
        with pytest.raises(ValueError, match=message):
            replace(INDUCE, **changes)
