"""The settings of a script: from a recipe or the command line, and those of a run that is resumed."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, ClassVar, Protocol

import tyro

from cadmus_gym.files import read_json
from cadmus_gym.transformer.config import ModelConfig

OF_CALL = ("folder", "resume", "overwrite", "extend")  # settings of the call that starts a run, not of the run

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
    tyro.conf.arg(help='an id or a .toml; or several by whole weight: \'{"Cadmus-Arith-v0": 2, "mine.toml": 1}\''),
]
Overrides = Annotated[dict[str, Any], JSON, tyro.conf.arg(help='of the spec: \'{"thoughts": {"share": 0}}\'')]


class Pretraining(Protocol):
    """The settings of pretraining that its parts read; a frozen dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

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
    def parts(self) -> list[dict[str, Any]]: ...
    @property
    def env(self) -> object: ...
    @property
    def folder(self) -> Path: ...
    @property
    def resume(self) -> bool: ...
    @property
    def overwrite(self) -> bool: ...


class Settings(Protocol):
    """What all scripts ask about the folder of a run; a frozen dataclass."""

    @property
    def env(self) -> object: ...
    @property
    def folder(self) -> Path: ...
    @property
    def resume(self) -> bool: ...
    @property
    def overwrite(self) -> bool: ...


def first_flags(arguments: list[str], folder: Path | None, **texts: str | None) -> argparse.Namespace:
    """Return --folder, --resume and the flags of ``texts``, by which is known where all others have their defaults."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--folder", type=Path, default=folder)
    first.add_argument("--resume", action=argparse.BooleanOptionalAction, default=False)
    for name, default in texts.items():
        first.add_argument(f"--{name}", default=default)
    return first.parse_known_args(arguments)[0]


def started_with(folder: Path, name: str, kind: type) -> dict[str, Any] | None:
    """Return the settings of the run in a folder, which its run.json has under that name; None where there is none.

    Raises ValueError where run.json is damaged or was edited, is of another script, or of a version of this one in
    which ``kind``, the dataclass of the settings, had other fields.
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


def check_resumed(before: Settings, now: Settings, free: Collection[str], flag: str = "--resume") -> None:
    """Raise ValueError where settings are not those of the run to be resumed, but for those named in ``free``."""
    for name, value in vars(before).items():
        if name not in free and getattr(now, name) != value:
            raise ValueError(
                f"{flag}: {name} = {getattr(now, name)!r}, but {before.folder} was started with {value!r}; "
                "leave the flag out, or start a run in another folder"
            )
