"""What a task family is, and the kernels families share."""

from __future__ import annotations

import functools
import itertools
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np

from cadmus_gym.language import isa as op
from cadmus_gym.language.hashing import Words64
from cadmus_gym.language.isa import ID, Int, Ints, Tokens
from cadmus_gym.language.kernels import callback, kernel
from cadmus_gym.language.verdicts import LARGEST
from cadmus_gym.tasks.sampling import CHOICE, OPERAND, below, is_guided, uniform, weighted

# Of the two dice CHOICE is thrown alike in every attempt at a program, OPERAND anew. So a split that keeps only some
# problems keeps the shares of all kinds of programs. What is drawn by CHOICE may not depend on what OPERAND gave.
# Places in a writer's marks: the length of the prompt, the stratum, whether it was run; whether its expression has
# operations, how many held-out facts are in it, and whether a run executes any, with or without a part in the answer;
# whether only a split of all problems may show it.
PROMPT, STRATUM, SOLVED, OPERATED, HELD, SHOWN, BARRED, MARKS = range(8)
WORK = 256  # integers of working room a writer has

OPERATORS = ("add", "sub", "mul")
COMMA, NEG = ID[","], ID["neg"]

_WRITER = numba.uint64(
    numba.int64[::1],
    numba.uint64[::1],
    numba.int64[::1],
    numba.uint8[::1],
    numba.int64[::1],
    numba.int64[::1],
    numba.int64[::1],
)  # (parameters, dice, script, program, marks, work, machine) -> key

Writer = Callable[..., Any]


class Choices:
    """The random choices of a family that is written in plain Python."""

    def __init__(self) -> None:
        self.dice = np.zeros(2, np.uint64)

    def integer(self, low: int, high: int, *, kind: bool = False) -> int:
        """Draw an integer uniform in [low, high], at most 2**32 of them.

        With ``kind`` it is a choice that a split keeps the shares of, such as a size; it must not depend on others.
        """
        if not low <= high < low + 2**32:
            raise ValueError(f"integer({low}, {high}): give lowest and highest, at most 2**32 apart")
        return low + int(below(self.dice, CHOICE if kind else OPERAND, high - low + 1))

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
      ``write(parameters, dice, script, program, marks, work, machine)``, writes a prompt into ``program`` (L,) uint8
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


@kernel
def is_digit(program: Tokens, position: Int) -> bool:
    return bool(0 <= position < program.size and op.ZERO <= program[position] < op.ZERO + 10)


@kernel
def is_literal(program: Tokens, position: Int) -> bool:
    """Whether an integer, or the `,` before one, is at a position."""
    return bool(is_digit(program, position) or (position < program.size and program[position] == COMMA))


@kernel
def literal_at(program: Tokens, position: Int, signed: bool) -> tuple[Int, Int]:
    """Read the integer at a position, a `,` before it skipped: (value, position behind); -1 where there is none.

    With ``signed`` a `neg` behind it belongs to it.
    """
    if position < program.size and program[position] == COMMA:
        position += 1
    if not is_digit(program, position):
        return LARGEST + 1, position
    value = np.int64(0)
    while is_digit(program, position):
        if value <= LARGEST:
            value = 10 * value + np.int64(program[position]) - op.ZERO
        position += 1
    if signed and position < program.size and program[position] == NEG:
        return -value, position + 1
    return value, position


@kernel
def token_at(program: Tokens, position: Int) -> Int:
    return np.int64(program[position]) if position < program.size else np.int64(0)


@kernel
def count_tokens(program: Tokens, first: Int, last: Int) -> Int:
    """How many tokens of a program lie in [first, last], up to its thoughts."""
    count: Int = 0
    for position in range(program.size):
        if program[position] == op.OPEN or program[position] == 0:
            break
        count += np.int64(first <= program[position] <= last)
    return count


@kernel
def draw_literal(dice: Words64, script: Ints, program: Tokens, position: Int, low: Int, high: Int) -> tuple[Int, Int]:
    """Write an integer uniform in [low, high] at a position; return (it, the position behind)."""
    seen: Int = 0
    if is_guided(script):
        seen = literal_at(program, position, low < 0)[0] - low
    value = low + uniform(dice, script, OPERAND, high - low + 1, seen)
    return value, put_literal(program, position, value)


@kernel
def put_literal(program: Tokens, position: Int, value: Int) -> Int:
    """Write an integer at a position, behind `,` where it would run into a digit; return the position behind it."""
    if position > 0 and op.ZERO <= program[position - 1] < op.ZERO + 10:
        program[position] = COMMA
        position += 1
    rest = abs(value)
    size = 1
    while rest >= 10:
        rest //= 10
        size += 1
    rest = abs(value)
    for k in range(position + size - 1, position - 1, -1):
        program[k] = op.ZERO + rest % 10
        rest //= 10
    position += size
    if value < 0:
        program[position] = NEG
        position += 1
    return position


