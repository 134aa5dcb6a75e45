"""What tests of specs share."""

from __future__ import annotations

from typing import Any

import cadmus_gym as cg

IDS = list(cg.SPECS)


ARITH = 'id = "My-Arith-v0"\ntask = "arith"\n'


TRAIN = "\n[splits.train]\n"


def written(table: str, line: str, task: str = ARITH) -> str:
    """A file with a line in a table."""
    return f"{task}[{table}]\n{line}" + ("" if table.startswith("splits") else TRAIN)


def at(table: str, line: str, *parts: str, task: str = ARITH) -> tuple[str, list[str]]:
    """A mistake in a table, which the message names too."""
    return written(table, line, task), [f"[{table}]", *parts]


def arith(line: str, *parts: str) -> tuple[str, list[str]]:
    return at("parameters", line, *parts)


def parameters(task: str) -> Any:
    """A mistake in the parameters of a task: the line, and what the message must say."""

    def mistake(line: str, *parts: str) -> tuple[str, list[str]]:
        return at("parameters", line, *parts, task=f'id = "My-v0"\ntask = "{task}"\n')

    return mistake


def mixture(line: str, *parts: str, form: str = 'form = "answer"') -> tuple[str, list[str]]:
    return f'id = "My-Mix-v0"\n{form}\n{line}', list(parts)
