"""Measure how often models are right on every environment and split, and where they fail; write their pages.

    python benchmarks/evaluate.py                                         every model in the package
    python benchmarks/evaluate.py --models runs/nano/model --count 250    a model of your own
    python benchmarks/evaluate.py --check                                 exits 1 if a card holds another figure
    python benchmarks/evaluate.py --sections reliability                  one measurement; other figures are kept
    python benchmarks/evaluate.py --publish runs/nano/model --name nano   puts the model of a run into the package

Completions are greedy, under each environment's form and budget. The splits `train` and `test` of what a model was
trained on, including the parts of a mixture, have --count prompts for each seed, with rates by stratum; every other
split has --elsewhere. Cadmus-Open-v0 masks nothing, so it shows whether a model keeps to the form by itself.
"reliability" compares the probability a model gives its completions with the share of them that are true. "limits"
changes one thing at a time, such as the number of operations or digits, until the model fails.

Figures are written to `card.json` in the model's folder; its README.md is written from them. Pictures of models in the
package are in results/models. A published model is stored in bfloat16 or float16, whichever changes its logits less.
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
from cadmus_gym.evaluation.completing import trained_on
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

    models: tuple[str, ...] = ()  # names or folders; none: every model in the package
    count: int = 4096  # prompts per seed, on train and test of what a model was trained on
    elsewhere: int = 512  # prompts per seed, on every other split; 0: none
    reliability: int = 512  # prompts per split and seed for the comparison of probability and truth
    limits: int = 256  # prompts per seed and value of what is changed
    sections: tuple[Literal["truth", "reliability", "limits"], ...] = ("truth", "reliability", "limits")  # measured
    seed: int = EVALUATION_SEED  # first seed of the prompts
    seeds: int = 4  # number of consecutive seeds, taken together as one evaluation
    price: float = 0.05  # dollars per core-hour, for the pages: put in your own
    pairs: int = 16  # pairs of operands for each square of the picture of a model of arithmetic
    threads: int = 2
    redraw: bool = False  # write pages and pictures from the cards; measure nothing
    check: bool = False  # measure again with the cards' counts and seeds; write nothing
    tolerance: int = 0  # allowed difference of a count in --check, since machines round differently
    publish: str | None = None  # folder of a model to put into the package; measure nothing
    name: str | None = None  # name of the published model


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
    folder, most = model_files.PACKAGED / name, max(spec.episode.max_tokens for spec in trained_on(card))
    checkpoint.save_model(model, folder, card, STORED[best], max_tokens=most)
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
        torch.set_num_threads(settings["threads"])  # other numbers of threads may round differently
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
        plots.draw_curves(history, name, card.get("floor"), settings["prompt_weight"], place("curves"), about)
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
    for name in models:  # find mistakes before the first measurement
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
            checkpoint.write_card(folder, card)  # keep what took minutes to measure, whatever comes next
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
