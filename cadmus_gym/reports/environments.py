"""Cards: what each environment asks and what its streams hold, written again by ``make docs``.

``envs/cards/ID.md`` says it in words and numbers, ``benchmarks/results/cards/ID.png`` in pictures, and the README lists
them all. The texts are functions of the specs alone, without times or hardware, so that a test finds a stale one.
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

from cadmus_gym.environments.single import CadmusEnv
from cadmus_gym.evaluation.constructs import CEILINGS, NEEDED, ignored, meaning_of, named_of
from cadmus_gym.language import isa as op
from cadmus_gym.language.forms import GRAMMARS
from cadmus_gym.language.hashing import Words64, distinct, fingerprints
from cadmus_gym.language.isa import VOCABULARY, Ints, Tokens
from cadmus_gym.language.machine import run_batch
from cadmus_gym.language.notation import disassemble
from cadmus_gym.language.verdicts import Verdict
from cadmus_gym.reports import plots
from cadmus_gym.reports.markdown import inserted, markdown
from cadmus_gym.streams.probability import Entropy
from cadmus_gym.streams.spec import FOLDER, SPECS, Spec, load_spec
from cadmus_gym.streams.stream import Stream

MARKER = "<!-- environments -->"
SEED = 0
EXAMPLES = 3
PROGRAMS = 100_000  # of each split, for lengths, prompts, answers and tokens
REPEATS = 1_000_000  # programs of train among which equal ones are counted
SCORED, SAMPLES, BUDGET = 2000, 20_000, 100_000  # programs for entropies, and what their normalisers may take
CHANGED = 250  # programs whose every token is replaced by every other
ASKED = 10_000  # prompts of each split that are answered with a construct ignored
SOME, AMONG = 20_000, 200_000  # problems of each split, looked for among those of train
PARTS = ("prompt", "thought", "answer")
WORDS = {"end": "yes", "not end": "no"}  # what the answers of form relation say
GAINS = {
    "truth": "1 for a true program, else 0",
    "cases": "the share of the cases that the program passes",
    "hidden": "1 for a program that passes hidden cases too, else 0; as `truth` for a task that has none",
}


def ours() -> list[str]:
    """The ids of the environments that ship."""
    return [id for id, path in SPECS.items() if path.parent == FOLDER.resolve()]


def top() -> Path:
    """The folder of the checkout. Raises FileNotFoundError for an installed package, which has no cards."""
    if not (FOLDER.parent / "pyproject.toml").is_file():
        raise FileNotFoundError("cards are kept in a checkout of the source; there is none around this package")
    return FOLDER.parent


def picture(id: str) -> Path:
    return top() / "benchmarks" / "results" / "cards" / f"{id}.png"


def card(spec: Spec, measured: dict[str, Measured]) -> str:
    """The text of a card: paragraphs of 120 characters, headings, tables, lists, code and the picture as they are."""
    blocks = f"{about(spec)}\n{ablations(spec)}\n\n{data(spec, measured)}".split("\n\n")
    kept = "# ", "## ", "### ", "|", "- ", "```", "!["
    return "\n\n".join(b if b.startswith(kept) else fill(b, 120, break_on_hyphens=False) for b in blocks)


def about(spec: Spec) -> str:
    """The sections of a card that its spec tells, in Gymnasium's order, and some programs."""
    episode, free = spec.episode, spec.form == "free"
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
        else f"Never truncated: the mask leaves a way to finish within {episode.max_tokens} tokens, of which "
        f"{episode.thought_tokens} may be thought."
    )
    return f"""# {spec.id}

{spec.description}

Written by `make docs` from [the specs](../README.md); edit those.

## Description

An episode begins with a prompt, the beginning of a true program. The agent writes the rest, token by token, and the
machine runs it. {story.replace("``", "`")}

## Action Space

`Discrete({len(VOCABULARY)})`: the [token](../../cadmus_gym/LANGUAGE.md) to write. The form `{spec.form}` says what a
completion may look like: {GRAMMARS[spec.form].shape}.

## Observation Space

`{space}`: the tokens so far, the prompt first, padded with 0. A prompt takes up to
{spec.prompt_room} of them, a completion up to {episode.max_tokens}.

## Rewards

At the end of an episode, by `reward = "{spec.reward}"`: {GAINS[spec.reward]}. Before it 0.

## Starting State

Episode i after `reset(seed=s)` has the prompt of program i of the split's stream of seed s. With
`reset(options={{"prompt": ...}})` it has the one given, as text or token ids.

## Episode End

Terminated by `end`{"" if free else ", or by a token that the form does not allow"}. {limits}

## Information

`action_mask`, ({len(VOCABULARY)},) int8, 1 where a token is allowed; at the end also `verdict`, `passed`, `cases`,
`is_success` and `illegal`.

## Arguments

`gymnasium.make("{spec.id}", split="train")`. Others are `endian`, `render_mode`, and by its name whatever the spec has:
`reward`, `form`, tables such as `episode={{"max_tokens": {episode.max_tokens}}}`, parameters. {keys.replace("``", "`")}

{markdown(["name", "value"], [[f"`{key}`", f"`{toml(value)}`"] for key, value in values.items()])}

## Splits

{markdown(["split", "description", "digest", "share", "what differs"], rows)}

{sharing(spec)}
{"".join(examples(spec, split) for split in spec.splits)}"""


