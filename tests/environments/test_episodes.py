"""The environments: conformance over the registry, and the vector environment against the single one."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import functools
import json
import pickle
import subprocess
import sys
from collections.abc import Iterator
from itertools import combinations, pairwise
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from gymnasium.utils.env_match import check_environments_match
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from numpy.typing import NDArray

import cadmus_gym as cg
from cadmus_gym.environments.episodes import ARRAYS, ENDED
from cadmus_gym.language import isa as op
from cadmus_gym.language.forms import DEPTH, ENDIANS, Automata, reverse_digits
from cadmus_gym.language.isa import ID

IDS = list(cg.SPECS)
FREE = [id for id in IDS if cg.load_spec(id).form == "free"]
BOUND = [id for id in IDS if id not in FREE]
MODES = [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP, AutoresetMode.DISABLED]
END_KEYS = {"verdict", "passed", "cases", "is_success", "illegal"}

each_id = pytest.mark.parametrize("id", IDS)
each_endian = pytest.mark.parametrize("endian", ENDIANS)
each_mode = pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)


def equal(one: Any, other: Any, where: str = "") -> None:
    """Assert that two results of an environment are the same, keys, types, dtypes and shapes included."""
    assert type(one) is type(other), where
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            equal(one[key], other[key], f"{where}/{key}")
    elif isinstance(one, (tuple, list)):
        assert len(one) == len(other), where
        for k, (left, right) in enumerate(zip(one, other, strict=True)):
            equal(left, right, f"{where}[{k}]")
    elif isinstance(one, np.ndarray) and one.dtype == object:
        assert other.dtype == object, where
        equal(list(one), list(other), where)
    elif isinstance(one, np.ndarray):
        assert (one.dtype, one.shape) == (other.dtype, other.shape), where
        np.testing.assert_array_equal(one, other, err_msg=where)
    else:
        assert one == other, where


def reported(result: Any) -> Any:
    """What a reset reports of the rows it has reset: SyncVectorEnv leaves zeros in the masks of others."""
    observations, info = result
    return observations, {**info, "action_mask": info["action_mask"] * info["_action_mask"][:, None]}


def tokens_of(text: str, endian: str = "big") -> list[int]:
    tokens = cg.assemble(text)
    return (reverse_digits(tokens) if endian == "little" else tokens).tolist()


@functools.lru_cache(64)
def beginning(spec: str, split: str, seed: int) -> tuple[NDArray[np.uint8], list[int]]:
    """The first programs of a stream, more than any test here plays, and the lengths of their prompts."""
    programs, lengths = cg.Stream(spec, split, seed=seed).batch(0, 700)
    return programs, lengths.tolist()


def completion_of(observation: NDArray[np.uint8], endian: str, seed: int, spec: Any, split: str) -> list[int]:
    """The completion of the stream's program that a prompt begins, as an agent writes it; by search in the stream."""
    for program, length in zip(*beginning(spec, split, seed), strict=True):
        shown = reverse_digits(program) if endian == "little" else program
        if (shown[:length] == observation[:length]).all() and not observation[length:].any():
            return shown[length:][program[length:] > 0].tolist()
    raise AssertionError("a prompt that is not of the stream")


class Player:
    """Plays episodes side by side: right completions, legal tokens with `end` soon or late, at times any token."""

    def __init__(
        self, id: str, count: int, seed: int, endian: str, mode: AutoresetMode = AutoresetMode.NEXT_STEP
    ) -> None:
        self.chooser = np.random.default_rng(seed)
        self.mode, self.ignored = mode, np.zeros(count, np.bool_)
        self.id, self.seed, self.endian = id, seed, endian
        self.scripts: list[list[int] | None] = [None] * count
        self.fresh, self.lingers = [True] * count, [False] * count

    def choose(self, observations: NDArray[np.uint8], masks: NDArray[np.int8]) -> NDArray[np.int64]:
        return np.array([self._choose(k, *row) for k, row in enumerate(zip(observations, masks, strict=True))])

    def _choose(self, row: int, observation: NDArray[np.uint8], mask: NDArray[np.int8]) -> int:
        if self.ignored[row]:
            return int(self.chooser.integers(65))
        if self.fresh[row]:
            self.fresh[row] = False
            right, self.lingers[row] = self.chooser.random(2) < 0.5
            seed = self.seed + row
            self.scripts[row] = completion_of(observation, self.endian, seed, self.id, "train") if right else None
        script = self.scripts[row]
        if script:
            return script.pop(0)
        if self.chooser.random() < 0.02:
            return int(self.chooser.integers(65))
        legal = np.flatnonzero(mask)
        if self.lingers[row] and legal.size > 1:
            legal = legal[legal != op.END]
        elif op.END in legal and self.chooser.random() < 0.5:
            return op.END
        return int(self.chooser.choice(legal))

    def ended(self, over: NDArray[np.bool_]) -> None:
        self.ignored = over & (self.mode == AutoresetMode.NEXT_STEP)
        for row in np.flatnonzero(over):
            self.fresh[row] = True


def plays(id: str, split: str = "train", seed: int = 0, endian: str = "big") -> tuple[cg.CadmusEnv, list[int]]:
    """An environment at the start of an episode, and the tokens that end it well."""
    environment = cg.CadmusEnv(id, split=split, endian=endian)
    observation, _ = environment.reset(seed=seed)
    return environment, completion_of(observation, endian, seed, id, split)


# Conformance


@each_id
def test_gymnasium_has_nothing_to_say(id: str) -> None:
    check_env(gymnasium.make(id).unwrapped)


@each_id
def test_stable_baselines_has_nothing_to_say(id: str) -> None:
    checker = pytest.importorskip("stable_baselines3.common.env_checker")
    checker.check_env(gymnasium.make(id).unwrapped)


@each_id
@each_endian
def test_twins_are_the_same(id: str, endian: str) -> None:
    one, other = (gymnasium.make(id, endian=endian) for _ in range(2))
    check_environments_match(one, other, num_steps=200, seed=5)


@each_id
def test_the_spaces_are_those_of_every_split(id: str) -> None:
    shapes = set()
    for split in cg.load_spec(id).splits:
        environment = gymnasium.make(id, split=split)
        assert environment.action_space == gymnasium.spaces.Discrete(65)
        space = environment.observation_space
        assert isinstance(space, gymnasium.spaces.Box)
        assert (space.dtype, space.low.min(), space.high.max()) == (np.uint8, 0, 64)
        shapes.add(space.shape)
        for seed in range(20):
            assert environment.reset(seed=seed)[0] in space
    assert len(shapes) == 1


@each_id
def test_the_vector_environment_has_the_spaces_of_gymnasium(id: str) -> None:
    vector = gymnasium.make_vec(id, num_envs=3)
    reference = gymnasium.make_vec(id, num_envs=3, vectorization_mode="sync")
    assert vector.num_envs == 3
    assert vector.single_action_space == reference.single_action_space
    assert vector.single_observation_space == reference.single_observation_space
    assert vector.action_space == reference.action_space
    assert vector.observation_space == reference.observation_space
    assert vector.metadata["autoreset_mode"] == AutoresetMode.NEXT_STEP
    observations, _ = vector.reset(seed=1)
    assert observations in vector.observation_space
    actions = vector.action_space.sample()
    assert vector.step(actions)[0] in vector.observation_space


