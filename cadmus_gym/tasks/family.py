"""What a task family is, and the kernels families share."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np

from cadmus_gym.language.kernels import callback
from cadmus_gym.tasks.checks import check_weights
from cadmus_gym.tasks.sampling import CHOICE, OPERAND, randbelow
from cadmus_gym.tasks.walking import TAPE

# Of the two sources of random numbers, CHOICE starts anew with every attempt at a program and OPERAND continues. So a
# split that keeps only some problems keeps the shares of all kinds of programs. What CHOICE draws may not depend on
# what OPERAND gave.

# Places in a writer's marks: the length of the prompt; the stratum; the rows of its tape plus 1, or 0; whether
# its expression
# has operations, and how many held-out facts; whether a run executes any held-out fact, with or without a part in the
# answer; whether only a split of all problems may show it.
PROMPT, STRATUM, WALKED, OPERATED, HELD, SHOWN, BARRED, MARKS = range(8)
SHADOW = 256  # integers of working room a writer has; the tape of the prompt follows them
WORK = SHADOW + TAPE


_WRITER = numba.uint64(
    numba.int64[::1],
    numba.uint64[::1],
    numba.int64[::1],
    numba.uint8[::1],
    numba.int64[::1],
    numba.int64[::1],
    numba.int64[::1],
)  # (parameters, rng, script, program, marks, work, machine) -> key

Writer = Callable[..., Any]


class Choices:
    """The random choices of a family that is written in plain Python."""

    def __init__(self) -> None:
        self.rng = np.zeros(2, np.uint64)

    def integer(self, low: int, high: int, *, kind: bool = False) -> int:
        """Draw an integer uniform in [low, high], at most 2**32 of them.

        With ``kind`` it is a choice that a split keeps the shares of, such as a size; it must not depend on others.
        """
        if not low <= high < low + 2**32:
            raise ValueError(f"integer({low}, {high}): give lowest and highest, at most 2**32 apart")
        return low + int(randbelow(self.rng, CHOICE if kind else OPERAND, high - low + 1))

    def pick(self, weights: Mapping[str, int] | Sequence[str], *, kind: bool = False) -> str:
        """Draw one of several texts, by whole weights or each as likely."""
        table = weights if isinstance(weights, Mapping) else dict.fromkeys(weights, 1)
        check_weights("pick", dict(table), tuple(table))
        drawn = self.integer(0, sum(table.values()) - 1, kind=kind)
        bounds = itertools.accumulate(table.values())
        return next(text for text, bound in zip(table, bounds, strict=True) if drawn < bound)


@dataclass(frozen=True)
class Family:
    """A family of true programs. It writes prompts; the machine finds the answer and the worked steps.

    ``parameters`` is a frozen dataclass of what a spec may set, whose ``__post_init__`` raises ValueError for what is
    not allowed. ``form`` is "value" where a prompt leaves any number, "relation" where it leaves 0 or 1, and
    ``room(parameters)`` the largest length of a prompt in tokens; ``answer(parameters)``, that of an answer, is by
    default that of any answer of the form. ``version`` counts changes of what is written. ``needs`` names ablations
    (`cadmus_gym.tasks.ablations`) under which no prompt may give its answer: such a prompt is drawn again.

    A prompt comes from one of two functions:

    - ``compose(parameters, choices)`` in plain Python returns the text of a prompt, as for `cadmus_gym.assemble`; all
      that is random comes from `Choices`. It is slow, and has no log-probabilities.
    - ``write``, compiled by `writer`, with ``pack(parameters)``, the int64 array it is given. It is called as
      ``write(parameters, rng, script, program, marks, work, machine)``, writes a prompt into ``program`` (L,) uint8
      and its length to ``marks[PROMPT]``. It returns the hash of the problem, the same for all texts of one problem, or
      0 for that of the expression which running the prompt computes (`cadmus_gym.tasks.solving.identify`). With a hash
      of its own it also says what it knows of held-out facts (`cadmus_gym.tasks.facts`), at ``marks[OPERATED]``,
      ``marks[HELD]`` and ``marks[SHOWN]``; where they stay 0 the hash alone decides on the split. What it marks at
      ``marks[BARRED]`` is shown by splits of all problems only. Every choice is made through
      `cadmus_gym.tasks.sampling`; where the script is guided, ``program`` holds the program whose choices are to be
      found. ``derivations`` is the number of ways to write one program, told apart by the script; what it puts at
      ``marks[STRATUM]`` is the same for choices after which operands are drawn alike.
    """

    name: str
    version: int
    parameters: type
    form: str
    room: Callable[[Any], int]
    write: Any = None  # what `writer` returned
    pack: Any = None  # a function from parameters to Ints
    answer: Callable[[Any], int] | None = None
    derivations: int = 1
    compose: Callable[[Any, Choices], str] | None = None
    needs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if (self.compose is None) == (self.write is None) or (self.write is None) != (self.pack is None):
            raise ValueError(f"family {self.name!r}: give compose, or write and pack")
        if self.form not in ("value", "relation"):
            raise ValueError(f"family {self.name!r}: form = {self.form!r}: known are value, relation")


def writer(function: Writer) -> Callable[[], Writer]:
    """Return what compiles a writer to a plain function pointer, so that one driver serves every family and knows none.

    It is compiled, or loaded from the cache, when it is first called for.
    """

    @functools.cache
    def compiled() -> Writer:
        return callback(function, _WRITER)

    return compiled
