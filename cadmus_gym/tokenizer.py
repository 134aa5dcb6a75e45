"""The vocabulary as a tokenizer of Hugging Face: two files of JSON, which `tokenizers` and `transformers` load."""

from __future__ import annotations

import json
import os
from pathlib import Path

from cadmus_gym.isa import BOS, END, ID, PAD, VOCABULARY

TOKENIZER, CONFIG = "tokenizer.json", "tokenizer_config.json"


def write_tokenizer(folder: str | os.PathLike[str]) -> list[Path]:
    """Write `tokenizer.json` and `tokenizer_config.json` to a folder, such as a model's; return their paths.

    ``transformers.PreTrainedTokenizerFast.from_pretrained(folder)`` gives to a text the ids of `cadmus_gym.encode`, and
    to ids the text of `cadmus_gym.decode`. It adds no `<bos>`, and refuses a word that is no token.
    """
    flags = {"single_word": True, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    added = [{"id": id, "content": VOCABULARY[id], **flags} for id in (PAD, BOS, END)]
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": None,
        "decoder": None,  # names with a space between them
        "model": {"type": "WordLevel", "vocab": ID, "unk_token": "<unknown>"},  # which is none: an error, no id
    }
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": VOCABULARY[BOS],
        "eos_token": VOCABULARY[END],
        "pad_token": VOCABULARY[PAD],
        "padding_side": "right",
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],
    }
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in ((TOKENIZER, tokenizer), (CONFIG, config)):
        (folder / name).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return [folder / TOKENIZER, folder / CONFIG]
