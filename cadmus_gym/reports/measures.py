"""What is measured for a model's card: truth by split and stratum, reliability, and where the model fails."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cadmus_gym.evaluation.completing import complete, ids_of, trained_on
from cadmus_gym.evaluation.intervals import Tally, tally
from cadmus_gym.evaluation.truth import (
    Evaluation,
    complete_under,
    judge_completions,
    problems_of,
    prompts_of,
)
from cadmus_gym.language import isa as op
from cadmus_gym.language.hashing import Words64
from cadmus_gym.language.machine import run_batch
from cadmus_gym.language.notation import assemble, disassemble
from cadmus_gym.language.verdicts import LARGEST, Verdict
from cadmus_gym.progress import countdown
from cadmus_gym.reports.models import (
    MANY,
    OTHERS,
    PART_OF_TRAINING,
    RARE,
)
from cadmus_gym.streams.loading import SPECS, load_spec
from cadmus_gym.streams.problems import Reader
from cadmus_gym.streams.spec import Spec, Split
from cadmus_gym.streams.strata import Strata, families_of, strata_of
from cadmus_gym.tasks import find_family
from cadmus_gym.transformer.model import Transformer

SIDE, BIN = 200, 10  # of the picture by operands: operands are below SIDE, in bins of BIN
OPERATORS = ("add", "sub", "mul")
LOOKED_AT = 64  # prompts checked to find out whether train could write them
# What is changed to find where a model fails, by task: names of axes, and the parameters for each value on an axis.
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
# Edges of the groups of completions by the probability that the model gives them, finer where most of them are.
EDGES = (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9999, 1)


def measure(model: Transformer, count: int, elsewhere: int, seed: int, seeds: int) -> dict[str, Any]:
    """Return what a card says about how often a model is right: metrics, strata and mistakes.

    Splits of training environments get ``count`` prompts if they are `PART_OF_TRAINING`, all others ``elsewhere``, for
    each of ``seeds`` seeds, beginning with ``seed``.
    """
    specs = trained_on(model.card)
    own = ids_of(specs)
    others = [load_spec(id) for id in sorted(SPECS, key=lambda id: id not in own) if id not in {s.id for s in specs}]
    specs += [spec for spec in others if asks_for_programs(spec) in set(map(asks_for_programs, specs))]
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
                if known and split != "train":  # `test` has the same distribution
                    found["strata"].setdefault(spec.id, {})[split] = of_strata
                if known and split in PART_OF_TRAINING:
                    found["mistakes"].append(wrong)
    plain: dict[str, Any] = json.loads(json.dumps(found))  # as in the card
    return plain


def asks_for_programs(spec: Spec) -> bool:
    """Whether completions are programs. A model that has learned to write values is not measured on these."""
    return any(part.family.written for part, _ in spec.parts)


def measure_split(
    model: Transformer, spec: Spec, split: str, count: int, seed: int, seeds: int, known: bool
) -> tuple[Evaluation, dict[str, Any], dict[str, Any]]:
    """Return the evaluation of a split, its counts by stratum, and its wrong completions.

    The last two are empty unless the model was trained on the environment (``known``).
    """
    prompts, lengths = prompts_of(spec, split, count, seed, seeds)
    report = countdown(f"prompts of {spec.id} {split}")
    programs = complete_under(model, spec, prompts, lengths, seed=seed, report=report).programs
    evaluation = judge_completions(spec, split, seed, programs, lengths, seeds=seeds)
    if not known:
        return evaluation, {}, {}
    true = run_batch(programs)[0] == Verdict.TRUE
    taken, families = strata_of(prompts, lengths), families_of(spec, split, count, seed, seeds)
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
    """Return the `Tally` of each label as a list; labels, ``true`` and ``keys`` are (N,).

    Labels that are numbers come first, in order, then others by frequency. Rare labels are merged and come last.
    """
    counts = Counter(labels.tolist())
    order = sorted(counts, key=lambda label: (number(label), -counts[label], label))
    rare = [label for label in order if counts[label] < RARE]
    members = {label: labels == label for label in order if label not in rare}
    members |= {OTHERS: np.isin(labels, rare)} if rare else {}
    return {label: row_of(true[of], keys[of]) for label, of in members.items()}


def row_of(true: NDArray[np.bool_], keys: Words64) -> list[int]:
    """Return the `Tally` of prompts as a list, its form in a card."""
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
    """Return the probability a model gives its greedy completions and how many of them are true, by spec and split.

    The specs are those it was trained on; see `by_probability` for the result of a split.
    """
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
    """Let a model complete prompts greedily.

    Returns the probability it gives each whole completion, whether that is true, and the key of its problem, all (N,).
    """
    prompts, lengths = prompts_of(spec, split, count, seed, seeds)
    report = countdown(f"prompts of {spec.id} {split}")
    done = complete_under(model, spec, prompts, lengths, seed=seed, report=report)
    true = run_batch(done.programs)[0] == Verdict.TRUE
    return np.exp(done.log_probs.sum(1, dtype=np.float64)), true, problems_of(spec, split, count, seed, seeds)


def by_probability(said: NDArray[np.float64], true: NDArray[np.bool_], keys: Words64) -> dict[str, Any]:
    """Return the mean probability of completions (N,) and their `Tally`, over all and by group.

    Completions are grouped by probability (see `EDGES`). Empty groups are left out.
    """
    group = np.clip(np.searchsorted(EDGES, said, side="right") - 1, 0, len(EDGES) - 2)

    def summed(rows: NDArray[np.bool_]) -> dict[str, Any]:
        return {"said": round(float(said[rows].mean()), 6), "counts": row_of(true[rows], keys[rows])}

    names = {k: f"{EDGES[k]:g} to {EDGES[k + 1]:g}" for k in np.unique(group).tolist()}
    groups = {name: summed(group == k) for k, name in names.items()}
    return {**summed(np.ones(len(said), np.bool_)), "groups": groups}


def limits(model: Transformer, count: int, seed: int, seeds: int) -> dict[str, Any]:
    """Return the probability a model gives its greedy completions and how many are true, along the axes of `AXES`.

    The result is by spec that the model was trained on, axis and value; see `point` for the entry of a value.
    """
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
                    true = Tally(*one["counts"]).rate
                    print(f"{id}, {axis} {value}: probability {one['said']:.2%}, true {true:.2%}", flush=True)
    return found


def point(
    model: Transformer, part: Spec, parameters: dict[str, Any], count: int, seed: int, seeds: int
) -> dict[str, Any] | None:
    """Return the mean probability of completions, that of the false ones (None without any), and their `Tally`.

    The result also says whether train could write most such prompts. If so, the prompts are held out like those of
    test; otherwise any prompts are used. Returns None if the parameters contradict the others of the spec or leave no
    problem of a kind to hold out, or the model has too few positions.
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
    reader = Reader(part, "train")
    prompts, lengths = prompts_of(spec, "test", LOOKED_AT, seed)
    written = [reader.read(prompt[:length]) is not None for prompt, length in zip(prompts, lengths, strict=True)]
    trained = bool(np.mean(written) > 0.5)
    try:
        said, true, keys = said_of(model, held if trained else spec, "test", count, seed, seeds)
    except ValueError:  # with these parameters the split holds out no problem of some kind
        return None
    return {
        "said": round(float(said.mean()), 6),
        "said_wrong": None if true.all() else round(float(said[~true].mean()), 6),
        "counts": row_of(true, keys),
        "trained": trained,
    }


