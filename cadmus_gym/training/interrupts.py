"""How a run is stopped with Ctrl-C, and the command that resumes it."""

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
# Set by a caller such as `make demo`, which resumes by itself what was interrupted.
AGAIN = "CADMUS_GYM_AGAIN"


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
