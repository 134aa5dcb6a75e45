"""What the pages show is true: every fenced block and every command is run, or checked as far as it can be.

A block or command of an unknown kind fails; add here how to run it. What is not run:

- `make`: it installs, trains or tests for minutes. The target must be there, and the flags of its scripts are parsed.
- `python SCRIPT`, `python -m cadmus_gym train` or `ppo`, and `torchrun`: they train or measure for minutes. The flags
  are parsed, a recipe is read.
- `tensorboard`: it serves until it is stopped.
- `pip install`: no network. The extras must be there.
- CHANGELOG.md, benchmarks/LOG.md and benchmarks/results, and the tables of models' pages: they record commands of
  earlier versions.
"""

from __future__ import annotations

import doctest
import re
import runpy
import shlex
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest
import tyro
from support import naive
from support.scripts import load_script
from torch.distributed.run import get_args_parser

import cadmus_gym as cg
from cadmus_gym.__main__ import main
from cadmus_gym.training.scripts import SCRIPTS

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("cadmus_gym", "envs", "pretrain", "agents", "benchmarks", "docs")
RECORDS = ("CHANGELOG.md", "benchmarks/LOG.md", "benchmarks/results/")
LANGUAGE = "cadmus_gym/LANGUAGE.md"
FENCED = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`((?:python|make|torchrun|pip|tensorboard) [^`]+)`")
FEWER = {"--count": 100, "--upto": 10_000}  # of what takes long
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]


@dataclass(frozen=True)
class Block:
    """A fenced block, and where it stands."""

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> dict[str, str]:
    """Every page of Markdown in the checkout, by its path."""
    paths = [*ROOT.glob("*.md"), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.md"))]
    texts = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in sorted(paths)}
    return {page: text for page, text in texts.items() if not page.startswith(RECORDS)}


PAGES = pages()
BLOCKS = [
    Block(page, text.count("\n", 0, found.start()) + 1, found[1], found[2])
    for page, text in PAGES.items()
    for found in FENCED.finditer(text)
]


def of(language: str) -> list[Block]:
    return [block for block in BLOCKS if block.language == language]


def shell_lines() -> list[tuple[str, str]]:
    """The commands of all pages, in blocks and within lines, each with the first page it stands on."""
    found = [(line, block.page) for block in of("sh") for line in block.text.splitlines() if line.strip()]
    for page, text in PAGES.items():
        prose = re.sub(r"^\|.*$", "", FENCED.sub("", text), flags=re.MULTILINE)
        found += [(" ".join(command.split()), page) for command in INLINE.findall(prose)]
    return list({line: (line, page) for line, page in reversed(found)}.values())[::-1]


def test_every_page_and_block_is_known() -> None:
    assert {"README.md", "envs/README.md", LANGUAGE, "cadmus_gym/_models/nano/README.md"} <= set(PAGES)
    assert {f"envs/cards/{id}.md" for id in cg.SPECS} <= set(PAGES)
    for page, text in PAGES.items():
        fences = len(re.findall(r"^ *```", text, re.MULTILINE))
        assert fences == 2 * len(FENCED.findall(text)), f"{page}: a fence that is open or indented"
    for block in BLOCKS:
        shows_programs = block.language == "" and (block.page == LANGUAGE or block.page.startswith("envs/cards/"))
        assert shows_programs or block.language in ("python", "toml", "sh"), f"{block}: {block.language!r} is not run"


