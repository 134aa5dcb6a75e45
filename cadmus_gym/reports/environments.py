"""Cards: what each environment asks and what its streams contain; ``make docs`` rewrites them.

``envs/cards/ID.md`` has text and tables, ``benchmarks/results/cards/ID.png`` plots, and the README lists all cards. The
texts depend on the specs alone, not on times or hardware, so that a test detects a stale one.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from textwrap import fill
from typing import Any

import gymnasium
import numpy as np

from cadmus_gym.environments.playing import put
from cadmus_gym.environments.single import CadmusEnv
from cadmus_gym.evaluation.constructs import CEILINGS, NEEDED, ignored, meaning_of, named_of
from cadmus_gym.evaluation.directives import plain_policies, strict_of
from cadmus_gym.evaluation.posteriors import ceiling_of
from cadmus_gym.evaluation.truth import prompts_of
from cadmus_gym.language import isa as op
from cadmus_gym.language.forms import GRAMMARS
from cadmus_gym.language.hashing import Words64, distinct, fingerprints
from cadmus_gym.language.isa import VOCABULARY, Ints, Tokens
from cadmus_gym.language.machine import run_batch
from cadmus_gym.language.notation import disassemble
from cadmus_gym.language.verdicts import Verdict
from cadmus_gym.reports import plots
from cadmus_gym.reports.markdown import inserted, markdown
from cadmus_gym.streams.loading import FOLDER, SPECS, load_spec
from cadmus_gym.streams.scores import Entropy
from cadmus_gym.streams.spec import Spec
from cadmus_gym.streams.stream import Stream
from cadmus_gym.tasks.synthesis.instruct import KINDS

MARKER = "<!-- environments -->"
SEED = 0
EXAMPLES = 3
PROGRAMS = 20_000  # per split, for lengths, prompts, answers and tokens
REPEATS = 200_000  # programs of train among which repetitions are counted
SCORED, SAMPLES, BUDGET = 500, 20_000, 100_000  # programs for entropies; samples and budget of `Stream.score`
CHANGED = 100  # programs in which every token is replaced by every other
ASKED = 10_000  # prompts per split that are answered with a construct ignored
DECIDED = 200  # prompts per split whose posterior is computed
SOME, AMONG = 5000, 200_000  # problems per split, and those of train among which they are searched
PARTS = ("prompt", "thought", "answer")
WORDS = {"end": "yes", "not end": "no"}  # meanings of the answers of form relation
GAINS = {
    "truth": "1 for a true program, else 0",
    "cases": "the share of the cases that the program passes",
    "hidden": "1 for a program that is true on its visible and its hidden cases, else 0",
}


def ours() -> list[str]:
    """Return the ids of the environments in the package."""
    return [id for id, path in SPECS.items() if path.parent == FOLDER.resolve()]


def top() -> Path:
    """Return the folder of the checkout. Raises FileNotFoundError for an installed package, which has no cards."""
    if not (FOLDER.parent / "pyproject.toml").is_file():
        raise FileNotFoundError("cards are kept in a checkout of the source; there is none around this package")
    return FOLDER.parent


def picture(id: str) -> Path:
    return top() / "benchmarks" / "results" / "cards" / f"{id}.png"


def card(spec: Spec, measured: dict[str, Measured]) -> str:
    """Return the text of a card."""
    return f"{known(spec)}{wrapped(data(spec, measured))}"


def known(spec: Spec) -> str:
    """Return the part of a card that follows from the spec without what its streams contain."""
    return wrapped(f"{about(spec)}\n{ablations(spec)}\n\n")


def wrapped(text: str) -> str:
    """Return a text with paragraphs wrapped at 120 characters and everything else as it is."""
    kept = "# ", "## ", "### ", "|", "- ", "```", "!["
    blocks = text.split("\n\n")
    return "\n\n".join(b if b.startswith(kept) else fill(b, 120, break_on_hyphens=False) for b in blocks)


def about(spec: Spec) -> str:
    """Return the sections of a card that follow from the spec, in Gymnasium's order, and some programs."""
    episode, free = spec.episode, spec.form == "free"
    refused = ' With `idle_use = "refused"`, 0 for one that meets a `use` with idle words only.'
    refused = refused if spec.idle_use == "refused" else ""
    space = gymnasium.spaces.Box(op.PAD, len(VOCABULARY) - 1, (CadmusEnv(spec).episodes.room,), np.uint8)
    values: dict[str, Any] = {} if spec.mixture else dict(vars(spec.split_parameters(next(iter(spec.splits)))))
    tables = asdict(spec)
    for name in ("episode",) if spec.mixture else ("thoughts", "episode"):
        values |= {f"{name}.{key}": value for key, value in tables[name].items()}
    if spec.mixture:
        links = [f"[{id}]({id}.md), weight {weight}" for id, weight in spec.mixture.items()]
        story = f"A program is one of {'; '.join(links)}."
        keys = "Parameters of tasks are those of the parts."
    else:
        story = sys.modules[spec.family.parameters.__module__].__doc__ or ""
        story = story.removeprefix(f"{spec.task}: ").strip()
        story = f"The task `{spec.task}`: {story}\n\n{thinking(spec)}"
        keys = f"Parameters of the task: {' '.join((spec.family.parameters.__doc__ or '').split())}"
    rows = [
        [name, split.description, spec.digest_of(name)[:12], *differs(spec, name)]
        for name, split in spec.splits.items()
    ]
    limits = (
        f"Truncated after {episode.max_tokens} tokens."
        if free
        else f"Never truncated: the mask always leaves a way to finish within {episode.max_tokens} tokens, at most "
        f"{episode.thought_tokens} of them in thoughts."
    )
    return f"""# {spec.id}

{spec.description}

This card is generated by `make docs` from [its spec](../README.md); edit that instead.

## Description

An episode begins with a prompt, the beginning of a true program. The agent writes the rest, token by token, and the
machine runs it. {story.replace("``", "`")}

## Action Space

`Discrete({len(VOCABULARY)})`: the next [token](../../cadmus_gym/LANGUAGE.md). A completion has the form `{spec.form}`:
{GRAMMARS[spec.form].shape}.

## Observation Space

`{space}`: the prompt and the tokens written so far, padded with 0. A prompt has at most {spec.prompt_room} tokens, a
completion at most {episode.max_tokens}.

## Rewards

0 at every step but the last. At the end of an episode, with `reward = "{spec.reward}"`: {GAINS[spec.reward]}.{refused}

## Starting State

Episode i after `reset(seed=s)` begins with the prompt of program i of the stream with seed s. To choose the
prompt, pass
it as text or token ids: `reset(options={{"prompt": ...}})`.

## Episode End

Terminated by `end`{"" if free else ", or by a token that the form does not allow"}. {limits}

## Information

`action_mask`, ({len(VOCABULARY)},) int8: 1 for a token that is allowed. At the end of an episode also `verdict`,
`passed`, `cases`, `is_success`, `illegal`, `visible`, `hidden`, `hidden_cases` and `idle_use`.

## Arguments

`gymnasium.make("{spec.id}", split="train")`. Other arguments are `endian`, `render_mode`, and any key of the
spec by its
name: `reward`, `form`, tables such as `episode={{"max_tokens": {episode.max_tokens}}}`, and parameters.
{keys.replace("``", "`")}

{markdown(["name", "value"], [[f"`{key}`", f"`{toml(value)}`"] for key, value in values.items()])}

## Splits

{markdown(["split", "description", "digest", "share", "what differs"], rows)}

{sharing(spec)}
{"".join(examples(spec, split) for split in spec.splits)}"""