@each_id
def test_the_module_can_be_named_in_the_id(id: str) -> None:
    assert isinstance(gymnasium.make(f"cadmus_gym:{id}").unwrapped, cg.CadmusEnv)
    gymnasium.register_envs(cg)


@each_id
def test_a_spec_makes_the_same_environment_again(id: str) -> None:
    overrides = {"split": "test", "endian": "little", "episode": {"max_tokens": 125}, "reward": "cases"}
    first = gymnasium.make(id, **overrides)
    assert first.spec is not None
    again = [gymnasium.make(first.spec), gymnasium.make(EnvSpec.from_json(first.spec.to_json()))]
    json.loads(first.spec.to_json())
    for environment in again:
        check_environments_match(first, environment, num_steps=60, seed=3)


@each_id
def test_a_vector_spec_makes_the_same_environment_again(id: str) -> None:
    first = gymnasium.make_vec(id, num_envs=2, split="test")
    assert first.spec is not None
    for spec in (first.spec, EnvSpec.from_json(first.spec.to_json())):
        again = gymnasium.make_vec(spec, num_envs=2)
        equal(first.reset(seed=4), again.reset(seed=4))


@each_id
def test_a_pickled_environment_goes_on_where_it_was(id: str) -> None:
    environment, rest = plays(id, seed=3)
    environment.step(rest[0])
    again = pickle.loads(pickle.dumps(environment))
    for token in rest[1:]:
        equal(again.step(token), environment.step(token))
    equal(again.reset(), environment.reset())


@each_id
def test_a_pickled_vector_environment_goes_on_where_it_was(id: str) -> None:
    vector = cg.CadmusVectorEnv(4, id)
    vector.reset(seed=3)
    player = np.random.default_rng(0)
    for _ in range(30):
        vector.step(player.integers(65, size=4))
    for again in (pickle.loads(pickle.dumps(vector)), copy.deepcopy(vector)):
        state, steps = vector.state(), np.random.default_rng(1).integers(65, size=(30, 4))
        expected = [vector.step(actions) for actions in steps]
        equal([again.step(actions) for actions in steps], expected)
        vector.restore(state)


def test_spawned_workers_play_the_same() -> None:
    """One id will do: workers are given a spec like any other process."""
    id = IDS[-1]
    workers = AsyncVectorEnv([lambda: gymnasium.make(f"cadmus_gym:{id}")] * 2, context="spawn")
    try:
        here = SyncVectorEnv([lambda: gymnasium.make(id)] * 2)
        equal(workers.reset(seed=1), here.reset(seed=1))
        for actions in np.random.default_rng(0).integers(65, size=(40, 2)):
            equal(workers.step(actions), here.step(actions))
    finally:
        workers.close()


def test_a_fresh_process_finds_the_id_by_its_module() -> None:
    code = "import gymnasium; print(gymnasium.make('cadmus_gym:Cadmus-Arith-v0').reset(seed=1)[0].tolist())"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert json.loads(printed) == cg.CadmusEnv("Cadmus-Arith-v0").reset(seed=1)[0].tolist()


@each_endian
def test_a_space_says_its_order_of_digits(endian: str) -> None:
    space = cg.CadmusEnv(endian=endian).observation_space
    other = cg.CadmusEnv(endian="big" if endian == "little" else "little").observation_space
    plain = gymnasium.spaces.Box(0, 64, space.shape, np.uint8)
    for again in (
        pickle.loads(pickle.dumps(space)),
        copy.deepcopy(space),
        cg.CadmusEnv(endian=endian).observation_space,
    ):
        assert again == space
        assert again != other
        assert repr(again) == f"TokenSpace({space.shape[0]}, endian={endian!r})"
    assert plain == space == plain  # which says no order
    assert space != gymnasium.spaces.Box(0, 64, (3,), np.uint8)
    assert space != 5
    assert cg.CadmusVectorEnv(2, endian=endian).single_observation_space == space


# The prompts


@each_id
@each_endian
@pytest.mark.parametrize("split", ["train", "test"])
def test_episode_i_has_the_prompt_of_program_i(id: str, endian: str, split: str) -> None:
    environment = cg.CadmusEnv(id, split=split, endian=endian)
    programs, lengths = cg.Stream(id, split, seed=2**40).batch(0, 80)
    shown = reverse_digits(programs) if endian == "little" else programs
    for k, (program, length) in enumerate(zip(shown, lengths.tolist(), strict=True)):
        observation, _ = environment.reset(seed=2**40 if k == 0 else None)
        np.testing.assert_array_equal(observation[:length], program[:length])
        assert not observation[length:].any()


@each_id
def test_prompts_go_on_in_order_however_unevenly_episodes_end(id: str) -> None:
    """Rows whose episodes end at other rates take their prompts from the queue each at its own pace."""
    count, player = 6, np.random.default_rng(0)
    vector = cg.CadmusVectorEnv(count, id, autoreset_mode="SameStep")
    observations, info = vector.reset(seed=100)
    episode, quick = np.zeros(count, int), np.linspace(0.02, 0.6, count)
    fresh = np.ones(count, np.bool_)
    last = op.END if id in FREE else 0  # under all other forms `<pad>` is illegal, which ends an episode too
    for _ in range(600):
        for row in range(count):
            programs, lengths = beginning(id, "train", 100 + row)
            length = lengths[episode[row]]
            np.testing.assert_array_equal(observations[row, :length], programs[episode[row], :length])
            assert not observations[row, length:].any() or not fresh[row]
        weights = info["action_mask"] * player.random((count, 65))
        weights[:, op.END] *= 0.01
        actions = np.where(player.random(count) < quick, last, weights.argmax(axis=1))
        observations, _, terminated, truncated, info = vector.step(actions)
        fresh = terminated | truncated
        episode += fresh
    assert episode.max() > 200
    assert episode.min() < episode.max() - 50


def test_seeds_give_other_prompts() -> None:
    vector = cg.CadmusVectorEnv(50, "Cadmus-Arith-v0")
    observations = np.concatenate([vector.reset(seed=seed)[0] for seed in (0, 1000)])
    assert len(np.unique(observations, axis=0)) > 90
    np.testing.assert_array_equal(vector.reset(seed=0)[0], observations[:50])


def test_without_a_seed_prompts_are_any() -> None:
    first = [cg.CadmusEnv("Cadmus-Arith-v0").reset()[0].tobytes() for _ in range(10)]
    assert len(set(first)) > 5
    vector = cg.CadmusVectorEnv(50, "Cadmus-Arith-v0")
    assert len(np.unique(vector.reset()[0], axis=0)) > 40


# The vector environment against the single one


@each_id
@each_endian
def test_sub_environment_k_plays_what_the_single_one_plays(id: str, endian: str) -> None:
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
            told = {key: values[k] for key, values in info.items() if key[0] != "_" and info[f"_{key}"][k]}
            expected = (result[0], *result[2:], result[1]) if over[k] else result
            equal(observations[k], expected[0])
            assert (rewards[k], terminated[k], truncated[k]) == expected[1:4]
            assert told.keys() == expected[4].keys()
            for key, value in expected[4].items():
                np.testing.assert_array_equal(told[key], value)
            if terminated[k] or truncated[k]:
                outcomes.add((bool(truncated[k]), told["verdict"], bool(told["illegal"])))
        over = terminated | truncated
        player.ended(over)
    verdicts = {verdict for _, verdict, _ in outcomes}
    assert {cg.Verdict.TRUE, cg.Verdict.FALSE} <= verdicts
    assert any(illegal for *_, illegal in outcomes) == (id not in FREE)


