"""Watch: what a training spends, epoch by epoch, how far it is, and its end when the budget of the run is spent."""

from __future__ import annotations

import keras

from tfgreen.recipes.run.account import exceeded
from tfgreen.recipes.run.state import Task
from tfgreen.recipes.run.steps.backup import Backup
from tfgreen.typing import PlainDict


class Watch(keras.callbacks.Callback):
    """Reads the account after each epoch. It does nothing in between, so that short steps run several in a call.

    Attributes:
        joules: Those of each epoch, of attempts that were cut off too; None where there was no reading.
        cut: Why the training ended before its last epoch, or "".
    """

    def __init__(self, backup: Backup, epochs: int, task: Task) -> None:
        super().__init__()
        self._backup, self._epochs, self._task = backup, epochs, task
        self.joules: list[float | None] = list(backup.so_far.get("joules", []))
        self.cut = exceeded(task.recipe.budget, task.account.run) if backup.epoch < epochs else ""

    def on_train_begin(self, logs: PlainDict | None = None) -> None:
        self._before = self._task.account.step.joules

    def on_epoch_end(self, epoch: int, logs: PlainDict | None = None) -> None:
        joules = self._task.account.step.joules
        self.joules.append(None if joules is None or self._before is None else joules - self._before)
        self._before = joules
        self._backup.so_far["joules"] = self.joules
        self._task.account.keep()
        told = ", ".join(f"{name} {logs[name]:.4g}" for name in ("loss", "val_loss") if logs and name in logs)
        self._task.say(f"epoch {epoch + 1} of {self._epochs}, {told}", (epoch + 1) / self._epochs)
        if epoch + 1 < self._epochs:
            self.cut = exceeded(self._task.recipe.budget, self._task.account.run)
            self.model.stop_training = self.model.stop_training or bool(self.cut)
