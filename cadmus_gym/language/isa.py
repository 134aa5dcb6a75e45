"""The instruction set: THE table of the 65 tokens, and the two text forms of a program.

One token is one instruction, one action and one model symbol. Everything that needs a list of tokens (vocabulary,
kernels, masks, documentation, tests) derives it from ``INSTRUCTIONS``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Tokens: TypeAlias = NDArray[np.uint8]
Ints: TypeAlias = NDArray[np.int64]
Int: TypeAlias = Any  # a scalar in a kernel: int64 in compiled code, int for callers in Python


@dataclass(frozen=True)
class Instruction:
    """One token: its id, name, group, effect on the stack, and meaning in words.

    ``pops`` and ``pushes`` count stack values. A digit is listed as it acts at the start of a literal.
    """

    id: int
    name: str
    group: str
    pops: int
    pushes: int
    meaning: str


_GROUPS: dict[str, list[tuple[str, int, int, str]]] = {
    "frame": [
        ("<pad>", 0, 0, "fills the row after a program"),
        ("<bos>", 0, 0, "may open a program; a model puts it before its input"),
        ("end", 0, 0, "ends the program; what follows is ignored"),
    ],
    "header": [
        ("case", 0, 0, "opens a case: inputs `to` outputs"),
        ("to", 0, 0, "separates the inputs of a case from its outputs"),
        ("do", 0, 0, "ends the header; the body follows"),
        ("use", 0, 0, "directive: every run executes the next token"),
        ("avoid", 0, 0, "directive: the body does not contain the next token"),
        ("within", 0, 0, "directive: the body has at most the given number of tokens"),
        ("exactly", 0, 0, "directive: the body has exactly the given number of tokens"),
    ],
    "separator": [(",", 0, 0, "does nothing; separates two literals")],
    "thought": [
        ("(", 0, 0, "opens a thought: jumps past the next `)`"),
        (")", 0, 0, "closes a thought"),
    ],
    "digit": [(str(d), 0, 1, f"pushes {d}; after a digit: (x -- 10x+{d})") for d in range(10)],
    "arithmetic": [
        ("add", 2, 1, "(x y -- x+y)"),
        ("sub", 2, 1, "(x y -- x-y)"),
        ("mul", 2, 1, "(x y -- x*y)"),
        ("div", 2, 1, "(x y -- floor of x/y)"),
        ("mod", 2, 1, "(x y -- x - y*floor of x/y), with the sign of y"),
        ("neg", 1, 1, "(x -- -x)"),
        ("abs", 1, 1, "(x -- absolute value of x)"),
        ("min", 2, 1, "(x y -- the smaller)"),
        ("max", 2, 1, "(x y -- the larger)"),
        ("inc", 1, 1, "(x -- x+1)"),
        ("dec", 1, 1, "(x -- x-1)"),
    ],
    "comparison": [
        ("eq", 2, 1, "(x y -- 1 if x = y, else 0)"),
        ("ne", 2, 1, "(x y -- 1 if x ≠ y, else 0)"),
        ("lt", 2, 1, "(x y -- 1 if x < y, else 0)"),
        ("le", 2, 1, "(x y -- 1 if x ≤ y, else 0)"),
        ("gt", 2, 1, "(x y -- 1 if x > y, else 0)"),
        ("ge", 2, 1, "(x y -- 1 if x ≥ y, else 0)"),
    ],
    "logic": [
        ("and", 2, 1, "(x y -- bitwise and)"),
        ("or", 2, 1, "(x y -- bitwise or)"),
        ("not", 1, 1, "(x -- 1 if x = 0, else 0)"),
        ("xor", 2, 1, "(x y -- bitwise exclusive or)"),
    ],
    "stack": [
        ("dup", 1, 2, "(x -- x x)"),
        ("drop", 1, 0, "(x --)"),
        ("swap", 2, 2, "(x y -- y x)"),
        ("over", 2, 3, "(x y -- x y x)"),
        ("rot", 3, 3, "(x y z -- y z x)"),
        ("pick", 1, 1, "takes n, pushes a copy of the value n below the top"),
    ],
    "register": [
        ("a!", 1, 0, "(x --) stores x in register a"),
        ("a@", 0, 1, "(-- x) loads x from register a"),
        ("b!", 1, 0, "(x --) stores x in register b"),
        ("b@", 0, 1, "(-- x) loads x from register b"),
    ],
    "control": [
        ("if", 1, 0, "takes x; if 0, jumps past `else`, or past `fi` if there is no `else`"),
        ("else", 0, 0, "jumps past `fi`"),
        ("fi", 0, 0, "closes `if`"),
        ("times", 1, 0, "takes n; repeats the block up to `next` n times, never for n ≤ 0"),
        ("next", 0, 0, "closes `times`: jumps back until all turns are done"),
        ("i", 0, 1, "pushes the number of finished turns of the innermost `times`"),
        ("begin", 0, 0, "opens a loop that runs at least once"),
        ("until", 1, 0, "closes `begin`: takes x; if 0, jumps back to repeat the block"),
    ],
    "function": [
        ("def", 0, 0, "defines the one function: jumps past `ret`"),
        ("ret", 0, 0, "returns to the token after the `call`"),
        ("call", 0, 0, "calls the function"),
    ],
}

INSTRUCTIONS: tuple[Instruction, ...] = tuple(
    Instruction(id, name, group, pops, pushes, meaning)
    for id, (group, (name, pops, pushes, meaning)) in enumerate(
        (group, row) for group, rows in _GROUPS.items() for row in rows
    )
)
VOCABULARY: tuple[str, ...] = tuple(instruction.name for instruction in INSTRUCTIONS)
ID: dict[str, int] = {name: id for id, name in enumerate(VOCABULARY)}

# Every token id by name: `from cadmus_gym.language import isa as op`, then op.ADD. Numba freezes them as constants.
PAD, BOS, END = ID["<pad>"], ID["<bos>"], ID["end"]
ZERO, NINE = ID["0"], ID["9"]
CASE, TO, DO, USE, AVOID, WITHIN, EXACTLY = range(ID["case"], ID["exactly"] + 1)
COMMA, OPEN, CLOSE = ID[","], ID["("], ID[")"]
ADD, SUB, MUL, DIV, MOD, NEG, ABS, MIN, MAX, INC, DEC = range(ID["add"], ID["dec"] + 1)
EQ, NE, LT, LE, GT, GE = range(ID["eq"], ID["ge"] + 1)
AND, OR, NOT, XOR = range(ID["and"], ID["xor"] + 1)
DUP, DROP, SWAP, OVER, ROT, PICK = range(ID["dup"], ID["pick"] + 1)
SET_A, GET_A, SET_B, GET_B = range(ID["a!"], ID["b@"] + 1)
IF, ELSE, FI, TIMES, NEXT, INDEX, BEGIN, UNTIL = range(ID["if"], ID["until"] + 1)
DEF, RET, CALL = range(ID["def"], ID["call"] + 1)
BODY = COMMA  # ids from here on may stand in a body
POPS = np.array([instruction.pops for instruction in INSTRUCTIONS])
PUSHES = np.array([instruction.pushes for instruction in INSTRUCTIONS])


def instruction_table() -> str:
    """Return the table of instructions as Markdown, for the documentation."""
    rows = ["| id | token | group | takes | leaves | meaning |", "| --- | --- | --- | --- | --- | --- |"]
    rows += [f"| {x.id} | `{x.name}` | {x.group} | {x.pops} | {x.pushes} | {x.meaning} |" for x in INSTRUCTIONS]
    return "\n".join(rows)
