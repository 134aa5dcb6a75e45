"""Cards, the README's table and the pictures are up to date and correct."""

from __future__ import annotations

import functools
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import cadmus_gym as cg
from cadmus_gym.__main__ import main
from cadmus_gym.reports import environments

ROOT = Path(__file__).resolve().parents[2]
IDS = environments.ours()
BYTES = 130_000  # largest size of a picture


@functools.cache
def measured(id: str) -> dict[str, environments.Measured]:
    """What an environment's streams contain; Open and Arith have the same streams, which are measured once."""
    spec = cg.load_spec(id)
    same = next(other for other in IDS if cg.load_spec(other).digests() == spec.digests())
    return environments.measure(spec) if same == id else measured(same)


def committed(id: str) -> str:
    return (ROOT / "envs" / "cards" / f"{id}.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("id", IDS)
def test_the_committed_card_is_up_to_date(id: str) -> None:
    """What the streams of a mixture contain is not measured again: its picture has a stamp of its parts' digests."""
    spec = cg.load_spec(id)
    if spec.mixture:
        assert committed(id).startswith(environments.known(spec)), "stale: run `make docs`"
    else:
        assert committed(id) == environments.card(spec, measured(id)), "stale: run `make docs`"


def test_the_table_in_the_readme_is_up_to_date() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme == environments.listed(readme), "stale: run `make docs`"
    table = readme.split(environments.MARKER)[1]
    assert re.findall(r"\]\((envs/cards/.+?)\)", table) == [f"envs/cards/{id}.md" for id in IDS]


def test_each_environment_has_a_card_and_a_picture_and_there_are_no_others() -> None:
    assert {path.stem for path in (ROOT / "envs" / "cards").iterdir()} == set(IDS)
    assert {path.stem for path in (ROOT / "benchmarks" / "results" / "cards").iterdir()} == set(IDS)
    assert len(IDS) == len(list((ROOT / "envs").glob("*.toml")))


@pytest.mark.parametrize("id", IDS)
def test_the_committed_picture_shows_the_current_streams(id: str) -> None:
    path = ROOT / "benchmarks" / "results" / "cards" / f"{id}.png"
    with Image.open(path) as image:
        assert image.info["Digests"] == environments.stamp(cg.load_spec(id)), "stale: run `make docs`"
        assert min(image.size) > 400
    assert path.stat().st_size < BYTES


@pytest.mark.parametrize("id", IDS)
def test_a_card_has_true_programs_of_every_split_and_working_links(id: str) -> None:
    text, spec = committed(id), cg.load_spec(id)
    examples = dict(re.findall(r"### (\w+)\n\n```\n(.*?)```", text, re.DOTALL))
    assert list(examples) == list(spec.splits)
    for split, lines in examples.items():
        programs, lengths = cg.Stream(id, split, environments.SEED).batch(0, environments.EXAMPLES)
        assert len(lines.splitlines()) == environments.EXAMPLES
        for line, program, length in zip(lines.splitlines(), programs, lengths, strict=True):
            prompt, completion = line.split("  |  ")
            assert cg.run(cg.assemble(f"{prompt} {completion}")).true
            assert cg.disassemble(program[:length]) == prompt
        for table in text.split("## Data")[1].split("\n\n| split")[1:]:
            assert f"\n| {split} |" in table
    for link in re.findall(r"\]\((.+?)\)", text):
        assert (ROOT / "envs" / "cards" / link).exists(), link
    headings = re.findall(r"^## (.+)", text, re.MULTILINE)
    asks_for_programs = any(part.family.written for part, _ in spec.parts)
    own = [] if asks_for_programs else ["Ablations"]
    if id in ("Cadmus-Induce-v0", "Cadmus-Sort-v0", "Cadmus-Write-v0"):
        own = ["Ceilings"]
    elif id in ("Cadmus-Instruct-v0", "Cadmus-Golf-v0"):
        own = ["Directives"]
    assert headings == [*re.findall(r"## (.+)", cg.CadmusEnv.__doc__ or ""), "Splits", *own, "Data"]


@pytest.mark.parametrize(
    "change",
    [{"operands": [0, 98]}, {"reward": "cases"}, {"thoughts": {"limit": 47}}, {"episode": {"max_tokens": 81}}],
)
def test_a_changed_spec_makes_its_card_stale(change: dict[str, Any]) -> None:
    spec = cg.load_spec("Cadmus-Arith-v0", **change)
    assert environments.card(spec, measured("Cadmus-Arith-v0")) != committed("Cadmus-Arith-v0")
    same = "reward" in change or "episode" in change  # changes that leave the streams and their picture as they are
    assert (environments.stamp(spec) == environments.stamp(cg.load_spec("Cadmus-Arith-v0"))) == same


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with one environment and no cards yet, measured on few programs."""
    monkeypatch.setattr(environments, "top", lambda: tmp_path)
    monkeypatch.setattr(environments, "ours", lambda: ["Cadmus-Compare-v0"])
    for name, count in {
        "PROGRAMS": 500,
        "REPEATS": 1000,
        "SCORED": 20,
        "CHANGED": 3,
        "ASKED": 200,
        "SOME": 100,
        "AMONG": 500,
    }.items():
        monkeypatch.setattr(environments, name, count)
    (tmp_path / "envs").mkdir()
    (tmp_path / "README.md").write_text(f"before\n\n{environments.MARKER}\nold\n{environments.MARKER}\n\nafter\n")
    return tmp_path


def test_the_command_writes_cards_and_lists_stale_ones(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    card, picture = (
        checkout / "envs" / "cards" / "Cadmus-Compare-v0.md",
        checkout / "benchmarks" / "results" / "cards" / "Cadmus-Compare-v0.png",
    )
    readme, files = checkout / "README.md", ["README.md", card.name, picture.name]
    assert main(["cards"]) == 1
    assert [Path(line).name for line in capsys.readouterr().out.splitlines()] == files
    assert main(["cards", "--write"]) == 0
    assert [Path(line).name for line in capsys.readouterr().out.splitlines()] == files
    assert main(["cards"]) == 0
    assert capsys.readouterr().out == "no card is stale\n"
    text = readme.read_text()
    assert text.startswith(f"before\n\n{environments.MARKER}\n\n| environment |")
    assert text.endswith(f"|\n\n{environments.MARKER}\n\nafter\n")
    readme.write_text(text.replace("`relation`", "`value`"))
    card.write_text(card.read_text().replace("Discrete(65)", "Discrete(64)"))
    picture.write_bytes(picture.read_bytes().replace(b"Digests", b"digests"))
    assert main(["cards"]) == 1
    assert [Path(line).name for line in capsys.readouterr().out.splitlines()] == files[:2]
    picture.write_bytes(b"")
    assert main(["cards"]) == 1
    assert [Path(line).name for line in capsys.readouterr().out.splitlines()] == files


def test_the_command_says_what_is_missing(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "matplotlib.figure", None)
        assert main(["cards", "--write"]) == 2
        assert "pip install '.[plot]'" in capsys.readouterr().err
    monkeypatch.undo()
    monkeypatch.setattr(environments, "FOLDER", checkout / "site-packages" / "_envs")
    assert main(["cards"]) == 2
    assert "checkout" in capsys.readouterr().err


def test_a_card_marks_the_constructs_the_environment_is_named_after(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments, "ASKED", 100)
    text = environments.ablations(cg.load_spec("Cadmus-Stack-v0"))
    assert "| ignored | that is | ceiling | train | test | long | pairs |" in text
    assert "| **no stack words** | all stack words are skipped, `pick` with its index | 10% | 0.0% |" in text
    assert "| sub as add | `sub` is read as `add` |  |" in text
    relations = environments.ablations(cg.load_spec("Cadmus-Compare-v0"))
    assert "| 55% |" in relations
    assert "half of the rest is right by chance" in relations
    assert "[Cadmus-Loop-v0](Cadmus-Loop-v0.md)" in environments.ablations(cg.load_spec("Cadmus-Mix-v0"))


# The figures, computed in other ways.


def test_verdicts_of_changed_programs_match_single_runs() -> None:
    prompt, thought, answer = (cg.encode(part) for part in ("1 2 , 3 add", "( 7 )", "1 5 eq end"))
    program = np.concatenate([prompt, thought, answer])
    expected = np.zeros((3, len(cg.Verdict)), np.int64)
    for place in range(program.size):
        part = int(place >= prompt.size) + int(place >= prompt.size + thought.size)
        for token in set(range(len(cg.VOCABULARY))) - {int(program[place])}:
            changed = program.copy()
            changed[place] = token
            expected[part, cg.run(changed).verdict] += 1
    found = environments.judge_changes(program, prompt.size, prompt.size + thought.size)
    assert np.array_equal(found, expected)


def test_lengths_answers_and_prompts_match_the_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, count in {
        "PROGRAMS": 3000,
        "REPEATS": 6000,
        "SCORED": 20,
        "CHANGED": 3,
        "SOME": 300,
        "AMONG": 2000,
    }.items():
        monkeypatch.setattr(environments, name, count)
    spec = cg.load_spec("Cadmus-Mix-v0")
    found = environments.measure(spec)["train"]
    programs, lengths = cg.Stream(spec, "train", environments.SEED).batch(0, 6000)
    texts = [cg.decode(row[row > 0]).split() for row in programs]
    prompts = [tuple(words[:n]) for words, n in zip(texts, lengths, strict=True)]
    completions = [words[n:] for words, n in zip(texts, lengths, strict=True)]
    answers = Counter()
    for words in completions[:3000]:
        answer = words[words.index(")") + 1 :] if ")" in words else words
        digits = "".join(answer).removesuffix("eqend")
        answers[{"end": "yes", "notend": "no"}.get(digits, digits)] += 1
    said: Counter[str] = Counter()
    for tokens, times in found.answers.items():
        text = environments.answer_of(tokens)
        said[f"{text[1:]}neg" if text.startswith("-") else text] += times
    assert said == answers
    assert found.prompts.tolist() == lengths[:3000].tolist()
    assert found.completions.tolist() == [len(words) for words in completions[:3000]]
    assert found.thinking == np.mean([")" in words for words in completions[:3000]])
    assert found.distinct == len(set(prompts[:3000]))
    assert found.repeated == 6000 - len({tuple(words) for words in texts})
    assert found.tokens.sum() == sum(map(len, texts[:3000]))
    assert found.tokens[cg.VOCABULARY.index("end")] == 3000
    assert 0 < found.found < 0.5


def test_no_test_problem_occurs_in_train() -> None:
    for id in IDS:
        for split, of in measured(id).items():
            assert (of.found == 0) or split != "test"
