"""Form and budget of completions, from a spec or from the card of a model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

import cadmus_gym as cg
from cadmus_gym.evaluation.completing import asked_under, ids_of, rules_of, trained_on
from cadmus_gym.language.forms import Rules


def card_of(env: object, overrides: object = None) -> dict[str, Any]:
    return {"settings": {"env": env, "overrides": overrides}}


ARITH = card_of("Cadmus-Arith-v0", {})
TOML = """
id = "Mine-v0"
task = "arith"
form = "words"
words = ["add", "1"]

[episode]
max_tokens = 30
thought_tokens = 7

[splits.train]
"""


def test_specs_and_rules_are_read_from_the_card() -> None:
    def ids(env: object, overrides: object = None) -> list[str]:
        return [spec.id for spec in trained_on(card_of(env, overrides))]

    assert ids("Cadmus-Mix-v0") == ["Cadmus-Mix-v0"]
    assert ids({"Cadmus-Arith-v0": 2, "Cadmus-Loop-v0": 1}) == ["Cadmus-Arith-v0", "Cadmus-Loop-v0"]
    (spec,) = trained_on(card_of("Cadmus-Arith-v0", {"reward": "cases"}))
    assert spec.reward == "cases"
    assert trained_on(ARITH)[0].reward == "truth"  # other cards are not affected
    assert len(ids_of([cg.load_spec("Cadmus-Mix-v0")])) == 9
    for card in ({}, {"settings": {}}, {"settings": {"env": None}}, {"settings": 3}):
        with pytest.raises(ValueError, match="does not say what it was trained on"):
            trained_on(card)
    specs = [cg.load_spec(f"Cadmus-{name}-v0") for name in ("Arith", "Compare", "Open")]
    assert asked_under(specs[:1]).form == "value"
    assert asked_under(specs[:2]) == Rules("answer", (), 80, 64)
    with pytest.raises(ValueError, match="do not go together"):
        asked_under(specs)


def test_an_edited_spec_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(TOML)
    card = card_of(str(path))
    assert rules_of(card).max_tokens == 30
    path.write_text(TOML.replace("30", "31"))
    os.utime(path, ns=(0, 1))  # as if written within the same tick of the clock
    assert rules_of(card).max_tokens == 31


def test_rules_come_from_the_card_or_the_spec_and_arguments_override_them(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(TOML)
    words = ("add", "1")
    assert rules_of(ARITH) == Rules("value", (), 80, 64)
    assert rules_of(ARITH, spec="Cadmus-Compare-v0") == Rules("relation", (), 16, 12)
    assert rules_of(ARITH, spec=path) == rules_of(card_of(str(path))) == Rules("words", words, 30, 7)
    assert rules_of(ARITH, spec=path, words=("mul",)) == Rules("words", ("mul",), 30, 7)
    assert rules_of(ARITH, spec=path, form="words") == Rules("words", words, 30, 7)
    assert rules_of(ARITH, spec=path, form="free") == Rules("free", (), 30, 7)
    assert rules_of(ARITH, form="relation", max_tokens=9) == Rules("relation", (), 9, 64)
    assert rules_of(ARITH, max_tokens=100) == Rules("value", (), 100, 64)
    assert rules_of(ARITH, thought_tokens=0) == Rules("value", (), 80, 0)
    assert rules_of(ARITH, max_tokens=9, thought_tokens=20) == Rules("value", (), 9, 20)


def test_without_a_card_a_form_or_a_spec_is_required() -> None:
    assert rules_of({}, form="value") == Rules("value", (), 64, 48)
    assert rules_of({}, form="words", words=("add",), max_tokens=5) == Rules("words", ("add",), 5, 48)
    assert rules_of({}, spec="Cadmus-Arith-v0") == Rules("value", (), 80, 64)
    both = r"give a form, such as form='value', or a spec, such as spec='Cadmus-Arith-v0'"
    apart = card_of({"Cadmus-Arith-v0": 1, "Cadmus-Open-v0": 1})
    for card, what in ((({}), "does not say"), (card_of("Gone-v0"), "neither a registered id"), (apart, "go together")):
        with pytest.raises(ValueError, match=f"{what}.*{both}"):
            rules_of(card)
        assert rules_of(card, form="free").form == "free"
    with pytest.raises(ValueError, match=f"No such file.*{both}"):
        rules_of(card_of("gone.toml"))
    with pytest.raises(ValueError, match="did you mean Cadmus-Arith-v0"):  # an explicit spec must exist
        rules_of({}, spec="Cadmus-Arit-v0", form="value")
