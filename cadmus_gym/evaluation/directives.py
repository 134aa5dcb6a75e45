"""Directives: which of them hold, each judged by itself, and policies that ignore them.

A directive bites if it is violated by the body that the stream would most likely write without it. The plain policies
here write that body, or that body and a suffix that does nothing but contain the word of a `use`. Under
`cadmus_gym.tasks.synthesis.instruct` they earn almost nothing.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cadmus_gym.evaluation.truth import EVALUATION_SEED, earning
from cadmus_gym.language import isa as op
from cadmus_gym.language.isa import VOCABULARY, Ints, Tokens
from cadmus_gym.language.kernels import kernel
from cadmus_gym.language.machine import execute, load_inputs, run_batch
from cadmus_gym.language.memory import DIRECTIVES, bit, fresh, load, scratch
from cadmus_gym.language.notation import assemble
from cadmus_gym.language.parsing import prepare, read_body
from cadmus_gym.language.verdicts import DIRECTIVE, MAX_DIRECTIVES, RAN, STEPS, Verdict
from cadmus_gym.streams.loading import load_spec
from cadmus_gym.streams.spec import Spec
from cadmus_gym.tasks.synthesis.drawing import OWN
from cadmus_gym.tasks.synthesis.space import Space, space_of

ABSENT, BROKEN, HELD = range(3)  # what `held_directives` says of each place of a header

# For each word, a suffix that contains it and changes nothing. Words without one are left out.
SUFFIXES = {
    **{"add": "0 add", "sub": "0 sub", "mul": "1 mul", "div": "1 div", "mod": "dup 1 mod drop", "neg": "neg neg"},
    **{"abs": "dup abs drop", "min": "dup min", "max": "dup max", "inc": "inc dec", "dec": "inc dec"},
    **{"lt": "dup dup lt drop", "gt": "dup dup gt drop", "dup": "dup drop", "drop": "dup drop"},
    **{"swap": "dup swap drop", "over": "dup over drop drop", "rot": "dup dup rot drop drop", "pick": "0 pick drop"},
    **{"a!": "dup a!", "a@": "a@ drop", "b!": "dup b!", "b@": "b@ drop"},
    **{"if": "1 if fi", "fi": "1 if fi", "times": "1 times next", "next": "1 times next"},
    **{digit: f"{digit} drop" for digit in "0123456789"},
}


@kernel
def hold(program: Tokens, held: Ints, work: Ints) -> None:
    """Write to ``held`` (MAX_DIRECTIVES,) which directives of a program hold, each by itself."""
    held[:] = ABSENT
    outcome, body, directives, cases = prepare(program, work)
    if outcome != RAN and outcome != DIRECTIVE:
        return
    length, present = read_body(program, body, work)
    executed = ~np.uint64(0)
    for case in range(max(cases, 1)):
        depth = load_inputs(case, cases, work)
        fresh(work)
        executed &= execute(program, body, True, depth, STEPS, work)[4]
    for k in range(directives):
        kind, operand = load(work, DIRECTIVES + 2 * k), load(work, DIRECTIVES + 2 * k + 1)
        if kind == op.USE:
            holds = executed & bit(operand) != 0
        elif kind == op.AVOID:
            holds = present & bit(operand) == 0
        else:
            holds = length <= operand if kind == op.WITHIN else length == operand
        held[k] = HELD if holds else BROKEN


@kernel
def hold_rows(programs: Tokens, held: Ints, work: Ints) -> None:
    for k in range(programs.shape[0]):
        hold(programs[k], held[k], work)


def held_directives(programs: Tokens) -> Ints:
    """Return which directives of programs (N, L) hold, each by itself, in their order: (N, 8) int64.

    0 (`ABSENT`) where a header has fewer, or the program cannot be run; else 1 (`BROKEN`) or 2 (`HELD`).
    """
    held = np.zeros((len(programs), MAX_DIRECTIVES), np.int64)
    hold_rows(programs, held, scratch(programs.shape[1]))
    return held


@dataclass(frozen=True)
class Strict:
    """How well programs follow instructions.

    ``prompts`` is the share of programs that earn their reward (prompt-level), and ``directives`` the share of
    directives that hold, each by itself (instruction-level). ``count`` is the number of prompts.
    """

    count: int
    prompts: float
    directives: float


def strict_of(
    spec: str | Path | Spec, split: str, programs: Tokens, seed: int = EVALUATION_SEED, *, seeds: int = 1
) -> dict[str, Strict]:
    """Return how well programs (N, L), the completed prompts of `prompts_of`, follow their directives, by group.

    Keys are "all"; kinds such as "avoid", for prompts with one directive, of that kind; and numbers such as
    "2 directives".
    """
    spec = load_spec(spec)
    fits = run_batch(programs)[0] == Verdict.TRUE
    earned = earning(spec, split, programs, fits, len(programs) // seeds, seed, seeds)[0]
    held = held_directives(programs)
    numbers = kinds_of(programs)
    found: dict[str, Strict] = {}
    counts = (numbers > 0).sum(1)
    groups = {"all": counts >= 0}
    groups |= {f"{n} directive{'s' * (n > 1)}": counts == n for n in np.unique(counts[counts > 0]).tolist()}
    groups |= {
        VOCABULARY[kind]: (counts == 1) & (numbers[:, 0] == kind) for kind in np.unique(numbers[numbers > 0]).tolist()
    }
    for name, rows in groups.items():
        if rows.any() and counts[rows].any():
            asked = numbers[rows] > 0
            found[name] = Strict(int(rows.sum()), float(earned[rows].mean()), float((held[rows] == HELD)[asked].mean()))
    return found


def kinds_of(programs: Tokens) -> Ints:
    """Return the kinds of the directives in the headers of programs (N, L), as tokens: (N, 8), 0 for none."""
    kinds = np.zeros((len(programs), MAX_DIRECTIVES), np.int64)
    for row, program in zip(kinds, programs, strict=True):
        header = program[: int((program == op.CASE).argmax())]
        found = header[(header >= op.USE) & (header <= op.EXACTLY)][:MAX_DIRECTIVES]
        row[: found.size] = found
    return kinds


def directives_of(prompt: Tokens) -> list[tuple[str, int]]:
    """Return the directives of a prompt (n,): their kinds, and the token or number after each."""
    found: list[tuple[str, int]] = []
    for token in prompt[: int((prompt == op.CASE).argmax())].tolist():
        if op.USE <= token <= op.EXACTLY:
            found.append((VOCABULARY[token], 0))
        elif found:
            kind, operand = found[-1]
            is_word = kind in ("use", "avoid")
            found[-1] = kind, token if is_word else 10 * operand + token - op.ZERO
    return found


def plain_policies(spec: str | Path | Spec, split: str) -> dict[str, Callable[[Tokens], Tokens]]:
    """Return policies that ignore directives, by name: each a function from a prompt (n,) to a completion (m,).

    The plain body is the most probable body of the function that is most probably right on hidden cases. The other
    policy adds to it, for each `use`, a suffix that contains the word and does nothing, and pads it with `neg neg` up
    to the length of an `exactly`. Raises ValueError if the functions of the split cannot be enumerated.
    """
    spec = load_spec(spec)
    pack = spec.family.pack
    if spec.task != "instruct" or pack is None:
        raise ValueError(f"{spec.id}: only task 'instruct' has directives to ignore")
    space = space_of(pack(spec.split_parameters(split))[:OWN])

    @functools.lru_cache(maxsize=4096)  # both policies ask about the same prompts
    def body_for(prompt: bytes) -> Tokens:
        return plain_body(space, np.frombuffer(prompt, np.uint8))

    def plain(prompt: Tokens) -> Tokens:
        return body_for(prompt.tobytes())

    def suffixed(prompt: Tokens) -> Tokens:
        body = plain(prompt)[:-1]
        for kind, operand in directives_of(prompt):
            if kind == "use":
                body = np.concatenate([body, assemble(SUFFIXES.get(VOCABULARY[operand], ""))])
            while kind == "exactly" and body.size + 2 <= operand:
                body = np.concatenate([body, assemble("neg neg")])
        return np.append(body, np.uint8(op.END))

    return {"the plain body": plain, "the plain body and an idle suffix": suffixed}


def plain_body(space: Space, prompt: Tokens) -> Tokens:
    """Return the body and `end` (m,) that would be written for a prompt (n,) without its directives."""
    found = space.posterior(prompt[int((prompt == op.CASE).argmax()) :])
    body: Tokens = found.bodies[found.best]
    return body[body > 0]
