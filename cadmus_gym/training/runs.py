"""A run: what a training script prints and writes besides training, and how it stops."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import nn
from torch.utils.tensorboard import SummaryWriter

from cadmus_gym import files
from cadmus_gym.progress import Progress, Report
from cadmus_gym.training.interrupts import Stop, resuming
from cadmus_gym.training.states import save_state

STOP_PATIENCE = 20.0  # seconds in which a repeated signal counts as the same: torchrun repeats Ctrl-C to its processes


class Run:
    """The progress, curves, states, result and exit status of a run. ``step`` is how far it is.

    Of several processes only the first one, with ``rank`` 0, prints and writes. ``about`` is the content of run.json;
    each state holds a copy. ``unit`` is what a step is called, ``doing`` what a signal waits for, and ``remedy`` what
    to lower if training diverges.
    """

    def __init__(
        self,
        script: str,
        folder: Path,
        about: dict[str, Any],
        *,
        unit: str = "step",
        doing: str = "step",
        remedy: str = "the learning rate",
        rank: int = 0,
        count: int = 1,
    ) -> None:
        self.script, self.folder, self.about, self.unit, self.remedy = script, folder, about, unit, remedy
        self.first, self.several = rank == 0, count > 1
        self.states, self.result = folder / "states", folder / "result.json"
        self.step = self.total = 0
        self.doing = doing
        self.saved: int | None = None  # step of the last state
        self.progress: Progress | None = None
        self.writer: SummaryWriter | None = None

    def start(self, step: int, total: int, quiet: bool = False) -> None:
        """Open curves and progress, at a step of ``total``."""
        self.step, self.total = step, total
        if self.first:  # curves of later steps are those of a run that was killed
            self.writer = SummaryWriter(self.folder, purge_step=step + 1)
        self.progress = Progress(step, total, quiet=quiet or not self.first, unit=self.unit)

    def update(self, step: int, shown: str | None = None) -> None:
        """Show progress."""
        assert self.progress is not None
        self.step = step
        self.progress.update(min(step, self.total), shown)

    @contextlib.contextmanager
    def part(self, doing: str, what: str) -> Iterator[Report]:
        """A part of a run such as an evaluation, for which a signal waits. Yields what reports how much is done."""
        assert self.progress is not None
        before, self.doing = self.doing, doing
        yield self.progress.part(what)
        self.doing = before

    def say(self, line: str) -> None:
        """Print a line to stderr."""
        if self.progress is not None:
            self.progress.write(line)
        elif self.first:
            print(line, file=sys.stderr, flush=True)

    def add_scalars(self, values: Mapping[str, float], step: int) -> None:
        """Add a point to TensorBoard's curves."""
        if self.writer is not None:
            for name, value in values.items():
                self.writer.add_scalar(name, value, step)

    def write_about(self) -> None:
        """Write run.json again. Only the first process may call it."""
        files.write_json(self.folder / "run.json", self.about)

    def save(self, step: int, state: Mapping[str, Any]) -> None:
        """Save what a run can be resumed from. Only the first process may call it."""
        save_state(self.states, step, {**state, "run": json.dumps(self.about)})
        self.saved = step

    def check_finite(self, model: nn.Module) -> None:
        """Raise FloatingPointError if a weight is not finite."""
        if not all(bool(weight.isfinite().all()) for weight in model.parameters()):
            raise FloatingPointError(f"at {self.unit} {self.step}: a weight is not finite")

    def stop(self) -> Stop:
        """Return a context in which Ctrl-C is acknowledged and sets a flag."""
        return Stop(self._acknowledge if self.first else None, STOP_PATIENCE if self.several else 0.0)

    def stopped(self, stop: Stop) -> int:
        """Report that a signal stopped the run, and return the exit status."""
        self.say(f"stopped and saved at {self.unit} {self.step} of {self.total}; {self._how_to_resume()}")
        return 128 + (stop.signal or signal.SIGTERM)  # another process may have got the signal

    def finish(self, line: str, result: Mapping[str, Any]) -> None:
        """Write the result, and print its line."""
        if self.first:
            files.write_json(self.result, {"line": line, **result})
            print(line)

    def carry_out(self, train: Callable[[], int]) -> int:
        """Train; return the exit status: 1, after a line that says why, if training diverged or a write failed."""
        try:
            return train()
        except FloatingPointError as error:
            kept = f"The last good state is in {self.states}; start" if any(self.states.glob("*.pt")) else "Start"
            self._fail(f"stopped {error}. {kept} again with a lower {self.remedy}")
            return 1
        except OSError as error:
            self._fail(
                f"stopped at {self.unit} {self.step}: {error}. All that was saved is intact; {self._how_to_resume()}"
            )
            return 1
        finally:
            if self.progress is not None:
                self.progress.close()
            if self.writer is not None:
                with contextlib.suppress(OSError):  # of a full disk, which was reported above
                    self.writer.close()

    def _fail(self, line: str) -> None:
        if self.progress is not None and not self.progress.quiet:
            self.progress.write(f"{self.script}: {line}")
        elif self.first:
            print(f"{self.script}: {line}", file=sys.stderr, flush=True)

    def _how_to_resume(self) -> str:
        command = f"the same torchrun command, with --folder {self.folder} --resume"
        return f"resume with: {command if self.several else resuming(self.folder)}"

    def _acknowledge(self) -> str:
        last = f"the last saved state is of {self.unit} {self.saved}"
        saved = "no state has been saved" if self.saved is None else last
        return f"stopping after this {self.doing}; Ctrl-C again stops at once ({saved})"
