"""Progress of long work, for people: how much is done, and the time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any, TypeAlias, overload

SECONDS = 5.0  # between two lines
REFRESH = 0.2  # seconds between two updates of a bar

Report: TypeAlias = Callable[[int, int], None]  # called with how much is done, and the total


def countdown(
    what: str, write: Callable[[str], None] | None = None, seconds: float = SECONDS, percent: bool = False
) -> Report:
    """Return a function that reports how much is done and the time left, at most every ``seconds``.

    A line has counts ("3 of 9 programs, ..."), or with ``percent`` a share ("evaluating: 33%, ..."). It is passed to
    ``write``, by default to stderr.
    """
    printed = time.monotonic()
    first: tuple[int, float] | None = None  # how much was done at first, and when, to measure the speed since

    def report(done: int, total: int) -> None:
        nonlocal printed, first
        now = time.monotonic()
        if first is None:
            first = done, now
        if now - printed < seconds:
            return
        printed = now
        line = f"{what}: {done / total:.0%}" if percent else f"{done} of {total} {what}"
        if done > first[0]:
            line += f", {shown_time((now - first[1]) / (done - first[0]) * (total - done))} left"
        (write or _to_stderr)(line)

    return report


@overload
def part_of(report: Report, k: int, parts: int) -> Report: ...
@overload
def part_of(report: Report | None, k: int, parts: int) -> Report | None: ...
def part_of(report: Report | None, k: int, parts: int) -> Report | None:
    """Return a report for part k of ``parts`` equal parts, given the report for all of them; None for None."""
    return report and (lambda done, total: report(k * total + done, parts * total))


class Progress:
    """Progress of steps on stderr: a bar on a terminal, a line every ``seconds`` elsewhere, nothing if ``quiet``.

    ``unit`` is what a step is called.
    """

    def __init__(self, start: int, total: int, seconds: float = 15.0, quiet: bool = False, unit: str = "step") -> None:
        self.start, self.total, self.seconds, self.quiet = start, total, seconds, quiet
        self.step, self.shown, self.unit = start, "", unit
        self.began = self.printed = time.monotonic()
        self.bar: Any = None
        if sys.stderr.isatty() and not quiet:
            from tqdm import tqdm

            self.bar = tqdm(initial=start, total=total, unit=unit, dynamic_ncols=True)

    def update(self, step: int, shown: str | None = None) -> None:
        """Show that ``step`` steps are done, with a text, by default the last one."""
        before, self.step = self.step, step
        self.shown = self.shown if shown is None else shown
        if self.bar is not None:
            self.bar.set_postfix_str(self.shown, refresh=False)
            self.bar.update(step - self.bar.n)
            return
        now = time.monotonic()
        if now - self.printed >= self.seconds or before < step == self.total:
            self.printed = now
            left = (now - self.began) / max(1, step - self.start) * (self.total - step)
            shown = f"{self.shown}, " if self.shown else ""
            self.write(f"{self.unit} {step}/{self.total}, {shown}{shown_time(left)} left")

    def part(self, what: str) -> Report:
        """Return a report for work within a step, such as an evaluation."""
        if self.bar is None:
            return countdown(what, self.write, percent=True)
        return countdown(what, self.bar.set_postfix_str, REFRESH, percent=True)

    def write(self, line: str) -> None:
        if self.bar is not None:
            self.bar.write(line, file=sys.stderr)
        elif not self.quiet:
            _to_stderr(line)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()


def shown_time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
