r"""A Hugging Face tokenizer for the vocabulary: two JSON files that `tokenizers` and `transformers` load.

``AutoTokenizer`` needs neither this package nor remote code. Texts are in the notation for people. Like
`cadmus_gym.assemble`, the normalizer writes a `,` between two numbers and `neg` after a negative one; like
`cadmus_gym.disassemble`, the decoder removes both. For a model that reads the lowest digit first, both reverse every
number.

Everything is done by regular expressions whose matches are replaced by a fixed text. The syntax is Oniguruma's: a match
begins at `\K`, `\G` is the end of the last match, `\g<name>` matches a group again, even within itself.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from cadmus_gym.language import isa as op
from cadmus_gym.language.forms import ENDIANS
from cadmus_gym.language.isa import ID, INSTRUCTIONS, VOCABULARY

TOKENIZER, CONFIG = "tokenizer.json", "tokenizer_config.json"
DIGITS = 32  # the longest number that is reversed; an int64 has 19 digits

# Matches within a header, where a `,` separates numbers even after a negative one.
_HEADER = "|".join(x.name for x in INSTRUCTIONS if x.group == "header" and x.name != "do")
_IN_HEADER = rf"(?:\A ?(?:<bos> )?(?=(?:{_HEADER})(?!\S))|(?!\A)\G)(?:(?!(?<!\S)do(?!\S)).)*?(?<!\S)"


def write_tokenizer(folder: str | os.PathLike[str], endian: str) -> list[Path]:
    """Write `tokenizer.json` and `tokenizer_config.json` to a folder, such as a model's; return their paths.

    ``transformers.AutoTokenizer.from_pretrained(folder)`` then encodes and decodes like `Transformer.encode` and
    `Transformer.decode` of a model of this ``endian``. Batches are padded on the left, for ``generate``. Unlike those
    two it accepts every text: an unknown word, or a number of more than `DIGITS` digits, becomes ``<pad>``.

    Raises ValueError for an unknown endian.
    """
    check_endian(endian, "write_tokenizer")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in ((TOKENIZER, _tokenizer(endian)), (CONFIG, _config())):
        (folder / name).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return [folder / TOKENIZER, folder / CONFIG]


def check_endian(endian: object, where: object) -> None:
    """Raise ValueError, beginning with ``where``, unless this is an order of digits."""
    if not isinstance(endian, str) or endian not in ENDIANS:
        raise ValueError(f"{where}: endian = {endian!r}; allowed: {', '.join(ENDIANS)}")


def endian_of(folder: str | os.PathLike[str], given: str | None = None) -> str:
    """Return the order in which the model of a folder reads digits: that of its card or config, or else the given one.

    Raises ValueError if none of them has it, if two disagree, and for an unknown order.
    """
    said = {"the argument": given} if given is not None else {}
    for name in ("card.json", "config.json"):
        path = Path(folder) / name
        try:
            content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path} is damaged: {error}") from None
        if isinstance(content, dict) and "endian" in content:
            said[str(path)] = content["endian"]
    for where, endian in said.items():
        check_endian(endian, where)
    if not said:
        raise ValueError(
            f"{folder} does not say in which order its model reads digits; give endian: 'little' if it was trained "
            "with the lowest digit first, else 'big'"
        )
    (first, endian), *others = said.items()
    for where, other in others:
        if other != endian:
            raise ValueError(f"{first}: endian = {endian!r}, but {where} has {other!r}")
    return endian


def _config() -> dict[str, Any]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": VOCABULARY[op.BOS],
        "eos_token": VOCABULARY[op.END],
        "pad_token": VOCABULARY[op.PAD],
        "unk_token": VOCABULARY[op.PAD],
        "padding_side": "left",
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],
    }


def _tokenizer(endian: str) -> dict[str, Any]:
    flags = {"single_word": True, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    added = [{"id": id, "content": VOCABULARY[id], **flags} for id in (op.PAD, op.BOS, op.END)]
    reverse = _reversing() if endian == "little" else []
    number = rf"-?[0-9]{{1,{DIGITS}}}(?!\S)"
    normalizers = [
        _replace(r"\s+", " "),
        _replace(rf"(?<!\S)(?!{number})\S*[-_|0-9]\S*", "?"),  # an unknown word, in one piece
        _replace(_IN_HEADER + r"-[0-9]+\K (?=-?[0-9])", " , "),
        _replace(r"(?<!\S)[0-9]+\K (?=-?[0-9])", " , "),
        _replace(r"-[0-9]+\K", " neg"),
        _replace("-", ""),
        *reverse,
    ]
    digits = {"type": "Digits", "individual_digits": True}
    decoders = [
        _replace(r"\z", " "),  # one text, with a space between two names
        {"type": "Fuse"},
        _replace(r" \z", ""),
        _replace(r"[0-9]\K (?=[0-9])", ""),
        *reverse,
        _replace(r"(?<!\S)(?=[0-9]+ neg(?!\S))", "-"),
        _replace(_IN_HEADER + r"\K-(?=[0-9]+ neg -?[0-9])", ""),  # else -5 would be given a `,` when it is read
        _replace(r"-[0-9]+\K neg", ""),
        _replace(_IN_HEADER + r"-?[0-9]+\K ,(?= -?[0-9])", ""),
        _replace(r"(?<!\S)[0-9]+\K ,(?= -?[0-9])", ""),
    ]
    bos, text = {"SpecialToken": {"id": VOCABULARY[op.BOS], "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {"type": "Sequence", "normalizers": normalizers},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, digits]},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [bos, text],
            "pair": [bos, text, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {
                VOCABULARY[op.BOS]: {"id": VOCABULARY[op.BOS], "ids": [op.BOS], "tokens": [VOCABULARY[op.BOS]]}
            },
        },
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": {"type": "WordLevel", "vocab": ID, "unk_token": VOCABULARY[op.PAD]},
    }


def _reversing() -> list[dict[str, Any]]:
    """Return the replacements that reverse each number: 123 becomes ...___|123, then ...321|123, then 321.

    The place that is k places before the bar gets the digit that is k places after it.
    """
    places = _replace(rf"(?<![0-9])(?=[0-9]{{2,{DIGITS}}}(?![0-9]))", DIGITS * "_" + "|")
    mirrored = r"_(?=(?<between>\||[_0-9]\g<between>[0-9])%d)"
    return [places, *(_replace(mirrored % digit, str(digit)) for digit in range(10)), _replace(r"_+|\|[0-9]+", "")]


def _replace(pattern: str, content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": {"Regex": pattern}, "content": content}
