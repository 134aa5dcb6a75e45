"""Programs, streams and models on the command line: `python -m cadmus_gym COMMAND`."""

from __future__ import annotations

import argparse
import io
import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path

from cadmus_gym import SPECS, Stream, __version__, assemble, disassemble, load_spec, run, trace
from cadmus_gym.language import isa as op
from cadmus_gym.language.cases import table_of
from cadmus_gym.language.forms import ENDIANS, FORMS
from cadmus_gym.language.isa import VOCABULARY, Tokens, instruction_table
from cadmus_gym.language.notation import ambiguity
from cadmus_gym.progress import countdown
from cadmus_gym.reports.markdown import inserted
from cadmus_gym.streams.export import export_stream
from cadmus_gym.streams.index import Index
from cadmus_gym.streams.problems import certain, splits_of
from cadmus_gym.streams.seen import Programs, edits
from cadmus_gym.training.provenance import versions
from cadmus_gym.training.scripts import SCRIPTS, run_script
from cadmus_gym.transformer.tokenizer import endian_of, write_tokenizer

MARKER = "<!-- instructions -->"
SPEC = "a registered id, or the path of a .toml file"
MODEL = "the name of a model in the package, or a folder"
PROGRAM = 'a program, such as "12 7 add 19 eq end"'


def read(text: str) -> Tokens:
    """Return the tokens of a text, one word per number; print a warning if it can also be read as token text."""
    warning = ambiguity(text)
    if warning is not None:
        print(f"warning: {warning}", file=sys.stderr)
    return assemble(text)


def show_run(given: argparse.Namespace) -> int:
    """Print the outcome of a program; return 0 if it is true, else 1."""
    return show_outcome(read(given.program))


def show_trace(given: argparse.Namespace) -> int:
    """Print a line for each token executed, then what `show_run` prints."""
    program, case = read(given.program), None
    has_cases = op.CASE in program
    for step in trace(program):
        if step.case != case:
            blank, case = "" if case is None else "\n", step.case
            title = f"case {case + 1}: " if has_cases else ""
            print(f"{blank}{title + 'position':>16s}  token   stack (top at the right), registers")
        name = VOCABULARY[step.token]
        if step.fault is not None:
            print(f"{step.position:16d}  {name:6s}  {step.fault.name}")
            continue
        registers = "".join(f"   {r}={value}" for r, value in zip("ab", step.registers, strict=True) if value)
        print(f"{step.position:16d}  {name:6s}  {' '.join(map(str, step.stack))}{registers}")
    if case is not None:
        print()
    return show_outcome(program)


def show_outcome(program: Tokens) -> int:
    """Print verdict, stack and steps of a program; return 0 if it is true, else 1."""
    outcome = run(program)
    passed = f"   {outcome.passed} of {outcome.cases} cases passed" if outcome.cases > 1 else ""
    print(f"{outcome.verdict.name}{passed}")
    if outcome.cases > 1:
        print("\n".join(table_of(program)))
    else:
        print(f"stack  {' '.join(map(str, outcome.stack)) or '(empty)'}")
    print(f"steps  {outcome.steps}")
    return 0 if outcome.true else 1


def show_envs(_: argparse.Namespace) -> int:
    """Print every registered environment with its splits."""
    for id in SPECS:
        spec = load_spec(id)
        print(f"{id}\n    {spec.description}\n    form {spec.form}, reward {spec.reward}")
        for name, split in spec.splits.items():
            print(f"    {name:10s} {split.description}")
    return 0


def show_sample(given: argparse.Namespace) -> int:
    """Print the first programs of a stream: a bar between prompt and completion, or a table for several cases."""
    programs, lengths = Stream(given.spec, given.split, given.seed).batch(0, given.count)
    if given.count and ((programs == op.CASE).sum(1) > 1).all():
        for row, length in zip(programs, lengths, strict=True):
            program = row[row > 0]
            first = int((program == op.CASE).argmax())
            begun = disassemble(program[int((program == op.DO).argmax()) + 1 : length])
            print(f"{disassemble(program[:first])}{' ' * (first > 0)}{'... do'}{' ' * bool(begun)}{begun}", end="")
            print(f"  |  {disassemble(program[length:])}")
            print("\n".join(f"    {line}" for line in table_of(program)))
        return 0
    rows = [(disassemble(p[:n]), disassemble(p[n:][p[n:] > 0])) for p, n in zip(programs, lengths, strict=True)]
    width = max((len(prompt) for prompt, _ in rows), default=0)
    for prompt, completion in rows:
        print(f"{prompt:{width}s}  |  {completion}")
    return 0


