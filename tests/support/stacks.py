"""Stack programs in plain Python, for tests of families in which one is written."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

import cadmus_gym as cg


class Case(NamedTuple):
    """A program of one case, as people read it."""

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    body: tuple[str, ...]


def read(program: Any) -> Case:
    """Read a program (L,) of one case."""
    text = cg.disassemble(program[program > 0])
    found = re.fullmatch(r"case ([-0-9 ]+) to ([-0-9 ]+) do ([a-z!@ ]+) end", text)
    assert found, text
    inputs, outputs, body = found.groups()
    return Case(tuple(map(int, inputs.split())), tuple(map(int, outputs.split())), tuple(body.split()))


def cases(spec: Any, split: str, count: int, seed: int = 0) -> list[Case]:
    return [read(row) for row in cg.Stream(spec, split, seed=seed).batch(0, count)[0]]


def keys(spec: Any, split: str, count: int, seed: int = 0) -> list[int]:
    return [int(key) for key in cg.Stream(spec, split).keys(np.full(count, seed), np.arange(count))]


RESULTS: dict[str, Callable[[Any, Any], Any]] = {
    **{"add": operator.add, "sub": operator.sub, "mul": operator.mul, "min": min, "max": max},
    **{name: getattr(operator, name) for name in ("eq", "ne", "lt", "le", "gt", "ge")},
}


def leave(body: Sequence[str], inputs: Sequence[Any]) -> list[Any] | None:
    """Return the stack after a body, or None after a fault."""
    stack, registers, position = list(inputs), {"a": 0, "b": 0}, 0
    while position < len(body):
        word = body[position]
        position += 1
        needed = {"rot": 3, "dup": 1, "drop": 1, "a!": 1, "b!": 1, "a@": 0, "b@": 0, "if": 1, "else": 0, "fi": 0}
        count = needed.get(word, 2)
        if len(stack) < count:
            return None
        top = [stack.pop() for _ in range(count)][::-1]
        if word == "else" or (word == "if" and not top[0]):  # go past the other end of the arm
            depth = 1
            while depth:
                other = body[position]
                depth += (other == "if") - (other == "fi" or (other == "else" and depth == 1 and word == "if"))
                position += 1
        elif word[-1] == "!":
            registers[word[0]] = top[0]
        elif word[-1] == "@":
            stack.append(registers[word[0]])
        elif word == "dup":
            stack += [top[0], top[0]]
        elif word == "swap":
            stack += [top[1], top[0]]
        elif word == "over":
            stack += [top[0], top[1], top[0]]
        elif word == "rot":
            stack += [top[1], top[2], top[0]]
        elif word in RESULTS:
            stack.append(RESULTS[word](*top) + 0)
    return stack


def needless(case: Case) -> tuple[str, ...] | None:
    """Return the words of a span that can be left out of the body, or None."""
    body, size = case.body, len(case.body)
    for first in range(size):
        for last in range(first + 1, size + 1):
            if leave(body[:first] + body[last:], case.inputs) == list(case.outputs):
                return body[first:last]
    return None
