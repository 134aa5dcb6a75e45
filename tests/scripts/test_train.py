"""pretrain/train.py: a run, its folder, card and curves."""

from __future__ import annotations

import json
import math
import re
import time
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from support.pretraining import TINY, assert_same_weights, interrupt, scalars, weights
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import cadmus_gym as cg
from cadmus_gym import files
from cadmus_gym.evaluation.truth import EVALUATION_SEED
from cadmus_gym.reports import models
from cadmus_gym.training import batches, states
from cadmus_gym.training.record import unpack
from cadmus_gym.transformer.checkpoint import RECORD, load_model

SPLITS = ["train", "test", "wide", "long", "large", "pairs"]


def test_a_run_prints_one_line_and_writes_model_card_states_and_curves(finished: tuple[Path, str, str]) -> None:
    folder, printed, reported = finished
    assert printed.count("\n") == 1
    assert printed.startswith(f"{folder / 'model'}: ")
    for split in SPLITS:
        assert f"{split} " in printed
    assert ": 12 steps, " in printed
    assert "; true of 16 prompts: train " in printed
    assert "step 4: true train " in reported
    assert "step 12/12, loss " in reported
    assert f"{sum(weight.numel() for weight in weights(folder).values()):,} parameters, steps 0 to 12" in reported

    result = json.loads((folder / "result.json").read_text())
    assert result["line"] + "\n" == printed
    card = json.loads((folder / "model" / "card.json").read_text())
    stream = cg.Stream("Cadmus-Arith-v0", "train")
    assert card["digest"] == stream.digest
    assert card["digests"] == {"Cadmus-Arith-v0": cg.load_spec("Cadmus-Arith-v0").digests()}
    assert (card["settings"]["seed"], card["settings"]["width"], card["settings"]["recipe"]) == (0, 16, "nano-arith")
    assert (card["endian"], card["step"], card["steps"], card["programs"]) == ("little", 12, 12, 12 * 48)
    assert card["tokens"] == result["tokens"] > 12 * 48 * 10
    assert card["cpu_seconds"] > card["evaluation_cpu_seconds"] > 0
    assert card["commit"]
    assert card["hardware"]["cores"]
    assert [one["split"] for one in card["metrics"]] == SPLITS
    assert all(one["count"] == 16 and one["seed"] == EVALUATION_SEED for one in card["metrics"])
    assert [point["step"] for point in card["history"]] == [4, 8, 12]
    losses = scalars(folder)
    for point in card["history"]:  # of all steps since the one before
        for name, tag in (("loss", "all"), ("excess_prompts",) * 2, ("excess_completions",) * 2):
            some = [losses[f"loss/{tag}"][step] for step in range(point["step"] - 3, point["step"] + 1)]
            assert point[name] == pytest.approx(sum(some) / 4, rel=0.02), name
    assert card["excess_completions"] == card["completion_loss"]  # a completion follows from its prompt

    assert [path.name[:9] for path in sorted((folder / "states").iterdir())] == ["000000010", "000000012"]
    curves = scalars(folder)
    for tag in ("loss/all", "loss/completion", "gradient/norm", "tokens/second", "rate/muon", "rate/adamw"):
        assert list(curves[tag]) == list(range(1, 13)), tag
    for split in SPLITS:
        assert list(curves[f"truth/{split}"]) == list(curves[f"loopholes/{split}"]) == [4, 8, 12]
    texts = EventAccumulator(str(folder))
    texts.Reload()
    assert [event.step for event in texts.Tensors("completions/text_summary")] == [4, 8, 12]
    assert math.log(65) - 1 < curves["loss/all"][1] < math.log(65) + 1
    assert curves["rate/muon"][12] < curves["rate/muon"][1]


