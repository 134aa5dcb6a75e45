"""A model as a folder: written whole or not at all, read without unpickling.

`model.safetensors` holds the weights; `config.json`, `generation_config.json`, `tokenizer.json` and
`tokenizer_config.json` what `transformers` needs to load the folder as it is (``AutoModelForCausalLM``,
``AutoTokenizer``, ``generate``); `card.json` what is known about the model: recipe, digests of its specs, seed, commit,
metrics, the order of digits it was trained in (``endian``), the type its weights are stored in, and SHA-256 sums of
weights and config, so that a flipped bit is refused and not sampled from. `choices.npz`, where a model has a record of
what it was trained on, has a sum there too (`cadmus_gym.evaluation.trained`). A `README.md` says what the card says
(`cadmus_gym.reports.models`).
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import nn

from cadmus_gym.files import PARTIAL, atomic, atomic_folder, sha256
from cadmus_gym.language import isa as op
from cadmus_gym.transformer.model import ModelConfig, Transformer
from cadmus_gym.transformer.model_files import (
    CARD,
    COMMON,
    CONFIG,
    README,
    RECORD,
    SIZES,
    WEIGHTS,
    check_finite,
    compare,
    find_model,
    has_config,
    packaged_models,
    read_model,
    stored_name,
)
from cadmus_gym.transformer.tokenizer import CONFIG as TOKENIZER_CONFIG
from cadmus_gym.transformer.tokenizer import TOKENIZER, check_endian, write_tokenizer

__all__ = [
    "CARD",
    "CONFIG",
    "GENERATION",
    "README",
    "RECORD",
    "WEIGHTS",
    "WRITTEN",
    "check_target",
    "find_model",
    "load_model",
    "packaged_models",
    "save_model",
    "write_card",
    "write_texts",
]

GENERATION = "generation_config.json"
WRITTEN = (WEIGHTS, CONFIG, GENERATION, TOKENIZER, TOKENIZER_CONFIG, CARD)
HARMLESS = (README, GENERATION, TOKENIZER, TOKENIZER_CONFIG)  # files that a folder may have before its model
OTHER_WEIGHTS = ("*.safetensors", "*.index.json", "pytorch_model*", "*.gguf")
_PAIR = re.compile(r"\[\n\s+([-+.\de]+),\n\s+([-+.\de]+)\n\s+\]")  # two numbers, which go on one line


def save_model(
    model: nn.Module,
    folder: str | os.PathLike[str],
    card: Mapping[str, Any] | None = None,
    dtype: torch.dtype | None = None,
    *,
    max_tokens: int | None = None,
) -> None:
    """Write a model and its card to a folder, in place of the one that stands there.

    model: a `Transformer`, also one that `torch.compile` or DistributedDataParallel has wrapped.
    folder: a new one, an empty one, or that of a model; a link is followed. An error or a crash at any moment leaves
        the previous model (see `cadmus_gym.files.atomic_folder`). Files that are not part of a model are kept, except a
        README.md that described the previous one.
    card: anything JSON can hold (default: ``model.card``); its "endian" is ``model.endian`` where it has none, and its
        "sha256" and "stored" are written here.
    dtype: weights are rounded to it, and by default kept in the type they have. Computation is in float32 whatever the
        type: the config says so, since `transformers` computes, and trains, in the type that it names.
    max_tokens: what `generate` of `transformers` may write; by default as much as the context holds.

    Raises ValueError, before anything is written, for a folder that cannot be replaced (see `check_target`), a card
    that JSON cannot hold, an unknown endian, and weights that are not those of the model's config, or not finite.
    """
    target = check_target(folder)
    model = _unwrapped(model)
    known = {"endian": model.endian, **(model.card if card is None else card)}
    check_endian(known["endian"], "card")
    if max_tokens is None:
        max_tokens = max(1, model.config.context - 1)
    dtype = dtype or model.embed_tokens.weight.dtype
    _json(known, "card")
    # Copies on the CPU: safetensors wants contiguous tensors that share no memory.
    weights = {
        stored_name(name): tensor.detach().to("cpu", dtype, copy=True).contiguous()
        for name, tensor in model.state_dict().items()
    }
    compare({name: tensor.shape for name, tensor in weights.items()}, model.config, "the model")
    finite = {name: bool(tensor.isfinite().all()) for name, tensor in weights.items()}
    check_finite(finite, f"the model, in {_name(dtype)}")
    with atomic_folder(target) as new:
        if target.is_dir():
            gone = (*WRITTEN, RECORD, README) if (target / WEIGHTS).is_file() else WRITTEN
            for path in target.iterdir():
                if path.name not in (*gone, PARTIAL):
                    _copy(path, new / path.name)
        (new / WEIGHTS).write_bytes(safetensors.torch.save(weights, metadata={"format": "pt"}))
        write_texts(new, model.config, known["endian"], max_tokens)
        if model.record:
            (new / RECORD).write_bytes(model.record)
        (new / CARD).write_text(_json({**known, **_facts(new)}, "card"), encoding="utf-8")


def check_target(folder: str | os.PathLike[str]) -> Path:
    """Return the folder that `save_model` would write, links followed.

    Raises ValueError where it could not or should not: for a file, a folder that holds something other than a model,
    other weights that would be lost, the working directory or a parent of it, a mount point, or a read-only place.
    """
    target = Path(os.path.realpath(folder))
    if target in (Path.cwd(), *Path.cwd().parents):
        raise ValueError(
            f"{folder} is or contains the working directory, and saving replaces the whole folder; name another"
        )
    try:
        os.stat(target)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:  # such as a link that leads to itself
        raise ValueError(f"{folder} cannot be written: {error.strerror}") from None
    if target.exists() and not target.is_dir():
        raise ValueError(f"{folder} is a file; name a folder")
    if os.path.ismount(target):
        raise ValueError(f"{folder} is a mount point, which cannot be replaced; name a folder in it")
    if target.is_dir() and not _may_be_replaced(target):
        name = min(_unknown(target))
        raise ValueError(
            f"{folder} holds {name} and no model of this package, and saving replaces the whole folder; name another"
        )
    if target.is_dir():
        for path in target.iterdir():
            if path.name != WEIGHTS and any(path.match(pattern) for pattern in OTHER_WEIGHTS):
                raise ValueError(f"{folder} holds {path.name}, other weights; name another")
    above = next(path for path in target.parents if path.exists())
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise ValueError(f"{folder} cannot be written: {above} is {'read-only' if above.is_dir() else 'a file'}")
    return target


def load_model(
    name: str | os.PathLike[str],
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    *,
    endian: str | None = None,
) -> Transformer:
    """Return the model of a folder, or of a name that comes with the package, with ``card``, ``endian`` and ``record``.

    A name means the packaged model even where a folder of that name exists ("./nano" and ``Path("nano")`` are the
    folder). A folder that `transformers` saved loads too: its card is empty, and ``endian``, the order of digits that
    the model reads, is to be given where its config does not say.

    Raises FileNotFoundError where there is no such model, or a file of it is missing, and ValueError, naming the
    file, for a damaged one, a config of any other model, weights that are not those of the config or not
    finite, and an endian that is unknown or not the one that the folder names.
    """
    found = read_model(name, endian)
    model = Transformer(found.config)
    model.load_state_dict({name: torch.from_numpy(weight) for name, weight in found.weights.items()})
    model.card, model.endian, model.record = found.card, found.endian, found.record
    return model.to(device=device, dtype=dtype)


def write_card(folder: str | os.PathLike[str], card: Mapping[str, Any]) -> None:
    """Write the card of a model that stands in a folder anew, at once and whole; weights and config stay.

    Raises ValueError for a card that JSON cannot hold or an unknown endian.
    """
    path = Path(folder) / CARD
    check_endian(card.get("endian", "big"), "card")
    text = _json({**card, **_facts(path.parent)}, "card")
    with atomic(path) as file:
        file.write(text.encode())


def write_texts(folder: Path, config: ModelConfig, endian: str, max_tokens: int) -> None:
    """Write to a folder what `transformers` reads beside the weights: config, generation config and tokenizer."""
    generation = {
        "bos_token_id": op.BOS,
        "eos_token_id": op.END,
        "pad_token_id": op.PAD,
        "do_sample": False,
        "max_new_tokens": max_tokens,
    }
    (folder / CONFIG).write_text(_json(_llama_config(config, endian), "config"), encoding="utf-8")
    (folder / GENERATION).write_text(_json(generation, "generation config"), encoding="utf-8")
    write_tokenizer(folder, endian)


def _llama_config(config: ModelConfig, endian: str) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        **COMMON,
        **{theirs: getattr(config, ours) for ours, theirs in SIZES.items()},
        "head_dim": config.head_width,
        "rope_theta": config.rope_theta,  # read by transformers 4, the next line by 5
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        "bos_token_id": op.BOS,
        "eos_token_id": op.END,
        "pad_token_id": op.PAD,
        "dtype": "float32",  # to compute in: transformers 5 trains in the type named here
        "endian": endian,  # ours; transformers keeps it when it saves the model
    }


def _unwrapped(model: nn.Module) -> Transformer:
    """Return the transformer inside what `torch.compile` or DistributedDataParallel makes of it."""
    inner = model
    while (wrapped := [inner._modules[name] for name in ("_orig_mod", "module") if name in inner._modules]) != []:
        assert wrapped[0] is not None
        inner = wrapped[0]
    if not isinstance(inner, Transformer):
        raise ValueError(f"model is a {type(inner).__name__}; allowed: a Transformer of this package")
    return inner


def _unknown(folder: Path) -> set[str]:
    """Return the names of the files that make a folder somebody's own; hidden files do not."""
    return {path.name for path in folder.iterdir() if not path.name.startswith(".")} - {*HARMLESS}


