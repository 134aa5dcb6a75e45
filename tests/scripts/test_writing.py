"""benchmarks/writing.py: rows of policies and searches, on a few prompts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from support.scripts import load_script

import cadmus_gym as cg

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "writing.py"


def test_ways_to_write_a_program(tmp_path: Path, capsys: Any) -> None:
    threads = torch.get_num_threads()
    script = load_script(SCRIPT)
    output = tmp_path / "writing.md"
    script.main(
        script.Args(
            specs=("Cadmus-Induce-v0", "Cadmus-Countdown-v0", "Cadmus-Solve-v0"),
            count=12,
            candidates=(1, 2000),
            cpu_seconds=(0.01,),
            output=output,
        )
    )
    torch.set_num_threads(threads)
    found = json.loads(output.with_suffix(".json").read_text())["specs"]
    induce, solve = found["Cadmus-Induce-v0"], found["Cadmus-Solve-v0"]
    assert induce["decided"].keys() == {"the optimal decision", "a draw from the posterior"}
    assert induce["decided"]["the optimal decision"]["earns"] > 0.6
    assert induce["searched"].keys() == {"all bodies, shortest first", "draws from the prior"}
    assert solve["searched"].keys() == {"draws from the prior"}
    for of in found.values():
        for search in of["searched"].values():
            assert search["candidates"]["2000"]["fits"] >= search["candidates"]["1"]["fits"]
            assert all(rate["earns"] <= rate["fits"] for rate in search["candidates"].values())
    assert solve["searched"]["draws from the prior"]["candidates"]["2000"]["earns"] > 0
    assert "no row for the optimal decision" in capsys.readouterr().out
    assert all(f"| {id} test |" in output.read_text() for id in found)
    assert set(found) <= set(cg.SPECS)
