"""The contract of a task family, and its random choices in plain Python."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numba
import numpy as np

from cadmus_gym.language.isa import Ints, Tokens
from cadmus_gym.language.kernels import callback
from cadmus_gym.tasks.checks import check_weights
from cadmus_gym.tasks.sampling import CHOICE, OPERAND, SOURCES, randbelow
from cadmus_gym.tasks.walking import TAPE

# Of the sources of random numbers, CHOICE restarts with every attempt at a program; OPERAND and INPUT continue. So all
# kinds of programs keep their shares in a split of some problems. What CHOICE draws must not depend on the others, and
# the key of a problem must not depend on INPUT, which draws the inputs that a prompt shows.

# Cells of a writer's marks: the length of the prompt; its stratum; 1 + the rows of its tape, or 0 without one; whether
# its expression has operations; the number of held-out facts in it; whether a run executes a held-out fact, even one
# that does not matter for the answer; whether only splits of all problems may show it; the length of the reference.
PROMPT, STRATUM, WALKED, OPERATED, HELD, SHOWN, BARRED, REFERENCE, MARKS = range(9)
SHADOW = 256  # cells of a writer's working room; the tape of the prompt follows them
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

# Metadata of a field of a family's parameters that was added later: while it has its default, it is in no digest, so
# programs of older specs stay the same.
LATER = {"later": True}

Writer = Callable[..., Any]
FAMILY_FORMS = ("value", "relation", "words", "argument")


class Space(Protocol):
    """All references of a family's packed parameters, with their probabilities."""

    def share(self, choices: Sequence[int], first: int, last: int) -> float:
        """Return the probability that the key lies in [first, last], given the outcomes of all CHOICE draws."""

    def posterior(self, prompt: Tokens, first: int, last: int) -> Any:
        """Return the functions that fit a prompt (n,) whose keys lie in [first, last]."""

    def functions(self, first: int, last: int) -> int:
        """Return the number of functions whose keys lie in [first, last]."""


class Choices:
    """The random choices of a family in plain Python."""

    def __init__(self) -> None:
        self.rng = np.zeros(SOURCES, np.uint64)

    def integer(self, low: int, high: int, *, kind: bool = False) -> int:
        """Draw an integer uniform in [low, high], a range of at most 2**32 integers.

        With ``kind``, it decides what kind of program this is, such as its size, and must not depend on choices without
        ``kind``. A split keeps the shares of all kinds.
        """
        if not low <= high < low + 2**32:
            raise ValueError(f"integer({low}, {high}): give lowest and highest, at most 2**32 apart")
        return low + int(randbelow(self.rng, CHOICE if kind else OPERAND, high - low + 1))

    def pick(self, weights: Mapping[str, int] | Sequence[str], *, kind: bool = False) -> str:
        """Draw one of several texts, by whole weights, or uniformly from a sequence."""
        table = weights if isinstance(weights, Mapping) else dict.fromkeys(weights, 1)
        check_weights("pick", dict(table), tuple(table))
        drawn = self.integer(0, sum(table.values()) - 1, kind=kind)
        bounds = itertools.accumulate(table.values())
        return next(text for text, bound in zip(table, bounds, strict=True) if drawn < bound)


