"""A model as a folder: written whole or not at all, read without unpickling.

`model.safetensors` holds the weights, `config.json` what ``transformers.LlamaForCausalLM.from_pretrained`` needs to
load the folder as it is, `card.json` what is known about the model: recipe, digests of its specs, seed, commit,
metrics, the order of digits it was trained in (``endian``), and SHA-256 sums of the two other files, so that a
flipped bit is refused and not sampled from. A `README.md` says what the card says (`cadmus_gym.model_cards`).
"""

from __future__ import annotations

import hashlib
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
from safetensors import SafetensorError
from torch import Tensor

from cadmus_gym.forms import ENDIANS
from cadmus_gym.isa import BOS, END, PAD, VOCABULARY
from cadmus_gym.model import ModelConfig, Transformer

WEIGHTS, CONFIG, CARD, README = "model.safetensors", "config.json", "card.json", "README.md"
PACKAGED = Path(__file__).parent / "_models"

# Our sizes by the names that Hugging Face's LlamaConfig has for them, and what all our models have in common.
_SIZES = {
    "width": "hidden_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "key_value_heads": "num_key_value_heads",
    "hidden": "intermediate_size",
    "context": "max_position_embeddings",
    "norm_eps": "rms_norm_eps",
    "tied": "tie_word_embeddings",
}
_COMMON = {
    "model_type": "llama",
    "vocab_size": len(VOCABULARY),
    "hidden_act": "silu",
    "attention_bias": False,
    "mlp_bias": False,
}

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
    _endian(known, "card")
    dtype = dtype or model.embed_tokens.weight.dtype
    with replacing(folder) as new:
        # Copies on the CPU: safetensors wants contiguous tensors that share no memory.
        weights = {
            _stored(name): tensor.detach().to("cpu", dtype, copy=True).contiguous()
            for name, tensor in model.state_dict().items()
        }
        (new / WEIGHTS).write_bytes(safetensors.torch.save(weights, metadata={"format": "pt"}))
        (new / CONFIG).write_text(_json(_llama_config(model.config, dtype), "config"), encoding="utf-8")
        known["sha256"] = {name: _sha256(new / name) for name in (WEIGHTS, CONFIG)}
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
    folder = find_model(name)
    if missing := [file for file in (WEIGHTS, CONFIG, CARD) if not (folder / file).is_file()]:
        raise FileNotFoundError(f"{folder / missing[0]} is missing; a model is {WEIGHTS}, {CONFIG} and {CARD}")
    card = _read_json(folder / CARD)
    sums = card.get("sha256", {})  # absent where the folder was not written by `save_model`
    for file in (WEIGHTS, CONFIG):
        if isinstance(sums, dict) and file in sums and sums[file] != _sha256(folder / file):
            raise ValueError(f"{folder / file} is damaged: its SHA-256 is not the one in {CARD}")
    endian = _endian(card, folder / CARD)
    config = _model_config(_read_json(folder / CONFIG), folder / CONFIG)
    try:
        weights = safetensors.torch.load_file(folder / WEIGHTS)
    except SafetensorError as error:
        raise ValueError(f"{folder / WEIGHTS} is damaged: {error}") from error
    model = Transformer(config)
    names = {name: _stored(name) for name in model.state_dict()}
    _compare(weights, {names[name]: tensor for name, tensor in model.state_dict().items()}, folder)
    model.load_state_dict({name: weights[stored] for name, stored in names.items()})
    model.card, model.endian = card, endian
    return model.to(device=device, dtype=dtype)


def write_card(folder: str | os.PathLike[str], card: Mapping[str, Any]) -> None:
    """Write the card of a model that stands in a folder anew, at once and whole; weights and config stay.

    Raises ValueError for a card that JSON cannot hold or an unknown endian.
    """
    path = Path(folder) / CARD
    _endian(card, "card")
    sums = {name: _sha256(path.with_name(name)) for name in (WEIGHTS, CONFIG)}
    new = path.with_name(CARD + ".partial")
    new.write_text(_json({**card, "sha256": sums}, "card"), encoding="utf-8")
    new.replace(path)


