"""Finds and runs the training scripts, in a checkout or in an installed package."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
SCRIPTS = {"train": "pretrain/train.py", "ppo": "agents/ppo.py"}
EXTRAS = {"train": "train", "ppo": "rl"}  # what each needs


def script_path(name: str) -> Path:
    """Return the path of a script: inside an installed package, or beside the package in a checkout."""
    inside = PACKAGE / "_scripts" / SCRIPTS[name]
    return inside if inside.is_file() else PACKAGE.parent / SCRIPTS[name]


def as_module(path: Path) -> list[str]:
    """Return the arguments with which Python runs a script of an installed package; none for any other file."""
    names = [name for name, script in SCRIPTS.items() if path.resolve() == PACKAGE / "_scripts" / script]
    return ["-m", "cadmus_gym", *names] if names else []


def run_script(name: str, arguments: list[str]) -> int:
    """Run a script as its file would be run, which raises SystemExit; return 2 if a dependency is missing."""
    sys.argv = [str(script_path(name)), *arguments]
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except ModuleNotFoundError as error:
        print(f"error: {name} needs {error.name}: pip install '.[{EXTRAS[name]}]'", file=sys.stderr)
        return 2
    return 0
