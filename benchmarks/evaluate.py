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
import re
import sys
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

os.environ.setdefault("GOMP_SPINCOUNT", "0")  # threads that wait sleep, see pretrain/train.py

import numpy as np
import torch
import tyro
from numpy.typing import NDArray

from cadmus_gym import SPECS, Stream, assemble, disassemble, load_model, load_spec, run_batch
from cadmus_gym.evaluation.completing import complete, ids_of, rules_of, trained_on
from cadmus_gym.evaluation.intervals import Tally, tally
from cadmus_gym.evaluation.truth import (
    EVALUATION_SEED,
    Evaluation,
    complete_under,
    judge_completions,
    problems_of,
    prompts_of,
)
from cadmus_gym.files import check_output
from cadmus_gym.language import isa as op
from cadmus_gym.language.forms import reverse_digits
from cadmus_gym.language.hashing import Words64
from cadmus_gym.language.verdicts import LARGEST, Verdict
from cadmus_gym.progress import countdown
from cadmus_gym.reports.models import (
    MANY,
    OTHERS,
    PART_OF_TRAINING,
    RARE,
    in_readme,
    page,
    read,
    strata_tables,
)
from cadmus_gym.streams.probability import Scorer
from cadmus_gym.streams.spec import Spec, Split
from cadmus_gym.streams.strata import Strata, families_of, strata
from cadmus_gym.tasks import find_family
from cadmus_gym.training.provenance import recipe
from cadmus_gym.transformer import checkpoint, model_files
from cadmus_gym.transformer.model import Transformer, with_bos

TOP = Path(__file__).resolve().parents[1]
PICTURES = TOP / "benchmarks" / "results" / "models"
MOST_BYTES = 8 * 2**20  # of a model in the package
ROUNDED = 512  # programs on which the change of logits by rounding is measured
STORED = {"bfloat16": torch.bfloat16, "float16": torch.float16}
SIDE, BIN = 200, 10  # of the picture: operands below the one, in bins of the other
BARS = 16  # of the picture, at most
OPERATORS = ("add", "sub", "mul")
# Completions are grouped by the probability that the model gives them, finely where most are.
LOOKED_AT = 64  # prompts of which train's parameters are asked whether they could write them
# What is changed to find where a model fails, by task: names of axes, and for each value the parameters that give it.
AXES: dict[str, dict[str, dict[str, dict[str, Any]]]] = {
    "arith": {
        "operations": {str(k): {"operations": {str(k): 1}} for k in range(1, 6)},
        "digits of the operands": {
            str(k): {"operands": [10 ** (k - 1), 10**k - 1], "operations": {"1": 1}, "limit": LARGEST}
            for k in range(1, 5)
        },
        "negative literals": {"none": {"negative": 0.0}, "all": {"negative": 1.0}},
    },
    "branch": {"depth": {str(k): {"depths": {str(k): 1}} for k in range(1, 4)}},
    "compare": {
        "digits of the numbers": {
            str(k): {"lengths": {str(k): 1}, "order": {"digit": 1, "tail": 1}, "equality": {"digit": 1}}
            for k in range(3, 8)
        }
    },
    "function": {"levels": {str(k): {"levels": [k, k], "doubles": [k, k]} for k in range(2, 7)}},
    "loop": {"turns": {str(k): {"turns": [k, k]} for k in range(2, 9)}},
    "register": {"operations": {str(k): {"operations": {str(k): 1}} for k in range(2, 6)}},
}
EDGES = (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9999, 1)


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
    pairs: int = 16  # of operands for each square of the picture; 0: no picture
    threads: int = 2
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


def measure(model: Transformer, count: int, elsewhere: int, seed: int, seeds: int) -> dict[str, Any]:
    """Return what a card tells of how often a model is right: metrics, strata and mistakes."""
    specs = trained_on(model.card)
    own = ids_of(specs)
    specs += [load_spec(id) for id in sorted(SPECS, key=lambda id: id not in own) if id not in {s.id for s in specs}]
    found: dict[str, Any] = {"metrics": [], "left_out": {}, "strata": {}, "mistakes": []}
    for spec in specs:
        needed = 1 + spec.prompt_room + spec.episode.max_tokens
        if needed > model.config.context:
            found["left_out"][spec.id] = needed
            print(f"{spec.id}: left out, it takes {needed} positions")
            continue
        for split in spec.splits:
            known = spec.id in own
            prompts_wanted = count if known and split in PART_OF_TRAINING else elsewhere
            if prompts_wanted:
                evaluation, of_strata, wrong = measure_split(model, spec, split, prompts_wanted, seed, seeds, known)
                found["metrics"].append(dataclasses.asdict(evaluation))
                print(evaluation, flush=True)
                if known and split != "train":  # `test` is of the same distribution
                    found["strata"].setdefault(spec.id, {})[split] = of_strata
                if known and split in PART_OF_TRAINING:
                    found["mistakes"].append(wrong)
    plain: dict[str, Any] = json.loads(json.dumps(found))  # as the card will have it
    return plain


