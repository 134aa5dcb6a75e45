"""Fine-tune a transformer with PPO under masks of legal tokens, by sb3-contrib's MaskablePPO.

    python agents/ppo.py --checkpoint runs/half/model                          five minutes on two cores, to runs/ppo
    python agents/ppo.py --checkpoint runs/half/model --total-timesteps 60000 --folder runs/try           one minute
    python agents/ppo.py --resume                                              resumes, or starts a run if there is none
    python agents/ppo.py --env Cadmus-Compare-v0 --folder runs/scratch         the control: fresh weights, no checkpoint

Schulman et al. 2017 (arXiv:1707.06347), the clipped surrogate; Huang and Ontañón 2020 (arXiv:2006.14171), masks of
invalid actions; Schulman et al. 2015 (arXiv:1506.02438), generalized advantages. An action is a token, an episode a
program, the reward 1 at its end if it is true, and not discounted. Departures from what is usual with PPO: actor and
critic share the whole transformer, and the critic is one linear layer on it, which starts at 0; a minibatch holds all
steps of some sub-environments, as with recurrent policies, so that each program is read once; advantages are by default
returns less values (lambda = 1), since an episode takes a dozen steps; the learning rate is that of fine-tuning.

A run's folder holds `run.json` (the settings it was started with, and what it started from), `model/`
(weights and card as of the last save, for `cadmus_gym.load_model`), `states/` (the last two training states),
TensorBoard's curves, and, as soon as it is finished, `result.json` (truth and loopholes on the same test prompts before
and after) and `agent.zip` (for `MaskablePPO.load`, which unpickles what it reads: load only your own; nothing here
does). The checkpoint is read once, and the folder can be moved and resumed elsewhere. One process at a time writes to
it, which holds the file `lock`.

Ctrl-C finishes the update, saves, says how to resume and exits with 130; a second one exits at once. On a CPU with as
many threads, a resumed run ends with the same weights to the bit as one that never stopped.

TensorBoard shows evaluations as `cadmus_gym.reports.curves` says, and Stable-Baselines3's train/, rollout/ and time/.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

# Read by OpenMP when torch is imported: threads that wait for each other sleep, see pretrain/train.py.
os.environ.setdefault("GOMP_SPINCOUNT", "0")

import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from sb3_contrib import MaskablePPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger, TensorBoardOutputFormat
from torch.utils.tensorboard import SummaryWriter

import cadmus_gym as cg
from cadmus_gym import files, progress
from cadmus_gym.evaluation import trained
from cadmus_gym.evaluation.intervals import lift_interval, tally
from cadmus_gym.evaluation.loopholes import find_loopholes
from cadmus_gym.evaluation.truth import (
    EVALUATION_SEED,
    complete_under,
    problems_of,
    prompts_of,
)
from cadmus_gym.language.hashing import Words64
from cadmus_gym.language.isa import Tokens
from cadmus_gym.reports import curves
from cadmus_gym.rl.sb3 import CadmusVecEnv, SequenceRolloutBuffer, TransformerPolicy, agent_state, posed, restore_agent
from cadmus_gym.training import runs, settings, states
from cadmus_gym.training.exits import ending, exit_with
from cadmus_gym.training.interrupts import Stop, resuming
from cadmus_gym.training.provenance import recipe
from cadmus_gym.training.ranks import device_of
from cadmus_gym.transformer.checkpoint import check_target, load_model, save_model
from cadmus_gym.transformer.model import ModelConfig, Transformer

# What a resumed run may have otherwise than before: it changes no weights.
FREE = {*settings.OF_CALL, "device", "threads", "total_timesteps", "eval_freq", "save_freq", "progress_bar"}
_json = tyro.constructors.PrimitiveConstructorSpec(
    nargs=1,
    metavar="JSON",
    instance_from_str=lambda given: json.loads(given[0]),
    is_instance=lambda value: isinstance(value, dict),
    str_from_instance=lambda value: [json.dumps(value)],
)


@dataclass(frozen=True)
class Args:
    """Fine-tune a transformer with PPO under masks of legal tokens."""

    env: str = "Cadmus-Arith-v0"  # a registered id or the path of a .toml
    checkpoint: str | None = None  # folder or packaged name of the model to start from; None: fresh weights
    folder: Path = Path("runs/ppo")
    seed: int = 0  # of prompts, sampling, minibatches, and of fresh weights
    n_envs: int = 128
    total_timesteps: int = 500_000  # tokens written, in whole rollouts
    n_steps: int = 64  # tokens of each environment in a rollout
    batch_size: int = 1024  # tokens in a minibatch, of whole environments; divides n_envs * n_steps
    n_epochs: int = 1
    learning_rate: float = 1e-4
    gamma: float = 1.0
    gae_lambda: float = 1.0
    clip_range: float = 0.2
    ent_coef: float = 0.0
    vf_coef: float = 0.5
    max_grad_norm: float = 0.5
    target_kl: float | None = 0.02  # an update ends early at 1.5 times that distance; None: never
    eval_episodes: int = 2000  # prompts of the test split, always the same
    eval_freq: int = 65_536  # tokens between two greedy evaluations
    save_freq: int = 65_536  # tokens between two training states
    endian: Literal["big", "little"] = "little"  # order of digits of fresh weights; a checkpoint has its own
    overrides: Annotated[dict[str, Any], _json] = field(default_factory=dict)  # of the spec: '{"operands": [0, 9]}'
    resume: bool = False  # continue the run in the folder; flags need not be repeated
    overwrite: bool = False  # delete the run in the folder
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = 1  # a second one gains nothing on products as small as these; more than 10M parameters want more
    progress_bar: bool = True

    def __post_init__(self) -> None:
        whole = ["n_envs", "n_steps", "batch_size", "n_epochs", "total_timesteps"]
        whole += ["eval_episodes", "eval_freq", "save_freq", "threads"]
        for name in whole:
            self._require(name, getattr(self, name) >= 1, "a whole number from 1")
        for name in ("learning_rate", "clip_range", "max_grad_norm"):
            self._require(name, 0 < getattr(self, name) < math.inf, "a number above 0")
        for name in ("ent_coef", "vf_coef"):
            self._require(name, 0 <= getattr(self, name) < math.inf, "a number from 0")
        for name in ("gamma", "gae_lambda"):
            self._require(name, 0 <= getattr(self, name) <= 1, "a number from 0 to 1")
        self._require("target_kl", self.target_kl is None or self.target_kl > 0, "a number above 0, or None")
        self._require("seed", 0 <= self.seed < EVALUATION_SEED, f"a whole number from 0 to {EVALUATION_SEED - 1}")
        divides = self.rollout % self.batch_size == 0
        self._require("batch_size", divides, f"a divisor of n_envs * n_steps = {self.rollout}")
        # SB3 divides advantages by their deviation over a minibatch.
        self._require("batch_size", self.batch_size >= 2, "at least 2")
        if self.resume and self.overwrite:
            raise ValueError("--resume and --overwrite: give one of them")

    def _require(self, name: str, holds: bool, allowed: str) -> None:
        if not holds:
            flag = name.replace("_", "-")
            raise ValueError(f"--{flag} {getattr(self, name)}; allowed: {allowed}")

    @property
    def rollout(self) -> int:
        """Tokens in a rollout."""
        return self.n_envs * self.n_steps


def configure(arguments: list[str]) -> Args:
    """Return what is requested, by flags, else by the run to be resumed. Raises ValueError where they are at odds."""
    known = settings.first_flags(arguments, folder=Args.folder)
    values = settings.started_with(known.folder, "args", Args) if known.resume else None
    if values is None:
        return tyro.cli(Args, args=arguments)
    before = Args(**values)
    args = tyro.cli(Args, args=arguments, default=before)
    settings.check_resumed(before, args, FREE)
    return args


@dataclass(frozen=True)
class Start:
    """What a run starts from. It stays in run.json, so that the checkpoint itself is not needed again."""

    sizes: dict[str, Any]  # of the model
    endian: str
    parent: dict[str, Any] | None = None  # the checkpoint's card; None: fresh weights
    weights: str | None = None  # SHA-256 sum of the checkpoint's


def sum_of(model: Transformer) -> str:
    """Return the SHA-256 sum of a model's weights."""
    digest = hashlib.sha256()
    for name, weight in model.state_dict().items():
        digest.update(name.encode() + weight.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def find_start(args: Args) -> tuple[Start, Transformer | None]:
    """Return what a run starts from, and the model that has its weights where they are still needed.

    A run to be resumed has all that in its folder. Where it was stopped before it could write the weights, they must be
    the checkpoint's as they were, else ValueError is raised.
    """
    run, states = args.folder / "run.json", args.folder / "states"
    if not (args.resume and run.is_file()):
        model = load_model(args.checkpoint) if args.checkpoint is not None else None
        if model is None:
            return Start(dataclasses.asdict(ModelConfig()), args.endian), None
        return Start(dataclasses.asdict(model.config), model.endian, model.card, sum_of(model)), model
    start = Start(**files.read_json(run)["start"])
    if start.weights is None or any(states.glob("*.pt")):
        return start, None
    for place in (args.folder / "model", args.checkpoint or ""):
        with contextlib.suppress(ValueError, OSError):
            model = load_model(place)
            if sum_of(model) == start.weights:
                return start, model
    raise ValueError(
        f"{args.folder} was stopped before it saved anything, and {args.checkpoint} is not the model it started from "
        "any more; start the run again with --overwrite"
    )


def make_agent(args: Args, spec: cg.Spec, start: Start, model: Transformer | None) -> MaskablePPO:
    """Return the agent as it is before it learns, in its environment; with the weights of a model, or fresh ones."""
    device_of(args.device)  # which must be there
    # Neighbouring runs must not share prompts, so their seeds are drawn far apart.
    agent_seed, weights_seed = (int(word) for word in np.random.SeedSequence(args.seed).generate_state(2))

    # The masks and the judge of `Cadmus-...-v0`, in the model's order of digits.
    env = CadmusVecEnv(cg.CadmusVectorEnv(args.n_envs, spec, endian=start.endian, autoreset_mode="SameStep"))

    # The pretrained policy with a value head, and nothing between.
    agent = MaskablePPO(
        TransformerPolicy,
        env,
        policy_kwargs={"model": ModelConfig(**start.sizes), "endian": start.endian, "init_seed": weights_seed},
        rollout_buffer_class=SequenceRolloutBuffer,
        n_steps=args.n_steps,
        batch_size=args.batch_size,
        n_epochs=args.n_epochs,
        learning_rate=args.learning_rate,
        gamma=args.gamma,
        gae_lambda=args.gae_lambda,
        clip_range=args.clip_range,
        ent_coef=args.ent_coef,
        vf_coef=args.vf_coef,
        max_grad_norm=args.max_grad_norm,
        target_kl=args.target_kl,
        seed=agent_seed,
        device=args.device,
    )
    assert isinstance(agent.policy, TransformerPolicy)
    if model is not None:
        agent.policy.transformer.load_state_dict(model.state_dict())
        agent.policy.transformer.record = model.record
    return agent


class Curves(TensorBoardOutputFormat):
    """TensorBoard's curves from a step on, instead of what a run that was killed has left of them."""

    def __init__(self, folder: Path, step: int) -> None:
        self.writer = SummaryWriter(folder, purge_step=step)
        self._is_closed = False


class Ticks(BaseCallback):
    """Reports each step of a rollout."""

    def __init__(self, report: Callable[[int], None]) -> None:
        super().__init__()
        self.report = report

    def _on_step(self) -> bool:
        self.report(self.num_timesteps)
        return True


class Measured(NamedTuple):
    """Which completions of the test prompts are true, and which of those for the wrong reason."""

    true: NDArray[np.bool_]
    loopholes: NDArray[np.bool_]

    def rates(self, keys: Words64) -> dict[str, Any]:
        return {
            "truth_rate": float(self.true.mean()),
            "interval": tally(self.true, keys).interval,
            "loophole_rate": float(self.loopholes.mean()),
        }


def compare(before: Measured, after: Measured, keys: Words64) -> dict[str, Any]:
    """Return both truth rates, with their intervals and loopholes, and the lift with its paired interval; by the keys
    of the prompts' problems, which count in the intervals."""
    lift, interval = float(after.true.mean() - before.true.mean()), lift_interval(before.true, after.true, keys)
    return {"before": before.rates(keys), "after": after.rates(keys), "lift": lift, "lift_interval": interval}


def shown(found: dict[str, Any]) -> str:
    before, after, (low, high) = found["before"], found["after"], found["lift_interval"]
    points = f"{100 * found['lift']:+.2f} points [{100 * low:+.2f}, {100 * high:+.2f}]"
    loopholes = f"loopholes {before['loophole_rate']:.2%} -> {after['loophole_rate']:.2%}"
    return f"{before['truth_rate']:.2%} -> {after['truth_rate']:.2%}, lift {points}, {loopholes}"


def main(arguments: list[str]) -> int:
    held = contextlib.ExitStack()
    try:
        args = configure(arguments)
        result = args.folder / "result.json"
        if args.resume and result.is_file():
            before = files.read_json(result)
            if before["timesteps"] >= args.total_timesteps:
                print(f"{args.folder} is already finished:")
                print(before["line"])
                return 0
        torch.set_num_threads(args.threads)
        # What may be wrong is found out before a folder is made or deleted.
        spec = cg.load_spec(args.env, **args.overrides)
        start, model = find_start(args)
        agent = make_agent(args, spec, start, model)
        prompts = prompts_of(spec, "test", args.eval_episodes)
        digests, more = {spec.id: spec.digests()}, {"start": dataclasses.asdict(start)}
        check_target(args.folder / "model")
        about, state = runs.open_run(args, "args", spec.digest, digests, held, free=FREE, more=more)
        return ending(Trainer(args, spec, agent, prompts, about, state), "ppo.py")
    except (ValueError, OSError) as error:
        print(f"ppo.py: {error}", file=sys.stderr)
        return 2
    finally:
        held.close()


class Trainer:
    """A run: the agent, and how far it is; from a state, or from the beginning."""

    def __init__(
        self,
        args: Args,
        spec: cg.Spec,
        agent: MaskablePPO,
        prompts: tuple[Tokens, NDArray[np.int32]],
        about: dict[str, Any],
        state: dict[str, Any] | None,
    ) -> None:
        self.args, self.spec, self.agent, self.prompts, self.about = args, spec, agent, prompts, about
        self.folder, self.resume = args.folder, f"resume with: {resuming(args.folder)}"
        assert isinstance(agent.policy, TransformerPolicy)
        self.model = agent.policy.transformer
        self.history: list[dict[str, Any]] = []
        self.seconds = 0.0
        self.before: dict[str, Measured] = {}
        self.saved: int | None = None  # step of the last state saved
        if state is not None:
            restore_agent(agent, state)
            self.model.record = state["record"].numpy().tobytes()
            self.history, self.seconds, self.saved = state["history"], state["seconds"], agent.num_timesteps
            self.before = {name: Measured(*(one.numpy() for one in parts)) for name, parts in state["before"].items()}
        self.begun = time.monotonic() - self.seconds
        if state is None:
            self.save_model()  # from here on the checkpoint is not needed
        self.doing = "update"
        self.curves = Curves(self.folder, agent.num_timesteps + 1)
        agent.set_logger(Logger(os.fspath(self.folder), [self.curves]))
        self.bar = progress.Progress(
            agent.num_timesteps, args.total_timesteps, quiet=not args.progress_bar, unit="token"
        )

    def train(self) -> int:
        """Train to the end or until a signal; return the exit status."""
        args, agent = self.args, self.agent
        parameters = sum(weight.numel() for weight in self.model.parameters())
        self.bar.write(
            f"{self.folder}: {parameters:,} parameters, tokens {agent.num_timesteps} to {args.total_timesteps}, "
            f"{agent.device.type}, {torch.get_num_threads()} threads"
        )
        if not self.before:  # on the same prompts, before any reinforcement
            self.before = self.measure_both()
        with Stop(self.stopping) as stop:
            if self.loop(stop):
                self.bar.write(f"stopped and saved at step {agent.num_timesteps}; {self.resume}")
                return 128 + stop.signal
        after = self.measure_both()
        self.save()
        agent.save(self.folder / "agent.zip")
        self.finish(after)
        return 0

    def where(self) -> str:
        return f"at step {self.agent.num_timesteps}"

    def advice(self) -> str:
        return "Start again with a lower learning rate or target_kl"

    def report(self, line: str) -> None:
        print(line, file=sys.stderr)

    def close(self) -> None:
        self.bar.close()
        self.curves.close()

    def loop(self, stop: Stop) -> bool:
        """Repeat a rollout and its minibatches; evaluate, save. Return whether a signal stopped it."""
        args, agent = self.args, self.agent
        total = args.total_timesteps
        ticks = Ticks(lambda step: self.bar.update(step) if step < total else None)
        while agent.num_timesteps < total:
            last, clock = agent.num_timesteps, time.monotonic()
            agent.learn(args.rollout, ticks, reset_num_timesteps=False, log_interval=2)  # one rollout; logged below
            finished = agent.num_timesteps >= total
            speed = args.rollout / (time.monotonic() - clock)
            agent.dump_logs()
            if not all(bool(weight.isfinite().all()) for weight in agent.policy.parameters()):
                raise FloatingPointError("a weight is not finite")
            success, greedy = np.mean(agent.ep_success_buffer or [0.0]), self.history[-1]["truth_rate"]
            told = f"sampled {success:.1%}, greedy {greedy:.1%}, {speed:,.0f} tokens/s"
            self.bar.update(min(agent.num_timesteps, total), told)
            if agent.num_timesteps // args.eval_freq > last // args.eval_freq and not finished:
                self.measure()
            stopping = stop.signal > 0
            if agent.num_timesteps // args.save_freq > last // args.save_freq or finished or stopping:
                self.save()
            if stopping:
                return True
        return False

    def stopping(self) -> str:
        last = "no state is saved yet" if self.saved is None else f"the last saved state is of step {self.saved}"
        return f"stopping after this {self.doing}; Ctrl-C again stops at once ({last})"

    def measure(self, temperature: float = 0.0) -> Measured:
        """Evaluate, show it, and write it to TensorBoard."""
        (prompts, lengths), step, name = self.prompts, self.agent.num_timesteps, "sampled" if temperature else "greedy"
        self.doing = "evaluation"
        report = self.bar.part(f"evaluating {len(prompts)} test prompts at step {step}, {name}")
        done = complete_under(self.model, self.spec, prompts, lengths, temperature=temperature, report=report)
        programs = done.programs
        found = Measured(cg.run_batch(programs)[0] == cg.Verdict.TRUE, find_loopholes(programs, lengths))
        self.doing = "update"
        truth, loopholes = float(found.true.mean()), float(found.loopholes.mean())
        curves.add_rates(self.curves.writer, "test sampled" if temperature else "test", truth, loopholes, step)
        if not temperature:
            curves.add_completions(self.curves.writer, self.model, [self.spec], step)
            rates = {"truth_rate": round(truth, 6), "loophole_rate": round(loopholes, 6)}
            self.history.append({"timesteps": step, **rates})
        also = f", {loopholes:.2%} loopholes" if loopholes else ""
        self.bar.write(f"step {step}: {truth:.2%} of {len(prompts)} test prompts true{also}, {name}")
        return found

    def measure_both(self) -> dict[str, Measured]:
        return {"greedy": self.measure(), "sampled": self.measure(1.0)}

    def save(self) -> None:
        """Save what the run continues from, and the model as it is."""
        self.seconds = time.monotonic() - self.begun
        before = {name: [torch.from_numpy(one) for one in parts] for name, parts in self.before.items()}
        state = {**agent_state(self.agent), "history": self.history, "seconds": self.seconds, "before": before}
        state["record"] = torch.from_numpy(np.frombuffer(self.model.record, np.uint8).copy())
        state["run"] = json.dumps(self.about)
        states.save_state(self.folder / "states", self.agent.num_timesteps, state)
        self.saved = self.agent.num_timesteps
        self.save_model()

    def save_model(self) -> None:
        about = {key: value for key, value in self.about.items() if key != "start"}
        card = {**recipe(about["args"]), **about, "endian": self.model.endian, "timesteps": self.agent.num_timesteps}
        card |= {"parent": self.about["start"]["parent"], "history": self.history, "posed": posed(self.agent)}
        card["fingerprint"] = trained.fingerprint(card, self.model.record)
        save_model(self.model, self.folder / "model", card, max_tokens=self.spec.episode.max_tokens)

    def finish(self, after: dict[str, Measured]) -> None:
        """Write and print the result."""
        args, steps = self.args, self.agent.num_timesteps
        keys = problems_of(self.spec, "test", args.eval_episodes)
        found = {name: compare(self.before[name], after[name], keys) for name in ("greedy", "sampled")}
        least = min(one["truth_rate"] for one in self.history)
        line = (
            f"{self.folder / 'model'}: {self.spec.id}, the same {args.eval_episodes} test prompts before and after "
            f"{steps} tokens: greedy {shown(found['greedy'])}; sampled {shown(found['sampled'])}; "
            f"lowest greedy on the way {least:.2%}; {self.seconds:.0f} s"
        )
        result = {
            "line": line,
            **found,
            "interval": "95 %, of problems, paired, Newcombe 1998 method 10",
            "lowest": least,
        }
        result |= {"timesteps": steps, "seconds": self.seconds, "history": self.history}
        files.write_json(self.folder / "result.json", {**result, **self.about, "recipe": recipe(self.about["args"])})
        print(line)


if __name__ == "__main__":
    exit_with(main, "ppo.py")
