"""What every script that trains a transformer needs: batches without padding waste, the loss, the optimizers and
their rates, the folder of a run, states on the disk that survive whatever happens, progress, a clean stop."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import hashlib
import io
import json
import os
import shutil
import signal
import sys
import time
import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any, Protocol, get_type_hints

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from tqdm import tqdm

from cadmus_gym.isa import PAD, Tokens
from cadmus_gym.model import Transformer, with_bos

# What one more pass through the model costs, in tokens that could be computed instead. On a Zen 5 core, with 1M
# parameters: 8 ms against 20 to 50 us a token, and anything from 250 to 600 here gives the same speed, 1.6 times that
# of padding all rows to the longest. A GPU waits for the launches of kernels.
PASS_COSTS = {"cpu": 400, "cuda": 50_000}
ROWS = 8  # a chunk has a multiple of that many rows
STEP_DIGITS, SUM_DIGITS = 9, 16  # of a state's file name
OF_CALL = ("folder", "resume", "overwrite")  # settings that are not of a run, but of the call that starts it


# ---------------------------------------------------------------------------------------------- batches and loss


def program_lengths(programs: Tokens) -> NDArray[np.int64]:
    """Return the lengths (N,) of programs (N, L) padded with 0."""
    used: NDArray[np.int64] = np.where(programs != PAD, np.arange(1, programs.shape[1] + 1), 0).max(axis=1, initial=0)
    return used


def plan_chunks(lengths: ArrayLike, batch: int, device: str = "cpu") -> list[int]:
    """Return where to cut batches sorted by length, [0, ..., batch], so that they cost least.

    A chunk is padded to its longest row only, and one more chunk costs `PASS_COSTS`. ``lengths`` are those of a
    sample of programs, whose quantiles stand for the lengths in a batch: the cuts stay the same at every step, as
    oneDNN compiles anew for every number of rows it has not met, which takes longer than the padding.
    """
    sample, cost = np.sort(np.asarray(lengths)), PASS_COSTS.get(device, PASS_COSTS["cuda"])
    places = [*range(0, batch, ROWS), batch]
    longest = [int(sample[min(len(sample) * place // batch, len(sample) - 1)]) for place in places]
    best: list[tuple[int, int]] = [(0, 0)]  # for each place: the cost of all before it, and the cut before it
    for k in range(1, len(places)):
        ways = [(best[j][0] + cost + (places[k] - places[j]) * longest[k], j) for j in range(k)]
        best.append(min(ways))
    cuts, k = [batch], len(places) - 1
    while k > 0:
        k = best[k][1]
        cuts.append(places[k])
    return cuts[::-1]


def chunks(
    programs: Tokens, prompt_lengths: NDArray[np.integer], cuts: list[int], device: str | torch.device = "cpu"
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield a batch (N, L), sorted by length and cut: tokens (B, T) uint8, T of the longest, prompt_lengths (B,)."""
    lengths = program_lengths(programs)
    order = np.argsort(lengths, kind="stable")
    for rows in np.split(order, cuts[1:-1]):
        tokens = torch.from_numpy(programs[rows, : lengths[rows].max()])
        yield tokens.to(device), torch.from_numpy(prompt_lengths[rows]).to(device)