def differences(old: dict[str, Any], new: dict[str, Any], tolerance: int) -> list[str]:
    """Return where two cards differ in the results of `measure`.

    With a ``tolerance`` above 0, only truth rates are compared, and may differ by so many completions per split.
    """
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
    """Return where two results of `reliability`, or of `limits` for one spec, differ.

    With a ``tolerance`` above 0, only the numbers of true completions are compared, and may differ by so many per split
    or value.
    """
    found = []
    pairs = {(id, split) for splits in (old, new) for id in splits for split in splits[id]}
    for id, split in sorted(pairs):
        before, after = (splits.get(id, {}).get(split, {}) for splits in (old, new))
        apart = abs(before["counts"][0] - after["counts"][0]) > tolerance if before and after else True
        if apart or (not tolerance and before != after):
            found.append(f"{id} {split}: {what} differs")
    return found


def truth_by_operands(model: Transformer, operator: str, pairs: int, seed: int) -> NDArray[np.float64]:
    """Return truth rates of `a b operator`, (SIDE / BIN, SIDE / BIN) float64: rows are bins of a, columns bins of b.

    Each is measured on ``pairs`` pairs of operands.
    """
    bins = SIDE // BIN
    rng = np.random.default_rng([seed, OPERATORS.index(operator)])
    a, b = (rng.integers(0, BIN, (bins, bins, pairs)) for _ in range(2))
    a += BIN * np.arange(bins)[:, None, None]
    b += BIN * np.arange(bins)[None, :, None]
    prompts = [assemble(f"{x} {y} {operator}") for x, y in zip(a.ravel(), b.ravel(), strict=True)]
    done = complete(model, prompts, report=countdown(f"prompts by operands, {operator}"))
    true = run_batch(done.programs)[0] == Verdict.TRUE
    rates: NDArray[np.float64] = true.reshape(bins, bins, pairs).mean(2)
    return rates


def operands(model: Transformer, pairs: int, seed: int) -> dict[str, Any]:
    """Return the truth rates of each operator by operands (see `truth_by_operands`), and the operands of training."""
    parts = [part for part, _ in trained_on(model.card)[0].parts if part.task == "arith"]
    rates = {one: np.round(truth_by_operands(model, one, pairs, seed), 4).tolist() for one in OPERATORS}
    return {"rates": rates, "side": SIDE, "pairs": pairs, "trained": list(parts[0].split_parameters("train").operands)}
