"""Fixtures that several tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from support.sb3 import TINY

from cadmus_gym.transformer.model import Transformer


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def model() -> Transformer:
    """Weights whose logits differ much between programs."""
    model = Transformer(TINY, seed=1)
    model.endian = "little"
    with torch.no_grad():
        model.embed_tokens.weight.mul_(20)
    return model
