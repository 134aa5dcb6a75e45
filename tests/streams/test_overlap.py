"""A split that overlaps train warns once, and shipped splits do not overlap."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cadmus_gym as cg
from cadmus_gym.streams import stream
from cadmus_gym.streams.stream import overlap_of
from cadmus_gym.testing import check_programs

SMALL: dict[str, Any] = {"operations": {"1": 1, "2": 1, "3": 1}, "operands": [0, 9]}
OURS = [(id, split) for id in cg.SPECS for split in cg.load_spec(id).splits]


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget which warnings were given."""
    monkeypatch.setattr(stream, "_COMPARED", set())


@pytest.mark.parametrize(("id", "split"), OURS)
def test_shipped_splits_do_not_overlap_train(id: str, split: str) -> None:
    cg.Stream(id, split)  # and a warning is an error
    for part, _ in cg.load_spec(id).parts:
        assert split not in part.splits or overlap_of(part, split) == 0


def test_an_overlapping_inherited_split_warns_once() -> None:
    spec = cg.load_spec("Cadmus-Arith-v0", **SMALL)
    with pytest.warns(UserWarning, match=r"Cadmus-Arith-v0 \(arith.toml\) \[splits.long\]: train could write") as seen:
        cg.Stream(spec, "long")
    cg.Stream(pickle.loads(pickle.dumps(spec)), "long", seed=4)  # and further warnings are errors
    cg.Stream(cg.load_spec(spec.table()), "long")
    assert [Path(one.filename).name for one in seen] == ["test_overlap.py"]
    for split in ("train", "test", "wide", "pairs"):
        cg.Stream(spec, split)
    # of the same split beside another train there is nothing to warn of
    cg.Stream(cg.load_spec("Cadmus-Arith-v0", operands=[0, 9]), "long")


def test_the_share_agrees_with_prompts_that_train_writes() -> None:
    spec = cg.load_spec("Cadmus-Arith-v0", operands=[0, 9], splits={"some": {"parameters": {"operands": [0, 18]}}})
    prompts, lengths = cg.Stream(spec).prompts(np.zeros(400_000, np.int64), np.arange(400_000))
    train = {row[:n].tobytes() for row, n in zip(prompts, lengths, strict=True)}
    with pytest.warns(UserWarning, match=r"\[splits.some\]"):
        asked, sizes = cg.Stream(spec, "some").prompts(np.zeros(256, np.int64), np.arange(256))
    written = np.mean([row[:n].tobytes() in train for row, n in zip(asked, sizes, strict=True)])
    assert 0.05 < written <= overlap_of(spec, "some") < written + 0.1
    assert overlap_of(spec, "long") == overlap_of(spec, "train") == overlap_of(spec, "test") == 0


def test_disjoint_shares_prevent_overlap() -> None:
    parameters = {"operations": {"3": 1}}
    spec = cg.load_spec("Cadmus-Arith-v0", **SMALL, splits={"long": {"parameters": parameters, "share": [0, 0.1]}})
    cg.Stream(spec, "long")
    assert overlap_of(spec, "long") == 0


def test_the_warning_names_the_part_of_a_mixture(tmp_path: Path) -> None:
    (tmp_path / "small.toml").write_text(
        'base = "Cadmus-Arith-v0"\nid = "Small-v0"\n[parameters]\noperands = [0, 9]\noperations = {1 = 1, 3 = 1}\n'
    )
    (tmp_path / "both.toml").write_text(
        'id = "Both-v0"\nform = "answer"\n[mixture]\n"small.toml" = 1\nCadmus-Loop-v0 = 1\n'
        "[episode]\nmax_tokens = 96\nthought_tokens = 80\n"
    )
    with pytest.warns(UserWarning, match=r"Small-v0 \(small.toml\) \[splits.long\]"):
        cg.Stream(tmp_path / "both.toml", "long")
    cg.Stream({str(tmp_path / "small.toml"): 1, "Cadmus-Loop-v0": 2}, "long")


FAMILY = """
from dataclasses import dataclass
from cadmus_gym.tasks import Family

@dataclass(frozen=True)
class Parameters:
    most: int = 40

def compose(parameters, choices):
    return f"{choices.integer(2, parameters.most)} {choices.integer(2, parameters.most)} add"

PAIRS = Family("pairs", 1, Parameters, "value", lambda parameters: 8, compose=compose)
"""


@pytest.fixture
def pairs(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "pairs_family.py").write_text(FAMILY)
    (tmp_path / "pairs.toml").write_text(
        'id = "Pairs-v0"\ntask = "pairs_family:PAIRS"\n[splits.train]\nshare = [0.1, 1.0]\n'
        "[splits.more]\nparameters = { most = 60 }\n[splits.test]\nshare = [0.0, 0.1]\n"
        "[splits.held]\nparameters = { most = 61 }\nshare = [0.0, 0.1]\n"
    )
    yield tmp_path / "pairs.toml"
    sys.modules.pop("pairs_family", None)


def test_a_family_in_plain_python_is_compared_by_problems(pairs: Path) -> None:
    with pytest.warns(UserWarning, match=r"Pairs-v0 \(pairs.toml\) \[splits.more\]"):
        cg.Stream(pairs, "more")
    assert (
        0.2 < overlap_of(cg.load_spec(pairs), "more") < 0.45
    )  # at most (39 / 59) ** 2 of 0.9, if all of train were drawn
    for split in ("train", "test", "held"):
        cg.Stream(pairs, split)


def test_checking_a_spec_warns(pairs: Path) -> None:
    with pytest.warns(UserWarning, match=r"\[splits.more\]"):
        check_programs(cg.load_spec(pairs), 20)
    check_programs(cg.load_spec(pairs), 20)
