"""Baselines: what earns nothing in any environment, and what each baseline does."""

import numpy as np
import pytest

import cadmus_gym as cg
from cadmus_gym.evaluation import baselines
from cadmus_gym.evaluation.truth import judge_completions, prompts_of

SPLITS = [(id, split) for id in cg.SPECS for split in cg.load_spec(id).splits]


@pytest.mark.parametrize(("id", "split"), SPLITS)
def test_cheats_are_true_under_a_free_form_only(id: str, split: str) -> None:
    free = cg.load_spec(id).form == "free"
    for text in baselines.CHEATS.values():
        assert baselines.play(id, split, [cg.assemble(text)] * 25).tolist() == [free] * 25, text


@pytest.mark.parametrize(("id", "split"), SPLITS)
def test_only_a_free_form_has_loopholes(id: str, split: str) -> None:
    spec = cg.load_spec(id)
    rates = []
    for programs, lengths in baselines.search(spec, split, 40, 1000), baselines.random_legal(spec, split, 500):
        rates.append(judge_completions(spec, split, 0, programs, lengths).loophole_rate)
    if spec.form == "free":
        assert rates[0] > 0.5
    else:
        assert rates == [0.0, 0.0]


def test_search_tries_short_completions_first_and_finds_all_within_its_budget() -> None:
    candidates = baselines.enumerate_completions("Cadmus-Arith-v0", 110)
    sizes = (candidates > 0).sum(1)
    assert (np.diff(sizes) >= 0).all()
    texts = [cg.disassemble(row[row > 0]) for row in candidates]
    assert len(set(texts)) == 110
    assert texts[:10] == [f"{digit} eq end" for digit in range(10)]
    numbers = [*map(str, range(100)), *(f"-{digit}" for digit in range(10))]
    assert set(texts) == {f"{number} eq end" for number in numbers}
    programs, lengths = baselines.search("Cadmus-Arith-v0", "test", 300, 110)
    verdicts, _ = cg.run_batch(programs)
    prompts, _ = prompts_of("Cadmus-Arith-v0", "test", 300)
    answers = [cg.run(np.append(p[:n], np.uint8(2))).stack[0] for p, n in zip(prompts, lengths, strict=True)]
    assert (verdicts == 0).tolist() == [-9 <= a <= 99 for a in answers]


def test_the_best_constant_is_the_most_frequent_answer() -> None:
    programs, lengths = cg.Stream("Cadmus-Compare-v0", "test", 4).batch(0, 2000)
    constant = baselines.best_constant("Cadmus-Compare-v0", "test", 2000, seed=4)
    same = [np.array_equal(p[n:][p[n:] > 0], constant) for p, n in zip(programs, lengths, strict=True)]
    assert np.mean(same) >= 0.5


def test_search_reports_progress_and_keeps_its_last_try_if_none_is_true() -> None:
    seen: list[tuple[int, int]] = []
    programs, lengths = baselines.search(
        "Cadmus-Arith-v0", "large", 4, 12, seed=5, report=lambda *counts: seen.append(counts)
    )
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    last = baselines.enumerate_completions("Cadmus-Arith-v0", 12)[-1]
    for program, length in zip(programs, lengths, strict=True):
        assert np.array_equal(program[length:][program[length:] > 0], last[last > 0])
    prompts, _ = prompts_of("Cadmus-Arith-v0", "large", 4, 5)
    assert np.array_equal(programs[:, : prompts.shape[1]][prompts > 0], prompts[prompts > 0])


def test_random_tokens_are_uniform_and_depend_on_the_seed() -> None:
    spec = cg.load_spec("Cadmus-Arith-v0")
    programs, lengths = baselines.random_legal(spec, "test", 2200, seed=7)
    assert np.array_equal(programs, baselines.random_legal(spec, "test", 2200, seed=7)[0])
    first = programs[np.arange(2200), lengths]
    names, counts = np.unique(first, return_counts=True)
    assert [cg.VOCABULARY[token] for token in names] == ["(", *"0123456789"]
    assert np.abs(counts - 200).max() < 5 * np.sqrt(200)
    other, of_other = baselines.random_legal(spec, "test", 2200, seed=8)
    assert not np.array_equal(other[np.arange(2200), of_other], first)


def test_copies_and_constants_give_known_completions() -> None:
    spec = cg.load_spec("Cadmus-Arith-v0")
    fixed = baselines.fixed_policies(spec, "test")
    prompt = cg.assemble("12 7 add 345 mul")
    copied = [cg.disassemble(fixed[f"copy literal {k}"](prompt)) for k in (1, 2, 3, 4)]
    assert copied == ["12 eq end", "7 eq end", "345 eq end", "345 eq end"]
    assert cg.disassemble(fixed["cheat `drop 1 end`"](prompt)) == "drop 1 end"
    stripped = baselines.without_thoughts(cg.assemble("5 ( 1 2 ) neg ( 3 ) eq end"))
    assert cg.disassemble(stripped) == "-5 eq end"


def test_play_uses_the_prompts_of_the_seed() -> None:
    for seed in (3, 4):
        programs, lengths = cg.Stream("Cadmus-Arith-v0", "test", 3).batch(0, 30)
        own = [p[n:][p[n:] > 0] for p, n in zip(programs, lengths, strict=True)]
        success = baselines.play("Cadmus-Arith-v0", "test", own, seed)
        twice = [tokens for one in own for tokens in (one, cg.assemble("drop 1 end"))]
        assert baselines.play("Cadmus-Arith-v0", "test", twice, seed, samples=2).tolist() == [
            right for one in success for right in (one, False)
        ]
        assert success.shape == (30,)
        assert success.all() == (seed == 3)
    assert baselines.play("Cadmus-Arith-v0", "test", []).shape == (0,)


def test_last_words_match_the_text() -> None:
    texts = ["12 7 add", "12 7 add 345 mul", "-5 neg 6", "1 -23 456 add", "7"]
    rows = np.zeros((len(texts), 30), np.uint8)
    lengths = np.zeros(len(texts), np.int32)
    for k, text in enumerate(texts):
        tokens = cg.assemble(text)
        rows[k, : tokens.size], lengths[k] = tokens, tokens.size
    found = baselines.last_words(rows, lengths)
    assert found.shape == (len(texts), baselines.ROOM)
    expected = ["127add", "add345mul", "5neg" + "neg" + "6", "23neg456add", "7"]
    assert ["".join(cg.decode(row[row > 0]).split()) for row in found] == expected
    narrow = baselines.last_words(rows[:1, : lengths[0]], lengths[:1])
    assert np.array_equal(narrow, found[:1])


def test_the_table_of_last_words_knows_train_and_is_left_out_there() -> None:
    spec = cg.load_spec("Cadmus-Arith-v0")
    table = baselines.table_of(spec, 50_000)
    programs, lengths = cg.Stream(spec, "train", baselines.FIT_SEED).batch(0, 200)
    single = 0
    for program, length in zip(programs, lengths, strict=True):
        found = table.policy(program[:length])
        if len(cg.disassemble(program[:length]).split()) == 3:  # the last words are the whole prompt
            single += 1
            own = baselines.without_thoughts(program[length:][program[length:] > 0])
            assert cg.run(np.concatenate([program[:length], found])).true
            assert np.array_equal(found, own)
    assert single > 50
    assert table.policy(cg.assemble("99998 99999 add")).size == 0
    names = [list(baselines.fixed_policies(spec, split)) for split in ("train", "test")]
    assert [f"table of the last {baselines.LAST_WORDS} words" in some for some in names] == [False, True]
