"""Forms: masks allow exactly what a second, plain definition allows, and always leave a way to finish."""

from __future__ import annotations

import contextlib
import random
import re
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.automata import (
    BODY,
    DIGITS,
    WORD_LISTS,
    Names,
    Viable,
    allowed,
    automaton,
    is_read,
    push,
    walk,
)

import cadmus_gym as cg
from cadmus_gym.language import forms
from cadmus_gym.language.forms import ENDIANS, FORMS, Automata, Rules, check_prompt, reverse_digits
from cadmus_gym.language.isa import ID, VOCABULARY

property_test = settings(deadline=None, database=None, suppress_health_check=list(HealthCheck))

# The second definition: a completion is viable if some ending makes it a word of the form within the budgets.
LETTERS = dict.fromkeys(BODY, "*") | dict.fromkeys(DIGITS, "d")
LETTERS |= {"0": "z", "neg": "n", "eq": "=", "call": "c", "not": "!", "(": "(", ")": ")", "end": "."}
THOUGHTS = r"(\([dzn=c!*]*\))*"
GRAMMAR = {
    ("value", "big"): re.compile(THOUGHTS + r"(z|d[dz]*)n?=\."),
    ("value", "little"): re.compile(THOUGHTS + r"(z|[dz]*d)n?=\."),
    ("relation", "big"): re.compile(THOUGHTS + r"!?\."),
    ("relation", "little"): re.compile(THOUGHTS + r"!?\."),
    ("answer", "big"): re.compile(THOUGHTS + r"(!?|(z|d[dz]*)n?=)\."),
    ("answer", "little"): re.compile(THOUGHTS + r"(!?|(z|[dz]*d)n?=)\."),
    ("argument", "big"): re.compile(THOUGHTS + r"(z|d[dz]*)n?c\."),
    ("argument", "little"): re.compile(THOUGHTS + r"(z|[dz]*d)n?c\."),
}
ENDINGS = ["", ".", "=.", "z=.", "d=.", ")z=.", ").", "c.", "zc.", "dc.", ")zc."]


def thought_tokens(letters: str) -> int:
    return sum(len(thought) for thought in re.findall(r"\([^)]*\)?", letters))


def by_grammar(form: str, endian: str, begun: str, max_tokens: int, thought_budget: int) -> Viable:
    """Viability by regular expressions; ``begun`` is the part of the word that the prompt already has."""

    def viable(completion: Names) -> bool:
        letters = begun + "".join(LETTERS.get(name, "?") for name in completion)
        inside = begun.startswith("(")  # tokens of a thought in the prompt do not count
        for ending in ENDINGS:
            word = letters + ending
            spent = thought_tokens(word) - (len(begun) if inside else 0)
            if (
                len(word) - len(begun) <= max_tokens
                and spent <= thought_budget
                and GRAMMAR[form, endian].fullmatch(word)
            ):
                return True
        return False

    return viable


# The part of a completion that a prompt already has: nothing, a literal, a sign, a comparison, an open thought.
BEGINNINGS = {
    "": "",
    "1 2 , 7 add": "",
    "1 2 , 7 add ( 5 ) ( )": "",
    "case 3 to 9 do 3": "d",
    "use mul within 9 case 3 to 9 case 5 neg to 1 5 do": "",
    "<bos> 5 dup": "",
    "1 0": "dz",
    "1 2 , 3": "d",
    "0": "z",
    "1 2 neg": "ddn",
    "1 2 eq": "dd=",
    "7 ( 5 , 5": "(d*d",
    "7 (": "(",
    "7 ( 8 ) 9": "d",
}


