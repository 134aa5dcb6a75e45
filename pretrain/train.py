"""Pretrain a transformer on true programs: next-token loss, Muon and AdamW, regular evaluation on every split.

    python pretrain/train.py                                            the recipe nano-arith, in runs/nano-arith
    python pretrain/train.py --tokens 1_000_000 --folder runs/try       a short version: one minute on two cores
    python pretrain/train.py --resume                                   resumes the run, or starts it
    python pretrain/train.py --stop-at-truth 0.55 --folder runs/half    stops at 55 % truth on test: a start for RL
    python pretrain/train.py --extend --tokens 80_000_000               trains the finished run further
    python pretrain/train.py --start nano --env my.toml --folder runs/mine    starts from the weights of a model
    torchrun --standalone --nproc-per-node 2 pretrain/train.py          two processes that train as one

The folder of a run holds `run.json` (its settings), `model/` (weights and card, from the last evaluation), `states/`
(the last two training states), TensorBoard's curves and, once it is finished, `result.json`. See docs/pretraining.md.

Resuming. Ctrl-C finishes the step, saves, prints how to resume and exits with 130; a second Ctrl-C exits at once. On a
CPU, with the same number of threads and processes, a resumed run ends with the same weights to the bit as one that was
never stopped. torchrun kills a process 30 s after Ctrl-C; if an evaluation takes longer, the last saved state counts.

`--start` takes weights, sizes and digit order from a model, and everything else from the recipe. The card names the
model and the SHA-256 of its weights. On the same environment give another `--seed`: with the same one the run begins
with programs that the model has already seen.

`--extend` gives a finished run more `--tokens` or `--steps`. The learning rates rise, hold and fall again over the
added steps, by the shares `--warmup` and `--decay`, as in continual pretraining (Ibrahim et al. 2024,
arXiv:2403.08763).

TensorBoard shows loss/, gradient/, tokens/, rate/ and time/, and evaluations as `cadmus_gym.reports.curves` describes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

# OpenMP reads it when torch is imported: waiting threads sleep. When other processes wanted the cores too, busy waiting
# made two threads ten times slower than one (measured on two busy cores).
os.environ.setdefault("GOMP_SPINCOUNT", "0")

import torch
import tyro

import cadmus_gym as cg
from cadmus_gym.evaluation import trained
from cadmus_gym.evaluation.completing import stages
from cadmus_gym.evaluation.splits import evaluate_splits, shown, truth_on_test
from cadmus_gym.evaluation.truth import Evaluation
from cadmus_gym.reports import curves
from cadmus_gym.training import allowed, batches, continuing, folders, settings
from cadmus_gym.training.interrupts import Stop, exit_with
from cadmus_gym.training.learner import Learner, settle_dtype
from cadmus_gym.training.ledger import Ledger
from cadmus_gym.training.optimizers import rate_at, set_rates
from cadmus_gym.training.planning import make_stream, steps_of
from cadmus_gym.training.provenance import recipe
from cadmus_gym.training.ranks import Ranks
from cadmus_gym.training.runs import Run
from cadmus_gym.training.settings import Env, Overrides
from cadmus_gym.transformer.checkpoint import check_target, save_model
from cadmus_gym.transformer.model import ModelConfig

RECIPES = Path(__file__).resolve().parent / "recipes"


@dataclass(frozen=True)
class Config:
    """Pretrain a transformer on true programs. Options without a default here take it from the recipe."""

    env: Env
    endian: Literal["big", "little"]  # digit order that the model reads and writes
    width: int  # of the residual stream
    layers: int
    heads: int
    context: int  # positions, including <bos>
    tied: bool  # the output layer shares the weights of the embedding
    tokens: int  # to train on, approximately
    batch: int  # programs per step
    optimizer: Literal["muon", "adamw"]  # of the matrices in the layers; AdamW takes all other weights
    muon_rate: float  # peak learning rate
    adamw_rate: float  # peak learning rate
    weight_decay: float  # of the matrices in the layers
    warmup: float  # share of the steps in which the learning rates rise
    decay: float  # share of the steps in which they fall linearly to 0
    prompt_weight: float  # weight of a prompt token in the loss; a completion token has 1
    focus: float  # share of a batch chosen by how hard its kind of program is (cadmus_gym.training.focus)
    clip: float  # largest norm of the gradient
    evaluate_every: int  # steps
    evaluate_count: int  # prompts per split
    final_count: int  # prompts per split in the last evaluation
    save_every: int  # steps
    key_value_heads: int | None = None  # None: as many as heads
    hidden: int | None = None  # width of the MLP; None: 8/3 of the width, rounded to a multiple of 8
    steps: int | None = None  # instead of tokens
    stop_at_truth: float | None = None  # finish once an evaluation on the test split reaches this truth rate
    overrides: Overrides = field(default_factory=dict)
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"  # of products; weights are float32. auto: times both
    needs: str = ""  # hardware that the recipe is meant for, and the time it takes there
    recipe: str = "nano-arith"  # name in pretrain/recipes, or path of a .toml
    folder: Path = Path("runs/nano-arith")
    seed: int = 0  # of the weights and of the stream
    resume: bool = False  # continue the run in the folder; other flags need not be repeated
    overwrite: bool = False  # delete the run in the folder
    start: str | None = None  # folder or name of a model to start from
    extend: bool = False  # train the finished run in the folder further, to more --tokens or --steps in total
    # For each extension: the settings before it, and the step at which it begins.
    parts: Annotated[list[dict[str, Any]], tyro.conf.Fixed, tyro.conf.Suppress] = field(default_factory=list)

    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int | None = None  # None: PyTorch's default, one per core
    log_every: int = 10  # steps, to TensorBoard

    def __post_init__(self) -> None:
        allowed.check(self, RULES)
        if self.resume + self.overwrite + self.extend > 1:
            raise ValueError("--resume, --overwrite and --extend: give one of them")
        try:
            self.sizes  # noqa: B018
        except (ValueError, TypeError) as error:
            raise ValueError(str(error)) from None

    @property
    def sizes(self) -> ModelConfig:
        return ModelConfig(
            self.width, self.layers, self.heads, self.key_value_heads, self.hidden or 0, self.context, tied=self.tied
        )


RULES = {
    **dict.fromkeys(("width", "layers", "heads", "context", "tokens", "batch", "evaluate_every"), allowed.WHOLE),
    **dict.fromkeys(("evaluate_count", "final_count", "save_every", "log_every"), allowed.WHOLE),
    **dict.fromkeys(("hidden", "steps", "threads"), allowed.optional(allowed.WHOLE)),
    **dict.fromkeys(("weight_decay", "warmup", "decay", "prompt_weight"), allowed.SHARE),
    **dict.fromkeys(("muon_rate", "adamw_rate"), allowed.RATE),
    "stop_at_truth": allowed.optional(allowed.SHARE),
    "focus": allowed.Rule("a number from 0 to 0.9", lambda value: allowed.SHARE.holds(value) and value <= 0.9),
    "clip": allowed.Rule("a number above 0", lambda value: type(value) in (int, float) and value > 0),
    "seed": allowed.whole_to(2**32 - 1),
    "overrides": allowed.TABLE,
}
# Settings that may differ when a run is resumed.
FREE = {*settings.OF_CALL, "device", "threads", "needs"}
FREE |= {"evaluate_every", "evaluate_count", "final_count", "save_every", "log_every"}


def configure(arguments: list[str]) -> Config:
    return continuing.configure(arguments, Config, FREE, RECIPES)


def main(arguments: list[str]) -> int:
    ranks, held = None, contextlib.ExitStack()
    try:
        config = configure(arguments)
        stream = make_stream(config)
        ranks = Ranks(config.device)
        if any(other != config for other in ranks.gather(config)):
            raise ValueError("the processes have different settings; to resume, all nodes must see the run's folder")
        result = config.folder / "result.json"
        if config.resume and (done := ranks.first(lambda: continuing.finished_part(result, len(config.parts)))):
            if ranks.rank == 0:
                print(f"{config.folder} is already finished:\n{done['line']}")
            ranks.wait()
            return 0
        if config.batch % ranks.count:
            raise ValueError(f"batch = {config.batch}; allowed: a multiple of the number of processes, {ranks.count}")
        digests = {spec.id: spec.digests() for spec in stream.specs}
        free = FREE | continuing.OF_PART | {"parts"}
        ranks.first(lambda: check_target(config.folder / "model"))
        about, state = ranks.first(
            lambda: folders.open_folder(config, "config", stream.digest, digests, held, free=free)
        )
        remedy = "muon_rate, adamw_rate or clip"
        run = Run("train.py", config.folder, about, remedy=remedy, rank=ranks.rank, count=ranks.count)
        return run.carry_out(Trainer(config, stream, ranks, run, state).train)
    except (ValueError, OSError) as error:
        print(f"train.py: {error}", file=sys.stderr)
        return 2
    finally:
        held.close()
        if ranks is not None:
            ranks.close()


class Trainer:
    """The model, what it is trained on, and the figures of the run; from a state, or from the beginning."""

    def __init__(self, config: Config, stream: cg.Stream, ranks: Ranks, run: Run, state: dict[str, Any] | None) -> None:
        self.stream, self.ranks, self.run = stream, ranks, run
        if config.threads is not None:
            torch.set_num_threads(config.threads)

        # Data. A sample of the stream gives the number of steps, and where to cut a batch.
        run.say("measuring the lengths and the entropy of programs")
        lengths = batches.program_lengths(stream.batch(0, 1 << 14)[0])
        self.first, self.steps = steps_of(config, float(lengths.mean()))
        self.cuts = batches.plan_chunks(lengths, config.batch // ranks.count, ranks.device.type)
        self.feed = batches.Feed(stream, config.batch, config.focus, ranks.rank, ranks.count)
        self.counted = torch.from_numpy(~self.feed.drawn).to(ranks.device, torch.float64)  # rows not chosen by focus

        # Model and optimizers. Only the weights and the stream are random, and both have the seed.
        self.config, timed = settle_dtype(config, self.feed, self.cuts, ranks, run)
        self.learner = Learner(self.config, ranks)
        self.model = self.learner.model
        self.parameters = sum(weight.numel() for weight in self.model.parameters())

        # Figures, and where the run begins.
        entropy = ranks.first(lambda: stream.entropy(1 << 11, budget=1_000_000, samples=100_000))
        self.ledger = Ledger(stream.specs, config.prompt_weight, entropy, ranks)
        self.counts = self.ledger.counts
        self.counts |= {"preflight": timed, "parent": None}
        self.unsaved = continuing.begin(self.config, state, self.learner, self.feed, self.ledger, run)
        self.truth = "-"  # on test, in the last evaluation
        run.start(self.counts["step"], self.steps)

    def train(self) -> int:
        """Train to the end or until a signal; return the exit status."""
        config, counts, run, ranks = self.config, self.counts, self.run, self.ranks
        run.say(
            f"{run.folder}: {self.parameters:,} parameters, steps {counts['step']} to {self.steps} of {config.batch} "
            f"programs in {ranks.count} x {len(self.cuts) - 1} chunks, {ranks.device.type}, "
            f"{torch.get_num_threads()} threads per process"
            + (f"; recipe {config.recipe} is for {config.needs}" if config.needs else "")
        )
        if self.unsaved:
            self.save()
        ranks.first(lambda: run.result.unlink(missing_ok=True))  # that of the part before
        with run.stop() as stop:
            if self.loop(stop):
                ranks.wait()
                return run.stopped(stop)
        self.finish(self.evaluate(config.final_count))
        ranks.wait()
        return 0

    def loop(self, stop: Stop) -> bool:
        """Train to the last step or until a signal; return whether there was one."""
        config, counts, ranks = self.config, self.counts, self.ranks
        with contextlib.closing(self.feed.batches(counts["step"], self.steps)) as drawn:
            while counts["step"] < self.steps and not counts["stopped"]:
                norm, stopping = self.train_step(drawn, stop)
                step = counts["step"]
                due = step % config.evaluate_every == 0 or step == self.steps
                self.run.update(step, self.log(norm) if step % config.log_every == 0 or due else None)
                if due and step < self.steps:
                    truth = truth_on_test(self.evaluate(config.evaluate_count))
                    self.truth = f"{truth:.1%}"
                    counts["stopped"] = config.stop_at_truth is not None and truth >= config.stop_at_truth
                if step % config.save_every == 0 or step == self.steps or counts["stopped"] or stopping:
                    self.save()
                if stopping:
                    return True
        return bool(ranks.sum(torch.tensor(stop.signal > 0, dtype=torch.float64)))  # it came during an evaluation

    def train_step(self, drawn: Iterator[batches.Batch], stop: Stop) -> tuple[float, bool]:
        """Train on one batch; return the norm of the gradient, and whether any process got a signal.

        Raises FloatingPointError if the norm is not finite. Then the weights are unchanged.
        """
        config, counts, ranks, ledger, now = self.config, self.counts, self.ranks, self.ledger, time.monotonic()
        done, steps = counts["step"] - self.first, self.steps - self.first
        set_rates(self.learner.optimizers, rate_at(done, steps, config.warmup, config.decay))
        batch = next(drawn)
        chunks = batches.cut_chunks(batch, config.endian, self.cuts)
        parts = torch.from_numpy(batch.parts).to(ranks.device)
        now = ledger.spend("data", now)

        lengths = batch.lengths
        sizes = torch.tensor([*lengths.sum(0), stop.signal > 0], dtype=torch.float64)
        in_prompts, in_completions, stopping = ranks.sum(sizes).tolist()  # tokens of all processes
        found, norm = self.learner.gradients(chunks, config.prompt_weight * in_prompts + in_completions)
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
        counts["tokens"] += int(in_prompts + in_completions)
        return norm, stopping > 0

    def log(self, norm: float) -> str:
        """Log the steps since the last call to TensorBoard, and return what progress shows of them.

        Raises FloatingPointError if the loss shows that training diverged.
        """
        config, step = self.config, self.counts["step"]
        scalars = self.ledger.close_window(warm=step - self.first > config.warmup * (self.steps - self.first))
        rates = {f"rate/{name}": one.param_groups[0]["lr"] for name, one in self.learner.optimizers.items()}
        self.run.add_scalars({**scalars, **rates, "gradient/norm": norm}, step)
        if warning := self.ledger.warning(scalars["time/data"], config.focus):
            self.run.say(warning)
        return f"loss {scalars['loss/completion']:.3f}, true {self.truth}, {scalars['tokens/second']:,.0f} tokens/s"

    def save(self) -> None:
        now = time.monotonic()
        self.run.check_finite(self.model)
        self.ledger.take_time()
        state = {**self.learner.state(), **self.feed.state(self.ranks), **self.ledger.state()}
        self.ranks.first(lambda: self.run.save(self.counts["step"], state))
        self.ledger.spend("saving", now)

    def evaluate(self, count: int) -> dict[str, Evaluation]:
        """Evaluate on every split, report it, and write the model with a card that holds it."""
        step, run, now, cpu = self.counts["step"], self.run, time.monotonic(), time.process_time()
        with run.part("evaluation", f"evaluating {count} prompts per split at step {step}") as report:
            found = evaluate_splits(self.model, self.stream, count, self.ranks, report)
        so_far = self.ledger.close_evaluation({name: one.truth_rate for name, one in found.items()}, now, cpu)
        run.say(f"step {step}: true {shown(found, lambda one: f'{one.truth_rate:.1%}')}")
        self.save_model(found, so_far)
        if run.writer is not None:
            for name, one in found.items():
                curves.add_rates(run.writer, name, one.truth_rate, one.loophole_rate, step)
            curves.add_completions(run.writer, self.model, self.stream.specs, step)
        return found

    def save_model(self, found: Mapping[str, Evaluation], so_far: Mapping[str, Any]) -> None:
        """Write the model with a card: its training so far, and an evaluation."""
        about = {key: value for key, value in self.run.about.items() if key != "config"}  # it is in the recipe
        card = {**recipe(self.run.about["config"]), **about, **so_far, "steps": self.steps}
        card |= {"programs": self.counts["step"] * self.config.batch, "among": self.feed.focus.among}
        card |= {"processes": self.ranks.count, "parameters": self.parameters, "endian": self.config.endian}
        card |= {"floor": self.ledger.floor, **{key: self.counts[key] for key in ("history", "preflight", "parent")}}
        card |= {"metrics": [dataclasses.asdict(one) for one in found.values()]}
        self.model.record = self.feed.extended(len(stages(card)) - 1, self.ranks)
        card["fingerprint"] = trained.fingerprint(card, self.model.record)
        most = max(spec.episode.max_tokens for spec in self.stream.specs)
        self.ranks.first(lambda: save_model(self.model, self.run.folder / "model", card, max_tokens=most))

    def finish(self, found: Mapping[str, Evaluation]) -> None:
        """Write and print the result of the last evaluation."""
        counts = self.counts
        rates = shown(found, lambda one: f"{one.truth_rate:.2%} [{one.interval[0]:.2%}, {one.interval[1]:.2%}]")
        speed = counts["tokens"] / (counts["cpu_seconds"] - counts["evaluation_cpu_seconds"])
        line = (
            f"{self.run.folder / 'model'}: {counts['step']} steps, {counts['tokens']} tokens, "
            f"{counts['cpu_seconds']:.0f} s of CPU time, {speed:.0f} tokens per CPU second; "
            f"true of {self.config.final_count} prompts: {rates}"
        )
        result = {key: value for key, value in counts.items() if key not in ("met", "parent")}
        self.run.finish(line, {**result, "metrics": [dataclasses.asdict(one) for one in found.values()]})


if __name__ == "__main__":
    exit_with(main, "train.py")
