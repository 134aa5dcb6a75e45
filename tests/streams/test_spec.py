"""Specs: names, overrides, digests."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import gymnasium
import pytest
from support.specs import ARITH, IDS, TRAIN, written

import cadmus_gym as cg

# Ids are promises: what changes one of these gives the environment a new version instead. For each id and split: the
# digest and the first three programs. `PYTHONPATH=tests python tests/streams/test_spec.py` prints the current ones.
GOLDEN: dict[str, dict[str, list[str]]] = json.loads(Path(__file__).with_name("golden.json").read_text())


def test_unknown_id_gets_a_suggestion() -> None:
    with pytest.raises(ValueError, match=r"'Cadmus-Arit-v0'.*did you mean Cadmus-Arith-v0"):
        cg.load_spec("Cadmus-Arit-v0")
    with pytest.raises(ValueError, match=r"registered are .*Cadmus-Arith-v0"):
        cg.load_spec("zzz")


@pytest.mark.parametrize("id", IDS)
def test_unknown_split_or_keyword_is_named(id: str) -> None:
    splits = ", ".join(cg.load_spec(id).splits)
    for make in (gymnasium.make, gymnasium.make_vec):
        with pytest.raises(ValueError, match=rf"{id}: no split 'nowhere'; it has {splits}"):
            make(id, split="nowhere")
        wanted = rf"{id} got an unexpected keyword argument 'rewards'; did you mean 'reward'\? known: .*episode"
        with pytest.raises(TypeError, match=wanted):
            make(id, rewards="truth")
        with pytest.raises(ValueError, match=r"endian = 'middle': known are big, little"):
            make(id, endian="middle")
    with pytest.raises(ValueError, match=rf"{id}: no split 'nowhere'; it has {splits}"):
        cg.Stream(id, "nowhere")


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        ({"id": "Other-v0"}, ["'id'", "known"]),
        ({"task": "compare"}, ["'task'", "known"]),
        ({"operandz": [0, 9]}, ["'operandz'", "did you mean 'operands'"]),
        ({"operands": [9, 0]}, ["[parameters]", "operands", "[9, 0]"]),
        ({"operands": "few"}, ["[parameters]", "operands", "'few'", "a list"]),
        ({"thoughts": None}, ["[thoughts]", "None", "a table"]),
        ({"thoughts": {"stiles": "none"}}, ["[thoughts]", "'stiles'", "style"]),
        ({"episode": {"max_tokens": 1}}, ["max_tokens", "thought_tokens"]),
        ({"words": ["dup"]}, ["words", "'value'"]),
        ({"form": "words"}, ["words", "needs a list"]),
        ({"splits": {"train": 5}}, ["[splits.train]", "5", "a table"]),
        ({"reward": None}, ["reward", "None", "a string"]),
    ],
)
def test_wrong_override_names_id_and_key(overrides: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(ValueError, match=r"^Cadmus-Arith-v0") as raised:
        cg.load_spec("Cadmus-Arith-v0", **overrides)
    assert [part for part in parts if part not in str(raised.value)] == [], str(raised.value)


def test_overrides_change_nothing_else() -> None:
    spec = cg.load_spec("Cadmus-Arith-v0")
    before = dataclasses.asdict(spec)
    after = dataclasses.asdict(
        spec.override(limit=500, thoughts={"share": 0.5}, reward="cases", episode={"max_tokens": 90}, description="x")
    )
    expected = json.loads(json.dumps(before))
    expected["parameters"]["limit"] = 500
    expected["thoughts"]["share"] = 0.5
    expected["reward"] = "cases"
    expected["episode"]["max_tokens"] = 90
    expected["description"] = "x"
    assert json.loads(json.dumps(after)) == expected
    assert dataclasses.asdict(spec) == before


def test_override_of_parameters_keeps_other_keys_and_those_of_splits() -> None:
    spec = cg.load_spec("Cadmus-Arith-v0", parameters={"operands": [0, 9]})
    assert spec.split_parameters("train").operands == (0, 9)
    assert spec.split_parameters("train").limit == 9999
    assert spec.split_parameters("wide").operands == (100, 999)
    assert spec == cg.load_spec("Cadmus-Arith-v0", operands=[0, 9])


def test_an_override_can_add_a_split() -> None:
    added = {"parameters": {"operands": [100, 105], "limit": 999}}
    spec = cg.load_spec("Cadmus-Arith-v0", splits={"small": added})
    assert list(spec.splits) == [*cg.load_spec("Cadmus-Arith-v0").splits, "small"]
    assert cg.Stream(spec, "small").batch(0, 5)[0].shape[0] == 5


def test_override_of_the_form_drops_words() -> None:
    spec = cg.load_spec("Cadmus-Arith-v0", form="words", words=["dup", "eq"])
    assert spec.words == ("dup", "eq")
    assert spec.override(form="value").words == ()
    assert spec.override(reward="cases").words == ("dup", "eq")


def test_an_override_can_be_undone() -> None:
    spec = cg.load_spec("Cadmus-Arith-v0")
    assert spec.override(limit=500).override(limit=9999) == spec
    assert spec.override(limit=500).override(limit=9999).digests() == spec.digests()


def golden() -> dict[str, dict[str, list[str]]]:
    found: dict[str, dict[str, list[str]]] = {}
    for id in IDS:
        for split, digest in cg.load_spec(id).digests().items():
            programs, _ = cg.Stream(id, split, seed=0).batch(0, 3)
            first = [cg.disassemble(program[program > 0]) for program in programs]
            found.setdefault(id, {})[split] = [digest, *first]
    return found


def test_programs_of_every_id_equal_the_golden_ones() -> None:
    assert golden() == GOLDEN


@pytest.mark.parametrize("id", IDS)
def test_digests_of_splits_differ(id: str) -> None:
    digests = cg.load_spec(id).digests()
    assert len(set(digests.values())) == len(digests)
    assert all(re.fullmatch(r"[0-9a-f]{64}", digest) for digest in digests.values())


@pytest.mark.parametrize(
    "overrides",
    [
        {"splits": {"more": {"parameters": {"limit": 98765}}}},
        {"description": "other"},
        {"reward": "cases"},
        {"episode": {"max_tokens": 1000, "thought_tokens": 10}},
        {"form": "free", "words": []},
        {"form": "words", "words": ["dup", "eq"]},
    ],
    ids=["split", "description", "reward", "episode", "form", "words"],
)
def test_digest_of_a_split_ignores_what_does_not_shape_programs(overrides: dict[str, Any]) -> None:
    spec = cg.load_spec("Cadmus-Arith-v0")
    other = spec.override(**overrides)
    assert {name: other.digests()[name] for name in spec.splits} == spec.digests()
    assert other.digest != spec.digest


def test_description_is_not_in_the_digest_of_a_split() -> None:
    spec = cg.load_spec("Cadmus-Arith-v0")
    splits = {name: dataclasses.replace(split, description="other") for name, split in spec.splits.items()}
    assert dataclasses.replace(spec, splits=splits).digests() == spec.digests()


SHAPING: dict[str, list[dict[str, Any]]] = {
    "Cadmus-Logic-v0": [
        {"operands": [2, 98]},
        {"bits": {"1": 1}},
        {"terms": {"4": 1, "5": 2}},
        {"joined": {"0": 1, "1": 2}},
        {"bitwise": {"and": 1}},
        {"relations": {"eq": 1}},
        {"negated": 0.26},
    ],
    "Cadmus-Stack-v0": [
        {"operands": [2, 98]},
        {"operators": {"add": 1, "sub": 1}},
        {"literals": {"2": 1}},
        {"moves": {"2": 1}},
        {"stack_words": {"swap": 1, "over": 1, "dup": 1}},
        {"limit": 9998},
        {"held_out": ["swap over"]},
    ],
    "Cadmus-Register-v0": [{"operations": {"2": 1}}, {"partners": {"literal": 1, "other": 1}}, {"limit": 9998}],
    "Cadmus-Branch-v0": [
        {"blocks": {"2": 1}},
        {"depths": {"1": 1}},
        {"relations": {"lt": 1}},
        {"live": 0.51},
        {"distance": 21},
    ],
    "Cadmus-Loop-v0": [
        {"factors": [2, 2]},
        {"turns": [2, 4]},
        {"items": {"1": 1}},
        {"indexed": 0.26},
        {"kinds": {"times": 1}},
    ],
    "Cadmus-Function-v0": [{"factors": [2, 2]}, {"levels": [2, 3]}, {"doubles": [2, 3]}, {"kinds": {"count": 1}}],
    "Cadmus-Mix-v0": [{"thoughts": {"share": 0.5, "style": "trace"}}],
    "Cadmus-Arith-v0": [
        {"operands": [0, 98]},
        {"operators": {"add": 2, "sub": 1, "mul": 1}},
        {"operators": {"add": 1, "sub": 1}},
        {"operations": {"1": 1, "2": 2}},
        {"limit": 9998},
        {"thoughts": {"share": 0.999}},
        {"thoughts": {"style": "values"}},
        {"thoughts": {"limit": 47}},
    ],
    "Cadmus-Compare-v0": [
        {"lengths": {"5": 1, "1-4": 1}},
        {"relations": {"eq": 1}},
        {"ties": 0.2501},
        {"order": {"digit": 1}},
        {"equality": {"digit": 1}},
        {"outer": 0.3},
        {"reserved": [97, 14]},
        {"reserved_from": 10001},
    ],
}


@pytest.mark.parametrize(("id", "overrides"), [(id, change) for id in SHAPING for change in SHAPING[id]], ids=str)
def test_digest_of_a_split_depends_on_what_shapes_programs(id: str, overrides: dict[str, Any]) -> None:
    assert cg.load_spec(id, **overrides).digests()["train"] != cg.load_spec(id).digests()["train"]


def test_digest_depends_on_the_share() -> None:
    spec = cg.load_spec("Cadmus-Arith-v0")
    shares = [[0.1, 1.0], [0.1, 0.9], [0.1, 0.90000001], [0.2, 1.0]]
    digests = {spec.override(splits={"train": {"share": share}}).digests()["train"] for share in shares}
    assert len(digests) == len(shares)


def test_digest_depends_on_the_weights_of_a_mixture() -> None:
    values = {"id": "My-Mix-v0", "form": "answer"}
    one, other = (
        cg.load_spec({**values, "mixture": {"Cadmus-Arith-v0": 1, "Cadmus-Compare-v0": weight}}) for weight in (1, 2)
    )
    assert all(one.digest_of(split) != other.digest_of(split) for split in ("train", "test"))


def test_explicit_defaults_give_the_same_digest(write: Any) -> None:
    short = cg.load_spec(write(f"{ARITH}{TRAIN}"))
    long = cg.load_spec(
        write(
            written("parameters", "operands = [0, 99]\noperators = { mul = 1, add = 1, sub = 1 }\nlimit = 9999")
            + "share = [0, 1]"
        )
    )
    assert long.digests() == short.digests()


def test_digest_of_a_split_does_not_depend_on_the_id() -> None:
    assert cg.load_spec("Cadmus-Open-v0").digests() == cg.load_spec("Cadmus-Arith-v0").digests()


if __name__ == "__main__":
    print(json.dumps(golden(), indent=1))
