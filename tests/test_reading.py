"""Tables become dataclasses, and every mistake is an error that says where it is and what is allowed."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from cadmus_gym.reading import convert, naming, read_toml


@dataclass(frozen=True)
class Part:
    share: tuple[float, float] = (0.0, 1.0)
    weights: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.share[1] > 1:
            raise ValueError(f"share = {list(self.share)}: give an interval within 0 to 1")


@dataclass(frozen=True)
class Table:
    id: str
    rate: float = 0.5
    kind: Literal["big", "little"] = "big"
    steps: int | None = None
    words: tuple[str, ...] = ()
    tied: bool = False
    source: str | dict[str, int] = ""
    parts: dict[str, Part] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
    file: str = ""


def test_values_become_the_types_of_their_fields() -> None:
    values = {
        "id": "x",
        "rate": 2,
        "kind": "little",
        "steps": 3,
        "words": ["a", "b"],
        "tied": True,
        "source": {"a": 1},
        "parts": {"train": {"share": [0, 0.5], "weights": {1: 2}}},
        "extra": {"any": {1: [2.5, "x"]}},
    }
    made = convert(Table, values, given={"file": "my.toml"})
    assert made.rate == 2.0
    assert type(made.rate) is float
    assert (made.kind, made.steps, made.words, made.tied, made.source) == ("little", 3, ("a", "b"), True, {"a": 1})
    assert made.parts == {"train": Part((0.0, 0.5), {"1": 2})}
    assert made.extra == {"any": {"1": [2.5, "x"]}}
    assert made.file == "my.toml"
    assert convert(Table, made) is made


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (5, "expected a table, not 5"),
        ({}, "key 'id' is missing"),
        ({"idd": "x"}, "unknown key 'idd'; did you mean 'id'? known: id, rate, kind, steps, words"),
        ({"id": "x", "file": "y"}, "unknown key 'file'"),
        ({"id": 5}, "id = 5: expected a string"),
        ({"id": "x", "rate": True}, "rate = True: expected a number"),
        ({"id": "x", "rate": 10**400}, "expected a number"),
        ({"id": "x", "tied": 1}, "tied = 1: expected true or false"),
        ({"id": "x", "kind": "middle"}, "kind = 'middle': expected 'big' or 'little'"),
        ({"id": "x", "kind": ["big"]}, "kind = ['big']: expected 'big' or 'little'"),
        ({"id": "x", "steps": 1.0}, "steps = 1.0: expected a whole number"),
        ({"id": "x", "source": {"a": 0.5}}, "source = {'a': 0.5}: expected a string or a table of whole numbers"),
        ({"id": "x", "words": "ab"}, "words = 'ab': expected a list of strings"),
        ({"id": "x", "words": ["a", 1]}, "words = ['a', 1]: expected a list of strings"),
        ({"id": "x", "extra": 1}, "extra = 1: expected a table"),
        ({"id": "x", "parts": {"train": 1}}, "[parts.train]: expected a table, not 1"),
        ({"id": "x", "parts": {"train": {"shares": 1}}}, "[parts.train]: unknown key 'shares'; did you mean 'share'?"),
        (
            {"id": "x", "parts": {"train": {"share": 0.5}}},
            "[parts.train]: share = 0.5: expected a list of two numbers, e.g. [0.0, 1.0]",
        ),
        ({"id": "x", "parts": {"train": {"share": [0, 0, 1]}}}, "share = [0, 0, 1]: expected a list of two numbers"),
        ({"id": "x", "parts": {"train": {"share": [0, 2]}}}, "[parts.train]: share = [0.0, 2.0]: give an interval"),
        (
            {"id": "x", "parts": {"train": {"weights": {"a": 1.5}}}},
            "[parts.train.weights]: a = 1.5: expected a whole number",
        ),
    ],
)
def test_a_mistake_names_the_table_the_key_and_what_is_allowed(values: Any, message: str) -> None:
    with pytest.raises(ValueError, match=r".") as raised:
        convert(Table, values, given={"file": ""})
    assert message in str(raised.value)


def test_naming_puts_the_file_in_front() -> None:
    def convert_named(values: Any) -> None:
        with naming("my.toml"):
            convert(Table, values)

    with pytest.raises(ValueError, match=r"^my\.toml: key 'id' is missing"):
        convert_named({})
    with pytest.raises(ValueError, match=r"^my\.toml \[parts\.train\]: unknown key"):
        convert_named({"id": "x", "parts": {"train": {"x": 1}}})
    endless: dict[str, Any] = {"id": "x"}
    endless["extra"] = endless
    with pytest.raises(ValueError, match=r"^my\.toml: nested too deeply, or contains itself"):
        convert_named(endless)


def test_a_file_that_is_not_toml_is_named(tmp_path: Path) -> None:
    path = tmp_path / "my.toml"
    with pytest.raises(FileNotFoundError):
        read_toml(path)
    for content, message in (
        (b"x = \n", "not TOML: .*line 1"),
        (b"\xff", "not TOML: .*utf-8"),
        (b"x = " + b"[" * 5000, "not TOML: nested too deeply"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=rf"^my\.toml: {message}"):
            read_toml(path)
    with pytest.raises(ValueError, match=r": cannot be read: .*; give a TOML file"):
        read_toml(tmp_path)
    path.write_bytes(b"\xef\xbb\xbfx = 1")
    assert read_toml(path) == {"x": 1}
