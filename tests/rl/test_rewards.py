"""Rewards of completions as ids equal those of an environment."""

from __future__ import annotations

import inspect
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

import cadmus_gym as cg
from cadmus_gym.language import isa as op
from cadmus_gym.language.forms import ENDIANS, reverse_digits
from cadmus_gym.language.isa import Tokens
from cadmus_gym.rl.rewards import judge_ids, reward_function

ID = "Cadmus-Arith-v0"
CASES = [
    ("12 7 add", "19 eq end", 1.0),
    ("12 7 add", "( 12 7 ) 19 eq end", 1.0),
    ("7 12 sub", "-5 eq end", 1.0),
    ("12 7 add", "20 eq end", 0.0),
    ("12 7 add", "19 eq", 0.0),  # as text without its special tokens
    ("12 7 add", "drop 1 end", 0.0),  # true, against the form
    ("12 7 add", "19 eq end end", 1.0),  # what follows `end` is ignored
    ("12 7 add", "", 0.0),
]
PROMPTS, COMPLETIONS, REWARDS = (list(column) for column in zip(*CASES, strict=True))


def ids_of(text: str, endian: str) -> Tokens:
    tokens = cg.assemble(text)
    return reverse_digits(tokens) if endian == "little" else tokens


@pytest.mark.parametrize("endian", ENDIANS)
def test_rewards_by_hand(endian: str) -> None:
    completions = [ids_of(text, endian).tolist() for text in COMPLETIONS]
    rewards = judge_ids(ID, PROMPTS, completions, endian=endian)
    assert rewards.dtype == np.float64
    assert rewards.tolist() == REWARDS
    # The same as arrays, with the tokens that libraries add.
    size = max(map(len, completions))
    padded = np.array([ids + [op.PAD] * (size - len(ids)) for ids in completions])
    prompts = [
        [op.PAD] * k + [op.BOS] * (k % 2) + ids_of(text, endian).tolist() + [op.PAD] for k, text in enumerate(PROMPTS)
    ]
    assert judge_ids(ID, prompts, torch.from_numpy(padded), endian=endian).tolist() == REWARDS


def test_the_other_endian_changes_the_completion() -> None:
    completion = ids_of("19 eq end", "little")
    assert judge_ids(ID, ["12 7 add"], [completion], endian="little").tolist() == [1.0]
    assert judge_ids(ID, ["12 7 add"], [completion], endian="big").tolist() == [0.0]


@pytest.mark.parametrize("id", [ID, "Cadmus-Compare-v0", "Cadmus-Open-v0"])
def test_rewards_equal_those_of_the_environment(id: str) -> None:
    rng = np.random.default_rng(0)
    programs, lengths = cg.Stream(id, "test").batch(0, 40)
    prompts = [program[:length] for program, length in zip(programs, lengths, strict=True)]
    completions = [program[length:] for program, length in zip(programs, lengths, strict=True)]
    for completion in completions[::2]:  # half of them wrong
        completion[rng.integers(np.count_nonzero(completion))] = rng.integers(op.END, len(cg.VOCABULARY))
    env, expected = gym.make(id, split="test"), []
    for prompt, completion in zip(prompts, completions, strict=True):
        env.reset(seed=0, options={"prompt": prompt})
        reward, over = 0.0, False
        for token in completion[completion > 0]:
            if not over:
                _, reward, terminated, truncated, _ = env.step(token)
                over = terminated or truncated
        expected.append(reward)
    assert 0 < sum(expected) < 40
    assert judge_ids(id, prompts, completions, endian="big", split="test").tolist() == expected


def test_a_completion_beyond_the_budget_earns_nothing() -> None:
    thought = cg.load_spec(ID).episode.thought_tokens - 2  # without its parentheses
    for times, reward in ((thought, 1.0), (thought + 1, 0.0)):
        completion = cg.assemble(f"( {'1' * times} ) 19 eq end")
        assert judge_ids(ID, ["12 7 add"], [completion], endian="big").tolist() == [reward]
    free = cg.load_spec("Cadmus-Open-v0").episode.max_tokens
    for times, reward in ((free - 3, 1.0), (free - 2, 0.0)):
        completion = cg.assemble(" ".join(["drop", "1", *["abs"] * times, "end"]))
        assert judge_ids("Cadmus-Open-v0", ["12 7 add"], [completion], endian="big").tolist() == [reward]


def test_reward_function_has_the_signature_of_trl() -> None:
    reward = reward_function(ID, endian="little")
    assert reward.__name__ == "cadmus_reward"  # the name in logs of TRL
    assert not inspect.iscoroutinefunction(reward)
    texts = [text.removesuffix(" end") for text in COMPLETIONS]  # as batch_decode(skip_special_tokens=True) gives them
    called: dict[str, Any] = {
        "trainer_state": None,
        "log_extra": print,
        "log_metric": print,
        "column": [0] * len(CASES),
    }
    ids = [ids_of(text, "little").tolist() for text in COMPLETIONS]
    rewards = reward(prompts=PROMPTS, completions=texts, completion_ids=ids, **called)
    assert rewards == REWARDS
    assert {type(value) for value in rewards} == {float}
    assert reward(prompts=[], completions=[], completion_ids=[], **called) == []


@pytest.mark.parametrize(
    ("prompts", "completions", "message"),
    [
        (["12 7 add"], [], "0 completions for 1 prompts"),
        (["12 7 foo"], [[op.END]], "'foo'"),
        (["12 7 if"], [[op.END]], "no completion of form 'value'"),
        (["1 " * 200], [[op.END]], "has room for at most"),
        (["12 7 add"], [[65]], "completion 0: token id 65 at 0"),
        (["12 7 add"], [[0.5]], "completion 0: token ids are integers"),
        ([[[1, 2]]], [[op.END]], "prompt 0: a program is one row"),
        ([[{"role": "user", "content": "12 7 add"}]], [[op.END]], "prompt 0: token ids are integers"),
    ],
)
def test_invalid_completions_are_rejected(prompts: Any, completions: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        judge_ids(ID, prompts, completions, endian="big")


def test_endian_is_checked() -> None:
    with pytest.raises(ValueError, match="endian = 'middle'"):
        reward_function(ID, endian="middle")
    with pytest.raises(ValueError, match="no split 'none'"):
        reward_function(ID, endian="big", split="none")
