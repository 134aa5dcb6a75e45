"""Splits: no problem and no held-out fact of test is in train, and prompts follow their distribution."""

from __future__ import annotations

import dataclasses
import math
import re
from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support import symbolic
from support.streams import (
    COUNT,
    IDS,
    NAMES,
    SIGMAS,
    SPLITS,
    Lengths,
    Rows,
    close_to,
    evaluate,
    evenly,
    pair,
    spelled,
)

import cadmus_gym as cg
from cadmus_gym.language import isa as op
from cadmus_gym.language.isa import ID, VOCABULARY
from cadmus_gym.language.verdicts import RAN
from cadmus_gym.streams.problems import Reader
from cadmus_gym.streams.spec import Spec, Split
from cadmus_gym.streams.writing import attempts_of, fill, new_workspace, options_of, sieve_of
from cadmus_gym.tasks.sampling import RANDOM
from cadmus_gym.tasks.solving import SLACK

RELATIONS = ("eq", "ne", "lt", "le", "gt", "ge")


def distinct(rows: Rows, lengths: Lengths) -> tuple[Rows, Lengths]:
    """Return the distinct prompts of programs, padded with 0, and their lengths."""
    kept = rows[:, : int(lengths.max())] * (np.arange(int(lengths.max())) < lengths[:, None])
    kept = np.unique(kept, axis=0)
    return kept, (kept != 0).sum(axis=1).astype(np.int32)


def distinct_prompts(rows: Rows, lengths: Lengths) -> list[str]:
    return spelled(*distinct(rows, lengths))


def problems(rows: Rows, lengths: Lengths) -> set[Any]:
    """Return the problems of programs: pairs of numbers for comparisons, otherwise expressions."""
    found = set()
    for row, length in zip(*distinct(rows, lengths), strict=True):
        names = [VOCABULARY[token] for token in row[:length]]
        relation = names[-1] in RELATIONS and {*names[:-1]} <= {*VOCABULARY[op.ZERO : op.NINE + 1], ","}
        found.add(pair(cg.disassemble(row[:length])) if relation else symbolic.expression(names))
    return found


def literals(rows: Rows) -> NDArray[np.int64]:
    """Return the magnitudes of all literals anywhere in these programs."""
    found, value = [], np.full(len(rows), -1, np.int64)
    for column in [*rows.T, np.zeros(len(rows), np.uint8)]:
        digit = (column >= op.ZERO) & (column <= op.NINE)
        found.append(value[~digit & (value >= 0)])
        value = np.where(digit, np.maximum(value, 0) * 10 + column - op.ZERO, -1)
    return np.concatenate(found)


def everywhere(spec: Spec, **parameters: Any) -> Spec:
    """Return the spec with one split, "all", of all problems."""
    return dataclasses.replace(spec, splits={"all": Split()}, parameters=spec.parameters | parameters)


@pytest.fixture(scope="module")
def training_problems() -> set[Any]:
    """All problems in the training streams of all environments, from two seeds each."""
    found = set()
    for id in {cg.load_spec(id).digest_of("train"): id for id in IDS}.values():  # two of them are one stream
        found |= problems(*cg.Stream(id, "train").gather(np.repeat([0, 99], 5000), np.tile(np.arange(5000), 2)))
    return found


def test_equivalent_prompts_have_equal_keys() -> None:
    def key(text: str) -> Any:
        row = cg.assemble(text)
        found = evaluate(spelled(row[None], np.array([row.size], np.int32))[0])[0]
        assert found == symbolic.expression(cg.decode(row).split())
        return found

    assert key("12 7 add") == key("7 12 add") != key("12 7 mul")
    assert key("12 7 sub") != key("7 12 sub")
    assert key("1 2 mul 3 add") == key("3 2 1 mul add") != key("1 2 add 3 mul")
    assert key("1 2 sub 3 add") == key("3 1 2 sub add") != key("3 2 1 sub add")


@pytest.mark.parametrize("id", IDS)
def test_no_test_problem_is_in_any_training_stream(id: str, training_problems: set[Any]) -> None:
    held_out: set[Any] = set()
    for seed in (0, 5, 2**62):
        held_out |= problems(*cg.Stream(id, "test", seed=seed).batch(0, 1500))
    assert len(held_out) > 1000
    assert held_out & training_problems == set()


