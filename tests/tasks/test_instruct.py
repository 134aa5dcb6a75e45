"""Instruct: equivalent rewritings, directives that bite, and idle words."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from itertools import product
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from support import naive

import cadmus_gym as cg
from cadmus_gym.evaluation.baselines import play
from cadmus_gym.evaluation.directives import (
    ABSENT,
    SUFFIXES,
    directives_of,
    held_directives,
    plain_policies,
    strict_of,
)
from cadmus_gym.evaluation.truth import earning, prompts_of
from cadmus_gym.language import isa as op
from cadmus_gym.language.memory import scratch
from cadmus_gym.tasks.synthesis import induce, optima
from cadmus_gym.tasks.synthesis.hidden import STANDARD, function_key, probes_of
from cadmus_gym.tasks.synthesis.idle import MOST, idle_use
from cadmus_gym.tasks.synthesis.instruct import INSTRUCT, MOST_TOKENS, Parameters
from cadmus_gym.tasks.synthesis.rewrites import OLD, RULES, rewrite
from cadmus_gym.tasks.synthesis.space import space_of

ID = "Cadmus-Instruct-v0"
SPEC = cg.load_spec(ID)
SPLITS = list(SPEC.splits)
SEED = 11


def rows_of(texts: list[str]) -> Any:
    tokens = [cg.assemble(text) for text in texts]
    rows = np.zeros((len(tokens), max(map(len, tokens))), np.uint8)
    for row, some in zip(rows, tokens, strict=True):
        row[: some.size] = some
    return rows


def rewritten(rule: int, text: str, room: int = 64) -> str | None:
    source, target = cg.assemble(text).astype(np.int64), np.zeros(room, np.int64)
    size = int(rewrite(rule, source, source.size, target))
    return None if size < 0 else cg.disassemble(target[:size].astype(np.uint8))


def names(tokens: Any) -> list[str]:
    return [cg.VOCABULARY[token] for token in tokens.tolist()]


@pytest.mark.parametrize("rule", range(len(RULES)), ids=[f"{old} to {new}" for old, new in RULES])
def test_a_rule_keeps_what_a_body_leaves(rule: int) -> None:
    old = RULES[rule][0]
    bodies = [old.replace("c", str(c)) for c in (1, 2, 7, 12, 40)] if old.split()[0] == "c" else [old]
    for body, (x, y, z) in product(bodies, product((-7, -1, 0, 2, 9), (5, -3), (4, -4, 1))):
        if "mod" in body and z == 0:
            continue
        stack = " , ".join(f"{abs(n)}{' neg' * (n < 0)}" for n in (x, y, z))
        other = rewritten(rule, body)
        assert other is not None
        assert other != body
        assert naive_stack(stack, body) == naive_stack(stack, other), (body, other)


def naive_stack(stack: str, body: str) -> list[int]:
    text = f"{stack}{' ,' if body[0].isdigit() else ''} {body}"
    result = naive.judge([*names(cg.assemble(text)), "end"])
    assert result.verdict in ("TRUE", "FALSE"), text
    return result.stack


@pytest.mark.parametrize(
    ("body", "old", "expected"),
    [
        ("3 add 4 add", "add", "3 neg sub 4 neg sub"),  # everywhere
        ("12 mul", "2 mul", None),  # the 2 belongs to a longer literal
        ("2 mul", "2 mul", "dup add"),
        ("10 sub", "c", "9 inc sub"),
        ("0 sub", "c", None),  # no literal below 0
        ("3 , 4 add", "c", "2 inc , 3 inc add"),
        ("5 inc", "inc", None),  # 5 1 add would be 51
    ],
)
def test_a_rule_rewrites_its_words_everywhere(body: str, old: str, expected: str | None) -> None:
    rule = next(k for k, (words, _) in enumerate(RULES) if words == old)
    found = rewritten(rule, body)
    assert (found and cg.assemble(found).tolist()) == (expected and cg.assemble(expected).tolist())


def test_a_rule_that_has_no_room_fails() -> None:
    mod = next(k for k, (words, _) in enumerate(RULES) if words == "mod")
    assert rewritten(mod, "7 mod", room=6) is not None
    assert rewritten(mod, "7 mod", room=5) is None
    assert OLD.shape[1] > max(len(new.split()) for _, new in RULES)


def outcome(body: list[str], probe: list[int]) -> Any:
    """Return what a body leaves on a probe in the naive interpreter, or its verdict after a fault."""
    inputs = [part for n in probe for part in (*str(abs(n)), *["neg"] * (n < 0), ",")][:-1]
    result = naive.judge(["case", *inputs, "to", "do", *body, "end"])
    return result.stack if result.verdict in ("TRUE", "FALSE") else result.verdict


def does_same(one: list[str], other: list[str], arity: int) -> bool:
    return all(outcome(one, probe) == outcome(other, probe) for probe in probes_of(STANDARD, arity).tolist())


ARITHMETIC = ("add", "sub", "mul", "div", "mod", "min", "max", "and", "or", "xor")
DROPPING = {*ARITHMETIC, "eq", "ne", "lt", "le", "gt", "ge", "drop", "a!", "b!", "if", "times", "until"}


def change_of(body: list[str], places: list[int]) -> int:
    """Return by how much the words at these places of a body change the depth of the stack."""
    change = 0
    for k in places:
        word = body[k]
        if word.isdigit():
            change += not (k + 1 < len(body) and body[k + 1].isdigit())
        elif word in ("dup", "over", "a@", "b@", "i"):
            change += 1
        elif word in [
            "add",
            "sub",
            "mul",
            "div",
            "mod",
            "min",
            "max",
            "eq",
            "ne",
            "lt",
            "le",
            "gt",
            "ge",
            "and",
            "or",
            "xor",
            "drop",
            "a!",
            "b!",
            "if",
            "times",
            "until",
        ]:
            change -= 1
    return change


def idle_places(body: list[str], arity: int) -> set[int]:
    """Return the places of idle words, from the definition."""
    found = set[int]()
    bounds = range(len(body) + 1)
    for begin, end, again, last in itertools.combinations_with_replacement(bounds, 4):
        out = [*range(begin, end), *range(again, last)]
        shorter = [word for k, word in enumerate(body) if k not in out]
        if out and change_of(body, out) == 0 and naive.judge([*shorter, "end"]).verdict != "SYNTAX":
            found |= set(out) if does_same(shorter, body, arity) else set()
    return found


@pytest.mark.parametrize("split", SPLITS)
def test_programs_meet_their_directives(split: str) -> None:
    stream, count = cg.Stream(SPEC, split, SEED), 200
    programs, lengths = stream.batch(0, count)
    held, plain = set(SPEC.parameters["held_out"]), split != "words"
    number = {"pairs": 2, "triples": 3, "four": 4}.get(split, 1)
    for row, (program, length) in enumerate(zip(programs, lengths, strict=True)):
        program = program[program > 0]
        assert naive.judge(names(program)).verdict == "TRUE"
        directives = directives_of(program[:length])
        assert len(directives) == number == len(set(directives))
        body = names(program[length:-1])
        asked = {f"{kind} {cg.VOCABULARY[word]}" for kind, word in directives if kind in ("use", "avoid")}
        assert asked.isdisjoint(held) if plain else asked <= held
        assert sum(kind in ("within", "exactly") for kind, _ in directives) <= (1 if plain else 0)
        assert len(body) <= MOST_TOKENS
        arity = 1 + names(program)[: names(program).index("to")].count(",")
        if row < 50 and len(body) < 9:
            assert not idle_places(body, arity)
    fits = np.ones(count, np.bool_)
    assert earning(SPEC, split, programs, fits, count, SEED)[0].all()


@pytest.mark.parametrize(
    ("kind", "slack"), [("within", {}), ("within", {"0": 1}), ("within", {"1": 1}), ("exactly", {})]
)
def test_limits_are_below_the_length_of_the_plain_body(kind: str, slack: dict[str, int]) -> None:
    own = SPEC.parameters | {"instructions": {kind: 1}, "slack": slack}
    spec = dataclasses.replace(SPEC, parameters=own, splits={"test": SPEC.split("test")})
    programs, lengths = cg.Stream(spec, "test", SEED).batch(0, 100)
    keys = cg.Stream(spec, "test", SEED).keys(np.full(100, SEED), np.arange(100))
    space = space_of(induce.pack(induce.Parameters()))
    plains, (shortest, sizes) = space.plain_bodies(keys), optima.shortest(keys)
    for program, length, plain, best, size in zip(programs, lengths, plains, shortest, sizes, strict=True):
        ((asked, limit),) = directives_of(program[:length])
        body = program[length:][program[length:] > 0][:-1]
        assert asked == kind
        assert body.tolist() == best[best > 0].tolist()
        assert size <= limit < (plain > 0).sum()
        assert limit - size in map(int, slack or "012345678")
        assert limit == size or kind == "within"


def test_golf_allows_only_the_length_of_the_reference() -> None:
    programs, lengths = cg.Stream("Cadmus-Golf-v0", "train", SEED).batch(0, 200)
    for program, length in zip(programs, lengths, strict=True):
        assert directives_of(program[:length]) == [("within", int((program[length:] > 0).sum()) - 1)]


def test_keys_and_splits_are_those_of_induce() -> None:
    pairs = np.full(300, SEED), np.arange(300)
    for split, (low, high) in {"train": (0.1, 1), "test": (0, 0.1)}.items():
        stream = cg.Stream(SPEC, split, SEED)
        programs, keys = stream.gather(*pairs)[0], stream.keys(*pairs)
        references, work = stream.references(*pairs), scratch(256)
        for program, body, key in zip(programs[:60], references.bodies, keys, strict=False):
            assert function_key(program[program > 0], body[body > 0], work) == key
        assert ((low * 2**64 <= keys.astype(float)) & (keys.astype(float) <= high * 2**64)).all()


@pytest.mark.parametrize("split", ["test", "words"])
def test_ignoring_directives_earns_almost_nothing(split: str) -> None:
    prompts, lengths = prompts_of(SPEC, split, 120)
    for policy in plain_policies(SPEC, split).values():
        completions = [policy(prompt[:length]) for prompt, length in zip(prompts, lengths, strict=True)]
        assert play(SPEC, split, completions).mean() <= 0.05


def test_a_suffix_contains_its_word_and_is_idle() -> None:
    for word, suffix in SUFFIXES.items():
        body = suffix.split()
        assert word in body
        assert does_same(body, [], 1)
        assert idle_places(body, 1) == set(range(len(body)))


CASES = "case 3 to 6 case 5 to 10 case 0 to 0 case 4 to 8 do"


@pytest.mark.parametrize(
    ("program", "idle"),
    [
        (f"use add {CASES} 2 mul 0 add end", True),
        (f"use neg {CASES} neg 2 mul neg end", True),  # two spans
        (f"use swap {CASES} dup 2 mul swap drop end", True),
        (f"use times {CASES} 1 times 2 mul next end", True),
        (f"use neg {CASES} 2 mul neg neg end", True),
        (f"use add {CASES} dup add end", False),
        (f"use add {CASES} ( 7 ) dup ( 1 ) add end", False),
        (f"use dup use add {CASES} dup add dup drop end", False),  # the first dup is not idle
        (f"use dup use abs {CASES} dup add dup abs drop end", True),  # abs is idle
        (f"use 0 {CASES} 02 mul end", True),
        (f"use if {CASES} 1 if 2 mul fi end", True),
        (f"avoid add {CASES} 2 mul 0 sub end", False),  # nothing has to be used
        ("use add do 1 0 add end", False),  # no inputs
    ],
)
def test_idle_use_is_found_and_refused(program: str, idle: bool) -> None:
    rows = rows_of([program])
    assert cg.run(program).true
    assert bool(idle_use(rows, np.arange(1))[0]) == idle
    if "case" in program:
        env = gym.make(ID)
        header, body = program.split(" do ")
        env.reset(options={"prompt": f"{header} do"})
        for token in cg.assemble(body):
            *_, info = env.step(int(token))
        assert (info["visible"], info["idle_use"], info["is_success"]) == (True, idle, not idle)


def test_a_body_beyond_the_limit_counts_as_having_no_idle_words() -> None:
    body = "2 mul " + "0 add " * (MOST // 2)
    assert not idle_use(rows_of([f"use add {CASES} {body} end"]), np.arange(1))[0]
    assert idle_use(rows_of([f"use add {CASES} {body[:-6]} end"]), np.arange(1))[0]


def test_environments_and_evaluation_refuse_idle_use_alike() -> None:
    prompts, lengths = prompts_of(SPEC, "test", 60)
    policy = plain_policies(SPEC, "test")["the plain body and an idle suffix"]
    completions = [policy(prompt[:length]) for prompt, length in zip(prompts, lengths, strict=True)]
    paid = SPEC.override(idle_use="paid")
    for spec in (SPEC, paid):
        found = cg.evaluate(lambda prompts, lengths: completions, spec, "test", 60, batch_size=60)
        vector = cg.CadmusVectorEnv(60, spec, split="test")
        vector.reset(options={"prompt": [prompt[:length] for prompt, length in zip(prompts, lengths, strict=True)]})
        idle = np.zeros(60, np.bool_)
        rewards = np.zeros(60)
        over = np.zeros(60, np.bool_)
        for step in range(max(map(len, completions))):
            actions = [int(row[step]) if step < row.size else op.END for row in completions]
            _, some, ended, _, info = vector.step(np.array(actions))
            rewards += np.where(over, 0, some)
            if "idle_use" in info:
                idle |= info["idle_use"].astype(bool) & ~over
            over |= ended
        assert found.idle_use_rate == pytest.approx(idle.sum() / max(1, round(found.fit_rate * 60)))
        assert idle.sum() > 10
        assert (found.fit_rate > 0.3) == (found.idle_use_rate > 0)
    assert cg.evaluate(lambda prompts, lengths: completions, paid, "test", 60, batch_size=60).truth_rate > 0.2


def test_each_directive_is_judged_by_itself() -> None:
    programs = [
        "use mul avoid dup within 2 exactly 3 case 3 to 6 do 2 mul end",
        "use mul avoid mul within 1 exactly 2 case 3 to 7 do 2 mul end",
        "use neg case 3 to 3 case 3 neg to 3 do dup 0 lt if neg fi end",
        "case 3 to 6 do 2 mul end",
        "use mul case 3 to 6 do fi end",
    ]
    held = held_directives(rows_of(programs))
    assert held[:, :5].tolist() == [[2, 2, 2, 1, 0], [2, 1, 1, 2, 0], [1, 0, 0, 0, 0], [0] * 5, [0] * 5]
    assert (held[:, 5:] == ABSENT).all()


def test_strict_rates_need_hidden_cases_to_pass() -> None:
    programs, _ = cg.Stream(SPEC, "pairs", SEED).batch(0, 100)
    found = strict_of(SPEC, "pairs", programs, SEED)
    assert (found["all"].count, found["all"].prompts, found["all"].directives) == (100, 1.0, 1.0)
    assert found.keys() == {"all", "2 directives"}
    broken = programs.copy()
    broken[:50] = programs[50:]  # true, but of other problems: their hidden cases differ
    assert strict_of(SPEC, "pairs", broken, SEED)["all"].prompts < 0.7


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"directives": {"5": 1}}, "directives"),
        ({"instructions": {"use": 0}}, "instructions"),
        ({"instructions": {"within": 1}, "directives": {"2": 1}}, "instructions"),
        ({"instructions": {"within": 1, "exactly": 1}, "directives": {"1": 1, "3": 1}}, "instructions"),
        ({"held_out": ("use end",)}, "held_out"),
        ({"held_out": ("within 3",)}, "held_out"),
        ({"pool": "held"}, "pool"),
        ({"given": {"50": 1}}, "given"),
        ({"slack": {"9": 1}}, "slack"),
    ],
)
def test_invalid_parameters_are_rejected(parameters: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Parameters(**parameters)


def test_an_unknown_idle_use_is_rejected() -> None:
    with pytest.raises(ValueError, match="paid, refused"):
        SPEC.override(idle_use="never")


def test_the_table_is_unchanged_in_this_version() -> None:
    """The programs of Instruct and Golf depend on the table, which is in no digest: a new table needs a new version."""
    table = optima.optima()
    digest = hashlib.sha256(b"".join(part.tobytes() for part in table)).hexdigest()[:16]
    assert (INSTRUCT.version, digest) == (1, "6a09e90757b177f7")
    assert table.tried.tolist() == [7, 9]
