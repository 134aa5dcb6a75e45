"""stack: evaluate a program with stack words, such as ``12 7 3 rot over sub mul add``; the answer is a number.

Literals, stack words and arithmetic come in any order that runs without a fault and leaves one value; arithmetic comes
last. Only prompts that need their stack words are kept, and whose `swap` or `rot` do more than reverse one `sub`.

Pairs of consecutive stack words can be held out. Only splits with ``pool = "held"`` show them, one in every program.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from cadmus_gym.language import isa as op
from cadmus_gym.language.hashing import Words64
from cadmus_gym.language.isa import Int, Ints, Tokens
from cadmus_gym.language.kernels import kernel
from cadmus_gym.language.machine import execute
from cadmus_gym.language.memory import STACK, fresh
from cadmus_gym.tasks.checks import (
    answer_within,
    as_array,
    check_held_out,
    check_operators,
    check_pool,
    check_range,
    check_sizes,
    check_weights,
    listed,
    literal_room,
)
from cadmus_gym.tasks.family import PROMPT, Family, writer
from cadmus_gym.tasks.literals import (
    OPERATORS,
    count_tokens,
    draw_literal,
    draw_operator,
    is_literal,
    literal_at,
    token_at,
)
from cadmus_gym.tasks.sampling import CHOICE, OPERAND, categorical, is_guided

WORDS = ("dup", "drop", "swap", "over", "rot", "pick")  # in the order of their ids
MOST = 6  # literals, and stack words
NEEDS = ("no order words", "sub reversed, no order words", "no stack words")

LOW, HIGH, LIMIT, POOL = range(4)
LITERALS = 4
MOVES = LITERALS + MOST
OPERATOR_WEIGHTS = MOVES + MOST
WORD_WEIGHTS = OPERATOR_WEIGHTS + len(OPERATORS)
HELD = WORD_WEIGHTS + len(WORDS)
CLASSES, ALLOWED = 0, 3  # working room: weights of literals, stack words and arithmetic; of each stack word


@dataclass(frozen=True)
class Parameters:
    """``operands`` [lowest, highest], at least 0; weights of ``operators``, of the number of ``literals``, of the
    number of ``moves`` (stack words), and of ``stack_words``; ``limit`` on the magnitude of every result;
    ``held_out`` pairs such as "swap over", shown only if ``pool`` is "held"."""

    operands: tuple[int, int] = (2, 99)
    operators: dict[str, int] = field(default_factory=lambda: dict.fromkeys(OPERATORS, 1))
    literals: dict[str, int] = field(default_factory=lambda: {"2": 1, "3": 2})
    moves: dict[str, int] = field(default_factory=lambda: {"2": 1, "3": 1})
    stack_words: dict[str, int] = field(
        default_factory=lambda: {"dup": 1, "drop": 1, "swap": 2, "over": 2, "rot": 3, "pick": 2}
    )
    limit: int = 9999
    held_out: tuple[str, ...] = ()
    pool: str = "open"

    def __post_init__(self) -> None:
        check_range("operands", self.operands, 0, 999_999)
        check_operators(self.operators, self.operands, self.limit)
        check_sizes("literals", self.literals, 2, MOST)
        check_sizes("moves", self.moves, 1, MOST)
        check_weights("stack_words", self.stack_words, WORDS)
        if not {"swap", "rot"} & self.stack_words.keys():
            raise ValueError("stack_words: every prompt needs swap or rot; give one of them a weight")
        check_pool(self.pool, self.held_out)
        pairs = check_held_out(self.held_out, WORDS)
        for word in self.stack_words:
            if not any(
                other in self.stack_words and (word, other) not in pairs for other in ("dup", "swap", "over", "pick")
            ):
                raise ValueError(f"stack_words: one of dup, swap, over, pick must be allowed after {word!r}")
        if self.pool == "held":
            if not {word for pair in pairs for word in pair} <= self.stack_words.keys():
                raise ValueError(f"stack_words: give weights to all words of held_out = {list(self.held_out)}")
            if min(map(int, self.literals)) < 4 or min(map(int, self.moves)) < 2:
                raise ValueError('pool = "held": give at least 4 literals and 2 moves')


def pack(parameters: Parameters) -> Ints:
    sizes = range(1, MOST + 1)
    return as_array(
        [
            *parameters.operands,
            parameters.limit,
            parameters.pool == "held",
            *listed(parameters.literals, sizes),
            *listed(parameters.moves, sizes),
            *listed(parameters.operators, OPERATORS),
            *listed(parameters.stack_words, WORDS),
            *(f"{one} {other}" in parameters.held_out for one in WORDS for other in WORDS),
        ]
    )


def room(parameters: Parameters) -> int:
    literals, moves = max(map(int, parameters.literals)), max(map(int, parameters.moves))
    return literals * literal_room(parameters.operands[1]) + 3 * moves + literals + moves


@kernel
def needs(word: Int) -> Int:
    """Return how many values a stack word needs; `pick` brings its own index."""
    token = op.DUP + word
    return 3 if token == op.ROT else 2 if token == op.SWAP or token == op.OVER else 1


@kernel
def effect(word: Int) -> Int:
    """Return how a stack word changes the depth."""
    token = op.DUP + word
    return -1 if token == op.DROP else 0 if token == op.SWAP or token == op.ROT else 1


@kernel
def allow_words(parameters: Ints, depth: Int, literals: Int, first: Int, previous: Int, work: Ints) -> Int:
    """Write the weights of the stack words that may come next to ALLOWED; return their sum.

    ``previous`` is the word just before, or -1. If ``first`` is 1, the next word begins a held-out pair; if 2, it ends
    one.
    """
    total = np.int64(0)
    for word in range(6):
        after = depth + effect(word)
        weight = parameters[WORD_WEIGHTS + word] if depth >= needs(word) and after + literals >= 2 else 0
        held = previous >= 0 and parameters[HELD + 6 * previous + word] == 1
        if first == 1:
            begins = False
            for other in range(6):
                fits = after >= needs(other) and after + effect(other) + literals >= 2
                begins = begins or (fits and parameters[HELD + 6 * word + other] == 1)
            weight = weight if begins else 0
        elif held != (first == 2) and (first == 2 or parameters[POOL] == 0):
            weight = 0
        work[ALLOWED + word] = weight
        total += weight
    return total


@kernel
def count_literals(program: Tokens) -> Int:
    """Count the literals of a prompt, without indices of `pick` and the answer, which `eq` or `neg` follows."""
    count: Int = 0
    position: Int = 0
    while True:
        token = token_at(program, position)
        if is_literal(program, position):
            _, position = literal_at(program, position, False)
            token = token_at(program, position)
            count += np.int64(token != op.PICK and token != op.EQ and token != op.NEG)
        elif op.ADD <= token <= op.MUL or op.DUP <= token <= op.PICK:
            position += 1
        else:
            return count


@kernel
def read_class(program: Tokens, position: Int) -> tuple[Int, Int]:
    """Return (0 for a literal, 1 for a stack word or 2 for arithmetic; which stack word) at a position."""
    if is_literal(program, position):
        _, position = literal_at(program, position, False)
        if token_at(program, position) != op.PICK:
            return 0, 0
    word = token_at(program, position) - op.DUP
    return (1, word) if 0 <= word < 6 else (2, 0)


@writer
def write(
    parameters: Ints, rng: Words64, script: Ints, program: Tokens, marks: Ints, work: Ints, machine: Ints
) -> np.uint64:
    guided = is_guided(script)
    seen = count_literals(program) - 1 if guided else 0
    literals = 1 + categorical(rng, script, CHOICE, parameters, LITERALS, MOST, seen)
    seen = count_tokens(program, op.DUP, op.PICK) - 1 if guided else 0
    moves = 1 + categorical(rng, script, CHOICE, parameters, MOVES, MOST, seen)
    fresh(machine)
    depth: Int = 0
    position: Int = 0
    previous: Int = -1
    pair: Int = parameters[
        POOL
    ]  # 1: a held-out pair is still to come; 2: in the middle of it; 0: done, or there is none
    while literals > 0 or moves > 0 or depth > 1:
        allowed = allow_words(parameters, depth, literals, pair, previous, work) if moves > 0 else np.int64(0)
        least = 4 if pair == 1 else 2
        may_join = depth > 1 and (literals + moves == 0 or depth - 1 + literals >= least)
        work[CLASSES] = literals if pair < 2 else 0
        work[CLASSES + 1] = moves if allowed > 0 else 0
        work[CLASSES + 2] = np.int64(may_join and pair < 2)
        seen_class, seen_word = read_class(program, position) if guided else (np.int64(0), np.int64(0))
        kind = categorical(rng, script, OPERAND, work, CLASSES, 3, seen_class)
        start = position
        if kind == 0:
            _, position = draw_literal(rng, script, program, position, parameters[LOW], parameters[HIGH])
            literals -= 1
            previous = -1
        elif kind == 1:
            previous = categorical(rng, script, OPERAND, work, ALLOWED, 6, seen_word)
            if op.DUP + previous == op.PICK:
                _, position = draw_literal(rng, script, program, position, 0, depth - 1)
            program[position] = op.DUP + previous
            position += 1
            moves -= 1
            pair = 2 if pair == 1 else 0
        else:
            x, y, limit = machine[STACK + depth - 2], machine[STACK + depth - 1], parameters[LIMIT]
            draw_operator(rng, script, program, position, parameters, OPERATOR_WEIGHTS, limit, x, y, 0, work)
            position += 1
            previous = -1
        _, depth, _, _, _ = execute(program, start, True, depth, position - start, machine)
    marks[PROMPT] = position
    return np.uint64(0)


STACK_FAMILY = Family("stack", 2, Parameters, "value", room, write, pack, answer_within, needs=NEEDS)