@each_id
@each_mode
@each_endian
def test_infos_are_those_of_gymnasium(id: str, mode: AutoresetMode, endian: str) -> None:
    count, seed = 5, 23
    thoughts = {"max_tokens": 128, "thought_tokens": 96} if id not in FREE else {"max_tokens": 30, "thought_tokens": 30}
    options = {"endian": endian, "episode": thoughts}
    vector = cg.CadmusVectorEnv(count, id, autoreset_mode=mode, **options)
    reference = SyncVectorEnv([lambda: cg.CadmusEnv(id, **options)] * count, autoreset_mode=mode)
    result, expected = vector.reset(seed=seed), reference.reset(seed=seed)
    equal(result, expected)
    observations, info = result
    player, kinds = Player(id, count, seed, endian, mode), set()
    for turn in range(400):
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
def test_a_reset_amid_play_is_that_of_gymnasium(mode: AutoresetMode) -> None:
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


@each_id
@each_endian
@pytest.mark.parametrize("tight", [False, True])
def test_the_mask_is_that_of_the_automaton(id: str, endian: str, tight: bool) -> None:
    """All along an episode, up to where the budget leaves one way only."""
    episode = cg.load_spec(id).episode
    spec = cg.load_spec(id, episode={"thought_tokens": episode.max_tokens if tight else episode.thought_tokens})
    environment, chooser = cg.CadmusEnv(spec, endian=endian), np.random.default_rng(2)
    for seed in range(15):
        _, info = environment.reset(seed=seed)
        programs, lengths = cg.Stream(id, seed=seed).batch(0, 1)
        automata = Automata(spec.rules, programs, lengths, endian)
        terminated = truncated = False
        while not (terminated or truncated):
            np.testing.assert_array_equal(info["action_mask"], automata.mask()[0])
            np.testing.assert_array_equal(environment.action_masks(), automata.mask()[0])
            legal = np.flatnonzero(info["action_mask"])
            token = int(chooser.choice(legal[legal != op.END] if tight and legal.size > 1 else legal))
            automata.push(np.array([token]))
            _, _, terminated, truncated, info = environment.step(token)
        assert automata.done[0]


WORDS = [*"0123456789", ",", "neg", "eq", "dup", "drop", "if", "else", "fi", "times", "next", "i", "begin", "until"]
WORDS += ["def", "ret", "call"]


@each_endian
def test_blocks_that_an_agent_opens_can_be_closed_within_the_budget(endian: str) -> None:
    """An agent that opens blocks wherever it may, and `end`s only where nothing else is left."""
    spec = cg.load_spec("Cadmus-Arith-v0", form="words", words=WORDS)
    count, budget = 64, spec.episode.max_tokens
    vector, chooser = (
        cg.CadmusVectorEnv(count, spec, endian=endian, autoreset_mode="Disabled"),
        np.random.default_rng(0),
    )
    _, infos = vector.reset(seed=0)
    programs, lengths = cg.Stream(spec).gather(np.arange(count), np.zeros(count, np.int64))
    automata = Automata(spec.rules, programs, lengths, endian)
    deepest = 0
    for turn in range(budget):
        masks = infos["action_mask"]
        np.testing.assert_array_equal(masks, automata.mask())
        assert masks.any(axis=1).all()
        wishes = chooser.random(masks.shape)
        wishes[:, [ID["if"], ID["times"], ID["begin"], ID["def"]]] += turn < budget // 2
        wishes[:, op.END] = -1
        tokens = np.where(masks, wishes, -2).argmax(axis=1)
        automata.push(tokens)
        deepest = max(deepest, int(automata.cells[:, DEPTH].max()))
        _, _, terminated, _, infos = vector.step(tokens)
        assert not infos.get("illegal", np.zeros(1)).any()
        if terminated.any():
            break
    assert turn == budget - 1
    assert terminated.all()
    assert deepest > 10
    verdicts = cg.run_batch(np.stack([vector.episodes.tokens[row] for row in range(count)]))[0]
    assert not {cg.Verdict.SYNTAX, cg.Verdict.UNTERMINATED} & set(verdicts.tolist())


# Steps


@each_id
@each_endian
@pytest.mark.parametrize("split", ["train", "test"])
def test_the_right_completion_is_rewarded(id: str, endian: str, split: str) -> None:
    for seed in range(10):
        environment, rest = plays(id, split, seed, endian)
        for token in rest[:-1]:
            _, reward, terminated, truncated, info = environment.step(token)
            assert (reward, terminated, truncated) == (0.0, False, False)
            assert info.keys() == {"action_mask"}
        _, reward, terminated, truncated, info = environment.step(rest[-1])
        assert (reward, terminated, truncated) == (1.0, True, False)
        assert info.keys() == {"action_mask"} | END_KEYS
        assert {key: info[key] for key in END_KEYS} == {
            "verdict": cg.Verdict.TRUE,
            "passed": 1,
            "cases": 1,
            "is_success": True,
            "illegal": False,
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


@each_id
def test_the_last_mask_allows_everything(id: str) -> None:
    """What comes next is not read, and -inf for all of 65 logits is a NaN."""
    environment, rest = plays(id)
    for token in rest:
        *_, info = environment.step(token)
    mask = info["action_mask"]
    assert (mask.dtype, mask.shape) == (np.int8, (65,))
    assert mask.all()
    assert environment.action_masks().all()
    assert environment.action_masks().dtype == np.bool_


@each_mode
def test_every_mask_leaves_a_way(mode: AutoresetMode) -> None:
    """In all rows, at all times: a policy with logits of -inf must never be without a token."""
    vector = cg.CadmusVectorEnv(4, "Cadmus-Arith-v0", autoreset_mode=mode)
    assert vector.action_masks().all()
    _, info = vector.reset(seed=0)
    chooser, ends = np.random.default_rng(0), 0
    for _ in range(100):
        assert info["action_mask"].any(axis=1).all()
        actions = (info["action_mask"] * chooser.random((4, 65))).argmax(axis=1)
        _, _, terminated, _, info = vector.step(np.where(chooser.random(4) < 0.05, 0, actions))
        ends += int(terminated.sum())
        if mode == AutoresetMode.NEXT_STEP:
            assert info["action_mask"][terminated].all()
        if mode == AutoresetMode.SAME_STEP and terminated.any():
            assert info["final_info"]["action_mask"][terminated].all()
        if mode == AutoresetMode.DISABLED and terminated.any():
            _, info = vector.reset(options={"reset_mask": terminated})
            assert info["_action_mask"].tolist() == terminated.tolist()
        np.testing.assert_array_equal(info["action_mask"], vector.action_masks())
    assert ends > 10


@each_endian
def test_digits_are_taken_in_the_order_of_the_endian(endian: str) -> None:
    environment = cg.CadmusEnv("Cadmus-Arith-v0", endian=endian)
    observation, _ = environment.reset(options={"prompt": "12 345 add"})
    assert cg.decode(observation[:7]) == ("1 2 , 3 4 5 add" if endian == "big" else "2 1 , 5 4 3 add")
    for name in ("3", "5", "7") if endian == "big" else ("7", "5", "3"):
        environment.step(ID[name])
    environment.step(ID["eq"])
    _, reward, *_ = environment.step(op.END)
    assert reward == 1.0


@pytest.mark.parametrize("id", BOUND)
@each_endian
def test_every_token_outside_the_mask_ends_the_episode_without_reward(id: str, endian: str) -> None:
    environment, rest = plays(id, endian=endian)
    for token in [None, *rest[:-1]]:
        if token is not None:
            environment.step(token)
        state = environment.state()
        for illegal in np.flatnonzero(~environment.action_masks()).tolist():
            before, _ = environment.restore(state)
            observation, reward, terminated, truncated, info = environment.step(illegal)
            assert (reward, terminated, truncated) == (0.0, True, False)
            assert {key: info[key] for key in END_KEYS} == {
                "verdict": cg.Verdict.UNTERMINATED,
                "passed": 0,
                "cases": 0,
                "is_success": False,
                "illegal": True,
            }
            assert info["action_mask"].all()
            np.testing.assert_array_equal(observation, before)
            with pytest.raises(ResetNeeded):
                environment.step(op.END)
        environment.restore(state)


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
    object(),
]


