"""Measure how fast the transformer is, compared with Hugging Face's Llama of the same sizes.

    python benchmarks/transformer.py                                    all sections, about ten minutes on one core
    python benchmarks/transformer.py --sections completion --repeats 21

Sections are completion, latency and training. Times are CPU times of one thread. Things that are compared take turns in
one run, so a busy machine slows all of them. A ratio is the median over paired repeats, shown with its minimum and
maximum. Prints Markdown tables and writes the same rows, with the command and the hardware, to
benchmarks/results/transformer.json.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
import transformers
import tyro
from numpy.typing import NDArray
from torch import Tensor

import cadmus_gym as cg
from cadmus_gym.evaluation.truth import complete_under, prompts_of
from cadmus_gym.files import check_output
from cadmus_gym.language import isa as op
from cadmus_gym.language.forms import reverse_digits
from cadmus_gym.reading import read_toml
from cadmus_gym.reports.markdown import markdown
from cadmus_gym.training import batches
from cadmus_gym.training.optimizers import make_optimizers
from cadmus_gym.training.provenance import recipe
from cadmus_gym.transformer.checkpoint import load_model
from cadmus_gym.transformer.linear import Product
from cadmus_gym.transformer.loss import losses
from cadmus_gym.transformer.model import Transformer, with_bos

HERE = Path(__file__).resolve().parent
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
PARTS = ("forward", "backward", "optimizers", "data")

Section: TypeAlias = Literal["completion", "latency", "training"]
Programs: TypeAlias = NDArray[np.uint8]  # (N, L), padded with 0
Row: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Args:
    """How fast the transformer is, measured beside Hugging Face's."""

    sections: tuple[Section, ...] = ("completion", "latency", "training")
    # The model that completes; training uses its sizes with fresh weights.
    checkpoint: Path = HERE.parent / "cadmus_gym" / "_models" / "nano-arith"
    recipe: Path = HERE.parent / "pretrain" / "recipes" / "nano-arith.toml"  # rates, prompt weight and clip of training
    env: str = "Cadmus-Arith-v0"
    dtypes: tuple[Literal["float32", "bfloat16"], ...] = ("float32", "bfloat16")
    prompts: int = 1024  # of the test split, completed in each repeat
    batch: int = 256  # prompts or programs at once
    repeats: int = 7  # of each measurement; tables show the median
    seed: int = 0  # of prompts, programs and weights
    output: Path = HERE / "results" / "transformer.json"