def sharing(spec: Spec) -> str:
    """Explain the shares of the splits."""
    if any(part.apart == "facts" for part, _ in spec.parts):
        return """The share is the interval of problems that the split keeps: those with a held-out
[fact](../README.md) lie in 0 to 0.1, all others above. Splits with the same parameters share no problem."""
    return """The share is the interval of the hashes of problems that the split keeps. Splits with the same parameters
share no problem."""


def thinking(spec: Spec) -> str:
    thoughts = spec.thoughts
    if not thoughts.share or thoughts.style == "none":
        return "The programs show no worked steps."
    return (
        f"{thoughts.share:.0%} of the programs show worked steps in the style `{thoughts.style}`, unless there "
        f"are none "
        f"before the answer or they take more than {thoughts.limit} tokens."
    )


def differs(spec: Spec, name: str) -> tuple[str, str]:
    """Return a split's share, and what differs between it and the others."""
    if spec.mixture:
        return "as its parts", "its parts"
    split = spec.splits[name]
    share = "all" if split.share == (0.0, 1.0) else f"{split.share[0]:g} to {split.share[1]:g}"
    return share, ", ".join(f"`{key} = {toml(value)}`" for key, value in split.parameters.items()) or "the share"


def toml(value: Any) -> str:
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{key} = {toml(entry)}' for key, entry in value.items())} }}"
    return json.dumps(value)


