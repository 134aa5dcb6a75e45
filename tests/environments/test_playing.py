"""Policies of any kind are judged as in an environment."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import cadmus_gym as cg
from cadmus_gym.environments.playing import play, put
from cadmus_gym.evaluation.truth import evaluate, prompts_of
from cadmus_gym.language.forms import reverse_digits

ARITH = cg.load_spec("Cadmus-Arith-v0")
OPEN = cg.load_spec("Cadmus-Open-v0")
COUNT = 24


def own(spec: cg.Spec, prompts: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """The stream's completions of the first prompts of the test split."""
    programs, lengths = cg.Stream(spec, "test", 3).batch(0, len(prompts))
    return [p[n:][p[n:] > 0] for p, n in zip(programs, lengths, strict=True)]


def first(spec: cg.Spec = ARITH, count: int = COUNT) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    return prompts_of(spec, "test", count, 3)


def verdicts(spec: cg.Spec, completions: Any) -> list[str]:
    prompts, lengths = first(spec, len(completions))
    programs = put(spec, "test", prompts, lengths, completions)
    for program, prompt, length in zip(programs, prompts, lengths, strict=True):
        assert np.array_equal(program[:length], prompt[:length])
    return [cg.Verdict(verdict).name for verdict in cg.run_batch(programs)[0]]


def test_a_policy_function_can_be_evaluated() -> None:
    prompts, _ = first()
    completions = own(ARITH, prompts)
    padded = np.zeros((COUNT, 90), np.int32)
    for row, one in zip(padded, completions, strict=True):
        row[: one.size] = one
    padded[:3, 0] = cg.encode("drop")[0]  # three are wrong
    calls: list[tuple[int, ...]] = []
    seen: list[tuple[int, int]] = []

    def policy(prompts: NDArray[np.uint8], lengths: NDArray[np.int32]) -> NDArray[np.int32]:
        assert (prompts.dtype, lengths.dtype) == (np.uint8, np.int32)
        assert ((prompts > 0).sum(1) == lengths).all()
        begun = sum(count for count, _ in calls)
        calls.append(prompts.shape)
        prompts[:] = 0  # its own copies
        lengths[:] = 0
        return padded[begun : begun + len(lengths)]

    found = evaluate(policy, ARITH, "test", COUNT, 3, batch_size=10, report=lambda *counts: seen.append(counts))
    assert (found.truth_rate, found.count, found.seed) == ((COUNT - 3) / COUNT, COUNT, 3)
    assert found.verdicts == {"TRUE": COUNT - 3, "UNTERMINATED": 3}
    assert calls == [(10, ARITH.prompt_room), (10, ARITH.prompt_room), (4, ARITH.prompt_room)]
    assert seen[:3] == [(10, 48), (20, 48), (24, 48)]
    assert seen[-1] == (48, 48)
    assert all(24 <= done <= 48 for done, _ in seen[3:])


def test_samples_of_a_policy_function_are_kept_apart() -> None:
    answers = iter(own(ARITH, first(count=3)[0]))
    right = [next(answers) for _ in range(3)]
    wrong = cg.assemble("( 1 ) 123456 eq end")

    def policy(prompts: NDArray[np.uint8], lengths: NDArray[np.int32]) -> list[NDArray[np.uint8]]:
        assert (prompts[0] == prompts[1]).all()
        assert (prompts[0] != prompts[2]).any()
        return [right[0], wrong, wrong, wrong, right[2], right[2]]

    found = evaluate(policy, ARITH, "test", 3, 3, samples=2)
    assert found.pass_at == pytest.approx({1: 0.5, 2: 2 / 3})


