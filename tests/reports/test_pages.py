"""The pages of results come from files and are up to date."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest
from support.scripts import load_script

from cadmus_gym.reports import results
from cadmus_gym.reports.models import read
from cadmus_gym.reports.results import MARKER, demo, front
from cadmus_gym.transformer.model_files import PACKAGED

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"


@pytest.fixture
def script() -> ModuleType:
    return load_script(ROOT / "benchmarks" / "report.py")


def test_the_pages_are_up_to_date(script: ModuleType) -> None:
    assert script.main(script.Args(check=True)) == 0, "stale: run `make results`"


def test_a_stale_page_is_found_and_rewritten(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    readme = tmp_path / "README.md"
    readme.write_text(text.replace("nano-arith`](", "nano-arith`] ("), encoding="utf-8")
    monkeypatch.setattr(script, "README", readme)
    assert script.main(script.Args(check=True)) == 1
    assert "README.md: stale; run" in capsys.readouterr().out
    assert script.main(script.Args()) == 0
    assert readme.read_text(encoding="utf-8") == text
    assert script.main(script.Args(check=True)) == 0


def test_the_front_page_quotes_the_paper_and_our_figures() -> None:
    table = front(f"{MARKER}{MARKER}", RESULTS).split(MARKER)[1]
    rows = [line for line in table.splitlines() if line.startswith("|")]
    assert len(rows) == 2 + 5
    assert sum("reports" in row for row in rows) == 2  # the paper's model, and GPT-5
    random = json.loads((RESULTS / "table.json").read_text())["rows"]["random"]
    rate = next(one["truth_rate"] for one in random if one["split"] == "test")
    assert f"| {rate:.2%} of" in rows[2]
    assert "[" not in "".join(row.rpartition("|")[0].rpartition("|")[2] for row in rows)  # no intervals here


@pytest.mark.parametrize("names", [[], ["nano"], ["nano-arith", "nano"]])
def test_the_front_page_marks_models_of_earlier_environments(names: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    cards = [read(PACKAGED / name)[0] for name in names]
    monkeypatch.setattr(results, "is_outdated", lambda card: card in cards)
    table = front(f"{MARKER}{MARKER}", RESULTS).split(MARKER)[1]
    marked = [line for line in table.splitlines() if "(see below)" in line]
    assert [line.split("`")[1] for line in marked] == names
    assert ("trained before the environments changed" in table) == bool(names)


def test_search_is_separate_from_policies() -> None:
    text = demo(json.loads((RESULTS / "table.json").read_text()))
    policies, note, reference, searches = text.split("\n\n")
    assert "search" not in policies
    assert "95 % interval" in note
    assert "No policy may do that" in " ".join(reference.split())
    assert searches.count("| search") == 1
