"""Find the shortest bodies for patterns of order statistics, and prove optima for two and three values.

    python benchmarks/sorting.py                      both, half an hour and 4 GB of memory
    python benchmarks/sorting.py --sections proofs

`table` writes cadmus_gym/tasks/synthesis/sorting.txt, the references of Cadmus-Sort-v0: bodies of stack words,
registers, `min` and `max`. For two and three values, all patterns of up to four outputs are found breadth first, among
bodies that never have more than a given number of values on the stack. For four values, only the patterns that need few
words are found this way. The other patterns of order statistics alone are composed of parts that compare and reorder
the four values, and a last part that leaves the pattern.

`proofs` enumerates bodies with comparisons and conditionals too, for all patterns of two values and for those of order
statistics alone of three. It runs them on all orders of the values, equal values included. For each pattern it finds a
shorter body, which goes into the table, or proves that there is none at all, or none below some length. Writes Markdown
and JSON.
"""

from __future__ import annotations

import heapq
import itertools
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import tyro

from cadmus_gym.evaluation.enumeration import shortest
from cadmus_gym.files import check_output
from cadmus_gym.language.notation import decode
from cadmus_gym.language.verdicts import MAX_CASES
from cadmus_gym.progress import countdown
from cadmus_gym.reports.markdown import markdown
from cadmus_gym.tasks.synthesis import bodies
from cadmus_gym.tasks.synthesis.sort import INSTRUCTIONS, SIDE, TABLE, Body
from cadmus_gym.tasks.synthesis.sort import table as read_table
from cadmus_gym.training.provenance import recipe

HERE = Path(__file__).resolve().parent
WORDS = (*bodies.WORDS[: bodies.ADD], "min", "max")
SEARCHES = {2: ((8, 12),), 3: ((8, 15), (5, 19)), 4: ((6, 12),)}  # values on the stack, and words, at most
PART = (6, 8)  # the same for a part of a composed body
NONE = (0,) * 99  # longer than any body

Section: TypeAlias = Literal["table", "proofs"]
Stack: TypeAlias = tuple[int, ...]  # truth tables
Pattern: TypeAlias = tuple[str, ...]


@dataclass(frozen=True)
class Args:
    """Shortest bodies for patterns of order statistics."""

    sections: tuple[Section, ...] = ("table", "proofs")
    two: int = 2_200_000  # candidates of each proof of two values
    three: int = 1_000_000  # candidates of each proof of order statistics alone of three values
    table: Path = TABLE
    output: Path = HERE / "results" / "sorting.md"


def names_of(inputs: int) -> dict[int, str]:
    """Return the names of order statistics and inputs by their truth tables."""
    names = {int(one): f"x{k + 1}" for k, one in enumerate(bodies.tables(inputs))}
    for k in range(1, inputs + 1):
        rows = [row for row in range(1 << inputs) if row.bit_count() > inputs - k]
        names[sum(1 << row for row in rows)] = f"s{k}"
    return names


def leave(symbols: Stack, body: tuple[int, ...]) -> Stack | None:
    """Return the stack that a body leaves, or None after a fault."""
    begin, cells = np.zeros(bodies.STATE, np.int64), np.zeros(bodies.STATE, np.int64)
    begin[bodies.DEPTH], begin[bodies.BOTTOM : bodies.BOTTOM + len(symbols)] = len(symbols), symbols
    if not bodies.run_body(np.array(body, np.int64), len(body), 0, 0, -1, begin, cells):
        return None
    return tuple(cells[bodies.BOTTOM : bodies.BOTTOM + cells[bodies.DEPTH]].tolist())


def found_from(
    symbols: Stack, deepest: int, words: int, known: Iterable[int] = ()
) -> Iterator[tuple[Stack, tuple[int, ...]]]:
    """Yield stacks of up to `SIDE` values, only ``known`` ones if any are given, and their shortest bodies."""
    for level in bodies.search(np.array(symbols, np.int64), WORDS, words, (1, SIDE), deepest, tuple(known)):
        for body in level:
            stack = leave(symbols, tuple(body.tolist()))
            assert stack is not None
            yield stack, tuple(body.tolist())


