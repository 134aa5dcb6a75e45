"""Specs by their id, from TOML files, and from tables of values."""

from __future__ import annotations

import contextlib
import difflib
import os
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from cadmus_gym.reading import convert, naming, read_toml
from cadmus_gym.streams.spec import READ, Spec, fitting_splits
from cadmus_gym.tasks import find_family

_PACKAGE = Path(__file__).parents[1]
FOLDER = next((path for path in (_PACKAGE / "_envs", _PACKAGE.parent / "envs") if path.is_dir()), _PACKAGE / "_envs")
SPECS: dict[str, Path] = {}  # id -> file, filled by `cadmus_gym.register`

LONGEST_CHAIN = 16  # files that lead from one to the next, as bases or parts
_CHAIN: ContextVar[tuple[str, ...]] = ContextVar("_CHAIN", default=())  # the files that are being read


def load_spec(name_or_path: str | Path | Spec | Mapping[str, Any], **overrides: Any) -> Spec:
    """Return the spec of a registered id, a TOML file or a table of values (from `Spec.table`).

    ``overrides`` replace values (see `Spec.override`). Raises ValueError for an unknown id or a mistake in the file,
    FileNotFoundError if there is no such file.
    """
    if isinstance(name_or_path, Spec):
        spec = name_or_path
    elif isinstance(name_or_path, Mapping):
        spec = _from_table(name_or_path)
    elif str(name_or_path).endswith(".toml"):
        spec = read_spec(Path(name_or_path))
    elif str(name_or_path) in SPECS:
        spec = read_spec(SPECS[str(name_or_path)])
    else:
        near = difflib.get_close_matches(str(name_or_path), SPECS, n=3)
        hint = f"did you mean {', '.join(near)}?" if near else f"registered are {', '.join(SPECS)}"
        raise ValueError(f"{str(name_or_path)!r} is neither a registered id nor the path of a .toml file; {hint}")
    return spec.override(**overrides) if overrides else spec


def read_spec(path: Path) -> Spec:
    """Return the spec of a TOML file. With ``base = "other.toml"`` or an id, it starts from the values of that spec."""
    with _reading(path):
        values, files = _read_values(path)
        return _make(path.name, values, files, {})


def _from_table(table: Mapping[str, Any]) -> Spec:
    values = {key: value for key, value in table.items() if key not in READ}
    name, files, sources = str(values.get("id", "a table of values")), table.get("files", ()), table.get("sources", {})
    for key, value, kinds in (("files", files, (list, tuple)), ("sources", sources, Mapping)):
        if not isinstance(value, kinds):
            raise ValueError(f"{name}: {key} = {value!r}: expected what Spec.table() returns")
    try:
        parts = {str(part): load_spec(source) for part, source in sources.items()}
    except RecursionError:
        raise ValueError(f"{name}: sources: nested too deeply, or a table that contains itself") from None
    return _make(name, values, tuple(map(str, files)), parts)


def _make(name: str, values: Mapping[str, Any], files: tuple[str, ...], sources: Mapping[str, Spec]) -> Spec:
    """Return the spec of values; the parts of a mixture are ``sources``, or else read. Errors begin with the name."""
    with naming(name):
        mixture = values.get("mixture")
        names = map(str, mixture) if isinstance(mixture, Mapping) else ()
        parts = {part: sources[part] if part in sources else _read_part(part, files) for part in names}
        return convert(Spec, values, given={"files": files, "sources": parts})


def _read_part(name: str, files: tuple[str, ...]) -> Spec:
    """Return a part of a mixture: a file beside one of ``files``, or a registered id."""
    beside = [Path(file).parent / name for file in files] if name.endswith(".toml") else []
    try:
        return load_spec(next((path for path in beside if os.path.isfile(path)), name))
    except ValueError as error:
        raise ValueError(f"mixture {name!r}: {error}") from None
    except FileNotFoundError:
        raise ValueError(f"mixture {name!r}: no such file; give a registered id or a file beside this one") from None


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Note that a file is being read. Raises ValueError if it leads to itself, through bases or mixtures."""
    chain = (*_CHAIN.get(), os.path.realpath(path))
    names = " -> ".join(os.path.basename(file) for file in chain)
    if chain[-1] in chain[:-1]:
        raise ValueError(f"a base or a part that leads back to itself: {names}; give another id or file")
    if len(chain) > LONGEST_CHAIN:
        raise ValueError(f"more than {LONGEST_CHAIN} files, each a base or a part of the one before: {names}")
    token = _CHAIN.set(chain)
    try:
        yield
    finally:
        _CHAIN.reset(token)


def _read_values(path: Path) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the values of a file merged into those of its bases, and the paths of all these files."""
    values, file = read_toml(path), os.path.abspath(path)
    if "base" not in values:
        return values, (file,)
    name = values.pop("base")
    base = SPECS.get(name, path.parent / name) if isinstance(name, str) else path.parent
    with naming(path.name):
        if not os.path.isfile(base):
            raise ValueError(f"base = {name!r}: give a registered id or a file beside this one")
        try:
            with _reading(base):
                inherited, others = _read_values(base)
        except ValueError as error:
            raise ValueError(f"base = {name!r}: {error}") from None
        inherited.pop("id", None)
        for key, value in values.items():
            both = isinstance(value, dict) and isinstance(inherited.get(key), dict)
            inherited[key] = inherited[key] | value if both else value
        files = (file, *others)
        splits, task = inherited.get("splits"), inherited.get("task")
        if "parameters" in values and isinstance(splits, dict) and isinstance(task, str):
            own = values.get("splits", {})
            family = find_family(task, [Path(file).parent for file in files])
            kept = {name: split for name, split in splits.items() if name not in own}
            inherited["splits"] = fitting_splits(family, inherited["parameters"], kept) | own
    return inherited, files