def show_export(given: argparse.Namespace) -> int:
    """Write the first programs of a stream to Parquet files."""
    stream = Stream(given.spec, given.split, given.seed)
    files = export_stream(stream, given.folder, given.count, report=countdown("programs"))
    print("1 file" if len(files) == 1 else f"{len(files)} files")
    return 0


def show_seen(given: argparse.Namespace) -> int:
    """Print how often a model was trained on a program or a prompt, or how often a stream contains it.

    Returns 0 if that is at least once, 1 if it is not, and 2 if it is not known.
    """
    tokens = read(given.program)
    if given.near < 0:
        raise ValueError(f"--near {given.near}; allowed: 0 or more")
    if given.model is not None:
        return show_trained(tokens, given)
    if given.upto is None or given.upto < 0:
        raise ValueError("--stream needs --upto N, the number of programs to count among, at least 0")
    stream = Stream(given.stream, "train", given.seed or 0)
    programs: Programs | Index = Programs(stream, given.upto)
    if given.folder is not None:
        programs = Index(stream, given.folder)
        programs.build(given.upto, countdown("programs sorted"))
    return int(show_counts(tokens, programs, given.upto, f"of the first {given.upto} programs", given.near) == 0)


def show_trained(tokens: Tokens, given: argparse.Namespace) -> int:
    """Print the counts for each training of a model; return a status as `show_seen` does."""
    try:
        from cadmus_gym.evaluation.trained import CANDIDATES, PROMPTS, Trained
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"models need {error.name}: pip install '.[train]'") from None
    if given.folder is not None or given.seed is not None:
        raise ValueError("--folder and --seed are for --stream; the model's card has the seed of its stream")
    trained, found = Trained(given.model), 0
    for k, (training, upto) in enumerate(trained.upto(given.upto)):
        print(f"{chr(10) if k else ''}{given.model}: {training.about}")
        if training.programs is not None:
            of = f"of the first {upto} of them" if upto < training.programs.count else "of them"
            of += ", or fewer, were trained on and" * (training.kind == CANDIDATES)
            found += show_counts(tokens, training.programs, upto, of, given.near, training.kind == PROMPTS)
    return 0 if found else 1 if trained.exact else 2


def show_counts(
    tokens: Tokens, programs: Programs | Index, upto: int, of: str, listed: int, posed: bool = False
) -> int:
    """Print how many programs are, or begin with, the tokens; their split and probability; and similar prompts.

    ``of`` names the programs that are counted. If only their prompts were ``posed``, prompts are counted. Up to
    ``listed`` similar prompts are listed, the most frequent ones first. Returns the count.
    """
    stream = programs.stream
    fit_many = op.END not in tokens and any(spec.family.fits_many for spec in stream.specs)
    problems = [(spec, *pair) for spec in stream.specs for pair in splits_of(spec, tokens).items()]
    prompt = problems[0][2].prompt if problems else tokens
    near = list(edits(prompt))
    (begun,), (same, *counts) = programs.ask([tokens], [prompt, *near], upto, countdown("programs"))
    if not posed:
        print(f"{begun} {of} {'are it' if op.END in tokens else 'begin with it'}")
    if posed or problems or fit_many:
        print(f"{same} {f'{of} are' if posed else 'have'} the prompt  {disassemble(prompt)}")
    if not problems and fit_many:
        print("many programs may complete a prompt of this kind: give a whole one to see its split and its probability")
    elif not problems:
        print(f"no split of {stream.id} is known to write such a prompt")
    else:
        kept = [(spec, name) for spec, name, problem in problems if problem.kept]
        names = ", ".join(dict.fromkeys(name for spec, name in kept if certain(spec)))
        possible = ", ".join(dict.fromkeys(name for spec, name in kept if not certain(spec)))
        if names or not possible:
            facts = f"; held-out facts in the problem: {problems[0][2].held or 'none'}"
            print(f"split: {names or 'none'}{'' if problems[0][0].family.written else facts}")
        if possible:
            print(f"possible splits: {possible}; it is not known which programs the family writes")
        print(f"log-probability {log_probability(stream, tokens, problems[0][2].programs[0])}")
    found = [(count, other) for count, other in zip(counts, near, strict=True) if count > 0]
    found.sort(key=lambda pair: -pair[0])
    print(f"prompts one token away: {len(found) or 'none'}")
    for count, other in found[:listed]:
        print(f"{count:9d}  {disassemble(other)}")
    if len(found) > listed:
        print(f"      ...  {len(found) - listed} more; --near {len(found)} lists them all")
    return int(same if posed else begun)