def _may_be_replaced(folder: Path) -> bool:
    """Whether a folder holds a model of this package, or nothing that anyone would miss."""
    names = _unknown(folder)
    if not names or (WEIGHTS in names and names <= {*WRITTEN, RECORD}):  # of ours, though its config may be damaged
        return True
    return has_config(folder)


def _facts(folder: Path) -> dict[str, Any]:
    """Return what a card says about the files beside it."""
    with safetensors.safe_open(folder / WEIGHTS, "pt") as weights:
        dtype = weights.get_tensor(next(iter(weights.keys()))).dtype
    present = [name for name in (WEIGHTS, CONFIG, RECORD) if (folder / name).is_file()]
    return {"stored": _name(dtype), "sha256": {name: sha256(folder / name) for name in present}}


def _json(value: Mapping[str, Any], what: str) -> str:
    try:
        text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        return _PAIR.sub(r"[\1, \2]", text)
    except (TypeError, ValueError) as error:
        raise ValueError(f"the {what} is no JSON: {error}") from error


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _copy(path: Path, new: Path) -> None:
    """Copy a file, a folder or a link; anything else is skipped."""
    if path.is_dir() and not path.is_symlink():
        shutil.copytree(path, new, symlinks=True)
    elif path.is_file() or path.is_symlink():
        shutil.copy2(path, new, follow_symlinks=False)
