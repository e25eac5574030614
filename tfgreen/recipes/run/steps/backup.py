"""Backup: a training that is cut off goes on after its last whole epoch, and comes to the same weights."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import keras

from tfgreen.files import made_folder
from tfgreen.recipes.run.folder import writing
from tfgreen.typing import PlainDict

_SO_FAR = "so_far.json"


class Backup(keras.callbacks.Callback):
    """Keeps the state of a training after each epoch in a folder, with Keras's ``BackupAndRestore``.

    That callback overwrites its only copy, weights first and the number of the epoch after; a kill between the two
    repeats an epoch and tells nobody. Here each epoch has a folder of its own, which has its name only once it is
    complete. Random numbers of layers depend on the seed and the epoch alone. List it last.

    Args:
        folder: Where to keep it; None keeps nothing, and only sets the random numbers.
        seed: That of the training.

    Attributes:
        epoch: The epoch with which the training goes on.
        so_far: Plain values that are kept with the next epoch; those that were kept with the last one.
    """

    def __init__(self, folder: Path | None, seed: int) -> None:
        super().__init__()
        self._folder, self._seed = folder, seed
        kept = _kept(folder)
        self._last = kept[-1] if kept else None
        self.epoch = 0 if self._last is None else int(self._last.name)
        self.so_far: PlainDict = {} if self._last is None else json.loads((self._last / _SO_FAR).read_text())

    @property
    def history(self) -> dict[str, list[float]]:
        """The logs of the epochs that were kept, by name."""
        return {name: list(values) for name, values in self.so_far.get("history", {}).items()}

    def restore(self, model: keras.Model) -> None:
        """Give a compiled model the state of the last epoch that was kept, if there is one; ``fit`` goes on there."""
        if self._last is not None:
            _keras_backup(self._last, model).on_train_begin()

    def on_epoch_begin(self, epoch: int, logs: PlainDict | None = None) -> None:
        variables = [variable for variable in self.model.variables if variable.name == "seed_generator_state"]
        for number, variable in enumerate(variables):
            variable.assign([(self._seed * 7919 + epoch * 104729 + number) % 2**31, 0])

    def on_epoch_end(self, epoch: int, logs: PlainDict | None = None) -> None:
        if self._folder is None:
            return
        history = self.so_far.setdefault("history", {})
        for name, value in (logs or {}).items():
            history.setdefault(name, []).append(float(value))
        with writing(self._folder), made_folder(self._folder) as folder:
            half = folder / ".half"
            shutil.rmtree(half, ignore_errors=True)
            _keras_backup(half, self.model).on_epoch_end(epoch)
            (half / _SO_FAR).write_text(json.dumps(self.so_far))
            os.replace(half, folder / f"{epoch + 1:05d}")
        for older in _kept(self._folder)[:-1]:
            shutil.rmtree(older, ignore_errors=True)


def _keras_backup(folder: Path, model: keras.Model) -> keras.callbacks.BackupAndRestore:
    backup = keras.callbacks.BackupAndRestore(str(folder), delete_checkpoint=False)
    backup.set_model(model)
    return backup


def _kept(folder: Path | None) -> list[Path]:
    """The complete epochs in a folder, in order."""
    if folder is None or not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.name.isdigit())
