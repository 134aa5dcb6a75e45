"""What Stable-Baselines3 reports of a training, passed on to a run: its curves and its progress."""

from __future__ import annotations

from collections.abc import Callable

from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import TensorBoardOutputFormat
from torch.utils.tensorboard import SummaryWriter


class Curves(TensorBoardOutputFormat):
    """Stable-Baselines3's logger on the curves of a run."""

    def __init__(self, writer: SummaryWriter) -> None:
        self.writer = writer
        self._is_closed = False


class Ticks(BaseCallback):
    """Reports each step of a rollout."""

    def __init__(self, report: Callable[[int], None]) -> None:
        super().__init__()
        self.report = report

    def _on_step(self) -> bool:
        self.report(self.num_timesteps)
        return True