def sharing(spec: Spec) -> str:
    """What the shares of the splits mean."""
    if any(part.apart == "facts" for part, _ in spec.parts):
        return """The share is the interval of problems that the split keeps: those with a held-out
[fact](../README.md) lie in 0 to 0.1, all others above. Splits with the same parameters share no problem."""
    return """The share is the interval of the hashes of problems that the split keeps. Splits with the same parameters
share no problem."""


def thinking(spec: Spec) -> str:
    thoughts = spec.thoughts
    if not thoughts.share or thoughts.style == "none":
        return "Its programs show no worked steps."
    return (
        f"Of its programs {thoughts.share:.0%} show worked steps in style `{thoughts.style}`, where there are any "
        f"before the answer and they fit into {thoughts.limit} tokens."
    )


def differs(spec: Spec, name: str) -> tuple[str, str]:
    """A split's share and what sets it apart."""
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
    """The section of a card on what its prompts need."""
    if spec.mixture:
        links = ", ".join(f"[{id}]({id}.md)" for id in spec.mixture)
        return f"## Ablations\n\nWhat its prompts need is on the cards of its parts: {links}."
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
    return f"""## Ablations

How many of the first {ASKED:,} prompts of each split are answered right while a construct is ignored. What the
environment is named after is bold: it is needed in {NEEDED:.0%} of the prompts of every split, and a test holds that
the share is at most the ceiling{"." if spec.family.form == "value" else ", since half of the rest is right by chance."}

{markdown(["ignored", "that is", "ceiling", *spec.splits], rows)}"""


@dataclass(frozen=True)
class Measured:
    """What a split's stream holds: lengths (PROGRAMS,) of prompts and completions, the share with worked steps,
    distinct prompts, answers and how often each came, tokens (65,), verdicts of changed programs by the part changed
    (3, 11), entropies, the share of programs with an exact probability and the largest error that estimated normalisers
    leave in that of others, the share of problems found in train, nan where there is none, and how many programs of
    train repeat others."""

    prompts: Ints
    completions: Ints
    thinking: float
    distinct: int
    answers: Counter[bytes]
    tokens: Ints
    verdicts: Ints
    entropy: Entropy
    exact: float
    error: float
    found: float
    repeated: int | None

    @property
    def said(self) -> dict[str, int]:
        """How often each answer came, by what it says."""
        times: Counter[str] = Counter()
        for tokens, count in self.answers.items():
            times[answer_of(tokens)] += count
        return dict(times)


def measure(spec: Spec) -> dict[str, Measured]:
    """Return what the stream of each split holds."""
    further = np.arange(SOME, SOME + AMONG)
    train = Stream(spec, "train", SEED).keys(np.full(AMONG, SEED), further) if "train" in spec.splits else None
    return {split: measure_split(spec, split, train) for split in spec.splits}


