"""The Hugging Face tokenizer: AutoTokenizer gives the ids and texts of a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import cadmus_gym as cg
from cadmus_gym.__main__ import main
from cadmus_gym.language import isa as op
from cadmus_gym.language.forms import ENDIANS
from cadmus_gym.language.isa import ID, INSTRUCTIONS
from cadmus_gym.transformer.model import ModelConfig, Transformer
from cadmus_gym.transformer.tokenizer import DIGITS, write_tokenizer

TEXTS = [
    "12 7 add ( -3 ) 19 eq end",
    "<bos> case 3 -5 7 to -9 -10 do 3 -5 7 mul end <pad> <pad>",
    "case 1 -23 45",
    "do -1 23 -45 67",
    " 007\t12345678901234567890 \n neg neg 5 neg",
    "",
]


def of(endian: str) -> Transformer:
    model = Transformer(ModelConfig(width=8, layers=1, heads=1, hidden=8, context=8))
    model.endian = endian
    return model


@pytest.fixture(scope="module", params=ENDIANS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Transformer]:
    """A tokenizer, and a model with the same order of digits."""
    tokenizers = pytest.importorskip("tokenizers")
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder, request.param)
    return tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json")), of(request.param)


def test_a_text_by_hand(pair: tuple[Any, Transformer]) -> None:
    tokenizer, model = pair
    little = model.endian == "little"
    written = "<bos> case 2 1 , 5 neg , 7 to 0 1 do" if little else "<bos> case 1 2 , 5 neg , 7 to 1 0 do"
    ids = cg.encode(written).tolist()
    text = "case 12 -5 7 to 10 do"
    assert tokenizer.encode(text).ids == model.encode(text).tolist() == ids
    assert tokenizer.decode(ids) == model.decode(ids) == text


def test_every_token_is_one_token(pair: tuple[Any, Transformer]) -> None:
    tokenizer, _ = pair
    assert tokenizer.get_vocab_size() == len(cg.VOCABULARY)
    for id, name in enumerate(cg.VOCABULARY):
        assert tokenizer.encode(name).ids == [op.BOS, id]
        assert tokenizer.decode([id], skip_special_tokens=False) == name


@pytest.mark.parametrize("text", TEXTS)
def test_tokenizer_equals_transformer_encode(pair: tuple[Any, Transformer], text: str) -> None:
    tokenizer, model = pair
    program = text.removeprefix("<bos> ")
    ids = tokenizer.encode(program).ids
    assert ids == model.encode(program).tolist()
    assert tokenizer.decode(ids[1:], skip_special_tokens=False) == cg.disassemble(cg.assemble(program))


numbers = st.integers(-(10**9), 10**9).map(str)
names = st.sampled_from([x.name for x in INSTRUCTIONS if x.id not in (op.PAD, op.BOS, op.END) and x.group != "digit"])
headers = st.sampled_from([x.name for x in INSTRUCTIONS if x.group == "header"])
words = st.lists(numbers | numbers | names | headers | st.sampled_from([",", "neg"]), max_size=20)


@given(st.just([]) | headers.map(lambda name: [name]), words)
def test_any_text(pair: tuple[Any, Transformer], first: list[str], rest: list[str]) -> None:
    tokenizer, model = pair
    text = " ".join(first + rest)
    assert tokenizer.encode(text).ids == model.encode(text).tolist()


digits = st.integers(ID["0"], ID["9"])
anything = (
    digits | digits | st.sampled_from([ID[","], ID["neg"], ID["do"]]) | st.integers(op.END, len(cg.VOCABULARY) - 1)
)


@given(st.sampled_from([[], [ID["case"]], [ID["do"]]]), st.lists(anything, max_size=DIGITS))
def test_any_ids(pair: tuple[Any, Transformer], first: list[int], rest: list[int]) -> None:
    tokenizer, model = pair
    assert tokenizer.decode(first + rest, skip_special_tokens=False) == model.decode(first + rest)


def test_an_unknown_word_is_padding(pair: tuple[Any, Transformer]) -> None:
    """Libraries test a tokenizer with English words, so these must not raise."""
    tokenizer, model = pair
    for word in ("a", "Hello", "bend", "ended", "12add", "--5", "-", "_", "1|2", "9" * (DIGITS + 1)):
        assert tokenizer.encode(f"1 {word} add").ids == [op.BOS, ID["1"], op.PAD, ID["add"]]
    with pytest.raises(ValueError, match=r"'a', is no(t a)? token"):
        model.encode("1 a add")


def test_a_model_encodes_and_decodes() -> None:
    model = of("little")
    tokens = model.encode("12 7 add")
    assert (tokens.dtype, tokens.shape) == (torch.int64, (6,))
    assert model(tokens[None]).shape == (1, 6, len(cg.VOCABULARY))
    assert model.encode("").tolist() == [op.BOS]
    assert model.decode([op.PAD, op.PAD, *tokens.tolist(), ID["end"], op.PAD]) == "12 7 add end"
    assert model.decode(tokens[1:].numpy()) == "12 7 add"
    assert model.decode([op.PAD]) == model.decode([]) == ""
    with pytest.raises(ValueError, match="starts with <bos>"):
        model.encode("<bos> 12")
    with pytest.raises(ValueError, match="one row of token ids"):
        model.decode(tokens[None])


@pytest.mark.filterwarnings("ignore")  # of transformers
@pytest.mark.parametrize("endian", ENDIANS)
def test_logits_equal_those_of_transformers(tmp_path: Path, capsys: pytest.CaptureFixture[str], endian: str) -> None:
    transformers = pytest.importorskip("transformers")
    assert main(["tokenizer", str(tmp_path / "new"), "--endian", endian]) == 0
    assert [Path(line).name for line in capsys.readouterr().out.split()] == ["tokenizer.json", "tokenizer_config.json"]
    model = of(endian)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "new")
    assert (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id) == (op.PAD, op.BOS, op.END)
    assert tokenizer.convert_ids_to_tokens(list(range(len(tokenizer)))) == list(cg.VOCABULARY)
    tokenizer.save_pretrained(tmp_path / "again")
    for one in (tokenizer, transformers.AutoTokenizer.from_pretrained(tmp_path / "again")):
        for text in TEXTS:
            program = text.removeprefix("<bos> ")
            assert one(program).input_ids == model.encode(program).tolist()
            assert one.decode(model.encode(program)[1:]) == cg.disassemble(cg.assemble(program))
        padded = one(["12", "7 add 8"], padding=True)
        assert padded.input_ids[0] == [op.PAD, *model.encode("12").tolist()]
        assert padded.attention_mask[0] == [0, 1, 1, 1]


def test_endian_of_the_model_or_the_argument(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tokenizer", str(tmp_path)]) == 2
    assert "does not say in which order its model reads digits; give endian" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="endian = 'middle'; allowed: big, little"):
        write_tokenizer(tmp_path, "middle")
    model = of("little")
    cg.save_model(model, tmp_path / "x", {})
    ours = (tmp_path / "x" / "tokenizer.json").read_bytes()
    (tmp_path / "x" / "tokenizer.json").unlink()
    assert main(["tokenizer", str(tmp_path / "x")]) == 0
    assert (tmp_path / "x" / "tokenizer.json").read_bytes() == ours
    assert main(["tokenizer", str(tmp_path / "x"), "--endian", "big"]) == 2
    assert "endian = 'big', but" in capsys.readouterr().err
    (tmp_path / "x" / "card.json").write_text("{")
    assert main(["tokenizer", str(tmp_path / "x")]) == 2
    assert "card.json is damaged" in capsys.readouterr().err
