"""Pretrain a transformer on true programs: next-token loss, Muon and AdamW, evaluation on every split meanwhile.

    python pretrain/train.py                                            the recipe nano-arith, to runs/nano-arith
    python pretrain/train.py --tokens 1_000_000 --folder runs/try       the same for a minute on two cores
    python pretrain/train.py --resume                                   resumes, or starts a run if there is none
    python pretrain/train.py --stop-at-truth 0.55 --folder runs/half    stops at 55 % truth on test: a start for RL
    python pretrain/train.py --extend --tokens 80_000_000               trains the finished run further
    python pretrain/train.py --start nano --env my.toml --folder runs/mine    starts from the weights of a model

A recipe is a file of recipes/; it gives every value, and flags go before it. A run's folder holds `run.json` (the
settings it was started with), `model/` (weights and card as of the last evaluation, for `cadmus_gym.load_model`),
`states/` (the last two training states), TensorBoard's curves, and `result.json` as soon as it is finished. It can be
moved and resumed elsewhere. One process at a time writes to it, which holds the file `lock`.

Products are computed in float32 or in bfloat16. Which is faster depends on the CPU, so a preflight of some seconds
times a step in both; `--dtype` names one instead. The choice is kept in run.json: a resumed run times nothing.
Evaluations are computed in float32.

`--start` takes weights, sizes and order of digits from a packaged model or a folder, and all else from the recipe. The
card names the model and the SHA-256 of its weights. On the same environment give another `--seed`: with the same one
the run begins with the programs that the model has seen.

`--extend` continues a finished run to more `--tokens` or `--steps` in all. Its rates rise, hold and fall again over the
added steps, by the shares `warmup` and `decay` of these, as in continual pretraining (Ibrahim et al. 2024,
arXiv:2403.08763); flags may give other rates and shares. Optimizers and focus keep their state. An extended run that
was interrupted is resumed like any other.

Several processes train as one, and choose each step's programs among the same ones.

    torchrun --standalone --nproc-per-node 2 pretrain/train.py          or as many as there are GPUs; see README.md

A run can be stopped at any moment. Ctrl-C finishes the step, saves, says how to resume and exits with 130; a second one
exits at once. (torchrun kills what has not ended after 30 s, as in a long evaluation; then the last state counts.)
On a CPU with as many threads and processes, a resumed run ends with the same weights to the bit as one that never
stopped: which programs per step is chosen from depends on its number alone.

TensorBoard shows evaluations as `cadmus_gym.reports.curves` says, and loss/, gradient/, tokens/, rate/ and time/.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

# Read by OpenMP when torch is imported: threads that wait for each other sleep. Where other processes want the cores
# too, waiting in a loop made two threads ten times slower than one (measured on two busy cores).
os.environ.setdefault("GOMP_SPINCOUNT", "0")

import numpy as np
import torch
import tyro
from torch.utils.tensorboard import SummaryWriter

import cadmus_gym as cg
from cadmus_gym import files, progress
from cadmus_gym.evaluation import trained
from cadmus_gym.evaluation.completing import stages
from cadmus_gym.evaluation.splits import evaluate_splits, shown, truth_on_test
from cadmus_gym.evaluation.truth import Evaluation
from cadmus_gym.reading import convert, naming, read_toml
from cadmus_gym.reports import curves
from cadmus_gym.training import batches, runs, settings, states
from cadmus_gym.training.continuing import OF_PART, check_start, extended, finished_part, started
from cadmus_gym.training.exits import ending, exit_with
from cadmus_gym.training.focus import AMONG
from cadmus_gym.training.interrupts import Stop, resuming
from cadmus_gym.training.learner import Learner, preflight
from cadmus_gym.training.ledger import Ledger
from cadmus_gym.training.optimizers import rate_at, set_rates
from cadmus_gym.training.provenance import recipe
from cadmus_gym.training.ranks import Ranks
from cadmus_gym.training.record import extended as extended_record
from cadmus_gym.training.settings import Env, Overrides
from cadmus_gym.transformer.checkpoint import WEIGHTS, check_target, find_model, load_model, save_model
from cadmus_gym.transformer.model import ModelConfig

STOP_PATIENCE = 20.0  # seconds in which a repeated signal is passed over: torchrun repeats Ctrl-C to its processes
WAITING, SETTLED = 0.2, 20  # a larger share of time spent waiting for programs is reported, after so many steps

RECIPES = Path(__file__).resolve().parent / "recipes"
# What a resumed run may have otherwise than before.
FREE = {*settings.OF_CALL, "device", "threads", "needs"}
FREE |= {"evaluate_every", "evaluate_count", "final_count", "save_every", "log_every"}


@dataclass(frozen=True)
class Config:
    """Pretrain a transformer on true programs. Where no default is given here, it is the recipe's."""

    env: Env
    endian: Literal["big", "little"]  # order of the digits the model reads and writes
    width: int  # of the residual stream
    layers: int
    heads: int
    context: int  # positions, <bos> included
    tied: bool  # whether the output layer is the embedding
    tokens: int  # to be trained on, about: a whole number of steps
    batch: int  # programs in a step
    optimizer: Literal["muon", "adamw"]  # of the layers' matrices; all else is AdamW's
    muon_rate: float  # peak
    adamw_rate: float  # peak
    weight_decay: float  # of the layers' matrices
    warmup: float  # share of the steps in which the rates go up
    decay: float  # share of the steps in which they go down to 0, in a line
    prompt_weight: float  # of a prompt's token in the loss, where a completion's has 1
    focus: (
        float  # share of a batch that is drawn by what its kind of program still loses, see cadmus_gym.training.focus
    )
    clip: float  # largest norm of the gradient
    evaluate_every: int  # steps
    evaluate_count: int  # prompts of every split
    final_count: int  # prompts of every split at the end
    save_every: int  # steps
    key_value_heads: int | None = None  # None: as many as heads
    hidden: int | None = None  # of the MLP; None: 8/3 of the width, in whole eights
    steps: int | None = None  # instead of tokens
    stop_at_truth: float | None = None  # finish when the evaluation on the test split first reaches this share
    overrides: Overrides = field(default_factory=dict)
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"  # of products; weights are float32. auto: the faster, timed
    needs: str = ""  # what machine the recipe is for, and how long it takes there
    recipe: str = "nano-arith"  # a name in pretrain/recipes or the path of a .toml
    folder: Path = Path("runs/nano-arith")
    seed: int = 0  # of the weights and of the stream
    resume: bool = False  # continue the run in the folder; flags need not be repeated
    overwrite: bool = False  # delete the run in the folder
    start: str | None = None  # folder or packaged name of a model to start from, with its sizes and order of digits
    extend: bool = False  # train the finished run in the folder further, to more --tokens or --steps in all
    # For each time the run was extended: its settings before, and the step at which that part ended.
    parts: Annotated[list[dict[str, Any]], tyro.conf.Fixed, tyro.conf.Suppress] = field(default_factory=list)

    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int | None = None  # None: PyTorch's choice, one a core
    log_every: int = 10  # steps, to TensorBoard

    def __post_init__(self) -> None:
        whole = ["width", "layers", "heads", "context", "tokens", "batch", "evaluate_every", "evaluate_count"]
        whole += ["final_count", "save_every", "log_every"]
        whole += [name for name in ("hidden", "steps", "threads") if getattr(self, name) is not None]
        for name in whole:
            self._require(name, type(getattr(self, name)) is int and getattr(self, name) >= 1, "a whole number from 1")
        for name in ("muon_rate", "adamw_rate", "weight_decay", "warmup", "decay", "prompt_weight", "stop_at_truth"):
            value, least = getattr(self, name), "a number above 0, at most" if "rate" in name else "a number from 0 to"
            share = type(value) in (int, float) and 0 <= value <= 1 and (value > 0 or "rate" not in name)
            self._require(name, share or (name == "stop_at_truth" and value is None), f"{least} 1")
        self._require("focus", type(self.focus) in (int, float) and 0 <= self.focus <= 0.9, "a number from 0 to 0.9")
        self._require("clip", type(self.clip) in (int, float) and self.clip > 0, "a number above 0")
        self._require("seed", type(self.seed) is int and 0 <= self.seed < 2**32, "a whole number from 0 to 2**32 - 1")
        self._require("overrides", isinstance(self.overrides, dict), "a table of keys of the spec")
        self._require("env", isinstance(self.env, (str, dict)), "a text, or a table of whole weights")
        for name, known in (
            ("endian", ("big", "little")),
            ("optimizer", ("muon", "adamw")),
            ("dtype", ("auto", "float32", "bfloat16")),
        ):
            self._require(name, getattr(self, name) in known, ", ".join(known))
        if self.resume + self.overwrite + self.extend > 1:
            raise ValueError("--resume, --overwrite and --extend: give one of them")
        try:
            self.sizes  # noqa: B018
        except (ValueError, TypeError) as error:
            raise ValueError(str(error)) from None

    def _require(self, name: str, holds: bool, allowed: str) -> None:
        if not holds:
            raise ValueError(f"{name} = {getattr(self, name)!r}; allowed: {allowed}")

    @property
    def sizes(self) -> ModelConfig:
        return ModelConfig(
            width=self.width,
            layers=self.layers,
            heads=self.heads,
            key_value_heads=self.key_value_heads,
            hidden=self.hidden or 0,
            context=self.context,
            tied=self.tied,
        )


