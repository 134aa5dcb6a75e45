"""Markdown tables, and text with a generated block between two markers."""

from __future__ import annotations


def inserted(text: str, marker: str, block: str) -> str:
    """Return a text with the block between its two markers replaced.

    Raises ValueError unless the marker occurs exactly twice.
    """
    parts = text.split(marker)
    if len(parts) != 3:
        raise ValueError(f"the marker {marker} occurs {len(parts) - 1} times; give a file in which it occurs twice")
    before, _, after = parts
    return f"{before}{marker}\n\n{block}\n\n{marker}{after}"


def markdown(columns: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
