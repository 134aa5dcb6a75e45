"""What is checked of one's own environments: it holds of ours, of the documented example, and finds what is wrong."""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cadmus_gym as cg
from cadmus_gym import testing
from cadmus_gym.streams.problems import Problem, Reader
from cadmus_gym.tasks import Choices, Family
from cadmus_gym.testing import CHECKS, ceiling_of, check_spec

GUIDE = Path(cg.__file__).parents[1] / "envs" / "README.md"


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("id", cg.SPECS)
def test_environments_of_the_package_pass(id: str, check: Any) -> None:
    check(cg.load_spec(id), 1000)


def block(language: str, holding: str) -> str:
    blocks = re.findall(rf"```{language}\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    (found,) = [text for text in blocks if holding in text]
    return str(found)


@pytest.fixture
def clock(tmp_path: Path) -> Iterator[Path]:
    """The documented example, in a folder where Python does not look for modules."""
    code = block("python", "CLOCK = Family")
    assert len(code.splitlines()) < 60
    (tmp_path / "clock.py").write_text(code)
    (tmp_path / "clock.toml").write_text(block("toml", "Clock-v0"))
    yield tmp_path / "clock.toml"
    sys.modules.pop("clock", None)


def test_the_documented_family_passes_and_each_check_is_named(clock: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check_spec(clock, count=600)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(CHECKS)
    assert lines[0] == f"Clock-v0 (clock.toml): check 1 of {len(CHECKS)}, programs"


def test_the_documented_family_writes_the_prompts_that_it_describes(clock: Path) -> None:
    for split, least, most in (("train", 61, 999), ("days", 1000, 9999)):
        programs, lengths = cg.Stream(clock, split).batch(0, 200)
        for program, length in zip(programs, lengths, strict=True):
            now, later, word, minutes, mod = cg.disassemble(program[:length]).split()
            assert (mod, minutes) == ("mod", "60")
            assert 0 <= int(now) < 60
            assert least <= int(later) <= most
            answer = int(now) + int(later) if word == "add" else int(now) - int(later)
            assert cg.disassemble(program[length:][program[length:] > 0]).split()[-3] == str(answer % 60)
    assert np.isnan(cg.Stream(clock).log_prob(programs)).all()


def test_the_documented_written_family_passes(tmp_path: Path) -> None:
    (tmp_path / "scale.py").write_text(block("python", "SCALE = Family"))
    path = tmp_path / "scale.toml"
    path.write_text(block("toml", "Scale-v0"))
    try:
        check_spec(path, count=300)
        programs, _ = cg.Stream(path, "test").batch(0, 20)
        texts = [cg.disassemble(program[program > 0]) for program in programs]
        assert all(re.fullmatch(r"case .* do \d+ mul end", text) for text in texts)
        found = cg.evaluate(lambda prompts, _: [cg.assemble("3 mul end")] * len(prompts), path, "test", 50)
        assert found.truth_rate == found.fit_rate < 0.5
        env = cg.CadmusEnv(path)
        env.reset(seed=0)
        for token in programs_of(env):
            _, reward, _, _, info = env.step(token)
        assert (reward, info["hidden_cases"]) == (1.0, 16)
    finally:
        sys.modules.pop("scale", None)


def test_the_problem_of_a_prompt_that_gives_the_first_words_is_the_whole_function(tmp_path: Path) -> None:
    code = block("python", "SCALE = Family").replace('do", f"{factor} mul"', 'do {factor} mul", "1 mul"')
    assert "1 mul" in code
    (tmp_path / "scale.py").write_text(code)
    path = tmp_path / "scale.toml"
    path.write_text(block("toml", "Scale-v0"))
    try:
        keys = cg.Stream(path).keys(np.zeros(50, np.int64), np.arange(50))
        assert np.unique(keys).size > 30
    finally:
        sys.modules.pop("scale", None)


def programs_of(env: cg.CadmusEnv) -> list[int]:
    """Return the reference of an episode."""
    body: list[int] = env.episodes.references[0].tolist()
    return body[: body.index(cg.VOCABULARY.index("end")) + 1]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("return 'case 1 to 2 do'", "allowed: a prompt and a reference, two texts"),
        ("return 'case 1 to 2 do', ''", "an empty reference"),
        ("return 'case 1 to 2 do', '3 mul'", "with the reference '3 mul' is FALSE"),
        ("return 'case 1 to 3 do', '3 mul 1 mul 1 mul 1 mul'", "allowed by answer(): at most 7"),
        ("return 'case 1 to 3 dont', '3 mul'", "is not a prompt"),
        ("return 'case 1 to 1 do', '1 mul'", "none of 100000 attempts"),
        ("return 'case 1 to 3 do 3 mul end', '4'", "it is added after the reference"),
    ],
)
def test_mistakes_of_a_written_family_are_named(tmp_path: Path, wrong: str, message: str) -> None:
    code = block("python", "SCALE = Family").replace("    factor = choices", f"    {wrong}\n    factor = choices")
    (tmp_path / "scale.py").write_text(code)
    path = tmp_path / "scale.toml"
    path.write_text(block("toml", "Scale-v0"))
    try:
        with pytest.raises(ValueError, match=re.escape(message)):
            cg.Stream(path).batch(0, 1)
    finally:
        sys.modules.pop("scale", None)


