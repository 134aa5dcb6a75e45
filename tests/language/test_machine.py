"""The machine against the language: worked cases, traces by hand, limits, and a second interpreter."""

from __future__ import annotations

import json
import random
from collections import Counter
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import naive, programs
from support.programs import padded

import cadmus_gym as cg
from cadmus_gym.language.isa import ID, INSTRUCTIONS

CASES = [json.loads(line) for line in (Path(__file__).parent / "language_cases.jsonl").read_text().splitlines()]
MASS = 15_200

property_test = settings(deadline=None, database=None, max_examples=120, suppress_health_check=list(HealthCheck))

Seen = tuple[str, int, int, list[int], int]


def seen(names: list[str]) -> Seen:
    """The machine's outcome for a program."""
    outcome = cg.run(cg.encode(" ".join(names)))
    assert outcome.true == (outcome.verdict == cg.Verdict.TRUE)
    return outcome.verdict.name, outcome.passed, outcome.cases, list(outcome.stack), outcome.steps


def expected(names: list[str]) -> Seen:
    """The naive interpreter's outcome."""
    result = naive.judge(names)
    return result.verdict, result.passed, result.cases, result.stack, result.steps


# The worked cases.


def test_language_cases_one_by_one() -> None:
    assert len(CASES) == 2151
    wrong = []
    for case in CASES:
        outcome = cg.run(cg.encode(case["program"]))
        if (outcome.verdict.name, outcome.passed, list(outcome.stack)) != (
            case["verdict"],
            case["passed"],
            case["stack"],
        ):
            wrong.append((case, outcome))
    assert wrong == []


def test_language_cases_as_a_batch() -> None:
    verdicts, passed = cg.run_batch(padded([case["program"].split() for case in CASES]))
    assert [cg.Verdict(int(verdict)).name for verdict in verdicts] == [case["verdict"] for case in CASES]
    assert passed.tolist() == [case["passed"] for case in CASES]


def test_the_naive_interpreter_agrees_with_the_language_cases() -> None:
    for case in CASES:
        result = naive.judge(case["program"].split())
        assert (result.verdict, result.passed, result.stack) == (
            case["verdict"],
            case["passed"],
            case["stack"],
        ), case


def test_verdicts_have_their_ids() -> None:
    names = (
        "TRUE FALSE SYNTAX UNTERMINATED DIRECTIVE STACK_UNDERFLOW STACK_OVERFLOW VALUE_OVERFLOW "
        "DIVISION_BY_ZERO CONTROL_OVERFLOW STEP_LIMIT"
    )
    assert [(verdict.name, int(verdict)) for verdict in cg.Verdict] == [(n, k) for k, n in enumerate(names.split())]


def test_tokens_inside_a_thought_take_no_steps() -> None:
    # Where `(` is searched for its `)` on each turn, in each case, this takes minutes: 50 billion tokens.
    thought = np.full(10_000_000, ID["1"], np.uint8)
    opening, closing = cg.encode("case to 1 " * 16 + "do 3 0 0 times ("), cg.encode(") next 1 end")
    outcome = cg.run(np.concatenate([opening, thought, closing]))
    assert (outcome.verdict, outcome.passed, outcome.steps) == (cg.Verdict.TRUE, 16, 16 * (3 + 1 + 2 * 300 + 1))


# By hand.

