"""Search for a completion that makes a prompt true: one interface for enumerating, drawing and sampling.

A method begins a search for each prompt, and a search is advanced by a number of candidates, as often as one likes:

    found = search(Enumeration(words, range(21)), "case 3 to 9 case 5 to 15 do", candidates=10_000).found

Every method asks the machine before it answers, as no policy in an environment can. `Draws` judges completions from a
sampler, `BestOf` those from a model, `Listing` those of a list, and `cadmus_gym.evaluation.enumeration.Enumeration`
tries all bodies, shortest first. What is found is true: it meets all cases and all directives of the prompt.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from cadmus_gym.arguments import check_seed, check_whole
from cadmus_gym.environments.playing import Completed, as_rows
from cadmus_gym.language import isa as op
from cadmus_gym.language.hashing import join
from cadmus_gym.language.isa import Tokens
from cadmus_gym.language.machine import run_batch
from cadmus_gym.language.notation import as_tokens, check_ids
from cadmus_gym.language.verdicts import Verdict
from cadmus_gym.progress import Report
from cadmus_gym.streams.spec import Spec

if TYPE_CHECKING:
    from cadmus_gym.transformer.decoding import Decoder
    from cadmus_gym.transformer.model import Transformer

Status: TypeAlias = Literal["running", "found", "exhausted", "memory"]
# A sampler takes a prompt (n,), a number of completions N and a seed. It returns the completions, `end` included: (N,
# M) integers padded with 0, or a sequence of N arrays (m,). Equal arguments should give equal completions.
Sampler: TypeAlias = Callable[[Tokens, int, int], Completed]


@dataclass(frozen=True, eq=False)
class SearchResult:
    """How far a search has come.

    ``found`` is a completion (m,), `end` included, that makes the prompt true, or None; ``candidates`` is the number of
    bodies judged so far, the one that was found included. ``cpu_seconds`` is the processor time of all threads that
    they took, without compiling. ``status`` is "running" if the search can be advanced, "found", "exhausted" if no
    candidate is left, or "memory" if an enumeration has used up what it was allowed.
    """

    found: Tokens | None
    candidates: int
    cpu_seconds: float
    status: Status

    @property
    def fits(self) -> bool:
        return self.found is not None

    @property
    def exhausted(self) -> bool:
        return self.status == "exhausted"


class Search(Protocol):
    """The search for a completion of one prompt."""

    step: int  # candidates between two looks at the clock

    @property
    def result(self) -> SearchResult: ...

    def advance(self, candidates: int) -> SearchResult:
        """Try up to that many further candidates. How they are divided among calls does not change what is found."""


class Method(Protocol):
    """A way to search."""

    def begin(self, prompt: str | ArrayLike, seed: int = 0) -> Search:
        """Begin a search for a prompt, given as text for `cadmus_gym.assemble` or as ids (n,)."""


def search(
    method: Method,
    prompt: str | ArrayLike,
    *,
    candidates: int | None = None,
    cpu_seconds: float | None = None,
    seed: int = 0,
    report: Report | None = None,
) -> SearchResult:
    """Search for a completion that makes a prompt true, within a number of candidates, of CPU seconds, or both.

    The clock is read every `Search.step` candidates, so the last ones may exceed it. ``report`` is called with (done,
    total) candidates, or seconds if they are the only limit. Raises ValueError for budgets out of range, for neither,
    and as the method does for the prompt.
    """
    if candidates is None and cpu_seconds is None:
        raise ValueError("candidates = None, cpu_seconds = None: give at least one of them")
    _check_budgets(() if candidates is None else (candidates,), () if cpu_seconds is None else (cpu_seconds,))
    most = math.inf if candidates is None else candidates
    longest = math.inf if cpu_seconds is None else cpu_seconds
    running = method.begin(prompt, seed)
    result = running.result
    while result.status == "running" and result.candidates < most and result.cpu_seconds < longest:
        result = running.advance(int(min(running.step, most - result.candidates)))
        if report is not None and candidates is not None:
            report(result.candidates, candidates)
        elif report is not None:
            report(min(int(result.cpu_seconds), math.ceil(longest)), math.ceil(longest))
    return result


def _check_budgets(candidates: Sequence[int], cpu_seconds: Sequence[float]) -> None:
    for tries in candidates:
        check_whole(candidates=tries)
        if tries < 0:
            raise ValueError(f"candidates = {tries}; allowed: 0 or more")
    for seconds in cpu_seconds:
        number = isinstance(seconds, (int, float, np.number)) and not isinstance(seconds, bool)
        if not number or not 0 <= seconds < math.inf:
            raise ValueError(f"cpu_seconds = {seconds!r}; allowed: a finite number from 0")


@dataclass(frozen=True)
class SolveRates:
    """Shares of prompts for which a method finds a true completion within each budget.

    ``out_of_memory`` counts prompts whose search ended by its limit on memory; they count as not solved.
    """

    by_candidates: dict[int, float]
    by_cpu_seconds: dict[float, float]
    out_of_memory: int
    results: tuple[SearchResult, ...]


def solve_rates(
    method: Method,
    prompts: Iterable[str | ArrayLike],
    *,
    candidates: Sequence[int] = (),
    cpu_seconds: Sequence[float] = (),
    seed: int = 0,
    report: Report | None = None,
) -> SolveRates:
    """Search for each prompt until it is solved or all budgets are used up; return the rates against both.

    The seed of each prompt is a function of ``seed`` and its place. ``report`` is called with (done, total) prompts.
    Raises ValueError if there are no prompts or no budgets, for budgets out of range, and as the method does.
    """
    given = list(prompts)
    if not given or not (*candidates, *cpu_seconds):
        raise ValueError(
            f"{len(given)} prompts, candidates = {candidates}, cpu_seconds = {cpu_seconds}; allowed: at least one "
            "prompt and one budget"
        )
    _check_budgets(candidates, cpu_seconds)
    most, longest = max(candidates, default=0), max(cpu_seconds, default=0.0)
    results = []
    for k, prompt in enumerate(given):
        running = method.begin(prompt, _seed_of(seed, k))
        while (result := running.result).status == "running":
            if result.candidates >= most and result.cpu_seconds >= longest:
                break
            running.advance(running.step if longest else min(running.step, most - result.candidates))
        results.append(result)
        if report is not None:
            report(k + 1, len(given))
    solved = [result for result in results if result.fits]
    return SolveRates(
        {tries: sum(one.candidates <= tries for one in solved) / len(given) for tries in candidates},
        {seconds: sum(one.cpu_seconds <= seconds for one in solved) / len(given) for seconds in cpu_seconds},
        sum(result.status == "memory" for result in results),
        tuple(results),
    )


def _seed_of(seed: int, k: int) -> int:
    """Return the k-th seed that a seed stands for."""
    return int(join(np.uint64(check_seed(seed)), np.uint64(k))) >> 1


def as_prompt(prompt: str | ArrayLike) -> Tokens:
    """Return a prompt as ids (n,). Raises ValueError for one that has an `end`, after which nothing counts."""
    tokens = as_tokens(prompt)
    if op.END in tokens:
        raise ValueError(f"the prompt has an `end` at {int(np.argmax(tokens == op.END))}; a prompt is completed by one")
    return tokens


class _Trials:
    """A search that judges completions batch by batch. ``write(k)`` returns batch k, (N, M), or None past the last."""

    def __init__(self, prompt: Tokens, write: Callable[[int], Tokens | None], step: int) -> None:
        self.prompt, self.write, self.step = prompt, write, step
        self.batches = 0  # judged so far
        self.rows, self.true = np.zeros((0, 0), np.uint8), np.zeros(0, np.bool_)  # of the last one
        self.next = 0  # of its rows
        self.result = SearchResult(None, 0, 0.0, "running")
        run_batch(np.zeros((0, 1), np.uint8))  # compiles it

    def advance(self, candidates: int) -> SearchResult:
        check_whole(candidates=candidates)
        left = candidates
        while left > 0 and self.result.status == "running":
            began, before = time.process_time(), self.result
            found: Tokens | None = None
            status: Status = "running"
            if self.next == len(self.rows) and not self._judge_next():
                status = "exhausted"
            true = self.true[self.next : self.next + left]
            taken = int(true.argmax()) + 1 if true.any() else true.size
            if true.any():
                row = self.rows[self.next + taken - 1]
                found, status = row[: int(np.argmax(row == op.END)) + 1].copy(), "found"
            self.next, left = self.next + taken, left - taken
            spent = before.cpu_seconds + time.process_time() - began
            self.result = SearchResult(found, before.candidates + taken, spent, status)
        return self.result

    def _judge_next(self) -> bool:
        """Judge the next batch; return whether there is one."""
        rows = self.write(self.batches)
        if rows is None:
            return False
        programs = np.concatenate([np.tile(self.prompt, (len(rows), 1)), rows], axis=1)
        self.rows, self.true, self.next = rows, run_batch(programs)[0] == Verdict.TRUE, 0
        self.batches += 1
        return True


@dataclass(frozen=True)
class Draws:
    """Candidates are drawn from a sampler, such as a generator's prior, ``batch`` at a time.

    The seed of each batch is a function of the search's seed and of the batch's place. The time of a whole batch counts
    when its first candidate is judged. Advancing raises ValueError unless the sampler returns as many completions as it
    is asked for, as rows of token ids.
    """

    sampler: Sampler
    batch: int = 256

    def __post_init__(self) -> None:
        check_whole(batch=self.batch)
        if self.batch < 1:
            raise ValueError(f"batch = {self.batch}; allowed: 1 or more")

    def begin(self, prompt: str | ArrayLike, seed: int = 0) -> Search:
        tokens, seed = as_prompt(prompt), check_seed(seed)

        def write(k: int) -> Tokens:
            drawn = self.sampler(tokens.copy(), self.batch, _seed_of(seed, k))
            try:
                return check_ids(as_rows(drawn, self.batch))
            except ValueError as error:
                raise ValueError(f"batch {k} of the sampler: {error}") from None

        return _Trials(tokens, write, self.batch)


@dataclass(frozen=True)
class BestOf:
    """Candidates are completions that a model samples, under its form and budget; the machine verifies them.

    The other arguments are those of `cadmus_gym.complete`, which raises what is wrong with them when a search is
    advanced.
    """

    model: Transformer | Decoder
    batch: int = 256
    temperature: float = 1.0
    spec: str | Path | Spec | None = None
    form: str | None = None
    words: tuple[str, ...] = ()
    max_tokens: int | None = None
    thought_tokens: int | None = None

    def __post_init__(self) -> None:
        from cadmus_gym.transformer.generate import check_temperature

        Draws(self._sample, self.batch)
        if check_temperature(self.temperature) == 0:
            raise ValueError(f"temperature = {self.temperature}; allowed: above 0, since at 0 all samples are equal")

    def begin(self, prompt: str | ArrayLike, seed: int = 0) -> Search:
        return Draws(self._sample, self.batch).begin(prompt, seed)

    def _sample(self, prompt: Tokens, number: int, seed: int) -> Tokens:
        from cadmus_gym.evaluation.completing import complete

        return complete(
            self.model,
            np.tile(prompt, (number, 1)),
            spec=self.spec,
            form=self.form,
            words=self.words,
            max_tokens=self.max_tokens,
            thought_tokens=self.thought_tokens,
            temperature=self.temperature,
            seed=seed,
            batch_size=number,
        ).tokens


@dataclass(frozen=True, eq=False)
class Listing:
    """Candidates are the completions of a list, (N, M) padded with 0, the same for each prompt, in their order."""

    completions: Tokens

    def begin(self, prompt: str | ArrayLike, seed: int = 0) -> Search:
        rows = check_ids(as_rows(self.completions, len(self.completions)))
        return _Trials(as_prompt(prompt), lambda k: rows if k == 0 else None, max(1, len(rows)))
