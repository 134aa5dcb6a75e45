"""Action masks: they equal the automaton's and always leave a way to finish."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode
from support.episodes import BOUND, END_KEYS, each_endian, each_id, each_mode, equal, plays, words_spec

import cadmus_gym as cg
from cadmus_gym.language import isa as op
from cadmus_gym.language.forms import DEPTH, Automata
from cadmus_gym.language.isa import ID


@each_id
@each_endian
@pytest.mark.parametrize("tight", [False, True])
def test_the_mask_equals_that_of_the_automaton(id: str, endian: str, tight: bool) -> None:
    """At every step of an episode, until the budget leaves only one way."""
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
def test_masks_leave_room_to_close_every_open_block(endian: str) -> None:
    """The agent opens blocks whenever it may, and ends only if nothing else is left."""
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
        scores = chooser.random(masks.shape)
        scores[:, [ID["if"], ID["times"], ID["begin"], ID["def"]]] += turn < budget // 2
        scores[:, op.END] = -1
        tokens = np.where(masks, scores, -2).argmax(axis=1)
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


@each_id
def test_the_mask_after_the_last_step_allows_every_token(id: str) -> None:
    """The next token is not read, and 65 logits of -inf would make a NaN."""
    environment, rest = plays(id)
    for token in rest:
        *_, info = environment.step(token)
    mask = info["action_mask"]
    assert (mask.dtype, mask.shape) == (np.int8, (65,))
    assert mask.all()
    assert environment.action_masks().all()
    assert environment.action_masks().dtype == np.bool_


@each_mode
def test_every_mask_allows_some_token(mode: AutoresetMode) -> None:
    """In all rows, at all times, since a policy masks logits with -inf and needs at least one finite one."""
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
                "visible": False,
                "hidden": False,
                "hidden_cases": 0,
                "idle_use": False,
            }
            assert info["action_mask"].all()
            np.testing.assert_array_equal(observation, before)
            with pytest.raises(ResetNeeded):
                environment.step(op.END)
        environment.restore(state)


@each_endian
def test_agents_that_open_blocks_eagerly_finish_within_the_budget(endian: str) -> None:
    """The agent opens blocks and thoughts eagerly, and closes them only when it must."""
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
        row_info = {key: info[key][0] if key == "action_mask" else info[key][0].item() for key in result[1]}
        ends = (rewards[0].item(), bool(terminated[0]), bool(truncated[0]))
        equal(result, (observations[0], row_info, *ends))
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


@pytest.mark.parametrize("id", BOUND)
@each_endian
def test_other_forms_never_truncate(id: str, endian: str) -> None:
    """Even agents that think as long as they may reach `end` within the budget."""
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
