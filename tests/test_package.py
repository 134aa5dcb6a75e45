"""The installed package: quick to import, complete in a wheel."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch

import cadmus_gym as cg
from cadmus_gym.language import kernels
from cadmus_gym.training.record import extended
from cadmus_gym.transformer import checkpoint
from cadmus_gym.transformer.model import ModelConfig, Transformer

ROOT = Path(__file__).resolve().parents[1]


def test_importing_loads_no_torch() -> None:
    script = "import sys, cadmus_gym; print([m for m in ('torch', 'stable_baselines3', 'PIL') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_public_names_exist_and_unknown_names_raise() -> None:
    for name in cg.__all__:
        assert getattr(cg, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        cg.nothing  # noqa: B018


def test_versions_agree() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == cg.__version__
    assert f"version: {cg.__version__}" in (ROOT / "CITATION.cff").read_text()
    assert f"## {cg.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_the_wheel_contains_specs_and_models_and_works_alone(tmp_path: Path) -> None:
    # Of a copy with one more model. By way of the source distribution, as whoever installs that does.
    source = tmp_path / "source"
    shutil.copytree(ROOT / "cadmus_gym", source / "cadmus_gym", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("envs", "pretrain", "agents"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    model = Transformer(ModelConfig(width=32, layers=1, heads=4, hidden=48, context=32))
    models = source / "cadmus_gym" / "_models"
    model.record = extended(b"", 0, np.arange(8, dtype=np.uint8))
    cg.save_model(model, models / "tiny", {"seed": 7}, torch.float16)
    (models / "tiny" / "README.md").write_text("# tiny\n")
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(tmp_path), str(source)]
    subprocess.run(build, capture_output=True, text=True, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    alone = tmp_path / "alone"
    subprocess.run([sys.executable, "-m", "zipfile", "-e", str(wheel), str(alone)], check=True)
    assert {path.name for path in (alone / "cadmus_gym" / "_envs").glob("*.toml")} == {
        path.name for path in (ROOT / "envs").glob("*.toml")
    }
    script = """
        import gymnasium, cadmus_gym.evaluation.trained
        print(cadmus_gym.__file__)
        env = gymnasium.make("Cadmus-Arith-v0")
        env.reset(seed=0)
        print(cadmus_gym.run("1 end").verdict.name, (cadmus_gym.streams.loading.FOLDER / "arith.toml").is_file())
        tiny = cadmus_gym.load_model("tiny")
        print(tiny.card["seed"], cadmus_gym.evaluation.trained.unpack(tiny.record)["0"].tolist())
    """
    # Kernels of equal sources are shared: they are compiled once for checkout and wheel.
    environment = {"PYTHONPATH": str(alone), "CADMUS_GYM_CACHE": str(kernels.folders()[0])}
    result = subprocess.run(
        [sys.executable, "-c", "\n".join(line.strip() for line in script.splitlines())],
        cwd=tmp_path,
        env=environment | {"PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    where, outcome, seed = result.stdout.split("\n")[:3]
    assert where.startswith(str(alone))
    assert outcome == "TRUE True"
    assert seed == "7 [0, 1, 2, 3, 4, 5, 6, 7]"
    recipes = {path.name: path.read_bytes() for path in (ROOT / "pretrain" / "recipes").iterdir()}
    found = alone / "cadmus_gym" / "_scripts" / "pretrain" / "recipes"
    assert {path.name: path.read_bytes() for path in found.iterdir()} == recipes
    assert not [name for name in zipfile.ZipFile(wheel).namelist() if name.endswith((".nbc", ".pyc"))]

    def command(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-m", "cadmus_gym", *arguments],
            cwd=tmp_path,
            env=os.environ | environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "--learning-rate" in command("ppo", "--help")
    tiny = ["--width", "16", "--layers", "1", "--heads", "2", "--context", "128", "--batch", "48", "--steps", "2"]
    tiny += ["--threads", "1", "--dtype", "float32", "--evaluate-count", "4", "--final-count", "4"]
    printed = command("train", "--recipe", "nano-compare", "--folder", "run", *tiny)
    assert json.loads((tmp_path / "run" / "result.json").read_text(encoding="utf-8"))["line"] in printed
    made = json.loads((tmp_path / "run" / "model" / "card.json").read_text(encoding="utf-8"))
    assert made["command"].startswith("python -m cadmus_gym train --recipe nano-compare")

    shipped = {path.relative_to(models): path.read_bytes() for path in models.rglob("*") if path.is_file()}
    assert {"README.md", checkpoint.RECORD, *checkpoint.WRITTEN} == {path.name for path in shipped}
    held = alone / "cadmus_gym" / "_models"
    assert {path.relative_to(held): path.read_bytes() for path in held.rglob("*") if path.is_file()} == shipped


def test_registered_environments_name_the_package_and_no_module_that_may_move() -> None:
    for id in cg.SPECS:
        spec = gymnasium.spec(id)
        assert (spec.entry_point, spec.vector_entry_point) == ("cadmus_gym:CadmusEnv", "cadmus_gym:CadmusVectorEnv")
        assert json.loads(spec.to_json())["entry_point"] == "cadmus_gym:CadmusEnv"
