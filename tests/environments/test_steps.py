"""Steps: actions, observations, rewards, and how episodes end."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode
from support.episodes import END_KEYS, FREE, each_endian, each_id, each_mode, equal, finish, plays, tokens_of, unchanged

import cadmus_gym as cg
from cadmus_gym.language import isa as op
from cadmus_gym.language.forms import reverse_digits
from cadmus_gym.language.isa import ID


@each_id
@each_endian
@pytest.mark.parametrize("split", ["train", "test"])
def test_the_right_completion_is_rewarded(id: str, endian: str, split: str) -> None:
    for seed in range(10):
        environment, rest = plays(id, split, seed, endian)
        cases = cg.decode(environment.episodes.program(0)).split().count("case")
        for token in rest[:-1]:
            _, reward, terminated, truncated, info = environment.step(token)
            assert (reward, terminated, truncated) == (0.0, False, False)
            assert info.keys() == {"action_mask"}
        _, reward, terminated, truncated, info = environment.step(rest[-1])
        assert (reward, terminated, truncated) == (1.0, True, False)
        assert info.keys() == {"action_mask"} | END_KEYS
        assert {key: info[key] for key in END_KEYS} == {
            "verdict": cg.Verdict.TRUE,
            "passed": max(1, cases),
            "cases": max(1, cases),
            "is_success": True,
            "illegal": False,
            "visible": True,
            "hidden": True,
            "hidden_cases": 16 if cg.load_spec(id).reward == "hidden" else 0,
            "idle_use": False,
        }


@each_id
@each_endian
def test_the_observation_grows_by_each_token(id: str, endian: str) -> None:
    environment, rest = plays(id, seed=1, endian=endian)
    expected = environment.state().tokens[0].tolist()
    length = int(environment.state().lengths[0])
    for token in rest:
        expected[length] = token
        length += 1
        assert environment.step(token)[0].tolist() == expected


@each_endian
def test_digits_are_read_in_the_order_of_the_endian(endian: str) -> None:
    environment = cg.CadmusEnv("Cadmus-Arith-v0", endian=endian)
    observation, _ = environment.reset(options={"prompt": "12 345 add"})
    assert cg.decode(observation[:7]) == ("1 2 , 3 4 5 add" if endian == "big" else "2 1 , 5 4 3 add")
    for name in ("3", "5", "7") if endian == "big" else ("7", "5", "3"):
        environment.step(ID[name])
    environment.step(ID["eq"])
    _, reward, *_ = environment.step(op.END)
    assert reward == 1.0


NO_TOKENS = [65, -1, 1.5, 1.0, None, "1", True, [1], (1,), 2**70, float("nan")]
NO_TOKEN_ARRAYS = [
    np.array([1, 2]),
    np.array([]),
    np.array(1.0),
    np.array([[1], [2]]),
    np.bool_(True),
    np.zeros(65, int),
    np.array(None),
    np.array("1"),
    np.array([1.5], object),
    np.uint64(2**64 - 1),
    float("inf"),
    1 + 0j,
    {1},
    b"1",
    object,
]


@pytest.mark.parametrize("action", [*NO_TOKENS, *NO_TOKEN_ARRAYS], ids=repr)
def test_an_invalid_action_is_a_value_error_and_changes_nothing(action: Any) -> None:
    environment, rest = plays("Cadmus-Arith-v0")
    environment.step(rest[0])
    with pytest.raises(ValueError, match=r"token id.*0\.\.64"), unchanged(environment):
        environment.step(action)
    for token in rest[1:]:
        _, reward, *_ = environment.step(token)
    assert reward == 1.0


@pytest.mark.parametrize("kind", [int, np.int64, np.uint8, np.int32, np.array])
def test_an_action_may_have_any_integer_type(kind: Any) -> None:
    environment, rest = plays("Cadmus-Compare-v0")
    for token in rest:
        _, reward, *_ = environment.step(kind(token))
    assert reward == 1.0


@pytest.mark.parametrize(
    "actions",
    [
        [13, 65, 13],
        [13, -1, 13],
        [13, 13],
        [13] * 4,
        13,
        [[13] * 3],
        [1.0] * 3,
        [True] * 3,
        None,
        ["1"] * 3,
        [None] * 3,
        [],
        np.array([13, 13, 13], object),
        np.full(3, np.nan),
        np.full(3, 13 + 0j),
        np.full(3, 2**64 - 1, np.uint64),
        [2**70] * 3,
        np.array(13),
        {13},
        b"\x0d\x0d\x0d",
    ],
    ids=repr,
)
@each_mode
def test_invalid_actions_of_a_vector_are_a_value_error_and_change_nothing(actions: Any, mode: AutoresetMode) -> None:
    vector = cg.CadmusVectorEnv(3, "Cadmus-Arith-v0", autoreset_mode=mode)
    vector.reset(seed=0)
    with pytest.raises(ValueError, match=r"token ids"), unchanged(vector):
        vector.step(actions)
    vector.step([13] * 3)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int32, np.int64, np.uint64])
def test_actions_may_have_any_integer_dtype(dtype: Any) -> None:
    vector, reference = (cg.CadmusVectorEnv(3, "Cadmus-Arith-v0") for _ in range(2))
    vector.reset(seed=0)
    reference.reset(seed=0)
    actions = np.array([13, 14, 40, 0, 0, 0])[::2]
    equal(vector.step(actions.astype(dtype)), reference.step(actions.tolist()))


@each_id
def test_a_step_outside_an_episode_raises_reset_needed(id: str) -> None:
    environment = cg.CadmusEnv(id)
    with pytest.raises(ResetNeeded):
        environment.step(op.END)
    environment, rest = plays(id)
    for token in rest:
        environment.step(token)
    with pytest.raises(ResetNeeded):
        environment.step(op.END)
    environment.reset()
    environment.step(rest[0])


@each_mode
def test_a_vector_step_before_the_first_reset_raises_reset_needed(mode: AutoresetMode) -> None:
    vector = cg.CadmusVectorEnv(2, "Cadmus-Arith-v0", autoreset_mode=mode)
    with pytest.raises(ResetNeeded):
        vector.step([13, 13])


def test_without_autoreset_a_step_after_an_end_raises_reset_needed() -> None:
    vector = cg.CadmusVectorEnv(3, "Cadmus-Arith-v0", autoreset_mode="Disabled")
    vector.reset(seed=0)
    _, _, terminated, _, _ = vector.step([13, 0, 13])
    assert terminated.tolist() == [False, True, False]
    with pytest.raises(ResetNeeded):
        vector.step([13, 13, 13])
    vector.reset(options={"reset_mask": np.array([True, False, False])})
    with pytest.raises(ResetNeeded):
        vector.step([13, 13, 13])
    vector.reset(options={"reset_mask": terminated})
    vector.step([13, 13, 13])


@pytest.mark.parametrize(
    ("completion", "verdict", "passed", "truth", "cases"),
    [
        ("3 mul end", "TRUE", 2, 1.0, 1.0),
        ("drop 9 end", "FALSE", 1, 0.0, 0.5),
        ("drop 8 end", "FALSE", 0, 0.0, 0.0),
        ("5 swap sub 0 div end", "DIVISION_BY_ZERO", 0, 0.0, 0.0),
        ("fi end", "SYNTAX", 0, 0.0, 0.0),
        ("dup 5 eq if drop 1 0 mod else 3 mul fi end", "DIVISION_BY_ZERO", 1, 0.0, 0.5),
        ("end", "FALSE", 0, 0.0, 0.0),
    ],
)
def test_each_reward_scheme_pays_as_documented(
    completion: str, verdict: str, passed: int, truth: float, cases: float
) -> None:
    prompt = "case 3 to 9 case 5 to 15 do"
    expected = {"truth": truth, "cases": cases}
    for name, reward in expected.items():
        environment = cg.CadmusEnv("Cadmus-Open-v0", reward=name)
        result, terminated, truncated, info = finish(environment, prompt, completion)
        assert (result, terminated, truncated) == (reward, True, False), name
        assert cg.Verdict(info["verdict"]).name == verdict
        assert (info["passed"], info["is_success"]) == (passed, truth == 1.0)
        assert info["cases"] == (0 if verdict == "SYNTAX" else 2)


@pytest.mark.parametrize("id", FREE)
def test_a_free_episode_is_truncated_at_its_budget(id: str) -> None:
    budget = cg.load_spec(id).episode.max_tokens
    environment = cg.CadmusEnv(id)
    environment.reset(seed=0)
    for turn in range(1, budget + 1):
        _, reward, terminated, truncated, info = environment.step(ID["dup"])
        assert (reward, terminated, truncated) == (0.0, False, turn == budget)
    assert {key: info[key] for key in END_KEYS} == {
        "verdict": cg.Verdict.UNTERMINATED,
        "passed": 0,
        "cases": 0,
        "is_success": False,
        "illegal": False,
        "visible": False,
        "hidden": False,
        "hidden_cases": 0,
        "idle_use": False,
    }
    assert info["action_mask"].all()
    with pytest.raises(ResetNeeded):
        environment.step(op.END)


@pytest.mark.parametrize("id", FREE)
def test_an_end_at_the_budget_terminates(id: str) -> None:
    environment = cg.CadmusEnv(id, episode={"max_tokens": 3, "thought_tokens": 0})
    reward, terminated, truncated, _ = finish(environment, "12 7 add", "drop 1 end")
    assert (reward, terminated, truncated) == (1.0, True, False)


CHEATS = ["drop 1 end", "dup eq end", "123457 eq 0 eq end", "dup sub not end", "1 end"]


@each_id
@pytest.mark.parametrize("cheat", CHEATS)
def test_cheats_are_rewarded_under_the_form_free_only(id: str, cheat: str) -> None:
    tokens = tokens_of(cheat)
    for split in cg.load_spec(id).splits:
        vector = cg.CadmusVectorEnv(20, id, split=split)
        vector.reset(seed=9)
        total, ended, succeeded = 0.0, np.zeros(20, np.bool_), 0
        for token in tokens:
            _, rewards, terminated, _, info = vector.step(np.full(20, token))
            total += float(rewards[~ended].sum())
            succeeded += int((info["is_success"] & terminated & ~ended).sum()) if terminated.any() else 0
            ended |= terminated
        assert ended.all()
        assert total == succeeded
        works = id in FREE and cheat != "1 end"
        assert total == (20.0 if works else 0.0)


@each_id
@each_endian
@pytest.mark.parametrize("kind", ["any", "legal"])
def test_random_agents_never_raise_and_are_rewarded_as_the_machine_judges(id: str, endian: str, kind: str) -> None:
    count, turns = 128, 160  # some 20,000 steps
    vector = cg.CadmusVectorEnv(count, id, endian=endian)
    observations, info = vector.reset(seed=1)
    chooser = np.random.default_rng(3)
    ends, over = 0, np.zeros(count, np.bool_)
    for _ in range(turns):
        actions = chooser.integers(65, size=count)
        if kind == "legal":
            actions = (info["action_mask"] * chooser.random((count, 65))).argmax(axis=1)
        illegal = info["action_mask"][np.arange(count), actions] == 0
        idle = over
        observations, rewards, terminated, truncated, info = vector.step(actions)
        over = terminated | truncated
        assert not (over & idle).any()
        assert info["action_mask"][over].all()
        assert info["action_mask"][~over].any(axis=1).all()
        assert not rewards[~over].any()
        if not over.any():
            continue
        ends += int(over.sum())
        programs = reverse_digits(observations) if endian == "little" else observations
        verdicts, passed = cg.run_batch(programs[over])
        np.testing.assert_array_equal(info["verdict"][over], verdicts)
        np.testing.assert_array_equal(info["passed"][over], passed)
        np.testing.assert_array_equal(info["visible"][over], verdicts == cg.Verdict.TRUE)
        assert (info["hidden"] <= info["visible"]).all()
        paid = "hidden" if cg.load_spec(id).reward == "hidden" else "visible"
        np.testing.assert_array_equal(rewards[over], info[paid][over])
        np.testing.assert_array_equal(info["is_success"][over], info[paid][over])
        np.testing.assert_array_equal(info["illegal"][over], illegal[over])
        assert (verdicts[truncated[over]] == cg.Verdict.UNTERMINATED).all()
    assert ends > count


def test_a_timedelta_is_neither_an_action_nor_a_seed() -> None:
    env = cg.CadmusVectorEnv(1)
    env.reset(seed=1)
    with pytest.raises(ValueError, match="timedelta64"):
        env.step(np.array([3], "m8[s]"))
    with pytest.raises(ValueError, match="seed"):
        env.reset(seed=np.timedelta64(3, "s"))  # type: ignore[arg-type]
