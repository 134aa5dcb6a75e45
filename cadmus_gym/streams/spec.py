"""Environment specs: what is asked, as frozen values read from TOML.

Every key of a file is a field of a dataclass here or of the task's parameters. Anything else (an unknown key, another
type, an impossible range) is a ValueError that names file, key and what is allowed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import functools
import hashlib
import json
import os
import tomllib
import types
import typing
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from cadmus_gym.language import forms
from cadmus_gym.tasks import ANSWER_ROOMS, LEAST_THOUGHT, STYLES, Family, find_family

READ = ("files", "sources")  # fields that say where a spec was read, and that no file states
FIXED = {"id", "task", "mixture", *READ}  # what an override cannot change
REWARDS = ("truth", "cases", "hidden")
APART = ("facts", "problems")
_HERE = Path(__file__).parents[1]
FOLDER = next((path for path in (_HERE / "_envs", _HERE.parent / "envs") if path.is_dir()), _HERE / "_envs")
SPECS: dict[str, Path] = {}  # id -> file, filled by `cadmus_gym.register`


class UnexpectedKeyword(ValueError, TypeError):
    """A keyword that no environment or spec knows: a wrong value like any other, and a TypeError as in Python.

    Gymnasium and what builds on it catch a TypeError that says "unexpected keyword argument".
    """


@dataclass(frozen=True)
class Thoughts:
    """Worked steps in the programs of a stream: the share that has them, their style, and the most tokens they take."""

    share: float = 0.0
    style: str = "none"
    limit: int = 48

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ValueError(f"share = {self.share}: give a share of the programs from 0 to 1")
        if not 0 <= self.limit <= 4096:
            raise ValueError(f"limit = {self.limit}: give a number of tokens from 0 to 4096")


@dataclass(frozen=True)
class Episode:
    """What an agent may spend: tokens in all, and tokens of thought among them, both parentheses included."""

    max_tokens: int = forms.Rules.max_tokens
    thought_tokens: int = forms.Rules.thought_tokens

    def __post_init__(self) -> None:
        if not 1 <= self.max_tokens <= 4096:
            raise ValueError(f"max_tokens = {self.max_tokens}: give a number from 1 to 4096")
        if not 0 <= self.thought_tokens <= self.max_tokens:
            raise ValueError(f"thought_tokens = {self.thought_tokens}: give a number from 0 to max_tokens")


@dataclass(frozen=True)
class Split:
    """A part of the problems: an interval of [0, 1], and parameters that differ from the spec's.

    Problems lie in it by the hash of their key. Where they are kept apart by facts, those with a held-out fact lie in
    [0, 0.1] and those without in [0.1, 1] (`cadmus_gym.tasks.facts`).
    """

    share: tuple[float, float] = (0.0, 1.0)
    parameters: dict[str, Any] = field(default_factory=dict)
    description: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.share[0] < self.share[1] <= 1:
            raise ValueError(f"share = {list(self.share)}: give an interval [from, to] within 0 to 1")
        if self.interval[0] > self.interval[1]:
            raise ValueError(f"share = {list(self.share)}: too narrow; give an interval [from, to] within 0 to 1")

    @property
    def interval(self) -> tuple[int, int]:
        """The first and the last place, of 64 bits, that belong to the split."""
        low, high = (int(Fraction(str(bound)) * 2**64) for bound in self.share)
        return low, high - 1


@dataclass(frozen=True)
class Spec:
    """One environment: a task and its parameters, the form of a completion, budgets, reward, worked steps and splits.

    ``task`` names a family of `cadmus_gym.tasks.TASKS`, or one of the user's own as ``"module:attribute"``;
    ``parameters`` holds what differs from the defaults of the task's own dataclass. Instead of a task a spec may have a
    ``mixture``, whole weights of other specs by id or by file: then its splits are theirs, each of those that have one
    of its name, and so are worked steps; ``common`` holds what is overridden in all of them, and ``each``, by their
    names, what is overridden in one alone.

    ``apart`` says what keeps problems of splits apart: "facts", one tenth of which no program of a split from 0.1 on
    ever executes, or "problems" alone, by the hash of their key.

    ``files`` are those it was read from, its own and those of its bases; modules and parts are looked up beside them.
    ``sources`` are the parts of a mixture as they were read. So a spec is whole: another process needs no registry.
    """

    id: str
    task: str = ""
    splits: dict[str, Split] = field(default_factory=dict)
    mixture: dict[str, int] = field(default_factory=dict)
    common: dict[str, Any] = field(default_factory=dict)
    each: dict[str, dict[str, Any]] = field(default_factory=dict)
    description: str = ""
    form: str = ""
    words: tuple[str, ...] = ()
    reward: str = "truth"
    apart: str = "facts"
    parameters: dict[str, Any] = field(default_factory=dict)
    thoughts: Thoughts = Thoughts()
    episode: Episode = Episode()
    files: tuple[str, ...] = field(default=(), repr=False, compare=False)
    sources: dict[str, Spec] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.id.endswith(".toml"):
            raise ValueError(f"id = {self.id!r}: reads as the path of a file; give an id such as 'Mine-v0'")
        if bool(self.task) == bool(self.mixture) or ((self.common or self.each) and self.task):
            raise ValueError(
                f"task = {self.task!r}, mixture = {self.mixture}: give one of both; common and each go with mixture"
            )
        if self.reward not in REWARDS:
            raise ValueError(f"reward = {self.reward!r}: known are {', '.join(REWARDS)}")
        if self.apart not in APART:
            raise ValueError(f"apart = {self.apart!r}: known are {', '.join(APART)}")
        if self.thoughts.style not in STYLES:
            raise ValueError(f"[thoughts]: style = {self.thoughts.style!r}: known are {', '.join(STYLES)}")
        if self.thoughts.share and self.thoughts.style != STYLES[0] and self.thoughts.limit < LEAST_THOUGHT:
            raise ValueError(
                f"[thoughts]: limit = {self.thoughts.limit}: no worked step fits; give at least {LEAST_THOUGHT}, or "
                "share = 0 for none"
            )
        if self.mixture:
            self._mix()
        if not self.form:
            object.__setattr__(self, "form", self.family.form)
        forms.table(self.form, self.words)
        self._check_form()
        if not self.splits:
            raise ValueError("no [splits.NAME]: give at least one, such as [splits.train]")
        if self.task:
            for name in self.splits:
                self.split_parameters(name)
            _check_apart(self)
        if self.form != "free" and self.episode.max_tokens < self.completion_room:
            raise ValueError(
                f"[episode]: max_tokens = {self.episode.max_tokens}: the task's own completions take up to "
                f"{self.completion_room}"
            )

    def _check_form(self) -> None:
        """Raise ValueError where the form forbids the answers of a task. (Under ``words`` there may be other ways.)"""
        for part, _ in self.parts:
            allowed = (part.family.form, "answer", "words", "free")
            if self.form not in allowed:
                raise ValueError(
                    f"form = {self.form!r}: forbids the answers of task {part.task!r}; give {', '.join(allowed)}"
                )

    def _mix(self) -> None:
        """Find the parts of a mixture and take over their splits."""
        if self.parameters or any(split.share != (0.0, 1.0) or split.parameters for split in self.splits.values()):
            raise ValueError("mixture: parameters and shares are those of its parts; give them there")
        if self.apart != APART[0]:
            raise ValueError("apart: that of a mixture is that of its parts; give [common] apart")
        if self.thoughts != Thoughts():
            raise ValueError("[thoughts]: those of a mixture are those of its parts; give [common.thoughts]")
        check_mixture(self.mixture)
        if unknown := self.each.keys() - self.mixture.keys():
            raise ValueError(f"[each]: no part {', '.join(sorted(unknown))}; they are {', '.join(self.mixture)}")
        object.__setattr__(self, "sources", {name: self._source(name) for name in self.mixture})
        if any(part.mixture for part, _ in self.parts):
            raise ValueError(f"mixture = {self.mixture}: its parts are mixtures themselves; give theirs")
        if not self.form:
            raise ValueError("form: a mixture has none by itself; give one, such as 'answer'")
        names = {split: None for part, _ in self.parts for split in part.splits}
        if unknown := self.splits.keys() - names.keys():
            raise ValueError(f"[splits]: no part has {', '.join(sorted(unknown))}; they have {', '.join(names)}")
        splits = {}
        for name in names:
            of = ", ".join(part.id for part, _ in self.parts if name in part.splits)
            splits[name] = self.splits.get(name, Split(description=f"The split of that name of {of}."))
        object.__setattr__(self, "splits", splits)

    def _source(self, name: str) -> Spec:
        """Return a part of a mixture: as it was read, or of a file beside this one, or of a registered id."""
        if name in self.sources:
            return self.sources[name]
        beside = (folder / name for folder in self.folders)
        path = next((path for path in beside if os.path.isfile(path)), None) if name.endswith(".toml") else None
        try:
            return load_spec(path or name)
        except ValueError as error:
            raise ValueError(f"mixture {name!r}: {error}") from None
        except FileNotFoundError:
            raise ValueError(
                f"mixture {name!r}: no such file; give a registered id or a file beside this one"
            ) from None

    @functools.cached_property
    def parts(self) -> list[tuple[Spec, int]]:
        """The specs a mixture is of, with their weights; a spec with a task is one of itself."""
        if not self.mixture:
            return [(self, 1)]
        common = {"episode": self.episode, **self.common} if self.common else {}
        shared = {name: load_spec(source, **common) for name, source in self.sources.items()}
        return [(shared[name].override(**self.each.get(name, {})), weight) for name, weight in self.mixture.items()]

    @functools.cached_property
    def family(self) -> Family:
        """The task's family. Raises ValueError for an unknown one, and for a mixture, which has none."""
        if self.mixture:
            raise ValueError(f"{self.id} is a mixture; its parts have families")
        return find_family(self.task, self.folders)

    @property
    def rules(self) -> forms.Rules:
        """What a completion may look like, and how many tokens it may spend."""
        return forms.Rules(self.form, self.words, self.episode.max_tokens, self.episode.thought_tokens)

    @property
    def folders(self) -> list[Path]:
        """Where modules and parts named by file are looked up first."""
        return list(dict.fromkeys(Path(file).parent for file in self.files))

    @property
    def name(self) -> str:
        """The id, and the file where there is one: what an error begins with."""
        return f"{self.id} ({Path(self.files[0]).name})" if self.files else self.id

    def split(self, name: str) -> Split:
        """Return a split, or raise ValueError with the names there are."""
        if not isinstance(name, str) or name not in self.splits:
            raise ValueError(f"{self.id}: no split {name!r}; it has {', '.join(self.splits)}")
        return self.splits[name]

    def split_parameters(self, name: str) -> Any:
        """Return the task's parameters in a split: the defaults, the spec's, the split's own, in this order."""
        split = self.split(name)
        if name not in self._split_parameters:
            base = _build(self.family.parameters, self.parameters, "[parameters]")
            values = {f.name: getattr(base, f.name) for f in dataclasses.fields(base)} | split.parameters
            built = _build(self.family.parameters, values, f"[splits.{name}.parameters]")
            self._split_parameters[name] = built
        return self._split_parameters[name]

    @functools.cached_property
    def _split_parameters(self) -> dict[str, Any]:
        return {}

    def __getstate__(self) -> dict[str, Any]:
        """The fields alone: what is found from them is found again, a family in the module that has it."""
        return {entry.name: getattr(self, entry.name) for entry in dataclasses.fields(self)}

    @functools.cached_property
    def prompt_room(self) -> int:
        """The longest prompt of any split, in tokens."""
        if self.mixture:
            return max(part.prompt_room for part, _ in self.parts)
        return max(self.family.room(self.split_parameters(name)) for name in self.splits)

    @functools.cached_property
    def completion_room(self) -> int:
        """The longest completion in the programs of a stream, in tokens: worked steps and an answer."""
        if self.mixture:
            return max(part.completion_room for part, _ in self.parts)
        thought = self.thoughts.limit if self.thoughts.share and self.thoughts.style != STYLES[0] else 0
        answer = self.family.answer or (lambda _: ANSWER_ROOMS[self.family.form])
        return thought + max(answer(self.split_parameters(name)) for name in self.splits)

    def digests(self) -> dict[str, str]:
        """Return for each split 64 hexadecimal digits over all that shapes its programs, and nothing else."""
        return {name: self.digest_of(name) for name in self.splits}

    def digest_of(self, name: str) -> str:
        split = self.split(name)
        if self.mixture:
            parts = [(part.digest_of(name), weight) for part, weight in self.parts if name in part.splits]
            return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
        shape = {
            "task": self.task,
            "version": self.family.version,
            "parameters": vars(self.split_parameters(name)),
            "thoughts": dataclasses.asdict(self.thoughts),
            "interval": split.interval,
            "apart": self.apart,
        }
        return hashlib.sha256(json.dumps(shape, sort_keys=True).encode()).hexdigest()

    @property
    def digest(self) -> str:
        """64 hexadecimal digits over the whole spec, except the files it was read from."""
        stated = {key: value for key, value in dataclasses.asdict(self).items() if key not in READ}
        return hashlib.sha256(json.dumps(stated, sort_keys=True).encode()).hexdigest()

    def table(self) -> dict[str, Any]:
        """Return the whole spec in plain values, as JSON has them, which `load_spec` reads in any other process.

        Only the modules of a user's own families stay in files.
        """
        values = {key: value for key, value in dataclasses.asdict(self).items() if key != "sources"}
        stated: dict[str, Any] = json.loads(json.dumps(values))
        return stated | {"sources": {name: source.table() for name, source in self.sources.items()}}

    def override(self, **overrides: Any) -> Spec:
        """Return the spec with other values: of its own fields, or of the task's parameters by their name.

        A table such as ``thoughts={"share": 0.0}`` changes only the keys it has. A split whose own parameters do not go
        with new ones of the task is left out.
        """
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        values = {
            key: dataclasses.asdict(value) if isinstance(value, (Thoughts, Episode)) else value
            for key, value in fields.items()
        }
        values["splits"] = {name: dataclasses.asdict(split) for name, split in self.splits.items()}
        if self.mixture:
            values["splits"] = {}
            if "thoughts" in overrides:
                thoughts = overrides.pop("thoughts")
                thoughts = dataclasses.asdict(thoughts) if isinstance(thoughts, Thoughts) else thoughts
                if isinstance(thoughts, Mapping):
                    thoughts = values["common"].get("thoughts", {}) | dict(thoughts)
                values["common"] = values["common"] | {"thoughts": thoughts}
        parameters = set() if self.mixture else {f.name for f in dataclasses.fields(self.family.parameters)}
        for key, value in overrides.items():
            if key in parameters:
                values["parameters"] = values["parameters"] | {key: value}
            elif key not in values or key in FIXED:
                hint = _known(key, sorted((values.keys() | parameters) - FIXED))
                raise UnexpectedKeyword(f"{self.id} got an unexpected keyword argument {key!r}; {hint}")
            elif isinstance(values[key], dict):
                value = dataclasses.asdict(value) if isinstance(value, (Thoughts, Episode)) else value
                if not isinstance(value, Mapping):
                    raise ValueError(f"{self.id} [{key}]: expected a table, not {value!r}")
                values[key] = values[key] | dict(value)
            else:
                values[key] = value
        if "words" not in overrides and str(overrides.get("form", "words")) != "words":
            values["words"] = ()
        if not parameters.isdisjoint(overrides):
            values["splits"] = _fitting(self.family, values["parameters"], values["splits"])
        return _located(self.id, values, {name: values.pop(name) for name in READ})


