"""The settings of a training script: from a recipe, the command line, or the run that is resumed."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, ClassVar, Protocol, TypeVar

import tyro

from cadmus_gym.files import read_json
from cadmus_gym.reading import convert, naming, read_toml
from cadmus_gym.transformer.config import ModelConfig

OF_CALL = ("folder", "resume", "overwrite", "extend")  # settings of one call of a script, not of the run

Kind = TypeVar("Kind")  # a frozen dataclass of settings
Flags = TypeVar("Flags", bound="Settings")

JSON = tyro.constructors.PrimitiveConstructorSpec(
    nargs=1,
    metavar="TEXT|JSON",
    instance_from_str=lambda given: json.loads(given[0]) if given[0].lstrip().startswith("{") else given[0],
    is_instance=lambda value: isinstance(value, (str, dict)),
    str_from_instance=lambda value: [value if isinstance(value, str) else json.dumps(value)],
)
Env = Annotated[
    str | dict[str, int],
    JSON,
    tyro.conf.arg(help='id or .toml, or several with integer weights: \'{"Cadmus-Arith-v0": 2, "mine.toml": 1}\''),
]
Overrides = Annotated[
    dict[str, Any], JSON, tyro.conf.arg(help='of keys of the spec, for example \'{"thoughts": {"share": 0}}\'')
]


# ---------------------------------------------------------------------------------------------- recipes


def read_recipe(name: str, kind: type[Kind], folder: Path, recipes: Path) -> Kind:
    """Return the settings of a recipe: the name of a file in ``recipes``, or the path of a .toml."""
    path = Path(name) if name.endswith(".toml") else recipes / f"{name}.toml"
    if not path.is_file():
        names = ", ".join(sorted(file.stem for file in recipes.glob("*.toml")))
        raise ValueError(f"recipe {name!r}: no file {path}; known: {names}, or give the path of a .toml")
    given = {"recipe": name, "parts": [], **dict.fromkeys(OF_CALL, False), "folder": folder}
    values = read_toml(path)
    with naming(path.name):
        return convert(kind, values, given=given)


# ---------------------------------------------------------------------------------------------- what code relies on


class Settings(Protocol):
    """The settings that every training script has; a frozen dataclass."""

    @property
    def env(self) -> object: ...
    @property
    def folder(self) -> Path: ...
    @property
    def resume(self) -> bool: ...
    @property
    def overwrite(self) -> bool: ...


class Pretraining(Settings, Protocol):
    """The settings that the modules of pretraining read; a frozen dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def env(self) -> str | dict[str, int]: ...
    @property
    def overrides(self) -> dict[str, Any]: ...
    @property
    def recipe(self) -> str: ...
    @property
    def sizes(self) -> ModelConfig: ...
    @property
    def endian(self) -> str: ...
    @property
    def context(self) -> int: ...
    @property
    def seed(self) -> int: ...
    @property
    def dtype(self) -> str: ...
    @property
    def optimizer(self) -> str: ...
    @property
    def muon_rate(self) -> float: ...
    @property
    def adamw_rate(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...
    @property
    def prompt_weight(self) -> float: ...
    @property
    def clip(self) -> float: ...
    @property
    def tokens(self) -> int: ...
    @property
    def steps(self) -> int | None: ...
    @property
    def batch(self) -> int: ...
    @property
    def stop_at_truth(self) -> float | None: ...
    @property
    def start(self) -> str | None: ...
    @property
    def parts(self) -> list[dict[str, Any]]: ...


# ---------------------------------------------------------------------------------------------- resuming


def first_flags(arguments: list[str], folder: Path | None, **texts: str | None) -> argparse.Namespace:
    """Return --folder, --resume and the flags in ``texts``: they decide where the other flags get their defaults."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--folder", type=Path, default=folder)
    first.add_argument("--resume", action=argparse.BooleanOptionalAction, default=False)
    for name, default in texts.items():
        first.add_argument(f"--{name}", default=default)
    return first.parse_known_args(arguments)[0]


def started_with(folder: Path, name: str, kind: type) -> dict[str, Any] | None:
    """Return the settings of the run in a folder, from the key ``name`` of its run.json; None if there is no run.

    Raises ValueError if run.json was damaged or edited, or was written by another script or by a version in which
    ``kind``, the dataclass of the settings, had other fields.
    """
    path = folder / "run.json"
    if not path.is_file():
        return None
    values = read_json(path).get(name)
    if not isinstance(values, dict):
        raise ValueError(f"{folder} is a run of another script: {path} has no {name!r}")
    known = {entry.name for entry in dataclasses.fields(kind)} - set(OF_CALL)
    if differing := sorted(known ^ values.keys()):
        what = "lacks" if differing[0] in known else "has the unknown"
        raise ValueError(
            f"{path} {what} setting {differing[0]!r}: another version of Cadmus Gym wrote it; resume it with that one"
        )
    return {**values, "folder": folder}


def configure(arguments: list[str], kind: type[Flags], name: str, free: Collection[str], folder: Path) -> Flags:
    """Return the settings: from flags, else from the run to be resumed, else the defaults of ``kind``.

    name: key of the settings in run.json.
    free: settings that may differ when a run is resumed.
    folder: where --folder is not given.

    Raises ValueError for a value that is not allowed, and a flag that contradicts the run to be resumed.
    """
    known = first_flags(arguments, folder=folder)
    values = started_with(known.folder, name, kind) if known.resume else None
    if values is None:
        return tyro.cli(kind, args=arguments)
    before = kind(**values)
    now = tyro.cli(kind, args=arguments, default=before)
    check_resumed(before, now, free)
    return now


def check_resumed(before: Settings, now: Settings, free: Collection[str], flag: str = "--resume") -> None:
    """Raise ValueError if a setting differs from the run to be resumed. Those named in ``free`` may differ."""
    for name, value in vars(before).items():
        if name not in free and getattr(now, name) != value:
            raise ValueError(
                f"{flag}: {name} = {getattr(now, name)!r}, but {before.folder} was started with {value!r}; "
                "leave the flag out, or start a run in another folder"
            )
