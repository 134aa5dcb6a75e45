"""Exactly what a model was trained on, from its card and the record in its folder.

With `cadmus_gym.training.focus`, each row of a batch is one of several programs of the stream, chosen by their losses,
whose last bits differ between machines. So training records the choices. A run that starts from a model extends its
record, which holds one array for each training with focus, named by the training's number: "0" for the first.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike

from cadmus_gym.evaluation.completing import stages
from cadmus_gym.language.isa import Ints
from cadmus_gym.progress import Report, part_of
from cadmus_gym.streams.loading import load_spec
from cadmus_gym.streams.seen import Pairs, Programs
from cadmus_gym.streams.stream import Stream
from cadmus_gym.training.focus import AMONG
from cadmus_gym.training.record import Choices, unpack
from cadmus_gym.transformer.model_files import CARD, RECORD, find_model, read_card

PROGRAMS, PROMPTS, CANDIDATES, UNKNOWN = "programs", "prompts", "candidates", "unknown"  # kinds of a `Training`
SAMPLE = 512  # programs in a fingerprint


def fingerprint(card: Mapping[str, Any], record: bytes) -> str | None:
    """Return the fingerprint of a training for its card: the SHA-256 of some of its programs, None if it has none.

    Equal digests mean equal specs. Equal fingerprints mean equal programs, even if the code that writes them changed.
    """
    training = _training(card, unpack(record).get(str(len(stages(card)) - 1)))
    return None if training.programs is None else _sum_of(training.programs)


class Model(Protocol):
    """A `Transformer`, as `load_model` returns it."""

    card: dict[str, Any]
    record: bytes


@dataclass(frozen=True)
class Training:
    """One of the trainings of a model, and what is known about it.

    kind: "programs" if the model was trained on exactly ``programs``; "prompts" if their prompts were posed in
        reinforcement learning; "candidates" if it was trained on some of ``programs`` and no record says which;
        "unknown" if nothing can be counted.
    about: the same in words.
    """

    kind: str
    about: str
    programs: Programs | None = None


class Trained:
    """All ``trainings`` of a model, oldest first, including those of the models it started from.

    ``model`` is the name of a packaged model, a folder, or a model that `load_model` returned. Raises FileNotFoundError
    if there is none, and ValueError for a damaged file or a record that does not belong to the card.
    """

    def __init__(self, model: str | os.PathLike[str] | Model) -> None:
        if isinstance(model, (str, os.PathLike)):
            card, record = read_card(find_model(model))
        else:
            card, record = model.card, model.record
        choices = unpack(record)
        self.trainings = [_checked(stage, choices.get(str(k))) for k, stage in enumerate(stages(card))]

    @property
    def exact(self) -> bool:
        """Whether the programs or prompts of every training are known exactly."""
        return all(one.kind in (PROGRAMS, PROMPTS) for one in self.trainings)

    def upto(self, count: int | None) -> list[tuple[Training, int]]:
        """Return the trainings of the first ``count`` programs and prompts, default all, each with its share of them.

        Raises ValueError for more than there are, and if a training is not known exactly.
        """
        sizes = [0 if one.programs is None else one.programs.count for one in self.trainings]
        if count is None:
            return [*zip(self.trainings, sizes, strict=True)]
        self._check_exact()
        if not 0 <= count <= sum(sizes):
            raise ValueError(f"upto = {count}; allowed: 0 to {sum(sizes)}, what the model was trained on")
        before = np.cumsum([0, *sizes[:-1]])
        taken = np.clip(count - before, 0, sizes).tolist()
        return [(one, upto) for k, (one, upto) in enumerate(zip(self.trainings, taken, strict=True)) if upto or k == 0]

    def count(self, texts: Sequence[str | ArrayLike], report: Report | None = None) -> Ints:
        """Return how many of the programs the model was trained on begin with each text, (Q,) int64.

        A program counts each time it was trained on. A text that ends in `end` matches only itself. Texts are as for
        `cadmus_gym.assemble`, or token ids. Raises ValueError if a training is not known exactly.
        """
        return self._sum(PROGRAMS, 0, texts, (), report)

    def count_prompts(self, prompts: Sequence[str | ArrayLike], report: Report | None = None) -> Ints:
        """Return how many of the programs the model was trained on have exactly each of these prompts, (Q,) int64."""
        return self._sum(PROGRAMS, 1, (), prompts, report)

    def count_posed(self, prompts: Sequence[str | ArrayLike], report: Report | None = None) -> Ints:
        """Return how often each of these prompts was posed in reinforcement learning, (Q,) int64."""
        return self._sum(PROMPTS, 1, (), prompts, report)

    def _sum(
        self,
        kind: str,
        place: int,
        texts: Sequence[str | ArrayLike],
        prompts: Sequence[str | ArrayLike],
        report: Report | None,
    ) -> Ints:
        self._check_exact()
        some = [one.programs for one in self.trainings if one.kind == kind and one.programs is not None]
        parts = [one.ask(texts, prompts, None, part_of(report, k, len(some)))[place] for k, one in enumerate(some)]
        total: Ints = np.sum([np.zeros(len(texts or prompts), np.int64), *parts], axis=0)
        return total

    def _check_exact(self) -> None:
        if not self.exact:
            gaps = "; ".join(one.about for one in self.trainings if one.kind not in (PROGRAMS, PROMPTS))
            raise ValueError(f"it is not known exactly what the model was trained on: {gaps}")


def is_outdated(card: Mapping[str, Any]) -> bool:
    """Whether the digests say that an environment changed after a model was trained on it."""
    return any("digest" in stage and _training(stage, None).kind == UNKNOWN for stage in stages(card))


def _checked(card: Mapping[str, Any], choices: Choices | None) -> Training:
    """Return what is known about a training; nothing if its programs do not have the fingerprint in its card."""
    training, wanted = _training(card, choices), card.get("fingerprint")
    counted = training.programs if training.kind in (PROGRAMS, PROMPTS) else None
    if wanted is not None and counted is not None and _sum_of(counted) != wanted:
        return Training(UNKNOWN, _changed(counted.stream.id))
    return training


def _sum_of(programs: Programs) -> str | None:
    """Return the SHA-256 of up to `SAMPLE` evenly spaced programs."""
    if not programs.count:
        return None
    places = np.unique(np.linspace(0, programs.count - 1, SAMPLE).astype(np.int64)).tolist()
    seeds, numbers = np.concatenate([programs.pairs(place, place + 1) for place in places], axis=1)
    rows, _ = programs.stream.gather(seeds, numbers)
    return hashlib.sha256(b"".join(row[row > 0].tobytes() for row in rows)).hexdigest()


def _training(card: Mapping[str, Any], choices: Choices | None) -> Training:
    """Return what the card of one training and its choices say."""
    settings = card.get("settings")
    env = settings.get("env") if isinstance(settings, Mapping) else None
    if not isinstance(settings, Mapping) or not isinstance(env, (str, Mapping)):
        return Training(UNKNOWN, "no card says what it was trained on")
    name = env if isinstance(env, str) else " + ".join(env)
    try:
        source = load_spec(env, **(settings.get("overrides") or {})) if isinstance(env, str) else env
        if "timesteps" in card:  # by agents/ppo.py
            return _posed(card, Stream(source, "train"), name)
        stream, rows = Stream(source, "train", settings["seed"]), int(card["programs"])
        if card["digest"] != stream.digest:
            return Training(UNKNOWN, _changed(name))
        among = card.get("among", AMONG if settings["focus"] else 1)
    except (ValueError, FileNotFoundError) as error:
        return Training(UNKNOWN, f"trained on {name}, which cannot be read: {error}")
    except KeyError as error:
        return Training(UNKNOWN, f"trained on {name}, but its card does not give {error}")
    about = f"trained on {rows:,} programs of {name} (split train, seed {stream.seed})"
    if among == 1:
        return Training(PROGRAMS, about, Programs(stream, rows))
    about += f", {settings['focus']:.0%} of them chosen by focus among the first {rows * among:,}"
    if choices is None:
        return Training(CANDIDATES, f"{about}; no record says which", Programs(stream, rows * among))
    if choices.shape != (rows,) or choices.max(initial=0) >= among:
        raise ValueError(f"{RECORD} is not of this model: by {CARD} it has {rows} choices among {among}")

    def pairs(start: int, stop: int) -> Pairs:
        return np.full(stop - start, stream.seed), np.arange(start, stop) * among + choices[start:stop]

    return Training(PROGRAMS, about, Programs(stream, rows, pairs))


def _posed(card: Mapping[str, Any], stream: Stream, name: str) -> Training:
    """Return what the card of a run of reinforcement learning says about its prompts."""
    if card["digests"][stream.id]["train"] != stream.digest:
        return Training(UNKNOWN, _changed(name))
    seed, counts = card["posed"]["seed"], np.array(card["posed"]["prompts"], np.int64)
    ends = np.cumsum(counts)

    def pairs(start: int, stop: int) -> Pairs:
        places = np.arange(start, stop)
        rows = np.searchsorted(ends, places, side="right")
        return seed + rows, places - (ends - counts)[rows]

    about = f"reinforcement learning posed {counts.sum():,} prompts of {name} (split train)"
    return Training(PROMPTS, about, Programs(stream, int(counts.sum()), pairs))


def _changed(name: str) -> str:
    return f"trained on {name} as it was then; this version writes other programs, so nothing can be counted"
