"""Checkpoints load as they were saved, here and in transformers; damage is detected."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from support.checkpoints import SMALL, model_of, same

import cadmus_gym as cg
from cadmus_gym.language import isa as op
from cadmus_gym.language.forms import ENDIANS, reverse_digits
from cadmus_gym.training.record import extended, unpack
from cadmus_gym.transformer import checkpoint, model_files
from cadmus_gym.transformer.checkpoint import (
    CARD,
    CONFIG,
    RECORD,
    WEIGHTS,
    WRITTEN,
    load_model,
    save_model,
    write_card,
)
from cadmus_gym.transformer.model import ModelConfig, with_bos

CONFIGS = {
    "tied": SMALL,
    "untied": replace(SMALL, tied=False),
    "grouped": replace(SMALL, key_value_heads=2),
    "one group, untied": replace(SMALL, key_value_heads=1, tied=False),
}


TOKENS = torch.randint(65, (3, 20), generator=torch.Generator().manual_seed(0))


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
def test_transformers_loads_a_saved_folder(tmp_path: Path, config: ModelConfig) -> None:
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
    # And back: the config still has the order of digits; the card is lost.
    theirs.save_pretrained(tmp_path / "y")
    again = load_model(tmp_path / "y")
    assert same(again, model)
    assert (again.endian, again.card) == ("little", {})


@pytest.mark.filterwarnings("ignore")  # of transformers
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_folder_saved_by_transformers_needs_an_endian(tmp_path: Path, dtype: torch.dtype) -> None:
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


def test_load_model_ignores_weights_that_transformers_adds(tmp_path: Path) -> None:
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
    with pytest.raises(
        ValueError, match=r"lm_head\.weight differs from model\.embed_tokens\.weight, but config\.json ties"
    ):
        load_model(folder)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("model.safetensors.index.json", "in several files: save_pretrained"),
        ("adapter_config.json", "an adapter: merge_and_unload"),
        ("pytorch_model.bin", r"pytorch_model\.bin is pickled, which is not read"),
    ],
)
def test_error_explains_weights_in_other_formats(tmp_path: Path, name: str, message: str) -> None:
    save_model(model_of(), tmp_path, {})
    (tmp_path / WEIGHTS).rename(tmp_path / name)
    with pytest.raises(FileNotFoundError, match=message):
        load_model(tmp_path)


@pytest.mark.filterwarnings("ignore")  # of transformers
@pytest.mark.parametrize("name", checkpoint.packaged_models())
def test_packaged_model_answers_correctly_in_transformers(name: str) -> None:
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


def test_save_model_keeps_the_card_of_the_model(tmp_path: Path) -> None:
    model = model_of()
    model.endian, model.card = "little", {"seed": 3}
    save_model(model, tmp_path / "x")
    again = load_model(tmp_path / "x")
    save_model(again, tmp_path / "y")
    for folder in ("x", "y"):
        loaded = load_model(tmp_path / folder)
        assert (loaded.endian, loaded.card["seed"]) == ("little", 3)


def stored(folder: Path) -> tuple[str, str]:
    """Return the type of the stored weights, and the one that the config names."""
    return (json.loads((folder / CARD).read_text())["stored"], json.loads((folder / CONFIG).read_text())["dtype"])


def test_dtype_of_saved_and_loaded_weights(tmp_path: Path) -> None:
    save_model(model_of().to(torch.bfloat16), tmp_path / "x", {})
    assert stored(tmp_path / "x") == ("bfloat16", "float32")
    assert load_model(tmp_path / "x").embed_tokens.weight.dtype == torch.float32
    loaded = load_model(str(tmp_path / "x"), dtype=torch.bfloat16)
    assert loaded(TOKENS).dtype == torch.bfloat16
    assert same(loaded, model_of().to(torch.bfloat16))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_may_be_stored_in_another_dtype(tmp_path: Path, dtype: torch.dtype) -> None:
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


def test_write_card_keeps_the_model_and_save_model_drops_the_readme(tmp_path: Path) -> None:
    folder = tmp_path / "x"
    save_model(model_of(), folder, {"seed": 3})
    before = (folder / WEIGHTS).read_bytes()
    write_card(folder, {"seed": 4, "sha256": {}})
    assert load_model(folder).card["seed"] == 4
    assert (folder / WEIGHTS).read_bytes() == before
    assert {path.name for path in folder.iterdir()} == set(WRITTEN)
    with pytest.raises(ValueError, match="the card cannot be written as JSON"):
        write_card(folder, {"seed": float("nan")})
    assert load_model(folder).card["seed"] == 4
    (folder / "README.md").write_text("of seed 4")
    save_model(model_of(), folder, {"seed": 5})
    assert {path.name for path in folder.iterdir()} == set(WRITTEN)


def test_a_record_is_saved_and_loaded_with_its_model(tmp_path: Path) -> None:
    """From folder to folder, whatever the type of weights; and no model gets the record of another."""
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


def test_flipped_bit_is_detected(tmp_path: Path) -> None:
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


def test_damage_is_detected_without_checksums(tmp_path: Path) -> None:
    """A card written by hand has no checksums; truncated and invalid files are still detected."""
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
    with pytest.raises(ValueError, match=r"card\.json is damaged: it holds a list, not an object"):
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
        ({"num_hidden_layers": 1}, r"model\.layers\.1\.\S+ is not part of the model according to config\.json"),
        ({"num_hidden_layers": 3}, r"model\.layers\.2\.\S+ is missing according to config\.json"),
        ({"tie_word_embeddings": False}, r"lm_head\.weight is missing"),
        (
            {"intermediate_size": 40},
            r"model\.layers\.0\.mlp\.\S+ has shape \(.*48.*\); allowed by config\.json: \(.*40.*\)",
        ),
        ({"num_key_value_heads": 2}, r"k_proj\.weight has shape \(32, 32\); allowed by config.json: \(16, 32\)"),
    ],
)
def test_config_of_another_model_is_rejected(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    folder = tmp_path / "x"
    save_model(model_of(), folder, {})
    config = json.loads((folder / CONFIG).read_text()) | changes
    (folder / CONFIG).write_text(json.dumps(config))
    (folder / CARD).write_text("{}")
    with pytest.raises(ValueError, match=message):
        load_model(folder)


def test_error_names_missing_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
        ({"seed": np.int64(3)}, "the card cannot be written as JSON: .*int64"),
        ({"loss": float("nan")}, "the card cannot be written as JSON"),
        ({"endian": "middle"}, "endian = 'middle'; allowed: big, little"),
    ):
        with pytest.raises(ValueError, match=message):
            save_model(model_of(), tmp_path / "x", card)
    assert not list(tmp_path.iterdir())


def test_a_path_means_the_folder_and_a_name_the_packaged_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_model(model_of(), "nano", {"seed": 11})
    for folder in (Path("nano"), "./nano", str(tmp_path / "nano")):
        assert load_model(folder).card["seed"] == 11
    assert load_model("nano").card != load_model(Path("nano")).card
    with pytest.raises(FileNotFoundError, match="no model 'nano-arith'"):
        load_model(Path("nano-arith"))
