"""No training program executes a held-out fact, and every test problem has one."""

from __future__ import annotations

import functools
import itertools
import random
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from support import naive, symbolic
from support.specs import VALUES

import cadmus_gym as cg
from cadmus_gym.language.isa import ID, VOCABULARY
from cadmus_gym.language.memory import scratch
from cadmus_gym.language.verdicts import RAN
from cadmus_gym.streams.problems import Reader
from cadmus_gym.streams.spec import Split
from cadmus_gym.tasks import TASKS, Choices, Family
from cadmus_gym.tasks.facts import held_out, mirrors_held_out
from cadmus_gym.tasks.family import HELD, MARKS, WORK
from cadmus_gym.tasks.solving import identify

IDS = [id for id in VALUES if not cg.load_spec(id).mixture]
RELATIONS = ("eq", "ne", "lt", "le", "gt", "ge", "min", "max")
Operation = symbolic.Operation


def plain_fact(operation: Operation) -> Any:
    """Return the fact of a binary operation, by its definition; None if it is not a fact."""
    name, *values = operation
    if len(values) < 2 or min(map(abs, values)) < 2:
        return None
    x, y = values
    if name in ("and", "or", "xor"):
        return name, *sorted((x, y))
    if name in ("div", "mod"):
        return "quotient", abs(x), abs(y)
    if name == "mul":
        return "product", *sorted((abs(x), abs(y)))
    if name in ("sub", *RELATIONS):
        y = -y
    return "sum" if (x < 0) == (y < 0) else "difference", *sorted((abs(x), abs(y)))


def is_held_out(operation: Operation, mirrored: bool = False) -> bool:
    name, *values = operation
    return len(values) == 2 and (mirrors_held_out if mirrored else held_out)(ID[name], *values)


def prompt_names(row: Any, length: int) -> list[str]:
    return [VOCABULARY[token] for token in row[:length]]


def literals(names: list[str]) -> list[int]:
    words = "".join(name if name.isdecimal() else f" {name} " for name in names)
    return [int(word) for word in words.split() if word.isdecimal()]


@functools.cache
def prompts_of(id: str, split: str, count: int = 1500) -> list[list[str]]:
    rows, lengths = cg.Stream(id, split, seed=0).prompts(np.zeros(count, np.int64), np.arange(count))
    return [prompt_names(row, length) for row, length in zip(rows, lengths, strict=True)]


def test_facts_that_give_each_other_away_are_held_out_together() -> None:
    rng = random.Random(0)
    operations = [name for name in symbolic.COMPUTES if naive.EFFECTS[name][0] == 2]
    found: dict[Any, bool] = {}
    for name in operations:
        for x, y in itertools.chain(
            itertools.product(range(-12, 13), repeat=2),
            ((rng.randint(-999, 999), rng.randint(-99, 99)) for _ in range(300)),
        ):
            fact, mirrors = plain_fact((name, x, y)), mirrors_held_out(ID[name], x, y)
            assert held_out(ID[name], x, y) == (mirrors and min(x, y) >= 2)
            if fact is None:
                assert not mirrors
            else:
                assert found.setdefault(fact, mirrors) == mirrors, (name, x, y)


@pytest.mark.parametrize("name", ["add", "sub", "mul", "div", "xor", "and", "or"])
def test_a_tenth_of_all_facts_is_held_out(name: str) -> None:
    pairs = list(itertools.combinations(range(2, 100), 2))
    share = sum(held_out(ID[name], x, y) for x, y in pairs) / len(pairs)
    assert abs(share - 0.1) < 5 * (0.09 / len(pairs)) ** 0.5


def test_known_facts() -> None:
    """The hash never changes: these are held out in every version."""
    assert [x for x in range(2, 40) if held_out(ID["mul"], 28, x)] == [4, 6, 11, 25, 27, 28, 38]


@pytest.mark.parametrize("id", IDS)
def test_train_executes_no_held_out_fact_and_every_test_problem_has_one(id: str) -> None:
    shown = {plain_fact(o) for names in prompts_of(id, "train") for o in symbolic.executed(names)} - {None}
    for names in prompts_of(id, "train"):
        assert not any(is_held_out(operation, mirrored=True) for operation in symbolic.executed(names)), names
    for names in prompts_of(id, "test"):
        held = [operation for operation in symbolic.in_expression(names) if is_held_out(operation)]
        assert held, names
        assert shown.isdisjoint(map(plain_fact, held)), names