def configure(arguments: list[str]) -> Config:
    """Return the settings: from flags, else from the run to be resumed or extended, else from the recipe.

    Raises ValueError for a mistake in a recipe, a value without sense, or a flag at odds with a run to be resumed or
    with a model to start from; FileNotFoundError where there is no such model.
    """
    known = settings.first_flags(arguments, folder=None, recipe="nano-arith", start=None)
    folder, extending = known.folder or Path("runs") / Path(known.recipe).stem, "--extend" in arguments
    if known.resume and extending:
        raise ValueError("--resume and --extend: give one of them")
    values = settings.started_with(folder, "config", Config) if known.resume or extending else None
    if extending:
        return extended(arguments, folder, values, Config, FREE)
    if values is None:
        default = read_recipe(known.recipe, folder)
        start = known.start or default.start
        config = tyro.cli(Config, args=arguments, default=default if start is None else started(default, start))
        if start is not None:
            check_start(config, start)
        return config
    before = Config(**values)
    config = tyro.cli(Config, args=arguments, default=before)
    if config.dtype == "auto":  # which was settled when the run was started
        config = dataclasses.replace(config, dtype=before.dtype)
    settings.check_resumed(before, config, FREE)
    return config


def read_recipe(name: str, folder: Path) -> Config:
    """Return the values of a recipe, a name or a path."""
    path = Path(name) if name.endswith(".toml") else RECIPES / f"{name}.toml"
    if not path.is_file():
        names = ", ".join(sorted(file.stem for file in RECIPES.glob("*.toml")))
        raise ValueError(f"recipe {name!r}: no file {path}; known: {names}, or give the path of a .toml")
    given = {"recipe": name, "parts": [], **dict.fromkeys(settings.OF_CALL, False), "folder": folder}
    values = read_toml(path)
    with naming(path.name):
        return convert(Config, values, given=given)


