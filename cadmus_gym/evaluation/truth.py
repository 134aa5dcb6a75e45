"""Evaluation of completions: truth rate with its interval, verdicts, pass@k, and the share of loopholes."""

from __future__ import annotations

import math
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeGuard

import numpy as np
from numpy.typing import NDArray

from cadmus_gym.arguments import check_whole
from cadmus_gym.environments.playing import Agent, Policy, play, put
from cadmus_gym.evaluation.intervals import tally
from cadmus_gym.evaluation.loopholes import find_loopholes
from cadmus_gym.language.hashing import Words64
from cadmus_gym.language.isa import Tokens
from cadmus_gym.language.machine import run_batch
from cadmus_gym.language.verdicts import Verdict
from cadmus_gym.progress import Report, part_of
from cadmus_gym.streams.loading import load_spec
from cadmus_gym.streams.spec import Spec
from cadmus_gym.streams.stream import Stream, pairs_of
from cadmus_gym.tasks.synthesis.hidden import generalise
from cadmus_gym.tasks.synthesis.idle import idle_use
from cadmus_gym.transformer.tokenizer import check_endian

if TYPE_CHECKING:
    from cadmus_gym.transformer.generate import Completions
    from cadmus_gym.transformer.model import Transformer

EVALUATION_SEED = 2**40  # seed of evaluation prompts; training scripts accept only seeds below it


@dataclass(frozen=True)
class Evaluation:
    """The result of completing ``count`` prompts of a split.

    The prompts are the first ones of ``seeds`` streams, with seeds ``seed``, ``seed`` + 1 and so on, and ``problems``
    is the number of distinct problems among them. ``truth_rate`` is the share of true programs among all completions,
    and ``interval`` its 95 % interval with problems as the units (see `cadmus_gym.evaluation.intervals`). Under the
    reward ``hidden`` a program counts as true only if it is true on its hidden cases too. ``fit_rate`` is the share
    that is true on the visible cases, and ``overfit_rate`` the share that is true on these and not on the hidden ones
    (see `cadmus_gym.tasks.synthesis.hidden`). ``idle_use_rate`` is the share of the programs that fit which meet a
    directive `use` with idle words only; if the spec refuses these, they do not count as true. ``pass_at`` maps k to
    the probability that at least one of k completions is true. ``loophole_rate`` is the share of all completions that
    are true for the wrong reason (see `find_loopholes`), and ``verdicts`` counts completions by verdict.
    """

    spec: str
    split: str
    count: int
    problems: int
    seed: int
    seeds: int
    samples: int
    truth_rate: float
    interval: tuple[float, float]
    fit_rate: float
    overfit_rate: float
    idle_use_rate: float
    pass_at: dict[int, float]
    loophole_rate: float
    verdicts: dict[str, int]

    def __str__(self) -> str:
        low, high = self.interval
        rate = f"{self.truth_rate:.2%} true [{low:.2%}, {high:.2%}]"
        return f"{self.spec} {self.split}: {rate} of {self.count} prompts, {self.problems} problems"


def pass_at_k(true: NDArray[np.int64], samples: int, k: int) -> float:
    """Return the unbiased estimate of pass@k (Chen et al. 2021, arXiv:2107.03374).

    It is the mean over prompts of the probability that at least one of k completions is true, given that ``true`` (N,)
    of ``samples`` completions of each prompt are. Raises ValueError for a k outside 1 to ``samples``.
    """
    if not 1 <= k <= samples:
        raise ValueError(f"k = {k}: give a number from 1 to samples = {samples}")
    return float(np.mean([1 - math.comb(samples - int(c), k) / math.comb(samples, k) for c in true]))


def prompts_of(
    spec: str | Path | Spec, split: str, count: int, seed: int = EVALUATION_SEED, seeds: int = 1
) -> tuple[Tokens, NDArray[np.int32]]:
    """Return the first ``count`` prompts of a split for each of ``seeds`` seeds, beginning with ``seed``.

    They are (N, P) uint8 padded with 0, with lengths (N,) int32.
    """
    return Stream(spec, split, seed).prompts(*pairs_of(count, seed, seeds))


