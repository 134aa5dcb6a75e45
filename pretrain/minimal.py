"""Pretraining on one screen: true programs, a transformer, an optimizer, the loss, an evaluation.

    python pretrain/minimal.py                  about a minute on one core: sums and differences of numbers below 100
    python pretrain/minimal.py --steps 100      stops early, when the model is still wrong most of the time

This is the core of `train.py` without its conveniences (recipes, resuming, several processes, bfloat16, TensorBoard):
next-token prediction on an endless stream of true programs. It reports the share of test prompts that the model
completes truly. Every test problem rests on an operation that no training program executes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import tyro

import cadmus_gym as cg
from cadmus_gym.language.forms import reverse_digits
from cadmus_gym.training.optimizers import make_optimizers, rate_at, set_rates
from cadmus_gym.transformer.loss import losses


@dataclass(frozen=True)
class Config:
    """Pretrain a small transformer on the sums and differences of Cadmus-Arith-v0."""

    steps: int = 400
    batch: int = 256  # programs per step
    width: int = 64  # of the residual stream
    layers: int = 2
    heads: int = 4
    rate: float = 5e-3  # peak of the learning rates
    prompt_weight: float = 0.1  # of a prompt's token in the loss, where a completion's has 1
    evaluate_every: int = 100  # steps
    count: int = 500  # test prompts
    seed: int = 0  # of the weights and of the stream
    threads: int = 1


def main(config: Config) -> float:
    """Train; return the share of test prompts that are completed truly."""
    torch.set_num_threads(config.threads)

    # The task: an environment of the package with fewer operations.
    spec = cg.load_spec("Cadmus-Arith-v0", operators={"add": 1, "sub": 1}, operations={"1": 1})
    stream = cg.Stream(spec, "train", seed=config.seed)
    context = 1 + spec.prompt_room + spec.episode.max_tokens  # `<bos>`, a prompt, a completion

    sizes = cg.ModelConfig(width=config.width, layers=config.layers, heads=config.heads, context=context)
    model = cg.Transformer(sizes, seed=config.seed)
    model.endian = "little"  # it reads and writes numbers from their last digit, as people add
    optimizers = make_optimizers(model, config.rate, config.rate, weight_decay=0.1)  # Muon, and AdamW for the rest
    print(f"{sum(weight.numel() for weight in model.parameters()):,} parameters")

    true = 0.0
    for step in range(config.steps):
        # Programs (B, L), padded with 0: batch after batch of the stream, none of them twice.
        programs, prompt_lengths = stream.batch(step * config.batch, config.batch)
        programs = programs[:, : (programs > 0).any(0).sum()]  # as long as the longest
        in_prompts, in_all = int(prompt_lengths.sum()), int((programs > 0).sum())

        set_rates(optimizers, rate_at(step, config.steps, warmup=0.02, decay=0.6))
        tokens = torch.from_numpy(reverse_digits(programs))
        of_prompts, of_completions = losses(model, tokens, torch.from_numpy(prompt_lengths))  # (B,) each, in nats
        loss = config.prompt_weight * of_prompts.sum() + of_completions.sum()
        loss = loss / (config.prompt_weight * in_prompts + in_all - in_prompts)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers.values():
            optimizer.step()
            optimizer.zero_grad()

        if (step + 1) % config.evaluate_every == 0 or step + 1 == config.steps:
            found = cg.evaluate(model, spec, "test", config.count)
            true = found.truth_rate
            print(
                f"step {step + 1}: loss {loss.item():.3f} nats per token, {true:.1%} of test prompts true", flush=True
            )

    # It has never seen the last of these operations.
    for prompt in ("27 58 add", "31 90 sub", "6 7 mul"):
        done = cg.complete(model, [prompt], spec=spec)
        print(f"{cg.disassemble(done.programs[0]):24s} {cg.run(done.programs[0]).verdict.name}")
    return true


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
