"""The tape of a run: one row per executed token, as the naive interpreter sees it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from support.specs import VALUES
from support.worked import DIGITS, story

import cadmus_gym as cg
from cadmus_gym.language.isa import ID, VOCABULARY
from cadmus_gym.language.memory import scratch
from cadmus_gym.language.verdicts import RAN, STEP_LIMIT, STEPS
from cadmus_gym.tasks.walking import BEFORE, DEPTH, LEFT, POSITION, RESULT, RIGHT, ROW, TAPE, TOKEN, walk

CANARY = -7


def taped(names: list[str]) -> tuple[int, int, np.ndarray, np.ndarray]:
    """Walk a prompt: (outcome, depth, rows (R, 2 * ROW), each with the next one, the cells after the tape)."""
    program = np.array([ID[name] for name in [*names, "end"]], np.uint8)
    room = np.full(TAPE + 100, CANARY, np.int64)
    outcome, depth, rows = walk(program, len(names), room[:TAPE], scratch(program.size))
    pairs = [room[ROW * k : ROW * (k + 2)] for k in range(rows)]
    return outcome, depth, np.array(pairs), room[TAPE:]


@pytest.mark.parametrize("id", [id for id in VALUES if id != "Cadmus-Mix-v0"])
def test_rows_agree_with_the_naive_interpreter(id: str) -> None:
    prompts, lengths = cg.Stream(id, seed=12).prompts(np.zeros(100, int), np.arange(100))
    for prompt, length in zip(prompts, lengths, strict=True):
        names = [VOCABULARY[token] for token in prompt[:length]]
        outcome, depth, rows, _ = taped(names)
        steps = story(names)
        # A literal is one row: its first digit, with the value after its last.
        inside = [one.token in DIGITS and other.token in DIGITS for one, other in pairwise(steps)]
        first = [step for step, follows in zip(steps, [False, *inside], strict=True) if not follows]
        last = [step for step, continues in zip(steps, [*inside, False], strict=True) if not continues]
        before = [(), *(step.stack for step in last[:-1])]
        assert (outcome, depth) == (RAN, len(steps[-1].stack))
        assert rows[:, TOKEN].tolist() == [ID[step.token] for step in first]
        assert rows[:, POSITION].tolist() == [step.position for step in first]
        assert rows[:, DEPTH].tolist() == [len(step.stack) for step in last]
        assert rows[:, BEFORE].tolist() == [len(stack) for stack in before]
        for row, step, stack in zip(rows, last, before, strict=True):
            assert not step.stack or row[RESULT] == step.stack[-1]
            assert not stack or row[RIGHT] == stack[-1]
            assert len(stack) < 2 or row[LEFT] == stack[-2]


@pytest.mark.parametrize("prompt", ["begin 0 until", "begin 7 drop 0 until", "begin begin 1 until 0 until"])
def test_a_run_to_the_step_limit_stays_within_its_tape(prompt: str) -> None:
    outcome, _, rows, after = taped(prompt.split())
    assert outcome == STEP_LIMIT
    assert len(rows) <= STEPS
    assert (after == CANARY).all()