def problems_of(
    spec: str | Path | Spec, split: str, count: int, seed: int = EVALUATION_SEED, seeds: int = 1
) -> Words64:
    """Return the problem keys of the prompts of `prompts_of`, (N,) uint64."""
    return Stream(spec, split, seed).keys(*pairs_of(count, seed, seeds))


def complete_under(
    model: Transformer,
    spec: Spec,
    prompts: Tokens,
    prompt_lengths: NDArray[np.int32],
    *,
    temperature: float = 0.0,
    seed: int = EVALUATION_SEED,
    batch_size: int = 256,
    report: Report | None = None,
) -> Completions:
    """Let a model complete prompts (N, P), padded with 0, with the form and budget of a spec.

    ``report`` is called with (done, total) prompts after each batch.
    """
    from cadmus_gym.evaluation.completing import complete

    return complete(
        model,
        prompts,
        prompt_lengths=prompt_lengths,
        spec=spec,
        temperature=temperature,
        seed=seed,
        batch_size=batch_size,
        report=report,
    )


def evaluate(
    model: Transformer | Agent | Policy,
    spec: str | Path | Spec,
    split: str = "test",
    count: int = 1000,
    seed: int = EVALUATION_SEED,
    *,
    seeds: int = 1,
    samples: int = 1,
    temperature: float = 0.0,
    batch_size: int = 256,
    endian: str | None = None,
    report: Report | None = None,
) -> Evaluation:
    """Let a model complete the first ``count`` prompts of a split with the spec's form and budget, and judge them.

    With several ``seeds``, the first ``count`` prompts of each go into one evaluation, beginning with ``seed``. A
    problem that occurs under several seeds counts as one problem.

    model: a `Transformer`; a Stable-Baselines3 agent, or any other object with its ``predict``, which acts step by step
        with the environment's masks; or a function from prompts (n, P) uint8, padded with 0, and their lengths (n,)
        int32 to completions: integers (n, M) padded with 0, or n arrays (m,). A completion that breaks the form or
        exceeds the budget is not true.
    samples, temperature: greedy by default. With n > 1 samples each prompt is completed n times, and ``pass_at`` has
        k = 1, 2, 4 ... n. For that, a transformer needs a temperature above 0 and an agent needs 1; a function samples
        by itself.
    batch_size: prompts per batch.
    endian: the digit order that an agent without a transformer observes; see `cadmus_gym.environments.playing.play`.
    report: called with (done, total) after each batch; each completion counts once when written, once when judged.

    The same arguments give the same prompts for every model. Raises ValueError for arguments out of range and for
    invalid completions, such as an array of another shape, and FloatingPointError for logits that are not finite.
    """
    spec = load_spec(spec)
    check_whole(count=count, samples=samples, batch_size=batch_size)
    count, samples = int(count), int(samples)
    if count < 1 or batch_size < 1:
        raise ValueError(f"count = {count}, batch_size = {batch_size}; allowed: 1 or more")
    if not _is_transformer(model) and not isinstance(model, Agent) and not callable(model):
        raise ValueError(f"model is a {type(model).__name__}; allowed: a Transformer, an agent, or a function")
    if endian is not None:
        check_endian(endian, "evaluate")
    function = not _is_transformer(model) and not isinstance(model, Agent)
    if samples < 1 or (samples > 1 and temperature <= 0 and not function):
        raise ValueError(f"samples = {samples} at temperature {temperature}: more than one sample needs one above 0")
    if not _is_transformer(model) and temperature not in ((0,) if function else (0, 1)):
        allowed = "0, since a function draws by itself" if function else "0 (greedy) or 1, for an agent"
        raise ValueError(f"temperature = {temperature}; allowed: {allowed}")
    prompts, lengths = prompts_of(spec, split, count, seed, seeds)
    prompts, lengths = np.repeat(prompts, samples, axis=0), np.repeat(lengths, samples)
    written, judged = (part_of(report, k, 2) for k in range(2))
    if _is_transformer(model):
        programs = complete_under(
            model, spec, prompts, lengths, temperature=temperature, seed=seed, batch_size=batch_size, report=written
        ).programs
    else:
        parts = []
        for start in range(0, len(prompts), batch_size):
            some, sizes = prompts[start : start + batch_size], lengths[start : start + batch_size]
            if isinstance(model, Agent):
                part = play(model, spec, split, some, sizes, endian=endian, deterministic=temperature == 0)
            else:
                part = put(spec, split, some, sizes, model(some.copy(), sizes.copy()))
            parts.append(part)
            if written is not None:
                written(start + len(some), len(prompts))
        programs = np.concatenate(parts)
    return judge_completions(spec, split, seed, programs, lengths, samples, judged, seeds=seeds)


