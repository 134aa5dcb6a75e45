"""Task families: keys of problems, worked steps, and the distribution of prompts."""

from __future__ import annotations

import dataclasses
import math
import random
import re
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from support import naive, specs, symbolic
from support.worked import DIGITS, RELATIONS, Names, completed, story, thought_of

import cadmus_gym as cg
from cadmus_gym.language import isa as op
from cadmus_gym.language.isa import ID, VOCABULARY
from cadmus_gym.language.memory import scratch
from cadmus_gym.language.verdicts import RAN
from cadmus_gym.streams.spec import Spec, Split
from cadmus_gym.tasks import STYLES, TASKS
from cadmus_gym.tasks.family import MARKS, PROMPT, WORK
from cadmus_gym.tasks.solving import SLACK, TRACE, identify, think

IDS = {spec.task: spec.id for spec in map(cg.load_spec, specs.VALUES) if spec.task and spec.id != "Cadmus-Open-v0"}
VALUES = [task for task in IDS if TASKS[task].form == "value"]
SPLITS = [(task, split) for task in IDS for split in cg.load_spec(IDS[task]).splits]
COUNT = 4000
SIGMAS = 5.0
OPERATORS = ("add", "sub", "mul")
BITWISE = ("and", "or", "xor")
STACK_WORDS = ("dup", "drop", "swap", "over", "rot", "pick")


def everywhere(task: str, **parameters: Any) -> Spec:
    """Return a spec of a task with one split, "all", of all problems."""
    spec = cg.load_spec(IDS[task])
    return dataclasses.replace(spec, splits={"all": Split()}, parameters=spec.parameters | parameters)


def prompts(spec: Spec | str, split: str, count: int, seed: int = 0) -> list[Names]:
    rows, lengths = cg.Stream(spec, split).prompts([seed] * count, range(count))
    return [[VOCABULARY[token] for token in row[:length]] for row, length in zip(rows, lengths, strict=True)]


def words(names: Names) -> Iterator[str | int]:
    """Return tokens with each literal as one integer, including a `neg` after it, and without `,`."""
    for word in re.sub(r"(?<=\d) neg\b", "n", re.sub(r"(?<=\d) (?=\d)", "", " ".join(names))).split():
        if word != ",":
            yield (-int(word[:-1]) if word.endswith("n") else int(word)) if word[0].isdigit() else word


def close_to(seen: float, count: float, chance: float) -> bool:
    return abs(seen - count * chance) <= SIGMAS * math.sqrt(count * chance * (1 - chance)) + 1


def by_weight(seen: Counter[Any], weights: dict[Any, int]) -> bool:
    """Whether outcomes occur as often as their weights say, and no others occur."""
    total = sum(weights.values())
    return seen.keys() <= weights.keys() and all(
        close_to(seen[name], seen.total(), weight / total) for name, weight in weights.items()
    )


# Keys: one hash for one expression.


def key_of(names: Names) -> int | None:
    """Return the key of a prompt, or None if it does not leave one value."""
    program = np.zeros(len(names) + 1, np.uint8)
    program[:-1] = [ID[name] for name in names]
    outcome, depth, key = identify(
        program, len(names), np.zeros(MARKS, np.int64), np.zeros(WORK, np.int64), scratch(program.size)
    )
    return int(key) if outcome == RAN and depth == 1 else None


def check_keys(found: list[Names]) -> int:
    """Compare keys with expressions; return how many texts share a problem with an earlier one."""
    texts = {" ".join(names): names for names in found}
    keys = {text: key_of(names) for text, names in texts.items()}
    expressions = {text: symbolic.expression(names) for text, names in texts.items()}
    pairs = {(keys[text], repr(expressions[text])) for text in texts}
    assert len(pairs) == len({key for key, _ in pairs}) == len({expression for _, expression in pairs})
    return len(texts) - len(pairs)


FEW: dict[str, dict[str, Any]] = {  # problems that come up again in other words
    "arith": {"operands": [0, 3]},
    "logic": {"operands": [2, 3], "bits": {"1": 1}, "terms": {"1": 1}, "joined": {"0": 1}},
    "stack": {"operands": [2, 4]},
    "register": {"operands": [2, 4], "operations": {"2": 1, "3": 1}},
    "branch": {"operands": [2, 4], "depths": {"1": 1}, "distance": 1},
    "loop": {"operands": [2, 5], "turns": [1, 3], "items": {"1": 1}},
    "function": {"operands": [2, 3], "levels": [1, 2], "doubles": [2, 3]},
}


