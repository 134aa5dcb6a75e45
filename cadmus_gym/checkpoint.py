"""A model as a folder: written whole or not at all, read without unpickling.

`model.safetensors` holds the weights, `config.json` what ``transformers.LlamaForCausalLM.from_pretrained`` needs to
load the folder as it is, `card.json` what is known about the model: recipe, digests of its specs, seed, commit,
metrics, the order of digits it was trained in (``endian``), and SHA-256 sums of the two other files, so that a
flipped bit is refused and not sampled from. A `README.md` says what the card says (`cadmus_gym.model_cards`).
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from cadmus_gym.isa import BOS, END, PAD
from cadmus_gym.model import ModelConfig, Transformer
from cadmus_gym.model_files import (
    CARD,
    COMMON,
    CONFIG,
    PACKAGED,
    README,
    SIZES,
    WEIGHTS,
    endian_in,
    find_model,
    packaged_models,
    read_model,
    sha256,
    standing,
    stored_name,
)

__all__ = [
    "CARD",
    "CONFIG",
    "PACKAGED",
    "README",
    "WEIGHTS",
    "find_model",
    "load_model",
    "packaged_models",
    "replacing",
    "save_model",
    "standing",
    "write_card",
]

_PAIR = re.compile(r"\[\n\s+([-+.\de]+),\n\s+([-+.\de]+)\n\s+\]")  # two numbers, which go on one line


def save_model(
    model: Transformer,
    folder: str | os.PathLike[str],
    card: Mapping[str, Any] | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Write a model and its card to a folder, in place of the one that stands there.

    ``card`` is anything JSON can hold (default: ``model.card``); its "endian" is ``model.endian`` where it has none,
    and its "sha256" is written here. Weights are rounded to ``dtype``, by default kept in the type they have. The
    folder is written beside and renamed: an error or a crash at any moment leaves the previous one, whole (see
    `replacing`). A README.md there goes, since it told of the previous one.

    Raises ValueError for a card that JSON cannot hold, an unknown endian, or a folder that holds other files, which
    replacing it would delete.
    """
    folder = Path(folder)
    if folder.exists():
        names = {path.name for path in folder.iterdir()} if folder.is_dir() else {folder.name}
        if foreign := sorted(names - {WEIGHTS, CONFIG, CARD, README}):
            raise ValueError(f"{folder} holds {foreign[0]}, and a model's folder is replaced whole; name another")
    known = {"endian": model.endian, **(model.card if card is None else card)}
    endian_in(known, "card")
    dtype = dtype or model.embed_tokens.weight.dtype
    with replacing(folder) as new:
        # Copies on the CPU: safetensors wants contiguous tensors that share no memory.
        weights = {
            stored_name(name): tensor.detach().to("cpu", dtype, copy=True).contiguous()
            for name, tensor in model.state_dict().items()
        }
        (new / WEIGHTS).write_bytes(safetensors.torch.save(weights, metadata={"format": "pt"}))
        (new / CONFIG).write_text(_json(_llama_config(model.config, dtype), "config"), encoding="utf-8")
        known["sha256"] = {name: sha256(new / name) for name in (WEIGHTS, CONFIG)}
        (new / CARD).write_text(_json(known, "card"), encoding="utf-8")


def load_model(
    name: str | os.PathLike[str],
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Transformer:
    """Return the model of a folder, or of a name that comes with the package, with its ``card`` and ``endian``.

    A name means the packaged model even where a folder of that name is at hand ("./nano" is the folder).

    Raises FileNotFoundError where there is no such model, or a file of it is missing, and ValueError, naming the
    file, for a damaged one, a config that is no model of this package, or weights that are not those of the config.
    """
    found = read_model(name)
    model = Transformer(found.config)
    model.load_state_dict({name: torch.from_numpy(weight) for name, weight in found.weights.items()})
    model.card, model.endian = found.card, found.endian
    return model.to(device=device, dtype=dtype)


def write_card(folder: str | os.PathLike[str], card: Mapping[str, Any]) -> None:
    """Write the card of a model that stands in a folder anew, at once and whole; weights and config stay.

    Raises ValueError for a card that JSON cannot hold or an unknown endian.
    """
    path = Path(folder) / CARD
    endian_in(card, "card")
    sums = {name: sha256(path.with_name(name)) for name in (WEIGHTS, CONFIG)}
    new = path.with_name(CARD + ".partial")
    new.write_text(_json({**card, "sha256": sums}, "card"), encoding="utf-8")
    new.replace(path)


@contextmanager
def replacing(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield an empty folder to write to, which takes the place of ``folder`` when the block ends without an error.

    At every moment the old content or the new one stands, whole and flushed to the disk, as ``folder`` or, for the
    instant between two renames, as its sibling ``.previous``; `standing` finds it. For one writer at a time.
    """
    folder = Path(folder).absolute()
    new, previous = folder.with_name(folder.name + ".partial"), folder.with_name(folder.name + ".previous")
    shutil.rmtree(new, ignore_errors=True)  # of a writer that was killed
    new.mkdir(parents=True)
    try:
        yield new
        for path in (*new.rglob("*"), new):
            _flush(path)
        if folder.exists():
            if previous.exists():
                shutil.rmtree(previous)
            folder.rename(previous)
        new.rename(folder)
        _flush(folder.parent)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    shutil.rmtree(previous, ignore_errors=True)


def _llama_config(config: ModelConfig, dtype: torch.dtype) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        **COMMON,
        **{theirs: getattr(config, ours) for ours, theirs in SIZES.items()},
        "head_dim": config.head_width,
        "rope_theta": config.rope_theta,  # read by transformers 4, the next line by 5
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        "bos_token_id": BOS,
        "eos_token_id": END,
        "pad_token_id": PAD,
        "dtype": str(dtype).removeprefix("torch."),
    }


def _json(value: Mapping[str, Any], what: str) -> str:
    try:
        text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        return _PAIR.sub(r"[\1, \2]", text)
    except (TypeError, ValueError) as error:
        raise ValueError(f"the {what} is no JSON: {error}") from error


def _flush(path: Path) -> None:
    if os.name == "nt":  # which neither opens folders nor flushes what was opened for reading
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