SMALLER: dict[str, dict[str, Any]] = {
    "Cadmus-Logic-v0": {"operands": [2, 4], "bits": {"1": 1}, "terms": {"1": 1}, "joined": {"0": 1}},
    "Cadmus-Function-v0": {"operands": [2, 9]},
    "Cadmus-Branch-v0": {"operands": [2, 9], "distance": 3, "blocks": {"1": 1}},
    "Cadmus-Stack-v0": {"operands": [2, 19]},
}


@pytest.mark.parametrize("id", IDS)
def test_other_seeds_repeat_training_problems_and_show_no_test_problem(id: str) -> None:
    spec = cg.load_spec(id, **SMALLER.get(id, {}))
    one, other, held_out = (
        problems(*cg.Stream(spec, split, seed=seed).batch(0, 8000))
        for split, seed in (("train", 7), ("train", 8), ("test", 7))
    )
    assert len(one & other) > 100
    assert len(held_out) > 100
    assert held_out & (one | other) == set()


def test_test_problems_stay_out_of_train_under_overrides(training_problems: set[Any]) -> None:
    changes: list[tuple[str, dict[str, Any]]] = [
        ("Cadmus-Arith-v0", {"thoughts": {"share": 0.0}}),
        ("Cadmus-Arith-v0", {"operators": {"add": 5, "mul": 1, "sub": 2}, "operations": {"1": 1}}),
        ("Cadmus-Compare-v0", {"ties": 0.2, "order": {"tail": 1}, "relations": {"lt": 1}}),
        ("Cadmus-Stack-v0", {"moves": {"2": 1}, "operands": [0, 40]}),
        ("Cadmus-Loop-v0", {"kinds": {"times": 1}, "items": {"1": 1}}),
    ]
    for id, change in changes:
        assert problems(*cg.Stream(cg.load_spec(id, **change), "test", seed=1).batch(0, 3000)).isdisjoint(
            training_problems
        )


def test_a_tenth_of_the_problems_is_test() -> None:
    """All 5050 sums and 10000 differences of two numbers below 100 are found, and the share of them is in test."""
    for operator, problems in (("add", 5050), ("sub", 10_000)):
        spec = cg.load_spec("Cadmus-Arith-v0", operators={operator: 1}, operations={"1": 1})
        kept = {
            split: {evaluate(prompt)[0] for prompt in distinct_prompts(*cg.Stream(spec, split).batch(0, count))}
            for split, count in (("train", 200_000), ("test", 40_000))
        }
        assert kept["train"] & kept["test"] == set()
        assert len(kept["train"]) + len(kept["test"]) == problems
        assert close_to(len(kept["test"]), problems, 0.1)


def in_support(task: str, train: Any, prompt: str) -> bool:
    """Whether the parameters of train allow a problem, whatever its hash."""
    if task == "compare":
        modulus, rest = train.reserved
        return all(
            value < 100_000 and not (value >= train.reserved_from and value % modulus == rest) for value in pair(prompt)
        )
    _, _, operations, operands, _ = evaluate(prompt)
    written = [NAMES[operator] for operator, *_ in operations]
    return (
        str(len(operations)) in train.operations
        and {*written} <= train.operators.keys()
        and not {" ".join(both) for both in pairwise(written)} & {*train.held_out}
        and all(train.operands[0] <= operand <= train.operands[1] for operand in operands)
        and all(abs(result) <= train.limit for *_, result in operations)
    )


@pytest.mark.parametrize(
    ("id", "split"), [case for case in SPLITS if cg.load_spec(case[0]).task in ("arith", "compare")]
)
def test_a_split_with_other_parameters_shows_what_training_cannot(id: str, split: str) -> None:
    spec = cg.load_spec(id)
    prompts = distinct_prompts(*cg.Stream(spec, split, seed=8).batch(0, 5000))
    train = spec.split_parameters("train")
    alike = spec.split_parameters(split) == train
    assert {in_support(spec.task, train, prompt) for prompt in prompts} == {alike}


def is_reserved(values: NDArray[np.int64]) -> NDArray[np.bool_]:
    parameters = cg.load_spec("Cadmus-Compare-v0").split_parameters("reserved")
    return (values >= parameters.reserved_from) & (values % parameters.reserved[0] == parameters.reserved[1])


@pytest.mark.parametrize("id", IDS)
def test_no_training_stream_shows_a_reserved_value(id: str) -> None:
    for seed in (0, 3):
        programs, _ = cg.Stream(id, "train", seed=seed).batch(0, 120_000)
        assert not is_reserved(literals(programs)).any()


