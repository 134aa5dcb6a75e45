"""A model as a folder: written whole or not at all, read without unpickling.

`model.safetensors` holds the weights; `config.json`, `generation_config.json`, `tokenizer.json` and
`tokenizer_config.json` what `transformers` needs to load the folder as it is (``AutoModelForCausalLM``,
``AutoTokenizer``, ``generate``); `card.json` what is known about the model: recipe, digests of its specs, seed, commit,
metrics, the order of digits it was trained in (``endian``), the type its weights are stored in, and SHA-256 sums of
weights and config, so that a flipped bit is refused and not sampled from. A `README.md` says what the card says
(`cadmus_gym.model_cards`).
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

import safetensors
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from cadmus_gym.forms import ENDIANS
from cadmus_gym.isa import BOS, END, PAD, VOCABULARY
from cadmus_gym.model import ModelConfig, Transformer
from cadmus_gym.tokenizer import CONFIG as TOKENIZER_CONFIG
from cadmus_gym.tokenizer import TOKENIZER, endian_of, write_tokenizer

WEIGHTS, CONFIG, CARD, README = "model.safetensors", "config.json", "card.json", "README.md"
GENERATION = "generation_config.json"
WRITTEN = (WEIGHTS, CONFIG, GENERATION, TOKENIZER, TOKENIZER_CONFIG, CARD)
HARMLESS = (README, GENERATION, TOKENIZER, TOKENIZER_CONFIG)  # files that may stand in a folder before its model
OTHER_WEIGHTS = ("*.safetensors", "*.index.json", "pytorch_model*", "*.gguf")
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
    model: nn.Module,
    folder: str | os.PathLike[str],
    card: Mapping[str, Any] | None = None,
    dtype: torch.dtype | None = None,
    *,
    max_tokens: int | None = None,
) -> None:
    """Write a model and its card to a folder, in place of the one that stands there.

    model: a `Transformer`, also one that `torch.compile` or DistributedDataParallel has wrapped.
    folder: a new one, an empty one, or that of a model; a link is followed. It is written beside and renamed: an error
        or a crash at any moment leaves the previous one, whole (see `replacing`). Files in it that are no part of a
        model are kept, but for a README.md that described the previous one.
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
    _endian(known, "card")
    if max_tokens is None:
        max_tokens = max(1, model.config.context - 1)
    dtype = dtype or model.embed_tokens.weight.dtype
    _json(known, "card")
    # Copies on the CPU: safetensors wants contiguous tensors that share no memory.
    weights = {
        _stored(name): tensor.detach().to("cpu", dtype, copy=True).contiguous()
        for name, tensor in model.state_dict().items()
    }
    _compare(weights, model.config, "the model")
    _check_finite(weights, f"the model, in {_name(dtype)}")
    with replacing(target) as new:
        if target.is_dir():
            gone = (*WRITTEN, README) if (target / WEIGHTS).is_file() else WRITTEN
            for path in target.iterdir():
                if path.name not in gone:
                    _copy(path, new / path.name)
        (new / WEIGHTS).write_bytes(safetensors.torch.save(weights, metadata={"format": "pt"}))
        write_texts(new, model.config, known["endian"], max_tokens)
        (new / CARD).write_text(_json({**known, **_facts(new)}, "card"), encoding="utf-8")


