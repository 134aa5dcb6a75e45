"""What can be had without solving the problem: fixed policies on every environment and split.

    python benchmarks/policies.py

The best constant completion, copying a literal of the prompt, tokens drawn uniformly among those allowed, and shortcuts
that a careless form would let through. A score means something only above these rows. The tests hold them below 5 %
where the answer is a number, 55 % where it is a truth value; a free form has no ceiling. Writes Markdown and JSON.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

from cadmus_gym import SPECS, load_spec
from cadmus_gym.evaluate import EVALUATION_SEED, judge_completions, prompts_of
from cadmus_gym.files import check_output
from cadmus_gym.isa import disassemble
from cadmus_gym.policies import best_constant, fixed_policies, play, random_legal
from cadmus_gym.recipe import markdown, recipe

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Args:
    """What can be had without solving the problem."""

    count: int = 10_000  # prompts a split
    seed: int = EVALUATION_SEED
    output: Path = HERE / "results" / "policies.md"


def main(args: Args) -> None:
    for path in (args.output, args.output.with_suffix(".json")):
        check_output(path)
    columns: list[str] = []
    rows: list[list[str]] = []
    for id in SPECS:
        spec = load_spec(id)
        for split in spec.splits:
            prompts, lengths = prompts_of(spec, split, args.count, args.seed)
            rates = {}
            for name, policy in fixed_policies(spec, split).items():
                completions = [policy(prompt[:length]) for prompt, length in zip(prompts, lengths, strict=True)]
                rates["constant" if name.startswith("constant") else name] = float(
                    play(spec, split, completions, args.seed).mean()
                )
            programs, lengths = random_legal(spec, split, args.count, args.seed)
            rates["random legal"] = judge_completions(spec, split, args.seed, programs, lengths).truth_rate
            columns = ["environment", "split", "best constant", *rates]
            constant = disassemble(best_constant(spec, split))
            rows.append([id, split, f"`{constant}`", *(f"{rate:.2%}" for rate in rates.values())])
            print(f"{id} {split}: best of them {max(rates.values()):.2%}", flush=True)
    made = recipe(args)
    text = markdown(columns, rows)
    note = f"Truth rate of {args.count} prompts a split, seed {args.seed}; commit {made['commit']}: `{made['command']}`"
    args.output.write_text(f"# Policies that know nothing\n\n{note}\n\n{text}\n")
    table = [dict(zip(columns, row, strict=True)) for row in rows]
    args.output.with_suffix(".json").write_text(json.dumps({"recipe": made, "rows": table}, indent=1) + "\n")
    print(f"\n{text}\n\nwritten to {args.output}")


if __name__ == "__main__":
    try:
        main(tyro.cli(Args, description=__doc__))
    except (ValueError, OSError) as error:
        sys.exit(f"policies.py: {error}")