def search(inputs: int) -> dict[Pattern, tuple[int, ...]]:
    """Return the shortest bodies of all patterns that the searches find."""
    names, found = names_of(inputs), dict[Pattern, tuple[int, ...]]()
    wanted = (2 * inputs) ** np.arange(1, SIDE + 1) - inputs ** np.arange(1, SIDE + 1)
    symbols = tuple(bodies.tables(inputs).tolist())
    for deepest, words in SEARCHES[inputs]:
        seen = set[Pattern]()
        for stack, body in found_from(symbols, deepest, words, names):
            pattern = tuple(names[cell] for cell in stack)
            if all(name[0] == "x" for name in pattern):
                continue
            seen.add(pattern)
            if len(body) < len(found.get(pattern, NONE)):
                found[pattern] = body
            if len(seen) == wanted.sum():
                break
        print(f"{inputs} values, at most {deepest} on the stack: {len(seen)} patterns", file=sys.stderr, flush=True)
    return found


def compose(inputs: int) -> dict[Pattern, tuple[int, ...]]:
    """Return bodies of all patterns of order statistics alone, through stacks that hold all values in some order."""
    names, found = names_of(inputs), dict[Pattern, tuple[int, ...]]()
    rows = range(1 << inputs)
    start: Stack = tuple(bodies.tables(inputs).tolist())
    reached: dict[Stack, tuple[int, ...]] = {start: ()}
    queue: list[tuple[int, Stack]] = [(0, start)]
    done = set[Stack]()
    while queue:
        _, stack = heapq.heappop(queue)
        if stack in done:
            continue
        done.add(stack)
        for after, words in found_from(stack, *PART):
            body = reached[stack] + words
            statistics = all(names.get(cell, "x")[0] == "s" for cell in after)
            pattern = tuple(names.get(cell, "") for cell in after)
            if statistics and len(body) < len(found.get(pattern, NONE)):
                found[pattern] = body
            whole = len(after) == inputs and all(
                sum(cell >> row & 1 for cell in after) == row.bit_count() for row in rows
            )
            if whole and len(body) < len(reached.get(after, NONE)):
                reached[after] = body
                heapq.heappush(queue, (len(body), after))
        if len(done) % 100 == 0:
            text = f"composed: {len(done)} of {len(reached)} stacks, {len(found)} patterns"
            print(text, file=sys.stderr, flush=True)
    return {pattern: shortened(start, body) for pattern, body in found.items()}


def shortened(symbols: Stack, body: tuple[int, ...]) -> tuple[int, ...]:
    """Return a body without words that can be left out."""
    for first, last in itertools.combinations(range(len(body) + 1), 2):
        rest = body[:first] + body[last:]
        if leave(symbols, rest) == leave(symbols, body):
            return shortened(symbols, rest)
    return body


def build() -> list[Body]:
    """Return the table."""
    rows = []
    for inputs in SEARCHES:
        found = search(inputs)
        if inputs == 4:
            for pattern, body in compose(inputs).items():
                if len(body) < len(found.get(pattern, NONE)):
                    found[pattern] = body
        for pattern, body in sorted(found.items(), key=lambda item: (len(item[0]), item[0])):
            rows.append(Body(inputs, pattern, tuple(bodies.WORDS[word] for word in body)))
    return rows