def examples(spec: Spec, split: str) -> str:
    programs, lengths = Stream(spec, split, SEED).batch(0, EXAMPLES)
    lines = [
        f"{disassemble(row[:n])}  |  {disassemble(row[n:][row[n:] != op.PAD])}"
        for row, n in zip(programs, lengths, strict=True)
    ]
    return "\n".join(["", f"### {split}", "", "```", *lines, "```", ""])


def ablations(spec: Spec) -> str:
    """Return the section of a card about the constructs that its prompts need."""
    if spec.mixture:
        links = ", ".join(f"[{id}]({id}.md)" for id in spec.mixture)
        written = any(part.family.written for part, _ in spec.parts)
        heading, what = (
            ("Ceilings", "How often an agent can be right") if written else ("Ablations", "What its prompts need")
        )
        return f"## {heading}\n\n{what} is on the cards of its parts: {links}."
    if spec.family.written:
        return bites(spec) if spec.task == "instruct" else ceilings(spec)
    named, most = named_of(spec), CEILINGS[spec.family.form]
    rows = [
        [
            f"**{name}**" if name in named else name,
            meaning_of(name),
            f"{most:.0%}" if name in named else "",
            *(f"{share:.1%}" for share in shares.values()),
        ]
        for name, shares in ignored(spec, ASKED, SEED).items()
    ]
    ending = "" if spec.family.form == "value" else ", since half of the rest is right by chance"
    return f"""## Ablations

The share of the first {ASKED:,} prompts of each split that are still answered right when a construct is ignored. The
constructs that the environment is named after are bold. They are needed for {NEEDED:.0%} of the prompts: a test keeps
their shares at or below the ceiling{ending}.

{markdown(["ignored", "that is", "ceiling", *spec.splits], rows)}"""


def ceilings(spec: Spec) -> str:
    """The section of a card about how often an agent can be right, if its functions can be enumerated."""
    rows = []
    for split in spec.splits:
        parameters, pack, find_space = spec.split_parameters(split), spec.family.pack, spec.family.space
        given = getattr(parameters, "given", {"0": 1}).keys() != {"0"}
        if spec.family.inputs is None or pack is None or find_space is None or given:
            continue
        try:
            functions = find_space(pack(parameters)).functions(*spec.split(split).interval)
        except ValueError:  # too many
            rows.append([split, "too many to enumerate", *[""] * 4])
            continue
        found = ceiling_of(spec, split, DECIDED, SEED)
        shares = (found.optimal, found.sampler, found.identified)
        rows.append([split, f"{functions:,}", f"{found.functions:.1f}", *(f"{share:.1%}" for share in shares)])
    if not rows:
        return ""
    columns = ["split", "functions", "that fit a prompt", "optimal decision", "draw from the posterior", "identified"]
    return f"""## Ceilings

How often an agent can be right on all hidden cases, from the exact posterior over functions: means over the first
{DECIDED:,} prompts of each split. No agent can know which functions are held out, so all that fit a prompt count. The
optimal decision is the ceiling of an agent that writes one of these functions. A draw from the posterior is what a
model reaches that has learned the distribution of the programs and no more. A prompt is identified if one function has
more than 95 % of the posterior. The first column counts the functions that the split keeps.

{markdown(columns, rows)}"""


