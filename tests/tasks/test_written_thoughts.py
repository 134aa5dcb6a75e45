"""Worked steps of written programs, against steps made from the definition with the naive interpreter."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from support import naive

import cadmus_gym as cg
from cadmus_gym.language.cases import cases_of
from cadmus_gym.streams.spec import Spec

WORDS = ["Cadmus-Induce-v0", "Cadmus-Complete-v0", "Cadmus-Instruct-v0", "Cadmus-Arrange-v0", "Cadmus-Countdown-v0"]
EPISODE = {"max_tokens": 160, "thought_tokens": 96}


def with_style(id: str, style: str, share: float = 1.0, limit: int = 96) -> Spec:
    thoughts = {"share": share, "style": style, "limit": limit}
    return cg.load_spec(id, thoughts=thoughts, episode=EPISODE)


def spelled(values: list[int]) -> list[str]:
    """Return values as a thought writes them, with a `,` where the digits of two would merge."""
    found: list[str] = []
    for n in values:
        found += [*[","] * (bool(found) and found[-1].isdigit()), *str(abs(n)), *["neg"] * (n < 0)]
    return found


def leaves(inputs: str, body: list[str]) -> list[int] | None:
    """Return what a body leaves on the inputs of a case, or None after a fault or for a syntax error."""
    result = naive.judge(["case", *names(cg.assemble(inputs)), "to", "do", *body, "end"])
    return result.stack if result.verdict in ("TRUE", "FALSE") else None


def names(tokens: Any) -> list[str]:
    return [cg.VOCABULARY[token] for token in tokens.tolist()]


def parted(program: Any, length: int) -> tuple[list[str], list[str], list[str]]:
    """Return the body that the prompt begins, the thought without its parentheses, and the whole body."""
    text = names(program[program > 0])
    begun, rest = text[text.index("do") + 1 : length], text[length:-1]
    if "(" not in rest:
        return begun, [], begun + rest
    assert rest[0] == "("
    close = rest.index(")")
    return begun, rest[1:close], begun + rest[close + 1 :]


def stages_of(program: Any, body: list[str]) -> list[str]:
    """Return the steps of a body, from the definition."""
    cases = cases_of(program)
    written: list[str] = []
    begun = 0
    for end in range(1, len(body) + 1):
        left = [leaves(case.inputs, body[:end]) for case in cases]
        wanted = [len(naive_values(case.wanted)) for case in cases]
        if body[end - 1].isdigit() or None in left:
            continue
        if len(cases) > 1 and [len(some or []) for some in left] != wanted:
            continue
        step = body[begun:end]
        apart = [","] if written and written[-1].isdigit() and step[0].isdigit() else []
        values = [n for some in left for n in some or []]
        written += [*apart, *step, *spelled(values)]
        begun = end
    return written


def naive_values(text: str) -> list[int]:
    return [int(part) for part in text.replace(",", " ").split()]


@pytest.mark.parametrize("id", WORDS)
def test_stages_show_what_each_step_leaves(id: str) -> None:
    programs, lengths = cg.Stream(with_style(id, "stages"), "train", 5).batch(0, 25)
    for program, length in zip(programs, lengths, strict=True):
        _, thought, body = parted(program, int(length))
        assert cg.run(program[program > 0]).true
        expected = stages_of(program[program > 0], body)
        assert thought == expected or (not thought and len(expected) + 2 > 96)


@pytest.mark.parametrize("id", WORDS)
def test_a_check_ends_with_the_body_and_what_it_leaves(id: str) -> None:
    programs, lengths = cg.Stream(with_style(id, "check"), "train", 5).batch(0, 60)
    wrong = 0
    for program, length in zip(programs, lengths, strict=True):
        _, thought, body = parted(program, int(length))
        cases = cases_of(program[program > 0])
        values = [n for case in cases for n in leaves(case.inputs, body) or []]
        right = [*body, *spelled(values)]
        assert cg.run(program[program > 0]).true
        assert thought[len(thought) - len(right) :] == right
        before = thought[: len(thought) - len(right)]
        if before:
            wrong += 1
            assert before[-1] == "not"
            attempt = before[: len(body)]
            assert sum(one != other for one, other in zip(attempt, body, strict=True)) == 1
            shown: list[int] = []
            for case in cases:
                left = leaves(case.inputs, attempt)
                shown += left or []
                if left != naive_values(case.wanted):
                    break
            else:
                raise AssertionError("the wrong attempt is right")
            assert before[len(body) : -1] == spelled(shown)
    assert 10 < wrong < 50


def test_a_share_of_the_programs_has_thoughts_and_exact_probabilities() -> None:
    spec = with_style("Cadmus-Arrange-v0", "check", share=0.25)
    stream = cg.Stream(spec, "train", 3)
    programs, _ = stream.batch(0, 400)
    thinks = (programs == cg.encode("(")[0]).any(1)
    assert 60 < thinks.sum() < 140
    plain = cg.Stream(with_style("Cadmus-Arrange-v0", "none"), "train", 3)
    for program in programs[:20]:
        row = program[program > 0]
        bare = row
        if cg.encode("(")[0] in row:
            first, last = (int((row == cg.encode(mark)[0]).argmax()) for mark in "()")
            bare = np.concatenate([row[:first], row[last + 1 :]])
        share = 0.25 if bare.size < row.size else 0.75
        assert stream.log_prob(row) == pytest.approx(plain.log_prob(bare) + math.log(share))
        other = row.copy()
        other[-2] = cg.encode("dup")[0] if other[-2] != cg.encode("dup")[0] else cg.encode("drop")[0]
        assert stream.log_prob(other) == -math.inf


def test_a_thought_that_does_not_fit_is_left_out() -> None:
    programs, _ = cg.Stream(with_style("Cadmus-Arrange-v0", "check", limit=24), "train", 3).batch(0, 300)
    opened, closed = ((programs == cg.encode(mark)[0]).argmax(1) for mark in "()")
    assert 0 < (opened > 0).sum() < 300
    assert (closed - opened + 1).max() <= 24


def test_an_error_lists_the_styles_of_the_task() -> None:
    with pytest.raises(ValueError, match="none, stages, check for task 'induce'"):
        with_style("Cadmus-Induce-v0", "digits")
    with pytest.raises(ValueError, match="known are none for task 'solve'"):
        with_style("Cadmus-Solve-v0", "stages")
    with pytest.raises(ValueError, match="stack for task 'arith'"):
        with_style("Cadmus-Arith-v0", "check")
