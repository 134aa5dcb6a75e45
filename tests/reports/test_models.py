"""Packaged models: their figures, pages and pictures, and benchmarks/evaluate.py, which writes them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import astuple, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support.scripts import load_script
from support.specs import VALUES

import cadmus_gym as cg
from cadmus_gym.evaluation.answers import outside_training
from cadmus_gym.evaluation.intervals import tally
from cadmus_gym.evaluation.truth import evaluate, problems_of, prompts_of
from cadmus_gym.reports import measures, models, plots
from cadmus_gym.transformer import checkpoint, model_files
from cadmus_gym.transformer.model import ModelConfig, Transformer

ROOT = Path(__file__).resolve().parents[2]
SIZES = ModelConfig(width=32, layers=1, heads=4, hidden=48, context=256)
HARDWARE = {"cpu": "a processor", "cores": 2}
CARD: dict[str, Any] = {
    "command": "python pretrain/train.py",
    "settings": {"env": "Cadmus-Compare-v0", "overrides": {}, "recipe": "nano", "seed": 7},
    "commit": "0123456789ab",
    "hardware": HARDWARE,
    "python": "3.11.7",
    "versions": {"torch": "2.13.0"},
    "tokens": 1_234_567,
    "cpu_seconds": 7200.0,
    "history": [{"step": 1}],
}


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script(ROOT / "benchmarks" / "evaluate.py")


@pytest.fixture
def package(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package without models, with a model to publish beside it; pictures have few squares."""
    monkeypatch.setattr(model_files, "PACKAGED", tmp_path / "_models")
    monkeypatch.setattr(script, "TOP", tmp_path)
    monkeypatch.setattr(script, "PICTURES", tmp_path / "pictures")
    monkeypatch.setattr(measures, "SIDE", 40)
    monkeypatch.setattr(measures, "BIN", 20)
    monkeypatch.setattr(script, "ROUNDED", 64)
    monkeypatch.setattr(sys, "argv", ["benchmarks/evaluate.py"])
    monkeypatch.setattr(measures, "RARE", 5)
    model = Transformer(SIZES, seed=3)
    model.endian = "little"
    cg.save_model(model, tmp_path / "run" / "model", CARD)
    return tmp_path


@pytest.mark.parametrize("grouped", [None, 2])
@pytest.mark.parametrize("tied", [True, False])
def test_parameters_are_counted_from_the_config(tmp_path: Path, grouped: int | None, tied: bool) -> None:
    model = Transformer(replace(SIZES, key_value_heads=grouped, tied=tied, layers=3))
    cg.save_model(model, tmp_path / "x", {})
    _, config = models.read(tmp_path / "x")
    assert models.parameters_of(config) == sum(p.numel() for p in model.parameters())


def test_publish_rounds_to_the_more_accurate_type(script: ModuleType, package: Path) -> None:
    assert script.main(script.Args(publish=str(package / "run" / "model"), name="small-one")) == 0
    folder = package / "_models" / "small-one"
    model = cg.load_model("small-one")
    assert model.embed_tokens.weight.dtype == torch.float32
    card, config = models.read(folder)
    rounding = card["rounding"]
    assert config["dtype"] == "float32"
    assert card["stored"] == rounding["dtype"] == min(rounding["logits"], key=lambda t: rounding["logits"][t]["rms"])
    assert rounding["logits"]["float16"]["rms"] < rounding["logits"]["bfloat16"]["rms"]
    assert {key: card[key] for key in CARD} == CARD
    text = (folder / "README.md").read_text()
    assert text == models.page("small-one", card, config)
    assert "2 cores" in text
    assert "## Truth" not in text  # it is not evaluated yet


