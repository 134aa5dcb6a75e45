"""How often the models that ship are right, on every environment and split, and where they err.

    python benchmarks/evaluate.py                                         every model in the package: its card and page
    python benchmarks/evaluate.py --models runs/nano/model --count 250    another one
    python benchmarks/evaluate.py --check                                 exits 1 where a card says something else
    python benchmarks/evaluate.py --sections reliability                  measures that alone; the other figures stay
    python benchmarks/evaluate.py --publish runs/nano/model --name nano   puts a run's model into the package

Completions are greedy, under the form and the budget of each environment. Of what a model was trained on, the parts of
a mixture included, the splits `train` and `test` have --count prompts of each of --seeds seeds, everything else
--elsewhere; Cadmus-Open-v0 too, whose form masks nothing: it tells whether a model keeps to the form by itself. Truth
rates by stratum are counted for what a model was trained on. Section "reliability" compares the probability that a
model gives to its completions with how many of them are true, on every split of what it was trained on. Section
"limits" changes one thing at a time, such as the number of operations or of digits, to where a model fails.

Figures go to `card.json` in the model's folder, beside the facts of its training, and from there to its README.md; the
picture of a model in the package to results/models. A published model is stored in bfloat16 or float16, whichever
changes its logits less.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

os.environ.setdefault("GOMP_SPINCOUNT", "0")  # threads that wait sleep, see pretrain/train.py

import numpy as np
import torch
import tyro

from cadmus_gym import Stream, load_model
from cadmus_gym.evaluation.completing import rules_of, trained_on
from cadmus_gym.evaluation.truth import (
    EVALUATION_SEED,
)
from cadmus_gym.files import check_output
from cadmus_gym.language import isa as op
from cadmus_gym.language.forms import reverse_digits
from cadmus_gym.reports import plots
from cadmus_gym.reports.measures import differences, limits, measure, operands, reliability, unreliable
from cadmus_gym.reports.models import (
    OTHERS,
    page,
    read,
    strata_tables,
)
from cadmus_gym.training.provenance import recipe
from cadmus_gym.transformer import checkpoint, model_files
from cadmus_gym.transformer.model import Transformer, with_bos

TOP = Path(__file__).resolve().parents[1]
PICTURES = TOP / "benchmarks" / "results" / "models"
MOST_BYTES = 8 * 2**20  # of a model in the package
ROUNDED = 512  # programs on which the change of logits by rounding is measured
STORED = {"bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Args:
    """How often models are right, and where they err."""

    models: tuple[str, ...] = ()  # names or folders; by default every model in the package
    count: int = 4096  # prompts, of each seed, of train and test of what a model was trained on
    elsewhere: int = 512  # prompts of every other split, of each seed; 0: none
    reliability: int = 512  # prompts of each split and seed on which probabilities are compared with truth
    limits: int = 256  # prompts of each seed for each value of what is changed
    sections: tuple[Literal["truth", "reliability", "limits"], ...] = ("truth", "reliability", "limits")  # measured
    seed: int = EVALUATION_SEED  # the first one of the prompts
    seeds: int = 4  # how many of them, one after another; their prompts are one evaluation
    price: float = 0.05  # dollars a core-hour, in the pages: put in your own
    pairs: int = 16  # of operands for each square of the picture of a model of arithmetic
    threads: int = 2
    redraw: bool = False  # draw the pictures and write the page from what the card holds, and measure nothing
    check: bool = False  # compute again what the cards tell, by their counts and seeds, and write nothing
    tolerance: int = 0  # completions of a split by which --check lets a count differ: other machines round otherwise
    publish: str | None = None  # folder of a model to be put into the package, and nothing else
    name: str | None = None  # of the published model


def publish(source: str, name: str) -> Path:
    """Write a model into the package, rounded to the type of 16 bits that changes its logits less; return its folder.

    Raises ValueError for a name that is no plain one or a model that takes more than `MOST_BYTES`.
    """
    if Path(name).name != name or not name.replace("-", "").isalnum():
        raise ValueError(f"name = {name!r}: give letters, digits and -")
    model = load_model(source)
    weights = 2 * sum(p.numel() for p in model.parameters())
    if weights > MOST_BYTES:
        raise ValueError(f"{source} takes {weights / 2**20:.1f} MiB in 16 bits; allowed: {MOST_BYTES / 2**20:.0f} MiB")
    changes = {dtype: change_of_logits(model, STORED[dtype]) for dtype in STORED}
    best = min(changes, key=lambda dtype: changes[dtype]["rms"])
    finite = {dtype: change for dtype, change in changes.items() if math.isfinite(change["rms"])}
    card = {**model.card, "rounding": {"dtype": best, "programs": ROUNDED, "logits": finite}}
    folder = model_files.PACKAGED / name
    checkpoint.save_model(model, folder, card, STORED[best], max_tokens=rules_of(card).max_tokens)
    write_page(folder)
    return folder


@torch.inference_mode()
def change_of_logits(model: Transformer, dtype: torch.dtype) -> dict[str, float]:
    """Return by how much rounding the weights changes logits over programs of the training stream, in float32."""
    programs, _ = Stream(trained_on(model.card)[0], "train", EVALUATION_SEED).batch(0, ROUNDED)
    shown = torch.from_numpy(reverse_digits(programs) if model.endian == "little" else programs)
    tokens = with_bos(shown)[:, :-1]
    rounded = Transformer(model.config)
    rounded.load_state_dict({name: weight.to(dtype).float() for name, weight in model.state_dict().items()})
    changes: list[torch.Tensor] = []
    for start in range(0, ROUNDED, 64):
        part = slice(start, start + 64)
        changes.append((model(tokens[part]) - rounded(tokens[part]))[shown[part] != op.PAD])
    change = torch.cat(changes)  # (all tokens, 65)
    rms, largest = (float(x) for x in (change.square().mean().sqrt(), change.abs().max()))
    return {"rms": rms if math.isfinite(rms) else math.inf, "largest": largest}


def name_of(folder: Path) -> str:
    """By what a model is loaded: that of a folder is told from beside it."""
    return folder.name if folder.parent == model_files.PACKAGED else f"./{folder.name}"


def write_page(folder: Path) -> None:
    text = page(name_of(folder), *read(folder))
    (folder / checkpoint.README).write_text(text, encoding="utf-8")


def check(folder: Path, sections: Collection[str], tolerance: int) -> list[str]:
    """Return in what a model's card and page are not what is found now."""
    model, card = load_model(folder), read(folder)[0]
    made: dict[str, Any] = {"truth": card.get("evaluated")}
    made |= {name: card.get(name, {}).get("evaluated") for name in ("reliability", "limits")}
    if missing := [section for section in sections if made[section] is None]:
        return [f"the card has no evaluation of {missing[0]}; run without --check"]
    found = []
    for section in sections:
        settings = made[section]["settings"]
        torch.set_num_threads(settings["threads"])  # other numbers may round otherwise
        if section == "truth":
            now = measure(model, settings["count"], settings["elsewhere"], settings["seed"], settings["seeds"])
            found += differences(card, now, tolerance)
        elif section == "limits":
            before = card["limits"]["axes"]
            now = limits(model, settings["limits"], settings["seed"], settings["seeds"])
            for id in before | now:
                apart = unreliable(before.get(id, {}), now.get(id, {}), tolerance, "limit")
                found += [f"{id}, {one}" for one in apart]
        else:
            before = card["reliability"]["splits"]
            now = reliability(model, settings["reliability"], settings["seed"], settings["seeds"])
            found += unreliable(before, now, tolerance)
    text = folder / checkpoint.README
    if not text.is_file() or text.read_text(encoding="utf-8") != page(name_of(folder), *read(folder)):
        found.append(f"{checkpoint.README} is not what the card gives")
    return found


