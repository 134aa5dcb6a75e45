"""Probabilities of programs, against enumerations of small settings."""

from __future__ import annotations

import math

import numpy as np
import pytest
from support.probability import (
    SIGMAS,
    SMALL,
    agree,
    rows_of,
    small,
    support,
    support_of,
)

import cadmus_gym as cg
from cadmus_gym.language import isa as op
from cadmus_gym.language.isa import VOCABULARY, Tokens
from cadmus_gym.streams.probability import Score, Scorer, Share
from cadmus_gym.streams.spec import Split, Thoughts

CASES = [(name, split) for name in SMALL for split in ("train", "test")]


@pytest.mark.parametrize(("name", "split"), CASES)
def test_probabilities_agree_with_enumeration_and_with_frequencies(name: str, split: str) -> None:
    expected = support_of(name, split)
    stream = cg.Stream(small(name), split, seed=17)
    rows = rows_of(list(expected))
    scores = stream.score(rows)
    assert scores.exact.all()
    np.testing.assert_allclose(np.exp(scores.log_prob), list(expected.values()), rtol=1e-9)
    assert math.fsum(np.exp(scores.log_prob)) == pytest.approx(1, abs=1e-9)
    np.testing.assert_allclose(scores.prompt + scores.completion, scores.log_prob, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(stream.log_prob(rows[:300]), scores.log_prob[:300])
    assert len(expected) > 10
    agree(stream, expected, 500_000)


@pytest.mark.parametrize("name", SMALL)
def test_programs_that_the_stream_never_writes_have_probability_zero(name: str) -> None:
    spec = small(name)
    train, test = support_of(name, "train"), support_of(name, "test")
    assert train.keys().isdisjoint(test)
    stream = cg.Stream(spec, "train")
    never = [*test]
    for program in list(train)[:100]:
        names = [VOCABULARY[token] for token in program]
        wrong = [*names[:-1], "not", "end"] if spec.family.form == "relation" else [*names[:-2], "inc", "eq", "end"]
        never += [program[:-1], program[:-3], program[1:], cg.encode(" ".join(wrong)).tobytes()]
        never += [b"\x01" + program, program[:-1] + b"\x0a" + program[-1:]]
    never = [program for program in never if program not in train]
    assert len(never) > 300
    scores = stream.score(rows_of([*never, b"", bytes([op.END]), b"\x00" + next(iter(train))]))
    assert (scores.log_prob == -np.inf).all()
    assert (scores.completion == -np.inf).all()
    first = list(train)[:10]
    alone, followed = rows_of(first), rows_of([program + b"\x0d\x02" for program in first])
    np.testing.assert_array_equal(stream.log_prob(followed), stream.log_prob(alone))  # nothing after `end` counts


@pytest.mark.parametrize("name", ["arith", "compare", "loop"])
def test_a_wrong_answer_does_not_change_the_probability_of_its_prompt(name: str) -> None:
    spec = small(name)
    stream = cg.Stream(spec, "test")
    programs, lengths = stream.batch(0, 50)
    right = stream.score(programs)
    for row, length in zip(programs, lengths, strict=True):
        row[length:] = 0
        wrong = cg.encode("not not end" if name == "compare" else "9 9 9 9 eq end")
        row[length : length + wrong.size] = wrong
    scores = stream.score(programs)
    np.testing.assert_array_equal(scores.prompt, right.prompt)
    assert (scores.log_prob == -np.inf).all()


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_worked_steps_have_their_share(share: float) -> None:
    spec = small("register", thoughts=Thoughts(share, "trace", 20))
    expected = support(spec, "train")
    scores = cg.Stream(spec, "train").score(rows_of(list(expected)))
    np.testing.assert_allclose(np.exp(scores.log_prob), list(expected.values()), rtol=1e-9)
    seen = np.unique(np.round(np.exp(scores.completion), 9))
    assert {share, 1 - share, 1.0} - {0.0} >= {*seen.tolist()}
    assert math.fsum(np.exp(scores.log_prob)) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("name", SMALL)
def test_estimated_normalisers_agree_with_exact_ones(name: str) -> None:
    spec = small(name, thoughts=Thoughts())
    for split in ("train", "test"):
        programs, _ = cg.Stream(spec, split, seed=3).batch(0, 300)
        exact = cg.Stream(spec, split).score(programs)
        rough = cg.Stream(spec, split).score(programs, budget=0, samples=20_000)
        assert exact.exact.all()
        assert not rough.exact.any()
        assert (np.abs(rough.log_prob - exact.log_prob) <= SIGMAS * rough.error).all()
        assert not np.array_equal(rough.log_prob, exact.log_prob)
        assert rough.error.max() < 0.1


def test_errors_of_estimates_match_their_standard_errors() -> None:
    """Over all kinds of programs of all settings, the root mean square error is one standard error."""
    found = []
    for name in SMALL:
        spec = small(name, thoughts=Thoughts())
        for split in ("train", "test"):
            programs, _ = cg.Stream(spec, split, seed=3).batch(0, 300)
            exact = cg.Stream(spec, split).score(programs)
            rough = cg.Stream(spec, split).score(programs, budget=0, samples=500)
            pairs = np.stack([rough.log_prob - exact.log_prob, rough.error])
            found.append(np.unique(pairs.round(12), axis=1))
    errors, said = np.concatenate(found, axis=1)
    assert errors.size > 60
    assert 0.8 < np.sqrt(np.mean((errors / said) ** 2)) < 1.25
    # a share s of n draws has the variance s (1 - s) / n
    (share,) = (one for one in shares_of("branch", "test", 500))
    assert share.error == pytest.approx(math.sqrt(share.value * (1 - share.value) / 500), rel=1e-12)


def shares_of(name: str, split: str, samples: int) -> list[Share]:
    scorer = Scorer(small(name), split, 0, samples)
    programs, _ = cg.Stream(small(name), split, seed=3).batch(0, 50)
    scorer.score(programs, (programs > 0).sum(1))
    return [*scorer.shares.values()]


def score(scorer: Scorer, program: Tokens) -> Score:
    (found,) = scorer.score(program[None], np.array([program.size]))
    return found


def test_an_estimate_is_a_binomial_share_of_its_samples() -> None:
    spec = small("register")
    program = cg.Stream(spec, "test").batch(0, 1)[0][0]
    program = program[program > 0]
    exact, rough = Scorer(spec, "test", 100_000, 1), Scorer(spec, "test", 0, 500)
    (known, _, none), (prompt, _, variance) = score(exact, program), score(rough, program)
    (kept,), (share,) = exact.shares.values(), rough.shares.values()
    assert (none, kept.error) == (0, 0)
    assert share.value * 500 == round(share.value * 500) > 0
    assert share.error == pytest.approx(math.sqrt(share.value * (1 - share.value) / 500))
    assert variance == pytest.approx((share.error / share.value) ** 2)
    assert prompt + math.log(share.value) == pytest.approx(known + math.log(kept.value))


def test_shares_are_computed_once_per_stream() -> None:
    stream = cg.Stream(small("register"), "test")
    programs, _ = stream.batch(0, 10)
    rough = stream.score(programs, budget=0, samples=100)
    np.testing.assert_array_equal(stream.score(programs).log_prob, rough.log_prob)
    assert not rough.exact.any()


def test_one_kept_sample_is_assumed_if_there_is_none() -> None:
    spec = small("register", splits={"rare": Split((0.0, 0.01))}, parameters={"operations": {"2": 1}})
    program = cg.Stream(spec, "rare").batch(0, 1)[0][0]
    scorer = Scorer(spec, "rare", 0, 2)
    assert math.isfinite(score(scorer, program[program > 0])[0])
    assert [share.value for share in scorer.shares.values()] == [0.5]


@pytest.mark.parametrize("name", ["compare", "compare, reserved"])
def test_derivations_with_the_same_share_have_the_same_error(name: str) -> None:
    """A pair may be of several kinds with different shares, or have two reserved values with the same share."""
    scorer = Scorer(small(name), "test", 100_000, 1)
    programs, _ = cg.Stream(small(name), "test").batch(0, 200)
    several = both = 0
    for row in programs:
        program = row[row > 0]
        scorer.shares.clear()
        score(scorer, program)
        for number, (key, share) in enumerate(scorer.shares.items(), 1):
            scorer.shares[key] = Share(share.value, 0.1 * number * share.value)
        prompt, _, variance = score(scorer, program)
        expected = 0.0
        for key, share in list(scorer.shares.items()):  # how far the log-probability moves with each
            scorer.shares[key] = Share(share.value * (1 + 1e-6), share.error)
            expected += ((score(scorer, program)[0] - prompt) / 1e-6 * share.error / share.value) ** 2
            scorer.shares[key] = share
        assert variance == pytest.approx(expected, rel=1e-4)
        several += len(scorer.shares) > 1
        left, right, *_ = cg.disassemble(program).split()
        both += left != right and int(left) % 16 == int(right) % 16 == 3
    assert several if name == "compare" else both


def test_a_split_that_keeps_everything_needs_no_normaliser() -> None:
    spec = small("branch", splits={"all": Split()})
    programs, _ = cg.Stream(spec, "all").batch(0, 100)
    assert cg.Stream(spec, "all").score(programs, budget=0, samples=1).exact.all()
