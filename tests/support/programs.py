"""Programs for tests: seeded generators, the same as hypothesis strategies, and the limits by hand.

A generator is a function of a `random.Random` that returns token names; `GENERATORS` lists them all. `sample`
draws from all of them with a seed, `strategy` lends one to hypothesis. `LIMITS` holds programs at and just
beyond every limit of the language, with the verdict that a reader of its description expects.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from hypothesis import strategies as st

from cadmus_gym.language.isa import VOCABULARY
from support import naive

Names = list[str]
Generator = Callable[[random.Random], Names]

HEADER_TOKENS = VOCABULARY[3:10]
OPERATIONS = VOCABULARY[10:11] + VOCABULARY[13:]  # what `use` and `avoid` may name
BINARY = ("add", "sub", "mul", "min", "max", "eq", "ne", "lt", "le", "gt", "ge", "and", "or", "xor")
UNARY = ("neg", "abs", "inc", "dec", "not")
ENDS = (2147483646, -2147483646, 2147483647, -2147483647)
EDGES = (0, 1, 2, 9, 10, 63, 64, 65, 46340, 46341, 65535, 65536, 2147483646, 2147483647)


def literal(number: int) -> Names:
    """Return the tokens of one integer, with `neg` behind a negative one."""
    return [*str(abs(number)), "neg"] if number < 0 else [*str(number)]


def integer_list(numbers: list[int]) -> Names:
    """Return one side of a case."""
    names: Names = []
    for number in numbers:
        names += [",", *literal(number)] if names else literal(number)
    return names


def join(*parts: Names) -> Names:
    """Return the parts in a row, with `,` where two literals would run together."""
    names: Names = []
    for part in parts:
        if names and part and names[-1].isdecimal() and part[0].isdecimal():
            names.append(",")
        names += part
    return names


# Well-formed bodies.


class Writer:
    """Writes a body that takes no value that is not there: it knows how high the stack is at each token.

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
        """Write literals until `count` values may be taken, and drop what would crowd the stack."""
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
        """`times A next` with few turns, at times none or fewer than none."""
        self.put(literal(self.rng.choice((0, 1, 1, 2, 2, 3, 4, 5, -1))))
        self.put(["times"])
        before = self.height
        self.loops += 1
        self.stretch(self.rng.randint(0, 4), depth)
        self.settle(before)
        self.loops -= 1
        self.put(["next"])

    def countdown(self, depth: int) -> None:
        """`begin A until` with a counter on the stack, which A does not reach."""
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
        """Write a whole body, with a function in some."""
        if self.rng.random() < 0.35:
            self.stretch(self.rng.randint(0, 2), 1)
            self.define(depth)
        self.stretch(statements, depth)
        return self.words


def working_body(rng: random.Random, height: int = 0) -> Names:
    """A body that runs deep: blocks, loops that end, recursion, and every operand in place."""
    return Writer(rng, height).body(rng.randint(1, 14), depth=rng.randint(0, 3))


def finished(rng: random.Random, body: Names, inputs: list[int] | None = None) -> Names:
    """Write behind a body what leaves a single 1, where the body ends without a fault."""
    head = [] if inputs is None else ["case", *integer_list(inputs), "to", "do"]
    left = naive.judge([*head, *body, "end"]).stack
    if not left:
        return join(body, ["1"])
    return join(body, ["drop"] * (len(left) - 1), [], literal(left[0]), ["eq"])


# Generators of programs, each a function of a random stream.


def noise(rng: random.Random) -> Names:
    """Any of the 65 tokens, most often with an `end` as the last."""
    names = [rng.choice(VOCABULARY) for _ in range(rng.randint(0, 30))]
    return names + ["end"] * (rng.random() < 0.7)


def body_noise(rng: random.Random) -> Names:
    """Tokens of a body without blocks or header, literals first so that some run for a while."""
    start = [rng.choice(VOCABULARY[13:23]) for _ in range(rng.randint(0, 6))]
    if len(start) > 2:
        start[2] = ","
    names = [rng.choice(VOCABULARY[10:11] + VOCABULARY[13:54]) for _ in range(rng.randint(0, 12))]
    return [*start, *names, "end"]


def block_noise(rng: random.Random) -> Names:
    """Well-nested blocks around tokens without any discipline."""

    def stretch(depth: int, loops: bool, function: bool) -> Names:
        names: Names = []
        for _ in range(rng.randint(0, 4)):
            kind = rng.random()
            if depth == 0 or kind < 0.6:
                names.append(rng.choice((*VOCABULARY[13:54], ",", *"0123")))
                if loops and rng.random() < 0.2:
                    names.append("i")
                if function and rng.random() < 0.1:
                    names.append("call")
            elif kind < 0.75:
                names += ["if", *stretch(depth - 1, loops, function)]
                names += ["else", *stretch(depth - 1, loops, function)] * (rng.random() < 0.5)
                names.append("fi")
            elif kind < 0.9:
                names += ["times", *stretch(depth - 1, True, function), "next"]
            else:
                names += ["begin", *stretch(depth - 1, loops, function), rng.choice("01"), "until"]
        return names

    function = rng.random() < 0.4
    names = stretch(1, False, False)
    if function:
        names += ["def", *stretch(3, False, True), "ret"]
    return [*(rng.choice("123456789,") for _ in range(5)), *names, *stretch(4, False, function), "end"]


def header_noise(rng: random.Random) -> Names:
    """A header with one token in some wrong, missing, doubled or at a limit, before a small body."""
    names: Names = []
    for _ in range(rng.choice((0, 1, 2, 7, 8, 9))):
        kind = rng.choice(("use", "avoid", "within", "exactly"))
        names.append(kind)
        if kind in ("use", "avoid"):
            names.append(rng.choice(OPERATIONS if rng.random() < 0.95 else VOCABULARY))
        else:
            names += literal(rng.choice((*range(12), 2147483647)))
    for _ in range(rng.choice((0, 1, 1, 2, 3, 15, 16, 17))):
        sides = [[rng.choice((0, 1, 5, -1)) for _ in range(rng.choice((0, 1, 1, 2, 3)))] for _ in range(2)]
        if rng.random() < 0.05:
            sides[rng.randrange(2)] = [rng.randint(-9, 9) for _ in range(rng.choice((8, 9)))]
        if rng.random() < 0.05:
            sides[rng.randrange(2)] = [rng.choice((2147483647, 2147483648, -2147483648, 2**64 + 1))]
        names += ["case", *integer_list(sides[0]), "to", *integer_list(sides[1])]
    names += ["do", *rng.choice(([], ["1"], ["dup", "add"], ["drop", "1"])), "end"]
    return mutated_once(rng, names) if rng.random() < 0.4 else names


def working(rng: random.Random) -> Names:
    """A working body as it is: most leave something else than 1."""
    return ["<bos>"] * (rng.random() < 0.2) + [*working_body(rng), "end"]


def true_plain(rng: random.Random) -> Names:
    """A program without a header that is true, or whose body ends in a fault."""
    return ["<bos>"] * (rng.random() < 0.2) + [*finished(rng, working_body(rng)), "end"]


