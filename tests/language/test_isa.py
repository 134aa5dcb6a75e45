"""The table of tokens, the two text forms of a program, and the page that describes the language."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import product
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from support import programs

import cadmus_gym as cg
from cadmus_gym.language import isa, notation
from cadmus_gym.streams.problems import splits_of

PAGE = Path(cg.__file__).parent / "LANGUAGE.md"
TOKENS = """
<pad> <bos> end
case to do use avoid within exactly
,
( )
0 1 2 3 4 5 6 7 8 9
add sub mul div mod neg abs min max inc dec
eq ne lt le gt ge
and or not xor
dup drop swap over rot pick
a! a@ b! b@
if else fi times next i begin until
def ret call
"""

property_test = settings(deadline=None, database=None, max_examples=300)
ids = st.lists(st.integers(0, 64), max_size=40)
# Mostly what the notation for people treats in its own way: numbers, signs, commas and headers.
notation_names = st.lists(
    st.sampled_from(("1", "0", "7", "neg", ",", ",", "case", "to", "do", "use", "within", "<bos>", "add", "end")),
    max_size=14,
)


# The table.


def test_the_65_tokens_and_their_ids() -> None:
    assert list(cg.VOCABULARY) == TOKENS.split()
    assert len(set(cg.VOCABULARY)) == 65
    assert [isa.ID[name] for name in TOKENS.split()] == list(range(65))
    assert [(x.id, x.name) for x in isa.INSTRUCTIONS] == list(enumerate(TOKENS.split()))
    assert (isa.PAD, isa.BOS, isa.END, isa.ZERO, isa.NINE) == (0, 1, 2, 13, 22)


def test_groups_match_the_language_page() -> None:
    groups: dict[str, list[str]] = {}
    for instruction in isa.INSTRUCTIONS:
        groups.setdefault(instruction.group, []).append(instruction.name)
    assert [" ".join(names) for names in groups.values()] == TOKENS.strip().splitlines()
    names = "frame header separator thought digit arithmetic comparison logic stack register control function"
    assert " ".join(groups) == names


def test_instructions_cannot_be_changed() -> None:
    assert isinstance(cg.VOCABULARY, tuple)
    assert isinstance(isa.INSTRUCTIONS, tuple)
    with pytest.raises(AttributeError):
        isa.INSTRUCTIONS[0].pops = 1  # type: ignore[misc]


# Names and ids.


def test_encode_and_decode_by_hand() -> None:
    tokens = cg.encode("1 2 , 7 add 1 9 eq end")
    assert tokens.dtype == np.uint8
    assert tokens.tolist() == [14, 15, 10, 20, 23, 14, 22, 34, 2]
    assert cg.decode(tokens) == "1 2 , 7 add 1 9 eq end"
    assert cg.decode([64, 0, 1]) == "call <pad> <bos>"
    assert cg.encode("").shape == (0,)
    assert cg.encode("").dtype == np.uint8
    assert cg.decode([]) == ""


def test_any_white_space_separates_words() -> None:
    assert cg.encode("\t1 \n\n 2\u00a0add\r\n end ").tolist() == cg.encode("1 2 add end").tolist()
    assert cg.assemble("\t12 \n\n 2\u00a0add\r\n end ").tolist() == cg.encode("1 2 , 2 add end").tolist()


@pytest.mark.parametrize("name", TOKENS.split())
def test_each_token_in_each_form(name: str) -> None:
    token = isa.ID[name]
    assert cg.encode(name).tolist() == [token]
    assert cg.assemble(name).tolist() == [token]
    assert cg.decode([token]) == name
    assert cg.disassemble([token]) == name


@property_test
@given(ids)
def test_encode_undoes_decode(tokens: list[int]) -> None:
    text = cg.decode(tokens)
    assert cg.encode(text).tolist() == tokens
    assert text.split(" ") == ([cg.VOCABULARY[token] for token in tokens] or [""])
    assert cg.decode(np.array(tokens, np.int32)) == text


def test_encode_returns_a_fresh_array() -> None:
    tokens = cg.encode("1 end")
    tokens[0] = 0
    assert cg.encode("1 end").tolist() == [14, 2]


# The notation for people.


@pytest.mark.parametrize(
    ("people", "names"),
    [
        ("12 7 add 19 eq end", "1 2 , 7 add 1 9 eq end"),
        ("-5 3 end", "5 neg 3 end"),
        ("3 -5 end", "3 , 5 neg end"),
        ("-5 -3 add end", "5 neg 3 neg add end"),
        ("007 end", "0 0 7 end"),
        ("-0 end", "0 neg end"),
        ("1 dup 2 end", "1 dup 2 end"),
        ("case 3 -4 to 12 7 case to -1 do add end", "case 3 , 4 neg to 1 2 , 7 case to 1 neg do add end"),
        ("case -3 4 to -1 -2 do 5 end", "case 3 neg , 4 to 1 neg , 2 neg do 5 end"),
        ("<bos> case -3 4 to do 5 end", "<bos> case 3 neg , 4 to do 5 end"),
        ("within 12 use 3 do -3 3 end", "within 1 2 use 3 do 3 neg 3 end"),
        ("12 ( 9 10 ) 4 end", "1 2 ( 9 , 1 0 ) 4 end"),
        ("1 ( ) 2 end", "1 ( ) 2 end"),
    ],
)
def test_notation_by_hand(people: str, names: str) -> None:
    assert cg.decode(cg.assemble(people)) == names
    assert cg.assemble(people).dtype == np.uint8
    assert cg.disassemble(cg.encode(names)) == people


@property_test
@given(ids)
def test_assemble_undoes_disassemble_for_any_tokens(tokens: list[int]) -> None:
    assert cg.assemble(cg.disassemble(tokens)).tolist() == tokens


@property_test
@given(notation_names)
def test_assemble_undoes_disassemble_for_numbers_and_headers(names: list[str]) -> None:
    tokens = cg.encode(" ".join(names))
    assert cg.assemble(cg.disassemble(tokens)).tolist() == tokens.tolist()


def test_assemble_undoes_disassemble_for_all_short_texts() -> None:
    for size in range(5):
        for names in product(("1", "0", "neg", ",", "case", "to", "do", "<bos>"), repeat=size):
            tokens = cg.encode(" ".join(names))
            assert cg.assemble(cg.disassemble(tokens)).tolist() == tokens.tolist(), names


def test_assemble_undoes_disassemble_for_programs() -> None:
    for names in programs.sample(1600, seed=3):
        tokens = cg.encode(" ".join(names))
        assert cg.assemble(cg.disassemble(tokens)).tolist() == tokens.tolist()


@property_test
@given(st.lists(st.integers(-(2**31) + 1, 2**31 - 1), max_size=8), st.lists(st.integers(-99, 99), max_size=8))
def test_numbers_in_the_notation_have_the_values_the_machine_reads(inputs: list[int], more: list[int]) -> None:
    """Consecutive numbers of any sign are consecutive values, in a body and in a case."""
    words = " ".join(map(str, inputs))
    literals = " ".join(map(str, more))
    outcome = cg.run(cg.assemble(f"case {words} to {words} do end"))
    assert (outcome.true, outcome.stack) == (True, tuple(inputs))
    outcome = cg.run(cg.assemble(f"case {words} to do {literals} end"))
    assert outcome.stack == (*inputs, *more)
    assert cg.disassemble(cg.assemble(f"case {words} to do {literals} end")).split() == (
        ["case", *words.split(), "to", "do", *literals.split(), "end"]
    )


# One notation for text.


@pytest.mark.parametrize(
    ("text", "here", "token_text"),
    [
        ("1 2 , 7 add", "1 2 7 add", "12 7 add"),
        ("1 2 , 7 add 1 9 eq end", "1 2 7 add 1 9 eq end", "12 7 add 19 eq end"),
        ("7 , 1 2 add", "7 1 2 add", "7 12 add"),
        ("case 3 , 4 to 1 2 do add end", "case 3 4 to 1 2 do add end", "case 3 4 to 12 do add end"),
        ("avoid , do 1 2 add end", "avoid , do 1 2 add end", "avoid , do 12 add end"),
        ("( 9 , 1 0 ) 4 end", "( 9 1 0 ) 4 end", "( 9 10 ) 4 end"),
        ("5 , 5 eq 1 0", "5 5 eq 1 0", "5 5 eq 10"),
    ],
)
def test_an_ambiguous_text_warns_with_both_readings(text: str, here: str, token_text: str) -> None:
    with pytest.warns(UserWarning, match=r"cadmus_gym\.encode") as warned:
        tokens = notation.as_tokens(text)
    (warning,) = warned
    assert f"`{text}` is read as `{here}`" in str(warning.message)
    assert str(warning.message).endswith(f"it is `{token_text}`")
    assert tokens.tolist() == cg.assemble(here).tolist() == cg.assemble(text).tolist()
    assert cg.encode(text).tolist() == cg.assemble(token_text).tolist()


@pytest.mark.parametrize(
    "text",
    [
        "5 5 sub",  # a prompt of Cadmus-Arith-v0 as people write it
        "1 2 add 3 eq end",
        "12 7 , 1 2 add",  # no token text
        "-1 , 1 2 add",
        "1 , 2 add",  # the same tokens in both
        "case 3 , 4 neg to 1 , 2 do add end",
        "3 neg 4 , 5",
        "use , do 1 end",
        "",
        ",",
    ],
)
def test_other_texts_do_not_warn(text: str) -> None:
    assert notation.as_tokens(text).tolist() == cg.assemble(text).tolist()


@property_test
@given(st.lists(st.sampled_from(["1", "2", "0", ",", "neg", "12", "-3", "case", "to", "do", "add", "end"]), max_size=9))
def test_a_text_is_ambiguous_if_it_has_a_comma_and_two_meanings(words: list[str]) -> None:
    text = " ".join(words)
    two = set(words) <= set(cg.VOCABULARY) and cg.encode(text).tolist() != cg.assemble(text).tolist()
    assert (notation.ambiguity(text) is not None) == (two and "," in words)


def test_the_warning_shows_a_long_text_from_where_its_readings_differ() -> None:
    text = " ".join(["1 ,"] * 500 + ["1 2 add"] * 500)
    message = str(notation.ambiguity(text))
    assert message.startswith("`1 2 add 1 2 add 1 2 add 1 2 add` (from word 1000) is read as `1 2 add")
    assert message.endswith("it is `12 add 12 add 12 add 12 add`")


def reset(env: object, text: object) -> object:
    return env.reset(seed=0, options={"prompt": text})[0]  # type: ignore[attr-defined]


PROMPTS: dict[str, Callable[[str | NDArray[np.uint8]], object]] = {
    "run": cg.run,
    "trace": lambda text: list(cg.trace(text)),
    "decode": cg.decode,
    "disassemble": cg.disassemble,
    "reset": lambda text: reset(gym.make("Cadmus-Arith-v0"), text),
    "reset of a vector": lambda text: reset(cg.CadmusVectorEnv(2, "Cadmus-Arith-v0"), text),
    "reset of a vector, each": lambda text: reset(cg.CadmusVectorEnv(2, "Cadmus-Arith-v0"), [text, text]),
    "splits_of": lambda text: splits_of(cg.load_spec("Cadmus-Arith-v0"), text),
}


@pytest.mark.parametrize("function", PROMPTS.values(), ids=PROMPTS)
def test_text_is_in_the_notation_for_people_everywhere(
    function: Callable[[str | NDArray[np.uint8]], object],
) -> None:
    for text in ("12 7 add", "5 5 sub", "-3 7 mul"):
        assert repr(function(text)) == repr(function(cg.assemble(text)))
    with pytest.warns(UserWarning, match="is read as `1 2 add , 7 add`") as warned:
        function("1 2 add , 7 add")
    assert {warning.filename for warning in warned} == {__file__}  # the line that gave the text


# What is refused.


@pytest.mark.parametrize("word", ["plus", "1.5", "--1", "+1", "-", "ADD", "a", "<eos>", "²", "٣", "1_0", "()"])
def test_unknown_words_are_named_with_their_position(word: str) -> None:
    for function in (cg.encode, cg.assemble):
        with pytest.raises(ValueError, match=rf"word 1, {re.escape(repr(word))}, is not a token"):
            function(f"1 {word} end")


def test_hints() -> None:
    with pytest.raises(ValueError, match=r"similar: .*swap"):
        cg.encode("swpa")
    with pytest.raises(ValueError, match=r"`1 2`.*assemble\(\)"):
        cg.encode("12")
    with pytest.raises(ValueError, match=r"assemble\(\)"):
        cg.encode("1 -5")
    with pytest.raises(ValueError, match="VOCABULARY"):
        cg.assemble("qqqqqqq")


@pytest.mark.parametrize("function", [cg.decode, cg.disassemble, notation.as_tokens])
def test_invalid_ids_are_a_value_error(function) -> None:  # type: ignore[no-untyped-def]
    for bad in ([65], [-1], np.array([256]), np.array([2**40])):
        with pytest.raises(ValueError, match=r"at 0 is not a token"):
            function(bad)
    with pytest.raises(ValueError, match="at 2 is not a token"):
        function([1, 2, 99])
    with pytest.raises(ValueError, match=r"dtype float64$"):
        function([1.0])
    with pytest.raises(ValueError, match=r"use assemble\(\) for text"):
        function(["12 7 add"])
    with pytest.raises(ValueError, match="shape"):
        function([[1, 2]])
    with pytest.raises(ValueError, match="shape"):
        function(7)


def test_ids_of_a_batch_are_named_by_row_and_column() -> None:
    with pytest.raises(ValueError, match=r"65 at \(1, 0\)"):
        notation.check_ids(np.array([[0, 1], [65, 2]]))


def test_as_tokens_copies() -> None:
    tokens = cg.encode("1 end")
    assert notation.as_tokens(tokens) is not tokens
    assert not np.shares_memory(notation.as_tokens(tokens), tokens)
    assert notation.as_tokens("1 end").tolist() == tokens.tolist()


# The page.


def test_the_page_shows_the_table_of_instructions() -> None:
    text = PAGE.read_text(encoding="utf-8")
    parts = text.split("<!-- instructions -->")
    assert len(parts) == 3, "the page wants two markers around the table"
    assert parts[1].strip() == isa.instruction_table(), "the table is stale: paste isa.instruction_table()"


def test_the_table_of_instructions_has_every_field() -> None:
    lines = isa.instruction_table().splitlines()
    assert len(lines) == 2 + 65
    assert lines[2 + 23] == "| 23 | `add` | arithmetic | 2 | 1 | (x y -- x+y) |"
    for line, instruction in zip(lines[2:], isa.INSTRUCTIONS, strict=True):
        for value in vars(instruction).values():
            assert str(value) in line


def test_the_page_names_every_verdict_with_its_id() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for verdict in cg.Verdict:
        assert f"| {int(verdict)} | {verdict.name} |" in text
