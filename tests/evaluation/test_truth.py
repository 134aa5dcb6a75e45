"""Estimators against known answers, evaluation of models and policies, and loopholes."""

import itertools

import numpy as np
import pytest
import torch

import cadmus_gym as cg
from cadmus_gym.evaluation.intervals import tally
from cadmus_gym.evaluation.loopholes import _parted, _redraw
from cadmus_gym.evaluation.truth import (
    judge_completions,
    pass_at_k,
    problems_of,
    prompts_of,
)
from cadmus_gym.progress import part_of
from cadmus_gym.transformer.model import ModelConfig, Transformer


def as_rows(texts: list[str]) -> np.ndarray:
    programs = [cg.assemble(text) for text in texts]
    rows = np.zeros((len(programs), max(map(len, programs))), np.uint8)
    for row, program in zip(rows, programs, strict=True):
        row[: len(program)] = program
    return rows


def test_pass_at_k_is_the_mean_over_all_subsets() -> None:
    outcomes = [[1, 0, 0, 1, 0], [0, 0, 0, 0, 0], [1, 1, 1, 1, 0]]
    for k in range(1, 6):
        by_hand = np.mean([np.mean([max(s) for s in itertools.combinations(row, k)]) for row in outcomes])
        assert pass_at_k(np.array([sum(row) for row in outcomes]), 5, k) == pytest.approx(by_hand)
    with pytest.raises(ValueError, match="k = 6"):
        pass_at_k(np.array([1]), 5, 6)


def test_prompts_match_the_stream_and_are_padded() -> None:
    prompts, lengths = prompts_of("Cadmus-Arith-v0", "test", 50, seed=3)
    programs, expected = cg.Stream("Cadmus-Arith-v0", "test", 3).batch(0, 50)
    assert (lengths == expected).all()
    for prompt, program, length in zip(prompts, programs, lengths, strict=True):
        assert (prompt[:length] == program[:length]).all()
        assert not prompt[length:].any()


def test_prompts_of_several_seeds_are_concatenated() -> None:
    prompts, lengths = prompts_of("Cadmus-Arith-v0", "test", 20, 3, seeds=2)
    keys = problems_of("Cadmus-Arith-v0", "test", 20, 3, seeds=2)
    for k in range(2):
        part, (expected, sizes) = slice(20 * k, 20 * k + 20), prompts_of("Cadmus-Arith-v0", "test", 20, 3 + k)
        assert (prompts[part] == expected).all()
        assert (lengths[part] == sizes).all()
        assert (keys[part] == cg.Stream("Cadmus-Arith-v0", "test", 0).keys(np.full(20, 3 + k), np.arange(20))).all()
    for seeds in (0, -1, 1.5):
        with pytest.raises(ValueError, match="seeds = "):
            prompts_of("Cadmus-Arith-v0", "test", 20, 3, seeds)  # type: ignore[arg-type]


def test_an_evaluation_of_several_seeds_counts_distinct_problems() -> None:
    """There are few problems, so prompts repeat, and the interval is as wide as that of one seed."""
    spec = cg.load_spec("Cadmus-Arith-v0", operands=[0, 3], operations={"1": 1}, operators={"add": 1, "sub": 1})
    asked: list[str] = []

    def policy(prompts: np.ndarray, lengths: np.ndarray) -> list[np.ndarray]:
        texts = [cg.disassemble(row[:n]) for row, n in zip(prompts, lengths, strict=True)]
        asked.extend(texts)
        return [cg.assemble("0 eq end" if text == "0 0 add" else "3 eq end") for text in texts]

    parts = [cg.evaluate(policy, spec, "train", 200, seed) for seed in (5, 6, 7)]
    asked.clear()
    whole = cg.evaluate(policy, spec, "train", 200, 5, seeds=3)
    assert (whole.count, whole.seed, whole.seeds) == (600, 5, 3)
    assert whole.truth_rate == pytest.approx(np.mean([part.truth_rate for part in parts]))
    keys = problems_of(spec, "train", 200, 5, 3)
    assert whole.problems == len(set(keys.tolist())) == max(part.problems for part in parts) < 32
    true = np.array([cg.run(cg.assemble(f"{t} {'0' if t == '0 0 add' else '3'} eq end")).true for t in asked])
    assert whole.interval == tally(true, keys).interval
    assert whole.interval[1] - whole.interval[0] > 0.2  # with 600 distinct problems it would be narrower than 0.08
    for part in parts:
        assert whole.interval[1] - whole.interval[0] == pytest.approx(part.interval[1] - part.interval[0], abs=0.1)