def check_target(folder: str | os.PathLike[str]) -> Path:
    """Return the folder that `save_model` would write, links followed.

    Raises ValueError where it could not or should not: a file, a folder that holds something else than a model, other
    weights that would be lost, the working directory or one around it, a mount point, or where nothing can be written.
    """
    target = Path(folder).resolve()
    if target in (Path.cwd(), *Path.cwd().parents):
        raise ValueError(f"{folder} is or holds the working directory, and it is replaced whole; name another")
    if target.exists() and not target.is_dir():
        raise ValueError(f"{folder} is a file; name a folder")
    if os.path.ismount(target):
        raise ValueError(f"{folder} is a mount point, which cannot be replaced; name a folder in it")
    if target.is_dir() and not _may_be_replaced(target):
        name = min(_unknown(target))
        raise ValueError(f"{folder} holds {name} and no model of this package, and it is replaced whole; name another")
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
    """Return the model of a folder, or of a name that comes with the package, with its ``card`` and ``endian``.

    A name means the packaged model even where a folder of that name is at hand ("./nano" and ``Path("nano")`` are the
    folder). A folder that `transformers` saved loads too: its card is empty, and ``endian``, the order of digits that
    the model reads, is to be given where its config does not say.

    Raises FileNotFoundError where there is no such model, or a file of it is missing, and ValueError, naming the
    file, for a damaged one, a config that is no model of this package, weights that are not those of the config or not
    finite, and an endian that is not known, or not the one that the folder names.
    """
    folder = find_model(name)
    if missing := [file for file in (WEIGHTS, CONFIG) if not (folder / file).is_file()]:
        raise FileNotFoundError(f"{folder / missing[0]} is missing; {_instead(folder)}")
    card = _read_json(folder / CARD) if (folder / CARD).is_file() else {}
    sums = card.get("sha256", {})  # absent where the folder was not written by `save_model`
    for file in (WEIGHTS, CONFIG):
        if isinstance(sums, dict) and file in sums and sums[file] != _sha256(folder / file):
            raise ValueError(
                f"{folder / file} is damaged: its SHA-256 is not the one in {CARD} (where another program has written "
                f"it since, {CARD} is not its card: take that away)"
            )
    config = _model_config(_read_json(folder / CONFIG), folder / CONFIG)
    order = endian_of(folder, endian)
    try:
        weights = safetensors.torch.load_file(folder / WEIGHTS)
    except SafetensorError as error:
        raise ValueError(f"{folder / WEIGHTS} is damaged: {error}") from error
    weights = _needed(weights, config, folder / WEIGHTS)
    _compare(weights, config, folder / WEIGHTS)
    _check_finite(weights, folder / WEIGHTS)
    model = Transformer(config)
    model.load_state_dict({name: weights[_stored(name)] for name in model.state_dict()})
    model.card, model.endian = card, order
    return model.to(device=device, dtype=dtype)


def write_card(folder: str | os.PathLike[str], card: Mapping[str, Any]) -> None:
    """Write the card of a model that stands in a folder anew, at once and whole; weights and config stay.

    Raises ValueError for a card that JSON cannot hold or an unknown endian.
    """
    path = Path(folder) / CARD
    _endian(card, "card")
    new = path.with_name(CARD + ".partial")
    new.write_text(_json({**card, **_facts(path.parent)}, "card"), encoding="utf-8")
    new.replace(path)


def write_texts(folder: Path, config: ModelConfig, endian: str, max_tokens: int) -> None:
    """Write to a folder what `transformers` reads beside the weights: config, generation config and tokenizer."""
    generation = {
        "bos_token_id": BOS,
        "eos_token_id": END,
        "pad_token_id": PAD,
        "do_sample": False,
        "max_new_tokens": max_tokens,
    }
    (folder / CONFIG).write_text(_json(_llama_config(config, endian), "config"), encoding="utf-8")
    (folder / GENERATION).write_text(_json(generation, "generation config"), encoding="utf-8")
    write_tokenizer(folder, endian)


def packaged_models() -> list[str]:
    """Return the names of the models that come with the package."""
    return sorted(path.parent.name for path in PACKAGED.glob(f"*/{CONFIG}"))