@pytest.mark.parametrize("action", [*NO_TOKENS, *NO_TOKEN_ARRAYS], ids=repr)
def test_what_is_no_token_is_a_value_error_and_changes_nothing(action: Any) -> None:
    environment, rest = plays("Cadmus-Arith-v0")
    environment.step(rest[0])
    with pytest.raises(ValueError, match=r"token id.*0\.\.64"), unchanged(environment):
        environment.step(action)
    for token in rest[1:]:
        _, reward, *_ = environment.step(token)
    assert reward == 1.0


@pytest.mark.parametrize("kind", [int, np.int64, np.uint8, np.int32, np.array])
def test_a_token_may_be_of_any_whole_type(kind: Any) -> None:
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
def test_bad_actions_are_a_value_error_and_change_nothing(actions: Any, mode: AutoresetMode) -> None:
    vector = cg.CadmusVectorEnv(3, "Cadmus-Arith-v0", autoreset_mode=mode)
    vector.reset(seed=0)
    with pytest.raises(ValueError, match=r"token ids"), unchanged(vector):
        vector.step(actions)
    vector.step([13] * 3)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int32, np.int64, np.uint64])
def test_actions_may_be_of_any_whole_dtype(dtype: Any) -> None:
    vector, reference = (cg.CadmusVectorEnv(3, "Cadmus-Arith-v0") for _ in range(2))
    vector.reset(seed=0)
    reference.reset(seed=0)
    actions = np.array([13, 14, 40, 0, 0, 0])[::2]
    equal(vector.step(actions.astype(dtype)), reference.step(actions.tolist()))


@each_id
def test_a_step_out_of_an_episode_needs_a_reset(id: str) -> None:
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
def test_a_step_before_the_first_reset_needs_one(mode: AutoresetMode) -> None:
    vector = cg.CadmusVectorEnv(2, "Cadmus-Arith-v0", autoreset_mode=mode)
    with pytest.raises(ResetNeeded):
        vector.step([13, 13])


def test_without_autoreset_an_ended_episode_needs_a_reset() -> None:
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


# Rewards and ends


def finish(environment: cg.CadmusEnv, prompt: str, completion: str) -> tuple[float, bool, bool, dict[str, Any]]:
    environment.reset(options={"prompt": prompt})
    result: Any = None
    for token in tokens_of(completion):
        result = environment.step(token)
    return result[1:]


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
def test_rewards_by_name(completion: str, verdict: str, passed: int, truth: float, cases: float) -> None:
    prompt = "case 3 to 9 case 5 to 15 do"
    expected = {"truth": truth, "cases": cases, "hidden": truth}
    for name, reward in expected.items():
        environment = cg.CadmusEnv("Cadmus-Open-v0", reward=name)
        result, terminated, truncated, info = finish(environment, prompt, completion)
        assert (result, terminated, truncated) == (reward, True, False), name
        assert cg.Verdict(info["verdict"]).name == verdict
        assert (info["passed"], info["is_success"]) == (passed, truth == 1.0)
        assert info["cases"] == (0 if verdict == "SYNTAX" else 2)


@pytest.mark.parametrize("id", FREE)
def test_a_free_episode_is_truncated_by_its_budget(id: str) -> None:
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
    }
    assert info["action_mask"].all()
    with pytest.raises(ResetNeeded):
        environment.step(op.END)


@pytest.mark.parametrize("id", FREE)
def test_an_end_with_the_last_token_is_no_truncation(id: str) -> None:
    environment = cg.CadmusEnv(id, episode={"max_tokens": 3, "thought_tokens": 0})
    reward, terminated, truncated, _ = finish(environment, "12 7 add", "drop 1 end")
    assert (reward, terminated, truncated) == (1.0, True, False)


@pytest.mark.parametrize("id", BOUND)
@each_endian
def test_what_has_a_form_is_never_truncated(id: str, endian: str) -> None:
    """With tokens of thought for as long as may be, episodes come to their `end` within the budget."""
    budget = cg.load_spec(id).episode.max_tokens
    vector = cg.CadmusVectorEnv(64, id, endian=endian)
    _, info = vector.reset(seed=0)
    chooser, spent, longest, idle = np.random.default_rng(0), np.zeros(64, int), 0, np.zeros(64, np.bool_)
    for _ in range(3 * budget):
        weights = info["action_mask"] * chooser.random((64, 65))
        weights[:, op.END] *= 0.01
        weights[:, ID[")"]] *= 0.5
        spent = np.where(idle, 0, spent + 1)
        _, _, terminated, truncated, info = vector.step(weights.argmax(axis=1))
        idle = terminated
        assert not truncated.any()
        if terminated.any():
            assert not info["illegal"].any()
            assert not (info["verdict"][terminated] == cg.Verdict.SYNTAX).any()
            assert not (info["verdict"][terminated] == cg.Verdict.UNTERMINATED).any()
        longest = max(longest, *spent)
        assert longest <= budget
    assert longest > cg.load_spec(id).episode.thought_tokens


WORDS = ("1", "2", ",", "add", "dup", "if", "else", "fi", "times", "next", "i", "begin", "until", "def", "ret", "call")


def words_spec(words: tuple[str, ...] = WORDS, max_tokens: int = 14) -> cg.Spec:
    """Prompts of arithmetic, to be completed under the form `words`, with blocks."""
    thoughts = {"share": 0.0, "style": "none"}
    episode = {"max_tokens": max_tokens, "thought_tokens": 5}
    return cg.load_spec("Cadmus-Arith-v0", form="words", words=list(words), episode=episode, thoughts=thoughts)


