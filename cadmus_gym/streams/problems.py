"""Reading prompts: their problem, whether a split keeps it, and the programs that complete them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from cadmus_gym.language import isa as op
from cadmus_gym.language.isa import ID, Tokens
from cadmus_gym.language.machine import run
from cadmus_gym.language.notation import as_tokens
from cadmus_gym.language.verdicts import RAN
from cadmus_gym.streams.spec import Spec
from cadmus_gym.streams.writing import (
    SHARE,
    attempt,
    complete,
    keeps,
    new_workspace,
    options_of,
    sieve_of,
)
from cadmus_gym.tasks.family import HELD, PROMPT, REFERENCE
from cadmus_gym.tasks.sampling import DERIVATION, FORCED, GUIDED, IMPOSSIBLE, rewind
from cadmus_gym.tasks.solving import identify
from cadmus_gym.tasks.synthesis.hidden import function_key


@dataclass(frozen=True)
class Problem:
    """A prompt (n,) uint8 as a split reads it.

    ``key`` is the 64-bit key of its problem, ``held`` the number of held-out facts in its expression, ``kept`` whether
    the split keeps it, and ``programs`` are the programs that may complete it.
    """

    prompt: Tokens
    key: int
    held: int
    kept: bool
    programs: tuple[Tokens, ...]


class Reader:
    """Reads prompts as one split of a spec without parts writes them. For one thread."""

    def __init__(self, spec: Spec, split: str) -> None:
        self.spec, self.sieve, self.options = spec, sieve_of(spec, split), options_of(spec)
        self.parameters: Any = spec.family.pack(spec.split_parameters(split)) if is_guided(spec, split) else None
        self.directives = {ID[kind] for kind in getattr(spec.split_parameters(split), "instructions", ())}
        length = spec.prompt_room + spec.completion_room
        self._program, self._space = np.zeros(length, np.uint8), new_workspace(spec, GUIDED, length)
        self._space.script[FORCED] = 1

    def read(self, tokens: Tokens) -> Problem | None:
        """Read a prompt, or the prompt of a whole program with any answer, both (n,) uint8.

        Returns None if the split's parameters write no such prompt, and for a prompt alone that many references fit.
        """
        program, whole = self._program, op.END in tokens
        rng, script, marks, work, machine, _ = self._space
        write = None if self.parameters is None else self.spec.family.write()
        if tokens.size > (program.size if whole else self.spec.prompt_room):
            return None
        if write is None and self.spec.family.written:
            return self._read_function(tokens) if whole else None
        for derivation in range(self.spec.family.derivations):
            program[:] = 0
            program[: tokens.size] = tokens
            if write is None:  # it cannot be guided, so only the expression of the prompt is known
                outcome, depth, key = identify(program, tokens.size, marks, work, machine)
                marks[PROMPT] = tokens.size
                possible = depth == 1 and not whole
            else:
                script[DERIVATION] = derivation
                rewind(script)
                rng[:] = 0
                outcome, key = attempt(write, self.parameters, program, self._space)
                possible = not script[IMPOSSIBLE]
            prompt = int(marks[PROMPT])
            fits = prompt < tokens.size if whole else prompt == tokens.size
            if outcome != RAN or not possible or not fits or not np.array_equal(program[:prompt], tokens[:prompt]):
                continue
            kept = bool(keeps(self.sieve, np.uint64(key), program, marks, machine))
            held = int(marks[HELD])
            if programs := self._completed():
                return Problem(tokens[:prompt].copy(), int(key), held, kept, programs)
        return None

    def _read_function(self, tokens: Tokens) -> Problem | None:
        """Read a whole program of a family that cannot be guided, by the function that its body computes."""
        if self.spec.family.inputs is None or op.DO not in tokens or not run(tokens).true:
            return None
        header = tokens[: int((tokens == op.CASE).argmax())].tolist()
        found = {token for token in header if op.USE <= token <= op.EXACTLY}
        if bool(found) != bool(self.directives) or not found <= self.directives:
            return None
        first = 1 + int((tokens == op.DO).argmax())
        body = first
        while tokens[body] == op.OPEN:
            body += 1 + int((tokens[body:] == op.CLOSE).argmax())
        key, marks = function_key(tokens, tokens[body:], self._space.machine), self._space.marks
        marks[:] = 0
        marks[REFERENCE] = 1
        kept = bool(keeps(self.sieve, np.uint64(key), tokens, marks, self._space.machine))
        return Problem(tokens[:first].copy(), key, 0, kept, (tokens.copy(),))

    def _completed(self) -> tuple[Tokens, ...]:
        """Return the programs that may complete the prompt: without worked steps, and with them; none for a prompt that
        does not run."""
        share, programs = int(self.options[SHARE]), dict[bytes, Tokens]()
        for thinks in [False] * (share < 2**32) + [True] * (share > 0):
            outcome, length = complete(self._program, thinks, self.options, self._space)
            if outcome == RAN:
                whole = self._program[:length].copy()
                programs[whole.tobytes()] = whole
        return tuple(sorted(programs.values(), key=len))


def splits_of(spec: Spec, text: str | ArrayLike) -> dict[str, Problem]:
    """Return how each split of a spec reads a prompt, or the prompt of a program; splits that cannot write it are left
    out.

    A family in plain Python, or without log-probabilities, does not know which prompts the parameters of a split allow.
    Then ``kept`` says whether the split would keep the problem if they did (see `certain`).
    """
    tokens = unpadded(as_tokens(text))
    found = {name: Reader(spec, name).read(tokens) for name in spec.splits}
    return {name: problem for name, problem in found.items() if problem is not None}


def is_guided(spec: Spec, split: str) -> bool:
    """Whether the writer of a split finds the choices that lead to a given program."""
    return spec.family.pack is not None and spec.family.scored(spec.split_parameters(split))


def certain(spec: Spec) -> bool:
    """Whether the family of a spec knows which prompts its splits write."""
    return all(is_guided(spec, split) for split in spec.splits)


def unpadded(tokens: Tokens) -> Tokens:
    """Return tokens without `<pad>` at their end."""
    used = np.flatnonzero(tokens != op.PAD)
    return tokens[: used[-1] + 1] if used.size else tokens[:0]
