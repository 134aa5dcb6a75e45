"""Mixtures: weighted parts, shared splits, purity and digests."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.streams import (
    COUNT,
    IDS,
    SIGMAS,
    close_to,
)

import cadmus_gym as cg
from cadmus_gym.language.isa import ID


def test_a_mixture_draws_unchanged_parts_by_weight() -> None:
    weights = {"Cadmus-Arith-v0": 3, "Cadmus-Compare-v0": 1}
    mixture = cg.Stream(weights, "test", seed=9)
    programs, lengths = mixture.batch(50, COUNT)
    drawn = np.full(COUNT, -1)
    for part, id in enumerate(weights):
        alone, of_alone = cg.Stream(id, "test", seed=9).batch(50, COUNT)
        padded = np.zeros_like(programs)
        padded[:, : alone.shape[1]] = alone
        same = (programs == padded).all(axis=1) & (lengths == of_alone)
        assert (drawn[same] == -1).all()
        drawn[same] = part
    assert (drawn >= 0).all()
    assert close_to((drawn == 0).sum(), COUNT, 0.75)
    assert abs(np.corrcoef(drawn[1:], drawn[:-1])[0, 1]) < SIGMAS / math.sqrt(COUNT)


MIX = "Cadmus-Mix-v0"


@pytest.mark.parametrize("split", cg.load_spec(MIX).splits)
def test_a_mixed_environment_draws_its_parts_by_weight(split: str) -> None:
    """Only parts that have the split take part, and each program equals one of the part alone."""
    spec = cg.load_spec(MIX)
    weights = {id: weight for id, weight in spec.mixture.items() if split in cg.load_spec(id).splits}
    stream = cg.Stream(spec, split, seed=9)
    assert [part.id for part in stream.specs] == [*weights]
    programs, lengths = stream.batch(50, 6000)
    drawn = np.full(len(programs), -1)
    for number, id in enumerate(weights):
        alone, of_alone = cg.Stream(id, split, seed=9).batch(50, 6000)
        padded = np.zeros_like(programs)
        padded[:, : alone.shape[1]] = alone
        drawn[(programs == padded).all(axis=1) & (lengths == of_alone)] = number
    assert (drawn >= 0).all()
    for number, weight in enumerate(weights.values()):
        assert close_to((drawn == number).sum(), len(programs), weight / sum(weights.values()))


def test_the_splits_of_a_mixed_environment_are_those_of_its_parts() -> None:
    spec = cg.load_spec(MIX)
    assert {*spec.splits} == {split for id in spec.mixture for split in cg.load_spec(id).splits}
    with pytest.raises(ValueError, match="Cadmus-Mix-v0: no split 'nowhere'; it has train, test"):
        cg.Stream(spec, "nowhere")


def test_a_mixture_within_a_mixture_keeps_its_shares() -> None:
    stream = cg.Stream({MIX: 1, "Cadmus-Loop-v0": 1}, "long")
    shares = Counter[str]()
    for part, weight in zip(stream.specs, stream.weights.tolist(), strict=True):
        shares[part.id] += weight / int(stream.weights.sum())
    with_long = [id for id in cg.load_spec(MIX).mixture if "long" in cg.load_spec(id).splits]
    assert shares == pytest.approx({id: 0.5 / len(with_long) + 0.5 * (id == "Cadmus-Loop-v0") for id in with_long})


def test_weights_of_mixtures_by_hand(tmp_path: Path) -> None:
    """1/2 and 1/2 of one, 1/3 and 2/3 of the other: 3, 3, 2 and 4 twelfths."""
    parts = ({"Cadmus-Arith-v0": 1, "Cadmus-Logic-v0": 1}, {"Cadmus-Loop-v0": 1, "Cadmus-Stack-v0": 2})
    paths = {}
    for number, weights in enumerate(parts):
        text = f'id = "Mine{number}-v0"\nform = "value"\n[episode]\nmax_tokens = 112\n[mixture]\n'
        path = tmp_path / f"{number}.toml"
        path.write_text(text + "".join(f"{name} = {weight}\n" for name, weight in weights.items()))
        paths[path] = 5
    assert cg.Stream(paths).weights.tolist() == [3, 3, 2, 4]
    assert cg.Stream({"Cadmus-Arith-v0": 2, "Cadmus-Compare-v0": 4}).weights.tolist() == [1, 2]


def test_overridden_thoughts_of_a_mixture_reach_its_parts() -> None:
    plain = cg.load_spec(MIX)
    shown = cg.load_spec(MIX, thoughts={"share": 1.0, "style": "trace", "limit": 60})
    never = cg.load_spec(MIX, thoughts={"share": 1.0, "style": "none"})
    prompts, lengths = cg.Stream(plain, "test").batch(0, 400)
    assert {part.thoughts.share for part, _ in cg.load_spec(MIX, thoughts={"share": 0.0}).parts} == {0.0}
    assert [part.thoughts for part, _ in plain.parts] == [cg.load_spec(id).thoughts for id in plain.mixture]
    for spec, style in ((shown, "trace"), (never, "none")):
        assert {part.thoughts.style for part, _ in spec.parts} == {style}
        programs, _ = cg.Stream(spec, "test").batch(0, 400)
        assert not cg.run_batch(programs)[0].any()
        thinking = (programs == ID["("]).any(axis=1)
        assert thinking.any() == (style == "trace")
        named = (programs == ID["add"]) & (np.cumsum(programs == ID["("], axis=1) > 0)
        assert named.any() == (style == "trace")
    assert (prompts == ID["("]).any()
    assert lengths.min() > 0
    assert shown.digests() != plain.digests()


def test_every_program_of_a_mixed_environment_earns_its_reward() -> None:
    for split in ("train", "reserved"):
        programs, lengths = cg.Stream(MIX, split, seed=2).batch(0, 60)
        environment = cg.CadmusEnv(MIX, split=split)
        for program, length in zip(programs, lengths.tolist(), strict=True):
            environment.reset(options={"prompt": program[:length]})
            for token in program[length : int((program != 0).sum())]:
                assert environment.action_masks()[token]
                _, reward, terminated, _, info = environment.step(int(token))
            assert (reward, terminated, info["is_success"]) == (1.0, True, True)


def test_a_mixture_is_a_pure_function_of_seed_and_index() -> None:
    mixture = cg.Stream({id: 1 + k for k, id in enumerate(IDS)}, "train", seed=4)
    programs, lengths = mixture.batch(0, 5000, threads=1)
    for start, stop in ((0, 1), (1, 700), (700, 5000)):
        part, of_part = mixture.batch(start, stop - start, threads=3)
        np.testing.assert_array_equal(part, programs[start:stop])
        np.testing.assert_array_equal(of_part, lengths[start:stop])
    again, _ = mixture.gather([4] * 5000, np.arange(5000)[::-1])
    np.testing.assert_array_equal(again[::-1], programs)


def test_a_mixture_of_one_part_equals_that_part() -> None:
    alone, mixed = cg.Stream("Cadmus-Arith-v0", "test"), cg.Stream({"Cadmus-Arith-v0": 5}, "test")
    np.testing.assert_array_equal(alone.batch(0, 100)[0], mixed.batch(0, 100)[0])


def test_the_digest_of_a_mixture_covers_its_weights() -> None:
    weights = [(1, 1), (1, 2), (2, 1)]
    digests = {cg.Stream({IDS[0]: one, IDS[1]: other}).digest for one, other in weights}
    assert len(digests) == 3


@pytest.mark.parametrize("mixture", [{}, {IDS[0]: 0}, {IDS[0]: -1}, {IDS[0]: 0.5}, {IDS[0]: True}, {IDS[0]: 10**9}])
def test_a_bad_weight_is_a_value_error(mixture: Any) -> None:
    with pytest.raises(ValueError, match="whole weight from 1"):
        cg.Stream(mixture)


def test_a_mixture_needs_the_split_in_every_part() -> None:
    with pytest.raises(ValueError, match=r"Cadmus-Compare-v0: no split 'long'"):
        cg.Stream({"Cadmus-Arith-v0": 1, "Cadmus-Compare-v0": 1}, "long")