@pytest.mark.parametrize("endian", ENDIANS)
@pytest.mark.parametrize("prompt", BEGINNINGS)
def test_value_allows_exactly_its_grammar(prompt: str, endian: str) -> None:
    chooser = random.Random(f"{prompt}{endian}")
    begun = BEGINNINGS[prompt]
    if endian == "little":
        begun = re.sub("[dz]+", lambda run: run[0][::-1], begun)
    shortest = {"": 3, "d": 2, "z": 2, "(": 4}[begun[:1]] - ("=" in begun)
    shortest += endian == "little" and len(begun) > 1 and begun.endswith("z")  # another digit must lead
    for turn in range(12):
        max_tokens = shortest + turn
        budget = {
            "thought_tokens": chooser.randrange(1 if "(" in begun else 0, max_tokens + 1),
            "max_tokens": max_tokens,
        }
        viable = by_grammar("value", endian, begun, max_tokens, budget["thought_tokens"])
        automata = automaton("value", prompt.split(), endian=endian, **budget)
        completion = walk(automata, viable, max_tokens, chooser, ("(", "0", "neg"))
        tokens = [ID[name] for name in completion]
        if endian == "little":
            tokens = reverse_digits(np.array(tokens, np.uint8)).tolist()
        assert is_read(prompt.split() + [VOCABULARY[token] for token in tokens])


# The part of an argument that a prompt already has. What stands in the function is no part of it.
ARGUMENTS = {
    "def 3 mul 4 0 eq ret": "",
    "def 3 mul 4 0 eq ret ( 5 ) ( )": "",
    "case 3 to 9 do def dup ret": "",
    "<bos> def 5 neg 0 eq ret": "",
    "def 7 eq ret 5 dup": "",
    "def 7 eq ret 1 2 eq": "",
    "def 7 eq ret 1 0": "dz",
    "def 7 eq ret 1 2 , 3": "d",
    "def 7 eq ret 0": "z",
    "def 7 eq ret 1 2 neg": "ddn",
    "def 7 eq ret 1 2 call": "ddc",
    "def 7 eq ret ( 5 , 5": "(d*d",
    "def 7 eq ret (": "(",
    "def 7 eq ret ( 8 ) 9": "d",
}


@pytest.mark.parametrize("endian", ENDIANS)
@pytest.mark.parametrize("prompt", ARGUMENTS)
def test_argument_allows_exactly_its_grammar(prompt: str, endian: str) -> None:
    chooser = random.Random(f"{prompt}{endian}")
    begun = ARGUMENTS[prompt]
    if endian == "little":
        begun = re.sub("[dz]+", lambda run: run[0][::-1], begun)
    shortest = {"": 3, "d": 2, "z": 2, "(": 4}[begun[:1]] - ("c" in begun)
    shortest += endian == "little" and len(begun) > 1 and begun.endswith("z")
    for turn in range(12):
        max_tokens = shortest + turn
        thoughts = chooser.randrange(1 if "(" in begun else 0, max_tokens + 1)
        viable = by_grammar("argument", endian, begun, max_tokens, thoughts)
        automata = automaton("argument", prompt.split(), endian=endian, max_tokens=max_tokens, thought_tokens=thoughts)
        completion = walk(automata, viable, max_tokens, chooser, ("(", "0", "neg"))
        tokens = [ID[name] for name in completion]
        if endian == "little":
            tokens = reverse_digits(np.array(tokens, np.uint8)).tolist()
        assert is_read(prompt.split() + [VOCABULARY[token] for token in tokens])


