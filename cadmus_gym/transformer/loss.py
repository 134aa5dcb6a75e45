"""The loss: nats of each token given those before it."""

from __future__ import annotations

import torch
import torch.distributed
import torch.nn.functional as F
from torch import Tensor, nn

from cadmus_gym.language import isa as op
from cadmus_gym.transformer.model import with_bos


def losses(model: nn.Module, tokens: Tensor, prompt_lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Return -log p of each token of programs (B, T) given those before it, summed over prompts and over completions.

    Both are (B,) float32, in nats. Rows are padded with 0, which is ignored.
    """
    logits = model(with_bos(tokens)[:, :-1]).float()  # (B, T, 65)
    each = F.cross_entropy(logits.flatten(0, 1), tokens.flatten().long(), ignore_index=op.PAD, reduction="none")
    each = each.view(tokens.shape)
    in_prompt = torch.arange(tokens.shape[1], device=tokens.device) < prompt_lengths[:, None]
    in_prompts = (each * in_prompt).sum(1)
    return in_prompts, each.sum(1) - in_prompts
