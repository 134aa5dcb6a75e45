"""The expression that running a prompt computes, found by the naive interpreter on values that know their origin.

Two prompts are one problem when their expressions are the same, operands of commutative operations in either order.
"""

from __future__ import annotations

from typing import Any

import naive

COMMUTATIVE = ("add", "mul", "min", "max", "eq", "ne", "and", "or", "xor")
COMPUTES = (*COMMUTATIVE, "sub", "div", "mod", "neg", "abs", "inc", "dec", "lt", "le", "gt", "ge", "not")
MIRRORED = {"gt": "lt", "ge": "le"}
Key = Any  # an int for a literal, else (operation, keys of its operands)


class Traced(int):
    """An integer that was computed."""

    key: Key


def key_of(value: int) -> Key:
    return value.key if isinstance(value, Traced) else int(value)


def combined(name: str, operands: list[int]) -> Key:
    keys = [key_of(value) for value in operands]
    if name == "neg" and isinstance(keys[0], int):
        return -keys[0]
    if name in ("inc", "dec"):
        name, keys = ("add" if name == "inc" else "sub"), [*keys, 1]
    if name in MIRRORED:
        name, keys = MIRRORED[name], keys[::-1]
    if name in COMMUTATIVE:
        keys.sort(key=repr)
    return (name, *keys)


class Symbolic(naive.Run):
    def execute(self, node: naive.Node) -> None:
        if node.name not in COMPUTES:
            super().execute(node)
            return
        count, effect = naive.EFFECTS[node.name]
        operands = self.pop(count)
        (value,) = effect(*map(int, operands))
        traced = Traced(value)
        traced.key = combined(node.name, operands)
        self.push(traced)


def expression(prompt: list[str]) -> Key:
    """The key of the one value a prompt, given by token names, leaves."""
    run = Symbolic(naive.parse([*prompt, "end"]), []).go()
    assert run.fault is None, run.fault
    (value,) = run.stack
    return key_of(value)
