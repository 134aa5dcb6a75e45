"""Programs, in the notation for people, and streams, without writing Python: ``python -m cadmus_gym COMMAND``."""

from __future__ import annotations

import argparse
import io
import os
import platform
import sys
from pathlib import Path

from cadmus_gym import SPECS, Stream, __version__, assemble, disassemble, load_spec, run, trace
from cadmus_gym.language import isa as op
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
_RUN_EXAMPLE = 'a program in the notation for people, such as "12 7 add 19 eq end"'


def read(text: str) -> Tokens:
    """Return the tokens of a text in the notation for people; print a warning where it has another reading."""
    warning = ambiguity(text)
    if warning is not None:
        print(f"warning: {warning}", file=sys.stderr)
    return assemble(text)


def show_run(program: Tokens) -> int:
    """Print verdict, stack and steps; return 0 for a true program, else 1."""
    outcome = run(program)
    cases = f"   {outcome.passed} of {outcome.cases} cases passed" if outcome.cases > 1 else ""
    print(f"{outcome.verdict.name}{cases}")
    print(f"stack  {' '.join(map(str, outcome.stack)) or '(empty)'}")
    print(f"steps  {outcome.steps}")
    return 0 if outcome.true else 1


def show_trace(program: Tokens) -> int:
    """Print a line for each token executed, then what `run` prints."""
    case = None
    for step in trace(program):
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


def show_seen(given: argparse.Namespace) -> int:
    """Print how often a model was trained on a program or a prompt, or how often a stream shows it, and what is near.

    Returns 0 where that is at least once, else 1.
    """
    tokens = read(given.program)
    if given.model is not None:
        return show_trained(tokens, given)
    if given.upto is None or given.upto < 0:
        raise ValueError("--stream takes --upto N, the number of its programs to count among, from 0")
    stream = Stream(given.stream, "train", given.seed or 0)
    programs: Programs | Index = Programs(stream, given.upto)
    if given.folder is not None:
        programs = Index(stream, given.folder)
        programs.build(given.upto, countdown("programs sorted"))
    return int(show_counts(tokens, programs, given.upto, f"of the first {given.upto} programs") == 0)


def show_trained(tokens: Tokens, given: argparse.Namespace) -> int:
    """Print of each training of a model what `show_seen` prints of a stream; return 2 where nothing is known."""
    try:
        from cadmus_gym.evaluation.trained import CANDIDATES, PROMPTS, Trained
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"models need {error.name}: pip install '.[train]'") from None
    if given.folder is not None or given.seed is not None:
        raise ValueError("--folder and --seed go with --stream; a model's card has the seed of its stream")
    trained, found = Trained(given.model), 0
    for k, (training, upto) in enumerate(trained.upto(given.upto)):
        print(f"{chr(10) if k else ''}{given.model}: {training.about}")
        if training.programs is not None:
            of = f"of the first {upto} of them" if upto < training.programs.count else "of them"
            of += ", or fewer, were trained on and" * (training.kind == CANDIDATES)
            found += show_counts(tokens, training.programs, upto, of, training.kind == PROMPTS)
    return 0 if found else 1 if trained.exact else 2


def show_counts(tokens: Tokens, programs: Programs | Index, upto: int, of: str, posed: bool = False) -> int:
    """Print how many programs are or begin with some tokens, and what their stream makes of those, and what is near.

    Where only their prompts were ``posed``, it is said of these. Returns how many there are.
    """
    stream = programs.stream
    problems = [(spec, *pair) for spec in stream.specs for pair in splits_of(spec, tokens).items()]
    prompt = problems[0][2].prompt if problems else tokens
    near = list(edits(prompt))
    (begun,), (same, *counts) = programs.ask([tokens], [prompt, *near], upto, countdown("programs"))
    if not posed:
        print(f"{begun} {of} {'are it' if op.END in tokens else 'begin with it'}")
    if posed or problems:
        print(f"{same} {f'{of} are' if posed else 'have'} the prompt  {disassemble(prompt)}")
    if not problems:
        print(f"no split of {stream.id} is known to write such a prompt")
    else:
        kept = [(spec, name) for spec, name, problem in problems if problem.kept]
        names = ", ".join(dict.fromkeys(name for spec, name in kept if certain(spec)))
        possible = ", ".join(dict.fromkeys(name for spec, name in kept if not certain(spec)))
        if names or not possible:
            print(f"its problem is of split {names or 'none'}; held-out facts in it: {problems[0][2].held or 'none'}")
        if possible:
            print(f"its problem may be of split {possible}: what a family in plain Python writes is not known")
        print(f"log-probability {log_probability(stream, tokens, problems[0][2].programs[0])}")
    shown = [(count, other) for count, other in zip(counts, near, strict=True) if count > 0]
    print(f"prompts one token away: {len(shown) or 'none within one'}")
    for count, other in sorted(shown, key=lambda pair: -pair[0]):
        print(f"{count:9d}  {disassemble(other)}")
    return int(same if posed else begun)


def log_probability(stream: Stream, tokens: Tokens, completed: Tokens) -> str:
    """Return in words how likely a stream is to write a program, or a prompt that may be completed to another."""
    scores = stream.score(tokens if op.END in tokens else completed)
    value = float(scores.log_prob if op.END in tokens else scores.prompt)
    if value != value:
        return "unknown: its task cannot tell"
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
    path.write_text(inserted(path.read_text("utf-8"), MARKER, instruction_table()), "utf-8")
    return 0


