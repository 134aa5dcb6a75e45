"""Specs at their limits: few problems and extreme parameters."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from support.streams import (
    evaluate,
    spelled,
)

import cadmus_gym as cg
from cadmus_gym.streams.spec import Spec, Split


@pytest.mark.parametrize("count", [1, 5000])
def test_split_without_problems_is_an_error(count: int) -> None:
    spec = Spec(
        "None-v0",
        "arith",
        {"train": Split((0.0, 1e-9))},
        parameters={"operands": [0, 1], "operations": {"1": 1}},
    )
    with pytest.raises(
        ValueError, match=r"None-v0 \[splits\.train\]: none of 100000 attempts .* too few.* wider share"
    ):
        cg.Stream(spec).batch(0, count)


def test_split_may_have_one_problem() -> None:
    spec = Spec(
        "One-v0",
        "arith",
        {"all": Split()},
        parameters={"operands": [3, 3], "operators": {"sub": 1}, "operations": {"1": 1}},
    )
    programs, _ = cg.Stream(spec, "all").batch(0, 10)
    assert {cg.disassemble(program[program > 0]) for program in programs} == {"3 3 sub 0 eq end"}


EXTREMES: list[dict[str, Any]] = [
    {"operands": [-5, 0], "operators": {"mul": 1}, "operations": {"7": 1}, "limit": 390625},
    {"operands": [0, 0], "operators": {"mul": 1}, "limit": 0},
    {"operands": [-2147483647, 2147483647], "limit": 2147483647, "operations": {"7": 1}},
    {"operands": [2147483647, 2147483647], "limit": 2147483647, "operations": {"7": 1}},
    {"operands": [-2147483647, -2147483647], "limit": 2147483647, "operations": {"3": 1}},
    {"operands": [7, 7], "limit": 7, "operations": {"5": 1}},
]


@pytest.mark.parametrize("parameters", EXTREMES, ids=str)
def test_extreme_parameters_of_arith_give_true_programs_within_the_limit(parameters: dict[str, Any]) -> None:
    spec = Spec("Extreme-v0", "arith", {"all": Split()}, parameters=parameters)
    programs, lengths = cg.Stream(spec, "all").batch(0, 2000)
    assert not cg.run_batch(programs)[0].any()
    for prompt in spelled(programs, lengths):
        assert all(abs(result) <= parameters["limit"] for *_, result in evaluate(prompt)[2])


@pytest.mark.parametrize(
    "parameters",
    [
        {"lengths": {"1-9": 1}, "order": {"digit": 1, "tail": 1}, "equality": {"near": 1}},
        {"lengths": {"9": 1, "1-8": 1}},
        {"lengths": {"9": 1}, "pool": "reserved", "outer": 1.0},
        {"lengths": {"1": 1}, "order": {"digit": 1, "tail": 1}, "equality": {"tail": 1}, "ties": 1.0},
        {"lengths": {"1-2": 1}, "equality": {"near": 1}, "order": {"near": 1}, "outer": 0.0},
        {"lengths": {"1-2": 1, "3": 1}, "reserved": [2, 1], "reserved_from": 0, "pool": "reserved"},
    ],
    ids=str,
)
def test_extreme_parameters_of_compare_give_true_programs_of_their_pool(parameters: dict[str, Any]) -> None:
    spec = Spec("Extreme-v0", "compare", {"all": Split()}, parameters=parameters)
    all_parameters = spec.split_parameters("all")
    programs, prompt_lengths = cg.Stream(spec, "all").batch(0, 5000)
    assert not cg.run_batch(programs)[0].any()
    numbers = [re.findall(r"[0-9]+", prompt) for prompt in spelled(programs, prompt_lengths)]
    allowed = {n for least, most, _ in all_parameters.classes() for n in range(least, most + 1)}
    assert {len(number) for pair in numbers for number in pair} <= allowed
    assert max(allowed) == max(len(number) for pair in numbers for number in pair)
    modulus, rest = all_parameters.reserved
    values = np.array(numbers).astype(np.int64)
    reserved = (values >= all_parameters.reserved_from) & (values % modulus == rest)
    assert all_parameters.pool == "open" or reserved.any(axis=1).all()
