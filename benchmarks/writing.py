"""Compare ways to write a program on the same prompts: what can be known, what is found by search, what a model writes.

    python benchmarks/writing.py --models nano-write
    python benchmarks/writing.py --specs Cadmus-Countdown-v0 --split four

The optimal decision and a draw from the posterior show what can be known from the cases of a prompt, for environments
whose functions can be enumerated. Searches try candidates until one is true on the cases shown: all bodies, shortest
first, extending each state only once; bodies that the generator writes, which are draws from the prior, held out or
not; and samples of a model, whose greedy completion has a row of its own. All searches have the same budgets of
candidates and of CPU seconds; a method that wins by one may lose by the other. A program fits if it is true on the
cases shown, and generalises if it is true on the hidden ones too, or if there are none.

Writes a Markdown table and JSON.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "0")  # threads that wait sleep, see pretrain/train.py

import numpy as np
import torch
import tyro
from numpy.typing import NDArray

from cadmus_gym import Stream, evaluate, load_model, load_spec
from cadmus_gym.environments.playing import put
from cadmus_gym.evaluation.enumeration import WORDS, Enumeration
from cadmus_gym.evaluation.posteriors import optimal_decision, posterior_sampler
from cadmus_gym.evaluation.search import BestOf, Draws, Method, Sampler, solve_rates
from cadmus_gym.evaluation.truth import EVALUATION_SEED, earning, prompts_of
from cadmus_gym.files import check_output
from cadmus_gym.language import isa as op
from cadmus_gym.language.isa import Tokens
from cadmus_gym.progress import countdown
from cadmus_gym.reports.markdown import markdown
from cadmus_gym.streams.spec import Spec, Split
from cadmus_gym.training.provenance import recipe

HERE = Path(__file__).resolve().parent
PRIOR_SEED = 2 * EVALUATION_SEED  # of the training programs whose bodies are drawn
DRAWN = 1000  # bodies at a time


@dataclass(frozen=True)
class Args:
    """Ways to write a program, side by side."""

    specs: tuple[str, ...] = ("Cadmus-Induce-v0",)
    split: str = "test"
    count: int = 300  # prompts
    candidates: tuple[int, ...] = (1, 10, 100, 1000, 10_000)
    cpu_seconds: tuple[float, ...] = (0.1, 1.0)
    literals: int = 20  # the enumeration tries literals from 0 to this
    models: tuple[str, ...] = ()  # names or folders
    samples: int = 64  # of a model at a time
    seed: int = EVALUATION_SEED
    threads: int = 1
    output: Path = HERE / "results" / "writing.md"


def prior(spec: Spec) -> Sampler:
    """Return a sampler of the completions that the generator writes, including those held out."""
    whole = dataclasses.replace(spec, splits={"all": Split(parameters=spec.split("train").parameters)})
    stream = Stream(whole, "all", PRIOR_SEED)

    def sample(prompt: Tokens, number: int, seed: int) -> list[Tokens]:
        programs, lengths = stream.gather(np.full(number, seed), np.arange(number))
        return [row[size:][row[size:] != op.PAD] for row, size in zip(programs, lengths, strict=True)]

    return sample


def methods(spec: Spec, args: Args) -> dict[str, Method]:
    """Return the searches for a spec, by name."""
    found: dict[str, Method] = {}
    if spec.form == "words":
        words = [word for word in spec.words if word in WORDS]
        literals = range(args.literals + 1) if "0" in spec.words else ()
        found["all bodies, shortest first"] = Enumeration(words, literals)
    found["draws from the prior"] = Draws(prior(spec), DRAWN)
    for name in args.models:
        found[f"samples of {name}"] = BestOf(load_model(name), args.samples, spec=spec)
    return found


def judged(
    spec: Spec, args: Args, prompts: Tokens, lengths: NDArray[np.int32], found: list[Tokens | None]
) -> NDArray[np.bool_]:
    """Return which completions earn the whole reward; a missing one does not."""
    nothing = np.zeros(0, np.uint8)
    programs = put(spec, args.split, prompts, lengths, [nothing if one is None else one for one in found])
    fits = np.array([one is not None for one in found])
    earned: NDArray[np.bool_] = earning(spec, args.split, programs, fits, args.count, args.seed)[0] & fits
    return earned


def searched(spec: Spec, args: Args, name: str, method: Method) -> dict[str, Any]:
    """Search with a method for all prompts; return the shares that fit and that earn the reward, by budget."""
    prompts, lengths = prompts_of(spec, args.split, args.count, args.seed)
    given = [prompt[:size] for prompt, size in zip(prompts, lengths, strict=True)]
    rates = solve_rates(
        method,
        given,
        candidates=args.candidates,
        cpu_seconds=args.cpu_seconds,
        seed=args.seed,
        report=countdown(f"prompts of {spec.id}, {name}"),
    )
    earned = judged(spec, args, prompts, lengths, [one.found for one in rates.results])
    tried = np.array([one.candidates for one in rates.results])
    spent = np.array([one.cpu_seconds for one in rates.results])
    fits = np.array([one.fits for one in rates.results])

    def shares(within: NDArray[np.bool_]) -> dict[str, float]:
        return {"fits": float((fits & within).mean()), "earns": float((earned & within).mean())}

    return {
        "candidates": {str(most): shares(tried <= most) for most in args.candidates},
        "cpu_seconds": {str(most): shares(spent <= most) for most in args.cpu_seconds},
        "out_of_memory": rates.out_of_memory,
    }


def decided(spec: Spec, args: Args) -> dict[str, dict[str, float]]:
    """Return what policies earn by writing a single program for each prompt, without a search, by name."""
    found: dict[str, dict[str, float]] = {}

    def add(name: str, policy: Any) -> None:
        one = evaluate(policy, spec, args.split, args.count, args.seed)
        found[name] = {"fits": one.fit_rate, "earns": one.truth_rate}

    stream = Stream(spec, args.split)
    ways: dict[str, Callable[[], Any]] = {
        "the optimal decision": lambda: optimal_decision(stream),
        "a draw from the posterior": lambda: posterior_sampler(stream),
    }
    for name, way in ways.items():
        try:
            add(name, way())
        except ValueError as error:
            print(f"{spec.id}: no row for {name}: {error}", flush=True)
    for name in args.models:
        add(f"{name}, greedy", load_model(name))
    return found


def table_of(spec: Spec, args: Args, single: dict[str, Any], several: dict[str, Any]) -> str:
    """Return a table of one environment: shares that fit and, in brackets, that earn the reward."""

    def cell(shares: dict[str, float]) -> str:
        both = f"{shares['fits']:.1%}"
        return both if spec.reward != "hidden" else f"{both} ({shares['earns']:.1%})"

    budgets = [
        *(f"{most:,} candidate{'s' * (most > 1)}" for most in args.candidates),
        *(f"{most:g} s" for most in args.cpu_seconds),
    ]
    rows = [[name, cell(shares), *[""] * (len(budgets) - 1)] for name, shares in single.items()]
    for name, found in several.items():
        rows.append([name, *map(cell, found["candidates"].values()), *map(cell, found["cpu_seconds"].values())])
    return markdown([f"{spec.id} {args.split}", *budgets], rows)


def main(args: Args) -> None:
    torch.set_num_threads(args.threads)
    for path in (args.output, args.output.with_suffix(".json")):
        check_output(path)
    made, found, tables = recipe(args), {}, []
    for id in args.specs:
        spec = load_spec(id)
        single = decided(spec, args)
        several = {name: searched(spec, args, name, method) for name, method in methods(spec, args).items()}
        found[id] = {"decided": single, "searched": several}
        tables.append(table_of(spec, args, single, several))
        print(f"\n{tables[-1]}\n", flush=True)
    note = (
        f"Share of {args.count} prompts, seed {args.seed}, for which a true program is found; in brackets, the share "
        "for which it earns the reward. Searches stop at the first program that is true on the cases shown. CPU "
        f"seconds are those of one prompt. Commit {made['commit']}, {made['hardware']['cpu']}: `{made['command']}`"
    )
    text = f"# Ways to write a program\n\n{note}\n\n" + "\n\n".join(tables)
    args.output.write_text(f"{text}\n")
    args.output.with_suffix(".json").write_text(json.dumps({"recipe": made, "specs": found}, indent=1) + "\n")
    print(f"written to {args.output}")


if __name__ == "__main__":
    try:
        main(tyro.cli(Args, description=__doc__))
    except (ValueError, OSError) as error:
        sys.exit(f"writing.py: {error}")
