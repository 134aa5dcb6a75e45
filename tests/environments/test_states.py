"""Forks: states can be restored anywhere they fit, and nothing else can."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import pickle
from typing import Any

import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from numpy.typing import NDArray
from support.episodes import (
    BLOCK_WORDS,
    each_endian,
    each_id,
    equal,
    finish,
    plays,
    scribble,
    tokens_of,
    unchanged,
    words_spec,
)

import cadmus_gym as cg
from cadmus_gym.environments.episodes import ARRAYS, ENDED
from cadmus_gym.language import isa as op
from cadmus_gym.language.isa import ID


@each_id
@each_endian
def test_a_state_can_be_restored_any_number_of_times(id: str, endian: str) -> None:
    environment, rest = plays(id, seed=2, endian=endian)
    for token in rest[:1] if len(rest) > 1 else []:
        environment.step(token)
    state = environment.state()
    saved = copy.deepcopy(state)
    stories = []
    for number in range(4):
        restored, info = environment.restore(state)
        np.testing.assert_array_equal(restored, saved.tokens[0])
        np.testing.assert_array_equal(info["action_mask"], saved.masks[0])
        last = number % 2  # odd stories take the last allowed token, even ones the first
        story: list[Any] = []
        while not (story and (story[-1][2] or story[-1][3])):
            story.append(environment.step(int(np.flatnonzero(environment.action_masks())[-last])))
        stories.append([*story, environment.reset()])
    equal(stories[0], stories[2])
    equal(stories[1], stories[3])
    if saved.masks.sum() > 1:
        assert len(stories[0]) != len(stories[1]) or stories[0][0][0].tolist() != stories[1][0][0].tolist()
    equal(vars(state), vars(saved))
    equal(stories[0][-1], stories[1][-1])  # the next prompt is the same in all of them


@each_id
def test_vector_episodes_can_be_forked_by_index(id: str) -> None:
    vector = cg.CadmusVectorEnv(5, id)
    vector.reset(seed=0)
    vector.step(vector.action_masks().argmax(axis=1))
    state, before = vector.state([3, 1]), vector.state()
    observations, info = vector.restore(state, [0, 4])
    assert len(state) == 2
    for row, source in enumerate([3, 1, 2, 3, 1]):
        source = source if row in (0, 4) else row
        np.testing.assert_array_equal(observations[row], before.tokens[source])
        np.testing.assert_array_equal(info["action_mask"][row], before.masks[source])
    for _ in range(20):  # forked episodes stay equal, and so do the next ones
        actions = vector.action_masks().argmax(axis=1)
        observations, *_ = vector.step(actions)
        np.testing.assert_array_equal(observations[0], observations[3])
        np.testing.assert_array_equal(observations[4], observations[1])


def test_one_state_can_be_restored_to_many_rows() -> None:
    environment, rest = plays("Cadmus-Arith-v0", seed=8)
    vector = cg.CadmusVectorEnv(3, "Cadmus-Arith-v0")
    vector.reset(seed=0)
    for row in range(3):
        vector.restore(environment.state(), [row])
    for token in rest:
        expected = environment.step(token)
        observations, rewards, terminated, _, _ = vector.step([token] * 3)
        np.testing.assert_array_equal(observations, [expected[0]] * 3)
    assert rewards.tolist() == [1.0] * 3
    assert terminated.all()


def test_restore_needs_no_reset_first() -> None:
    environment, rest = plays("Cadmus-Arith-v0", seed=8)
    fresh = cg.CadmusEnv("Cadmus-Arith-v0")
    fresh.restore(environment.state())
    for token in rest:
        result = fresh.step(token)
    assert result[1] == 1.0
    equal(fresh.reset(), environment.reset())


def test_a_state_survives_pickling() -> None:
    environment, rest = plays("Cadmus-Arith-v0", seed=8)
    state = pickle.loads(pickle.dumps(environment.state()))
    environment.step(0)
    environment.restore(state)
    for token in rest:
        result = environment.step(token)
    assert result[1] == 1.0


@pytest.mark.parametrize("rows", [[3], [-1], [0.5], [True], "0", [[0]], [], 2**70, {0}, [None], object], ids=repr)
def test_an_invalid_index_is_a_value_error(rows: Any) -> None:
    vector = cg.CadmusVectorEnv(3, "Cadmus-Arith-v0")
    vector.reset(seed=0)
    with pytest.raises(ValueError, match="rows"):
        vector.state(rows)
    with pytest.raises(ValueError, match="rows"), unchanged(vector):
        vector.restore(vector.state([0]), rows)


def played(id: str = "Cadmus-Arith-v0", **keywords: Any) -> cg.CadmusVectorEnv:
    """A vector environment with one episode that has ended, one just begun, and one in progress."""
    vector = cg.CadmusVectorEnv(3, id, **keywords)
    vector.reset(seed=0)
    vector.step([int(np.flatnonzero(mask)[-1]) for mask in vector.action_masks()])
    vector.step([0, *(int(np.flatnonzero(mask)[0]) for mask in vector.action_masks()[1:])])
    vector.reset(options={"reset_mask": np.array([False, True, False])})
    return vector


def test_the_arrays_of_a_state_are_read_only() -> None:
    state = played().state()
    for one in (state, pickle.loads(pickle.dumps(state)), copy.deepcopy(state), dataclasses.replace(state)):
        scribble(one)
        equal(vars(one), vars(state))
    lengths = state.lengths.copy()
    made = dataclasses.replace(state, lengths=lengths)
    lengths[:] = 0  # the array passed in is copied
    equal(made.lengths, state.lengths)


def numbers(array: NDArray[Any]) -> list[Any]:
    """Values to write into an array of a state."""
    if array.dtype == np.bool_:
        return [False, True]
    info = np.iinfo(array.dtype)
    return [
        value
        for value in (info.min, -(10**6), -1, 0, 1, 2, 64, 65, 200, 10**6, info.max)
        if info.min <= value <= info.max
    ]


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("spec", ["Cadmus-Arith-v0", "Cadmus-Open-v0", "words", "Cadmus-Induce-v0"])
def test_an_edited_state_is_rejected_or_can_be_played(name: str, spec: str) -> None:
    """No content of the arrays crashes the process or reads out of bounds."""
    vector = played(words_spec() if spec == "words" else spec)
    state, chooser, refused = vector.state(), np.random.default_rng(0), 0
    for _ in range(60):
        array = getattr(state, name).copy()
        if array.size == 0:  # references of a task without hidden cases
            assert name == "references"
            assert spec != "Cadmus-Induce-v0"
            return
        where = tuple(chooser.integers(size) for size in array.shape)
        array[where] = chooser.choice(numbers(array))
        if (array == getattr(state, name)).all():
            continue
        changed = dataclasses.replace(state, **{name: array})
        try:
            with unchanged(vector):
                vector.restore(changed)
        except ValueError as error:
            assert "state that was edited cannot be restored" in str(error)  # noqa: PT017
            refused += 1
            continue
        except AssertionError:  # it was accepted, so the environment changed
            equal(vars(vector.state()), vars(changed))
        with contextlib.suppress(ResetNeeded):  # from a row that has not begun
            for _ in range(6):
                vector.step(chooser.integers(65, size=3))
        vector.restore(state)
    if name in ("tokens", "lengths", "allowed", "masks", "over"):
        assert refused > 5


def test_the_error_for_an_edited_state_names_the_array() -> None:
    vector = played()
    state = vector.state()

    def changed(name: str, where: Any, value: int) -> cg.State:
        array = getattr(state, name).copy()
        array[where] = value
        return dataclasses.replace(state, **{name: array})

    room = state.tokens.shape[1]
    wrong = {
        "tokens": [((1, 0), 65), ((1, room - 1), 1), ((2, int(state.lengths[2]) - 1), ID["drop"]), ((1, 0), op.END)],
        "lengths": [(0, -1), (2, room + 1), (1, room), (2, 0), (0, 2**31 - 1)],
        "cells": [((2, 0), 1), ((2, 0), 10**6), ((2, 1), -1), ((2, 1), 10**6), ((2, 2), 1), ((2, 4), 99)],
        "allowed": [(1, 10**6), (1, -1), (2, ENDED), (0, 0)],
        "masks": [((1, 0), 1), ((0, 5), 0), ((2, op.END), 2)],
        "over": [(0, False), (1, True)],
        "seeds": [(1, -1), (0, -2)],
        "indices": [(1, -1), (0, 2**63 - 1)],
        "ends": [((0, 0), 200), ((1, 3), 2), ((2, 4), 2)],
    }
    assert wrong.keys() | {"references"} == set(ARRAYS)
    for name, changes in wrong.items():
        for where, value in changes:
            with pytest.raises(ValueError, match="a state that was edited cannot be restored: "), unchanged(vector):
                vector.restore(changed(name, where, value))
    for name in ARRAYS:
        array = getattr(state, name)
        for other in (array[:2], array.astype(np.float64), array[None], None, "x", array.astype(">i8")):
            with pytest.raises(ValueError, match=f"a state whose {name} are .* cannot be restored"), unchanged(vector):
                vector.restore(dataclasses.replace(state, **{name: other}))


def test_a_reference_that_cannot_be_judged_by_is_rejected() -> None:
    vector = cg.CadmusVectorEnv(2, "Cadmus-Induce-v0", split="test")
    vector.reset(seed=0)
    state = vector.state()
    size = state.references.shape[1]
    for where, value in (
        ((0, 0), op.END),
        ((1, 0), 65),
        ((0, 0), op.CASE),
        ((1, size - 9), 127),
        ((1, size - 1), 127),
    ):
        array = state.references.copy()
        array[where] = value
        if where == (0, 0) and value == op.END:
            array[0, : size - 24] = ID["dup"]  # no end
        with pytest.raises(ValueError, match="references, row"), unchanged(vector):
            vector.restore(dataclasses.replace(state, references=array))
    vector.restore(dataclasses.replace(state, references=np.zeros_like(state.references)))


def test_a_state_past_its_budget_is_rejected() -> None:
    """An episode that writes past its budget would write out of bounds."""
    environment = cg.CadmusEnv("Cadmus-Open-v0", episode={"max_tokens": 4, "thought_tokens": 0})
    environment.reset(seed=0)
    states = [environment.state()]
    for _ in range(4):
        environment.step(ID["dup"])
        states.append(environment.state())
    running = dataclasses.replace(
        states[4],
        over=states[0].over,
        ends=states[0].ends,
        **{name: getattr(states[3], name) for name in ("allowed", "masks")},
    )
    with pytest.raises(ValueError, match="tokens, row 0"):
        environment.restore(running)
    environment.restore(states[3])


@pytest.mark.parametrize("state", ["x", None, 5, {}, object, (1, 2)], ids=repr)
@pytest.mark.parametrize("count", [1, 3])
def test_restoring_anything_but_a_state_is_a_value_error(state: Any, count: int) -> None:
    environment: Any = cg.CadmusEnv() if count == 1 else cg.CadmusVectorEnv(count)
    environment.reset(seed=0)
    with pytest.raises(ValueError, match="give what state\\(\\) returned"), unchanged(environment):
        environment.restore(state)
    for kind in (None, "x", np.array([]), ()):
        with pytest.raises(ValueError, match="cannot be restored"), unchanged(environment):
            environment.restore(dataclasses.replace(environment.state(), kind=kind))


def test_a_state_of_other_words_is_a_value_error() -> None:
    one, other = cg.CadmusEnv(words_spec()), cg.CadmusEnv(words_spec((*BLOCK_WORDS, "abs")))
    one.reset(seed=0)
    other.reset(seed=0)
    with pytest.raises(ValueError, match="cannot be restored"), unchanged(other):
        other.restore(one.state())


def test_a_state_of_another_size_is_a_value_error() -> None:
    vector = cg.CadmusVectorEnv(3, "Cadmus-Arith-v0")
    vector.reset(seed=0)
    for state, rows in ((vector.state([0, 1]), [0]), (vector.state([0]), None)):
        with pytest.raises(ValueError, match="cannot be restored"):
            vector.restore(state, rows)


OTHERS = {
    "another id": {"spec": "Cadmus-Compare-v0"},
    "another form": {"spec": "Cadmus-Open-v0"},
    "another endian": {"endian": "little"},
    "another budget": {"episode": {"max_tokens": 90}},
}


@pytest.mark.parametrize("other", OTHERS)
def test_a_state_of_another_spec_is_a_value_error(other: str) -> None:
    environment = cg.CadmusEnv("Cadmus-Arith-v0")
    environment.reset(seed=0)
    for token in tokens_of("12 eq"):
        environment.step(token)
    another = cg.CadmusEnv(**OTHERS[other])
    another.reset(seed=0)
    before = another.state()
    with pytest.raises(ValueError, match="cannot be restored"):
        another.restore(environment.state())
    np.testing.assert_array_equal(another.state().tokens, before.tokens)


def test_a_restored_end_keeps_its_verdict() -> None:
    environment = cg.CadmusEnv("Cadmus-Arith-v0", render_mode="ansi")
    finish(environment, "1 1 add", "2 eq end")
    state, shown = environment.state(), environment.render()
    finish(environment, "1 1 add", "3 eq end")
    environment.restore(state)
    assert environment.render() == shown
    with pytest.raises(ResetNeeded):
        environment.step(op.END)


@pytest.mark.parametrize("wrong", [None, [[1]], "absent"])
@pytest.mark.parametrize("name", [*ARRAYS, "kind"])
def test_a_state_with_a_missing_field_is_a_value_error(name: str, wrong: Any) -> None:
    env = cg.CadmusVectorEnv(2)
    env.reset(seed=1)
    state = env.state()
    if wrong == "absent":
        del state.__dict__[name]
    else:
        object.__setattr__(state, name, wrong)
    with pytest.raises(ValueError, match=name if name != "kind" else "a state of"):
        env.restore(state)
