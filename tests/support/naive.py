"""A second interpreter of the language, slow and plain, to test the machine against.

It is written from LANGUAGE.md alone and shares nothing with the machine. It has no jumps, no table of targets and no
program counter. A body is parsed into a tree, and running it rewrites a list of remaining nodes: a block is replaced by
its expansion, a call by the body of the function, and `i` by its number. Integers are Python's.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, field, replace

LARGEST = 2147483647
STACK_ROOM = 64
CONTROL_ROOM = 64
MOST_STEPS = 1024
DEEPEST_BLOCK = 16
MOST_DIRECTIVES = 8
MOST_CASES = 16
MOST_INTEGERS = 8

DIGITS = tuple("0123456789")
HEADER_TOKENS = ("case", "to", "do", "use", "avoid", "within", "exactly")
FRAME_TOKENS = ("<pad>", "<bos>", "end")


@dataclass(frozen=True)
class Result:
    """The outcome of a program; `cases` is the number of runs, and `stack` what the last one left."""

    verdict: str
    passed: int
    cases: int
    stack: list[int]
    steps: int


class Fault(Exception):
    """A verdict that ends a run or the reading of a program."""

    def __init__(self, verdict: str) -> None:
        super().__init__(verdict)
        self.verdict = verdict


# The parts of a program.


@dataclass(slots=True)  # a frozen one takes three times as long to make
class Node:
    """One token of a body with its position in the program, and the blocks it opens."""

    name: str
    position: int
    inner: tuple[Node, ...] = ()
    other: tuple[Node, ...] | None = None  # the part after `else`
    closers: tuple[int, ...] = ()  # positions of the tokens that close `inner` and `other`
    continues: bool = False  # a digit that extends the literal before it
    value: int = 0  # the number for `i`, or the turns done at `next`
    turns: int = 0  # the number of turns in total at `next`


@dataclass
class Header:
    """The directives and cases before a body."""

    directives: list[tuple[str, str, int]] = field(default_factory=list)  # (kind, OP, N)
    cases: list[tuple[list[int], list[int]]] = field(default_factory=list)


@dataclass
class Program:
    header: Header
    body: tuple[Node, ...]
    function: tuple[Node, ...] | None
    text: list[str]  # the tokens of the body outside thoughts


# Reading a program.


class Reader:
    """Reads the tokens before `end` one by one, and raises Fault("SYNTAX") if they are not a program."""

    def __init__(self, names: list[str]) -> None:
        self.names = names
        self.at = 0
        self.text: list[str] = []
        self.function: Node | None = None
        self.function_is_open = False

    def peek(self) -> str:
        return self.names[self.at] if self.at < len(self.names) else ""

    def take(self) -> str:
        name = self.peek()
        self.demand(name != "")
        self.at += 1
        return name

    def demand(self, holds: bool) -> None:
        if not holds:
            raise Fault("SYNTAX")

    def program(self) -> Program:
        if self.peek() == "<bos>":
            self.take()
        header = self.header() if self.peek() in HEADER_TOKENS else Header()
        body = self.block(closers=(), depth=0, in_times=False)
        self.demand(self.at == len(self.names))
        function = None
        if self.function is not None:
            function = (*self.function.inner, Node("ret", self.function.closers[0]))
        return Program(header, body, function, self.text)

    # The header.

    def header(self) -> Header:
        header = Header()
        while self.peek() in ("use", "avoid", "within", "exactly"):
            header.directives.append(self.directive())
        while self.peek() == "case":
            self.take()
            inputs = self.integers()
            self.demand(self.take() == "to")
            header.cases.append((inputs, self.integers()))
        self.demand(self.take() == "do")
        self.demand(len(header.directives) <= MOST_DIRECTIVES)
        self.demand(len(header.cases) <= MOST_CASES)
        return header

    def directive(self) -> tuple[str, str, int]:
        kind = self.take()
        if kind in ("use", "avoid"):
            name = self.take()
            self.demand(name not in (*FRAME_TOKENS, *HEADER_TOKENS, "(", ")"))
            return kind, name, 0
        number = self.integer()
        self.demand(number >= 0)
        return kind, "", number

    def integers(self) -> list[int]:
        if self.peek() not in DIGITS:
            return []
        numbers = [self.integer()]
        while self.peek() == ",":
            self.take()
            numbers.append(self.integer())
        self.demand(len(numbers) <= MOST_INTEGERS)
        return numbers

    def integer(self) -> int:
        spelled = self.take()
        self.demand(spelled in DIGITS)
        while self.peek() in DIGITS:
            spelled += self.take()
        self.demand(len(spelled.lstrip("0")) <= len(str(LARGEST)))  # int() rejects thousands of digits
        number = int(spelled.lstrip("0") or "0")
        self.demand(number <= LARGEST)
        if self.peek() == "neg":
            self.take()
            number = -number
        return number

    # The body.

    def block(self, closers: tuple[str, ...], depth: int, in_times: bool) -> tuple[Node, ...]:
        """Read up to one of `closers`, which is not consumed; without closers, up to the end."""
        nodes = []
        while self.peek() not in (closers or ("",)):
            nodes.append(self.node(depth, in_times))
        return tuple(nodes)

    def node(self, depth: int, in_times: bool) -> Node:
        position = self.at
        name = self.take()
        if name == "(":
            while self.peek() != ")":
                self.demand(self.take() not in (*FRAME_TOKENS, *HEADER_TOKENS, "("))
            self.take()
            return Node(name, position)
        self.demand(name not in (*FRAME_TOKENS, *HEADER_TOKENS))
        self.demand(name not in (")", "else", "fi", "next", "until", "ret"))  # closers without an opener
        self.text.append(name)
        if name in ("if", "times", "begin", "def"):
            self.demand(depth < DEEPEST_BLOCK)
        if name in DIGITS:
            return Node(name, position, continues=position > 0 and self.names[position - 1] in DIGITS)
        if name == "i":
            self.demand(in_times)
        if name == "call":
            self.demand(self.function is not None or self.function_is_open)
        if name == "if":
            inner = self.block(("else", "fi"), depth + 1, in_times)
            other = None
            closers = [self.close()]
            if self.names[closers[0]] == "else":
                other = self.block(("fi",), depth + 1, in_times)
                closers.append(self.close())
            return Node(name, position, inner, other, tuple(closers))
        if name == "times":
            inner = self.block(("next",), depth + 1, in_times=True)
            return Node(name, position, inner, closers=(self.close(),))
        if name == "begin":
            inner = self.block(("until",), depth + 1, in_times)
            return Node(name, position, inner, closers=(self.close(),))
        if name == "def":
            self.demand(depth == 0 and self.function is None)
            self.function_is_open = True
            inner = self.block(("ret",), depth + 1, in_times=False)
            self.function_is_open = False
            self.function = Node(name, position, inner, closers=(self.close(),))
            return self.function
        return Node(name, position)

    def close(self) -> int:
        self.text.append(self.take())
        return self.at - 1


# Running a body.

Effect = Callable[..., tuple[int, ...]]

EFFECTS: dict[str, tuple[int, Effect]] = {
    "add": (2, lambda x, y: (x + y,)),
    "sub": (2, lambda x, y: (x - y,)),
    "mul": (2, lambda x, y: (x * y,)),
    "div": (2, lambda x, y: (x // y,)),
    "mod": (2, lambda x, y: (x % y,)),
    "neg": (1, lambda x: (-x,)),
    "abs": (1, lambda x: (abs(x),)),
    "inc": (1, lambda x: (x + 1,)),
    "dec": (1, lambda x: (x - 1,)),
    "min": (2, lambda x, y: (min(x, y),)),
    "max": (2, lambda x, y: (max(x, y),)),
    "eq": (2, lambda x, y: (int(x == y),)),
    "ne": (2, lambda x, y: (int(x != y),)),
    "lt": (2, lambda x, y: (int(x < y),)),
    "le": (2, lambda x, y: (int(x <= y),)),
    "gt": (2, lambda x, y: (int(x > y),)),
    "ge": (2, lambda x, y: (int(x >= y),)),
    "and": (2, lambda x, y: (operator.and_(x, y),)),
    "or": (2, lambda x, y: (operator.or_(x, y),)),
    "xor": (2, lambda x, y: (operator.xor(x, y),)),
    "not": (1, lambda x: (int(x == 0),)),
    "dup": (1, lambda x: (x, x)),
    "drop": (1, lambda x: ()),
    "swap": (2, lambda x, y: (y, x)),
    "over": (2, lambda x, y: (x, y, x)),
    "rot": (3, lambda x, y, z: (y, z, x)),
}


def with_turn(nodes: tuple[Node, ...], turn: int) -> list[Node]:
    """Return a loop's body for one turn, with the number of the turn in each `i` of this loop."""
    written = []
    for node in nodes:
        if node.name == "i":
            node = replace(node, value=turn)
        elif node.inner or node.other:
            # The body of an inner `times` has an `i` of its own.
            inner = node.inner if node.name == "times" else tuple(with_turn(node.inner, turn))
            other = None if node.other is None else tuple(with_turn(node.other, turn))
            node = replace(node, inner=inner, other=other)
        written.append(node)
    return written


