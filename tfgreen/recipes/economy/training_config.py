"""TrainingConfig: how ``tg.fit`` trains."""

from __future__ import annotations

import dataclasses
from typing import Literal, TypedDict

import keras

from tfgreen.checks import check_bool, check_instance, check_integer, check_number, check_option, is_option
from tfgreen.config import Config
from tfgreen.energy.budget import EnergyBudget
from tfgreen.errors import invalid_value

Precision = Literal["bfloat16", "float16"]


@dataclasses.dataclass(frozen=True)
class TrainingConfig(Config):
    """How ``tg.fit`` trains.

    Args:
        epochs: Times that the data is seen.
        batch_size: Samples of one update, of arrays; batches of a ``tf.data.Dataset`` are taken as they are.
        shuffle: Whether arrays are shuffled before each epoch.
        accumulate: Parts in which a batch goes through the model, >= 1 and at most its samples. The update is that of
            the whole batch, and the memory that of a part. A BatchNormalization sees the part. Ranges of a quantized
            model that move with the batches see the whole: it runs through the model once more, without gradients.
        mixed_precision: "bfloat16" or "float16", None for float32. It is left off, and said, where the hardware gains
            nothing from it, as a CPU does not. Weights and exported files stay float32.
        steps_per_execution: Batches that run in one call, or "auto": several where a step takes less than ten
            milliseconds.
        early_stopping: A metric ("val_loss") that ends the training when it has not improved for ``patience`` epochs;
            the best weights are restored. None trains all epochs.
        patience: Epochs to wait, >= 1.
        max_kwh, max_co2_kg, region: A budget at which the training ends, see :class:`tg.EnergyBudget`.
        resize: Share of the sides, in (0, 1), that images have in the first half of the training; they grow to full
            size until 80 % of it, or the last epoch. None for full size always.
        keep_fraction: Share of each batch, the samples of the largest loss, that is trained on between 50 % and 90 % of
            the training, in (0, 1]; 1 for all. The training's loss and metrics are those of these samples.
        schedule: A ``keras.optimizers.schedules`` object for the learning rate, or "cosine", along which that of the
            optimizer falls to 0. The optimizer keeps it. None leaves the rate as compiled.
        fuse_batch_norm: Whether batch normalizations run as one operator, which computes the same in less time.
        steps_per_epoch: Batches in an epoch of a dataset that has no end; None for all there are.

    Raises:
        TypeError, ValueError: A field is of another type or out of its range.

    Example:
        >>> TrainingConfig(epochs=3, accumulate=4).accumulate
        4
    """

    epochs: int = 1
    batch_size: int = 32
    shuffle: bool = True
    accumulate: int = 1
    mixed_precision: Precision | None = None
    steps_per_execution: int | Literal["auto"] = "auto"
    early_stopping: str | None = None
    patience: int = 3
    max_kwh: float | None = None
    max_co2_kg: float | None = None
    region: str | None = None
    resize: float | None = None
    keep_fraction: float = 1.0
    schedule: keras.optimizers.schedules.LearningRateSchedule | Literal["cosine"] | None = None
    fuse_batch_norm: bool = True
    steps_per_epoch: int | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "accumulate", "patience"):
            check_integer(name, getattr(self, name), minimum=1)
        check_bool("shuffle", self.shuffle)
        check_bool("fuse_batch_norm", self.fuse_batch_norm)
        if self.mixed_precision is not None:
            check_option("mixed_precision", self.mixed_precision, ("bfloat16", "float16"))
        if self.steps_per_execution != "auto":
            if isinstance(self.steps_per_execution, str):
                expected = "'auto' or an integer >= 1"
                raise invalid_value("steps_per_execution", expected=expected, received=repr(self.steps_per_execution))
            check_integer("steps_per_execution", self.steps_per_execution, minimum=1)
        check_instance("early_stopping", self.early_stopping, (str, type(None)), "the name of a metric or None")
        if self.early_stopping == "":
            fix = "Name one, such as 'val_loss', or leave it None to train all epochs."
            raise invalid_value("early_stopping", expected="the name of a metric or None", received="''", fix=fix)
        if self.max_kwh is not None or self.max_co2_kg is not None:
            EnergyBudget(self.max_kwh, self.max_co2_kg, self.region)
        if self.resize is not None:
            check_number("resize", self.resize, above=0, below=1)
        check_number("keep_fraction", self.keep_fraction, above=0, maximum=1)
        uneven = self.resize is not None or self.keep_fraction < 1
        if self.early_stopping is not None and uneven and not self.early_stopping.startswith("val_"):
            # It would end where the samples get harder, or the images larger.
            expected = "a metric of validation_data ('val_...'), since not all epochs train on the same samples"
            fix = "Or leave keep_fraction and resize out."
            raise invalid_value("early_stopping", expected=expected, received=self.early_stopping, fix=fix)
        check_integer("steps_per_epoch", self.steps_per_epoch, minimum=1, optional=True)
        if self.schedule is not None and not isinstance(self.schedule, keras.optimizers.schedules.LearningRateSchedule):
            if not is_option(self.schedule, ("cosine",)):
                expected = "'cosine' or a keras.optimizers.schedules.LearningRateSchedule"
                raise invalid_value("schedule", expected=expected, received=repr(self.schedule))


class TrainingOptions(TypedDict, total=False):
    """The fields of :class:`TrainingConfig` as keyword arguments."""

    epochs: int
    batch_size: int
    shuffle: bool
    accumulate: int
    mixed_precision: Precision | None
    steps_per_execution: int | Literal["auto"]
    early_stopping: str | None
    patience: int
    max_kwh: float | None
    max_co2_kg: float | None
    region: str | None
    resize: float | None
    keep_fraction: float
    schedule: keras.optimizers.schedules.LearningRateSchedule | Literal["cosine"] | None
    fuse_batch_norm: bool
    steps_per_epoch: int | None
