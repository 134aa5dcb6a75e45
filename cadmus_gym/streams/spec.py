"""Environment specs: what is asked, as frozen dataclasses.

A spec file (see `cadmus_gym.streams.loading`) has a key for each field here, and for each of the task's parameters.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from cadmus_gym.language import forms
from cadmus_gym.language.isa import VOCABULARY
from cadmus_gym.language.verdicts import MAX_CASES
from cadmus_gym.reading import convert, known, naming
from cadmus_gym.tasks import ANSWER_ROOMS, LEAST_THOUGHT, STYLES, Family, find_family
from cadmus_gym.tasks.family import LATER
from cadmus_gym.tasks.synthesis.hidden import LARGEST_INPUT

READ = ("files", "sources")  # fields that say where a spec was read; no file has them
FIXED = {"id", "task", "mixture", *READ}  # fields that `Spec.override` cannot change
REWARDS = ("truth", "cases", "hidden")
APART = ("facts", "problems")


class UnexpectedKeyword(ValueError, TypeError):
    """A keyword that no environment or spec has.

    Also a TypeError, since Gymnasium and its wrappers catch a TypeError that says "unexpected keyword argument".
    """


@dataclass(frozen=True)
class Thoughts:
    """Worked steps in the programs of a stream: the share of programs with them, their style, and their most tokens."""

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
    """An agent's budget: tokens in all, and tokens of thought among them, including both parentheses.

    ``body_tokens`` limits the body under form "words" by the number of cases that a prompt shows, as in ``{4 = 24}``;
    neither thoughts nor `end` count, and the beginning of a body that a prompt gives does.
    """

    max_tokens: int = forms.Rules.max_tokens
    thought_tokens: int = forms.Rules.thought_tokens
    body_tokens: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 1 <= self.max_tokens <= 4096:
            raise ValueError(f"max_tokens = {self.max_tokens}: give a number from 1 to 4096")
        if not 0 <= self.thought_tokens <= self.max_tokens:
            raise ValueError(f"thought_tokens = {self.thought_tokens}: give a number from 0 to max_tokens")
        for cases, most in self.body_tokens.items():
            if cases not in map(str, range(MAX_CASES + 1)) or not 1 <= most <= 4096:
                raise ValueError(
                    f"body_tokens: {cases} = {most}: give a number of tokens from 1 to 4096 for a number of cases from "
                    f"0 to {MAX_CASES}"
                )


@dataclass(frozen=True)
class Split:
    """A part of the problems: those whose hash is in an interval of [0, 1], with parameters of its own.

    ``parameters`` holds those that differ from the spec's. If the spec keeps splits apart by facts, problems with a
    held-out fact hash to [0, 0.1] and those without to [0.1, 1] (`cadmus_gym.tasks.facts`).
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
        """The first and the last 64-bit hash of the split."""
        low, high = (int(Fraction(str(bound)) * 2**64) for bound in self.share)
        return low, high - 1