def with_header(rng: random.Random, near_miss: bool) -> Names:
    height = rng.randint(0, 4)
    body = working_body(rng, height)
    text = naive.parse([*body, "end"]).text
    cases: list[tuple[list[int], list[int]]] = []
    for _ in range(rng.choice((0, 1, 2, 3, 5, 16))):
        inputs = [rng.choice((rng.randint(-9, 9), rng.randint(-999, 999))) for _ in range(height)]
        left = naive.judge(["case", *integer_list(inputs), "to", "do", *body, "end"])
        cases.append((inputs, left.stack[: naive.MOST_INTEGERS]))
        if left.steps > 500:
            break  # a long body is run for few cases
    if not cases:
        body = finished(rng, working_body(rng))
        text = naive.parse([*body, "end"]).text
    directives: list[Names] = []
    for _ in range(rng.choice((0, 0, 1, 2, 8))):
        kind = rng.choice(("use", "avoid", "within", "exactly"))
        if kind == "use":
            directives.append([kind, rng.choice(text or [","])])
        elif kind == "avoid":
            absent = [name for name in OPERATIONS if name not in text]
            directives.append([kind, rng.choice(absent)])
        else:
            more = rng.choice((0, 0, 1, 5)) if kind == "within" else 0
            directives.append([kind, *literal(len(text) + more)])
    if near_miss:
        kind = rng.choice(("output", "output", "more", "fewer", "swap", "case", "within", "exactly", "use", "avoid"))
        index = rng.randrange(len(cases)) if cases else 0
        outputs = cases[index][1] if cases else []
        if kind == "output" and outputs:
            outputs[rng.randrange(len(outputs))] += rng.choice((1, -1))
        elif kind == "more" and len(outputs) < naive.MOST_INTEGERS:
            outputs.insert(rng.randint(0, len(outputs)), rng.randint(0, 9))
        elif kind == "fewer" and outputs:
            outputs.pop(rng.randrange(len(outputs)))
        elif kind == "swap":
            outputs.reverse()
        elif kind == "case" and cases:
            cases[index] = (cases[index][0][1:], outputs)
        elif kind in ("within", "exactly"):
            directives.append([kind, *literal(max(0, len(text) - 1))])
        elif kind == "use":
            directives.append([kind, rng.choice(OPERATIONS)])
        else:
            directives.append(["avoid", rng.choice(text or [","])])
    names = ["<bos>"] * (rng.random() < 0.2)
    for directive in directives[: naive.MOST_DIRECTIVES]:
        names += directive
    for inputs, outputs in cases:
        names += ["case", *integer_list(inputs), "to", *integer_list(outputs)]
    if not directives and not cases:
        return [*names, *body, "end"]
    return [*names, "do", *body, "end"]


def true_header(rng: random.Random) -> Names:
    """Directives and cases that hold, but for bodies that end in a fault or leave too much."""
    return with_header(rng, near_miss=False)


def near_miss(rng: random.Random) -> Names:
    """Directives and cases of which one is a little wrong."""
    return with_header(rng, near_miss=True)


FAULTS = (
    "0 div",
    "0 mod",
    "drop drop drop drop drop drop",
    "2 1 4 7 4 8 3 6 4 8",
    "4 6 3 4 1 dup mul",
    "2 1 4 7 4 8 3 6 4 7 dup add",
    "2 1 4 7 4 8 3 6 4 7 neg 2 and",
    "6 4 times i next",
    "6 6 times a@ next",
    "begin 0 until",
    "begin 9 until",
    "2 0 0 0 times next",
    "2 0 0 times 3 times i drop next next",
    "begin dup dec dup not until",
    "1 neg pick",
    "6 4 pick",
    "rot rot rot",
)


def faulty(rng: random.Random) -> Names:
    """A working body with a fault planted somewhere, before one to three cases or none."""
    left, right = working_body(rng), working_body(rng)
    fault = rng.choice(FAULTS).split()
    body = join(left, fault)
    if "def" not in left:
        body = join(body, right)
    if rng.random() < 0.2 and "def" not in body:
        body = join(["def", rng.choice((",", "1", "dup")), "call", "ret"], body, ["call"])
    if rng.random() < 0.5:
        return [*body, "end"]
    cases: Names = []
    for _ in range(rng.randint(1, 3)):
        cases += ["case", *integer_list([rng.randint(-3, 9) for _ in range(rng.randint(0, 3))]), "to", "1"]
    return [*cases, "do", *body, "end"]


def deep(rng: random.Random) -> Names:
    """Blocks nested 14 to 18 deep around little, in a function or not."""
    depth = rng.choice((14, 15, 16, 17, 18))
    opened: list[str] = []
    names: Names = []
    function = rng.random() < 0.3
    if function:
        names.append("def")
        opened.append("ret")
    while len(opened) < depth:
        kind = rng.choice(("if", "else", "times", "begin"))
        if kind == "if":
            names += ["1", "if"]
            opened.append("fi")
        elif kind == "else":
            names += ["0", "if", "else"]
            opened.append("fi")
        elif kind == "times":
            names += ["1", "times"]
            opened.append("next")
        else:
            names.append("begin")
            opened.append("until")
    names += ["i", "drop"] * ("next" in opened)
    for closer in reversed(opened):
        names += ["1", "until"] if closer == "until" else [closer]
    return [*names, *["call"] * function, "1", "end"]


def recursive(rng: random.Random) -> Names:
    """A function that calls itself 28 to 34 or 61 to 66 times, with a loop around each call in some."""
    looped = rng.random() < 0.5
    count = rng.randint(28, 34) if looped else rng.randint(61, 66)
    call = rng.choice((["1", "times", "call", "next"], ["2", "times", "i", "if", "call", "fi", "next"]))
    inner = call if looped else ["call"]
    last = rng.choice(([], ["else", "1", "times", "next"], ["else", "0", "times", "next"]))
    names = ["def", "dup", "if", "dec", *inner, *last, "fi", "ret", *literal(count), "call", "not"]
    return [*names, "end"]


def long(rng: random.Random) -> Names:
    """A loop or a row of commas that ends within a few steps of the limit."""
    kind = rng.randrange(4)
    if kind == 0:
        return [","] * rng.randint(1020, 1026) + ["1", "end"]
    if kind == 1:  # 5 + 3 * 339 = 1022 steps so far
        return [*"339", "times", ",", ",", "next", *[","] * rng.randint(0, 4), "1", "end"]
    if kind == 2:
        return [
            *"60",
            "begin",
            "dec",
            "dup",
            "0",
            "eq",
            *[","] * rng.randint(10, 14),
            "until",
            "drop",
            "1",
            "end",
        ]
    return ["def", *[","] * rng.randint(47, 50), "ret", *["call"] * rng.randint(19, 21), "1", "end"]


def thoughtful(rng: random.Random) -> Names:
    """Thoughts anywhere in another program: whole, open, empty, nested, or with what must not be inside."""
    names = rng.choice((true_plain, near_miss, working, body_noise))(rng)
    for _ in range(rng.randint(1, 3)):
        inside = [rng.choice(VOCABULARY[10:11] + VOCABULARY[13:]) for _ in range(rng.randint(0, 4))]
        slip = rng.random()
        if slip < 0.04:
            inside.append(rng.choice(VOCABULARY[:13]))
        thought = ["(", *inside, ")"]
        if slip > 0.96:
            thought = thought[:-1] if slip > 0.98 else thought[1:]
        start = names.index("do") + 1 if "do" in names and rng.random() < 0.9 else 0
        at = rng.randint(start, len(names))
        names = names[:at] + thought + names[at:]
    return names