# The picture.


def measured(folder: Path, section: str, args: Args, made: dict[str, Any]) -> dict[str, Any]:
    """Measure one section of a model's card; return it, with the recipe that made it."""
    model = load_model(folder)
    if section == "reliability":
        found = reliability(model, args.reliability, args.seed, args.seeds)
        return plain({"reliability": {"splits": found, "evaluated": made}})
    if section == "limits":
        return plain({"limits": {"axes": limits(model, args.limits, args.seed, args.seeds), "evaluated": made}})
    card = measure(model, args.count, args.elsewhere, args.seed, args.seeds) | {"evaluated": made}
    tables = strata_tables({**model.card, **card}, trained_on(model.card))
    print("\n\n".join(["", *(block for block in tables if block.startswith("|")), ""]))
    if args.pairs and any(part.task == "arith" for part, _ in trained_on(model.card)[0].parts):
        card["operands"] = plain(operands(model, args.pairs, args.seed))
    return card


def plain(content: dict[str, Any]) -> dict[str, Any]:
    """Return what a card will hold of it."""
    found: dict[str, Any] = json.loads(json.dumps(content))
    return found


def drawn(card: dict[str, Any], name: str) -> dict[str, Any]:
    """Draw all pictures that a card has the figures for; return what the card says of them."""
    about = {"Weights": card["sha256"][checkpoint.WEIGHTS]}
    found: dict[str, Any] = {}

    def place(kind: str) -> Path:
        return PICTURES / f"{name}-{kind}.png"

    spec = trained_on(card)[0]
    if "operands" in card:
        of = card["operands"]
        rates = {operator: np.array(rows) for operator, rows in of["rates"].items()}
        plots.draw_operands(rates, name, tuple(of["trained"]), of["side"], of["pairs"], place("operands"), about)
        found["picture"] = place("operands").relative_to(TOP).as_posix()
    tables = card.get("strata", {}).get(spec.id, {}).get("test", {})
    shown = [
        one for one in ("family", "operators", "carries", "near ties", "answer length") if len(tables.get(one, {})) > 1
    ]
    if shown:
        some = {one: {k: v for k, v in tables[one].items() if k != OTHERS} for one in shown[:3]}
        plots.draw_errors(some, name, f"{spec.id} test", place("errors"), about)
        found["errors"] = place("errors").relative_to(TOP).as_posix()
    if card.get("history") and "loss" in card["history"][0]:
        settings = card["settings"]
        history = [{"count": settings["evaluate_count"], **point} for point in card["history"]]
        history[-1] |= {"count": settings["final_count"]}
        plots.draw_curves(history, name, card["floor"], settings["prompt_weight"], place("curves"), about)
        found["curves"] = place("curves").relative_to(TOP).as_posix()
    if card.get("reliability", {}).get("splits"):
        several = len(card["reliability"]["splits"]) > 1
        splits = {
            f"{id} {split}" if several else split: of_split
            for id, of in card["reliability"]["splits"].items()
            for split, of_split in of.items()
            if split != "train"  # `test` is of the same distribution
        }
        plots.draw_reliability(splits, name, place("reliability"), about)
        found["reliability"] = {**card["reliability"], "picture": place("reliability").relative_to(TOP).as_posix()}
    if card.get("limits", {}).get("axes"):
        plots.draw_limits(card["limits"]["axes"], name, place("limits"), about)
        found["limits"] = {**card["limits"], "picture": place("limits").relative_to(TOP).as_posix()}
    return found


