"""How a script that trains ends: its exit status, and what it says where something is in the way."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from typing import Protocol

INTERRUPTED = 130  # what a shell reports of a process that Ctrl-C ended


class Run(Protocol):
    """A run that may meet a full disk, or numbers that are not finite."""

    resume: str  # how it is resumed, for people

    def train(self) -> int:
        """Train to the end or until a signal; return the exit status."""

    def where(self) -> str:
        """Return how far it is, such as "at step 3"."""

    def advice(self) -> str:
        """Return what to do where training diverged."""

    def report(self, line: str) -> None: ...

    def close(self) -> None: ...


def ending(run: Run, script: str) -> int:
    """Train; return 1, with a line that says why, where a number is not finite or the disk fails."""
    try:
        return run.train()
    except FloatingPointError as error:
        run.report(f"{script}: stopped {error}. {run.advice()}")
        return 1
    except OSError as error:
        run.report(f"{script}: stopped {run.where()}: {error}. What was saved before is intact; {run.resume}")
        return 1
    finally:
        with contextlib.suppress(OSError):  # of a full disk, which was reported above
            run.close()


def exit_with(main: Callable[[list[str]], int], script: str) -> None:
    """End the process with the status of a script's ``main``, or as Ctrl-C does."""
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        print(f"{script}: stopped; --resume continues from the last saved state, if there is one", file=sys.stderr)
        sys.exit(INTERRUPTED)
