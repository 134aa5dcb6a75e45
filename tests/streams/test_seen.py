"""Counts, splits and neighbours against a replay of all programs."""

from __future__ import annotations

import json
import math
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import cadmus_gym as cg
from cadmus_gym.__main__ import main
from cadmus_gym.files import PARTIAL
from cadmus_gym.streams.index import Index
from cadmus_gym.streams.problems import Reader, certain, splits_of
from cadmus_gym.streams.seen import CHUNK, Programs, edits
from cadmus_gym.streams.spec import Split
from cadmus_gym.tasks import TASKS
from cadmus_gym.tasks.family import Choices, Family

COUNT = 20_000
LITTLE = 4_096  # programs per run: several runs, and the last one is only partly requested
IDS = ["Cadmus-Arith-v0", "Cadmus-Stack-v0", "Cadmus-Compare-v0"]

Text = tuple[int, ...]


class Replay:
    """The first programs of a stream, and an index of them in small runs."""

    def __init__(self, id: str | dict[str, int]) -> None:
        self.stream = cg.Stream(id, seed=5)  # type: ignore[arg-type]
        rows, lengths = self.stream.batch(0, COUNT)
        self.programs: list[Text] = [tuple(row[row > 0].tolist()) for row in rows]
        self.prompts: list[Text] = [row[:n] for row, n in zip(self.programs, lengths.tolist(), strict=True)]
        self.index = Index(self.stream, run_size=LITTLE)
        self.index.build(COUNT)

    def beginning(self, text: Text, upto: int = COUNT) -> int:
        return sum(program[: len(text)] == text for program in self.programs[:upto])


@pytest.fixture(scope="module", params=IDS)
def replay(request: pytest.FixtureRequest) -> Replay:
    return Replay(request.param)


def one_apart(one: Text, other: Text) -> bool:
    """Whether two texts are one insertion, deletion or replacement of a token apart."""
    if abs(len(one) - len(other)) > 1 or one == other:
        return False
    short, long = sorted((one, other), key=len)
    same = next((k for k, token in enumerate(short) if token != long[k]), len(short))
    return short[same + (len(short) == len(long)) :] == long[same + 1 :]


def test_counts_agree_with_a_replay(replay: Replay) -> None:
    rng = np.random.default_rng(0)
    chosen = [replay.programs[k] for k in rng.integers(0, COUNT, 40)]
    texts = chosen + [program[: int(rng.integers(len(program)))] for program in chosen]
    texts += [(*program[:3], 64, *program[4:]) for program in chosen[:5]]  # nothing begins with these
    texts += [(), (63,), chosen[0] + chosen[0] * 40]
    arrays = [np.array(text, np.uint8) for text in texts]
    programs = Programs(replay.stream, COUNT)
    for upto in (COUNT, LITTLE, LITTLE + 1, 5, 0):
        expected = [replay.beginning(text, upto) for text in texts]
        assert replay.index.count(arrays, upto).tolist() == expected
        assert programs.ask(arrays, [], upto)[0].tolist() == expected
    assert replay.index.count(arrays).sum() > replay.index.count(arrays, COUNT).sum()  # all of the last run


def test_texts_may_be_notation_or_padded_ids(replay: Replay) -> None:
    program = replay.programs[7]
    texts = [cg.disassemble(program), np.array([*program, 0, 0])]
    assert replay.index.count(texts, COUNT).tolist() == [replay.beginning(program)] * 2
    prompt = replay.prompts[7]
    text = cg.disassemble(prompt)
    assert replay.index.count_prompts([text]) == replay.index.count_prompts([prompt]) > 0
    assert repr(replay.index.read(text)) == repr(replay.index.read(prompt))
    assert repr(replay.index.neighbours(text)) == repr(replay.index.neighbours(prompt))
    with pytest.warns(UserWarning, match="is read as `1 2 7 add`") as warned:
        replay.index.count(["1 2 , 7 add"])
    assert warned[0].filename == __file__
    with pytest.raises(ValueError, match="is not a token"):
        replay.index.count(["foo"])
    with pytest.raises(ValueError, match=f"the index holds {replay.index.size} programs"):
        replay.index.count(["1"], replay.index.size + 1)