@pytest.mark.parametrize("task", VALUES)
def test_prompts_have_the_same_key_if_they_compute_the_same(task: str) -> None:
    assert check_keys(prompts(everywhere(task, **FEW[task]), "all", 1500)) > 0
    check_keys(prompts(IDS[task], "train", 500))


def test_families_share_problems() -> None:
    found = [names for task in VALUES for names in prompts(everywhere(task, **FEW[task]), "all", 600)]
    alone = sum(check_keys(found[start : start + 600]) for start in range(0, len(found), 600))
    assert check_keys(found) > alone + 50


def anything(chooser: random.Random) -> Names:
    """Return random instructions without blocks that leave one value."""
    names: Names = []
    depth = 0
    set_registers: set[str] = set()
    while depth != 1 or len(names) < 2 or chooser.random() < 0.6:
        effects = {name: len(effect(*range(1, count + 1))) - count for name, (count, effect) in naive.EFFECTS.items()}
        able = [name for name, (count, _) in naive.EFFECTS.items() if count <= depth and depth + effects[name] > 0]
        able += ["literal"] * (1 + 6 * (depth < 2)) + ["pick"] * (depth > 0)
        able += ["a!", "b!"] * (depth > 1) + [f"{name}@" for name in set_registers]
        name = chooser.choice(able)
        if name == "literal":
            names += [","] * (names[-1:] != [] and names[-1] in DIGITS) + list(str(chooser.choice((0, 1, 2, 10))))
            depth += 1
        elif name == "pick":
            names += [","] * (names[-1] in DIGITS) + [str(chooser.randrange(depth)), "pick"]
            depth += 1
        else:
            if name.endswith("!"):
                set_registers.add(name[0])
            names.append(name)
            depth += {"a!": -1, "b!": -1, "a@": 1, "b@": 1}.get(name, 0) + effects.get(name, 0)
        if len(names) > 12:
            names, depth, set_registers = [], 0, set()
    return names


def test_keys_agree_with_expressions_for_random_straight_lines() -> None:
    chooser = random.Random(3)
    found = [names for names in (anything(chooser) for _ in range(8000)) if key_of(names) is not None]
    assert {name for names in found for name in names} >= {*naive.EFFECTS, "pick", "a!", "a@", "b!", "b@"}
    assert check_keys(found) > 500


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("3 4 add", "4 3 add", True),
        ("3 4 swap add", "4 3 add", True),
        ("3 4 sub", "4 3 sub", False),
        ("3 4 lt", "4 3 gt", True),
        ("3 4 le", "4 3 gt", False),
        ("3 4 le", "4 3 ge", True),
        ("3 inc", "1 3 add", True),
        ("3 dec", "3 1 sub", True),
        ("-3 4 add", "4 3 neg add", True),
        ("3 1 add neg", "-4", False),
        ("2 2 add", "2 2 mul", False),
        ("2 3 over drop add", "3 2 add", True),
        ("7 a! 2 b! a@ b@ sub", "7 2 sub", True),
        ("a@ 5 add", "0 5 add", True),
        ("5 2 times 3 add next", "5 3 add 3 add", True),
        ("5 2 times i add next", "0 5 add 1 add", True),
        ("1 if 2 3 add else 4 fi", "3 2 add", True),
        ("3 4 lt if 2 3 add else 4 fi", "3 2 add", True),
        ("def 2 mul ret 5 call 1 add", "5 2 mul inc", True),
        ("1 2 add 3 add", "1 2 3 add add", False),
        ("1 2 3 , 4 add", "123 4 add", False),
        ("0 3 pick", "0", False),
    ],
)
def test_keys_by_hand(one: str, other: str, same: bool) -> None:
    keys = [key_of(cg.decode(cg.assemble(text)).split()) for text in (one, other)]
    assert (keys[0] == keys[1]) == same


# Worked steps again, from the steps of the naive interpreter.


