"""pretrain/train.py: settings, and errors in them."""

from __future__ import annotations

import re
import time
from pathlib import Path
from types import ModuleType

import pytest
from support.pretraining import TINY
from support.scripts import TRAIN

from cadmus_gym.training import ledger
from cadmus_gym.transformer.model import ModelConfig, Transformer


@pytest.mark.parametrize(("data", "said"), [(0.3, True), (0.2, False)])
def test_much_waiting_for_programs_is_reported_once(
    script: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    data: float,
    said: bool,
) -> None:
    """Each step takes one second, and ``data`` of it is spent waiting."""
    spent = {"data": data, "model": 1.0 - data, "optimizer": 0.0}
    clock = [0.0]

    def spend(one: ledger.Ledger, kind: str, since: float) -> float:
        clock[0] += spent.get(kind, 0.0)
        one.counts["times"][kind] += spent.get(kind, 0.0)
        return clock[0]

    monkeypatch.setattr(ledger.Ledger, "spend", spend)
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(ledger, "SETTLED", 6)
    assert script.main(["--folder", str(tmp_path / "run"), *TINY]) == 0
    line = "30% of the time is spent waiting for programs; focus draws 8 for each one that it uses, --focus 0 draws one"
    assert capsys.readouterr().err.count(line) == said


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"widht": "16"}, r"^mine.toml: unknown key 'widht'; did you mean 'width'\? known: env, endian, width"),
        ({"width": None}, r"^mine.toml: key 'width' is missing"),
        ({"width": "0"}, r"^mine.toml: width = 0; allowed: a whole number from 1"),
        ({"width": '"wide"'}, r"^mine.toml: width = 'wide': expected a whole number$"),
        ({"heads": "3"}, r"heads = 3; allowed: divisors of width = 128"),
        ({"muon_rate": "50"}, r"^mine.toml: muon_rate = 50.0; allowed: a number above 0, at most 1"),
        ({"adamw_rate": "nan"}, r"adamw_rate = nan; allowed: a number above 0, at most 1"),
        ({"decay": "-0.1"}, r"decay = -0.1; allowed: a number from 0 to 1"),
        ({"clip": "0"}, r"clip = 0.0; allowed: a number above 0"),
        ({"batch": "2.5"}, r"batch = 2.5: expected a whole number$"),
        ({"steps": "true"}, r"steps = True: expected a whole number$"),
        ({"endian": '"middle"'}, r"endian = 'middle': expected 'big' or 'little'$"),
        ({"dtype": '"float16"'}, r"dtype = 'float16': expected 'auto' or 'float32' or 'bfloat16'$"),
        ({"seed": "-1"}, r"seed = -1; allowed: a whole number from 0"),
        ({"env": "7"}, r"env = 7: expected a string or a table of whole numbers$"),
        ({"width": "= 1"}, r"^mine.toml: not TOML"),
    ],
)
def test_errors_name_the_mistake_in_a_recipe(
    script: ModuleType, tmp_path: Path, change: dict[str, str | None], expected: str
) -> None:
    lines = (TRAIN.parent / "recipes" / "nano-arith.toml").read_text().splitlines()
    values = {line.split(" = ")[0]: line.split(" = ")[1] for line in lines if " = " in line} | change
    path = tmp_path / "mine.toml"
    path.write_text("\n".join(f"{key} = {value}" for key, value in values.items() if value is not None))
    with pytest.raises(ValueError, match=expected):
        script.configure(["--recipe", str(path)])


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--recipe", "nanno"], "recipe 'nanno': no file .*known: .*nano"),
        (["--env", "Cadmus-Arit-v0"], "did you mean Cadmus-Arith-v0"),
        (["--overrides", '{"thoughts": {"stile": 1}}'], "unknown key 'stile'; did you mean 'style'"),
        (["--env", '{"Cadmus-Arith-v0": 1}', "--overrides", '{"limit": 1}'], "overrides need a single env"),
        (["--context", "40"], "context = 40; allowed for Cadmus-Arith-v0: from "),
    ],
)
def test_errors_name_the_mistake_in_a_flag_and_leave_no_folder(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], expected: str
) -> None:
    folder = tmp_path / "run"
    assert script.main(["--folder", str(folder), *arguments]) == 2
    reported = capsys.readouterr().err
    assert reported.startswith("train.py: ")
    assert re.search(expected, reported)
    assert not folder.exists()


@pytest.mark.parametrize(
    ("recipe", "millions"),
    [
        ("pico-arith", 0.32),
        ("nano-arith", 1.0),
        ("nano-compare", 1.0),
        ("nano", 1.0),
        ("small", 10.6),
        ("base", 85.0),
        ("paper", 277.3),
    ],
)
def test_recipes_are_complete_and_have_the_stated_sizes(script: ModuleType, recipe: str, millions: float) -> None:
    config = script.configure(["--recipe", recipe])
    assert config.folder == Path("runs") / recipe
    assert script.make_stream(config).specs  # the context holds its programs
    sizes = config.sizes
    of_layer = 2 * sizes.width * (sizes.width + sizes.groups * sizes.head_width) + 3 * sizes.width * sizes.hidden
    parameters = sizes.layers * (of_layer + 2 * sizes.width) + (65 + 1) * sizes.width
    assert parameters / 1e6 == pytest.approx(millions, abs=0.06)


def test_flags_override_the_recipe_and_a_resumed_run_keeps_its_settings(
    script: ModuleType, finished: tuple[Path, str, str]
) -> None:
    assert script.configure([]).width == 128
    assert script.configure(["--width", "96"]).sizes == ModelConfig(96, 5, 4, hidden=256, context=256)
    assert script.configure([]).folder == Path("runs/nano-arith")
    with pytest.raises(SystemExit, match="2"):
        script.configure(["--resume", "--overwrite"])
    resumed = script.configure(["--folder", str(finished[0]), "--resume", "--threads", "2"])
    assert (resumed.width, resumed.threads, resumed.resume) == (16, 2, True)
    nano = Transformer(script.configure([]).sizes)
    assert sum(weight.numel() for weight in nano.parameters()) < 1.05e6