def test_publish_rejects_invalid_names_and_large_models(
    script: ModuleType, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = str(package / "run" / "model")
    for name in ("../x", "a b", "", "."):
        with pytest.raises(ValueError, match="give letters, digits and -"):
            script.publish(run, name)
    with pytest.raises(ValueError, match="--publish needs --name"):
        script.main(script.Args(publish=run))
    monkeypatch.setattr(script, "MOST_BYTES", 20_000)
    with pytest.raises(ValueError, match="MiB in 16 bits; allowed"):
        script.publish(run, "small")
    assert not (package / "_models").exists()


def test_a_weight_too_large_for_float16_is_stored_as_bfloat16(script: ModuleType, package: Path) -> None:
    model = Transformer(SIZES, seed=3)
    with torch.no_grad():
        model.layers[0].mlp.down_proj.weight[0, 0] = 1e6
    cg.save_model(model, package / "large" / "model", CARD)
    folder = script.publish(str(package / "large" / "model"), "large")
    card, _ = models.read(folder)
    assert card["stored"] == "bfloat16"
    assert list(card["rounding"]["logits"]) == ["bfloat16"]


def test_evaluating_writes_what_checking_finds(
    script: ModuleType, package: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script.publish(str(package / "run" / "model"), "small")
    folder, few = (
        package / "_models" / "small",
        script.Args(count=30, elsewhere=2, reliability=10, limits=4, seeds=2, threads=1, price=0.1),
    )
    assert script.main(replace(few, check=True)) == 1
    assert "has no evaluation" in capsys.readouterr().out
    assert script.main(few) == 0
    card, config = models.read(folder)
    assert {key: card[key] for key in CARD} == CARD

    # every environment and split, those of training first
    rows = [(row["spec"], row["split"], row["count"]) for row in card["metrics"]]
    assert [row[:2] for row in rows[:4]] == [("Cadmus-Compare-v0", s) for s in ("train", "test", "wide", "reserved")]
    assert [row[2] for row in rows[:4]] == [60, 60, 4, 4]
    assert {row[2] for row in rows[4:]} == {4}
    specs = {id: cg.load_spec(id) for id in VALUES}
    needed = {id: 1 + spec.prompt_room + spec.episode.max_tokens for id, spec in specs.items()}
    left_out = {id: positions for id, positions in needed.items() if positions > SIZES.context}
    assert "Cadmus-Mix-v0" in left_out
    assert card["left_out"] == left_out
    assert {row[:2] for row in rows} == {
        (id, split) for id in VALUES if id not in left_out for split in cg.load_spec(id).splits
    }
    found = evaluate(cg.load_model("small"), "Cadmus-Compare-v0", "test", 30, seeds=2)
    assert card["metrics"][1]["truth_rate"] == found.truth_rate
    assert card["metrics"][1]["verdicts"] == found.verdicts

    # strata add up, and mistakes are wrong
    strata = card["strata"]["Cadmus-Compare-v0"]
    assert list(strata) == ["test", "wide", "reserved"]
    for name in ("operators", "near ties"):
        true, counts, problems, squares, *_ = np.array(list(strata["test"][name].values())).T
        assert (counts.sum(), true.sum() / 60) == (60, found.truth_rate)
        assert problems.sum() >= found.problems  # a pair of numbers under two relations is one problem
        assert (counts <= squares).all()
    for listed in card["mistakes"]:
        assert listed["count"] == 60
        assert listed["wrong"] == 60 - round(60 * card["metrics"][listed["split"] == "test"]["truth_rate"])
        assert len(listed["completions"]) == listed["wrong"] < 50
        for one in listed["completions"]:
            assert not cg.run(cg.assemble(f"{one['prompt']} {one['completion']}")).true
            assert cg.run(cg.assemble(f"{one['prompt']} {one['answer']}")).true

    text = (folder / "README.md").read_text()
    assert text == models.page("small", card, config)
    assert f"| Cadmus-Compare-v0 | test | yes | 60 | {found.problems} | {found.truth_rate:.2%} |" in text
    assert "7,200; 0.2000 dollars at 0.1 per core-hour" in text
    assert max(len(line) for line in text.splitlines() if not line.startswith(("|", "-", "!"))) <= 120
    links = re.findall(r"\]\(../../../(.+?)\)", text)
    assert len(links) == 3
    for link in links:
        with Image.open(package / link) as image:
            assert image.info["Weights"] == card["sha256"]["model.safetensors"]
    check_reliability(card, text)
    check_limits(card, text)

    # a check changes nothing
    capsys.readouterr()
    before = {path: path.read_bytes() for path in folder.iterdir()}
    assert script.main(replace(few, check=True)) == 0
    assert "as the card says" in capsys.readouterr().out
    assert before == {path: path.read_bytes() for path in folder.iterdir()}

    (folder / "README.md").write_text(text.replace("7,200", "7,201"))
    assert script.main(replace(few, check=True)) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "README.md is not what the card gives"
    (folder / "README.md").write_text(text)
    wrong = json.loads(json.dumps(card))
    wrong["reliability"]["splits"]["Cadmus-Compare-v0"]["wide"]["counts"][0] += 1
    wrong["metrics"][1]["truth_rate"] += 1 / 60
    checkpoint.write_card(folder, wrong)
    script.write_page(folder)
    assert script.main(replace(few, check=True)) == 1
    shown = capsys.readouterr().out
    assert "Cadmus-Compare-v0 test: " in shown
    assert "Cadmus-Compare-v0 wide: reliability differs" in shown
    assert script.main(replace(few, check=True, tolerance=1)) == 0


def check_reliability(card: dict[str, Any], text: str) -> None:
    """Mean probabilities and truth match `complete`, over all and by group, and the page shows them."""
    splits = card["reliability"]["splits"]["Cadmus-Compare-v0"]
    assert list(splits) == ["train", "test", "wide", "reserved"]
    model = cg.load_model("small")
    for split, found in splits.items():
        prompts, lengths = prompts_of("Cadmus-Compare-v0", split, 10, seeds=2)
        done = cg.complete(model, prompts, prompt_lengths=lengths, spec="Cadmus-Compare-v0")
        said = np.exp(done.log_probs.astype(np.float64).sum(1))
        true = cg.run_batch(done.programs)[0] == cg.Verdict.TRUE
        keys = problems_of("Cadmus-Compare-v0", split, 10, seeds=2)
        assert found["counts"] == list(astuple(tally(true, keys)))
        assert found["said"] == pytest.approx(said.mean(), abs=1e-5)
        pairs = [group["counts"][:2] for group in found["groups"].values()]
        assert np.sum(pairs, axis=0).tolist() == [true.sum(), 20]
        means = [group["said"] * group["counts"][1] for group in found["groups"].values()]
        assert sum(means) / 20 == pytest.approx(found["said"], abs=2e-6)
        for name, group in found["groups"].items():
            low, high = map(float, name.split(" to "))
            assert low <= group["said"] <= high
        known = "yes" if split in ("train", "test") else "no"
        row = f"| Cadmus-Compare-v0 | {split} | {known} | 20 | {found['said']:.2%} | {true.mean():.2%} |"
        assert row in text


def check_limits(card: dict[str, Any], text: str) -> None:
    """Numbers with more digits than in train are marked, and the page shows counts and probabilities."""
    values = card["limits"]["axes"]["Cadmus-Compare-v0"]["digits of the numbers"]
    assert {value: one["trained"] for value, one in values.items()} == {
        **dict.fromkeys("345", True),
        **dict.fromkeys("67", False),
    }
    for value, one in values.items():
        true, count, *_ = one["counts"]
        assert count == 8
        shown = "yes" if one["trained"] else "no"
        assert f"| digits of the numbers | {value} | {shown} | 8 | {true / 8:.2%} |" in text
        assert f"| {one['said']:.2%} | {one['said_wrong']:.2%} |" in text
    sentence = re.search(r"^- Cadmus-Compare-v0, digits of the numbers: (.*)$", text, re.MULTILINE)
    assert sentence is not None
    assert f"{values['5']['counts'][0] / 8:.2%} true with 5, the last value shown in training" in sentence[1]
    assert text.index("## Limits") < text.index("## Training")


def test_the_limits_name_the_first_value_past_those_of_training() -> None:
    def value(true: int, trained: bool) -> dict[str, Any]:
        return {"said": 0.75, "said_wrong": None, "counts": [true, 4, 4, 4, true, true], "trained": trained}

    values = {"1": value(4, True), "2": value(3, True), "3": value(1, False), "4": value(0, False)}
    sentence = models.failing("X", "operations", values)
    assert sentence.startswith(
        "X, operations: 75.00% true with 2, the last value shown in training; 25.00% with 3, where"
    )
    assert sentence.endswith("a mean probability of 75.00%.")
    assert models.failing("X", "operations", {"1": value(4, True)}) == ""
    assert models.failing("X", "operations", {"3": value(1, False)}) == ""


@pytest.mark.parametrize("task", ["arith", "branch", "compare", "function", "loop", "register"])
def test_every_axis_runs_from_trained_values_to_others(script: ModuleType, task: str) -> None:
    id = f"Cadmus-{task.title()}-v0"
    model = Transformer(replace(SIZES, context=512), seed=3)
    model.card = {"settings": {"env": id, "overrides": {}}}
    found = measures.limits(model, 2, 5, 1)
    assert found[id].keys() == measures.AXES[task].keys()
    for axis, values in found[id].items():
        assert list(values) == list(measures.AXES[task][axis])  # no value is left out
        assert [one["trained"] for one in values.values()] == sorted(
            (one["trained"] for one in values.values()), reverse=True
        )
        assert {one["trained"] for one in values.values()} == {True, False}


def test_operations_are_crossed_with_held_out_facts() -> None:
    counts = {"1, 1": [3, 4, 4, 4, 3, 3], "2, 1": [1, 2, 2, 2, 1, 1], "2, 2": [5, 5, 5, 5, 5, 5], "others": [1] * 6}
    (table,) = models.crossed("X", counts)
    assert table.splitlines() == [
        "| X: operations | 1 held-out fact | 2 held-out facts |",
        "| --- | --- | --- |",
        "| 1 | 75.00% of 4 |  |",
        "| 2 | 50.00% of 2 | 100.00% of 5 |",
    ]


def test_completions_are_grouped_by_probability(script: ModuleType) -> None:
    said = np.array([0.0, 0.05, 0.1, 0.94999, 0.95, 0.99995, 1.0, 1.0])
    true = np.array([0, 1, 0, 1, 1, 1, 1, 0], bool)
    keys = np.array([1, 1, 1, 2, 3, 4, 4, 5], np.uint64)
    assert measures.by_probability(said, true, keys) == {
        "said": round(said.mean(), 6),
        "counts": [5, 8, 5, 16, 9, 7],
        "groups": {
            "0 to 0.1": {"said": 0.025, "counts": [1, 2, 1, 4, 2, 1]},
            "0.1 to 0.2": {"said": 0.1, "counts": [0, 1, 1, 1, 0, 0]},
            "0.9 to 0.95": {"said": 0.94999, "counts": [1, 1, 1, 1, 1, 1]},
            "0.95 to 0.98": {"said": 0.95, "counts": [1, 1, 1, 1, 1, 1]},
            "0.9999 to 1": {"said": 0.999983, "counts": [2, 3, 2, 5, 4, 4]},
        },
    }


def test_measuring_only_reliability_keeps_all_other_figures(
    script: ModuleType, package: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = script.publish(str(package / "run" / "model"), "small")
    args = script.Args(reliability=3, seeds=2, threads=1, sections=("reliability",))
    assert script.main(replace(args, check=True)) == 1
    assert "the card has no evaluation of reliability; run without --check" in capsys.readouterr().out
    before = models.read(folder)[0]
    assert script.main(args) == 0
    after = models.read(folder)[0]
    assert {key: value for key, value in after.items() if key != "reliability"} == before
    assert after["reliability"]["evaluated"]["settings"]["reliability"] == 3
    text = (folder / "README.md").read_text()
    assert "## Reliability" in text
    assert "## Truth" not in text
    assert (package / after["reliability"]["picture"]).is_file()
    assert script.main(replace(args, check=True)) == 0
    changed = json.loads(json.dumps(after))
    del changed["reliability"]["splits"]["Cadmus-Compare-v0"]["wide"]
    changed["reliability"]["splits"]["Cadmus-Compare-v0"]["test"]["said"] += 0.1
    checkpoint.write_card(folder, changed)
    script.write_page(folder)
    capsys.readouterr()
    assert script.main(replace(args, check=True)) == 1
    shown = capsys.readouterr().out
    assert "Cadmus-Compare-v0 test: reliability differs" in shown
    assert "Cadmus-Compare-v0 wide: reliability differs" in shown
    assert script.main(replace(args, check=True, tolerance=20)) == 1  # the split is missing
    shown = capsys.readouterr().out
    assert "wide: reliability differs" in shown
    assert "test: reliability differs" not in shown


@pytest.mark.parametrize(
    ("id", "prompt"),
    [("Cadmus-Arith-v0", "12 7 add"), ("Cadmus-Mix-v0", "12 7 add"), ("Cadmus-Compare-v0", None)],
)
def test_the_page_shows_a_prompt_of_its_own_environment(id: str, prompt: str | None) -> None:
    spec = cg.load_spec(id)
    example = models.example_of([spec])
    assert example == prompt if prompt else outside_training({"settings": {"env": id}}, cg.assemble(example)) == ""


def test_a_model_outside_the_package_is_evaluated_in_its_folder(script: ModuleType, package: Path) -> None:
    """It gets no picture. A published model of arithmetic gets one of truth by operands."""
    settings = {"env": "Cadmus-Arith-v0", "overrides": {}}
    model = Transformer(SIZES, seed=3)
    cg.save_model(model, package / "sums" / "model", {**CARD, "settings": settings})
    few = script.Args(
        (str(package / "sums" / "model"),), count=4, elsewhere=0, reliability=2, limits=2, seeds=1, threads=1, pairs=1
    )
    assert script.main(few) == 0
    card, config = models.read(package / "sums" / "model")
    assert [(row["spec"], row["split"]) for row in card["metrics"]] == [
        ("Cadmus-Arith-v0", "train"),
        ("Cadmus-Arith-v0", "test"),
    ]
    assert card["evaluated"]["settings"]["models"] == ["./model"]
    assert (package / "sums" / "model" / "README.md").read_text() == models.page("./model", card, config)
    assert not (package / "pictures").exists()
    cg.save_model(model, package / "sums" / "model", {})  # as after further training
    (package / "pictures").mkdir()
    found = script.drawn(card, "sums")
    assert {found["picture"], found["reliability"]["picture"]} <= {
        path.relative_to(package).as_posix() for path in (package / "pictures").iterdir()
    }
    with Image.open(package / found["picture"]) as image:
        assert min(image.size) > 400


def test_strata_with_few_prompts_are_merged(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measures, "RARE", 3)
    labels = np.array(["10", "2", "2", "2", "-1", "10", "10", "7"])
    true, keys = np.array([1, 0, 1, 1, 0, 0, 0, 1], bool), np.array([1, 2, 2, 3, 4, 5, 6, 4], np.uint64)
    assert list(measures.by_label(labels, true, keys).items()) == [
        ("2", [2, 3, 2, 5, 3, 2]),
        ("10", [1, 3, 3, 3, 1, 1]),
        ("others", [1, 2, 1, 4, 2, 1]),
    ]
    ties = np.repeat(["more", "none", "0", "2-3", "1"], [9, 4, 3, 3, 3])
    assert list(measures.by_label(ties, ties == "0", np.zeros(22, np.uint64))) == ["0", "1", "2-3", "more", "none"]
    words = np.array(["add", "sub", "sub", "sub", "sub", "add", "add"])
    found = measures.by_label(words, words == "add", np.arange(7).astype(np.uint64))
    assert list(found.items()) == [("sub", [0, 4, 4, 4, 0, 0]), ("add", [3, 3, 3, 3, 3, 3])]


def test_a_page_shows_the_first_labels_of_a_stratum() -> None:
    counts = {str(k): [k, 10 + k, 5, 20 + k, 1, 2] for k in range(30)} | {"others": [1, 2, 1, 4, 2, 1]}
    shown = models.shortened(counts)
    assert list(shown) == [*map(str, range(20)), "others"]
    assert shown["others"] == [1 + sum(range(20, 30)), 2 + sum(range(30, 40)), 51, 4 + sum(range(40, 50)), 12, 21]
    few = {"a": [1, 2, 2, 2, 1, 1], "others": [1, 2, 2, 2, 1, 1]}
    assert models.shortened(few) == few
    assert models.shortened({"a": [1, 2, 2, 2, 1, 1]}) == {"a": [1, 2, 2, 2, 1, 1]}


def test_the_script_reports_an_unknown_model_in_one_line() -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "evaluate.py"), "--models", "nowhere"]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (told.returncode, told.stdout) == (2, "")
    assert told.stderr.startswith("error: no model 'nowhere': no such folder")


def test_a_page_describes_every_training() -> None:
    ppo = {**CARD, "command": "python agents/ppo.py", "timesteps": 5000, "parent": CARD}
    assert models.stages(ppo) == [CARD, ppo]
    del (without := dict(ppo))["cpu_seconds"]
    assert "core-seconds" not in models.training(without, without)
    assert "| steps | 5,000 |" in models.training(without, without)
    priced = {**CARD, "evaluated": {"settings": {"price": 1}}}
    assert "; 2.0000 dollars at 1 per core-hour" in models.training(priced, priced)
    graphics = {**priced, "hardware": {**HARDWARE, "gpu": "a GPU"}}
    assert "a processor (features not recorded), 2 cores, a GPU" in models.training(graphics, graphics)
    assert "dollars" not in models.training(graphics, graphics)
    known = {**CARD, "hardware": {**HARDWARE, "features": ["avx2", "fma"]}}
    assert "| a processor (avx2, fma), 2 cores |" in models.training(known, known)


# The packaged models.


@pytest.mark.parametrize("name", checkpoint.packaged_models())
def test_the_page_and_pictures_of_a_model_match_its_card(name: str) -> None:
    folder = model_files.PACKAGED / name
    card, config = models.read(folder)
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert text == models.page(name, card, config), "stale: run `make evaluate`"
    assert {path.name for path in folder.iterdir()} == {*checkpoint.WRITTEN, "README.md", *(card["sha256"].keys())}
    assert sum(path.stat().st_size for path in folder.iterdir()) < 8 * 2**20
    assert cg.load_model(name).card == card
    assert "evaluated" in card
    evaluated = {(row["spec"], row["split"]) for row in card["metrics"]}
    assert evaluated == {
        (id, split) for id in VALUES if id not in card["left_out"] for split in cg.load_spec(id).splits
    }
    for path in (ROOT / "benchmarks" / "results" / "models").glob(f"{name}-[a-z]*.png"):
        if path.stem.rpartition("-")[0] != name:
            continue
        with Image.open(path) as image:
            assert image.info["Weights"] == card["sha256"]["model.safetensors"], "stale: run `make evaluate`"


def test_a_page_says_if_the_environments_have_changed_since_training() -> None:
    card = {**CARD, "endian": "little", "settings": {**CARD["settings"], "focus": 0.5}, "programs": 512}
    config = json.loads((model_files.PACKAGED / "nano-arith" / "config.json").read_text(encoding="utf-8"))
    current = cg.Stream("Cadmus-Compare-v0", "train", 7).digest
    for digest, changed in ((current, False), ("0" * 64, True)):
        text = models.page("mine", {**card, "digest": digest, "stored": "bfloat16"}, config)
        assert ("have changed since this model was trained" in text) == changed


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        (
            {"loss": 0.5, "floor": 0.4, "excess_prompts": -0.01, "excess_completions": 0.25},
            "-0.0100 nats per token of prompts, 0.2500 of completions",
        ),
        (
            {"loss": 0.5, "floor": 0.4},  # an older card
            "0.1000 nats per token, prompts weighted 0.1; prompts and completions apart were not recorded",
        ),
        ({"loss": 0.5, "floor": None}, "not known, as the entropy of the programs is not; the loss is 0.5000 nats"),
        ({}, None),
    ],
)
def test_a_page_has_the_excess_loss_of_its_card(figures: dict[str, Any], said: str | None) -> None:
    card = {**CARD, **figures, "endian": "little", "settings": {**CARD["settings"], "prompt_weight": 0.1}}
    config = json.loads((model_files.PACKAGED / "nano-arith" / "config.json").read_text(encoding="utf-8"))
    text = models.page("mine", card | {"stored": "bfloat16"}, config)
    assert (f"| excess loss | {said}" in text) if said else ("excess loss" not in text)


EXCESS = {"excess_prompts": 0.3, "excess_completions": 0.1}


@pytest.mark.parametrize(
    ("points", "lines"),
    [([{}, {}], 1), ([{}, EXCESS], 2), ([EXCESS, EXCESS], 2)],
    ids=["an older card", "an older run, resumed", "a card"],
)
def test_curves_are_drawn_of_what_a_training_writes_into_its_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, points: list[dict[str, float]], lines: int
) -> None:
    """A card has the settings of its recipe, and points of its history have a loss and truth rates."""
    drawn: list[Any] = []
    save = plots.save
    monkeypatch.setattr(plots, "save", lambda figure, *given: (drawn.append(figure), save(figure, *given)))
    truth = {"Cadmus-Compare-v0 test": 0.5}
    history = [{"tokens": n * 1000, "loss": 3.0 / n, "truth": truth, **point} for n, point in enumerate(points, 1)]
    plots.draw_curves(history, "mine", 0.5, 0.1, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert len(drawn[0].axes[0].lines) == lines
