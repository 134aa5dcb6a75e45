"""A checkpoint is written whole or not at all, loads elsewhere, and refuses what is damaged."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

import cadmus_gym as cg
from cadmus_gym.language import isa as op
from cadmus_gym.language.forms import ENDIANS, reverse_digits
from cadmus_gym.training.record import extended, unpack
from cadmus_gym.transformer import checkpoint, model_files
from cadmus_gym.transformer.checkpoint import (
    CARD,
    CONFIG,
    GENERATION,
    RECORD,
    WEIGHTS,
    WRITTEN,
    check_target,
    load_model,
    replacing,
    save_model,
    standing,
    write_card,
)
from cadmus_gym.transformer.model import ModelConfig, Transformer, with_bos
from cadmus_gym.transformer.tokenizer import write_tokenizer

ROOT = Path(__file__).resolve().parents[2]
SMALL = ModelConfig(width=32, layers=2, heads=4, hidden=48, context=64, rope_theta=500.0, norm_eps=1e-6)
CONFIGS = {
    "tied": SMALL,
    "untied": replace(SMALL, tied=False),
    "grouped": replace(SMALL, key_value_heads=2),
    "one group, untied": replace(SMALL, key_value_heads=1, tied=False),
}
TOKENS = torch.randint(65, (3, 20), generator=torch.Generator().manual_seed(0))


def model_of(config: ModelConfig = SMALL, seed: int = 1) -> Transformer:
    model = Transformer(config, seed)
    with torch.no_grad():
        model.embed_tokens.weight.mul_(20)
        for weight in model.parameters():  # norms too, so that a lost one shows
            weight.mul_(1.1)
    return model


def same(one: Transformer, other: Transformer) -> bool:
    pairs = zip(one.state_dict().items(), other.state_dict().items(), strict=True)
    return all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_round_trip(tmp_path: Path, config: ModelConfig) -> None:
    model = model_of(config)
    card = {"recipe": {"width": 32}, "seed": 7, "metrics": [0.5, None], "endian": "little"}
    save_model(model, tmp_path / "runs" / "x", card)
    loaded = load_model(tmp_path / "runs" / "x")
    assert loaded.config == config
    assert same(loaded, model)
    assert model_files.shapes(config) == {name: weight.shape for name, weight in model.state_dict().items()}
    assert loaded.endian == "little"
    assert {key: loaded.card[key] for key in card} == card
    assert torch.equal(loaded(TOKENS), model(TOKENS))
    names = {path.name for path in (tmp_path / "runs" / "x").iterdir()}
    assert names == set(WRITTEN)
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["x"]


@pytest.mark.filterwarnings("ignore")  # of transformers
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_transformers_loads_the_folder_as_it_is(tmp_path: Path, config: ModelConfig) -> None:
    transformers = pytest.importorskip("transformers")
    model = model_of(config)
    save_model(model, tmp_path / "x", {"endian": "little"})
    assert ("lm_head.weight" in safetensors.torch.load_file(tmp_path / "x" / WEIGHTS)) is not config.tied
    theirs, report = transformers.LlamaForCausalLM.from_pretrained(tmp_path / "x", output_loading_info=True)
    assert not any(report.values())
    assert theirs.config.tie_word_embeddings is config.tied
    assert (theirs.config.bos_token_id, theirs.config.eos_token_id, theirs.config.pad_token_id) == (1, 2, 0)
    with torch.no_grad():
        torch.testing.assert_close(theirs(TOKENS).logits, model(TOKENS), atol=1e-4, rtol=0)
    # And back: the config still says in which order digits are read; the card is lost.
    theirs.save_pretrained(tmp_path / "y")
    again = load_model(tmp_path / "y")
    assert same(again, model)
    assert (again.endian, again.card) == ("little", {})


@pytest.mark.filterwarnings("ignore")  # of transformers
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_folder_of_transformers_without_our_keys_needs_an_endian(tmp_path: Path, dtype: torch.dtype) -> None:
    transformers = pytest.importorskip("transformers")
    sizes = {"vocab_size": 65, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    sizes |= {"intermediate_size": 48, "max_position_embeddings": 64, "tie_word_embeddings": True}
    theirs = transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes)).to(dtype)
    theirs.save_pretrained(tmp_path / "x")
    with pytest.raises(ValueError, match="does not say in which order its model reads digits; give endian"):
        load_model(tmp_path / "x")
    for endian in ENDIANS:
        ours = load_model(tmp_path / "x", endian=endian)
        assert ours.endian == endian
        with torch.no_grad():
            torch.testing.assert_close(ours(TOKENS), theirs.float()(TOKENS).logits, atol=1e-4, rtol=0)
    (tmp_path / "x" / CARD).write_text('{"endian": "little"}')
    assert load_model(tmp_path / "x").endian == "little"
    with pytest.raises(ValueError, match=r"the argument: endian = 'big', but .*card\.json has 'little'"):
        load_model(tmp_path / "x", endian="big")


def test_what_transformers_may_add_is_left_out(tmp_path: Path) -> None:
    model, folder = model_of(), tmp_path / "x"
    save_model(model, folder, {})
    (folder / CARD).unlink()
    weights = safetensors.torch.load_file(folder / WEIGHTS)
    weights["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(4)
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone()
    safetensors.torch.save_file(weights, folder / WEIGHTS)
    assert same(load_model(folder), model)
    weights["lm_head.weight"][0, 0] += 1
    safetensors.torch.save_file(weights, folder / WEIGHTS)
    with pytest.raises(ValueError, match=r"lm_head\.weight is not model\.embed_tokens\.weight, but config\.json ties"):
        load_model(folder)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("model.safetensors.index.json", "in several files: save_pretrained"),
        ("adapter_config.json", "an adapter: merge_and_unload"),
        ("pytorch_model.bin", r"pytorch_model\.bin is pickled, which is not read"),
    ],
)
def test_weights_in_another_form_are_named(tmp_path: Path, name: str, message: str) -> None:
    save_model(model_of(), tmp_path, {})
    (tmp_path / WEIGHTS).rename(tmp_path / name)
    with pytest.raises(FileNotFoundError, match=message):
        load_model(tmp_path)


@pytest.mark.filterwarnings("ignore")  # of transformers
@pytest.mark.parametrize("name", checkpoint.packaged_models())
def test_a_packaged_model_is_true_under_the_defaults_of_transformers(name: str) -> None:
    transformers = pytest.importorskip("transformers")
    folder = model_files.PACKAGED / name
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    programs, lengths = cg.Stream("Cadmus-Arith-v0", "test").batch(0, 40)
    prompts = [cg.disassemble(program[:length]) for program, length in zip(programs, lengths, strict=True)]
    rows = model.generate(**tokenizer(prompts, padding=True, return_tensors="pt"))
    texts = tokenizer.batch_decode(rows, skip_special_tokens=True)
    assert [text.startswith(prompt) for text, prompt in zip(texts, prompts, strict=True)] == [True] * 40
    assert sum(cg.run(cg.assemble(f"{text} end")).true for text in texts) == 40


@pytest.mark.filterwarnings("ignore")  # of transformers
def test_transformers_trains_in_the_type_of_the_config(tmp_path: Path) -> None:
    """Weights are stored in 16 bits; in float16 two steps of AdamW turn them into NaN or worse."""
    transformers = pytest.importorskip("transformers")
    folder = model_files.PACKAGED / "nano-arith"
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    programs, _ = cg.Stream("Cadmus-Arith-v0").batch(0, 32)
    ours = load_model(folder)
    assert ours.endian == "little"
    tokens = with_bos(torch.from_numpy(reverse_digits(programs)))
    labels = tokens.masked_fill(tokens == op.PAD, -100)
    optimizer, losses = torch.optim.AdamW(model.parameters(), lr=5e-5), []  # the rate of Trainer
    for _ in range(3):
        loss = model(input_ids=tokens, labels=labels).loss
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[2] < losses[0]


def test_the_model_s_own_card_is_kept(tmp_path: Path) -> None:
    model = model_of()
    model.endian, model.card = "little", {"seed": 3}
    save_model(model, tmp_path / "x")
    again = load_model(tmp_path / "x")
    save_model(again, tmp_path / "y")
    for folder in ("x", "y"):
        loaded = load_model(tmp_path / folder)
        assert (loaded.endian, loaded.card["seed"]) == ("little", 3)


def stored(folder: Path) -> tuple[str, str]:
    """The type of the weights, and the one to compute in."""
    return (json.loads((folder / CARD).read_text())["stored"], json.loads((folder / CONFIG).read_text())["dtype"])


def test_types(tmp_path: Path) -> None:
    save_model(model_of().to(torch.bfloat16), tmp_path / "x", {})
    assert stored(tmp_path / "x") == ("bfloat16", "float32")
    assert load_model(tmp_path / "x").embed_tokens.weight.dtype == torch.float32
    loaded = load_model(str(tmp_path / "x"), dtype=torch.bfloat16)
    assert loaded(TOKENS).dtype == torch.bfloat16
    assert same(loaded, model_of().to(torch.bfloat16))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_are_stored_in_another_type(tmp_path: Path, dtype: torch.dtype) -> None:
    model = model_of()
    save_model(model, tmp_path / "x", {}, dtype)
    assert model.embed_tokens.weight.dtype == torch.float32
    weights = safetensors.torch.load_file(tmp_path / "x" / WEIGHTS)
    assert {tensor.dtype for tensor in weights.values()} == {dtype}
    name = str(dtype).removeprefix("torch.")
    assert stored(tmp_path / "x") == (name, "float32")
    write_card(tmp_path / "x", {})
    assert stored(tmp_path / "x") == (name, "float32")
    loaded = load_model(tmp_path / "x")
    assert loaded.embed_tokens.weight.dtype == torch.float32
    assert same(loaded, model_of().to(dtype).float())
    size = dtype.itemsize * sum(p.numel() for p in model.parameters())
    assert size < (tmp_path / "x" / WEIGHTS).stat().st_size < size + 4000


def test_a_card_is_written_anew_and_the_readme_goes_with_the_model(tmp_path: Path) -> None:
    folder = tmp_path / "x"
    save_model(model_of(), folder, {"seed": 3})
    before = (folder / WEIGHTS).read_bytes()
    write_card(folder, {"seed": 4, "sha256": {}})
    assert load_model(folder).card["seed"] == 4
    assert (folder / WEIGHTS).read_bytes() == before
    assert {path.name for path in folder.iterdir()} == set(WRITTEN)
    with pytest.raises(ValueError, match="the card is no JSON"):
        write_card(folder, {"seed": float("nan")})
    assert load_model(folder).card["seed"] == 4
    (folder / "README.md").write_text("of seed 4")
    save_model(model_of(), folder, {"seed": 5})
    assert {path.name for path in folder.iterdir()} == set(WRITTEN)


def test_a_record_goes_with_its_model(tmp_path: Path) -> None:
    """From folder to folder, in any type; and no model gets that of another."""
    choices = np.arange(8, dtype=np.uint8)
    model, folder = model_of(), tmp_path / "x"
    model.record = extended(b"", 0, choices)
    save_model(model, folder, {})
    save_model(load_model(folder), tmp_path / "half", dtype=torch.float16)
    found = load_model(tmp_path / "half")
    assert found.record == model.record
    assert np.array_equal(unpack(found.record)["0"], choices)
    assert {path.name for path in (tmp_path / "half").iterdir()} == {*WRITTEN, RECORD}
    content = bytearray((folder / RECORD).read_bytes())
    content[-1] ^= 1
    (folder / RECORD).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{RECORD} is damaged: its SHA-256"):
        load_model(folder)
    (folder / CONFIG).unlink()  # damaged, and still ours
    save_model(model_of(seed=2), folder, {})
    assert {path.name for path in folder.iterdir()} == set(WRITTEN)
    assert load_model(folder).record == b""


def test_nothing_is_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_model(model_of(), tmp_path / "x", {})

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("unpickled")

    for module, name in ((torch, "load"), (pickle, "load"), (pickle, "loads"), (pickle, "Unpickler")):
        monkeypatch.setattr(module, name, forbidden)
    load_model(tmp_path / "x")


def test_a_flipped_bit_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "x"
    save_model(model_of(), folder, {})
    for name in (WEIGHTS, CONFIG):
        whole = (folder / name).read_bytes()
        for place in (0, len(whole) // 2, len(whole) - 1):
            (folder / name).write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            with pytest.raises(ValueError, match=f"{name} is damaged: its SHA-256 is not the one in card.json"):
                load_model(folder)
        (folder / name).write_bytes(whole)
    load_model(folder)


def test_damage_without_sums_is_refused(tmp_path: Path) -> None:
    """A card written by hand has no sums; a file that was cut or is none is found all the same."""
    folder = tmp_path / "x"
    save_model(model_of(), folder, {})
    (folder / CARD).write_text("{}")
    assert load_model(folder).card == {}
    whole = (folder / WEIGHTS).read_bytes()
    for damaged in (whole[:-100], whole[:5], b"", b"\x80\x04N."):
        (folder / WEIGHTS).write_bytes(damaged)
        with pytest.raises(ValueError, match=r"model\.safetensors is damaged"):
            load_model(folder)
    safetensors.torch.save_file({"a": torch.zeros(2, dtype=torch.int8)}, folder / WEIGHTS)
    with pytest.raises(ValueError, match=r"model\.safetensors: a has type I8; allowed: F16, F32, F64, BF16"):
        load_model(folder)
    (folder / WEIGHTS).write_bytes(whole)
    (folder / CARD).write_text('{"endian": "big"')
    with pytest.raises(ValueError, match=r"card\.json is damaged"):
        load_model(folder)
    (folder / CARD).write_text("[]")
    with pytest.raises(ValueError, match=r"card\.json holds list; allowed: an object"):
        load_model(folder)
    (folder / CARD).write_text('{"endian": "middle"}')
    with pytest.raises(ValueError, match=r"card\.json: endian = 'middle'; allowed: big, little"):
        load_model(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "mistral"}, "model_type = 'mistral'; allowed: 'llama'"),
        ({"vocab_size": 64}, "vocab_size = 64; allowed: 65"),
        ({"attention_bias": True}, "attention_bias = True; allowed: False"),
        ({"hidden_size": None}, "ModelConfig: width = None; allowed: an integer above 0"),
        ({"num_attention_heads": 3}, "ModelConfig: heads = 3; allowed"),
        ({"head_dim": 16}, "head_dim = 16; allowed: width / heads = 8"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "allowed: rope_type = 'default'"),
        ({"num_hidden_layers": 1}, r"model\.layers\.1\.\S+ belongs to no part of the model, by config\.json"),
        ({"num_hidden_layers": 3}, r"model\.layers\.2\.\S+ is missing, by config\.json"),
        ({"tie_word_embeddings": False}, r"lm_head\.weight is missing"),
        (
            {"intermediate_size": 40},
            r"model\.layers\.0\.mlp\.\S+ has shape \(.*48.*\); by config\.json it is \(.*40.*\)",
        ),
        ({"num_key_value_heads": 2}, r"k_proj\.weight has shape \(32, 32\); by config.json it is \(16, 32\)"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    folder = tmp_path / "x"
    save_model(model_of(), folder, {})
    config = json.loads((folder / CONFIG).read_text()) | changes
    (folder / CONFIG).write_text(json.dumps(config))
    (folder / CARD).write_text("{}")
    with pytest.raises(ValueError, match=message):
        load_model(folder)


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError, match=r"no model 'nana': no such folder; models in the package: "):
        load_model("nana")
    save_model(model_of(), tmp_path / "models" / "nano-test", {"seed": 5})
    monkeypatch.setattr(model_files, "PACKAGED", tmp_path / "models")
    assert checkpoint.packaged_models() == ["nano-test"]
    assert load_model("nano-test").card["seed"] == 5
    with pytest.raises(FileNotFoundError, match="models in the package: nano-test"):
        load_model("nana")
    for name in (WEIGHTS, CONFIG):
        save_model(model_of(), tmp_path / "x", {})
        (tmp_path / "x" / name).unlink()
        with pytest.raises(FileNotFoundError, match=f"{name} is missing"):
            load_model(tmp_path / "x")


def test_bad_cards_write_nothing(tmp_path: Path) -> None:
    for card, message in (
        ({"seed": np.int64(3)}, "the card is no JSON: .*int64"),
        ({"loss": float("nan")}, "the card is no JSON"),
        ({"endian": "middle"}, "endian = 'middle'; allowed: big, little"),
    ):
        with pytest.raises(ValueError, match=message):
            save_model(model_of(), tmp_path / "x", card)
    assert not list(tmp_path.iterdir())


def test_a_folder_of_the_packaged_name_is_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_model(model_of(), "nano", {"seed": 11})
    for folder in (Path("nano"), "./nano", str(tmp_path / "nano")):
        assert load_model(folder).card["seed"] == 11
    assert load_model("nano").card != load_model(Path("nano")).card
    with pytest.raises(FileNotFoundError, match="no model 'nano-arith'"):
        load_model(Path("nano-arith"))


def test_a_folder_that_holds_something_else_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "events.out").write_text("precious")
    for folder, message in ((tmp_path, r"holds events\.out and no model"), (tmp_path / "events.out", "is a file")):
        with pytest.raises(ValueError, match=message):
            save_model(model_of(), folder, {})
    (tmp_path / "settings").mkdir()
    (tmp_path / "settings" / CONFIG).write_text("{}")
    with pytest.raises(ValueError, match=r"holds config\.json and no model of this package"):
        save_model(model_of(), tmp_path / "settings", {})
    # A model of another kind, too.
    (tmp_path / WEIGHTS).write_bytes(b"")
    (tmp_path / CONFIG).write_text('{"model_type": "llama", "vocab_size": 128256}')
    with pytest.raises(ValueError, match=r"holds config\.json and no model of this package"):
        save_model(model_of(), tmp_path, {})
    assert (tmp_path / "events.out").read_text() == "precious"
    with pytest.raises(ValueError, match=r"x cannot be written: .*events\.out is a file"):
        check_target(tmp_path / "events.out" / "x")


def test_other_files_of_a_model_s_folder_are_kept(tmp_path: Path) -> None:
    folder = tmp_path / "x"
    save_model(model_of(), folder, {})
    (folder / ".DS_Store").write_text("hidden")
    (folder / "special_tokens_map.json").write_text("{}")
    (folder / "notes").mkdir()
    (folder / "notes" / "one.txt").write_text("by hand")
    (folder / "link").symlink_to("nowhere")
    (folder / GENERATION).write_text("{}")
    save_model(model_of(seed=2), folder, {}, max_tokens=9)
    assert same(load_model(folder), model_of(seed=2))
    kept = {".DS_Store", "special_tokens_map.json", "notes", "link"}
    assert {path.name for path in folder.iterdir()} == {*WRITTEN, *kept}
    assert (folder / "notes" / "one.txt").read_text() == "by hand"
    assert (folder / "link").readlink() == Path("nowhere")
    ends = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    assert json.loads((folder / GENERATION).read_text()) == {**ends, "do_sample": False, "max_new_tokens": 9}
    save_model(model_of(), folder, {})
    assert json.loads((folder / GENERATION).read_text())["max_new_tokens"] == SMALL.context - 1
    (folder / "model-00001-of-00002.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match=r"holds model-00001-of-00002\.safetensors, other weights"):
        save_model(model_of(), folder, {})


def test_what_may_stand_in_a_folder_before_its_model(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / ".DS_Store").write_text("hidden")
    (tmp_path / "x" / "README.md").write_text("of a project")
    write_tokenizer(tmp_path / "x", "little")
    save_model(model_of(), tmp_path / "x", {})
    assert (tmp_path / "x" / ".DS_Store").read_text() == "hidden"
    assert (tmp_path / "x" / "README.md").read_text() == "of a project"
    (tmp_path / "x" / CONFIG).write_text("damaged")
    save_model(model_of(seed=2), tmp_path / "x", {})
    assert same(load_model(tmp_path / "x"), model_of(seed=2))
    (tmp_path / "x" / WEIGHTS).unlink()
    save_model(model_of(seed=3), tmp_path / "x", {})
    assert same(load_model(tmp_path / "x"), model_of(seed=3))


def test_the_working_directory_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a")
    for folder in (".", "", "..", "b/..", tmp_path / "a", tmp_path, "/"):
        with pytest.raises(ValueError, match="is or contains the working directory"):
            save_model(model_of(), folder, {})
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]
    save_model(model_of(), "b", {})
    assert same(load_model("b"), model_of())


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    link = tmp_path / "run" / "model"
    link.parent.mkdir()
    link.symlink_to(tmp_path / "disk" / "x")
    for seed in (1, 2):
        save_model(model_of(seed=seed), link, {})
        assert link.is_symlink()
        assert same(load_model(link), model_of(seed=seed))
    assert [path.name for path in link.parent.iterdir()] == ["model"]
    assert [path.name for path in (tmp_path / "disk").iterdir()] == ["x"]
    (tmp_path / "disk" / "x").rename(tmp_path / "disk" / "x.previous")  # as a crash between two renames leaves it
    assert same(load_model(link), model_of(seed=2))


def test_where_nothing_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_model(model_of(), tmp_path / "x", {})
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.os.path, "ismount", lambda path: path == tmp_path / "x")
        with pytest.raises(ValueError, match="x is a mount point, which cannot be replaced; name a folder in it"):
            save_model(model_of(), tmp_path / "x", {})
        save_model(model_of(), tmp_path / "x" / "y", {})
    monkeypatch.setattr(checkpoint.os, "access", lambda path, mode: Path(path) != tmp_path)  # root may write anywhere
    for folder in (tmp_path / "x", tmp_path / "new" / "deep"):
        with pytest.raises(ValueError, match=f"cannot be written: {tmp_path} is read-only"):
            save_model(model_of(), folder, {})


class Wrapped(nn.Module):
    """As DistributedDataParallel holds a model."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module


