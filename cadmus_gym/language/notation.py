"""The two text forms of a program: token text, one word per token, and the notation for people, one word per number."""

from __future__ import annotations

import difflib
import re
import sys
import warnings
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cadmus_gym.language import isa as op
from cadmus_gym.language.isa import ID, INSTRUCTIONS, VOCABULARY, Tokens

_NUMBER = re.compile(r"-?[0-9]+")
SHOWN = 12  # words of a text that a warning shows
_BETWEEN = ("cadmus_gym", "gymnasium", "torch")  # wrappers of environments, decorators


def as_tokens(program: str | ArrayLike) -> Tokens:
    """Return a program given as text or as token ids as a fresh (n,) uint8 array.

    Every public function reads programs this way, so text is in the notation for people, as in `assemble`. Warns if the
    text may have been meant as token text, where it is another program. Raises ValueError for an unknown word, an id
    outside 0..64, or an array that is not one-dimensional and of integers.
    """
    if isinstance(program, str):
        warning = ambiguity(program)
        if warning is not None:
            warnings.warn(warning, stacklevel=_caller())
        return assemble(program)
    tokens = np.asarray(program)
    if tokens.ndim != 1:
        raise ValueError(f"a program is one row of token ids, shape (n,); this has shape {tokens.shape}")
    return check_ids(tokens)


def check_ids(tokens: NDArray[Any]) -> Tokens:
    """Return token ids of any shape as a fresh C-contiguous uint8 array; raise ValueError for the first invalid one."""
    if tokens.size == 0:
        return np.zeros(tokens.shape, np.uint8)
    if tokens.dtype.kind not in "iu":
        hint = "; use assemble() for text" if tokens.dtype.kind == "U" else ""
        raise ValueError(f"token ids are integers 0..{len(VOCABULARY) - 1}; this array has dtype {tokens.dtype}{hint}")
    bad = (tokens < 0) | (tokens >= len(VOCABULARY))
    if bad.any():
        where = tuple(int(k) for k in np.argwhere(bad)[0])
        position = where[0] if len(where) == 1 else where
        last = len(VOCABULARY) - 1
        raise ValueError(f"token id {tokens[where]} at {position} is not a token; ids run from 0 to {last}")
    return np.array(tokens, dtype=np.uint8, order="C")


def bare(tokens: Tokens) -> Tokens:
    """Return a row of token ids (n,) without leading or trailing `<pad>` and without `<bos>`."""
    kept = np.flatnonzero(tokens != op.PAD)
    tokens = tokens[kept[0] : kept[-1] + 1] if kept.size else tokens[:0]
    return tokens[1:] if tokens[:1].tolist() == [op.BOS] else tokens


def encode(text: str) -> Tokens:
    """Return the ids, (n,) uint8, of token text: token names separated by white space, such as ``"1 2 , 7 add"``.

    This is the only function that reads token text; all others read text as `assemble` does. Raises ValueError for an
    unknown word, with its position and the nearest names.
    """
    words = text.split()
    for position, word in enumerate(words):
        if word not in ID:
            raise ValueError(_unknown(word, position, "encode"))
    return np.array([ID[word] for word in words], dtype=np.uint8)


def _unknown(word: str, position: int, where: str) -> str:
    if _NUMBER.fullmatch(word) and where == "encode":
        return (
            f"word {position}, {word!r}, is not a token: a token is one digit (`{' '.join(word)}`); "
            "assemble() reads numbers as one word"
        )
    near = difflib.get_close_matches(word, VOCABULARY, n=3)
    hint = f"similar: {', '.join(near)}" if near else "see cadmus_gym.VOCABULARY for the 65 names"
    return f"word {position}, {word!r}, is not a token; {hint}"


def decode(tokens: ArrayLike) -> str:
    """Return token ids (n,) as token text, one word per token; `encode` is its inverse."""
    return " ".join(VOCABULARY[token] for token in as_tokens(tokens))


class _Notation:
    """Decides where two numbers written as words have a `,` between their literals.

    In a body, this is only where their digits would run together; in the lists of a header, between any two numbers.
    Both directions of the notation use this class, so each inverts the other.
    """

    def __init__(self) -> None:
        self.in_header: bool | None = None
        self.last = ""

    def separates(self) -> bool:
        """Whether a number written next means `,` and a literal."""
        return bool(_NUMBER.fullmatch(self.last)) and (self.in_header is True or self.last[0] != "-")

    def push(self, word: str) -> None:
        if self.in_header is None and word != "<bos>":
            self.in_header = word in ID and INSTRUCTIONS[ID[word]].group == "header"
        if word == "do":
            self.in_header = False
        self.last = word


def assemble(text: str) -> Tokens:
    """Return the ids, (n,) uint8, of a program in the notation for people: a number is one word, ``-5`` is `5 neg`.

    ``assemble("12 7 add 19 eq end")`` is ``encode("1 2 , 7 add 1 9 eq end")``. Raises ValueError for an unknown word.
    """
    notation = _Notation()
    names: list[str] = []
    for position, word in enumerate(text.split()):
        if _NUMBER.fullmatch(word):
            if notation.separates():
                names.append(",")
            names += word.lstrip("-")
            if word[0] == "-":
                names.append("neg")
        elif word in ID:
            names.append(word)
        else:
            raise ValueError(_unknown(word, position, "assemble"))
        notation.push(word)
    return np.array([ID[name] for name in names], dtype=np.uint8)


def disassemble(tokens: ArrayLike) -> str:
    """Return a program in the notation for people, one word per number; `assemble` is its inverse."""
    names = [VOCABULARY[token] for token in as_tokens(tokens)]
    notation = _Notation()
    words: list[str] = []
    position = 0
    while position < len(names):
        start = position
        if names[start] == "," and notation.separates():
            start += 1  # assemble() inserts this `,` if a literal follows
        stop = start
        while stop < len(names) and names[stop].isdecimal():
            stop += 1
        if stop == start:
            word, stop = names[position], position + 1
        else:
            word = "".join(names[start:stop])
            if names[stop : stop + 1] == ["neg"]:
                # In a header, assemble() puts a `,` after -5; if there is none here, the sign stays a word of its own.
                following = names[stop + 1 : stop + 2]
                if not (notation.in_header and following and following[0].isdecimal()):
                    word, stop = f"-{word}", stop + 1
        notation.push(word)
        words.append(word)
        position = stop
    return " ".join(words)


def ambiguity(text: str) -> str | None:
    """Return a warning with both readings of a text that may have been meant as token text, or None.

    A text is ambiguous if every word is a token, two digits are adjacent (two numbers to people, one as token text),
    and there is a `,`, which people rarely need. ``"5 5 sub"`` has no `,`, so it is not.
    """
    words = text.split()
    if "," not in words or not all(word in ID for word in words):
        return None
    first = next((k for k, pair in enumerate(pairwise(words)) if "".join(pair).isdecimal()), None)
    if first is None:  # both readings have the same tokens
        return None
    part = words if len(words) <= SHOWN else words[first : first + SHOWN]
    shown = " ".join(part)
    return (
        f"`{shown}`{'' if part is words else f' (from word {first})'} is read as `{disassemble(assemble(shown))}`, one "
        f"word per number; as token text, which only cadmus_gym.encode reads, it is `{disassemble(encode(shown))}`"
    )


def _caller() -> int:
    """Return the stacklevel, as seen by the caller, of the first frame outside the package and wrapping libraries."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _BETWEEN:
        level, frame = level + 1, frame.f_back
    return level


def within_ids(tokens: NDArray[np.uint8]) -> bool:
    return tokens.size == 0 or int(tokens.max()) < len(VOCABULARY)
