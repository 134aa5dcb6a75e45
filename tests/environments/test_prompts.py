"""Prompts: from the stream of a seed, or given at reset."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.episodes import FREE, beginning, each_endian, each_id, equal, unchanged

import cadmus_gym as cg
from cadmus_gym.language import isa as op
from cadmus_gym.language.forms import reverse_digits


@each_id
@each_endian
@pytest.mark.parametrize("split", ["train", "test"])
def test_episode_i_has_the_prompt_of_program_i(id: str, endian: str, split: str) -> None:
    environment = cg.CadmusEnv(id, split=split, endian=endian)
    programs, lengths = cg.Stream(id, split, seed=2**40).batch(0, 80)
    shown = reverse_digits(programs) if endian == "little" else programs
    for k, (program, length) in enumerate(zip(shown, lengths.tolist(), strict=True)):
        observation, _ = environment.reset(seed=2**40 if k == 0 else None)
        np.testing.assert_array_equal(observation[:length], program[:length])
        assert not observation[length:].any()


@each_id
def test_each_row_takes_its_prompts_in_order_at_its_own_pace(id: str) -> None:
    """Rows whose episodes end at different rates take prompts from their queues at different rates."""
    count, player = 6, np.random.default_rng(0)
    vector = cg.CadmusVectorEnv(count, id, autoreset_mode="SameStep")
    observations, info = vector.reset(seed=100)
    episode, quick = np.zeros(count, int), np.linspace(0.02, 0.6, count)
    fresh = np.ones(count, np.bool_)
    last = op.END if id in FREE else 0  # `<pad>` is illegal under all other forms, which ends an episode too
    for _ in range(600):
        for row in range(count):
            programs, lengths = beginning(id, "train", 100 + row, 700)
            length = lengths[episode[row]]
            np.testing.assert_array_equal(observations[row, :length], programs[episode[row], :length])
            assert not observations[row, length:].any() or not fresh[row]
        weights = info["action_mask"] * player.random((count, 65))
        weights[:, op.END] *= 0.01
        actions = np.where(player.random(count) < quick, last, weights.argmax(axis=1))
        observations, _, terminated, truncated, info = vector.step(actions)
        fresh = terminated | truncated
        episode += fresh
    assert episode.max() > 200
    assert episode.min() < episode.max() - 50


def test_different_seeds_give_different_prompts() -> None:
    vector = cg.CadmusVectorEnv(50, "Cadmus-Arith-v0")
    observations = np.concatenate([vector.reset(seed=seed)[0] for seed in (0, 1000)])
    assert len(np.unique(observations, axis=0)) > 90
    np.testing.assert_array_equal(vector.reset(seed=0)[0], observations[:50])


def test_without_a_seed_prompts_are_random() -> None:
    first = [cg.CadmusEnv("Cadmus-Arith-v0").reset()[0].tobytes() for _ in range(10)]
    assert len(set(first)) > 5
    vector = cg.CadmusVectorEnv(50, "Cadmus-Arith-v0")
    assert len(np.unique(vector.reset()[0], axis=0)) > 40


@each_endian
@pytest.mark.parametrize(
    "prompt",
    [
        "12 7 add",
        "5 5 sub",
        "",
        cg.encode("1 2 , 7 add"),
        cg.encode("1 2 , 7 add").tolist(),
        cg.encode("1 2 , 7 add").astype(np.int64)[None],
        ["12 7 add"],
        [cg.encode("1 2 , 7 add")],
        "<bos> 5 dup",
        "exactly 8 case 2 3 to 1 do 3 4 add",
        [],
        np.zeros(0, np.uint8),
    ],
    ids=repr,
)
def test_an_episode_begins_with_a_given_prompt(prompt: Any, endian: str) -> None:
    single = [prompt] if isinstance(prompt, str) else prompt
    first = single[0] if len(single) and isinstance(single[0], (str, np.ndarray)) else single
    tokens = cg.assemble(first) if isinstance(first, str) else np.asarray(first, np.uint8)
    environment = cg.CadmusEnv("Cadmus-Arith-v0", endian=endian)
    observation, info = environment.reset(seed=0, options={"prompt": prompt})
    expected = reverse_digits(tokens) if endian == "little" else tokens
    np.testing.assert_array_equal(observation[: tokens.size], expected)
    assert not observation[tokens.size :].any()
    assert info["action_mask"].any()


@pytest.mark.parametrize(
    "prompts",
    [
        "12 7 add",
        cg.encode("1 2 , 7 add"),
        ["12 7 add", "3 4 sub", "5 dup"],
        [cg.encode("1 2 , 7 add"), cg.encode("3 , 4 sub"), cg.encode("5 dup")],
        [cg.encode(text).tolist() for text in ("1 2 , 7 add", "3 , 4 sub", "5 dup")],
        ("12 7 add", "3 4 sub", cg.encode("5 dup")),
        np.stack([cg.encode("1 , 7 add"), cg.encode("3 , 4 sub"), cg.encode("5 , 6 mul")]),
        [cg.encode("1 , 7 add"), cg.encode("3 , 4 sub"), cg.encode("5 , 6 mul")],
        [[14, 15], [15, 16], [16, 17]],
    ],
    ids=repr,
)
def test_vector_episodes_begin_with_given_prompts(prompts: Any) -> None:
    vector = cg.CadmusVectorEnv(3, "Cadmus-Arith-v0")
    observations, info = vector.reset(seed=0, options={"prompt": prompts})
    one_for_all = isinstance(prompts, str) or (isinstance(prompts, np.ndarray) and prompts.ndim == 1)
    for row, prompt in enumerate([prompts] * 3 if one_for_all else prompts):
        tokens = cg.assemble(prompt) if isinstance(prompt, str) else np.asarray(prompt)
        np.testing.assert_array_equal(observations[row, : tokens.size], tokens)
        assert not observations[row, tokens.size :].any()
    assert info["action_mask"].any(axis=1).all()


def test_a_given_prompt_does_not_advance_the_stream() -> None:
    environment = cg.CadmusEnv("Cadmus-Arith-v0")
    expected = [environment.reset(seed=6)[0], environment.reset()[0]]
    environment.reset(seed=6, options={"prompt": "1 dup"})
    equal([environment.reset()[0], environment.reset()[0]], expected)


BAD_PROMPTS = [
    "1,2",
    "word",
    "1 end",
    "fi",
    "01",
    "use mul",
    "<pad>",
    "1 <pad> 2 add",
    "1 , 2 add <pad>",
    "<bos> <bos> 1",
    "1 2 <bos>",
    "case 3 to",
    "( (",
    "1 " * 60,
    [65],
    [-1],
    [1.5],
    [[[1]]],
    5,
    3.5,
    True,
    b"1",
    {},
    object,
    [None],
    ["1", "2", "3", "4"],
    [[14], "word"],
]


@pytest.mark.parametrize("prompt", BAD_PROMPTS, ids=lambda prompt: f"{prompt!r:.20}")
@pytest.mark.parametrize("count", [1, 3])
def test_an_invalid_prompt_is_a_value_error_and_changes_nothing(prompt: Any, count: int) -> None:
    environment: Any = cg.CadmusEnv("Cadmus-Arith-v0")
    if count > 1:
        environment = cg.CadmusVectorEnv(count, "Cadmus-Arith-v0")
    environment.reset(seed=0)
    with pytest.raises(ValueError, match=r"."), unchanged(environment):
        environment.reset(seed=5, options={"prompt": prompt})


# More digits may follow `( 5` under every form, and `5` under those whose completions begin with a literal.
@pytest.mark.parametrize(
    ("id", "prompt", "fits"),
    [
        ("Cadmus-Arith-v0", "12 7 add 5", False),
        ("Cadmus-Arith-v0", "12", False),
        ("Cadmus-Arith-v0", "12 7 add ( 5", False),
        ("Cadmus-Arith-v0", "12 7 add", True),
        ("Cadmus-Arith-v0", "12 ,", True),
        ("Cadmus-Compare-v0", "12 7 lt ( 5", False),
        ("Cadmus-Compare-v0", "1 12", True),
        ("Cadmus-Open-v0", "12", False),
        ("Cadmus-Open-v0", "12 dup", True),
    ],
)
def test_a_given_prompt_stays_a_prefix_of_its_program(id: str, prompt: str, fits: bool) -> None:
    tokens = cg.assemble(prompt)
    cg.CadmusEnv(id).reset(options={"prompt": tokens})  # big-endian accepts all of them
    environment = cg.CadmusEnv(id, endian="little")
    if not fits:
        with pytest.raises(ValueError, match="ends inside a literal: under endian 'little'"):
            environment.reset(options={"prompt": tokens})
        return
    chooser = np.random.default_rng(0)
    for _ in range(5):
        _, info = environment.reset(options={"prompt": tokens})
        over = False
        while not over:
            _, _, terminated, truncated, info = environment.step(
                int(chooser.choice(np.flatnonzero(info["action_mask"])))
            )
            over = terminated or truncated
            np.testing.assert_array_equal(environment.episodes.program(0)[: tokens.size], tokens)