def tailed(rng: random.Random) -> Names:
    """Another program with noise or pads behind its `end`, a pad or `<bos>` before it, or no `end`."""
    names = rng.choice((true_plain, true_header, near_miss, noise))(rng)
    kind = rng.randrange(5)
    if kind == 0:
        return [*names, *noise(rng)]
    if kind == 1:
        return names + ["<pad>"] * rng.randint(1, 4)
    if kind == 2:
        return [rng.choice(("<bos>", "<pad>")), *names]
    if kind == 3:
        return names[:-1] + ["<pad>"] * rng.randint(0, 4)
    at = rng.randint(0, len(names))
    return [*names[:at], rng.choice(("<bos>", "<pad>")), *names[at:]]


def mutated_once(rng: random.Random, names: Names) -> Names:
    kind = rng.randrange(4)
    at = rng.randrange(len(names)) if names else 0
    if kind == 0 or not names:
        return [*names[:at], rng.choice(VOCABULARY), *names[at:]]
    if kind == 1:
        return [*names[:at], *names[at + 1 :]]
    if kind == 2:
        return [*names[:at], rng.choice(VOCABULARY), *names[at + 1 :]]
    other = rng.randrange(len(names))
    names = list(names)
    names[at], names[other] = names[other], names[at]
    return names


def mutated(rng: random.Random) -> Names:
    """Another program with one or two tokens inserted, deleted, replaced or exchanged."""
    names = rng.choice((true_plain, true_header, working, block_noise, deep, recursive, faulty))(rng)
    for _ in range(rng.randint(1, 2)):
        names = mutated_once(rng, names)
    return names


def limit(rng: random.Random) -> Names:
    """One of the programs at a limit, as it is or with one token changed."""
    names = rng.choice(list(LIMITS.values()))[0].split()
    return names if rng.random() < 0.3 else mutated_once(rng, names)


# The limits, by hand: name -> (program, verdict).

MOST = "2 1 4 7 4 8 3 6 4 7"
MORE = "2 1 4 7 4 8 3 6 4 8"
NEVER = "begin 0 until"


def row(count: int, word: str) -> str:
    return " ".join([word] * count)


def around(count: int, opening: str, inner: str, closing: str) -> str:
    return f"{row(count, opening)} {inner} {row(count, closing)}"


def value_limits() -> dict[str, tuple[str, str]]:
    """64 and 65 values, by every way to push one, and the values at the ends of the range."""
    fill = "{} times i next"
    limits = {
        "64 values": (fill.format("6 4") + " end", "FALSE"),
        "65 values": (fill.format("6 5") + " end", "STACK_OVERFLOW"),
        "64 literals": (row(64, "1 ,") + " end", "FALSE"),
        "65 literals": (row(65, "1 ,") + " end", "STACK_OVERFLOW"),
        "a long literal as value 64": (fill.format("6 3") + " 1 2 3 end", "FALSE"),
        "a long literal as value 65": (fill.format("6 4") + " 1 2 3 end", "STACK_OVERFLOW"),
        "most literal": (f"{MOST} , {MOST} eq end", "TRUE"),
        "beyond the most": (f"{MORE} end", "VALUE_OVERFLOW"),
        "far beyond the most": (row(40, "9") + " end", "VALUE_OVERFLOW"),
        "2 to the 32 and 1": ("4 2 9 4 9 6 7 2 9 7 end", "VALUE_OVERFLOW"),
        "2 to the 64 and 1": ("1 8 4 4 6 7 4 4 0 7 3 7 0 9 5 5 1 6 1 7 end", "VALUE_OVERFLOW"),
        "leading zeros": (row(99, "0") + " 1 end", "TRUE"),
        "eight inputs and room for 56": (
            f"case {row(7, '1 ,')} 1 to do {fill.format('5 6')} end",
            "FALSE",
        ),
        "eight inputs and no room for 57": (
            f"case {row(7, '1 ,')} 1 to do {fill.format('5 7')} end",
            "STACK_OVERFLOW",
        ),
        "push by value 65 from a": ("5 a! " + fill.format("6 4") + " a@ end", "STACK_OVERFLOW"),
        "push by value 65 from b": ("5 b! " + fill.format("6 4") + " b@ end", "STACK_OVERFLOW"),
        "push by value 64 from a": ("5 a! " + fill.format("6 3") + " a@ end", "FALSE"),
        "push by value 64 from b": ("5 b! " + fill.format("6 3") + " b@ end", "FALSE"),
        "pick at 64 values": (fill.format("6 3") + " 6 2 pick end", "FALSE"),
        "pick the bottom of 63": (
            fill.format("6 3") + " 6 2 pick " + row(63, "swap drop") + " 0 eq end",
            "TRUE",
        ),
        "pick below the bottom": (fill.format("6 3") + " 6 3 pick end", "STACK_UNDERFLOW"),
        "pick far below": (f"1 , {MOST} pick end", "STACK_UNDERFLOW"),
        "pick above the top": ("1 , 1 neg pick end", "STACK_UNDERFLOW"),
        "pick far above": (f"1 , {MOST} neg pick end", "STACK_UNDERFLOW"),
        "pick nothing": ("0 pick end", "STACK_UNDERFLOW"),
        "pick the top": ("1 , 0 pick eq end", "TRUE"),
        "pick one below": ("5 , 4 , 1 pick 5 eq swap drop swap drop end", "TRUE"),
        "times frees its operand": (fill.format("6 3") + " 1 times 7 next end", "FALSE"),
        "if frees its operand": (fill.format("6 3") + " 1 if 7 fi end", "FALSE"),
        "until frees its operand": (fill.format("6 3") + " begin 1 until 7 end", "FALSE"),
    }
    for name in ("add", "swap", "neg", "mod", "rot", "drop", "a!", "eq", "not"):
        limits[f"{name} at 64 values"] = (f"6 4 times i inc next {name} end", "FALSE")
    for name in ("dup", "over"):
        limits[f"{name} to 64 values"] = (f"6 3 times i next {name} end", "FALSE")
        limits[f"{name} to 65 values"] = (f"6 4 times i next {name} end", "STACK_OVERFLOW")
    for name, body, verdict in (
        ("inc", f"{MOST} inc", "VALUE_OVERFLOW"),
        ("inc to the most", f"{MOST} dec inc {MOST} eq", "TRUE"),
        ("dec", f"{MOST} neg dec", "VALUE_OVERFLOW"),
        ("dec to the least", f"{MOST} neg inc dec {MOST} neg eq", "TRUE"),
        ("neg", f"{MOST} neg neg {MOST} eq", "TRUE"),
        ("abs", f"{MOST} neg abs {MOST} eq", "TRUE"),
        ("add", f"{MOST} , 1 add", "VALUE_OVERFLOW"),
        ("add to the most", f"{MOST} dec 1 add {MOST} eq", "TRUE"),
        ("add below", f"{MOST} neg 1 neg add", "VALUE_OVERFLOW"),
        ("add to the least", f"{MOST} neg inc 1 neg add {MOST} neg eq", "TRUE"),
        ("add of the most", f"{MOST} dup add", "VALUE_OVERFLOW"),
        ("sub", f"{MOST} , 1 neg sub", "VALUE_OVERFLOW"),
        ("sub below", f"{MOST} neg 1 sub", "VALUE_OVERFLOW"),
        ("sub to the least", f"0 , {MOST} sub {MOST} neg eq", "TRUE"),
        ("mul to 2 to the 31", "6 5 5 3 6 , 3 2 7 6 8 mul", "VALUE_OVERFLOW"),
        ("mul to minus 2 to the 31", "6 5 5 3 6 neg 3 2 7 6 8 mul", "VALUE_OVERFLOW"),
        ("mul to 2 to the 32", "6 5 5 3 6 , 6 5 5 3 6 mul", "VALUE_OVERFLOW"),
        ("mul just inside", "4 6 3 4 0 , 4 6 3 4 1 mul 2 1 4 7 4 4 1 9 4 0 eq", "TRUE"),
        ("mul just outside", "4 6 3 4 1 dup mul", "VALUE_OVERFLOW"),
        ("mul of the most", f"{MOST} dup mul", "VALUE_OVERFLOW"),
        ("mul of the least", f"{MOST} neg {MOST} mul", "VALUE_OVERFLOW"),
        ("mul by 1", f"{MOST} neg 1 mul {MOST} neg eq", "TRUE"),
        ("and below", f"{MOST} neg 2 neg and", "VALUE_OVERFLOW"),
        ("and at the least", f"{MOST} neg 1 neg and {MOST} neg eq", "TRUE"),
        ("xor below", f"{MOST} neg 1 xor", "VALUE_OVERFLOW"),
        ("xor at the least", f"{MOST} neg 0 xor {MOST} neg eq", "TRUE"),
        ("xor of signs below", f"{MOST} , 1 neg xor", "VALUE_OVERFLOW"),
        ("or of all", f"{MOST} neg {MOST} or 1 neg eq", "TRUE"),
        ("div of the least", f"{MOST} neg 1 neg div {MOST} eq", "TRUE"),
        ("div by the most", f"{MOST} neg {MOST} div 1 neg eq", "TRUE"),
        ("div by zero", "1 , 0 div", "DIVISION_BY_ZERO"),
        ("mod by zero", "1 , 0 mod", "DIVISION_BY_ZERO"),
        ("zero by zero", "0 , 0 mod", "DIVISION_BY_ZERO"),
        ("div of nothing by zero", "0 div", "STACK_UNDERFLOW"),
        ("mod of nothing by zero", "0 mod", "STACK_UNDERFLOW"),
        ("div, both positive", "7 , 2 div 3 eq", "TRUE"),
        ("div, dividend negative", "7 neg 2 div 4 neg eq", "TRUE"),
        ("div, divisor negative", "7 , 2 neg div 4 neg eq", "TRUE"),
        ("div, both negative", "7 neg 2 neg div 3 eq", "TRUE"),
        ("mod, both positive", "7 , 3 mod 1 eq", "TRUE"),
        ("mod, dividend negative", "7 neg 3 mod 2 eq", "TRUE"),
        ("mod, divisor negative", "7 , 3 neg mod 2 neg eq", "TRUE"),
        ("mod, both negative", "7 neg 3 neg mod 1 neg eq", "TRUE"),
        ("mod, even", "6 neg 3 mod 0 eq", "TRUE"),
    ):
        limits[f"range: {name}"] = (f"{body} end", verdict)
    return limits