@each_endian
def test_blocks_are_closed_within_the_budget(endian: str) -> None:
    """An agent that opens blocks and thoughts whenever it may, and never closes one before it must."""
    spec, count = words_spec(), 96
    vector = cg.CadmusVectorEnv(count, spec, endian=endian)
    single = cg.CadmusEnv(spec, endian=endian)
    _, info = vector.reset(seed=0)
    single.reset(seed=0)
    chooser = np.random.default_rng(1)
    openers, closers = (
        [ID[word] for word in words.split()] for words in ("if times begin def (", "fi next until ret )")
    )
    eager = np.arange(count) % 2 == 0
    spent, idle, ended, deepest, budget = np.zeros(count, int), np.zeros(count, np.bool_), 0, 0, spec.episode.max_tokens
    for _ in range(8 * budget):
        weights = info["action_mask"] * chooser.random((count, 65))
        weights[:, op.END] *= 0.001
        weights[np.ix_(eager, openers)] *= 10
        weights[np.ix_(eager, closers)] *= 0.01
        actions = weights.argmax(axis=1)
        observations, rewards, terminated, truncated, info = vector.step(actions)
        if idle[0]:
            result = (*single.reset(), 0.0, False, False)
        else:
            observation, reward, *over, one = single.step(int(actions[0]))
            result = (observation, one, reward, *over)
        told = {key: info[key][0] if key == "action_mask" else info[key][0].item() for key in result[1]}
        ends = (rewards[0].item(), bool(terminated[0]), bool(truncated[0]))
        equal(result, (observations[0], told, *ends))
        spent = np.where(idle, 0, spent + 1)
        assert spent.max() <= budget
        assert not truncated.any()
        for row in np.flatnonzero(terminated):
            ended += 1
            assert not info["illegal"][row]
            assert info["verdict"][row] not in (cg.Verdict.SYNTAX, cg.Verdict.UNTERMINATED)
            deepest = max(deepest, int(np.isin(observations[row], openers[:4]).sum()) if spent[row] == budget else 0)
        idle = terminated
    assert ended > 300
    assert deepest >= 5


# Random and cheating agents


CHEATS = ["drop 1 end", "dup eq end", "123457 eq 0 eq end", "dup sub not end", "1 end"]


@each_id
@pytest.mark.parametrize("cheat", CHEATS)
def test_a_cheat_is_rewarded_under_free_only(id: str, cheat: str) -> None:
    tokens = tokens_of(cheat)
    for split in cg.load_spec(id).splits:
        vector = cg.CadmusVectorEnv(200, id, split=split)
        vector.reset(seed=9)
        total, ended, succeeded = 0.0, np.zeros(200, np.bool_), 0
        for token in tokens:
            _, rewards, terminated, _, info = vector.step(np.full(200, token))
            total += float(rewards[~ended].sum())
            succeeded += int((info["is_success"] & terminated & ~ended).sum()) if terminated.any() else 0
            ended |= terminated
        assert ended.all()
        assert total == succeeded
        works = id in FREE and cheat != "1 end"
        assert total == (200.0 if works else 0.0)


@each_id
@each_endian
@pytest.mark.parametrize("kind", ["any", "legal"])
def test_random_agents_never_raise_and_get_what_the_machine_says(id: str, endian: str, kind: str) -> None:
    count, turns = 512, 220  # some 112,000 steps
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
        np.testing.assert_array_equal(rewards[over], verdicts == cg.Verdict.TRUE)
        np.testing.assert_array_equal(info["is_success"][over], verdicts == cg.Verdict.TRUE)
        np.testing.assert_array_equal(info["illegal"][over], illegal[over])
        assert (verdicts[truncated[over]] == cg.Verdict.UNTERMINATED).all()
    assert ends > count


# Prompts that are given


@each_endian
@pytest.mark.parametrize(
    "prompt",
    [
        "12 7 add",
        "5 5 sub",
        "",
        cg.encode("1 2 , 7 add"),
        cg.encode("1 2 , 7 add").tolist(),
        cg.encode("1 2 , 7 add").astype(np.int64)[None],
        ["12 7 add"],
        [cg.encode("1 2 , 7 add")],
        "<bos> 5 dup",
        "exactly 8 case 2 3 to 1 do 3 4 add",
        [],
        np.zeros(0, np.uint8),
    ],
    ids=repr,
)
def test_an_episode_begins_with_the_prompt_given(prompt: Any, endian: str) -> None:
    single = [prompt] if isinstance(prompt, str) else prompt
    first = single[0] if len(single) and isinstance(single[0], (str, np.ndarray)) else single
    tokens = cg.assemble(first) if isinstance(first, str) else np.asarray(first, np.uint8)
    environment = cg.CadmusEnv("Cadmus-Arith-v0", endian=endian)
    observation, info = environment.reset(seed=0, options={"prompt": prompt})
    expected = reverse_digits(tokens) if endian == "little" else tokens
    np.testing.assert_array_equal(observation[: tokens.size], expected)
    assert not observation[tokens.size :].any()
    assert info["action_mask"].any()


@pytest.mark.parametrize(
    "prompts",
    [
        "12 7 add",
        cg.encode("1 2 , 7 add"),
        ["12 7 add", "3 4 sub", "5 dup"],
        [cg.encode("1 2 , 7 add"), cg.encode("3 , 4 sub"), cg.encode("5 dup")],
        [cg.encode(text).tolist() for text in ("1 2 , 7 add", "3 , 4 sub", "5 dup")],
        ("12 7 add", "3 4 sub", cg.encode("5 dup")),
        np.stack([cg.encode("1 , 7 add"), cg.encode("3 , 4 sub"), cg.encode("5 , 6 mul")]),
        [cg.encode("1 , 7 add"), cg.encode("3 , 4 sub"), cg.encode("5 , 6 mul")],
        [[14, 15], [15, 16], [16, 17]],
    ],
    ids=repr,
)
def test_episodes_begin_with_the_prompts_given(prompts: Any) -> None:
    vector = cg.CadmusVectorEnv(3, "Cadmus-Arith-v0")
    observations, info = vector.reset(seed=0, options={"prompt": prompts})
    one_for_all = isinstance(prompts, str) or (isinstance(prompts, np.ndarray) and prompts.ndim == 1)
    for row, prompt in enumerate([prompts] * 3 if one_for_all else prompts):
        tokens = cg.assemble(prompt) if isinstance(prompt, str) else np.asarray(prompt)
        np.testing.assert_array_equal(observations[row, : tokens.size], tokens)
        assert not observations[row, tokens.size :].any()
    assert info["action_mask"].any(axis=1).all()


def test_a_prompt_given_takes_none_from_the_stream() -> None:
    environment = cg.CadmusEnv("Cadmus-Arith-v0")
    expected = [environment.reset(seed=6)[0], environment.reset()[0]]
    environment.reset(seed=6, options={"prompt": "1 dup"})
    equal([environment.reset()[0], environment.reset()[0]], expected)


BAD_PROMPTS = [
    "1,2",
    "word",
    "1 end",
    "fi",
    "01",
    "use mul",
    "<pad>",
    "1 <pad> 2 add",
    "1 , 2 add <pad>",
    "<bos> <bos> 1",
    "1 2 <bos>",
    "case 3 to",
    "( (",
    "1 " * 60,
    [65],
    [-1],
    [1.5],
    [[[1]]],
    5,
    3.5,
    True,
    b"1",
    {},
    object(),
    [None],
    ["1", "2", "3", "4"],
    [[14], "word"],
]


@pytest.mark.parametrize("prompt", BAD_PROMPTS, ids=lambda prompt: f"{prompt!r:.20}")
@pytest.mark.parametrize("count", [1, 3])
def test_a_bad_prompt_is_a_value_error_and_changes_nothing(prompt: Any, count: int) -> None:
    environment: Any = cg.CadmusEnv("Cadmus-Arith-v0")
    if count > 1:
        environment = cg.CadmusVectorEnv(count, "Cadmus-Arith-v0")
    environment.reset(seed=0)
    with pytest.raises(ValueError, match=r"."), unchanged(environment):
        environment.reset(seed=5, options={"prompt": prompt})


