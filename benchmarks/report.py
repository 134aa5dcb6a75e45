"""The pages of results: benchmarks/RESULTS.md, and the table on the first screen of README.md.

python benchmarks/report.py            writes both, from results/*.json and the cards of the models in the package
python benchmarks/report.py --check    exits 1 where one of them is not what it would write
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from cadmus_gym.reports.results import front, page

HERE = Path(__file__).resolve().parent
README = HERE.parent / "README.md"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where a page is stale")
    check = parser.parse_args(arguments).check
    stale = False
    pages = {
        HERE / "RESULTS.md": page(HERE / "results"),
        README: front(README.read_text(encoding="utf-8"), HERE / "results"),
    }
    for path, text in pages.items():
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        stale = True
        if check:
            print(f"{path}: stale; run python benchmarks/report.py")
        else:
            path.write_text(text, encoding="utf-8")
            print(f"written to {path}")
    return int(check and stale)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (ValueError, OSError) as error:
        print(f"report.py: {error}", file=sys.stderr)
        sys.exit(2)