def control_limits() -> dict[str, tuple[str, str]]:
    """64 and 65 frames of `call`, of `times` and of both, and blocks 16 and 17 deep."""
    limits: dict[str, tuple[str, str]] = {}
    down = "def dup if dec call {} fi ret {} call not end"
    for count, last, verdict in (
        (62, "", "TRUE"),
        (63, "", "TRUE"),
        (64, "", "CONTROL_OVERFLOW"),
        (62, "else 1 times next", "TRUE"),
        (63, "else 1 times next", "CONTROL_OVERFLOW"),
        (63, "else 0 times next", "TRUE"),
        (63, "else 1 neg times next", "TRUE"),
        (63, "else times", "SYNTAX"),
        (62, "else drop times next", "STACK_UNDERFLOW"),
        (63, "else drop times next", "STACK_UNDERFLOW"),
    ):
        limits[f"{count + 1} calls, {last}"] = (down.format(last, " ".join(str(count))), verdict)
    for count, start, stop, verdict in (
        (31, "", "", "TRUE"),  # 32 calls, 31 loops
        (31, "1 times", "next", "TRUE"),  # 64 frames
        (32, "", "", "CONTROL_OVERFLOW"),  # a call is the 65th
        (32, "1 times", "next", "CONTROL_OVERFLOW"),  # a loop is the 65th
    ):
        program = f"def dup if dec 1 times call next fi ret {start} {' '.join(str(count))} call {stop} not end"
        limits[f"{count} calls with loops, {start}"] = (program, verdict)
    limits |= {
        "endless recursion": ("def call ret call 1 end", "CONTROL_OVERFLOW"),
        "loops give their frame back": (row(100, "2 times next") + " 1 end", "TRUE"),
        "calls give their frame back": ("def ret " + row(100, "call") + " 1 end", "TRUE"),
        "a loop gives its frame back in a call": (
            "def 2 times next ret " + row(99, "call") + " 1 end",
            "TRUE",
        ),
        "frames are of one run": (
            "case 6 3 to 0 case 6 4 to 0 case 6 3 to 0 do def dup if dec call fi ret call end",
            "CONTROL_OVERFLOW",
        ),
        "a function beside a block": ("1 if fi def ret call 1 end", "TRUE"),
        "16 in a function": ("def " + around(15, "1 if", "", "fi") + " ret call 1 end", "TRUE"),
        "17 in a function": ("def " + around(16, "1 if", "", "fi") + " ret call 1 end", "SYNTAX"),
        "17 in a function never called": ("def " + around(16, "1 if", "", "fi") + " ret 1 end", "SYNTAX"),
        "17 never come to": ("0 if " + around(16, "1 if", "", "fi") + " fi 1 end", "SYNTAX"),
        "20 in a row": (row(20, "1 if fi 1 times next begin 1 until") + " 1 end", "TRUE"),
        "16 deep twice": (row(2, around(16, "1 if", "", "fi")) + " 1 end", "TRUE"),
        "a thought is no block": (around(16, "1 if", "( if )", "fi") + " 1 end", "TRUE"),
    }
    for name, opening, closing in (
        ("if", "1 if", "fi"),
        ("else", "0 if else", "fi"),
        ("else not taken", "1 if", "else fi"),
        ("times", "1 times", "next"),
        ("begin", "begin", "1 until"),
    ):
        limits[f"{name} 16 deep"] = (around(16, opening, "", closing) + " 1 end", "TRUE")
        limits[f"{name} 17 deep"] = (around(17, opening, "", closing) + " 1 end", "SYNTAX")
    return limits


