"""Probabilities of mixtures and of shipped environments; entropies."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from support.probability import (
    SIGMAS,
    agree,
    rows_of,
    small,
    support_of,
)
from support.specs import VALUES

import cadmus_gym as cg
from cadmus_gym.language import isa as op
from cadmus_gym.streams.probability import Score
from cadmus_gym.streams.scores import Entropy, score_mixture
from cadmus_gym.streams.spec import Spec, Split

IDS = VALUES


SPLITS = [(id, split) for id in IDS for split in cg.load_spec(id).splits]


def write_small(folder: Path, name: str, share: float) -> Path:
    spec = small(name)
    path = folder / f"{name.replace(', ', '-')}.toml"
    parameters = "\n".join(f"{key} = {_toml(value)}" for key, value in spec.parameters.items())
    path.write_text(
        f'id = "{spec.id}"\ntask = "{spec.task}"\n[parameters]\n{parameters}\n'
        f'[thoughts]\nshare = {share}\nstyle = "products"\nlimit = 30\n'
        "[splits.train]\nshare = [0.3, 1.0]\n[splits.test]\nshare = [0.0, 0.3]\n"
    )
    return path


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(one)}" for key, one in value.items()) + " }"
    return str(value) if not isinstance(value, str) else f'"{value}"'


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_probability_of_a_mixture_is_the_sum_over_its_parts(tmp_path: Path, split: str) -> None:
    """This holds if two parts write the same programs."""
    weights = {"arith": 3, "arith, uneven": 2, "compare": 1, "function": 4}
    paths = {write_small(tmp_path, name, 0.5): weight for name, weight in weights.items()}
    expected: dict[bytes, float] = defaultdict(float)
    parts = {name: support_of(name, split) for name in weights}
    for name, weight in weights.items():
        for program, probability in parts[name].items():
            expected[program] += weight / 10 * probability
    assert len(expected) < sum(map(len, parts.values()))
    stream = cg.Stream(paths, split, seed=5)
    scores = stream.score(rows_of(list(expected)))
    np.testing.assert_allclose(np.exp(scores.log_prob), list(expected.values()), rtol=1e-9)
    assert math.fsum(np.exp(scores.log_prob)) == pytest.approx(1, abs=1e-9)
    assert scores.exact.all()
    agree(stream, expected, 500_000)


def test_a_mixture_by_hand() -> None:
    """Weights 1 and 3: prompts 0.25 * 0.2 + 0.75 * 0.1, whole programs 0.25 * 0.2 * 0.5 + 0.75 * 0.1."""
    parts: list[Any] = [
        SimpleNamespace(score=lambda *_: [Score(math.log(0.2 * 0.5), math.log(0.2), 0.01)]),
        SimpleNamespace(score=lambda *_: [Score(math.log(0.1), math.log(0.1), 0.04)]),
    ]
    scores = score_mixture(parts, np.array([1, 3]), cg.assemble("1 2 add 3 eq end"))
    assert math.exp(scores.prompt) == pytest.approx(0.125)
    assert math.exp(scores.log_prob) == pytest.approx(0.1)
    assert math.exp(scores.completion) == pytest.approx(0.8)
    assert scores.error == pytest.approx(math.sqrt(0.25**2 * 0.01 + 0.75**2 * 0.04))
    assert not scores.exact


def test_a_mixture_of_estimates_has_a_standard_error(tmp_path: Path) -> None:
    paths = {write_small(tmp_path, name, 0.5): 1 for name in ("arith", "arith, uneven", "loop")}
    programs, _ = cg.Stream(paths, "test", seed=3).batch(0, 300)
    exact = cg.Stream(paths, "test").score(programs)
    rough = cg.Stream(paths, "test").score(programs, budget=0, samples=20_000)
    assert not rough.exact.any()
    assert (np.abs(rough.log_prob - exact.log_prob) <= SIGMAS * rough.error).all()


def test_the_variance_of_a_mixture_adds_up_over_its_parts(tmp_path: Path) -> None:
    """Parts have independent errors, and several may write the same program."""
    weights = {"arith": 3, "arith, uneven": 2, "loop": 1}
    paths = {write_small(tmp_path, name, 0.5): weight for name, weight in weights.items()}
    programs, _ = cg.Stream(paths, "test", seed=3).batch(0, 300)
    parts = [cg.Stream(path, "test").score(programs, budget=0, samples=2000) for path in paths]
    shares = np.exp([part.log_prob for part in parts]) * np.array([[3], [2], [1]]) / 6  # (3, 300)
    assert ((shares > 0).sum(0) > 1).any()
    variance = (shares**2 * np.array([part.error for part in parts]) ** 2).sum(0) / shares.sum(0) ** 2
    whole = cg.Stream(paths, "test").score(programs, budget=0, samples=2000)
    np.testing.assert_allclose(whole.log_prob, np.log(shares.sum(0)), rtol=1e-12)
    np.testing.assert_allclose(whole.error, np.sqrt(variance), rtol=1e-9)


def test_entropies_are_means_over_the_programs_of_a_stream() -> None:
    stream = cg.Stream(small("arith"), "train", seed=2)
    entropy, (programs, lengths) = stream.entropy(200), stream.batch(0, 200)
    scores = stream.score(programs)
    for logs, mean, error in (
        (scores.prompt, entropy.prompt, entropy.prompt_error),
        (scores.completion, entropy.completion, entropy.completion_error),
    ):
        assert mean == pytest.approx(-statistics.mean(logs.tolist()))
        assert error == pytest.approx(statistics.stdev(logs.tolist()) / math.sqrt(200)) != 0
    assert entropy.prompt_tokens == pytest.approx(lengths.mean())
    assert entropy.completion_tokens == pytest.approx(np.count_nonzero(programs) / 200 - lengths.mean())
    with pytest.raises(ValueError, match="count = 1"):
        stream.entropy(1)


def test_the_floor_by_hand() -> None:
    entropy = Entropy(10, 8.0, 0.1, 6.0, 0.1, 2.0, 0.1, 5.0, 3.0)
    assert entropy.floor() == pytest.approx(8 / 8)
    assert entropy.floor(0.5) == pytest.approx(5 / 5.5)
    assert entropy.floor(0.0) == pytest.approx(2 / 3)


@pytest.mark.parametrize(("id", "split"), SPLITS)
def test_every_program_of_a_stream_has_a_probability(id: str, split: str) -> None:
    for changes in ({}, {"thoughts": {"share": 0.5, "style": "trace", "limit": 40}, "episode": {"max_tokens": 128}}):
        stream = cg.Stream(cg.load_spec(id, **changes), split, seed=8)
        programs, _ = stream.batch(0, 60)
        scores = stream.score(programs, budget=1000, samples=300)
        assert np.isfinite(scores.log_prob).all()
        assert (scores.log_prob < 0).all()
        assert (scores.completion <= 0).all()


@pytest.mark.parametrize("split", ["train", "test"])
def test_comparisons_have_exact_probabilities(split: str) -> None:
    """Those of all comparisons of a kind add up to its share, and estimates agree with them."""
    stream = cg.Stream("Cadmus-Compare-v0", split, seed=8)
    parameters = stream.specs[0].split_parameters(split)
    lengths, order = parameters.lengths, parameters.order
    weight, sixth = sum(lengths.values()), 1 / len(parameters.relations)

    def total(programs: list[str]) -> float:
        scores = stream.score(rows_of([cg.assemble(program).tobytes() for program in programs]))
        assert scores.exact.all()
        return math.fsum(np.exp(scores.log_prob))

    ties = [f"{value} {value} eq end" for value in range(100, 1000)]
    assert total(ties) == pytest.approx(sixth / 2 * lengths["3"] / weight, rel=1e-9)
    weights = dict.fromkeys(order, weight)  # of the classes of numbers that may be pairs of a kind
    weights["swap"] = lengths["4"] + lengths["5"]
    share = sum(order[kind] * lengths["1-2"] / weights[kind] for kind in order if kind != "swap") / sum(order.values())
    pairs = [f"{x} {y} lt {'end' if x < y else 'not end'}" for x in range(100) for y in range(100)]
    assert total(pairs) == pytest.approx(sixth * share, rel=1e-9)
    programs, _ = stream.batch(0, 40)
    exact, rough = stream.score(programs), cg.Stream(stream.specs[0], split).score(programs, budget=0, samples=20_000)
    assert exact.exact.all()
    assert (np.abs(rough.log_prob - exact.log_prob) <= SIGMAS * rough.error).all()
    assert rough.error.max() < 0.1


EXTREMES: list[tuple[str, dict[str, Any]]] = [
    ("arith", {"operands": [-2147483647, 2147483647], "limit": 2147483647, "operations": {"7": 1}}),
    ("compare", {"lengths": {"9": 1, "1-8": 1}}),
    ("logic", {"operands": [0, 999_999], "bits": {"8": 1}, "terms": {"8": 1}, "joined": {"8": 1}}),
    ("stack", {"operands": [0, 999_999], "limit": 2147483647, "literals": {"6": 1}, "moves": {"6": 1}}),
    ("register", {"operands": [0, 999_999], "limit": 2147483647, "operations": {"8": 1}}),
    (
        "branch",
        {"operands": [0, 999_999], "limit": 2147483647, "blocks": {"4": 1}, "depths": {"4": 1}, "distance": 999_999},
    ),
    ("loop", {"operands": [1, 9], "turns": [1, 64], "items": {"1": 1, "4": 1}, "limit": 2147483647}),
    ("function", {"operands": [0, 9999], "levels": [1, 48], "doubles": [2, 8], "limit": 2147483647}),
]


@pytest.mark.parametrize(("task", "parameters"), EXTREMES, ids=str)
def test_programs_of_extreme_parameters_have_a_probability_too(task: str, parameters: dict[str, Any]) -> None:
    spec = Spec("Extreme-v0", task, {"test": Split((0.0, 0.5))}, parameters=parameters)
    stream = cg.Stream(spec, "test")
    scores = stream.score(stream.batch(0, 100)[0], budget=0, samples=200)
    assert np.isfinite(scores.log_prob).all()


@pytest.mark.parametrize("id", IDS)
def test_any_tokens_can_be_scored(id: str) -> None:
    stream = cg.Stream(id, "train", seed=4)
    chooser = np.random.default_rng(9)
    garbage = chooser.integers(0, 65, (2000, stream.length + 30))
    garbage[::2, 12] = op.END
    digits = np.where(chooser.random(garbage.shape) < 0.6, chooser.integers(13, 26, garbage.shape), garbage)
    true, _ = stream.batch(0, 700)
    changed = np.repeat(true, 3, axis=0)
    rows = np.arange(len(changed))
    size = (changed != 0).sum(axis=1)
    changed[rows, chooser.integers(0, size)] = chooser.integers(0, 65, len(changed))
    for programs in (garbage, digits, changed):
        scores = stream.score(programs, budget=1000, samples=100)
        assert not np.isnan(scores.log_prob).any()
        finite = np.isfinite(scores.log_prob)
        verdicts, _ = cg.run_batch(programs.astype(np.uint8))
        assert not verdicts[finite].any()  # what has a probability is true
    assert 0 < finite.sum() < len(changed)  # some changes lead to other programs, or to none


def test_shapes_and_mistakes() -> None:
    stream = cg.Stream(small("arith"), "train")
    programs, _ = stream.batch(0, 4)
    assert stream.log_prob(programs).shape == (4,)
    alone = stream.log_prob(programs[0])
    assert (alone.shape, float(alone)) == ((), float(stream.log_prob(programs)[0]))
    assert stream.log_prob(programs[:0]).shape == (0,)
    with pytest.raises(ValueError, match="shape"):
        stream.log_prob(programs[None])
    with pytest.raises(ValueError, match="token id"):
        stream.log_prob([[65]])


def test_a_family_in_plain_python_has_no_probabilities() -> None:
    spec = Spec("Sums-v0", "support.probability:SUMS", {"train": Split((0.3, 1.0)), "test": Split((0.0, 0.3))})
    stream = cg.Stream(spec, "test")
    programs, _ = stream.batch(0, 200)
    assert not cg.run_batch(programs)[0].any()
    scores = stream.score(programs)
    assert np.isnan(scores.log_prob).all()
    assert not scores.exact.any()
    assert dataclasses.replace(scores).prompt.shape == (200,)