@contextmanager
def replacing(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield an empty folder to write to, which takes the place of ``folder`` when the block ends without an error.

    At every moment the old content or the new one stands, whole and flushed to the disk, as ``folder`` or, for the
    instant between two renames, as its sibling ``.previous``; `standing` finds it. For one writer at a time.
    """
    folder = Path(folder).resolve()  # a link stays, and what it leads to is replaced
    new, previous = folder.with_name(folder.name + ".partial"), folder.with_name(folder.name + ".previous")
    _remove(new)  # of a writer that was killed
    new.mkdir(parents=True)
    try:
        yield new
        for path in (*new.rglob("*"), new):
            _flush(path)
        if folder.exists():
            _remove(previous)  # of a writer that was killed, too
            folder.rename(previous)
        new.rename(folder)
        _flush(folder.parent)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    shutil.rmtree(previous, ignore_errors=True)


def standing(folder: str | os.PathLike[str]) -> Path:
    """Return where the last complete content of a folder written by `replacing` stands: itself or ``.previous``."""
    folder = Path(folder)
    previous = folder.resolve().with_name(folder.resolve().name + ".previous")
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


def _llama_config(config: ModelConfig, endian: str) -> dict[str, Any]:
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
        "dtype": "float32",  # to compute in: transformers 5 trains in the type named here
        "endian": endian,  # ours; transformers keeps it when it saves the model
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


def _unwrapped(model: nn.Module) -> Transformer:
    """Return the transformer inside what `torch.compile` or DistributedDataParallel makes of it."""
    inner = model
    while (wrapped := [inner._modules[name] for name in ("_orig_mod", "module") if name in inner._modules]) != []:
        assert wrapped[0] is not None
        inner = wrapped[0]
    if not isinstance(inner, Transformer):
        raise ValueError(f"model is a {type(inner).__name__}; allowed: a Transformer of this package")
    return inner


def _needed(weights: dict[str, Tensor], config: ModelConfig, path: Path) -> dict[str, Tensor]:
    """Return weights without what transformers may add: a tied output layer's copy, and frequencies."""
    kept = {name: tensor for name, tensor in weights.items() if not name.endswith("rotary_emb.inv_freq")}
    head, embeddings = kept.get("lm_head.weight"), kept.get("model.embed_tokens.weight")
    if config.tied and head is not None and embeddings is not None:
        if not torch.equal(head, embeddings):
            raise ValueError(f"{path}: lm_head.weight is not model.embed_tokens.weight, but {CONFIG} ties the two")
        del kept["lm_head.weight"]
    return kept


def _compare(weights: Mapping[str, Tensor], config: ModelConfig, where: object) -> None:
    """Raise ValueError where names or shapes of weights are not those of a config."""
    with torch.device("meta"):
        wanted = {_stored(name): tensor for name, tensor in Transformer(config).state_dict().items()}
    for name in sorted(weights.keys() ^ wanted.keys()):
        what = "is missing" if name in wanted else "belongs to no part of the model"
        raise ValueError(f"{where}: {name} {what}, by {CONFIG}")
    for name, tensor in weights.items():
        if tensor.shape != wanted[name].shape:
            shapes = f"{tuple(tensor.shape)}; by {CONFIG} it is {tuple(wanted[name].shape)}"
            raise ValueError(f"{where}: {name} has shape {shapes}")


def _check_finite(weights: Mapping[str, Tensor], where: object) -> None:
    for name, tensor in weights.items():
        if not tensor.isfinite().all():
            raise ValueError(f"{where}: {name} has weights that are NaN or infinite")


def _unknown(folder: Path) -> set[str]:
    """Return the names of the files that make a folder somebody's own; hidden files do not."""
    return {path.name for path in folder.iterdir() if not path.name.startswith(".")} - {*HARMLESS}


def _may_be_replaced(folder: Path) -> bool:
    """Whether a folder holds a model of this package, or nothing that somebody would miss."""
    names = _unknown(folder)
    if not names or (WEIGHTS in names and names <= {*WRITTEN}):  # of ours, though its config may be damaged
        return True
    try:
        _model_config(_read_json(folder / CONFIG), folder / CONFIG)
    except (ValueError, FileNotFoundError):
        return False
    return True


def _instead(folder: Path) -> str:
    """Say what a folder has in place of weights that can be read."""
    names = sorted(path.name for path in folder.iterdir())
    if any(name.endswith(".safetensors.index.json") for name in names):
        return "the weights are in several files: save_pretrained(folder, max_shard_size='100GB') writes one"
    if "adapter_config.json" in names:
        return "the folder holds an adapter: merge_and_unload() it before saving"
    if pickled := [name for name in names if name.startswith("pytorch_model")]:
        return f"{pickled[0]} is pickled, which is not read: save it as safetensors"
    return f"a model is {WEIGHTS} and {CONFIG}, and {CARD} where it was written by this package"


def _facts(folder: Path) -> dict[str, Any]:
    """Return what a card says of the files beside it."""
    with safetensors.safe_open(folder / WEIGHTS, "pt") as weights:
        dtype = weights.get_tensor(next(iter(weights.keys()))).dtype
    return {"stored": _name(dtype), "sha256": {name: _sha256(folder / name) for name in (WEIGHTS, CONFIG)}}


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
    """Return the sum of a file's content; that of a text does not depend on how its lines end."""
    if path.suffix == ".json":
        return hashlib.sha256(path.read_bytes().replace(b"\r\n", b"\n")).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _copy(path: Path, new: Path) -> None:
    """Copy a file, a folder or a link; what is none of these is passed over."""
    if path.is_dir() and not path.is_symlink():
        shutil.copytree(path, new, symlinks=True)
    elif path.is_file() or path.is_symlink():
        shutil.copy2(path, new, follow_symlinks=False)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    if os.name == "nt" or path.is_symlink():  # Windows neither opens folders nor flushes what was opened for reading
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