@pytest.mark.parametrize("apart", ["facts", "problems"])
def test_only_splits_of_all_problems_show_reserved_values(apart: str) -> None:
    for split, shown in ((Split((0.0, 0.5)), False), (Split((0.5, 1.0)), False), (Split(), True)):
        spec = dataclasses.replace(cg.load_spec("Cadmus-Compare-v0"), splits={"some": split}, apart=apart)
        assert is_reserved(literals(cg.Stream(spec, "some").batch(0, COUNT)[0])).any() == shown, split


def test_training_shows_the_neighbours_of_reserved_values() -> None:
    values = literals(cg.Stream("Cadmus-Compare-v0", "train").batch(0, 120_000)[0])
    assert is_reserved(values + 1).sum() > 300
    assert is_reserved(values - 1).sum() > 300
    assert (values % 97 == 13).sum() > 300  # below those that are reserved


def test_the_reserved_split_compares_reserved_values_with_neighbours_in_one_digit() -> None:
    programs, lengths = cg.Stream("Cadmus-Compare-v0", "reserved").batch(0, COUNT)
    prompts = spelled(programs, lengths)
    numbers = np.array([re.findall(r"[0-9]+", prompt) for prompt in prompts])
    values = numbers.astype(np.int64)
    reserved, ties = is_reserved(values), values[:, 0] == values[:, 1]
    assert len(np.unique(values[reserved])) == is_reserved(np.arange(100_000)).sum()
    assert reserved[ties].all()
    assert (reserved[~ties].sum(axis=1) == 1).all()
    assert close_to(reserved[~ties, 0].sum(), (~ties).sum(), 0.5)
    for one, other in numbers[~ties]:
        assert sum(a != b for a, b in zip(one, other, strict=True)) == 1


@pytest.mark.parametrize("split", cg.load_spec("Cadmus-Compare-v0").splits)
def test_truth_is_a_fair_coin_for_each_relation(split: str) -> None:
    programs, lengths = cg.Stream("Cadmus-Compare-v0", split, seed=21).batch(0, 60_000)
    rows = np.arange(len(programs))
    relations, holds = programs[rows, lengths - 1], programs[rows, lengths] == op.END
    weights = cg.load_spec("Cadmus-Compare-v0").split_parameters(split).relations
    assert {VOCABULARY[relation] for relation in np.unique(relations)} == set(weights)
    for name, weight in weights.items():
        chosen = relations == ID[name]
        assert close_to(chosen.sum(), len(programs), weight / sum(weights.values())), name
        assert close_to(holds[chosen].sum(), chosen.sum(), 0.5), name


@pytest.mark.parametrize("split", cg.load_spec("Cadmus-Compare-v0").splits)
def test_the_larger_number_is_on_either_side(split: str) -> None:
    """For eq and ne the order is random; for the others it follows from the truth."""
    programs, lengths = cg.Stream("Cadmus-Compare-v0", split, seed=22).batch(0, 20_000)
    ascending = Counter()
    for prompt, relation in zip(spelled(programs, lengths), programs[np.arange(20_000), lengths - 1], strict=True):
        left, right = map(int, re.findall(r"[0-9]+", prompt))
        if left != right and VOCABULARY[relation] in ("eq", "ne"):
            ascending[left < right] += 1
    assert close_to(ascending[True], ascending.total(), 0.5)


def places_of(kind: str, digits: int, outer: float) -> dict[int, float]:
    """Return the probability of each place to be the first that differs."""
    if kind == "swap":
        return dict.fromkeys(range(1, digits - 2), 1 / (digits - 3))
    places = range(digits - (kind == "near"))  # a carry needs a digit after it
    if digits <= 2:
        return dict.fromkeys(places, 1 / len(places))
    ends = [place for place in places if place in (0, digits - 1)]
    inner = dict.fromkeys(range(1, digits - 1), (1 - outer) / (digits - 2))
    return inner | dict.fromkeys(ends, outer / len(ends))