def test_speed_counts_all_tokens_since_the_last_log(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = count()
    monkeypatch.setattr(time, "monotonic", lambda: float(next(ticks)))
    assert script.main(["--folder", str(tmp_path), *TINY]) == 0
    curves = scalars(tmp_path)
    for step in range(2, 13):
        tokens = curves["tokens/total"][step] - curves["tokens/total"][step - 1]
        seconds = tokens / curves["tokens/second"][step]
        assert seconds > 5
        assert seconds == pytest.approx(round(seconds), abs=1e-4)


def test_without_focus_a_run_trains_on_consecutive_programs_of_the_stream(script: ModuleType, tmp_path: Path) -> None:
    assert script.main(["--folder", str(tmp_path / "plain"), *TINY, "--focus", "0"]) == 0
    programs, _ = cg.Stream("Cadmus-Arith-v0", "train").batch(0, 12 * 48)
    model = load_model(tmp_path / "plain" / "model")
    assert model.card["tokens"] == int((programs != 0).sum())
    assert (model.card["among"], model.record) == (1, b"")  # nothing was chosen


@pytest.mark.parametrize("more", [["--seed", "1"], ["--seed", "2", "--focus", "0.9"]], ids=["half", "most"])
def test_the_record_reproduces_the_programs_of_every_step(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: list[str]
) -> None:
    used, cut = [], batches.cut_chunks

    def cut_chunks(batch: batches.Batch, *given: Any) -> list[batches.Chunk]:
        used.append(batch.programs)
        return cut(batch, *given)

    monkeypatch.setattr(batches, "cut_chunks", cut_chunks)
    assert script.main(["--folder", str(tmp_path / "run"), *TINY, *more]) == 0
    card, record = load_model(tmp_path / "run" / "model").card, load_model(tmp_path / "run" / "model").record
    choices = unpack(record)["0"]
    assert choices.shape == (12 * 48,)
    assert set(choices.tolist()) == set(range(card["among"]))
    numbers = np.arange(12 * 48) * card["among"] + choices
    stream = cg.Stream("Cadmus-Arith-v0", seed=int(more[1]))
    programs, _ = stream.gather(np.full(numbers.size, stream.seed), numbers)
    assert np.array_equal(programs, np.concatenate(used))
    assert card["sha256"][RECORD] == files.sha256(tmp_path / "run" / "model" / RECORD)


def test_the_model_of_an_evaluation_has_the_record_up_to_that_step(
    script: ModuleType, finished: tuple[Path, str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt(monkeypatch, script, 6)
    assert script.main(["--folder", str(tmp_path / "run"), *TINY]) == 130
    whole, half = (unpack(load_model(one / "model").record)["0"] for one in (finished[0], tmp_path / "run"))
    assert np.array_equal(half, whole[: 4 * 48])
    state = states.load_state(tmp_path / "run" / "states", print)
    assert state is not None
    assert np.array_equal(state["choices"].numpy(), whole[: state["counts"]["step"] * 48])


def test_a_state_without_a_record_is_refused(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        interrupt(patch, script, 2)
        assert script.main(["--folder", str(tmp_path / "run"), *TINY]) == 130
    state = states.load_state(tmp_path / "run" / "states", print)
    assert state is not None
    del state["choices"]
    states.save_state(tmp_path / "run" / "states", 2, state)
    assert script.main(["--folder", str(tmp_path / "run"), "--resume"]) == 2
    assert "another version of Cadmus Gym wrote them; resume with that one" in capsys.readouterr().err


def test_a_family_without_probabilities_trains_without_excess_loss(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = ["from cadmus_gym.tasks import Family", "from cadmus_gym.tasks.values.compare import Parameters"]
    lines += ["def compose(parameters, choices):", "    return f'{choices.integer(0, 99)} 7 add'"]
    lines += ["SUMS = Family('sums', 1, Parameters, 'value', lambda parameters: 6, compose=compose)"]
    (tmp_path / "own_sums.py").write_text("\n".join(lines))
    spec = ['id = "Sums-v0"', 'task = "own_sums:SUMS"']
    spec += ["[splits.train]", "share = [0.2, 1.0]", "[splits.test]", "share = [0.0, 0.2]"]
    (tmp_path / "sums.toml").write_text("\n".join(spec))
    monkeypatch.syspath_prepend(str(tmp_path))
    folder = tmp_path / "run"
    assert script.main(["--folder", str(folder), *TINY, "--env", str(tmp_path / "sums.toml"), "--log-every", "5"]) == 0
    card, config = models.read(folder / "model")
    assert card["floor"] is None
    assert "loss/completion" in scalars(folder)
    assert not [tag for tag in scalars(folder) if tag.startswith("loss/excess")]
    assert not card.keys() & {"excess_prompts", "excess_completions"}
    page = " ".join(models.page("sums", card, config).split())
    assert "50% of them chosen by focus among the first 4,608 of the stream" in page
    assert f"not known, as the entropy of the programs is not; the loss is {card['loss']:.4f} nats per token" in page


def test_two_runs_with_one_seed_end_with_equal_weights(script: ModuleType, finished: tuple[Path, str, str]) -> None:
    folder = finished[0].parent
    cg.Stream("Cadmus-Arith-v0", "train", seed=5).batch(0, 100)
    torch.manual_seed(7)
    assert script.main(["--folder", str(folder / "again"), *TINY]) == 0
    assert script.main(["--folder", str(folder / "other"), *TINY, "--seed", "1"]) == 0
    assert_same_weights(finished[0], folder / "again")
    with pytest.raises(AssertionError):
        assert_same_weights(finished[0], folder / "other")


def test_it_learns(script: ModuleType, tmp_path: Path) -> None:
    tiny = [*TINY, "--steps", "80", "--evaluate-every", "1000", "--save-every", "1000"]
    assert script.main(["--folder", str(tmp_path / "run"), *tiny]) == 0
    curve = scalars(tmp_path / "run")["loss/completion"]
    first, last = (np.mean([curve[step] for step in steps]) for steps in (range(1, 6), range(76, 81)))
    assert last < 0.6 * first


def test_mixtures_overrides_and_stop_at_truth(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mixture = {"Cadmus-Arith-v0": 2, "Cadmus-Compare-v0": 1}
    goal = ["--stop-at-truth", "0", "--endian", "big", "--optimizer", "adamw", "--dtype", "bfloat16"]
    assert script.main(["--folder", str(tmp_path / "mix"), *TINY, "--env", json.dumps(mixture), *goal]) == 0
    assert re.search(r"\n  Cadmus-Compare-v0: train .*, reserved ", capsys.readouterr().out)
    model = load_model(tmp_path / "mix" / "model")
    assert model.endian == "big"
    assert model.card["digest"] == cg.Stream(mixture).digest
    assert model.card["step"] == 4  # of 12: at the first evaluation the goal was reached
    assert script.main(["--folder", str(tmp_path / "mix"), "--resume"]) == 0
    (tmp_path / "mix" / "result.json").unlink()  # as if it had been killed just before the end
    assert script.main(["--folder", str(tmp_path / "mix"), "--resume"]) == 0
    assert load_model(tmp_path / "mix" / "model").card["step"] == 4

    overrides = {"thoughts": {"share": 0.0}}
    short = [*TINY, "--steps", "1", "--overrides", json.dumps(overrides)]
    assert script.main(["--folder", str(tmp_path / "short"), *short]) == 0
    spec = cg.load_spec("Cadmus-Arith-v0", **overrides)
    assert load_model(tmp_path / "short" / "model").card["digest"] == spec.digests()["train"]