def _fitting(family: Family, parameters: Any, splits: dict[str, Any]) -> dict[str, Any]:
    """Return the splits whose own parameters go with new ones; all of them where those are wrong by themselves."""
    try:
        _build(family.parameters, parameters, "")
    except ValueError:
        return splits
    fitting = {}
    for name, split in splits.items():
        own = split.get("parameters", {}) if isinstance(split, Mapping) else {}
        try:
            _build(family.parameters, parameters | own if isinstance(own, Mapping) else parameters, "")
        except ValueError:
            continue
        fitting[name] = split
    return fitting


def check_mixture(weights: Mapping[Any, int]) -> None:
    """Raise ValueError unless all weights are whole numbers from 1 to a million."""
    if not weights or any(type(weight) is not int or not 1 <= weight <= 1_000_000 for weight in weights.values()):
        raise ValueError(f"mixture {dict(weights)}: give at least one spec, each with a whole weight from 1 to 1000000")


def load_spec(name_or_path: str | Path | Spec | Mapping[str, Any], **overrides: Any) -> Spec:
    """Return the spec of a registered id, a TOML file or a table of values (as `Spec.table` returns), with values
    overridden as `Spec.override` does.

    Raises ValueError for an unknown id or a mistake in the file, FileNotFoundError where there is no such file.
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
    """Return the spec in a TOML file; with ``base = "other.toml"`` it starts from that file, or a registered id."""
    with _reading(path):
        values, files = _read_values(path)
        return _located(path.name, values, {"files": files})


def _from_table(table: Mapping[str, Any]) -> Spec:
    """Return the spec of a table, which may also say where it was read."""
    values = dict(table)
    name, given = values.get("id", "a table of values"), {key: values.pop(key) for key in READ if key in values}
    for key, kind in (("files", (list, tuple)), ("sources", Mapping)):
        if key in given and not isinstance(given[key], kind):
            raise ValueError(f"{name} {key} = {given[key]!r}: expected what Spec.table() returns")
    given["files"] = tuple(map(str, given.get("files", ())))
    try:
        given["sources"] = {str(part): load_spec(source) for part, source in given.get("sources", {}).items()}
    except RecursionError:
        raise ValueError(f"{name} sources: nested too deeply, or a table that holds itself") from None
    return _located(str(name), values, given)


_CHAIN: ContextVar[tuple[str, ...]] = ContextVar("_CHAIN", default=())
LONGEST_CHAIN = 16  # files that a file leads to, one from another


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Note that a file is being read. Raises ValueError where it leads to itself, through bases or mixtures."""
    chain = (*_CHAIN.get(), os.path.realpath(path))
    names = " -> ".join(os.path.basename(file) for file in chain)
    if chain[-1] in chain[:-1]:
        raise ValueError(f"a base or a part that leads back to itself: {names}; give another id or file")
    if len(chain) > LONGEST_CHAIN:
        raise ValueError(f"more than {LONGEST_CHAIN} files, each the base or a part of the one before: {names}")
    token = _CHAIN.set(chain)
    try:
        yield
    finally:
        _CHAIN.reset(token)