def cases_of(body: Body) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Return a case for each order of values, equal values included, and some cases of negative values, so that truth
    values do not help."""
    cases = {}
    orders = [
        tuple(11 + sorted({*ranks}).index(rank) for rank in ranks)
        for ranks in itertools.product(range(body.inputs), repeat=body.inputs)
    ]
    for inputs in [*orders, *([-value for value in order] for order in orders)]:
        values = {f"x{k}": value for k, value in enumerate(inputs, 1)}
        values |= {f"s{k}": value for k, value in enumerate(sorted(inputs), 1)}
        cases[tuple(inputs)] = tuple(values[output] for output in body.outputs)
    return list(cases.items())[:MAX_CASES]


def prove(args: Args) -> tuple[list[Body], list[dict[str, Any]]]:
    """Return the table with shorter bodies where there are any, and what is proven for each pattern of two values,
    and of order statistics alone of three."""
    rows, proven, table = [], list[dict[str, Any]](), read_table()
    report = countdown("patterns")
    for k, body in enumerate(table):
        report(k + 1, len(table))
        if body.inputs == 4 or (body.inputs == 3 and body.keeps):
            rows.append(body)
            continue
        candidates = args.two if body.inputs == 2 else args.three
        found = shortest(cases_of(body), INSTRUCTIONS, (), len(body.words) - 1, candidates=candidates)
        if found.body is not None:
            body = body._replace(words=tuple(decode(found.body).split()))
        rows.append(body)
        proven.append(
            {
                "inputs": body.inputs,
                "outputs": " ".join(body.outputs),
                "body": " ".join(body.words),
                "words": len(body.words),
                "none shorter than": min(found.bound, len(body.words)),
                "candidates": found.candidates,
            }
        )
    return rows, proven


def page_of(proven: list[dict[str, Any]]) -> str:
    """Return the tables of the page."""
    rows = []
    for inputs, keeps in ((2, False), (2, True), (3, False)):
        of = [row for row in proven if row["inputs"] == inputs and ("x" in row["outputs"]) == keeps]
        lengths, open_ = [row["words"] for row in of], [row for row in of if row["none shorter than"] < row["words"]]
        below = str(min(row["none shorter than"] for row in open_)) if open_ else ""
        conditional = sum("if" in row["body"].split() for row in of)
        kind = "with inputs" if keeps else "alone"
        numbers = [str(len(of)), str(len(of) - len(open_)), f"{min(lengths)} to {max(lengths)}", str(conditional)]
        rows.append([str(inputs), kind, *numbers, below])
    known = Counter((body.inputs, body.keeps) for body in read_table())
    counts = [[str(inputs), "yes" if keeps else "no", str(count)] for (inputs, keeps), count in known.items()]
    three = []
    for row in proven:
        outputs = row["outputs"].split()
        if row["inputs"] == 3 and len({*outputs}) == len(outputs):
            bound = row["none shorter than"]
            known_to = "optimal" if bound == row["words"] else f"none of fewer than {bound}"
            three.append([row["outputs"], str(row["words"]), known_to, f"`{row['body']}`"])
    return f"""# Shortest bodies for order statistics

{markdown(["values", "inputs kept", "patterns in the table"], counts)}

Proofs by enumeration of all bodies of `{" ".join(INSTRUCTIONS)}`, on all orders of values, equal ones included. A
pattern is optimal if all shorter bodies were tried. For the others, the last column is a length below which all were
tried.

{markdown(["values", "statistics", "patterns", "optimal", "words", "conditional", "others: none below"], rows)}

Order statistics of three values, s1 the smallest, each at most once:

{markdown(["outputs", "words", "proven", "body"], three)}
"""


def main(args: Args) -> None:
    for path in (args.table, args.output, args.output.with_suffix(".json")):
        check_output(path)
    if "table" in args.sections:
        write_table(args.table, build())
    if "proofs" in args.sections:
        rows, proven = prove(args)
        write_table(args.table, rows)
        args.output.write_text(page_of(proven))
        result = {"recipe": recipe(args), "rows": proven}
        args.output.with_suffix(".json").write_text(json.dumps(result) + "\n")
        print(page_of(proven))


def write_table(path: Path, rows: list[Body]) -> None:
    lines = [f"{body.inputs} {' '.join(body.outputs)}: {' '.join(body.words)}" for body in rows]
    path.write_text("\n".join([*lines, ""]))
    read_table.cache_clear()


if __name__ == "__main__":
    try:
        main(tyro.cli(Args, description=__doc__))
    except (ValueError, OSError) as error:
        sys.exit(f"sorting.py: {error}")
