"""Exact log-probabilities of programs under one split of a spec.

A writer makes every choice through `cadmus_gym.tasks.sampling`. Guided by a given program, it makes the choices that
lead to that program, and the product of their probabilities is the probability of the program before the split rejects
any. A split rejects the draws of OPERAND and keeps those of CHOICE. So the product is divided, for each kind of program
(each outcome of all CHOICE draws), by the share of operands that the split keeps. The share is a sum over all operands
if there are few, and otherwise an estimate.
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cadmus_gym.language.hashing import mix
from cadmus_gym.language.isa import Int, Ints, Tokens
from cadmus_gym.language.kernels import kernel
from cadmus_gym.language.verdicts import RAN
from cadmus_gym.streams.spec import Spec
from cadmus_gym.streams.writing import (
    SHARE,
    Sieve,
    Workspace,
    attempt,
    complete,
    keeps,
    new_workspace,
    options_of,
    sieve_of,
)
from cadmus_gym.tasks.family import PROMPT, STRATUM, Writer
from cadmus_gym.tasks.sampling import (
    CERTAINTY,
    CHOICE,
    CHOICES,
    DERIVATION,
    DOUBT,
    DRAW_CELLS,
    DRAWN,
    DRAWS,
    FORCED,
    GIVEN,
    GUIDED,
    IMPOSSIBLE,
    OPERAND,
    OUTCOMES,
    SAMPLED,
    SCRIPTED,
    SOURCE,
    SOURCES,
    TAKEN,
    TOTAL,
    WEIGHT,
    new_script,
    rewind,
)

Kind: TypeAlias = tuple[int, ...]

_COUNTED: dict[Any, tuple[Int, float, float]] = {}  # by family, split, kind and budget: see `enumerate_operands`
FEW = 200_000  # cases that are always tried, in about a tenth of a second, before their number is estimated


@kernel
def enumerate_operands(
    write: Writer, parameters: Ints, sieve: Sieve, program: Tokens, space: Workspace, budget: Int
) -> tuple[Int, float, float]:
    """Try all operands under the forced choices of a script.

    Returns (number of cases, or -1 if there are more than ``budget``; their probability; that of those kept).
    """
    script = space.script
    whole, kept = 0.0, 0.0
    count = 0
    script[GIVEN] = 0
    while count < budget:
        rewind(script)
        outcome, key = attempt(write, parameters, program, space)
        count += 1
        probability = 1.0
        for k in range(script[DRAWN]):
            at = DRAWS + DRAW_CELLS * k
            if script[at + SOURCE] == OPERAND:
                probability *= script[at + WEIGHT] / script[at + TOTAL]
        whole += probability
        if outcome == RAN and keeps(sieve, key, program, space.marks, space.machine):
            kept += probability
        if not advance(script):
            return count, whole, kept
    return -1, whole, kept


@kernel
def advance(script: Ints) -> bool:
    """Move a script to the next outcome of the last draw that has one left; return False if no draw has."""
    k = script[DRAWN] - 1
    while k >= 0:
        at = DRAWS + DRAW_CELLS * k
        if script[at + TAKEN] + 1 < script[at + OUTCOMES] and not (script[FORCED] and script[at + SOURCE] == CHOICE):
            script[at + TAKEN] += 1
            script[GIVEN] = k + 1
            return True
        k -= 1
    return False


@kernel
def sample_operands(
    write: Writer, parameters: Ints, sieve: Sieve, program: Tokens, space: Workspace, count: Int
) -> Int:
    """Draw operands ``count`` times under the forced choices of a script; return how many the split keeps."""
    kept = np.int64(0)
    for _ in range(count):
        rewind(space.script)
        outcome, key = attempt(write, parameters, program, space)
        kept += np.int64(outcome == RAN and keeps(sieve, key, program, space.marks, space.machine))
    return kept


class Parts(NamedTuple):
    """Log-probabilities of a program's CHOICE draws, its OPERAND draws, and its completion given both."""

    choices: float
    operands: float
    completion: float


