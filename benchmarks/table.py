"""Measure how well each policy completes programs: one row for each policy, one column for each split.

    python benchmarks/table.py --env Cadmus-Arith-v0 --model pretrained=runs/pico-arith/model --model PPO=runs/ppo/model
    python benchmarks/table.py --model ours=nano --model "MLP policy=runs/mlp/agent.zip"

Cells have the truth rate with its 95 % interval, and the share of completions that are loopholes, on the first prompts
of seeds that no training uses. Intervals count distinct problems, not prompts (cadmus_gym/evaluation/intervals.py); the
last row has their number. Models are greedy. `random` draws uniformly among legal tokens. `search` tries completions,
shortest first, until the machine says that one is true. No policy in an environment may do that; the row shows what
trying alone achieves. A .zip is an agent of MaskablePPO. Loading one can run any code inside it, so load only your own.
Prints Markdown and writes the rows, with the command and the hardware, as JSON; progress goes to stderr.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "0")  # threads that wait sleep, see pretrain/train.py

import torch
import tyro

from cadmus_gym import Evaluation, Transformer, evaluate, load_model, load_spec
from cadmus_gym.evaluation.baselines import random_legal, search
from cadmus_gym.evaluation.excess import ExcessLoss, measure_excess_loss
from cadmus_gym.evaluation.truth import EVALUATION_SEED, judge_completions
from cadmus_gym.files import check_output
from cadmus_gym.progress import Report, countdown, part_of
from cadmus_gym.reports.results import demo
from cadmus_gym.streams.spec import Spec
from cadmus_gym.training.provenance import recipe

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Args:
    """How well each policy completes programs."""

    env: str = "Cadmus-Arith-v0"  # a registered id or the path of a .toml file
    # NAME=FOLDER, one row each: a folder of a model, the name of one in the package, or the .zip of an agent
    model: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    count: int = 1000  # prompts for each split and seed
    seed: int = EVALUATION_SEED  # first seed of the prompts
    seeds: int = 1  # number of consecutive seeds
    budget: int = 1000  # completions that search may try
    threads: int = 2
    output: Path = HERE / "results" / "table.json"


def load(named: tuple[str, ...], fixed: list[str]) -> dict[str, Any]:
    """Return models and agents by the names of their rows.

    Raises ValueError for what is not NAME=FOLDER or a name used twice, and what loading them raises."""
    found: dict[str, Any] = {}
    for one in named:
        name, _, folder = one.partition("=")
        if not name or not folder:
            raise ValueError(f"--model {one!r}: give NAME=FOLDER, such as pretrained=runs/nano/model")
        if name in found or name in fixed:
            raise ValueError(f"--model {one!r}: there is a row {name!r} already; give another name")
        found[name] = load_agent(Path(folder)) if folder.endswith(".zip") else load_model(folder)
    return found


def load_agent(path: Path) -> Any:
    """Return the agent of MaskablePPO in a .zip."""
    if not path.is_file():
        raise FileNotFoundError(f"no agent {str(path)!r}: no such file")
    try:
        from sb3_contrib import MaskablePPO
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"agents need {error.name}: pip install '.[rl]'") from None
    return MaskablePPO.load(path, device="cpu")


def size_of(model: Any) -> str:
    weights = model if isinstance(model, Transformer) else model.policy
    return f"{sum(p.numel() for p in weights.parameters()) / 1e6:.2f}M"


def row_of(name: str, spec: Spec, evaluated: Callable[[str, Report | None], Evaluation]) -> list[Evaluation]:
    """Evaluate every split, showing progress."""
    report, begun, splits = countdown(f"steps, {name}"), time.monotonic(), list(spec.splits)
    row = [evaluated(split, part_of(report, k, len(splits))) for k, split in enumerate(splits)]
    print(f"{name}: {len(splits)} splits in {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
    return row


def main(args: Args) -> int:
    names = "random", f"search, {args.budget} tries"
    torch.set_num_threads(args.threads)
    try:  # find mistakes before the work
        if args.count < 2:
            raise ValueError(f"--count {args.count}; allowed: 2 or more")
        if args.seeds < 1:
            raise ValueError(f"--seeds {args.seeds}; allowed: 1 or more")
        spec, models = load_spec(args.env), load(args.model, [*names])
        needed = 1 + spec.prompt_room + spec.episode.max_tokens
        for name, model in models.items():
            if isinstance(model, Transformer) and model.config.context < needed:
                raise ValueError(f"{name} has {model.config.context} positions; {spec.id} takes {needed}")
            evaluate(model, spec, next(iter(spec.splits)), 1, args.seed)
        check_output(args.output)
    except (ValueError, FloatingPointError, ModuleNotFoundError, OSError) as error:
        print(f"table.py: {error}", file=sys.stderr)
        return 2

    def judged(split: str, found: Any, report: Report | None) -> Evaluation:
        programs, lengths = found
        return judge_completions(spec, split, args.seed, programs, lengths, report=report, seeds=args.seeds)

    def drawn(split: str, report: Report | None) -> Evaluation:
        return judged(split, random_legal(spec, split, args.count, args.seed, args.seeds), report)

    def searched(split: str, report: Report | None) -> Evaluation:
        found = search(spec, split, args.count, args.budget, args.seed, part_of(report, 0, 2), seeds=args.seeds)
        return judged(split, found, part_of(report, 1, 2))

    rows = {name: row_of(name, spec, way) for name, way in zip(names, (drawn, searched), strict=True)}
    excess: dict[str, ExcessLoss] = {}
    for name, model in models.items():

        def evaluated(split: str, report: Report | None, model: Any = model) -> Evaluation:
            return evaluate(model, spec, split, args.count, args.seed, seeds=args.seeds, report=report)

        label = f"{name}, {size_of(model)}"
        rows[label] = row_of(label, spec, evaluated)
        if isinstance(model, Transformer):
            print(f"{label}: loss of {args.count} programs", file=sys.stderr, flush=True)
            report = countdown(f"programs, loss of {name}")
            excess[label] = measure_excess_loss(model, spec, "train", args.count, args.seed, report)

    made = recipe(args)
    made["digests"] = spec.digests()
    content = {"recipe": made, "rows": {name: [asdict(one) for one in row] for name, row in rows.items()}}
    content["excess"] = {name: asdict(one) for name, one in excess.items()}
    print(f"\n{demo(content)}")
    args.output.write_text(json.dumps(content, indent=1) + "\n")
    print(f"written to {args.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Args, description=__doc__)))
