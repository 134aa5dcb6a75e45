"""Streams: true programs, splits apart, distributions as the specs say, the same programs however asked for."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support import naive, symbolic

import cadmus_gym as cg
from cadmus_gym.language import forms, hashing
from cadmus_gym.language import isa as op
from cadmus_gym.language.forms import Automata, reverse_digits
from cadmus_gym.language.isa import ID, VOCABULARY
from cadmus_gym.language.memory import scratch
from cadmus_gym.language.verdicts import RAN
from cadmus_gym.streams.probability import Scorer
from cadmus_gym.streams.spec import Spec, Split
from cadmus_gym.streams.writing import attempts_of, fill, options_of, sieve_of
from cadmus_gym.tasks import sampling
from cadmus_gym.tasks.family import MARKS, WORK
from cadmus_gym.tasks.sampling import RANDOM
from cadmus_gym.tasks.solving import SLACK

ROOT = Path(cg.__file__).parents[1]
IDS = list(cg.SPECS)
NAMES = {"+": "add", "-": "sub", "*": "mul"}
RELATIONS = ("eq", "ne", "lt", "le", "gt", "ge")
SPLITS = [(id, split) for id in IDS for split in cg.load_spec(id).splits]
COUNT = 20_000
SIGMAS = 5.0

Rows = NDArray[np.uint8]
Lengths = NDArray[np.int32]

# Reading programs, by the test's own means.

_LETTERS = bytes(
    ord({",": ",", "neg": "n", "add": "+", "sub": "-", "mul": "*", "(": "(", ")": ")", "end": "."}.get(name, name[0]))
    for name in VOCABULARY
)


def spelled(rows: Rows, lengths: Lengths) -> list[str]:
    """The first tokens of each row of arith with one letter a token: digits, `,` n + - * ( ), e for `eq`, `.` for
    `end`."""
    letters = np.frombuffer(_LETTERS, np.uint8)[rows]
    return [row[:length].tobytes().decode() for row, length in zip(letters, lengths.tolist(), strict=True)]


def distinct(rows: Rows, lengths: Lengths) -> tuple[Rows, Lengths]:
    """The distinct prompts of some programs, padded with 0, and their lengths."""
    kept = rows[:, : int(lengths.max())] * (np.arange(int(lengths.max())) < lengths[:, None])
    kept = np.unique(kept, axis=0)
    return kept, (kept != 0).sum(axis=1).astype(np.int32)


def distinct_prompts(rows: Rows, lengths: Lengths) -> list[str]:
    return spelled(*distinct(rows, lengths))


def evaluate(prompt: str) -> tuple[Any, int, list[tuple[str, int, int, int]], list[int], str]:
    """Return the problem's key, the value, the operations (operator, x, y, result), the operands, the shape."""
    stack: list[tuple[Any, int]] = []
    operations, operands, shape = [], [], ""
    for digits, sign, operator in re.findall(r"([0-9]+)(n?)|([-+*])", prompt):
        if digits:
            value = -int(digits) if sign else int(digits)
            stack.append((value, value))
            operands.append(value)
            shape += "x"
            continue
        (right, y), (left, x) = stack.pop(), stack.pop()
        result = x + y if operator == "+" else x - y if operator == "-" else x * y
        if operator != "-":
            left, right = sorted((left, right), key=repr)
        stack.append(((NAMES[operator], left, right), result))
        operations.append((operator, x, y, result))
        shape += "o"
    ((key, value),) = stack
    return key, value, operations, operands, shape


def pair(prompt: str) -> tuple[int, int]:
    """The problem of two numbers to be compared: which they are, in any order."""
    one, other = re.findall(r"[0-9]+", prompt)
    return min(int(one), int(other)), max(int(one), int(other))


def problems(rows: Rows, lengths: Lengths) -> set[Any]:
    """The problems of some programs: of two numbers in a relation which they are, else the expression computed."""
    found = set()
    for row, length in zip(*distinct(rows, lengths), strict=True):
        names = [VOCABULARY[token] for token in row[:length]]
        relation = names[-1] in RELATIONS and {*names[:-1]} <= {*VOCABULARY[op.ZERO : op.NINE + 1], ","}
        found.add(pair(cg.disassemble(row[:length])) if relation else symbolic.expression(names))
    return found