def log_probability(stream: Stream, tokens: Tokens, completed: Tokens) -> str:
    """Return the log-probability of a program, or of a prompt with one of its completions, as text."""
    scores = stream.score(tokens if op.END in tokens else completed)
    value = float(scores.log_prob if op.END in tokens else scores.prompt)
    if value != value:
        return "unknown: the task does not define it"
    if scores.exact or value == -float("inf"):
        return f"{value:.4f}, exact"
    return f"{value:.4f}, an estimate with standard error {float(scores.error):.1e}"


def show_complete(given: argparse.Namespace) -> int:
    """Print a model's completions of a prompt, with the machine's verdicts; return 0 if one of them is true, else 1."""
    try:
        from cadmus_gym.evaluation.answers import answer, as_text
        from cadmus_gym.transformer.decoding import load_decoder
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"models need {error.name}: pip install '.[train]'") from None
    tokens, model = read(given.prompt), load_decoder(given.model)
    answers = answer(
        model,
        tokens,
        spec=given.spec,
        form=given.form,
        max_tokens=given.max_tokens,
        thought_tokens=given.thoughts,
        temperature=given.temperature,
        samples=given.samples,
        seed=given.seed,
    )
    print(as_text(answers, top=given.top, endian=model.endian))
    return 0 if any(one.outcome.true for one in answers) else 1


def show_tokenizer(given: argparse.Namespace) -> int:
    """Write the files of a Hugging Face tokenizer and print their paths."""
    print(*write_tokenizer(given.folder, endian_of(given.folder, given.endian)), sep="\n")
    return 0


def show_instructions(given: argparse.Namespace) -> int:
    """Print the table of instructions, or write it between the markers of a Markdown file."""
    if given.write is None:
        print(instruction_table())
    else:
        given.write.write_text(inserted(given.write.read_text("utf-8"), MARKER, instruction_table()), "utf-8")
    return 0


def show_cards(given: argparse.Namespace) -> int:
    """Write the environment cards that are stale, or list them and return 1 if there are any."""
    from cadmus_gym.reports import environments

    files = environments.write() if given.write else environments.stale()
    print("\n".join(map(str, files)) or "no card is stale")
    return int(bool(files) and not given.write)


