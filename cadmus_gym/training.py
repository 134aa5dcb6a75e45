"""What every script that trains a transformer needs: batches without padding waste, the loss, the optimizers and their
rates, and several processes that train as one."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Generator, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, nullcontext
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
import torch.distributed
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from cadmus_gym.focus import AMONG, Focus, fill_kinds
from cadmus_gym.forms import reverse_digits
from cadmus_gym.isa import PAD, Tokens
from cadmus_gym.model import Transformer, with_bos
from cadmus_gym.stream import Stream
from cadmus_gym.trained import Choices

# What one more pass through the model costs, in tokens that could be computed instead. On a Zen 5 core, with 1M
# parameters: 8 ms against 20 to 50 us a token, and anything from 250 to 600 here gives the same speed, 1.6 times that
# of padding all rows to the longest. A GPU waits for the launches of kernels.
PASS_COSTS = {"cpu": 400, "cuda": 50_000}
# Most tokens in a pass, padding included, which bounds the memory it takes: about 34 bytes a token for each layer and
# each number of the residual stream, so 280M parameters (width 1024, 20 layers) need 23 GB.
PASS_TOKENS = {"cpu": 1 << 14, "cuda": 1 << 15}
ROWS = 8  # a chunk has a multiple of that many rows

Result = TypeVar("Result")


# ---------------------------------------------------------------------------------------------- batches and loss


def program_lengths(programs: Tokens) -> NDArray[np.int64]:
    """Return the lengths (N,) of programs (N, L) padded with 0."""
    used: NDArray[np.int64] = np.where(programs != PAD, np.arange(1, programs.shape[1] + 1), 0).max(axis=1, initial=0)
    return used


def plan_chunks(lengths: ArrayLike, batch: int, device: str = "cpu") -> list[int]:
    """Return where to cut batches sorted by length, [0, ..., batch], so that they cost least.

    A chunk is padded to its longest row only, one more chunk costs `PASS_COSTS`, and none has more tokens than
    `PASS_TOKENS`. ``lengths`` are those of a sample of programs, whose quantiles stand for the lengths in a batch: the
    cuts stay the same at every step, as oneDNN compiles anew for every number of rows it has not met, which takes
    longer than the padding.
    """
    sample, cost, most = np.sort(np.asarray(lengths)), PASS_COSTS[device], PASS_TOKENS[device]
    places = [*range(0, batch, ROWS), batch]
    longest = [int(sample[min(len(sample) * place // batch, len(sample) - 1)]) for place in places]
    best: list[tuple[int, int]] = [(0, 0)]  # for each place: the cost of all before it, and the cut before it
    for k in range(1, len(places)):
        sizes = [(places[k] - places[j]) * longest[k] for j in range(k)]
        best.append(min((best[j][0] + cost + sizes[j], j) for j in range(k) if sizes[j] <= most or j == k - 1))
    cuts, k = [batch], len(places) - 1
    while k > 0:
        k = best[k][1]
        cuts.append(places[k])
    return cuts[::-1]


class Batch(NamedTuple):
    """Programs of a stream, in the language's order of digits."""

    programs: Tokens  # (N, L), padded with 0
    prompt_lengths: NDArray[np.int32]  # (N,)
    parts: NDArray[np.int64]  # (N,), which of the stream's specs each is of
    kinds: NDArray[np.int64]  # (N,), see `cadmus_gym.focus`

    def take(self, rows: NDArray[np.integer]) -> Batch:
        return Batch(*(values[rows] for values in self))


class Chunk(NamedTuple):
    """Rows of a batch of about the same length, which pass through a model together."""

    tokens: Tensor  # (B, T) uint8, in the order of digits a model reads, padded with 0, T of the longest
    prompt_lengths: Tensor  # (B,) int32
    lengths: Tensor  # (B,) int64
    rows: Tensor  # (B,) int64, of the batch

    def to(self, device: torch.device) -> Chunk:
        return Chunk(*(part.to(device, non_blocking=True) for part in self))


def draw(stream: Stream, indices: NDArray[np.int64]) -> Batch:
    """Return the programs of a stream with these numbers, (N,)."""
    seeds = np.full(indices.size, stream.seed, np.int64)
    programs, prompt_lengths = stream.gather(seeds, indices, threads=1)
    parts, kinds = stream.parts(seeds, indices), np.zeros(indices.size, np.int64)
    fill_kinds(programs, prompt_lengths, parts, kinds)
    return Batch(programs, prompt_lengths, parts, kinds)


def cut_chunks(batch: Batch, endian: str, cuts: list[int]) -> list[Chunk]:
    """Return the programs of a batch sorted by length and cut."""
    programs = reverse_digits(batch.programs) if endian == "little" else batch.programs
    lengths = program_lengths(programs)
    order = np.argsort(lengths, kind="stable")
    return [
        Chunk(
            torch.from_numpy(programs[rows, : lengths[rows].max()]),
            *(torch.from_numpy(values) for values in (batch.prompt_lengths[rows], lengths[rows], rows)),
        )
        for rows in np.split(order, cuts[1:-1])
    ]