def literals(rows: Rows) -> NDArray[np.int64]:
    """The magnitudes of all literals anywhere in these programs."""
    found, value = [], np.full(len(rows), -1, np.int64)
    for column in [*rows.T, np.zeros(len(rows), np.uint8)]:
        digit = (column >= op.ZERO) & (column <= op.NINE)
        found.append(value[~digit & (value >= 0)])
        value = np.where(digit, np.maximum(value, 0) * 10 + column - op.ZERO, -1)
    return np.concatenate(found)


def everywhere(spec: Spec, **parameters: Any) -> Spec:
    """The spec with one split, "all", that holds every problem."""
    return dataclasses.replace(spec, splits={"all": Split()}, parameters=spec.parameters | parameters)


def close_to(seen: float, count: float, chance: float) -> bool:
    """Whether ``seen`` of ``count`` is what a chance gives, within some standard deviations."""
    return abs(seen - count * chance) <= SIGMAS * math.sqrt(count * chance * (1 - chance)) + 1


def evenly(counts: NDArray[np.int64] | list[int]) -> bool:
    """Whether counts are those of a uniform distribution, by their chi-square."""
    seen = np.asarray(counts, float)
    expected = seen.sum() / seen.size
    return float(((seen - expected) ** 2 / expected).sum()) <= seen.size + SIGMAS * math.sqrt(2 * seen.size)


# Truth and shape.


@pytest.mark.parametrize(("id", "split"), SPLITS)
def test_every_program_is_true(id: str, split: str) -> None:
    programs, _ = cg.Stream(id, split, seed=1).batch(0, COUNT)
    verdicts, passed = cg.run_batch(programs)
    assert Counter(verdicts.tolist()) == {cg.Verdict.TRUE: COUNT}
    assert (passed >= 1).all()


@pytest.mark.parametrize(("id", "split"), SPLITS)
def test_the_naive_interpreter_finds_them_true_too(id: str, split: str) -> None:
    programs, _ = cg.Stream(id, split, seed=2).batch(0, 300)
    verdicts = [naive.judge([VOCABULARY[token] for token in program if token]).verdict for program in programs]
    assert Counter(verdicts) == {"TRUE": 300}


@pytest.mark.parametrize(("id", "split"), SPLITS)
def test_a_program_is_a_prompt_a_completion_one_end_and_padding(id: str, split: str) -> None:
    stream = cg.Stream(id, split, seed=3)
    programs, lengths = stream.batch(0, COUNT)
    assert (programs.dtype, lengths.dtype) == (np.uint8, np.int32)
    assert programs.shape == (COUNT, stream.length)
    ends = programs == op.END
    assert (ends.sum(axis=1) == 1).all()
    stop = ends.argmax(axis=1)
    behind = np.arange(stream.length) > stop[:, None]
    assert ((programs == 0) == behind).all()
    assert ((lengths > 0) & (lengths <= stop)).all()
    assert lengths.max() <= stream.prompt_room


@pytest.mark.parametrize(("id", "split"), SPLITS)
def test_a_prompt_never_ends_inside_a_literal(id: str, split: str) -> None:
    programs, lengths = cg.Stream(id, split, seed=4).batch(0, COUNT)
    rows = np.arange(COUNT)
    last, first = programs[rows, lengths - 1], programs[rows, lengths]
    inside = (last >= op.ZERO) & (last <= op.NINE)
    goes_on = ((first >= op.ZERO) & (first <= op.NINE)) | (first == ID["neg"])
    assert not (inside & goes_on).any()


@pytest.mark.parametrize("endian", forms.ENDIANS)
@pytest.mark.parametrize(("id", "split"), SPLITS)
def test_every_completion_is_of_the_form_and_within_the_budget(id: str, split: str, endian: str) -> None:
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
    """The test of truth can fail: another digit in an answer, or `not` put in or taken out, makes a program false."""
    programs, lengths = cg.Stream(id, "train", seed=6).batch(0, 500)
    for program, length in zip(programs, lengths.tolist(), strict=True):
        names = [VOCABULARY[token] for token in program if token]
        if "eq" in names[length:]:
            digit = len(names) - 3 - (names[-3] == "neg")
            names[digit] = str((int(names[digit]) + 1) % 10)
        else:
            names[length:] = ["end"] if "not" in names[length:] else ["not", "end"]
        assert cg.run(cg.encode(" ".join(names))).verdict == cg.Verdict.FALSE, names


# A pure function of (digest, split, seed, index).


@pytest.mark.parametrize(("id", "split"), SPLITS)
def test_ranges_chunks_gathers_and_threads_give_the_same(id: str, split: str) -> None:
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
def test_a_gather_takes_any_seeds_in_any_order(id: str) -> None:
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


