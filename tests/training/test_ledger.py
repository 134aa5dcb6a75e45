"""The figures of a pretraining run, by hand."""

from __future__ import annotations

import math

import pytest
import torch

import cadmus_gym as cg
from cadmus_gym.streams.scores import Entropy
from cadmus_gym.training.ledger import Ledger
from cadmus_gym.training.ranks import Ranks


def ledger(nats: float) -> Ledger:
    """A ledger of a generator with prompts of ``nats`` in 4 tokens, and completions of 2 nats in 8 tokens."""
    entropy = Entropy(100, nats + 2.0, 0.0, nats, 0.0, 2.0, 0.0, prompt_tokens=4.0, completion_tokens=8.0)
    return Ledger([cg.load_spec("Cadmus-Arith-v0")], 0.5, entropy, Ranks("cpu"))


def losses(one: Ledger) -> dict[str, float]:
    return {tag: value for tag, value in one.close_window(warm=False).items() if tag.startswith("loss")}


def test_losses_and_excess_losses_of_a_window() -> None:
    one = ledger(nats=6.0)
    one.add(torch.tensor([0, 0]), torch.tensor([[9.0, 3.0, 4.0, 10.0], [7.0, 3.0, 4.0, 6.0]], dtype=torch.float64))
    assert one.floor == (0.5 * 6 + 2) / (0.5 * 4 + 8)
    assert losses(one) == pytest.approx(
        {
            "loss/all": (0.5 * 16 + 6) / (0.5 * 8 + 16),
            "loss/completion": 6 / 16,
            "loss/excess_prompts": 16 / 8 - 6 / 4,
            "loss/excess_completions": 6 / 16 - 2 / 8,
        }
    )
    so_far = one.close_evaluation({"test": 0.5}, 0.0, 0.0)
    assert (so_far["excess_prompts"], so_far["excess_completions"]) == pytest.approx((0.5, 0.125))
    assert one.counts["history"] == [{**so_far, "truth": {"test": 0.5}}]


def test_without_an_entropy_there_is_no_excess_loss() -> None:
    one = ledger(nats=math.nan)
    one.add(torch.tensor([0]), torch.tensor([[9.0, 3.0, 4.0, 10.0]], dtype=torch.float64))
    assert one.floor is None
    assert losses(one).keys() == {"loss/all", "loss/completion"}
    assert "excess_prompts" not in one.close_evaluation({"test": 0.5}, 0.0, 0.0)
