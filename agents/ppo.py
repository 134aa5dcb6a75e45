"""Fine-tune a transformer with PPO under masks of legal tokens, by sb3-contrib's MaskablePPO.

    python agents/ppo.py --checkpoint runs/half/model                          five minutes on two cores, to runs/ppo
    python agents/ppo.py --checkpoint runs/half/model --total-timesteps 60000 --folder runs/try           one minute
    python agents/ppo.py --resume                                              goes on, or starts where there is nothing
    python agents/ppo.py --env Cadmus-Compare-v0 --folder runs/scratch         the control: fresh weights, no checkpoint

Schulman et al. 2017 (arXiv:1707.06347), the clipped surrogate; Huang and Ontañón 2020 (arXiv:2006.14171), masks of
invalid actions; Schulman et al. 2015 (arXiv:1506.02438), generalized advantages. An action is a token, an episode a
program, the reward 1 at its end if it is true, and not discounted. Departures from what is usual with PPO: actor and
critic share the whole transformer, and the critic is one linear layer on it, which starts at 0; a minibatch holds all
steps of some sub-environments, as with recurrent policies, so that each program is read once; advantages are by default
returns less values (lambda = 1), since an episode takes a dozen steps; the learning rate is that of fine-tuning.

A run's folder holds `run.json` (what was asked for), `model/` (weights and card as of the last save, for
`cadmus_gym.load_model`), `states/` (the last two training states), TensorBoard's curves, and, as soon as it is
finished, `result.json` (truth on the same test prompts before and after) and `agent.zip` (for `MaskablePPO.load`, which
unpickles what it reads: load only your own; nothing here does).

Ctrl-C finishes the update, saves, says how to resume and exits with 130; the second one exits at once. On a CPU with as
many threads, a resumed run ends with the same weights to the bit as one that never stopped.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

# Read by OpenMP when torch is imported: threads that wait for each other sleep, see pretrain/train.py.
os.environ.setdefault("GOMP_SPINCOUNT", "0")

import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from sb3_contrib import MaskablePPO
from stable_baselines3.common.logger import Logger, TensorBoardOutputFormat
from torch.utils.tensorboard import SummaryWriter

import cadmus_gym as cg
from cadmus_gym import runs
from cadmus_gym.checkpoint import check_target, load_model, save_model
from cadmus_gym.evaluate import EVALUATION_SEED, complete_under, lift_interval, prompts_of, wilson_interval
from cadmus_gym.model import ModelConfig, Transformer
from cadmus_gym.recipe import recipe
from cadmus_gym.sb3 import CadmusVecEnv, SequenceRolloutBuffer, TransformerPolicy, agent_state, restore_agent

# What a resumed run may have otherwise than before: it changes no weights.
FREE = {*runs.OF_CALL, "device", "threads", "total_timesteps", "eval_freq", "save_freq", "progress_bar"}
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
    resume: bool = False  # go on with the run in the folder; flags need not be repeated
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
    """Return what is asked for, by flags, else by the run to be resumed. Raises ValueError where they are at odds."""
    known = runs.first_flags(arguments, folder=Args.folder)
    values = runs.started_with(known.folder, "args") if known.resume else None
    if values is None:
        return tyro.cli(Args, args=arguments)
    before = Args(**values)
    args = tyro.cli(Args, args=arguments, default=before)
    runs.check_resumed(before, args, FREE)
    return args


def make_agent(args: Args, spec: cg.Spec, start: Transformer | None) -> MaskablePPO:
    """Return the agent as it is before it learns, in its environment."""
    # Neighbouring runs must not share prompts, so their seeds are drawn far apart.
    agent_seed, weights_seed = (int(word) for word in np.random.SeedSequence(args.seed).generate_state(2))

    # The masks and the judge of `Cadmus-...-v0`, in the model's order of digits.
    endian = start.endian if start is not None else args.endian
    env = CadmusVecEnv(cg.CadmusVectorEnv(args.n_envs, spec, endian=endian, autoreset_mode="SameStep"))

    # The pretrained policy with a value head, and nothing between.
    sizes = start.config if start is not None else ModelConfig()
    agent = MaskablePPO(
        TransformerPolicy,
        env,
        policy_kwargs={"model": sizes, "endian": endian, "init_seed": weights_seed},
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
    if start is not None:
        agent.policy.transformer.load_state_dict(start.state_dict())
    return agent


class Curves(TensorBoardOutputFormat):
    """TensorBoard's curves from a step on, in place of what a run that was killed has left of them."""

    def __init__(self, folder: Path, step: int) -> None:
        self.writer = SummaryWriter(folder, purge_step=step)
        self._is_closed = False


