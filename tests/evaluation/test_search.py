"""Search with any method finds true completions and counts its candidates; enumeration finds the shortest bodies."""

from __future__ import annotations

import itertools
import random
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.bodies import BINARY, UNARY, Names, join, literal

import cadmus_gym as cg
from cadmus_gym.evaluation.enumeration import WORDS, Enumeration, prompt_of, shortest
from cadmus_gym.evaluation.growing import Kept, enter, find
from cadmus_gym.evaluation.search import BestOf, Draws, Listing, Method, search, solve_rates
from cadmus_gym.language.isa import ID, Tokens

Cases = list[tuple[list[int], list[int]]]

TRIPLE = "case 3 to 9 case 5 to 15 do"
SMALL = ("add", "sub", "mul", "neg", "dup", "swap")

# Spaces small enough to try every body of up to so many tokens with the machine: words, literals, tokens.
SPACES = {
    "arithmetic": (("add", "mul", "dup", "swap", "mod"), (2, 13), 5),
    "literals": (("add", "sub"), (0, 7, 10, -3), 6),
    "conditionals": (("if", "else", "fi", "dup", "neg"), (1,), 7),
    "registers": (("a!", "a@", "b@", "sub", "drop"), (4,), 6),
}


@cache
def bodies(space: str) -> tuple[list[Names], Tokens]:
    """All sequences of words and literals of a space, the shortest first, and as rows with `end`."""
    words, literals, most = SPACES[space]
    units = [[word] for word in words] + [literal(number) for number in literals]
    found = [[]]
    for count in range(1, most + 1):
        found += [join(*units) for units in itertools.product(units, repeat=count)]
    found = sorted((body for body in found if len(body) <= most), key=len)
    rows = np.zeros((len(found), most + 1), np.uint8)
    for row, body in zip(rows, found, strict=True):
        row[: len(body) + 1] = [*(ID[name] for name in body), ID["end"]]
    return found, rows


def after(prompt: Tokens, rows: Tokens) -> Tokens:
    return np.concatenate([np.tile(prompt, (len(rows), 1)), rows], axis=1)


def outputs_of(body: Names, inputs: list[int]) -> tuple[int, ...] | None:
    """What a body leaves, or None if it faults or is not well formed."""
    given = prompt_of([(inputs, [])])
    outcome = cg.run(np.append(given, [ID[name] for name in [*body, "end"]]))
    return outcome.stack if outcome.verdict <= cg.Verdict.FALSE and len(outcome.stack) <= 8 else None


@st.composite
def asked(draw: st.DrawFn, space: str) -> tuple[str, int]:
    """Directives and cases that a body of the space meets, unless they are edited, and a limit."""
    found, _ = bodies(space)
    body = found[draw(st.integers(0, len(found) - 1))]
    arity = draw(st.integers(0, 3))
    drawn = draw(st.lists(st.lists(st.integers(-9, 20), min_size=arity, max_size=arity), min_size=1, max_size=4))
    if draw(st.booleans()):
        drawn[0] = drawn[0][: draw(st.integers(0, 3))]  # cases of different sizes
    shown = [(inputs, outputs_of(body, inputs)) for inputs in drawn]
    cases = [(inputs, list(left)) for inputs, left in shown if left is not None] or [([3], [3])]
    if draw(st.integers(0, 5)) == 0:
        cases[0] = cases[0][0], [draw(st.integers(-20, 20))]
    words, _, most = SPACES[space]
    heads = []
    for _ in range(draw(st.integers(0, 3))):
        kind = draw(st.sampled_from(("use", "avoid", "within", "exactly")))
        named = [*words, ",", "1", "neg", "3"]
        heads.append(f"{kind} {draw(st.sampled_from(named) if kind in ('use', 'avoid') else st.integers(0, most + 2))}")
    limit = max(draw(st.integers(0, most)), draw(st.integers(0, most)))
    return " ".join([*heads, cg.disassemble(prompt_of(cases))]), limit


