"""Linear maps without bias, computed by the faster of two libraries on a CPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class Product(torch.autograd.Function):
    """x (..., K) times the transpose of weight (N, K), by oneDNN's float32 kernels; first derivatives only.

    PyTorch computes float32 products with MKL, which uses only half of the vector unit on an AMD processor: 99 against
    215 GFLOP/s on a Zen 5 core. (Elsewhere the two are equally fast.) oneDNN compiles a kernel for each shape and is
    slow to start, so MKL keeps products of few rows. ``Product.enabled = False`` leaves it all of them.
    """

    enabled = hasattr(torch.ops.mkldnn, "_linear_pointwise")
    LEAST_ROWS = 32

    @staticmethod
    def multiply(x: Tensor, weight: Tensor) -> Tensor:
        out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")
        return out

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return Product.multiply(x, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        rows = gradient.flatten(0, -2)
        return Product.multiply(gradient, weight.t()), Product.multiply(rows.t(), x.flatten(0, -2).t())


def linear(x: Tensor, weight: Tensor) -> Tensor:
    """Return x (..., K) times the transpose of weight (N, K), by the faster library."""
    few = x.numel() < Product.LEAST_ROWS * x.shape[-1]
    if few or x.dtype != torch.float32 or not x.is_cpu or not Product.enabled or torch.is_autocast_enabled("cpu"):
        return F.linear(x, weight)
    if torch.is_grad_enabled():
        out: Tensor = Product.apply(x, weight)  # type: ignore[no-untyped-call]
        return out
    return Product.multiply(x, weight)


class Linear(nn.Linear):
    """A linear map without bias."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight)


def together(x: Tensor, maps: Sequence[Linear]) -> Tensor:
    """Apply several maps to x and concatenate the results; in one product, unless one of them is hooked."""
    if any(one._forward_hooks for one in maps):
        return torch.cat([one(x) for one in maps], dim=-1)
    return linear(x, torch.cat([one.weight for one in maps]))