def test_another_process_gives_the_same() -> None:
    code = "import json, test_stream; print(json.dumps(test_stream.fingerprints()))"
    folders = [str(ROOT), *map(str, Path(__file__).parents[:2])]
    path = f"import sys; sys.path[:0] = {folders}; "
    done = subprocess.run([sys.executable, "-c", path + code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == fingerprints()


@pytest.mark.parametrize(("id", "split"), SPLITS)
def test_neighbouring_seeds_and_indices_share_nothing_beyond_chance(id: str, split: str) -> None:
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


def test_prompts_alone_hold_nothing_else() -> None:
    stream = cg.Stream("Cadmus-Arith-v0")
    (prompts, lengths), (programs, same) = stream.prompts(np.zeros(200, int), np.arange(200)), stream.batch(0, 200)
    assert np.array_equal(lengths, same)
    inside = np.arange(stream.prompt_room) < lengths[:, None]
    assert np.array_equal(prompts, programs[:, : stream.prompt_room] * inside)


def test_the_last_program_has_the_number_before_2_to_the_63() -> None:
    stream = cg.Stream("Cadmus-Arith-v0")
    assert np.array_equal(stream.batch(2**63 - 1, 1)[0], stream.gather([0], [2**63 - 1])[0])


def test_no_threads_are_a_value_error() -> None:
    with pytest.raises(ValueError, match="threads"):
        cg.Stream("Cadmus-Arith-v0").batch(0, 1, threads=0)


def test_nothing_asked_for_is_nothing_given() -> None:
    stream = cg.Stream("Cadmus-Arith-v0")
    for programs, lengths in (stream.batch(0, 0), stream.gather([], [])):
        assert (programs.shape, lengths.shape) == ((0, stream.length), (0,))


# Splits are apart.


@pytest.fixture(scope="module")
def training_problems() -> set[Any]:
    """What the training streams of all environments show together, each from two seeds."""
    found = set()
    for id in IDS:
        found |= problems(*cg.Stream(id, "train").gather(np.repeat([0, 99], 5000), np.tile(np.arange(5000), 2)))
    return found


def test_the_key_of_the_test_sees_twins() -> None:
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
def test_training_problems_come_up_again_and_test_problems_do_not(id: str) -> None:
    spec = cg.load_spec(id, **SMALLER.get(id, {}))
    one, other, held_out = (
        problems(*cg.Stream(spec, split, seed=seed).batch(0, 8000))
        for split, seed in (("train", 7), ("train", 8), ("test", 7))
    )
    assert len(one & other) > 100
    assert len(held_out) > 100
    assert held_out & (one | other) == set()


def test_what_is_test_stays_test_whatever_else_changes(training_problems: set[Any]) -> None:
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
    """Of the 5050 sums and 10000 differences of two numbers below 100, all found, as many as the share says."""
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
    """Whether the parameters of training allow a problem, its hash aside."""
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


def test_the_reserved_split_asks_of_reserved_values_and_their_neighbours_in_one_digit() -> None:
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


# compare


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
def test_the_larger_number_stands_on_either_side(split: str) -> None:
    """For eq and ne order tells nothing; for the others it follows from the truth."""
    programs, lengths = cg.Stream("Cadmus-Compare-v0", split, seed=22).batch(0, 20_000)
    ascending = Counter()
    for prompt, relation in zip(spelled(programs, lengths), programs[np.arange(20_000), lengths - 1], strict=True):
        left, right = map(int, re.findall(r"[0-9]+", prompt))
        if left != right and VOCABULARY[relation] in ("eq", "ne"):
            ascending[left < right] += 1
    assert close_to(ascending[True], ascending.total(), 0.5)


def places_of(kind: str, digits: int, outer: float) -> dict[int, float]:
    """How likely each place is to be the first that differs."""
    if kind == "swap":
        return dict.fromkeys(range(1, digits - 2), 1 / (digits - 3))
    places = range(digits - (kind == "near"))  # a carry needs a digit after it
    if digits <= 2:
        return dict.fromkeys(places, 1 / len(places))
    ends = [place for place in places if place in (0, digits - 1)]
    inner = dict.fromkeys(range(1, digits - 1), (1 - outer) / (digits - 2))
    return inner | dict.fromkeys(ends, outer / len(ends))


def expected_strata(parameters: Any) -> dict[Any, float]:
    """How likely are a tie, a first difference at each place, and each pair of lengths, for eq and ne and the others;
    for numbers of each class, whose longest have that many digits."""
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
def test_pairs_are_of_their_kind(kind: str) -> None:
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


# arith


@pytest.fixture(scope="module")
def expressions() -> list[tuple[Any, int, list[tuple[str, int, int, int]], list[int], str]]:
    """Expressions of one to three operations with uneven weights, all problems."""
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


def test_the_number_of_operations_goes_by_weight(expressions: Any) -> None:
    sizes = Counter(len(found[2]) for found in expressions)
    for size, weight in UNEVEN["operations"].items():
        assert close_to(sizes[int(size)], len(expressions), weight / 6)


def test_every_shape_of_a_size_is_as_likely(expressions: Any) -> None:
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
def test_every_value_on_the_way_is_within_the_limit(id: str, split: str) -> None:
    parameters = cg.load_spec(id).split_parameters(split)
    programs, lengths = cg.Stream(id, split, seed=31).batch(0, 10_000)
    for prompt in spelled(programs, lengths):
        _, _, operations, operands, _ = evaluate(prompt)
        assert all(abs(result) <= parameters.limit for *_, result in operations)
        assert all(parameters.operands[0] <= operand <= parameters.operands[1] for operand in operands)
        assert str(len(operations)) in parameters.operations


def steps(operations: list[tuple[str, int, int, int]], style: str) -> list[int]:
    """What a worked solution writes down."""
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
    """Literals in a thought, with `,` where digits would run together."""
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
def test_worked_steps_are_right_and_as_many_as_asked_for(case: str) -> None:
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
def test_steps_too_long_for_their_limit_write_nowhere_else(split: str, limit: int) -> None:
    """Behind a row stands another, or memory that is not the stream's."""
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
            thought[: limit + SLACK],
            np.zeros(2, np.uint64),
            sampling.new_script(RANDOM),
            np.zeros(MARKS, np.int64),
            np.zeros(WORK, np.int64),
            scratch(stream.length),
        )
        assert missing == (-1, RAN)
        assert (thought[limit + SLACK :] == 255).all(), index
        assert (guarded[stream.length :] == 255).all(), index


@pytest.mark.parametrize(("id", "split"), SPLITS)
def test_keys_are_those_that_a_scorer_reads_from_the_prompts(id: str, split: str) -> None:
    stream, count = cg.Stream(id, split, seed=3), 200
    prompts, lengths = stream.prompts(np.full(count, 3), np.arange(count))
    scorers = [Scorer(spec, split, 0, 1) for spec in stream.specs]
    for key, row, length in zip(stream.keys(np.full(count, 3), np.arange(count)), prompts, lengths, strict=True):
        read = [problem for scorer in scorers if (problem := scorer.read(row[:length])) is not None]
        assert int(key) in {problem.key for problem in read if problem.kept}


# Mixtures


def test_a_mixture_takes_its_parts_by_weight_each_as_it_would_be_alone() -> None:
    weights = {"Cadmus-Arith-v0": 3, "Cadmus-Compare-v0": 1}
    mixture = cg.Stream(weights, "test", seed=9)
    programs, lengths = mixture.batch(50, COUNT)
    drawn = np.full(COUNT, -1)
    for part, id in enumerate(weights):
        alone, of_alone = cg.Stream(id, "test", seed=9).batch(50, COUNT)
        padded = np.zeros_like(programs)
        padded[:, : alone.shape[1]] = alone
        same = (programs == padded).all(axis=1) & (lengths == of_alone)
        assert (drawn[same] == -1).all()
        drawn[same] = part
    assert (drawn >= 0).all()
    assert close_to((drawn == 0).sum(), COUNT, 0.75)
    assert abs(np.corrcoef(drawn[1:], drawn[:-1])[0, 1]) < SIGMAS / math.sqrt(COUNT)


MIX = "Cadmus-Mix-v0"


@pytest.mark.parametrize("split", cg.load_spec(MIX).splits)
def test_a_mixed_environment_is_its_parts_by_weight(split: str) -> None:
    """Of those that have a split of its name; the programs are those its parts would write alone."""
    spec = cg.load_spec(MIX)
    weights = {id: weight for id, weight in spec.mixture.items() if split in cg.load_spec(id).splits}
    stream = cg.Stream(spec, split, seed=9)
    assert [part.id for part in stream.specs] == [*weights]
    programs, lengths = stream.batch(50, 6000)
    drawn = np.full(len(programs), -1)
    for number, id in enumerate(weights):
        alone, of_alone = cg.Stream(id, split, seed=9).batch(50, 6000)
        padded = np.zeros_like(programs)
        padded[:, : alone.shape[1]] = alone
        drawn[(programs == padded).all(axis=1) & (lengths == of_alone)] = number
    assert (drawn >= 0).all()
    for number, weight in enumerate(weights.values()):
        assert close_to((drawn == number).sum(), len(programs), weight / sum(weights.values()))


def test_the_splits_of_a_mixed_environment_are_those_of_its_parts() -> None:
    spec = cg.load_spec(MIX)
    assert {*spec.splits} == {split for id in spec.mixture for split in cg.load_spec(id).splits}
    with pytest.raises(ValueError, match="Cadmus-Mix-v0: no split 'nowhere'; it has train, test"):
        cg.Stream(spec, "nowhere")


def test_a_mixture_within_a_mixture_keeps_its_shares() -> None:
    stream = cg.Stream({MIX: 1, "Cadmus-Loop-v0": 1}, "long")
    shares = Counter[str]()
    for part, weight in zip(stream.specs, stream.weights.tolist(), strict=True):
        shares[part.id] += weight / int(stream.weights.sum())
    with_long = [id for id in cg.load_spec(MIX).mixture if "long" in cg.load_spec(id).splits]
    assert shares == pytest.approx({id: 0.5 / len(with_long) + 0.5 * (id == "Cadmus-Loop-v0") for id in with_long})


def test_weights_of_mixtures_by_hand(tmp_path: Path) -> None:
    """1/2 and 1/2 of one, 1/3 and 2/3 of the other: 3, 3, 2 and 4 twelfths."""
    parts = ({"Cadmus-Arith-v0": 1, "Cadmus-Logic-v0": 1}, {"Cadmus-Loop-v0": 1, "Cadmus-Stack-v0": 2})
    paths = {}
    for number, weights in enumerate(parts):
        text = f'id = "Mine{number}-v0"\nform = "value"\n[episode]\nmax_tokens = 112\n[mixture]\n'
        path = tmp_path / f"{number}.toml"
        path.write_text(text + "".join(f"{name} = {weight}\n" for name, weight in weights.items()))
        paths[path] = 5
    assert cg.Stream(paths).weights.tolist() == [3, 3, 2, 4]
    assert cg.Stream({"Cadmus-Arith-v0": 2, "Cadmus-Compare-v0": 4}).weights.tolist() == [1, 2]


def test_worked_steps_asked_of_a_mixed_environment_reach_its_parts() -> None:
    plain = cg.load_spec(MIX)
    shown = cg.load_spec(MIX, thoughts={"share": 1.0, "style": "trace", "limit": 60})
    never = cg.load_spec(MIX, thoughts={"share": 1.0, "style": "none"})
    prompts, lengths = cg.Stream(plain, "test").batch(0, 400)
    assert {part.thoughts.share for part, _ in cg.load_spec(MIX, thoughts={"share": 0.0}).parts} == {0.0}
    assert [part.thoughts for part, _ in plain.parts] == [cg.load_spec(id).thoughts for id in plain.mixture]
    for spec, style in ((shown, "trace"), (never, "none")):
        assert {part.thoughts.style for part, _ in spec.parts} == {style}
        programs, _ = cg.Stream(spec, "test").batch(0, 400)
        assert not cg.run_batch(programs)[0].any()
        thinking = (programs == ID["("]).any(axis=1)
        assert thinking.any() == (style == "trace")
        named = (programs == ID["add"]) & (np.cumsum(programs == ID["("], axis=1) > 0)
        assert named.any() == (style == "trace")
    assert (prompts == ID["("]).any()
    assert lengths.min() > 0
    assert shown.digests() != plain.digests()


def test_every_program_of_a_mixed_environment_is_a_success_in_it() -> None:
    for split in ("train", "reserved"):
        programs, lengths = cg.Stream(MIX, split, seed=2).batch(0, 60)
        environment = cg.CadmusEnv(MIX, split=split)
        for program, length in zip(programs, lengths.tolist(), strict=True):
            environment.reset(options={"prompt": program[:length]})
            for token in program[length : int((program != 0).sum())]:
                assert environment.action_masks()[token]
                _, reward, terminated, _, info = environment.step(int(token))
            assert (reward, terminated, info["is_success"]) == (1.0, True, True)


def test_a_mixture_is_pure_too() -> None:
    mixture = cg.Stream({id: 1 + k for k, id in enumerate(IDS)}, "train", seed=4)
    programs, lengths = mixture.batch(0, 5000, threads=1)
    for start, stop in ((0, 1), (1, 700), (700, 5000)):
        part, of_part = mixture.batch(start, stop - start, threads=3)
        np.testing.assert_array_equal(part, programs[start:stop])
        np.testing.assert_array_equal(of_part, lengths[start:stop])
    again, _ = mixture.gather([4] * 5000, np.arange(5000)[::-1])
    np.testing.assert_array_equal(again[::-1], programs)


def test_a_mixture_of_one_is_that_one() -> None:
    alone, mixed = cg.Stream("Cadmus-Arith-v0", "test"), cg.Stream({"Cadmus-Arith-v0": 5}, "test")
    np.testing.assert_array_equal(alone.batch(0, 100)[0], mixed.batch(0, 100)[0])


def test_weights_are_in_the_digest_of_a_mixture() -> None:
    weights = [(1, 1), (1, 2), (2, 1)]
    digests = {cg.Stream({IDS[0]: one, IDS[1]: other}).digest for one, other in weights}
    assert len(digests) == 3


@pytest.mark.parametrize("mixture", [{}, {IDS[0]: 0}, {IDS[0]: -1}, {IDS[0]: 0.5}, {IDS[0]: True}, {IDS[0]: 10**9}])
def test_a_bad_weight_is_a_value_error(mixture: Any) -> None:
    with pytest.raises(ValueError, match="whole weight from 1"):
        cg.Stream(mixture)


def test_a_mixture_needs_the_split_in_every_part() -> None:
    with pytest.raises(ValueError, match=r"Cadmus-Compare-v0: no split 'long'"):
        cg.Stream({"Cadmus-Arith-v0": 1, "Cadmus-Compare-v0": 1}, "long")


# Random numbers


def draws(bound: int, count: int, seed: int = 0) -> NDArray[np.int64]:
    rng = np.array([seed, 12345], np.uint64)
    return np.array([sampling.randbelow(rng, 0, bound) for _ in range(count)])


@pytest.mark.parametrize("bound", [1, 2, 3, 5, 6, 7, 10, 97, 100])
def test_numbers_below_a_bound_are_uniform(bound: int) -> None:
    values = draws(bound, 30_000, seed=bound)
    assert values.min() >= 0
    assert values.max() < bound
    assert evenly(np.bincount(values, minlength=bound))


@pytest.mark.parametrize("parts", [2, 3, 4])
def test_numbers_below_a_large_bound_have_no_bias(parts: int) -> None:
    """Without rejection a bound of three quarters of the range would give every third number twice as often."""
    values = draws(3 * 2**30, 30_000, seed=parts)
    assert values.max() < 3 * 2**30
    assert evenly(np.bincount(values % parts, minlength=parts))
    assert evenly(np.bincount(values * parts // (3 * 2**30), minlength=parts))


def test_the_largest_bound_is_the_whole_range() -> None:
    values = draws(2**32, 5000)
    assert evenly(np.bincount(values >> 28, minlength=16))
    assert values.max() >= 2**32 - 2**24


def test_mixing_loses_nothing() -> None:
    mixed = [int(hashing.mix(np.uint64(word))) for word in range(1, 20_001)]
    assert len(set(mixed)) == 20_000
    for place in range(64):
        assert close_to(sum(word >> place & 1 for word in mixed), 20_000, 0.5), place


def test_the_order_of_what_is_joined_matters() -> None:
    one, two = np.uint64(1), np.uint64(2)
    assert hashing.join(one, two) != hashing.join(two, one)


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_a_share_happens_that_often(share: float) -> None:
    rng, script, bound = np.zeros(2, np.uint64), sampling.new_script(RANDOM), sampling.threshold(share)
    happened = sum(bool(sampling.bernoulli(rng, script, 1, bound, False)) for _ in range(20_000))
    assert close_to(happened, 20_000, share)
    assert share not in (0.0, 1.0) or happened == 20_000 * share


# Too few problems


@pytest.mark.parametrize("count", [1, 5000])
def test_a_share_without_a_problem_is_a_clear_error(count: int) -> None:
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


def test_one_problem_is_enough() -> None:
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
def test_extreme_parameters_still_give_true_programs_within_the_limit(parameters: dict[str, Any]) -> None:
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
def test_extreme_values_still_give_true_programs_of_their_pool(parameters: dict[str, Any]) -> None:
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