@dataclass(frozen=True)
class Spec:
    """One environment: a task and its parameters, the form of a completion, budgets, reward, worked steps and splits.

    task: a family of `cadmus_gym.tasks.TASKS`, or a user's own as ``"module:attribute"``.
    parameters: those of the task that differ from its defaults.
    mixture: instead of a task, whole weights of other specs by id or file. Its splits are theirs: a split takes in
        every part that has one of its name. So are the worked steps.
    common, each: what the mixture overrides in all its parts, and in one part by its name.
    apart: what keeps the problems of splits apart: "facts", one tenth of which no program of a split from 0.1 on ever
        executes, or "problems" alone, by the hash of their key.
    files: its own file and those of its bases. Modules and parts are looked up beside them.
    sources: the parts of a mixture as they were read. With them another process needs no registry.
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
            raise ValueError(f"id = {self.id!r}: looks like the path of a file; give an id such as 'Mine-v0'")
        if bool(self.task) == bool(self.mixture) or ((self.common or self.each) and self.task):
            raise ValueError(
                f"task = {self.task!r}, mixture = {self.mixture}: give one of the two; common and each go with mixture"
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
        if self.form not in forms.FORMS:
            forms.table(self.form)  # raises an error that names them
        self._check_form()
        if self.form == "words" and not self.words:
            object.__setattr__(self, "words", self._own_words())
        forms.table(self.form, self.words, body_tokens=self.rules.body_tokens)
        self._check_words()
        if not self.splits:
            raise ValueError("no [splits.NAME]: give at least one, such as [splits.train]")
        if self.task:
            for name in self.splits:
                self.split_parameters(name)
                self.hidden_inputs(name)
            _check_apart(self)
        if self.form != "free" and self.episode.max_tokens < self.completion_room:
            raise ValueError(
                f"[episode]: max_tokens = {self.episode.max_tokens}: the task's own completions take up to "
                f"{self.completion_room}"
            )

    def _check_form(self) -> None:
        """Raise ValueError if the form forbids the answers of a task. (With "words" they may be written otherwise.)"""
        for part, _ in self.parts:
            others = ("free",) if part.family.written else ("answer", "words", "free")
            allowed = (part.family.form, *others)
            if self.form not in allowed:
                raise ValueError(
                    f"form = {self.form!r}: forbids the answers of task {part.task!r}; give {', '.join(allowed)}"
                )

        if self.reward == "hidden" and all(part.family.inputs is None for part, _ in self.parts):
            raise ValueError("reward = 'hidden': the task has no hidden cases; give truth")
        if self.reward == "cases" and any(part.family.inputs is not None for part, _ in self.parts):
            raise ValueError("reward = 'cases': a constant would pass some of the cases; give hidden or truth")
        written = [part.task for part, _ in self.parts if part.family.written]
        if self.task and written and self.thoughts.share and self.thoughts.style != STYLES[0]:
            raise ValueError(
                f"[thoughts]: style = {self.thoughts.style!r}: shows how a prompt is computed, and task {written[0]!r} "
                f"asks for a program; give {STYLES[0]!r}"
            )

    def _own_words(self) -> tuple[str, ...]:
        """Return the words that the references of all splits use, in the order of the vocabulary."""
        used = {
            word
            for part, _ in self.parts
            if part.family.words is not None
            for name in part.splits
            for word in part.family.words(part.split_parameters(name))
        }
        return tuple(word for word in VOCABULARY if word in used)

    def _check_words(self) -> None:
        """Raise ValueError if the form forbids words of references."""
        if self.form != "words":
            return
        if missing := [word for word in self._own_words() if word not in self.words]:
            raise ValueError(f"words: references use {', '.join(missing)} too; give these as well, or no words at all")
        longest = self.reference_room - 1
        for cases, most in self.episode.body_tokens.items():
            if most < longest:
                raise ValueError(
                    f"[episode]: body_tokens: {cases} = {most}: too few; references have up to {longest} tokens"
                )

    def _mix(self) -> None:
        """Check a mixture and take over the splits of its parts."""
        if self.parameters or any(split.share != (0.0, 1.0) or split.parameters for split in self.splits.values()):
            raise ValueError("mixture: its parts have parameters and shares; give them there")
        if self.apart != APART[0]:
            raise ValueError("apart: a mixture takes it from its parts; give [common] apart")
        if self.thoughts != Thoughts():
            raise ValueError("[thoughts]: a mixture takes them from its parts; give [common.thoughts]")
        check_mixture(self.mixture)
        if unknown := self.each.keys() - self.mixture.keys():
            raise ValueError(f"[each]: no part {', '.join(sorted(unknown))}; parts are {', '.join(self.mixture)}")
        if missing := self.mixture.keys() - self.sources.keys():
            raise ValueError(f"sources: no spec of {', '.join(sorted(missing))}; load_spec reads them")
        if any(part.mixture for part, _ in self.parts):
            raise ValueError(f"mixture = {self.mixture}: some parts are mixtures themselves; give their parts")
        if not self.form:
            raise ValueError("form: a mixture has no default; give one, such as 'answer'")
        names = {split: None for part, _ in self.parts for split in part.splits}
        if unknown := self.splits.keys() - names.keys():
            raise ValueError(f"[splits]: no part has {', '.join(sorted(unknown))}; parts have {', '.join(names)}")
        splits = {}
        for name in names:
            of = ", ".join(part.id for part, _ in self.parts if name in part.splits)
            splits[name] = self.splits.get(name, Split(description=f"The split of that name of {of}."))
        object.__setattr__(self, "splits", splits)

    @functools.cached_property
    def parts(self) -> list[tuple[Spec, int]]:
        """The parts of a mixture and their weights. A spec with a task is its own only part."""
        if not self.mixture:
            return [(self, 1)]
        common = {"episode": self.episode, **self.common} if self.common else {}
        return [
            (self.sources[name].override(**common).override(**self.each.get(name, {})), weight)
            for name, weight in self.mixture.items()
        ]

    @functools.cached_property
    def family(self) -> Family:
        """The task's family. Raises ValueError for an unknown task, and for a mixture."""
        if self.mixture:
            raise ValueError(f"{self.id} is a mixture and has no family; its parts have")
        return find_family(self.task, self.folders)

    @property
    def rules(self) -> forms.Rules:
        """What a completion may look like, and how many tokens it may spend."""
        episode = self.episode
        body = tuple(sorted((int(cases), most) for cases, most in episode.body_tokens.items()))
        return forms.Rules(self.form, self.words, episode.max_tokens, episode.thought_tokens, body)

    @property
    def folders(self) -> list[Path]:
        """The folders in which modules and parts are looked up first."""
        return list(dict.fromkeys(Path(file).parent for file in self.files))

    @property
    def name(self) -> str:
        """The id and the name of the file, if any: the beginning of an error."""
        return f"{self.id} ({Path(self.files[0]).name})" if self.files else self.id

    def split(self, name: str) -> Split:
        """Return a split. Raises ValueError, naming those there are, for an unknown one."""
        if not isinstance(name, str) or name not in self.splits:
            raise ValueError(f"{self.id}: no split {name!r}; it has {', '.join(self.splits)}")
        return self.splits[name]

    def split_parameters(self, name: str) -> Any:
        """Return the task's parameters in a split: the defaults, overridden by the spec's and then by the split's."""
        split = self.split(name)
        if name not in self._split_parameters:
            base: Any = convert(self.family.parameters, self.parameters, "parameters")
            values = {f.name: getattr(base, f.name) for f in dataclasses.fields(base)} | split.parameters
            self._split_parameters[name] = convert(self.family.parameters, values, "splits", name, "parameters")
        return self._split_parameters[name]

    @functools.cached_property
    def _split_parameters(self) -> dict[str, Any]:
        return {}

    def __getstate__(self) -> dict[str, Any]:
        """The fields alone. Cached properties are computed again, and a family is imported from its module."""
        return {entry.name: getattr(self, entry.name) for entry in dataclasses.fields(self)}

    @functools.cached_property
    def prompt_room(self) -> int:
        """The longest prompt of any split, in tokens."""
        if self.mixture:
            return max(part.prompt_room for part, _ in self.parts)
        return max(self.family.room(self.split_parameters(name)) for name in self.splits)

    @functools.cached_property
    def reference_room(self) -> int:
        """The longest reference of any split with its `end`, in tokens; 0 for a task without references."""
        if self.mixture:
            return max(part.reference_room for part, _ in self.parts)
        answer = self.family.answer
        if not self.family.written or answer is None:
            return 0
        return max(answer(self.split_parameters(name)) for name in self.splits)

    def hidden_inputs(self, name: str) -> tuple[int, int]:
        """Return the lowest and highest input of hidden cases in a split; (0, -1) if the task has none."""
        if self.family.inputs is None:
            return 0, -1
        low, high = self.family.inputs(self.split_parameters(name))
        if not -LARGEST_INPUT <= low <= high <= LARGEST_INPUT:
            raise ValueError(
                f"[splits.{name}]: hidden inputs from {low} to {high}; allowed: [lowest, highest] within "
                f"-{LARGEST_INPUT} to {LARGEST_INPUT}"
            )
        return low, high

    @functools.cached_property
    def completion_room(self) -> int:
        """The longest completion of any program of a stream, in tokens: worked steps and an answer."""
        if self.mixture:
            return max(part.completion_room for part, _ in self.parts)
        thought = self.thoughts.limit if self.thoughts.share and self.thoughts.style != STYLES[0] else 0
        answer = self.family.answer or (lambda _: ANSWER_ROOMS[self.family.form])
        return thought + max(answer(self.split_parameters(name)) for name in self.splits)

    def digests(self) -> dict[str, str]:
        """Return the digest of each split."""
        return {name: self.digest_of(name) for name in self.splits}

    def digest_of(self, name: str) -> str:
        """Return 64 hexadecimal digits that depend on all that shapes the programs of a split, and on nothing else."""
        split = self.split(name)
        if self.mixture:
            parts = [(part.digest_of(name), weight) for part, weight in self.parts if name in part.splits]
            return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
        parameters = self.split_parameters(name)
        later = {one.name: one.default for one in dataclasses.fields(parameters) if one.metadata == LATER}
        shape = {
            "task": self.task,
            "version": self.family.version,
            "parameters": {key: value for key, value in vars(parameters).items() if later.get(key, ...) != value},
            "thoughts": dataclasses.asdict(self.thoughts),
            "interval": split.interval,
            "apart": self.apart,
        }
        return hashlib.sha256(json.dumps(shape, sort_keys=True).encode()).hexdigest()

    @property
    def digest(self) -> str:
        """64 hexadecimal digits that depend on the whole spec, but not on where it was read."""
        stated = {key: value for key, value in dataclasses.asdict(self).items() if key not in READ}
        return hashlib.sha256(json.dumps(stated, sort_keys=True).encode()).hexdigest()

    def table(self) -> dict[str, Any]:
        """Return the whole spec as plain JSON values, which `load_spec` reads in any process.

        Modules of a user's own families are not included: they stay in their files.
        """
        values = {key: value for key, value in dataclasses.asdict(self).items() if key != "sources"}
        stated: dict[str, Any] = json.loads(json.dumps(values))
        return stated | {"sources": {name: source.table() for name, source in self.sources.items()}}

    def override(self, **overrides: Any) -> Spec:
        """Return the spec with some of its fields, or of the task's parameters, replaced.

        A table such as ``thoughts={"share": 0.0}`` changes only the keys it has. A split whose own parameters do not go
        with new ones of the task is dropped. Raises ValueError for a wrong value, `UnexpectedKeyword` for an unknown
        name.
        """
        if not overrides:
            return self
        values = {entry.name: _plain(getattr(self, entry.name)) for entry in dataclasses.fields(self)}
        values["splits"] = {name: dataclasses.asdict(split) for name, split in self.splits.items()}
        if self.mixture:
            values["splits"] = {}
            if "thoughts" in overrides:
                thoughts = _plain(overrides.pop("thoughts"))
                if isinstance(thoughts, Mapping):
                    thoughts = values["common"].get("thoughts", {}) | dict(thoughts)
                values["common"] = values["common"] | {"thoughts": thoughts}
        parameters = set() if self.mixture else {f.name for f in dataclasses.fields(self.family.parameters)}
        for key, value in overrides.items():
            if key in parameters:
                values["parameters"] = values["parameters"] | {key: value}
            elif key not in values or key in FIXED:
                hint = known(key, sorted((values.keys() | parameters) - FIXED))
                raise UnexpectedKeyword(f"{self.id} got an unexpected keyword argument {key!r}; {hint}")
            elif isinstance(values[key], dict):
                if not isinstance(value := _plain(value), Mapping):
                    raise ValueError(f"{self.id} [{key}]: expected a table, not {value!r}")
                values[key] = values[key] | dict(value)
            else:
                values[key] = value
        if "words" not in overrides and str(overrides.get("form", "words")) != "words":
            values["words"] = ()
        if not parameters.isdisjoint(overrides):
            values["splits"] = fitting_splits(self.family, values["parameters"], values["splits"])
        given = {name: values.pop(name) for name in READ}
        with naming(self.id):
            return convert(Spec, values, given=given)