@dataclass(frozen=True)
class Family:
    """A family of true programs. It writes prompts; the machine finds the answer and the worked steps.

    ``parameters`` is a frozen dataclass of the parameters a spec may set; its ``__post_init__`` raises ValueError for
    values that are not allowed. ``form`` is "value" if a prompt leaves any number, "relation" if it leaves 0 or 1, and
    "words" or "argument" if the agent writes a program, or an argument of one (see `cadmus_gym.language.forms`).
    ``room(parameters)`` is the largest length of a prompt in tokens, and ``answer(parameters)`` that of an answer, by
    default the longest answer of the form. ``version`` counts changes to the programs. ``needs`` names ablations
    (`cadmus_gym.tasks.ablations`); a prompt that gives its answer under one of them is drawn again.

    Prompts come from one of two functions:

    - ``compose(parameters, choices)``, in plain Python, returns the text of a prompt, as for `cadmus_gym.assemble`. All
      randomness comes from `Choices`. It is slow and has no log-probabilities.
    - ``write``, compiled by `writer`, gets the int64 array ``pack(parameters)``. It is called as
      ``write(parameters, rng, script, program, marks, work, machine)`` and writes a prompt into ``program`` (L,) uint8
      and its length to ``marks[PROMPT]``.

    ``write`` makes every choice through `cadmus_gym.tasks.sampling`. If the script is guided, ``program`` holds the
    program whose choices are to be found. ``derivations`` is the largest number of ways to write one program;
    ``script[DERIVATION]`` says which one is meant. Choices after which operands have the same distribution may share a
    number above 0 in ``marks[STRATUM]``.

    ``write`` returns 0, and then the key of the problem is the hash of the expression that the prompt computes
    (`cadmus_gym.tasks.solving.identify`), or another hash, equal for all prompts of one problem. Then it also sets
    ``marks[OPERATED]``, ``marks[HELD]`` and ``marks[SHOWN]`` for held-out facts (`cadmus_gym.tasks.facts`); if they
    stay 0, the hash alone decides the split. Prompts with ``marks[BARRED]`` appear only in splits of all problems.

    A family of form "words" or "argument" also writes a reference, a completion without its `end` that makes the prompt
    true. ``write`` puts it after the prompt, sets ``marks[REFERENCE]`` to its length, and returns the key, or 0 if
    what it drew is no problem; ``compose`` returns two texts, the prompt and the reference. ``answer(parameters)``
    includes the `end`. ``words(parameters)`` are the tokens that references use. With ``inputs(parameters)``, the
    lowest and highest input, a prompt shows cases of a function, its completions are also judged on hidden cases (see
    `cadmus_gym.tasks.synthesis.hidden`), and under ``compose`` the key is `function_key` of that module; without,
    the hash of the prompt. ``space(packed)`` returns the `Space` of references, which makes log-probabilities exact, or
    raises ValueError if there are too many. ``determined`` says that no two references go with one prompt; then a
    prompt has a log-probability of its own, and ``write`` finds its choices without the reference. Where
    ``scored(parameters)`` is false, programs have no log-probabilities, as under ``compose``.
    """

    name: str
    version: int
    parameters: type
    form: str
    room: Callable[[Any], int]
    write: Any = None  # from `writer`
    pack: Any = None  # a function from parameters to Ints
    answer: Callable[[Any], int] | None = None
    derivations: int = 1
    compose: Callable[[Any, Choices], Any] | None = None
    needs: tuple[str, ...] = ()
    words: Callable[[Any], tuple[str, ...]] | None = None
    inputs: Callable[[Any], tuple[int, int]] | None = None
    space: Callable[[Ints], Space] | None = None
    determined: bool = False
    scored: Callable[[Any], bool] = lambda parameters: True

    def __post_init__(self) -> None:
        if (self.compose is None) == (self.write is None) or (self.write is None) != (self.pack is None):
            raise ValueError(f"family {self.name!r}: give compose, or write and pack")
        if self.form not in FAMILY_FORMS:
            raise ValueError(f"family {self.name!r}: form = {self.form!r}: known are {', '.join(FAMILY_FORMS)}")
        if self.written and self.answer is None:
            raise ValueError(f"family {self.name!r}: form = {self.form!r}: give answer, the room of a reference")
        if self.written and self.needs:
            raise ValueError(f"family {self.name!r}: needs: ablations are of prompts that leave a value")
        if (self.form == "words") != (self.words is not None):
            raise ValueError(f"family {self.name!r}: words go with form = 'words', which needs them")
        if self.inputs is not None and self.form != "words":
            raise ValueError(f"family {self.name!r}: inputs: hidden cases go with form = 'words'")
        if self.determined and not self.written:
            raise ValueError(f"family {self.name!r}: determined: form = {self.form!r} has no references")

    @property
    def fits_many(self) -> bool:
        """Whether several references may go with one prompt."""
        return self.written and not self.determined

    @property
    def written(self) -> bool:
        """Whether the family writes references, since a completion is more than the answer that the machine finds."""
        return self.form not in FAMILY_FORMS[:2]


def writer(function: Writer) -> Callable[[], Writer]:
    """Decorate the ``write`` function of a family: return a function that compiles it to a function pointer.

    It is compiled, or loaded from the cache, on the first call. With function pointers one driver serves every family.
    """

    @functools.cache
    def compiled() -> Writer:
        return callback(function, _WRITER)

    return compiled