def test_completions_outside_the_form_are_not_true() -> None:
    texts = ["drop 1 end", "( 1 ) 0 eq 0 eq end", "5 5 5", "", "( " * 70]
    assert verdicts(ARITH, [cg.assemble(text) for text in texts]) == ["UNTERMINATED"] * 5
    assert verdicts(OPEN, [cg.assemble("drop 1 end")] * 2) == ["TRUE"] * 2
    # nothing counts after `end` or an invalid id
    answers = own(ARITH, first(count=4)[0])
    tails = ([1, 2, 3], [99], [-1, 2**40], [])
    rows = [np.concatenate([answer, np.array(tail, np.int64)]) for answer, tail in zip(answers, tails, strict=True)]
    assert verdicts(ARITH, rows) == ["TRUE"] * 4
    rows = [np.concatenate([np.array(head, np.int64), answers[0]]) for head in ([65], [-1], [2**62], [0], [1])]
    assert verdicts(ARITH, rows) == ["UNTERMINATED"] * 5
    # under the form `free`, `<pad>` and `<bos>` are legal, invalid ids are not
    one = cg.assemble("drop 1 end").astype(np.int64)
    assert verdicts(OPEN, [np.insert(one, 1, 65), np.insert(one, 1, -7)]) == ["UNTERMINATED"] * 2


def test_the_budget_ends_a_completion() -> None:
    spec = ARITH.override(form="free", episode={"max_tokens": 30, "thought_tokens": 0})
    steps = np.array([*cg.encode("( ) " * 15), *cg.encode("drop 1 end")])
    assert verdicts(spec, [steps[2:27], steps[6:]]) == ["UNTERMINATED", "TRUE"]
    assert verdicts(spec, [steps]) == ["UNTERMINATED"]
    assert verdicts(spec.override(episode={"max_tokens": 33}), [steps]) == ["TRUE"]


