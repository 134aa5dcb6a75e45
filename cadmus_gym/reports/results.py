"""The project's results: `benchmarks/RESULTS.md`, and the table on the first screen of the README.

Every figure comes from a file that a benchmark wrote or from the card of a packaged model.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cadmus_gym.evaluation.completing import stages
from cadmus_gym.evaluation.trained import is_outdated
from cadmus_gym.reports.markdown import inserted, markdown
from cadmus_gym.reports.models import machine, parameters_of, percent, read, summary
from cadmus_gym.transformer import model_files

MARKER = "<!-- results -->"
SHOWN = {"nano-arith": "arithmetic", "nano": "eight tasks"}  # models in the README's table
# Figures as reported in the paper. Its cost is not measured here, and does not match the hardware that it names.
PAPER = [
    [
        "the paper's model, as the paper reports",
        "280 M",
        '80 million programs on eight H100s, "< $200"',
        "100 %, on the paper's tasks",
    ],
    ["GPT-5, as the paper reports", "", "", "95 %, on the paper's tasks"],
]
ENV = "Cadmus-Arith-v0"


def front(readme: str, results: Path, price: float = 0.05) -> str:
    """Return the README with an up-to-date table of results; ``price`` is in dollars per core-hour."""
    demo = _load(results / "table.json")
    random = next(one for one in demo["rows"]["random"] if one["split"] == "test")
    rows = [["random legal tokens", "", "", f"{percent(random['truth_rate'])} of {random['count']:,}"]]
    outdated = []
    for name, what in SHOWN.items():
        card, config = read(model_files.PACKAGED / name)
        found = next(one for one in card["metrics"] if one["spec"] == ENV and one["split"] == "test")
        hours = sum(stage.get("cpu_seconds", 0.0) for stage in stages(card)) / 3600
        cost = f"{hours:.1f} core-hours, {100 * hours * price:.0f} cents"
        label = f"[`{name}`](cadmus_gym/_models/{name}/README.md), trained on {what}"
        true = f"{percent(found['truth_rate'])} of {found['count']:,}"
        if is_outdated(card):
            outdated.append(f"`{name}`")
            true += " (see below)"
        rows.append([label, f"{parameters_of(config) / 1e6:.1f} M", cost, true])
    columns = ["completes arithmetic programs", "parameters", "training", "true on `test`"]
    note = (
        f"Both models come with the package. They were trained on a CPU; the cost is at {100 * price:g} cents per "
        "core-hour."
    )
    if outdated:
        verb = "was" if len(outdated) == 1 else "were"
        note += (
            f" {' and '.join(outdated)} {verb} trained before the environments changed: the training programs may "
            "contain what `test` holds out now."
        )
    return inserted(readme, MARKER, f"{markdown(columns, [*rows, *PAPER])}\n\n{note}")


def page(results: Path) -> str:
    """Return the page of all results."""
    models = {name: read(model_files.PACKAGED / name) for name in model_files.packaged_models()}
    return (
        "\n\n".join(
            [
                "# Results",
                "Written by `python benchmarks/report.py` from the files in [results](results) and the cards of the "
                "models in the package; do not edit it. [LOG.md](LOG.md) says how they were made, and what failed.",
                "## The models in the package",
                summary(models).replace("](cadmus_gym/", "](../cadmus_gym/"),
                "Each page begins with the limits of its model and says where it errs.",
                "## Pretraining and PPO: `make demo`",
                demo(_load(results / "table.json")),
                "## Model size",
                "![Excess loss and test errors against compute and core-seconds](results/scaling.png)",
                (results / "scaling.md").read_text(encoding="utf-8").strip(),
                "This study and the next one were run before facts were held out.",
                "## What each choice of a recipe is worth",
                (results / "factors.md").read_text(encoding="utf-8").strip(),
                "## Policies that know nothing",
                "Constants, copies, cheats, random tokens and a table of the last words of a prompt, on every "
                "environment and split, and the share of prompts that are answered right while a construct is "
                "ignored: [policies.md](results/policies.md).",
                "## Speed",
                speed(results),
            ]
        )
        + "\n"
    )


def demo(content: Mapping[str, Any]) -> str:
    """Return the table of the demo's models, and another of search, which uses the machine."""
    rows, parts = content["rows"], {"prompt": "excess loss of prompts", "completion": "of completions"}
    excess = content.get("excess", {})
    if "above_floor" in content:  # files of version 0.1.0 have one figure, of whole programs
        parts = {"whole": "excess loss"}
        excess = {name: {"whole": loss, "whole_error": error} for name, (loss, error) in content["above_floor"].items()}
    splits, spec = [one["split"] for one in rows["random"]], rows["random"][0]["spec"]
    policies = {name: row for name, row in rows.items() if not name.startswith("search")}
    lines = [[name, *map(cell, row), *excess_of(excess.get(name), parts)] for name, row in policies.items()]
    lines.append(["distinct problems", *(f"{one['problems']:,}" for one in rows["random"]), *excess_of(None, parts)])
    table = markdown([spec, *splits, *parts.values()], lines)
    searches = [[name, *map(cell, row)] for name, row in rows.items() if name.startswith("search")]
    made, first = content["recipe"], rows["random"][0]
    several = f"{first['seeds']} seeds from {first['seed']}" if first["seeds"] > 1 else f"seed {first['seed']}"
    note = (
        f"Truth rate of greedy completions with its 95 % interval, in which distinct problems count; "
        f"{first['count']:,} prompts per split, {several}; commit {made['commit']}, "
        f"{machine(made['hardware'])}. Excess loss: nats per token above the generator's entropy, on "
        f"{'whole ' if 'whole' in parts else ''}programs of train. `wide`, `long`, `large` and `pairs` leave the "
        "training distribution on purpose."
    )
    return "\n\n".join(
        [
            table,
            note,
            "For reference, a search that tries completions, shortest first, and asks the machine which is true. No "
            "policy may do that; it shows what trying alone is worth:",
            markdown([spec, *splits], searches),
        ]
    )


