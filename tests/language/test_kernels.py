"""Kernels stay within their arrays, and the cache never returns stale code."""

import hashlib
import importlib
import io
import os
import pickle
import pkgutil
import stat
import subprocess
import sys
import textwrap
import types
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest

import cadmus_gym
from cadmus_gym import files
from cadmus_gym.language import kernels, machine
from cadmus_gym.tasks import TASKS

# Everything that is compiled, on the serial path, over programs that reach every limit.
CHECKED = """
    import numpy as np
    import cadmus_gym as cg
    from cadmus_gym.evaluation import baselines
    from cadmus_gym.language import machine, memory
    from cadmus_gym.evaluation.answers import answer
    from cadmus_gym.transformer.decoding import load_decoder
    from support import programs

    rng = np.random.default_rng(0)
    noise = rng.integers(0, 65, (4000, 40)).astype(np.uint8)
    body = rng.integers(10, 65, (4000, 40)).astype(np.uint8)
    body[:, -1] = 2
    for rows in (noise, body):
        cg.run_batch(rows, threads=1)
    for names in programs.sample(3000, 0):
        cg.run(cg.encode(" ".join(names)))
    for text, _ in programs.LIMITS.values():
        cg.run(cg.encode(text))
    for id in cg.SPECS:
        for split in cg.load_spec(id).splits:
            rows, lengths = cg.Stream(id, split).batch(0, 300, threads=1)
            assert (cg.run_batch(rows, threads=1)[0] == 0).all()
        environment = cg.CadmusVectorEnv(8, id, endian="little")
        environment.reset(seed=0)
        for turn in range(400):
            masks = environment.action_masks()
            environment.step((rng.random(masks.shape) * (masks + 1e-9 * (turn % 7 == 0))).argmax(1))
        baselines.random_legal(id, "train", 50)
    for options in ({"form": "value"}, {"form": "free", "max_tokens": 300, "temperature": 9.0, "samples": 2}):
        answer(load_decoder("nano"), cg.assemble("123456 654321 add 99 mul"), **options)
    print("inside")
"""
# Working memory that is too small for the jump targets, so storing one is out of bounds.
PLANTED = """
    import numpy as np
    from cadmus_gym.language import machine, memory

    machine.scratch = lambda length: np.zeros(memory.JUMPS + 1, np.int64)
    machine.run("3 times i drop next 1 end")
    print("inside")
"""


