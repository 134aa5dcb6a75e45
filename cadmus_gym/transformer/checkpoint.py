"""A model as a folder, replaced as a whole and read without unpickling.

`model.safetensors` has the weights. `config.json`, `generation_config.json`, `tokenizer.json` and
`tokenizer_config.json` let `transformers` load the folder as it is (``AutoModelForCausalLM``, ``AutoTokenizer``,
``generate``). `card.json` says what is known about the model: recipe, digests of its specs, seed, commit, metrics, the
order of digits it was trained in (``endian``), the type of its stored weights, and SHA-256 sums of weights and config,
so that a flipped bit is an error. `choices.npz`, with a sum there too, is the record of what a model was trained on, if
it has one (`cadmus_gym.evaluation.trained`). `README.md` presents the card (`cadmus_gym.reports.models`).
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
_PAIR = re.compile(r"\[\n\s+([-+.\de]+),\n\s+([-+.\de]+)\n\s+\]")  # two numbers, to be written on one line


def save_model(
    model: nn.Module,
    folder: str | os.PathLike[str],
    card: Mapping[str, Any] | None = None,
    dtype: torch.dtype | None = None,
    *,
    max_tokens: int | None = None,
) -> None:
    """Write a model and its card to a folder, replacing a model that is there.

    model: a `Transformer`, which `torch.compile` or DistributedDataParallel may have wrapped.
    folder: a new one, an empty one, or that of a model; a link is followed. An error or a crash at any moment leaves
        the previous model (see `cadmus_gym.files.atomic_folder`). Files that are not part of a model are kept, except a
        README.md that described the previous one.
    card: values that JSON can represent (default: ``model.card``). "sha256" and "stored" are added, and "endian" if it
        is missing.
    dtype: the type in which weights are stored; by default their own. The config names float32 in any case, since
        `transformers` computes, and trains, in the type that the config names.
    max_tokens: the most tokens that `generate` of `transformers` writes; by default as many as fit the context.

    Raises ValueError, before anything is written, for a folder that cannot be replaced (see `check_target`), a card
    that JSON cannot represent, an unknown endian, and weights that are not finite or not those of the model's config.
    """
    target = check_target(folder)
    model = _unwrapped(model)
    known = {"endian": model.endian, **(model.card if card is None else card)}
    check_endian(known["endian"], "card")
    if max_tokens is None:
        max_tokens = max(1, model.config.context - 1)
    dtype = dtype or model.embed_tokens.weight.dtype
    _json(known, "card")
    # Copies on the CPU: safetensors needs contiguous tensors that share no memory.
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
    """Return the folder that `save_model` would write, with links resolved.

    Raises ValueError for a file, a folder that holds something other than a model, other weights that would be lost,
    the working directory or a parent of it, a mount point, and a read-only place.
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
    except OSError as error:  # such as a link to itself
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
    """Return the model of a folder, or a packaged model by its name, with its ``card``, ``endian`` and ``record``.

    A name means the packaged model even if there is a folder of that name ("./nano" and ``Path("nano")`` mean the
    folder). A folder that `transformers` has saved loads too. Its card is empty; give ``endian``, the order of digits
    that the model reads, if its config does not have it.

    Raises FileNotFoundError if there is no such model or a file of it is missing, and ValueError, naming the file, for
    a damaged file, the config of another model, weights that are not finite or not those of the config, and an endian
    that is unknown or not that of the folder.
    """
    found = read_model(name, endian)
    model = Transformer(found.config)
    model.load_state_dict({name: torch.from_numpy(weight) for name, weight in found.weights.items()})
    model.card, model.endian, model.record = found.card, found.endian, found.record
    return model.to(device=device, dtype=dtype)


def write_card(folder: str | os.PathLike[str], card: Mapping[str, Any]) -> None:
    """Replace the card of a model in a folder. Weights and config stay.

    Raises ValueError for a card that JSON cannot represent or an unknown endian.
    """
    path = Path(folder) / CARD
    check_endian(card.get("endian", "big"), "card")
    text = _json({**card, **_facts(path.parent)}, "card")
    with atomic(path) as file:
        file.write(text.encode())


def write_texts(folder: Path, config: ModelConfig, endian: str, max_tokens: int) -> None:
    """Write the other files that `transformers` reads to a folder: config, generation config and tokenizer."""
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
    """Return the transformer that `torch.compile` or DistributedDataParallel has wrapped."""
    inner = model
    while (wrapped := [inner._modules[name] for name in ("_orig_mod", "module") if name in inner._modules]) != []:
        assert wrapped[0] is not None
        inner = wrapped[0]
    if not isinstance(inner, Transformer):
        raise ValueError(f"model is a {type(inner).__name__}; allowed: a Transformer of this package")
    return inner


def _unknown(folder: Path) -> set[str]:
    """Return the names of files that a model may not replace. Hidden files are not among them."""
    return {path.name for path in folder.iterdir() if not path.name.startswith(".")} - {*HARMLESS}


def _may_be_replaced(folder: Path) -> bool:
    """Return whether a folder holds a model of this package, or nothing that matters."""
    names = _unknown(folder)
    if not names or (WEIGHTS in names and names <= {*WRITTEN, RECORD}):  # ours, though its config may be damaged
        return True
    return has_config(folder)


def _facts(folder: Path) -> dict[str, Any]:
    """Return the entries of a card about the files next to it."""
    with safetensors.safe_open(folder / WEIGHTS, "pt") as weights:
        dtype = weights.get_tensor(next(iter(weights.keys()))).dtype
    present = [name for name in (WEIGHTS, CONFIG, RECORD) if (folder / name).is_file()]
    return {"stored": _name(dtype), "sha256": {name: sha256(folder / name) for name in present}}


def _json(value: Mapping[str, Any], what: str) -> str:
    try:
        text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        return _PAIR.sub(r"[\1, \2]", text)
    except (TypeError, ValueError) as error:
        raise ValueError(f"the {what} cannot be written as JSON: {error}") from error


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _copy(path: Path, new: Path) -> None:
    """Copy a file, a folder or a link, and skip anything else."""
    if path.is_dir() and not path.is_symlink():
        shutil.copytree(path, new, symlinks=True)
    elif path.is_file() or path.is_symlink():
        shutil.copy2(path, new, follow_symlinks=False)