def test_only_whole_prompts_are_counted(replay: Replay) -> None:
    times = Counter(replay.prompts[:9_000])
    prompts = list(times)[:200]
    counts = replay.index.count_prompts([np.array(prompt) for prompt in prompts], 9_000)
    assert counts.tolist() == [times[prompt] for prompt in prompts]
    twice = [*prompts, *prompts]  # questions may repeat
    _, scanned = Programs(replay.stream, COUNT).ask([], [np.array(prompt) for prompt in twice], 9_000)
    assert scanned.tolist() == [times[prompt] for prompt in twice]
    assert replay.index.count_prompts([np.array(prompt[:-1]) for prompt in prompts[:20]]).sum() == 0


def test_programs_in_any_order_are_counted() -> None:
    stream = cg.Stream(IDS[0], seed=5)
    numbers = np.random.default_rng(0).integers(50_000, size=2 * CHUNK + 10)
    programs = Programs(stream, numbers.size, lambda a, b: (np.arange(a, b) % 3, numbers[a:b]))
    rows, lengths = stream.gather(np.arange(numbers.size) % 3, numbers)
    whole = [tuple(row[row > 0].tolist()) for row in rows]
    times, asked = Counter(whole), Counter(row[:n] for row, n in zip(whole, lengths.tolist(), strict=True))
    done: list[tuple[int, int]] = []
    found = programs.ask(
        [np.array(one) for one in times], [np.array(one) for one in asked], report=lambda *at: done.append(at)
    )
    assert found[0].tolist() == [*times.values()]
    assert found[1].tolist() == [*asked.values()]
    assert done == [(CHUNK, numbers.size), (2 * CHUNK, numbers.size), (numbers.size, numbers.size)]


def test_neighbours_agree_with_a_replay(replay: Replay) -> None:
    times = Counter(replay.prompts)
    found = 0
    common = [prompt for prompt, _ in times.most_common(8)]
    for prompt in [*common, *replay.prompts[:8], common[0][:-1], (63, 63)]:
        near = replay.index.neighbours(np.array(prompt, np.uint8), COUNT)
        wanted = {other: count for other, count in times.items() if one_apart(prompt, other)}
        assert {tuple(other.tolist()): count for other, count in near} == wanted
        assert [count for _, count in near] == sorted(wanted.values(), reverse=True)
        found += len(near)
    assert found > 0


def test_edits_are_all_that_are_one_token_away() -> None:
    tokens = np.array([11, 11, 12], np.uint8)
    made = [tuple(edited.tolist()) for edited in edits(tokens)]
    assert (
        len(set(made)) == len(made) == 2 + 3 * 61 + (1 + 4 * 61)
    )  # 11 twice: one deletion, some insertions fall together
    assert all(one_apart((11, 11, 12), other) for other in made)


@pytest.mark.parametrize("id", cg.SPECS)
def test_every_prompt_and_program_can_be_read(id: str) -> None:
    for split in cg.load_spec(id).splits:
        stream = cg.Stream(id, split, seed=1)
        index = Index(stream, run_size=1)
        rows, lengths = stream.batch(0, 25)
        many = any(spec.family.fits_many for spec in stream.specs)
        for row, length in zip(rows, lengths, strict=True):
            if many:  # a prompt of these does not tell which program it is of
                problems = index.read(row)  # two parts of a mixture may write the same text
                assert len(problems) == 1 or id == "Cadmus-Write-v0"
                assert all(problem.kept for problem in problems)
                assert row[row > 0].tolist() in [program.tolist() for one in problems for program in one.programs]
                assert index.read(row[:length]) == []
                with pytest.raises(ValueError, match="cannot count prompts, which many programs may complete"):
                    index.count_prompts([row[:length]])
                continue
            for text in (row[:length], row):
                (problem,) = index.read(text)
                assert problem.kept
                assert problem.prompt.tolist() == row[:length].tolist()
                assert row[row > 0].tolist() in [program.tolist() for program in problem.programs]
            found = [splits_of(part, row[:length]) for part in stream.specs]
            assert any(part[split].kept for part in found if split in part)


