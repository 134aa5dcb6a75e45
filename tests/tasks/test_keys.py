"""Keys of problems never change, because they decide the splits."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from support.specs import VALUES

import cadmus_gym as cg
from cadmus_gym.language.isa import INSTRUCTIONS
from cadmus_gym.language.memory import scratch
from cadmus_gym.language.verdicts import RAN
from cadmus_gym.streams.spec import Spec
from cadmus_gym.tasks.family import MARKS, WORK
from cadmus_gym.tasks.solving import identify

GOLDEN = Path(__file__).with_name("golden_keys.json")

NEGATIVE = cg.load_spec("Cadmus-Arith-v0", operands=[-99, 99])  # the one family whose literals may be below zero
PROMPTS = [  # between them they execute every instruction
    "0",
    "7",
    "2147483647",
    "5 neg",
    "-5 neg",
    "-2147483647",
    "12 7 add",
    "12 -7 add",
    "-12 7 sub",
    "-12 -7 mul",
    "-12 7 div",
    "-12 7 mod",
    "12 7 sub neg",
    "12 -7 sub abs",
    "-12 7 min",
    "-12 7 max",
    "-1 inc",
    "1 dec",
    *(f"-12 7 {relation}" for relation in ("eq", "ne", "lt", "le", "gt", "ge")),
    *(f"-12 7 {joint}" for joint in ("and", "or", "xor")),
    "-12 not",
    "-3 dup mul",
    "-3 4 drop",
    "-3 4 swap sub",
    "-3 4 over sub add",
    "-3 4 5 rot sub add",
    "-3 4 5 2 pick",
    "-3 a! 4 b! a@ b@ sub",
    "-3 ( 1 2 ) if 4 else -5 fi",
    "-3 3 times i sub next",
    "-3 begin inc dup until",
    "def neg ret -3 call",
]


def first_keys(spec: str | Spec, split: str) -> list[str]:
    return [f"{key:016x}" for key in cg.Stream(spec, split, seed=0).keys(np.zeros(4, np.int64), np.arange(4))]


def key_of(prompt: str) -> str:
    tokens = cg.assemble(prompt)
    program = np.append(tokens, np.zeros(1, np.uint8))
    outcome, _, key = identify(
        program, tokens.size, np.zeros(MARKS, np.int64), np.zeros(WORK, np.int64), scratch(program.size)
    )
    assert outcome == RAN
    return f"{key:016x}"


def found() -> dict[str, dict[str, object]]:
    splits = {id: {split: first_keys(id, split) for split in cg.load_spec(id).splits} for id in VALUES}
    prompts = {prompt: key_of(prompt) for prompt in PROMPTS}
    return {"splits": splits, "negative literals": {"train": first_keys(NEGATIVE, "train")}, "prompts": prompts}


def test_keys_equal_the_pinned_ones_for_every_split() -> None:
    assert found() == json.loads(GOLDEN.read_text(encoding="utf-8"))


def test_pinned_programs_cover_negative_literals_and_every_instruction() -> None:
    programs, lengths = cg.Stream(NEGATIVE, "train", seed=0).batch(0, 4)
    assert any("neg" in cg.decode(program[:length]) for program, length in zip(programs, lengths, strict=True))
    executed = {token for prompt in PROMPTS for token in cg.decode(cg.assemble(prompt)).split()}
    assert {x.name for x in INSTRUCTIONS if x.group not in ("frame", "header", "digit")} <= executed


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("12 7 add", "7 12 add"),
        ("12 -7 mul", "-7 12 mul"),
        ("12 7 lt", "7 12 gt"),
        ("12 7 ge", "7 12 swap ge"),
        ("12 7 ge", "7 12 le"),
        ("-5", "5 neg"),
        ("-5 neg", "5"),
        ("-5 inc", "1 -5 add"),
    ],
)
def test_texts_of_one_problem_share_a_key(one: str, other: str) -> None:
    assert key_of(one) == key_of(other)


if __name__ == "__main__":
    print(json.dumps(found(), indent=1))
