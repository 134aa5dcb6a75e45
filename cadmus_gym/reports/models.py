"""A model's card as a page: what it is, how it was trained, how often it is right and where it errs.

``card.json`` holds every fact (see `cadmus_gym.transformer.checkpoint`); README.md beside it is a function of that file
and of config.json alone, so that a test finds a stale one. `benchmarks/evaluate.py` writes both.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import astuple
from pathlib import Path
from textwrap import fill
from typing import Any

from cadmus_gym.evaluation.completing import ids_of, rules_of, stages, trained_on
from cadmus_gym.evaluation.intervals import Tally, total
from cadmus_gym.evaluation.trained import is_outdated
from cadmus_gym.evaluation.truth import prompts_of
from cadmus_gym.language.notation import disassemble
from cadmus_gym.reports.markdown import markdown
from cadmus_gym.streams.spec import Spec
from cadmus_gym.streams.strata import CROSSED
from cadmus_gym.training.focus import AMONG
from cadmus_gym.transformer import model_files

PART_OF_TRAINING = ("train", "test")  # splits of the distribution that a model was trained on
OF_WRITTEN = {"fit_rate": "fits", "overfit_rate": "overfit", "idle_use_rate": "idle use"}  # of an evaluation
MANY = 50  # so many wrong completions of a split are not listed
RARE = 30  # strata of fewer prompts are told together
MOST = 20  # strata of a kind on a page
OTHERS = "others"
REPOSITORY = "../../.."  # from a packaged model's folder


def read(folder: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the card and the config of a model's folder."""
    card, config = (Path(folder) / f"{name}.json" for name in ("card", "config"))
    return json.loads(card.read_text(encoding="utf-8")), json.loads(config.read_text(encoding="utf-8"))


def page(name: str, card: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """Return the text of a model's README.md, given its name, card and config."""
    parameters, specs = parameters_of(config), trained_on(card)
    grouped = config["num_key_value_heads"] != config["num_attention_heads"]
    groups = f" sharing {config['num_key_value_heads']} groups of keys and values" if grouped else ""
    example = example_of(specs)
    own, given = called_as(card, specs)
    order = "lowest digit first" if card["endian"] == "little" else "highest digit first"
    sections = [
        front_matter(),
        f"# {name}",
        f"A transformer of {parameters:,} parameters, trained to complete programs of "
        f"{', '.join(spec.id for spec in specs)}. A completion is right if the machine says so.",
        *outdated(card),
        f"- {config['num_hidden_layers']} layers of width {config['hidden_size']}, {config['num_attention_heads']} "
        f"heads{groups}, MLPs of {config['intermediate_size']}, {config['max_position_embeddings']} positions; "
        f"the Llama architecture, unchanged, with a vocabulary of {config['vocab_size']} tokens\n"
        f'- reads and writes numbers {order} (`endian = "{card["endian"]}"`); `cg.complete` takes care of that\n'
        f"{stored(card, config)}",
        "```python\n"
        "import cadmus_gym as cg\n\n"
        f'model = cg.load_model("{name}")\n'
        f'completion = cg.complete(model, ["{example}"]{own}).tokens[0]\n'
        "print(cg.disassemble(completion[completion > 0]))\n"
        "```",
        "A prompt is text in the notation for people. The completion has the form and the budget of the "
        f"environment that the model was trained on; `spec=` names {'which' if own else 'another one'}. On the command "
        "line: "
        f'`python -m cadmus_gym complete "{example}" --model {name}{given}`.',
        *limits(card),
        "## Training",
        *(training(stage, card) for stage in stages(card)),
        *recorded(name, card, example),
    ]
    if "metrics" in card:
        sections += ["## Truth", *truth(card, specs)]
    sections += [*reliability(card), *strata_tables(card, specs), *mistakes(card), *again(card)]
    kept = "---", "#", "|", "- ", "```", "!["
    wrapped = [s if s.startswith(kept) else fill(s, 120, break_on_hyphens=False) for s in sections]
    return "\n\n".join(wrapped) + "\n"


def called_as(card: Mapping[str, Any], specs: list[Spec]) -> tuple[str, str]:
    """Return how an environment is named in Python and on the command line, if the model's own leave it open."""
    try:
        rules_of(card)
    except ValueError:
        return f', spec="{specs[0].id}"', f" --spec {specs[0].id}"
    return "", ""


def example_of(specs: list[Spec]) -> str:
    """Return a prompt of what a model was trained on, as text."""
    if any(part.task == "arith" for spec in specs for part, _ in spec.parts):
        return "12 7 add"
    spec = specs[0]
    prompts, lengths = prompts_of(spec, "test" if "test" in spec.splits else next(iter(spec.splits)), 1)
    return disassemble(prompts[0][: lengths[0]])


def summary(cards: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]]) -> str:
    """Return a table of models side by side, given card and config of each: truth rates on test, and their cost."""
    known = {name: ids_of(trained_on(card)) for name, (card, _) in cards.items()}
    tests = {
        name: {metric["spec"]: metric for metric in card.get("metrics", []) if metric["split"] == "test"}
        for name, (card, _) in cards.items()
    }
    rows = []
    for id in sorted(set().union(*tests.values()), key=lambda id: (id == "Cadmus-Mix-v0", id)):
        row = [id]
        for name, found in tests.items():
            rate = f"{percent(found[id]['truth_rate'])} of {found[id]['count']:,}" if id in found else ""
            row.append(f"**{rate}**" if rate and id in known[name] else rate)
        rows.append(row)
    rows.append(["parameters", *(f"{parameters_of(config):,}" for _, config in cards.values())])
    hours = [sum(stage.get("cpu_seconds", 0.0) for stage in stages(card)) / 3600 for card, _ in cards.values()]
    rows.append(["core-hours of training", *(f"{one:.2f}" for one in hours)])
    columns = [f"[{name}](cadmus_gym/{model_files.PACKAGED.name}/{name}/README.md)" for name in cards]
    table = markdown(["true on `test`", *columns], rows)
    return f"{table}\n\nGreedy completions of so many prompts; bold where a model was trained on the environment."


