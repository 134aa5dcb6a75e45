"""A checkpoint is written whole or not at all, loads elsewhere, and refuses what is damaged."""

import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from cadmus_gym import checkpoint, model_files
from cadmus_gym.checkpoint import CARD, CONFIG, WEIGHTS, load_model, replacing, save_model, standing, write_card
from cadmus_gym.model import ModelConfig, Transformer

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
    assert names == {WEIGHTS, CONFIG, CARD}
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["x"]


@pytest.mark.filterwarnings("ignore")  # of transformers
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_transformers_loads_the_folder_as_it_is(tmp_path: Path, config: ModelConfig) -> None:
    transformers = pytest.importorskip("transformers")
    model = model_of(config)
    save_model(model, tmp_path / "x", {})
    assert ("lm_head.weight" in safetensors.torch.load_file(tmp_path / "x" / WEIGHTS)) is not config.tied
    theirs, report = transformers.LlamaForCausalLM.from_pretrained(tmp_path / "x", output_loading_info=True)
    assert not any(report.values())
    assert theirs.config.tie_word_embeddings is config.tied
    assert (theirs.config.bos_token_id, theirs.config.eos_token_id, theirs.config.pad_token_id) == (1, 2, 0)
    with torch.no_grad():
        torch.testing.assert_close(theirs(TOKENS).logits, model(TOKENS), atol=1e-4, rtol=0)
    # And back: what transformers writes is read, once a card says what it is.
    theirs.save_pretrained(tmp_path / "y")
    with pytest.raises(FileNotFoundError, match=r"card\.json is missing"):
        load_model(tmp_path / "y")
    (tmp_path / "y" / CARD).write_text("{}")
    assert same(load_model(tmp_path / "y"), model)


def test_the_model_s_own_card_is_kept(tmp_path: Path) -> None:
    model = model_of()
    model.endian, model.card = "little", {"seed": 3}
    save_model(model, tmp_path / "x")
    again = load_model(tmp_path / "x")
    save_model(again, tmp_path / "y")
    for folder in ("x", "y"):
        loaded = load_model(tmp_path / folder)
        assert (loaded.endian, loaded.card["seed"]) == ("little", 3)


def test_types(tmp_path: Path) -> None:
    save_model(model_of().to(torch.bfloat16), tmp_path / "x", {})
    assert json.loads((tmp_path / "x" / CONFIG).read_text())["dtype"] == "bfloat16"
    assert load_model(tmp_path / "x").embed_tokens.weight.dtype == torch.float32
    loaded = load_model(str(tmp_path / "x"), dtype=torch.bfloat16)
    assert loaded(TOKENS).dtype == torch.bfloat16
    assert same(loaded, model_of().to(torch.bfloat16))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_are_stored_in_another_type(tmp_path: Path, dtype: torch.dtype) -> None:
    model = model_of()
    save_model(model, tmp_path / "x", {}, dtype)
    assert model.embed_tokens.weight.dtype == torch.float32
    stored = safetensors.torch.load_file(tmp_path / "x" / WEIGHTS)
    assert {tensor.dtype for tensor in stored.values()} == {dtype}
    assert json.loads((tmp_path / "x" / CONFIG).read_text())["dtype"] == str(dtype).removeprefix("torch.")
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
    assert {path.name for path in folder.iterdir()} == {WEIGHTS, CONFIG, CARD}
    with pytest.raises(ValueError, match="the card is no JSON"):
        write_card(folder, {"seed": float("nan")})
    assert load_model(folder).card["seed"] == 4
    (folder / "README.md").write_text("of seed 4")
    save_model(model_of(), folder, {"seed": 5})
    assert {path.name for path in folder.iterdir()} == {WEIGHTS, CONFIG, CARD}


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
    load_model(folder)
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
    for name in (WEIGHTS, CONFIG, CARD):
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


def test_a_folder_with_other_files_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "events.out").write_text("precious")
    with pytest.raises(ValueError, match=r"holds events\.out, and a model's folder is replaced whole"):
        save_model(model_of(), tmp_path, {})
    with pytest.raises(ValueError, match=r"holds events\.out"):
        save_model(model_of(), tmp_path / "events.out", {})
    assert (tmp_path / "events.out").read_text() == "precious"


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
