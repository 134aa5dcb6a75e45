"""Reads TOML files, or tables from anywhere else, into frozen dataclasses: the specs, recipes and studies of users.

Every key of a table is a field of the dataclass. An error names the table, the key and what is allowed, such as
``[splits.train]: share = 0.5: expected a list of two numbers, e.g. [0.0, 1.0]``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import functools
import tomllib
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import repeat
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

WORDS: dict[Any, tuple[str, str]] = {  # of an error, for one value and for several
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    str: ("a string", "strings"),
    bool: ("true or false", "truth values"),
}
COUNTS = {2: "two", 3: "three", 4: "four"}

_hints: Callable[[Any], dict[str, Any]] = functools.cache(typing.get_type_hints)


def read_toml(path: Path) -> dict[str, Any]:
    """Return the values of a TOML file in UTF-8, with or without a byte order mark.

    Raises FileNotFoundError if there is no such file, ValueError if it cannot be read or is not TOML.
    """
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ValueError(f"{path.name}: cannot be read: {error.strerror}; give a TOML file") from None
    except RecursionError:
        raise ValueError(f"{path.name}: not TOML: nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"{path.name}: not TOML: {error}") from None


@contextlib.contextmanager
def naming(name: str) -> Iterator[None]:
    """Put a name, such as that of a file, in front of every ValueError of the block."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{name}{' ' if str(error).startswith('[') else ': '}{error}") from None
    except RecursionError:
        raise ValueError(f"{name}: nested too deeply, or contains itself") from None


def convert(kind: type[T], values: Any, *table: str, given: Mapping[str, Any] | None = None) -> T:
    """Return a dataclass with the values of a table, converted to the types of its fields.

    table: the keys that lead to the table, for errors.
    given: fields that are set as they are and that no table may set.

    Raises ValueError for an unknown or missing key, a value of another type, and whatever the dataclass itself rejects.
    """
    if isinstance(values, kind):
        return values
    place, given = _place(table), given or {}
    if not isinstance(values, Mapping):
        raise ValueError(f"{place}expected a table, not {values!r}")
    entries = {entry.name: entry for entry in dataclasses.fields(kind) if entry.name not in given}  # type: ignore[arg-type]
    for key in values:
        if key not in entries:
            raise ValueError(f"{place}unknown key {key!r}; {known(key, entries)}")
    for key, entry in entries.items():
        if entry.default is entry.default_factory is dataclasses.MISSING and key not in values:
            raise ValueError(f"{place}key {key!r} is missing")
    hints = _hints(kind)
    found = {key: _convert(hints[key], value, (*table, key), entries[key].default) for key, value in values.items()}
    try:
        return kind(**found, **given)
    except ValueError as error:
        raise ValueError(f"{place}{error}") from None


def known(key: object, keys: Iterable[str]) -> str:
    """Return the part of an error that says which key may be meant, and which there are."""
    keys = list(keys)
    near = difflib.get_close_matches(str(key), keys, n=1)
    return f"{f'did you mean {near[0]!r}? ' if near else ''}known: {', '.join(keys)}"


def _convert(kind: Any, value: Any, path: tuple[str, ...], default: Any = None) -> Any:
    """Return the value at a path of keys, converted to a type."""
    if dataclasses.is_dataclass(kind):
        return convert(typing.cast(type, kind), value, *path)
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin is dict and isinstance(value, Mapping) and all(type(key) in (str, int) for key in value):
        return {str(key): _convert(parts[1], entry, (*path, str(key))) for key, entry in value.items()}
    with contextlib.suppress(ValueError, OverflowError):  # the error below shows the value as a whole
        if origin in (typing.Union, types.UnionType):
            for part in parts:
                with contextlib.suppress(ValueError):
                    return _convert(part, value, path)
        if origin is tuple and isinstance(value, (list, tuple)):
            kinds = repeat(parts[0], len(value)) if parts[1:] == (...,) else parts
            return tuple(_convert(part, entry, path) for part, entry in zip(kinds, value, strict=True))
        if kind is float and type(value) is int:
            return float(value)
    if kind is Any:
        return _plain(value)
    if type(value) is kind or (origin is typing.Literal and type(value) is str and value in parts):
        return value
    example = f", e.g. {list(default)}" if isinstance(default, tuple) and default else ""
    raise ValueError(f"{_place(path[:-1])}{path[-1]} = {value!r}: expected {_expected(kind)}{example}")


def _expected(kind: Any) -> str:
    """Return what a type is called in an error."""
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_expected(part) for part in parts if part is not types.NoneType)
    if origin is typing.Literal:
        return " or ".join(map(repr, parts))
    if origin is tuple:
        count = "" if parts[1:] == (...,) else f"{COUNTS[len(parts)]} "
        return f"a list of {count}{WORDS[parts[0]][1]}"
    if origin is dict and parts[1] in WORDS:
        return f"a table of {WORDS[parts[1]][1]}"
    return WORDS[kind][0] if kind in WORDS else "a table"


def _plain(value: Any) -> Any:
    """Return a value with keys that are numbers, as in ``operations={1: 1}``, as the strings they are in TOML."""
    if isinstance(value, Mapping):
        return {str(key) if type(key) is int else key: _plain(entry) for key, entry in value.items()}
    return value


def _place(table: tuple[str, ...]) -> str:
    return f"[{'.'.join(table)}]: " if table else ""
