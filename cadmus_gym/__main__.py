"""A first look at programs, in the notation for people: ``python -m cadmus_gym run|trace|sample|envs|instructions``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from cadmus_gym import SPECS, Stream, assemble, disassemble, load_spec, run, trace
from cadmus_gym.isa import VOCABULARY, instruction_table

MARKER = "<!-- instructions -->"
_RUN_EXAMPLE = 'a program in the notation for people, such as "12 7 add 19 eq end"'


def show_run(program: str) -> int:
    """Print verdict, stack and steps; return 0 for a true program, else 1."""
    outcome = run(assemble(program))
    cases = f"   {outcome.passed} of {outcome.cases} cases passed" if outcome.cases > 1 else ""
    print(f"{outcome.verdict.name}{cases}")
    print(f"stack  {' '.join(map(str, outcome.stack)) or '(empty)'}")
    print(f"steps  {outcome.steps}")
    return 0 if outcome.true else 1


def show_trace(program: str) -> int:
    """Print a line for each token executed, then what `run` prints."""
    tokens = assemble(program)
    case = None
    for step in trace(tokens):
        if step.case != case:
            case = step.case
            print(
                f"{'' if case == 0 else chr(10)}case {case + 1}: position  token   stack (top at the right), registers"
            )
        name = VOCABULARY[step.token]
        if step.fault is not None:
            print(f"{step.position:16d}  {name:6s}  {step.fault.name}")
            continue
        registers = "".join(f"   {r}={value}" for r, value in zip("ab", step.registers, strict=True) if value)
        print(f"{step.position:16d}  {name:6s}  {' '.join(map(str, step.stack))}{registers}")
    print()
    return show_run(program)


def show_sample(spec: str, split: str, count: int, seed: int) -> int:
    """Print programs of a stream, the prompt apart from the completion."""
    programs, lengths = Stream(spec, split, seed).batch(0, count)
    rows = [(disassemble(p[:n]), disassemble(p[n:][p[n:] > 0])) for p, n in zip(programs, lengths, strict=True)]
    width = max((len(prompt) for prompt, _ in rows), default=0)
    for prompt, completion in rows:
        print(f"{prompt:{width}s}  |  {completion}")
    return 0


def show_envs() -> int:
    """Print every registered environment with its splits."""
    for id in SPECS:
        spec = load_spec(id)
        print(f"{id}\n    {spec.description}\n    form {spec.form}, reward {spec.reward}")
        for name, split in spec.splits.items():
            print(f"    {name:10s} {split.description}")
    return 0


def show_instructions(path: Path | None) -> int:
    """Print the table of instructions, or write it between the markers of a Markdown file."""
    if path is None:
        print(instruction_table())
        return 0
    before, _, behind = path.read_text().split(MARKER)
    path.write_text(f"{before}{MARKER}\n\n{instruction_table()}\n\n{MARKER}{behind}")
    return 0


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m cadmus_gym", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, help in (("run", "judge a program"), ("trace", "judge a program and show every step")):
        command = commands.add_parser(name, help=help)
        command.add_argument("program", help=_RUN_EXAMPLE)
    command = commands.add_parser("sample", help="print programs of a stream")
    command.add_argument("spec", help=f"a registered id ({', '.join(SPECS)}) or the path of a .toml file")
    command.add_argument("--split", default="train")
    command.add_argument("--count", type=int, default=10)
    command.add_argument("--seed", type=int, default=0)
    commands.add_parser("envs", help="list the environments")
    command = commands.add_parser("instructions", help="print the table of the 65 tokens")
    command.add_argument("--write", type=Path, help="a Markdown file to write it into, between its markers")
    given = parser.parse_args(arguments)
    try:
        if given.command == "run":
            return show_run(given.program)
        if given.command == "trace":
            return show_trace(given.program)
        if given.command == "sample":
            return show_sample(given.spec, given.split, given.count, given.seed)
        if given.command == "instructions":
            return show_instructions(given.write)
        return show_envs()
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
