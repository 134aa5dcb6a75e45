"""How well each policy completes programs: one row a policy, one column a split.

    python benchmarks/table.py --env Cadmus-Arith-v0 --pretrained runs/pico-arith/model --ppo runs/ppo/model

Truth rate with its 95 % Wilson interval over the first prompts of a seed that no training uses, and beside it the share
of completions that are loopholes. `random` draws uniformly among the tokens the form allows. `search` tries
completions, shortest first, and asks the machine which is true: no policy in an environment may do that, it shows what
trying alone buys. Models are greedy. Prints Markdown, and writes the rows with the recipe as JSON.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "0")  # threads that wait sleep, see pretrain/train.py

import torch
import tyro

from cadmus_gym import Evaluation, evaluate, load_model, load_spec
from cadmus_gym.evaluate import EVALUATION_SEED, judge_completions, loss_above_floor
from cadmus_gym.policies import random_legal, search
from cadmus_gym.recipe import inserted, markdown, recipe

HERE = Path(__file__).resolve().parent
README = HERE.parent / "README.md"
MARKER = "<!-- table -->"


@dataclass(frozen=True)
class Args:
    """How well each policy completes programs."""

    env: str = "Cadmus-Arith-v0"  # a registered id or the path of a .toml file
    pretrained: Path | None = None  # folder of a model
    half: Path | None = None  # folder of a model whose pretraining was stopped halfway: where PPO starts
    ppo: Path | None = None  # folder of a model fine-tuned by agents/ppo.py
    count: int = 1000  # prompts for each split
    seed: int = EVALUATION_SEED  # of the prompts
    budget: int = 1000  # completions that search may try
    threads: int = 2
    output: Path = HERE / "results" / "table.json"
    readme: bool = False  # write the table into README.md as well


def cell(result: Evaluation) -> str:
    low, high = result.interval
    loopholes = "" if result.loophole_rate == 0 else f", loopholes {result.loophole_rate:.2%}"
    return f"{result.truth_rate:.2%} [{low:.2%}, {high:.2%}]{loopholes}"


def main(args: Args) -> None:
    torch.set_num_threads(args.threads)
    spec = load_spec(args.env)
    models = {"pretrained": args.pretrained, "stopped halfway": args.half, "PPO from there": args.ppo}
    results: dict[str, list[Evaluation]] = {"random": [], f"search, {args.budget} tries": []}
    for split in spec.splits:
        tries = (
            random_legal(spec, split, args.count, args.seed),
            search(spec, split, args.count, args.budget, args.seed),
        )
        for row, (programs, lengths) in zip(results.values(), tries, strict=True):
            row.append(judge_completions(spec, split, args.seed, programs, lengths))
    above: dict[str, tuple[float, float]] = {}
    for name, folder in models.items():
        if folder is not None:
            model = load_model(folder)
            label = f"{name}, {sum(p.numel() for p in model.parameters()) / 1e6:.2f}M"
            above[label] = loss_above_floor(model, spec, "train", args.count, args.seed)
            results[label] = [evaluate(model, spec, split, args.count, args.seed) for split in spec.splits]

    made = recipe(args)
    made["digests"] = spec.digests()
    rows = []
    for name, row in results.items():
        floor = f"{above[name][0]:.3f} ± {1.96 * above[name][1]:.3f}" if name in above else ""
        rows.append([name, *(cell(result) for result in row), floor])
    table = markdown([spec.id, *spec.splits, "loss above floor"], rows)
    note = (
        f"Truth rate, 95 % interval, {args.count} prompts a split, seed {args.seed}; commit {made['commit']}, "
        f"{made['hardware']['cpu']}, {made['hardware']['cores']} cores. No loopholes where none are "
        "named. Loss above floor: nats a token of the programs of train, beyond the entropy that the generator leaves."
    )
    print(f"\n{table}\n\n{note}")
    args.output.parent.mkdir(parents=True, exist_ok=True)
    rows_json = {name: [asdict(result) for result in row] for name, row in results.items()}
    args.output.write_text(json.dumps({"recipe": made, "rows": rows_json, "above_floor": above}, indent=1) + "\n")
    print(f"written to {args.output}")
    if args.readme:
        README.write_text(inserted(README.read_text(), MARKER, f"{table}\n\n{note}"))
        print(f"written to {README}")


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