def expected_strata(parameters: Any) -> dict[Any, float]:
    """Return the probabilities of a tie, of a first difference at each place, and of each pair of lengths.

    They are given for eq and ne and for the others, by class of numbers, named by its largest number of digits.
    """
    strata: Counter[Any] = Counter()
    classes = {int(name.split("-")[-1]): weight for name, weight in parameters.lengths.items()}
    counts = sorted({*classes, *range(1, 3)} if "1-2" in parameters.lengths else classes)
    relations = parameters.relations
    for alike, kinds in ((True, parameters.equality), (False, parameters.order)):
        group = sum(weight for name, weight in relations.items() if (name in ("eq", "ne")) == alike)
        share = group / sum(relations.values())
        ties = 0.5 if alike else 0.5 * parameters.ties * kinds["digit"] / sum(kinds.values())
        for digits, weight in classes.items():
            strata[alike, "tie", digits] += share * ties * weight / sum(classes.values())
        for kind, weight in kinds.items():
            able = {n: w for n, w in classes.items() if n >= {"swap": 4, "near": 2, "length": counts[1]}.get(kind, 1)}
            often = share * weight / sum(kinds.values())
            often *= 0.5 if alike else 1 - 0.5 * parameters.ties * (kind == "digit")
            for digits, class_weight in able.items():
                chance = often * class_weight / sum(able.values())
                shorter = [count for count in counts if count < digits]
                for place, part in places_of(kind, digits, parameters.outer).items() if kind != "length" else ():
                    strata[alike, digits, place] += chance * part
                for count in shorter if kind == "length" else ():
                    within = digits == 2 and "1-2" in parameters.lengths  # one number written with a 0 in front
                    strata[(alike, 2, 0) if within else (alike, "length", digits, count)] += chance / len(shorter)
    return strata


@pytest.mark.parametrize(
    ("split", "change"),
    [
        ("train", {}),
        ("test", {}),
        ("wide", {}),
        ("train", {"ties": 1.0, "outer": 0.5, "lengths": {"1-2": 1, "3": 1, "4": 1, "6": 2}, "relations": {"le": 1}}),
    ],
    ids=str,
)
def test_ties_first_differences_and_lengths_have_their_shares(split: str, change: dict[str, Any]) -> None:
    spec = cg.load_spec("Cadmus-Compare-v0", **change)
    parameters, count = spec.split_parameters(split), 100_000
    programs, lengths = cg.Stream(spec, split, seed=5).batch(0, count)
    class_of = {2: 2, 1: 2} if "1-2" in parameters.lengths else {}
    seen: Counter[Any] = Counter()
    for prompt, relation in zip(spelled(programs, lengths), programs[np.arange(count), lengths - 1], strict=True):
        low, high = sorted(re.findall(r"[0-9]+", prompt), key=int)
        alike, digits = VOCABULARY[relation] in ("eq", "ne"), class_of.get(len(high), len(high))
        if low == high:
            seen[alike, "tie", digits] += 1
        elif digits != class_of.get(len(low), len(low)):
            seen[alike, "length", digits, len(low)] += 1
        else:
            pairs = zip(low.zfill(digits), high.zfill(digits), strict=True)
            seen[alike, digits, next(place for place, (a, b) in enumerate(pairs) if a != b)] += 1
    expected = expected_strata(parameters)
    assert math.fsum(expected.values()) == pytest.approx(1)
    assert seen.keys() <= {stratum for stratum, share in expected.items() if share}
    often = [stratum for stratum, share in expected.items() if share * count >= 10]
    square = sum((seen[stratum] - expected[stratum] * count) ** 2 / (expected[stratum] * count) for stratum in often)
    assert len(often) > 20
    assert abs(square - len(often)) < SIGMAS * math.sqrt(2 * len(often))


KINDS: dict[str, Any] = {  # what tells that two numbers, the lower first, written with as many digits, are such a pair
    "digit": lambda low, high: sum(a != b for a, b in zip(low, high, strict=True)) == 1,
    "swap": lambda low, high: (
        sorted(low) == sorted(high)
        and sum(a != b for a, b in zip(low, high, strict=True)) == 2
        and (low[0], low[-1]) == (high[0], high[-1])
    ),
    "tail": lambda low, high: len(low.lstrip("0")) == len(high.lstrip("0")),
    "near": lambda low, high: int(high) - int(low) < 10 and low[-2] != high[-2],
    "length": lambda low, high: len(low.lstrip("0")) < len(high.lstrip("0")),
}


@pytest.mark.parametrize("kind", KINDS)
def test_pairs_match_their_kind(kind: str) -> None:
    lengths = {"4": 1, "7": 1} if kind != "length" else {"1-2": 1, "4": 1, "7": 1}
    spec = everywhere(cg.load_spec("Cadmus-Compare-v0"), order={kind: 1}, lengths=lengths, relations={"lt": 1}, ties=0)
    different = set()
    for prompt in spelled(*cg.Stream(spec, "all").batch(0, 3000)):
        low, high = sorted(re.findall(r"[0-9]+", prompt), key=int)
        different.add(
            (len(high), *(k for k, (a, b) in enumerate(zip(low.zfill(9), high.zfill(9), strict=True)) if a != b))
        )
        assert KINDS[kind](low.zfill(len(high)), high)
    assert {digits for digits, *_ in different} >= {4, 7}
    assert {place for _, *places in different for place in places} >= {*range(3, 8)}


