"""Every split needs the constructs that its environment is named after; the list of ignored constructs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support.specs import VALUES

import cadmus_gym as cg
from cadmus_gym.evaluation import constructs
from cadmus_gym.evaluation.constructs import CEILINGS, NAMED, compares, ignored, named_of, present
from cadmus_gym.evaluation.truth import prompts_of
from cadmus_gym.tasks import TASKS
from cadmus_gym.tasks.ablations import ABLATIONS
from cadmus_gym.tasks.shortcuts import COMPARE, OUTER
from cadmus_gym.testing import check_constructs, check_shortcuts

SINGLE = [id for id in VALUES if not cg.load_spec(id).mixture]


@pytest.mark.parametrize("id", VALUES)
def test_environments_need_the_constructs_they_are_named_after(id: str) -> None:
    check_constructs(cg.load_spec(id), 2000)


def test_every_task_is_named_after_known_ablations() -> None:
    assert NAMED.keys() == {name for name, family in TASKS.items() if not family.written}
    assert {name for names in NAMED.values() for name in names} <= {*ABLATIONS, *COMPARE}
    assert {"value": pytest.approx(0.1), "relation": pytest.approx(0.55)} == CEILINGS


@pytest.mark.parametrize("id", SINGLE)
def test_only_constructs_that_occur_are_listed_as_ignored(id: str) -> None:
    spec = cg.load_spec(id)
    found = ignored(spec, 300)
    assert list(found)[: len(named_of(spec))] == list(named_of(spec))
    for name, shares in found.items():
        assert list(shares) == list(spec.splits)
        assert all(0 <= share <= 1 for share in shares.values())
        assert constructs.meaning_of(name)
    asked = [prompts_of(spec, split, 300) for split in spec.splits]
    words = {
        word for prompts, lengths in asked for k, n in enumerate(lengths) for word in cg.decode(prompts[k, :n]).split()
    }
    ours = [name for name in found if name in ABLATIONS and name not in named_of(spec)]
    for name in ours:
        rules = ABLATIONS[name]
        assert words & {*rules.tokens, *rules.inside, *rules.again, *rules.last}, name
    assert (OUTER in found) == (id == "Cadmus-Compare-v0")


def test_shares_match_edited_prompts() -> None:
    """`sub` is read as `add`, or the last operation is left out."""
    found = ignored(cg.load_spec("Cadmus-Arith-v0"), 400)
    prompts, lengths = prompts_of("Cadmus-Arith-v0", "test", 400)
    texts = [cg.disassemble(row[:n]) for row, n in zip(prompts, lengths, strict=True)]

    def left(text: str) -> tuple[int, ...]:
        return cg.run(cg.assemble(f"{text} end")).stack

    as_add = [left(text.replace("sub", "add")) == left(text) for text in texts]
    assert found["sub as add"]["test"] == np.mean(as_add)
    second = [left(text.rsplit(" ", 1)[0])[-1] == left(text)[0] for text in texts]
    assert found["second of last"]["test"] == np.mean(second)


def test_prompts_of_two_numbers_and_a_relation_are_recognized() -> None:
    def rows(*texts: str) -> np.ndarray:
        parts = [cg.assemble(text) for text in texts]
        padded = np.zeros((len(parts), 12), np.uint8)
        for row, part in zip(padded, parts, strict=True):
            row[: part.size] = part
        return padded

    assert compares(rows("812 97 lt", "5 5 eq"))
    for other in ("812 97 add", "812 97 lt not", "3 neg 5 lt", "1 2 3 lt", "7 dup lt"):
        assert not compares(rows("812 97 lt", other)), other
    assert not {*COMPARE} & {*present([rows("812 97 lt"), rows("812 97 add")])}
    assert {*COMPARE} < {*present([rows("812 97 lt"), rows("8 9 ge")])}


FAMILY = """
from dataclasses import dataclass
from cadmus_gym.tasks import Family

@dataclass(frozen=True)
class Parameters:
    most: int = 9

def compose(parameters, choices):
    one, two = (choices.integer(0, parameters.most) for _ in range(2))
    return f"{choices.integer(10, 99)} {one} {two} swap sub add"

TURNS = Family("turns", 1, Parameters, "value", lambda parameters: 10, compose=compose, needs=NEEDS)
"""


@pytest.fixture
def turns(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "turns.toml").write_text(
        'id = "Turns-v0"\ntask = "turns_family:TURNS"\n'
        "[splits.train]\nshare = [0.1, 1.0]\n[splits.test]\nshare = [0, 0.1]\n"
    )
    yield tmp_path
    sys.modules.pop("turns_family", None)


def test_ablations_of_a_user_family_are_listed_and_its_needs_are_checked(turns: Path) -> None:
    """The family has no entry in any table of the package."""
    (turns / "turns_family.py").write_text(FAMILY.replace("NEEDS", "()"))
    spec = cg.load_spec(turns / "turns.toml")
    found = ignored(spec, 300)
    assert {"no swap", "sub as add"} <= found.keys()
    assert "no order words" not in found  # without `rot` in the prompts, it is right on the same ones
    assert 0.05 < found["no swap"]["train"] < 0.2  # two equal digits
    check_constructs(spec, 300)  # it is named after nothing
    sys.modules.pop("turns_family")
    (turns / "turns_family.py").write_text(FAMILY.replace("NEEDS", '("no order words",)'))
    needing = cg.load_spec(turns / "turns.toml")
    assert named_of(needing) == ("no order words",)
    assert {*ignored(needing, 300)["no order words"].values()} == {0.0}
    check_constructs(needing, 300)


def test_an_environment_that_does_not_need_its_construct_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = cg.load_spec("Cadmus-Arith-v0")
    monkeypatch.setitem(constructs.NAMED, "arith", ("sub as add",))
    for check in (check_constructs, check_shortcuts):
        with pytest.raises(AssertionError, match=r"Cadmus-Arith-v0 train: .*'sub as add' \(`sub` is read as `add`\)"):
            check(spec, 200)