def run_checked(script: str, cache: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "NUMBA_BOUNDSCHECK": "1",
        "CADMUS_GYM_CACHE": str(cache),
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def cache(pytestconfig: pytest.Config) -> Path:
    """A folder that later runs of the suite find again, since compiling takes half a minute."""
    assert pytestconfig.cache is not None
    return pytestconfig.cache.mkdir("checked-kernels")


def test_kernels_stay_inside_their_arrays(cache: Path) -> None:
    result = run_checked(CHECKED, cache)
    assert result.stdout.strip() == "inside", result.stderr[-2000:]


def test_bounds_checking_finds_a_planted_overrun(cache: Path) -> None:
    result = run_checked(PLANTED, cache)
    assert "IndexError" in result.stderr
    assert result.returncode != 0


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder, with no cache folder set in the environment and a read-only package."""
    for name in ("CADMUS_GYM_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    (tmp_path / "file").touch()
    monkeypatch.setattr(kernels, "PACKAGE", tmp_path / "file")
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    monkeypatch.setattr(kernels, "_progress", kernels._Progress())
    kernels._say.cache_clear()
    kernels._announce.cache_clear()
    for name in ("mine", "shelf"):  # see `module`
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    return tmp_path


def module(source: str, name: str = "mine") -> Any:
    """A user's file, as a module."""
    sys.modules[name] = made = types.ModuleType(name)
    exec(textwrap.dedent(source), vars(made))
    return made


DOUBLE = """
    from cadmus_gym.language.kernels import kernel

    @kernel
    def double(value):
        return 2 * value
"""


def kept(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.suffix == ".nbc")


def call(function: Any, value: Any) -> tuple[int, bool]:
    """The result of a kernel, and whether it was compiled for this call."""
    result = function(value)
    return result, not function._cache_hits


@pytest.mark.parametrize(
    ("settings", "folder"),
    [
        ({"CADMUS_GYM_CACHE": "ours", "NUMBA_CACHE_DIR": "numba", "XDG_CACHE_HOME": "xdg"}, "ours"),
        ({"CADMUS_GYM_CACHE": "", "NUMBA_CACHE_DIR": "numba", "XDG_CACHE_HOME": "xdg"}, "numba/cadmus_gym"),
        ({"XDG_CACHE_HOME": "xdg", "HOME": "home"}, "xdg/cadmus_gym"),
        ({"HOME": "home"}, "home/.cache/cadmus_gym"),
        ({"XDG_CACHE_HOME": "", "HOME": "home"}, "home/.cache/cadmus_gym"),
        ({"PACKAGE": "package", "XDG_CACHE_HOME": "xdg"}, "package/__pycache__/kernels"),
    ],
)
def test_the_cache_folder_follows_the_environment_variables(
    settings: dict[str, str],
    folder: str,
    clean: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in settings.items():
        place = str(clean / value) if value else ""
        if name == "NUMBA_CACHE_DIR":
            monkeypatch.setattr(numba.config, "CACHE_DIR", place)
        elif name == "PACKAGE":
            monkeypatch.setattr(kernels, "PACKAGE", clean / value)
        else:
            monkeypatch.setenv(name, place)
    assert call(module(DOUBLE).double, 4) == (8, True)
    (name,) = kept(clean)
    assert Path(name).parent == Path(folder)
    assert Path(name).name.startswith("mine.double-")
    assert call(module(DOUBLE).double, 4) == (8, False)
    assert (str(clean / "numba") if "NUMBA_CACHE_DIR" in settings else "") == numba.config.CACHE_DIR
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("home", ["", "relative", None])
def test_without_a_user_folder_a_private_temporary_one_is_used(
    home: str | None, clean: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if home is None:  # as for a user whom the system does not know
        monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    monkeypatch.setenv("XDG_CACHE_HOME", home or "")
    monkeypatch.chdir(clean)
    before = set(clean.iterdir())
    assert call(module(DOUBLE).double, 4) == (8, True)
    assert call(module(DOUBLE).double, 4) == (8, False)
    assert call(module(DOUBLE.replace("2 *", "3 *")).double, 4) == (12, True)
    assert set(clean.iterdir()) == before
    (folder,) = (clean / "temporary").iterdir()
    assert len(kept(folder)) == 2
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert str(folder) in said
    assert "CADMUS_GYM_CACHE" in said
    folder.chmod(0o777)  # anybody else can write code into it now
    assert call(module(DOUBLE).double, 4) == (8, True)
    assert len(kept(folder)) == 2


def test_without_a_writable_folder_each_process_compiles(
    clean: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CADMUS_GYM_CACHE", str(clean / "file"))
    monkeypatch.setattr("tempfile.tempdir", str(clean / "file"))
    for source in (DOUBLE, DOUBLE, DOUBLE.replace("double", "other")):
        made = module(source)
        assert call(made.double if "double" in source else made.other, 4) == (8, True)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "CADMUS_GYM_CACHE" in said
    assert kept(clean) == []


def test_a_full_disk_leaves_no_partial_files(
    clean: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Full(io.FileIO):
        def write(self, data: Any) -> int:
            super().write(bytes(data)[:100])
            raise OSError("no space left on device")

    monkeypatch.setenv("CADMUS_GYM_CACHE", str(clean / "ours"))
    monkeypatch.setattr(files, "open", lambda path, mode: io.BufferedWriter(Full(path, mode)), raising=False)
    assert call(module(DOUBLE).double, 4) == (8, True)
    assert list((clean / "ours").iterdir()) == []
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("damage", ["empty", "truncated", "changed", "mixed up", "of something else"])
def test_a_damaged_cache_file_is_replaced(damage: str, clean: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CADMUS_GYM_CACHE", str(clean))
    assert call(module(DOUBLE).double, 4) == (8, True)
    (name,) = kept(clean)
    whole = (clean / name).read_bytes()
    assert call(module(DOUBLE.replace("2 *", "3 *")).double, 4) == (12, True)
    (another,) = {*kept(clean)} - {name}
    other = pickle.dumps(("no", "code"))
    made = {
        "empty": b"",
        "truncated": whole[: len(whole) // 2],
        "changed": whole[:-1] + bytes([whole[-1] ^ 1]),
        "mixed up": whole[:32] + (clean / another).read_bytes()[32:],
        "of something else": hashlib.sha256(other).digest() + other,
    }
    (clean / name).write_bytes(made[damage])
    assert call(module(DOUBLE).double, 4) == (8, True)
    assert len(kept(clean)) == 2
    assert call(module(DOUBLE).double, 4) == (8, False)


CALLER = """
    import numpy as np
    import shelf
    from shelf import LIMIT, TABLE, Colour, Point, pair, step
    from cadmus_gym.language.kernels import kernel

    def make(closed):
        @kernel
        def total(value, by=3):
            "What is added up."
            point = Point(6, 8)
            return step(value) + LIMIT + TABLE[1] + shelf.FAR + Colour.RED + pair[1] + by + closed + point.x + 5

        return total

    total = make(7)
"""
SHELF = """
    from enum import IntEnum
    from typing import NamedTuple
    import numpy as np
    from cadmus_gym.language.kernels import kernel

    LIMIT, FAR, pair = 10, 20, (1, 2)
    TABLE = np.array([1, 2, 3])

    class Colour(IntEnum):
        RED = 4

    class Point(NamedTuple):
        x: int
        y: int

    @kernel
    def deep(value):
        return value * 100

    @kernel
    def step(value):
        return deep(value) + 1000
"""


def test_stale_code_is_never_run(clean: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CADMUS_GYM_CACHE", str(clean))

    def total(caller: str, shelf: str) -> tuple[int, bool]:
        module(shelf, "shelf")
        return call(module(caller).total, 1)

    before = 100 + 1000 + 10 + 2 + 20 + 4 + 2 + 3 + 7 + 6 + 5
    assert total(CALLER, SHELF) == (before, True)
    assert total(CALLER, SHELF) == (before, False)
    for old, new, more in [
        ("value * 100", "value * 101", 1),  # of what it calls calls
        ("1000", "1001", 1),
        ("LIMIT, FAR, pair = 10", "LIMIT, FAR, pair = 11", 1),
        ("10, 20, (", "10, 21, (", 1),
        ("(1, 2)", "(1, 3)", 1),
        ("[1, 2, 3]", "[1, 4, 3]", 2),
        ("RED = 4", "RED = 5", 1),
        ("x: int\n        y: int", "y: int\n        x: int", 2),
    ]:
        assert SHELF.count(old) == 1
        assert total(CALLER, SHELF.replace(old, new)) == (before + more, True), new
    for old, new, more in [("by=3", "by=4", 1), ("make(7)", "make(8)", 1), ("+ 5", "+ 6", 1), ("value)", "value)", 0)]:
        assert total(CALLER.replace(old, new), SHELF) == (before + more, bool(more)), new
    assert total(CALLER.replace("What is added up.", "The sum."), SHELF) == (before, False)
    assert total("\n    # moved down\n" + CALLER, SHELF) == (before, False)


GETTER = """
    from typing import NamedTuple
    from cadmus_gym.language.kernels import kernel

    class Point(NamedTuple):
        x: int
        y: int

    @kernel
    def get(point):
        return point.x
"""


def test_field_names_of_named_tuples_are_part_of_the_cache_key(clean: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CADMUS_GYM_CACHE", str(clean))
    for source, x in ((GETTER, 5), (GETTER.replace("x: int\n        y: int", "y: int\n        x: int"), 7)):
        for compiles in (True, False):
            made = module(source)
            assert call(made.get, made.Point(5, 7)) == (x, compiles)


@kernels.kernel
def some(value: np.int64) -> np.int64:
    return 2 * value + 1


def test_flags_and_processors_are_part_of_the_cache_key(monkeypatch: pytest.MonkeyPatch) -> None:
    class Processor:
        def __init__(self, *named: str) -> None:
            self.magic_tuple = lambda: named

    cache, signature = kernels.Cache(some.py_func, "kernel"), (numba.int64,)
    names = [cache._name(signature, Processor("x86_64", "znver3", "+avx2"))]
    names.append(cache._name(signature, Processor("x86_64", "znver4", "+avx2")))
    names.append(cache._name(signature, Processor("x86_64", "znver3", "+avx2,+avx512f")))
    names.append(cache._name((numba.int32,), Processor("x86_64", "znver3", "+avx2")))
    callback = kernels.Cache(some.py_func, "callback")
    names.append(callback._name(signature, Processor("x86_64", "znver3", "+avx2")))
    monkeypatch.setattr(numba.config, "BOUNDSCHECK", 1)
    names.append(cache._name(signature, Processor("x86_64", "znver3", "+avx2")))
    assert None not in names
    assert len(set(names)) == len(names)


JITABLE = """
    from numba.extending import register_jitable
    from cadmus_gym.language.kernels import kernel

    @register_jitable
    def inner(value):
        return value + 1

    @kernel
    def outer(value):
        return inner(value)
"""
INTRINSIC = """
    import numba
    from numba.extending import intrinsic
    from cadmus_gym.language.kernels import kernel

    @intrinsic
    def inner(context, value):
        def generate(context, builder, signature, given):
            return builder.add(given[0], context.get_constant(numba.int64, 1))
        return numba.int64(numba.int64), generate

    @kernel
    def outer(value):
        return inner(value)
"""


@pytest.mark.parametrize("source", [JITABLE, INTRINSIC], ids=["jitable", "intrinsic"])
def test_kernels_that_refer_to_unknown_content_are_not_cached(
    source: str, clean: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CADMUS_GYM_CACHE", str(clean))
    for added in (1, 2):
        changed = source.replace("+ 1", f"+ {added}").replace("int64, 1)", f"int64, {added})")
        assert call(module(changed).outer, 4) == (4 + added, True)
    assert kept(clean) == []
    said = capsys.readouterr().err
    assert "mine.outer is compiled in each process: it refers to <" in said
    assert "inner" in said


CONSTANTS = """
    from cadmus_gym.language.kernels import kernel

    @kernel
    def inner(value, by, doubles):
        return value * by * 2 if doubles else value + by

    @kernel
    def outer(value):
        return inner(value, 5, True) + inner(7, by=11, doubles=True) + inner(13, value, False)
"""


def test_a_kernel_is_compiled_once_for_all_integer_constants(clean: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CADMUS_GYM_CACHE", str(clean))
    made = module(CONSTANTS)
    assert call(made.outer, 3) == (30 + 154 + 16, True)
    assert [signature[:2] for signature in made.inner.signatures] == [(numba.int64, numba.int64)] * 2
    assert {signature[2].literal_value for signature in made.inner.signatures} == {True, False}


def test_modules_may_refer_to_each_other(clean: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CADMUS_GYM_CACHE", str(clean))
    source = """
        import shelf
        from cadmus_gym.language.kernels import kernel

        mine, ONE = shelf.mine, 1

        @kernel
        def double(value):
            return 2 * value + mine.ONE + shelf.TWO
    """
    for two in (2, 3):
        module(f"import mine; TWO = {two}", "shelf")
        sys.modules["shelf"].mine = sys.modules["mine"]  # type: ignore[attr-defined]
        sys.modules["mine"].ONE, sys.modules["mine"].shelf = 1, sys.modules["shelf"]  # type: ignore[attr-defined]
        for again in (False, True):
            assert call(module(source).double, 4) == (8 + 1 + two, not again)


def test_a_writer_of_a_users_family_is_cached_and_never_stale(clean: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CADMUS_GYM_CACHE", str(clean))
    source = """
        from cadmus_gym.tasks.family import writer

        KEY = 5

        @writer
        def write(parameters, rng, script, program, marks, work, machine):
            return KEY
    """

    def key(source: str) -> tuple[int, bool]:
        compiled = module(source).write()
        nothing = np.zeros(1, np.int64)
        return drive(compiled, nothing), not compiled.cache_hits

    assert key(source) == (5, True)
    assert key(source) == (5, False)
    assert key(source.replace("KEY = 5", "KEY = 6")) == (6, True)


@numba.njit
def drive(write: Any, ints: Any) -> Any:
    return write(ints, ints.view(np.uint64), ints, ints.view(np.uint8), ints, ints, ints)


def test_all_kernels_and_writers_of_the_package_are_cached() -> None:
    found = []
    for about in pkgutil.walk_packages(cadmus_gym.__path__, "cadmus_gym."):
        if not about.name.endswith("__main__"):
            found += [value for value in vars(importlib.import_module(about.name)).values() if is_kernel(value)]
    found += [family.write.__wrapped__.__closure__[0].cell_contents for family in TASKS.values()]
    assert len(set(found)) > 100
    for function in found:
        assert list(kernels.ingredients(getattr(function, "py_func", function)))
    assert machine.execute.py_func.__code__.co_code.hex() in "".join(kernels.ingredients(machine.judge.py_func))


def is_kernel(value: object) -> bool:
    return isinstance(value, numba.core.dispatcher.Dispatcher)


def test_long_compilation_is_announced_once(
    clean: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CADMUS_GYM_CACHE", str(clean))
    times = iter(np.arange(100) * 0.6)
    monkeypatch.setattr(kernels.time, "monotonic", lambda: next(times))
    monkeypatch.setattr(kernels, "LONG", 1.0)
    assert call(module(DOUBLE).double, 4)[1]
    assert capsys.readouterr().err == ""
    for by in (3, 4, 5):
        assert call(module(DOUBLE.replace("2 *", f"{by} *")).double, 4)[1]
    said = "cadmus_gym: compiling kernels, once per installation; over the first commands this takes about a minute\n"
    assert capsys.readouterr().err == said

    def compile_in_another_process(by: int) -> str:
        kernels._say.cache_clear()
        kernels._announce.cache_clear()
        assert call(module(DOUBLE.replace("2 *", f"{by} *")).double, 4)[1]
        return str(capsys.readouterr().err)

    assert compile_in_another_process(6) == ""  # it was said already
    monkeypatch.setattr(kernels, "QUIET", 0.0)  # an hour later
    assert compile_in_another_process(7) == said
    assert not call(module(DOUBLE).double, 4)[1]
    assert capsys.readouterr().err == ""


def test_the_package_works_without_a_home_or_a_writable_package(tmp_path: Path) -> None:
    # As a process of its own: with the package's folder a file, and no other place but the temporary one.
    script = """
        import pathlib, sys
        from cadmus_gym.language import kernels
        kernels.PACKAGE = pathlib.Path(sys.executable)
        import cadmus_gym as cg
        from cadmus_gym.language.forms import reverse_digits
        print(reverse_digits(cg.assemble("12")).tolist())
    """
    environment = {"PATH": "", "TMPDIR": str(tmp_path), "XDG_CACHE_HOME": "", "HOME": "/dev/null"}
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(script)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.stdout.strip() == "[15, 14]", result.stderr
    assert [path.name for path in tmp_path.iterdir()] == [f"cadmus_gym-{os.getuid()}"]
    assert "CADMUS_GYM_CACHE" in result.stderr
