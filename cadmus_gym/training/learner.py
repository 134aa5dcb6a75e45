"""A model and its optimizers, and the choice of float32 or bfloat16 for their products."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any, TypeVar

import torch

from cadmus_gym.training import batches
from cadmus_gym.training.optimizers import make_optimizers
from cadmus_gym.training.ranks import Ranks
from cadmus_gym.training.runs import Run
from cadmus_gym.training.settings import Pretraining
from cadmus_gym.transformer.loss import losses
from cadmus_gym.transformer.model import Transformer

Config = TypeVar("Config", bound=Pretraining)

TIMED = 2  # steps that a preflight times in each type
HOPELESS = 4  # a type that is this many times slower is timed only once


class Learner:
    """A model with fresh weights and its optimizers. Products are computed in ``config.dtype``."""

    def __init__(self, config: Pretraining, ranks: Ranks) -> None:
        self.config, self.ranks, self.dtype = config, ranks, getattr(torch, config.dtype)
        self.model = Transformer(config.sizes, config.seed)
        self.model.endian = config.endian
        self.model.to(ranks.device)
        self.wrapped = ranks.wrap(self.model)
        muon_rate = config.muon_rate if config.optimizer == "muon" else None
        self.optimizers = make_optimizers(self.model, muon_rate, config.adamw_rate, config.weight_decay, self.dtype)

    def gradients(self, chunks: list[batches.Chunk], weight: float) -> tuple[torch.Tensor, float]:
        """Compute and clip the gradients of the loss: the sum over all processes, divided by ``weight``.

        Returns -log p of each row's prompt and completion, (N, 2) float64, and the norm before clipping.
        """
        device, prompt_weight = self.ranks.device, self.config.prompt_weight
        found = torch.zeros(sum(len(chunk.rows) for chunk in chunks), 2, dtype=torch.float64, device=device)
        for k, chunk in enumerate(chunks):
            chunk = chunk.to(device)
            alone = self.ranks.apart(self.wrapped) if k + 1 < len(chunks) else contextlib.nullcontext()
            with alone:  # processes exchange gradients once per step, with the last chunk
                with torch.autocast(device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16):
                    of_prompts, of_completions = losses(self.wrapped, chunk.tokens, chunk.prompt_lengths)
                loss = prompt_weight * of_prompts.sum() + of_completions.sum()
                (loss * (self.ranks.count / weight)).backward()  # type: ignore[no-untyped-call]
            found[chunk.rows] = torch.stack([of_prompts.detach(), of_completions.detach()], 1).double()
        return found, float(torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip))

    def update(self) -> None:
        for optimizer in self.optimizers.values():
            optimizer.step()
            optimizer.zero_grad()

    def state(self) -> dict[str, Any]:
        """Return what `restore` takes."""
        optimizers = {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()}
        return {"model": self.model.state_dict(), "optimizers": optimizers}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a state. Peak rates stay those of the settings, which an extended run may change."""
        self.model.load_state_dict(state["model"])
        for name, optimizer in self.optimizers.items():
            peaks = [group["peak"] for group in optimizer.param_groups]
            optimizer.load_state_dict(state["optimizers"][name])
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["peak"] = peak


def settle_dtype(
    config: Config, feed: batches.Feed, cuts: list[int], ranks: Ranks, run: Run
) -> tuple[Config, dict[str, float] | None]:
    """Return the settings with a type of products, and the speeds by which it was chosen; None if it was given.

    A choice is written into run.json: a resumed run times nothing. All processes must call it.
    """
    if config.dtype != "auto":
        return config, None
    chunks = batches.cut_chunks(batches.draw(feed.stream, feed.rows), config.endian, cuts)
    dtype, timed = choose_dtype(config, chunks, ranks, run.say)
    run.about["config"]["dtype"] = dtype
    ranks.first(run.write_about)
    return dataclasses.replace(config, dtype=dtype), timed


def choose_dtype(
    config: Pretraining, chunks: list[batches.Chunk], ranks: Ranks, report: Callable[[str], None]
) -> tuple[str, dict[str, float]]:
    """Return the type of products, and the speed of those that were timed in tokens per core-second.

    On a GPU it is bfloat16 if supported; on a CPU it is the one that the first process finds faster.
    """
    if ranks.device.type == "cuda":
        supported = torch.cuda.is_bf16_supported(including_emulation=False)
        return "bfloat16" if supported else "float32", {}
    report("preflight: timing a step in float32 and in bfloat16")
    timed = ranks.gather({name: round(speed, 1) for name, speed in preflight(config, chunks, ranks).items()})[0]
    dtype = max(timed, key=lambda name: timed[name])
    speeds = ", ".join(f"{name} {speed:,.0f}" for name, speed in timed.items())
    report(f"preflight: {speeds} tokens per core-second; computing in {dtype}")
    return dtype, timed


def preflight(config: Pretraining, chunks: list[batches.Chunk], ranks: Ranks) -> dict[str, float]:
    """Return the tokens per core-second of a step in each type, measured on learners that are thrown away.

    After a warm-up it times the middle chunk of a real step and the optimizers, and assumes that the other chunks cost
    as much per token. A type that is hopelessly slow in the warm-up is not timed again. It measures CPU time, since
    other processes may use the cores too.
    """
    middle = chunks[len(chunks) // 2]
    own = middle._replace(rows=torch.arange(len(middle.rows)))
    padded, tokens = (sum(one) for one in zip(*((c.tokens.numel(), int(c.lengths.sum())) for c in chunks), strict=True))
    found: dict[str, float] = {}
    for dtype in ("float32", "bfloat16"):
        learner, best = Learner(dataclasses.replace(config, dtype=dtype), ranks), [math.inf, math.inf]
        for _ in range(1 + TIMED):
            times = [time.process_time()]
            learner.gradients([own], float(own.lengths.sum()))
            times.append(time.process_time())
            learner.update()
            times.append(time.process_time())
            best = [min(one, after - before) for one, (before, after) in zip(best, pairwise(times), strict=True)]
            found[dtype] = tokens / max(best[0] * padded / own.tokens.numel() + best[1], 1e-9)
            slow = found[dtype] * HOPELESS < max(found.values())
            if ranks.first(lambda: slow):  # noqa: B023
                break
    return found
