"""Several processes that train as one."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import torch
import torch.distributed
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from cadmus_gym.transformer.model import Transformer

Result = TypeVar("Result")


def device_of(name: str) -> torch.device:
    """Return the device of this process. ``name`` is "cpu", "cuda", or "auto", which takes a GPU if there is one.

    Each process on a node takes a different GPU. Raises ValueError if there are too few.
    """
    kind = name if name != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    if kind != "cuda":
        return torch.device(kind)
    place, gpus = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count() if torch.cuda.is_available() else 0
    if gpus == 0:
        raise ValueError("device = cuda, but PyTorch finds no GPU; allowed here: cpu, auto")
    if place >= gpus:
        raise ValueError(f"process {place} of this node has no GPU; start at most {gpus} processes, one for each GPU")
    return torch.device("cuda", place)


class Ranks:
    """The processes that train one model together: those that torchrun started, or this one alone.

    They communicate through NCCL on GPUs and through Gloo otherwise. ``device`` is as in `device_of`.
    """

    def __init__(self, device: str = "auto") -> None:
        self.rank, self.count = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
        self.device = device_of(device)
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)
        if self.count > 1:
            torch.distributed.init_process_group("nccl" if self.device.type == "cuda" else "gloo")

    def wrap(self, model: Transformer) -> nn.Module:
        """Return a module that computes what ``model`` does, with gradients averaged over all processes."""
        if self.count == 1:
            return model
        return DistributedDataParallel(model, gradient_as_bucket_view=True)

    def apart(self, model: nn.Module) -> AbstractContextManager[None]:
        """Return a context in which each process accumulates gradients without exchanging them."""
        return model.no_sync() if isinstance(model, DistributedDataParallel) else nullcontext()

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum over all processes. All of them must call it."""
        total = values.to(self.device, copy=True)
        if self.count > 1:
            torch.distributed.all_reduce(total)
        return total

    def gather(self, own: Result) -> list[Result]:
        """Return the values of all processes, in the order of their ranks."""
        found = [own] * self.count
        if self.count > 1:
            torch.distributed.all_gather_object(found, own)
        return found

    def first(self, make: Callable[[], Result]) -> Result:
        """Return, in all processes, what ``make`` returns in the first one. Its error is raised in all."""
        made: Any = None
        error: Exception | None = None
        if self.rank == 0:
            try:
                made = make()
            except Exception as raised:
                error = raised
        if self.count > 1:
            shared = [made, error]
            torch.distributed.broadcast_object_list(shared)
            made, error = shared
        if error is not None:
            raise error
        return made  # type: ignore[no-any-return]

    def wait(self) -> None:
        """Wait until all processes have called it."""
        if self.count > 1:
            torch.distributed.barrier()

    def close(self) -> None:
        """Close the connections. Call `wait` before it, except after an error: another process may still need them."""
        if self.count > 1:
            torch.distributed.destroy_process_group()
