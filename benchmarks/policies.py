"""Measure what can be achieved without solving the problem: fixed policies on every environment and split.

    python benchmarks/policies.py

The policies are the best constant completion, a copy of a literal in the prompt, a table from the last three words of
prompts in `train`, uniformly random legal tokens, and shortcuts that a careless form would allow. A score means
something only above theirs. Tests hold them below 5 % where the answer is a number or a program (12 % if the prompt
gives its beginning) and below 55 % where it is a truth value; a free form has no ceiling.

For each environment a second table has the share of prompts that are answered right while one construct of the
language is ignored. The construct that the environment is named after is bold; tests hold it at or below 10 %, or 55 %
where the answer is a truth value. Writes Markdown and JSON.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

from cadmus_gym import SPECS, load_spec
from cadmus_gym.evaluation.baselines import best_constant, fixed_policies, play, random_legal
from cadmus_gym.evaluation.constructs import ignored, named_of
from cadmus_gym.evaluation.truth import EVALUATION_SEED, judge_completions, prompts_of
from cadmus_gym.files import check_output
from cadmus_gym.language.notation import disassemble
from cadmus_gym.reports.markdown import markdown
from cadmus_gym.streams.spec import Spec
from cadmus_gym.training.provenance import recipe

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Args:
    """What can be had without solving the problem."""

    count: int = 10_000  # prompts per split
    fitted: int = 1_000_000  # programs of train from which the table by last words is made
    seed: int = EVALUATION_SEED
    output: Path = HERE / "results" / "policies.md"


IGNORED = (
    "The share of the same prompts that are answered right while something is ignored; bold is what the environment is "
    "named after. The cards in envs/cards say what each name means."
)


def table_of(spec: Spec, shares: dict[str, dict[str, float]]) -> str:
    """Return a table of the constructs ignored, by split."""
    named = named_of(spec)
    rows = [
        [f"**{name}**" if name in named else name, *(f"{share:.2%}" for share in of.values())]
        for name, of in shares.items()
    ]
    return markdown([spec.id, *spec.splits], rows)


def main(args: Args) -> None:
    for path in (args.output, args.output.with_suffix(".json")):
        check_output(path)
    rows: list[dict[str, str]] = []
    needed: dict[str, dict[str, dict[str, float]]] = {}
    for id in SPECS:
        spec = load_spec(id)
        for split in spec.splits:
            prompts, lengths = prompts_of(spec, split, args.count, args.seed)
            rates = {}
            for name, policy in fixed_policies(spec, split, fitted=args.fitted).items():
                completions = [policy(prompt[:length]) for prompt, length in zip(prompts, lengths, strict=True)]
                rates["constant" if name.startswith("constant") else name] = float(
                    play(spec, split, completions, args.seed).mean()
                )
            programs, lengths = random_legal(spec, split, args.count, args.seed)
            rates["random legal"] = judge_completions(spec, split, args.seed, programs, lengths).truth_rate
            constant = f"`{disassemble(best_constant(spec, split))}`"
            cells = {"environment": id, "split": split, "best constant": constant}
            rows.append(cells | {name: f"{rate:.2%}" for name, rate in rates.items()})
            print(f"{id} {split}: best of them {max(rates.values()):.2%}", flush=True)
        if not spec.mixture and not spec.family.written:
            needed[id] = ignored(spec, args.count, args.seed)
    made = recipe(args)
    columns = list(dict.fromkeys(column for row in rows for column in row))  # `train` has no table of itself
    text = markdown(columns, [[row.get(column, "") for column in columns] for row in rows])
    note = f"{args.count} prompts per split, seed {args.seed}; commit {made['commit']}: `{made['command']}`"
    text = f"# Policies that know nothing\n\nTruth rate of {note}\n\n{text}\n\n# Constructs ignored\n\n{IGNORED}"
    text += "".join(f"\n\n{table_of(load_spec(id), shares)}" for id, shares in needed.items())
    args.output.write_text(f"{text}\n")
    found = {"recipe": made, "rows": rows, "ignored": needed}
    args.output.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")
    print(f"\n{text}\n\nwritten to {args.output}")


if __name__ == "__main__":
    try:
        main(tyro.cli(Args, description=__doc__))
    except (ValueError, OSError) as error:
        sys.exit(f"policies.py: {error}")
