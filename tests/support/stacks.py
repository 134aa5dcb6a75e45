"""Stack programs in plain Python, for tests of families in which one is written."""

from __future__ import annotations

import re
from collections.abc import Sequence
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


def leave(body: Sequence[str], inputs: Sequence[Any]) -> list[Any] | None:
    """Return the stack after a body, or None after a fault."""
    stack, registers = list(inputs), {"a": 0, "b": 0}
    for word in body:
        needed = {"rot": 3, "dup": 1, "drop": 1, "a!": 1, "b!": 1, "a@": 0, "b@": 0}.get(word, 2)
        if len(stack) < needed:
            return None
        top = [stack.pop() for _ in range(needed)][::-1]
        if word[-1] == "!":
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
        elif word != "drop":
            x, y = top
            stack.append({"add": x + y, "sub": x - y, "mul": x * y}[word])
    return stack


def needless(case: Case) -> tuple[str, ...] | None:
    """Return the words of a span that can be left out of the body, or None."""
    body, size = case.body, len(case.body)
    for first in range(size):
        for last in range(first + 1, size + 1):
            if leave(body[:first] + body[last:], case.inputs) == list(case.outputs):
                return body[first:last]
    return None