@pytest.mark.parametrize("limit", [3, 12, 30, 400])
@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("task", IDS)
def test_worked_steps_follow_the_style_and_are_left_out_if_too_long(task: str, style: str, limit: int) -> None:
    episode = {"max_tokens": 500, "thought_tokens": 0}
    spec = cg.load_spec(IDS[task], thoughts={"share": 1.0, "style": style, "limit": limit}, episode=episode)
    lengths = []
    for split in ("train", next(name for name in spec.splits if name not in ("train", "test"))):
        programs, prompt_lengths = cg.Stream(spec, split, seed=5).batch(0, 60)
        for program, length in zip(programs, prompt_lengths.tolist(), strict=True):
            text = [VOCABULARY[token] for token in program[program > 0]]
            thought = thought_of(text[:length], style, limit)
            assert text == completed(text[:length], thought, spec.family.form)
            lengths.append(len(thought))
    if style == "none" or (task == "compare" and style not in ("products", "digits")):
        assert max(lengths) == 0
    elif limit == 400 and style != "values":
        assert max(lengths) > 0
    elif limit == 12 and task != "compare" and style != "values":
        assert min(lengths) == 0  # some were too long


def test_a_thought_of_the_limit_is_written_and_a_longer_one_is_not() -> None:
    at_the_limit = 0
    for task in VALUES:
        whole = {"share": 1.0, "style": "trace", "limit": 400}
        spec = cg.load_spec(IDS[task], thoughts=whole, episode={"max_tokens": 500})
        for names in prompts(spec, "train", 40, seed=6):
            size = len(thought_of(names, "trace", 400))
            for limit, written in ((size, size), (size - 1, 0)):
                assert len(thought_of(names, "trace", limit)) == written
                assert think_length(names, limit) == written
                at_the_limit += written > 0
    assert at_the_limit > 200


def think_length(names: Names, limit: int) -> int:
    program = np.zeros(len(names) + 1, np.uint8)
    program[:-1] = [ID[name] for name in names]
    marks = np.zeros(MARKS, np.int64)
    marks[PROMPT] = len(names)
    thought, work = np.zeros(limit + SLACK, np.uint8), np.zeros(WORK, np.int64)
    return int(think(program, marks, TRACE, limit, thought, work, scratch(program.size)))


@pytest.mark.parametrize("task", IDS)
def test_worked_steps_have_the_requested_share(task: str) -> None:
    thoughts = {"share": 0.3, "style": "stack", "limit": 400}
    spec = cg.load_spec(IDS[task], thoughts=thoughts, episode={"max_tokens": 500})
    programs, _ = cg.Stream(spec).batch(0, COUNT)
    whole, _ = cg.Stream(cg.load_spec(spec, thoughts={"share": 1.0})).batch(0, COUNT)
    possible = (whole == ID["("]).any(axis=1).mean()
    assert close_to((programs == ID["("]).any(axis=1).sum(), COUNT, 0.3 * possible) or possible == 0
    assert (possible == 0) == (task == "compare")


# What a family may show. Each reader takes a prompt apart and returns what kind of program it is.


def read_arith(names: Names) -> tuple[Any, ...]:
    return (sum(name in OPERATORS for name in names),)


def read_logic(names: Names) -> tuple[Any, ...]:
    seen = [*words(names)]
    first = next(k for k, word in enumerate(seen) if word in RELATIONS)
    bits = sum(word in BITWISE for word in seen[:first])
    terms = seen.count("mul")
    joined = sum(word in RELATIONS for word in seen) - terms
    comparison = f"\\d+ \\d+ ({'|'.join(RELATIONS)})( not)?"
    term = f"{comparison}( {comparison} ({'|'.join(BITWISE)}))? \\d+ mul (add|sub)"
    assert re.fullmatch(f"{term}( {term})*", " ".join(map(str, seen[first - 2 :])))
    assert sum(word in BITWISE for word in seen[first:]) == joined
    return bits, terms, joined


def read_stack(names: Names) -> tuple[Any, ...]:
    seen = [*words(names)]
    literals = sum(isinstance(word, int) and behind != "pick" for word, behind in pairwise(seen))
    return literals, sum(word in STACK_WORDS for word in seen)


def read_register(names: Names) -> tuple[Any, ...]:
    seen = [*words(names)]
    assert re.fullmatch(
        r"\d+ [ab]!( ([ab]@ \d+|\d+ [ab]@|[ab]@ [ab]@) (add|sub|mul)( [ab]!)?)+", " ".join(map(str, seen))
    )
    return (sum(word in OPERATORS for word in seen),)