@pytest.mark.parametrize("endian", ENDIANS)
@pytest.mark.parametrize("prompt", ["", "3 4 lt", "3 4 lt not", "3 , 4 ( 1", "case to 1 do 3 , 4 lt", "1 0"])
def test_relation_allows_exactly_its_grammar(prompt: str, endian: str) -> None:
    chooser = random.Random(prompt)
    begun = "!" if prompt.endswith("not") else "(d" if "(" in prompt else ""
    for turn in range(12):
        max_tokens = 1 + len(begun.strip("d!")) + turn
        budget = {"thought_tokens": chooser.randrange(len(begun) // 2, max_tokens + 1), "max_tokens": max_tokens}
        viable = by_grammar("relation", endian, begun, max_tokens, budget["thought_tokens"])
        automata = automaton("relation", prompt.split(), endian=endian, **budget)
        completion = walk(automata, viable, max_tokens, chooser, ("(", "not"))
        assert is_read(prompt.split() + completion)


@pytest.mark.parametrize("endian", ENDIANS)
@pytest.mark.parametrize("prompt", [*(prompt for prompt in BEGINNINGS if "eq" not in prompt), "3 4 lt", "3 4 lt not"])
def test_answer_allows_exactly_either_grammar(prompt: str, endian: str) -> None:
    chooser = random.Random(f"{prompt}{endian}")
    begun = "!" if prompt.endswith("not") else BEGINNINGS.get(prompt, "")
    if endian == "little":
        begun = re.sub("[dz]+", lambda run: run[0][::-1], begun)
    shortest = {"": 1, "!": 1, "d": 2, "z": 2, "(": 2}[begun[:1]]
    shortest += endian == "little" and len(begun) > 1 and begun.endswith("z")
    for turn in range(12):
        max_tokens = shortest + turn
        thought_tokens = chooser.randrange(1 if "(" in begun else 0, max_tokens + 1)
        viable = by_grammar("answer", endian, begun, max_tokens, thought_tokens)
        automata = automaton(
            "answer", prompt.split(), endian=endian, max_tokens=max_tokens, thought_tokens=thought_tokens
        )
        completion = walk(automata, viable, max_tokens, chooser, ("(", "0", "neg", "not", "eq"))
        tokens = [ID[name] for name in completion]
        if endian == "little":
            tokens = reverse_digits(np.array(tokens, np.uint8)).tolist()
        assert is_read(prompt.split() + [VOCABULARY[token] for token in tokens])


@pytest.mark.parametrize("endian", ENDIANS)
@pytest.mark.parametrize("prompt", ["5 5 eq", "5 , 5 eq", "0 , 0 eq", "1 2 , 3 neg eq", "5 ( 1 ) 5 eq", "1 0 , 0 eq"])
def test_answer_reads_a_comparison_of_two_numbers_as_a_question(prompt: str, endian: str) -> None:
    """It is not read as an answer that can only end; the answer's own `eq` is."""
    automata = automaton("answer", prompt.split(), max_tokens=9, thought_tokens=4, endian=endian)
    assert allowed(automata) == {"(", "not", "end", *DIGITS}
    push(automata, "7")
    push(automata, "eq")
    assert allowed(automata) == {"end"}
    for name in ("value", "relation"):
        other = automaton(name, prompt.split(), max_tokens=9, thought_tokens=4, endian=endian)
        assert allowed(other) == ({"end"} if name == "value" else {"(", "not", "end"})


@pytest.mark.parametrize("endian", ENDIANS)
def test_free_allows_everything_until_the_budget_is_spent(endian: str) -> None:
    automata = automaton("free", ["1", "add"], max_tokens=66, endian=endian)
    for name in VOCABULARY:
        assert allowed(automata) == set(VOCABULARY)
        if name != "end":
            push(automata, name)
    push(automata, "1")
    assert not automata.done[0]
    push(automata, "1")
    assert automata.done[0]
    assert allowed(automata) == set()


def test_free_is_done_at_end() -> None:
    automata = automaton("free", ["1"], max_tokens=5)
    push(automata, "end")
    assert automata.done[0]
    assert allowed(automata) == set()


@pytest.mark.parametrize("header", ["use", "use mul", "case 3 to", "within 4 case 3 , 4 to 9"])
def test_free_may_continue_a_header(header: str) -> None:
    assert allowed(automaton("free", header.split(), max_tokens=9)) == set(VOCABULARY)


@property_test
@given(data=st.data())
def test_every_masked_prefix_can_still_be_finished(data: st.DataObject) -> None:
    """Any allowed tokens can be played: no mask is empty before `end`, which always comes within the budget."""
    form = data.draw(st.sampled_from([form for form in FORMS if form != "free"]))
    endian = data.draw(st.sampled_from(ENDIANS))
    max_tokens = data.draw(st.integers(3, 30))
    thought_budget = data.draw(st.integers(0, max_tokens))
    words = WORD_LISTS[data.draw(st.sampled_from(sorted(WORD_LISTS)))] if form == "words" else ()
    options = {"max_tokens": max_tokens, "thought_tokens": thought_budget, "words": words, "endian": endian}
    prompt = ["def", "ret"] * (form == "argument") + ["1", "2", "dup"]
    automata = automaton(form, prompt, **options)
    names: Names = []
    while not automata.done[0]:
        names.append(data.draw(st.sampled_from(sorted(allowed(automata)))))
        push(automata, names[-1])
    assert names[-1] == "end"
    assert thought_tokens("".join(LETTERS.get(name, "?") for name in names)) <= thought_budget
    assert is_read([*prompt, *names])


@pytest.mark.parametrize("thoughts", [0, 1, 2, 3, 5])
def test_thoughts_stay_within_their_budget(thoughts: int) -> None:
    automata = automaton("relation", ["1"], max_tokens=40, thought_tokens=thoughts)
    spent = 0
    while "(" in allowed(automata):
        push(automata, "(")
        spent += 1
        while "dup" in allowed(automata):
            push(automata, "dup")
            spent += 1
        assert allowed(automata) == {")"}
        push(automata, ")")
        spent += 1
    assert spent == (thoughts if thoughts > 1 else 0)


# Side by side


def test_rows_are_independent() -> None:
    chooser = np.random.default_rng(0)
    prompts = ["1 2 , 7 add", "3 ( 4", "", "9 neg", "1 2", "5 eq", "case 3 to 9 do 3"]
    rows = np.zeros((len(prompts), 12), np.uint8)
    lengths = np.array([len(prompt.split()) for prompt in prompts])
    for row, prompt in zip(rows, prompts, strict=True):
        row[: len(prompt.split())] = cg.encode(prompt)
    together = Automata(Rules("value", max_tokens=20, thought_tokens=9), rows, lengths)
    alone = [automaton("value", prompt.split(), max_tokens=20, thought_tokens=9) for prompt in prompts]
    while not together.done.all():
        masks = together.mask()
        np.testing.assert_array_equal(masks, np.concatenate([one.mask() for one in alone]))
        tokens = [int(chooser.choice(np.flatnonzero(mask))) if mask.any() else 23 for mask in masks]
        together.push(np.array(tokens))
        for one, token in zip(alone, tokens, strict=True):
            one.push(np.array([token]))
        np.testing.assert_array_equal(together.done, [one.done[0] for one in alone])


def test_select_keeps_the_given_rows_in_order() -> None:
    rows = np.stack([cg.encode("1 , 2"), cg.encode("3 dup 4"), cg.encode("5 6 neg")])
    automata = Automata(Rules("value", max_tokens=9, thought_tokens=0), rows, np.array([3, 3, 3]))
    before = automata.mask()
    automata.select(np.array([2, 0]))
    np.testing.assert_array_equal(automata.mask(), before[[2, 0]])
    automata.select(np.array([False, True]))
    np.testing.assert_array_equal(automata.mask(), before[[0]])


def test_ended_completions_ignore_further_tokens() -> None:
    automata = automaton("relation", ["1"], max_tokens=9)
    push(automata, "end")
    cells = automata.cells.copy()
    push(automata, "not")
    np.testing.assert_array_equal(automata.cells, cells)


def test_padding_after_a_prompt_is_ignored() -> None:
    rows = np.zeros((1, 9), np.uint8)
    rows[0, :3] = cg.encode("1 2 neg")
    rows[0, 3:] = ID["end"]
    assert allowed(Automata(Rules("value", max_tokens=5, thought_tokens=0), rows, np.array([3]))) == {"eq"}


# Refusals


@pytest.mark.parametrize(
    ("form", "prompt", "max_tokens"),
    [
        ("value", "1 end", 9),
        ("value", "0 1", 9),
        ("value", "1 dup", 2),
        ("value", "1", 1),
        ("value", "(", 3),
        ("relation", "1 (", 1),
        ("value", "use mul", 9),
        ("value", "case 3 to", 9),
        ("argument", "def 7 eq ret 0 1", 9),
        ("argument", "def 7 eq ret", 2),
        ("argument", "def 7 eq ret 1 end", 9),
        ("words", "case 3 to", 9),
        ("words", "1 if 1 if", 2),
        ("words", "1 if " * 17, 90),
        ("free", "end", 9),
    ],
)
def test_a_prompt_that_cannot_finish_within_the_budget_is_a_value_error(
    form: str, prompt: str, max_tokens: int
) -> None:
    words = WORD_LISTS["all control"] if form == "words" else ()
    with pytest.raises(ValueError, match="cannot finish"):
        automaton(form, prompt.split(), max_tokens=max_tokens, words=words)
    with pytest.raises(ValueError, match="cannot finish"):
        check_prompt(cg.encode(prompt), Rules(form, words, max_tokens))


@pytest.mark.parametrize("form", [form for form in FORMS if form != "free"])
@pytest.mark.parametrize(
    "prompt",
    [
        ")",
        "fi",
        "next " * 15,
        "ret " * 60,
        "1 times fi",
        "else",
        "if " * 17 + "fi " * 17,
        "i",
        "call",
        "<pad>",
        "1 <bos>",
        "1 case",
        "do do",
        "def def",
    ],
)
def test_a_prompt_without_a_well_formed_completion_is_a_value_error(form: str, prompt: str) -> None:
    words = WORD_LISTS["all control"] if form == "words" else ()
    with pytest.raises(ValueError, match=r"cannot finish|no completion"):
        check_prompt(cg.encode(prompt), Rules(form, words, 20))


@pytest.mark.parametrize(
    ("prompt", "fits"),
    [("def 7 eq ret", True), ("def 7 eq ret 1 2 neg", True), ("1 2 add", False), ("def 7 eq", False), ("", False)],
)
def test_an_argument_needs_a_function(prompt: str, fits: bool) -> None:
    with contextlib.nullcontext() if fits else pytest.raises(ValueError, match="no completion"):
        check_prompt(cg.encode(prompt), Rules("argument", (), 20))


@pytest.mark.parametrize("endian", ENDIANS)
@pytest.mark.parametrize(
    "prompt",
    [
        "",
        "<bos>",
        "1 2 , 7 add",
        "do",
        "case 3 to 9 do 3",
        "use mul do 3",
        "avoid 0 do 3 dup",
        "exactly 8 case to 1 do 3 , 4 add",
        "within 9 do 3",
        "def dup ret 5 call",
        "1 if 2 else 3 fi",
    ],
)
def test_a_prompt_with_a_well_formed_completion_is_accepted(prompt: str, endian: str) -> None:
    if endian == "little" and prompt[-1:].isdigit():  # more digits would come before its own
        with pytest.raises(ValueError, match="ends inside a literal"):
            check_prompt(cg.encode(prompt), Rules("value", (), 20), endian)
    else:
        check_prompt(cg.encode(prompt), Rules("value", (), 20), endian)


@pytest.mark.parametrize(
    ("form", "prompt", "fits"),
    [
        ("answer", "1 2", False),
        ("relation", "1 2", True),
        ("relation", "1 ( 2", False),
        ("argument", "def 7 eq ret 1 2", False),
        ("argument", "def 7 eq ret 1 2 neg", True),
        ("words", "1 2", False),
        ("words", "1 2 ,", True),
        ("free", "1 2", False),
        ("free", "1 2 if", True),
    ],
)
def test_a_little_endian_prompt_may_not_end_inside_a_literal(form: str, prompt: str, fits: bool) -> None:
    words = ("1", "add") if form == "words" else ()
    tokens = cg.encode(prompt)
    check_prompt(tokens, Rules(form, words, 20), "big")
    with contextlib.nullcontext() if fits else pytest.raises(ValueError, match="ends inside a literal"):
        check_prompt(tokens, Rules(form, words, 20), "little")
    if form == "words":  # where no digit is among them none follows
        check_prompt(cg.encode("1 2"), Rules(form, ("add",), 20), "little")


@pytest.mark.parametrize("prompt", ["fi", ") )", "1 case", "<pad>", "1 2"])
def test_free_accepts_any_prompt_without_end(prompt: str) -> None:
    check_prompt(cg.encode(prompt), Rules("free", (), 1))


@pytest.mark.parametrize("endian", ENDIANS)
def test_an_invalid_token_is_a_value_error(endian: str) -> None:
    for token in (65, 200, -1, 300):
        with pytest.raises(ValueError, match="token id"):
            Automata(Rules("value", max_tokens=9, thought_tokens=0), np.array([[token]]), np.array([1]), endian)
    with pytest.raises(ValueError, match="token id"):
        Automata(Rules("value", max_tokens=9, thought_tokens=0), np.array([[200]], np.uint8), np.array([1]), endian)


@pytest.mark.parametrize(
    ("form", "words", "endian", "said"),
    [
        ("values", (), "big", "known are value, relation, answer, argument, words, free"),
        ("value", (), "middle", "known are big, little"),
        ("value", ("dup",), "big", "'words' needs a list"),
        ("words", (), "big", "'words' needs a list"),
        ("words", ("dup", "end"), "big", "'end' cannot stand"),
        ("words", ("(",), "big", "cannot stand"),
        ("words", ("if",), "big", "`if` and `fi` go together"),
        ("words", ("else", "dup"), "big", "`else` needs `if`"),
    ],
)
def test_an_unknown_form_is_a_value_error(form: str, words: tuple[str, ...], endian: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        forms.table(form, words, endian)


@pytest.mark.parametrize("form", FORMS)
def test_masks_of_ended_completions_allow_nothing(form: str) -> None:
    table = forms.table(form, ("dup",) if form == "words" else ())
    for state in (forms.DONE, forms.DEAD):
        assert not table.masks[forms.MASKS_PER_STATE * state : forms.MASKS_PER_STATE * (state + 1)].any()


# The codec of digits


def mirrored(names: Names) -> Names:
    """Reverse every run of digits, by a regular expression over the text."""
    text = "".join(chr(ID[name] + 1) for name in names)
    digits = f"[{chr(ID['0'] + 1)}-{chr(ID['9'] + 1)}]+"
    return [VOCABULARY[ord(letter) - 1] for letter in re.sub(digits, lambda run: run[0][::-1], text)]


@property_test
@given(names=st.lists(st.one_of(st.sampled_from(DIGITS), st.sampled_from(VOCABULARY)), max_size=40))
def test_reverse_digits_reverses_each_run_and_is_its_own_inverse(names: Names) -> None:
    tokens = np.array([ID[name] for name in names], np.uint8)
    before = tokens.copy()
    reversed_once = reverse_digits(tokens)
    assert [VOCABULARY[token] for token in reversed_once] == mirrored(names)
    np.testing.assert_array_equal(reverse_digits(reversed_once), tokens)
    np.testing.assert_array_equal(tokens, before)
    assert reversed_once.dtype == np.uint8


def shapes() -> Iterator[tuple[int, ...]]:
    yield from [(7,), (3, 7), (2, 3, 7), (0,), (0, 7), (3, 0)]


@pytest.mark.parametrize("shape", list(shapes()))
def test_reverse_digits_works_row_by_row(shape: tuple[int, ...]) -> None:
    tokens = np.random.default_rng(0).integers(10, 26, shape).astype(np.uint8)
    reversed_all = reverse_digits(tokens)
    assert reversed_all.shape == shape
    for row, source in zip(
        reversed_all.reshape(-1, max(shape[-1], 1)), tokens.reshape(-1, max(shape[-1], 1)), strict=True
    ):
        assert [VOCABULARY[token] for token in row] == mirrored([VOCABULARY[token] for token in source])


def test_reverse_digits_accepts_any_memory_layout() -> None:
    tokens = np.random.default_rng(1).integers(10, 26, (8, 6)).astype(np.uint8)
    np.testing.assert_array_equal(reverse_digits(np.asfortranarray(tokens)), reverse_digits(tokens))
    np.testing.assert_array_equal(reverse_digits(tokens[::2, 1:]), reverse_digits(tokens[::2, 1:].copy()))