def test_loopholes_are_found_and_real_answers_are_not() -> None:
    prompts = ["12 7 add", "3 4 mul 5 sub", "9 9 lt", "5 8 ne", "12 7 add", "12 7 add", "12 7 add", "12 7 add"]
    completions = [
        "drop 1 end",
        "dup eq end",
        "drop 1 end",
        "drop 1 end",
        "( 31 ) 31337 eq 0 eq end",
        "19 eq end",
        "18 eq end",
        "( drop 1 end )".replace("end ", "") + " 19 eq end",
    ]
    rows = as_rows([f"{p} {c}" for p, c in zip(prompts, completions, strict=True)])
    lengths = np.array([len(cg.assemble(prompt)) for prompt in prompts], np.int32)
    assert cg.find_loopholes(rows, lengths).tolist() == [True, True, True, True, True, False, False, False]


def test_true_programs_of_a_stream_are_no_loopholes() -> None:
    for spec in ("Cadmus-Arith-v0", "Cadmus-Compare-v0"):
        programs, lengths = cg.Stream(spec, "test", 1).batch(0, 300)
        result = judge_completions(cg.load_spec(spec), "test", 1, programs, lengths)
        assert (result.truth_rate, result.loophole_rate) == (1.0, 0.0)
        assert result.verdicts == {"TRUE": 300}
        assert result.interval[0] > 0.98


def test_samples_are_grouped_by_prompt() -> None:
    rows = as_rows(["1 2 add 3 eq end", "1 2 add 4 eq end", "5 1 sub 5 eq end", "5 1 sub 6 eq end"])
    result = judge_completions(cg.load_spec("Cadmus-Arith-v0"), "test", 0, rows, np.array([4, 4, 4, 4]), samples=2)
    assert result.count == 2
    assert result.truth_rate == 0.25
    assert result.pass_at == {1: 0.25, 2: 0.5}
    assert result.verdicts == {"TRUE": 1, "FALSE": 3}


class Counting:
    """Stands in for the rng of `_redraw`, which first draws one of five ways and then the values it needs."""

    def __init__(self, way: int, drawn: int = 0, sign: int = 1) -> None:
        self.way, self.drawn, self.sign, self.asked = way, drawn, sign, []

    def integers(self, low: int, high: int | None = None) -> int:
        if high is None and low == 5:
            return self.way
        if high is None:  # of two signs, or of the literals
            return low - 1 if self.sign > 0 else 0
        self.asked.append((low, high))
        return self.drawn or low


@pytest.mark.parametrize(
    ("prompt", "way", "expected"),
    [
        ("12 7 add", Counting(0), "12 7 add"),
        ("12 7 add", Counting(1), "10 0 add"),
        ("12 0 add", Counting(2), "10 0 add"),
        ("12 7 add", Counting(3), "13 8 add"),
        ("12 7 add", Counting(3, sign=-1), "11 6 add"),
        ("100 0 add", Counting(3, sign=-1), "99 0 add"),  # literals are not negative
        ("12 7 add", Counting(4), "7 7 add"),
        ("5 neg 120 3 times i add next", Counting(3), "6 neg 121 4 times i add next"),
        # cases and thoughts are not redrawn
        ("case 3 to 9 do 3 mul", Counting(3), "case 3 to 9 do 4 mul"),
        ("12 ( 5 6 ) 7 add", Counting(3), "13 ( 5 6 ) 8 add"),
        ("( 5 ) 7 add", Counting(3), "( 5 ) 8 add"),
        ("1 ( 2 ) 3 ( 4 ) 5", Counting(1), "0 ( 2 ) 0 ( 4 ) 0"),
    ],
)
def test_literals_outside_thoughts_are_redrawn(prompt: str, way: Counting, expected: str) -> None:
    assert cg.disassemble(_redraw(*_parted(cg.assemble(prompt)), way)) == cg.disassemble(cg.assemble(expected))


def test_redrawn_literals_keep_their_number_of_digits() -> None:
    way = Counting(1)
    _redraw(*_parted(cg.assemble("5 12 999 add add")), way)
    assert way.asked == [(0, 10), (10, 100), (100, 1000)]
    rng = np.random.default_rng(0)
    many = {cg.disassemble(_redraw(*_parted(cg.assemble("12 7 add")), rng)) for _ in range(2000)}
    firsts = {int(text.split()[0]) for text in many}
    assert {7, 11, 12, 13} <= firsts  # another literal, moved by one, unchanged
    assert set(range(10, 100)) <= firsts
    assert firsts <= {7, *range(10, 100)}