def measure_split(spec: Spec, split: str, train: Words64 | None) -> Measured:
    stream = Stream(spec, split, SEED)
    padded, lengths = stream.batch(0, PROGRAMS)
    sizes = (padded != op.PAD).sum(1)
    programs = np.ascontiguousarray(padded[:, : sizes.max()])
    width, closed = programs.shape[1], programs == op.CLOSE
    answers = np.where(closed.any(1), width - closed[:, ::-1].argmax(1), lengths)  # where the thoughts are over
    text, starts = programs.tobytes(), width * np.arange(PROGRAMS)
    verdicts = np.zeros((len(PARTS), len(Verdict)), np.int64)
    for k, program in enumerate(programs[:CHANGED]):
        verdicts += judge_changes(program[program != op.PAD], int(lengths[k]), int(answers[k]))
    entropy = stream.entropy(SCORED, budget=BUDGET, samples=SAMPLES)
    scores = stream.score(programs[:SCORED])  # with that budget
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
        entropy=entropy,
        exact=float(scores.exact.mean()),
        error=float(np.nan_to_num(scores.error).max()),
        found=math.nan if train is None else float(np.isin(keys, train).mean()),
        repeated=repeated,
    )


def judge_changes(program: Tokens, prompt: int, answer: int) -> Ints:
    """Replace each token of a program (n,) by each other; return how often which verdict comes of it, (3, 11), by the
    part that was changed."""
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
    """The section of a card on what its streams hold."""
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
                *(["unknown", ""] if math.isnan(e.prompt) else [f"{m.exact:.0%}", f"{m.error:.3f}" if m.error else ""]),
            ]
        )
        parts = [f"{row[Verdict.TRUE] / row.sum():.1%}" if row.any() else "" for row in m.verdicts]
        changes.append([split, *parts, *(f"{m.verdicts[:, v].sum() / m.verdicts.sum():.2%}" for v in seen)])
    repeated = "".join(
        f" Of the first {REPEATS:,} programs of {split} {m.repeated / REPEATS:.2%} equal an earlier one."
        for split, m in measured.items()
        if m.repeated is not None
    )
    columns = ["prompt", "completion", "worked steps", "distinct prompts", "most frequent answer", "in train"]
    return f"""## Data

![What the streams hold](../../benchmarks/results/cards/{spec.id}.png)

Counted over the first {PROGRAMS:,} programs of each split's stream of seed {SEED}; lengths in tokens, as mean (least
to most). In train: the share of the first {SOME:,} [problems](../README.md) that are among {AMONG:,} further ones of
train, in that text or another.{repeated}

{markdown(["split", *columns], rows)}

Entropies, with standard errors over {SCORED:,} programs: of the prompt, and of the completion given it, in nats per
program and per token. The probability of a program is exact where the share of problems that the split keeps of its
kind is summed over all operands, here of kinds with at most {BUDGET:,}; otherwise that share is estimated from
{SAMPLES:,} draws. The last columns are the share of the programs whose probability is exact, and the largest standard
error of the log-probability of the others.

{markdown(["split", "prompt", "per token", "completion", "per token", "exact", "largest error"], entropies)}

Each token of {CHANGED} programs replaced by each of the {len(VOCABULARY) - 1} others: the share that is still true, by
the part changed, and all verdicts.

{markdown(["split", *(f"true: {part}" for part in PARTS), *(verdict.name for verdict in seen)], changes)}
"""


def nats(value: float, error: float, digits: int = 2) -> str:
    return "unknown" if math.isnan(value) else f"{round(value, digits) + 0.0:.{digits}f} ± {error:.{digits}f}"


def listed(readme: str) -> str:
    """Return the README with its table of environments written again."""
    rows = []
    for id in ours():
        spec = load_spec(id)
        rows.append([f"[{id}](envs/cards/{id}.md)", spec.description, f"`{spec.form}`", ", ".join(spec.splits)])
    return inserted(readme, MARKER, markdown(["environment", "what is asked", "form", "splits"], rows))


def stamp(spec: Spec) -> str:
    """What a picture is of: the digests of all splits, in twelve digits."""
    return hashlib.sha256(json.dumps(spec.digests()).encode()).hexdigest()[:12]


def path_of(id: str) -> Path:
    return top() / "envs" / "cards" / f"{id}.md"


def stale() -> list[Path]:
    """Return the files that are not what is written now: cards, pictures of other streams, the README."""
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
    """Write all cards, their pictures and the README's table; return the files."""
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