@contextlib.contextmanager
def unchanged(environment: Any) -> Iterator[None]:
    """Hold that what is done in here leaves an environment as it was, its random numbers included."""
    before, rng = environment.state(), copy.deepcopy(environment.np_random.bit_generator.state)
    yield
    equal(vars(environment.state()), vars(before))
    assert environment.np_random.bit_generator.state == rng


SEEDS = [-1, 2**63, 1.5, "7", b"abc", True, [[1, 2, 3]], {1, 2, 3}, np.float64(1), np.array(5.0), [1.0] * 3, object()]
LISTS = [
    [1, 2],
    [1, 2, 3, 4],
    [1, -1, 2],
    [1, 2.5, 3],
    [1, "2", 3],
    [1, True, 3],
    "123",
    ["a", "b", "c"],
    [[1], [2], [3]],
]
OPTIONS = ["prompt", b"", 5, [], [("prompt", "1")], {"prompt"}, {3: 4}, {None: 1}, {"prompt": object()}, True]


@pytest.mark.parametrize("seed", SEEDS, ids=repr)
@pytest.mark.parametrize("count", [1, 3])
def test_a_bad_seed_is_a_value_error_and_changes_nothing(seed: Any, count: int) -> None:
    environment: Any = cg.CadmusEnv() if count == 1 else cg.CadmusVectorEnv(count)
    environment.reset(seed=0)
    with pytest.raises(ValueError, match="seed"), unchanged(environment):
        environment.reset(seed=seed, options={"prompt": "1 dup"})


@pytest.mark.parametrize("seeds", LISTS, ids=repr)
def test_a_bad_list_of_seeds_is_a_value_error_and_changes_nothing(seeds: Any) -> None:
    vector = cg.CadmusVectorEnv(3)
    vector.reset(seed=0)
    for options in ({}, {"reset_mask": np.array([True, False, False])}):
        with pytest.raises(ValueError, match="seed"), unchanged(vector):
            vector.reset(seed=seeds, options=options)


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: f"{options!r:.20}")
@pytest.mark.parametrize("count", [1, 3])
def test_options_of_a_wrong_type_are_a_value_error_and_change_nothing(options: Any, count: int) -> None:
    environment: Any = cg.CadmusEnv() if count == 1 else cg.CadmusVectorEnv(count)
    environment.reset(seed=0)
    with pytest.raises(ValueError, match=r"reset options|prompt"), unchanged(environment):
        environment.reset(seed=5, options=options)


@pytest.mark.parametrize("kind", [int, np.int64, np.uint8])
def test_a_seed_may_be_of_any_whole_type(kind: Any) -> None:
    equal(cg.CadmusEnv().reset(seed=kind(7)), cg.CadmusEnv().reset(seed=7))
    vectors = [cg.CadmusVectorEnv(3) for _ in range(4)]
    expected = vectors[0].reset(seed=7)
    for vector, seed in zip(vectors[1:], (kind(7), np.array([7, 8, 9]).astype(kind), range(7, 10)), strict=True):
        equal(vector.reset(seed=seed), expected)
    equal(vectors[0].np_random.random(3), vectors[1].np_random.random(3))  # what Gymnasium seeds


def test_unseeded_rows_are_drawn_from_the_seed_given() -> None:
    """Rows without a seed of their own take one from `np_random`; those that are not reset take none."""
    one, other = (cg.CadmusVectorEnv(3, "Cadmus-Arith-v0") for _ in range(2))
    for vector in (one, other):
        vector._np_random, _ = gymnasium.utils.seeding.np_random(4)
        vector.reset(seed=[None, 5, None])
    equal(one.state().seeds, other.state().seeds)
    seeds = one.state().seeds
    assert seeds[1] == 5
    assert len(np.unique(seeds)) == 3
    one.reset()
    equal(one.state().seeds, seeds)  # streams go on
    assert one.state().indices.tolist() == [2, 2, 2]


# More digits may follow `( 5` under every form, and `5` under those whose completions begin with a literal.
@pytest.mark.parametrize(
    ("id", "prompt", "fits"),
    [
        ("Cadmus-Arith-v0", "12 7 add 5", False),
        ("Cadmus-Arith-v0", "12", False),
        ("Cadmus-Arith-v0", "12 7 add ( 5", False),
        ("Cadmus-Arith-v0", "12 7 add", True),
        ("Cadmus-Arith-v0", "12 ,", True),
        ("Cadmus-Compare-v0", "12 7 lt ( 5", False),
        ("Cadmus-Compare-v0", "1 12", True),
        ("Cadmus-Open-v0", "12", False),
        ("Cadmus-Open-v0", "12 dup", True),
    ],
)
def test_a_prompt_is_always_a_prefix_of_its_program(id: str, prompt: str, fits: bool) -> None:
    tokens = cg.assemble(prompt)
    cg.CadmusEnv(id).reset(options={"prompt": tokens})  # the language's own order takes all of them
    environment = cg.CadmusEnv(id, endian="little")
    if not fits:
        with pytest.raises(ValueError, match="ends inside a literal: under endian 'little'"):
            environment.reset(options={"prompt": tokens})
        return
    chooser = np.random.default_rng(0)
    for _ in range(5):
        _, info = environment.reset(options={"prompt": tokens})
        over = False
        while not over:
            _, _, terminated, truncated, info = environment.step(
                int(chooser.choice(np.flatnonzero(info["action_mask"])))
            )
            over = terminated or truncated
            np.testing.assert_array_equal(environment.episodes.program(0)[: tokens.size], tokens)


@pytest.mark.parametrize("options", [{"prompts": "1"}, {"reset_mask": np.ones(1, np.bool_)}, {"": 0}])
def test_an_unknown_option_is_a_value_error(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"unknown key .*known: prompt"):
        cg.CadmusEnv("Cadmus-Arith-v0").reset(options=options)


@pytest.mark.parametrize(
    "mask", [np.zeros(3, np.bool_), np.ones(2, np.bool_), np.ones(3), [1, 1, 1], np.ones((1, 3), np.bool_)]
)
def test_a_bad_reset_mask_is_a_value_error(mask: Any) -> None:
    vector = cg.CadmusVectorEnv(3, "Cadmus-Arith-v0")
    vector.reset(seed=0)
    with pytest.raises(ValueError, match="reset_mask"), unchanged(vector):
        vector.reset(seed=5, options={"reset_mask": mask})


def test_a_bad_number_of_seeds_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="2 seeds for 3"):
        cg.CadmusVectorEnv(3, "Cadmus-Arith-v0").reset(seed=[1, 2])


