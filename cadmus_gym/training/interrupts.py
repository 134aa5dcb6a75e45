"""Ctrl-C: how it stops a run, and the command that resumes the run."""

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

SIGNALS = (signal.SIGINT, signal.SIGTERM)
INTERRUPTED = 130  # the exit status that a shell reports after Ctrl-C
# Set by a caller such as `make demo`, which itself resumes an interrupted run.
AGAIN = "CADMUS_GYM_AGAIN"


class Stop:
    """A context in which the first SIGINT or SIGTERM sets ``signal``, and the second ends the process.

    The second one exits at once with 128 plus the signal's number, unless it comes within ``patience`` seconds of the
    first: then it counts as the same. ``acknowledge`` returns the line that is printed to stderr on the first signal;
    without it nothing is printed. A thread listens, since Python runs handlers in the main thread only, and only after
    a kernel or a backward pass that runs there has returned.
    """

    def __init__(self, acknowledge: Callable[[], str] | None = None, patience: float = 0.0) -> None:
        self.signal, self.acknowledge, self.patience = 0, acknowledge, patience
        self.heard: float | None = None  # time of the first signal

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
            start = "\n" if sys.stderr.isatty() else ""  # ends the line with the bar and the terminal's ^C
            with contextlib.suppress(OSError):  # stderr may be closed
                os.write(2, f"{start}{line}\n".encode())

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        self._writer.close()  # ends the thread
        self._thread.join()
        self._reader.close()


def resuming(folder: Path) -> str:
    """Return the command that resumes the run in a folder, with the current script and interpreter."""
    if again := os.environ.get(AGAIN):
        return again
    python = Path(sys.executable or "python")
    if shutil.which(python.name) == str(python):
        python = Path(python.name)
    elif python.is_relative_to(Path.cwd()):
        python = python.relative_to(Path.cwd())
    words = [str(python), sys.argv[0], "--folder", str(folder), "--resume"]
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)


def exit_with(main: Callable[[list[str]], int], script: str) -> None:
    """Exit with the status that a script's ``main`` returns, or as after Ctrl-C."""
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        print(f"{script}: stopped; --resume continues from the last saved state, if there is one", file=sys.stderr)
        sys.exit(INTERRUPTED)
