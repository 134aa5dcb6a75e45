"""Ablations rewrite prompts as expected, and environments need the constructs they are named after."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support import naive
from support.specs import VALUES

import cadmus_gym as cg
from cadmus_gym.language.isa import VOCABULARY, Tokens
from cadmus_gym.streams.problems import Reader
from cadmus_gym.streams.spec import Spec, Split
from cadmus_gym.tasks import TASKS, Choices, Family
from cadmus_gym.tasks.ablations import ABLATIONS, GROWTH, answers, number_of, read_as

COUNT = 2000
IDS = [id for id in VALUES if cg.load_spec(id).task]
Names = list[str]
OPERATIONS = {name for name, (count, _) in naive.EFFECTS.items() if count == 2} - {"swap", "over"}


@functools.cache
def prompts_of(id: str, split: str, count: int = COUNT) -> tuple[Tokens, NDArray[np.int32]]:
    return cg.Stream(id, split, seed=31).prompts(np.full(count, 31), np.arange(count))


def names_of(prompt: Tokens) -> Names:
    return [VOCABULARY[token] for token in prompt]


def right(prompts: Tokens, lengths: NDArray[np.int32], name: str) -> NDArray[np.bool_]:
    """Return which prompts keep their answer under an ablation."""
    true, all_ran = answers(prompts, lengths)
    assert all_ran.all()
    found, ran = answers(prompts, lengths, name)
    same: NDArray[np.bool_] = ran & (found == true)
    return same


# The rewriting again, in plain Python.


def rewritten(names: Names, name: str) -> Names:
    ablation = ABLATIONS[name]
    body = range(names.index("def"), names.index("ret")) if "def" in names else range(0)
    last = max((k for k, word in enumerate(names) if word in OPERATIONS), default=-1)
    words: Names = []
    for k, word in enumerate(names):
        readings = dict(ablation.tokens)
        readings.update(ablation.inside if k in body else {})
        readings.update(ablation.again if names[max(k - 1, 0) : k] == [word] else {})
        readings.update(ablation.last if k == last else {})
        words += readings.get(word, word).split()
    return words


def answer_of(names: Names) -> int | None:
    """Return the one value that a prompt leaves, or None."""
    try:
        run = naive.Run(naive.parse([*names, "end"]), []).go()
    except naive.Fault:
        return None
    return run.stack[0] if run.fault is None and len(run.stack) == 1 else None


@pytest.mark.parametrize("id", IDS)
def test_answers_agree_with_the_naive_interpreter_on_rewritten_prompts(id: str) -> None:
    prompts, lengths = (rows[:15] for rows in prompts_of(id, "test"))
    for name in (None, *ABLATIONS):
        found, ran = answers(prompts, lengths, name)
        for prompt, length, answer, one in zip(prompts, lengths, found, ran, strict=True):
            names = names_of(prompt[:length])
            expected = answer_of(rewritten(names, name) if name else names)
            assert (answer if one else None) == expected, (name, names)


@pytest.mark.parametrize(
    ("name", "text", "reading"),
    [
        ("no order words", "12 7 5 rot swap sub add", "12 7 5 , , sub add"),
        ("no stack words", "12 7 dup 1 pick drop add", "12 7 , 1 drop , add"),
        ("copies of the top", "12 7 over 2 pick add", "12 7 dup 2 drop dup add"),
        ("one register", "12 a! 7 b! a@ b@ sub", "12 a! 7 a! a@ a@ sub"),
        ("conditions always", "3 4 lt if 5 else 6 fi", "3 4 lt drop 1 if 5 else 6 fi"),
        ("both arms", "7 3 4 lt if inc else dec fi", "7 3 4 lt drop 1 if inc , dec fi"),
        ("one turn", "5 3 times 2 add next", "5 3 drop 1 times 2 add next"),
        ("no index", "5 3 times i 2 add add next", "5 3 times , 0 , 2 add add next"),
        ("no recursion", "def dup if dec call fi ret 4 call call", "def dup if dec , fi ret 4 call call"),
        ("one call", "def dup if dec call fi ret 4 call call", "def dup if dec , fi ret 4 call ,"),
        ("base case", "def dup if dec call fi ret 4 call", "def dup if dec call fi ret 4 drop 0 call"),
        ("relations 0", "3 9 lt 25 mul", "3 9 drop drop 0 , 25 mul"),
        ("sub reversed", "3 9 sub", "3 9 swap sub"),
        ("first of last", "3 9 sub 4 add neg", "3 9 sub 4 drop neg"),
        ("second of last", "3 9 sub 4 add", "3 9 sub 4 swap drop"),
    ],
)
def test_prompts_are_rewritten_as_expected(name: str, text: str, reading: str) -> None:
    tokens = cg.assemble(text)
    out = np.full(GROWTH * tokens.size + 1, 255, np.uint8)
    size = read_as(tokens, tokens.size, number_of(name), out)
    assert out[:size].tolist() == cg.assemble(reading).tolist()
    assert (out[size:] == 255).all()


def test_every_ablation_changes_some_answer() -> None:
    for name in ABLATIONS:
        assert any(not right(*prompts_of(id, "test", 200), name).all() for id in IDS), name


def test_answers_do_not_depend_on_the_number_of_threads() -> None:
    prompts, lengths = cg.Stream("Cadmus-Loop-v0", "test").prompts(np.zeros(9000, np.int64), np.arange(9000))
    for one, other in zip(answers(prompts, lengths, "one turn", 1), answers(prompts, lengths, "one turn"), strict=True):
        np.testing.assert_array_equal(one, other)


def test_mistakes() -> None:
    prompts, lengths = prompts_of("Cadmus-Arith-v0", "test")
    with pytest.raises(ValueError, match="ablation 'no words': known are no order words"):
        answers(prompts, lengths, "no words")
    with pytest.raises(ValueError, match="shapes"):
        answers(prompts, lengths[:-1])
    with pytest.raises(ValueError, match="lengths"):
        answers(prompts, lengths + prompts.shape[1])


# No pattern of truth values stands in for the relations.


PATTERNED: dict[str, tuple[set[str], str]] = {
    "Cadmus-Branch-v0": ({"if"}, "drop {bit} if"),
    "Cadmus-Logic-v0": ({"eq", "ne", "lt", "le", "gt", "ge"}, "drop drop {bit} ,"),
}


@pytest.mark.parametrize(
    ("id", "split"), [(id, split) for id in PATTERNED for split in cg.load_spec(id).splits if split != "train"]
)
def test_constant_truth_values_are_seldom_right(id: str, split: str) -> None:
    """Conditions or relations are replaced by four bits, repeated along the prompt."""
    prompts, lengths = prompts_of(id, split)
    true, _ = answers(prompts, lengths)
    words, reading = PATTERNED[id]
    texts = [names_of(prompt[:length]) for prompt, length in zip(prompts, lengths, strict=True)]
    for bits in itertools.product("01", repeat=4):
        rows = np.zeros((len(texts), GROWTH * prompts.shape[1]), np.uint8)
        sizes = np.zeros(len(texts), np.int32)
        for k, names in enumerate(texts):
            turn = itertools.cycle(bits)
            read = " ".join(reading.format(bit=next(turn)) if name in words else name for name in names)
            tokens = cg.encode(read)
            rows[k, : tokens.size], sizes[k] = tokens, tokens.size
        found, ran = answers(rows, sizes)
        assert (ran & (found == true)).mean() <= 0.1, bits


# The ablations that a family names as its needs.


@pytest.mark.parametrize("split", cg.load_spec("Cadmus-Stack-v0").splits)
def test_no_prompt_gives_its_answer_under_a_needed_ablation(split: str) -> None:
    for name in TASKS["stack"].needs:
        assert not right(*prompts_of("Cadmus-Stack-v0", split), name).any()


STACK = {
    "operands": [2, 4],
    "operators": {"add": 1, "sub": 2},
    "literals": {"2": 1},
    "moves": {"2": 1},
    "stack_words": {"swap": 2, "over": 1},
}


def written(monkeypatch: pytest.MonkeyPatch, needs: tuple[str, ...], split: Split, count: int) -> tuple[Any, Reader]:
    """Return prompts of a small stack task with these needs, with their probabilities, and a reader of them."""
    monkeypatch.setitem(TASKS, "stack", dataclasses.replace(TASKS["stack"], needs=needs))
    stream = cg.Stream(Spec("Small-v0", "stack", {"only": split}, parameters=STACK), "only")
    programs, places = np.unique(stream.batch(0, count)[0], axis=0, return_index=True)
    lengths = stream.batch(0, count)[1][places]
    scores = stream.score(programs)
    assert scores.exact.all()
    chances = np.exp(scores.log_prob)
    found = {
        tuple(names_of(program[:length])): chance
        for program, length, chance in zip(programs, lengths.tolist(), chances.tolist(), strict=True)
    }
    return found, Reader(stream.specs[0], "only")


@pytest.mark.parametrize("share", [(0.0, 1.0), (0.1, 1.0), (0.0, 0.5)])
def test_needs_reject_exactly_the_prompts_that_do_without_them(
    share: tuple[float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """This holds for a split of all problems too, and probabilities are those of the prompts that remain."""
    split = Split(share)
    needs = TASKS["stack"].needs
    whole, _ = written(monkeypatch, (), split, 60_000)
    kept, reader = written(monkeypatch, needs, split, 10_000)
    assert math.fsum(whole.values()) == pytest.approx(1, abs=1e-4)
    assert math.fsum(kept.values()) == pytest.approx(1, abs=1e-4)
    needy = {
        names: chance
        for names, chance in whole.items()
        if all(answer_of(rewritten([*names], name)) != answer_of([*names]) for name in needs)
    }
    assert kept.keys() <= needy.keys()
    assert len(kept) > 3
    total = math.fsum(needy.values())
    for names, chance in needy.items():
        assert kept.get(names, chance / total) == pytest.approx(chance / total, rel=1e-3)
    for names in whole:
        problem = reader.read(cg.encode(" ".join(names)))
        assert problem is not None
        assert problem.kept == (names in needy)


def test_a_family_with_its_own_keys_may_have_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A relation and its opposite never agree, so no prompt is rejected."""
    programs, _ = cg.Stream("Cadmus-Compare-v0", "test").batch(0, 500)
    family = dataclasses.replace(TASKS["compare"], needs=("relations negated",))
    monkeypatch.setitem(TASKS, "compare", family)
    np.testing.assert_array_equal(cg.Stream("Cadmus-Compare-v0", "test").batch(0, 500)[0], programs)
    monkeypatch.setitem(TASKS, "compare", dataclasses.replace(family, needs=("no order words",)))
    with pytest.raises(ValueError, match="No prompt may give its answer under: no order words"):
        cg.Stream(cg.load_spec("Cadmus-Compare-v0", thoughts={"limit": 47}), "test")


@dataclass(frozen=True)
class Differences:
    most: int = 9


def compose(parameters: Differences, choices: Choices) -> str:
    x, y = (choices.integer(0, parameters.most) for _ in range(2))
    return f"{x} {y} swap sub"


def plain(needs: tuple[str, ...]) -> Family:
    return Family("differences", 1, Differences, "value", lambda _: 9, compose=compose, needs=needs)


PLAIN, MISTAKEN = plain(("no order words",)), plain(("no words",))


def test_a_family_in_plain_python_may_have_needs() -> None:
    def make(name: str) -> Spec:
        return Spec("Plain-v0", f"{__name__}:{name}", {"all": Split()}, apart="problems")

    prompts, lengths = cg.Stream(make("PLAIN"), "all").prompts(np.zeros(300, np.int64), np.arange(300))
    assert not right(prompts, lengths, "no order words").any()
    read = Reader(make("PLAIN"), "all").read
    found = [read(cg.assemble(f"{x} {y} swap sub")) for x, y in ((3, 4), (4, 4))]
    assert [problem is not None and problem.kept for problem in found] == [True, False]
    with pytest.raises(ValueError, match="needs: ablation 'no words': known are"):
        make("MISTAKEN")