@kernel
def apply(operator: Int, x: Int, y: Int) -> Int:
    return x + y if operator == op.ADD else x * y if operator == op.MUL else x - y


@kernel
def draw_operator(
    dice: Words64,
    script: Ints,
    program: Tokens,
    position: Int,
    parameters: Ints,
    weights: Int,
    limit: Int,
    x: Int,
    y: Int,
    avoided: Int,
    work: Ints,
) -> Int:
    """Write add, sub or mul at a position and return what it makes of x and y.

    It is drawn by weight among those that keep the value within the limit and, where one of them does, from 0 and from
    a number to be ``avoided``, of either sign. The last cells of ``work`` are used.
    """
    room = work.size - 3
    total = np.int64(0)
    for anything in range(2):
        for k in range(3):
            value = apply(op.ADD + k, x, y)
            allowed = abs(value) <= limit and ((value != 0 and abs(value) != avoided) or anything == 1)
            work[room + k] = parameters[weights + k] if allowed else 0
            total += work[room + k]
        if total > 0:
            break
    operator = op.ADD + weighted(dice, script, OPERAND, work, room, 3, token_at(program, position) - op.ADD)
    program[position] = operator
    return apply(operator, x, y)


@kernel
def put(program: Tokens, position: Int, token: Int) -> Int:
    """Write a token; return the position behind it."""
    program[position] = token
    return position + 1


def check_operators(operators: dict[str, int], operands: tuple[int, int], limit: int) -> None:
    """Raise ValueError unless a value within the limit can always be gone on from."""
    check_weights("operators", operators, OPERATORS)
    if not {"add", "sub"} <= operators.keys():
        raise ValueError("operators: give both add and sub, one of which always stays within the limit")
    if not operands[1] <= limit <= LARGEST:
        raise ValueError(f"limit = {limit}: give at least the largest operand, {operands[1]}, at most {LARGEST}")


def check_sizes(name: str, weights: dict[str, int], least: int, most: int) -> None:
    """Raise ValueError unless the keys are numbers in a range, with weights."""
    check_weights(name, weights, tuple(map(str, range(least, most + 1))))


def listed(weights: dict[str, int], known: Iterable[object]) -> list[int]:
    """Return the weight of each known key, 0 where there is none."""
    return [weights.get(str(key), 0) for key in known]


def literal_room(largest: int) -> int:
    """Tokens that an integer of at most this magnitude may take, its sign and the `,` before it included."""
    return len(str(largest)) + 2


def answer_within(parameters: Any) -> int:
    """Tokens that an answer within ``parameters.limit`` may take."""
    return literal_room(parameters.limit) + len(("eq", "end"))


def check_weights(name: str, weights: dict[str, int], known: tuple[str, ...]) -> None:
    """Raise ValueError unless the weights are whole numbers from 1 to a million for some of the known keys."""
    allowed = f"give at least one of {', '.join(known)} with a whole number from 1 to 1000000"
    if not weights:
        raise ValueError(f"{name} = {{}}: {allowed}")
    for key, weight in weights.items():
        if key not in known:
            raise ValueError(f"{name}: unknown {key!r}; {allowed}")
        if not 1 <= weight <= 1_000_000:
            raise ValueError(f"{name}: {key} = {weight}; {allowed}")


def check_range(name: str, bounds: tuple[int, int], least: int, most: int) -> None:
    if not least <= bounds[0] <= bounds[1] <= most:
        raise ValueError(f"{name} = {list(bounds)}: give [lowest, highest] within {least} to {most}")


def check_share(name: str, share: float) -> None:
    if not 0 <= share <= 1:
        raise ValueError(f"{name} = {share}: give a share from 0 to 1")


POOLS = ("open", "held")


def check_held_out(held_out: tuple[str, ...], known: tuple[str, ...]) -> list[tuple[str, str]]:
    """Return pairs of words, or raise ValueError."""
    pairs = [tuple(pair.split()) for pair in held_out]
    for pair in pairs:
        if len(pair) != 2 or not {*pair} <= {*known}:
            raise ValueError(f"held_out: {' '.join(pair)!r}: give pairs such as '{known[0]} {known[-1]}' of {known}")
    return typing.cast(list[tuple[str, str]], pairs)


def check_pool(pool: str, held_out: tuple[str, ...]) -> None:
    if pool not in POOLS:
        raise ValueError(f"pool = {pool!r}: known are {', '.join(POOLS)}")
    if pool == "held" and not held_out:
        raise ValueError('pool = "held": nothing is held out; give held_out')


def as_array(values: list[int]) -> Ints:
    return np.array(values, np.int64)