def main(args: Args) -> int:
    torch.set_num_threads(args.threads)
    if args.publish is not None:
        if args.name is None:
            raise ValueError("--publish needs --name, by which the model is loaded")
        print(f"written to {publish(args.publish, args.name)}")
        return 0
    models = args.models or tuple(checkpoint.packaged_models())
    if not models:
        raise ValueError("the package has no models; give --models")
    for name in models:  # what may be wrong is found before the first is measured
        load_model(name)
        if not args.check:
            check_output(checkpoint.find_model(name) / checkpoint.README)
    failed = False
    made = recipe(dataclasses.replace(args, models=tuple(name_of(checkpoint.find_model(one)) for one in models)))
    for name in models:
        folder = checkpoint.find_model(name)
        print(f"{name_of(folder)}:", flush=True)
        if args.check:
            apart = check(folder, args.sections, args.tolerance)
            print("\n".join(apart) or "as the card says")
            failed |= bool(apart)
            continue
        card: dict[str, Any] = dict(load_model(folder).card)
        for section in () if args.redraw else args.sections:
            card |= measured(folder, section, args, made)
            checkpoint.write_card(folder, card)  # what took minutes to measure is kept, whatever comes next
        if folder.parent == model_files.PACKAGED:
            card |= drawn(card, folder.name)
            checkpoint.write_card(folder, card)
        write_page(folder)
        print(f"written to {folder}")
    return int(failed)


if __name__ == "__main__":
    try:
        sys.exit(main(tyro.cli(Args, description=__doc__)))
    except (ValueError, OSError, ModuleNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
