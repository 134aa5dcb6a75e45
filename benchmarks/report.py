"""Write benchmarks/RESULTS.md, and the table on the first screen of README.md, from stored results.

Both are made of results/*.json and the cards of the models in the package.

    python benchmarks/report.py            writes them
    python benchmarks/report.py --check    exits 1 if one of them is out of date
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

from cadmus_gym.reports.results import front, page

HERE = Path(__file__).resolve().parent
README = HERE.parent / "README.md"


@dataclass(frozen=True)
class Args:
    """Write the pages of results."""

    check: bool = False  # write nothing; exit 1 if a page is out of date


def main(args: Args) -> int:
    stale = False
    pages = {
        HERE / "RESULTS.md": page(HERE / "results"),
        README: front(README.read_text(encoding="utf-8"), HERE / "results"),
    }
    for path, text in pages.items():
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        stale = True
        if args.check:
            print(f"{path}: stale; run python benchmarks/report.py")
        else:
            path.write_text(text, encoding="utf-8")
            print(f"written to {path}")
    return int(args.check and stale)


if __name__ == "__main__":
    try:
        sys.exit(main(tyro.cli(Args, description=__doc__)))
    except (ValueError, OSError) as error:
        print(f"report.py: {error}", file=sys.stderr)
        sys.exit(2)