def test_a_loophole_that_only_some_other_problems_reveal_is_found() -> None:
    """Multiplied by 0, every answer is 0; most other answers are not below 3 either."""
    rows = as_rows(["12 7 add ( 3 ) 0 mul 0 eq end", "12 7 add 19 eq end", "12 7 add 3 lt not end"])
    lengths = np.array([5, 5, 5])
    assert cg.find_loopholes(rows, lengths).tolist() == [True, False, True]
    # without redraws nothing is found
    assert cg.find_loopholes(rows, lengths, redraws=0).tolist() == [False, False, False]
    seen: list[tuple[int, int]] = []
    cg.find_loopholes(rows, lengths, report=lambda *counts: seen.append(counts))
    assert seen == [(0, 3), (3, 3)]


def test_redrawn_problems_with_the_same_answer_or_a_fault_are_skipped() -> None:
    rows = as_rows(["5 5 sub 0 eq end", "7 0 mul 0 eq end", "9 3 div 3 eq end", "1 1 times i next 0 eq end"])
    assert not cg.find_loopholes(rows, np.array([4, 4, 4, 6]), redraws=200).any()


def tiny(seed: int = 1, **sizes: int) -> Transformer:
    model = Transformer(ModelConfig(width=32, layers=1, heads=4, hidden=48, context=256), seed=seed)
    with torch.no_grad():
        model.embed_tokens.weight.mul_(5)
    return model


def test_several_samples_differ_and_need_a_temperature() -> None:
    model, seen = tiny(), []
    for options in ({"samples": 2}, {"samples": 0}, {"samples": 2, "temperature": -1.0}):
        with pytest.raises(ValueError, match="more than one sample needs one above 0"):
            cg.evaluate(model, "Cadmus-Compare-v0", count=2, **options)
    found = cg.evaluate(
        model,
        "Cadmus-Compare-v0",
        "wide",
        60,
        7,
        samples=3,
        temperature=1.0,
        report=lambda *counts: seen.append(counts),
    )
    assert (found.split, found.count, found.seed, found.samples) == ("wide", 60, 7, 3)
    assert seen[0] == (180, 360)
    assert seen[-1] == (360, 360)
    assert list(found.pass_at) == [1, 2, 3]
    assert sum(found.verdicts.values()) == 180
    assert found.pass_at[1] == pytest.approx(found.truth_rate)
    assert 0.3 < found.pass_at[1] < found.pass_at[2] < found.pass_at[3]  # so they differ
    spec = cg.load_spec("Cadmus-Compare-v0")
    prompts, lengths = (np.repeat(array, 3, axis=0) for array in prompts_of(spec, "wide", 60, 7))
    options = {"temperature": 1.0, "seed": 7, "spec": spec}
    done = cg.complete(model, prompts, prompt_lengths=lengths, **options)
    true = (cg.run_batch(done.programs)[0] == cg.Verdict.TRUE).reshape(60, 3)
    assert found.truth_rate == pytest.approx(true.mean())
    assert found.interval == tally(true.mean(1), problems_of(spec, "wide", 60, 7)).interval
    greedy = cg.evaluate(model, "Cadmus-Compare-v0", "wide", 60, 7)
    done = cg.complete(model, prompts[::3], prompt_lengths=lengths[::3], spec=spec)
    assert greedy.truth_rate == (cg.run_batch(done.programs)[0] == cg.Verdict.TRUE).mean()


def test_an_evaluation_is_printed_as_one_line() -> None:
    result = judge_completions(cg.load_spec("Cadmus-Arith-v0"), "test", 0, as_rows(["1 2 add 3 eq end"]), np.array([4]))
    assert str(result) == "Cadmus-Arith-v0 test: 100.00% true [20.65%, 100.00%] of 1 prompts, 1 problems"


def test_part_of_scales_progress_to_the_whole() -> None:
    seen: list[tuple[int, int]] = []
    for k in range(3):
        report = part_of(lambda *counts: seen.append(counts), k, 3)
        assert report is not None
        report(5, 10)
    assert seen == [(5, 30), (15, 30), (25, 30)]
    assert part_of(None, 0, 2) is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"count": 2.5}, "count = 2.5"),
        ({"count": True}, "count = True"),
        ({"samples": "2"}, "samples = '2'"),
        ({"batch_size": 1.5}, "batch_size = 1.5"),
        ({"endian": "middle"}, "endian = 'middle'"),
        ({"split": ["test"]}, r"no split \['test'\]"),
    ],
)
def test_evaluate_rejects_arguments_of_the_wrong_type(options: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        cg.evaluate(lambda prompts, lengths: [], "Cadmus-Arith-v0", **options)  # type: ignore[arg-type]


def test_evaluate_rejects_an_invalid_model() -> None:
    with pytest.raises(ValueError, match="model is a str"):
        cg.evaluate("nano", "Cadmus-Arith-v0", count=1)  # type: ignore[arg-type]
