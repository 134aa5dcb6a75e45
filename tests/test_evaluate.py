"""Intervals and estimators against known answers; what counts as a loophole."""

import itertools

import numpy as np
import pytest

import cadmus_gym as cg
from cadmus_gym.evaluate import judge_completions, lift_interval, pass_at_k, prompts_of, wilson_interval


def as_rows(texts: list[str]) -> np.ndarray:
    programs = [cg.assemble(text) for text in texts]
    rows = np.zeros((len(programs), max(map(len, programs))), np.uint8)
    for row, program in zip(rows, programs, strict=True):
        row[: len(program)] = program
    return rows


@pytest.mark.parametrize(
    ("successes", "count", "low", "high"),
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (5, 10, 0.2366, 0.7634), (81, 263, 0.2553, 0.3662)],  # Newcombe 1998
)
def test_wilson_interval_against_published_values(successes: int, count: int, low: float, high: float) -> None:
    assert wilson_interval(successes, count) == pytest.approx((low, high), abs=1e-4)


def test_wilson_interval_needs_a_trial() -> None:
    with pytest.raises(ValueError, match="count = 0"):
        wilson_interval(0, 0)


def test_the_interval_of_a_lift() -> None:
    def pairs(both: int, won: int, lost: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
        before, after = ((1, 0, 1, 0), (1, 1, 0, 0))
        counts = (both, won, lost, neither)
        return np.repeat(np.array(before, bool), counts), np.repeat(np.array(after, bool), counts)

    # Newcombe 1998, table II
    assert lift_interval(*pairs(36, 12, 2, 0)) == pytest.approx((0.0569, 0.3404), abs=5e-5)
    # turned round, it is the same with the other sign
    assert lift_interval(*pairs(36, 2, 12, 0)) == pytest.approx((-0.3404, -0.0569), abs=5e-5)
    # against resampling of prompts
    before, after = pairs(900, 180, 100, 820)
    rng = np.random.default_rng(0)
    lifts = [(after[rows].mean() - before[rows].mean()) for rows in rng.integers(0, 2000, (2000, 2000))]
    assert lift_interval(before, after) == pytest.approx(tuple(np.quantile(lifts, [0.025, 0.975])), abs=2e-3)
    for same in (np.zeros(50, bool), np.ones(50, bool), np.arange(50) < 20):
        low, high = lift_interval(same, same)
        assert low <= 0 <= high


def test_pass_at_k_is_the_mean_over_all_subsets() -> None:
    outcomes = [[1, 0, 0, 1, 0], [0, 0, 0, 0, 0], [1, 1, 1, 1, 0]]
    for k in range(1, 6):
        by_hand = np.mean([np.mean([max(s) for s in itertools.combinations(row, k)]) for row in outcomes])
        assert pass_at_k(np.array([sum(row) for row in outcomes]), 5, k) == pytest.approx(by_hand)
    with pytest.raises(ValueError, match="k = 6"):
        pass_at_k(np.array([1]), 5, 6)


def test_prompts_are_those_of_the_stream_and_nothing_behind() -> None:
    prompts, lengths = prompts_of("Cadmus-Arith-v0", "test", 50, seed=3)
    programs, expected = cg.Stream("Cadmus-Arith-v0", "test", 3).batch(0, 50)
    assert (lengths == expected).all()
    for prompt, program, length in zip(prompts, programs, lengths, strict=True):
        assert (prompt[:length] == program[:length]).all()
        assert not prompt[length:].any()


def test_loopholes_are_found_and_answers_are_not() -> None:
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


def test_a_relation_answered_right_is_no_loophole() -> None:
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
