"""instruct: write the function that a few cases show, under directives: ``avoid mul case 3 to 6 case 5 to 10 ... do``.

A function is drawn as for induce; the body drawn for it is the *plain* body. Then the directives are drawn, each with a
rewriting of the body (`cadmus_gym.tasks.synthesis.rewrites`). The plain body violates every directive, and the
reference, which is the rewritten body, meets them all. So no directive can be ignored: it bites.

- `use W`: W is in the reference and not in the plain body.
- `avoid W`: W is in the plain body and not in the reference.
- `within N`, `exactly N`: N is less than the length of the plain body. The reference is then the shortest body known
  (`cadmus_gym.tasks.synthesis.optima`) or a rewriting of it, so the function must have a known body that is shorter
  than the plain one.

No word of a reference is idle (`cadmus_gym.tasks.synthesis.idle`), so none can be left out. The problem is the
function, as in induce: its key does not depend on the directives. Programs have no log-probabilities, since many chains
and rewritings may lead to the same program.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from cadmus_gym.language import isa as op
from cadmus_gym.language.hashing import Words64
from cadmus_gym.language.isa import ID, VOCABULARY, Int, Ints, Tokens
from cadmus_gym.language.kernels import kernel
from cadmus_gym.language.memory import bit
from cadmus_gym.tasks.checks import as_array, check_pool, check_sizes, check_weights, listed
from cadmus_gym.tasks.family import PROMPT, REFERENCE, Family, writer
from cadmus_gym.tasks.literals import put, put_number
from cadmus_gym.tasks.sampling import CHOICE, OPERAND, categorical, uniform
from cadmus_gym.tasks.synthesis import idle, induce, rewrites
from cadmus_gym.tasks.synthesis.drawing import (
    OWN,
    WORK_ROOM,
    draw_function,
    draw_shape,
    put_cases,
    put_chain,
    put_shortest,
    take_function,
)
from cadmus_gym.tasks.synthesis.optima import pack_optima

KINDS = ("use", "avoid", "within", "exactly")
USE, AVOID, WITHIN, EXACTLY = range(len(KINDS))
MOST_DIRECTIVES = 4
MOST_TOKENS = 28  # of a body
MOST_SLACK = 3
PLAINLY, SHORTEST = -1, len(rewrites.RULES)  # besides the rules: leave the body as it is; take the shortest known

# Layout of the packed parameters after those of induce.
NUMBERS = OWN  # weights of the number of directives
WEIGHTS = NUMBERS + MOST_DIRECTIVES  # weights of their kinds
ONLY_HELD = WEIGHTS + len(KINDS)
HELD = ONLY_HELD + 1  # sets of words, for `use` and for `avoid`
SLACKS = HELD + 2  # weights of the tokens that `within` allows beyond the reference; all 0: any number that bites
OPTIMA = SLACKS + MOST_SLACK + 1  # the table of shortest bodies

# Layout of the working room after that of induce.
LEFT = WORK_ROOM  # weights of the kinds that may come next
ASKED = LEFT + len(KINDS)  # kind and operand of each directive
PLAIN = ASKED + 2 * MOST_DIRECTIVES  # the plain body, the body so far, and the body that is tried
BODY = PLAIN + MOST_TOKENS
TRIED = BODY + MOST_TOKENS
SHORT = (
    TRIED + MOST_TOKENS
)  # the length of the shortest body known, 0 if it is not shorter than the plain one; its words
VALID = SHORT + 1 + MOST_TOKENS  # indices of the rules after which some operand bites
IDLE = VALID + len(rewrites.RULES) + 2


@dataclass(frozen=True)
class Parameters(induce.Parameters):
    """Those of `cadmus_gym.tasks.synthesis.induce`, and: weights of the number of ``directives``; of their
    ``instructions``, "use", "avoid", "within" and "exactly"; and of ``slack``, the tokens that `within` allows beyond
    the shortest body known, by default any number that the plain body exceeds; ``held_out`` directives such as
    "use swap", shown only if ``pool`` is "held", which then shows no other `use` or `avoid`."""

    directives: dict[str, int] = field(default_factory=lambda: {"1": 1})
    instructions: dict[str, int] = field(default_factory=lambda: {"use": 4, "avoid": 4, "within": 1, "exactly": 1})
    slack: dict[str, int] = field(default_factory=dict)
    held_out: tuple[str, ...] = ()
    pool: str = "open"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.given.keys() != {"0"}:
            raise ValueError(f"given = {self.given}: a prompt with directives gives no part of the body; leave it out")
        check_sizes("directives", self.directives, 1, MOST_DIRECTIVES)
        check_weights("instructions", self.instructions, KINDS)
        if self.directives.keys() != {"1"} and self.instructions.keys().isdisjoint(KINDS[:WITHIN]):
            raise ValueError("instructions: a prompt has at most one of within and exactly; give use or avoid too")
        if self.slack:
            check_sizes("slack", self.slack, 0, MOST_SLACK)
        for directive in self.held_out:
            kind, _, word = directive.partition(" ")
            if kind not in KINDS[:WITHIN] or ID.get(word, 0) <= op.BODY:
                raise ValueError(f"held_out: {directive!r}: give directives such as 'use swap' or 'avoid mul'")
        check_pool(self.pool, self.held_out)


def pack(parameters: Parameters) -> Ints:
    held = [
        sum({1 << ID[word] - op.BODY for word in VOCABULARY if f"{kind} {word}" in parameters.held_out})
        for kind in KINDS[:WITHIN]
    ]
    own = [
        *listed(parameters.directives, range(1, MOST_DIRECTIVES + 1)),
        *listed(parameters.instructions, KINDS),
        parameters.pool == "held",
        *held,
        *listed(parameters.slack, range(MOST_SLACK + 1)),
    ]
    return np.concatenate([induce.pack(parameters)[:OWN], as_array(own), pack_optima()])


def room(parameters: Parameters) -> int:
    """Return the tokens of a prompt, at most: its directives, cases and `do`."""
    return induce.room(parameters) + 3 * max(map(int, parameters.directives))


def words(parameters: Parameters) -> tuple[str, ...]:
    """Return the words that references may use, in the order of the vocabulary."""
    used = {*induce.words(parameters), *rewrites.WORDS}
    return tuple(word for word in VOCABULARY if word in used)


@kernel
def set_of(work: Ints, first: Int, size: Int, surely: bool) -> np.uint64:
    """The set of the words of a body, without `,`: all, or those that ``surely`` run, whichever way an `if` goes."""
    words, inside = np.uint64(0), np.int64(0)
    for k in range(size):
        token = work[first + k]
        if inside == 0 or not surely:
            words |= bit(token)
        inside += np.int64(token == op.IF) - np.int64(token == op.FI)
    return words & ~bit(np.int64(op.COMMA))


@kernel
def meets(work: Ints, asked: Int, size: Int) -> bool:
    """Whether the body that is tried, of ``size`` tokens, meets the first ``asked`` directives."""
    words, sure = set_of(work, TRIED, size, False), set_of(work, TRIED, size, True)
    for k in range(asked):
        kind, operand = work[ASKED + 2 * k], work[ASKED + 2 * k + 1]
        if (kind == USE and not sure & bit(operand)) or (kind == AVOID and words & bit(operand)):
            return False
        if (kind == WITHIN and size > operand) or (kind == EXACTLY and size != operand):
            return False
    return True


@kernel
def operands_of(parameters: Ints, kind: Int, asked: Int, plain: Int, size: Int, work: Ints) -> np.uint64:
    """The set of operands with which a directive is violated by the plain body, of ``plain`` tokens, and met by the
    body that is tried, of ``size`` tokens, which meets all earlier directives too.

    For a limit on the length, bit k stands for ``size + k``.
    """
    if not meets(work, asked, size):
        return np.uint64(0)
    if kind == WITHIN or kind == EXACTLY:
        if size >= plain:
            return np.uint64(0)
        lengths = np.uint64(1) if kind == EXACTLY else (np.uint64(1) << np.uint64(plain - size)) - np.uint64(1)
        loose, given = np.uint64(0), False
        for k in range(MOST_SLACK + 1 if kind == WITHIN else 0):
            given = given or parameters[SLACKS + k] > 0
            loose |= np.uint64(parameters[SLACKS + k] > 0) << np.uint64(k)
        return lengths & loose if given else lengths
    plainly = set_of(work, PLAIN, plain, False)
    found = set_of(work, TRIED, size, True) & ~plainly if kind == USE else plainly & ~set_of(work, TRIED, size, False)
    for k in range(asked):
        if work[ASKED + 2 * k] == kind:
            found &= ~bit(work[ASKED + 2 * k + 1])
    held = np.uint64(parameters[HELD + kind])
    return found & (held if parameters[ONLY_HELD] else ~held)


@kernel
def try_rule(rule: Int, size: Int, work: Ints) -> Int:
    """Set the body that is tried: the body so far, rewritten by a rule or as it is (`PLAINLY`), or the `SHORTEST` body.

    Returns its size, or -1 if there is none.
    """
    if rule == SHORTEST:
        for k in range(work[SHORT]):
            work[TRIED + k] = work[SHORT + 1 + k]
        return work[SHORT] if work[SHORT] > 0 else np.int64(-1)
    if rule != PLAINLY:
        source, target = work[BODY : BODY + MOST_TOKENS], work[TRIED : TRIED + MOST_TOKENS]
        return rewrites.rewrite(rule, source, size, target)
    for k in range(size):
        work[TRIED + k] = work[BODY + k]
    return size


@kernel
def weight_of(parameters: Ints, kind: Int, operands: np.uint64, k: Int) -> Int:
    """The weight of bit k of a set of operands."""
    weight = np.int64(operands >> np.uint64(k) & np.uint64(1))
    slack = parameters[SLACKS + min(k, np.int64(MOST_SLACK))] if kind == WITHIN else np.int64(0)
    return weight * max(slack, np.int64(1))


@kernel
def draw_directive(parameters: Ints, rng: Words64, script: Ints, asked: Int, plain: Int, size: Int, work: Ints) -> Int:
    """Draw a rewriting of the body so far and the operand of the next directive; return the new size, or -1."""
    kind = work[ASKED + 2 * asked]
    count: Int = 0
    for rule in range(PLAINLY if asked > 0 else 0, SHORTEST + 1):
        tried = try_rule(rule, size, work)
        if tried >= 0 and operands_of(parameters, kind, asked, plain, tried, work) != 0:
            work[VALID + count] = rule
            count += 1
    if count == 0:
        return -1
    size = try_rule(work[VALID + uniform(rng, script, OPERAND, count, 0)], size, work)
    operands = operands_of(parameters, kind, asked, plain, size, work)
    total: Int = 0
    for k in range(64):
        total += weight_of(parameters, kind, operands, np.int64(k))
    left = uniform(rng, script, OPERAND, total, 0)
    operand: Int = -1
    while left >= 0:
        operand += 1
        left -= weight_of(parameters, kind, operands, operand)
    work[ASKED + 2 * asked + 1] = operand + (size if kind == WITHIN or kind == EXACTLY else np.int64(op.BODY))
    for k in range(size):
        work[BODY + k] = work[TRIED + k]
    return size


@kernel
def has_idle(size: Int, twos: bool, program: Tokens, work: Ints, machine: Ints) -> bool:
    """Whether the body so far has idle words. ``program`` is a buffer to run it in."""
    for k in range(size):
        program[k] = work[BODY + k]
    program[size] = op.END
    return idle.find_idle(program, size, np.int64(2 if twos else 1), program[size + 1 :], work[IDLE:], machine)


@writer
def write(
    parameters: Ints, rng: Words64, script: Ints, program: Tokens, marks: Ints, work: Ints, machine: Ints
) -> np.uint64:
    directives = 1 + categorical(rng, script, CHOICE, parameters, NUMBERS, MOST_DIRECTIVES, 0)
    for kind in range(len(KINDS)):
        work[LEFT + kind] = parameters[WEIGHTS + kind]
    shorter = False
    for k in range(directives):
        kind = categorical(rng, script, CHOICE, work, LEFT, len(KINDS), 0)
        work[ASKED + 2 * k] = kind
        if kind == WITHIN or kind == EXACTLY:
            work[LEFT + WITHIN], work[LEFT + EXACTLY] = 0, 0
            shorter = True
    twos, count, cases = draw_shape(parameters, rng, script, np.int64(0), np.int64(0), np.int64(0))
    marks[PROMPT], marks[REFERENCE] = 1, 1
    nothing = np.uint64(0)
    table = parameters[OPTIMA:]
    if shorter:
        key = take_function(parameters, table, rng, script, twos, count, program, marks, work)
    else:
        key = draw_function(parameters, rng, script, twos, count, marks, work)
    if key == 0:
        return nothing
    plain = put_chain(parameters, count, program, np.int64(0), work)
    if plain > MOST_TOKENS:
        return nothing
    for k in range(plain):
        work[PLAIN + k], work[BODY + k] = program[k], program[k]
    size = put_shortest(parameters, table, key, twos, count, program, np.int64(0), plain, work, machine)
    work[SHORT] = size if size < plain else 0
    for k in range(size):
        work[SHORT + 1 + k] = program[k]
    size = plain
    for k in range(directives):
        size = draw_directive(parameters, rng, script, k, plain, size, work)
        if size < 0:
            return nothing
    if has_idle(size, twos, program, work, machine):
        return nothing
    position: Int = 0
    for k in range(directives):
        kind, operand = work[ASKED + 2 * k], work[ASKED + 2 * k + 1]
        position = put(program, position, op.USE + kind)
        if kind == WITHIN or kind == EXACTLY:
            position = put_number(program, position, operand)
        else:
            position = put(program, position, operand)
    position = put_cases(parameters, rng, script, twos, count, cases, program, position, work)
    if position < 0:
        return nothing
    marks[PROMPT], marks[REFERENCE] = position, size
    for k in range(size):
        program[position + k] = work[BODY + k]
    return key


INSTRUCT = Family(
    name="instruct",
    version=1,
    parameters=Parameters,
    form="words",
    room=room,
    write=write,
    pack=pack,
    answer=lambda parameters: MOST_TOKENS + 1,
    words=words,
    inputs=lambda parameters: parameters.inputs,
    scored=lambda parameters: False,
)