def step_limits() -> dict[str, tuple[str, str]]:
    """1024 and 1025 tokens: every kind of token counts, but for `end` and what is jumped over."""
    limits = {
        "1025 with an operand missing": (row(1024, ",") + " drop end", "STEP_LIMIT"),
        "1024 with an operand missing": (row(1023, ",") + " drop end", "STACK_UNDERFLOW"),
        "1024 at the end of a literal": (row(1022, ",") + " 1 2 end", "FALSE"),
        "1025 within a literal": (row(1023, ",") + " 1 2 end", "STEP_LIMIT"),
        "1024 and nothing left": (row(1024, ",") + " end", "FALSE"),
        "a long thought": ("( " + row(3000, ",") + " ) 1 end", "TRUE"),
        "a long branch not taken": ("0 if " + row(3000, ",") + " fi 1 end", "TRUE"),
        "a long function not called": ("def " + row(3000, ",") + " ret 1 end", "TRUE"),
        "a long loop not run": ("0 times " + row(3000, ",") + " next 1 end", "TRUE"),
        "1024 in each of two runs": ("case to 1 case to 1 do " + row(1023, ",") + " 1 end", "TRUE"),
        "1024 in the second run": ("case 0 to 1 case 1 to 1 do if , fi " + row(1020, ",") + " 1 end", "TRUE"),
        "1025 in the second run": (
            "case 0 to 1 case 1 to 1 do if , fi " + row(1021, ",") + " 1 end",
            "STEP_LIMIT",
        ),
        "most turns": (f"{MOST} times next 1 end", "STEP_LIMIT"),
        "endless": (f"{NEVER} end", "STEP_LIMIT"),
    }
    for name, unit, steps in (
        ("comma", ",", 1),
        ("thought", "( )", 1),
        ("literal", "1 2 drop", 3),
        ("if", "1 if fi", 3),
        ("if not taken", "0 if , , , fi", 2),
        ("else not come to", "0 if , else fi", 3),
        ("else", "1 if else , fi", 3),
        ("times", "1 times next", 3),
        ("times twice", "2 times , next", 6),
        ("times not run", "0 times , , next", 2),
        ("begin", "begin 1 until", 3),
        ("begin twice", "1 , 0 begin until", 6),
    ):
        count, rest = divmod(1023, steps)
        body = f"{row(count, unit)} {row(rest, ',')}"
        limits[f"1024 by {name}"] = (f"{body} 1 end", "TRUE")
        limits[f"1025 by {name}"] = (f"{body} , 1 end", "STEP_LIMIT")
    for extra, verdict in ((0, "TRUE"), (1, "STEP_LIMIT")):
        limits[f"{1024 + extra} by call"] = (
            "def ret " + row(511, "call") + row(extra, " ,") + " 1 end",
            verdict,
        )
        # 4 tokens, 339 turns of 3, and 3 behind them
        limits[f"{1024 + extra} by turns"] = (
            "3 3 9 times , , next , , " + row(extra, ",") + " 1 end",
            verdict,
        )
    return limits