BY_HAND = {
    "literals and add": (
        "1 2 , 7 add 1 9 eq end",
        "1 [1] | 2 [12] | , [12] | 7 [12 7] | add [19] | 1 [19 1] | 9 [19 19] | eq [1]",
    ),
    "a thought": (
        "1 ( 9 9 add ) 2 sub end",
        "1 [1] | ( [1] | 2 [1 2] | sub [-1]",
    ),
    "if, taken": (
        "5 if 7 else 8 fi inc end",
        "5 [5] | if [] | 7 [7] | else [7] | inc [8]",
    ),
    "if, not taken": (
        "0 if 7 else 8 fi inc end",
        "0 [0] | if [] | 8 [8] | fi [8] | inc [9]",
    ),
    "if without else": (
        "1 if 4 fi 0 if 5 fi end",
        "1 [1] | if [] | 4 [4] | fi [4] | 0 [4 0] | if [4]",
    ),
    "times": (
        "2 times i 5 next end",
        "2 [2] | times [] | i [0] | 5 [0 5] | next [0 5] | i [0 5 1] | 5 [0 5 1 5] | next [0 5 1 5]",
    ),
    "loop in a loop": (
        "2 times i 1 times i next next end",
        "2 [2] | times [] | i [0] | 1 [0 1] | times [0] | i [0 0] | next [0 0] | next [0 0] | "
        "i [0 0 1] | 1 [0 0 1 1] | times [0 0 1] | i [0 0 1 0] | next [0 0 1 0] | next [0 0 1 0]",
    ),
    "times, not at all": (
        "3 neg times 7 next 6 end",
        "3 [3] | neg [-3] | times [] | 6 [6]",
    ),
    "begin and until": (
        "2 begin dec dup not until end",
        "2 [2] | begin [2] | dec [1] | dup [1 1] | not [1 0] | until [1] | dec [0] | dup [0 0] | not [0 1] | until [0]",
    ),
    "a function": (
        "def dup mul ret 3 call call end",
        "def [] | 3 [3] | call [3] | dup [3 3] | mul [9] | ret [9] | call [9] | dup [9 9] | mul [81] | ret [81]",
    ),
    "recursion": (
        "def dup 1 gt if dup dec call mul fi ret 2 call end",
        "def [] | 2 [2] | call [2] | dup [2 2] | 1 [2 2 1] | gt [2 1] | if [2] | dup [2 2] | dec [2 1] | "
        "call [2 1] | dup [2 1 1] | 1 [2 1 1 1] | gt [2 1 0] | if [2 1] | "
        "ret [2 1] | mul [2] | fi [2] | ret [2]",
    ),
    "registers and pick": (
        "4 a! 7 a@ 1 pick sub b! b@ end",
        "4 [4] | a! [] | 7 [7] | a@ [7 4] | 1 [7 4 1] | pick [7 4 7] | sub [7 -3] | b! [7] | b@ [7 -3]",
    ),
    "stack words": (
        "1 , 2 , 3 rot over swap drop end",
        "1 [1] | , [1] | 2 [1 2] | , [1 2] | 3 [1 2 3] | rot [2 3 1] | over [2 3 1 3] | swap [2 3 3 1] | drop [2 3 3]",
    ),
    "floor division": (
        "7 neg 2 div 7 neg 2 mod end",
        "7 [7] | neg [-7] | 2 [-7 2] | div [-4] | 7 [-4 7] | neg [-4 -7] | 2 [-4 -7 2] | mod [-4 1]",
    ),
    "logic": (
        "6 , 3 and 5 neg 3 xor 4 not end",
        "6 [6] | , [6] | 3 [6 3] | and [2] | 5 [2 5] | neg [2 -5] | 3 [2 -5 3] | xor [2 -8] | 4 [2 -8 4] | "
        "not [2 -8 0]",
    ),
    "two cases": (
        "case 3 to 9 case 5 , 1 to 1 5 do 3 mul end",
        "3 [3 3] | mul [9] | 3 [5 1 3] | mul [5 3]",
    ),
    "a fault": (
        "case 8 to case 0 to do 1 swap div end",
        "1 [8 1] | swap [1 8] | div [0] | 1 [0 1] | swap [1 0] | div DIVISION_BY_ZERO",
    ),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_traces_by_hand(name: str) -> None:
    program, story = BY_HAND[name]
    lines = []
    for step in cg.trace(cg.encode(program)):
        stack = f"[{' '.join(map(str, step.stack))}]"
        lines.append(f"{cg.VOCABULARY[step.token]} {stack if step.fault is None else step.fault.name}")
    assert lines == story.split(" | ")


@pytest.mark.parametrize("name", programs.LIMITS)
def test_limits_by_hand(name: str) -> None:
    program, verdict = programs.LIMITS[name]
    names = program.split()
    assert expected(names)[0] == verdict  # the naive interpreter first: one of three may be wrong
    assert seen(names) == expected(names)
    verdicts, passed = cg.run_batch(padded([names]))
    assert (cg.Verdict(int(verdicts[0])).name, int(passed[0])) == expected(names)[:2]


@pytest.mark.parametrize(
    ("program", "verdict", "passed", "cases", "stack", "steps"),
    [
        ("end", "FALSE", 0, 1, [], 0),
        ("1 end", "TRUE", 1, 1, [1], 1),
        ("1 2 , end", "FALSE", 0, 1, [12], 3),
        ("1 drop drop 1 end", "STACK_UNDERFLOW", 0, 1, [], 3),  # the token that failed counts
        ("case 1 to 1 case 2 to 1 do end", "FALSE", 1, 2, [2], 0),
        ("case 2 to 1 case 1 to 1 do end", "FALSE", 1, 2, [1], 0),
        ("case 1 to 2 case to 2 case 1 to 2 do inc end", "STACK_UNDERFLOW", 2, 3, [2], 3),
        ("case 1 to 2 case to 2 do inc end", "STACK_UNDERFLOW", 1, 2, [], 2),
        ("use dec case 1 to 2 case 2 to 3 do inc end", "DIRECTIVE", 2, 2, [3], 2),
        ("avoid inc case 1 to 2 case 2 to 3 do inc end", "DIRECTIVE", 0, 2, [], 0),
        ("within 0 do 1 end", "DIRECTIVE", 0, 1, [], 0),
        ("use 2 do 1 end", "DIRECTIVE", 1, 1, [1], 1),
        ("case 1 to 2 do inc ) end", "SYNTAX", 0, 0, [], 0),
        ("case 1 to 2 do inc", "UNTERMINATED", 0, 0, [], 0),
        ("begin 0 until end", "STEP_LIMIT", 0, 1, [], 1024),
        ("case to case to do begin 0 until end", "STEP_LIMIT", 0, 2, [], 2048),
    ],
)
def test_outcomes_by_hand(program: str, verdict: str, passed: int, cases: int, stack: list[int], steps: int) -> None:
    assert seen(program.split()) == (verdict, passed, cases, stack, steps)
    assert expected(program.split()) == (verdict, passed, cases, stack, steps)


# Against the naive interpreter.


@pytest.fixture(scope="module")
def mass() -> tuple[list[list[str]], list[Seen]]:
    """Generated programs with their expected outcomes, sorted by length so that batches differ in width."""
    rows = sorted(programs.sample(MASS, seed=2024), key=len)
    return rows, [expected(names) for names in rows]


def test_run_agrees_with_the_naive_interpreter(mass: tuple[list[list[str]], list[Seen]]) -> None:
    wrong = []
    for names, result in zip(*mass, strict=True):
        found = seen(names)
        if found != result:
            wrong.append((" ".join(names), found, result))
    assert wrong == []


def test_the_sample_shows_every_verdict(mass: tuple[list[list[str]], list[Seen]]) -> None:
    counts = Counter(result[0] for result in mass[1])
    assert set(counts) == {verdict.name for verdict in cg.Verdict}
    assert min(counts.values()) >= 100, counts


def test_the_sample_executes_every_token(mass: tuple[list[list[str]], list[Seen]]) -> None:
    """Programs without faults execute every token, so no branch is compared on faults alone."""
    executed: Counter[str] = Counter()
    for names, result in list(zip(*mass, strict=True))[::4]:
        if result[0] in ("TRUE", "FALSE"):
            stories: list[list[naive.Step]] = []
            naive.judge(names, stories)
            executed.update({step.token for story in stories for step in story})
    bodily = {x.name for x in INSTRUCTIONS if x.group not in ("frame", "header")} - {")"}
    assert set(executed) == bodily
    assert min(executed.values()) >= 25, executed


def test_run_batch_agrees_with_the_naive_interpreter(mass: tuple[list[list[str]], list[Seen]]) -> None:
    rows, results = mass
    for start in range(0, MASS, 2000):
        verdicts, passed = cg.run_batch(padded(rows[start : start + 2000]))
        part = results[start : start + 2000]
        assert [cg.Verdict(int(verdict)).name for verdict in verdicts] == [result[0] for result in part]
        assert passed.tolist() == [result[1] for result in part]


def test_threads_and_padding_change_nothing(mass: tuple[list[list[str]], list[Seen]]) -> None:
    chosen = [names for names in mass[0] if len(names) <= 100]
    random.Random(1).shuffle(chosen)
    assert len(chosen) > 8192  # smaller batches run on one thread
    width = max(map(len, chosen))
    verdicts, passed = cg.run_batch(padded(chosen), threads=1)
    for threads, wider in ((2, 0), (3, 1), (4, 0), (64, 0), (None, 63)):
        again = cg.run_batch(padded(chosen, width + wider), threads=threads)
        assert np.array_equal(again[0], verdicts)
        assert np.array_equal(again[1], passed)
    for start in range(0, 600, 7):  # in small batches of different widths
        part = chosen[start : start + 7]
        again = cg.run_batch(padded(part), threads=2)
        assert np.array_equal(again[0], verdicts[start : start + 7])
        assert np.array_equal(again[1], passed[start : start + 7])
    for index in range(50):
        alone = cg.run_batch(padded(chosen[index : index + 1]))
        assert (alone[0][0], alone[1][0]) == (verdicts[index], passed[index])


def test_trace_agrees_with_the_naive_interpreter(mass: tuple[list[list[str]], list[Seen]]) -> None:
    rows, results = mass
    for names, result in list(zip(rows, results, strict=True))[::20]:
        stories: list[list[naive.Step]] = []
        naive.judge(names, stories)
        wanted = [(case, *vars(step).values()) for case, story in enumerate(stories) for step in story]
        trace = list(cg.trace(cg.encode(" ".join(names))))
        found = [
            (
                step.case,
                step.position,
                cg.VOCABULARY[step.token],
                step.stack,
                step.registers,
                None if step.fault is None else step.fault.name,
            )
            for step in trace
        ]
        assert found == wanted, names
        # The token past the step limit is reported, but was not executed.
        assert result[4] == sum(step.fault != cg.Verdict.STEP_LIMIT for step in trace)
        if trace and trace[-1].fault is None and trace[-1].case == result[2] - 1:
            assert list(trace[-1].stack) == result[3]


@property_test
@given(programs.any_tokens())
def test_any_tokens_are_judged_as_the_naive_interpreter_does(names: list[str]) -> None:
    assert seen(names) == expected(names)


@property_test
@given(programs.nested_blocks())
def test_nested_blocks_are_judged_as_the_naive_interpreter_does(names: list[str]) -> None:
    assert seen(names) == expected(names)


@pytest.mark.parametrize("name", programs.GENERATORS)
def test_generated_programs_are_judged_as_the_naive_interpreter_does(name: str) -> None:
    @settings(property_test, max_examples=60)
    @given(programs.strategy(name))
    def compare(names: list[str]) -> None:
        assert seen(names) == expected(names)

    compare()


@property_test
@given(st.lists(programs.any_tokens(20), max_size=6), st.integers(1, 4))
def test_batches_of_any_tokens_are_judged_as_the_naive_interpreter_does(rows: list[list[str]], threads: int) -> None:
    verdicts, passed = cg.run_batch(padded(rows), threads=threads)
    assert [cg.Verdict(int(verdict)).name for verdict in verdicts] == [expected(names)[0] for names in rows]
    assert passed.tolist() == [expected(names)[1] for names in rows]


ENDS = (2147483646, -2147483646, 2147483647, -2147483647)
OPERANDS = (0, 1, -1, 2, -2, 3, -3, 7, -10, 46340, -46341, 65536, -32768, 2**30, *ENDS)


@pytest.mark.parametrize("name", [x.name for x in INSTRUCTIONS if x.group in ("arithmetic", "comparison", "logic")])
def test_operations_at_the_ends_of_the_range(name: str) -> None:
    """Every operation on every pair of small and extreme values."""
    for pair in product(OPERANDS, repeat=2):
        names = ["case", *programs.integer_list(list(pair)), "to", "do", name, "end"]
        assert seen(names) == expected(names)


# The table of instructions, measured.

# Where an instruction needs company to stand in a body: what stands before and after it.
COMPANY = {
    "(": ("", ")"),
    "if": ("", "fi"),
    "else": ("1 if", "fi"),
    "fi": ("1 if", ""),
    "times": ("", "next"),
    "next": ("1 times", ""),
    "i": ("1 times", "next"),
    "begin": ("", "1 until"),
    "until": ("begin", ""),
    "def": ("", "ret"),
    "ret": ("def", "call"),
    "call": ("def ret", ""),
}
EXECUTED = [x for x in INSTRUCTIONS if x.group not in ("frame", "header") and x.name != ")"]


def depths(name: str, height: int) -> tuple[int, int, cg.Verdict | None]:
    """Run an instruction on a stack of zeros; return the depth before and after it, and its fault."""
    before, rest = COMPANY.get(name, ("", ""))
    start = [*before.split(), *programs.literal(height), "times", "0", "next"]
    steps = list(cg.trace(cg.encode(" ".join([*start, name, *rest.split(), "end"]))))
    first = next(k for k, step in enumerate(steps) if step.position == len(start))
    return len(steps[first - 1].stack), len(steps[first].stack), steps[first].fault


@pytest.mark.parametrize("name", [x.name for x in EXECUTED])
def test_stack_effects_equal_the_instruction_table(name: str) -> None:
    instruction = INSTRUCTIONS[ID[name]]
    # `pick` needs the value it copies besides the number it takes.
    needs = instruction.pops + (name == "pick")
    for height in range(6):
        before, after, fault = depths(name, height)
        assert before == height
        if height < needs:
            assert fault == cg.Verdict.STACK_UNDERFLOW
        elif name in ("div", "mod"):
            assert fault == cg.Verdict.DIVISION_BY_ZERO
        else:
            assert fault is None
            assert after - before == instruction.pushes - instruction.pops


@pytest.mark.parametrize("name", [x.name for x in EXECUTED if x.name not in ("div", "mod")])
def test_a_full_stack_overflows_only_where_it_grows(name: str) -> None:
    """An instruction that frees the room it needs runs on a full stack."""
    instruction = INSTRUCTIONS[ID[name]]
    grows = instruction.pushes > instruction.pops
    assert depths(name, 63)[2] is None
    before, _, fault = depths(name, 64)
    assert before == 64
    assert fault == (cg.Verdict.STACK_OVERFLOW if grows else None)


@pytest.mark.parametrize("name", cg.VOCABULARY)
def test_each_token_is_legal_only_where_the_language_allows_it(name: str) -> None:
    """Each token alone in a body, in a thought, after `use` and `avoid`, and first in a program."""
    operation = ID[name] >= ID[","] and name not in ("(", ")")
    needs_company = (
        "<pad> <bos> case to do use avoid within exactly ( ) if else fi times next i begin until def ret call"
    )
    for program, legal in (
        (f"1 drop {name} end", name not in needs_company.split()),
        (f"1 drop ( {name} ) end", operation),
        (f"use {name} do 1 end", operation),
        (f"avoid {name} do 1 end", operation),
    ):
        assert (cg.run(cg.encode(program)).verdict != cg.Verdict.SYNTAX) == legal, program
        assert seen(program.split()) == expected(program.split())
    for program in (f"{name} end", f"{name} 1 end", f"<bos> {name} 1 end", f"1 {name}"):
        assert seen(program.split()) == expected(program.split())