def ahead(make: Callable[[int], Result], start: int, stop: int) -> Generator[Result, None, None]:
    """Yield make(start), ..., make(stop - 1), each made in a thread while the one before it is used."""
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(make, start)
        for step in range(start, stop):
            ready = following.result()
            if step + 1 < stop:
                following = pool.submit(make, step + 1)
            yield ready


def losses(model: nn.Module, tokens: Tensor, prompt_lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Return -log p of each token of programs (B, T) given those before it, summed over prompts and over completions.

    Both are (B,) float32, in nats. Rows are padded with 0, which counts nowhere.
    """
    logits = model(with_bos(tokens)[:, :-1]).float()  # (B, T, 65)
    each = F.cross_entropy(logits.flatten(0, 1), tokens.flatten().long(), ignore_index=PAD, reduction="none")
    each = each.view(tokens.shape)
    in_prompt = torch.arange(tokens.shape[1], device=tokens.device) < prompt_lengths[:, None]
    in_prompts = (each * in_prompt).sum(1)
    return in_prompts, each.sum(1) - in_prompts


class Feed:
    """What one process trains on: every ``count``-th row of each batch, some of them drawn by `cadmus_gym.focus`.

    Row number k of step s is program number s * batch + k of the stream; where there is focus, one of the `AMONG` from
    that number times `AMONG` on: the first of them, or for ``share`` of the rows the one that the focus chooses. So all
    processes together have the rows of one, wherever they begin.
    """

    def __init__(self, stream: Stream, batch: int, share: float, rank: int = 0, count: int = 1) -> None:
        self.stream, self.batch = stream, batch
        self.rows = np.arange(rank, batch, count, dtype=np.int64)
        self.drawn = self.rows < int(share * batch)  # which rows the focus chooses; one is left at least
        self.focus = Focus(AMONG if share else 1)
        self.choices: Choices = np.zeros(0, np.uint8)  # of all rows of all steps, until a call of `record`
        self._own: list[Choices] = []  # those of this process since, one array for each step

    def batches(self, start: int, stop: int) -> Generator[Batch, None, None]:
        """Yield the batch of each step; what it is chosen from is drawn while the one before is used."""
        with closing(ahead(self._candidates, start, stop)) as found:
            for step, candidates in enumerate(found, start):
                yield self._choose(step, candidates)

    def record(self, ranks: Ranks) -> Choices:
        """Return which of its candidates each row has taken in every batch so far, (steps * batch,) uint8.

        All processes must ask for it. Without focus a row has one candidate, and the record is empty.
        """
        own = np.array(self._own, np.uint8).reshape(-1, self.rows.size)
        together = np.stack(ranks.gather(own), 2)  # row k of process r is row k * count + r of the batch
        self.choices, self._own = np.concatenate([self.choices, together.ravel()]), []
        return self.choices

    def _candidates(self, step: int) -> Batch:
        among = self.focus.among
        return draw(self.stream, ((step * self.batch + self.rows)[:, None] * among + np.arange(among)).ravel())

    def _choose(self, step: int, candidates: Batch) -> Batch:
        among = self.focus.among
        uniforms = np.random.default_rng((self.stream.seed, step)).random(self.batch)[self.rows]
        chosen = self.focus.choose(candidates.kinds.reshape(-1, among), self.drawn, uniforms)
        if among > 1:
            self._own.append(chosen.astype(np.uint8))
        return candidates.take(np.arange(self.rows.size) * among + chosen)


# ---------------------------------------------------------------------------------------------- optimizers


class Muon(torch.optim.Muon):
    """torch.optim.Muon with Newton-Schulz in ``dtype``, at the scale of AdamW's steps.

    PyTorch computes Newton-Schulz in bfloat16, whatever the weights are (2.9 to 2.13, torch/optim/_muon.py). Without
    instructions for bfloat16 that takes most of a step. In bfloat16 this optimizer equals PyTorch's to the bit.
    """

    def __init__(self, matrices: Iterable[Tensor], rate: float, weight_decay: float, dtype: torch.dtype) -> None:
        super().__init__(matrices, lr=rate, momentum=0.95, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move each matrix that has a gradient; there is no closure."""
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is None:
                    continue
                state = self.state[matrix]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(matrix.grad)
                mean = state["momentum_buffer"].lerp_(matrix.grad, 1 - group["momentum"])
                update = matrix.grad.lerp(mean, group["momentum"]).to(self.dtype)  # Nesterov's
                matrix.mul_(1 - group["lr"] * group["weight_decay"])
                update = orthogonalized(update, group["ns_coefficients"], group["ns_steps"])
                matrix.add_(update, alpha=-group["lr"] * (0.2 * math.sqrt(max(matrix.shape))))


def orthogonalized(matrix: Tensor, coefficients: tuple[float, float, float], steps: int) -> Tensor:
    """Return a matrix (M, N) with all singular values near 1, by Newton-Schulz in its own type (Jordan et al. 2024)."""
    a, b, c = coefficients
    x = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if matrix.shape[0] > matrix.shape[1] else x


def make_optimizers(
    model: Transformer,
    muon_rate: float | None,
    adamw_rate: float,
    weight_decay: float = 0.0,
    dtype: torch.dtype = torch.bfloat16,
) -> dict[str, torch.optim.Optimizer]:
    """Return "muon" for the matrices of the layers and "adamw" for embedding, output layer and norms.

    With ``muon_rate`` None, AdamW has the matrices too. ``weight_decay`` is that of the matrices; nothing else decays.
    ``dtype`` is that of Muon's products.
    Muon (Jordan et al. 2024) moves a matrix by its momentum with all singular values made 1, here scaled to the size of
    AdamW's steps (Liu et al. 2025, arXiv:2502.16982). Its loop over matrices takes 8 % of a step at 1M parameters; one
    batched loop for all of a shape would save half of that, and no longer equal PyTorch's to the bit.
    """
    matrices = [weight for weight in model.layers.parameters() if weight.ndim == 2]
    inside = set(map(id, matrices))
    others = [weight for weight in model.parameters() if id(weight) not in inside]
    groups: list[dict[str, Any]] = [{"params": others, "weight_decay": 0.0}]
    found: dict[str, torch.optim.Optimizer] = {}
    if muon_rate is None:
        groups.append({"params": matrices, "weight_decay": weight_decay})
    else:
        found["muon"] = Muon(matrices, muon_rate, weight_decay, dtype)
    found["adamw"] = torch.optim.AdamW(groups, lr=adamw_rate, betas=(0.9, 0.98), fused=True)
    for optimizer in found.values():
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return found


def rate_at(step: int, steps: int, warmup: float, decay: float) -> float:
    """Return the share of the peak rate at a step: up over the first share of the steps, down to 0 over the last."""
    return min(1.0, (step + 1) / max(1.0, warmup * steps), (steps - step) / max(1.0, decay * steps))


def set_rates(optimizers: Mapping[str, torch.optim.Optimizer], share: float) -> None:
    """Give all parameters this share of their peak rate."""
    for optimizer in optimizers.values():
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * share


# ---------------------------------------------------------------------------------------------- several processes


def device_of(name: str) -> torch.device:
    """Return the device of this process: "cpu", "cuda", or "auto", which takes a GPU where there is one.

    Of several processes on a node, each takes a GPU of its own. Raises ValueError where there is none for it.
    """
    kind = name if name != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    if kind != "cuda":
        return torch.device(kind)
    place, gpus = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count() if torch.cuda.is_available() else 0
    if gpus == 0:
        raise ValueError("device = cuda, but PyTorch finds no GPU; allowed here: cpu, auto")
    if place >= gpus:
        raise ValueError(f"process {place} of this node has no GPU; start at most {gpus} processes, one for each GPU")
    return torch.device("cuda", place)


class Ranks:
    """The processes that train one model together: this one alone, or those that torchrun started.

    ``device`` is as in `device_of`, ValueError included. They talk through NCCL on GPUs and through Gloo otherwise.
    """

    def __init__(self, device: str = "auto") -> None:
        self.rank, self.count = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
        self.device = device_of(device)
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)
        if self.count > 1:
            torch.distributed.init_process_group("nccl" if self.device.type == "cuda" else "gloo")

    def wrap(self, model: Transformer) -> nn.Module:
        """Return a module that computes as ``model``, and whose gradients are the means over all processes."""
        if self.count == 1:
            return model
        return DistributedDataParallel(model, gradient_as_bucket_view=True)

    def apart(self, model: nn.Module) -> AbstractContextManager[None]:
        """Return a context within which the processes add up gradients each for itself."""
        return model.no_sync() if isinstance(model, DistributedDataParallel) else nullcontext()

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum over all processes, which all of them must ask for."""
        total = values.to(self.device, copy=True)
        if self.count > 1:
            torch.distributed.all_reduce(total)
        return total

    def gather(self, own: Result) -> list[Result]:
        """Return what each process has, in the order of their ranks."""
        found = [own] * self.count
        if self.count > 1:
            torch.distributed.all_gather_object(found, own)
        return found

    def first(self, make: Callable[[], Result]) -> Result:
        """Return what the first process makes; an error it meets is raised in all."""
        made: Any = None
        error: Exception | None = None
        if self.rank == 0:
            try:
                made = make()
            except Exception as raised:
                error = raised
        if self.count > 1:
            shared = [made, error]
            torch.distributed.broadcast_object_list(shared)
            made, error = shared
        if error is not None:
            raise error
        return made  # type: ignore[no-any-return]

    def close(self) -> None:
        if self.count > 1:
            torch.distributed.destroy_process_group()
