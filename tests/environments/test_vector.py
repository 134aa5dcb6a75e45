"""The vector environment against single ones and Gymnasium's SyncVectorEnv."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from support.episodes import FREE, Player, each_endian, each_id, each_mode, equal, reported

import cadmus_gym as cg
from cadmus_gym.language.isa import ID


@each_id
@each_endian
def test_sub_environment_k_equals_a_single_environment_step_by_step(id: str, endian: str) -> None:
    count, seed = 4, 17
    vector = cg.CadmusVectorEnv(count, id, endian=endian)
    singles = [cg.CadmusEnv(id, endian=endian) for _ in range(count)]
    observations, info = vector.reset(seed=seed)
    starts = [single.reset(seed=seed + k) for k, single in enumerate(singles)]
    player, over = Player(id, count, seed, endian), np.zeros(count, np.bool_)
    outcomes = set()
    for k, start in enumerate(starts):
        equal((observations[k], {"action_mask": info["action_mask"][k]}), start)
    for _ in range(250):
        actions = player.choose(observations, info["action_mask"])
        observations, rewards, terminated, truncated, info = vector.step(actions)
        for k, single in enumerate(singles):
            result = (*single.reset(), 0.0, False, False) if over[k] else single.step(int(actions[k]))
            row_info = {key: values[k] for key, values in info.items() if key[0] != "_" and info[f"_{key}"][k]}
            expected = (result[0], *result[2:], result[1]) if over[k] else result
            equal(observations[k], expected[0])
            assert (rewards[k], terminated[k], truncated[k]) == expected[1:4]
            assert row_info.keys() == expected[4].keys()
            for key, value in expected[4].items():
                np.testing.assert_array_equal(row_info[key], value)
            if terminated[k] or truncated[k]:
                outcomes.add((bool(truncated[k]), row_info["verdict"], bool(row_info["illegal"])))
        over = terminated | truncated
        player.ended(over)
    verdicts = {verdict for _, verdict, _ in outcomes}
    assert {cg.Verdict.TRUE, cg.Verdict.FALSE} <= verdicts
    assert any(illegal for *_, illegal in outcomes) == (id not in FREE)


@each_id
@each_mode
@each_endian
def test_vector_results_equal_those_of_sync_vector_env(id: str, mode: AutoresetMode, endian: str) -> None:
    count, seed = 5, 23
    thoughts = {"max_tokens": 128, "thought_tokens": 96} if id not in FREE else {"max_tokens": 30, "thought_tokens": 30}
    options = {"endian": endian, "episode": thoughts}
    vector = cg.CadmusVectorEnv(count, id, autoreset_mode=mode, **options)
    reference = SyncVectorEnv([lambda: cg.CadmusEnv(id, **options)] * count, autoreset_mode=mode)
    result, expected = vector.reset(seed=seed), reference.reset(seed=seed)
    equal(result, expected)
    observations, info = result
    player, kinds = Player(id, count, seed, endian, mode), set()
    for turn in range(200):
        actions = player.choose(observations, info["action_mask"])
        result, expected = vector.step(actions), reference.step(actions)
        equal(result, expected, f"{turn}")
        observations, rewards, terminated, truncated, info = result
        over = terminated | truncated
        kinds |= {"true"} if rewards.any() else set()
        kinds |= {"truncated"} if truncated.any() else set()
        kinds |= {"ended"} if terminated.any() else set()
        player.ended(over)
        if mode == AutoresetMode.DISABLED and over.any():
            again = vector.reset(options={"reset_mask": over.copy()})
            equal(reported(again), reference.reset(options={"reset_mask": over.copy()}), f"{turn} reset")
            observations, info = again
    assert kinds == {"true", "ended"} | ({"truncated"} if id in FREE else set())


@each_mode
def test_resets_during_play_equal_those_of_sync_vector_env(mode: AutoresetMode) -> None:
    id, count = "Cadmus-Arith-v0", 4
    vector = cg.CadmusVectorEnv(count, id, autoreset_mode=mode)
    reference = SyncVectorEnv([lambda: cg.CadmusEnv(id)] * count, autoreset_mode=mode)
    mask = np.array([True, False, True, False])
    resets: list[dict[str, Any]] = [
        {"seed": 5},
        {"options": {"prompt": "12 7 add"}},
        {},
        {"seed": [7, None, 9, None]},
        {"options": {"reset_mask": mask}},
        {"seed": 50, "options": {"reset_mask": mask}},
        {"seed": [1, 2, None, 4], "options": {"reset_mask": mask}},
        {"options": {"reset_mask": mask, "prompt": "-34 sub"}},
        {},
    ]
    for arguments in resets:
        ours = vector.reset(**copy.deepcopy(arguments))
        equal(reported(ours), reference.reset(**copy.deepcopy(arguments)), str(arguments))
        np.testing.assert_array_equal(ours[1]["action_mask"], vector.action_masks())
        for token in (ID["1"], ID["2"]):
            equal(vector.step(np.full(count, token)), reference.step(np.full(count, token)))
