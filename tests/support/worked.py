"""Worked steps and answers, from the steps of the naive interpreter."""

from __future__ import annotations

import functools

from support import naive, symbolic

DIGITS = tuple("0123456789")
BITWISE = ("and", "or", "xor")
RELATIONS = ("eq", "ne", "lt", "le", "gt", "ge")

Names = list[str]


def story(names: Names) -> list[naive.Step]:
    """Return the steps of the naive interpreter for a prompt."""
    return _story(tuple(names))


@functools.lru_cache(maxsize=1)  # thoughts and answers of one prompt follow each other
def _story(names: tuple[str, ...]) -> list[naive.Step]:
    run = naive.Run(naive.parse([*names, "end"]), [], watched=True).go()
    assert run.fault is None, (run.fault, names)
    return run.story


def spelled(values: list[str | int]) -> Names:
    """Return names and integers as tokens, with `,` between digits of different integers."""
    names: Names = []
    for value in values:
        if isinstance(value, str):
            names.append(value)
            continue
        names += [","] * (names[-1:] != [] and names[-1] in DIGITS) + list(str(abs(value))) + ["neg"] * (value < 0)
    return names


def parts(x: int, y: int) -> list[int]:
    """Return the partial products of x * y: one per digit of the factor with fewer digits, or of the right one."""
    if min(abs(x), abs(y)) < 10:
        return []
    whole, digits = (x, y) if len(str(abs(y))) <= len(str(abs(x))) else (y, x)
    sign = -1 if digits < 0 else 1
    return [sign * int(digit) * 10**place * whole for place, digit in enumerate(reversed(str(abs(digits))))]


def thought_of(names: Names, style: str, limit: int) -> Names:
    """Return the thought that a style writes after a prompt, with parentheses, or nothing."""
    replayed: list[str | int] = []
    last: list[str | int] = []  # what only the last instruction wrote, left out where its value is the answer
    value, before = None, ()
    for step in story(names):
        name, stack, position = step.token, step.stack, step.position
        x, y = before[-2:] if len(before) > 1 else (0, 0)
        literal = name in (*DIGITS, ",") or (name == "neg" and position > 0 and names[position - 1] in DIGITS)
        before = stack
        if style == "none" or literal or (style != "stack" and name not in symbolic.COMPUTES):
            continue
        replayed += last
        value = stack[-1] if stack else 0
        if style in ("products", "digits") and name == "mul":
            replayed += parts(x, y)
        if style in ("products", "digits") and name in RELATIONS:
            replayed.append(x - y)
        if style == "digits" and name in BITWISE and x >= 0 and y >= 0 and max(x, y) >= 8:
            replayed += [int(f"{number:o}") for number in (x, y, value)]
        last = [value]
        if style == "trace":
            last = [name, value]
        if style == "stack":
            last = [name, *stack]
    replayed += last if value != before[-1] else []
    thought = ["(", *spelled(replayed), ")"] if replayed else []
    return thought if len(thought) <= limit else []


def completed(names: Names, thought: Names, form: str) -> Names:
    answer = story(names)[-1].stack[-1]
    if form == "relation":
        return [*names, *thought, *(["not"] if answer == 0 else []), "end"]
    literal = spelled([answer])
    return [*names, *thought, *literal, "eq", "end"]