def test_a_wrapped_model_is_saved_as_itself(tmp_path: Path) -> None:
    model = model_of()
    model.endian, model.card = "little", {"seed": 4}
    compiled = torch.compile(model, backend="eager")
    for wrapped in (compiled, Wrapped(model), Wrapped(compiled), torch.compile(Wrapped(model), backend="eager")):
        save_model(wrapped, tmp_path / "x")
        loaded = load_model(tmp_path / "x")
        assert same(loaded, model)
        assert (loaded.endian, loaded.card["seed"]) == ("little", 4)
    with pytest.raises(ValueError, match="model is a Linear; allowed: a Transformer"):
        save_model(Wrapped(nn.Linear(2, 2)), tmp_path / "x")
    assert same(load_model(tmp_path / "x"), model)


def renamed(model: Transformer) -> None:
    model.layers[0] = torch.compile(model.layers[0], backend="eager")


def resized(model: Transformer) -> None:
    model.embed_tokens = nn.Embedding(66, 32)


def deepened(model: Transformer) -> None:
    model.config = replace(model.config, layers=3)


def diverged(model: Transformer) -> None:
    with torch.no_grad():
        model.norm.weight[3] = float("nan")


def overflowing(model: Transformer) -> None:
    with torch.no_grad():
        model.norm.weight[3] = 1e6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (renamed, r"the model: model\.layers\.0\._orig_mod\.\S+ belongs to no part of the model"),
        (resized, r"the model: model\.embed_tokens\.weight has shape \(66, 32\); by config\.json it is \(65, 32\)"),
        (deepened, r"the model: model\.layers\.2\.\S+ is missing"),
        (diverged, r"model\.norm\.weight has weights that are NaN or infinite"),
        (overflowing, r"the model, in float16: model\.norm\.weight has weights that are NaN or infinite"),
    ],
)
def test_what_would_not_load_is_not_saved(tmp_path: Path, change: Callable[[Transformer], None], message: str) -> None:
    save_model(model_of(seed=2), tmp_path / "x", {})
    model = model_of()
    change(model)
    with pytest.raises(ValueError, match=message):
        save_model(model, tmp_path / "x", {}, torch.float16)
    assert same(load_model(tmp_path / "x"), model_of(seed=2))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_reported(tmp_path: Path, value: float) -> None:
    save_model(model_of(), tmp_path, {})
    (tmp_path / CARD).unlink()
    weights = safetensors.torch.load_file(tmp_path / WEIGHTS)
    weights["model.norm.weight"][0] = value
    safetensors.torch.save_file(weights, tmp_path / WEIGHTS)
    with pytest.raises(ValueError, match=r"model\.safetensors: model\.norm\.weight has weights that are NaN or"):
        load_model(tmp_path)