@kernel
def score(
    write: Writer, parameters: Ints, options: Ints, sieve: Sieve, target: Tokens, program: Tokens, space: Workspace
) -> Parts:
    """Find the choices that lead to a program; all parts are -inf if there are none. The script keeps the choices."""
    script, marks, machine = space.script, space.marks, space.machine
    impossible = Parts(-np.inf, -np.inf, -np.inf)
    size = target.size
    if size > program.size:
        return impossible
    for position in range(program.size):
        program[position] = target[position] if position < size else 0
    rewind(script)
    outcome, key = attempt(write, parameters, program, space)
    prompt = marks[PROMPT]
    if outcome != RAN or script[IMPOSSIBLE] or prompt > size or not keeps(sieve, key, program, marks, machine):
        return impossible
    for position in range(prompt):
        if program[position] != target[position]:
            return impossible
    choices, operands = 0.0, 0.0
    for k in range(script[DRAWN]):
        at = DRAWS + DRAW_CELLS * k
        log = math.log(script[at + WEIGHT]) - math.log(script[at + TOTAL])
        if script[at + SOURCE] == CHOICE:
            choices += log
        else:
            operands += log
    share = options[SHARE] / 4294967296
    matches = 0.0
    for thinks in range(2):
        outcome, length = complete(program, thinks == 1, options, space)
        if outcome != RAN:
            return impossible
        same = length == size
        for position in range(prompt, size):
            same = same and program[position] == target[position]
        if same:
            matches += share if thinks else 1.0 - share
    return Parts(choices, operands, math.log(matches) if matches > 0 else -np.inf)


@kernel
def find_derivations(
    write: Writer,
    parameters: Ints,
    options: Ints,
    sieve: Sieve,
    programs: Tokens,
    sizes: Ints,
    program: Tokens,
    space: Workspace,
    found: NDArray[np.bool_],
) -> None:
    """Set in ``found`` (N, derivations) which derivations lead to ``programs`` (N, L) of ``sizes`` (N,) tokens."""
    for k in range(sizes.size):
        for derivation in range(found.shape[1]):
            begin(space, derivation)
            parts = score(write, parameters, options, sieve, programs[k, : sizes[k]], program, space)
            found[k, derivation] = parts.choices > -np.inf


@kernel
def begin(space: Workspace, derivation: Int) -> None:
    """Make a workspace ready to score by one derivation."""
    space.script[DERIVATION] = derivation
    for source in range(SOURCES):
        space.rng[source] = 0


@dataclass(frozen=True, eq=False)
class Share:
    """The share of operands that a split keeps for one kind of program, and its standard error, 0 if it is exact.

    Shares are compared by identity: two estimates have independent errors, even if their values are equal.
    """

    value: float
    error: float


class Score(NamedTuple):
    """Log-probabilities of a program and of its prompt, and their variance due to estimated shares.

    That of the prompt is nan if several references may go with it: it is a sum over all of them.
    """

    whole: float
    prompt: float
    variance: float


