"""Rendering of episodes, as text and as a picture (which needs Pillow)."""

from __future__ import annotations

import functools
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from cadmus_gym.environments.episodes import Episodes
from cadmus_gym.language.cases import cases_of, table_of
from cadmus_gym.language.isa import INSTRUCTIONS
from cadmus_gym.language.machine import standing
from cadmus_gym.language.notation import disassemble, encode
from cadmus_gym.language.verdicts import Verdict

WIDTH, HEIGHT, MARGIN = 960, 400, 28
PAPER, INK, FAINT = (250, 249, 246), (32, 34, 38), (134, 138, 146)
GOOD, BAD, OPEN = (24, 128, 72), (190, 48, 40), (72, 92, 150)
_COLOURS = {
    "digit": (214, 228, 250),
    "arithmetic": (253, 224, 190),
    "comparison": (250, 208, 214),
    "logic": (236, 214, 246),
    "stack": (208, 238, 220),
    "register": (205, 238, 240),
    "control": (246, 236, 180),
    "function": (246, 236, 180),
}
_PLAIN = (232, 231, 227)


OPEN_ENDED, ILLEGAL = "...", "ILLEGAL TOKEN"


def _verdict(episodes: Episodes, row: int) -> tuple[str, bool]:
    """The verdict to show for an episode, and whether it is a success."""
    if not episodes.over[row] or episodes.seeds[row] < 0:
        return OPEN_ENDED, False
    info = episodes.end_info(row)
    name = ILLEGAL if info["illegal"] else Verdict(info["verdict"]).name
    return name, info["is_success"]


def text(episodes: Episodes, row: int) -> str:
    """Lines with the program, the stack after it or the table of its cases, and the verdict, on hidden cases too."""
    program, verdict = episodes.program(row), _verdict(episodes, row)[0]
    ended = verdict not in (OPEN_ENDED, ILLEGAL)
    lines = [f"program  {disassemble(program)}"]
    if ended and len(cases_of(program)) > 1:
        lines += table_of(program)
    else:
        lines += [f"stack    {' '.join(map(str, standing(program))) or '(empty)'}"]
    lines += [f"verdict  {verdict}"]
    info = episodes.end_info(row)
    if ended and info["hidden_cases"]:
        lines += [f"hidden   {'TRUE' if info['hidden'] else 'FALSE'} on {info['hidden_cases']} hidden cases"]
    if ended and info["idle_use"]:
        lines += ["use      met by idle words only"]
    return "\n".join(lines)


def frame(episodes: Episodes, row: int) -> NDArray[np.uint8]:
    """A picture (400, 960, 3) uint8 of the program, the stack and the verdict."""
    try:
        from PIL import Image, ImageDraw
    except ImportError as error:
        raise gymnasium.error.DependencyNotInstalled("rgb_array needs Pillow: pip install '.[render]'") from error
    image = Image.new("RGB", (WIDTH, HEIGHT), PAPER)
    draw = ImageDraw.Draw(image)
    program = episodes.program(row)

    draw.text((MARGIN, 18), "program", fill=FAINT, font=_font(15))
    words = disassemble(program).split()
    size = 22 if len(words) <= 40 else 15
    x, y, line = MARGIN, 44, size + 18
    rows_free = (HEIGHT - 150 - y) // line
    for word in words:
        width = int(draw.textlength(word, font=_font(size))) + 16
        if x + width > WIDTH - MARGIN:
            x, y = MARGIN, y + line
        if y >= 44 + rows_free * line:
            draw.text((WIDTH - MARGIN - 20, y - line + 2), "…", fill=INK, font=_font(size))
            break
        draw.rounded_rectangle((x, y, x + width, y + line - 8), 6, fill=_colour(word))
        draw.text((x + 8, y + (line - 8) / 2), word, fill=INK, font=_font(size), anchor="lm")
        x += width + 6

    top = HEIGHT - 130
    draw.line((MARGIN, top, WIDTH - MARGIN, top), fill=_PLAIN, width=2)
    draw.text((MARGIN, top + 12), "stack, top at the right", fill=FAINT, font=_font(15))
    values = standing(program)
    shown = [str(value) for value in values[-8:]]
    x = MARGIN
    for value in (["…"] if len(values) > 8 else []) + shown or ["empty"]:
        width = int(draw.textlength(value, font=_font(22))) + 24
        if values:
            draw.rectangle((x, top + 40, x + width, top + 78), outline=FAINT, width=2)
        draw.text((x + width / 2, top + 59), value, fill=INK if values else FAINT, font=_font(22), anchor="mm")
        x += width - 2 + 4
    name, good = _verdict(episodes, row)
    colour = GOOD if good else BAD if episodes.over[row] else OPEN
    draw.text((WIDTH - MARGIN, top + 12), "verdict", fill=FAINT, font=_font(15), anchor="ra")
    draw.text((WIDTH - MARGIN, top + 59), name, fill=colour, font=_font(30), anchor="rm")
    return np.asarray(image, dtype=np.uint8).copy()


@functools.cache
def _font(size: int) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size)


def _colour(word: str) -> tuple[int, int, int]:
    number = word.lstrip("-").isdecimal()
    return _COLOURS.get("digit" if number else INSTRUCTIONS[int(encode(word)[0])].group, _PLAIN)
