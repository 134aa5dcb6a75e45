"""What `run`, `run_batch` and `trace` accept, and the errors for everything else."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from support.programs import padded

import cadmus_gym as cg
from cadmus_gym.language.isa import ID
from cadmus_gym.language.machine import standing


def test_run_accepts_text_and_tokens() -> None:
    text = "12 7 add 19 eq end"
    tokens = cg.encode("1 2 , 7 add 1 9 eq end")
    outcome = cg.run(text)
    assert outcome == cg.Outcome(cg.Verdict.TRUE, True, 1, 1, (1,), 8)
    assert isinstance(outcome.verdict, cg.Verdict)
    assert isinstance(outcome.true, bool)
    for given_as in (
        tokens,
        tokens.tolist(),
        tuple(tokens.tolist()),
        tokens.astype(np.int64),
        tokens.astype(np.int8),
    ):
        assert cg.run(given_as) == outcome
        assert list(cg.trace(given_as)) == list(cg.trace(text))
    wide = np.repeat(tokens, 2)[::2]
    assert not wide.flags.c_contiguous
    assert cg.run(wide) == outcome
    assert cg.run("  12\t\n\n7 add\r\n19\u2003eq  end \n") == outcome


def test_the_empty_program_is_unterminated() -> None:
    for empty in ("", "  \n", [], np.zeros(0, np.uint8)):
        assert cg.run(empty) == cg.Outcome(cg.Verdict.UNTERMINATED, False, 0, 0, (), 0)
        assert list(cg.trace(empty)) == []


def test_traces_of_programs_that_do_not_run_are_empty() -> None:
    for program in ("1", "1 ) end", "avoid 1 do 1 end", "case 1 to 1 do end", "<pad> end"):
        assert list(cg.trace(program)) == []


def test_batch_shapes_and_dtypes() -> None:
    rows = padded([["1", "end"], ["1", "1"], ["2", "end"], ["end", "end"]])
    rows.flags.writeable = False
    for array in (
        rows,
        rows.astype(np.int64),
        rows.astype(np.int8),
        rows.astype(np.uint64),
        np.asfortranarray(rows),
        np.repeat(np.repeat(rows, 2, axis=0), 3, axis=1)[::2, ::3],
        rows[::-1][::-1],
        rows.tolist(),
    ):
        verdicts, passed = cg.run_batch(array)
        assert (verdicts.dtype, verdicts.shape) == (np.uint8, (4,))
        assert (passed.dtype, passed.shape) == (np.int32, (4,))
        assert verdicts.tolist() == [0, 3, 1, 1]
        assert passed.tolist() == [1, 0, 0, 0]
    assert rows.tolist() == padded([["1", "end"], ["1", "1"], ["2", "end"], ["end", "end"]]).tolist()
    for shape in ((0, 0), (0, 9), (3, 0)):
        verdicts, passed = cg.run_batch(np.zeros(shape, np.uint8))
        assert verdicts.tolist() == [3] * shape[0]
        assert passed.tolist() == [0] * shape[0]


def test_rows_are_judged_up_to_their_own_end() -> None:
    """A row without `end`, or with an open block or thought, does not continue into the next row."""
    rows = [
        "1 1 1 1",
        "end 1 1 1",
        "1 ( 1 1",
        ") 1 end 1",
        "1 if 1 1",
        "fi 1 end 1",
        "case 1 to 1",
        "do 1 end 1",
    ]
    verdicts, _ = cg.run_batch(padded([row.split() for row in rows]))
    wanted = [
        "UNTERMINATED",
        "FALSE",
        "UNTERMINATED",
        "SYNTAX",
        "UNTERMINATED",
        "SYNTAX",
        "UNTERMINATED",
        "TRUE",
    ]
    assert [cg.Verdict(int(verdict)).name for verdict in verdicts] == wanted


@pytest.mark.parametrize(
    ("program", "stack"),
    [
        ("", ()),
        ("<bos> 12 7", (12, 7)),
        ("12 7 add ( 1", (19,)),
        ("12 0 div", (12, 0)),
        ("12 3 times dup", (12, 3)),  # up to a block
        ("case 5 6 to 30 case 1 to 1 do 2", (5, 6, 2)),
        ("case 5 6 to 30 do mul end 7", (30,)),
        ("case 5 6", ()),  # an open header
        ("use use do 1", ()),  # invalid headers
        ("case 9999999999 to do 1", ()),
        ("within", ()),
    ],
)
def test_standing_returns_the_stack_of_an_unfinished_program(program: str, stack: tuple[int, ...]) -> None:
    before = np.array([ID["7"]], np.uint8)  # before the program in memory, where nothing may be read
    assert standing(np.concatenate([before, cg.assemble(program)])[1:]) == stack


def test_results_of_one_batch_are_not_changed_by_the_next() -> None:
    first = cg.run_batch(padded([["1", "end"]] * 3))
    cg.run_batch(padded([["2", "end"]] * 3))
    assert first[0].tolist() == [0, 0, 0]
    assert first[1].tolist() == [1, 1, 1]


BAD_PROGRAMS = {
    "id 65": [14, 65, 2],
    "id -1": [14, -1, 2],
    "id 256, which a byte would take for 0": np.array([14, 256, 2]),
    "id 270, which a byte would take for 14": np.array([270, 2]),
    "a large id": np.array([14, 2**40 + 2]),
    "floats": np.array([14.0, 2.0]),
    "booleans": np.array([True, False]),
    "words in a list": ["1", "end"],
    "objects": np.array([14, None], dtype=object),
}


@pytest.mark.parametrize("name", BAD_PROGRAMS)
def test_an_invalid_program_is_a_value_error(name: str) -> None:
    bad = BAD_PROGRAMS[name]
    with pytest.raises(ValueError, match=r"\w+"):
        cg.run(bad)
    with pytest.raises(ValueError, match=r"\w+"):
        list(cg.trace(bad))
    with pytest.raises(ValueError, match=r"\w+"):
        cg.run_batch(np.asarray(bad)[None, :])
    with pytest.raises(ValueError, match=r"\w+"):
        cg.decode(bad)


@pytest.mark.parametrize("id", [65, 66, 128, 255])
def test_invalid_ids_are_found_in_any_memory_layout(id: int) -> None:
    rows = np.full((3, 4), 2, np.uint8)
    rows[1, 2] = id
    frozen = rows.copy()
    frozen.flags.writeable = False
    for layout in (rows, frozen, np.asfortranarray(rows), np.repeat(rows, 2, axis=1)[:, ::2], rows.astype(np.int64)):
        with pytest.raises(ValueError, match=rf"{id} at \(1, 2\)"):
            cg.run_batch(layout)
        with pytest.raises(ValueError, match=rf"{id} at 2"):
            cg.run(layout[1])
        with pytest.raises(ValueError, match=rf"{id} at 2"):
            list(cg.trace(layout[1]))
        with pytest.raises(ValueError, match=rf"{id} at 2"):
            cg.disassemble(layout[1])


def test_value_errors_say_what_and_where() -> None:
    for function in (cg.encode, cg.run, cg.assemble, lambda text: list(cg.trace(text))):
        with pytest.raises(ValueError, match=r"word 2, 'plus'"):
            function("1 2 plus end")
    with pytest.raises(ValueError, match=r"65 at 1 .*0 to 64"):
        cg.run([14, 65, 2])
    with pytest.raises(ValueError, match=r"-1 at 0 "):
        cg.run([-1])
    with pytest.raises(ValueError, match=r"65 at \(1, 2\)"):
        cg.run_batch([[14, 2, 0], [14, 2, 65]])
    with pytest.raises(ValueError, match="float64"):
        cg.run(np.array([1.0]))


@pytest.mark.parametrize("shape", [(), (1, 2), (1, 1, 1)])
def test_run_rejects_other_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="shape"):
        cg.run(np.full(shape, 2, np.uint8))


@pytest.mark.parametrize("shape", [(), (2,), (0,), (1, 2, 3)])
def test_run_batch_rejects_other_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="shape"):
        cg.run_batch(np.full(shape, 2, np.uint8))


@pytest.mark.parametrize("threads", [0, -1])
def test_run_batch_rejects_an_invalid_number_of_threads(threads: int) -> None:
    with pytest.raises(ValueError, match="threads"):
        cg.run_batch(np.full((2, 2), 2, np.uint8), threads=threads)


def test_outcomes_are_values() -> None:
    assert cg.run("1 end") == cg.run("<bos> 1 end")
    assert cg.run("1 end") != cg.run("2 end")
    for earlier, later in pairwise(cg.trace("1 2 end")):
        assert earlier != later
    with pytest.raises(AttributeError):
        cg.run("1 end").steps = 0  # type: ignore[misc]