def header_limits() -> dict[str, tuple[str, str]]:
    """8 and 9 directives and integers, 16 and 17 cases, numbers at the end of the range, and the grammar."""
    limits: dict[str, tuple[str, str]] = {}
    for count, verdict in ((7, "TRUE"), (8, "TRUE"), (9, "SYNTAX")):
        for directive in ("use 1", "avoid 2", "within 1", "exactly 1"):
            limits[f"{count} {directive}"] = (f"{row(count, directive)} do 1 end", verdict)
        limits[f"{count} inputs"] = (
            f"case {row(count - 1, '5 ,')} 5 to 5 do {row(count - 1, 'drop')} end",
            verdict,
        )
        limits[f"{count} outputs"] = (
            f"case 5 to {row(count - 1, '5 ,')} 5 do {row(count - 1, 'dup')} end",
            verdict,
        )
    for count, verdict in ((15, "TRUE"), (16, "TRUE"), (17, "SYNTAX")):
        limits[f"{count} cases"] = (f"{row(count, 'case 5 to 6')} do inc end", verdict)
        limits[f"{count} cases and 8 directives"] = (
            f"{row(8, 'use inc')} {row(count, 'case 5 to 6')} do inc end",
            verdict,
        )
        limits[f"the last of {count} cases fails"] = (
            f"{row(count - 1, 'case 5 to 6')} case 5 to 7 do inc end",
            "FALSE" if count < 17 else "SYNTAX",
        )
    seven = row(7, "use 1")
    numbers = {
        MOST: True,
        MORE: False,
        "0 0 0 " + MOST: True,
        row(5000, "0") + " 1": True,
        row(5000, "1"): False,
        "4 2 9 4 9 6 7 2 9 7": False,
        "1 8 4 4 6 7 4 4 0 7 3 7 0 9 5 5 1 6 1 7": False,
        "2 1 4 7 4 8 3 6 5 0": False,
        "9 9 9 9 9 9 9 9 9 9": False,
    }
    for number, legal in numbers.items():
        name = number.replace(" ", "")[-24:] + (" long" if len(number) > 99 else "")
        verdict = "TRUE" if legal else "SYNTAX"
        limits[f"input {name}"] = (f"case {number} to 1 do drop 1 end", verdict)
        limits[f"input minus {name}"] = (f"case {number} neg to 1 do drop 1 end", verdict)
        limits[f"output {name}"] = (f"case 5 to {number} do end", "FALSE" if legal else "SYNTAX")
        limits[f"output minus {name}"] = (f"case 5 to {number} neg do end", "FALSE" if legal else "SYNTAX")
        limits[f"within {name}"] = (f"within {number} do 1 end", verdict)
        exact = "SYNTAX" if not legal else "TRUE" if number.endswith("0 1") else "DIRECTIVE"
        limits[f"exactly {name}"] = (f"exactly {number} do 1 end", exact)
    limits |= {
        "through": (f"case {MOST} , {MOST} neg to {MOST} , {MOST} neg do end", "TRUE"),
        "the last of 8 directives: use": (f"{seven} use 2 do 1 end", "DIRECTIVE"),
        "the last of 8 directives: avoid": (f"{seven} avoid 1 do 1 end", "DIRECTIVE"),
        "the last of 8 directives: within": (f"{seven} within 0 do 1 end", "DIRECTIVE"),
        "the last of 8 directives: exactly": (f"{seven} exactly 2 do 1 end", "DIRECTIVE"),
        "the first of 8 directives": (f"avoid 1 {seven} do 1 end", "DIRECTIVE"),
        "the last of 8 outputs": ("case to 1 , 2 , 3 , 4 , 5 , 6 , 7 , 9 do 8 times i inc next end", "FALSE"),
        "the first of 8 outputs": (
            "case to 2 , 2 , 3 , 4 , 5 , 6 , 7 , 8 do 8 times i inc next end",
            "FALSE",
        ),
        "8 outputs": ("case to 1 , 2 , 3 , 4 , 5 , 6 , 7 , 8 do 8 times i inc next end", "TRUE"),
        "one output too few": ("case 5 , 6 to 5 do end", "FALSE"),
        "one output too few on top": ("case 5 , 6 to 6 do end", "FALSE"),
        "one output too many": ("case 5 to 5 , 6 do end", "FALSE"),
        "no output": ("case 5 to do end", "FALSE"),
        "nothing in, nothing out": ("case to do end", "TRUE"),
        "only do": ("do 1 end", "TRUE"),
        "only do, and false": ("do 2 end", "FALSE"),
        "within none": ("within 0 do end", "FALSE"),
        "exactly none": ("exactly 0 neg do end", "FALSE"),
        "within 0 neg": ("within 0 neg do 1 end", "DIRECTIVE"),
        "within a negative": ("within 1 neg do 1 end", "SYNTAX"),
        "exactly a negative": ("exactly 1 neg do 1 end", "SYNTAX"),
        "within nothing": ("within do 1 end", "SYNTAX"),
        "exactly neg": ("exactly neg do 1 end", "SYNTAX"),
        "within a list": ("within 1 , 1 do 1 end", "SYNTAX"),
        "use nothing": ("use do 1 end", "SYNTAX"),
        "use two": ("use 1 1 do 1 end", "SYNTAX"),
        "use a header token": ("use case do 1 end", "SYNTAX"),
        "use the last header token": ("use exactly do 1 end", "SYNTAX"),
        "use a thought": ("use ( do ( ) 1 end", "SYNTAX"),
        "use the end of a thought": ("use ) do ( ) 1 end", "SYNTAX"),
        "use a pad": ("use <pad> do 1 end", "SYNTAX"),
        "use end": ("use end do 1 end", "SYNTAX"),
        "use the last token": ("use call do def ret call 1 end", "TRUE"),
        "use a comma": ("use , do , 1 end", "TRUE"),
        "avoid a comma": ("avoid , do , 1 end", "DIRECTIVE"),
        "avoid the last token": ("avoid call do def ret call 1 end", "DIRECTIVE"),
        "use after a case": ("case to 1 use 1 do 1 end", "SYNTAX"),
        "within after a case": ("case to 1 within 1 do 1 end", "SYNTAX"),
        "to first": ("to 1 do 1 end", "SYNTAX"),
        "no to": ("case 1 do end", "SYNTAX"),
        "two to": ("case 1 to to 1 do end", "SYNTAX"),
        "no do": ("case 1 to 1 end", "SYNTAX"),
        "no do behind a directive": ("use 1 end", "SYNTAX"),
        "no body": ("within 9 case to end", "SYNTAX"),
        "two do": ("do do 1 end", "SYNTAX"),
        "do behind a body": ("1 do 1 end", "SYNTAX"),
        "case in a body": ("do 1 case to 1 end", "SYNTAX"),
        "to in a body": ("1 to end", "SYNTAX"),
        "use in a branch not taken": ("0 if use fi 1 end", "SYNTAX"),
        "comma first": ("case , 1 to 1 do end", "SYNTAX"),
        "comma last": ("case 1 , to 1 do end", "SYNTAX"),
        "two commas": ("case 1 , , 1 to 1 do end", "SYNTAX"),
        "comma behind outputs": ("case 1 to 1 , do end", "SYNTAX"),
        "no comma behind neg": ("case 1 neg 1 to 1 do end", "SYNTAX"),
        "two neg": ("case 1 neg neg to 1 do end", "SYNTAX"),
        "neg first": ("case neg 1 to 1 do end", "SYNTAX"),
        "comma behind neg": ("case 1 neg , 1 neg to 1 neg , 1 neg do end", "TRUE"),
        "minus zero": ("case 0 neg to 0 do end", "TRUE"),
        "a word in a case": ("case 1 to inc do end", "SYNTAX"),
        "a thought in a header": ("case ( 1 ) 1 to 1 do end", "SYNTAX"),
        "a thought before a header": ("( 1 ) case 1 to 1 do end", "SYNTAX"),
        "a pad in a header": ("case 1 <pad> to 1 do end", "SYNTAX"),
        "a digit behind do begins a literal": ("case 1 to 1 , 2 do 2 end", "TRUE"),
        "a digit behind bos begins a literal": ("<bos> 1 end", "TRUE"),
    }
    return limits


def directive_rules() -> dict[str, tuple[str, str]]:
    """What counts for a directive and what does not, and the order in which verdicts are found."""
    return {
        "within one less": ("within 2 do 2 1 end", "FALSE"),
        "within as many": ("within 3 do 2 1 eq end", "STACK_UNDERFLOW"),
        "within one more": ("within 2 do 2 , 1 end", "DIRECTIVE"),
        "exactly one more": ("exactly 2 do 1 end", "DIRECTIVE"),
        "exactly one less": ("exactly 1 do , 1 end", "DIRECTIVE"),
        "within counts no thought": ("within 1 do ( 1 2 3 ) 1 ( ) end", "TRUE"),
        "exactly counts no thought": ("exactly 1 do ( 1 2 3 ) 1 ( ) end", "TRUE"),
        "exactly counts what is not run": ("exactly 7 do 0 if 9 9 fi , 1 end", "TRUE"),
        "within counts behind no end": ("within 1 do 1 end 1 1 1", "TRUE"),
        "avoid in a thought": ("avoid 9 do ( 9 ) 1 end", "TRUE"),
        "avoid behind the end": ("avoid 9 do 1 end 9", "TRUE"),
        "avoid in a header": ("avoid 9 case 9 to 9 do end", "TRUE"),
        "avoid in a branch not taken": ("avoid 9 do 0 if 9 fi 1 end", "DIRECTIVE"),
        "avoid a closer": ("avoid fi do 0 if fi 1 end", "DIRECTIVE"),
        "avoid as the last token": ("avoid 1 do , , 1 end", "DIRECTIVE"),
        "avoid as the first token": ("avoid 1 do 1 , , end", "DIRECTIVE"),
        "avoid before a fault": ("avoid drop do drop end", "DIRECTIVE"),
        "within before a fault": ("within 0 do drop end", "DIRECTIVE"),
        "exactly before a fault": ("exactly 0 do drop end", "DIRECTIVE"),
        "syntax before avoid": ("avoid 1 do 1 ) end", "SYNTAX"),
        "unterminated before syntax": (") <pad> 1", "UNTERMINATED"),
        "unterminated header": ("use 1 do 1", "UNTERMINATED"),
        "unterminated with pads": ("1 <pad> <pad>", "UNTERMINATED"),
        "use in a thought": ("use 9 do ( 9 ) 1 end", "DIRECTIVE"),
        "use in a branch not taken": ("use 9 do 0 if 9 fi 1 end", "DIRECTIVE"),
        "use behind the end": ("use 9 do 1 end 9", "DIRECTIVE"),
        "use of an input": ("use 9 case 9 to 9 do end", "DIRECTIVE"),
        "use of a literal's first digit": ("use 1 do 1 2 end", "FALSE"),
        "use of a literal's last digit": ("use 2 do 1 2 not not end", "TRUE"),
        "use of a digit no literal has": ("use 3 do 1 2 not not end", "DIRECTIVE"),
        "use in every run": ("use 9 case 0 to 9 case 0 to 9 do drop 9 end", "TRUE"),
        "use in the first run only": ("use , case 1 to case 0 to do if , fi end", "DIRECTIVE"),
        "use in the second run only": ("use , case 0 to case 1 to do if , fi end", "DIRECTIVE"),
        "use after a false run": ("use , case 0 to 1 case 1 to do if , fi end", "FALSE"),
        "use and a false second run": ("use , case 0 to case 1 to 1 do if , fi end", "FALSE"),
        "use and a fault": ("use , do drop end", "STACK_UNDERFLOW"),
        "use of fi behind else": ("use fi do 1 if else fi 1 end", "DIRECTIVE"),
        "use of fi behind B": ("use fi do 0 if else fi 1 end", "TRUE"),
        "use of fi behind A": ("use fi do 1 if fi 1 end", "TRUE"),
        "use of fi jumped over": ("use fi do 0 if fi 1 end", "DIRECTIVE"),
        "use of else come to": ("use else do 1 if else fi 1 end", "TRUE"),
        "use of else jumped over": ("use else do 0 if else fi 1 end", "DIRECTIVE"),
        "use of next": ("use next do 1 times next 1 end", "TRUE"),
        "use of next jumped over": ("use next do 0 times next 1 end", "DIRECTIVE"),
        "use of next for a negative": ("use next do 1 neg times next 1 end", "DIRECTIVE"),
        "use of ret": ("use ret do def ret call 1 end", "TRUE"),
        "use of ret jumped over": ("use ret do def ret 1 end", "DIRECTIVE"),
        "use of def": ("use def do def ret 1 end", "TRUE"),
        "use of until": ("use until do begin 1 until end", "FALSE"),
        "use of begin": ("use begin do begin 1 until 1 end", "TRUE"),
        "two uses of which one holds": ("use 1 use 2 do 1 end", "DIRECTIVE"),
        "false before a fault": ("case 0 to 1 case to 1 do drop end", "FALSE"),
        "a fault before false": ("case to 1 case 0 to 1 do drop end", "STACK_UNDERFLOW"),
        "two faults": ("case 1 , 0 to 1 case to 1 do div end", "DIVISION_BY_ZERO"),
        "the other two faults": ("case to 1 case 1 , 0 to 1 do div end", "STACK_UNDERFLOW"),
        "a true run between": ("case 0 to 1 case 1 to 1 case 2 to 1 do end", "FALSE"),
        "a fault behind true runs": ("case 1 to case 2 to case to do drop end", "STACK_UNDERFLOW"),
        "registers are of one run": ("case 5 to 0 , 0 case 6 to 0 , 0 do a@ b@ rot dup a! b! end", "TRUE"),
        "a is not b": ("5 a! 6 b! a@ 5 eq b@ 6 eq and end", "TRUE"),
        "registers in a call": ("def a@ inc a! ret 4 a! call call a@ 6 eq end", "TRUE"),
    }


