"""Facts: operations with their operand values, a tenth of which no training program ever executes.

A split by problems alone would let a model answer from memory: ``27 28 mul`` may be a test problem while train shows
``27 28 mul 3 add`` with 756 among its worked steps. So one hash holds out a tenth of all facts for good, and a problem
whose expression contains one of those is a test problem, whatever the environment.

Facts that give each other away are one fact: operands of commutative operations in either order, ``x y sub`` and
``y x sub``, and every comparison of x and y, which is a subtraction. So is the other sign: ``-27 28 mul`` mirrors
``27 28 mul``, and train leaves it out as well. An operand of magnitude below 2 makes no fact.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from cadmus_gym.language import isa as op
from cadmus_gym.language.hashing import join, mix
from cadmus_gym.language.isa import Int
from cadmus_gym.language.kernels import kernel

SHARE = Fraction(1, 10)  # of the facts that are held out
BOUND = np.uint64(int(SHARE * 2**64))  # hashes below it


@kernel
def fact(token: Int, x: Int, y: Int) -> np.uint64:
    """The hash of an operation on two values, the same for facts that give each other away."""
    if op.AND <= token <= op.XOR:
        return join(join(np.uint64(token), mix(np.uint64(min(x, y)))), mix(np.uint64(max(x, y))))
    if token == op.DIV or token == op.MOD:
        return join(join(np.uint64(op.DIV), mix(np.uint64(abs(x)))), mix(np.uint64(abs(y))))
    kind = np.int64(token)
    if token != op.MUL:  # x - y is a sum where their signs differ
        adds = (token == op.ADD) == ((x < 0) == (y < 0))
        kind = np.int64(op.ADD if adds else op.SUB)
    x, y = abs(x), abs(y)
    return join(join(np.uint64(kind), mix(np.uint64(min(x, y)))), mix(np.uint64(max(x, y))))


@kernel
def mirrors_held_out(token: Int, x: Int, y: Int) -> bool:
    """Whether an operation on two values is a held-out fact, or mirrors one with an operand of the other sign."""
    return bool(min(abs(x), abs(y)) >= 2 and fact(token, x, y) < BOUND)


@kernel
def held_out(token: Int, x: Int, y: Int) -> bool:
    """Whether an operation on two values, both at least 2, is a held-out fact. ``token`` is that of a binary one."""
    return bool(min(x, y) >= 2 and mirrors_held_out(token, x, y))
