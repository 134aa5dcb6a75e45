"""The cases of a program, each judged by itself, for people."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cadmus_gym.language import isa as op
from cadmus_gym.language.isa import Tokens
from cadmus_gym.language.machine import Outcome, run
from cadmus_gym.language.notation import disassemble


class Case(NamedTuple):
    """One case of a program: its inputs and wanted outputs, as text, and the outcome of the program with it alone."""

    inputs: str
    wanted: str
    outcome: Outcome


def cases_of(program: Tokens) -> list[Case]:
    """Return the cases of a program (n,) uint8; none if it has no complete header with cases."""
    tokens = program.tolist()
    if op.DO not in tokens or op.CASE not in tokens[: tokens.index(op.DO)]:
        return []
    body = tokens.index(op.DO)
    starts = [k for k in range(body) if tokens[k] == op.CASE]
    found = []
    for start, stop in zip(starts, [*starts[1:], body], strict=True):
        case = tokens[start:stop]
        to = case.index(op.TO) if op.TO in case else len(case)
        alone = np.array(tokens[: starts[0]] + case + tokens[body:], np.uint8)
        inputs, wanted = (disassemble(np.array(side, np.uint8)) for side in (case[1:to], case[to + 1 :]))
        found.append(Case(inputs, wanted, run(alone)))
    return found


def table_of(program: Tokens) -> list[str]:
    """Return a table of the cases of a program (n,) for people, as lines: inputs, what is wanted, what was left."""
    rows = [("case", "inputs", "wanted", "left", "")]
    for number, (inputs, wanted, alone) in enumerate(cases_of(program), 1):
        left = " ".join(map(str, alone.stack))
        rows.append((str(number), inputs, wanted, left, "" if alone.true else alone.verdict.name))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(f"{cell:{width}s}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