def _read_values(path: Path) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return what a file and its bases state, and the paths of all of them."""
    values, file = _parse(path), os.path.abspath(path)
    if "base" not in values:
        return values, (file,)
    name = values.pop("base")
    base = SPECS.get(name, path.parent / name) if isinstance(name, str) else path.parent
    if not os.path.isfile(base):
        raise ValueError(f"{path.name} base = {name!r}: give a registered id or a file beside this one")
    try:
        with _reading(base):
            inherited, others = _read_values(base)
    except ValueError as error:
        raise ValueError(f"{path.name} base = {name!r}: {error}") from None
    inherited.pop("id", None)
    for key, value in values.items():
        both = isinstance(value, dict) and isinstance(inherited.get(key), dict)
        inherited[key] = inherited[key] | value if both else value
    files = (file, *others)
    if "parameters" in values and isinstance(inherited.get("splits"), dict) and isinstance(inherited.get("task"), str):
        own = values.get("splits", {})
        others_of = {name: split for name, split in inherited["splits"].items() if name not in own}
        family = find_family(inherited["task"], [Path(file).parent for file in files])
        inherited["splits"] = _fitting(family, inherited["parameters"], others_of) | own
    return inherited, files


def _parse(path: Path) -> dict[str, Any]:
    """Return the values of a TOML file, UTF-8 with or without a byte order mark."""
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


def _located(name: str, values: Mapping[str, Any], given: Mapping[str, Any]) -> Spec:
    """Make a spec of what is stated and of what is ``given`` besides; an error begins with a name."""
    try:
        return typing.cast(Spec, _build(Spec, values, "", given))
    except ValueError as error:
        raise ValueError(f"{name} {error}") from None
    except RecursionError:
        raise ValueError(f"{name} is nested too deeply, or holds itself") from None


def _known(key: str, known: typing.Iterable[str]) -> str:
    """Say which key may be meant, and which there are."""
    known = list(known)
    near = difflib.get_close_matches(str(key), known, n=1)
    return f"{f'did you mean {near[0]!r}? ' if near else ''}known: {', '.join(known)}"


type_hints = functools.cache(typing.get_type_hints)


def _build(kind: type, values: Any, where: str, given: Mapping[str, Any] | None = None) -> Any:
    """Make a dataclass of a table, checking keys and types, and of fields ``given`` as they are; ``where`` says which
    table."""
    place = f"{where}: " if where else ""
    if dataclasses.is_dataclass(values) and isinstance(values, kind):
        return values
    if not isinstance(values, Mapping):
        raise ValueError(f"{place}expected a table, not {values!r}")
    types_of = {key: hint for key, hint in type_hints(kind).items() if kind is not Spec or key not in READ}
    for key in values:
        if key not in types_of:
            raise ValueError(f"{place}unknown key {key!r}; {_known(key, types_of)}")
    for entry in dataclasses.fields(kind):
        required = entry.default is dataclasses.MISSING and entry.default_factory is dataclasses.MISSING
        if required and entry.name not in values:
            raise ValueError(f"{place}key {entry.name!r} is missing")
    arguments = {key: _convert(types_of[key], value, key, where) for key, value in values.items()}
    try:
        return kind(**arguments, **(given or {}))
    except ValueError as error:
        raise ValueError(f"{place}{error}") from None


def _convert(kind: Any, value: Any, key: str, where: str) -> Any:
    """Return a value as its field's type, or raise ValueError."""
    place = f"{where}: " if where else ""
    inner = f"{where[:-1]}.{key}]" if where.endswith("]") else f"[{key}]"
    if dataclasses.is_dataclass(kind):
        return _build(typing.cast(type, kind), value, inner)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is dict and isinstance(value, Mapping) and all(type(name) in (str, int) for name in value):
        return {str(name): _convert(arguments[1], entry, str(name), inner) for name, entry in value.items()}
    if origin is tuple and isinstance(value, (list, tuple)):
        kinds = [arguments[0]] * len(value) if arguments[1:] == (...,) else list(arguments)
        if len(kinds) == len(value):
            return tuple(_convert(part, entry, key, where) for part, entry in zip(kinds, value, strict=True))
    if kind is Any:
        return _plain(value)
    if kind is float and type(value) is int:
        return float(value)
    if isinstance(kind, type) and not isinstance(kind, types.GenericAlias) and type(value) is kind:
        return value
    names = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
    expected = names.get(kind, "a table")
    if origin is tuple:  # of one kind of part, any number of them or so many
        count = "" if arguments[1:] == (...,) else f"{len(arguments)} "
        expected = f"a list of {count}{names.get(arguments[0], 'a value').split(maxsplit=1)[1]}s"
    raise ValueError(f"{place}{key} = {value!r}: expected {expected}")


def _plain(value: Any) -> Any:
    """Return a value with keys that are numbers, as in ``operations={1: 1}``, made the texts they are in TOML."""
    if isinstance(value, Mapping):
        return {str(key) if type(key) is int else key: _plain(entry) for key, entry in value.items()}
    return value


def _check_apart(spec: Spec) -> None:
    """Raise ValueError where two splits with the same parameters share problems."""
    names = list(spec.splits)
    parameters = {name: spec.split_parameters(name) for name in names}
    for k, one in enumerate(names):
        for other in names[:k]:
            if parameters[one] != parameters[other]:
                continue
            (low, high), (first, last) = spec.splits[one].interval, spec.splits[other].interval
            if low <= last and first <= high:
                raise ValueError(
                    f"[splits.{one}]: shares problems with [splits.{other}]: both have the same parameters, so give "
                    f"them intervals that do not meet; they have {list(spec.splits[one].share)} and "
                    f"{list(spec.splits[other].share)}"
                )