def syntax_rules() -> dict[str, tuple[str, str]]:
    """Frame tokens, thoughts, blocks and functions where they may stand and where not."""
    limits = {
        "empty": ("end", "FALSE"),
        "bos": ("<bos> end", "FALSE"),
        "bos alone": ("<bos>", "UNTERMINATED"),
        "no end": ("1", "UNTERMINATED"),
        "bos and no end": ("<bos> 1", "UNTERMINATED"),
        "bos later": ("1 <bos> end", "SYNTAX"),
        "two bos": ("<bos> <bos> 1 end", "SYNTAX"),
        "bos behind do": ("do <bos> 1 end", "SYNTAX"),
        "bos before a header": ("<bos> do 1 end", "TRUE"),
        "bos behind the end": ("1 end <bos>", "TRUE"),
        "pad first": ("<pad> 1 end", "SYNTAX"),
        "pad last": ("1 <pad> end", "SYNTAX"),
        "pads behind the end": ("1 end <pad> <pad>", "TRUE"),
        "a digit behind the end is not before the first": ("1 end 9", "TRUE"),
        "a digit behind the end is not before bos": ("<bos> 1 end 9", "TRUE"),
        "anything behind the end": ("1 end ) case <bos> if end", "TRUE"),
        "thought": ("( 1 if ) ) 1 end", "SYNTAX"),
        "an empty thought": ("( ) 1 end", "TRUE"),
        "blocks in a thought": ("( def ret if next ) 1 end", "TRUE"),
        "open thought": ("1 ( 2 end", "SYNTAX"),
        "open thought before the end": ("1 ( end", "SYNTAX"),
        "open thought and a second end": ("( end 1 end", "SYNTAX"),
        "open thought and a pad": ("( <pad> 1 end", "SYNTAX"),
        "open thought and a header token": ("( case 1 end", "SYNTAX"),
        "two open thoughts": ("( ( 1 end", "SYNTAX"),
        "open thought without an end": ("1 ( 2", "UNTERMINATED"),
        "open thought as the last token": ("1 (", "UNTERMINATED"),
        "open thought closed behind the end": ("1 ( 2 end )", "SYNTAX"),
        "nested thought": ("( ( ) 1 end", "SYNTAX"),
        "nested thought, closed twice": ("( ( ) ) 1 end", "SYNTAX"),
        "lone close": (") 1 end", "SYNTAX"),
        "close twice": ("( ) ) 1 end", "SYNTAX"),
        "two thoughts": ("( 1 ) ( 2 ) 1 end", "TRUE"),
        "pad in a thought": ("( <pad> ) 1 end", "SYNTAX"),
        "bos in a thought": ("( <bos> ) 1 end", "SYNTAX"),
        "case in a thought": ("( case ) 1 end", "SYNTAX"),
        "the last header token in a thought": ("( exactly ) 1 end", "SYNTAX"),
        "comma in a thought": ("( , ) 1 end", "TRUE"),
        "the last token in a thought": ("( call ) 1 end", "TRUE"),
        "thoughts part literals": ("1 ( ) 2 eq not end", "TRUE"),
        "a digit behind a thought of digits": ("( 1 2 ) 1 end", "TRUE"),
        "thoughts in blocks": ("0 if ( fi ) 5 else ( else ) 1 ( fi ) fi end", "TRUE"),
        "thoughts in a loop": ("0 , 3 times ( next ) inc ( next ) next 3 eq end", "TRUE"),
        "thoughts in a function": ("def ( ret ) 1 ( call ) ret call end", "TRUE"),
        "a thought jumped over": ("0 if ( 5 ) fi 1 end", "TRUE"),
        "if without fi": ("1 if 1 end", "SYNTAX"),
        "fi alone": ("1 fi end", "SYNTAX"),
        "else alone": ("1 else end", "SYNTAX"),
        "two else": ("1 if else else fi 1 end", "SYNTAX"),
        "else in times": ("1 times else next 1 end", "SYNTAX"),
        "fi for times": ("1 times fi 1 end", "SYNTAX"),
        "next for if": ("1 if next 1 end", "SYNTAX"),
        "next alone": ("next 1 end", "SYNTAX"),
        "times alone": ("1 times 1 end", "SYNTAX"),
        "until alone": ("1 until 1 end", "SYNTAX"),
        "begin alone": ("begin 1 end", "SYNTAX"),
        "ret alone": ("ret 1 end", "SYNTAX"),
        "def alone": ("def 1 end", "SYNTAX"),
        "crossed": ("1 if 1 times fi next 1 end", "SYNTAX"),
        "crossed begin": ("begin 1 if until fi 1 end", "SYNTAX"),
        "fi behind else and a block": ("1 if else 1 times fi next 1 end", "SYNTAX"),
        "fi closed before if": ("if 1 fi fi if 1 end", "SYNTAX"),
        "next closed before times": ("times 1 next next times 1 end", "SYNTAX"),
        "until closed before begin": ("begin 1 until 1 until begin 1 end", "SYNTAX"),
        "ret closed before def": ("def ret ret def 1 end", "SYNTAX"),
        "if opened behind fi": ("fi 1 if 1 end", "SYNTAX"),
        "begin opened behind until": ("1 until begin 1 end", "SYNTAX"),
        "a comma in a thought behind do": ("do ( , ) 1 end", "TRUE"),
        "i behind a closed loop in a block": ("1 if 1 times next i fi 1 end", "SYNTAX"),
        "ret in a block": ("def 1 if ret fi 1 end", "SYNTAX"),
        "ret in main": ("def ret ret 1 end", "SYNTAX"),
        "def in if": ("1 if def ret fi 1 end", "SYNTAX"),
        "def in else": ("1 if else def ret fi 1 end", "SYNTAX"),
        "def in times": ("1 times def ret next 1 end", "SYNTAX"),
        "def in begin": ("begin def ret 1 until 1 end", "SYNTAX"),
        "def in def": ("def def ret ret 1 end", "SYNTAX"),
        "def twice": ("def ret def ret 1 end", "SYNTAX"),
        "def behind main": ("1 def ret end", "TRUE"),
        "def behind a block": ("1 if fi def ret 1 end", "TRUE"),
        "call without def": ("call 1 end", "SYNTAX"),
        "call before def": ("call def ret 1 end", "SYNTAX"),
        "call before def, not come to": ("0 if call fi def ret 1 end", "SYNTAX"),
        "call in def": ("def 0 if call fi ret call 1 end", "TRUE"),
        "call in a loop": ("def inc ret 0 , 3 times call next 3 eq end", "TRUE"),
        "i in main": ("i 1 end", "SYNTAX"),
        "i in begin": ("begin i until 1 end", "SYNTAX"),
        "i in if": ("1 if i fi 1 end", "SYNTAX"),
        "i behind times": ("1 times next i 1 end", "SYNTAX"),
        "i in a function": ("def i ret 1 end", "SYNTAX"),
        "i in a function called in a loop": ("def i ret 1 times call next 1 end", "SYNTAX"),
        "i in a loop of a function": ("def 2 times i next ret call end", "FALSE"),
        "i in an if of a loop": ("2 times 1 if i fi next eq not end", "TRUE"),
        "i in a begin of a loop": ("2 times begin i 1 until next eq not end", "TRUE"),
        "i in an else of a loop": ("2 times 0 if else i fi next eq not end", "TRUE"),
        "i behind an inner loop": ("2 times 5 times next i next eq not end", "TRUE"),
        "i of the inner loop": ("1 times 3 times i next next 2 eq swap drop swap drop end", "TRUE"),
        "i behind a call with a loop": (
            "def 4 times i drop next ret 2 times call i next 1 eq swap 0 eq and end",
            "TRUE",
        ),
        "i around a recursion": (
            "def dup if dec 2 times i b! call next fi ret 2 call not b@ 1 eq and end",
            "TRUE",
        ),
        "i behind a recursion": (
            "def dup if dec 1 times call 5 times next i b! next fi ret 3 call b@ eq end",
            "TRUE",
        ),
        "a loop's n is taken": ("7 , 2 times next 7 eq end", "TRUE"),
        "any number but 0 is true": ("5 neg if 1 else 0 fi end", "TRUE"),
        "until any number but 0": ("begin 5 neg until 1 end", "TRUE"),
        "until goes back behind begin": ("3 begin dec dup not until 0 eq end", "TRUE"),
    }
    for name, takes in {"if": 1, "times": 1, "begin": 1, "pick": 1, "rot": 3, "over": 2, "dup": 1}.items():
        closer = {"if": "fi", "times": "next", "begin": "until"}.get(name, "")
        limits[f"{name} of too few"] = (f"{row(takes - 1, '1 ,')} {name} {closer} end", "STACK_UNDERFLOW")
    return limits


