"""benchmarks/table.py: any models as rows, mistakes found before the work, progress shown."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import ModuleType

import pytest
import torch
from support.scripts import load_script

import cadmus_gym as cg
from cadmus_gym.evaluation.excess import measure_excess_loss
from cadmus_gym.evaluation.truth import evaluate
from cadmus_gym.transformer.model import ModelConfig, Transformer

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "table.py"


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    threads = torch.get_num_threads()
    yield load_script(SCRIPT)
    torch.set_num_threads(threads)


def save(folder: Path, context: int = 64) -> Transformer:
    model = Transformer(ModelConfig(width=32, layers=1, heads=4, hidden=48, context=context), seed=2)
    cg.save_model(model, folder, {"endian": "little"})
    return cg.load_model(folder)


def test_rows_are_policies_and_any_models(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first, _ = save(tmp_path / "one"), save(tmp_path / "two")
    monkeypatch.setattr(sys, "argv", ["benchmarks/table.py"])
    shown: list[str] = []
    monkeypatch.setattr(script, "countdown", lambda what: lambda done, total: shown.append(f"{done} of {total} {what}"))
    named = (f"one={tmp_path / 'one'}", f"the other={tmp_path / 'two'}")
    output = tmp_path / "new" / "t.json"
    args = script.Args("Cadmus-Compare-v0", named[:1], 10, seeds=2, budget=30, threads=1, output=output)
    assert script.main(args) == 0
    printed = capsys.readouterr()
    result = json.loads(args.output.read_text())
    assert list(result["rows"]) == ["random", "search, 30 tries", "one, 0.01M"]
    lines = printed.out.splitlines()
    assert (
        lines[1] == "| Cadmus-Compare-v0 | train | test | wide | reserved | excess loss of prompts | of completions |"
    )
    for name, split in ((name, split) for name in result["rows"] for split in range(4)):
        row = result["rows"][name][split]
        assert row["count"] == 20
        cell = f"{row['truth_rate']:.2%} [{row['interval'][0]:.2%}, {row['interval'][1]:.2%}]"
        assert cell in next(line for line in lines if line.startswith(f"| {name} |")).split(" | ")[split + 1]
    assert lines.index("| random" + lines[3].removeprefix("| random")) < next(
        k for k, line in enumerate(lines) if line.startswith("| search")
    )
    spec = cg.load_spec("Cadmus-Compare-v0")
    assert result["rows"]["one, 0.01M"][1]["truth_rate"] == evaluate(first, spec, "test", 10, seeds=2).truth_rate
    problems = " | ".join(str(one["problems"]) for one in result["rows"]["one, 0.01M"])
    assert f"| distinct problems | {problems} |  |  |" in lines
    assert "20 prompts per split, 2 seeds from 1099511627776" in printed.out
    assert result["excess"]["one, 0.01M"] == pytest.approx(asdict(measure_excess_loss(first, spec, "train", 10)))
    for name in ("random", "search, 30 tries", "one, 0.01M"):
        assert f"{name}: 4 splits in" in printed.err
        assert any(line.endswith(f" steps, {name}") and len({*line.split()[::2][:2]}) == 1 for line in shown)
    assert shown[-1] == "10 of 10 programs, loss of one"
    assert [*script.load(named, ["random"])] == ["one", "the other"]


def test_an_agent_of_sb3_is_a_row(script: ModuleType, tmp_path: Path) -> None:
    sb3 = pytest.importorskip("cadmus_gym.rl.sb3")
    model = save(tmp_path / "model", context=128)
    spec = cg.load_spec("Cadmus-Compare-v0")
    env = sb3.CadmusVecEnv(cg.CadmusVectorEnv(2, spec, endian="little", autoreset_mode="SameStep"))
    agent = sb3.MaskablePPO(
        sb3.TransformerPolicy, env, policy_kwargs={"model": str(tmp_path / "model")}, n_steps=8, batch_size=16
    )
    agent.save(tmp_path / "agent.zip")
    loaded = script.load((f"agent={tmp_path / 'agent.zip'}",), ["random"])["agent"]
    for split in ("test", "wide"):
        expected = evaluate(model, spec, split, 20)
        found = evaluate(loaded, spec, split, 20, batch_size=7)
        assert found == expected
    assert script.size_of(loaded) == script.size_of(model) == "0.01M"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model", "x=/nope"], "no model '/nope': no such folder"),
        (["--model", "nano"], "--model 'nano': give NAME=FOLDER"),
        (["--model", "=nano"], "give NAME=FOLDER"),
        (["--model", "x=nano", "--model", "x=nano"], "there is a row 'x' already"),
        (["--model", "random=nano"], "there is a row 'random' already"),
        (["--model", "x=nope.zip"], "no agent 'nope.zip': no such file"),
        (["--model", "x=nano-arith", "--env", "Cadmus-Mix-v0"], "x has 256 positions; Cadmus-Mix-v0 takes "),
        (["--env", "Cadmus-Arit-v0"], "did you mean Cadmus-Arith-v0"),
        (["--count", "1"], "--count 1; allowed: 2 or more"),
        (["--seeds", "0"], "--seeds 0; allowed: 1 or more"),
        (["--output", "FOLDER"], "is a folder"),
    ],
)
def test_mistakes_are_found_before_the_work(
    flags: list[str], message: str, script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(*_: object) -> None:
        raise AssertionError("the work has begun")

    monkeypatch.setattr(script, "row_of", work)
    args = script.tyro.cli(script.Args, args=[str(tmp_path) if flag == "FOLDER" else flag for flag in flags])
    with pytest.MonkeyPatch.context() as patch:
        printed: list[str] = []
        patch.setattr("builtins.print", lambda text, **_: printed.append(text))
        assert script.main(args) == 2
    assert message in printed[0]
    assert printed[0].startswith("table.py: ")


def test_it_fails_as_a_user_meets_it(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--model", "x=/nope"], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("table.py: no model '/nope'")
