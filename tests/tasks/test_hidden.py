"""Hidden cases: drawn from the definition, judged alike in every place, and what cheats earn on them."""

from __future__ import annotations

import random
from itertools import product
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from support import naive

import cadmus_gym as cg
from cadmus_gym.evaluation.truth import generalising, prompts_of
from cadmus_gym.language import isa as op
from cadmus_gym.language.memory import scratch
from cadmus_gym.tasks.synthesis.hidden import (
    HIDDEN,
    STANDARD,
    References,
    function_key,
    generalise,
    probes_of,
    twin,
)

INDUCE = "Cadmus-Induce-v0"
HEADED = [INDUCE, "Cadmus-Complete-v0"]
MASK = 2**64 - 1


def mix(word: int) -> int:
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & MASK
    return word ^ (word >> 31)


def join(left: int, right: int) -> int:
    return mix(mix((left + 0x9E3779B97F4A7C15) & MASK) ^ (right & MASK))


def drawn(key: int, shown: list[tuple[int, ...]], low: int, high: int) -> list[tuple[int, ...]]:
    """Return the inputs of hidden cases, from the definition."""
    arity, word = len(shown[0]), mix(key)
    for value in (value for inputs in shown for value in inputs):
        word = join(word, value)
    zero = max(low, min(high, 0))
    salient = [(x,) * arity for x in (0, 1, -1, low, high) if low <= x <= high and (arity <= 2 or x == zero)]
    salient += [(low, high), (high, low), (zero, high), (high, zero)] if arity == 2 else []
    found = [inputs for inputs in dict.fromkeys(salient) if inputs not in shown][:HIDDEN]
    size = high - low + 1
    while len(found) < min(HIDDEN, size**arity - len(shown)):
        words = [(word + k * 0x9E3779B97F4A7C15) & MASK for k in range(1, arity + 1)]
        word, inputs = words[-1], tuple(low + ((mix(one) >> 32) * size >> 32) for one in words)
        if inputs not in shown and inputs not in found:
            found.append(inputs)
    return found


