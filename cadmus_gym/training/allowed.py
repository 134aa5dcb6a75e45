"""What values a setting may have."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple


class Rule(NamedTuple):
    """What a setting may be, in words and as a test."""

    allowed: str
    holds: Callable[[Any], bool]


def _number(value: Any) -> bool:
    return type(value) in (int, float)


WHOLE = Rule("a whole number from 1", lambda value: type(value) is int and value >= 1)
POSITIVE = Rule("a number above 0", lambda value: _number(value) and 0 < value < math.inf)
NOT_NEGATIVE = Rule("a number from 0", lambda value: _number(value) and 0 <= value < math.inf)
SHARE = Rule("a number from 0 to 1", lambda value: _number(value) and 0 <= value <= 1)
TABLE = Rule("a table of keys of the spec", lambda value: isinstance(value, dict))
RATE = Rule("a number above 0, at most 1", lambda value: _number(value) and 0 < value <= 1)


def whole_to(last: int) -> Rule:
    return Rule(f"a whole number from 0 to {last}", lambda value: type(value) is int and 0 <= value <= last)


def optional(rule: Rule) -> Rule:
    return Rule(f"{rule.allowed}, or None", lambda value: value is None or rule.holds(value))


def check(settings: object, rules: Mapping[str, Rule]) -> None:
    """Raise ValueError for the first setting that breaks its rule."""
    for name, rule in rules.items():
        value = getattr(settings, name)
        if not rule.holds(value):
            raise ValueError(f"{name} = {value!r}; allowed: {rule.allowed}")
