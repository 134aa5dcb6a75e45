"""What a person sees of long work: progress, time left, that Ctrl-C was noticed, how to resume."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, TypeAlias, overload

SECONDS = 5.0  # between two lines of progress
REFRESH = 0.2  # seconds between two changes of a bar
SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Set by a caller such as `make demo`, which resumes by itself what was interrupted.
AGAIN = "CADMUS_GYM_AGAIN"

Report: TypeAlias = Callable[[int, int], None]  # called with how much is done, and of how much


# ---------------------------------------------------------------------------------------------- progress


def countdown(
    what: str, write: Callable[[str], None] | None = None, seconds: float = SECONDS, percent: bool = False
) -> Report:
    """Return a function that reports, at most every ``seconds``, how much is done and the time left.

    ``write`` takes a line; by default it goes to stderr. A line counts ("3 of 9 programs, ..."), or with ``percent``
    gives the share ("evaluating: 33%, ...").
    """
    printed = time.monotonic()
    first: tuple[int, float] | None = None  # how many were done when, so that what was there before does not count

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
    """Return what reports on part k of ``parts`` of the same size, from what reports on them all, or None for None."""
    return report and (lambda done, total: report(k * total + done, parts * total))


class Progress:
    """Steps done, on stderr: a bar on a terminal, elsewhere a plain line every ``seconds``; or, quiet, nothing."""

    def __init__(self, start: int, total: int, seconds: float = 15.0, quiet: bool = False, unit: str = "step") -> None:
        self.start, self.total, self.seconds, self.quiet = start, total, seconds, quiet
        self.step, self.shown = start, ""
        self.began = self.printed = time.monotonic()
        self.bar: Any = None
        if sys.stderr.isatty() and not quiet:
            from tqdm import tqdm

            self.bar = tqdm(initial=start, total=total, unit=unit, dynamic_ncols=True)

    def update(self, step: int, shown: str | None = None) -> None:
        """Show that ``step`` steps are done, and the text ``shown``, by default the last one."""
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
            self.write(f"step {step}/{self.total}, {self.shown + ', ' if self.shown else ''}{shown_time(left)} left")

    def part(self, what: str) -> Report:
        """Return what reports on work within a step, such as an evaluation."""
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


# ---------------------------------------------------------------------------------------------- Ctrl-C


class Stop:
    """Within its context Ctrl-C or a request to terminate sets ``signal`` and is acknowledged at once; the next one
    ends the process at once, with 128 plus the signal's number.

    A thread listens, since Python calls a handler in the main thread only, and not before a kernel or a backward pass
    that runs there has ended. ``acknowledge`` returns what is printed on stderr; without it nothing is. A signal that
    comes within ``patience`` seconds of the first counts as the same.
    """

    def __init__(self, acknowledge: Callable[[], str] | None = None, patience: float = 0.0) -> None:
        self.signal, self.acknowledge, self.patience = 0, acknowledge, patience
        self.heard: float | None = None  # when the first one came

    def __enter__(self) -> Stop:
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        self._before = {number: signal.signal(number, self._handle) for number in SIGNALS}
        self._wakeup = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        return self

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.signal = self.signal or number

    def _listen(self) -> None:
        while number := self._reader.recv(1):
            if number[0] in SIGNALS:
                self._take(number[0])

    def _take(self, number: int) -> None:
        if self.heard is None:
            self.signal, self.heard = number, time.monotonic()
            self._say(self.acknowledge() if self.acknowledge is not None else "")
        elif time.monotonic() - self.heard >= self.patience:
            self._say("stopped at once" if self.acknowledge is not None else "")
            os._exit(128 + number)

    def _say(self, line: str) -> None:
        if line:
            start = "\n" if sys.stderr.isatty() else ""  # after a bar, and what the terminal shows of Ctrl-C
            with contextlib.suppress(OSError):  # of a stderr that is closed
                os.write(2, f"{start}{line}\n".encode())

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        self._writer.close()  # ends the thread
        self._thread.join()
        self._reader.close()


def resuming(folder: Path) -> str:
    """Return the command that resumes the run in a folder, by this script and the interpreter that runs it."""
    if again := os.environ.get(AGAIN):
        return again
    python = Path(sys.executable or "python")
    if shutil.which(python.name) == str(python):
        python = Path(python.name)
    elif python.is_relative_to(Path.cwd()):
        python = python.relative_to(Path.cwd())
    words = [str(python), sys.argv[0], "--folder", str(folder), "--resume"]
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)
