"""Sort: order statistics of a few values, the table of its references, and its probabilities."""

from __future__ import annotations

import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from support.probability import SIGMAS, agree, rows_of, support
from support.stacks import Case, keys, leave

import cadmus_gym as cg
from cadmus_gym.evaluation.enumeration import shortest
from cadmus_gym.streams.spec import Spec, Split
from cadmus_gym.tasks.synthesis import bodies
from cadmus_gym.tasks.synthesis.hidden import generalise
from cadmus_gym.tasks.synthesis.sort import INSTRUCTIONS, Body, table

ID = "Cadmus-Sort-v0"
SPLITS = list(cg.load_spec(ID).splits)
COUNT = 1000
WORDS = ("dup", "drop", "swap", "over", "rot", "a!", "a@", "b!", "b@", "min", "max")
SMALL = {"inputs": [0, 2], "arity": {"2": 2, "3": 1}, "kept": {"no": 1, "yes": 2}, "cases": {"2": 1}, "outputs": [2, 2]}


def small() -> Spec:
    splits = {"train": Split((0.3, 1.0)), "test": Split((0.0, 0.3))}
    return Spec("Small-Sort-v0", "sort", splits, reward="hidden", apart="problems", parameters=SMALL)


def read(program: Any) -> list[Case]:
    """Return the cases of a program (L,), each with its body."""
    header, _, body = cg.disassemble(program[program > 0]).partition(" do ")
    found = re.findall(r"case ([-0-9 ]+) to ([-0-9 ]+)", header)
    assert " ".join(f"case {left.strip()} to {right.strip()}" for left, right in found) == header
    return [
        Case(tuple(map(int, left.split())), tuple(map(int, right.split())), tuple(body.split())[:-1])
        for left, right in found
    ]


def values_of(inputs: Sequence[int]) -> dict[str, int]:
    """Return the order statistics and the inputs by their names."""
    ranked = {f"s{k}": value for k, value in enumerate(sorted(inputs), 1)}
    return ranked | {f"x{k}": value for k, value in enumerate(inputs, 1)}


def patterns(shown: list[Case]) -> list[tuple[str, ...]]:
    """Return all patterns that fit the cases."""
    fitting = []
    for k in range(len(shown[0].outputs)):
        names = values_of(shown[0].inputs)
        fitting.append([name for name in names if all(values_of(one.inputs)[name] == one.outputs[k] for one in shown)])
    return list(itertools.product(*fitting))


def asked(inputs: int, most: int = 4) -> Iterator[tuple[str, ...]]:
    """Yield all patterns of a number of inputs with an order statistic among their outputs."""
    names = [f"{kind}{k}" for kind in "sx" for k in range(1, inputs + 1)]
    for outputs in range(1, most + 1):
        for pattern in itertools.product(names, repeat=outputs):
            if any(name[0] == "s" for name in pattern):
                yield pattern


def leaves(body: Sequence[str], pattern: Sequence[str], inputs: Sequence[int]) -> bool:
    values = values_of(inputs)
    return leave(body, inputs) == [values[name] for name in pattern]