def cell(result: Mapping[str, Any]) -> str:
    low, high = result["interval"]
    loopholes = "" if result["loophole_rate"] == 0 else f", loopholes {result['loophole_rate']:.2%}"
    return f"{result['truth_rate']:.2%} [{low:.2%}, {high:.2%}]{loopholes}"


def excess_of(found: Mapping[str, float] | None, parts: Iterable[str]) -> list[str]:
    """Return a cell for each part of a model's excess loss, with its 95 % interval; empty cells if there is none."""
    return [f"{found[part]:.3g} ± {1.96 * found[f'{part}_error']:.2g}" if found else "" for part in parts]


def speed(results: Path) -> str:
    """Return tables of the package's speed, from the files that `make bench` wrote."""
    found, beside = _load(results / "speed.json"), _load(results / "transformer.json")
    latency = _load(results / "transformer-latency.json")
    dataset = found["dataset"][0]
    streams = [[one["id"], f"{one['programs / s']:,.0f}"] for one in found["streams"]]
    vectors = [
        [one["id"], f"{one['sub-environments']:,}", f"{one['native, steps / s']:,.0f}"]
        for one in found["environments, vector"]
        if one["id"] == ENV
    ]
    trained = [
        [
            one["ours"],
            f"{one['ours, tokens / core-s']:,.0f}",
            f"{one['ours / theirs']['median']:.2f}",
            f"{one['ours / their best']['median']:.2f}",
        ]
        for one in beside["training"]
    ]
    prompts = [
        [f"{one['prompts']}", *(f"{one[key]:.1f}" for key in ("ours / ms", "as a batch / ms", "theirs / ms"))]
        for one in latency["latency"]
    ]

    def made(content: Mapping[str, Any]) -> str:
        recipe = content["recipe"]
        return f"`{recipe['command']}`, commit {recipe['commit']}, {recipe['hardware']['cpu']}"

    return "\n\n".join(
        [
            f"{dataset['programs']:,} programs of {dataset['id']}, the size of the paper's dataset, are written and "
            f"judged in {dataset['seconds']:.0f} seconds on two cores ({made(found)}).",
            markdown(["stream", "programs per second, two cores"], streams),
            markdown(["vector environment", "sub-environments", "steps per second"], vectors),
            "A training step beside LlamaForCausalLM of Hugging Face, equal size, one thread; ratios of tokens per "
            f"core-second ({made(beside)}):",
            markdown(
                ["optimizer and type", "tokens per core-second", "ratio, same type", "ratio to their best"], trained
            ),
            f"Completing a few prompts of `nano-arith`, core-milliseconds ({made(latency)}):",
            markdown(["prompts", "compiled", "batched", "Hugging Face"], prompts),
        ]
    )


def _load(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content