def measure_split(
    model: Transformer, spec: Spec, split: str, count: int, seed: int, seeds: int, known: bool
) -> tuple[Evaluation, dict[str, Any], dict[str, Any]]:
    """Return the evaluation of a split; of one that is known, counts by stratum and what was wrong."""
    prompts, lengths = prompts_of(spec, split, count, seed, seeds)
    report = countdown(f"prompts of {spec.id} {split}")
    programs = complete_under(model, spec, prompts, lengths, seed=seed, report=report).programs
    evaluation = judge_completions(spec, split, seed, programs, lengths, seeds=seeds)
    if not known:
        return evaluation, {}, {}
    true = run_batch(programs)[0] == Verdict.TRUE
    taken, families = strata(prompts, lengths), families_of(spec, split, count, seed, seeds)
    labels = ({"family": families} if spec.mixture else {}) | taken.labels()
    keys = problems_of(spec, split, count, seed, seeds)
    counts = {name: by_label(of, true, keys) for name, of in labels.items()}
    wrong: dict[str, Any] = {"spec": spec.id, "split": split, "count": true.size, "wrong": int((~true).sum())}
    if wrong["wrong"] < MANY:
        wrong["completions"] = [
            {
                "prompt": disassemble(programs[k][: lengths[k]]),
                "completion": disassemble(programs[k][lengths[k] :][programs[k][lengths[k] :] != op.PAD]),
                "answer": right_answer(taken, int(k), str(families[k])),
            }
            for k in np.flatnonzero(~true)
        ]
    return evaluation, {name: of for name, of in counts.items() if len(of) > 1}, wrong


def by_label(labels: NDArray[np.str_], true: NDArray[np.bool_], keys: Words64) -> dict[str, list[int]]:
    """Return the `Tally` of each label (N,), as a list, rare ones together at last: numbers in their order, then by
    frequency."""
    counts = Counter(labels.tolist())
    order = sorted(counts, key=lambda label: (number(label), -counts[label], label))
    rare = [label for label in order if counts[label] < RARE]
    members = {label: labels == label for label in order if label not in rare}
    members |= {OTHERS: np.isin(labels, rare)} if rare else {}
    return {label: row_of(true[of], keys[of]) for label, of in members.items()}


def row_of(true: NDArray[np.bool_], keys: Words64) -> list[int]:
    """Return the `Tally` of prompts as a card has it."""
    return list(dataclasses.astuple(tally(true, keys)))


def number(label: str) -> float:
    found = re.match(r"-?\d+", label)
    return int(found[0]) if found else math.inf


def right_answer(taken: Strata, k: int, family: str) -> str:
    answer = int(taken.answers[k])
    if find_family(family).form == "relation":
        return "end" if answer else "not end"
    return str(answer)


def reliability(model: Transformer, count: int, seed: int, seeds: int) -> dict[str, Any]:
    """Return, by spec and split of what a model was trained on, the probability it gives its greedy completions and how
    many of them are true; see `by_probability`."""
    found: dict[str, Any] = {}
    for spec in trained_on(model.card):
        if 1 + spec.prompt_room + spec.episode.max_tokens > model.config.context:
            continue
        for split in spec.splits:
            of_split = by_probability(*said_of(model, spec, split, count, seed, seeds))
            found.setdefault(spec.id, {})[split] = of_split
            true = Tally(*of_split["counts"]).rate
            print(f"{spec.id} {split}: probability {of_split['said']:.2%}, true {true:.2%}", flush=True)
    return found


def said_of(
    model: Transformer, spec: Spec, split: str, count: int, seed: int, seeds: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_], Words64]:
    """Let a model complete prompts; return the probability it gives each completion as a whole, whether that is true,
    and the key of its problem, all (N,)."""
    prompts, lengths = prompts_of(spec, split, count, seed, seeds)
    report = countdown(f"prompts of {spec.id} {split}")
    done = complete_under(model, spec, prompts, lengths, seed=seed, report=report)
    true = run_batch(done.programs)[0] == Verdict.TRUE
    return np.exp(done.log_probs.sum(1, dtype=np.float64)), true, problems_of(spec, split, count, seed, seeds)


