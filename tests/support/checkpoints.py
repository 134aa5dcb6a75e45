"""Shared code of the tests of checkpoints."""

from __future__ import annotations

import torch

from cadmus_gym.transformer.model import ModelConfig, Transformer

SMALL = ModelConfig(width=32, layers=2, heads=4, hidden=48, context=64, rope_theta=500.0, norm_eps=1e-6)


def model_of(config: ModelConfig = SMALL, seed: int = 1) -> Transformer:
    model = Transformer(config, seed)
    with torch.no_grad():
        model.embed_tokens.weight.mul_(20)
        for weight in model.parameters():  # norms too, so that a lost one shows
            weight.mul_(1.1)
    return model


def same(one: Transformer, other: Transformer) -> bool:
    pairs = zip(one.state_dict().items(), other.state_dict().items(), strict=True)
    return all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)
