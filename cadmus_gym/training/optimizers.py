"""Muon and AdamW, each with its own peak learning rate, and the schedule of the rates."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
import torch.distributed
from torch import Tensor

from cadmus_gym.transformer.model import Transformer


class Muon(torch.optim.Muon):
    """torch.optim.Muon with Newton-Schulz in ``dtype``, at the scale of AdamW's steps.

    PyTorch computes Newton-Schulz in bfloat16, whatever the type of the weights (2.9 to 2.13, torch/optim/_muon.py).
    On a CPU without bfloat16 instructions that takes most of a step. In bfloat16 this optimizer equals PyTorch's to the
    bit.
    """

    def __init__(self, matrices: Iterable[Tensor], rate: float, weight_decay: float, dtype: torch.dtype) -> None:
        super().__init__(matrices, lr=rate, momentum=0.95, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update each matrix that has a gradient. Closures are not supported."""
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is None:
                    continue
                state = self.state[matrix]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(matrix.grad)
                mean = state["momentum_buffer"].lerp_(matrix.grad, 1 - group["momentum"])
                update = matrix.grad.lerp(mean, group["momentum"]).to(self.dtype)  # Nesterov's
                matrix.mul_(1 - group["lr"] * group["weight_decay"])
                update = orthogonalized(update, group["ns_coefficients"], group["ns_steps"])
                matrix.add_(update, alpha=-group["lr"] * (0.2 * math.sqrt(max(matrix.shape))))


def orthogonalized(matrix: Tensor, coefficients: tuple[float, float, float], steps: int) -> Tensor:
    """Return a matrix (M, N) with all singular values near 1, by Newton-Schulz in its dtype (Jordan et al. 2024)."""
    a, b, c = coefficients
    x = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if matrix.shape[0] > matrix.shape[1] else x


def make_optimizers(
    model: Transformer,
    muon_rate: float | None,
    adamw_rate: float,
    weight_decay: float = 0.0,
    dtype: torch.dtype = torch.bfloat16,
) -> dict[str, torch.optim.Optimizer]:
    """Return "muon" for the matrices of the layers and "adamw" for embedding, output layer and norms.

    If ``muon_rate`` is None, AdamW takes the matrices too. Only the matrices decay, by ``weight_decay``. ``dtype`` is
    the type of Muon's products.

    Muon (Jordan et al. 2024) moves a matrix by its momentum with all singular values set to 1, here scaled to the size
    of AdamW's steps (Liu et al. 2025, arXiv:2502.16982). Its loop over matrices takes 8 % of a step at 1M parameters.
    A batched loop would save half of that, but would no longer equal PyTorch's to the bit.
    """
    matrices = [weight for weight in model.layers.parameters() if weight.ndim == 2]
    inside = set(map(id, matrices))
    others = [weight for weight in model.parameters() if id(weight) not in inside]
    groups: list[dict[str, Any]] = [{"params": others, "weight_decay": 0.0}]
    found: dict[str, torch.optim.Optimizer] = {}
    if muon_rate is None:
        groups.append({"params": matrices, "weight_decay": weight_decay})
    else:
        found["muon"] = Muon(matrices, muon_rate, weight_decay, dtype)
    found["adamw"] = torch.optim.AdamW(groups, lr=adamw_rate, betas=(0.9, 0.98), fused=True)
    for optimizer in found.values():
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return found


def rate_at(step: int, steps: int, warmup: float, decay: float) -> float:
    """Return the share of the peak rate at a step: a linear warm-up, a plateau, and a linear decay to 0.

    ``warmup`` and ``decay`` are shares of the steps.
    """
    return min(1.0, (step + 1) / max(1.0, warmup * steps), (steps - step) / max(1.0, decay * steps))


def set_rates(optimizers: Mapping[str, torch.optim.Optimizer], share: float) -> None:
    """Set all learning rates to a share of their peaks."""
    for optimizer in optimizers.values():
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * share
