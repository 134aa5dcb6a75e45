"""A model with its optimizers, the step they take, and how fast it is in float32 and in bfloat16."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from itertools import pairwise

import torch

from cadmus_gym.training import batches
from cadmus_gym.training.optimizers import make_optimizers
from cadmus_gym.training.ranks import Ranks
from cadmus_gym.training.settings import Pretraining
from cadmus_gym.transformer.loss import losses
from cadmus_gym.transformer.model import Transformer

TIMED, HOPELESS = 2, 4  # steps that a preflight times in each type; a type this many times slower is given up at once


class Learner:
    """A model as the seed makes it, its optimizers, and the step they take, with products in ``config.dtype``."""

    def __init__(self, config: Pretraining, ranks: Ranks) -> None:
        self.config, self.ranks, self.dtype = config, ranks, getattr(torch, config.dtype)
        self.model = Transformer(config.sizes, config.seed)
        self.model.endian = config.endian
        self.model.to(ranks.device)
        self.wrapped = ranks.wrap(self.model)
        muon_rate = config.muon_rate if config.optimizer == "muon" else None
        self.optimizers = make_optimizers(self.model, muon_rate, config.adamw_rate, config.weight_decay, self.dtype)

    def gradients(self, chunks: list[batches.Chunk], weight: float) -> tuple[torch.Tensor, float]:
        """Compute the gradients of the loss, a sum over ``weight`` tokens of all processes, and clip them.

        Returns -log p of each row's prompt and completion, (N, 2) float64, and the norm of the gradients before.
        """
        device, prompt_weight = self.ranks.device, self.config.prompt_weight
        found = torch.zeros(sum(len(chunk.rows) for chunk in chunks), 2, dtype=torch.float64, device=device)
        for k, chunk in enumerate(chunks):
            chunk = chunk.to(device)
            alone = self.ranks.apart(self.wrapped) if k + 1 < len(chunks) else contextlib.nullcontext()
            with alone:  # gradients go through the processes once a step, with the last chunk
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


def preflight(config: Pretraining, chunks: list[batches.Chunk], ranks: Ranks) -> dict[str, float]:
    """Return the tokens per core-second of a step in each type, of throw-away learners.

    What is timed, once warm, is the middle chunk of a real step and the optimizers; the rest of the chunks is taken to
    cost as much per token. A type that is slow while it warms up already is not timed again. The clock is that of CPU
    time, since other processes may want the cores too.
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
