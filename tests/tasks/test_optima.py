"""The table of shortest bodies, and the search that made it, against the machine and another search."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

import cadmus_gym as cg
from cadmus_gym.evaluation.enumeration import shortest as shortest_by_enumeration
from cadmus_gym.language import isa as op
from cadmus_gym.language.isa import ID as TOKENS
from cadmus_gym.language.isa import Ints, Tokens
from cadmus_gym.language.memory import scratch
from cadmus_gym.tasks.synthesis.hidden import ROOM, hash_outputs, run_probes, twin
from cadmus_gym.tasks.synthesis.induce import Parameters, pack, words
from cadmus_gym.tasks.synthesis.optima import WORDS, find_code, optima, pack_optima, put_code, shortest
from cadmus_gym.tasks.synthesis.shortest import (
    COLUMNS,
    INPUTS,
    code_of,
    find_shortest,
    functions_of,
    inputs_of,
    run_code,
    sums_of,
    weight_of,
)
from cadmus_gym.tasks.synthesis.shortest import ROOM as ROWS
from cadmus_gym.tasks.synthesis.space import space_of

ID = "Cadmus-Induce-v0"


def left_by(body: Tokens, inputs: Ints) -> Ints | None:
    """Return what a body without `end` leaves on inputs (R, arity), or None if some run does not leave one value."""
    outputs = np.zeros(len(inputs), np.int64)
    whole = np.append(body[body > 0], np.uint8(op.END))
    return outputs if run_probes(whole, inputs, outputs, np.zeros(ROOM, np.int64), scratch(whole.size)) else None


def key_of(arity: int, outputs: Ints) -> int:
    return int(hash_outputs(np.int64(arity), outputs[:64]))


def random_body(rng: random.Random, arity: int, length: int) -> list[int]:
    """Return a body that leaves one value if no run ends in a fault."""
    known = [*WORDS, *"0123456789", ","]
    while True:
        tokens = [rng.choice(known) for _ in range(length)]
        body = cg.encode(" ".join(tokens))
        case = cg.assemble(f"case {'1 ' * arity}to 1 do")
        if len(cg.run(np.concatenate([case, body, [op.END]]).astype(np.uint8)).stack) == 1:
            return [int(token) for token in body]


@pytest.mark.parametrize("arity", [1, 2])
def test_columns_hold_what_the_machine_leaves(arity: int) -> None:
    inputs, rng = inputs_of(arity), random.Random(arity)
    assert len(set(map(tuple, inputs.tolist()))) == len(inputs) == 30**arity
    cells, sums = np.zeros((COLUMNS, ROWS), np.int64), np.zeros(COLUMNS, np.int64)
    cells[INPUTS : INPUTS + arity, : len(inputs)] = inputs.T
    sums[INPUTS : INPUTS + arity] = sums_of(inputs.T)[:, 1]
    weights = np.array([weight_of(row) for row in range(len(inputs))])
    given = [
        [TOKENS[word] for word in body.split()] for body in ("dup mul " * 4, "0 div", "dup mod", "9 " * 10, "add " * 2)
    ]
    faults = 0
    for body in [*given, *(random_body(rng, arity, rng.randrange(1, 9)) for _ in range(300))]:
        outputs = left_by(np.array(body, np.uint8), inputs)
        depth, extends = run_code(code_of(body), arity, cells, sums, len(inputs), weights)
        if outputs is None:
            faults += 1
            assert depth == 0
            continue
        assert (depth, extends) == (1, False)
        assert (cells[0, : len(inputs)] == outputs).all()
        assert sums[0] == sums_of(outputs[None])[0, 1]
    assert 10 < faults < 280


def enumerated(arity: int, outputs: Ints, limit: int) -> int | None:
    """Return the length of the shortest body of up to ``limit`` tokens by another search, or 0 if there is none.

    Return None if that search found another function, which fits the 16 cases that it sees.
    """
    inputs = inputs_of(arity)
    rows = np.linspace(0, len(inputs) - 1, 16).astype(int)
    cases = [(inputs[row].tolist(), [int(outputs[row])]) for row in rows]
    found = shortest_by_enumeration(cases, WORDS, range(10 ** (limit - 1)), limit)
    assert found.proven
    if found.body is None:
        return 0
    left = left_by(found.body, inputs)
    return found.body.size if left is not None and (left == outputs).all() else None


@pytest.mark.parametrize("arity", [1, 2])
def test_the_search_finds_what_an_enumeration_finds(arity: int) -> None:
    inputs, rng, limit = inputs_of(arity), random.Random(arity), 4
    functions = {}
    for _ in range(60):
        outputs = left_by(np.array(random_body(rng, arity, rng.randrange(2, limit + 2)), np.uint8), inputs)
        if outputs is not None and np.unique(outputs).size > 4 and not (outputs[:, None] == inputs).all(0).any():
            functions[int(sums_of(outputs[None])[0, 0])] = outputs
    sums = sums_of(np.array(list(functions.values())))
    lengths, codes, _ = find_shortest(arity, limit, sums, np.full(len(sums), 99))
    agreed = []
    for outputs, length, code in zip(functions.values(), lengths.tolist(), codes.tolist(), strict=True):
        body = np.zeros(9, np.uint8)
        if code:
            assert put_code(code, body, 0) == length
            left = left_by(body, inputs)
            assert left is not None
            assert (left == outputs).all()
        other = enumerated(arity, outputs, limit)
        if other is not None:
            assert other == (length if code else 0)
            agreed.append(other)
    assert {0, 2, 3, 4} <= {*agreed}
    assert len(agreed) > 20


def test_another_search_finds_no_body_shorter_than_the_shortest_known() -> None:
    silent = known = 0
    for split in ("train", "test"):
        stream = cg.Stream(ID, split)
        prompts, _, references = stream.problems(np.zeros(2000, np.int64), np.arange(2000))
        bodies, lengths = shortest(references.keys)
        for prompt, body, drawn, length in zip(prompts, bodies, references.bodies, lengths.tolist(), strict=True):
            best = body if length else drawn[: np.count_nonzero(drawn) - 1]
            best = best[best > 0]
            if best.size > 5 or (length and known == 6) or (not length and silent == 6):
                continue
            silent, known = silent + (length == 0), known + (length > 0)
            arity = 1 + prompt[: prompt.tolist().index(op.TO)].tolist().count(op.COMMA)
            outputs = left_by(best, inputs_of(arity))
            assert outputs is not None
            assert not enumerated(arity, outputs, best.size - 1)
    assert (silent, known) == (6, 6)


def test_every_body_gives_its_key() -> None:
    table, rng = optima(), np.random.default_rng(0)
    assert table.keys.dtype == np.uint64
    assert (np.diff(table.keys) > 0).all()
    found = np.flatnonzero(table.codes)
    assert found.size == 21_435
    arities = set()
    for row in rng.choice(found, 300, replace=False):
        (body,), (length,) = shortest(table.keys[row : row + 1])
        assert np.count_nonzero(body) == length == np.count_nonzero(body[:length])
        assert find_code(pack_optima(), table.keys[row]) == code_of(body[:length])
        outputs = {arity: left_by(body, inputs_of(arity)) for arity in (1, 2)}
        arity = 1 if outputs[1] is not None and key_of(1, outputs[1]) == table.keys[row] else 2
        wanted = outputs[arity]
        assert wanted is not None
        assert key_of(arity, wanted) == table.keys[row]
        arities.add(arity)
    assert arities == {1, 2}


def test_unknown_keys_have_no_body_and_invalid_arguments_are_rejected() -> None:
    table = optima()
    unknown = np.array([0, 1, 2**64 - 1, int(table.keys[5]) + 1], np.uint64)
    bodies, lengths = shortest(unknown)
    assert bodies.shape == (4, 10)
    assert not bodies.any()
    assert not lengths.any()
    assert shortest(np.zeros(0, np.uint64))[0].shape == (0, 10)
    empty = table.keys[table.codes == 0]
    assert empty.size == 837
    assert not shortest(empty)[1].any()
    for wrong in ([1, 2], np.zeros((2, 2), np.uint64), np.uint64(3)):
        with pytest.raises(ValueError, match="allowed: uint64 of shape"):
            shortest(wrong)
    for limit in (2, 11):
        with pytest.raises(ValueError, match=f"limit = {limit}; allowed: 3 to 10"):
            find_shortest(1, limit, np.zeros((0, 2), np.int64), np.zeros(0, np.int64))


def test_bodies_are_shorter_than_all_drawn_ones() -> None:
    functions = functions_of(space_of(pack(Parameters(arity={"1": 1}))), 1)
    assert not functions.several.any()
    lengths = shortest(functions.keys)[1]
    assert (lengths < functions.lengths).all()
    assert np.count_nonzero(lengths) == 2967
    assert functions.lengths.max() - 1 == optima().tried[0]  # so all are proven
    spec, known = cg.load_spec(ID), 0
    for split in ("train", "test"):
        _, _, references = cg.Stream(spec, split).problems(np.zeros(1500, np.int64), np.arange(1500))
        lengths = shortest(references.keys)[1]
        drawn = np.count_nonzero(references.bodies, axis=1) - 1
        assert (lengths < drawn).all()
        known += np.count_nonzero(lengths)
    assert known > 30


def test_references_are_the_shortest_bodies() -> None:
    drawn = cg.load_spec(ID)
    spec = drawn.override(parameters={"reference": "shortest"})
    improved = 0
    for split in ("train", "longer", "blocks", "wide"):
        stream, rows = cg.Stream(spec, split), (np.zeros(1500, np.int64), np.arange(1500))
        programs, _ = stream.gather(*rows)
        assert (cg.run_batch(programs)[0] == cg.Verdict.TRUE).all()
        assert np.isnan(stream.log_prob(programs[:3])).all()
        _, _, references = stream.problems(*rows)
        bodies, lengths = shortest(references.keys)
        for written, body, length in zip(references.bodies, bodies, lengths.tolist(), strict=True):
            same = written[:length].tolist() == body[:length].tolist() and written[length] == op.END
            assert same or length == 0 or split != "train"
            improved += same and length > 0
        low, high = spec.split_parameters(split).inputs
        assert (references.ranges == (low, high)).all()
        hidden = [
            twin(program, reference, int(key), (low, high))
            for program, reference, key in zip(programs[:300], references.bodies, references.keys, strict=False)
        ]
        assert all(cg.run(text).true for text in hidden)
    assert improved > 100


def test_shortest_references_change_digests_and_words() -> None:
    spec = cg.load_spec(ID)
    as_drawn, short = (spec.override(parameters={"reference": name}) for name in ("drawn", "shortest"))
    assert as_drawn.digests() == spec.digests()
    assert {*short.digests().values()}.isdisjoint(spec.digests().values())
    few = Parameters(kinds={"add": 1}, arity={"1": 1}, reference="shortest")
    assert {*WORDS} < {*words(few)}
    assert not {"max", "swap"} & {*words(replace(few, reference="drawn"))}
    with pytest.raises(ValueError, match="reference = 'best': known are"):
        Parameters(reference="best")
    one = cg.Stream(short, "test")
    prompts, lengths = one.prompts(np.zeros(1, np.int64), np.arange(1))
    assert one.posterior(prompts, lengths)[0].probabilities.sum() == pytest.approx(1)
