"""A model's folder, read without PyTorch: where it is, whether it is intact, and what it contains."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors
from numpy.typing import NDArray

from cadmus_gym.files import read_object, sha256, standing
from cadmus_gym.language.isa import VOCABULARY
from cadmus_gym.transformer.config import ModelConfig
from cadmus_gym.transformer.tokenizer import endian_of

WEIGHTS, CONFIG, CARD, README = "model.safetensors", "config.json", "card.json", "README.md"
RECORD = "choices.npz"  # of a model trained with focus, see `cadmus_gym.evaluation.trained`
PACKAGED = Path(__file__).parents[1] / "_models"

# The names of our sizes in Hugging Face's LlamaConfig, and the settings that all our models share.
SIZES = {
    "width": "hidden_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "key_value_heads": "num_key_value_heads",
    "hidden": "intermediate_size",
    "context": "max_position_embeddings",
    "norm_eps": "rms_norm_eps",
    "tied": "tie_word_embeddings",
}
COMMON = {
    "model_type": "llama",
    "vocab_size": len(VOCABULARY),
    "hidden_act": "silu",
    "attention_bias": False,
    "mlp_bias": False,
}

# The types in which weights may be stored.
_FLOATS = {"F16": np.float16, "F32": np.float32, "F64": np.float64, "BF16": np.uint16}


class ModelFiles(NamedTuple):
    """The content of a model's folder."""

    config: ModelConfig
    weights: dict[str, NDArray[np.float32]]  # by the names of `Transformer.state_dict`
    card: dict[str, Any]
    endian: str
    record: bytes  # content of `RECORD`, or empty


def read_model(name: str | os.PathLike[str], endian: str | None = None) -> ModelFiles:
    """Read the folder of a model, or a packaged model by its name. Arguments and errors are those of `load_model`."""
    try:
        return _read_folder(find_model(name), endian)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ValueError(f"{error.filename or name} cannot be read: {error.strerror}") from None


def _read_folder(folder: Path, endian: str | None) -> ModelFiles:
    card, record = read_card(folder)
    config = _model_config(read_object(folder / CONFIG), folder / CONFIG)
    order = endian_of(folder, endian)
    weights = _needed(_read_weights(folder / WEIGHTS), config, folder / WEIGHTS)
    compare({name: weight.shape for name, weight in weights.items()}, config, folder / WEIGHTS)
    check_finite({name: bool(np.isfinite(weight).all()) for name, weight in weights.items()}, folder / WEIGHTS)
    return ModelFiles(config, {name: weights[stored_name(name)] for name in shapes(config)}, card, order, record)


def read_card(folder: Path) -> tuple[dict[str, Any], bytes]:
    """Return the card and the record of a model's folder; either is empty if there is none.

    Raises FileNotFoundError if a file of the model is missing, ValueError if a checksum is not that of the card.
    """
    if missing := [file for file in (WEIGHTS, CONFIG) if not (folder / file).is_file()]:
        raise FileNotFoundError(f"{folder / missing[0]} is missing; {_instead(folder)}")
    card = read_object(folder / CARD) if (folder / CARD).is_file() else {}
    sums = card.get("sha256", {})  # absent where the folder was not written by `save_model`
    present = [file for file in (WEIGHTS, CONFIG, RECORD) if (folder / file).is_file()]
    for file in present:
        if isinstance(sums, dict) and file in sums and sums[file] != sha256(folder / file):
            raise ValueError(
                f"{folder / file} is damaged: its SHA-256 is not the one in {CARD} (if another program has written it "
                f"since, remove {CARD})"
            )
    return card, (folder / RECORD).read_bytes() if RECORD in present else b""


def has_config(folder: Path) -> bool:
    """Return whether a folder has the config of a model of this package."""
    try:
        _model_config(read_object(folder / CONFIG), folder / CONFIG)
    except (ValueError, FileNotFoundError):
        return False
    return True


def packaged_models() -> list[str]:
    """Return the names of the models that come with the package."""
    return sorted(path.parent.name for path in PACKAGED.glob(f"*/{CONFIG}"))


def find_model(name: str | os.PathLike[str]) -> Path:
    """Return the folder of a packaged model by its name, otherwise the given folder.

    Raises FileNotFoundError if there is none.
    """
    packaged = packaged_models()
    if isinstance(name, str) and name in packaged:
        return PACKAGED / name
    folder = standing(name)
    if not os.path.isdir(folder):
        names = ", ".join(packaged) or "none"
        raise FileNotFoundError(f"no model {os.fspath(name)!r}: no such folder; models in the package: {names}")
    return folder


def shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Return the shape of every weight of a `Transformer`, by its name."""
    width, shared = config.width, config.groups * config.head_width
    of_layer = {
        "input_layernorm": (width,),
        "self_attn.q_proj": (width, width),
        "self_attn.k_proj": (shared, width),
        "self_attn.v_proj": (shared, width),
        "self_attn.o_proj": (width, width),
        "post_attention_layernorm": (width,),
        "mlp.gate_proj": (config.hidden, width),
        "mlp.up_proj": (config.hidden, width),
        "mlp.down_proj": (width, config.hidden),
    }
    found: dict[str, tuple[int, ...]] = {"embed_tokens.weight": (len(VOCABULARY), width)}
    for layer in range(config.layers):
        found |= {f"layers.{layer}.{name}.weight": shape for name, shape in of_layer.items()}
    found["norm.weight"] = (width,)
    return found if config.tied else {**found, "lm_head.weight": (len(VOCABULARY), width)}


def stored_name(name: str) -> str:
    """Return the name of a parameter in Hugging Face's LlamaForCausalLM."""
    return name if name.startswith("lm_head.") else f"model.{name}"


def compare(found: Mapping[str, tuple[int, ...]], config: ModelConfig, where: object) -> None:
    """Raise ValueError unless the names and shapes of stored weights are those of a config."""
    wanted = {stored_name(name): shape for name, shape in shapes(config).items()}
    for name in sorted(found.keys() ^ wanted.keys()):
        what = "is missing" if name in wanted else "is not part of the model"
        raise ValueError(f"{where}: {name} {what} according to {CONFIG}")
    for name, shape in wanted.items():
        if tuple(found[name]) != shape:
            raise ValueError(f"{where}: {name} has shape {tuple(found[name])}; allowed by {CONFIG}: {shape}")


def check_finite(finite: Mapping[str, bool], where: object) -> None:
    """Raise ValueError unless all weights are finite."""
    for name, holds in finite.items():
        if not holds:
            raise ValueError(f"{where}: {name} has weights that are NaN or infinite")


def _model_config(entries: dict[str, Any], path: Path) -> ModelConfig:
    for key, value in COMMON.items():
        if entries.get(key, value) != value:
            raise ValueError(f"{path}: {key} = {entries[key]!r}; allowed: {value!r}")
    if missing := [theirs for theirs in SIZES.values() if theirs not in entries]:
        raise ValueError(f"{path}: no {missing[0]}")
    rope = entries.get("rope_parameters") or entries
    if rope.get("rope_type", "default") != "default" or entries.get("rope_scaling") is not None:
        raise ValueError(f"{path}: scaled rotary positions; allowed: rope_type = 'default'")
    try:
        sizes = {ours: entries[theirs] for ours, theirs in SIZES.items()}
        config = ModelConfig(rope_theta=rope.get("rope_theta", 10_000.0), **sizes)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if entries.get("head_dim") not in (None, config.head_width):
        raise ValueError(f"{path}: head_dim = {entries['head_dim']!r}; allowed: width / heads = {config.head_width}")
    return config


def _read_weights(path: Path) -> dict[str, NDArray[np.float32]]:
    """Read the tensors of a file, stored in any floating-point type, as float32."""
    try:
        entries = safetensors.deserialize(path.read_bytes())  # type: ignore[no-untyped-call]
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    weights = {}
    for name, entry in entries:
        if (kind := entry["dtype"]) not in _FLOATS:
            raise ValueError(f"{path}: {name} has type {kind}; allowed: {', '.join(_FLOATS)}")
        values = np.frombuffer(entry["data"], _FLOATS[kind])
        if kind == "BF16":  # the upper half of a float32
            values = (values.astype(np.uint32) << 16).view(np.float32)
        weights[name] = values.astype(np.float32).reshape(entry["shape"])
    return weights


def _needed(weights: dict[str, NDArray[np.float32]], config: ModelConfig, path: Path) -> dict[str, NDArray[np.float32]]:
    """Return weights without those that transformers may add: the copy of a tied output layer, and frequencies."""
    kept = {name: weight for name, weight in weights.items() if not name.endswith("rotary_emb.inv_freq")}
    head, embeddings = kept.get("lm_head.weight"), kept.get("model.embed_tokens.weight")
    if config.tied and head is not None and embeddings is not None:
        if not np.array_equal(head, embeddings):
            raise ValueError(f"{path}: lm_head.weight differs from model.embed_tokens.weight, but {CONFIG} ties them")
        del kept["lm_head.weight"]
    return kept


def _instead(folder: Path) -> str:
    """Return what a folder without readable weights contains, and what to do about it."""
    names = sorted(path.name for path in folder.iterdir())
    if any(name.endswith(".safetensors.index.json") for name in names):
        return "the weights are in several files: save_pretrained(folder, max_shard_size='100GB') writes one"
    if "adapter_config.json" in names:
        return "the folder holds an adapter: merge_and_unload() it before saving"
    if pickled := [name for name in names if name.startswith("pytorch_model")]:
        return f"{pickled[0]} is pickled, which is not read: save it as safetensors"
    return f"a model is {WEIGHTS} and {CONFIG}, and {CARD} where it was written by this package"
