"""Ablations: prompts read with one construct ignored, to see whether the answer needs that construct.

An ablation rewrites tokens so that the machine can run the rest: without `swap` and `rot`, the prompt
``12 7 5 rot swap sub add`` becomes ``12 7 5 , , sub add``, where `,` does nothing. A run that faults, or leaves more or
less than one value, gives no answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cadmus_gym.language import isa as op
from cadmus_gym.language.isa import ID, INSTRUCTIONS, VOCABULARY, Int, Ints, Tokens
from cadmus_gym.language.kernels import kernel, spread
from cadmus_gym.language.memory import STACK, scratch
from cadmus_gym.language.notation import check_ids, encode
from cadmus_gym.language.verdicts import RAN
from cadmus_gym.tasks.walking import solve

GROWTH = 4  # tokens that one token may become


@dataclass(frozen=True)
class Ablation:
    """Rules that rewrite the tokens of a prompt. They map a token to token text; other tokens stay as they are.

    ``tokens`` applies everywhere, ``inside`` in the body of the function, ``again`` to a token that repeats the one
    before it, and ``last`` to the last binary operation of the prompt. If several apply, the last of these wins.
    """

    meaning: str
    tokens: Mapping[str, str] = field(default_factory=dict)
    inside: Mapping[str, str] = field(default_factory=dict)
    again: Mapping[str, str] = field(default_factory=dict)
    last: Mapping[str, str] = field(default_factory=dict)


NOTHING = ","  # instead of a token, so that literals around it do not run together
OPERATIONS = tuple(VOCABULARY[k] for k in range(op.ADD, op.XOR + 1) if INSTRUCTIONS[k].pops == 2)
RELATIONS = ("eq", "ne", "lt", "le", "gt", "ge")
BITWISE = ("and", "or", "xor")


def _all(words: tuple[str, ...], text: str) -> dict[str, str]:
    """Return the same replacement for several words; `{}` in it stands for the word."""
    return {word: text.format(word) for word in words}


ABLATIONS: dict[str, Ablation] = {
    "no order words": Ablation("`swap` and `rot` are skipped", _all(("swap", "rot"), NOTHING)),
    "no swap": Ablation("`swap` is skipped", {"swap": NOTHING}),
    "no rot": Ablation("`rot` is skipped", {"rot": NOTHING}),
    "sub reversed, no order words": Ablation(
        "`swap` and `rot` are skipped and `sub` subtracts in the other order",
        {**_all(("swap", "rot"), NOTHING), "sub": "swap sub"},
    ),
    "rot reversed": Ablation("`rot` moves the top below two others", {"rot": "rot rot"}),
    "rot as swap": Ablation("`rot` exchanges the two values on top", {"rot": "swap"}),
    "copies of the top": Ablation("`over` and `pick` copy the top", {"over": "dup", "pick": "drop dup"}),
    "copies of the second": Ablation(
        "`dup` and `pick` copy the value below the top", {"dup": "over", "pick": "drop over"}
    ),
    "drop below the top": Ablation("`drop` drops the value below the top", {"drop": "swap drop"}),
    "no stack words": Ablation(
        "all stack words are skipped, `pick` with its index",
        {**_all(("dup", "drop", "swap", "over", "rot"), NOTHING), "pick": "drop"},
    ),
    "one register": Ablation("both registers are one", {"b!": "a!", "b@": "a@"}),
    "no registers": Ablation("values stay on the stack", _all(("a!", "a@", "b!", "b@"), NOTHING)),
    "register a alone": Ablation("register b is read as 0", {"b@": ", 0 ,"}),
    "register b alone": Ablation("register a is read as 0", {"a@": ", 0 ,"}),
    "conditions always": Ablation("every condition holds", {"if": "drop 1 if"}),
    "conditions never": Ablation("no condition holds", {"if": "drop 0 if"}),
    "conditions negated": Ablation("the other arm is taken", {"if": "not if"}),
    "both arms": Ablation("both arms are run, one after the other", {"if": "drop 1 if", "else": NOTHING}),
    "one turn": Ablation("every loop makes one turn", {"times": "drop 1 times", "until": "drop 1 until"}),
    "one turn of times": Ablation("`times` makes one turn", {"times": "drop 1 times"}),
    "one turn of until": Ablation("`until` makes one turn", {"until": "drop 1 until"}),
    "no turn": Ablation("`times` makes no turn", {"times": "drop 0 times"}),
    "one turn less": Ablation("`times` makes one turn less", {"times": "dec times"}),
    "one turn more": Ablation("`times` makes one turn more", {"times": "inc times"}),
    "no index": Ablation("`i` is read as 0", {"i": ", 0 ,"}),
    "no recursion": Ablation("the function does not call itself", inside={"call": NOTHING}),
    "one call": Ablation("the function is run once", inside={"call": NOTHING}, again={"call": NOTHING}),
    "no call": Ablation("the function is not called", {"call": NOTHING}),
    "base case": Ablation("the function is called with 0", {"call": "drop 0 call"}, inside={"call": "call"}),
    "one level": Ablation("the function is called with 1", {"call": "drop 1 call"}, inside={"call": "call"}),
    "one level less": Ablation("the function is called with one less", {"call": "dec call"}, inside={"call": "call"}),
    "relations 0": Ablation("no relation holds", _all(RELATIONS, "drop drop 0 ,")),
    "relations 1": Ablation("every relation holds", _all(RELATIONS, "drop drop 1 ,")),
    "relations negated": Ablation("relations hold where they do not", _all(RELATIONS, "{} not")),
    "relations reversed": Ablation("relations compare in the other order", _all(RELATIONS, "swap {}")),
    "equalities 0": Ablation("`eq` and `ne` are 0", _all(RELATIONS[:2], "drop drop 0 ,")),
    "equalities 1": Ablation("`eq` and `ne` are 1", _all(RELATIONS[:2], "drop drop 1 ,")),
    "orders 0": Ablation("`lt`, `le`, `gt` and `ge` are 0", _all(RELATIONS[2:], "drop drop 0 ,")),
    "orders 1": Ablation("`lt`, `le`, `gt` and `ge` are 1", _all(RELATIONS[2:], "drop drop 1 ,")),
    "no not": Ablation("`not` is skipped", {"not": NOTHING}),
    "and for all": Ablation("`or` and `xor` are read as `and`", _all(BITWISE, "and")),
    "or for all": Ablation("`and` and `xor` are read as `or`", _all(BITWISE, "or")),
    "xor for all": Ablation("`and` and `or` are read as `xor`", _all(BITWISE, "xor")),
    "add for bits": Ablation("`and`, `or` and `xor` are read as `add`", _all(BITWISE, "add")),
    "first of bits": Ablation("`and`, `or` and `xor` leave their first operand", _all(BITWISE, "drop")),
    "second of bits": Ablation("`and`, `or` and `xor` leave their second operand", _all(BITWISE, "swap drop")),
    "sub reversed": Ablation("`sub` subtracts in the other order", {"sub": "swap sub"}),
    "sub as add": Ablation("`sub` is read as `add`", {"sub": "add"}),
    "mul as add": Ablation("`mul` is read as `add`", {"mul": "add"}),
    "first of last": Ablation("the last operation leaves its first operand", last=_all(OPERATIONS, "drop")),
    "second of last": Ablation("the last operation leaves its second operand", last=_all(OPERATIONS, "swap drop")),
}
PLACES = ("tokens", "inside", "again", "last")
ANYWHERE, INSIDE, AGAIN, LAST = range(len(PLACES))


def _rules() -> NDArray[np.uint8]:
    """Return rules (ablations, places, tokens, 1 + GROWTH): 0 for none, else 1 + the token count, then the tokens."""
    rules = np.zeros((len(ABLATIONS), len(PLACES), len(VOCABULARY), 1 + GROWTH), np.uint8)
    for k, ablation in enumerate(ABLATIONS.values()):
        for place, name in enumerate(PLACES):
            for word, text in getattr(ablation, name).items():
                tokens = encode(text)
                rules[k, place, ID[word], 0] = 1 + tokens.size
                rules[k, place, ID[word], 1 : 1 + tokens.size] = tokens
    return rules


RULES = _rules()


def number_of(name: str) -> int:
    """Return the index of an ablation, for `read_as`. Raises ValueError for an unknown one."""
    if name not in ABLATIONS:
        raise ValueError(f"ablation {name!r}: known are {', '.join(ABLATIONS)}")
    return list(ABLATIONS).index(name)


@kernel
def read_as(program: Tokens, prompt: Int, ablation: Int, out: Tokens) -> Int:
    """Write a prompt rewritten by an ablation to ``out``, at least (GROWTH * prompt + 1,); return its length."""
    last: Int = -1
    for position in range(prompt):
        if op.ADD <= program[position] <= op.XOR and op.POPS[program[position]] == 2:
            last = position
    inside = False
    size: Int = 0
    for position in range(prompt):
        token = np.int64(program[position])
        inside = token == op.DEF or (inside and token != op.RET)
        place = ANYWHERE
        if position == last and RULES[ablation, LAST, token, 0]:
            place = LAST
        elif position > 0 and program[position - 1] == token and RULES[ablation, AGAIN, token, 0]:
            place = AGAIN
        elif inside and RULES[ablation, INSIDE, token, 0]:
            place = INSIDE
        count = np.int64(RULES[ablation, place, token, 0])
        if count == 0:
            out[size] = token
            size += 1
        for k in range(1, count):
            out[size] = RULES[ablation, place, token, k]
            size += 1
    return size


@kernel
def answer_as(program: Tokens, prompt: Int, ablation: Int, out: Tokens, machine: Ints) -> tuple[bool, Int]:
    """Run a prompt rewritten by an ablation, or unchanged for -1; return (whether it left one value, that value).

    ``out`` and ``machine`` have room for GROWTH * prompt + 1 tokens.
    """
    size = prompt
    if ablation >= 0:
        size = read_as(program, prompt, ablation, out)
    else:
        for position in range(prompt):
            out[position] = program[position]
    outcome, depth = solve(out[: size + 1], size, machine)
    return outcome == RAN and depth == 1, machine[STACK]


@kernel
def is_needed(program: Tokens, prompt: Int, answer: Int, ablations: Ints, out: Tokens, machine: Ints) -> bool:
    """Whether a prompt gives another answer, or none, under every one of several ablations; room as for `answer_as`."""
    for k in range(ablations.size):
        ran, found = answer_as(program, prompt, ablations[k], out, machine)
        if ran and found == answer:
            return False
    return True


@kernel
def answer_rows(
    prompts: Tokens,
    lengths: NDArray[np.int32],
    ablation: Int,
    answers: Ints,
    ran: NDArray[np.bool_],
    out: Tokens,
    machine: Ints,
) -> None:
    for k in range(prompts.shape[0]):
        ran[k], answers[k] = answer_as(prompts[k], lengths[k], ablation, out, machine)


def answers(
    prompts: ArrayLike, lengths: ArrayLike, name: str | None = None, threads: int | None = None
) -> tuple[Ints, NDArray[np.bool_]]:
    """Run prompts (N, P) uint8 of lengths (N,) under an ablation, or unchanged if ``name`` is None.

    Returns the answers (N,) int64, and whether each run left one value (N,) bool; if not, its answer means nothing.
    ``threads`` is the largest number of threads, by default one per processor. Raises ValueError for an unknown
    ablation, and for prompts or lengths of another shape.
    """
    rows, sizes = check_ids(np.asarray(prompts)), np.ascontiguousarray(lengths, np.int32)
    if rows.ndim != 2 or sizes.shape != rows.shape[:1]:
        raise ValueError(f"prompts are rows (N, P) with lengths (N,); these have shapes {rows.shape} and {sizes.shape}")
    if sizes.size and not 0 <= sizes.min() <= sizes.max() <= rows.shape[1]:
        raise ValueError(f"lengths are from 0 to {rows.shape[1]}; these run from {sizes.min()} to {sizes.max()}")
    ablation = -1 if name is None else number_of(name)
    found, ran = np.zeros(len(rows), np.int64), np.zeros(len(rows), np.bool_)
    room = GROWTH * rows.shape[1] + 1

    def work(part: slice) -> None:
        out = np.zeros(room, np.uint8)
        answer_rows(rows[part], sizes[part], ablation, found[part], ran[part], out, scratch(room))

    spread(work, len(rows), threads)
    return found, ran
