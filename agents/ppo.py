"""Fine-tune a transformer with PPO under masks of legal tokens, with MaskablePPO of sb3-contrib.

    python agents/ppo.py --checkpoint runs/half/model                          five minutes on two cores, in runs/ppo
    python agents/ppo.py --checkpoint runs/half/model --total-timesteps 60000 --folder runs/try           one minute
    python agents/ppo.py --resume                                              resumes the run, or starts it
    python agents/ppo.py --env Cadmus-Compare-v0 --folder runs/scratch         a control: fresh weights, no checkpoint

The clipped surrogate of PPO (Schulman et al. 2017, arXiv:1707.06347), masks of invalid actions (Huang and Ontañón 2020,
arXiv:2006.14171) and generalized advantages (Schulman et al. 2015, arXiv:1506.02438). An action is a token, an episode
is a program, and the reward is 1 at its end if the program is true. Departures from common practice:

- Actor and critic share the whole transformer. The critic is one linear layer, which starts at 0.
- A minibatch holds all steps of some sub-environments, as with recurrent policies, so each program is read only once.
- Rewards are not discounted, and by default advantages are returns minus values (lambda = 1): episodes are short.
- The learning rate is one for fine-tuning.

The folder of a run holds `run.json` (its settings and what it started from), `model/` (weights and card, from the last
save), `states/` (the last two training states), TensorBoard's curves and, once it is finished, `result.json` (truth and
loopholes on the same test prompts before and after) and `agent.zip` (for `MaskablePPO.load`, which unpickles what it
reads: load only your own files). The checkpoint is read only once.

Ctrl-C finishes the update, saves, prints how to resume and exits with 130; a second Ctrl-C exits at once. On a CPU with
the same number of threads, a resumed run ends with the same weights to the bit as one that was never stopped.

TensorBoard shows train/, rollout/ and time/ of Stable-Baselines3, and evaluations as `cadmus_gym.reports.curves`
describes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

# OpenMP reads it when torch is imported: waiting threads sleep (see pretrain/train.py).
os.environ.setdefault("GOMP_SPINCOUNT", "0")

import numpy as np
import torch
from numpy.typing import NDArray
from sb3_contrib import MaskablePPO
from stable_baselines3.common.logger import Logger

import cadmus_gym as cg
from cadmus_gym import files
from cadmus_gym.evaluation import trained
from cadmus_gym.evaluation.lifts import INTERVAL, Measured, compare, judged, shown_lift
from cadmus_gym.evaluation.truth import EVALUATION_SEED, complete_under, problems_of, prompts_of
from cadmus_gym.language.isa import Tokens
from cadmus_gym.reports import curves
from cadmus_gym.rl.callbacks import Curves, Ticks
from cadmus_gym.rl.sb3 import CadmusVecEnv, SequenceRolloutBuffer, TransformerPolicy, agent_state, posed, restore_agent
from cadmus_gym.training import allowed, folders, settings
from cadmus_gym.training.interrupts import Stop, exit_with
from cadmus_gym.training.provenance import recipe
from cadmus_gym.training.ranks import device_of
from cadmus_gym.training.runs import Run
from cadmus_gym.training.settings import Overrides
from cadmus_gym.training.starting import Start, find_start
from cadmus_gym.training.states import as_tensor
from cadmus_gym.transformer.checkpoint import check_target, save_model
from cadmus_gym.transformer.model import ModelConfig, Transformer


@dataclass(frozen=True)
class Args:
    """Fine-tune a transformer with PPO under masks of legal tokens."""

    env: str = "Cadmus-Arith-v0"  # registered id, or path of a .toml
    checkpoint: str | None = None  # folder or name of the model to start from; None: fresh weights
    folder: Path = Path("runs/ppo")
    seed: int = 0  # of prompts, sampling, minibatches, and fresh weights
    n_envs: int = 128
    total_timesteps: int = 500_000  # tokens to write, rounded up to whole rollouts
    n_steps: int = 64  # tokens per environment in a rollout
    batch_size: int = 1024  # tokens in a minibatch, of whole environments; must divide n_envs * n_steps
    n_epochs: int = 1
    learning_rate: float = 1e-4
    gamma: float = 1.0
    gae_lambda: float = 1.0
    clip_range: float = 0.2
    ent_coef: float = 0.0
    vf_coef: float = 0.5
    max_grad_norm: float = 0.5
    target_kl: float | None = 0.02  # an update ends early at 1.5 times this divergence; None: never
    eval_episodes: int = 2000  # prompts of the test split, the same in every evaluation
    eval_freq: int = 65_536  # tokens between two greedy evaluations
    save_freq: int = 65_536  # tokens between two training states
    endian: Literal["big", "little"] = "little"  # digit order with fresh weights; a checkpoint brings its own
    overrides: Overrides = field(default_factory=dict)
    resume: bool = False  # continue the run in the folder; other flags need not be repeated
    overwrite: bool = False  # delete the run in the folder
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = 1  # more do not help with small models; above 10M parameters they do
    progress_bar: bool = True

    def __post_init__(self) -> None:
        allowed.check(self, RULES)
        if self.rollout % self.batch_size:
            divides = f"a divisor of n_envs * n_steps = {self.rollout}"
            raise ValueError(f"batch_size = {self.batch_size}; allowed: {divides}")
        if self.resume and self.overwrite:
            raise ValueError("--resume and --overwrite: give one of them")

    @property
    def rollout(self) -> int:
        """Tokens in a rollout."""
        return self.n_envs * self.n_steps


RULES = {
    **dict.fromkeys(("n_envs", "n_steps", "n_epochs", "total_timesteps"), allowed.WHOLE),
    **dict.fromkeys(("eval_episodes", "eval_freq", "save_freq", "threads"), allowed.WHOLE),
    **dict.fromkeys(("learning_rate", "clip_range", "max_grad_norm"), allowed.POSITIVE),
    **dict.fromkeys(("ent_coef", "vf_coef"), allowed.NOT_NEGATIVE),
    **dict.fromkeys(("gamma", "gae_lambda"), allowed.SHARE),
    "target_kl": allowed.optional(allowed.POSITIVE),
    "seed": allowed.whole_to(EVALUATION_SEED - 1),
    "overrides": allowed.TABLE,
    # Stable-Baselines3 divides advantages by their standard deviation over a minibatch.
    "batch_size": allowed.Rule("a whole number from 2", lambda value: type(value) is int and value >= 2),
}
# Settings that may differ when a run is resumed: they do not change the weights.
FREE = {*settings.OF_CALL, "device", "threads", "total_timesteps", "eval_freq", "save_freq", "progress_bar"}


def make_agent(args: Args, spec: cg.Spec, start: Start, model: Transformer | None) -> MaskablePPO:
    """Return the untrained agent in its environment, with the weights of a model or fresh ones."""
    device_of(args.device)  # raises ValueError if it is missing
    # Runs with neighbouring seeds must not share prompts, so the seeds that they use are far apart.
    agent_seed, weights_seed = (int(word) for word in np.random.SeedSequence(args.seed).generate_state(2))

    # Masks and rewards of `Cadmus-...-v0`, in the model's digit order.
    env = CadmusVecEnv(cg.CadmusVectorEnv(args.n_envs, spec, endian=start.endian, autoreset_mode="SameStep"))

    # The pretrained policy with a value head, nothing else.
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


def main(arguments: list[str]) -> int:
    held = contextlib.ExitStack()
    try:
        args = settings.configure(arguments, Args, "args", FREE, Args.folder)
        result = args.folder / "result.json"
        if args.resume and result.is_file():
            done = files.read_json(result)
            if done["timesteps"] >= args.total_timesteps:
                print(f"{args.folder} is already finished:\n{done['line']}")
                return 0
        torch.set_num_threads(args.threads)
        # Mistakes are found before a folder is made or deleted.
        spec = cg.load_spec(args.env, **args.overrides)
        start, model = find_start(args.folder, args.resume, args.checkpoint, args.endian)
        agent = make_agent(args, spec, start, model)
        prompts = prompts_of(spec, "test", args.eval_episodes)
        digests, more = {spec.id: spec.digests()}, {"start": dataclasses.asdict(start)}
        check_target(args.folder / "model")
        about, state = folders.open_folder(args, "args", spec.digest, digests, held, free=FREE, more=more)
        run = Run("ppo.py", args.folder, about, unit="token", doing="update", remedy="learning_rate or target_kl")
        trainer = Trainer(args, spec, agent, prompts, run, state)
        return run.carry_out(trainer.train)
    except (ValueError, OSError) as error:
        print(f"ppo.py: {error}", file=sys.stderr)
        return 2
    finally:
        held.close()


class Trainer:
    """The agent, and what is measured of it; from a state, or from the beginning."""

    def __init__(
        self,
        args: Args,
        spec: cg.Spec,
        agent: MaskablePPO,
        prompts: tuple[Tokens, NDArray[np.int32]],
        run: Run,
        state: dict[str, Any] | None,
    ) -> None:
        self.args, self.spec, self.agent, self.prompts, self.run = args, spec, agent, prompts, run
        assert isinstance(agent.policy, TransformerPolicy)
        self.model = agent.policy.transformer
        self.history: list[dict[str, Any]] = []
        self.seconds = 0.0
        self.before: dict[str, Measured] = {}
        if state is None:
            self.save_model()  # now the checkpoint is no longer needed
        else:
            restore_agent(agent, state)
            self.model.record = state["record"].numpy().tobytes()
            self.history, self.seconds, run.saved = state["history"], state["seconds"], agent.num_timesteps
            self.before = {name: Measured(*(one.numpy() for one in parts)) for name, parts in state["before"].items()}
        self.begun = time.monotonic() - self.seconds
        run.start(agent.num_timesteps, args.total_timesteps, quiet=not args.progress_bar)
        assert run.writer is not None
        self.writer = run.writer
        agent.set_logger(Logger(os.fspath(run.folder), [Curves(run.writer)]))

    def train(self) -> int:
        """Train to the end or until a signal; return the exit status."""
        args, agent, run = self.args, self.agent, self.run
        parameters = sum(weight.numel() for weight in self.model.parameters())
        run.say(
            f"{run.folder}: {parameters:,} parameters, tokens {agent.num_timesteps} to {args.total_timesteps}, "
            f"{agent.device.type}, {torch.get_num_threads()} threads"
        )
        if not self.before:
            self.before = self.measure_both()
        with run.stop() as stop:
            if self.loop(stop):
                return run.stopped(stop)
        after = self.measure_both()
        self.save()
        agent.save(run.folder / "agent.zip")
        self.finish(after)
        return 0

    def loop(self, stop: Stop) -> bool:
        """Alternate rollouts and updates, evaluate and save. Return whether a signal stopped the run."""
        args, agent, run, total = self.args, self.agent, self.run, self.args.total_timesteps
        ticks = Ticks(lambda token: run.update(token) if token < total else None)
        while agent.num_timesteps < total:
            last, clock = agent.num_timesteps, time.monotonic()
            agent.learn(args.rollout, ticks, reset_num_timesteps=False, log_interval=2)  # one rollout; logged below
            token, speed = agent.num_timesteps, args.rollout / (time.monotonic() - clock)
            agent.dump_logs()
            sampled, greedy = np.mean(agent.ep_success_buffer or [0.0]), self.history[-1]["truth_rate"]
            run.update(token, f"sampled {sampled:.1%}, greedy {greedy:.1%}, {speed:,.0f} tokens/s")
            run.check_finite(agent.policy)
            if token // args.eval_freq > last // args.eval_freq and token < total:
                self.measure()
            stopping = stop.signal > 0
            if token // args.save_freq > last // args.save_freq or token >= total or stopping:
                self.save()
            if stopping:
                return True
        return False

    def measure(self, temperature: float = 0.0) -> Measured:
        """Evaluate on the test prompts, report it, and log it to TensorBoard."""
        (prompts, lengths), token, name = self.prompts, self.agent.num_timesteps, "sampled" if temperature else "greedy"
        with self.run.part("evaluation", f"evaluating {len(prompts)} test prompts at token {token}, {name}") as report:
            done = complete_under(self.model, self.spec, prompts, lengths, temperature=temperature, report=report)
            found = judged(done.programs, lengths)
        truth, loopholes = float(found.true.mean()), float(found.loopholes.mean())
        curves.add_rates(self.writer, "test sampled" if temperature else "test", truth, loopholes, token)
        if not temperature:
            curves.add_completions(self.writer, self.model, [self.spec], token)
            rates = {"truth_rate": round(truth, 6), "loophole_rate": round(loopholes, 6)}
            self.history.append({"timesteps": token, **rates})
        also = f", {loopholes:.2%} loopholes" if loopholes else ""
        self.run.say(f"token {token}: {truth:.2%} of {len(prompts)} test prompts true{also}, {name}")
        return found

    def measure_both(self) -> dict[str, Measured]:
        return {"greedy": self.measure(), "sampled": self.measure(1.0)}

    def save(self) -> None:
        """Save a training state, and the model."""
        self.seconds = time.monotonic() - self.begun
        before = {name: [torch.from_numpy(one) for one in parts] for name, parts in self.before.items()}
        state = {**agent_state(self.agent), "history": self.history, "seconds": self.seconds, "before": before}
        state["record"] = as_tensor(self.model.record)
        self.run.save(self.agent.num_timesteps, state)
        self.save_model()

    def save_model(self) -> None:
        about = {key: value for key, value in self.run.about.items() if key != "start"}
        card = {**recipe(about["args"]), **about, "endian": self.model.endian, "timesteps": self.agent.num_timesteps}
        card |= {"parent": self.run.about["start"]["parent"], "history": self.history, "posed": posed(self.agent)}
        card["fingerprint"] = trained.fingerprint(card, self.model.record)
        save_model(self.model, self.run.folder / "model", card, max_tokens=self.spec.episode.max_tokens)

    def finish(self, after: dict[str, Measured]) -> None:
        """Write and print the result."""
        args, tokens = self.args, self.agent.num_timesteps
        keys = problems_of(self.spec, "test", args.eval_episodes)
        found = {name: compare(self.before[name], after[name], keys) for name in ("greedy", "sampled")}
        lowest = min(one["truth_rate"] for one in self.history)
        line = (
            f"{self.run.folder / 'model'}: {self.spec.id}, the same {args.eval_episodes} test prompts before and after "
            f"{tokens} tokens: greedy {shown_lift(found['greedy'])}; sampled {shown_lift(found['sampled'])}; "
            f"lowest greedy truth rate {lowest:.2%}; {self.seconds:.0f} s"
        )
        result = {**found, "interval": INTERVAL, "lowest": lowest, "timesteps": tokens, "seconds": self.seconds}
        about = self.run.about
        self.run.finish(line, {**result, "history": self.history, **about, "recipe": recipe(about["args"])})


if __name__ == "__main__":
    exit_with(main, "ppo.py")
