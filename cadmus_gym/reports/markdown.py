"""Markdown tables, and text with a generated block between two markers."""

from __future__ import annotations


def inserted(text: str, marker: str, block: str) -> str:
    """Return a text with the block between its two markers replaced."""
    parts = text.split(marker)
    if len(parts) != 3:
        raise ValueError(f"the marker {marker} stands {len(parts) - 1} times in it; give a file with two of them")
    before, _, behind = parts
    return f"{before}{marker}\n\n{block}\n\n{marker}{behind}"


def markdown(columns: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