def test_the_documented_specs_pass(tmp_path: Path) -> None:
    induce = tmp_path / "induce.toml"
    induce.write_text(block("toml", "Small-Induce-v0"))
    assert cg.load_spec(induce).splits.keys() == {"train", "test", "fewer"}
    for check in CHECKS:
        if check.__name__ != "check_shortcuts":  # few functions
            check(cg.load_spec(induce), 300)
    for holding in ("Mine-v0", "Both-v0"):
        path = tmp_path / "spec.toml"
        path.write_text(block("toml", holding))
        assert cg.load_spec(path).splits.keys() >= {"train", "test", "wide"}
        for check in CHECKS:
            if check.__name__ != "check_shortcuts":  # ten numbers to add are too few to hold that
                check(cg.load_spec(path), 300)


# Each check finds the faults that it is for.


@dataclasses.dataclass(frozen=True)
class Parameters:
    size: int = 99


def spec_of(monkeypatch: pytest.MonkeyPatch, compose: Any, form: str = "value", room: int = 12) -> cg.Spec:
    family = Family("bad", 1, Parameters, form, lambda parameters: room, compose=compose)
    monkeypatch.setattr(sys.modules[__name__], "BAD", family, raising=False)
    splits = {"train": {"share": [0.1, 1.0]}, "test": {"share": [0.0, 0.1]}}
    values = {"id": "Bad-v0", "task": f"{__name__}:BAD", "splits": splits}
    return cg.load_spec(values)