@pytest.mark.parametrize("space", SPACES)
def test_enumeration_finds_as_short_a_body_as_trying_all(space: str) -> None:
    words, literals, _ = SPACES[space]
    found, rows = bodies(space)
    solved = []

    @settings(max_examples=150, deadline=None)
    @given(asked(space))
    def check(given_as: tuple[str, int]) -> None:
        text, limit = given_as
        true = cg.run_batch(after(cg.assemble(text), rows))[0] == cg.Verdict.TRUE
        lengths = [len(found[k]) for k in np.flatnonzero(true)]
        least = min((length for length in lengths if length <= limit), default=None)
        result = search(Enumeration(words, literals, limit), cg.assemble(text), candidates=10**7)
        solved.append(result.fits)
        assert result.status == ("exhausted" if least is None else "found")
        if result.found is not None:
            assert result.found.size - 1 == least
            assert cg.run(np.append(cg.assemble(text), result.found)).true

    check()
    assert 10 < sum(solved) < len(solved) - 10


STRAIGHT = (*BINARY, *UNARY, "div", "mod", "dup", "drop", "swap", "over", "rot", "pick", "a!", "a@", "b!", "b@")


def random_body(rng: random.Random, depth: int) -> Names:
    """Words in any order with conditionals, most of which find their operands."""
    parts: list[Names] = []
    for _ in range(rng.randint(1, 5)):
        kind = rng.random()
        if kind < 0.35:
            parts.append(literal(rng.choice((0, 1, 2, 3, 10, 46341, 2147483647))))
        elif kind < 0.85 or depth == 0:
            parts.append([rng.choice(STRAIGHT)])
        else:
            arms = [random_body(rng, depth - 1) for _ in range(2)]
            parts.append(["if", *arms[0], *(["else", *arms[1]] if rng.random() < 0.5 else []), "fi"])
    return join(*parts)


def test_states_are_what_the_machine_leaves() -> None:
    """The prompt holds a body, and one word is wanted: it is found exactly if the machine says so."""
    rng = random.Random(5)
    counts = {"found": 0, "exhausted": 0}
    for _ in range(1500):
        height = rng.randint(1, 4)
        given = [[rng.choice((0, 1, rng.randint(-9, 9))) for _ in range(height)] for _ in range(rng.randint(1, 4))]
        body, word = random_body(rng, 2), rng.choice(("dup", "inc", "swap", "a@", "add"))
        left = [outputs_of([*body, word], inputs) for inputs in given]
        cases = [(inputs, list(one or ())) for inputs, one in zip(given, left, strict=True)]
        prompt = np.append(prompt_of(cases), [ID[name] for name in body]).astype(np.uint8)
        true = [cg.run(np.append(prompt, [*more, ID["end"]])).true for more in ([], [ID[word]])]
        result = search(Enumeration([word], (), len(body) + 1), prompt, candidates=10)
        assert result.status == ("found" if any(true) else "exhausted")
        assert result.candidates == (1 if true[0] or None in left else 2)
        assert true[0] or true[1] == (None not in left)
        counts[result.status] += 1
    assert min(counts.values()) > 300


def test_a_search_that_is_advanced_in_parts_finds_the_same() -> None:
    def sampler(prompt: Tokens, count: int, seed: int) -> list[Tokens]:
        rng = np.random.default_rng(seed)
        return [np.array([ID["0"] + rng.integers(10), rng.choice([ID["add"], ID["mul"]]), 2]) for _ in range(count)]

    methods: list[Method] = [Enumeration(SMALL, range(21)), Draws(sampler, batch=7), BestOf(nano(), batch=5)]
    for method, prompt in zip(methods, [TRIPLE, TRIPLE, "12 7 add"], strict=True):
        whole = method.begin(prompt, seed=3)
        whole.advance(10**6)
        assert whole.result.fits
        parts = method.begin(prompt, seed=3)
        for size in itertools.cycle((1, 0, 2, 11)):
            before = parts.result
            if before.status != "running":
                break
            assert parts.advance(size).candidates - before.candidates in range(size + 1)
        assert parts.result.candidates == whole.result.candidates
        assert np.array_equal(parts.result.found, whole.result.found)
        assert parts.advance(5) is parts.result
        assert parts.result.cpu_seconds > 0