def test_sums_do_not_depend_on_how_lines_end(tmp_path: Path) -> None:
    """Git writes a text with other line ends where core.autocrlf says so."""
    save_model(model_of(), tmp_path, {})
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for name in WRITTEN:
        if name != WEIGHTS:
            (tmp_path / name).write_bytes(before[name].replace(b"\n", b"\r\n"))
    assert same(load_model(tmp_path), model_of())
    write_card(tmp_path, load_model(tmp_path).card)
    assert (tmp_path / CARD).read_bytes() == before[CARD]


def test_git_leaves_what_is_hashed_as_it_is(tmp_path: Path) -> None:
    """A clone with core.autocrlf, the default on Windows, has every packaged model to the byte."""
    packaged = sorted(path for path in model_files.PACKAGED.rglob("*") if path.is_file())

    def git(*arguments: str) -> str:
        identity = ("-c", "user.name=x", "-c", "user.email=x@x")
        command = ["git", *identity, "-C", str(tmp_path / "source"), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    for path in packaged:
        copy = tmp_path / "source" / path.relative_to(model_files.PACKAGED)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    (tmp_path / "source" / ".gitattributes").write_bytes((ROOT / ".gitattributes").read_bytes())
    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "--message", "models")
    git("-c", "core.autocrlf=true", "clone", "--quiet", "--config", "core.autocrlf=true", ".", str(tmp_path / "clone"))
    for path in packaged:
        assert (tmp_path / "clone" / path.relative_to(model_files.PACKAGED)).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("moment", ["weights", "sums", "first rename", "second rename"])
