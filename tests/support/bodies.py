"""Well-formed bodies of programs for tests, written from a seeded `random.Random`."""

from __future__ import annotations

import random

from support import naive

Names = list[str]

BINARY = ("add", "sub", "mul", "min", "max", "eq", "ne", "lt", "le", "gt", "ge", "and", "or", "xor")
UNARY = ("neg", "abs", "inc", "dec", "not")
EDGES = (0, 1, 2, 9, 10, 63, 64, 65, 46340, 46341, 65535, 65536, 2147483646, 2147483647)


def literal(number: int) -> Names:
    """Return the tokens of one integer, with `neg` after a negative one."""
    return [*str(abs(number)), "neg"] if number < 0 else [*str(number)]


def integer_list(numbers: list[int]) -> Names:
    """Return one side of a case."""
    names: Names = []
    for number in numbers:
        names += [",", *literal(number)] if names else literal(number)
    return names


def join(*parts: Names) -> Names:
    """Return the parts joined, with `,` between literals that would run together."""
    names: Names = []
    for part in parts:
        if names and part and names[-1].isdecimal() and part[0].isdecimal():
            names.append(",")
        names += part
    return names


class Writer:
    """Writes a body that never underflows the stack, by tracking its height at each token.

    `floor` is the height below which the block being written must not reach.
    """

    def __init__(self, rng: random.Random, height: int = 0) -> None:
        self.rng = rng
        self.words: Names = []
        self.height = height
        self.floor = 0
        self.loops = 0
        self.function: tuple[int, int, bool] | None = None  # takes, leaves, recursive

    def put(self, words: Names, change: int = 0) -> None:
        self.words = join(self.words, words)
        self.height += change

    def number(self) -> int:
        kind = self.rng.random()
        if kind < 0.8:
            return self.rng.randint(0, 12)
        return self.rng.randint(0, 999) if kind < 0.95 else self.rng.choice(EDGES)

    def push(self, number: int | None = None) -> None:
        number = self.number() if number is None else number
        self.put(literal(number), 1)

    def ensure(self, count: int) -> None:
        """Write literals until `count` values may be taken, and drop values if there are too many."""
        while self.height - self.floor < count:
            self.push()
        while self.height > 24 and self.height - self.floor > count:
            self.put(["drop"], -1)

    def settle(self, height: int) -> None:
        """Bring the stack to a height."""
        while self.height > height:
            self.put([self.rng.choice(("drop", "add", "max"))] if self.height - self.floor > 1 else ["drop"], -1)
        while self.height < height:
            self.push()

    def stretch(self, count: int, depth: int) -> None:
        for _ in range(count):
            self.statement(depth)

    def statement(self, depth: int) -> None:
        rng = self.rng
        kind = rng.random()
        if kind < 0.22:
            self.push()
        elif kind < 0.42:
            self.ensure(2)
            self.put([rng.choice(BINARY)], -1)
        elif kind < 0.52:
            self.ensure(1)
            self.put([rng.choice(UNARY)])
        elif kind < 0.57:
            self.ensure(1)
            self.put(join(literal(rng.choice((1, 2, 3, 7, 10, -1, -2, -5))), [rng.choice(("div", "mod"))]))
        elif kind < 0.67:
            takes, change, name = rng.choice(
                ((1, 1, "dup"), (1, -1, "drop"), (2, 0, "swap"), (2, 1, "over"), (3, 0, "rot"))
            )
            self.ensure(takes)
            self.put([name], change)
        elif kind < 0.70:
            self.ensure(1)
            self.put(join(literal(rng.randrange(self.height - self.floor)), ["pick"]), 1)
        elif kind < 0.74:
            self.ensure(1)
            self.put([rng.choice(("a!", "b!"))], -1)
        elif kind < 0.78:
            self.put([rng.choice(("a@", "b@"))], 1)
        elif kind < 0.80:
            self.put([","])
        elif kind < 0.84 and self.loops:
            self.put(["i"], 1)
        elif kind < 0.87 and self.function:
            takes, leaves, recursive = self.function
            self.ensure(takes)
            self.put(
                join(["drop"], literal(rng.randint(0, 9)), ["call"]) if recursive else ["call"],
                leaves - takes,
            )
        elif depth > 0:
            rng.choice((self.branch, self.turns, self.countdown, self.repeat))(depth - 1)

    def branch(self, depth: int) -> None:
        """`if A fi` or `if A else B fi`; both ways leave the same height."""
        self.ensure(1)
        self.put(["if"], -1)
        before = self.height
        with_else = self.rng.random() < 0.5
        after = max(self.floor, before + self.rng.randint(-1, 2)) if with_else else before
        self.stretch(self.rng.randint(0, 4), depth)
        self.settle(after)
        if with_else:
            self.put(["else"])
            self.height = before
            self.stretch(self.rng.randint(0, 4), depth)
            self.settle(after)
        self.put(["fi"])

    def turns(self, depth: int) -> None:
        """`times A next` with few turns, sometimes zero or negative."""
        self.put(literal(self.rng.choice((0, 1, 1, 2, 2, 3, 4, 5, -1))))
        self.put(["times"])
        before = self.height
        self.loops += 1
        self.stretch(self.rng.randint(0, 4), depth)
        self.settle(before)
        self.loops -= 1
        self.put(["next"])

    def countdown(self, depth: int) -> None:
        """`begin A until` with a counter on the stack, which A does not touch."""
        self.push(self.rng.randint(0, 4))
        self.put(["begin"])
        floor, self.floor = self.floor, self.height
        self.stretch(self.rng.randint(0, 3), depth)
        self.settle(self.floor)
        self.floor = floor
        self.put(["dec", "dup", "1", "lt", "until", "drop"], -1)

    def repeat(self, depth: int) -> None:
        """`begin A until` that stops by a register, or at once."""
        by_register = self.rng.random() < 0.5
        if by_register:
            self.put([*literal(self.rng.randint(1, 4)), "a!"])
        self.put(["begin"])
        before = self.height
        self.stretch(self.rng.randint(0, 3), depth)
        self.settle(before)
        self.put(["a@", "dec", "dup", "a!", "1", "lt"] if by_register else ["1"])
        self.put(["until"])

    def define(self, depth: int) -> None:
        """`def A ret`, which either calls itself for a smaller number or takes and leaves a few values."""
        height, self.height = self.height, 0
        if self.rng.random() < 0.5:
            self.put(["def", "dup", "0", "gt", "if", "dup", "dec", "call"])
            self.put(self.rng.choice((["add"], ["mul"], ["max"], ["swap", "drop"], ["sub"])))
            if self.rng.random() < 0.5:
                self.put(["2", "times", "i", "add", "next"])
            self.put(self.rng.choice((["fi"], ["else", "drop", "1", "fi"], ["else", "inc", "fi"])))
            self.function = (1, 1, True)
        else:
            takes, leaves = self.rng.randint(0, 3), self.rng.randint(0, 3)
            self.put(["def"])
            self.height = takes
            self.stretch(self.rng.randint(0, 5), depth)
            self.settle(leaves)
            self.function = (takes, leaves, False)
        self.put(["ret"])
        self.height = height

    def body(self, statements: int, depth: int) -> Names:
        """Write a whole body, sometimes with a function."""
        if self.rng.random() < 0.35:
            self.stretch(self.rng.randint(0, 2), 1)
            self.define(depth)
        self.stretch(statements, depth)
        return self.words


def working_body(rng: random.Random, height: int = 0) -> Names:
    """A body that runs deep: blocks, loops that end, recursion, and every operand in place."""
    return Writer(rng, height).body(rng.randint(1, 14), depth=rng.randint(0, 3))


def finished(rng: random.Random, body: Names, inputs: list[int] | None = None) -> Names:
    """Append tokens so that the program leaves a single 1, unless the body ends with a fault."""
    head = [] if inputs is None else ["case", *integer_list(inputs), "to", "do"]
    left = naive.judge([*head, *body, "end"]).stack
    if not left:
        return join(body, ["1"])
    return join(body, ["drop"] * (len(left) - 1), [], literal(left[0]), ["eq"])
