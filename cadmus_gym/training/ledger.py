"""The figures of a pretraining run: steps, tokens, time spent, and the loss since the last logged step."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from cadmus_gym.language.isa import VOCABULARY
from cadmus_gym.streams.scores import Entropy
from cadmus_gym.streams.spec import Spec
from cadmus_gym.training.focus import AMONG
from cadmus_gym.training.ranks import Ranks

DIVERGED = 1.5 * math.log(len(VOCABULARY))  # nats per token: 1.5 times the loss of guessing
WAITING, SETTLED = 0.2, 20  # a larger share of time spent waiting for programs is reported, after this many steps
OF_RUN = ("history", "stopped", "met", "parts", "preflight", "parent")  # counts that do not belong into the history


class Ledger:
    """The figures of a run. ``counts`` goes into its states and its card, and is the same in all processes.

    ``entropy`` is that of the generator; it is nan if unknown.
    """

    def __init__(self, specs: Sequence[Spec], prompt_weight: float, entropy: Entropy, ranks: Ranks) -> None:
        self.specs, self.prompt_weight, self.entropy, self.ranks = specs, prompt_weight, entropy, ranks
        self.counts: dict[str, Any] = {"step": 0, "tokens": 0, "stopped": False, "history": [], "parts": 0}
        self.counts |= dict.fromkeys(("seconds", "cpu_seconds", "evaluation_cpu_seconds"), 0.0)
        self.counts["met"] = [0.0] * 4  # sums since the last evaluation, as in a row of the window
        self.counts["times"] = dict.fromkeys(("data", "model", "optimizer", "evaluation", "saving"), 0.0)  # seconds
        # For each spec, sums since the last line of the log: loss of prompts, loss of completions, tokens of each.
        self.window = torch.zeros(len(specs), 4, dtype=torch.float64, device=ranks.device)
        self.start_clocks()

    def start_clocks(self) -> None:
        """Start the clocks from the time counted so far."""
        self.cpu_before = self.counts["cpu_seconds"]
        self.began, self.cpu_began = time.monotonic() - self.counts["seconds"], time.process_time()
        self.logged = time.monotonic(), self.counts["tokens"], dict(self.counts["times"])
        self.settled, self.warned = self.counts["step"] + SETTLED, False  # see `warning`

    def state(self) -> dict[str, Any]:
        """Return what `restore` takes. All processes must call it."""
        return {"counts": self.counts, "window": self.ranks.sum(self.window)}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.counts |= state["counts"]
        if self.ranks.rank == 0:  # it has the sums of all processes
            self.window += state["window"].to(self.window.device)

    def begin_part(self, result: Mapping[str, Any], parts: int) -> None:
        """Take the figures from the result of the part before, and begin to train further."""
        self.counts |= {key: result[key] for key in self.counts if key in result}
        self.counts |= {"parts": parts, "stopped": False, "met": [0.0] * 4}

    def spend(self, kind: str, since: float) -> float:
        """Count the time since ``since`` as spent on one kind of work; return the time now."""
        now = time.monotonic()
        self.counts["times"][kind] += now - since
        return now

    def take_time(self) -> None:
        """Update the seconds, and the CPU seconds of all processes."""
        cpu = self.ranks.sum(torch.tensor(time.process_time() - self.cpu_began, dtype=torch.float64))
        self.counts.update(seconds=time.monotonic() - self.began, cpu_seconds=self.cpu_before + float(cpu))

    def add(self, parts: Tensor, rows: Tensor) -> None:
        """Add rows (N, 4) to the window, each to the spec that ``parts`` (N,) names."""
        self.window.index_add_(0, parts, rows)

    @property
    def floor(self) -> float | None:
        """A lower bound on the loss; None if the entropy is unknown."""
        floor = self.entropy.floor(self.prompt_weight)
        return floor if math.isfinite(floor) else None

    def mean(self, row: Sequence[float]) -> tuple[float, float]:
        """Return the loss and that of completions alone, in nats per token, from a row of the window."""
        of_prompts, of_completions, in_prompts, in_completions = row
        weight = self.prompt_weight
        loss = (weight * of_prompts + of_completions) / (weight * in_prompts + in_completions)
        return loss, of_completions / in_completions

    def excess(self, row: Sequence[float]) -> dict[str, float]:
        """Return the excess loss from a row of the window, of prompts and of completions, each in nats per token.

        It is empty if the entropies are unknown, as those of prompts that many programs complete. What a model pays for
        the end of a prompt counts with the completion, see `cadmus_gym.evaluation.excess`.
        """
        of_prompts, of_completions, in_prompts, in_completions = row
        entropy = self.entropy
        if self.floor is None or math.isnan(entropy.prompt):
            return {}
        return {
            "excess_prompts": of_prompts / in_prompts - entropy.prompt / entropy.prompt_tokens,
            "excess_completions": of_completions / in_completions - entropy.completion / entropy.completion_tokens,
        }

    def close_window(self, warm: bool) -> dict[str, float]:
        """Return the losses, the tokens per second and the share of time that each kind of work took since the last
        call, by their TensorBoard tags, and begin a new window.

        Raises FloatingPointError if the loss is not finite or, once ``warm``, if it shows that training diverged.
        """
        table = self.ranks.sum(self.window).cpu()
        self.window.zero_()
        met = table.sum(0).tolist()
        loss, completion_loss = self.mean(met)
        where = f"at step {self.counts['step']}: the loss is"
        if not math.isfinite(loss):
            raise FloatingPointError(f"{where} {loss:g}")
        if warm and completion_loss > DIVERGED:
            raise FloatingPointError(f"{where} {completion_loss:.2f} nats per token, 1.5 times that of guessing")
        self.counts["met"] = [before + now for before, now in zip(self.counts["met"], met, strict=True)]
        scalars = {"loss/all": loss, "loss/completion": completion_loss}
        scalars |= {f"loss/{name}": value for name, value in self.excess(met).items()}
        if len(self.specs) > 1:
            families = zip(self.specs, table.tolist(), strict=True)
            scalars |= {f"loss of {spec.id}/completion": row[1] / row[3] for spec, row in families if row[3]}
        return scalars | self._close_times()

    def _close_times(self) -> dict[str, float]:
        since, tokens, times = self.logged
        now, counts = time.monotonic(), self.counts
        seconds = now - since
        self.logged = now, counts["tokens"], dict(counts["times"])
        shares = {f"time/{kind}": (spent - times[kind]) / seconds for kind, spent in counts["times"].items()}
        return {"tokens/second": (counts["tokens"] - tokens) / seconds, "tokens/total": counts["tokens"], **shares}

    def warning(self, waiting: float, focus: float) -> str:
        """Return a line if training spends much of its time ``waiting`` for programs, once; else an empty one.

        ``waiting`` is a share of the time, ``focus`` the share of rows that focus chooses.
        """
        if waiting <= WAITING or self.counts["step"] < self.settled or self.warned:
            return ""
        self.warned, hint = True, f"; focus draws {AMONG} for each one that it uses, --focus 0 draws one"
        return f"{waiting:.0%} of the time is spent waiting for programs{hint if focus else ''}"

    def close_evaluation(self, truths: Mapping[str, float], began: float, cpu_began: float) -> dict[str, Any]:
        """Add a point with the truth rate of each split to the history; return its figures.

        ``began`` and ``cpu_began`` are the time and the CPU time at which the evaluation began.
        """
        counts = self.counts
        spent = self.ranks.sum(torch.tensor(time.process_time() - cpu_began, dtype=torch.float64))
        counts["evaluation_cpu_seconds"] += float(spent)
        self.spend("evaluation", began)
        self.take_time()
        if any(counts["met"]):  # else there was no step since the last evaluation
            counts["loss"], counts["completion_loss"] = self.mean(counts["met"])
            counts |= self.excess(counts["met"])
            counts["met"] = [0.0] * 4
        so_far = {key: value for key, value in counts.items() if key not in OF_RUN}
        so_far["times"] = {kind: round(seconds, 1) for kind, seconds in counts["times"].items()}
        counts["history"].append({**so_far, "truth": {name: round(truth, 6) for name, truth in truths.items()}})
        return so_far
