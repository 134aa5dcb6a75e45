"""Shared code of the tests of specs."""

from __future__ import annotations

from typing import Any

import cadmus_gym as cg

IDS = list(cg.SPECS)
WRITTEN = [id for id in IDS if any(part.family.written for part, _ in cg.load_spec(id).parts)]  # ask for programs
VALUES = [id for id in IDS if id not in WRITTEN]


ARITH = 'id = "My-Arith-v0"\ntask = "arith"\n'


TRAIN = "\n[splits.train]\n"


def written(table: str, line: str, task: str = ARITH) -> str:
    """Return a spec file with a line in one of its tables."""
    return f"{task}[{table}]\n{line}" + ("" if table.startswith("splits") else TRAIN)


def at(table: str, line: str, *parts: str, task: str = ARITH) -> tuple[str, list[str]]:
    """Return a spec file with a mistake in a table, and the parts of the message, which names the table, too."""
    return written(table, line, task), [f"[{table}]", *parts]


def arith(line: str, *parts: str) -> tuple[str, list[str]]:
    return at("parameters", line, *parts)


def parameters(task: str) -> Any:
    """Return a function that makes a mistake in the parameters of a task, from a line and parts of the message."""

    def mistake(line: str, *parts: str) -> tuple[str, list[str]]:
        return at("parameters", line, *parts, task=f'id = "My-v0"\ntask = "{task}"\n')

    return mistake


def mixture(line: str, *parts: str, form: str = 'form = "answer"') -> tuple[str, list[str]]:
    return f'id = "My-Mix-v0"\n{form}\n{line}', list(parts)
