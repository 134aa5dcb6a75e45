"""Shortcuts: their answers, and how seldom these are right."""

from __future__ import annotations

import numpy as np
import pytest

import cadmus_gym as cg
from cadmus_gym.language import isa as op
from cadmus_gym.tasks.shortcuts import COMPARE, OUTER

ID = "Cadmus-Compare-v0"
SPLITS = list(cg.load_spec(ID).splits)
COUNT = 2000

# The share that each may get right, in percent, on any split. What reads a digit at one place is right wherever that
# decides; what reads more digits, or all, is right more often.
CEILINGS = {
    "relation by length and outer digits": 55,
    "relation alone": 53,
    "length": 54,
    "length, first digit": 55,
    "last digit": 54,
    "second digit": 75,
    "middle digit": 72,
    "last digit but one": 69,
    "sum of digits": 79,
    "first digit of the first number": 53,
    "all digits of the first number": 56,
    "count of equal digits": 59,
    "length, first two digits": 76,
    "last two digits": 70,
    "length, first two and last two digits": 89,
}


def answers(name: str, prompts: list[str]) -> list[int]:
    tokens = [cg.assemble(prompt) for prompt in prompts]
    lengths = np.array([row.size for row in tokens])
    rows = np.zeros((len(tokens), lengths.max()), np.uint8)
    for row, prompt in zip(rows, tokens, strict=True):
        row[: prompt.size] = prompt
    return COMPARE[name](rows, lengths).tolist()


def by_outer_digits(prompt: str) -> int:
    """Answer by lengths, then first digits, then last digits."""
    left, right, relation = prompt.split()
    one, other = (len(left), left[0], left[-1]), (len(right), right[0], right[-1])
    truth = {"eq": one == other, "ne": one != other, "lt": one < other, "le": one <= other, "gt": one > other}
    return int(truth.get(relation, one >= other))


@pytest.mark.parametrize("split", SPLITS)
def test_shortcuts_are_seldom_right(split: str) -> None:
    programs, lengths = cg.Stream(ID, split, seed=31).batch(0, COUNT)
    truth = (programs[np.arange(COUNT), lengths] == op.END).astype(np.int64)
    prompts = [cg.disassemble(row[:length]) for row, length in zip(programs, lengths, strict=True)]
    naive = np.array([by_outer_digits(prompt) for prompt in prompts])
    assert (naive == truth).mean() <= 0.55
    np.testing.assert_array_equal(answers(OUTER, prompts), naive)
    assert COMPARE.keys() == CEILINGS.keys()
    for name, ceiling in CEILINGS.items():
        if (name, split) != ("sum of digits", "reserved"):  # numbers that differ in one digit have different sums
            assert (np.array(answers(name, prompts)) == truth).mean() <= ceiling / 100, name


@pytest.mark.parametrize(
    ("name", "prompt", "answer"),
    [
        ("relation alone", "12 7 le", 1),
        ("relation alone", "12 7 gt", 0),
        ("length", "12 7 gt", 1),
        ("length", "12 70 eq", 1),
        ("length, first digit", "812 797 gt", 1),
        ("length, first digit", "812 97 lt", 0),
        ("last digit", "812 97 lt", 1),
        ("last digit", "812 92 eq", 1),
        ("second digit", "812 805 gt", 1),
        ("second digit", "8 15 lt", 1),
        ("middle digit", "81234 81134 ne", 1),
        ("middle digit", "8123 8132 lt", 1),
        ("last digit but one", "8123 8132 lt", 1),
        ("last digit but one", "5 12 lt", 1),
        ("sum of digits", "19 91 eq", 1),
        ("sum of digits", "100 21 ge", 0),
        ("first digit of the first number", "512 600 gt", 1),
        ("first digit of the first number", "412 300 gt", 0),
        ("all digits of the first number", "19 7 gt", 1),
        ("all digits of the first number", "18 7 gt", 0),
        ("count of equal digits", "8123 8124 eq", 1),
        ("count of equal digits", "8123 8214 ne", 1),
        ("length, first two digits", "8123 8129 eq", 1),
        ("last two digits", "8199 9200 gt", 1),
        ("length, first two and last two digits", "81199 81299 eq", 1),
        ("length, first two and last two digits", "81299 81198 gt", 1),
    ],
)
def test_shortcuts_by_hand(name: str, prompt: str, answer: int) -> None:
    """Alone, and in a batch with longer and shorter prompts."""
    assert answers(name, [prompt]) == [answer]
    assert answers(name, ["123456 1234567 lt", prompt, "1 2 lt"])[1] == answer