def packaged_models() -> list[str]:
    """Return the names of the models that come with the package."""
    return sorted(path.parent.name for path in PACKAGED.glob(f"*/{CONFIG}"))


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


def standing(folder: str | os.PathLike[str]) -> Path:
    """Return where the last complete content of a folder written by `replacing` stands: itself or ``.previous``."""
    folder = Path(folder)
    previous = folder.absolute().with_name(folder.absolute().name + ".previous")
    return previous if not folder.exists() and previous.is_dir() else folder


def find_model(name: str | os.PathLike[str]) -> Path:
    """Return the folder of a model: of a packaged one by its name, otherwise the one given.

    Raises FileNotFoundError where there is none.
    """
    packaged = packaged_models()
    if isinstance(name, str) and name in packaged:
        return PACKAGED / name
    folder = standing(name)
    if not folder.is_dir():
        names = ", ".join(packaged) or "none"
        raise FileNotFoundError(f"no model {os.fspath(name)!r}: no such folder; models in the package: {names}")
    return folder


def _llama_config(config: ModelConfig, dtype: torch.dtype) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        **_COMMON,
        **{theirs: getattr(config, ours) for ours, theirs in _SIZES.items()},
        "head_dim": config.head_width,
        "rope_theta": config.rope_theta,  # read by transformers 4, the next line by 5
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        "bos_token_id": BOS,
        "eos_token_id": END,
        "pad_token_id": PAD,
        "dtype": str(dtype).removeprefix("torch."),
    }


def _model_config(entries: dict[str, Any], path: Path) -> ModelConfig:
    for key, value in _COMMON.items():
        if entries.get(key, value) != value:
            raise ValueError(f"{path}: {key} = {entries[key]!r}; allowed: {value!r}")
    if missing := [theirs for theirs in _SIZES.values() if theirs not in entries]:
        raise ValueError(f"{path}: no {missing[0]}")
    rope = entries.get("rope_parameters") or entries
    if rope.get("rope_type", "default") != "default" or entries.get("rope_scaling") is not None:
        raise ValueError(f"{path}: scaled rotary positions; allowed: rope_type = 'default'")
    try:
        sizes = {ours: entries[theirs] for ours, theirs in _SIZES.items()}
        config = ModelConfig(rope_theta=rope.get("rope_theta", 10_000.0), **sizes)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if entries.get("head_dim") not in (None, config.head_width):
        raise ValueError(f"{path}: head_dim = {entries['head_dim']!r}; allowed: width / heads = {config.head_width}")
    return config


def _stored(name: str) -> str:
    """Return Hugging Face's name of a parameter."""
    return name if name.startswith("lm_head.") else f"model.{name}"


def _compare(weights: dict[str, Tensor], wanted: dict[str, Tensor], folder: Path) -> None:
    for name in sorted(weights.keys() ^ wanted.keys()):
        what = "is missing" if name in wanted else "belongs to no part of the model"
        raise ValueError(f"{folder / WEIGHTS}: {name} {what}, by {CONFIG}")
    for name, tensor in weights.items():
        if tensor.shape != wanted[name].shape:
            shapes = f"{tuple(tensor.shape)}; by {CONFIG} it is {tuple(wanted[name].shape)}"
            raise ValueError(f"{folder / WEIGHTS}: {name} has shape {shapes}")


def _endian(card: Mapping[str, Any], where: object) -> str:
    endian = card.get("endian", "big")
    if endian not in ENDIANS:
        raise ValueError(f"{where}: endian = {endian!r}; allowed: {', '.join(ENDIANS)}")
    return str(endian)


def _json(value: Mapping[str, Any], what: str) -> str:
    try:
        text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        return _PAIR.sub(r"[\1, \2]", text)
    except (TypeError, ValueError) as error:
        raise ValueError(f"the {what} is no JSON: {error}") from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # of the decoder, or bytes that are no UTF-8
        raise ValueError(f"{path} is damaged: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path} holds {type(value).__name__}; allowed: an object")
    return value


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(path: Path) -> None:
    if os.name == "nt":  # which neither opens folders nor flushes what was opened for reading
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