BAD: dict[str, tuple[Any, str]] = {
    "a fault": (lambda p, c: f"{c.integer(1, p.size)} add", "STACK_UNDERFLOW"),
    "two values": (
        lambda p, c: f"{c.integer(1, p.size)} {c.integer(1, p.size)} dup add",
        "more or less than one value",
    ),
    "no value": (lambda p, c: f"{c.integer(1, p.size)} drop", "more or less than one value"),
    "a block that is open": (lambda p, c: f"{c.integer(1, p.size)} if 3 add", "SYNTAX"),
    "an end": (lambda p, c: f"{c.integer(1, p.size)} 4 add end", "end"),
    "no word": (lambda p, c: f"{c.integer(1, p.size)} 4 plus", "plus"),
    "too long": (lambda p, c: f"{c.integer(1, p.size)} 4 add 5 add 6 add 7 add 8 add 9 add", "room"),
    "a prompt that ends in a literal": (lambda p, c: f"{c.integer(1, p.size)}", "inside a literal"),
    "few problems": (lambda p, c: f"{c.integer(1, 3)} 2 mul", "problem of this split|constant|copy"),
    "a copy": (lambda p, c: f"{c.integer(1, p.size)} {c.integer(1, p.size)} min", "copy literal"),
    "one answer": (lambda p, c: f"{c.integer(1, p.size)} {c.integer(1, p.size)} mul 0 mul", "constant"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_faulty_family_fails(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    compose, message = BAD[name]
    with pytest.raises((AssertionError, ValueError), match=message):
        check_spec(spec_of(monkeypatch, compose), count=400)


# Each check finds what it is for, where a program or an environment of ours would be wrong.


def sums(parameters: Any, choices: Choices) -> str:
    return f"{choices.integer(10, 99)} {choices.integer(10, 99)} add"  # 6 tokens


def complete(rows: Any, text: str) -> None:
    completion = cg.assemble(text)
    rows[3, 6:] = 0
    rows[3, 6 : 6 + completion.size] = completion


def replace_digit(rows: Any, lengths: Any) -> None:
    rows[3, 0] = cg.encode("9" if rows[3, 0] != cg.encode("9")[0] else "8")[0]


def shorten(rows: Any, lengths: Any) -> None:
    lengths[3] -= 1


def answer_after_dup(rows: Any, lengths: Any) -> None:
    value = cg.run(cg.disassemble(rows[3, :6]) + " end").stack[0]
    complete(rows, f"{value} dup drop eq end")


def add_after_end(rows: Any, lengths: Any) -> None:
    rows[3, np.count_nonzero(rows[3])] = rows[3, 0]


WRONG: dict[str, tuple[str, str, Any, str]] = {  # the check, what of `Stream` is changed, how, what is said of it
    "a wrong answer": ("programs", "batch", lambda rows, lengths: complete(rows, "1 eq end"), "is FALSE"),
    "no end": ("programs", "batch", lambda rows, lengths: complete(rows, "1 eq"), "is "),
    "a foreign form": ("programs", "batch", answer_after_dup, "not of form 'value'"),
    "a token after the end": ("programs", "batch", add_after_end, "after its first `end`"),
    "other prompts": ("programs", "prompts", replace_digit, "does not begin with"),
    "other lengths": ("programs", "prompts", shorten, "prompts and programs differ in prompt lengths"),
    "a loophole": ("shortcuts", "batch", lambda rows, lengths: complete(rows, "dup eq end"), "stays true when its"),
}


@pytest.mark.parametrize("name", WRONG)
def test_each_check_finds_its_fault(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check, method, change, message = WRONG[name]
    spec, original = spec_of(monkeypatch, sums), getattr(cg.Stream, method)

    def changed(self: cg.Stream, *arguments: Any, **options: Any) -> Any:
        rows, lengths = original(self, *arguments, **options)
        change(rows, lengths)
        return rows, lengths

    getattr(testing, f"check_{check}")(spec, 100)
    monkeypatch.setattr(cg.Stream, method, changed)
    with pytest.raises(AssertionError, match=message):
        getattr(testing, f"check_{check}")(spec, 100)


@pytest.mark.parametrize(("what", "message"), [(0, "a range differs"), (1, "lengths of a range differ")])
def test_a_stream_that_depends_on_how_it_is_read_fails(
    what: int, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, original = spec_of(monkeypatch, sums), cg.Stream.batch

    def changed(self: cg.Stream, start: int, count: int, threads: int | None = None) -> Any:
        found = original(self, start, count, threads)
        found[what][-1] += np.uint8(start > 0)
        return found

    monkeypatch.setattr(cg.Stream, "batch", changed)
    with pytest.raises(AssertionError, match=message):
        testing.check_purity(spec, 100)


def test_gathered_programs_that_differ_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    spec, original = spec_of(monkeypatch, sums), cg.Stream.gather

    def changed(self: cg.Stream, seeds: Any, indices: Any, threads: int | None = None) -> Any:
        rows, lengths = original(self, seeds, indices, threads)
        if (np.diff(indices) != 1).any():
            replace_digit(rows, lengths)
        return rows, lengths

    monkeypatch.setattr(cg.Stream, "gather", changed)
    with pytest.raises(AssertionError, match="single programs differ from their range"):
        testing.check_purity(spec, 100)


@pytest.mark.parametrize(
    ("key", "kept", "message"),
    [
        (5, True, "splits test and train share a problem|splits train and test share a problem"),
        (5, False, "is not recognized as a problem"),
        (6, True, "is not recognized as a problem"),
    ],
)
def test_problems_of_the_wrong_split_fail(key: int, kept: bool, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = spec_of(monkeypatch, sums)
    testing.check_splits(spec, 100)
    monkeypatch.setattr(Reader, "read", lambda self, tokens: Problem(tokens, key, 0, kept, ()))
    monkeypatch.setattr(cg.Stream, "keys", lambda self, seeds, indices: np.full(len(indices), 5, np.uint64))
    with pytest.raises(AssertionError, match=message):
        testing.check_splits(spec, 100)


@pytest.mark.parametrize("log", [-np.inf, 1e-9])
def test_a_program_without_a_valid_log_probability_fails(log: float, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, original = cg.load_spec("Cadmus-Arith-v0"), cg.Stream.score

    def changed(self: cg.Stream, programs: Any, **options: Any) -> Any:
        scores = original(self, programs, **options)
        scores.log_prob[3] = log
        return scores

    monkeypatch.setattr(cg.Stream, "score", changed)
    with pytest.raises(AssertionError, match="has log-probability"):
        testing.check_probabilities(spec, 10)


def test_random_tokens_that_are_often_true_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = spec_of(monkeypatch, sums)
    monkeypatch.setattr(testing, "random_legal", lambda spec, split, count: cg.Stream(spec, split).batch(0, count))
    with pytest.raises(AssertionError, match=r"random tokens are true for 100.0%"):
        testing.check_shortcuts(spec, 100)


@pytest.mark.parametrize(
    ("what", "by", "message"), [(0, 1, "observations differ"), (1, 0.5, "ends differ"), (3, True, "ends differ")]
)
def test_a_vector_environment_that_differs_from_single_ones_fails(
    what: int, by: Any, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, original = cg.load_spec("Cadmus-Arith-v0"), testing.CadmusVectorEnv.step

    def changed(self: Any, actions: Any) -> Any:
        found = [np.array(array) for array in original(self, actions)[:4]]
        found[what].flat[0] = found[what].flat[0] + by
        return (*found, {})

    monkeypatch.setattr(testing.CadmusVectorEnv, "step", changed)
    with pytest.raises(AssertionError, match=message):
        testing.check_environments(spec, 10)


def test_a_failure_of_check_env_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    original = testing.CadmusEnv.reset
    monkeypatch.setattr(testing.CadmusEnv, "reset", lambda self, **options: (original(self, **options)[0], None))
    with pytest.raises(AssertionError, match="not a dictionary"):
        testing.check_environments(cg.load_spec("Cadmus-Arith-v0"), 10)


def test_the_ceiling_of_a_mixture_is_the_mean_over_its_parts() -> None:
    parts = {name: cg.load_spec(f"Cadmus-{name}-v0").table() for name in ("Arith", "Compare")}
    values = {"id": "Mix-v0", "form": "answer", "mixture": {"Arith": 3, "Compare": 1}, "sources": parts}
    assert ceiling_of(cg.load_spec(values), "train") == pytest.approx((3 * 0.05 + 1 * 0.55) / 4)
    assert ceiling_of(cg.load_spec(values), "reserved") == pytest.approx(0.55)  # only compare has it


def test_randomness_that_does_not_come_from_choices_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)

    def compose(parameters: Any, choices: Choices) -> str:
        return f"{rng.integers(1, 99)} {choices.integer(1, 99)} add"

    with pytest.raises(AssertionError, match="differ"):
        check_spec(spec_of(monkeypatch, compose), count=400)


def test_choices_stay_within_their_arguments() -> None:
    choices = Choices()
    drawn = [choices.integer(-3, 3) for _ in range(7000)]
    assert set(drawn) == set(range(-3, 4))
    assert max(drawn.count(value) for value in set(drawn)) < 1150
    words = [choices.pick({"one": 1, "three": 3}, kind=True) for _ in range(4000)]
    assert 900 < words.count("one") < 1100
    assert {choices.pick(["x", "y"]) for _ in range(50)} == {"x", "y"}
    for wrong in ((3, 2), (0, 2**32)):
        with pytest.raises(ValueError, match="lowest and highest"):
            choices.integer(*wrong)
    with pytest.raises(ValueError, match="pick"):
        choices.pick({"none": 0})


@pytest.mark.parametrize(
    "task", ["nowhere:FAMILY", "cadmus_gym.tasks:NOTHING", "cadmus_gym:VOCABULARY", "nothing", ":"]
)
def test_an_invalid_task_raises_value_error(task: str) -> None:
    with pytest.raises(ValueError, match="task = "):
        cg.load_spec({"id": "X-v0", "task": task, "splits": {"train": {}}})