@pytest.fixture(scope="module")
def expressions() -> list[tuple[Any, int, list[tuple[str, int, int, int]], list[int], str]]:
    """Expressions of one to three operations with uneven weights, from a split of all problems."""
    spec = everywhere(cg.load_spec("Cadmus-Arith-v0"), **UNEVEN)
    programs, lengths = cg.Stream(spec, "all").batch(0, 50_000)
    return [evaluate(prompt) for prompt in spelled(programs, lengths)]


UNEVEN: dict[str, Any] = {"operators": {"add": 3, "sub": 1, "mul": 4}, "operations": {"1": 2, "2": 1, "3": 3}}


def test_operands_are_uniform_at_every_place(expressions: Any) -> None:
    for size in (1, 2, 3):
        operands = np.array([found[3] for found in expressions if len(found[2]) == size])
        for column in operands.T:
            assert evenly(np.bincount(column, minlength=100))
            assert column.min() >= 0
            assert column.max() <= 99


def test_negative_operands_are_uniform() -> None:
    spec = everywhere(cg.load_spec("Cadmus-Arith-v0"), operands=[-7, 3], operations={"1": 1})
    programs, lengths = cg.Stream(spec, "all").batch(0, COUNT)
    operands = np.array([evaluate(prompt)[3] for prompt in spelled(programs, lengths)])
    for column in operands.T:
        assert evenly(np.bincount(column + 7, minlength=11))


def test_the_number_of_operations_follows_its_weights(expressions: Any) -> None:
    sizes = Counter(len(found[2]) for found in expressions)
    for size, weight in UNEVEN["operations"].items():
        assert close_to(sizes[int(size)], len(expressions), weight / 6)


def test_all_shapes_of_a_size_are_equally_likely(expressions: Any) -> None:
    shapes = Counter(found[4] for found in expressions)
    for size, ways in ((1, 1), (2, 2), (3, 5)):
        counts = [count for shape, count in shapes.items() if shape.count("o") == size]
        assert len(counts) == ways
        assert evenly(counts)


def test_each_operator_is_drawn_by_weight_among_those_within_the_limit(expressions: Any) -> None:
    weights = {"+": 3, "-": 1, "*": 4}
    for few in (False, True):
        seen, expected, variance = Counter(), Counter(), Counter()
        for _, _, operations, _, _ in expressions:
            for number, (operator, x, y, _) in enumerate(operations):
                results = {"+": x + y, "-": x - y, "*": x * y}
                if number > 0 and operations[number - 1][0] == "-":  # `sub mul` is held out
                    del results["*"]
                valid = {name: weights[name] for name, result in results.items() if abs(result) <= 9999}
                if (len(valid) < 3) != few:
                    continue
                seen[operator] += 1
                for name, weight in valid.items():
                    chance = weight / sum(valid.values())
                    expected[name] += chance
                    variance[name] += chance * (1 - chance)
        assert sum(seen.values()) > 1000
        for name in weights:
            assert abs(seen[name] - expected[name]) <= SIGMAS * math.sqrt(variance[name]) + 1e-6, (few, name)


@pytest.mark.parametrize(("id", "split"), [case for case in SPLITS if cg.load_spec(case[0]).task == "arith"])
def test_every_intermediate_value_is_within_the_limit(id: str, split: str) -> None:
    parameters = cg.load_spec(id).split_parameters(split)
    programs, lengths = cg.Stream(id, split, seed=31).batch(0, 10_000)
    for prompt in spelled(programs, lengths):
        _, _, operations, operands, _ = evaluate(prompt)
        assert all(abs(result) <= parameters.limit for *_, result in operations)
        assert all(parameters.operands[0] <= operand <= parameters.operands[1] for operand in operands)
        assert str(len(operations)) in parameters.operations