def by_probability(said: NDArray[np.float64], true: NDArray[np.bool_], keys: Words64) -> dict[str, Any]:
    """Return the mean probability of completions (N,) and the `Tally` of the true ones, in all and by groups of nearly
    the same probability (see `EDGES`); groups without a completion are left out."""
    group = np.clip(np.searchsorted(EDGES, said, side="right") - 1, 0, len(EDGES) - 2)

    def summed(rows: NDArray[np.bool_]) -> dict[str, Any]:
        return {"said": round(float(said[rows].mean()), 6), "counts": row_of(true[rows], keys[rows])}

    names = {k: f"{EDGES[k]:g} to {EDGES[k + 1]:g}" for k in np.unique(group).tolist()}
    groups = {name: summed(group == k) for k, name in names.items()}
    return {**summed(np.ones(len(said), np.bool_)), "groups": groups}


def limits(model: Transformer, count: int, seed: int, seeds: int) -> dict[str, Any]:
    """Return, by spec trained on, axis of `AXES` and value, the probability that a model gives its greedy completions
    and how many of them are true; see `point`."""
    found: dict[str, Any] = {}
    parts = {part.id: part for spec in trained_on(model.card) for part, _ in spec.parts}
    for id, part in parts.items():
        if not {"train", "test"} <= part.splits.keys():
            continue
        for axis, values in AXES.get(part.task, {}).items():
            for value, parameters in values.items():
                one = point(model, part, parameters, count, seed, seeds)
                if one is not None:
                    found.setdefault(id, {}).setdefault(axis, {})[value] = one
                    told = f"probability {one['said']:.2%}, true {Tally(*one['counts']).rate:.2%}"
                    print(f"{id}, {axis} {value}: {told}", flush=True)
    return found


def point(
    model: Transformer, part: Spec, parameters: dict[str, Any], count: int, seed: int, seeds: int
) -> dict[str, Any] | None:
    """Return the mean probability of completions, in all and of those that are not true (None without any), the `Tally`
    of the true ones, and whether train could write most of such prompts: then they are of test, otherwise any.

    None where the parameters do not go with the others, or the model has too few positions.
    """
    test, common = part.splits["test"].share, part.parameters | parameters
    try:
        spec, held = (
            dataclasses.replace(part, parameters=common, splits={"test": Split(share)}) for share in ((0.0, 1.0), test)
        )
    except ValueError:
        return None
    if 1 + spec.prompt_room + spec.episode.max_tokens > model.config.context:
        return None
    scorer = Scorer(part, "train", 0, 1)
    prompts, lengths = prompts_of(spec, "test", LOOKED_AT, seed)
    written = [scorer.read(prompt[:length]) is not None for prompt, length in zip(prompts, lengths, strict=True)]
    trained = bool(np.mean(written) > 0.5)
    said, true, keys = said_of(model, held if trained else spec, "test", count, seed, seeds)
    return {
        "said": round(float(said.mean()), 6),
        "said_wrong": None if true.all() else round(float(said[~true].mean()), 6),
        "counts": row_of(true, keys),
        "trained": trained,
    }


def differences(old: dict[str, Any], new: dict[str, Any], tolerance: int) -> list[str]:
    """Return where two cards differ in what `measure` finds; above 0, ``tolerance`` counts completions of a split."""
    found = []
    rows = [{(row["spec"], row["split"]): row for row in card.get("metrics", [])} for card in (old, new)]
    for key in rows[0] | rows[1]:
        before, after = rows[0].get(key), rows[1].get(key)
        if before is None or after is None:
            found.append(f"{' '.join(key)}: {'not in the card' if before is None else 'in the card alone'}")
        elif abs(before["truth_rate"] - after["truth_rate"]) * after["count"] > tolerance + 0.5 or (
            not tolerance and before != after
        ):
            found.append(f"{' '.join(key)}: {before['truth_rate']:.2%} true by the card, {after['truth_rate']:.2%} now")
    if not tolerance:
        found += [f"{part} differ" for part in ("strata", "mistakes") if old.get(part) != new[part]]
    return found


