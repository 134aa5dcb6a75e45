"""The expression that a prompt computes, found by the naive interpreter on values that record their origin.

Two prompts are one problem if their expressions are equal, with operands of commutative operations in either order.
"""

from __future__ import annotations

from typing import Any

from support import naive

COMMUTATIVE = ("add", "mul", "min", "max", "eq", "ne", "and", "or", "xor")
COMPUTES = (*COMMUTATIVE, "sub", "div", "mod", "neg", "abs", "inc", "dec", "lt", "le", "gt", "ge", "not")
MIRRORED = {"gt": "lt", "ge": "le"}
Operation = tuple[Any, ...]  # its name and the values it was applied to
Key = Any  # an int for a literal, else (operation, keys of its operands)


class Traced(int):
    """An integer that was computed."""

    key: Key
    operations: list[Operation]


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
    """A run that also records every executed operation with its operands."""

    def execute(self, node: naive.Node) -> None:
        if node.name not in COMPUTES:
            super().execute(node)
            return
        count, effect = naive.EFFECTS[node.name]
        operands = self.pop(count)
        (value,) = effect(*map(int, operands))
        traced = Traced(value)
        traced.key = combined(node.name, operands)
        traced.operations = [(node.name, *map(int, operands))]
        self.executed = [*getattr(self, "executed", []), *traced.operations]
        for operand in operands:
            traced.operations = traced.operations + (operand.operations if isinstance(operand, Traced) else [])
        self.push(traced)


def run_of(prompt: list[str]) -> Symbolic:
    run = Symbolic(naive.parse([*prompt, "end"]), [])
    run.go()
    assert run.fault is None, run.fault
    return run


def expression(prompt: list[str]) -> Key:
    """Return the expression of the one value that a prompt, given by token names, leaves."""
    (value,) = run_of(prompt).stack
    return key_of(value)


def executed(prompt: list[str]) -> list[Operation]:
    """Return every operation that a prompt executes, whether or not the answer depends on it."""
    return getattr(run_of(prompt), "executed", [])


def in_expression(prompt: list[str]) -> list[Operation]:
    """Return the operations of the expression, with repetitions."""
    (value,) = run_of(prompt).stack
    return value.operations if isinstance(value, Traced) else []