def _plain(value: Any) -> Any:
    return dataclasses.asdict(value) if isinstance(value, (Thoughts, Episode)) else value


def fitting_splits(family: Family, parameters: Any, splits: dict[str, Any]) -> dict[str, Any]:
    """Return the splits whose own parameters go with these; all of them if these are wrong by themselves."""
    try:
        convert(family.parameters, parameters)
    except ValueError:
        return splits
    fitting = {}
    for name, split in splits.items():
        own = split.get("parameters", {}) if isinstance(split, Mapping) else {}
        try:
            convert(family.parameters, parameters | own if isinstance(own, Mapping) else parameters)
        except ValueError:
            continue
        fitting[name] = split
    return fitting


def check_mixture(weights: Mapping[Any, int]) -> None:
    """Raise ValueError unless all weights are whole numbers from 1 to a million."""
    if not weights or any(type(weight) is not int or not 1 <= weight <= 1_000_000 for weight in weights.values()):
        raise ValueError(f"mixture {dict(weights)}: give at least one spec, each with a whole weight from 1 to 1000000")


def _check_apart(spec: Spec) -> None:
    """Raise ValueError if two splits with the same parameters share problems."""
    names = list(spec.splits)
    parameters = {name: spec.split_parameters(name) for name in names}
    for k, one in enumerate(names):
        for other in names[:k]:
            if parameters[one] != parameters[other]:
                continue
            (low, high), (first, last) = spec.splits[one].interval, spec.splits[other].interval
            if low <= last and first <= high:
                raise ValueError(
                    f"[splits.{one}]: shares problems with [splits.{other}]: both have the same parameters, so their "
                    f"intervals must not overlap; they are {list(spec.splits[one].share)} and "
                    f"{list(spec.splits[other].share)}"
                )