def bites(spec: Spec) -> str:
    """The section of a card about policies that ignore directives."""
    rows = []
    for split in spec.splits:
        prompts, lengths = prompts_of(spec, split, DECIDED, SEED)
        for name, policy in plain_policies(spec, split).items():
            completions = [policy(prompt[:size]) for prompt, size in zip(prompts, lengths, strict=True)]
            programs = put(spec, split, prompts, lengths, completions)
            fits = float((run_batch(programs)[0] == Verdict.TRUE).mean())
            found = strict_of(spec, split, programs, SEED)
            kinds = [f"{found[kind].prompts:.1%}" if kind in found else "" for kind in KINDS]
            rows.append([split, name, f"{fits:.1%}", f"{found['all'].prompts:.1%}", *kinds])
    columns = ["split", "policy", "true", "earns", *(f"`{kind}`" for kind in KINDS)]
    return f"""## Directives

What two policies that ignore directives earn, on the first {DECIDED:,} prompts of each split. The plain body is the one
that the stream would most likely write for the function that is most probably right. The idle suffix contains the word
of a `use` and does nothing. The last columns are for prompts with one directive, of that kind. A test keeps what is
earned on `test` and `words` of Cadmus-Instruct-v0 at 5 % or less.

{markdown(columns, rows)}"""


@dataclass(frozen=True)
class Measured:
    """What the stream of a split contains."""

    prompts: Ints  # (N,) lengths in tokens
    completions: Ints  # (N,) lengths in tokens
    thinking: float  # share of programs with worked steps
    distinct: int  # number of distinct prompts
    answers: Counter[bytes]  # counts by answer, in tokens
    tokens: Ints  # (65,) counts
    verdicts: Ints  # (3, 11) counts of programs with one token replaced, by changed part and verdict
    entropy: Entropy
    exact: float  # share of programs with an exact probability
    error: float  # largest standard error of the log-probability of the others
    found: float  # share of problems that occur in train; nan without such a split
    repeated: int | None  # programs of train that repeat an earlier one

    @property
    def said(self) -> dict[str, int]:
        """Counts by answer, as text."""
        times: Counter[str] = Counter()
        for tokens, count in self.answers.items():
            times[answer_of(tokens)] += count
        return dict(times)


def measure(spec: Spec) -> dict[str, Measured]:
    """Return what the stream of each split contains."""
    further = np.arange(SOME, SOME + AMONG)
    train = Stream(spec, "train", SEED).keys(np.full(AMONG, SEED), further) if "train" in spec.splits else None
    return {split: measure_split(spec, split, train) for split in spec.splits}