def make_stream(config: Config) -> cg.Stream:
    """Return the programs to train on. Raises ValueError where they do not go with the rest of what is requested."""
    if isinstance(config.env, Mapping) and config.overrides:
        raise ValueError('overrides go with one env; give a mixture .toml files of your own, each with `base = "ID"`')
    env = cg.load_spec(config.env, **config.overrides) if isinstance(config.env, str) else config.env
    stream = cg.Stream(env, split="train", seed=config.seed)
    for spec in stream.specs:
        needed = 1 + max(stream.length, spec.prompt_room + spec.episode.max_tokens)
        if config.context < needed:
            raise ValueError(
                f"recipe {config.recipe}: context = {config.context}; allowed for {spec.id}: from {needed}"
            )
        if config.stop_at_truth is not None and "test" not in spec.splits:
            raise ValueError(f"stop_at_truth = {config.stop_at_truth}: {spec.id} has no split named test")
    return stream


def main(arguments: list[str]) -> int:
    ranks, held = None, contextlib.ExitStack()
    try:
        config = configure(arguments)
        stream = make_stream(config)
        ranks = Ranks(config.device)
        if any(other != config for other in ranks.gather(config)):
            raise ValueError("processes have different settings; to resume, all nodes need to see the run's folder")
        result = config.folder / "result.json"
        if config.resume and (finished := ranks.first(lambda: finished_part(result, len(config.parts)))):
            if ranks.rank == 0:
                print(f"{config.folder} is already finished:\n{finished['line']}")
            return 0
        if config.batch % ranks.count:
            raise ValueError(f"batch = {config.batch}; allowed: a multiple of the number of processes, {ranks.count}")
        digests = {spec.id: spec.digests() for spec in stream.specs}
        ranks.first(lambda: check_target(config.folder / "model"))
        about, state = ranks.first(
            lambda: runs.open_run(config, "config", stream.digest, digests, held, free=FREE | OF_PART | {"parts"})
        )
        return ending(Trainer(config, stream, ranks, about, state), "train.py")
    except (ValueError, OSError) as error:
        print(f"train.py: {error}", file=sys.stderr)
        return 2
    finally:
        held.close()
        if ranks is not None:
            ranks.close()