def every_limit() -> dict[str, tuple[str, str]]:
    """All programs by hand; a name that stands twice is a mistake of ours."""
    limits: dict[str, tuple[str, str]] = {}
    for group in (value_limits, control_limits, step_limits, header_limits, directive_rules, syntax_rules):
        for name, entry in group().items():
            name = f"{group.__name__}: {name}"
            assert name not in limits, name
            limits[name] = entry
    return limits


LIMITS = every_limit()

GENERATORS: dict[str, Generator] = {
    generator.__name__: generator
    for generator in (
        noise,
        body_noise,
        block_noise,
        header_noise,
        working,
        true_plain,
        true_header,
        near_miss,
        faulty,
        deep,
        recursive,
        long,
        thoughtful,
        tailed,
        mutated,
        limit,
    )
}


def sample(count: int, seed: int) -> list[Names]:
    """Return `count` programs, the generators in turn."""
    rng = random.Random(seed)
    turns = list(GENERATORS.values())
    return [turns[index % len(turns)](rng) for index in range(count)]


def strategy(name: str) -> st.SearchStrategy[Names]:
    """Return a generator as a hypothesis strategy, which shrinks what it draws."""
    return st.randoms(use_true_random=False).map(GENERATORS[name])


def nested_blocks() -> st.SearchStrategy[Names]:
    """Return a strategy of bodies of well-nested blocks, some in a function, that shrink to small ones."""
    flat = st.lists(st.sampled_from((*VOCABULARY[13:54], ",", *"0123")), max_size=4)

    def around(inner: st.SearchStrategy[Names]) -> st.SearchStrategy[Names]:
        return st.one_of(
            inner.map(lambda a: ["if", *a, "fi"]),
            st.tuples(inner, inner).map(lambda ab: ["if", *ab[0], "else", *ab[1], "fi"]),
            inner.map(lambda a: ["times", "i", *a, "next"]),
            inner.map(lambda a: ["begin", *a, "until"]),
            st.tuples(inner, inner).map(lambda ab: [*ab[0], *ab[1]]),
        )

    blocks = st.recursive(flat, around, max_leaves=10)
    start = st.lists(st.integers(-3, 12), max_size=6).map(lambda numbers: join(*map(literal, numbers)))
    plain = st.tuples(start, blocks).map(lambda ab: [*ab[0], *ab[1], "end"])
    call = st.tuples(start, blocks, blocks).map(
        lambda abc: ["def", *abc[1], "ret", *abc[0], "call", *abc[2], "call", "end"]
    )
    return st.one_of(plain, call)


def any_tokens(size: int = 40) -> st.SearchStrategy[Names]:
    """Return a strategy of any tokens in a row."""
    return st.lists(st.sampled_from(VOCABULARY), max_size=size)