def measure_split(spec: Spec, split: str, train: Words64 | None) -> Measured:
    stream = Stream(spec, split, SEED)
    padded, lengths = stream.batch(0, PROGRAMS)
    sizes = (padded != op.PAD).sum(1)
    programs = np.ascontiguousarray(padded[:, : sizes.max()])
    width, closed = programs.shape[1], programs == op.CLOSE
    answers = np.where(closed.any(1), width - closed[:, ::-1].argmax(1), lengths)  # after the thoughts
    text, starts = programs.tobytes(), width * np.arange(PROGRAMS)
    verdicts = np.zeros((len(PARTS), len(Verdict)), np.int64)
    for k, program in enumerate(programs[:CHANGED]):
        verdicts += judge_changes(program[program != op.PAD], int(lengths[k]), int(answers[k]))
    scores = stream.score(programs[:SCORED], budget=BUDGET, samples=SAMPLES)
    keys = stream.keys(np.full(SOME, SEED), np.arange(SOME))
    repeated = None
    if split == "train":
        parts = [fingerprints(stream.batch(start, PROGRAMS)[0]) for start in range(PROGRAMS, REPEATS, PROGRAMS)]
        repeated = REPEATS - distinct(np.concatenate([fingerprints(padded), *parts]))
    return Measured(
        prompts=lengths.astype(np.int64),
        completions=sizes - lengths,
        thinking=float(closed.any(1).mean()),
        distinct=distinct(fingerprints(programs * (np.arange(width) < lengths[:, None]))),
        answers=Counter(text[a:b] for a, b in zip((starts + answers).tolist(), (starts + sizes).tolist(), strict=True)),
        tokens=np.bincount(programs.ravel(), minlength=len(VOCABULARY)) * (np.arange(len(VOCABULARY)) != op.PAD),
        verdicts=verdicts,
        entropy=Entropy.of(scores, lengths[:SCORED], sizes[:SCORED]),
        exact=float(scores.exact.mean()),
        error=float(np.nan_to_num(scores.error).max()),
        found=math.nan if train is None else float(np.isin(keys, train).mean()),
        repeated=repeated,
    )


def judge_changes(program: Tokens, prompt: int, answer: int) -> Ints:
    """Replace each token of a program (n,) by each other one; return counts (3, 11) by changed part and verdict.

    The answer begins at position ``answer``, the completion at position ``prompt``.
    """
    places = np.repeat(np.arange(program.size), len(VOCABULARY) - 1)
    others = np.tile(np.arange(1, len(VOCABULARY)), program.size)
    changed = np.tile(program, (places.size, 1))
    changed[np.arange(places.size), places] = (program[places] + others) % len(VOCABULARY)
    parts = (places >= prompt).astype(np.int64) + (places >= answer)
    cells = parts * len(Verdict) + run_batch(changed)[0]
    return np.bincount(cells, minlength=len(PARTS) * len(Verdict)).reshape(len(PARTS), -1)


def answer_of(tokens: bytes) -> str:
    text = disassemble(np.frombuffer(tokens, np.uint8))
    return WORDS.get(text, text.removeprefix(", ").removesuffix(" eq end"))


def data(spec: Spec, measured: dict[str, Measured]) -> str:
    """Return the section of a card about what its streams contain."""
    rows, entropies, changes = [], [], []
    everything = sum(m.verdicts.sum(0) for m in measured.values())
    seen = [verdict for verdict in Verdict if everything[verdict]]
    for split, m in measured.items():
        (most, times), e = m.answers.most_common(1)[0], m.entropy
        lengths = [f"{n.mean():.1f} ({n.min()} to {n.max()})" for n in (m.prompts, m.completions)]
        rows.append(
            [
                *(split, *lengths, f"{m.thinking:.1%}", f"{m.distinct:,}"),
                *(f"`{answer_of(most)}`, {times / PROGRAMS:.2%}", "" if math.isnan(m.found) else f"{m.found:.2%}"),
            ]
        )
        entropies.append(
            [
                split,
                nats(e.prompt, e.prompt_error),
                nats(e.prompt / e.prompt_tokens, e.prompt_error / e.prompt_tokens, 3),
                nats(e.completion, e.completion_error),
                nats(e.completion / e.completion_tokens, e.completion_error / e.completion_tokens, 3),
                *(["unknown", ""] if math.isnan(e.whole) else [f"{m.exact:.0%}", f"{m.error:.3f}" if m.error else ""]),
            ]
        )
        parts = [f"{row[Verdict.TRUE] / row.sum():.1%}" if row.any() else "" for row in m.verdicts]
        changes.append([split, *parts, *(f"{m.verdicts[:, v].sum() / m.verdicts.sum():.2%}" for v in seen)])
    repeated = "".join(
        f" {m.repeated / REPEATS:.2%} of the first {REPEATS:,} programs of {split} repeat an earlier one."
        for split, m in measured.items()
        if m.repeated is not None
    )
    columns = ["prompt", "completion", "worked steps", "distinct prompts", "most frequent answer", "in train"]
    return f"""## Data

![What the streams hold](../../benchmarks/results/cards/{spec.id}.png)

Counts are of the first {PROGRAMS:,} programs of each split (seed {SEED}). Lengths are in tokens: mean (shortest to
longest). The last column is the share of the first {SOME:,} [problems](../README.md) that also occur among {AMONG:,}
later programs of train, in the same text or another.{repeated}

{markdown(["split", *columns], rows)}

Entropies of the prompt, and of the completion given the prompt, in nats per program and per token, with standard errors
over {SCORED:,} programs. A split keeps only some problems, so a program's probability is divided by the share that is
kept of its kind. For kinds with at most {BUDGET:,} combinations of operands that share is exact; for others it is
estimated from {SAMPLES:,} draws. The last columns are the share of programs with an exact probability, and the largest
standard error of the log-probability of the others.{wholes(measured)}

{markdown(["split", "prompt", "per token", "completion", "per token", "exact", "largest error"], entropies)}

Each token of {CHANGED} programs was replaced by each of the {len(VOCABULARY) - 1} others. The table has the share of
programs that stay true, by the part that was changed, and all verdicts.

{markdown(["split", *(f"true: {part}" for part in PARTS), *(verdict.name for verdict in seen)], changes)}
"""


