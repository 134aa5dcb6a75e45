"""Pretrain many small models at about equal compute, and report the effect of each choice.

    python benchmarks/study.py factors      worked steps, digit order, optimizer, prompt weight and shape
    python benchmarks/study.py scaling      loss and truth rate against compute, for models of several sizes

A file in benchmarks/studies/ describes a study: settings of pretrain/train.py common to all runs, settings of each run,
seeds, and budgets in FLOPs. A model of N parameters takes 6 N FLOPs per token (Kaplan et al. 2020, arXiv:2001.08361).
The number of steps is planned from the mean length of programs in the stream. Where focus prefers longer programs a
run takes a few percent more; the table has what it took. The command of each run is printed and can be run by hand. An
interrupted study continues where it stopped, even within a run; if all runs are finished it only writes the tables.
Writes benchmarks/results/STUDY.json and .md, and a picture if there are several budgets.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import shlex
import signal
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from typing import Annotated, Any

os.environ.setdefault("GOMP_SPINCOUNT", "0")  # threads that wait sleep, see pretrain/train.py

import tyro

from cadmus_gym import ModelConfig, Transformer, load_model, load_spec
from cadmus_gym.evaluation.excess import ExcessLoss, measure_excess_loss
from cadmus_gym.files import check_output
from cadmus_gym.reading import convert, naming, read_toml
from cadmus_gym.reports.markdown import markdown
from cadmus_gym.reports.plots import draw_study
from cadmus_gym.training.provenance import recipe

HERE = Path(__file__).resolve().parent
TRAIN = HERE.parent / "pretrain" / "train.py"
PROGRAMS = 1000  # on which the excess loss is measured
# Student's t, 97.5 %, by the number of seeds: the interval of a mean of so few.
STUDENT = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}


@dataclass(frozen=True)
class Args:
    """Pretrain many small models at about equal compute."""

    study: tyro.conf.Positional[str]  # a name in benchmarks/studies or the path of a .toml
    folder: Path | None = None  # of the runs; by default runs/STUDY
    output: Path = HERE / "results"
    seeds: Annotated[tuple[int, ...], tyro.conf.arg(help="instead of the seeds in the study")] = ()
    only: Annotated[tuple[str, ...], tyro.conf.arg(help="names of runs; none: all")] = ()


@dataclass(frozen=True)
class Study:
    """A file of benchmarks/studies."""

    recipe: str
    compute: tuple[float, ...]  # FLOPs
    seeds: tuple[int, ...]
    runs: dict[str, dict[str, Any]]  # settings that differ from those of all runs, by the name of the run
    settings: dict[str, Any] = field(default_factory=dict)
    description: str = ""


@dataclass(frozen=True)
class Run:
    """One model of a study: what it is called, and how train.py is to be called."""

    name: str
    compute: float  # FLOPs
    seed: int
    folder: Path
    command: tuple[str, ...]


@dataclass(frozen=True)
class Row:
    """What became of a run."""

    name: str
    compute: float
    seed: int
    parameters: int
    tokens: int
    core_seconds: float  # of training, without evaluations
    truth: dict[str, float]  # by split
    count: int  # prompts per split
    excess: ExcessLoss
    digest: str
    commit: str

    @property
    def flops(self) -> int:
        """That training took."""
        return 6 * self.parameters * self.tokens


def plan(path: Path, folder: Path, seeds: tuple[int, ...], only: tuple[str, ...]) -> list[Run]:
    """Return the runs of a study. Raises ValueError, naming the file, for a mistake in it."""
    values = read_toml(path)
    with naming(path.name):
        study = convert(Study, values)
        if other := [name for name in only if name not in study.runs]:
            raise ValueError(f"no run {other[0]!r}; known: {', '.join(study.runs)}")
        seeds = seeds or study.seeds
        if not 1 <= len(set(seeds)) == len(seeds) <= max(STUDENT):
            raise ValueError(f"seeds = {list(seeds)}; allowed: 1 to {max(STUDENT)} different ones")
    found = []
    for compute in study.compute:
        for name, changed in study.runs.items():
            settings = study.settings | changed
            sizes = {key: settings[key] for key in ("width", "layers", "heads", "hidden") if key in settings}
            parameters = sum(weight.numel() for weight in Transformer(ModelConfig(**sizes)).parameters())
            tokens = round(compute / (6 * parameters))
            for seed in seeds:
                own = folder / f"{name.replace(' ', '-')}-{compute:.6g}-{seed}"
                flags = {"recipe": study.recipe, "folder": own, "seed": seed, "tokens": tokens, **settings}
                command = [part for key, value in flags.items() for part in (f"--{key.replace('_', '-')}", text(value))]
                if not only or name in only:
                    found.append(Run(name, compute, seed, own, (*command, "--resume")))
    return found


def text(value: Any) -> str:
    return json.dumps(value) if isinstance(value, dict) else str(value)


def train(run: Run) -> None:
    """Train a run to its end; one that has been there is only checked for its settings."""
    if not (run.folder / "result.json").is_file():
        print(shlex.join(["python", "pretrain/train.py", *run.command]), flush=True)
    with subprocess.Popen([sys.executable, str(TRAIN), *run.command], stdout=subprocess.DEVNULL) as process:
        try:
            status = process.wait()
        except KeyboardInterrupt:  # train.py received it too: it finishes its step and saves
            status = process.wait()
    if status == 128 + signal.SIGINT:
        raise KeyboardInterrupt
    if status:
        raise ValueError(f"{run.folder}: train.py ended with {status}, see above")


def measure(run: Run) -> Row:
    """Read what became of a run, and measure its loss; what was measured stays in its folder."""
    result, kept = json.loads((run.folder / "result.json").read_text()), run.folder / "excess.json"
    model = load_model(run.folder / "model")
    card: dict[str, Any] = model.card
    if not kept.is_file():
        spec = load_spec(card["settings"]["env"], **card["settings"]["overrides"])
        kept.write_text(json.dumps(asdict(measure_excess_loss(model, spec, "train", PROGRAMS))))
    return Row(
        name=run.name,
        compute=run.compute,
        seed=run.seed,
        parameters=card["parameters"],
        tokens=result["tokens"],
        core_seconds=result["cpu_seconds"] - result["evaluation_cpu_seconds"],
        truth={one["split"]: one["truth_rate"] for one in result["metrics"]},
        count=result["metrics"][0]["count"],
        excess=ExcessLoss(**json.loads(kept.read_text())),
        digest=card["digest"],
        commit=card["commit"],
    )


def interval(values: list[float], scale: float = 1.0) -> str:
    """Return a mean with its 95 % interval over seeds."""
    mean = fmean(values)
    if len(values) < 2:
        return f"{mean * scale:.4g}"
    half = STUDENT[len(values)] * stdev(values) / math.sqrt(len(values))
    return f"{mean * scale:.4g} ± {half * scale:.2g}"


def table(rows: list[Row]) -> str:
    """Return Markdown, a line for each run and budget, over its seeds."""
    lines = []
    for compute, name in dict.fromkeys((row.compute, row.name) for row in rows):
        some = [row for row in rows if (row.compute, row.name) == (compute, name)]
        truths = [interval([row.truth["test"] for row in some], 100)]
        cost = [
            f"{fmean([row.tokens for row in some]) / 1e6:.2f} M",
            f"{fmean([row.core_seconds for row in some]):.0f}",
        ]
        excess = [interval([getattr(row.excess, part) for row in some]) for part in ("prompt", "completion")]
        flops = fmean([row.flops for row in some])
        lines.append([name, f"{some[0].parameters / 1e6:.2f} M", f"{flops:.2e}", *cost, *truths, *excess])
    measured = ["true on test, %", "excess loss of prompts, nats per token", "of completions"]
    columns = ["run", "parameters", "FLOPs", "tokens", "core-seconds", *measured]
    return markdown(columns, lines)


def main(args: Args) -> None:
    path = Path(args.study) if args.study.endswith(".toml") else HERE / "studies" / f"{args.study}.toml"
    folder = args.folder or Path("runs") / path.stem
    runs = plan(path, folder, args.seeds, args.only)
    for suffix in ("json", "md", "png"):
        check_output(args.output / f"{path.stem}.{suffix}")
    if len({run.compute for run in runs}) > 1 and importlib.util.find_spec("matplotlib") is None:
        raise ModuleNotFoundError("the picture needs matplotlib: pip install '.[plot]'")
    made = recipe(args)
    rows = []
    for k, run in enumerate(runs):
        train(run)
        rows.append(measure(run))
        print(
            f"{k + 1} of {len(runs)}: {run.folder.name}, test {rows[-1].truth['test']:.2%}", file=sys.stderr, flush=True
        )
    found = table(rows)
    seeds, commits = sorted({row.seed for row in rows}), ", ".join(sorted({row.commit for row in rows}))
    over = f"seeds {', '.join(map(str, seeds))}" if len(seeds) > 1 else f"seed {seeds[0]}"
    spread = "; mean and 95 % interval over seeds (Student's t)" if len(seeds) > 1 else ""
    note = (
        f"`{made['command']}`: {over}, {rows[0].count} prompts per run{spread}; commit {commits}; "
        f"{made['hardware']['cpu']}."
    )
    print(f"\n{found}\n\n{note}")
    content = {"recipe": made, "rows": [asdict(row) for row in rows]}
    (args.output / f"{path.stem}.json").write_text(json.dumps(content, indent=1) + "\n")
    (args.output / f"{path.stem}.md").write_text(f"{found}\n\n{note}\n")
    if len({row.compute for row in rows}) > 1:
        draw_study(rows, path.stem, args.output / f"{path.stem}.png")


if __name__ == "__main__":
    try:
        main(tyro.cli(Args, description=__doc__))
    except (ValueError, OSError, ModuleNotFoundError) as error:
        sys.exit(f"study.py: {error}")
    except KeyboardInterrupt:
        print("study.py: stopped; the same command continues where it was", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
