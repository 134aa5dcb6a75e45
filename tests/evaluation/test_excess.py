"""Excess loss against exact log-probabilities of the stream and a separate forward pass over each program."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import cadmus_gym as cg
from cadmus_gym.evaluation.excess import measure_excess_loss
from cadmus_gym.language.forms import reverse_digits
from cadmus_gym.transformer.model import ModelConfig, Transformer, with_bos

COUNT = 100


def tiny(seed: int = 1, **sizes: int) -> Transformer:
    model = Transformer(ModelConfig(width=32, layers=1, heads=4, hidden=48, context=256), seed=seed)
    with torch.no_grad():
        model.embed_tokens.weight.mul_(5)
    return model


@pytest.mark.parametrize("endian", ["big", "little"])
def test_excess_loss_matches_a_forward_pass_over_each_program(endian: str) -> None:
    model, spec = tiny(), cg.load_spec("Cadmus-Arith-v0", operands=[0, 9], thoughts={"share": 0.5})
    model.endian = endian
    reports: list[tuple[int, int]] = []
    found = measure_excess_loss(model, spec, "train", COUNT, 5, lambda *counts: reports.append(counts))
    assert [total for _, total in reports] == [COUNT, COUNT]
    assert reports[-1][0] == COUNT

    stream = cg.Stream(spec, "train", 5)
    programs, prompts = stream.batch(0, COUNT)
    scores, sizes = stream.score(programs), (programs > 0).sum(1)
    excess = np.stack([scores.prompt, scores.completion])
    for k, program in enumerate(programs):
        tokens = program[: sizes[k]] if endian == "big" else reverse_digits(program[: sizes[k]])
        with torch.no_grad():
            logits = model(with_bos(torch.from_numpy(tokens[None])))[0, :-1].double()
        log_probs = logits.log_softmax(1)[torch.arange(sizes[k]), torch.from_numpy(tokens).long()].numpy()
        excess[:, k] -= log_probs[: prompts[k]].sum(), log_probs[prompts[k] :].sum()
    for name, nats, lengths in (
        ("whole", excess.sum(0), sizes),
        ("prompt", excess[0], prompts),
        ("completion", excess[1], sizes - prompts),
    ):
        assert getattr(found, name) == pytest.approx(nats.mean() / lengths.mean(), rel=1e-5)
        error = nats.std(ddof=1) / np.sqrt(COUNT) / lengths.mean()
        assert getattr(found, f"{name}_error") == pytest.approx(error, rel=1e-5)


def test_excess_loss_rejects_one_program_and_nan_weights() -> None:
    model, spec = tiny(), cg.load_spec("Cadmus-Arith-v0")
    with pytest.raises(ValueError, match="count = 1: a standard error needs at least 2 programs"):
        measure_excess_loss(model, spec, count=1)
    with torch.no_grad():
        model.layers[0].mlp.up_proj.weight[0, 0] = torch.nan
    with pytest.raises(FloatingPointError, match=r"the loss of program [01] is not finite"):
        measure_excess_loss(model, spec, "train", 2, 5)
    with pytest.raises(FloatingPointError, match=r"up_proj.weight has weights that are NaN"):
        cg.evaluate(model, spec, count=2)
