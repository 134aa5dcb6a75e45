"""Counts of what a model was trained on, by its record and card, against the batches that were used."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from support.pretraining import interrupt
from support.scripts import TRAIN, entropies_remembered, load_script

import cadmus_gym as cg
from cadmus_gym.__main__ import main
from cadmus_gym.evaluation import trained
from cadmus_gym.evaluation.trained import Trained
from cadmus_gym.reports import models
from cadmus_gym.training import batches
from cadmus_gym.training.record import extended
from cadmus_gym.transformer.checkpoint import RECORD, load_model, save_model, write_card

TINY = ["--width", "16", "--layers", "1", "--heads", "2", "--context", "128", "--batch", "48", "--steps", "12"]
TINY += ["--threads", "1", "--dtype", "float32", "--save-every", "3"]
TINY += ["--evaluate-every", "6", "--evaluate-count", "2", "--final-count", "2"]
ROWS = 12 * 48
# Few problems, so most of them repeat.
FEW = json.dumps({"operands": [0, 9], "operators": {"add": 1, "mul": 2}, "operations": {"1": 1}})

Text = tuple[int, ...]


@pytest.fixture(scope="module", autouse=True)
def entropies() -> Iterator[None]:
    with entropies_remembered():
        yield


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script(TRAIN)


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@dataclass
class Run:
    """A training, and the programs and prompts of the batches it used, in order."""

    folder: Path
    programs: list[Text]
    prompts: list[Text]


def train(script: ModuleType, folder: Path, *arguments: str, stop: int | None = None) -> Run:
    """Train, and keep what goes through the model. If ``stop`` is given, stop after that step and resume."""
    made, rows = Run(folder, [], []), batches.cut_chunks

    def cut_chunks(batch: batches.Batch, *given: Any) -> list[batches.Chunk]:
        texts = [tuple(row[row > 0].tolist()) for row in batch.programs]
        made.programs += texts
        made.prompts += [text[:n] for text, n in zip(texts, batch.prompt_lengths.tolist(), strict=True)]
        return rows(batch, *given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches, "cut_chunks", cut_chunks)
        if stop is not None:
            with pytest.MonkeyPatch.context() as stopping:
                interrupt(stopping, script, stop)
                assert script.main(["--folder", str(folder), *TINY, *arguments]) == 130
            arguments = ("--resume",)
        assert script.main(["--folder", str(folder), *TINY, *arguments]) == 0
    return made


KINDS: dict[str, list[str]] = {
    "few problems, resumed": ["--overrides", FEW, "--seed", "1"],
    "a mixture": ["--env", json.dumps({"Cadmus-Arith-v0": 2, "Cadmus-Compare-v0": 1}), "--focus", "0.9", "--seed", "2"],
    "without focus": ["--overrides", FEW, "--focus", "0", "--seed", "3"],
}


@pytest.fixture(scope="module", params=KINDS)
def run(request: pytest.FixtureRequest, script: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Run:
    stop = 6 if "resumed" in request.param else None
    return train(script, tmp_path_factory.mktemp("run") / "run", *KINDS[request.param], stop=stop)


def arrays(texts: list[Text]) -> list[np.ndarray[Any, Any]]:
    return [np.array(text, np.uint8) for text in texts]


def test_counts_match_the_batches_that_were_used(run: Run) -> None:
    assert len(run.programs) == ROWS
    found = Trained(run.folder / "model")
    assert found.exact
    programs, prompts = Counter(run.programs), Counter(run.prompts)
    assert found.count(arrays([*programs])).tolist() == [*programs.values()]
    assert found.count_prompts(arrays([*prompts])).tolist() == [*prompts.values()]
    starts = [text[:size] for text in [*programs][:20] for size in (0, 1, 3, len(text) - 2)]
    expected = [sum(program[: len(start)] == start for program in run.programs) for start in starts]
    assert found.count(arrays(starts)).tolist() == expected
    assert found.count_posed(arrays([*prompts])).sum() == 0


def test_the_fingerprint_matches_the_programs_that_were_used(run: Run) -> None:
    used = [run.programs[int(place)] for place in np.linspace(0, ROWS - 1, trained.SAMPLE)]
    expected = hashlib.sha256(b"".join(bytes(program) for program in used)).hexdigest()
    assert load_model(run.folder / "model").card["fingerprint"] == expected


def test_candidates_that_were_not_chosen_count_zero(run: Run) -> None:
    """Checks all programs in the stretch of the stream from which candidates were taken."""
    found = Trained(run.folder / "model")
    (made,) = found.trainings
    assert made.programs is not None
    rows, lengths = made.programs.stream.batch(0, ROWS * 8)
    programs = [*dict.fromkeys(tuple(row[row > 0].tolist()) for row in rows)]
    prompts = [*dict.fromkeys(tuple(row[:n].tolist()) for row, n in zip(rows, lengths, strict=True))]
    used, asked = Counter(run.programs), Counter(run.prompts)
    assert found.count(arrays(programs)).tolist() == [used[program] for program in programs]
    assert found.count_prompts(arrays(prompts)).tolist() == [asked[prompt] for prompt in prompts]
    assert any(program not in used for program in programs)


def test_counts_up_to_an_earlier_point_match_the_batches(run: Run) -> None:
    (made,) = Trained(run.folder / "model").trainings
    assert made.programs is not None
    prompts = [*dict.fromkeys(run.prompts)]
    for upto in (0, 1, 48, 100, ROWS):
        _, counts = made.programs.ask([], arrays(prompts), upto)
        times = Counter(run.prompts[:upto])
        assert counts.tolist() == [times[prompt] for prompt in prompts]
    with pytest.raises(ValueError, match=f"upto = {ROWS + 1}; allowed: 0 to {ROWS}"):
        made.programs.ask([], [], ROWS + 1)


def test_a_loaded_model_and_its_folder_give_the_same_counts(run: Run) -> None:
    found, texts = Trained(load_model(run.folder / "model")), [cg.disassemble(prompt) for prompt in run.prompts[:9]]
    assert found.count_prompts(texts).tolist() == Trained(run.folder / "model").count_prompts(texts).tolist()


def test_the_seen_command_reports_how_often_a_program_was_trained_on(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    program, prompt = run.programs[100], run.prompts[100]
    model = ["--model", str(run.folder / "model")]
    assert main(["seen", cg.disassemble(program), *model]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"trained on {ROWS} programs of Cadmus-Arith-v0" in lines[0]
    assert lines[1] == f"{run.programs.count(program)} of them are it"
    assert lines[2] == f"{run.prompts.count(prompt)} have the prompt  {cg.disassemble(prompt)}"
    assert lines[3] == "split: train; held-out facts in the problem: none"
    assert main(["seen", cg.disassemble(prompt), *model, "--upto", "101"]) == 0
    begun = sum(text[: len(prompt)] == prompt for text in run.programs[:101])
    assert f"\n{begun} of the first 101 of them begin with it\n" in capsys.readouterr().out
    assert main(["seen", "100 200 add", *model]) == 1
    out = capsys.readouterr().out
    assert "\n0 of them begin with it\n" in out
    assert main(["seen", cg.disassemble(prompt), *model, "--upto", str(ROWS + 1)]) == 2
    assert f"upto = {ROWS + 1}; allowed: 0 to {ROWS}" in capsys.readouterr().err


# ---------------------------------------------------------------------------------------------- other cards


@pytest.fixture(scope="module")
def parent(script: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(script, tmp_path_factory.mktemp("parent") / "run", "--overrides", FEW, "--steps", "4")


def test_counts_include_the_training_of_the_model_to_start_from(
    script: ModuleType, parent: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(parent.folder / "model", tmp_path / "parent")
    more = ["--start", str(tmp_path / "parent"), "--overrides", FEW, "--seed", "9"]
    again = train(script, tmp_path / "again", *more, stop=6)
    shutil.rmtree(tmp_path / "parent")
    prompts = [*dict.fromkeys(parent.prompts + again.prompts)]
    times = Counter(parent.prompts + again.prompts)
    found = Trained(tmp_path / "again" / "model")
    assert found.count_prompts(arrays(prompts)).tolist() == [times[prompt] for prompt in prompts]
    common = cg.disassemble(next(prompt for prompt in prompts if prompt in parent.prompts and prompt in again.prompts))
    assert main(["seen", common, "--model", str(tmp_path / "again" / "model")]) == 0
    assert capsys.readouterr().out.count("begin with it") == 2
    assert [upto for _, upto in found.upto(200)] == [192, 8]
    assert [upto for _, upto in found.upto(0)] == [0]
    with pytest.raises(ValueError, match=f"upto = {193 + ROWS}; allowed: 0 to {192 + ROWS}"):
        found.upto(193 + ROWS)


def test_without_a_record_the_possible_programs_are_reported(
    parent: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = load_model(parent.folder / "model")
    model.record = b""
    del model.card["among"]
    save_model(model, tmp_path / "old")
    found = Trained(tmp_path / "old")
    with pytest.raises(ValueError, match="chosen by focus among the first 1,536; no record says which"):
        found.count(["1"])
    prompt = parent.prompts[0]
    stream = cg.Stream(cg.load_spec("Cadmus-Arith-v0", **json.loads(FEW)))
    rows, _ = stream.batch(0, 8 * 192)
    begun = sum(tuple(row[: len(prompt)].tolist()) == prompt for row in rows)
    assert main(["seen", cg.disassemble(prompt), "--model", str(tmp_path / "old")]) == 0
    assert f"\n{begun} of them, or fewer, were trained on and begin with it\n" in capsys.readouterr().out
    assert begun > sum(text[: len(prompt)] == prompt for text in parent.programs)
    assert main(["seen", "100 200 add", "--model", str(tmp_path / "old")]) == 2
    assert main(["seen", "1 2 add", "--model", str(tmp_path / "old"), "--upto", "9"]) == 2
    assert "error: it is not known exactly what the model was trained on" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"fingerprint": "0" * 64}, "trained on Cadmus-Arith-v0 as it was then; this version writes other programs"),
        ({"digest": "0" * 64}, "trained on Cadmus-Arith-v0 as it was then; this version writes other programs"),
        ({"settings": {"env": "mine.toml"}}, "trained on mine.toml, which cannot be read: "),
        ({"settings": {"env": "Cadmus-Arith-v0"}}, "trained on Cadmus-Arith-v0, but its card does not give 'seed'"),
        ({"settings": None}, "no card says what it was trained on"),
        ({"timesteps": 1}, "trained on Cadmus-Arith-v0, but its card does not give 'posed'"),
    ],
)
def test_nothing_is_counted_if_the_programs_are_unknown(
    parent: Run, tmp_path: Path, change: dict[str, Any], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(parent.folder / "model", tmp_path / "model")
    write_card(tmp_path / "model", {**load_model(tmp_path / "model").card, **change})
    assert main(["seen", "1 2 add", "--model", str(tmp_path / "model")]) == 2
    said = capsys.readouterr()
    assert said.out.startswith(f"{tmp_path / 'model'}: {words}")
    assert said.out.count("\n") == 1
    with pytest.raises(ValueError, match="it is not known exactly what the model was trained on"):
        Trained(tmp_path / "model").count_prompts(["1 2 add"])


def test_a_record_of_another_model_is_refused(parent: Run, tmp_path: Path) -> None:
    shutil.copytree(parent.folder / "model", tmp_path / "model")
    model = load_model(tmp_path / "model")
    for choices in (np.zeros(191, np.uint8), np.full(192, 8, np.uint8)):
        (tmp_path / "model" / RECORD).write_bytes(extended(b"", 0, choices))
        with pytest.raises(ValueError, match=f"{RECORD} is damaged"):
            Trained(tmp_path / "model")
        write_card(tmp_path / "model", model.card)
        with pytest.raises(ValueError, match=r"by card\.json it has 192 choices among 8"):
            Trained(tmp_path / "model")


def test_the_page_shows_the_seen_command_if_there_is_a_record(parent: Run) -> None:
    card, config = models.read(parent.folder / "model")
    asked = (
        '`python -m cadmus_gym seen "12 7 add" --model mine` counts how often it was trained on a program or a prompt.'
    )
    assert asked in " ".join(models.page("mine", card, config).split())
    del card["sha256"][RECORD]
    assert "cadmus_gym seen" not in models.page("mine", card, config)


def test_seen_takes_either_a_model_or_a_stream(parent: Run, capsys: pytest.CaptureFixture[str]) -> None:
    model = ["seen", "1 2 add", "--model", str(parent.folder / "model")]
    for arguments in (["seen", "1 2 add"], [*model, "--stream", "Cadmus-Arith-v0"]):
        with pytest.raises(SystemExit, match="2"):
            main(arguments)
    for more in (["--seed", "1"], ["--folder", "index"]):
        assert main([*model, *more]) == 2
    assert main(["seen", "1 2 add", "--stream", "Cadmus-Arith-v0"]) == 2
    err = capsys.readouterr().err
    assert err.count("--folder and --seed are for --stream") == 2
    assert "--stream needs --upto N, the number of programs to count among" in err


def test_the_record_of_a_large_training_is_small() -> None:
    """Half of 2.4 million rows are chosen among eight: three bits per such row, and almost nothing for the others."""
    choices = np.random.default_rng(0).integers(8, size=(9375, 256), dtype=np.uint8)
    choices[:, 128:] = 0
    assert len(extended(b"", 0, choices.ravel())) < 600_000