def loss_sums(model: Transformer, tokens: Tensor, prompt_lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Return -log p of each token of programs (B, T) given those before it, summed over prompts and over completions.

    Rows are padded with 0, which counts nowhere.
    """
    logits = model(with_bos(tokens)[:, :-1]).float()  # (B, T, 65)
    losses = F.cross_entropy(logits.flatten(0, 1), tokens.flatten().long(), ignore_index=PAD, reduction="none")
    in_prompt = torch.arange(tokens.shape[1], device=tokens.device) < prompt_lengths[:, None]
    in_prompts = (losses * in_prompt.flatten()).sum()
    return in_prompts, losses.sum() - in_prompts


# ---------------------------------------------------------------------------------------------- optimizers


def make_optimizers(
    model: Transformer, muon_rate: float | None, adamw_rate: float, weight_decay: float = 0.0
) -> dict[str, torch.optim.Optimizer]:
    """Return "muon" for the matrices of the layers and "adamw" for embedding, output layer and norms.

    With ``muon_rate`` None, AdamW has the matrices too. ``weight_decay`` is that of the matrices; nothing else decays.
    Muon (Jordan et al. 2024) moves a matrix by its momentum with all singular values made 1, here scaled to the size of
    AdamW's steps (Liu et al. 2025, arXiv:2502.16982). Its loop over matrices takes 8 % of a step at 1M parameters; one
    batched loop for all of a shape would save half of that, which is not worth an optimizer of our own.
    """
    matrices = [weight for weight in model.layers.parameters() if weight.ndim == 2]
    inside = set(map(id, matrices))
    others = [weight for weight in model.parameters() if id(weight) not in inside]
    groups: list[dict[str, Any]] = [{"params": others, "weight_decay": 0.0}]
    found: dict[str, torch.optim.Optimizer] = {}
    if muon_rate is None:
        groups.append({"params": matrices, "weight_decay": weight_decay})
    else:
        found["muon"] = torch.optim.Muon(
            matrices, lr=muon_rate, momentum=0.95, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"
        )
    found["adamw"] = torch.optim.AdamW(groups, lr=adamw_rate, betas=(0.9, 0.98), fused=True)
    for optimizer in found.values():
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return found


def rate_at(step: int, steps: int, warmup: float, decay: float) -> float:
    """Return the share of the peak rate at a step: up over the first share of the steps, down to 0 over the last."""
    return min(1.0, (step + 1) / max(1.0, warmup * steps), (steps - step) / max(1.0, decay * steps))


# ---------------------------------------------------------------------------------------------- recipes and results


def read_values(path: Path, kind: type, where: str, without: Collection[str] = ()) -> dict[str, Any]:
    """Return the values a TOML file gives for the fields of a dataclass, but for those in ``without``.

    Raises ValueError, beginning with ``where``, for a file that is none, an unknown key or a missing one; the values
    are the dataclass's to check.
    """
    with open(path, "rb") as file:
        try:
            values = tomllib.load(file)
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{where}: {path} is not TOML: {error}") from None
    kinds, entries = get_type_hints(kind), [entry for entry in dataclasses.fields(kind) if entry.name not in without]
    known = [entry.name for entry in entries]
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise ValueError(f"{where}: unknown key {key!r}; {hint}known: {', '.join(known)}")
    required = [entry.name for entry in entries if entry.default is entry.default_factory is dataclasses.MISSING]
    for key in required:
        if key not in values:
            raise ValueError(f"{where}: key {key!r} is missing; required: {', '.join(required)}")
    return {key: float(value) if kinds[key] is float and type(value) is int else value for key, value in values.items()}


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a file that is there whole or not at all."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(partial, path)


# ---------------------------------------------------------------------------------------------- the folder of a run


class Settings(Protocol):
    """What all scripts ask about the folder of a run; a frozen dataclass."""

    @property
    def env(self) -> object: ...
    @property
    def folder(self) -> Path: ...
    @property
    def resume(self) -> bool: ...
    @property
    def overwrite(self) -> bool: ...


def first_flags(arguments: list[str], folder: Path | None, **texts: str) -> argparse.Namespace:
    """Return --folder, --resume and the flags of ``texts``, by which is known where all others have their defaults."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--folder", type=Path, default=folder)
    first.add_argument("--resume", action=argparse.BooleanOptionalAction, default=False)
    for name, default in texts.items():
        first.add_argument(f"--{name}", default=default)
    return first.parse_known_args(arguments)[0]


def started_with(folder: Path, name: str) -> dict[str, Any] | None:
    """Return the settings of the run in a folder, which its run.json has under that name; None where there is none."""
    path = folder / "run.json"
    if not path.is_file():
        return None
    return {**json.loads(path.read_text())[name], "folder": folder}


def check_resumed(before: Settings, now: Settings, free: Collection[str]) -> None:
    """Raise ValueError where settings are not those of the run to be resumed, but for those named in ``free``."""
    for name, value in vars(before).items():
        if name not in free and getattr(now, name) != value:
            raise ValueError(
                f"--resume: {name} = {getattr(now, name)!r}, but {before.folder} was started with {value!r}; "
                "leave the flag out, or start a run in another folder"
            )


