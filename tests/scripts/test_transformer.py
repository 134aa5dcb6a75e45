"""benchmarks/transformer.py, run as a user runs it, with a model so small that only its output is looked at."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cadmus_gym.transformer.checkpoint import save_model
from cadmus_gym.transformer.model import ModelConfig, Transformer

pytest.importorskip("transformers")
REPOSITORY = Path(__file__).resolve().parents[2]


def test_all_sections(tmp_path: Path) -> None:
    model = Transformer(ModelConfig(width=16, layers=2, heads=2, hidden=24, context=192))
    model.endian = "little"
    save_model(model, tmp_path / "model")
    output = tmp_path / "transformer.json"
    command = [sys.executable, str(REPOSITORY / "benchmarks" / "transformer.py"), "--output", str(output)]
    command += ["--checkpoint", str(tmp_path / "model"), "--prompts", "12", "--batch", "8", "--repeats", "1"]
    answer = subprocess.run(command, env=dict(os.environ), capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    results = json.loads(output.read_text())
    assert results["recipe"]["settings"]["prompts"] == 12
    assert results["recipe"]["commit"] in answer.stdout

    assert [row["dtype"] for row in results["completion"]] == ["float32", "bfloat16"]
    for row in results["completion"]:
        assert row["completions"] == 12
        assert 0 <= row["the same"] <= 12
        assert row["new tokens"] >= 1
        assert row["ours / theirs"]["min"] <= row["ours / theirs"]["median"] <= row["ours / theirs"]["max"]
        assert min(row["ours / theirs"]["min"], row["products alone / theirs"]) > 0

    assert [row["prompts"] for row in results["latency"]] == [1, 4, 16]
    for row in results["latency"]:
        assert row["new tokens"] >= 1
        assert min(row["batch / ours"]["min"], row["theirs / ours"]["min"], row["ours / ms"]) > 0
    for row in results["command line"]:
        assert 0 < row["core-seconds"]["min"] <= row["core-seconds"]["median"]

    assert [row["ours"] for row in results["training"]] == [
        "muon float32",
        "adamw float32",
        "muon bfloat16",
        "adamw bfloat16",
    ]
    for row in results["training"]:
        assert row["tokens"] > 8
        assert row["theirs at that dtype"].endswith(row["ours"].split()[1])
        assert min(row["ours / theirs"]["min"], row["ours / their best"]["min"]) > 0
    for row in results["shares of a step"]:
        shares = [row[part] for part in ("data", "forward", "backward", "optimizers")]
        assert min(shares) > 0
        assert sum(shares) == pytest.approx(1)
    for title in ("completion", "latency", "command line", "training", "shares of a step"):
        assert f"\n## {title}\n" in answer.stdout
        for row in results[title]:
            assert f"\n| {next(iter(row.values()))} | " in answer.stdout
