"""Loopholes: completions that are true for the wrong reason."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cadmus_gym.language import isa as op
from cadmus_gym.language.isa import Tokens
from cadmus_gym.language.machine import run, run_batch
from cadmus_gym.language.verdicts import Verdict
from cadmus_gym.progress import Report

ROWS = 64  # programs between progress reports


def find_loopholes(
    programs: Tokens,
    prompt_lengths: NDArray[np.integer],
    *,
    redraws: int = 16,
    seed: int = 0,
    report: Report | None = None,
) -> NDArray[np.bool_]:
    """Return which programs (N, L) are loopholes, (N,) bool: true, and still true if the problem has another answer.

    For each program, ``redraws`` problems are tried in which literals of the prompt are redrawn with as many digits,
    moved by one, or made equal. If the new prompt leaves another stack, a completion that really answers the question
    is false. So a loophole is sure to be found only if its truth never depends on the problem. A prompt with cases has
    none: its completions may overfit these (see `cadmus_gym.tasks.synthesis.hidden`). Nor has one that leaves nothing,
    such as a function alone. ``report`` is called with (done,
    total) programs.
    """
    rng = np.random.default_rng(seed)
    verdicts, _ = run_batch(programs)
    found = np.zeros(len(programs), np.bool_)
    for k in np.flatnonzero(verdicts == Verdict.TRUE):
        if report is not None and k % ROWS == 0:
            report(int(k), len(programs))
        program = programs[k, : int(np.argmax(programs[k] == op.END)) + 1]
        prompt, completion = program[: prompt_lengths[k]], program[prompt_lengths[k] :]
        if op.CASE in prompt:
            continue
        answer = run(np.append(prompt, np.uint8(op.END))).stack
        parts, places = _parted(prompt)
        for _ in range(redraws):
            other = _redraw(parts, places, rng)
            outcome = run(np.append(other, np.uint8(op.END)))
            if outcome.verdict > Verdict.FALSE or outcome.stack == answer:
                continue
            if run(np.concatenate([other, completion])).true:
                found[k] = True
                break
    if report is not None:
        report(len(programs), len(programs))
    return found


def _parted(prompt: Tokens) -> tuple[list[list[int]], list[int]]:
    """Part a prompt into the literals of its body, except in thoughts, and what is between them.

    Returns these parts and which of them are literals.
    """
    tokens = prompt.tolist()
    body = tokens.index(op.DO) + 1 if op.DO in tokens else 0
    parts: list[list[int]] = [tokens[:body]]
    places: list[int] = []
    thinking = False
    for token in tokens[body:]:
        digit = op.ZERO <= token <= op.NINE and not thinking
        thinking = (thinking or token == op.OPEN) and token != op.CLOSE
        if digit and places and places[-1] == len(parts) - 1:
            parts[-1].append(token)
        elif digit:
            places.append(len(parts))
            parts.append([token])
        else:
            if places and places[-1] == len(parts) - 1:
                parts.append([])
            parts[-1].append(token)
    return parts, places


def _redraw(parts: list[list[int]], places: list[int], rng: np.random.Generator) -> Tokens:
    """Return a prompt, parted by `_parted`, with other literals."""
    old = [int("".join(str(digit - op.ZERO) for digit in parts[place])) for place in places]
    parts = [*parts]
    for place, value in zip(places, old, strict=True):
        size = len(parts[place])
        drawn = int(rng.integers(10 ** (size - 1) if size > 1 else 0, 10**size))
        moved = max(0, value + 2 * int(rng.integers(2)) - 1)
        same = old[int(rng.integers(len(old)))]
        new = [value, drawn, drawn, moved, same][int(rng.integers(5))]
        parts[place] = [op.ZERO + int(digit) for digit in str(new)]
    return np.array([token for part in parts for token in part], np.uint8)