class Trainer:
    """A run: what is trained, on what, and how far it is; from a state, or from the beginning."""

    def __init__(
        self,
        config: Config,
        stream: cg.Stream,
        ranks: Ranks,
        about: dict[str, Any],
        state: dict[str, Any] | None,
    ) -> None:
        self.config, self.stream, self.ranks, self.about = config, stream, ranks, about
        self.folder, self.states, self.device = config.folder, config.folder / "states", ranks.device
        again = f"the same torchrun command, with --folder {self.folder} --resume"
        self.resume = f"resume with: {again if ranks.count > 1 else resuming(self.folder)}"
        self.saved: int | None = None if state is None else state["counts"]["step"]  # step of the last state saved
        self.doing, self.truth = "step", "-"  # what a signal waits for; truth on test, as last evaluated
        if config.threads is not None:
            torch.set_num_threads(config.threads)

        # A sample of the stream says how many steps there are, and where to cut a batch.
        self.say("measuring lengths and entropy of the programs")
        lengths = batches.program_lengths(stream.batch(0, 1 << 14)[0])
        self.steps = config.steps or math.ceil(config.tokens / (config.batch * lengths.mean()))
        self.first = config.parts[-1]["step"] if config.parts else 0  # where rates begin to rise, hold and fall
        if self.steps <= self.first:
            raise ValueError(f"--extend: {self.steps} steps in all; allowed: above the {self.first} that were made")
        self.cuts = batches.plan_chunks(lengths, config.batch // ranks.count, self.device.type)
        self.feed = batches.Feed(stream, config.batch, config.focus, ranks.rank, ranks.count)
        self.counted = torch.from_numpy(~self.feed.drawn).to(self.device, torch.float64)  # the focus chose the others

        # Nothing is random but the weights and the stream, and both have the seed.
        timed = self.settle_dtype() if config.dtype == "auto" else None
        self.learner = Learner(self.config, ranks)
        self.model, self.optimizers = self.learner.model, self.learner.optimizers
        self.parameters = sum(weight.numel() for weight in self.model.parameters())

        floor = ranks.first(
            lambda: stream.entropy(1 << 11, budget=1_000_000, samples=100_000).floor(config.prompt_weight)
        )
        self.ledger = Ledger(stream.specs, config.prompt_weight, floor, ranks)
        self.counts = self.ledger.counts
        self.counts |= {"preflight": timed, "parent": None}
        self.earlier = b""  # record of what the model to start from was trained on
        if state is not None:
            self.restore(state)
        elif config.start is not None:
            start = load_model(config.start)
            self.model.load_state_dict(start.state_dict())
            sums = {WEIGHTS: files.sha256(find_model(config.start) / WEIGHTS)}
            self.counts["parent"] = {**start.card, "name": config.start, "sha256": sums}
            self.earlier = start.record
        if self.counts["step"] < self.first:  # the rates of a part begin where it does
            raise ValueError(
                f"{self.states}: the last state that is whole is of step {self.counts['step']}, before the run was "
                f"extended at step {self.first}; start another with --start {self.folder / 'model'}"
            )
        # What a state has to hold before the first step: weights from elsewhere, or that another part has begun.
        self.unsaved = (state is None and config.start is not None) or self.counts["parts"] < len(config.parts)
        if self.counts["parts"] < len(config.parts):
            self.begin_part()
        self.ledger.start_clocks()
        self.settled, self.warned = self.counts["step"] + SETTLED, False  # whether waiting for programs was reported
        self.writer = SummaryWriter(self.folder, purge_step=self.counts["step"] + 1) if ranks.rank == 0 else None
        self.progress = progress.Progress(self.counts["step"], self.steps, quiet=ranks.rank > 0)
        self.report = self.progress.write

    def say(self, line: str) -> None:
        if self.ranks.rank == 0:
            print(line, file=sys.stderr, flush=True)

    def settle_dtype(self) -> dict[str, float]:
        """Choose the type of products, and put it into run.json; return the tokens per core-second of those timed.

        On a GPU it is bfloat16 where supported; on a CPU it is the one that the first process finds faster.
        """
        timed: dict[str, float] = {}
        dtype: Any
        if self.device.type == "cuda":
            dtype = "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
        else:
            self.say("preflight: timing a step in float32 and in bfloat16")
            rows = batches.draw(self.stream, self.feed.rows)
            own = preflight(self.config, batches.cut_chunks(rows, self.config.endian, self.cuts), self.ranks)
            timed = {name: round(speed, 1) for name, speed in self.ranks.gather(own)[0].items()}
            dtype = max(timed, key=lambda name: timed[name])
            speeds = ", ".join(f"{name} {speed:,.0f}" for name, speed in timed.items())
            self.say(f"preflight: {speeds} tokens per core-second: computing in {dtype}")
        self.config = dataclasses.replace(self.config, dtype=dtype)
        self.about["config"]["dtype"] = dtype
        self.ranks.first(lambda: files.write_json(self.folder / "run.json", self.about))
        return timed

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a state. Raises ValueError for one of another version."""
        if "choices" not in state:
            raise ValueError(f"{self.states}: another version of Cadmus Gym wrote them; resume with that one")
        self.model.load_state_dict(state["model"])
        for name, optimizer in self.optimizers.items():
            peaks = [group["peak"] for group in optimizer.param_groups]
            optimizer.load_state_dict(state["optimizers"][name])
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["peak"] = peak
        self.feed.focus.losses, self.feed.choices = state["focus"].numpy(), state["choices"].numpy()
        self.earlier = state["earlier"].numpy().tobytes()
        self.counts |= state["counts"]
        if self.ranks.rank == 0:
            self.ledger.window += state["window"].to(self.device)

    def begin_part(self) -> None:
        """Take over the result of the part before: it was written after the last state, and has its evaluation."""
        result = self.ranks.first(lambda: files.read_json(self.folder / "result.json"))
        self.counts |= {key: result[key] for key in self.counts if key in result}
        self.counts |= {"parts": len(self.config.parts), "stopped": False, "met": [0.0] * 4}
        self.ranks.first(lambda: files.write_json(self.folder / "run.json", self.about))

    def train(self) -> int:
        """Train to the end or until a signal; return the exit status."""
        config, counts, ranks = self.config, self.counts, self.ranks
        self.report(
            f"{self.folder}: {self.parameters:,} parameters, steps {counts['step']} to {self.steps} of {config.batch} "
            f"programs in {ranks.count} x {len(self.cuts) - 1} chunks, {self.device.type}, "
            f"{torch.get_num_threads()} threads per process"
            + (f"; recipe {config.recipe} is for {config.needs}" if config.needs else "")
        )
        if self.unsaved:
            self.save()
        ranks.first(lambda: (self.folder / "result.json").unlink(missing_ok=True))  # of the part before
        acknowledge = self.stopping if ranks.rank == 0 else None
        with Stop(acknowledge, patience=STOP_PATIENCE if ranks.count > 1 else 0.0) as stop:
            if self.loop(stop):
                self.report(f"stopped and saved at step {counts['step']} of {self.steps}; {self.resume}")
                return 128 + (stop.signal or signal.SIGTERM)
        self.finish(self.evaluate(config.final_count))
        return 0

    def where(self) -> str:
        return f"at step {self.counts['step']}"

    def advice(self) -> str:
        kept = f"The last good state is in {self.states}; start" if any(self.states.glob("*.pt")) else "Start"
        return f"{kept} again with a lower muon_rate, adamw_rate or clip"

    def stopping(self) -> str:
        last = "no state is saved yet" if self.saved is None else f"the last saved state is of step {self.saved}"
        return f"stopping after this {self.doing}; Ctrl-C again stops at once ({last})"

    def close(self) -> None:
        self.progress.close()
        if self.writer is not None:
            self.writer.close()

    def loop(self, stop: Stop) -> bool:
        """Train to the last step, or to where a signal stops it; return whether one did."""
        config, counts, ranks = self.config, self.counts, self.ranks
        with contextlib.closing(self.feed.batches(counts["step"], self.steps)) as drawn:
            while counts["step"] < self.steps and not counts["stopped"]:
                norm, stopping = self.train_step(drawn, stop)
                step = counts["step"]
                due = step % config.evaluate_every == 0 or step == self.steps
                if step % config.log_every == 0 or due:
                    self.log(norm)
                else:
                    self.progress.update(step)
                if due and step < self.steps:
                    reached = truth_on_test(self.evaluate(config.evaluate_count))
                    self.truth = f"{reached:.1%}"
                    counts["stopped"] = config.stop_at_truth is not None and reached >= config.stop_at_truth
                if step % config.save_every == 0 or step == self.steps or counts["stopped"] or stopping:
                    self.save()
                if stopping:
                    return True
        return bool(ranks.sum(torch.tensor(stop.signal > 0, dtype=torch.float64)))  # it came during an evaluation

    def train_step(self, drawn: Iterator[batches.Batch], stop: Stop) -> tuple[float, bool]:
        """Train on one batch; return the norm of the gradient, and whether any process is to stop.

        Raises FloatingPointError where the norm is not finite; then the weights are as before.
        """
        config, counts, ranks, ledger, now = self.config, self.counts, self.ranks, self.ledger, time.monotonic()
        done, steps = counts["step"] - self.first, self.steps - self.first
        set_rates(self.optimizers, rate_at(done, steps, config.warmup, config.decay))
        batch = next(drawn)
        chunks = batches.cut_chunks(batch, config.endian, self.cuts)
        parts = torch.from_numpy(batch.parts).to(self.device)
        now = ledger.spend("data", now)

        lengths = np.stack([batch.prompt_lengths, batches.program_lengths(batch.programs) - batch.prompt_lengths], 1)
        sizes = torch.tensor([*lengths.sum(0), stop.signal > 0], dtype=torch.float64)
        all_in_prompts, all_in_completions, stopping = ranks.sum(sizes).tolist()
        weight = config.prompt_weight * all_in_prompts + all_in_completions
        found, norm = self.learner.gradients(chunks, weight)
        ledger.add(parts, torch.cat([found, torch.from_numpy(lengths).to(found)], 1) * self.counted[:, None])
        now = ledger.spend("model", now)
        if not math.isfinite(norm):
            raise FloatingPointError(f"in step {counts['step'] + 1}: the norm of the gradient is {norm:g}")

        self.learner.update()
        if config.focus:
            met = self.feed.focus.sums(batch.kinds, found[:, 1].cpu().numpy())
            self.feed.focus.learn(ranks.sum(torch.from_numpy(met)).cpu().numpy())
        ledger.spend("optimizer", now)
        counts["step"] += 1
        counts["tokens"] += int(all_in_prompts + all_in_completions)
        return norm, stopping > 0

    def log(self, norm: float) -> None:
        """Show the steps since the last call. Raises FloatingPointError where the loss says that training diverged."""
        config, counts, step = self.config, self.counts, self.counts["step"]
        scalars = self.ledger.close_window(warm=step - self.first > config.warmup * (self.steps - self.first))
        loss = scalars["loss/completion"]
        speed, times = self.ledger.close_times()
        scalars |= {"gradient/norm": norm, "tokens/second": speed, "tokens/total": counts["tokens"]}
        scalars |= {f"rate/{name}": one.param_groups[0]["lr"] for name, one in self.optimizers.items()}
        scalars |= {f"time/{kind}": share for kind, share in times.items()}
        if self.writer is not None:
            for name, value in scalars.items():
                self.writer.add_scalar(name, value, step)
        if times["data"] > WAITING and step >= self.settled and not self.warned:
            self.warned, use = True, f"focus draws {AMONG} for each one it uses, --focus 0 draws one"
            self.report(
                f"{times['data']:.0%} of the time is spent waiting for programs" + f"; {use}" * bool(config.focus)
            )
        self.progress.update(step, f"loss {loss:.3f}, true {self.truth}, {speed:,.0f} tokens/s")

    def save(self) -> None:
        """Write a state. Raises FloatingPointError, and writes none, where a weight is not finite."""
        now = time.monotonic()
        if not all(bool(weight.isfinite().all()) for weight in self.model.parameters()):
            raise FloatingPointError(f"at step {self.counts['step']}: a weight is not finite")
        self.ledger.take_time()
        whole: dict[str, Any] = {
            "model": self.model.state_dict(),
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
            "counts": self.counts,
            "focus": torch.tensor(self.feed.focus.losses),
            "choices": torch.from_numpy(self.feed.record(self.ranks)),
            "earlier": torch.from_numpy(np.frombuffer(self.earlier, np.uint8).copy()),
            "window": self.ranks.sum(self.ledger.window),
            "run": json.dumps(self.about),
        }
        self.ranks.first(lambda: states.save_state(self.states, self.counts["step"], whole))
        self.saved = self.counts["step"]
        self.ledger.spend("saving", now)

    def evaluate(self, count: int) -> dict[str, Evaluation]:
        """Evaluate on every split, show it, and write the model with a card that says so."""
        counts, now, cpu = self.counts, time.monotonic(), time.process_time()
        self.doing = "evaluation"
        report = self.progress.part(f"evaluating {count} prompts per split at step {counts['step']}")
        found = evaluate_splits(self.model, self.stream, count, self.ranks, report)
        self.doing = "step"
        spent = self.ranks.sum(torch.tensor(time.process_time() - cpu, dtype=torch.float64))
        counts["evaluation_cpu_seconds"] += float(spent)
        self.ledger.spend("evaluation", now)
        self.ledger.take_time()
        so_far = self.ledger.close_evaluation({name: one.truth_rate for name, one in found.items()})
        self.report(f"step {counts['step']}: true {shown(found, lambda one: f'{one.truth_rate:.1%}')}")
        self.save_model(found, so_far)
        if self.writer is not None:
            for name, one in found.items():
                curves.add_rates(self.writer, name, one.truth_rate, one.loophole_rate, counts["step"])
            curves.add_completions(self.writer, self.model, self.stream.specs, counts["step"])
        return found

    def save_model(self, found: Mapping[str, Evaluation], so_far: Mapping[str, Any]) -> None:
        """Write the model, with a card of its training so far and its evaluation."""
        counts, floor = self.counts, self.ledger.floor
        about = {key: value for key, value in self.about.items() if key != "config"}  # those are the recipe's settings
        card = {**recipe(self.about["config"]), **about, **so_far, "steps": self.steps}
        card |= {"programs": counts["step"] * self.config.batch, "among": self.feed.focus.among}
        card |= {"processes": self.ranks.count, "parameters": self.parameters}
        card |= {"floor": floor if math.isfinite(floor) else None}
        card |= {"endian": self.config.endian, "history": counts["history"]}
        card |= {"preflight": counts["preflight"], "parent": counts["parent"]}
        card |= {"metrics": [dataclasses.asdict(one) for one in found.values()]}
        choices, before = self.feed.record(self.ranks), len(stages(card)) - 1
        self.model.record = extended_record(self.earlier, before, choices)
        card["fingerprint"] = trained.fingerprint(card, self.model.record)
        most = max(spec.episode.max_tokens for spec in self.stream.specs)
        self.ranks.first(lambda: save_model(self.model, self.folder / "model", card, max_tokens=most))

    def finish(self, found: Mapping[str, Evaluation]) -> None:
        """Write and print the result, that of the last evaluation."""
        counts = self.counts
        rates = shown(found, lambda one: f"{one.truth_rate:.2%} [{one.interval[0]:.2%}, {one.interval[1]:.2%}]")
        speed = counts["tokens"] / (counts["cpu_seconds"] - counts["evaluation_cpu_seconds"])
        line = (
            f"{self.folder / 'model'}: {counts['step']} steps, {counts['tokens']} tokens, "
            f"{counts['cpu_seconds']:.0f} s of CPU time, {speed:.0f} tokens per CPU second; "
            f"true of {self.config.final_count} prompts: {rates}"
        )
        if self.ranks.rank == 0:
            metrics = [dataclasses.asdict(one) for one in found.values()]
            result = {key: value for key, value in counts.items() if key not in ("met", "parent")}
            files.write_json(self.folder / "result.json", {"line": line, **result, "metrics": metrics})
            print(line)


if __name__ == "__main__":
    exit_with(main, "train.py")