def test_problems_belong_to_the_split_that_writes_them() -> None:
    spec = cg.load_spec("Cadmus-Compare-v0")
    for split in ("train", "test"):
        rows, lengths = cg.Stream(spec, split).batch(0, 50)
        for row, length in zip(rows, lengths, strict=True):
            found = splits_of(spec, row[:length])
            assert [name for name, problem in found.items() if problem.kept] == [split]
            assert found["train"].key == found["test"].key
    assert splits_of(spec, cg.assemble("5 7 add")) == {}
    assert splits_of(spec, cg.assemble("5 7")) == {}


def test_a_program_with_a_wrong_answer_can_be_read() -> None:
    spec = cg.load_spec("Cadmus-Arith-v0")
    right, wrong = (splits_of(spec, cg.assemble(f"12 7 add {answer} eq end")) for answer in (19, 18))
    assert cg.disassemble(wrong["train"].prompt) == "12 7 add"
    assert right["train"].key == wrong["train"].key
    assert [cg.disassemble(program) for program in wrong["train"].programs] == ["12 7 add 19 eq end"]


def test_a_prompt_is_completed_with_and_without_worked_steps() -> None:
    spec = cg.load_spec("Cadmus-Arith-v0", thoughts={"style": "values", "limit": 48})
    prompt, short, long = "12 7 add 3 mul", "12 7 add 3 mul 57 eq end", "12 7 add 3 mul ( 19 ) 57 eq end"
    for share, expected in ((0.0, [short]), (0.5, [short, long]), (1.0, [long])):
        problems = splits_of(spec.override(thoughts={"share": share}), cg.assemble(prompt))
        assert [cg.disassemble(program) for program in problems["train"].programs] == expected
        assert problems["train"].prompt.tolist() == cg.assemble(prompt).tolist()


def test_a_split_keeps_the_problems_from_its_first_hash_to_its_last() -> None:
    spec = cg.load_spec("Cadmus-Arith-v0", apart="problems")
    reader, tokens = Reader(spec, "train"), cg.assemble("12 7 add")
    problem = reader.read(tokens)
    assert problem is not None
    key = problem.key
    for first, last, kept in ((key, key, True), (key + 1, key + 2, False), (key - 2, key - 1, False), (0, key, True)):
        reader.sieve = reader.sieve._replace(bounds=np.array([first, last, 0], np.uint64))
        problem = reader.read(tokens)
        assert problem is not None
        assert problem.kept == kept


def test_a_mixture_is_counted_as_a_whole() -> None:
    replay = Replay({"Cadmus-Arith-v0": 2, "Cadmus-Compare-v0": 1})
    prompts = [*dict.fromkeys(replay.prompts)][:100]
    times = Counter(replay.prompts)
    counts = replay.index.count_prompts([np.array(prompt) for prompt in prompts], COUNT)
    assert counts.tolist() == [times[prompt] for prompt in prompts]


@dataclass(frozen=True)
class NoParameters:
    pass


def compose(parameters: NoParameters, choices: Choices) -> str:
    return f"{choices.integer(0, 40)} {choices.integer(0, 40)} add"


COMPOSED = Family("composed", 1, NoParameters, "value", lambda parameters: 6, compose=compose)


def test_a_family_in_plain_python_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TASKS, "composed", COMPOSED)
    spec = cg.Spec("Composed-v0", "composed", {"train": Split((0.1, 1.0)), "test": Split((0.0, 0.1))})
    stream = cg.Stream(spec)
    index = Index(stream, run_size=700)
    index.build(2000)
    rows, lengths = stream.batch(0, 2000)
    times = Counter(cg.disassemble(row[:n]) for row, n in zip(rows, lengths, strict=True))
    prompts = [f"{x} {y} add" for x in range(10) for y in range(10)]
    counts = index.count_prompts([cg.assemble(prompt) for prompt in prompts], 2000)
    assert counts.tolist() == [times[prompt] for prompt in prompts]
    for prompt in prompts:
        split = next(name for name, problem in splits_of(spec, cg.assemble(prompt)).items() if problem.kept)
        assert split == "train" or times[prompt] == 0