def unreliable(old: dict[str, Any], new: dict[str, Any], tolerance: int, what: str = "reliability") -> list[str]:
    """Return where two findings of `reliability`, or of one spec's `limits`, differ; above 0, ``tolerance`` counts true
    completions of a split or value."""
    found = []
    pairs = {(id, split) for splits in (old, new) for id in splits for split in splits[id]}
    for id, split in sorted(pairs):
        before, after = (splits.get(id, {}).get(split, {}) for splits in (old, new))
        apart = abs(before["counts"][0] - after["counts"][0]) > tolerance if before and after else True
        if apart or (not tolerance and before != after):
            found.append(f"{id} {split}: {what} differs")
    return found


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


def truth_by_operands(model: Transformer, operator: str, pairs: int, seed: int) -> NDArray[np.float64]:
    """Return the truth rate of `a b operator`, (SIDE / BIN, SIDE / BIN), rows for bins of a, columns of b."""
    bins = SIDE // BIN
    rng = np.random.default_rng([seed, OPERATORS.index(operator)])
    a, b = (rng.integers(0, BIN, (bins, bins, pairs)) for _ in range(2))
    a += BIN * np.arange(bins)[:, None, None]
    b += BIN * np.arange(bins)[None, :, None]
    prompts = [assemble(f"{x} {y} {operator}") for x, y in zip(a.ravel(), b.ravel(), strict=True)]
    done = complete(model, prompts, report=countdown(f"prompts of the picture, {operator}"))
    true = run_batch(done.programs)[0] == Verdict.TRUE
    rates: NDArray[np.float64] = true.reshape(bins, bins, pairs).mean(2)
    return rates