@cache
def nano() -> Any:
    return cg.load_model("nano-arith")


def test_draws_count_up_to_the_first_that_is_true() -> None:
    seeds = []

    def sampler(prompt: Tokens, count: int, seed: int) -> np.ndarray[Any, Any]:
        assert cg.disassemble(prompt) == TRIPLE
        seeds.append(seed)
        rows = np.zeros((count, 4), np.int64)
        rows[:, 0] = ID["2"]
        rows[:, 1:3] = ID["mul"], ID["end"]
        if len(seeds) == 3:
            rows[4, :4] = ID["3"], ID["mul"], ID["end"], ID["neg"]
        return rows

    result = search(Draws(sampler, batch=10), TRIPLE, candidates=100, seed=1)
    assert (result.candidates, result.status) == (25, "found")
    assert cg.disassemble(result.found) == "3 mul end"
    assert len(set(seeds)) == 3
    first = seeds[0]
    search(Draws(sampler, batch=10), TRIPLE, candidates=5, seed=1)
    search(Draws(sampler, batch=10), TRIPLE, candidates=5, seed=2)
    assert seeds[3] == first != seeds[4]


def test_a_sampler_that_fails_once_can_be_asked_again() -> None:
    calls = []

    def sampler(prompt: Tokens, count: int, seed: int) -> Tokens:
        calls.append(seed)
        return np.zeros((count + (len(calls) == 2), 1), np.uint8)

    running = Draws(sampler, 4).begin(TRIPLE)
    with pytest.raises(ValueError, match="batch 1 of the sampler: 5 completions"):
        running.advance(10)
    assert running.result.candidates == 4
    assert running.advance(10).candidates == 14
    assert calls[2] == calls[1]


def test_a_model_is_verified_by_the_machine() -> None:
    result = search(BestOf(nano(), batch=8), "12 7 add", candidates=200)
    assert cg.disassemble(result.found) == "19 eq end"
    prompt = "( 9 ) 31 8 mul"  # thoughts are not in the training data
    result = search(BestOf(nano(), batch=8, temperature=3.0, max_tokens=9), prompt, candidates=16)
    assert result.candidates <= 16
    assert result.fits or result.status == "running"


def test_a_listing_is_tried_in_order_and_is_exhausted() -> None:
    rows = np.zeros((3, 3), np.uint8)
    for row, text in zip(rows, ("end", "dup add end", "3 mul end"), strict=True):
        row[: len(text.split())] = cg.assemble(text)
    assert search(Listing(rows), TRIPLE, candidates=9).candidates == 3
    result = search(Listing(rows[:2]), TRIPLE, candidates=9)
    assert (result.found, result.candidates, result.exhausted) == (None, 2, True)
    assert search(Listing(rows), TRIPLE, candidates=2).status == "running"
    assert search(Listing(rows[:0]), TRIPLE, candidates=2).exhausted


def test_known_shortest_bodies() -> None:
    stack = ("dup", "drop", "swap", "over", "rot")
    two: Cases = [([1, 2], [1, 2]), ([2, 1], [1, 2]), ([5, 5], [5, 5])]
    larger: Cases = [(inputs, outputs[1:]) for inputs, outputs in two]
    absolute: Cases = [([1], [1]), ([-2], [2]), ([0], [0])]
    branches = (*stack, "lt", "gt", "if", "else", "fi")
    for cases, words, literals, length in (
        (two, (*stack, "min", "max"), (), 6),  # over over min rot rot max
        (two, branches, (), 6),  # over over gt if swap fi
        (larger, branches, (), 7),  # over over lt if swap fi drop
        (absolute, (*branches, "neg"), (0,), 6),  # dup 0 lt if neg fi
        (absolute, (*branches, "neg", "max"), (0,), 3),  # dup neg max
        ([([], [12, 3])], (), (12, 3), 4),  # 12 , 3
        ([([7], [7])], (), (), 0),
    ):
        result = shortest(cases, words, literals, limit=8)
        assert result.proven
        assert result.body is not None
        assert result.bound == result.body.size == length
        below = shortest(cases, words, literals, limit=max(0, length - 1))
        assert (below.body is None) == (length > 0)
        assert below.proven
        assert below.bound == length