def wholes(measured: dict[str, Measured]) -> str:
    """Say the entropies of programs if those of their parts are unknown, since many references fit a prompt."""
    known = [
        f"{split} {nats(m.entropy.whole, m.entropy.whole_error)}"
        for split, m in measured.items()
        if math.isnan(m.entropy.prompt) and not math.isnan(m.entropy.whole)
    ]
    return f" Of whole programs the entropies are: {', '.join(known)} nats." if known else ""


def nats(value: float, error: float, digits: int = 2) -> str:
    return "unknown" if math.isnan(value) else f"{round(value, digits) + 0.0:.{digits}f} ± {error:.{digits}f}"


def listed(readme: str) -> str:
    """Return the README with its table of environments up to date."""
    rows = []
    for id in ours():
        spec = load_spec(id)
        rows.append([f"[{id}](envs/cards/{id}.md)", spec.description, f"`{spec.form}`", ", ".join(spec.splits)])
    return inserted(readme, MARKER, markdown(["environment", "what is asked", "form", "splits"], rows))


def stamp(spec: Spec) -> str:
    """Return twelve hex digits that identify the streams in a picture: a hash of the digests of all splits."""
    return hashlib.sha256(json.dumps(spec.digests()).encode()).hexdigest()[:12]


def path_of(id: str) -> Path:
    return top() / "envs" / "cards" / f"{id}.md"


def stale() -> list[Path]:
    """Return the files that `write` would change: cards, pictures of other streams, the README."""
    readme = top() / "README.md"
    files = [] if readme.read_text(encoding="utf-8") == listed(readme.read_text(encoding="utf-8")) else [readme]
    for id in ours():
        spec, path = load_spec(id), path_of(id)
        measured = measure(spec)
        if not path.is_file() or path.read_text(encoding="utf-8") != card(spec, measured):
            files.append(path)
        if not picture(id).is_file() or stamp(spec).encode() not in picture(id).read_bytes():
            files.append(picture(id))
    return files


def write() -> list[Path]:
    """Write all cards, their pictures and the README's table; return the paths of all these files."""
    files = [top() / "README.md"]
    files[0].write_text(listed(files[0].read_text(encoding="utf-8")), encoding="utf-8")
    for id in ours():
        spec, path = load_spec(id), path_of(id)
        measured = measure(spec)
        path.parent.mkdir(exist_ok=True)
        path.write_text(card(spec, measured), encoding="utf-8")
        plots.draw_environment(id, measured, WORDS, picture(id), stamp(spec))
        files += [path, picture(id)]
    return files