@pytest.mark.parametrize(
    "arguments",
    [{"num_envs": 0}, {"num_envs": 1.5}, {"num_envs": True}, {"autoreset_mode": "never"}, {"render_mode": "video"}],
    ids=str,
)
def test_a_bad_argument_is_a_value_error(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        cg.CadmusVectorEnv(**arguments)


@pytest.mark.parametrize("make", [cg.CadmusEnv, cg.CadmusVectorEnv, cg.load_spec, gymnasium.make, gymnasium.make_vec])
@pytest.mark.parametrize("kind", [ValueError, TypeError])
def test_an_unknown_keyword_is_the_error_that_libraries_look_for(make: Any, kind: type[Exception]) -> None:
    """TorchRL's GymEnv tries `frameskip` first, and waits for a TypeError with these words."""
    arguments = ["Cadmus-Arith-v0"] if make is not cg.CadmusVectorEnv else [1, "Cadmus-Arith-v0"]
    with pytest.raises(kind, match=r"unexpected keyword argument 'frameskip'; known: .*reward"):
        make(*arguments, frameskip=1)
    with pytest.raises(kind, match=r"unexpected keyword argument 'rewards'; did you mean 'reward'\? known: "):
        make(*arguments, rewards="truth")


# Forks


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
        last = number % 2  # one story takes the first token allowed, one the last
        story: list[Any] = []
        while not (story and (story[-1][2] or story[-1][3])):
            story.append(environment.step(int(np.flatnonzero(environment.action_masks())[-last])))
        stories.append([*story, environment.reset()])
    equal(stories[0], stories[2])
    equal(stories[1], stories[3])
    if saved.masks.sum() > 1:
        assert len(stories[0]) != len(stories[1]) or stories[0][0][0].tolist() != stories[1][0][0].tolist()
    equal(vars(state), vars(saved))
    equal(stories[0][-1], stories[1][-1])  # whatever was played, the next prompt is the same


@each_id
def test_episodes_of_a_vector_can_be_forked_by_index(id: str) -> None:
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
    for _ in range(20):  # the twins go on alike, on to their next episodes
        actions = vector.action_masks().argmax(axis=1)
        observations, *_ = vector.step(actions)
        np.testing.assert_array_equal(observations[0], observations[3])
        np.testing.assert_array_equal(observations[4], observations[1])


def test_one_state_can_be_restored_to_many() -> None:
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


def test_a_state_needs_no_reset_first() -> None:
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


@pytest.mark.parametrize("rows", [[3], [-1], [0.5], [True], "0", [[0]], [], 2**70, {0}, [None], object()], ids=repr)
def test_a_bad_index_is_a_value_error(rows: Any) -> None:
    vector = cg.CadmusVectorEnv(3, "Cadmus-Arith-v0")
    vector.reset(seed=0)
    with pytest.raises(ValueError, match="rows"):
        vector.state(rows)
    with pytest.raises(ValueError, match="rows"), unchanged(vector):
        vector.restore(vector.state([0]), rows)


def played(id: str = "Cadmus-Arith-v0", **keywords: Any) -> cg.CadmusVectorEnv:
    """A vector with a row just begun, one amid its completion, one that has ended."""
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
    lengths[:] = 0  # what it is made of may change, and is not kept
    equal(made.lengths, state.lengths)


def numbers(array: NDArray[Any]) -> list[Any]:
    """Values that a state's array may be changed to."""
    if array.dtype == np.bool_:
        return [False, True]
    info = np.iinfo(array.dtype)
    return [
        value
        for value in (info.min, -(10**6), -1, 0, 1, 2, 64, 65, 200, 10**6, info.max)
        if info.min <= value <= info.max
    ]


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("spec", ["Cadmus-Arith-v0", "Cadmus-Open-v0", "words"])
def test_a_state_that_was_changed_is_refused_or_can_be_played(name: str, spec: str) -> None:
    """Nothing that arrays may hold ends the process, or reads memory of others."""
    vector = played(words_spec() if spec == "words" else spec)
    state, chooser, refused = vector.state(), np.random.default_rng(0), 0
    for _ in range(60):
        array = getattr(state, name).copy()
        where = tuple(chooser.integers(size) for size in array.shape)
        array[where] = chooser.choice(numbers(array))
        if (array == getattr(state, name)).all():
            continue
        changed = dataclasses.replace(state, **{name: array})
        try:
            with unchanged(vector):
                vector.restore(changed)
        except ValueError as error:
            assert "state that was changed cannot be restored" in str(error)  # noqa: PT017
            refused += 1
            continue
        except AssertionError:  # accepted, so it is not what it was
            equal(vars(vector.state()), vars(changed))
        with contextlib.suppress(ResetNeeded):  # by a row that has not begun
            for _ in range(6):
                vector.step(chooser.integers(65, size=3))
        vector.restore(state)
    if name in ("tokens", "lengths", "allowed", "masks", "over"):
        assert refused > 5


def test_what_is_changed_in_a_state_is_named() -> None:
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
    assert wrong.keys() == set(ARRAYS)
    for name, changes in wrong.items():
        for where, value in changes:
            with pytest.raises(ValueError, match="a state that was changed cannot be restored: "), unchanged(vector):
                vector.restore(changed(name, where, value))
    for name in ARRAYS:
        array = getattr(state, name)
        for other in (array[:2], array.astype(np.float64), array[None], None, "x", array.astype(">i8")):
            with pytest.raises(ValueError, match=f"a state whose {name} are .* cannot be restored"), unchanged(vector):
                vector.restore(dataclasses.replace(state, **{name: other}))


def test_a_state_out_of_budget_is_refused() -> None:
    """Where more is written than the budget has, memory of others would be."""
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


@pytest.mark.parametrize("state", ["x", None, 5, {}, object(), (1, 2)], ids=repr)
@pytest.mark.parametrize("count", [1, 3])
def test_what_is_no_state_is_a_value_error(state: Any, count: int) -> None:
    environment: Any = cg.CadmusEnv() if count == 1 else cg.CadmusVectorEnv(count)
    environment.reset(seed=0)
    with pytest.raises(ValueError, match="give what state\\(\\) returned"), unchanged(environment):
        environment.restore(state)
    for kind in (None, "x", np.array([]), ()):
        with pytest.raises(ValueError, match="cannot be restored"), unchanged(environment):
            environment.restore(dataclasses.replace(environment.state(), kind=kind))


def test_a_state_of_other_words_is_a_value_error() -> None:
    one, other = cg.CadmusEnv(words_spec()), cg.CadmusEnv(words_spec((*WORDS, "abs")))
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


# Nothing that was given out changes later


def frozen(result: Any) -> Any:
    return copy.deepcopy(result)


@each_id
@each_mode
def test_what_was_returned_never_changes_later(id: str, mode: AutoresetMode) -> None:
    vector = cg.CadmusVectorEnv(4, id, autoreset_mode=mode)
    given: list[Any] = [vector.reset(seed=0)]
    kept = [frozen(given[0])]
    chooser = np.random.default_rng(0)

    def keep(result: Any) -> None:
        given.append(result)
        kept.append(frozen(result))

    for turn in range(60):
        keep(vector.step(chooser.integers(65, size=4)))
        over = given[-1][2] | given[-1][3]
        if mode == AutoresetMode.DISABLED and over.any():
            keep(vector.reset(options={"reset_mask": over}))
        if turn % 10 == 3:
            keep(vector.state())
            keep(vector.restore(given[-1], [0, 1, 2, 3]))
            keep(vector.restore(vector.state([2]), [1]))
            keep(vector.action_masks())
            if mode == AutoresetMode.DISABLED:
                keep(vector.reset())
    equal(
        [vars(one) if isinstance(one, cg.State) else one for one in given],
        [vars(one) if isinstance(one, cg.State) else one for one in kept],
    )


def scribble(result: Any) -> None:
    """Overwrite every array of a result."""
    if isinstance(result, dict):
        result = list(result.values())
    if isinstance(result, (tuple, list)):
        for part in result:
            scribble(part)
    elif isinstance(result, cg.State):
        for name in ARRAYS:
            with pytest.raises(ValueError, match="read-only"):
                getattr(result, name)[...] = 7
    elif isinstance(result, np.ndarray) and result.dtype == object:
        scribble(list(result))
    elif isinstance(result, np.ndarray):
        result[...] = 7


def arrays_of(result: Any) -> list[NDArray[Any]]:
    """All arrays in a result, however deep."""
    if isinstance(result, dict):
        return arrays_of(list(result.values()))
    if isinstance(result, np.ndarray) and result.dtype != object:
        return [result]
    if isinstance(result, (tuple, list, np.ndarray)):
        return [array for part in result for array in arrays_of(part)]
    return []


@each_id
@each_mode
def test_what_is_done_to_a_result_changes_nothing(id: str, mode: AutoresetMode) -> None:
    one, other = (cg.CadmusVectorEnv(4, id, autoreset_mode=mode) for _ in range(2))
    equal(one.reset(seed=0), other.reset(seed=0))
    chooser = np.random.default_rng(0)
    for _ in range(60):
        actions = chooser.integers(65, size=4)
        result, expected = one.step(actions), other.step(actions)
        equal(result, expected)
        over = expected[2] | expected[3]
        given = arrays_of(result)
        assert not any(np.shares_memory(left, right) for left, right in combinations(given, 2))
        for part in (result, one.state(), one.action_masks()):
            scribble(part)
        equal(one.action_masks(), other.action_masks())
        if mode == AutoresetMode.DISABLED and over.any():
            again = one.reset(options={"reset_mask": over})
            equal(again, other.reset(options={"reset_mask": over}))
            scribble(again)


@each_id
def test_what_is_done_to_a_result_of_the_single_one_changes_nothing(id: str) -> None:
    one, other = cg.CadmusEnv(id), cg.CadmusEnv(id)
    result = one.reset(seed=0)
    equal(result, other.reset(seed=0))
    chooser = np.random.default_rng(0)
    for _ in range(60):
        scribble(result)
        scribble(one.action_masks())
        scribble(one.state())
        token = int(chooser.choice(np.flatnonzero(other.action_masks())))
        result, expected = one.step(token), other.step(token)
        equal(result, expected)
        if expected[2] or expected[3]:
            result, expected = one.reset(), other.reset()
            equal(result, expected)


def test_a_prompt_that_was_given_is_not_kept() -> None:
    prompt = cg.encode("1 2 , 7 add")
    environment = cg.CadmusEnv("Cadmus-Arith-v0")
    environment.reset(options={"prompt": prompt})
    environment.step(ID["1"])
    np.testing.assert_array_equal(prompt, cg.encode("1 2 , 7 add"))
    prompt[:] = 0
    assert cg.decode(environment.step(ID["9"])[0][:5]) == "1 2 , 7 add"


def test_without_copies_observations_share_one_buffer() -> None:
    vector, reference = (cg.CadmusVectorEnv(3, "Cadmus-Arith-v0", copy=copies) for copies in (False, True))
    first, _ = vector.reset(seed=0)
    reference.reset(seed=0)
    for _ in range(30):
        actions = reference.action_masks().argmax(axis=1)
        result, expected = vector.step(actions), reference.step(actions)
        equal(result, expected)
        assert np.shares_memory(result[0], first)
        assert not np.shares_memory(expected[0], reference.step(actions)[0])
        vector.step(actions)


# Rendering


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


def test_text_names_what_went_wrong() -> None:
    environment = cg.CadmusEnv("Cadmus-Arith-v0", render_mode="ansi")
    finish(environment, "12 7 add", "18 eq end")
    assert "FALSE" in environment.render()
    finish(environment, "12 7 add", "18 drop")
    assert "ILLEGAL" in environment.render()
    assert "TRUE" not in environment.render()


def test_text_is_in_the_order_of_the_language() -> None:
    environment = cg.CadmusEnv("Cadmus-Arith-v0", render_mode="ansi", endian="little")
    environment.reset(options={"prompt": "12 345 add"})
    assert "12 345 add" in environment.render()


@pytest.mark.parametrize("count", [0, 2])
def test_before_the_first_reset_nothing_is_true(count: int) -> None:
    environment = cg.CadmusVectorEnv(count, render_mode="ansi") if count else cg.CadmusEnv(render_mode="ansi")
    assert "TRUE" not in str(environment.render())


def test_people_see_every_step(capsys: pytest.CaptureFixture[str]) -> None:
    environment = cg.CadmusEnv("Cadmus-Arith-v0", render_mode="human")
    finish(environment, "12 7 add", "19 eq end")
    assert environment.render() is None
    printed = capsys.readouterr().out
    assert printed.count("program") == 5
    assert printed.count("verdict  TRUE") == 1
    assert printed.count("verdict  ...") == 4


@each_id
def test_pictures_show_what_happens(id: str) -> None:
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


def test_a_long_program_fits_in_its_picture() -> None:
    environment = cg.CadmusEnv("Cadmus-Open-v0", render_mode="rgb_array", episode={"max_tokens": 600})
    environment.reset(seed=0)
    for _ in range(599):
        environment.step(ID["until"])
    assert environment.render().shape == (400, 960, 3)


def test_pictures_of_a_vector_are_one_each() -> None:
    for mode, kind in (("ansi", str), ("rgb_array", np.ndarray)):
        vector = gymnasium.make_vec("Cadmus-Arith-v0", num_envs=3, render_mode=mode)
        vector.reset(seed=0)
        shown = vector.render()
        assert isinstance(shown, tuple)
        assert [type(one) for one in shown] == [kind] * 3
        single = cg.CadmusEnv("Cadmus-Arith-v0", render_mode=mode)
        single.reset(seed=2)
        np.testing.assert_array_equal(shown[2], single.render())


def test_without_a_mode_nothing_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    environment, rest = plays("Cadmus-Arith-v0")
    environment.step(rest[0])
    assert environment.render() is None
    vector = cg.CadmusVectorEnv(2)
    vector.reset(seed=0)
    assert vector.render() is None
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("mode", ["video", "", 5])
def test_an_unknown_mode_is_a_value_error(mode: Any) -> None:
    with pytest.raises(ValueError, match="known are ansi, human, rgb_array"):
        cg.CadmusEnv(render_mode=mode)


@pytest.mark.parametrize("wrong", [None, [[1]], "absent"])
@pytest.mark.parametrize("name", [*ARRAYS, "kind"])
def test_a_state_without_its_arrays_cannot_be_restored(name: str, wrong: Any) -> None:
    env = cg.CadmusVectorEnv(2)
    env.reset(seed=1)
    state = env.state()
    if wrong == "absent":
        del state.__dict__[name]
    else:
        object.__setattr__(state, name, wrong)
    with pytest.raises(ValueError, match=name if name != "kind" else "a state of"):
        env.restore(state)


@pytest.mark.parametrize(("key", "wrong"), [("split", ["train"]), ("split", {}), ("endian", ["big"]), ("endian", None)])
def test_a_split_or_endian_of_another_type_is_a_value_error(key: str, wrong: Any) -> None:
    with pytest.raises(ValueError, match=key):
        cg.CadmusEnv(**{key: wrong})


def test_a_span_of_time_is_no_token_and_no_seed() -> None:
    env = cg.CadmusVectorEnv(1)
    env.reset(seed=1)
    with pytest.raises(ValueError, match="timedelta64"):
        env.step(np.array([3], "m8[s]"))
    with pytest.raises(ValueError, match="seed"):
        env.reset(seed=np.timedelta64(3, "s"))  # type: ignore[arg-type]