def show_cards(write: bool) -> int:
    """Write the cards of the environments, or print which are stale and return 1 where any is."""
    from cadmus_gym.reports import environments

    files = environments.write() if write else environments.stale()
    print("\n".join(map(str, files)) or "no card is stale")
    return int(bool(files) and not write)


class ShowVersions(argparse.Action):
    """Prints the versions that a bug report should include."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        found = {"cadmus-gym": __version__, "python": platform.python_version()}
        found |= {name: version for name, version in versions().items() if name not in found}
        print(", ".join(f"{name} {version}" for name, version in found.items()))
        parser.exit()


def main(arguments: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser("python -m cadmus_gym", description=__doc__)
    parser.add_argument("--version", action=ShowVersions, nargs=0, help="print versions and exit")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, help in (("run", "judge a program"), ("trace", "judge a program and show every step")):
        command = commands.add_parser(name, help=help)
        command.add_argument("program", help=_RUN_EXAMPLE)
    command = commands.add_parser("complete", help="let a model complete a prompt, with the probability of each token")
    command.add_argument("prompt", help='a prompt in the notation for people, such as "12 7 add"')
    command.add_argument("--model", default="nano", help="the name of a model in the package, or a folder")
    command.add_argument("--spec", help="an environment whose form and budget to use; default: that of its training")
    command.add_argument("--form", choices=FORMS, help="what a completion may look like; default: that of its training")
    command.add_argument("--max-tokens", type=int, help="most tokens of a completion; default: as in training")
    command.add_argument("--thoughts", type=int, metavar="N", help="most tokens in thoughts; default: as in training")
    command.add_argument("--top", type=int, default=5, help="alternatives to show per token")
    command.add_argument("--temperature", type=float, default=0.0, help="0 takes the likeliest token")
    command.add_argument("--samples", type=int, default=1, help="completions to draw, at a temperature above 0")
    command.add_argument("--seed", type=int, default=0)
    command = commands.add_parser("sample", help="print programs of a stream")
    command.add_argument("spec", help=f"a registered id ({', '.join(SPECS)}) or the path of a .toml file")
    command.add_argument("--split", default="train")
    command.add_argument("--count", type=int, default=10)
    command.add_argument("--seed", type=int, default=0)
    commands.add_parser("envs", help="list the environments")
    command = commands.add_parser("instructions", help="print the table of the 65 tokens")
    command.add_argument("--write", type=Path, help="a Markdown file to write it into, between its markers")
    command = commands.add_parser(
        "seen", help="count how often a model was trained on a program or a prompt, or a stream contains it"
    )
    command.add_argument("program", help=f"{_RUN_EXAMPLE}, or a prompt")
    source = command.add_mutually_exclusive_group(required=True)
    source.add_argument("--model", help="the name of a model in the package, or a folder")
    source.add_argument("--stream", help="a registered id or the path of a .toml file; its split train")
    command.add_argument(
        "--upto",
        type=int,
        metavar="N",
        help="count among the first N programs; default: all that a model was trained on",
    )
    command.add_argument("--seed", type=int, help="of the stream; default: 0")
    command.add_argument("--folder", type=Path, help="where to keep an index of the stream, for further questions")
    command = commands.add_parser("export", help="write programs of a stream to Parquet files")
    command.add_argument("spec", help="a registered id or the path of a .toml file")
    command.add_argument("folder", type=Path)
    command.add_argument("--split", default="train")
    command.add_argument("--count", type=int, required=True)
    command.add_argument("--seed", type=int, default=0)
    command = commands.add_parser("cards", help="list the cards of environments that are stale")
    command.add_argument("--write", action="store_true", help="generate them again, in a checkout of the source")
    command = commands.add_parser("tokenizer", help="write the vocabulary as a Hugging Face tokenizer")
    command.add_argument("folder", type=Path, help="a model's folder, or a new one")
    command.add_argument("--endian", choices=ENDIANS, help="order of digits; default: the one in the folder's card")
    for name, help in (("train", "pretrain a transformer"), ("ppo", "fine-tune one with PPO")):
        commands.add_parser(name, help=f"{help}; takes the arguments of {SCRIPTS[name]}", add_help=False)
    if arguments and arguments[0] in SCRIPTS:
        return run_script(arguments[0], arguments[1:])
    given = parser.parse_args(arguments)
    try:
        if given.command == "run":
            return show_run(read(given.program))
        if given.command == "trace":
            return show_trace(read(given.program))
        if given.command == "complete":
            return show_complete(given)
        if given.command == "sample":
            return show_sample(given.spec, given.split, given.count, given.seed)
        if given.command == "instructions":
            return show_instructions(given.write)
        if given.command == "seen":
            return show_seen(given)
        if given.command == "export":
            stream = Stream(given.spec, given.split, given.seed)
            print(f"{len(export_stream(stream, given.folder, given.count, report=countdown('programs')))} files")
            return 0
        if given.command == "cards":
            return show_cards(given.write)
        if given.command == "tokenizer":
            print(*write_tokenizer(given.folder, endian_of(given.folder, given.endian)), sep="\n")
            return 0
        return show_envs()
    except BrokenPipeError:  # of stdout
        raise
    except (ValueError, FloatingPointError, OSError, MemoryError, ModuleNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    if isinstance(sys.stdout, io.TextIOWrapper):  # a terminal whose encoding lacks a character shows its code
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status = main()
        if sys.stdout is not None:  # as it is where the descriptor was closed
            sys.stdout.flush()
    except BrokenPipeError:  # a reader such as `head` has seen enough; nothing is left to say on exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    sys.exit(status)