def parameters_of(config: Mapping[str, Any]) -> int:
    """Return how many weights a config makes."""
    width, hidden, layers = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]
    shared = config["head_dim"] * config["num_key_value_heads"]
    layer = 2 * width * width + 2 * width * shared + 3 * width * hidden + 2 * width
    embeddings = config["vocab_size"] * width * (1 if config["tie_word_embeddings"] else 2)
    return int(layers * layer + embeddings + width)


def front_matter() -> str:
    """What Hugging Face reads of a model card."""
    tags = "".join(f"\n- {tag}" for tag in ("program-synthesis", "verifiable-rewards", "cadmus-gym"))
    return f"---\nlicense: mit\nlibrary_name: transformers\npipeline_tag: text-generation\ntags:{tags}\n---"


def stored(card: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    line = f"- weights stored in {card.get('stored', config['dtype'])}"
    if "rounding" not in card:
        return line
    changes = [f"{dtype} by {change['rms']:.1e}" for dtype, change in card["rounding"]["logits"].items()]
    return f"{line}, products in float32 (rounding changes logits, in root mean square: {', '.join(changes)})"


def training(stage: Mapping[str, Any], card: Mapping[str, Any]) -> str:
    """A table of how one training went."""
    settings = stage["settings"]
    env = settings["env"] if isinstance(settings["env"], str) else json.dumps(settings["env"])
    facts = {
        "command": f"`{stage['command']}`",
        "environment" if isinstance(settings["env"], str) else "environments": env,
        "overrides": f"`{json.dumps(settings['overrides'])}`" if settings.get("overrides") else None,
        "recipe": settings.get("recipe"),
        "seed": settings.get("seed"),
        "commit": stage["commit"],
        "hardware": machine(stage["hardware"]),
        "versions": f"Python {stage['python']}, PyTorch {stage['versions'].get('torch', 'unknown')}",
        "programs": shown(stage),
        "tokens": whole(stage.get("tokens")),
        "steps": whole(stage.get("step") or stage.get("timesteps")),
        "seconds": whole(stage.get("seconds")),
        "core-seconds": spent(stage, card),
        "excess loss": excess_of(stage),
    }
    return markdown(["", ""], [[key, str(value)] for key, value in facts.items() if value is not None])


def outdated(card: Mapping[str, Any]) -> list[str]:
    """Say so where the environments have changed since a model was trained."""
    if not is_outdated(card):
        return []
    return [
        "**The environments have changed since this model was trained.** Its training programs differ from those of "
        "`train` below. They may show facts that are held out now, and `test` is not the distribution that it was "
        "trained on."
    ]


def recorded(name: str, card: Mapping[str, Any], example: str) -> list[str]:
    """Say how to ask what a model was trained on, where its folder has a record of that."""
    if model_files.RECORD not in card.get("sha256", {}):
        return []
    return [
        f'`python -m cadmus_gym seen "{example}" --model {name}` counts how often it was trained on a program or a '
        f"prompt. The count is exact: `{model_files.RECORD}` records which programs were chosen."
    ]


def machine(hardware: Mapping[str, Any]) -> str:
    """Say on which machine something was measured."""
    features = ", ".join(hardware.get("features", ())) or "features not recorded"
    gpu = f", {hardware['gpu']}" if hardware.get("gpu") else ""
    return f"{hardware['cpu']} ({features}), {hardware['cores']} cores{gpu}"


def shown(stage: Mapping[str, Any]) -> str | None:
    """How many programs a training saw, and among how many of its stream they are."""
    programs, focus = stage.get("programs"), stage["settings"].get("focus")
    if not programs or not focus:
        return whole(programs)
    return f"{programs:,}, {focus:.0%} of them chosen by focus among the first {programs * AMONG:,} of the stream"


def whole(number: float | None) -> str | None:
    return None if number is None else f"{number:,.0f}"


def spent(stage: Mapping[str, Any], card: Mapping[str, Any]) -> str | None:
    """Core-seconds and what they come to at a price, where there was no GPU to be paid for."""
    if "cpu_seconds" not in stage:
        return None
    of = f", {stage['evaluation_cpu_seconds']:,.0f} of them evaluation" if "evaluation_cpu_seconds" in stage else ""
    price, cost = card.get("evaluated", {}).get("settings", {}).get("price"), ""
    if price is not None and "gpu" not in stage["hardware"]:
        dollars = stage["cpu_seconds"] / 3600 * price
        cost = f"; {dollars:.4f} dollars at {price:g} per core-hour (put in your own price)"
    return f"{stage['cpu_seconds']:,.0f}{of}{cost}"


def excess_of(stage: Mapping[str, Any]) -> str | None:
    """The excess loss at the end of a training; older cards have one figure for prompts and completions together."""
    if "loss" not in stage:
        return None
    if "excess_prompts" in stage:
        return (
            f"{stage['excess_prompts']:.4f} nats per token of prompts, {stage['excess_completions']:.4f} of completions"
        )
    if stage.get("floor") is None:
        return f"not known, as the entropy of the programs is not; the loss is {stage['loss']:.4f} nats per token"
    weight = stage["settings"]["prompt_weight"]
    return (
        f"{stage['loss'] - stage['floor']:.4f} nats per token, prompts weighted {weight:g}; "
        "prompts and completions apart were not recorded"
    )


def percent(share: float) -> str:
    return f"{share:.2%}"


def truth(card: Mapping[str, Any], specs: list[Spec]) -> list[str]:
    """Tables of the truth rate on every environment and split: what the model was trained on, then the others."""
    known, blocks = ids_of(specs), []
    for own in (True, False):
        rows = []
        metrics = [metric for metric in card["metrics"] if (metric["spec"] in known) == own]
        written = any(metric.get(key) for metric in metrics for key in ("overfit_rate", "idle_use_rate"))
        for metric in metrics:
            split, (low, high) = metric["split"], metric["interval"]
            seen = "yes" if split in PART_OF_TRAINING else "no"
            loopholes = percent(metric["loophole_rate"]) if metric["loophole_rate"] else ""
            counts = [f"{metric[key]:,}" for key in ("count", "problems")]
            row = [metric["spec"], split, *([seen] if own else []), *counts]
            row += [percent(metric["truth_rate"]), f"{percent(low)} to {percent(high)}", loopholes]
            rows.append(row + [percent(metric[key]) if metric.get(key) else "" for key in OF_WRITTEN if written])
        if rows:
            columns = ["environment", "split", *(["trained distribution"] if own else []), "prompts", "problems"]
            blocks.append("What it was trained on:" if own else "Other environments:")
            more = OF_WRITTEN.values() if written else ()
            blocks.append(markdown([*columns, "true", "95 % interval", "loopholes", *more], rows))
    how = (
        "Truth rate of greedy completions under the form and the budget of each environment. The 95 % intervals count "
        "distinct problems, not prompts (see `cadmus_gym.evaluation.intervals`). `test` shares no problem with "
        "`train`; "
        "other splits leave the training distribution on purpose."
    )
    if any(metric.get("overfit_rate") for metric in card["metrics"]):
        how += (
            " Where there are hidden cases, a program is true if it is right on these too; it fits if it is right on "
            "the cases shown, and is overfit if on these alone. Idle use is the share of the programs that fit which "
            "meet a directive `use` with words that do nothing."
        )
    if any(metric["spec"] == "Cadmus-Open-v0" for metric in card["metrics"]):
        how += (
            " Cadmus-Open-v0 has the prompts of Cadmus-Arith-v0 and no mask, so it shows whether the model "
            "keeps to the "
            "form by itself."
        )
    if card.get("left_out"):
        needed = ", ".join(f"{id} ({positions})" for id, positions in card["left_out"].items())
        blocks.append(f"Left out, because they need more positions than the model has: {needed}.")
    return [how, *blocks]


def limits(card: Mapping[str, Any]) -> list[str]:
    """Where the model fails: a sentence and a table for what was changed, and the picture."""
    found = card.get("limits", {})
    said, rows = [], []
    for id, axes in found.get("axes", {}).items():
        for axis, values in axes.items():
            said.append(failing(id, axis, values))
            for value, one in values.items():
                counts, trained = Tally(*one["counts"]), "yes" if one["trained"] else "no"
                row = [id, axis, value, trained, f"{counts.count:,}", percent(counts.rate)]
                wrong = "" if one["said_wrong"] is None else percent(one["said_wrong"])
                rows.append([*row, " to ".join(map(percent, counts.interval)), percent(one["said"]), wrong])
    if not rows:
        return []
    how = (
        "One thing is changed at a time; everything else stays as in training. Prompts of a kind that training shows "
        "are from the split `test`. The probability is that of the whole greedy completion: if it is high and few "
        "completions are true, the model does not know that it fails."
    )
    picture = [f"![Limits]({REPOSITORY}/{found['picture']})"] if "picture" in found else []
    columns = ["environment", "changed", "to", "in training", "prompts", "true", "95 % interval"]
    table = markdown([*columns, "mean probability", "mean, if wrong"], rows)
    sentences = ["\n".join(f"- {one}" for one in said if one)] if any(said) else []
    return ["## Limits", *sentences, how, *picture, table]


def failing(id: str, axis: str, values: Mapping[str, Any]) -> str:
    """Return a sentence on the first value past those shown in training; empty where there is none."""
    names = list(values)
    shown = [k for k, name in enumerate(names) if values[name]["trained"]]
    past = range(max(shown, default=-1) + 1, len(names))
    if not shown or not past:
        return ""
    last, first = (values[names[k]] for k in (shown[-1], past[0]))
    inside, outside = (percent(Tally(*one["counts"]).rate) for one in (last, first))
    return (
        f"{id}, {axis}: {inside} true with {names[shown[-1]]}, the last value shown in training; {outside} with "
        f"{names[past[0]]}, where the model gives its completions a mean probability of {percent(first['said'])}."
    )


def reliability(card: Mapping[str, Any]) -> list[str]:
    """The probability the model gives its completions, against the share that is true, on splits of what it was
    trained on."""
    found = card.get("reliability", {})
    rows = []
    for id, splits in found.get("splits", {}).items():
        for split, of_split in splits.items():
            known, counts = "yes" if split in PART_OF_TRAINING else "no", Tally(*of_split["counts"])
            row = [id, split, known, f"{counts.count:,}", percent(of_split["said"]), percent(counts.rate)]
            rows.append([*row, " to ".join(map(percent, counts.interval))])
    if not rows:
        return []
    how = (
        "The probability of a whole greedy completion, under the mask of the form, against the share of "
        "completions that "
        "are true. Outside the training distribution the probability means little; the command `complete` says when a "
        "prompt is outside. Completions are grouped by probability; `card.json` has all groups."
    )
    columns = ["environment", "split", "trained distribution", "prompts", "mean probability", "true", "95 % interval"]
    picture = [f"![Reliability]({REPOSITORY}/{found['picture']})"] if "picture" in found else []
    return ["## Reliability", how, *picture, markdown(columns, rows)]


def strata_tables(card: Mapping[str, Any], specs: list[Spec]) -> list[str]:
    """A table for each environment trained on: the truth rate of its test split by stratum."""
    blocks = []
    for spec in specs:
        found = card.get("strata", {}).get(spec.id, {}).get("test")
        if not found:
            continue
        rows = []
        if CROSSED in found:
            blocks += crossed(spec.id, found[CROSSED])
        for stratum, counts in found.items():
            if stratum == CROSSED:
                continue
            for label, row in shortened(counts).items():
                one = Tally(*row)
                cells = [stratum, f"`{label}`" if label != OTHERS else label]
                cells += [f"{number:,}" for number in (one.count, one.problems, one.count - one.true)]
                rows.append([*cells, percent(one.rate), " to ".join(map(percent, one.interval))])
        blocks.append(markdown([spec.id, "", "prompts", "problems", "wrong", "true", "95 % interval"], rows))
    if not blocks:
        return []
    told = (
        "Errors on the test split of its own environment, by properties of the prompt (see "
        "`cadmus_gym.streams.strata`). "
        f"Groups of fewer than {RARE} prompts, and those after the first {MOST}, share one row. `card.json` "
        f"also has the "
        "splits outside the training distribution and the parts of mixtures."
    )
    pictures = {"Truth rate by operands": card.get("picture"), "Errors by stratum": card.get("errors")}
    pictures["Training"] = card.get("curves")
    seen = [f"![{title}]({REPOSITORY}/{path})" for title, path in pictures.items() if path]
    return ["## Where it errs", told, *seen, *blocks]


def crossed(id: str, counts: Mapping[str, list[int]]) -> list[str]:
    """A table of the truth rate by operations, in rows, and held-out facts, in columns."""
    pairs = {tuple(map(int, label.split(", "))): Tally(*row) for label, row in counts.items() if label != OTHERS}
    facts = sorted({n for _, n in pairs})
    rows = [
        [str(operations), *(f"{percent(one.rate)} of {one.count:,}" if one else "" for one in of)]
        for operations in sorted({k for k, _ in pairs})
        for of in [[pairs.get((operations, n)) for n in facts]]
    ]
    columns = [f"{n} held-out fact{'s' * (n != 1)}" for n in facts]
    return [markdown([f"{id}: operations", *columns], rows)]


def shortened(counts: Mapping[str, list[int]]) -> dict[str, list[int]]:
    """Return tallies by label with those past the first `MOST` summed up as others."""
    first = {label: row for label, row in [*counts.items()][:MOST] if label != OTHERS}
    rest = (
        total(Tally(*row) for label, row in counts.items() if label not in first) if len(first) < len(counts) else None
    )
    return first | ({OTHERS: list(astuple(rest))} if rest else {})


def mistakes(card: Mapping[str, Any]) -> list[str]:
    """Tables of the wrong completions of each split of the trained distribution that has few."""
    blocks = []
    for listed in card.get("mistakes", []):
        title = f"{listed['spec']} {listed['split']}"
        if listed["wrong"] >= MANY:
            blocks.append(f"{title}: {listed['wrong']:,} of {listed['count']:,} wrong, too many to list.")
            continue
        blocks.append(f"{title}: {listed['wrong']:,} of {listed['count']:,} wrong.")
        if listed["wrong"]:
            cells = [[f"`{one[key]}`" for key in ("prompt", "completion", "answer")] for one in listed["completions"]]
            blocks.append(markdown(["prompt", "completion", "right"], cells))
    return ["## Mistakes", *blocks] if blocks else []


def again(card: Mapping[str, Any]) -> list[str]:
    """How the figures were made."""
    made = card.get("evaluated")
    if made is None:
        return []
    settings = made["settings"]
    seeds = (
        f"{settings['seeds']} seeds from {settings['seed']} on" if settings["seeds"] > 1 else f"seed {settings['seed']}"
    )
    alone = card.get("reliability", {}).get("evaluated", {}).get("command")
    return [
        "## How these figures were made",
        f"`{made['command']}`"
        f"{f', and for reliability `{alone}`' if alone not in (None, made['command']) else ''}: commit "
        f"{made['commit']}, "
        f"{machine(made['hardware'])}, PyTorch {made['versions'].get('torch', 'unknown')}, prompts of {seeds}. "
        "`python benchmarks/evaluate.py --check` measures them again and compares.",
    ]
