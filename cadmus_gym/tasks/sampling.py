"""Counter-based random numbers for kernels, and choices that can be replayed.

A program is a function of a few integers, so nothing here keeps state between programs or uses floating point. Integers
below a bound are drawn without bias, by multiplication and rejection (Lemire, *Fast Random Integer Generation in an
Interval*, 2019).
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from cadmus_gym.language.hashing import GOLDEN, Words64, mix
from cadmus_gym.language.isa import Int, Ints
from cadmus_gym.language.kernels import kernel

_LOW = np.uint64(0xFFFFFFFF)


@kernel
def randbelow(rng: Words64, source: Int, bound: Int) -> Int:
    """Draw an integer in [0, bound) from a source; bound is at most 2**32."""
    size = np.uint64(bound)
    while True:
        rng[source] += GOLDEN
        product = (mix(np.uint64(rng[source])) >> np.uint64(32)) * size
        # The lowest 2**32 mod bound remainders would make some results more likely than others.
        if (product & _LOW) >= (np.uint64(1) << np.uint64(32)) % size:
            return np.int64(product >> np.uint64(32))


# A writer makes every choice through `uniform`, `categorical` or `bernoulli`, so its programs can also be scored and
# enumerated. The mode of the script says what decides; in every mode but RANDOM the script records the draws.
# - RANDOM: random numbers
# - GUIDED: the outcome seen in a given program
# - SCRIPTED: the outcomes recorded in the script; after the last one, the first possible outcome
# - SAMPLED: random numbers for operands and inputs, the script for choices
# With FORCED, outcomes of CHOICE are read from a list of their own, at cell CHOICES, and in mode GUIDED nobody asks for
# probabilities. A writer that estimates the total weight of a draw adds the variance of its logarithm to DOUBT.
MODE, DRAWN, GIVEN, FORCED, CHOSEN, IMPOSSIBLE, DERIVATION, DOUBT = range(8)
CERTAINTY = 2.0**40  # by which a variance in DOUBT is multiplied
RANDOM, GUIDED, SCRIPTED, SAMPLED = range(4)
CHOICE, OPERAND, INPUT = range(3)  # the sources of random numbers, the cells of `rng`
SOURCES = 3
MOST_DRAWS = 512
CHOICES = 8
DRAWS = CHOICES + MOST_DRAWS  # five cells each: source, outcome, number of outcomes, its weight, the total weight
SOURCE, TAKEN, OUTCOMES, WEIGHT, TOTAL, DRAW_CELLS = range(6)


def new_script(mode: int) -> Ints:
    """Return a script for a mode. All but RANDOM ones have room for the draws."""
    room = 0 if mode == RANDOM else DRAWS + MOST_DRAWS * DRAW_CELLS
    script = np.zeros(CHOICES + room, np.int64)
    script[MODE] = mode
    script[FORCED] = mode == SAMPLED
    return script


@kernel
def rewind(script: Ints) -> None:
    """Start again at the first draw."""
    script[DRAWN] = 0
    script[CHOSEN] = 0
    script[IMPOSSIBLE] = 0
    script[DOUBT] = 0


@kernel
def is_guided(script: Ints) -> bool:
    return bool(script[MODE] == GUIDED)


@kernel
def is_key_enough(script: Ints) -> bool:
    """Whether only the key of the problem is asked for, so that a writer may stop before it writes a prompt."""
    return bool(script[FORCED] and script[MODE] != GUIDED)


@kernel
def is_random(script: Ints, source: Int) -> bool:
    return bool(script[MODE] == RANDOM or (script[MODE] == SAMPLED and source != CHOICE))


@kernel
def replayed(script: Ints, source: Int, seen: Int) -> Int:
    """The outcome to replay when no random number decides."""
    if script[MODE] == GUIDED:
        return seen
    if source == CHOICE and script[FORCED]:
        script[CHOSEN] += 1
        return script[CHOICES + script[CHOSEN] - 1] if script[CHOSEN] <= MOST_DRAWS else 0
    k = script[DRAWN]
    return script[DRAWS + DRAW_CELLS * k + TAKEN] if k < script[GIVEN] else 0


@kernel
def keep(script: Ints, source: Int, taken: Int, outcomes: Int, weight: Int, total: Int) -> None:
    """Record a draw."""
    if script[DRAWN] == MOST_DRAWS:
        script[IMPOSSIBLE] = 1
        return
    at = DRAWS + DRAW_CELLS * script[DRAWN]
    script[at + SOURCE], script[at + TAKEN], script[at + OUTCOMES] = source, taken, outcomes
    script[at + WEIGHT], script[at + TOTAL] = weight, total
    script[DRAWN] += 1


@kernel
def uniform(rng: Words64, script: Ints, source: Int, size: Int, seen: Int) -> Int:
    """Draw an integer in [0, size), all equally likely; size is at most 2**32. ``seen`` is the outcome when guided."""
    if is_random(script, source):
        return randbelow(rng, source, size)
    taken = replayed(script, source, seen)
    if not 0 <= taken < size:
        script[IMPOSSIBLE] = 1
        taken = 0
    keep(script, source, taken, size, 1, size)
    return taken


@kernel
def categorical(rng: Words64, script: Ints, source: Int, weights: Ints, first: Int, count: Int, seen: Int) -> Int:
    """Draw an integer in [0, count) with ``weights[first : first + count]``, at least one of them above 0."""
    total = np.int64(0)
    for k in range(count):
        total += weights[first + k]
    if is_random(script, source):
        drawn = randbelow(rng, source, total)
        one: Int = -1
        while drawn >= 0:
            one += 1
            drawn -= weights[first + one]
        return one
    while count > 1 and weights[first + count - 1] == 0:
        count -= 1
    taken = replayed(script, source, seen)
    if script[MODE] == GUIDED and (not 0 <= taken < count or weights[first + taken] == 0):
        script[IMPOSSIBLE] = 1
        taken = 0
    while weights[first + taken] == 0:
        taken += 1
    keep(script, source, taken, count, weights[first + taken], total)
    return taken


@kernel
def bernoulli(rng: Words64, script: Ints, source: Int, threshold: Int, seen: bool) -> bool:
    """True with probability threshold / 2**32."""
    if is_random(script, source):
        return bool(randbelow(rng, source, 4294967296) < threshold)
    first, last = np.int64(threshold == 4294967296), np.int64(threshold > 0)
    taken = max(replayed(script, source, np.int64(seen)), first)
    if taken > last:
        script[IMPOSSIBLE] = 1
        taken = first
    keep(script, source, taken, 1 + last, threshold if taken else 4294967296 - threshold, 4294967296)
    return bool(taken)


def threshold(share: float) -> int:
    """Return the threshold for `bernoulli` of a probability in [0, 1]."""
    return int(Fraction(str(share)) * 2**32)
