"""Pretrain a transformer on true programs: next-token loss, Muon and AdamW, evaluation on every split meanwhile.

    python pretrain/train.py                                            the recipe nano-arith, to runs/nano-arith
    python pretrain/train.py --tokens 1_000_000 --folder runs/try       the same for a minute on two cores
    python pretrain/train.py --resume                                   continues, or starts where there is nothing
    python pretrain/train.py --stop-at-truth 0.55 --folder runs/half    stops at 55 % truth on test: a start for RL

A recipe is a file of recipes/; it gives every value, and flags go before it. A run's folder holds `run.json` (the
settings it was started with), `model/` (weights and card as of the last evaluation, for `cadmus_gym.load_model`),
`states/` (the last two training states), TensorBoard's curves, and `result.json` as soon as it is finished. It can be
moved and resumed elsewhere. One process at a time writes to it, which holds the file `lock`.

Several processes train as one, and choose each step's programs among the same ones.

    torchrun --standalone --nproc-per-node 2 pretrain/train.py          or as many as there are GPUs; see README.md

A run can be stopped at any moment. Ctrl-C finishes the step, saves, says how to resume and exits with 130; a second one
exits at once. (torchrun kills what has not ended after 30 s, as in a long evaluation; then the last state counts.)
On a CPU with as many threads and processes, a resumed run ends with the same weights to the bit as one that never
stopped: which programs a step is chosen from depends on its number alone.

TensorBoard shows evaluations as `cadmus_gym.curves` says, and loss/, gradient/, tokens/, rate/ and time/.
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
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

# Read by OpenMP when torch is imported: threads that wait for each other sleep. Where other processes want the cores
# too, waiting in a loop made two threads ten times slower than one (measured on two busy cores).
os.environ.setdefault("GOMP_SPINCOUNT", "0")

import torch
import tyro
from torch.utils.tensorboard import SummaryWriter

import cadmus_gym as cg
from cadmus_gym import console, curves, files, runs, training
from cadmus_gym.checkpoint import check_target, save_model
from cadmus_gym.evaluate import EVALUATION_SEED, Evaluation, evaluate
from cadmus_gym.isa import VOCABULARY
from cadmus_gym.model import ModelConfig, Transformer
from cadmus_gym.recipe import recipe

STOP_PATIENCE = 20.0  # seconds in which a repeated signal is passed over: torchrun repeats Ctrl-C to its processes
DIVERGED = 1.5 * math.log(len(VOCABULARY))  # nats a token: half more than guessing loses

RECIPES = Path(__file__).resolve().parent / "recipes"
# What a resumed run may have otherwise than before.
FREE = {*runs.OF_CALL, "device", "threads", "needs"}
FREE |= {"evaluate_every", "evaluate_count", "final_count", "save_every", "log_every"}

JSON = tyro.constructors.PrimitiveConstructorSpec(
    nargs=1,
    metavar="TEXT|JSON",
    instance_from_str=lambda given: json.loads(given[0]) if given[0].lstrip().startswith("{") else given[0],
    is_instance=lambda value: isinstance(value, (str, dict)),
    str_from_instance=lambda value: [value if isinstance(value, str) else json.dumps(value)],
)
Env = Annotated[
    str | dict[str, int],
    JSON,
    tyro.conf.arg(help='an id or a .toml; or several by whole weight: \'{"Cadmus-Arith-v0": 2, "mine.toml": 1}\''),
]
Overrides = Annotated[dict[str, Any], JSON, tyro.conf.arg(help='of the spec: \'{"thoughts": {"share": 0}}\'')]


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
    focus: float  # share of a batch that is drawn by what its kind of program still loses, see cadmus_gym.focus
    clip: float  # largest norm of the gradient
    dtype: Literal["float32", "bfloat16"]  # in which products are computed; weights are float32 in any case
    evaluate_every: int  # steps
    evaluate_count: int  # prompts of every split
    final_count: int  # prompts of every split at the end
    save_every: int  # steps
    key_value_heads: int | None = None  # None: as many as heads
    hidden: int | None = None  # of the MLP; None: 8/3 of the width, in whole eights
    steps: int | None = None  # in place of tokens
    stop_at_truth: float | None = None  # finish when the evaluation on the test split first reaches this share
    overrides: Overrides = field(default_factory=dict)
    needs: str = ""  # what machine the recipe is for, and how long it takes there
    recipe: str = "nano-arith"  # a name in pretrain/recipes or the path of a .toml
    folder: Path = Path("runs/nano-arith")
    seed: int = 0  # of the weights and of the stream
    resume: bool = False  # continue the run in the folder; flags need not be repeated
    overwrite: bool = False  # delete the run in the folder
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
            ("dtype", ("float32", "bfloat16")),
        ):
            self._require(name, getattr(self, name) in known, ", ".join(known))
        if self.resume and self.overwrite:
            raise ValueError("--resume and --overwrite: give one of them")
        try:
            self.sizes  # noqa: B018
        except (ValueError, TypeError) as error:
            raise ValueError(f"recipe {self.recipe}: {error}") from None

    def _require(self, name: str, holds: bool, allowed: str) -> None:
        if not holds:
            raise ValueError(f"recipe {self.recipe}: {name} = {getattr(self, name)!r}; allowed: {allowed}")

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
    """Return what is asked for: by flags, else by the run to be resumed, else by the recipe.

    Raises ValueError for a mistake in a recipe, a value without sense, or a flag at odds with a run to be resumed.
    """
    known = runs.first_flags(arguments, folder=None, recipe="nano-arith")
    folder = known.folder or Path("runs") / Path(known.recipe).stem
    values = runs.started_with(folder, "config", Config) if known.resume else None
    if values is None:
        return tyro.cli(Config, args=arguments, default=read_recipe(known.recipe, folder))
    before = Config(**values)
    config = tyro.cli(Config, args=arguments, default=before)
    runs.check_resumed(before, config, FREE)
    return config


def read_recipe(name: str, folder: Path) -> Config:
    """Return the values of a recipe, a name or a path."""
    path = Path(name) if name.endswith(".toml") else RECIPES / f"{name}.toml"
    if not path.is_file():
        names = ", ".join(sorted(file.stem for file in RECIPES.glob("*.toml")))
        raise ValueError(f"recipe {name!r}: no file {path}; known: {names}, or give the path of a .toml")
    values = runs.read_values(path, Config, f"recipe {name}", without=("recipe", *runs.OF_CALL))
    return Config(**values, recipe=name, folder=folder)


def make_stream(config: Config) -> cg.Stream:
    """Return the programs to train on. Raises ValueError where they do not go with the rest of what is asked for."""
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


def judge(
    model: Transformer, stream: cg.Stream, count: int, ranks: training.Ranks, report: console.Report
) -> dict[str, Evaluation]:
    """Evaluate on all splits, shared out among the processes; prompts come from a seed that no training stream has.

    Parts of a mixture are completed under the mixture's form and budget. ``report`` gets how much of the work of this
    process is done.
    """
    every = [(spec, split) for spec in stream.specs for split in spec.splits]
    mine = every[ranks.rank :: ranks.count]
    own = [
        evaluate(model, *one, count, EVALUATION_SEED, report=console.part_of(report, k, len(mine)))
        for k, one in enumerate(mine)
    ]
    found = ranks.gather(own)
    names = [split if len(stream.specs) == 1 else f"{spec.id} {split}" for spec, split in every]
    return {name: found[k % ranks.count][k // ranks.count] for k, name in enumerate(names)}


def shown(found: Mapping[str, Evaluation], rate: Callable[[Evaluation], str]) -> str:
    """Return all rates in a line; of several environments, the mean on test, and a line for each."""
    lines: dict[str, list[str]] = {}
    for one in found.values():
        lines.setdefault(one.spec, []).append(f"{one.split} {rate(one)}")
    if len(lines) == 1:
        return ", ".join(*lines.values())
    return f"test {truth_on_test(found):.2%}, the mean of" + "".join(
        f"\n  {env}: {', '.join(rates)}" for env, rates in lines.items()
    )


def truth_on_test(found: Mapping[str, Evaluation]) -> float:
    """The mean over environments; of the train split where there is no split named test."""
    rates = [one.truth_rate for one in found.values() if one.split == "test"]
    rates = rates or [one.truth_rate for one in found.values() if one.split == "train"]
    return sum(rates) / len(rates)


def main(arguments: list[str]) -> int:
    ranks, held = None, contextlib.ExitStack()
    try:
        config = configure(arguments)
        stream = make_stream(config)
        ranks = training.Ranks(config.device)
        if any(other != config for other in ranks.gather(config)):
            raise ValueError("processes have different settings; to resume, all nodes need to see the run's folder")
        result = config.folder / "result.json"
        resumes = config.resume and ranks.first(result.is_file)
        if resumes and (finished := ranks.first(lambda: files.read_json(result))):
            if ranks.rank == 0:
                print(f"{config.folder} is already finished:\n{finished['line']}")
            return 0
        if config.batch % ranks.count:
            raise ValueError(f"batch = {config.batch}; allowed: a multiple of the number of processes, {ranks.count}")
        digests = {spec.id: spec.digests() for spec in stream.specs}
        ranks.first(lambda: check_target(config.folder / "model"))
        about, state = ranks.first(lambda: runs.open_run(config, "config", stream.digest, digests, held, free=FREE))
        return Trainer(config, stream, ranks, about, state).run()
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
        ranks: training.Ranks,
        about: dict[str, Any],
        state: dict[str, Any] | None,
    ) -> None:
        self.config, self.stream, self.ranks, self.about = config, stream, ranks, about
        self.folder, self.states, self.device = config.folder, config.folder / "states", ranks.device
        self.again = console.resuming(self.folder)
        if ranks.count > 1:
            self.again = f"the same torchrun command, with --folder {self.folder} --resume"
        self.saved: int | None = None if state is None else state["counts"]["step"]  # step of the last state saved
        self.doing = "step"
        if config.threads is not None:
            torch.set_num_threads(config.threads)

        if ranks.rank == 0:
            print("measuring lengths and entropy of the programs", file=sys.stderr, flush=True)
        # A sample of the stream says how long a step is, and where to cut it.
        lengths = training.program_lengths(stream.batch(0, 1 << 14)[0])
        self.steps = config.steps or math.ceil(config.tokens / (config.batch * lengths.mean()))
        self.cuts = training.plan_chunks(lengths, config.batch // ranks.count, self.device.type)
        # No model's loss can pass the floor.
        self.floor = ranks.first(
            lambda: stream.entropy(1 << 11, budget=1_000_000, samples=100_000).floor(config.prompt_weight)
        )

        # Nothing is random but the weights and the stream, and both have the seed.
        self.model = Transformer(config.sizes, config.seed)
        self.model.endian = config.endian
        self.parameters = sum(weight.numel() for weight in self.model.parameters())
        if state is not None:
            self.model.load_state_dict(state["model"])
        self.model.to(self.device)
        self.wrapped = ranks.wrap(self.model)
        muon_rate = config.muon_rate if config.optimizer == "muon" else None
        self.optimizers = training.make_optimizers(self.model, muon_rate, config.adamw_rate, config.weight_decay)
        self.feed = training.Feed(stream, config.batch, config.focus, ranks.rank, ranks.count)

        self.counts: dict[str, Any] = {"step": 0, "tokens": 0, "stopped": False, "history": []}
        self.counts |= dict.fromkeys(("seconds", "cpu_seconds", "evaluation_cpu_seconds"), 0.0)
        self.counts["met"] = [0.0] * 4  # as a row of the window below, since the last evaluation
        self.counts["times"] = dict.fromkeys(("data", "model", "optimizer", "evaluation", "saving"), 0.0)  # seconds
        if state is not None:
            for name, optimizer in self.optimizers.items():
                optimizer.load_state_dict(state["optimizers"][name])
            self.feed.focus.losses = state["focus"].numpy()
            self.counts = state["counts"]
        self.cpu_before = self.counts["cpu_seconds"]
        self.began, self.cpu_began = time.monotonic() - self.counts["seconds"], time.process_time()

        # Of each spec, since the last line of the log: losses of prompts and of completions, their numbers of tokens.
        # Of the rows that the focus does not choose only, so that the loss is that of the stream.
        self.window = torch.zeros(len(stream.specs), 4, dtype=torch.float64, device=self.device)
        if state is not None and ranks.rank == 0:
            self.window += state["window"].to(self.device)
        self.counted = torch.from_numpy(~self.feed.drawn).to(self.device, torch.float64)
        self.logged = time.monotonic(), self.counts["tokens"], dict(self.counts["times"])
        self.truth = "-"  # on test, as last evaluated
        self.writer = SummaryWriter(self.folder, purge_step=self.counts["step"] + 1) if ranks.rank == 0 else None
        self.progress = console.Progress(self.counts["step"], self.steps, quiet=ranks.rank > 0)

    def run(self) -> int:
        """Train to the end, unless something is in the way; return the exit status."""
        config, counts, ranks = self.config, self.counts, self.ranks
        self.progress.write(
            f"{self.folder}: {self.parameters:,} parameters, steps {counts['step']} to {self.steps} of {config.batch} "
            f"programs in {ranks.count} x {len(self.cuts) - 1} chunks, {self.device.type}, "
            f"{torch.get_num_threads()} threads a process"
            + (f"; recipe {config.recipe} is for {config.needs}" if config.needs else "")
        )
        try:
            acknowledge = self.stopping if ranks.rank == 0 else None
            with console.Stop(acknowledge, patience=STOP_PATIENCE if ranks.count > 1 else 0.0) as stop:
                if self.loop(stop):
                    self.progress.write(f"stopped and saved at step {counts['step']} of {self.steps}; {self.resume()}")
                    return 128 + (stop.signal or signal.SIGTERM)
            self.finish(self.evaluate(config.final_count))
        except FloatingPointError as error:
            kept = f"The last good state is in {self.states}; start" if any(self.states.glob("*.pt")) else "Start"
            self.progress.write(f"train.py: stopped {error}. {kept} again with a lower muon_rate, adamw_rate or clip")
            return 1
        except OSError as error:
            self.progress.write(
                f"train.py: stopped at step {counts['step']}: {error}. What was saved before is whole; {self.resume()}"
            )
            return 1
        finally:
            self.progress.close()
            if self.writer is not None:
                with contextlib.suppress(OSError):  # of a full disk, which was reported above
                    self.writer.close()
        return 0

    def resume(self) -> str:
        return f"resume with: {self.again}"

    def stopping(self) -> str:
        last = "no state is saved yet" if self.saved is None else f"the last saved state is of step {self.saved}"
        return f"stopping after this {self.doing}; Ctrl-C again stops at once ({last})"

    def loop(self, stop: console.Stop) -> bool:
        """Train to the last step, or to where a signal stops it; return whether one did."""
        config, counts, ranks = self.config, self.counts, self.ranks
        with contextlib.closing(self.feed.batches(counts["step"], self.steps)) as batches:
            while counts["step"] < self.steps and not counts["stopped"]:
                norm, stopping = self.train_step(batches, stop)
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

    def train_step(self, batches: Iterator[training.Batch], stop: console.Stop) -> tuple[float, bool]:
        """Train on one batch; return the norm of the gradient, and whether any process was told to stop.

        Raises FloatingPointError where the norm is not finite; then the weights are as before.
        """
        config, counts, ranks, now = self.config, self.counts, self.ranks, time.monotonic()
        share = training.rate_at(counts["step"], self.steps, config.warmup, config.decay)
        training.set_rates(self.optimizers, share)
        batch = next(batches)
        chunks = training.cut_chunks(batch, config.endian, self.cuts)
        parts = torch.from_numpy(batch.parts).to(self.device)
        now = self.spend("data", now)

        in_prompts = sum(int(chunk.prompt_lengths.sum()) for chunk in chunks)
        in_all = sum(int(chunk.lengths.sum()) for chunk in chunks)
        sizes = torch.tensor([in_prompts, in_all - in_prompts, stop.signal > 0], dtype=torch.float64)
        all_in_prompts, all_in_completions, stopping = ranks.sum(sizes).tolist()
        weight = config.prompt_weight * all_in_prompts + all_in_completions
        completion_losses = torch.zeros(len(parts), dtype=torch.float64, device=self.device)
        for k, chunk in enumerate(chunks):
            chunk = chunk.to(self.device)
            alone = ranks.apart(self.wrapped) if k + 1 < len(chunks) else contextlib.nullcontext()
            with alone:  # gradients go through the processes once a step, with the last chunk
                with torch.autocast(self.device.type, torch.bfloat16, enabled=config.dtype == "bfloat16"):
                    of_prompts, of_completions = training.losses(self.wrapped, chunk.tokens, chunk.prompt_lengths)
                loss = config.prompt_weight * of_prompts.sum() + of_completions.sum()
                (loss * (ranks.count / weight)).backward()
            completion_losses[chunk.rows] = of_completions.detach().double()
            lengths = (chunk.prompt_lengths, chunk.lengths - chunk.prompt_lengths)
            row = torch.stack([of_prompts.detach(), of_completions.detach(), *lengths], 1).double()
            self.window.index_add_(0, parts[chunk.rows], row * self.counted[chunk.rows, None])
        norm = float(torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.clip))
        now = self.spend("model", now)
        if not math.isfinite(norm):
            raise FloatingPointError(f"in step {counts['step'] + 1}: the norm of the gradient is {norm:g}")

        for optimizer in self.optimizers.values():
            optimizer.step()
            optimizer.zero_grad()
        if config.focus:
            met = self.feed.focus.sums(batch.kinds, completion_losses.cpu().numpy())
            self.feed.focus.learn(ranks.sum(torch.from_numpy(met)).cpu().numpy())
        self.spend("optimizer", now)
        counts["step"] += 1
        counts["tokens"] += int(all_in_prompts + all_in_completions)
        return norm, stopping > 0

    def spend(self, kind: str, since: float) -> float:
        """Book the time since then; return now."""
        now = time.monotonic()
        self.counts["times"][kind] += now - since
        return now

    def take_time(self) -> None:
        cpu = self.ranks.sum(torch.tensor(time.process_time() - self.cpu_began, dtype=torch.float64))
        self.counts.update(seconds=time.monotonic() - self.began, cpu_seconds=self.cpu_before + float(cpu))

    def log(self, norm: float) -> None:
        """Show the steps since the last call. Raises FloatingPointError where the loss says that training diverged."""
        config, counts, step, now = self.config, self.counts, self.counts["step"], time.monotonic()
        table = self.ranks.sum(self.window).cpu()
        self.window.zero_()
        met = table.sum(0).tolist()
        loss, completion_loss = self.mean(met)
        if not math.isfinite(loss):
            raise FloatingPointError(f"at step {step}: the loss is {loss:g}")
        if step > config.warmup * self.steps and completion_loss > DIVERGED:
            told = f"the loss is {completion_loss:.2f} nats a token, half more than guessing loses"
            raise FloatingPointError(f"at step {step}: {told}")
        counts["met"] = [before + now for before, now in zip(counts["met"], met, strict=True)]
        scalars = {"loss/all": loss, "loss/completion": completion_loss, "gradient/norm": norm}
        scalars |= {"loss/above_floor": loss - self.floor} if math.isfinite(self.floor) else {}
        if len(self.stream.specs) > 1:
            families = zip(self.stream.specs, table.tolist(), strict=True)
            scalars |= {f"loss of {spec.id}/completion": row[1] / row[3] for spec, row in families if row[3]}
        since, tokens, times = self.logged
        seconds, speed = now - since, (counts["tokens"] - tokens) / (now - since)
        scalars |= {"tokens/second": speed, "tokens/total": counts["tokens"]}
        scalars |= {f"rate/{name}": one.param_groups[0]["lr"] for name, one in self.optimizers.items()}
        scalars |= {f"time/{kind}": (spent - times[kind]) / seconds for kind, spent in counts["times"].items()}
        if self.writer is not None:
            for name, value in scalars.items():
                self.writer.add_scalar(name, value, step)
        self.progress.update(step, f"loss {completion_loss:.3f}, true {self.truth}, {speed:,.0f} tokens/s")
        self.logged = now, counts["tokens"], dict(counts["times"])

    def mean(self, row: list[float]) -> tuple[float, float]:
        """Return nats a token, prompts' weighted, and those of completions alone, of a row of the window."""
        of_prompts, of_completions, in_prompts, in_completions = row
        weight = self.config.prompt_weight
        loss = (weight * of_prompts + of_completions) / (weight * in_prompts + in_completions)
        return loss, of_completions / in_completions

    def save(self) -> None:
        """Write a state. Raises FloatingPointError, and writes none, where a weight is not finite."""
        now = time.monotonic()
        if not all(bool(weight.isfinite().all()) for weight in self.model.parameters()):
            raise FloatingPointError(f"at step {self.counts['step']}: a weight is not finite")
        self.take_time()
        whole: dict[str, Any] = {
            "model": self.model.state_dict(),
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
            "counts": self.counts,
            "focus": torch.tensor(self.feed.focus.losses),
            "window": self.ranks.sum(self.window),
        }
        whole["run"] = json.dumps(self.about)
        self.ranks.first(lambda: runs.save_state(self.states, self.counts["step"], whole))
        self.saved = self.counts["step"]
        self.spend("saving", now)

    def evaluate(self, count: int) -> dict[str, Evaluation]:
        """Evaluate on every split, show it, and write the model with a card that says so."""
        counts, now, cpu = self.counts, time.monotonic(), time.process_time()
        self.doing = "evaluation"
        report = self.progress.part(f"evaluating {count} prompts per split at step {counts['step']}")
        found = judge(self.model, self.stream, count, self.ranks, report)
        self.doing = "step"
        spent = self.ranks.sum(torch.tensor(time.process_time() - cpu, dtype=torch.float64))
        counts["evaluation_cpu_seconds"] += float(spent)
        self.spend("evaluation", now)
        self.take_time()
        if any(counts["met"]):  # else there was no step since the last evaluation
            counts["loss"], counts["completion_loss"] = self.mean(counts["met"])
            counts["met"] = [0.0] * 4
        so_far = {key: value for key, value in counts.items() if key not in ("history", "stopped", "met")}
        so_far["times"] = {kind: round(seconds, 1) for kind, seconds in counts["times"].items()}
        truths = {name: round(one.truth_rate, 6) for name, one in found.items()}
        counts["history"].append({**so_far, "truth": truths})
        self.progress.write(f"step {counts['step']}: true {shown(found, lambda one: f'{one.truth_rate:.1%}')}")
        about = {key: value for key, value in self.about.items() if key != "config"}  # those are the recipe's settings
        card = {**recipe(self.about["config"]), **about, **so_far, "steps": self.steps}
        card |= {"programs": counts["step"] * self.config.batch, "processes": self.ranks.count}
        card |= {"floor": self.floor if math.isfinite(self.floor) else None, "parameters": self.parameters}
        card |= {"endian": self.config.endian, "history": counts["history"]}
        card |= {"metrics": [dataclasses.asdict(one) for one in found.values()]}
        most = max(spec.episode.max_tokens for spec in self.stream.specs)
        self.ranks.first(lambda: save_model(self.model, self.folder / "model", card, max_tokens=most))
        if self.writer is not None:
            for name, one in found.items():
                curves.add_rates(self.writer, name, one.truth_rate, one.loophole_rate, counts["step"])
            curves.add_completions(self.writer, self.model, self.stream.specs, counts["step"])
        return found

    def finish(self, found: Mapping[str, Evaluation]) -> None:
        """Write and print the result, that of the last evaluation."""
        counts = self.counts
        rates = shown(found, lambda one: f"{one.truth_rate:.2%} [{one.interval[0]:.2%}, {one.interval[1]:.2%}]")
        speed = counts["tokens"] / (counts["cpu_seconds"] - counts["evaluation_cpu_seconds"])
        line = (
            f"{self.folder / 'model'}: {counts['step']} steps, {counts['tokens']} tokens, "
            f"{counts['cpu_seconds']:.0f} s of CPU time, {speed:.0f} tokens a CPU second; "
            f"true of {self.config.final_count} prompts: {rates}"
        )
        if self.ranks.rank == 0:
            metrics = [dataclasses.asdict(one) for one in found.values()]
            result = {key: value for key, value in counts.items() if key != "met"}
            files.write_json(self.folder / "result.json", {"line": line, **result, "metrics": metrics})
            print(line)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        print("train.py: stopped; --resume continues from the last saved state, if there is one", file=sys.stderr)
        sys.exit(130)