@pytest.mark.parametrize(
    ("completions", "message"),
    [
        (np.zeros((3, 4), np.uint8), "3 completions for 2 prompts"),
        (np.zeros((2, 4)), r"completions are float64 of shape \(2, 4\); allowed: integers \(2, M\), or 2 arrays"),
        (np.zeros(2, np.int64), r"completions are int64 of shape \(2,\)"),
        (np.zeros((2, 3), bool), "completions are bool"),
        ([np.zeros(3, np.uint8)], "1 completions for 2 prompts"),
        ([np.zeros(3, np.uint8), np.zeros((1, 3), np.uint8)], r"completion 1 is uint8 of shape \(1, 3\)"),
        (["19 eq end", "1"], "completion 0 is <U9"),
        ([np.zeros(3), np.zeros(3)], "completion 0 is float64"),
        (None, "completions are object"),
    ],
)
def test_invalid_completions_are_a_value_error(completions: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate(lambda prompts, lengths: completions, ARITH, "test", 2)


class Parrot:
    """An agent that writes given completions token by token, looked up by prompt in its endian."""

    def __init__(self, endian: str, masked: bool = True) -> None:
        prompts, lengths = first()
        self.programs = [
            np.concatenate([p[:n], c]) for p, n, c in zip(prompts, lengths, own(ARITH, prompts), strict=True)
        ]
        if endian == "little":
            self.programs = [reverse_digits(program) for program in self.programs]
        self.sizes: list[int] = []
        self.drawn: list[bool] = []
        if not masked:
            self.predict = self.without_masks  # type: ignore[method-assign,assignment]

    def predict(
        self, observation: NDArray[np.uint8], *, deterministic: bool = False, action_masks: Any = None
    ) -> tuple[NDArray[np.int64], None]:
        assert action_masks.shape == (len(observation), 65)
        assert action_masks.dtype == np.bool_
        actions, _ = self.without_masks(observation, deterministic=deterministic)
        assert action_masks[np.arange(len(actions)), actions].all()
        assert action_masks.any(1).all()
        return actions, None

    def without_masks(
        self, observation: NDArray[np.uint8], *, deterministic: bool = False
    ) -> tuple[NDArray[np.int64], None]:
        self.sizes.append(len(observation))
        self.drawn.append(not deterministic)
        tokens = []
        for row, size in zip(observation, (observation > 0).sum(1), strict=True):
            begun = [p for p in self.programs if p.size > size and np.array_equal(p[:size], row[:size])]
            tokens.append(begun[0][size] if begun else 3)
        return np.array(tokens), None


@pytest.mark.parametrize("endian", ["big", "little"])
@pytest.mark.parametrize("masked", [True, False])
def test_an_agent_can_be_evaluated(endian: str, masked: bool) -> None:
    agent = Parrot(endian, masked)
    found = evaluate(agent, ARITH, "test", COUNT, 3, endian=endian, batch_size=16)
    assert found.verdicts == {"TRUE": COUNT}
    assert agent.sizes[0] == 16
    assert min(agent.sizes) < 8  # rows that have ended are left out in the end
    assert not any(agent.drawn)
    evaluate(agent, ARITH, "test", COUNT, 3, endian=endian, temperature=1)
    assert agent.drawn[-1]
    other = "big" if endian == "little" else "little"
    wrong = evaluate(Parrot(endian, masked=False), ARITH, "test", COUNT, 3, endian=other)
    assert wrong.truth_rate < 1


class Fixed:
    """An agent that repeats one action."""

    def __init__(self, actions: Any, shape: tuple[int, ...] | None = None, endian: str | None = None) -> None:
        self.actions = actions
        if shape is not None:
            self.observation_space = type("Space", (), {"shape": shape})()
        if endian is not None:
            self.policy = type("Policy", (), {"transformer": type("Transformer", (), {"endian": endian})()})()

    def predict(self, observation: Any, *, deterministic: bool = True) -> tuple[Any, None]:
        return self.actions(len(observation)), None


def test_actions_outside_the_vocabulary_end_an_episode() -> None:
    for number in (-1, 65, 2**40):
        agent = Fixed(lambda count, number=number: np.full(count, number))
        for spec in (ARITH, OPEN):
            assert evaluate(agent, spec, "test", 5).verdicts == {"UNTERMINATED": 5}
    # one that writes for ever runs out of tokens
    assert evaluate(Fixed(lambda count: np.full(count, 14)), OPEN, "test", 2).verdicts == {"UNTERMINATED": 2}


@pytest.mark.parametrize(
    ("agent", "options", "message"),
    [
        (Fixed(lambda count: np.zeros((count, 1), int)), {}, r"predict gave int64 of shape \(2, 1\); .*, \(2,\)"),
        (Fixed(lambda count: np.zeros(count)), {}, "predict gave float64"),
        (Fixed(np.zeros, (7,)), {}, r"observations have shape \(7,\), those of Cadmus-Arith-v0 \(9\d,\)"),
        (Fixed(np.zeros, endian="little"), {"endian": "big"}, "transformer reads and writes 'little'"),
        (Fixed(np.zeros), {"endian": "middle"}, "endian = 'middle'"),
        (Fixed(np.zeros), {"temperature": 0.5}, r"temperature = 0.5; allowed: 0 \(greedy\) or 1"),
        (Fixed(np.zeros), {"samples": 2}, "samples = 2 at temperature 0"),
        (lambda prompts, lengths: prompts, {"temperature": 1}, "since a function draws by itself"),
        (lambda prompts, lengths: prompts, {"samples": 0}, "samples = 0"),
        (lambda prompts, lengths: prompts, {"count": 0}, "count = 0, batch_size = 256; allowed: 1 or more"),
        (lambda prompts, lengths: prompts, {"batch_size": 0}, "count = 2, batch_size = 0"),
        (lambda prompts, lengths: prompts, {"split": "dev"}, "no split 'dev'"),
    ],
)
def test_errors_name_the_mistake(agent: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate(agent, ARITH, **{"split": "test", "count": 2, **options})


def test_the_endian_defaults_to_that_of_the_transformer() -> None:
    agent = Parrot("little", masked=False)
    agent.policy = Fixed(None, endian="little").policy  # type: ignore[attr-defined]
    prompts, lengths = first()
    programs = play(agent, ARITH, "test", prompts, lengths)
    assert (cg.run_batch(programs)[0] == cg.Verdict.TRUE).all()
    assert np.array_equal(programs[:, : prompts.shape[1]][prompts > 0], prompts[prompts > 0])
