"""Automata of forms for tests: players of random completions, and what nests by a naive interpreter."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import cadmus_gym as cg
from cadmus_gym.language.forms import Automata, Rules
from cadmus_gym.language.isa import ID, VOCABULARY
from support import naive

DIGITS = VOCABULARY[ID["0"] : ID["9"] + 1]
BODY = VOCABULARY[ID[","] :]
IN_THOUGHT = tuple(name for name in BODY if name not in ("(", ")"))
CONTROL = ("if", "else", "fi", "times", "next", "i", "begin", "until", "def", "ret", "call")

Names = list[str]
Viable = Callable[[Names], bool]


def automaton(form: str, prompt: Names, endian: str = "big", **rules: Any) -> Automata:
    tokens = np.array([ID[name] for name in prompt], np.uint8)
    return Automata(Rules(form, **{"thought_tokens": 0, **rules}), tokens[None], np.array([tokens.size]), endian)


def allowed(automata: Automata, row: int = 0) -> set[str]:
    return {VOCABULARY[token] for token in np.flatnonzero(automata.mask()[row])}


def push(automata: Automata, name: str) -> None:
    automata.push(np.array([ID[name]]))


# Regular expressions over one letter per token: d and z for digits and 0, n neg, = eq, c call, ! not, . end, * others.
def thinks(names: Names) -> Iterator[bool]:
    """Whether each token is part of a thought, including its parentheses."""
    inside = False
    for name in names:
        yield inside or name == "("
        inside = name == "(" or (inside and name != ")")


def commas_part_digits(names: Names) -> bool:
    """Whether every `,` outside thoughts stands between two digits, or at the end behind one."""
    padded = [*names, "0"]
    return all(
        name != "," or thinking or (k > 0 and names[k - 1] in DIGITS and padded[k + 1] in DIGITS)
        for k, (name, thinking) in enumerate(zip(names, thinks(names), strict=True))
    )


def closers(names: Names) -> Names:
    """The shortest way to close everything open after some tokens, and `end`."""
    closer = {"if": "fi", "times": "next", "begin": "until", "def": "ret"}
    opened: Names = []
    thought = list(thinks(names))
    for name, thinking in zip(names, thought, strict=True):
        if not thinking and name in closer:
            opened.append(closer[name])
        elif not thinking and opened and name == opened[-1]:
            opened.pop()
    return [")"] * (thought[-1:] == [True] and names[-1] != ")") + opened[::-1] + ["end"]


def by_nesting(words: Names, prompt: Names, max_tokens: int, thought_budget: int) -> Viable:
    """Viability by the naive interpreter: closed the shortest way, the program is well formed, and `,` parts digits."""

    def viable(completion: Names) -> bool:
        if "end" in completion[:-1]:
            return False
        ending = [] if completion[-1:] == ["end"] else closers(prompt + completion)
        if completion[-1:] == [","] and ")" not in ending[:1]:
            if not set(words) & set(DIGITS):
                return False
            ending = [next(word for word in words if word in DIGITS), *ending]
        completion = completion + ending
        if not commas_part_digits(prompt + completion):
            return False
        thought = list(thinks(prompt + completion))[len(prompt) :]
        outside = {name for name, thinking in zip(completion, thought, strict=True) if not thinking}
        if not outside <= {*words, "end"} or len(completion) > max_tokens or sum(thought) > thought_budget:
            return False
        return naive.judge(prompt + completion).verdict not in ("SYNTAX", "UNTERMINATED")

    return viable


def walk(
    automata: Automata, viable: Viable, max_tokens: int, chooser: random.Random, liked: tuple[str, ...] = ()
) -> Names:
    """Play random allowed tokens to the end; at each step, compare the allowed tokens with the viable ones."""
    completion: Names = []
    while not automata.done[0]:
        now = allowed(automata)
        assert now == {name for name in VOCABULARY if viable([*completion, name])}, completion
        assert now, completion
        rather = [name for name in liked if name in now]
        completion.append(chooser.choice(rather if rather and chooser.random() < 0.7 else sorted(now)))
        push(automata, completion[-1])
        assert len(completion) <= max_tokens
    assert completion[-1] == "end"
    assert allowed(automata) == set()
    return completion


def is_read(names: Names) -> bool:
    """Whether both the machine and the naive interpreter find a program well formed."""
    refused = ("SYNTAX", "UNTERMINATED")
    return cg.run(cg.encode(" ".join(names))).verdict.name not in refused and naive.judge(names).verdict not in refused


WORD_LISTS = {
    "all control": (*CONTROL, "dup", "1"),
    "no function": ("if", "else", "fi", "times", "next", "begin", "until", "i", ","),
    "if only": ("if", "fi", "0"),
    "loops": ("times", "next", "i"),
    "function": ("def", "ret", "call", "drop"),
    "function with loop": ("def", "ret", "call", "times", "next", "i"),
    "flat": (*DIGITS, "eq", "neg", "a!", "a@"),
    "everything": IN_THOUGHT,
}