@pytest.mark.parametrize("id", IDS)
def test_facts_decide_the_split_of_every_prompt(id: str) -> None:
    """Out-of-distribution splits have both kinds; exactly one of train and test keeps each of their problems."""
    spec = cg.load_spec(id)
    readers = {split: Reader(spec, split) for split in ("train", "test")}
    everything = cg.Stream(replace(spec, splits={"all": Split()}), "all", seed=1)
    rows, lengths = everything.prompts(np.ones(1500, np.int64), np.arange(1500))
    sides = {"train": 0, "test": 0, "neither": 0}
    for row, length in zip(rows, lengths, strict=True):
        names = prompt_names(row, length)
        read = {split: reader.read(row[:length]) for split, reader in readers.items()}
        kept = {split for split, problem in read.items() if problem is not None and problem.kept}
        held = any(map(is_held_out, symbolic.in_expression(names)))
        shown = any(is_held_out(operation, mirrored=True) for operation in symbolic.executed(names))
        reserved = id == "Cadmus-Compare-v0" and any(value % 97 == 13 and value >= 10_000 for value in literals(names))
        expected = "neither" if reserved else "test" if held else "neither" if shown else "train"
        assert kept == {expected} - {"neither"}, names
        sides[expected] += 1
    assert sides["train"] > 100
    assert sides["test"] > 100


def held_in(prompt: str) -> int:
    tokens = cg.assemble(prompt)
    program, marks = np.append(tokens, np.zeros(1, np.uint8)), np.zeros(MARKS, np.int64)
    outcome, _, _ = identify(program, tokens.size, marks, np.zeros(WORK, np.int64), scratch(program.size))
    assert outcome == RAN
    return int(marks[HELD])


def test_every_occurrence_of_a_held_out_fact_counts() -> None:
    x, y = next((x, y) for x in range(2, 99) for y in range(2, x) if held_out(ID["mul"], x, y))
    assert held_in(f"{x} {y} mul") == 1
    assert held_in(f"{y} {x} mul dup inc add") == 2
    assert held_in(f"{x} {y} mul a! {x} {y} mul b! a@ 1 mul") == 1
    assert held_in(f"{x} {y} mul drop 7") == 0
    assert held_in(f"-{x} {y} mul") == 0


@dataclass(frozen=True)
class Nothing:
    """No parameters."""


def moves(parameters: Nothing, choices: Choices) -> str:
    """A prompt without operations, or with one that is not a fact."""
    x, y = choices.integer(0, 99), choices.integer(0, 99)
    return f"{x} {y} {choices.pick(['drop', 'swap drop'])}" if choices.integer(0, 1) else f"{min(x, 1)} {y} add"


@pytest.mark.parametrize("apart", ["facts", "problems"])
def test_the_key_decides_without_operations_and_train_gets_problems_without_facts(
    apart: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TASKS, "moves", Family("moves", 1, Nothing, "value", lambda _: 8, compose=moves))
    splits = {"train": {"share": [0.1, 1.0]}, "test": {"share": [0.0, 0.1]}}
    spec = cg.load_spec({"id": "Moves-v0", "task": "moves", "apart": apart, "splits": splits})
    for split in splits:
        stream = cg.Stream(spec, split)
        rows, lengths = stream.prompts(np.zeros(200, np.int64), np.arange(200))
        keys = stream.keys(np.zeros(200, np.int64), np.arange(200))
        operated = np.array(["add" in prompt_names(*prompt) for prompt in zip(rows, lengths, strict=True)])
        by_key = np.where(keys < np.uint64(2**64 // 10), "test", "train")
        if apart == "facts":
            assert (by_key[~operated] == split).all()
            assert operated.any() == (split == "train")
            assert split == "test" or (by_key[operated] == "test").any()
        else:
            assert (by_key == split).all()
            assert operated.any()


def test_a_split_with_too_few_facts_is_an_error_with_advice() -> None:
    with pytest.raises(ValueError, match=r"\[splits.test\]: none of .* apart = 'problems'"):
        cg.Stream(cg.load_spec("Cadmus-Arith-v0", operands=[0, 1]), "test")
    cg.Stream(cg.load_spec("Cadmus-Arith-v0", operands=[0, 1], operations={"4": 1}, apart="problems"), "test")


def test_narrower_shares_divide_held_out_problems_and_others() -> None:
    """The parts share no problem and have held-out problems or others, as their shares say."""
    splits = {"a": (0.0, 0.05), "b": (0.05, 0.1), "c": (0.1, 0.5), "d": (0.5, 1.0)}
    spec = replace(cg.load_spec("Cadmus-Arith-v0"), splits={name: Split(share) for name, share in splits.items()})
    keys: dict[str, set[int]] = {}
    for split in splits:
        stream = cg.Stream(spec, split)
        keys[split] = set(stream.keys(np.zeros(3000, np.int64), np.arange(3000)).tolist())
        rows, lengths = stream.prompts(np.zeros(300, np.int64), np.arange(300))
        for row, length in zip(rows, lengths, strict=True):
            held = any(map(is_held_out, symbolic.in_expression(prompt_names(row, length))))
            assert held == (split in ("a", "b"))
    for one, other in itertools.combinations(keys.values(), 2):
        assert one.isdisjoint(other)
