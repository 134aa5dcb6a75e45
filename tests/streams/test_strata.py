"""Strata against a count in plain Python over the trace of the machine."""

import numpy as np
import pytest
from support import symbolic
from support.specs import VALUES

import cadmus_gym as cg
from cadmus_gym.evaluation.truth import EVALUATION_SEED, prompts_of
from cadmus_gym.language import isa as op
from cadmus_gym.streams.strata import STRATA, Strata, families_of, strata_of
from cadmus_gym.tasks.facts import held_out

OPERATORS = {*cg.VOCABULARY[cg.VOCABULARY.index("add") : cg.VOCABULARY.index("xor") + 1]}
COMPARISONS = {"eq", "ne", "lt", "le", "gt", "ge"}


def strata_of_texts(*prompts: str) -> Strata:
    rows = [cg.assemble(prompt) for prompt in prompts]
    padded = np.zeros((len(rows), max(map(len, rows))), np.uint8)
    for padded_row, row in zip(padded, rows, strict=True):
        padded_row[: row.size] = row
    return strata_of(padded, np.array([row.size for row in rows]))


def naive_carries(x: int, y: int) -> int:
    """Count carries column by column, as on paper."""
    one, two = sorted((abs(x), abs(y)), reverse=True)
    sign = 1 if (x < 0) == (y < 0) else -1
    count = 0
    for place in range(1, 30):
        # carried out of the lowest columns: what they hold together is no number of so many digits
        kept = one % 10**place + sign * (two % 10**place)
        count += not 0 <= kept < 10**place
    return count


def naive_product(x: int, y: int) -> int:
    factor, digits = str(abs(x)), str(abs(y))
    if len(factor) < len(digits):
        factor, digits = digits, factor
    parts = [int(digit) * 10**place * int(factor) for place, digit in enumerate(reversed(digits))]
    return sum(naive_carries(sum(parts[:k]), part) for k, part in enumerate(parts))


def held_out_facts(prompt: np.ndarray) -> int:
    """Count held-out facts in the expression of a prompt, by the naive interpreter."""
    operations = symbolic.in_expression([cg.VOCABULARY[token] for token in prompt])
    return sum(held_out(cg.VOCABULARY.index(name), *values) for name, *values in operations if len(values) == 2)


def naive(prompt: np.ndarray) -> dict[str, str]:
    before: tuple[int, ...] = ()
    executed, carried, gaps = [], 0, []
    for step in cg.trace(np.append(prompt, np.uint8(op.END))):
        name, sign = cg.VOCABULARY[step.token], step.position and cg.VOCABULARY[prompt[step.position - 1]].isdecimal()
        if name in OPERATORS and not (name == "neg" and sign):
            executed.append(name)
            y = before[-1]
            if name in ("inc", "dec"):
                carried += naive_carries(y, 1 if name == "inc" else -1)
            elif name in ("add", "sub"):
                carried += naive_carries(before[-2], y if name == "add" else -y)
            elif name == "mul":
                carried += naive_product(before[-2], y)
            elif name in COMPARISONS:
                gaps.append(abs(before[-2] - y))
        before = step.stack
    facts = held_out_facts(prompt)
    used = [name for name in cg.VOCABULARY if name in executed]
    gap = min(gaps, default=-1)
    return {
        "operators": " ".join(executed) or "none" if len(executed) <= 2 else f"{{{', '.join(used)}}}",
        "operations": str(len(executed)),
        "held-out facts": str(facts),
        "operations, held-out facts": f"{len(executed)}, {facts}",
        "negative literals": str(sum(word.startswith("-") for word in cg.disassemble(prompt).split())),
        "carries": str(carried),
        "near ties": "none" if gap < 0 else "0" if gap == 0 else "1" if gap == 1 else "2-3" if gap < 4 else "more",
        "answer length": "-" * (before[-1] < 0) + str(len(str(abs(before[-1])))),
    }