def test_of_two_prefixes_with_one_state_the_one_without_a_last_digit_is_extended() -> None:
    result = shortest([([3, 2], [3, 4, 7])], ("drop", "inc"), (4, 7), limit=4)
    assert result.body is not None
    assert cg.decode(result.body) == "inc inc 7"  # `drop 4` leaves 3 4 as well, but needs `, 7`


def test_states_with_equal_hashes_are_told_apart() -> None:
    cells = np.array([5, 6, 5, 7, 5, 6, 5, 5, 6], np.int32)
    starts = np.array([0, 2, 4, 0], np.int64)
    slots = np.zeros(8, np.int64)
    slots[[6, 7]] = [6 << 32 | 1, 6 << 32 | 2]  # prefixes 0 and 1, both with hash 6
    kept = Kept(cells, starts, np.zeros(3, np.int32), np.zeros(3, np.int32), slots)
    for begin, end, node, slot in ((4, 6, 0, 6), (2, 4, 1, 7), (6, 8, -1, 0), (4, 7, -1, 0)):
        assert find(kept, 6, begin, end) == (node, slot)
    enlarged = np.zeros(16, np.int64)
    enter(enlarged, slots)
    assert sorted(enlarged[[6, 7]].tolist()) == sorted(slots[[6, 7]].tolist())


def test_what_is_not_proven_says_so() -> None:
    cases: Cases = [([3], [79]), ([5], [1234]), ([8], [-99])]
    few = shortest(cases, SMALL, range(21), candidates=1000)
    assert (few.body, few.proven, few.candidates) == (None, False, 1000)
    assert 1 <= few.bound < 6
    small = shortest(cases, SMALL, range(21), most_bytes=10**6)
    assert (small.body, small.proven) == (None, False)
    assert small.bound >= few.bound
    seen: list[tuple[int, int]] = []
    none = shortest(cases, ("dup", "drop"), (), 7, report=lambda *counts: seen.append(counts))
    assert (none.body, none.proven, none.bound) == (None, True, 8)
    assert seen[-1] == (7, 7)


def test_an_enumeration_ends_by_its_memory() -> None:
    running = Enumeration(SMALL, range(21), most_bytes=10**6).begin(TRIPLE.replace("15", "1234"))
    result = running.advance(10**7)
    assert (result.found, result.status) == (None, "memory")
    assert 1000 < result.candidates < 10**6
    assert running.advance(1) is result


def test_a_finite_space_is_exhausted() -> None:
    result = search(Enumeration(("swap", "drop")), "case 1 2 to 3 do", candidates=1000)
    assert result.exhausted
    assert result.candidates < 20
    for impossible in ("use times", "use add avoid add", "within 2 exactly 3", "avoid 4", "within 0"):
        prompt = f"{impossible} case 3 to 12 do 4"
        assert search(Enumeration(("add", "mul"), (3,), 9), prompt, candidates=10**5).exhausted, impossible


def test_what_the_prompt_holds_is_completed() -> None:
    def found(prompt: str) -> str | None:
        result = search(
            Enumeration((*SMALL, "if", "else", "fi", "lt"), range(13), 20), cg.assemble(prompt), candidates=10**6
        )
        return None if result.found is None else cg.decode(result.found)

    assert found("case 3 to 14 case 5 to 20 do 3 mul") == "5 add end"
    assert found("case 3 to 14 case 5 to 20 do 3 mul 5") == "add end"
    assert found("case 3 to 3 4 7 do 4") == ", 7 end"
    assert found("case 3 to 3 4 7 do 4 ( 1 2 )") == "7 end"  # a thought separates literals too
    assert found("avoid , case 3 to 3 4 7 do 4") == "neg neg 7 end"  # `4` and `7` would be one literal
    assert found("case -3 to 3 case 4 to 4 case -1 to 1 do dup 0 lt if") == "neg fi end"
    assert found("case -3 to 3 case 4 to 8 case -1 to 1 do dup 0 lt if neg else") == "dup add fi end"
    assert found("12 7 add") == "neg 0 lt end"  # without cases: to leave 1
    assert found("case 1 to 1 do add") is None
    assert found("case 1 to 2 do" + " ( )" * 1022) == "dup add end"  # at the limit of steps
    assert found("case 1 to 2 do" + " ( )" * 1024) is None


