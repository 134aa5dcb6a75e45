"""The command line, `python -m cadmus_gym`."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import cadmus_gym as cg
from cadmus_gym.__main__ import main
from cadmus_gym.training.scripts import SCRIPTS
from cadmus_gym.transformer import decoding

COMPLETE = [
    ["12 7 add"],
    ["61 78 mul 5 sub", "--model", "nano-arith"],
    ["812 97 lt", "--top", "20"],
    ["12 7 add", "--form", "free", "--max-tokens", "9", "--temperature", "1", "--samples", "6", "--seed", "3"],
]


def test_run_prints_verdict_stack_and_steps(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "12 7 add 19 eq end"]) == 0
    assert capsys.readouterr().out.split() == ["TRUE", "stack", "1", "steps", "8"]
    assert main(["run", "12 7 add 18 eq end"]) == 1
    assert capsys.readouterr().out.startswith("FALSE")


def test_trace_shows_each_step_of_each_case(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trace", "case 3 to 9 case 5 to 15 do 3 mul end"]) == 0
    out = capsys.readouterr().out
    assert "case 1" in out
    assert "case 2" in out
    assert [line.split()[1:] for line in out.splitlines() if line.endswith(("3 3", "  9", "5 3", " 15"))][:4] == [
        ["3", "3", "3"],
        ["mul", "9"],
        ["3", "5", "3"],
        ["mul", "15"],
    ]
    assert "2 of 2 cases" in out
    assert main(["trace", "12 7 add 19 eq end"]) == 0
    out = capsys.readouterr().out
    assert out.split()[:2] == ["position", "token"]
    assert "case" not in out
    assert main(["trace", "12 7 add"]) == 1
    assert capsys.readouterr().out.splitlines()[0] == "UNTERMINATED"


def test_sample_prints_true_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", "Cadmus-Arith-v0", "--split", "wide", "--count", "5", "--seed", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    for line in lines:
        assert cg.run(cg.assemble(line.replace("|", ""))).true


def test_envs_lists_every_environment_and_split(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["envs"]) == 0
    words = capsys.readouterr().out.split()
    assert set(cg.SPECS) <= set(words)
    assert {split for id in cg.SPECS for split in cg.load_spec(id).splits} <= set(words)


@pytest.mark.parametrize(
    "arguments",
    [
        ["run"],
        ["trace"],
        ["complete", "--model", "nano-arith"],
        ["seen", "--stream", "Cadmus-Arith-v0", "--upto", "10"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_an_ambiguous_text_prints_a_warning(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([arguments[0], "1 2 7 add add", *arguments[1:]]) < 2
    said = capsys.readouterr()
    assert said.err == ""
    main([arguments[0], "1 2 , 7 add add", *arguments[1:]])
    warned = capsys.readouterr()
    assert warned.err.startswith("warning: `1 2 , 7 add add` is read as `1 2 7 add add`, ")
    assert warned.err.endswith(" `12 7 add add`\n")
    assert warned.out == said.out


def test_version_prints_the_versions_of_dependencies(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    printed = capsys.readouterr().out
    assert printed.startswith(f"cadmus-gym {cg.__version__}, python 3.")
    assert "numba 0." in printed


@pytest.mark.parametrize("arguments", [["instructions"], ["envs"], ["run", "12 7 add 19 eq end"], ["--help"]])
def test_commands_print_under_any_encoding(arguments: list[str]) -> None:
    command = [sys.executable, "-W", "error", "-m", "cadmus_gym", *arguments]
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "LC_ALL": "C"}
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode("ascii")


def test_train_and_ppo_pass_arguments_to_their_scripts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["what", "pytest", "was"])
    for name, script in SCRIPTS.items():
        with pytest.raises(SystemExit, match="0"):
            main([name, "--help"])
        assert f"{script} [-h]" in capsys.readouterr().out
        with pytest.raises(SystemExit, match="2"):
            main([name, "--folde", "run"])
        assert "--folde" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "missing", "extra"), [("train", "tyro", "train"), ("ppo", "sb3_contrib", "rl")])
def test_a_script_with_missing_packages_names_the_extra_to_install(
    name: str, missing: str, extra: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["what", "pytest", "was"])
    monkeypatch.setitem(sys.modules, missing, None)
    assert main([name]) == 2
    assert capsys.readouterr().err == f"error: {name} needs {missing}: pip install '.[{extra}]'\n"


@pytest.mark.parametrize("arguments", [["run", "12 ad"], ["sample", "Cadmus-Arit-v0"], ["sample", "missing.toml"]])
def test_mistakes_print_one_line_and_exit_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_complete_and_seen_need_no_torch() -> None:
    script = """
        import sys
        sys.modules["torch"] = None
        from cadmus_gym.__main__ import main
        main(["seen", "12 7 add", "--model", "nano-arith", "--upto", "0"])
        sys.exit(main(["complete", "12 7 add"]))
    """
    command = [sys.executable, "-c", "\n".join(line.strip() for line in script.splitlines())]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "19 eq end\nTRUE" in result.stdout
    assert "pip install" not in result.stderr


@pytest.mark.parametrize("arguments", COMPLETE)
def test_complete_prints_what_torch_computes(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["complete", *arguments])
    ours = capsys.readouterr().out
    monkeypatch.setattr(decoding, "load_decoder", cg.load_model)
    monkeypatch.setattr(decoding, "ROWS", 0)
    main(["complete", *arguments])
    theirs = capsys.readouterr().out
    decimal = r"-?\d+\.\d+"  # of probabilities, which may be rounded to a neighbour
    assert re.sub(decimal, "#", ours) == re.sub(decimal, "#", theirs)
    numbers = [[float(number) for number in re.findall(decimal, text)] for text in (ours, theirs)]
    assert numbers[0] == pytest.approx(numbers[1], abs=0.011)
    assert len(numbers[0]) > 4


@pytest.mark.parametrize(
    "arguments",
    [
        ["instructions", "--write", "{}/a file"],
        ["instructions", "--write", "{}"],
        ["tokenizer", "{}/a file", "--endian", "big"],
        ["tokenizer", "{}/a file/below", "--endian", "big"],
        ["seen", "12 7 add", "--stream", "Cadmus-Arith-v0", "--upto", "1", "--folder", "{}/a file/below"],
        ["complete", "12 7 add", "--model", "{}/loop"],
        ["complete", "12 7 add", "--model", "a" * 300],
        ["sample", "Cadmus-Arith-v0", "--count", "9999999999999999"],
    ],
)
def test_an_unusable_path_or_count_prints_one_line(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a file").write_text("no marker")
    (tmp_path / "loop").symlink_to("loop")
    assert main([argument.format(tmp_path) for argument in arguments]) == 2
    assert re.fullmatch(r"error: .+\n", capsys.readouterr().err)


@pytest.mark.skipif(os.name == "nt", reason="needs a POSIX shell")
def test_a_closed_stdout_is_not_an_error() -> None:
    command = f'"{sys.executable}" -m cadmus_gym run "1 1 eq end" >&-'
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
