"""Evaluation of a model on every split of a stream, distributed over the processes that train it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cadmus_gym import progress
from cadmus_gym.evaluation.truth import EVALUATION_SEED, Evaluation, evaluate
from cadmus_gym.streams.stream import Stream
from cadmus_gym.training.ranks import Ranks
from cadmus_gym.transformer.model import Transformer


def evaluate_splits(
    model: Transformer, stream: Stream, count: int, ranks: Ranks, report: progress.Report
) -> dict[str, Evaluation]:
    """Evaluate a model on all splits, distributed over the processes; return evaluations by name of the split.

    Prompts have a seed that no training stream has. Parts of a mixture are completed with the form and budget of the
    mixture. ``report`` is called with (done, total) of this process's work.
    """
    every = [(spec, split) for spec in stream.specs for split in spec.splits]
    mine = every[ranks.rank :: ranks.count]
    own = [
        evaluate(model, *one, count, EVALUATION_SEED, report=progress.part_of(report, k, len(mine)))
        for k, one in enumerate(mine)
    ]
    found = ranks.gather(own)
    names = [split if len(stream.specs) == 1 else f"{spec.id} {split}" for spec, split in every]
    return {name: found[k % ranks.count][k // ranks.count] for k, name in enumerate(names)}


def shown(found: Mapping[str, Evaluation], rate: Callable[[Evaluation], str]) -> str:
    """Return all rates as one line or, for several environments, their mean on test and a line for each."""
    lines: dict[str, list[str]] = {}
    for one in found.values():
        lines.setdefault(one.spec, []).append(f"{one.split} {rate(one)}")
    if len(lines) == 1:
        return ", ".join(*lines.values())
    return f"test {truth_on_test(found):.2%}, the mean of" + "".join(
        f"\n  {env}: {', '.join(rates)}" for env, rates in lines.items()
    )


def truth_on_test(found: Mapping[str, Evaluation]) -> float:
    """Return the mean truth rate on test over environments, or on train if no environment has a split named test."""
    rates = [one.truth_rate for one in found.values() if one.split == "test"]
    rates = rates or [one.truth_rate for one in found.values() if one.split == "train"]
    return sum(rates) / len(rates)