def test_directives_are_met() -> None:
    method = Enumeration(("add", "mul", "dup"), range(10), 12)
    for text, body in (
        (TRIPLE, "3 mul"),
        (f"avoid mul {TRIPLE}", "dup dup add add"),
        (f"avoid 3 within 5 {TRIPLE}", "dup dup add add"),
        (f"use dup {TRIPLE}", "dup dup add add"),
        (f"exactly 2 {TRIPLE}", "3 mul"),
    ):
        result = search(method, text, candidates=10**6)
        assert cg.disassemble(result.found[:-1]) == body, text
    for text, size in ((f"exactly 5 {TRIPLE}", 5), (f"use 1 use , use dup {TRIPLE}", 7)):
        result = search(method, text, candidates=10**7)
        assert result.found is not None, text
        assert result.found.size - 1 <= size


def test_an_arm_that_no_case_enters_is_written_only_for_its_length() -> None:
    method = Enumeration(("if", "fi", "drop"), (), 9)
    for head, body in (("", "drop"), ("avoid drop", "if fi"), ("use if exactly 5", "if if fi drop fi")):
        assert cg.decode(search(method, f"{head} case 0 to do", candidates=1000).found[:-1]) == body


def test_budgets_limit_a_search() -> None:
    hard, method = TRIPLE.replace("15", "1234"), Enumeration(SMALL, range(21))
    for candidates in (0, 1, 1000):
        assert search(method, hard, candidates=candidates).candidates == candidates
    assert search(method, hard, cpu_seconds=0).candidates == 0
    result = search(method, hard, cpu_seconds=0.05)
    assert result.cpu_seconds >= 0.05
    assert result.candidates % method.begin(hard).step == 0
    seen: list[tuple[int, int]] = []
    search(method, hard, candidates=100_000, report=lambda *counts: seen.append(counts))
    assert seen == [(65536, 100_000), (100_000, 100_000)]
    seen.clear()
    search(method, hard, cpu_seconds=0.01, report=lambda *counts: seen.append(counts))
    assert seen[-1][1] == 1


def test_solve_rates_count_prompts() -> None:
    prompts = [TRIPLE, "case 4 to 4 do", "case 3 to 9 case 5 to 25 do", "case 1 to 99999 do"]
    method = Enumeration(("mul", "dup"), range(10), limit=5)
    seen: list[tuple[int, int]] = []
    rates = solve_rates(method, prompts, candidates=(1, 50, 10**6), report=lambda *counts: seen.append(counts))
    assert rates.by_candidates == {1: 0.25, 50: 0.75, 10**6: 0.75}
    assert [result.status for result in rates.results] == ["found", "found", "found", "exhausted"]
    assert rates.by_cpu_seconds == {}
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    timed = solve_rates(method, prompts, cpu_seconds=(0.0, 60.0))
    assert timed.by_cpu_seconds == {0.0: 0.0, 60.0: 0.75}
    assert timed.out_of_memory == 0
    tight = Enumeration(SMALL, range(21), most_bytes=10**6)
    assert solve_rates(tight, prompts, candidates=(10**6,)).out_of_memory == 1


def test_each_prompt_has_its_own_seed() -> None:
    seeds = []

    def sampler(prompt: Tokens, count: int, seed: int) -> Tokens:
        seeds.append(seed)
        return np.zeros((count, 1), np.uint8)

    rates = solve_rates(Draws(sampler, 4), [TRIPLE] * 3, candidates=(6,), seed=9)
    assert len(set(seeds)) == len(seeds) == 6
    assert rates.by_candidates == {6: 0.0}