def compare(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> dict[str, Any]:
    """Return both truth rates, with their Wilson intervals, and the lift with its paired interval."""
    rates = {
        name: {"truth_rate": float(one.mean()), "interval": wilson_interval(int(one.sum()), len(one))}
        for name, one in (("before", before), ("after", after))
    }
    return {**rates, "lift": float(after.mean() - before.mean()), "lift_interval": lift_interval(before, after)}


def shown(found: dict[str, Any]) -> str:
    before, after, (low, high) = found["before"], found["after"], found["lift_interval"]
    points = f"{100 * found['lift']:+.2f} points [{100 * low:+.2f}, {100 * high:+.2f}]"
    return f"{before['truth_rate']:.2%} -> {after['truth_rate']:.2%}, lift {points}"


def main(arguments: list[str]) -> int:
    try:
        args = configure(arguments)
        folder, again = args.folder, f"python {sys.argv[0]} --folder {args.folder} --resume"
        if args.resume and (folder / "result.json").is_file():
            result = json.loads((folder / "result.json").read_text())
            if result["timesteps"] >= args.total_timesteps:
                print(f"{folder} is finished, nothing to do")
                print(result["line"])
                return 0
        torch.set_num_threads(args.threads)
        # What may be wrong is found out before a folder is made or deleted.
        spec = cg.load_spec(args.env, **args.overrides)
        start = load_model(args.checkpoint) if args.checkpoint is not None else None
        agent = make_agent(args, spec, start)
        prompts, prompt_lengths = prompts_of(spec, "test", args.eval_episodes)
        check_target(folder / "model")
        about, state = runs.open_run(args, "args", spec.digest, {spec.id: spec.digests()})
    except (ValueError, FileNotFoundError) as error:
        print(f"ppo.py: {error}", file=sys.stderr)
        return 2

    assert isinstance(agent.policy, TransformerPolicy)
    model = agent.policy.transformer

    # Where an interrupted run goes on
    history: list[dict[str, Any]] = []
    done = {"seconds": 0.0}
    if state is not None:
        restore_agent(agent, state)
        history, done = state["history"], state["done"]
    begun = time.monotonic() - done["seconds"]
    curves = Curves(folder, agent.num_timesteps + 1)
    agent.set_logger(Logger(os.fspath(folder), [curves]))
    bar = runs.Progress(agent.num_timesteps, args.total_timesteps) if args.progress_bar else None

    def tell(line: str) -> None:
        if bar is not None:
            bar.write(line)

    tell(
        f"{folder}: {sum(weight.numel() for weight in model.parameters()):,} parameters, tokens {agent.num_timesteps} "
        f"to {args.total_timesteps}, {agent.device.type}, {torch.get_num_threads()} threads"
    )

    def measure(temperature: float = 0.0) -> NDArray[np.bool_]:
        """Evaluate, show it, and say it to TensorBoard."""
        completions = complete_under(model, spec, prompts, prompt_lengths, temperature=temperature)
        found: NDArray[np.bool_] = cg.run_batch(completions.programs)[0] == cg.Verdict.TRUE
        name = "sampled" if temperature else "greedy"
        curves.writer.add_scalar(f"eval/{name}", found.mean(), agent.num_timesteps)
        if not temperature:
            history.append({"timesteps": agent.num_timesteps, "truth_rate": round(float(found.mean()), 6)})
        tell(f"step {agent.num_timesteps}: {found.mean():.2%} of {len(found)} test prompts true, {name}")
        return found

    def save() -> None:
        """Save what the run goes on from, and the model as it is."""
        done["seconds"] = time.monotonic() - begun
        first = {name: torch.from_numpy(one) for name, one in before.items()}
        now = {**agent_state(agent), "history": history, "done": done, "before": first}
        runs.save_state(folder / "states", agent.num_timesteps, now)
        card = {**recipe(about["args"]), **about, "endian": model.endian, "timesteps": agent.num_timesteps}
        card |= {"parent": start.card if start is not None else None, "history": history}
        save_model(model, folder / "model", card, max_tokens=spec.episode.max_tokens)

    try:
        # Before: what the same prompts give without any reinforcement.
        if state is None:
            before = {"greedy": measure(), "sampled": measure(1.0)}
        else:
            before = {name: one.numpy() for name, one in state["before"].items()}

        # The loop: a rollout, its minibatches; then look, save, stop.
        with runs.Stop() as stop:
            while agent.num_timesteps < args.total_timesteps:
                last, clock = agent.num_timesteps, time.monotonic()
                agent.learn(args.rollout, reset_num_timesteps=False, log_interval=2)  # one rollout; logged below
                finished = agent.num_timesteps >= args.total_timesteps
                speed = args.rollout / (time.monotonic() - clock)
                agent.dump_logs()
                if not all(bool(weight.isfinite().all()) for weight in agent.policy.parameters()):
                    raise FloatingPointError("a weight is not finite")
                success = np.mean(agent.ep_success_buffer or [0.0])
                if bar is not None:
                    at = min(agent.num_timesteps, args.total_timesteps)
                    bar.update(
                        at, f"sampled {success:.1%}, greedy {history[-1]['truth_rate']:.1%}, {speed:,.0f} tokens/s"
                    )
                if agent.num_timesteps // args.eval_freq > last // args.eval_freq and not finished:
                    measure()
                if agent.num_timesteps // args.save_freq > last // args.save_freq or finished or stop.signal:
                    save()
                if stop.signal and not finished:
                    tell(f"stopped at step {agent.num_timesteps}, and saved; go on with: {again}")
                    return 128 + stop.signal

        # After: the same prompts.
        after = {"greedy": measure(), "sampled": measure(1.0)}
        save()
    except FloatingPointError as error:
        print(f"ppo.py: stopped: {error}. Begin anew with a lower learning rate or target_kl", file=sys.stderr)
        return 1
    finally:
        if bar is not None:
            bar.close()
        curves.close()
    agent.save(folder / "agent.zip")

    # The result
    found = {name: compare(before[name], after[name]) for name in ("greedy", "sampled")}
    least = min(one["truth_rate"] for one in history)
    line = (
        f"{folder / 'model'}: {spec.id}, the same {args.eval_episodes} test prompts before and after "
        f"{agent.num_timesteps} tokens: greedy {shown(found['greedy'])}; sampled {shown(found['sampled'])}; "
        f"lowest greedy on the way {least:.2%}; {done['seconds']:.0f} s"
    )
    result = {"line": line, **found, "interval": "95 %, paired, Newcombe 1998 method 10", "lowest": least}
    result |= {"timesteps": agent.num_timesteps, "seconds": done["seconds"], "history": history}
    runs.write_json(folder / "result.json", {**result, **about, "recipe": recipe(about["args"])})
    print(line)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        print("stopped at once; --resume goes on from the last state saved", file=sys.stderr)
        sys.exit(130)
