"""benchmarks/speed.py, run as a user runs it, with counts so small that only its output is looked at, not the speed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import pytest

from cadmus_gym.streams.loading import SPECS

REPOSITORY = Path(__file__).resolve().parents[2]
WORKLOADS = ["short arithmetic", "with cases", "loops at the step limit"]
ID = "Cadmus-Arith-v0"


def speed(output: Path, *arguments: str, **environment: str) -> tuple[str, dict[str, Any]]:
    """Run the script; return what it printed and what it wrote."""
    command = [sys.executable, "-W", "error", str(REPOSITORY / "benchmarks" / "speed.py"), "--output", str(output)]
    command += ["--count", "400", "--repeats", "2", *arguments]
    answer = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout, json.loads(output.read_text())


def numbers(value: Any) -> Iterator[float]:
    if isinstance(value, dict):
        for inner in value.values():
            yield from numbers(inner)
    elif isinstance(value, int | float):
        yield value


def check_rows(printed: str, rows: list[dict[str, Any]], names: list[str]) -> None:
    """Every row is printed and holds a name and positive numbers."""
    assert [next(iter(row.values())) for row in rows] == names
    for name in set(names):
        assert f"\n| {name} | " in printed
    for row in rows:
        measured = list(numbers(row))
        assert measured
        assert all(number > 0 for number in measured), row


def test_machine_first_calls_and_streams(tmp_path: Path) -> None:
    printed, results = speed(tmp_path / "speed.json", "--sections", "machine", "first-call", "streams")
    check_rows(printed, results["machine"], WORKLOADS)
    check_rows(printed, results["first-call"], ["empty", "warm"])
    check_rows(printed, results["streams"], list(SPECS))
    assert "environments, vector" not in results

    recipe = results["recipe"]
    assert recipe["command"].startswith("python ")
    assert recipe["command"].endswith("--sections machine first-call streams")
    assert (recipe["settings"]["count"], recipe["settings"]["repeats"], recipe["settings"]["seed"]) == (400, 2, 0)
    assert recipe["hardware"]["cores"] == os.cpu_count()
    assert recipe["hardware"]["cpu"]
    assert recipe["versions"]["gymnasium"] == gymnasium.__version__
    assert recipe["commit"] in printed


def test_without_a_compiler_the_cell_of_the_yardstick_stays_blank(tmp_path: Path) -> None:
    printed, results = speed(tmp_path / "speed.json", "--sections", "machine", PATH=str(tmp_path))
    check_rows(printed, results["machine"], WORKLOADS)
    for row in results["machine"]:
        assert row["C, one thread / s"] is None
        assert row["one thread / C"] is None
        assert row["one thread / s"] > 0
    assert printed.count(" |  |  |\n") == len(WORKLOADS)
    assert results["recipe"]["commit"] == "unknown"  # nor is there a git


def test_search(tmp_path: Path) -> None:
    printed, results = speed(tmp_path / "speed.json", "--sections", "search")
    kinds = ("straight lines", "with conditionals")
    check_rows(
        printed, results["search"], [f"{inputs}, {kind}" for inputs in ("one input", "two inputs") for kind in kinds]
    )


@pytest.mark.skipif(ID not in gymnasium.registry, reason="the environments are not registered")
def test_environments(tmp_path: Path) -> None:
    arguments = ["--sections", "environments", "--ids", ID, "--sizes", "1", "3", "--steps", "90", "--seconds", "0"]
    printed, results = speed(tmp_path / "speed.json", *arguments)
    check_rows(printed, results["environments, single"], [ID])
    check_rows(printed, results["environments, vector"], [ID, ID])
    for row in results["environments, vector"]:
        assert row["episodes"] > 0
        assert row["true"] == 1
