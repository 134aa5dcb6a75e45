"""Arguments: what environments accept, and the errors for everything else."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from support.episodes import equal, unchanged

import cadmus_gym as cg

SEEDS = [-1, 2**63, 1.5, "7", b"abc", True, [[1, 2, 3]], {1, 2, 3}, np.float64(1), np.array(5.0), [1.0] * 3, object]
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
OPTIONS = ["prompt", b"", 5, [], [("prompt", "1")], {"prompt"}, {3: 4}, {None: 1}, {"prompt": object}, True]


@pytest.mark.parametrize("seed", SEEDS, ids=repr)
@pytest.mark.parametrize("count", [1, 3])
def test_an_invalid_seed_is_a_value_error_and_changes_nothing(seed: Any, count: int) -> None:
    environment: Any = cg.CadmusEnv() if count == 1 else cg.CadmusVectorEnv(count)
    environment.reset(seed=0)
    with pytest.raises(ValueError, match="seed"), unchanged(environment):
        environment.reset(seed=seed, options={"prompt": "1 dup"})


@pytest.mark.parametrize("seeds", LISTS, ids=repr)
def test_an_invalid_list_of_seeds_is_a_value_error_and_changes_nothing(seeds: Any) -> None:
    vector = cg.CadmusVectorEnv(3)
    vector.reset(seed=0)
    for options in ({}, {"reset_mask": np.array([True, False, False])}):
        with pytest.raises(ValueError, match="seed"), unchanged(vector):
            vector.reset(seed=seeds, options=options)


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: f"{options!r:.20}")
@pytest.mark.parametrize("count", [1, 3])
def test_invalid_options_are_a_value_error_and_change_nothing(options: Any, count: int) -> None:
    environment: Any = cg.CadmusEnv() if count == 1 else cg.CadmusVectorEnv(count)
    environment.reset(seed=0)
    with pytest.raises(ValueError, match=r"reset options|prompt"), unchanged(environment):
        environment.reset(seed=5, options=options)


@pytest.mark.parametrize("kind", [int, np.int64, np.uint8])
def test_a_seed_may_have_any_integer_type(kind: Any) -> None:
    equal(cg.CadmusEnv().reset(seed=kind(7)), cg.CadmusEnv().reset(seed=7))
    vectors = [cg.CadmusVectorEnv(3) for _ in range(4)]
    expected = vectors[0].reset(seed=7)
    for vector, seed in zip(vectors[1:], (kind(7), np.array([7, 8, 9]).astype(kind), range(7, 10)), strict=True):
        equal(vector.reset(seed=seed), expected)
    equal(vectors[0].np_random.random(3), vectors[1].np_random.random(3))  # the generator that Gymnasium seeds


def test_unseeded_rows_draw_their_seeds_from_np_random() -> None:
    """Rows without a seed draw one from `np_random` at their first reset, and keep it."""
    one, other = (cg.CadmusVectorEnv(3, "Cadmus-Arith-v0") for _ in range(2))
    for vector in (one, other):
        vector._np_random, _ = gymnasium.utils.seeding.np_random(4)
        vector.reset(seed=[None, 5, None])
    equal(one.state().seeds, other.state().seeds)
    seeds = one.state().seeds
    assert seeds[1] == 5
    assert len(np.unique(seeds)) == 3
    one.reset()
    equal(one.state().seeds, seeds)  # streams continue
    assert one.state().indices.tolist() == [2, 2, 2]


@pytest.mark.parametrize("options", [{"prompts": "1"}, {"reset_mask": np.ones(1, np.bool_)}, {"": 0}])
def test_an_unknown_option_is_a_value_error(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"unknown key .*known: prompt"):
        cg.CadmusEnv("Cadmus-Arith-v0").reset(options=options)


@pytest.mark.parametrize(
    "mask", [np.zeros(3, np.bool_), np.ones(2, np.bool_), np.ones(3), [1, 1, 1], np.ones((1, 3), np.bool_)]
)
def test_an_invalid_reset_mask_is_a_value_error(mask: Any) -> None:
    vector = cg.CadmusVectorEnv(3, "Cadmus-Arith-v0")
    vector.reset(seed=0)
    with pytest.raises(ValueError, match="reset_mask"), unchanged(vector):
        vector.reset(seed=5, options={"reset_mask": mask})


def test_a_wrong_number_of_seeds_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="2 seeds for 3"):
        cg.CadmusVectorEnv(3, "Cadmus-Arith-v0").reset(seed=[1, 2])


@pytest.mark.parametrize(
    "arguments",
    [{"num_envs": 0}, {"num_envs": 1.5}, {"num_envs": True}, {"autoreset_mode": "never"}, {"render_mode": "video"}],
    ids=str,
)
def test_an_invalid_argument_is_a_value_error(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        cg.CadmusVectorEnv(**arguments)


@pytest.mark.parametrize("make", [cg.CadmusEnv, cg.CadmusVectorEnv, cg.load_spec, gymnasium.make, gymnasium.make_vec])
@pytest.mark.parametrize("kind", [ValueError, TypeError])
def test_an_unknown_keyword_is_both_a_value_error_and_a_type_error(make: Any, kind: type[Exception]) -> None:
    """TorchRL's GymEnv tries `frameskip` first and expects a TypeError with these words."""
    arguments = ["Cadmus-Arith-v0"] if make is not cg.CadmusVectorEnv else [1, "Cadmus-Arith-v0"]
    with pytest.raises(kind, match=r"unexpected keyword argument 'frameskip'; known: .*reward"):
        make(*arguments, frameskip=1)
    with pytest.raises(kind, match=r"unexpected keyword argument 'rewards'; did you mean 'reward'\? known: "):
        make(*arguments, rewards="truth")


@pytest.mark.parametrize(("key", "wrong"), [("split", ["train"]), ("split", {}), ("endian", ["big"]), ("endian", None)])
def test_a_split_or_endian_of_another_type_is_a_value_error(key: str, wrong: Any) -> None:
    with pytest.raises(ValueError, match=key):
        cg.CadmusEnv(**{key: wrong})