@pytest.mark.parametrize("id", VALUES)
def test_strata_agree_with_a_naive_count(id: str) -> None:
    for split in cg.load_spec(id).splits:
        prompts, lengths = prompts_of(id, split, 60, seed=5)
        labels = strata_of(prompts, lengths).labels()
        assert tuple(labels) == STRATA
        for k, (prompt, length) in enumerate(zip(prompts, lengths, strict=True)):
            expected = naive(prompt[:length])
            assert {name: str(of[k]) for name, of in labels.items()} == expected, cg.disassemble(prompt[:length])


def test_by_hand() -> None:
    labels = strata_of_texts(
        "12 7 add",  # 19
        "18 7 add 1 sub",  # 25, then 24
        "99 1 add",  # two carries, and none out of nothing
        "100 1 sub",  # two borrows
        "3 7 sub",  # -4, as 7 - 3
        "61 78 mul",  # 488 + 4270: 488 + 4270 carries once, 80 + 70
        "99 dec inc 99 mul",  # 891 + 8910: 9 + 1, 8 + 9 + 1
        "5 neg 5 sub",  # -10
        "5 6 7",  # nothing executed
        "12 12 lt",
        "12 13 eq 40 42 le and",
        "0 20 times inc next",  # 9 -> 10, 19 -> 20
    ).labels()
    assert labels["carries"].tolist() == ["0", "1", "2", "2", "0", "1", "2", "1", "0", "0", "0", "2"]
    assert labels["operators"].tolist()[:3] == ["add", "add sub", "add"]
    assert labels["operators"].tolist()[6:] == [
        *("{mul, inc, dec}", "sub", "none", "lt", "{eq, le, and}", "{inc}"),
    ]
    assert labels["near ties"].tolist()[-4:] == ["none", "0", "1", "none"]
    assert labels["answer length"].tolist() == ["2", "2", "3", "2", "-1", "4", "4", "-2", "1", "1", "1", "2"]
    assert labels["operations"].tolist()[-1] == "20"
    assert labels["negative literals"].tolist()[6:9] == ["0", "1", "0"]


def test_negative_literals_and_held_out_facts_are_counted_in_a_stream() -> None:
    spec = cg.load_spec("Cadmus-Arith-v0", negative=0.5)
    for split, least in (("train", 0), ("test", 1)):
        prompts, lengths = prompts_of(spec, split, 300)
        found = strata_of(prompts, lengths)
        assert (found.facts >= 1).all() if least else not found.facts.any()
        assert set(found.negatives) >= {0, 1, 2}
    assert set(found.labels()["operations, held-out facts"]) >= {"1, 1", "2, 1", "2, 2"}


def test_families_of_a_mixture_come_from_its_parts() -> None:
    mix = cg.load_spec("Cadmus-Mix-v0")
    prompts, lengths = prompts_of(mix, "test", 2000)
    families = families_of(mix, "test", 2000, EVALUATION_SEED)
    assert set(families) == {part.task for part, _ in mix.parts}
    signs = {"register": ("a!", "b!"), "loop": ("next", "until"), "function": ("def",), "branch": ("if",)}
    for prompt, length, family in zip(prompts, lengths, families, strict=True):
        names = set(cg.decode(prompt[:length]).split())
        if "def" not in names:  # functions branch too
            assert {other for other, words in signs.items() if names & {*words}} == {family} & signs.keys()
        else:
            assert family == "function"
    assert set(families_of(cg.load_spec("Cadmus-Arith-v0"), "test", 5, 0)) == {"arith"}


@pytest.mark.parametrize(
    ("prompt", "verdict"),
    [("1 add", "STACK_UNDERFLOW"), ("1 0 div", "DIVISION_BY_ZERO"), ("case 3 to 9 do 3", "SYNTAX"), ("1 if", "SYNTAX")],
)
def test_a_prompt_that_does_not_run_is_refused(prompt: str, verdict: str) -> None:
    with pytest.raises(ValueError, match=rf"prompt 1, .*{verdict}"):
        strata_of_texts("1", prompt)