@pytest.mark.parametrize("split", SPLITS)
def test_all_programs_are_true_and_follow_the_parameters(split: str) -> None:
    spec = cg.load_spec(ID)
    parameters = spec.split_parameters(split)
    programs, _ = cg.Stream(spec, split).batch(0, COUNT)
    assert (cg.run_batch(programs)[0] == cg.Verdict.TRUE).all()
    low, high = parameters.inputs
    for shown in map(read, programs):
        arity = len(shown[0].inputs)
        assert str(arity) in parameters.arity
        assert str(len(shown)) in parameters.cases
        assert parameters.outputs[0] <= len(shown[0].outputs) <= parameters.outputs[1]
        assert {*shown[0].body} <= {*INSTRUCTIONS}
        orders = []
        for case in shown:
            assert leave(case.body, case.inputs) == [*case.outputs]
            assert len(case.inputs) == arity == len({*case.inputs})
            assert all(low <= value <= high for value in case.inputs)
            orders.append(tuple(sorted(case.inputs).index(value) for value in case.inputs))
        times = Counter(orders)
        assert max(times.values()) == -(-len(shown) // len([*itertools.permutations(range(arity))]))
        assert all(one != other for one, other in zip(*orders[:2], strict=True))


def test_a_prompt_shows_one_pattern_and_keys_are_patterns() -> None:
    spec = cg.load_spec(ID)
    known: dict[int, Any] = {}
    held: dict[str, set[Any]] = defaultdict(set)
    for split in SPLITS:
        programs, _ = cg.Stream(spec, split).batch(0, COUNT)
        for key, shown in zip(keys(spec, split, COUNT), map(read, programs), strict=True):
            (pattern,) = patterns(shown[:2])
            problem = len(shown[0].inputs), pattern
            assert known.setdefault(key, problem) == problem
            assert (key >= 2**64 / 10) == (split == "train")
            held[split].add(problem)
    assert len({*known.values()}) == len(known)
    for split in SPLITS[1:]:
        assert held["train"].isdisjoint(held[split])
        assert len(held[split]) > 100


def test_the_table_has_all_patterns() -> None:
    """All of two and three values, and all of order statistics alone of four. Each body is right, ties included."""
    found = {(body.inputs, body.outputs) for body in table()}
    assert len(found) == len(table())
    for inputs in (2, 3):
        assert {outputs for number, outputs in found if number == inputs} == {*asked(inputs)}
    alone = {outputs for inputs, outputs in found if inputs == 4 and not any(name[0] == "x" for name in outputs)}
    assert alone == {*itertools.chain(*(itertools.product(("s1", "s2", "s3", "s4"), repeat=k) for k in (1, 2, 3, 4)))}
    for body in table():
        assert {*body.words} <= {*INSTRUCTIONS}
        for inputs in itertools.product(
            (0, 1), repeat=body.inputs
        ):  # a proof without conditionals (zero-one principle)
            assert leaves(body.words, body.outputs, inputs), body
        if "if" in body.words or body.inputs == 2:
            for inputs in itertools.product((-2, 0, 1), repeat=body.inputs):
                assert leaves(body.words, body.outputs, inputs), body


def test_no_word_of_the_table_can_be_left_out() -> None:
    for body in table()[::24]:
        orders = [
            *itertools.product((-1, 3), repeat=body.inputs),
            *itertools.permutations((7, -2, 5, 9)[: body.inputs]),
        ]
        for first, last in itertools.combinations(range(len(body.words) + 1), 2):
            span, rest = body.words[first:last], body.words[:first] + body.words[last:]
            if span.count("if") != span.count("fi") or ("else" in span and "if" not in span):
                continue
            assert not all(leaves(rest, body.outputs, inputs) for inputs in orders), (body, rest)


def test_search_finds_the_shortest_bodies() -> None:
    """Against all bodies of up to four words, which is too short for conditionals."""
    lengths: dict[tuple[str, ...], int] = {}
    orders = [(1, 2), (2, 1)]
    for size in range(1, 5):
        for body in itertools.product(WORDS, repeat=size):
            left = [leave(body, inputs) for inputs in orders]
            if all(stack and len(stack) <= 4 and 0 not in stack for stack in left):
                shown = [Case(inputs, tuple(stack or ()), body) for inputs, stack in zip(orders, left, strict=True)]
                lengths.setdefault(patterns(shown)[0], size)
    assert len(lengths) > 60
    for found in table():
        if found.inputs == 2:
            assert lengths.get(found.outputs, 5) == min(len(found.words), 5)


def test_search_keeps_to_the_given_values_and_depths() -> None:
    symbols = bodies.tables(3)
    largest = int(np.bitwise_or.reduce(symbols))
    levels = list(bodies.search(symbols, WORDS, 5, (1, 2), 4, (largest,)))
    assert [len(level) for level in levels] == [0, 1, 1, 0, 0]
    assert [[bodies.WORDS[word] for word in body] for body in levels[2]] == [["max", "max", "dup"]]
    assert sum(map(len, bodies.search(symbols, WORDS, 5, (4, 4), 3))) == 0
    with pytest.raises(ValueError, match="11 bodies of 1 words are too many to search; allowed: 10"):
        list(bodies.search(symbols, WORDS, 3, (1, 2), most_bodies=10))


def cases_of(body: Body) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    orders = [*itertools.permutations(range(11, 11 + body.inputs))]  # no truth value is among them
    return [(inputs, tuple(values_of(inputs)[name] for name in body.outputs)) for inputs in orders]


def test_no_body_with_conditionals_is_shorter() -> None:
    """Proven for all order statistics of two values, and for some of three."""
    known = {(body.inputs, " ".join(body.outputs)): body for body in table()}
    for body in known.values():
        if (body.inputs == 2 and not body.keeps) or (body.inputs == 3 and len(body.words) <= 5):
            found = shortest(cases_of(body), INSTRUCTIONS, (), len(body.words) - 1)
            assert (found.body, found.proven) == (None, True), body
    assert known[2, "s1 s2"].words == ("over", "over", "min", "swap", "rot", "max")


def test_no_training_body_generalises_on_a_test_prompt() -> None:
    trained = [body for body in table() if body.inputs < 4]
    train = cg.Stream(ID, "train")
    names = {tuple(read(program)[0].body) for program in train.batch(0, 20_000)[0]}
    trained = [body for body in trained if body.words in names]
    assert len(trained) > 1400
    for shown in map(read, cg.Stream(ID, "test").batch(0, 15)[0]):
        for body in trained:
            if body.inputs == len(shown[0].inputs):
                assert any(leave(body.words, case.inputs) != [*case.outputs] for case in shown)


def test_hidden_cases_compare_all_outputs() -> None:
    """Few other functions that fit two cases generalise: only those that are wrong on orders that were not drawn."""
    parameters = {"arity": {"3": 1}, "kept": {"no": 1}, "cases": {"2": 1}, "outputs": [2, 2]}
    spec = Spec("S-v0", "sort", {"all": Split()}, reward="hidden", apart="problems", parameters=parameters)
    stream, pairs = cg.Stream(spec, "all"), (np.zeros(100, np.int64), np.arange(100))
    prompts, lengths, references = stream.problems(*pairs)
    orders = [*itertools.product((0, 1), repeat=3)]
    others = [
        [bodies.WORDS[word] for word in body]
        for level in bodies.search(bodies.tables(3), WORDS, 8, (2, 2), 5)
        for body in level
    ]
    judged: Counter[tuple[bool, bool]] = Counter()
    for row, shown in enumerate(map(read, stream.gather(*pairs)[0])):
        for body in [*others, shown[0].body]:
            if any(leave(body, case.inputs) != [*case.outputs] for case in shown):
                continue
            program = np.append(prompts[row, : lengths[row]], cg.encode(" ".join([*body, "end"])))[None]
            assert cg.run(program[0]).true
            general = bool(generalise(program, np.arange(1), references.take(slice(row, row + 1)))[0][0])
            alike = all(leave(body, inputs) == leave(shown[0].body, inputs) for inputs in orders)
            judged[alike, general] += 1
    assert judged[True, True] >= 100
    assert judged[True, False] == 0
    assert judged[False, False] > 10 * judged[False, True]


@pytest.mark.parametrize("split", ["train", "test"])
def test_probabilities_agree_with_enumeration_and_with_frequencies(split: str) -> None:
    spec = small()
    expected = support(spec, split)
    assert len(expected) > 100
    scores = cg.Stream(spec, split).score(rows_of(list(expected)))
    assert scores.exact.all()
    np.testing.assert_allclose(scores.log_prob, np.log(list(expected.values())), rtol=1e-9)
    np.testing.assert_allclose(scores.prompt, scores.log_prob, rtol=1e-9)
    assert np.exp(scores.log_prob).sum() == pytest.approx(1)
    agree(cg.Stream(spec, split, seed=5), expected, 100_000)


def test_programs_that_the_stream_never_writes_have_probability_zero() -> None:
    train, test = (support(small(), split) for split in ("train", "test"))
    assert train.keys().isdisjoint(test)
    texts = [
        "case 0 1 to 1 0 case 0 1 to 1 0 do swap end",  # the same order twice
        "case 0 1 to 0 1 case 2 1 to 1 2 case 1 0 to 0 1 do over over min swap rot max end",  # three cases
        "case 0 3 to 0 3 case 2 1 to 1 2 do over over min swap rot max end",  # outside the range
        "case 1 1 to 1 1 case 2 1 to 1 2 do over over min swap rot max end",  # equal values
        "case 0 1 to 0 1 case 2 1 to 1 2 do over over min rot rot max end",  # another body
        "case 0 1 to 2 2 case 2 1 to 1 2 do end",
        "case 0 1 to 0 0 0 0 0 case 1 0 to 0 0 0 0 0 do min end",
    ]
    others = [cg.assemble(text).tobytes() for text in texts] + [program[:-2] + program[-1:] for program in train]
    assert (cg.Stream(small(), "train").score(rows_of([*test, *others])).log_prob == -np.inf).all()
    garbage = np.random.default_rng(0).integers(0, 65, (2000, 60))
    garbage[:, 0] = cg.encode("case")[0]
    assert (cg.Stream(ID, "train").score(garbage).log_prob == -np.inf).all()


def test_the_space_has_shares_functions_and_posteriors() -> None:
    spec = cg.load_spec(ID)
    for split in ("train", "test", "larger"):
        stream, family = cg.Stream(spec, split), spec.family
        space = family.space(family.pack(spec.split_parameters(split)))
        interval = spec.split(split).interval
        programs, lengths = stream.batch(0, 100)
        prompts = np.where(np.arange(programs.shape[1]) < lengths[:, None], programs, 0)
        posteriors = stream.posterior(prompts)
        for key, program, length, posterior in zip(keys(spec, split, 100), programs, lengths, posteriors, strict=True):
            assert posterior.keys.tolist() == [key]
            assert (posterior.ceiling, posterior.sampler, posterior.identified) == (1, 1, True)
            assert posterior.bodies[posterior.bodies > 0].tolist() == program[length:][program[length:] > 0].tolist()
        assert len({*keys(spec, split, 20_000)}) == pytest.approx(space.functions(*interval), rel=0.01)
    shares = [(space.kinds[4, kept][1] <= interval[1]).mean() for kept in (0, 1)]  # of four values
    assert space.share([2, 3], *interval) == pytest.approx(sum(shares) / 2)
    assert space.share([2, 3], 0, 2**64 - 1) == pytest.approx(1)
    for wrong in ("case 1 2 to 2 do", "case 1 2 to 3 case 2 1 to 3 do", "case 1 2 to 1 case 2 1 to 1"):
        with pytest.raises(ValueError, match="expected a header of cases that show one pattern"):
            stream.posterior(cg.assemble(wrong))
    with pytest.raises(ValueError, match="no reference of this split leaves its pattern"):
        stream.posterior(cg.assemble("case 1 2 to 1 case 2 1 to 1 do"))


def test_kinds_have_their_weights_and_no_pattern_is_common() -> None:
    """So no fixed program earns much, not even one for each number of values."""
    spec = cg.load_spec(ID)
    for split in ("train", "test", "larger"):
        parameters = spec.split_parameters(split)
        count = 2000
        found = [read(row) for row in cg.Stream(spec, split).batch(0, count)[0]]
        times = Counter((len(shown[0].inputs), patterns(shown)[0]) for shown in found)
        for arity, weight in parameters.arity.items():
            share = weight / sum(parameters.arity.values())
            of = [number for (size, _), number in times.items() if size == int(arity)]
            assert abs(sum(of) - count * share) <= SIGMAS * (count * share * (1 - share)) ** 0.5
            assert max(of) < 0.1 * sum(of)
        if split == "train":
            kept = sum(number for (_, names), number in times.items() if any(name[0] == "x" for name in names))
            assert kept / count == pytest.approx(0.75, abs=0.05)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"inputs": [0, 512]}, r"inputs = \[0, 512\]: give 3 to 512 values, since all 3 of a case are different"),
        ({"inputs": [7, 8]}, r"inputs = \[7, 8\]: give 3 to 512 values"),
        ({"inputs": [9990, 10000]}, r"inputs = \[9990, 10000\]: give \[lowest, highest\] within -9999 to 9999"),
        ({"arity": {"5": 1}}, "arity: unknown '5'; give at least one of 2, 3, 4"),
        ({"kept": {"some": 1}}, "kept: unknown 'some'; give at least one of no, yes"),
        ({"cases": {"1": 1}}, "cases: unknown '1'; give at least one of 2, 3, 4"),
        ({"outputs": [1, 5]}, r"outputs = \[1, 5\]: give \[lowest, highest\] within 1 to 4"),
        ({"length": [0, 5]}, r"length = \[0, 5\]: give \[lowest, highest\] within 1 to 48"),
        (
            {"outputs": [1, 1]},
            "arity = 2, kept = 'yes': no pattern of 1 to 1 outputs has a reference of 1 to 48 words; give wider",
        ),
    ],
)
def test_errors_say_what_is_allowed(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Spec("S-v0", "sort", {"all": Split()}, apart="problems", parameters=parameters)