@pytest.fixture
def my_toml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the spec of envs/README.md, as my.toml, into the current folder."""
    (tmp_path / "my.toml").write_text(next(block.text for block in of("toml") if "Mine-v0" in block.text), "utf-8")
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("my_toml", "registry")
@pytest.mark.parametrize("block", of("python"), ids=str)
def test_python_runs(block: Block, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if ">>>" in block.text:
        example = doctest.DocTestParser().get_doctest(block.text, {}, str(block), block.page, block.line)
        failed, tried = doctest.DocTestRunner().run(example)
        assert failed == 0, capsys.readouterr().out
        assert tried > 0
        return
    (tmp_path / "shown.py").write_text(block.text, encoding="utf-8")
    runpy.run_path("shown.py", run_name="shown")
    if block.page.startswith("cadmus_gym/_models/"):
        assert capsys.readouterr().out.endswith("19 eq end\n")


@pytest.mark.parametrize("block", of("toml"), ids=str)
def test_toml_loads(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = tomllib.loads(block.text)
    if "id" not in values:
        return
    module = str(values.get("task", "")).partition(":")[0]
    code = [other.text for other in of("python") if other.page == block.page and "Family(" in other.text]
    (tmp_path / f"{module or 'shown'}.py").write_text("\n".join(code), encoding="utf-8")
    (tmp_path / "shown.toml").write_text(block.text, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    spec = cg.load_spec(tmp_path / "shown.toml")
    for split in spec.splits:
        programs, _ = cg.Stream(spec, split).batch(0, 20)
        assert (cg.run_batch(programs)[0] == cg.Verdict.TRUE).all()
    sys.modules.pop(module, None)


@pytest.mark.parametrize("page", [page for page in PAGES if page.startswith("envs/cards/")])
def test_programs_on_cards_are_true(page: str) -> None:
    lines = [line for block in of("") if block.page == page for line in block.text.splitlines()]
    assert len(lines) >= len(cg.load_spec(Path(page).stem).splits)
    for line in lines:
        prompt, completion = line.split("|")
        assert cg.run(f"{prompt} {completion}").true, line


def test_programs_of_the_language_have_their_verdicts() -> None:
    examples = []
    for line in (line for block in of("") if block.page == LANGUAGE for line in block.text.splitlines()):
        program, verdict, *left = re.split(r" {2,}", line.strip())
        examples.append(verdict)
        outcome = cg.run(cg.encode(program))
        assert outcome.verdict.name == naive.judge(program.split()).verdict == verdict, program
        assert not left or left == [f"[{' '.join(map(str, outcome.stack))}]"], program
    assert len(examples) >= 30
    assert set(examples) == {verdict.name for verdict in cg.Verdict}


def parse(script: str, arguments: list[str]) -> None:
    """Let a script of the checkout parse its flags and read its recipe, but not run."""
    module = load_script(ROOT / script)
    kind = getattr(module, "Args", None) or module.Config
    configure = getattr(module, "configure", None) or (lambda words: tyro.cli(kind, args=words))
    if arguments == ["--help"]:
        with pytest.raises(SystemExit, match=r"^0$"):
            configure(arguments)
    else:
        configure(arguments)


def check_make(target: str) -> None:
    """Check that the Makefile has a target, and parse the flags of the scripts that its recipe runs."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    recipe = re.search(rf"^{re.escape(target)}:.*\n((?:\t.*\n)*)", makefile, re.MULTILINE)
    assert recipe is not None, f"no target {target!r}"
    for line in recipe[1].splitlines():
        words = shlex.split(line)
        if words[0] == "$(BIN)/python" and words[1].endswith(".py"):
            parse(words[1], words[2:])


@pytest.mark.usefixtures("my_toml")
@pytest.mark.parametrize(("line", "page"), shell_lines())
def test_commands(line: str, page: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = shlex.split(line, comments=True)
    match words:
        case ["python", "-m", "cadmus_gym", name, *arguments] if name in SCRIPTS:
            parse(SCRIPTS[name], arguments)
        case ["python", "-m", "cadmus_gym", *arguments]:
            for flag, most in FEWER.items():
                if flag in arguments:
                    arguments[arguments.index(flag) + 1] = str(most)
            status = main(arguments)
            said = capsys.readouterr()
            assert said.out
            assert re.sub(r"\s*\d+ of \d+ programs, \d+ min \d+ s left\s*", "", said.err) == ""  # of a long search
            assert status == 0 or (status == 1 and arguments[0] == "seen")  # 1: among so few there is none
        case ["python", script, *arguments]:
            parse(script, arguments)
        case ["torchrun", *arguments]:
            given = get_args_parser().parse_args(arguments)
            parse(given.training_script, given.training_script_args)
        case ["make", *targets]:
            for target in targets:
                check_make(target)
        case ["pip", "install", what]:
            found = re.fullmatch(r"\.(?:\[([\w,]+)\])?", what)
            assert found is not None
            assert set((found[1] or "").split(",")) - {""} <= set(EXTRAS)
        case ["tensorboard", "--logdir", _]:
            pass
        case _:
            pytest.fail(f"{page}: no test knows how to check this command")