class Scorer:
    """Scores programs against one split of a spec without parts. Shares are computed when first needed, and kept.

    A kind of program with at most ``budget`` operands is summed over; for others, ``samples`` operands are drawn.
    """

    def __init__(self, spec: Spec, split: str, budget: int, samples: int) -> None:
        self.spec, self.budget, self.samples = spec, budget, samples
        self.sieve, self.options = sieve_of(spec, split), options_of(spec)
        self.interval = spec.split(split).interval
        self.whole = self.interval == (0, 2**64 - 1) and not spec.family.needs and not spec.family.written
        self.several = spec.family.fits_many
        pack = spec.family.pack
        given = spec.split_parameters(split)
        self.parameters: Any = pack(given) if pack is not None and spec.family.scored(given) else None
        self.shares: dict[Kind, Share] = {}
        length = spec.prompt_room + spec.completion_room
        self._program, self._space = np.zeros(length, np.uint8), new_workspace(spec, GUIDED, length)
        self._split = spec.family, spec.digest_of(split)

    def score(self, programs: Tokens, sizes: Ints) -> list[Score]:
        """Score programs (N, L) whose first ``sizes`` (N,) tokens end in `end`; all is nan without probabilities."""
        if self.parameters is None:
            return [Score(math.nan, math.nan, math.nan)] * len(programs)
        found = np.ones((len(programs), self.spec.family.derivations), np.bool_)
        if found.shape[1] > 1:
            given = self.spec.family.write(), self.parameters, self.options, self.sieve
            find_derivations(*given, programs, sizes, self._program, self._space, found)
        return [
            self._score(program[:size], np.flatnonzero(derivations))
            for program, size, derivations in zip(programs, sizes, found, strict=True)
        ]

    def _score(self, program: Tokens, derivations: Ints) -> Score:
        """Score a program (n,) that these derivations may lead to."""
        given = self.spec.family.write(), self.parameters, self.options, self.sieve
        logs: list[float] = []
        shares: list[Share] = []
        completion, doubt = -math.inf, 0.0
        for derivation in derivations.tolist():
            begin(self._space, derivation)
            parts = score(*given, program, self._program, self._space)
            if parts.choices == -math.inf:
                continue
            doubt = self._space.script[DOUBT] / CERTAINTY
            share = self._share()
            completion = parts.completion
            logs.append(parts.choices + parts.operands - math.log(share.value))
            shares.append(share)
        if not logs:
            return Score(-math.inf, math.nan if self.several else -math.inf, 0.0)
        total = log_sum(np.array(logs))
        errors = dict.fromkeys(shares, 0.0)  # derivations with the same share have the same error
        for log, share in zip(logs, shares, strict=True):
            errors[share] += math.exp(log - total) * share.error / share.value
        prompt = math.nan if self.several else total
        return Score(total + completion, prompt, doubt + sum(error**2 for error in errors.values()))

    def _share(self) -> Share:
        """Return the share for the kind of program that was scored last."""
        if self.whole:
            return Share(1.0, 0.0)
        script = self._space.script
        draws = script[DRAWS : DRAWS + DRAW_CELLS * script[DRAWN]].reshape(-1, DRAW_CELLS)
        choices = draws[draws[:, SOURCE] == CHOICE, TAKEN]
        stratum = int(self._space.marks[STRATUM])
        kind: Kind = (stratum,) if stratum else (0, *choices.tolist())
        if kind not in self.shares:
            self.shares[kind] = self._find_share(kind, choices)
        return self.shares[kind]

    def _find_share(self, kind: Kind, choices: Ints) -> Share:
        if self.several:
            return self._find_share_of_references(choices)
        script = new_script(SCRIPTED)
        script[FORCED] = 1
        script[CHOICES : CHOICES + choices.size] = choices
        space = self._space._replace(script=script, rng=np.zeros(SOURCES, np.uint64))
        given = self.spec.family.write(), self.parameters, self.sieve, self._program
        known = (*self._split, kind, self.budget)
        if known not in _COUNTED:
            few = min(self.budget, FEW)
            counted = enumerate_operands(*given, space, few)
            if counted[0] < 0 and few < counted[1] * self.budget:  # so all may be within the budget
                counted = enumerate_operands(*given, space, self.budget)
            _COUNTED[known] = counted
        count, whole, kept = _COUNTED[known]
        if count > 0:
            return Share(kept / whole, 0.0)
        return self._estimate_share(choices)

    def _find_share_of_references(self, choices: Ints) -> Share:
        """Return the share of references, exact if all of them can be enumerated."""
        find_space = self.spec.family.space
        if find_space is not None:
            with contextlib.suppress(ValueError):
                first, last = self.interval
                return Share(find_space(self.parameters).share(choices.tolist(), first, last), 0.0)
        return self._estimate_share(choices)

    def _estimate_share(self, choices: Ints) -> Share:
        given = self.spec.family.write(), self.parameters, self.sieve, self._program
        script = new_script(SAMPLED)
        script[CHOICES : CHOICES + choices.size] = choices
        rng = np.array([0, mix(np.uint64(len(self.shares))), 0], np.uint64)
        space = self._space._replace(script=script, rng=rng)
        value = max(sample_operands(*given, space, self.samples), 1) / self.samples
        return Share(value, math.sqrt(value * (1 - value) / self.samples))


def log_sum(logs: NDArray[np.float64]) -> float:
    """Return the logarithm of the sum of numbers with these logarithms (n,)."""
    largest = float(np.max(logs))
    return largest if largest == -math.inf else largest + math.log(float(np.exp(logs - largest).sum()))
