"""TrainingBoard: everything that changes while a model trains, in one folder for TensorBoard."""

from __future__ import annotations

import contextlib
import os
import warnings
import weakref
from collections.abc import Iterator

import keras
import tensorflow as tf

from tfgreen.checks import check_instance, check_integer
from tfgreen.energy.laps import EnergyLaps
from tfgreen.errors import invalid_value
from tfgreen.files import check_room
from tfgreen.quantization.activation_quantizer import ActivationQuantizer
from tfgreen.quantization.ranges import FixedRange
from tfgreen.tables import counted
from tfgreen.training.summaries import compression_scalars, write_scalar
from tfgreen.transforms.compressed import compressed_layers
from tfgreen.typing import FilePath, PlainDict


class TrainingBoard(keras.callbacks.Callback):
    """Write losses and metrics, masks, codebooks, ranges of activations and energy of each epoch, and profile steps.

    The tags are ``epoch/<metric>`` for all that Keras or a callback before this one puts into the logs (``loss``,
    ``val_accuracy``); ``epoch/learning_rate``; ``epoch/energy_joules`` and, with a region, ``epoch/co2e_kg``, of what
    this machine used since the epoch before, by :class:`tg.EnergyMeter`, or by a :class:`tg.EnergyLogger` before this
    one; ``<layer>/<weight>/sparsity`` and the like as :class:`tg.CompressionSummaries`; and ``<layer>/<range>/lower``
    and ``upper`` of quantized layers. The step is the epoch, from 0. List it last.

    Args:
        folder: Folder for the event files, made if missing.
        profile_steps: First and last training step, counted from 1, of which TensorFlow's profiler records a trace for
            TensorBoard's profile page; None for none.
        region: ISO 3166 alpha-3 code of the country whose grid feeds the machine, for the emissions.

    Raises:
        TypeError, ValueError: ``folder`` is no path, the steps are not in order, or the region is unknown.
        FileError: ``folder`` is a file, or cannot be written.

    Example:
        >>> import keras, numpy as np, os, tempfile, tfgreen as tg
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
        >>> model.compile("sgd", "mse")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = model.fit(np.ones((4, 8)), np.ones((4, 4)), verbose=0, callbacks=[tg.TrainingBoard(folder)])
        ...     len(os.listdir(folder))
        1
    """

    def __init__(
        self, folder: FilePath, profile_steps: tuple[int, int] | None = None, region: str | None = None
    ) -> None:
        super().__init__()
        check_instance("folder", folder, (str, os.PathLike), "the path of a folder")
        if not os.fspath(folder):
            raise invalid_value("folder", expected="the path of a folder", received="an empty string")
        if profile_steps is not None:
            check_instance("profile_steps", profile_steps, (tuple, list), "the first and the last step")
            for step in profile_steps:
                check_integer("profile_steps", step, minimum=1)
            if len(profile_steps) != 2 or profile_steps[0] > profile_steps[1]:
                raise invalid_value("profile_steps", expected="first <= last", received=profile_steps)
        check_room(folder)
        self.folder = os.fspath(folder)
        self.profile_steps = profile_steps
        self._steps = 0
        self._laps = EnergyLaps(region)
        self._running = contextlib.ExitStack()

    def on_train_begin(self, logs: PlainDict | None = None) -> None:
        self.close()  # what a training that raised has left
        self._steps = 0
        self._writer = tf.summary.create_file_writer(self.folder)
        self._running.callback(self._writer.close)
        self._laps.start()
        self._running.callback(self._laps.stop)

    def on_train_batch_begin(self, batch: int, logs: PlainDict | None = None) -> None:
        if self.profile_steps is not None and self._steps + 1 == self.profile_steps[0]:
            tf.profiler.experimental.start(self.folder)
            # It is one for the process, and must not run on where nobody is left to end it. Later calls do nothing.
            self._end_profile = weakref.finalize(self, tf.profiler.experimental.stop)
            self._running.callback(self._end_profile)

    def on_train_batch_end(self, batch: int, logs: PlainDict | None = None) -> None:
        self._steps += 1
        if self.profile_steps is not None and self._steps == self.profile_steps[1]:
            self._end_profile()

    def on_epoch_end(self, epoch: int, logs: PlainDict | None = None) -> None:
        with self._writer.as_default():
            for name, value in self._scalars(logs or {}):
                write_scalar(name, value, epoch)
        self._writer.flush()

    def on_train_end(self, logs: PlainDict | None = None) -> None:
        if self.profile_steps is not None and self._steps < self.profile_steps[1]:
            first, last = self.profile_steps
            kept = "no trace was recorded" if self._steps < first else "the trace ends there"
            warnings.warn(
                f"profile_steps ({first}, {last}): the training ended after {counted(self._steps, 'step')}, so "
                f"{kept}. Name steps of the training.", stacklevel=2,
            )  # fmt: skip
        self.close()

    def close(self) -> None:
        """End what runs for a training. Keras's ``fit`` has it done at its end, and ``tg.fit`` also where it raises."""
        self._running.close()

    def _read_energy(self) -> dict[str, float]:
        """The energy since the last reading, by tag, as far as there is a reading."""
        reading = self._laps.lap()
        found = {"epoch/energy_joules": reading.joules, "epoch/co2e_kg": reading.co2e_kg}
        return {tag: value for tag, value in found.items() if value is not None}

    def _scalars(self, logs: PlainDict) -> Iterator[tuple[str, float]]:
        for name, value in logs.items():
            yield f"epoch/{name}", float(value)
        if self.model.optimizer is not None:
            yield "epoch/learning_rate", float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        for name, value, _ in compression_scalars(self.model):
            yield name, value
        for path, layer in compressed_layers(self.model):
            for range_ in layer.activations.ranges() if isinstance(layer.activations, ActivationQuantizer) else ():
                if not isinstance(range_, FixedRange):
                    lower, upper = range_.numbers()
                    yield f"{path}/{range_.name}/lower", float(lower)
                    yield f"{path}/{range_.name}/upper", float(upper)
        energy = self._read_energy().items()
        yield from ((tag, value) for tag, value in energy if tag.removeprefix("epoch/") not in logs)