def open_run(
    settings: Settings, name: str, digest: str, digests: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Make a folder ready to be written to; return what run.json holds, the settings as ``name``, and a state.

    The state is what a run to be resumed goes on from, or None. Raises ValueError where its programs were others, by
    ``digest``, and for a folder with anything in it that settings do not allow to go on with or to delete.
    """
    values = {key: value for key, value in vars(settings).items() if key not in OF_CALL}
    about = {name: values, "digest": digest, "digests": digests}
    folder, run = settings.folder, settings.folder / "run.json"
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file")
    if settings.resume and run.is_file():
        if json.loads(run.read_text())["digest"] != digest:
            raise ValueError(f"--resume: {settings.env} gives other programs than when {folder} was started")
        return about, load_state(folder / "states", report=lambda line: print(line, file=sys.stderr))
    if folder.is_dir() and any(folder.iterdir()):
        if not run.is_file():
            raise ValueError(f"{folder} holds something else than a run; name another folder")
        if not settings.overwrite:
            raise ValueError(f"{folder} holds a run; --resume goes on with it, --overwrite deletes it")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(run, about)
    return about, None


# ---------------------------------------------------------------------------------------------- states on the disk


def save_state(folder: Path, step: int, state: Mapping[str, Any], keep: int = 2) -> Path:
    """Write tensors, numbers and texts to a new file of a folder, and delete all but the last ``keep``.

    The file is written beside and renamed, flushed to the disk before and after; its name has the step and the first
    digits of its SHA-256 sum. Whatever happens meanwhile, the states before it stay.
    """
    folder.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    partial = folder / "partial"
    try:
        with open(partial, "wb") as file:
            file.write(buffer.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        path = folder / f"{step:0{STEP_DIGITS}}-{_digits(buffer.getbuffer())}.pt"
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    if os.name != "nt":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    before = [old for old in _states(folder) if old.name[:STEP_DIGITS] < path.name[:STEP_DIGITS]]
    kept = {path, *before[len(before) - keep + 1 :]}  # not what a run that was set back has left of this step or later
    for old in set(_states(folder)) - kept:
        old.unlink()
    return path


def load_state(folder: Path, report: Callable[[str], None]) -> dict[str, Any] | None:
    """Return the last state of a folder that is whole, or None where there is none at all.

    ``report`` is told of damaged ones, which are passed over. Raises ValueError where all are. Nothing is unpickled
    but tensors and plain values.
    """
    states = _states(folder)
    for path in reversed(states):
        content = path.read_bytes()
        if _digits(content) == path.stem.partition("-")[2]:
            state: dict[str, Any] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
            return state
        report(f"{path} is damaged: its SHA-256 sum is not the one in its name; trying the one before")
    if states:
        raise ValueError(f"{folder}: none of its {len(states)} states is whole")
    return None


def _states(folder: Path) -> list[Path]:
    return sorted(folder.glob("[0-9]*-*.pt"))


def _digits(content: bytes | memoryview) -> str:
    return hashlib.sha256(content).hexdigest()[:SUM_DIGITS]


# ---------------------------------------------------------------------------------------------- around the loop


class Stop:
    """Within its context Ctrl-C and a request to terminate only set ``signal``; the second one acts at once."""

    def __init__(self) -> None:
        self.signal = 0

    def __enter__(self) -> Stop:
        self._before = {number: signal.signal(number, self._take) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def _take(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        self.__exit__()

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


class Progress:
    """Steps done, on stderr: a bar on a terminal, elsewhere a plain line every ``seconds``."""

    def __init__(self, start: int, total: int, seconds: float = 15.0) -> None:
        self.start, self.total, self.seconds = start, total, seconds
        self.began = self.printed = time.monotonic()
        self.bar = tqdm(initial=start, total=total, unit="step", dynamic_ncols=True) if sys.stderr.isatty() else None

    def update(self, step: int, shown: str) -> None:
        """Say that ``step`` steps are done, and what else there is to say."""
        if self.bar is not None:
            self.bar.set_postfix_str(shown, refresh=False)
            self.bar.update(step - self.bar.n)
            return
        now = time.monotonic()
        if now - self.printed >= self.seconds or step == self.total:
            self.printed = now
            left = (now - self.began) / (step - self.start) * (self.total - step)
            self.write(f"step {step}/{self.total}, {shown}, {left // 60:.0f} min {left % 60:.0f} s left")

    def write(self, line: str) -> None:
        if self.bar is not None:
            self.bar.write(line, file=sys.stderr)
        else:
            print(line, file=sys.stderr, flush=True)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()
