"""induce: write the function that a few cases show, such as ``case 3 to 9 case 5 to 15 case 0 to 0 do``.

A reference body is a chain of one to three steps (`cadmus_gym.tasks.synthesis.steps`); with two inputs the first step
merges them. A step is drawn by the weight of its kind among all that are feasible there. Then the inputs of the cases
are drawn: all different, the first one changed by the function, the first three with different outputs.

What is asked is the function: its outputs on fixed probes are its key. So no text of a test function is ever trained
on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from cadmus_gym.language import isa as op
from cadmus_gym.language.isa import ID, VOCABULARY, Ints
from cadmus_gym.language.verdicts import MAX_CASES
from cadmus_gym.tasks.checks import as_array, check_range, check_sizes, check_weights, listed, literal_room
from cadmus_gym.tasks.family import LATER, Family
from cadmus_gym.tasks.synthesis import steps as chain
from cadmus_gym.tasks.synthesis.bodies import check_reference
from cadmus_gym.tasks.synthesis.drawing import GIVEN, write
from cadmus_gym.tasks.synthesis.hidden import STANDARD, probes_of
from cadmus_gym.tasks.synthesis.optima import WORDS, pack_optima
from cadmus_gym.tasks.synthesis.space import space_of

CONSTANTS = {
    "add": (2, 20),
    "sub": (2, 20),
    "mul": (2, 9),
    "div": (2, 9),
    "mod": (2, 12),
    "min": (0, 20),
    "max": (0, 20),
    "condition": (0, 20),
}
PLAIN = {
    **{"add": 3, "sub": 3, "inc": 1, "dec": 1, "mul": 3, "neg": 1, "abs": 1, "square": 2},
    **{"div": 2, "mod": 3, "min": 2, "max": 2, "combine": 3},
}
MERGES = {"operator": 30, "swap sub": 7, "arm": 20, "swap arm": 15, "over": 13}


@dataclass(frozen=True)
class Parameters:
    """``inputs`` [lowest, highest]; weights of the ``arity``, of the number of ``steps`` of a body and of ``cases``
    shown, of the part of the body that is ``given``, in percent or "any", of the ``kinds`` of steps and of the
    ``merges`` with which a body of two inputs begins; ``constants`` of a kind as [lowest, highest]; ``limit`` on the
    magnitude of every value on the way. ``reference``: "drawn", or "shortest" for the shortest body known of each
    function (`cadmus_gym.tasks.synthesis.optima`); its values on the way may exceed the limit, and such programs have
    no log-probabilities, since many chains lead to one."""

    inputs: tuple[int, int] = STANDARD
    arity: dict[str, int] = field(default_factory=lambda: {"1": 3, "2": 2})
    steps: dict[str, int] = field(default_factory=lambda: {"1": 1, "2": 9})
    cases: dict[str, int] = field(default_factory=lambda: {"4": 1, "5": 1, "6": 1})
    given: dict[str, int] = field(default_factory=lambda: {"0": 1})
    kinds: dict[str, int] = field(default_factory=lambda: dict(PLAIN))
    merges: dict[str, int] = field(default_factory=lambda: dict(MERGES))
    constants: dict[str, tuple[int, int]] = field(default_factory=dict)
    limit: int = 999
    reference: str = field(default="drawn", metadata=LATER)

    def __post_init__(self) -> None:
        check_reference(self.reference)
        check_range("inputs", self.inputs, -999, 999)
        if self.inputs[1] - self.inputs[0] < 15:
            raise ValueError(f"inputs = {list(self.inputs)}: give at least 16 inputs")
        check_sizes("arity", self.arity, 1, 2)
        check_sizes("steps", self.steps, 1, chain.MOST)
        check_sizes("cases", self.cases, 1, MAX_CASES)
        check_weights("given", self.given, GIVEN)
        check_weights("kinds", self.kinds, chain.CHAINED)
        check_weights("merges", self.merges, chain.MERGES)
        for kind, bounds in self.constants.items():
            if kind not in CONSTANTS:
                raise ValueError(f"constants: unknown {kind!r}; known are {', '.join(CONSTANTS)}")
            check_range(f"constants: {kind}", bounds, 1 if kind in ("div", "mod") else 0, 999)
        largest = max(map(abs, self.inputs))
        if not largest <= self.limit <= 99_999:
            raise ValueError(f"limit = {self.limit}: give at least the largest input, {largest}, at most 99999")


def ranges_of(parameters: Parameters) -> Ints:
    """Return the ranges of all constants, as `cadmus_gym.tasks.synthesis.steps` reads them."""
    bounds = {**CONSTANTS, **parameters.constants}
    simple = [bounds.get(name, (0, 0)) for name in chain.SIMPLE]
    counts = [high - low + 1 for low, high in simple]
    starts = [sum(counts[:k]) for k in range(len(counts))]
    low, high = bounds["condition"]
    return as_array(
        [*(low for low, _ in simple), *counts, *starts, sum(counts), low, high - low + 1, 2, 2, 2, 2, 2, 2, 1, 9]
    )


def pack(parameters: Parameters) -> Ints:
    ranges = ranges_of(parameters)
    weights = listed({**parameters.kinds, **parameters.merges}, chain.KINDS)
    counts = [int(chain.count_of(ranges, kind)) for kind in range(len(chain.KINDS))]
    if max(count for count, weight in zip(counts, weights, strict=True) if weight) > 2**32:
        raise ValueError("constants: more than 2**32 steps of one kind; give smaller ranges")
    whole = math.lcm(*(count for count, weight in zip(counts, weights, strict=True) if weight))
    units = [weight * whole // count for count, weight in zip(counts, weights, strict=True)]
    if whole * sum(weights) >= 2**62:
        raise ValueError("kinds: these weights and constants need a common multiple above 2**62; give smaller ranges")
    ones, pairs = (probes_of(parameters.inputs, arity) for arity in (1, 2))
    standard_ones, standard_pairs = (probes_of(STANDARD, arity) for arity in (1, 2))

    def columns(ones: Ints, pairs: Ints) -> list[int]:
        return [*np.pad(ones[:, 0], (0, chain.ROOM - len(ones))).tolist(), *pairs.T.ravel().tolist()]

    return as_array(
        [
            *parameters.inputs,
            parameters.limit,
            len(ones),
            len(standard_ones),
            *listed(parameters.arity, (1, 2)),
            *listed(parameters.steps, range(1, chain.MOST + 1)),
            *listed(parameters.cases, range(1, MAX_CASES + 1)),
            *listed(parameters.given, GIVEN),
            *weights,
            *units,
            *ranges.tolist(),
            *columns(ones, pairs),
            *columns(standard_ones, standard_pairs),
            *(pack_optima().tolist() if parameters.reference == "shortest" else [0]),
        ]
    )


def room(parameters: Parameters) -> int:
    """Of a prompt: its cases, `do` and what is given of the body."""
    inputs, output = literal_room(max(map(abs, parameters.inputs))), literal_room(parameters.limit)
    header = max(map(int, parameters.cases)) * (2 + max(map(int, parameters.arity)) * inputs + output) + 1
    return header + (answer(parameters) - 2 if parameters.given.keys() != {"0"} else 0)


def answer(parameters: Parameters) -> int:
    """Of a reference and its `end`."""
    ranges, program = ranges_of(parameters), np.zeros(256, np.uint8)
    longest = {
        kind: int(chain.put_step(ranges, k, chain.count_of(ranges, k) - 1, program, 0))
        for k, kind in enumerate(chain.KINDS)
    }
    arm = max(longest[name] for name in chain.SIMPLE)
    longest |= {"combine": arm + 2, "arm": arm + 1, "swap arm": arm + 2}
    constant = len(str({**CONSTANTS, **parameters.constants}["condition"][1]))
    longest |= {"condition": 5 + constant + 2 * arm, "parity": 6 + 2 * arm}
    step = max(longest[kind] for kind in parameters.kinds)
    merge = max(longest[kind] for kind in parameters.merges)
    most = max(map(int, parameters.steps))
    return 1 + max(most * step, merge + (most - 1) * step if "2" in parameters.arity else 0)


_SIMPLE_WORDS = {**{kind: kind for kind in chain.SIMPLE}, "square": "dup mul"}
_OPERATORS = " ".join(VOCABULARY[token] for token in chain.OPERATORS)
_WORDS = {
    **_SIMPLE_WORDS,
    "combine": f"dup {_OPERATORS}",
    "condition": "dup lt gt if else fi",
    "parity": "dup mod if else fi",
    "loop": "times mul add next",
    "operator": _OPERATORS,
    "swap sub": "swap sub",
    "arm": _OPERATORS,
    "swap arm": f"swap {_OPERATORS}",
    "over": f"over {_OPERATORS}",
    "compare": f"over lt gt if else fi {_OPERATORS}",
}
_WITH_ARMS = {"combine", "condition", "parity", "arm", "swap arm"}


def words(parameters: Parameters) -> tuple[str, ...]:
    """Return the words that references may use, in the order of the vocabulary."""
    kinds = {*parameters.kinds, *(parameters.merges if "2" in parameters.arity else ())}
    parts = [_WORDS[kind] for kind in kinds]
    if not kinds.isdisjoint(_WITH_ARMS):
        parts += _SIMPLE_WORDS.values()
    if parameters.reference == "shortest":
        parts += WORDS
    used = {ID[word] for part in parts for word in part.split()} | {*range(op.ZERO, op.NINE + 1)}
    return tuple(VOCABULARY[token] for token in sorted(used))


INDUCE = Family(
    name="induce",
    version=1,
    parameters=Parameters,
    form="words",
    room=room,
    write=write,
    pack=pack,
    answer=answer,
    words=words,
    inputs=lambda parameters: parameters.inputs,
    space=space_of,
    scored=lambda parameters: parameters.reference == "drawn",
)