class ShowVersions(argparse.Action):
    """Prints the versions that a bug report should include."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        found = {"cadmus-gym": __version__, "python": platform.python_version()}
        found |= {name: version for name, version in versions().items() if name not in found}
        print(", ".join(f"{name} {version}" for name, version in found.items()))
        parser.exit()


def command_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line; ``show`` of what it returns is the function of the command."""
    parser = argparse.ArgumentParser(
        "python -m cadmus_gym",
        description="Run programs, print and search streams of programs, and train and query models.",
        epilog="`COMMAND --help` lists the arguments of a command. The exit status is 2 for invalid input.",
    )
    parser.add_argument("--version", action=ShowVersions, nargs=0, help="print versions and exit")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(name: str, show: Callable[[argparse.Namespace], int], help: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=help, description=f"{help[0].upper()}{help[1:]}.")
        command.set_defaults(show=show)
        return command

    command = add("run", show_run, "run a program and print its verdict")
    command.add_argument("program", help=PROGRAM)

    command = add("trace", show_trace, "run a program and print every step and the verdict")
    command.add_argument("program", help=PROGRAM)

    add("envs", show_envs, "list the environments and their splits")

    command = add("sample", show_sample, "print programs of a stream")
    command.add_argument("spec", help=SPEC)
    command.add_argument("--split", default="train", help="default: train")
    command.add_argument("--count", type=int, default=10, help="number of programs; default: 10")
    command.add_argument("--seed", type=int, default=0, help="seed of the stream; default: 0")

    command = add("export", show_export, "write programs of a stream to Parquet files")
    command.add_argument("spec", help=SPEC)
    command.add_argument("folder", type=Path, help="where to write the files")
    command.add_argument("--split", default="train", help="default: train")
    command.add_argument("--count", type=int, required=True, help="number of programs")
    command.add_argument("--seed", type=int, default=0, help="seed of the stream; default: 0")

    command = add(
        "seen", show_seen, "count how often a model was trained on a program or prompt, or a stream contains it"
    )
    command.add_argument("program", help=f"{PROGRAM}, or a prompt")
    source = command.add_mutually_exclusive_group(required=True)
    source.add_argument("--model", help=MODEL)
    source.add_argument("--stream", metavar="SPEC", help=f"{SPEC}; its split train is searched")
    upto = "count among the first N programs; default: all that the model was trained on"
    command.add_argument("--upto", type=int, metavar="N", help=upto)
    command.add_argument("--seed", type=int, help="seed of the stream; default: 0")
    command.add_argument("--folder", type=Path, help="keep an index of the stream here, to answer more questions fast")
    near = "how many of the prompts one token away to list; default: 5"
    command.add_argument("--near", type=int, default=5, metavar="N", help=near)

    command = add("complete", show_complete, "let a model complete a prompt; print the probability of each token")
    command.add_argument("prompt", help='a prompt, such as "12 7 add"')
    command.add_argument("--model", default="nano", help=f"{MODEL}; default: nano")
    command.add_argument("--spec", help=f"{SPEC}, for form and budget; default: what the model was trained on")
    command.add_argument("--form", choices=FORMS, help="form of the completion; default: as in training")
    command.add_argument(
        "--max-tokens", type=int, metavar="N", help="most tokens of the completion; default: as in training"
    )
    command.add_argument("--thoughts", type=int, metavar="N", help="most tokens in thoughts; default: as in training")
    command.add_argument("--top", type=int, default=5, metavar="N", help="alternatives shown per token; default: 5")
    command.add_argument(
        "--temperature", type=float, default=0.0, metavar="T", help="0, the default, takes the most likely token"
    )
    command.add_argument("--samples", type=int, default=1, metavar="N", help="number of completions; default: 1")
    command.add_argument("--seed", type=int, default=0, help="seed of the samples; default: 0")

    for name, help in (("train", "pretrain a transformer"), ("ppo", "fine-tune a transformer with PPO")):
        commands.add_parser(name, help=f"{help}; same arguments as {SCRIPTS[name]}", add_help=False)

    command = add("tokenizer", show_tokenizer, "write the vocabulary as a Hugging Face tokenizer")
    command.add_argument("folder", type=Path, help="the folder of a model, or a new folder")
    command.add_argument("--endian", choices=ENDIANS, help="order of digits; default: the one in the folder's card")

    command = add("instructions", show_instructions, "print the table of the 65 tokens")
    command.add_argument("--write", type=Path, metavar="FILE", help="write it between the markers of a Markdown file")

    command = add("cards", show_cards, "list the environment cards that are stale")
    command.add_argument("--write", action="store_true", help="rewrite all cards; needs a checkout of the source")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run a command; return its exit status, which is 2 for invalid input."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments and arguments[0] in SCRIPTS:
        return run_script(arguments[0], arguments[1:])
    given = command_parser().parse_args(arguments)
    try:
        status: int = given.show(given)
    except BrokenPipeError:  # of stdout
        raise
    except (ValueError, FloatingPointError, OSError, MemoryError, ModuleNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return status


if __name__ == "__main__":
    if isinstance(sys.stdout, io.TextIOWrapper):  # shows the code of a character that the encoding lacks
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status = main()
        if sys.stdout is not None:  # it is None if the descriptor was closed
            sys.stdout.flush()
    except BrokenPipeError:  # a reader such as `head` has seen enough, and the flush at exit must not fail
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    sys.exit(status)