def core_seconds(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def in_turns(calls: dict[str, Callable[[], object]], repeats: int) -> dict[str, NDArray[np.float64]]:
    """Return the core-seconds of each call, (repeats,), after a first time that does not count.

    A repeat makes all calls, every second one in reverse.
    """
    for call in calls.values():
        call()
    taken = {name: np.empty(repeats) for name in calls}
    for repeat in range(repeats):
        for name in list(calls)[:: 1 if repeat % 2 == 0 else -1]:
            taken[name][repeat] = core_seconds(calls[name])
    return taken


def spread(ratios: NDArray[np.float64]) -> Row:
    return {"median": float(np.median(ratios)), "min": float(ratios.min()), "max": float(ratios.max())}


def best_of(taken: dict[str, NDArray[np.float64]], names: list[str]) -> str:
    return min(names, key=lambda name: float(np.median(taken[name])))


# ----------------------------------------------------------------------------------------------- completion


def batches_of(lengths: NDArray[np.int32], size: int) -> Iterator[NDArray[np.int64]]:
    """Yield the numbers of prompts in batches of similar length, for both sides the same ones."""
    order = np.argsort(lengths, kind="stable")
    for start in range(0, len(order), size):
        yield order[start : start + size]


@torch.inference_mode()
def completed_by_theirs(
    model: Any, prompts: Programs, lengths: NDArray[np.int32], size: int, most: int, cache: str | None
) -> Programs:
    """Complete prompts with Hugging Face's ``generate``, greedily; return completions (N, most) padded with 0."""
    completions = np.zeros((len(prompts), most), np.uint8)
    for rows in batches_of(lengths, size):
        width = 1 + int(lengths[rows].max())
        tokens = np.full((len(rows), width), op.PAD, np.int64)  # padded on the left
        for row, of in zip(tokens, rows, strict=True):
            row[width - 1 - lengths[of] :] = op.BOS, *prompts[of, : lengths[of]]
        given = torch.from_numpy(tokens)
        written = model.generate(
            given,
            attention_mask=(given != op.PAD).long(),
            do_sample=False,
            max_new_tokens=most,
            eos_token_id=op.END,
            pad_token_id=op.PAD,
            use_cache=True,
            **({"cache_implementation": cache} if cache else {}),
        )[:, width:]
        completions[rows, : written.shape[1]] = written.numpy()
    return completions


def seconds_of_products(
    model: Transformer, prompt_lengths: NDArray[np.int32], asked: NDArray[np.int32], size: int, dtype: torch.dtype
) -> float:
    """Return the core-seconds of the products with weights alone, by the faster library for each shape.

    asked: for each prompt how many tokens the model was asked for. Prompts are taken to be read at once and unpadded,
    and a row to leave its batch with the last token that it is requested.
    """
    rows_of: Counter[int] = Counter()  # of the products of a layer -> how often
    rows_of_output: Counter[int] = Counter()
    for rows in batches_of(prompt_lengths, size):
        rows_of[int(prompt_lengths[rows].sum())] += 1
        for step in range(int(asked[rows].max())):
            running = int((asked[rows] > step).sum())
            rows_of[running] += 1
            rows_of_output[running] += 1
    config = model.config
    qkv, up = config.width + 2 * config.groups * config.head_width, 2 * config.hidden
    of_layer = ((config.width, qkv), (config.width, config.width), (config.width, up), (config.hidden, config.width))
    of_output = ((config.width, len(cg.VOCABULARY)),)

    def seconds(count: int, shapes: tuple[tuple[int, int], ...]) -> float:
        total = 0.0
        for inputs, outputs in shapes:
            x, weight = torch.randn(count, inputs).to(dtype), torch.randn(outputs, inputs).to(dtype)
            ways: list[Callable[[], object]] = [partial(F.linear, x, weight)]
            if Product.enabled:
                ways.append(partial(Product.multiply, x, weight))
            times = max(4, 4096 // count)

            def often(way: Callable[[], object], times: int = times) -> None:
                for _ in range(times):
                    way()

            total += min(core_seconds(partial(often, way)) for way in ways * 4) / times
        return total

    with torch.inference_mode():
        in_layers = sum(often * seconds(count, of_layer) for count, often in rows_of.items())
        at_the_end = sum(often * seconds(count, of_output) for count, often in rows_of_output.items())
    return config.layers * in_layers + at_the_end


def measure_completion(args: Args) -> list[Row]:
    """Completions a core-second of `cg.complete` and of ``generate``, greedy, the same prompts and weights."""
    spec = cg.load_spec(args.env)
    prompts, lengths = prompts_of(spec, "test", args.prompts, args.seed)
    most, rows = spec.episode.max_tokens, []
    for dtype in args.dtypes:
        ours = load_model(args.checkpoint).to(DTYPES[dtype])
        shown = reverse_digits(prompts) if ours.endian == "little" else prompts
        theirs = transformers.LlamaForCausalLM.from_pretrained(args.checkpoint, dtype=DTYPES[dtype])
        theirs.eval()  # type: ignore[no-untyped-call]
        done = complete_under(ours, spec, prompts, lengths, batch_size=args.batch)
        written = completed_by_theirs(theirs, shown, lengths, args.batch, most, None)
        if ours.endian == "little":
            written = reverse_digits(written)
        agree = (written[:, : done.tokens.shape[1]] == done.tokens).all(1) & ~written[:, done.tokens.shape[1] :].any(1)
        calls: dict[str, Callable[[], object]] = {
            "ours": partial(complete_under, ours, spec, prompts, lengths, batch_size=args.batch)
        }
        for cache in (None, "static"):
            name = cache or "dynamic"
            calls[name] = partial(completed_by_theirs, theirs, shown, lengths, args.batch, most, cache)
        taken = in_turns(calls, args.repeats)
        best = best_of(taken, ["dynamic", "static"])
        # The model is not asked where the form leaves one token, such as `end` after `eq`.
        asked = done.lengths - (done.log_probs[np.arange(len(prompts)), done.lengths - 1] == 0)
        products = seconds_of_products(ours, lengths, asked, args.batch, DTYPES[dtype])
        rows.append(
            {
                "dtype": dtype,
                "completions": len(prompts),
                "new tokens": float(done.lengths.mean()),
                "the same": int(agree.sum()),
                "ours / core-s": len(prompts) / float(np.median(taken["ours"])),
                "theirs / core-s": len(prompts) / float(np.median(taken[best])),
                "their cache": best,
                "ours / theirs": spread(taken[best] / taken["ours"]),
                "products alone / theirs": float(np.median(taken[best])) / products,
            }
        )
    return rows


# -------------------------------------------------------------------------------------------------- latency

FEW = (1, 4, 16)  # prompts at once
COMMANDS = {
    "complete": ("complete", "12 7 add", "--model", "nano-arith"),
    "run": ("run", "12 7 add 19 eq end"),
    "--help": ("--help",),
}


def seconds_of_command(*arguments: str) -> float:
    """Return the core-seconds of ``python -m cadmus_gym``."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "cadmus_gym", *arguments], stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure_latency(args: Args) -> tuple[list[Row], list[Row]]:
    """Core-milliseconds of completing few prompts, compiled, as a batch and by ``generate``; and of commands."""
    spec, ours = cg.load_spec(args.env), load_model(args.checkpoint)
    theirs = transformers.LlamaForCausalLM.from_pretrained(args.checkpoint, dtype=torch.float32)
    theirs.eval()  # type: ignore[no-untyped-call]
    rows: list[Row] = []
    for count in FEW:
        prompts, lengths = prompts_of(spec, "test", count, args.seed)
        shown = reverse_digits(prompts) if ours.endian == "little" else prompts
        done = complete_under(ours, spec, prompts, lengths)

        def by_batch(prompts: Programs = prompts, lengths: NDArray[np.int32] = lengths) -> None:
            with ours.hooked({"norm": lambda _: None}):  # a model with hooks runs in PyTorch
                complete_under(ours, spec, prompts, lengths)

        calls: dict[str, Callable[[], object]] = {
            "ours": partial(complete_under, ours, spec, prompts, lengths),
            "batch": by_batch,
            "theirs": partial(completed_by_theirs, theirs, shown, lengths, count, int(done.lengths.max()), None),
        }
        taken = in_turns(calls, args.repeats)
        rows.append(
            {
                "prompts": count,
                "new tokens": float(done.lengths.mean()),
                "ours / ms": 1000 * float(np.median(taken["ours"])),
                "as a batch / ms": 1000 * float(np.median(taken["batch"])),
                "theirs / ms": 1000 * float(np.median(taken["theirs"])),
                "batch / ours": spread(taken["batch"] / taken["ours"]),
                "theirs / ours": spread(taken["theirs"] / taken["ours"]),
            }
        )
    commands = []
    for name, arguments in COMMANDS.items():
        taken_by = np.array([seconds_of_command(*arguments) for _ in range(args.repeats + 1)])[1:]
        commands.append({"command": f"python -m cadmus_gym {name}", "core-seconds": spread(taken_by)})
    return rows, commands


# ------------------------------------------------------------------------------------------------- training


def loss_of(model: Transformer, chunk: batches.Chunk, prompt_weight: float) -> Tensor:
    """Return the loss of a chunk, summed over its tokens, those of prompts weighted."""
    of_prompts, of_completions = losses(model, chunk.tokens, chunk.prompt_lengths)
    return prompt_weight * of_prompts.sum() + of_completions.sum()


class Ours:
    """Steps of training as pretrain/train.py makes them."""

    def __init__(self, args: Args, dtype: str, optimizer: str, sample: batches.Batch) -> None:
        self.values, loaded = read_toml(args.recipe), load_model(args.checkpoint)
        self.model, self.endian = Transformer(loaded.config, args.seed), loaded.endian
        muon_rate = self.values["muon_rate"] if optimizer == "muon" else None
        self.optimizers = make_optimizers(self.model, muon_rate, self.values["adamw_rate"], dtype=getattr(torch, dtype))
        self.cuts = batches.plan_chunks(batches.program_lengths(sample.programs), args.batch)
        self.low = dtype == "bfloat16"
        self.spent = dict.fromkeys(PARTS, 0.0)

    def step(self, batch: batches.Batch) -> None:
        last = time.process_time()

        def spend(part: str) -> None:
            nonlocal last
            now = time.process_time()
            self.spent[part] += now - last
            last = now

        in_prompts = int(batch.prompt_lengths.sum())
        weight = self.values["prompt_weight"] * in_prompts + int((batch.programs != op.PAD).sum()) - in_prompts
        chunks = batches.cut_chunks(batch, self.endian, self.cuts)
        spend("data")
        for chunk in chunks:
            with torch.autocast("cpu", torch.bfloat16, enabled=self.low):
                loss = loss_of(self.model, chunk, self.values["prompt_weight"]) / weight
            spend("forward")
            loss.backward()
            spend("backward")
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.values["clip"])
        for optimizer in self.optimizers.values():
            optimizer.step()
            optimizer.zero_grad()
        spend("optimizers")


class Theirs:
    """Steps of LlamaForCausalLM with AdamW, on batches padded to their longest row; attention is causal, no mask."""

    def __init__(self, args: Args, dtype: str, attention: str) -> None:
        values = read_toml(args.recipe)
        self.clip, self.low, self.endian = values["clip"], dtype == "bfloat16", load_model(args.checkpoint).endian
        torch.manual_seed(args.seed)
        config = transformers.LlamaConfig.from_pretrained(args.checkpoint)
        config._attn_implementation = attention
        self.model: Any = transformers.LlamaForCausalLM(config).train()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3, betas=(0.9, 0.98), fused=True)

    def step(self, batch: batches.Batch) -> None:
        programs = reverse_digits(batch.programs) if self.endian == "little" else batch.programs
        tokens = torch.from_numpy(programs[:, : batches.program_lengths(programs).max()])
        labels = with_bos(torch.where(tokens == op.PAD, -100, tokens.long()))
        with torch.autocast("cpu", torch.bfloat16, enabled=self.low):
            loss = self.model(input_ids=with_bos(tokens), labels=labels, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()


def measure_training(args: Args) -> tuple[list[Row], list[Row]]:
    """Tokens a core-second of steps on the same programs, and where the time of a step of the recipe goes."""
    stream = cg.Stream(args.env, seed=args.seed)

    def draw(start: int, count: int) -> batches.Batch:
        return batches.draw(stream, np.arange(start, start + count))

    sample, batch = draw(0, max(args.batch, 1 << 12)), draw(0, args.batch)
    tokens = int((batch.programs != op.PAD).sum())
    ours = {f"{name} {dtype}": Ours(args, dtype, name, sample) for dtype in args.dtypes for name in ("muon", "adamw")}
    theirs = {f"{name} {dtype}": Theirs(args, dtype, name) for dtype in args.dtypes for name in ("sdpa", "eager")}
    steppers: dict[str, Ours | Theirs] = {**ours, **theirs}
    calls: dict[str, Callable[[], object]] = {name: partial(one.step, batch) for name, one in steppers.items()}
    taken = in_turns(calls, args.repeats)
    rows = []
    best_theirs = best_of(taken, list(theirs))
    for name in ours:
        dtype = name.split()[1]
        best = best_of(taken, [f"sdpa {dtype}", f"eager {dtype}"])
        rows.append(
            {
                "ours": name,
                "tokens": tokens,
                "ours, tokens / core-s": tokens / float(np.median(taken[name])),
                "theirs at that dtype": best,
                "theirs, tokens / core-s": tokens / float(np.median(taken[best])),
                "ours / theirs": spread(taken[best] / taken[name]),
                "their best": best_theirs,
                "ours / their best": spread(taken[best_theirs] / taken[name]),
            }
        )
    shares = []
    for name, one in ours.items():
        one.spent = dict.fromkeys(PARTS, 0.0)
        for step in range(args.repeats):
            one.spent["data"] += core_seconds(partial(draw, step * args.batch, args.batch))
            one.step(batch)
        whole = sum(one.spent.values())
        shares.append({"ours": name, **{part: seconds / whole for part, seconds in one.spent.items()}})
    return rows, shares


# --------------------------------------------------------------------------------------------------- output


def cell(value: object) -> str:
    if isinstance(value, dict):
        return f"{cell(value['median'])} ({cell(value['min'])} to {cell(value['max'])})"
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def main(args: Args) -> None:
    transformers.utils.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    torch.set_num_threads(1)
    load_model(args.checkpoint)
    cg.load_spec(args.env)
    read_toml(args.recipe)
    check_output(args.output)
    results: dict[str, Any] = {"recipe": recipe(args), "transformers": transformers.__version__}
    hardware = results["recipe"]["hardware"]
    print(f"commit {results['recipe']['commit']}, {hardware['cpu']}, one core, transformers {transformers.__version__}")

    def report(title: str, note: str, rows: list[Row]) -> None:
        results[title] = rows
        table = markdown(list(rows[0]), [[cell(value) for value in row.values()] for row in rows])
        print(f"\n## {title}\n\n{note}\n\n{table}", flush=True)

    if "completion" in args.sections:
        note = (
            f"Greedy completions of test prompts of {args.env}, {args.batch} at once. `the same`: came out alike;\n"
            "ours obey the mask of a form, theirs know of none. Products alone: our products with weights and nothing\n"
            "else, all layers whole, each by the faster library: with these libraries no more is to be had."
        )
        report("completion", note, measure_completion(args))
    if "latency" in args.sections:
        rows, commands = measure_latency(args)
        note = f"Core-milliseconds until a few prompts of {args.env} are completed, greedily and in float32."
        report("latency", note, rows)
        report("command line", "Core-seconds of a command, once its kernels are compiled.", commands)
    if "training" in args.sections:
        rows, shares = measure_training(args)
        note = f"Steps on the same {args.batch} programs of {args.env}. Theirs: AdamW, the faster kind of attention."
        report("training", note, rows)
        report("shares of a step", "Of the core-seconds of a step, the data included.", shares)

    args.output.write_text(json.dumps(results, indent=1) + "\n")
    print(f"\nwritten to {args.output}")


if __name__ == "__main__":
    try:
        main(tyro.cli(Args, description=__doc__))
    except (ValueError, OSError) as error:
        sys.exit(f"transformer.py: {error}")