@dataclass(frozen=True)
class Step:
    """One executed token, with the state after it; at a fault, the state before it."""

    position: int
    token: str
    stack: tuple[int, ...]
    registers: tuple[int, int]
    fault: str | None


class Run:
    """One run of a body. After `go`, `fault` names the verdict that ended it early, or is None."""

    def __init__(self, program: Program, inputs: list[int], watched: bool = False) -> None:
        self.function = program.function
        self.left = list(reversed(program.body))  # what is left to do, the next at the end of the list
        self.stack = list(inputs)
        self.registers = {"a": 0, "b": 0}
        self.frames = 0
        self.steps = 0
        self.used: set[str] = set()
        self.fault: str | None = None
        self.watched = watched
        self.story: list[Step] = []

    def go(self) -> Run:
        while self.left and self.fault is None:
            node = self.left.pop()
            before = list(self.stack) if self.watched else []  # nobody asks what a fault left otherwise
            try:
                if self.steps == MOST_STEPS:
                    raise Fault("STEP_LIMIT")
                self.steps += 1
                self.used.add(node.name)
                self.execute(node)
            except Fault as fault:
                self.fault = fault.verdict
                self.stack = before
            if self.watched:
                registers = (self.registers["a"], self.registers["b"])
                self.story.append(Step(node.position, node.name, tuple(self.stack), registers, self.fault))
        return self

    def unfold(self, *nodes: Node) -> None:
        self.left.extend(reversed(nodes))

    def pop(self, count: int) -> list[int]:
        if len(self.stack) < count:
            raise Fault("STACK_UNDERFLOW")
        return [self.stack.pop() for _ in range(count)][::-1]

    def push(self, *values: int) -> None:
        for value in values:
            if abs(value) > LARGEST:
                raise Fault("VALUE_OVERFLOW")
        if len(self.stack) + len(values) > STACK_ROOM:
            raise Fault("STACK_OVERFLOW")
        self.stack.extend(values)

    def enter(self) -> None:
        if self.frames == CONTROL_ROOM:
            raise Fault("CONTROL_OVERFLOW")
        self.frames += 1

    def execute(self, node: Node) -> None:
        name = node.name
        if name in EFFECTS:
            count, effect = EFFECTS[name]
            operands = self.pop(count)
            if name in ("div", "mod") and operands[1] == 0:
                raise Fault("DIVISION_BY_ZERO")
            self.push(*effect(*operands))
        elif name in DIGITS:
            (before,) = self.pop(1) if node.continues else (0,)
            self.push(10 * before + int(name))
        elif name == "pick":
            (index,) = self.pop(1)
            if not 0 <= index < len(self.stack):
                raise Fault("STACK_UNDERFLOW")
            self.push(self.stack[len(self.stack) - 1 - index])
        elif name in ("a!", "b!"):
            (self.registers[name[0]],) = self.pop(1)
        elif name in ("a@", "b@"):
            self.push(self.registers[name[0]])
        elif name == "i":
            self.push(node.value)
        elif name == "if":
            (condition,) = self.pop(1)
            if condition != 0:
                closer = "fi" if node.other is None else "else"
                self.unfold(*node.inner, Node(closer, node.closers[0]))
            elif node.other is not None:
                self.unfold(*node.other, Node("fi", node.closers[1]))
        elif name == "times":
            (turns,) = self.pop(1)
            if turns > 0:
                self.enter()
                closer = Node("next", node.closers[0], node.inner, value=1, turns=turns)
                self.unfold(*with_turn(node.inner, 0), closer)
        elif name == "next":
            if node.value < node.turns:
                self.unfold(*with_turn(node.inner, node.value), replace(node, value=node.value + 1))
            else:
                self.frames -= 1
        elif name == "begin":
            self.unfold(*node.inner, Node("until", node.closers[0], node.inner))
        elif name == "until":
            (condition,) = self.pop(1)
            if condition == 0:
                self.unfold(*node.inner, node)
        elif name == "call":
            self.enter()
            assert self.function is not None
            self.unfold(*self.function)
        elif name == "ret":
            self.frames -= 1
        else:
            assert name in (",", "(", "def", "else", "fi"), name