def generalising(
    spec: str | Path | Spec,
    split: str,
    programs: Tokens,
    fits: NDArray[np.bool_],
    count: int,
    seed: int = EVALUATION_SEED,
    seeds: int = 1,
) -> NDArray[np.bool_]:
    """Return which programs (N * samples, L), the prompts of `prompts_of` completed, are true on hidden cases too.

    ``fits`` (N * samples,) says which are true on the visible ones; without hidden cases these are all.
    """
    stream = Stream(spec, split, seed)
    if not stream.reference_room:
        return fits
    references = stream.references(*pairs_of(count, seed, seeds))
    references = references.take(np.repeat(np.arange(count * seeds), len(programs) // (count * seeds)))
    general: NDArray[np.bool_] = generalise(programs, np.flatnonzero(fits), references)[0] == 1
    return general


def earning(
    spec: Spec,
    split: str,
    programs: Tokens,
    fits: NDArray[np.bool_],
    count: int,
    seed: int = EVALUATION_SEED,
    seeds: int = 1,
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which programs earn their reward, which generalise, and which meet a `use` with idle words only.

    All are (N * samples,). Arguments are those of `generalising`.
    """
    general = generalising(spec, split, programs, fits, count, seed, seeds)
    idle = idle_use(programs, np.flatnonzero(fits)) == 1
    earned = general if spec.reward == "hidden" else fits
    return earned & ~idle if spec.idle_use == "refused" else earned, general, idle


def _is_transformer(model: object) -> TypeGuard[Transformer]:
    """Whether a model is a `Transformer`; torch is not imported to find out."""
    module = sys.modules.get("cadmus_gym.transformer.model")
    return module is not None and isinstance(model, module.Transformer)


def judge_completions(
    spec: Spec,
    split: str,
    seed: int,
    programs: Tokens,
    prompt_lengths: NDArray[np.int32],
    samples: int = 1,
    report: Report | None = None,
    *,
    seeds: int = 1,
) -> Evaluation:
    """Judge programs (N * samples, L): the completed prompts of `prompts_of`, with the samples of a prompt adjacent."""
    verdicts, _ = run_batch(programs)
    fits = verdicts == Verdict.TRUE
    count = len(programs) // samples // seeds
    earned, general, idle = earning(spec, split, programs, fits, count, seed, seeds)
    true = earned.reshape(-1, samples).sum(1)
    found = tally(true / samples, problems_of(spec, split, len(true) // seeds, seed, seeds))
    return Evaluation(
        spec=spec.id,
        split=split,
        count=found.count,
        problems=found.problems,
        seed=seed,
        seeds=seeds,
        samples=samples,
        truth_rate=found.rate,
        interval=found.interval,
        fit_rate=float(fits.mean()),
        overfit_rate=float((fits & ~general).mean()),
        idle_use_rate=float(idle.sum() / max(1, fits.sum())),
        pass_at={
            k: pass_at_k(true, samples, k) for k in sorted({2**j for j in range(samples.bit_length())} | {samples})
        },
        loophole_rate=float(find_loopholes(programs, prompt_lengths, report=report).mean()),
        verdicts={Verdict(v).name: n for v, n in sorted(Counter(verdicts.tolist()).items())},
    )