def draw(model: Transformer, name: str, pairs: int, seed: int, path: Path) -> None:
    """Draw the truth rate by operands, for a model of arithmetic, and the share that is wrong by stratum."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.ticker import PercentFormatter
    except ModuleNotFoundError:
        raise ModuleNotFoundError("pictures need matplotlib: pip install '.[plot]'") from None
    spec = trained_on(model.card)[0]
    card: Any = model.card
    tables = card["strata"].get(spec.id, {}).get("test", {})
    told = [s for s in ("family", "operators", "carries", "near ties", "answer length") if len(tables.get(s, {})) > 1]
    arithmetic = [part for part, _ in spec.parts if part.task == "arith"]
    figure = Figure(figsize=(13.5, 9 if arithmetic else 4.6), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    parts: Any = figure.subfigures(2, 1, height_ratios=[1.15, 1]) if arithmetic else [None, figure]
    above, below = parts
    if above is not None:
        low, high = arithmetic[0].split_parameters("train").operands
        first, last = low, min(high + 1, SIDE)
        above.suptitle(f"{name}: share of true completions, {pairs} pairs a square; trained inside the line")
        axes = above.subplots(1, len(OPERATORS))
        for ax, operator in zip(axes, OPERATORS, strict=True):
            rates = truth_by_operands(model, operator, pairs, seed)
            image = ax.imshow(rates, origin="lower", extent=(0, SIDE, 0, SIDE), vmin=0, vmax=1, cmap="viridis")
            ax.plot([first, first, last, last, first], [first, last, last, first, first], color="#ff3b30", linewidth=2)
            inside = rates[first // BIN : last // BIN, first // BIN : last // BIN]
            title = f"a b {operator}: {inside.mean():.1%} inside, {rates.mean():.1%} of all"
            ax.set(title=title, xlabel="b", ylabel="a")
        above.colorbar(image, ax=axes, format=PercentFormatter(1), shrink=0.9)
    below.suptitle(f"share of wrong completions, {spec.id}, test, with 95 % intervals")
    for ax, stratum in zip(np.atleast_1d(below.subplots(1, max(1, len(told[:3])))), told, strict=False):
        labels = [label for label in tables[stratum] if label != OTHERS][:BARS]  # few may be an interval of all
        tallies = [Tally(*tables[stratum][label]) for label in labels]
        wrong = np.array([1 - one.rate for one in tallies])
        bounds = 1 - np.array([one.interval for one in tallies]).T  # highest, lowest
        reach = np.clip([wrong - bounds[1], bounds[0] - wrong], 0, None)
        ax.barh(labels, wrong, xerr=reach, color="#9db8d2", ecolor="#1f5fa8", capsize=3)
        ax.invert_yaxis()
        ax.set(title=f"by {stratum}", xlim=(0, None))
        ax.xaxis.set_major_formatter(PercentFormatter(1))
        ax.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Weights": card["sha256"][checkpoint.WEIGHTS]})


def draw_curves(card: Any, name: str, path: Path) -> None:
    """Draw what training went through: loss above its floor, and the share that is wrong on each test split."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    points = card["history"]
    tokens = [point["tokens"] / 1e6 for point in points]
    figure = Figure(figsize=(11, 4.4), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    loss, wrong = figure.subplots(1, 2)
    loss.plot(tokens, [point["loss"] - (card["floor"] or 0.0) for point in points], color="#1f5fa8")
    loss.set(
        title=f"{name}: loss{'' if card['floor'] is None else ' above its floor'}",
        ylabel=f"nats per token, those of prompts weighted {card['settings']['prompt_weight']}",
    )
    for split in (split for split in points[-1]["truth"] if split.split()[-1] == "test"):
        shares = [max(1 - point["truth"][split], 1e-4) for point in points]
        wrong.plot(tokens, shares, label=split.removesuffix(" test"))
    wrong.set(title="share of wrong completions, test (none: at 0.0001)")
    wrong.legend(frameon=False, fontsize=8)
    for ax in (loss, wrong):
        ax.set(yscale="log", xlabel="million tokens")
        ax.grid(alpha=0.3)
    figure.savefig(path)


def draw_reliability(card: Any, name: str, path: Path) -> None:
    """Draw how many completions are true against the probability the model gives them: one panel of all, one in which
    the small shares that are wrong can be seen."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    figure = Figure(figsize=(13, 5.6), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    plain, wrong = figure.subplots(1, 2)
    settings = card["reliability"]["evaluated"]["settings"]
    least = 1 / (settings["reliability"] * settings["seeds"])
    colours = iter(("#d1495b", "#edae49", "#66a182", "#8d5a97", "#7a5c3e", "#e07be0", "#2e9cca", "#777777") * 4)
    several = len(card["reliability"]["splits"]) > 1
    for id, splits in card["reliability"]["splits"].items():
        for split, of_split in splits.items():
            if split == "train":  # `test` is of the same distribution
                continue
            inside = split in PART_OF_TRAINING
            colour = "#1f5fa8" if inside else next(colours)
            label = f"{id} {split}" if several else split
            label += ", trained distribution" if inside else ""
            marker, size = ("o", 7) if inside else ("s", 5)
            look = {"color": colour, "marker": marker, "linestyle": "none", "capsize": 2, "elinewidth": 0.8}
            for group in of_split["groups"].values():
                counts = Tally(*group["counts"])
                share, (low, high), rare = counts.rate, counts.interval, counts.count < RARE
                faint = {"alpha": 0.3, "markersize": size - 2} if rare else {"markersize": size}
                below, above = max(0.0, share - low), max(0.0, high - share)
                plain.errorbar([group["said"]], [share], yerr=None if rare else [[below], [above]], **look, **faint)
                doubt = max(1 - group["said"], 1e-5)
                if share == 1:
                    wrong.errorbar([doubt], [1 / counts.count], **{**look, "markerfacecolor": "none"}, **faint)
                else:
                    bars = None if rare else [[above], [below]]
                    wrong.errorbar([doubt], [1 - share], yerr=bars, **look, **faint)
            plain.plot([], [], color=colour, marker=marker, linestyle="none", label=label)
    plain.plot([0, 1], [0, 1], color="#999999", linewidth=1, label="calibrated")
    wrong.plot([1e-5, 1], [1e-5, 1], color="#999999", linewidth=1)
    few = {"color": "#777777", "alpha": 0.3, "marker": "o", "markersize": 4, "linestyle": "none"}
    plain.plot([], [], **few, label=f"fewer than {RARE} prompts, no interval")
    hollow = {"color": "#777777", "markerfacecolor": "none", "marker": "o", "linestyle": "none"}
    plain.plot([], [], **hollow, label="none wrong: below 1 / prompts")
    plain.set(title=f"{name}: reliability, with 95 % intervals", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    plain.set(xlabel="probability the model gives to a completion", ylabel="share of these completions that are true")
    wrong.set(title="the same as shares that are wrong", xlabel="1 - probability the model gives to a completion")
    wrong.set(xscale="log", yscale="log", xlim=(7e-6, 1.3), ylim=(0.5 * least, 1.3))
    wrong.set(ylabel="share of these completions that are wrong")
    figure.legend(frameon=False, fontsize=9, loc="outside lower center", ncols=6)
    for axis in (plain.xaxis, plain.yaxis):
        axis.set_major_formatter(PercentFormatter(1))
    for ax in (plain, wrong):
        ax.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Weights": card["sha256"][checkpoint.WEIGHTS]})


def draw_limits(card: Any, name: str, path: Path) -> None:
    """Draw the share of true completions, and the probability that the model gives them, along each axis of `AXES`;
    what train shows is shaded."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    panels = [(id, axis, values) for id, axes in card["limits"]["axes"].items() for axis, values in axes.items()]
    rows = -(-len(panels) // 3)
    figure = Figure(figsize=(13.5, 0.8 + 3.2 * rows), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, min(3, len(panels)), squeeze=False).ravel()
    for ax, (id, axis, values) in zip(grid, panels, strict=False):
        tallies, places = [Tally(*one["counts"]) for one in values.values()], np.arange(len(values))
        for place, one in enumerate(values.values()):
            if one["trained"]:
                ax.axvspan(place - 0.5, place + 0.5, color="#1f5fa8", alpha=0.1, linewidth=0)
        rates = np.array([one.rate for one in tallies])
        low, high = np.array([one.interval for one in tallies]).T
        reach = np.clip([rates - low, high - rates], 0, None)
        ax.errorbar(places, rates, yerr=reach, color="#1f5fa8", marker="o", capsize=3)
        ax.plot(places, [one["said"] for one in values.values()], color="#d1495b", marker="s", linestyle="--")
        ax.set_xticks(places, list(values))
        ax.set(title=id, xlabel=axis, xlim=(-0.5, len(values) - 0.5), ylim=(-0.03, 1.03))
        ax.yaxis.set_major_formatter(PercentFormatter(1))
        ax.grid(alpha=0.3)
    for ax in grid[len(panels) :]:
        ax.set_axis_off()
    lines = [
        grid[0].plot([], [], color="#1f5fa8", marker="o", label="true, with 95 % intervals")[0],
        grid[0].plot([], [], color="#d1495b", marker="s", linestyle="--", label="mean probability of a completion")[0],
        grid[0].fill_between([], [], color="#1f5fa8", alpha=0.1, label="shown in training"),
    ]
    figure.legend(handles=lines, loc="outside lower center", ncols=3, frameon=False)
    figure.suptitle(f"{name}: where it fails")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Weights": card["sha256"][checkpoint.WEIGHTS]})


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
        model = load_model(folder)
        card: dict[str, Any] = dict(model.card)
        packaged = folder.parent == model_files.PACKAGED
        if "truth" in args.sections:
            card |= measure(model, args.count, args.elsewhere, args.seed, args.seeds)
            card["evaluated"] = made
            model.card = card
            checkpoint.write_card(folder, card)  # what took minutes to measure is kept, whatever comes next
            tables = [block for block in strata_tables(card, trained_on(card)) if block.startswith("|")]
            print("\n\n".join(["", *tables, ""]))
        if "reliability" in args.sections:
            found = reliability(model, args.reliability, args.seed, args.seeds)
            card["reliability"] = json.loads(json.dumps({"splits": found, "evaluated": made}))
            checkpoint.write_card(folder, card)
            if packaged and found:
                path = PICTURES / f"{folder.name}-reliability.png"
                draw_reliability(card, folder.name, path)
                card["reliability"]["picture"] = path.relative_to(TOP).as_posix()
        if "limits" in args.sections:
            axes = limits(model, args.limits, args.seed, args.seeds)
            card["limits"] = json.loads(json.dumps({"axes": axes, "evaluated": made}))
            checkpoint.write_card(folder, card)
            if packaged and axes:
                path = PICTURES / f"{folder.name}-limits.png"
                draw_limits(card, folder.name, path)
                card["limits"]["picture"] = path.relative_to(TOP).as_posix()
        if "truth" in args.sections and args.pairs and packaged:
            path = PICTURES / f"{folder.name}-operands.png"
            draw(model, folder.name, args.pairs, args.seed, path)
            card["picture"] = path.relative_to(TOP).as_posix()
            if "loss" in card["history"][0]:
                path = PICTURES / f"{folder.name}-curves.png"
                draw_curves(card, folder.name, path)
                card["curves"] = path.relative_to(TOP).as_posix()
        checkpoint.write_card(folder, card)
        write_page(folder)
        print(f"written to {folder}")
    readme = TOP / "README.md"
    text = readme.read_text(encoding="utf-8")
    if in_readme(text) != text:
        if args.check:
            print(f"{readme}: its table of models is not what their cards give")
            return 1
        readme.write_text(in_readme(text), encoding="utf-8")
        print(f"written to {readme}")
    return int(failed)


if __name__ == "__main__":
    try:
        sys.exit(main(tyro.cli(Args, description=__doc__)))
    except (ValueError, OSError, ModuleNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