# Judging a program.


def parse(names: list[str]) -> Program:
    """Return the program, or raise Fault with UNTERMINATED or SYNTAX."""
    if "end" not in names:
        raise Fault("UNTERMINATED")
    return Reader(names[: names.index("end")]).program()


def judge(names: list[str], stories: list[list[Step]] | None = None) -> Result:
    """Return the outcome of a program given by its token names; `stories` collects each run's steps."""
    try:
        program = parse(names)
    except Fault as fault:
        return Result(fault.verdict, 0, 0, [], 0)
    header = program.header
    cases = header.cases or [([], [1])]
    for kind, name, number in header.directives:
        length = len(program.text)
        broken = {
            "use": False,
            "avoid": name in program.text,
            "within": length > number,
            "exactly": length != number,
        }
        if broken[kind]:
            return Result("DIRECTIVE", 0, len(cases), [], 0)

    verdict = "TRUE"
    passed = steps = 0
    stack: list[int] = []
    unused = False
    for inputs, outputs in cases:
        run = Run(program, inputs, watched=stories is not None).go()
        steps += run.steps
        stack = [] if run.fault else run.stack
        outcome = run.fault or ("TRUE" if run.stack == outputs else "FALSE")
        passed += outcome == "TRUE"
        if verdict == "TRUE":
            verdict = outcome
        unused |= any(kind == "use" and name not in run.used for kind, name, _ in header.directives)
        if stories is not None:
            stories.append(run.story)
    if verdict == "TRUE" and unused:
        verdict = "DIRECTIVE"
    return Result(verdict, passed, len(cases), stack, steps)