def test_splits_of_a_family_in_plain_python_are_uncertain(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = ["from dataclasses import dataclass", "from cadmus_gym.tasks import Family"]
    lines += ["@dataclass(frozen=True)", "class Parameters:", "    least: int = 0"]
    lines += ["def compose(parameters, choices):"]
    lines += ["    return f'{choices.integer(parameters.least, parameters.least + 40)} 7 add'"]
    lines += ["SUMS = Family('seen_sums', 1, Parameters, 'value', lambda parameters: 6, compose=compose)"]
    (tmp_path / "seen_sums.py").write_text("\n".join(lines))
    table = ['id = "Sums-v0"', 'task = "seen_sums:SUMS"', "[splits.train]", "share = [0.1, 1.0]"]
    table += ["[splits.test]", "share = [0.0, 0.1]", "[splits.large]", "[splits.large.parameters]", "least = 50"]
    (tmp_path / "sums.toml").write_text("\n".join(table))
    monkeypatch.syspath_prepend(str(tmp_path))
    spec = cg.load_spec(tmp_path / "sums.toml")
    assert not certain(spec)
    rows, lengths = cg.Stream(spec).prompts(np.zeros(1, np.int64), np.zeros(1, np.int64))
    prompt = cg.disassemble(rows[0, : lengths[0]])  # which `large` never writes
    assert main(["seen", prompt, "--stream", str(tmp_path / "sums.toml"), "--upto", "100"]) == 0
    out = capsys.readouterr().out
    assert "possible splits: train, large; it is not known which programs the family writes\n" in out
    assert "\nsplit: " not in out


def test_an_interrupted_index_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = cg.Stream(IDS[0], seed=5)
    texts = [row[row > 0][:6] for row in stream.batch(0, 30)[0]]
    whole = Index(stream, tmp_path / "whole", run_size=1000)
    whole.build(4000)

    batch, calls = cg.Stream.batch, []

    def killed(self: cg.Stream, start: int, count: int) -> object:
        calls.append(start)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return batch(self, start, count)

    monkeypatch.setattr(cg.Stream, "batch", killed)
    with pytest.raises(KeyboardInterrupt):
        Index(stream, tmp_path / "parts", run_size=1000).build(4000)
    (tmp_path / "parts" / PARTIAL).write_bytes(b"half a run")
    replayed: list[tuple[int, int]] = []
    Index(stream, tmp_path / "parts").build(3500, lambda *done: replayed.append(done))
    assert calls == [0, 1000, 2000, 2000, 3000]
    assert replayed == [(3000, 3500), (3500, 3500)]
    parts = Index(stream, tmp_path / "parts")
    assert (parts.size, parts.run_size) == (4000, 1000)
    assert parts.count(texts, 3999).tolist() == whole.count(texts, 3999).tolist()
    assert sorted(path.name for path in (tmp_path / "parts").iterdir()) == sorted(
        path.name for path in (tmp_path / "whole").iterdir()
    )


def test_a_missing_run_is_built_again(tmp_path: Path) -> None:
    stream = cg.Stream(IDS[0])
    Index(stream, tmp_path, run_size=500).build(1500)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    next(tmp_path.glob("run-000001-*")).unlink()
    index = Index(stream, tmp_path)
    assert index.size == 500
    index.build(1500)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_folder_with_other_content_is_refused(tmp_path: Path) -> None:
    stream, folder = cg.Stream(IDS[0]), tmp_path / "index"
    Index(stream, folder, run_size=500).build(1000)
    for other, size, key in (
        (cg.Stream(IDS[0], "test"), None, "digest"),
        (cg.Stream(IDS[0], seed=1), None, "seed"),
        (stream, 501, "run_size"),
    ):
        with pytest.raises(ValueError, match=rf"index.json: {key} = .*name another folder"):
            Index(other, folder, size)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").touch()
    for path in (tmp_path / "mine", tmp_path / "mine" / "notes.txt"):
        with pytest.raises(ValueError, match="holds something other than an index"):
            Index(stream, path)
    for size in (0, 2**32 + 1):
        with pytest.raises(ValueError, match=f"run_size = {size}: give a number of programs from 1 to {2**32}"):
            Index(stream, run_size=size)
    assert Index(stream, run_size=2**32).run_size == 2**32


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    stream, folder = cg.Stream(IDS[0]), tmp_path / "index"
    Index(stream, folder, run_size=500).build(1000)
    run = next(folder.glob("run-000001-*"))
    content = bytearray(run.read_bytes())
    content[-1] ^= 1
    run.write_bytes(content)
    with pytest.raises(ValueError, match=rf"{run.name} is damaged: its SHA-256"):
        Index(stream, folder).build(1000)
    run.write_bytes(content[:-8])
    with pytest.raises(ValueError, match=rf"{run.name} is damaged"):
        Index(stream, folder)
    np.save(run, np.zeros(500))
    with pytest.raises(ValueError, match=rf"{run.name}: float64 of shape"):
        Index(stream, folder)
    for content_of in ("{", "[]", "{}"):
        (folder / "index.json").write_text(content_of)
        with pytest.raises(ValueError, match=r"index.json is damaged"):
            Index(stream, folder)
    shutil.rmtree(folder)
    Index(stream, folder)  # nothing is written before something is built
    assert not folder.exists()


def test_the_command_prints_counts_splits_and_neighbours(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stream, upto = cg.Stream(IDS[0], seed=3), 30_000
    rows, lengths = stream.batch(0, upto)
    program, length = rows[lengths.argmin()], lengths.min()
    prompt = cg.disassemble(program[:length])
    arguments = ["--stream", IDS[0], "--seed", "3", "--upto", str(upto)]
    assert main(["seen", prompt, *arguments]) == 0
    out = capsys.readouterr().out
    count = sum(row[:length].tolist() == program[:length].tolist() for row in rows)
    assert out.startswith(f"{count} of the first {upto} programs begin with it")
    assert "\nsplit: train;" in out
    value = float(out.split("log-probability ")[1].split(",")[0])
    assert math.isclose(value, float(stream.score(program).prompt), abs_tol=1e-4)
    seen = {cg.disassemble(row[:n]) for row, n in zip(rows, lengths, strict=True)}
    near = {cg.disassemble(e) for e in edits(program[:length])} & seen
    *listed, rest = out.split("prompts one token away: ")[1].splitlines()[1:]
    assert len(listed) == 5
    assert rest == f"      ...  {len(near) - 5} more; --near {len(near)} lists them all"
    assert main(["seen", prompt, *arguments, "--near", str(len(near))]) == 0
    whole = capsys.readouterr().out.split("prompts one token away: ")[1].splitlines()[1:]
    assert whole[:5] == listed
    assert {line.split(maxsplit=1)[1] for line in whole} == near
    counts = [int(line.split()[0]) for line in whole]
    assert counts == sorted(counts, reverse=True)

    assert main(["seen", "100 200 add", *arguments, "--folder", str(tmp_path / "index")]) == 1
    out = capsys.readouterr().out
    assert "\nsplit: wide;" in out
    assert "prompts one token away: none" in out
    assert "-inf, exact" in out
    assert json.loads((tmp_path / "index" / "index.json").read_text())["seed"] == 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["12 7 add", "--upto", "-1"], "--stream needs --upto N, the number of programs to count among"),
        (["12 7 add"], "--stream needs --upto N, the number of programs to count among"),
        (["12 7 ad", "--upto", "10"], "is not a token"),
        (["12 7 add", "--upto", "10", "--near", "-1"], "--near -1; allowed: 0 or more"),
    ],
)
def test_mistakes_are_errors(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["seen", *arguments, "--stream", IDS[0]]) == 2
    assert words in capsys.readouterr().err
