"""The form `words`: what nests, where a `,` may stand, and the budget of a body."""

from __future__ import annotations

import random

import numpy as np
import pytest
from support.automata import (
    CONTROL,
    WORD_LISTS,
    Names,
    allowed,
    automaton,
    by_nesting,
    closers,
    is_read,
    push,
    thinks,
    walk,
)

from cadmus_gym.language.forms import Automata, Rules
from cadmus_gym.language.isa import ID

WORD_PROMPTS = [
    "",
    "3 dup",
    "3 if 4",
    "3 if 4 else 5",
    "3 times begin i",
    "def dup",
    "def dup ret",
    "def times i",
    "( 1",
    "case 3 to 9 do 3 times",
    "1 if " * 15,
    "1 if " * 16,
]


@pytest.mark.parametrize("words", WORD_LISTS)
def test_words_allows_exactly_what_nests(words: str) -> None:
    chooser = random.Random(words)
    liked = (*(word for word in WORD_LISTS[words] if word in CONTROL), "(")
    usable = {"if": "fi", "times": "next", "begin": "until", "def": "ret"}
    for prompt in WORD_PROMPTS:
        names = prompt.split()
        if any(opener in names and closer not in WORD_LISTS[words] for opener, closer in usable.items()):
            continue  # cannot be closed with this list
        for _ in range(3):
            max_tokens = len(closers(names)) + chooser.choice((0, 1, 2, 3, 5, 8, 40))
            budget = {"thought_tokens": chooser.randrange("(" in names, 6), "max_tokens": max_tokens}
            viable = by_nesting(list(WORD_LISTS[words]), names, max_tokens, budget["thought_tokens"])
            automata = automaton("words", names, words=WORD_LISTS[words], **budget)
            assert is_read(names + walk(automata, viable, max_tokens, chooser, liked))


@pytest.mark.parametrize("thought_tokens", [0, 4])
@pytest.mark.parametrize("most", [1, 2, 3, 5])
def test_a_body_has_the_budget_of_its_number_of_cases(most: int, thought_tokens: int) -> None:
    """Exhaustively: all completions of a short budget, and none with a longer body, can be written."""
    words, prompt = ("1", ",", "dup", "if", "fi"), ["case", "3", "to", "9", "case", "5", "to", "1", "5", "do"]
    rules = Rules("words", words, 8, thought_tokens, ((2, most), (3, 1)))
    row = np.array([ID[name] for name in prompt], np.uint8)[None]
    bodies: set[tuple[str, ...]] = set()
    begun: list[Names] = [[]]
    while begun:
        names = begun.pop()
        automata = Automata(rules, row, np.array([row.size]))
        for name in names:
            push(automata, name)
        if automata.done[0]:
            assert names[-1] == "end"
            thought = list(thinks(names))
            bodies.add(tuple(name for name, thinking in zip(names, thought, strict=True) if not thinking))
            continue
        now = allowed(automata)
        assert now
        begun += [[*names, name] for name in now if name in {*words, "end"} or (name in "()" and "(" not in names)]
    assert max(map(len, bodies)) == most + 1
    longer = Automata(rules, np.array([[*row[0], ID["dup"]]], np.uint8), np.array([row.size + 1]))
    assert allowed(longer) & {"dup"} == ({"dup"} if most > 1 else set())  # what a prompt gives counts


def test_words_nests_up_to_the_depth_limit() -> None:
    automata = automaton("words", [], words=("if", "fi"), max_tokens=100)
    for _ in range(16):
        assert "if" in allowed(automata)
        push(automata, "if")
    assert allowed(automata) == {"fi"}
    push(automata, "fi")
    assert allowed(automata) == {"if", "fi"}
