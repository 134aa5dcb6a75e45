"""Kernels stay inside their arrays, and the cache never holds code of other sources or flags."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numba
import numpy as np
import pytest

from cadmus_gym import compiling

# Everything that is compiled, on the serial path, over programs that reach every limit.
CHECKED = """
    import numpy as np
    import cadmus_gym as cg
    from cadmus_gym import machine, policies
    from cadmus_gym.answering import answer
    from cadmus_gym.decoding import load_decoder
    import programs

    rng = np.random.default_rng(0)
    noise = rng.integers(0, 65, (4000, 40)).astype(np.uint8)
    body = rng.integers(10, 65, (4000, 40)).astype(np.uint8)
    body[:, -1] = 2
    for rows in (noise, body):
        cg.run_batch(rows, threads=1)
    for names in programs.sample(3000, 0):
        cg.run(" ".join(names))
    for text, _ in programs.LIMITS.values():
        cg.run(text)
    for id in cg.SPECS:
        for split in cg.load_spec(id).splits:
            rows, lengths = cg.Stream(id, split).batch(0, 300, threads=1)
            assert (cg.run_batch(rows, threads=1)[0] == 0).all()
        environment = cg.CadmusVectorEnv(8, id, endian="little")
        environment.reset(seed=0)
        for turn in range(400):
            masks = environment.action_masks()
            environment.step((rng.random(masks.shape) * (masks + 1e-9 * (turn % 7 == 0))).argmax(1))
        policies.random_legal(id, "train", 50)
    for options in ({"form": "value"}, {"form": "free", "max_tokens": 300, "temperature": 9.0, "samples": 2}):
        answer(load_decoder("nano"), cg.assemble("123456 654321 add 99 mul"), **options)
    print("inside")
"""
# The working room of a program made too small: storing where a jump leads falls out of it.
PLANTED = """
    import numpy as np
    from cadmus_gym import machine

    machine.scratch = lambda length: np.zeros(machine.JUMPS + 1, np.int64)
    machine.run("3 times i drop next 1 end")
    print("inside")
"""


def run_checked(script: str, cache: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "NUMBA_BOUNDSCHECK": "1",
        "CADMUS_GYM_CACHE": str(cache),
        "PYTHONPATH": str(Path(__file__).parent),
    }
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("checked")


def test_kernels_stay_inside_their_arrays(cache: Path) -> None:
    result = run_checked(CHECKED, cache)
    assert result.stdout.strip() == "inside", result.stderr[-2000:]


def test_a_planted_overrun_turns_the_checked_run_red(cache: Path) -> None:
    result = run_checked(PLANTED, cache)
    assert "IndexError" in result.stderr
    assert result.returncode != 0


def test_cache_folder_follows_sources_and_flags(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def folder() -> Path:
        compiling.cache_folder.cache_clear()
        return compiling.cache_folder()

    monkeypatch.setenv("CADMUS_GYM_CACHE", str(tmp_path))
    plain = folder()
    assert plain.parent == tmp_path
    assert folder() == plain
    monkeypatch.setattr(numba.config, "BOUNDSCHECK", 1)
    checked = folder()
    assert checked != plain
    monkeypatch.setattr(numba.config, "BOUNDSCHECK", None)
    package = tmp_path / "package"
    package.mkdir()
    for source in compiling.PACKAGE.glob("*.py"):
        (package / source.name).write_bytes(source.read_bytes())
    monkeypatch.setattr(compiling, "PACKAGE", package)
    copied = folder()
    with open(package / "forms.py", "a") as file:
        file.write("\n# edited\n")
    assert folder() != copied
    compiling.cache_folder.cache_clear()


def test_decorating_leaves_numbas_own_cache_folder_alone() -> None:
    before = numba.config.CACHE_DIR

    @compiling.kernel
    def double(value: np.int64) -> np.int64:
        return 2 * value

    assert before == numba.config.CACHE_DIR
    assert double(np.int64(4)) == 8