def test_a_crash_while_saving_leaves_the_previous_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    folder, first, second = tmp_path / "x", model_of(seed=1), model_of(seed=2)
    save_model(first, folder, {})

    class Crash(BaseException):
        """What nothing in between catches, as a kill."""

    def half_written(path: Path, content: bytes) -> None:
        with open(path, "wb") as file:
            file.write(content[: len(content) // 2])
        raise Crash

    def crash(*_: object) -> str:
        raise Crash

    renames = 0
    rename = Path.rename

    def rename_until(self: Path, target: Path) -> Path:
        nonlocal renames
        renames += 1
        if renames == (1 if moment == "first rename" else 2):
            raise Crash
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.shutil, "rmtree", lambda *_, **__: None)  # a killed process cleans nothing up
        if moment == "weights":
            patch.setattr(Path, "write_bytes", half_written)
        elif moment == "sums":
            patch.setattr(checkpoint, "sha256", crash)
        else:
            patch.setattr(Path, "rename", rename_until)
        with pytest.raises(Crash):
            save_model(second, folder, {})
    assert same(load_model(folder), first)
    assert standing(folder).name == ("x.previous" if moment == "second rename" else "x")

    save_model(second, folder, {})  # and the next one goes through
    assert same(load_model(folder), second)
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_replacing_keeps_the_old_when_the_block_fails(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    with replacing(folder) as new:
        (new / "step").write_text("1")
        (new / "inner").mkdir()
        (new / "inner" / "file").write_text("x")

    def fail() -> None:
        with replacing(folder) as new:
            (new / "step").write_text("2")
            assert (folder / "step").read_text() == "1"
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        fail()
    assert (folder / "step").read_text() == "1"
    assert (folder / "inner" / "file").read_text() == "x"
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


def test_what_killed_writers_left_does_not_stop_the_next(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    for number in ("1", "2"):
        for left in ("state.partial", "state.previous"):
            (tmp_path / left).mkdir()
            (tmp_path / left / "step").write_text("old")
        with replacing(folder) as new:
            (new / "step").write_text(number)
        assert (folder / "step").read_text() == number
        assert [path.name for path in tmp_path.iterdir()] == ["state"]
    (tmp_path / "state.partial").write_text("a file")
    (tmp_path / "state.previous").write_text("a file")
    with replacing(folder) as new:
        (new / "step").write_text("3")
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks /proc for the name of what is flushed")
def test_all_is_on_the_disk_before_a_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rename can reach the disk before the content of what was renamed, unless that is flushed first."""
    events: list[str] = []
    rename, fsync = Path.rename, os.fsync

    def renaming(self: Path, target: Path) -> Path:
        events.append(f"rename {self.name}")
        return rename(self, target)

    def flushing(handle: int) -> None:
        events.append(f"flush {Path(os.readlink(f'/proc/self/fd/{handle}')).name}")
        fsync(handle)

    monkeypatch.setattr(Path, "rename", renaming)
    monkeypatch.setattr(checkpoint.os, "fsync", flushing)
    for _ in range(2):
        events.clear()
        with replacing(tmp_path / "x") as new:
            (new / "inner").mkdir()
            (new / "inner" / "file").write_text("x")
    assert set(events[:3]) == {"flush inner", "flush file", "flush x.partial"}
    assert events[3:] == ["rename x", "rename x.partial", f"flush {tmp_path.name}"]


def test_a_link_that_leads_to_itself_and_a_name_too_long(tmp_path: Path) -> None:
    loop, long = tmp_path / "loop", tmp_path / ("a" * 300)
    loop.symlink_to("loop")
    model = Transformer(ModelConfig(width=8, layers=1, heads=2, context=16))
    for target in (loop, long):
        with pytest.raises(ValueError, match="cannot be written"):
            save_model(model, target)
        with pytest.raises((ValueError, FileNotFoundError), match=r"no such folder|cannot be read"):
            load_model(target)
    assert sorted(tmp_path.iterdir()) == [loop]


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="a file that fails when it is read")
@pytest.mark.parametrize("name", [CARD, CONFIG, WEIGHTS])
def test_a_file_that_cannot_be_read_is_named(name: str, tmp_path: Path) -> None:
    save_model(Transformer(ModelConfig(width=8, layers=1, heads=2, context=16)), tmp_path / "model")
    (tmp_path / "model" / name).unlink()
    (tmp_path / "model" / name).symlink_to("/proc/self/mem")
    with pytest.raises(ValueError, match="cannot be read"):
        load_model(tmp_path / "model")


def test_nested_json_is_damage(tmp_path: Path) -> None:
    save_model(Transformer(ModelConfig(width=8, layers=1, heads=2, context=16)), tmp_path / "model")
    (tmp_path / "model" / CARD).write_text("[" * 100_000)
    with pytest.raises(ValueError, match=r"card\.json is damaged"):
        load_model(tmp_path / "model")
