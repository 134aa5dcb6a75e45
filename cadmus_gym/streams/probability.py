"""How likely the generator was to make a program: exact log-probabilities, normalisers, entropies.

A writer makes every choice through `cadmus_gym.tasks.sampling`. Guided by a given program it makes those that lead
there, and the product of their shares is the probability of the program before its split's hash had a say. The hash
rejects what OPERAND drew and keeps what CHOICE drew, so what remains is divided, for each kind of choices, by the share
of operands that the split keeps: summed over all of them where they are few, otherwise estimated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cadmus_gym.language import isa as op
from cadmus_gym.language.hashing import Words64, mix
from cadmus_gym.language.isa import Int, Ints, Tokens
from cadmus_gym.language.kernels import kernel
from cadmus_gym.language.memory import scratch
from cadmus_gym.language.notation import check_ids
from cadmus_gym.language.verdicts import RAN
from cadmus_gym.streams.spec import Spec
from cadmus_gym.streams.writing import (
    LIMIT,
    RELATION,
    SHARE,
    STYLE,
    Sieve,
    answer_of,
    attempt,
    keeps,
    options_of,
    sieve_of,
)
from cadmus_gym.tasks.family import HELD, MARKS, PROMPT, STRATUM, WORK, Writer
from cadmus_gym.tasks.sampling import (
    CHOICE,
    CHOICES,
    DERIVATION,
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
    TAKEN,
    TOTAL,
    WEIGHT,
    new_script,
    rewind,
)
from cadmus_gym.tasks.solving import SLACK, identify, put_answer, think

Key: TypeAlias = tuple[int, ...]

FEW = 200_000  # cases that are tried whatever their number seems to be: about a tenth of a second


@kernel
def enumerate_operands(
    write: Writer,
    parameters: Ints,
    sieve: Sieve,
    rng: Words64,
    script: Ints,
    program: Tokens,
    marks: Ints,
    work: Ints,
    machine: Ints,
    budget: Int,
) -> tuple[Int, float, float]:
    """Try all operands under forced choices: (number or -1 beyond the budget, their weight, that of the kept)."""
    whole, kept = 0.0, 0.0
    count = 0
    script[GIVEN] = 0
    while count < budget:
        rewind(script)
        outcome, key = attempt(write, parameters, rng, script, program, marks, work, machine)
        count += 1
        probability = 1.0
        for k in range(script[DRAWN]):
            at = DRAWS + DRAW_CELLS * k
            if script[at + SOURCE] == OPERAND:
                probability *= script[at + WEIGHT] / script[at + TOTAL]
        whole += probability
        if outcome == RAN and keeps(sieve, key, program, marks, machine):
            kept += probability
        if not advance(script):
            return count, whole, kept
    return -1, whole, kept


@kernel
def advance(script: Ints) -> bool:
    """Move a script to the next outcome of its last draw that has one left; return whether there was any."""
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
    write: Writer,
    parameters: Ints,
    sieve: Sieve,
    rng: Words64,
    script: Ints,
    program: Tokens,
    marks: Ints,
    work: Ints,
    machine: Ints,
    count: Int,
) -> Int:
    """Draw operands under forced choices; return how many of ``count`` the split keeps."""
    kept = np.int64(0)
    for _ in range(count):
        rewind(script)
        outcome, key = attempt(write, parameters, rng, script, program, marks, work, machine)
        kept += np.int64(outcome == RAN and keeps(sieve, key, program, marks, machine))
    return kept


@kernel
def score(
    write: Writer,
    parameters: Ints,
    options: Ints,
    sieve: Sieve,
    target: Tokens,
    thought: Tokens,
    rng: Words64,
    script: Ints,
    program: Tokens,
    marks: Ints,
    work: Ints,
    machine: Ints,
) -> tuple[float, float, float]:
    """Find the choices that lead to a program: log-probabilities (of its choices, of its operands, of its completion
    given both), -inf where there are none. The script keeps the choices."""
    impossible = -np.inf, -np.inf, -np.inf
    size = target.size
    if size > program.size:
        return impossible
    for position in range(program.size):
        program[position] = target[position] if position < size else 0
    rewind(script)
    outcome, key = attempt(write, parameters, rng, script, program, marks, work, machine)
    prompt = marks[PROMPT]
    if outcome != RAN or script[IMPOSSIBLE] or prompt > size or not keeps(sieve, key, program, marks, machine):
        return impossible
    for position in range(prompt):
        if program[position] != target[position]:
            return impossible
    choices, operands = 0.0, 0.0
    for k in range(script[DRAWN]):
        at = DRAWS + DRAW_CELLS * k
        share = math.log(script[at + WEIGHT]) - math.log(script[at + TOTAL])
        if script[at + SOURCE] == CHOICE:
            choices += share
        else:
            operands += share
    outcome, answer = answer_of(program, marks, machine)
    if outcome != RAN:
        return impossible
    share = options[SHARE] / 4294967296
    matches = 0.0
    for thinks in range(2):
        length = 0
        if thinks and options[STYLE] > 0:
            length = think(program, marks, options[STYLE], options[LIMIT], thought, work, machine)
        for position in range(length):
            program[prompt + position] = thought[position]
        length = put_answer(program, prompt + length, answer, options[RELATION] == 1)
        same = length == size
        for position in range(prompt, size):
            same = same and program[position] == target[position]
        if same:
            matches += share if thinks else 1.0 - share
    return choices, operands, (math.log(matches) if matches > 0 else -np.inf)


@dataclass(frozen=True, eq=False)
class Share:
    """The share of operands a split keeps under one kind of choices, and its standard error, 0 where it is exact.

    Two that are estimated by themselves are never equal, whatever their values.
    """

    value: float
    error: float


@dataclass(frozen=True)
class Problem:
    """What a split makes of a prompt (n,) uint8: the key of its problem, of 64 bits, how many held-out facts its
    expression contains, whether the split keeps it, and the programs that the prompt may be completed to."""

    prompt: Tokens
    key: int
    held: int
    kept: bool
    programs: tuple[Tokens, ...]


class Scorer:
    """Scores programs against one spec's split; normalisers are found when first needed and kept.

    A kind of choices with at most ``budget`` cases is summed over, for others ``samples`` are drawn.
    """

    def __init__(self, spec: Spec, split: str, budget: int, samples: int) -> None:
        self.spec, self.budget, self.samples = spec, budget, samples
        self.sieve = sieve_of(spec, split)
        self.whole = spec.split(split).interval == (0, 2**64 - 1) and not spec.family.needs
        pack = spec.family.pack
        self.parameters: Any = None if pack is None else pack(spec.split_parameters(split))
        self.options = options_of(spec)
        self.shares: dict[Key, Share] = {}
        self._prompt_room = spec.prompt_room
        length = self._prompt_room + spec.completion_room
        self._thought = np.zeros(spec.thoughts.limit + SLACK, np.uint8)
        self._script = new_script(GUIDED)
        self._marks = np.zeros(MARKS, np.int64)
        self._rest: tuple[Any, Any, Any, Any] = (
            np.zeros(length, np.uint8),
            self._marks,
            np.zeros(WORK, np.int64),
            scratch(length),
        )

    def score(self, program: Tokens) -> tuple[float, float, float]:
        """Return log-probabilities of a program (n,) that ends in `end`: (of its prompt, of the completion given it,
        the variance that estimated normalisers leave in the first); nan where the task cannot tell."""
        if self.parameters is None:
            return math.nan, math.nan, math.nan
        logs: list[float] = []
        shares: list[Share] = []
        given = -math.inf
        for derivation in range(self.spec.family.derivations):
            script = self._script
            script[DERIVATION] = derivation
            choices, operands, completion = score(
                self.spec.family.write(),
                self.parameters,
                self.options,
                self.sieve,
                program,
                self._thought,
                np.zeros(2, np.uint64),
                script,
                *self._rest,
            )
            if choices > -math.inf:
                share = self._share(script)
                given = completion
                logs.append(choices + operands - math.log(share.value))
                shares.append(share)
        if not logs:
            return -math.inf, -math.inf, 0.0
        total = log_sum(np.array(logs))
        errors = dict.fromkeys(shares, 0.0)  # derivations that divide by one share have its error in common
        for log, share in zip(logs, shares, strict=True):
            errors[share] += math.exp(log - total) * share.error / share.value
        return total, given, sum(error**2 for error in errors.values())

    def read(self, tokens: Tokens) -> Problem | None:
        """Return what the split makes of a prompt, or of the prompt of a program whatever its answer, both (n,) uint8;
        None where its parameters write no such prompt."""
        program, marks, work, machine = self._rest
        script, whole = self._script, op.END in tokens
        write = None if self.parameters is None else self.spec.family.write()
        if tokens.size > (program.size if whole else self._prompt_room):
            return None
        for derivation in range(self.spec.family.derivations):
            program[:] = 0
            program[: tokens.size] = tokens
            if write is None:  # it cannot be guided: only what a prompt computes is known
                outcome, depth, key = identify(program, tokens.size, marks, work, machine)
                marks[PROMPT] = tokens.size
                possible = depth == 1 and not whole
            else:
                script[DERIVATION] = derivation
                rewind(script)
                rng = np.zeros(2, np.uint64)
                outcome, key = attempt(write, self.parameters, rng, script, program, marks, work, machine)
                possible = not script[IMPOSSIBLE]
            prompt = int(marks[PROMPT])
            fits = prompt < tokens.size if whole else prompt == tokens.size
            if outcome != RAN or not possible or not fits or not np.array_equal(program[:prompt], tokens[:prompt]):
                continue
            outcome, answer = answer_of(program, marks, machine)
            if outcome == RAN:
                kept = bool(keeps(self.sieve, np.uint64(key), program, marks, machine))
                programs = self._completed(prompt, answer)
                return Problem(tokens[:prompt].copy(), int(key), int(marks[HELD]), kept, programs)
        return None

    def _completed(self, prompt: int, answer: int) -> tuple[Tokens, ...]:
        """The programs that a prompt may be completed to: with worked steps, and without."""
        program, marks, work, machine = self._rest
        share, style, limit = int(self.options[SHARE]), int(self.options[STYLE]), int(self.options[LIMIT])
        sizes = {0} if share < 2**32 else set()
        if share > 0:
            sizes.add(int(think(program, marks, style, limit, self._thought, work, machine)) if style else 0)
        programs = []
        for size in sorted(sizes):
            program[prompt : prompt + size] = self._thought[:size]
            length = put_answer(program, prompt + size, answer, self.options[RELATION] == 1)
            programs.append(program[:length].copy())
        return tuple(programs)

    def _share(self, script: Ints) -> Share:
        """The share of operands the split keeps under the choices in a script."""
        if self.whole:
            return Share(1.0, 0.0)
        draws = script[DRAWS : DRAWS + DRAW_CELLS * script[DRAWN]].reshape(-1, DRAW_CELLS)
        choices = draws[draws[:, SOURCE] == CHOICE, TAKEN]
        stratum = int(self._marks[STRATUM])
        key: Key = (stratum,) if stratum else (0, *choices.tolist())
        if key not in self.shares:
            self.shares[key] = self._find_share(choices, len(self.shares))
        return self.shares[key]

    def _find_share(self, choices: Ints, number: int) -> Share:
        write, given = self.spec.family.write(), self.parameters
        program, marks, work, machine = self._rest
        script = new_script(SCRIPTED)
        script[FORCED] = 1
        script[CHOICES : CHOICES + choices.size] = choices
        few = min(self.budget, FEW)
        rng = np.zeros(2, np.uint64)

        def enumerated(budget: int) -> tuple[int, float, float]:
            return enumerate_operands(write, given, self.sieve, rng, script, program, marks, work, machine, budget)

        count, whole, kept = enumerated(few)
        if count < 0 and few < whole * self.budget:  # those few have that share of the weight, so about of all cases
            count, whole, kept = enumerated(self.budget)
        if count > 0:
            return Share(kept / whole, 0.0)
        sampled = new_script(SAMPLED)
        sampled[CHOICES : CHOICES + choices.size] = choices
        rng = np.array([0, mix(np.uint64(number))], np.uint64)
        count = self.samples
        kept = sample_operands(write, given, self.sieve, rng, sampled, program, marks, work, machine, count)
        value = max(kept, 1) / self.samples
        return Share(value, math.sqrt(value * (1 - value) / self.samples))


@dataclass(frozen=True)
class Scores:
    """How likely programs are, arrays of shape (N,) or () in natural logarithms.

    ``log_prob`` of the whole program is ``prompt`` + ``completion``: of the prompt, and of the completion given it.
    ``error`` is the standard error that estimated normalisers leave in it; where it is 0, ``exact`` is True: that is so
    for all kinds of programs with no more operands than the budget of `Stream.score`.
    """

    log_prob: NDArray[np.float64]
    prompt: NDArray[np.float64]
    completion: NDArray[np.float64]
    error: NDArray[np.float64]

    @property
    def exact(self) -> NDArray[np.bool_]:
        return np.asarray(self.error == 0)


@dataclass(frozen=True)
class Entropy:
    """What the programs of a stream leave open, in nats per program; a mean over ``count`` of them.

    ``prompt`` is the entropy of the prompt and ``completion`` that of the completion given it, with their standard
    errors; ``prompt_tokens`` and ``completion_tokens`` are mean lengths.
    """

    count: int
    prompt: float
    prompt_error: float
    completion: float
    completion_error: float
    prompt_tokens: float
    completion_tokens: float

    def floor(self, prompt_weight: float = 1.0) -> float:
        """Return a bound that the loss of no model can pass: nats per token, tokens of the prompt with that weight.

        All tokens together lose at least the entropy of the program, and those of the completion at least what the
        prompt leaves open of it. With a weight other than 1 no model need reach the bound: that a prompt is over shows
        only in the first token after it, which the bound counts with the prompt.
        """
        nats = prompt_weight * self.prompt + self.completion
        return nats / (prompt_weight * self.prompt_tokens + self.completion_tokens)


def score_mixture(scorers: list[Scorer], weights: Ints, programs: ArrayLike) -> Scores:
    """Score programs (N, L) or (L,) against a mixture, whose parts may write the same programs."""
    rows = check_ids(np.asarray(programs))
    if rows.ndim not in (1, 2):
        raise ValueError(f"programs are rows of token ids, (N, L) or (L,); this has shape {rows.shape}")
    shape = rows.shape[:-1]
    rows = rows.reshape(-1, rows.shape[-1])
    table = np.zeros((4, len(rows)))
    for k, program in enumerate(rows):
        parts = [scorer.score(trimmed(program)) for scorer in scorers]
        shares = np.log(weights / weights.sum())
        prompts = shares + [prompt for prompt, _, _ in parts]
        wholes = prompts + [completion for _, completion, _ in parts]
        prompt, whole = log_sum(prompts), log_sum(wholes)
        errors = [variance for _, _, variance in parts]
        error = 0.0
        if whole != -math.inf:
            error = math.sqrt(float(np.exp(2 * (wholes - whole)) @ np.array(errors)))
        table[:, k] = whole, prompt, -math.inf if prompt == -math.inf else whole - prompt, error
    return Scores(*(row.reshape(shape) for row in table))


def log_sum(logs: NDArray[np.float64]) -> float:
    """Return the logarithm of a sum of numbers given by their logarithms (n,)."""
    largest = float(np.max(logs))
    return largest if largest == -math.inf else largest + math.log(float(np.exp(logs - largest).sum()))


def trimmed(program: Tokens) -> Tokens:
    """Return a program without what is after its `end`."""
    ends = np.flatnonzero(program == op.END)
    return program[: ends[0] + 1] if ends.size else program[:0]