def read_branch(names: Names) -> tuple[Any, ...]:
    depth, deepest = 0, []
    for name in names:
        if name == "if" and depth == 0:
            deepest.append(0)
        depth += (name == "if") - (name == "fi")
        if depth > 0:
            deepest[-1] = max(deepest[-1], depth)
    return tuple(deepest)


def read_loop(names: Names) -> tuple[Any, ...]:
    turns = sum(step.token in ("next", "until") for step in story(names))
    items = sum(name in OPERATORS for name in names)
    return ("times" if "times" in names else "until"), turns, items


def read_function(names: Names) -> tuple[Any, ...]:
    seen = [*words(names)]
    calls = sum(step.token == "call" for step in story(names))
    if "if" not in seen:
        assert calls == 2
        return "plain", 0
    level = seen[seen.index("ret") + 1]
    kind = {"gt": "double", "dec": "count", "dup": "fold"}[str(seen[3] if seen[3] != "if" else seen[4])]
    if kind != "double":
        assert calls == int(level) + 1
    return kind, level


READERS: dict[str, Any] = {
    "arith": read_arith,
    "logic": read_logic,
    "stack": read_stack,
    "register": read_register,
    "branch": read_branch,
    "loop": read_loop,
    "function": read_function,
}


@pytest.mark.parametrize("task", VALUES)
def test_splits_of_other_kinds_share_no_kind_with_train(task: str) -> None:
    spec = cg.load_spec(IDS[task])
    trained = {READERS[task](names) for names in prompts(spec, "train", COUNT // 2)}
    assert trained == {READERS[task](names) for names in prompts(spec, "test", COUNT // 2)}
    for split in spec.splits.keys() - {"train", "test", "wide", "large"}:  # those two differ in operands
        if (task, split) != ("arith", "pairs"):
            assert trained.isdisjoint(READERS[task](names) for names in prompts(spec, split, COUNT // 4)), split


@pytest.mark.parametrize(("task", "split"), [case for case in SPLITS if case[0] in VALUES])
def test_values_stay_within_the_limit_and_operands_within_their_range(task: str, split: str) -> None:
    spec = cg.load_spec(IDS[task])
    parameters = spec.split_parameters(split)
    limit = getattr(parameters, "limit", 2**31)
    for names in prompts(spec, split, 500, seed=3):
        for step in story(names):
            if step.token in OPERATORS:
                assert abs(step.stack[-1]) <= limit, names
        if task in ("arith", "register", "logic"):
            written = [word for word in words(names) if isinstance(word, int)]
            assert min(written) >= parameters.operands[0]
            assert max(written) <= parameters.operands[1] + (task == "logic")


# Held-out pairs.


def pairs_of(task: str, names: Names) -> set[str]:
    """Return pairs of consecutive operators, or of stack words with nothing but an index between them."""
    if task == "arith":
        return {" ".join(both) for both in pairwise(name for name in names if name in OPERATORS)}
    seen = [word for word, behind in pairwise([*words(names), ""]) if not (isinstance(word, int) and behind == "pick")]
    return {f"{one} {other}" for one, other in pairwise(seen) if one in STACK_WORDS and other in STACK_WORDS}


@pytest.mark.parametrize("task", ["arith", "stack"])
def test_every_program_of_the_held_split_shows_a_held_out_pair_and_no_other_split_does(task: str) -> None:
    spec = cg.load_spec(IDS[task])
    held = {*spec.split_parameters("pairs").held_out}
    assert held
    shown: set[str] = set()
    for split in spec.splits.keys() - {"pairs"}:
        for names in prompts(spec, split, COUNT, seed=2):
            found = pairs_of(task, names)
            assert not found & held, (split, names)
            shown |= found
    assert {word for pair in held for word in pair.split()} <= {word for pair in shown for word in pair.split()}
    found = Counter(pair for names in prompts(spec, "pairs", COUNT) for pair in pairs_of(task, names) & held)
    assert found.keys() == held
    assert all(pairs_of(task, names) & held for names in prompts(spec, "pairs", COUNT))


# Shares and weights.


def test_logic_follows_its_weights() -> None:
    weights: dict[str, Any] = {
        "operands": [5, 20],
        "bits": {"1": 3, "2": 1},
        "terms": {"2": 1, "3": 2},
        "joined": {"0": 1, "2": 3},
        "bitwise": {"and": 1, "or": 2, "xor": 4},
        "relations": {"eq": 1, "ne": 2, "lt": 1, "le": 3, "gt": 1, "ge": 2},
    }
    found = prompts(everywhere("logic", **weights, negated=0.4), "all", COUNT)
    kinds = [read_logic(names) for names in found]
    for place, name in enumerate(("bits", "terms", "joined")):
        assert by_weight(Counter(str(kind[place]) for kind in kinds), weights[name]), name
    assert by_weight(Counter(name for names in found for name in names if name in BITWISE), weights["bitwise"])
    relations = Counter(name for names in found for name in names if name in RELATIONS)
    assert by_weight(relations, weights["relations"])
    assert close_to(sum(names.count("not") for names in found), relations.total(), 0.4)
    equal, ties = 0, 0
    for names in found:
        seen = [*words(names)]
        for x, y, word in zip(seen, seen[1:], seen[2:], strict=False):
            if word in ("eq", "ne"):
                assert y - x in (0, 1)
                equal, ties = equal + 1, ties + (x == y)
    assert close_to(ties, equal, 0.5)
    assert close_to(sum(names[-1] == "add" for names in found), COUNT, 0.5)


def test_stack_follows_its_sizes() -> None:
    weights: dict[str, Any] = {"literals": {"2": 1, "4": 3}, "moves": {"2": 2, "3": 1}}
    found = prompts(everywhere("stack", **weights), "all", COUNT)
    kinds = [read_stack(names) for names in found]
    assert by_weight(Counter(str(literals) for literals, _ in kinds), weights["literals"])
    assert by_weight(Counter(str(moves) for _, moves in kinds), weights["moves"])
    assert {name for names in found for name in names if name in STACK_WORDS} == {*STACK_WORDS}
    few = prompts(everywhere("stack", stack_words={"swap": 1, "dup": 1}), "all", 500)
    assert {name for names in few for name in names if name in STACK_WORDS} == {"swap", "dup"}


def test_register_follows_its_weights() -> None:
    weights: dict[str, Any] = {"operations": {"2": 1, "3": 2, "5": 1}}
    found = prompts(everywhere("register", **weights, operands=[2, 9], limit=10**6), "all", COUNT)
    assert by_weight(Counter(str(read_register(names)[0]) for names in found), weights["operations"])
    first = Counter(next(name for name in names if name.endswith("!")) for names in found)
    assert by_weight(first, {"a!": 1, "b!": 1})
    partners: Counter[str] = Counter()  # of first operations, where the other register is not set
    for names in found:
        seen = [*words(names)]
        partners["literal" if any(isinstance(word, int) for word in seen[2:4]) else "same"] += 1
    assert by_weight(partners, {"literal": 2, "same": 1})


def arms(tree: tuple[naive.Node, ...]) -> Iterator[tuple[naive.Node, ...]]:
    for node in tree:
        if node.name == "if":
            assert node.other is not None
            yield node.inner
            yield node.other
            yield from arms(node.inner)
            yield from arms(node.other)


def test_branch_follows_its_weights_and_computes_in_both_arms() -> None:
    relations = {"lt": 3, "ge": 1}
    depths = {"1": 1, "2": 2, "3": 1}
    blocks = {"1": 2, "2": 1}
    spec = everywhere("branch", relations=relations, blocks=blocks, depths=depths, live=0.3, distance=4)
    found = prompts(spec, "all", COUNT)
    kinds = [read_branch(names) for names in found]
    assert by_weight(Counter(str(len(kind)) for kind in kinds), blocks)
    assert by_weight(Counter(str(depth) for kind in kinds for depth in kind), depths)
    seen_relations = Counter(name for names in found for name in names if name in RELATIONS)
    assert by_weight(seen_relations, relations)
    assert close_to(sum(names.count("dup") for names in found), seen_relations.total(), 0.3)
    gaps: Counter[int] = Counter()
    taken: Counter[str] = Counter()
    for names in found[:1500]:
        for arm in arms(naive.parse([*names, "end"]).body):
            operators = [node.name for node in arm if node.name in OPERATORS]
            assert operators if all(node.name != "if" for node in arm) else not operators
        before = ()
        for step in story(names):
            if step.token in RELATIONS and "dup" in names:
                value, bound = before[-2:]
                if len(before) == 3 and before[0] == value and abs(value - bound) <= 4:
                    gaps[bound - value] += 1
            taken[step.token] += 1
            before = step.stack
    assert gaps.keys() == {*range(-4, 5)}
    assert taken["else"] > 100  # arms of `if` were run to their end, and others
    assert taken["if"] > taken["else"]


def arm_values(tree: tuple[naive.Node, ...], value: int) -> Iterator[int]:
    """Return the results of all operations in conditions, in arms that are taken and in those that are not."""
    run = naive.Run(naive.Program(naive.Header(), (), None, []), [])
    run.stack = [value]
    for node in tree:
        if node.name == "if":
            assert node.other is not None
            entry, _ = run.stack
            yield from arm_values(node.inner, entry)
            yield from arm_values(node.other, entry)
            run.stack = naive.Run(naive.Program(naive.Header(), (node,), None, []), run.stack).go().stack
            continue
        run.execute(node)
        if node.name in OPERATORS:
            yield run.stack[-1]


def test_arms_not_taken_stay_within_the_limit() -> None:
    spec = everywhere("branch", limit=150)
    largest = 0
    for names in prompts(spec, "all", 1500):
        body = naive.parse([*names, "end"]).body
        start = next(k for k, node in enumerate(body) if node.name in OPERATORS)
        run = naive.Run(naive.Program(naive.Header(), body[: start + 1], None, []), []).go()
        found = [*arm_values(body[start + 1 :], run.stack[0])]
        assert len(found) >= 6
        largest = max(largest, *map(abs, found))
    assert 140 < largest <= 150


def test_loop_follows_its_weights() -> None:
    weights: dict[str, Any] = {"kinds": {"times": 3, "until": 1}, "items": {"1": 1, "2": 3}}
    spec = everywhere("loop", **weights, turns=[2, 6], factors=[2, 4], indexed=0.4, limit=10**8)
    found = prompts(spec, "all", COUNT)
    kinds = [read_loop(names) for names in found]
    assert by_weight(Counter(kind for kind, _, _ in kinds), weights["kinds"])
    assert by_weight(Counter(str(items) for kind, _, items in kinds if kind == "times"), weights["items"])
    for kind in ("times", "until"):
        assert by_weight(Counter(turns for one, turns, _ in kinds if one == kind), dict.fromkeys(range(2, 7), 1)), kind
    operators = Counter(name for names in found for name in names if name in OPERATORS and "times" in names)
    sums = operators["add"] + operators["sub"]
    assert close_to(sum(names.count("i") for names in found), sums, 0.4)
    factors = {x for names in found for x, word in pairwise(words(names)) if word == "mul"}
    assert factors == {2, 3, 4}
    assert {names[names.index("until") - 1] for names in found if "until" in names} == {"le", "ge"}


def test_function_follows_its_weights() -> None:
    kinds = {"plain": 1, "count": 2, "fold": 3, "double": 4}
    found = [
        read_function(names)
        for names in prompts(everywhere("function", kinds=kinds, levels=[1, 5], doubles=[2, 6]), "all", COUNT)
    ]
    assert by_weight(Counter(kind for kind, _ in found), kinds)
    for kind, levels in (("count", range(1, 6)), ("fold", range(1, 6)), ("double", range(2, 7))):
        assert by_weight(Counter(level for one, level in found if one == kind), dict.fromkeys(levels, 1)), kind


# No answer comes up too often.


@pytest.mark.parametrize(("task", "split"), SPLITS)
def test_no_single_answer_is_frequent(task: str, split: str) -> None:
    spec = cg.load_spec(IDS[task], thoughts={"share": 0.0})
    programs, lengths = cg.Stream(spec, split, seed=12).batch(0, 20_000)
    answers = Counter(
        row[length : row.tolist().index(op.END)].tobytes() for row, length in zip(programs, lengths, strict=True)
    )
    ceiling = 0.05 if spec.family.form == "value" else 0.55
    assert answers.most_common(1)[0][1] <= ceiling * 20_000, answers.most_common(3)


# Parameters at their ends.

EXTREMES: list[tuple[str, dict[str, Any]]] = [
    ("logic", {"operands": [0, 0], "bits": {"8": 1}, "terms": {"8": 1}, "joined": {"8": 1}, "negated": 1.0}),
    ("logic", {"operands": [0, 999_999], "bits": {"8": 1}, "terms": {"8": 1}, "joined": {"8": 1}, "negated": 0.5}),
    ("logic", {"operands": [999_999, 999_999], "relations": {"ne": 1}, "bitwise": {"xor": 1}, "negated": 0.0}),
    ("stack", {"operands": [0, 1], "limit": 1}),
    ("stack", {"operands": [0, 999_999], "limit": 2147483647, "literals": {"6": 1}, "moves": {"6": 1}}),
    (
        "stack",
        {"operands": [2, 3], "limit": 3, "literals": {"2": 1}, "moves": {"6": 1}, "stack_words": {"dup": 1, "swap": 9}},
    ),
    ("stack", {"literals": {"6": 1}, "moves": {"6": 1}, "stack_words": {"pick": 1, "drop": 1, "rot": 1}}),
    (
        "stack",
        {"held_out": ["drop drop", "pick drop", "rot rot"], "pool": "held", "literals": {"4": 1}, "moves": {"2": 1}},
    ),
    ("register", {"operands": [0, 0], "limit": 0, "operations": {"8": 1}}),
    ("register", {"operands": [0, 999_999], "limit": 2147483647, "operations": {"8": 1}}),
    (
        "register",
        {"operands": [7, 7], "limit": 7, "operations": {"8": 1}, "partners": {"literal": 1, "other": 1, "same": 9}},
    ),
    ("branch", {"operands": [0, 0], "limit": 0, "blocks": {"4": 1}, "depths": {"4": 1}}),
    (
        "branch",
        {"operands": [0, 999_999], "limit": 2147483647, "depths": {"4": 1}, "live": 1.0, "distance": 999_999},
    ),
    ("branch", {"operands": [5, 5], "limit": 5, "depths": {"4": 1}, "live": 0.0, "distance": 1}),
    ("loop", {"operands": [1, 1], "turns": [1, 1], "items": {"4": 1}, "limit": 5, "indexed": 1.0}),
    ("loop", {"operands": [1, 9], "turns": [64, 64], "items": {"4": 1}, "limit": 2147483647, "kinds": {"times": 1}}),
    ("loop", {"operands": [1, 999_999], "turns": [1, 34], "items": {"4": 1}, "limit": 2147483647}),
    ("loop", {"operands": [999_999, 999_999], "factors": [999, 999], "turns": [47, 47], "limit": 2147483647}),
    ("loop", {"kinds": {"until": 1}, "turns": [64, 64], "operands": [1, 1], "factors": [2, 999], "limit": 2147483647}),
    ("function", {"operands": [0, 0], "levels": [48, 48], "doubles": [8, 8], "limit": 1176, "factors": [2, 2]}),
    ("function", {"operands": [0, 9999], "levels": [1, 48], "doubles": [2, 8], "limit": 2**31 - 1, "factors": [2, 99]}),
    ("function", {"operands": [9999, 9999], "levels": [48, 48], "doubles": [8, 8], "limit": 2147483647}),
    ("function", {"operands": [1, 1], "factors": [99, 99], "levels": [1, 1], "doubles": [2, 2], "limit": 9901}),
]


@pytest.mark.parametrize(("task", "parameters"), EXTREMES, ids=str)
def test_boundary_parameters_give_true_programs(task: str, parameters: dict[str, Any]) -> None:
    thoughts = {"share": 1.0, "style": "stack", "limit": 200}
    spec = cg.load_spec(everywhere(task, **parameters), thoughts=thoughts, episode={"max_tokens": 300})
    stream = cg.Stream(spec, "all")
    programs, lengths = stream.batch(0, 1500)
    assert Counter(cg.run_batch(programs)[0].tolist()) == {0: 1500}
    assert lengths.max() <= stream.prompt_room
    assert ((programs != 0).sum(axis=1) - lengths).max() <= spec.completion_room
    limit = getattr(spec.split_parameters("all"), "limit", 2**31)
    for program, length in zip(programs[:60], lengths[:60].tolist(), strict=True):
        names = [VOCABULARY[token] for token in program[program > 0]]
        assert names == completed(names[:length], thought_of(names[:length], "stack", 200), "value")
        assert all(abs(step.stack[-1]) <= limit for step in story(names[:length]) if step.token in OPERATORS)
