"""Rendering: text and pictures."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import gymnasium
import numpy as np
import pytest
from support.episodes import completion_of, each_id, finish, plays, tokens_of

import cadmus_gym as cg
from cadmus_gym.language.isa import ID


def test_text_shows_program_stack_and_verdict() -> None:
    environment = cg.CadmusEnv("Cadmus-Arith-v0", render_mode="ansi")
    environment.reset(options={"prompt": "12 7 add"})
    shown = [environment.render()]
    for token in tokens_of("19 eq end"):
        environment.step(token)
        shown.append(environment.render())
    lines = [[line.split(None, 1) for line in text.splitlines()] for text in shown]
    assert all([line[0] for line in three] == ["program", "stack", "verdict"] for three in lines)
    assert [[line[1] for line in three] for three in lines] == [
        ["12 7 add", "19", "..."],
        ["12 7 add 1", "19 1", "..."],
        ["12 7 add 19", "19 19", "..."],
        ["12 7 add 19 eq", "1", "..."],
        ["12 7 add 19 eq end", "1", "TRUE"],
    ]


def test_text_shows_false_and_illegal() -> None:
    environment = cg.CadmusEnv("Cadmus-Arith-v0", render_mode="ansi")
    finish(environment, "12 7 add", "18 eq end")
    assert "FALSE" in environment.render()
    finish(environment, "12 7 add", "18 drop")
    assert "ILLEGAL" in environment.render()
    assert "TRUE" not in environment.render()


def test_text_shows_big_endian_digits() -> None:
    environment = cg.CadmusEnv("Cadmus-Arith-v0", render_mode="ansi", endian="little")
    environment.reset(options={"prompt": "12 345 add"})
    assert "12 345 add" in environment.render()


@pytest.mark.parametrize("count", [0, 2])
def test_rendering_before_the_first_reset_shows_no_verdict(count: int) -> None:
    environment = cg.CadmusVectorEnv(count, render_mode="ansi") if count else cg.CadmusEnv(render_mode="ansi")
    assert "TRUE" not in str(environment.render())


def test_human_mode_prints_every_step(capsys: pytest.CaptureFixture[str]) -> None:
    environment = cg.CadmusEnv("Cadmus-Arith-v0", render_mode="human")
    finish(environment, "12 7 add", "19 eq end")
    assert environment.render() is None
    printed = capsys.readouterr().out
    assert printed.count("program") == 5
    assert printed.count("verdict  TRUE") == 1
    assert printed.count("verdict  ...") == 4


@each_id
def test_each_step_changes_the_picture_and_a_true_end_is_green(id: str) -> None:
    environment = gymnasium.make(id, render_mode="rgb_array")
    observation, _ = environment.reset(seed=0)
    frames = [environment.render()]
    for token in completion_of(observation, "big", 0, id, "train"):
        environment.step(token)
        frames.append(environment.render())
    for picture in frames:
        assert isinstance(picture, np.ndarray)
        assert (picture.dtype, picture.shape) == (np.uint8, (400, 960, 3))
    for before, after in pairwise(frames):
        assert (before != after).any()
    last, right = frames[-1].astype(int), 600  # the verdict stands at the lower right, green for true
    changed = (frames[-1][300:, right:] != frames[-2][300:, right:]).any(axis=2)
    assert changed.sum() > 100
    green = (last[300:, right:, 1] > last[300:, right:, 0] + 60) & (last[300:, right:, 1] > last[300:, right:, 2] + 30)
    assert green.sum() > 100


def test_a_long_program_fits_into_its_picture() -> None:
    environment = cg.CadmusEnv("Cadmus-Open-v0", render_mode="rgb_array", episode={"max_tokens": 600})
    environment.reset(seed=0)
    for _ in range(599):
        environment.step(ID["until"])
    assert environment.render().shape == (400, 960, 3)


def test_a_vector_renders_one_picture_per_sub_environment() -> None:
    for mode, kind in (("ansi", str), ("rgb_array", np.ndarray)):
        vector = gymnasium.make_vec("Cadmus-Arith-v0", num_envs=3, render_mode=mode)
        vector.reset(seed=0)
        shown = vector.render()
        assert isinstance(shown, tuple)
        assert [type(one) for one in shown] == [kind] * 3
        single = cg.CadmusEnv("Cadmus-Arith-v0", render_mode=mode)
        single.reset(seed=2)
        np.testing.assert_array_equal(shown[2], single.render())


def test_without_a_render_mode_nothing_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    environment, rest = plays("Cadmus-Arith-v0")
    environment.step(rest[0])
    assert environment.render() is None
    vector = cg.CadmusVectorEnv(2)
    vector.reset(seed=0)
    assert vector.render() is None
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("mode", ["video", "", 5])
def test_an_unknown_render_mode_is_a_value_error(mode: Any) -> None:
    with pytest.raises(ValueError, match="known are ansi, human, rgb_array"):
        cg.CadmusEnv(render_mode=mode)
