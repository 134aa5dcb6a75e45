"""The vocabulary in Hugging Face's form: the same ids and texts as ours."""

from __future__ import annotations

from pathlib import Path

import pytest

import cadmus_gym as cg
from cadmus_gym.__main__ import main
from cadmus_gym.isa import BOS, END, PAD
from cadmus_gym.tokenizer import write_tokenizer

TEXTS = [
    "1 2 , 7 add ( 3 neg ) 1 9 eq end",
    "<bos> case 3 to 9 do 3 mul end <pad> <pad>",
    " ".join(cg.VOCABULARY),
    "",
]


def test_tokenizers_agrees(tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    write_tokenizer(tmp_path)
    tokenizer = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert tokenizer.get_vocab_size() == len(cg.VOCABULARY)
    for text in TEXTS:
        ids = cg.encode(text).tolist()
        assert tokenizer.encode(text).ids == ids
        assert tokenizer.decode(ids, skip_special_tokens=False) == cg.decode(ids) == text
    for word in ("foo", "bend", "ended", "12", "a"):
        with pytest.raises(Exception, match="UNK"):
            tokenizer.encode(f"1 {word} add")


def test_transformers_agrees(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    transformers = pytest.importorskip("transformers")
    assert main(["tokenizer", str(tmp_path / "new")]) == 0
    assert [Path(line).name for line in capsys.readouterr().out.split()] == ["tokenizer.json", "tokenizer_config.json"]
    tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(tmp_path / "new")
    assert (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id) == (PAD, BOS, END)
    assert tokenizer.convert_ids_to_tokens(list(range(len(tokenizer)))) == list(cg.VOCABULARY)
    for text in TEXTS:
        ids = cg.encode(text).tolist()
        assert tokenizer(text).input_ids == ids
        assert tokenizer.decode(ids) == text
    programs, _ = cg.Stream("Cadmus-Arith-v0").batch(0, 50)
    texts = [cg.decode(program[program > 0]) for program in programs]
    padded = tokenizer(texts, padding="max_length", max_length=programs.shape[1]).input_ids
    assert padded == programs.tolist()