def cases_of(text: str) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Return the inputs and outputs of the cases of a program in the notation for people."""
    header = text.split(" do")[0].split("case ")[1:]
    sides = [case.split("to") for case in header]
    return [(tuple(map(int, left.split())), tuple(map(int, right.split()))) for left, right in sides]


def problems(id: str, split: str, count: int) -> tuple[list[Any], References]:
    stream, pairs = cg.Stream(id, split), (np.zeros(count, np.int64), np.arange(count))
    programs, _ = stream.gather(*pairs)
    return [program[program > 0] for program in programs], stream.references(*pairs)


@pytest.mark.parametrize("id", HEADED)
@pytest.mark.parametrize("split", ["train", "test", "wide", "fewer"])
def test_twins_follow_from_the_definition(id: str, split: str) -> None:
    programs, references = problems(id, split, 200)
    low, high = references.ranges[0].tolist()
    for program, key in zip(programs, references.keys.tolist(), strict=True):
        text = cg.disassemble(program)
        body = cg.encode(" ".join(cg.decode(program).split(" do ")[1].split()))
        shown = [inputs for inputs, _ in cases_of(text)]
        cases = cases_of(twin(program, body, key, (low, high)))
        assert [inputs for inputs, _ in cases] == drawn(key, shown, low, high)
        assert len(cases) == HIDDEN
        for inputs, outputs in cases:
            spelled = " ".join(f"{abs(x)} neg" if x < 0 else str(x) for x in inputs)
            stack = naive.judge(cg.decode(cg.assemble(f"{spelled} {text.split(' do ')[1]}")).split()).stack
            assert tuple(stack) == outputs


def test_three_and_four_inputs_have_hidden_cases_too() -> None:
    for arity in (3, 4):
        shown = [tuple(range(arity)), tuple(range(5, 5 + arity))]
        header = " ".join(f"case {' '.join(map(str, inputs))} to {sum(inputs)}" for inputs in shown)
        program = cg.assemble(f"{header} do {'add ' * (arity - 1)}end")
        body = cg.assemble(f"{'add ' * (arity - 1)}end")
        cases = cases_of(twin(program, body, 77, (-3, 9)))
        assert [inputs for inputs, _ in cases] == drawn(77, shown, -3, 9)
        assert all(sum(inputs) == outputs[0] for inputs, outputs in cases)


def test_a_wide_range_of_four_inputs_is_used_in_all_of_them() -> None:
    program, body = cg.assemble("case 1 2 3 4 to 10 do add add add end"), cg.assemble("add add add end")
    cases = np.array([inputs for inputs, _ in cases_of(twin(program, body, 3, (-999, 999)))])
    assert (cases.std(0) > 300).all()


def test_a_small_range_has_no_more_cases_than_inputs() -> None:
    program, body = cg.assemble("case 0 to 1 case 2 to 3 do inc end"), cg.assemble("inc end")
    assert cases_of(twin(program, body, 5, (0, 3))) == [((1,), (2,)), ((3,), (4,))]
    with pytest.raises(ValueError, match="no hidden cases: each case needs 1 to 4 inputs"):
        twin(cg.assemble("case to 1 do 1 end"), cg.assemble("1 end"), 5, (0, 3))


def test_keys_are_hashes_of_outputs_on_the_probes() -> None:
    programs, references = problems(INDUCE, "test", 200)
    work = scratch(300)
    for program, body, key in zip(programs, references.bodies, references.keys.tolist(), strict=True):
        arity = len(cases_of(cg.disassemble(program))[0][0])
        expected = arity
        for inputs in probes_of(STANDARD, arity).tolist():
            spelled = " ".join(f"{abs(x)} neg" if x < 0 else str(x) for x in inputs)
            words = [*cg.decode(cg.assemble(spelled)).split(), "(", ")", *cg.decode(body[body > 0]).split()]
            expected = join(expected, naive.judge(words).stack[0])
        assert key == expected == function_key(program, body[body > 0], work)


@pytest.mark.parametrize("body", ["drop 3", "dup drop", "0 mul 2 add", "drop 1 end", "dup", "0 div", "2 mod"])
def test_what_is_no_problem_has_no_key(body: str) -> None:
    program = cg.assemble("case 3 to 3 case 4 to 4 do dup drop end")
    assert function_key(program, cg.assemble(f"{body} end"), scratch(99)) == 0


def test_probes_of_one_small_input_are_the_whole_range_and_all_are_different() -> None:
    assert probes_of((-9, 20), 1).ravel().tolist() == list(range(-9, 21))
    for inputs, arity in product(((-9, 20), (0, 999), (-40, 40)), (1, 2, 3, 4)):
        probes = probes_of(inputs, arity)
        assert probes.shape == ((30 if arity == 1 and inputs == (-9, 20) else 64), arity)
        assert len({tuple(probe) for probe in probes.tolist()}) == len(probes)
        assert inputs[0] <= probes.min() <= probes.max() <= inputs[1]
        assert (probes == inputs[0]).all(1).any()
        assert (probes == inputs[1]).all(1).any()


def overfitted(text: str) -> str:
    """Return a lookup table of the cases of one input."""
    cases = cases_of(text)
    spell = [[f"{abs(x)} neg" if x < 0 else str(x) for x in pair] for (pair, _) in cases]
    body = ""
    for (_, outputs), (key,) in zip(cases, spell, strict=True):
        value = f"{abs(outputs[0])} neg" if outputs[0] < 0 else str(outputs[0])
        body += f"dup {key} eq if drop {value} else "
    return body + "drop 0 " + "fi " * len(cases) + "end"


def test_single_vector_evaluate_and_judge_agree_on_fitting_and_generalising() -> None:
    words = ("if", "else", "fi", "eq", "drop")
    spec = cg.load_spec(INDUCE, episode={"max_tokens": 200, "body_tokens": {}, "thought_tokens": 0})
    spec = spec.override(words=tuple(word for word in cg.VOCABULARY if word in {*spec.words, *words}))
    count, rng = 300, random.Random(0)
    stream, pairs = cg.Stream(spec, "test", 7), (np.full(count, 7), np.arange(count))
    prompts, lengths, references = stream.problems(*pairs)
    written = []
    for prompt, length, body in zip(prompts, lengths, references.bodies, strict=True):
        cases = cases_of(cg.disassemble(prompt[:length]))
        kind = rng.choice(["reference", "lookup", "wrong"])
        if kind == "lookup" and len(cases[0][0]) == 1:
            written.append(cg.assemble(overfitted(cg.disassemble(prompt[:length]))))
        else:
            written.append(cg.assemble("neg end") if kind == "wrong" else body[body > 0])
    programs = np.zeros((count, stream.prompt_room + 200), np.uint8)
    for row, prompt, length, body in zip(programs, prompts, lengths, written, strict=True):
        row[:length], row[length : length + body.size] = prompt[:length], body
    fits = cg.run_batch(programs)[0] == 0
    general, cases = generalise(programs, np.flatnonzero(fits), references)
    assert (general[~fits] == 0).all()
    assert set(cases[fits].tolist()) == {HIDDEN}
    overfit = fits & (general == 0)
    assert overfit.sum() > 20
    assert general.sum() > 60
    assert (generalising(spec, "test", programs, fits, count, 7) == (general == 1)).all()
    for k in np.flatnonzero(fits)[:60]:
        body = references.bodies[k][references.bodies[k] > 0]
        low, high = references.ranges[k].tolist()
        own = programs[k][programs[k] > 0]
        header = twin(own, body, int(references.keys[k]), (low, high)).split(" do ")[0]
        assert cg.run(f"{header} do {cg.disassemble(written[k])}").true == (general[k] == 1)

    found = cg.evaluate(lambda p, n: written, spec, "test", count, 7, batch_size=count)
    assert found.truth_rate == general.mean()
    assert (found.fit_rate, found.overfit_rate) == (fits.mean(), overfit.mean())

    env = gym.make(INDUCE, split="test", words=spec.words, episode=vars(spec.episode))
    vector = cg.CadmusVectorEnv(2, spec, split="test", autoreset_mode="Disabled")
    env.reset(seed=7)
    vector.reset(seed=[7, 7])
    for k in range(60):
        for token in written[k].tolist():
            _, reward, over, _, info = env.step(token)
            _, rewards, _, _, infos = vector.step([token, token])
        assert over
        assert (info["visible"], info["hidden"], info["is_success"]) == (fits[k], general[k] == 1, general[k] == 1)
        assert info["hidden_cases"] == (HIDDEN if fits[k] else 0)
        assert reward == general[k] == rewards[0] == rewards[1]
        for name in ("visible", "hidden", "hidden_cases", "verdict", "is_success"):
            assert infos[name].tolist() == [info[name]] * 2
        env.reset()
        vector.reset()


def test_a_prompt_of_a_user_has_no_hidden_cases() -> None:
    env = gym.make(INDUCE)
    env.reset(seed=0, options={"prompt": "case 3 to 9 case 5 to 15 do"})
    for token in cg.assemble("3 mul end").tolist():
        _, reward, _, _, info = env.step(token)
    assert (reward, info["visible"], info["hidden"], info["hidden_cases"]) == (1.0, True, True, 0)


@pytest.mark.parametrize(
    "prompt",
    [
        "case 3 to 9 case 3 to 10 do",
        "case 3 to 9 case 5 6 to 15 do",
        "do",
        "case to 3 do",
        "case 3 to do",
        "use add case 3 to 9 do",
        " ".join(f"case {k} to {k + 1}" for k in range(16)) + " do",
    ],
)
def test_odd_prompts_of_a_user_are_judged(prompt: str) -> None:
    env = cg.CadmusEnv(cg.load_spec(INDUCE, cases={"16": 1}))
    env.reset(seed=0, options={"prompt": prompt})
    for token in cg.assemble("1 add end").tolist():
        _, reward, over, _, info = env.step(token)
    assert over
    assert info["hidden_cases"] == 0
    assert reward == cg.run(f"{prompt} 1 add end").true


def test_seventeen_cases_are_refused() -> None:
    env = cg.CadmusEnv(cg.load_spec(INDUCE, cases={"16": 1}))
    text = " ".join(f"case {k} to {k}" for k in range(17)) + " do"
    with pytest.raises(ValueError, match="no completion of form 'words' makes it a well-formed program"):
        env.reset(options={"prompt": text})


def test_state_keeps_the_reference() -> None:
    env, other = cg.CadmusEnv(INDUCE, split="test"), cg.CadmusEnv(INDUCE, split="test")
    env.reset(seed=3)
    other.reset(seed=4)
    body = env.episodes.references[0]
    completion = body[: body.tolist().index(op.END) + 1]
    other.restore(env.state())
    for token in completion.tolist():
        _, reward, _, _, info = other.step(token)
    assert (reward, info["hidden_cases"]) == (1.0, HIDDEN)


def test_prompts_alone_and_with_references_are_the_same_ones() -> None:
    for id in HEADED:
        stream, pairs = cg.Stream(id, "test", 5), (np.full(300, 5), np.arange(300))
        prompts, lengths, references = stream.problems(*pairs)
        assert np.array_equal(prompts, stream.prompts(*pairs)[0])
        assert np.array_equal(references.keys, stream.keys(*pairs))
        programs, same = stream.gather(*pairs)
        assert np.array_equal(lengths, same)
        for prompt, length, body, program in zip(prompts, lengths, references.bodies, programs, strict=True):
            header = prompt[: prompt.tolist().index(op.DO) + 1]
            assert np.concatenate([header, body[body > 0]]).tolist() == program[program > 0].tolist()
            assert prompt[:length].tolist() == program[:length].tolist()
    prompts, _ = prompts_of("Cadmus-Arith-v0", "test", 10)
    empty = cg.Stream("Cadmus-Arith-v0", "test").references(np.zeros(10, np.int64), np.arange(10))
    assert empty.bodies.shape == (10, 0)
    assert (empty.ranges == (0, -1)).all()