def steps(operations: list[tuple[str, int, int, int]], style: str) -> list[int]:
    """Return the numbers of a worked solution."""
    written = []
    for number, (operator, x, y, result) in enumerate(operations):
        if style == "products" and operator == "*" and min(abs(x), abs(y)) >= 10:
            long, short = (x, y) if len(str(abs(y))) <= len(str(abs(x))) else (y, x)
            sign = -1 if short < 0 else 1
            written += [sign * int(d) * 10**place * long for place, d in enumerate(reversed(str(abs(short))))]
        if number < len(operations) - 1:
            written.append(result)
    return written


def in_thought(values: list[int]) -> str:
    """Return literals in a thought, with `,` between digits of different literals."""
    texts = [f"{-value}n" if value < 0 else str(value) for value in values]
    text = "".join(text if k == 0 or texts[k - 1].endswith("n") else f",{text}" for k, text in enumerate(texts))
    return f"({text})" if values else ""


WORKED = {
    "as shipped": ("train", {}),
    "wide": ("wide", {}),
    "long": ("long", {}),
    "large": ("large", {}),
    "values": ("long", {"thoughts": {"style": "values"}}),
    "none": ("train", {"thoughts": {"style": "none"}}),
    "half": ("train", {"thoughts": {"share": 0.5}}),
    "never": ("train", {"thoughts": {"share": 0.0}}),
    "short": ("train", {"thoughts": {"limit": 10}}),
    "negative": ("train", {"operands": [-99, 99], "operations": {"2": 1}}),
}


@pytest.mark.parametrize("case", WORKED)
def test_worked_steps_are_right_and_have_the_requested_share(case: str) -> None:
    split, overrides = WORKED[case]
    spec = cg.load_spec("Cadmus-Arith-v0", **overrides)
    programs, lengths = cg.Stream(spec, split, seed=41).batch(0, 6000)
    written = possible = 0
    whole = (programs != 0).sum(axis=1).astype(np.int32)
    for text, prompt in zip(spelled(programs, whole), spelled(programs, lengths), strict=True):
        _, value, operations, _, _ = evaluate(prompt)
        thought = in_thought(steps(operations, spec.thoughts.style)) if spec.thoughts.style != "none" else ""
        if len(thought) > spec.thoughts.limit:
            thought = ""
        plain = f"{prompt}{-value}ne." if value < 0 else f"{prompt}{value}e."
        possible += thought != ""
        if text != plain:
            written += 1
            assert text == prompt + thought + plain[len(prompt) :]
    assert (possible > 1000) == (case != "none")
    if spec.thoughts.share in (0.0, 1.0):
        assert written == possible * spec.thoughts.share
    else:
        assert close_to(written, possible, spec.thoughts.share)


@pytest.mark.parametrize("limit", [3, 4, 16])
@pytest.mark.parametrize("split", ["train", "wide", "long", "large"])
def test_steps_longer_than_their_limit_stay_within_their_buffers(split: str, limit: int) -> None:
    """After a row comes another row, or memory that is not the stream's."""
    spec = cg.load_spec("Cadmus-Arith-v0", thoughts={"limit": limit})
    stream = cg.Stream(spec, split)
    base = np.uint64(int(stream.digest[:16], 16))
    guarded, thought = (np.full(size + 1000, 255, np.uint8) for size in (stream.length, limit + SLACK))
    for index in range(1500):
        missing = fill(
            spec.family.write(),
            spec.family.pack(spec.split_parameters(split)),
            options_of(spec),
            base,
            sieve_of(spec, split),
            np.zeros(1, np.int64),
            np.array([index], np.int64),
            attempts_of(spec, split),
            guarded[None, : stream.length],
            np.zeros(1, np.int32),
            np.zeros(1, np.uint64),
            new_workspace(spec, RANDOM, stream.length)._replace(thought=thought[: limit + SLACK]),
        )
        assert missing == (-1, RAN)
        assert (thought[limit + SLACK :] == 255).all(), index
        assert (guarded[stream.length :] == 255).all(), index


@pytest.mark.parametrize(("id", "split"), SPLITS)
def test_keys_agree_with_a_reader_of_the_prompts(id: str, split: str) -> None:
    stream, count = cg.Stream(id, split, seed=3), 200
    prompts, lengths = stream.prompts(np.full(count, 3), np.arange(count))
    readers = [Reader(spec, split) for spec in stream.specs]
    for key, row, length in zip(stream.keys(np.full(count, 3), np.arange(count)), prompts, lengths, strict=True):
        read = [problem for reader in readers if (problem := reader.read(row[:length])) is not None]
        assert int(key) in {problem.key for problem in read if problem.kept}