def test_bad_input_is_a_value_error() -> None:
    def listed(rows: Any) -> Method:
        return Draws(lambda prompt, count, seed: rows, 2)

    method = Enumeration(("add",), (1,))
    for call, message in (
        (lambda: Enumeration(("add", "times")), r"words: 'times' is not among add .* fi"),
        (lambda: Enumeration(("add", "3")), "literals are given as integers"),
        (lambda: Enumeration("add"), "words: 'add': expected a list"),
        (lambda: Enumeration(("if",)), "'if' without 'fi'"),
        (lambda: Enumeration((), (1.5,)), r"literals: 1\.5; allowed: whole numbers from -2147483647"),
        (lambda: Enumeration((), (2**31,)), "literals: 2147483648"),
        (lambda: Enumeration((), limit=1025), "limit = 1025; allowed: 0 to 1024"),
        (lambda: Enumeration((), most_bytes="1"), "most_bytes = '1': expected a whole number"),
        (lambda: method.begin("case 1 to 2"), "header is not well formed, or has no `do`"),
        (lambda: method.begin("case 1 to 2 do 1 add end"), "`end` at 7"),
        (lambda: method.begin("case 1 to 2 do 3 times"), "its body has 'times'; allowed: literals"),
        (lambda: method.begin("case 1 to 2 do )"), r"its body has '\)'"),
        (lambda: method.begin("case 1 to 2 do ( ("), r"its body has '\('"),
        (lambda: method.begin("case 1 to 2 do ( 3"), "ends within a thought"),
        (lambda: method.begin("case 1 to 2 do ( case"), "its body has 'case'"),
        (lambda: method.begin([70]), "token id 70"),
        (lambda: prompt_of([]), "0 cases; allowed: 1 to 16"),
        (lambda: prompt_of([([1], [2]), ([1] * 9, [])]), "case 1: inputs .*at most 8"),
        (lambda: prompt_of([([1], [2.5])]), r"case 0: outputs \[2\.5\]"),
        (lambda: prompt_of([([1],)]), r"case 0: \(\[1\],\)"),
        (lambda: search(method, TRIPLE), "candidates = None, cpu_seconds = None: give at least one"),
        (lambda: search(method, TRIPLE, candidates=-1), "candidates = -1; allowed: 0 or more"),
        (lambda: search(method, TRIPLE, candidates=1.5), "candidates = 1.5: expected a whole number"),
        (lambda: search(method, TRIPLE, cpu_seconds=float("inf")), "cpu_seconds = inf; allowed: a finite number"),
        (lambda: solve_rates(method, [], candidates=(1,)), "0 prompts"),
        (lambda: solve_rates(method, [TRIPLE]), "at least one prompt and one budget"),
        (lambda: Draws(lambda *_: [], batch=0), "batch = 0; allowed: 1 or more"),
        (lambda: search(listed([[2]]), TRIPLE, candidates=1), "batch 0 of the sampler: 1 completions"),
        (lambda: search(listed(np.full((2, 2), 70)), TRIPLE, candidates=1), r"batch 0 of the sampler: token id 70"),
        (lambda: search(listed(np.zeros((2, 2))), TRIPLE, candidates=1), "batch 0 of the sampler: .* float64"),
        (lambda: BestOf(nano(), batch=1.5), "batch = 1.5: expected a whole number"),
        (lambda: BestOf(nano(), temperature="1"), "temperature = '1'; allowed: 0"),
        (lambda: BestOf(nano(), temperature=0), "temperature = 0; allowed: above 0"),
        (lambda: Draws(lambda *_: []).begin(TRIPLE, seed=-1), "seed = -1"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_every_word_of_the_space_is_of_the_language() -> None:
    assert set(WORDS) <= set(cg.VOCABULARY)
    assert {"add", "b@", "if", "else", "fi"} <= set(WORDS)
    assert not {"times", "i", "begin", "def", "call", ",", "3", "end"} & set(WORDS)
