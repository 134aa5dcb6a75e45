"""Programs for tests: seeded generators, the same as hypothesis strategies, and the limits of the language.

A generator is a function of a `random.Random` that returns token names; `GENERATORS` lists them all. `sample` draws
from all of them with a seed, and `strategy` turns one into a hypothesis strategy. `LIMITS` holds programs at and just
past every limit of the language, with the verdict that its description implies; limits.txt lists them.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from cadmus_gym.language.isa import ID, VOCABULARY
from support import naive
from support.bodies import Names, finished, integer_list, join, literal, working_body

Generator = Callable[[random.Random], Names]

OPERATIONS = VOCABULARY[10:11] + VOCABULARY[13:]  # what `use` and `avoid` may name


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
    """Well-nested blocks around arbitrary tokens."""

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
    """A header before a small body, sometimes with one token wrong, missing or doubled, or at a limit."""
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
    """A working body unchanged; most do not leave a single 1."""
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
    """Directives and cases that hold, unless the body ends in a fault or leaves too many values."""
    return with_header(rng, near_miss=False)


def near_miss(rng: random.Random) -> Names:
    """Directives and cases, one of them slightly wrong."""
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
    """Blocks nested 14 to 18 deep around a small body, sometimes in a function."""
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
    """A function that calls itself 28 to 34 or 61 to 66 times, sometimes with a loop around each call."""
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
    """Another program with noise or pads after its `end`, a pad or `<bos>` before it, or no `end`."""
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
    """One of the programs at a limit, sometimes with one token changed."""
    names = rng.choice(list(LIMITS.values()))[0].split()
    return names if rng.random() < 0.3 else mutated_once(rng, names)


def read_limits() -> dict[str, tuple[str, str]]:
    """Read limits.txt: group and name -> (program, verdict)."""
    limits: dict[str, tuple[str, str]] = {}
    group = ""
    for line in (Path(__file__).parent / "limits.txt").read_text("utf-8").splitlines():
        if line.startswith("## "):
            group = line.removeprefix("## ").partition(":")[0]
        elif line and not line.startswith("#"):
            name, verdict, text = (part.strip() for part in line.split("|"))
            program = re.sub(r"(\d+)\*\[([^]]*)\]", lambda found: " ".join(int(found[1]) * [found[2]]), text)
            assert f"{group}: {name}" not in limits, line
            limits[f"{group}: {name}"] = program, verdict
    return limits


LIMITS = read_limits()

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


def padded(rows: list[list[str]], width: int | None = None) -> NDArray[np.uint8]:
    """Return programs as rows of one array, (N, L)."""
    width = max(map(len, rows), default=0) if width is None else width
    array = np.zeros((len(rows), width), np.uint8)
    for row, names in zip(array, rows, strict=True):
        row[: len(names)] = [ID[name] for name in names]
    return array
