"""EnergyLogger: a callback that tells the energy of each epoch, and of the whole training after the first."""

from __future__ import annotations

import time
import warnings

import keras
import numpy as np

from tfgreen.checks import check_bool, check_instance, check_integer
from tfgreen.energy.meter import JOULES_PER_KWH, EnergyMeter, EnergyReading
from tfgreen.energy.prediction import EnergyPrediction, predict, steady
from tfgreen.errors import invalid_state, invalid_value
from tfgreen.typing import PlainDict

_SECONDS, _SHARE = 0.1, 0.2  # between two readings within the first epoch, at least; of its time until then


class EnergyLogger(keras.callbacks.Callback):
    """Log the energy and emissions of each epoch, validation included, and predict those of the whole training.

    Into the logs, and so into ``History``, Keras's progress bar and every callback that is listed behind this one
    (``keras.callbacks.TensorBoard``, ``CSVLogger``, :class:`tg.TrainingBoard`), go ``energy_joules``, ``energy_kwh``,
    ``joules_per_sample`` (where Keras counts samples, or ``samples`` says how many there are), with a region
    ``co2e_kg``, and ``predicted_kwh`` of all epochs, with ``predicted_low_kwh`` and ``predicted_high_kwh``.

    Args:
        region: ISO 3166 alpha-3 code of the country whose grid feeds the machine, or None.
        meter: A meter of your own, for other components, an idle baseline or an external power meter; it knows its
            region itself.
        samples: Samples of an epoch, for a model whose ``train_step`` does not keep Keras's mean of the loss.
        verbose: Whether the prediction is printed after the first epoch.

    Attributes:
        epochs: The joules of each epoch, NaN without a reading.
        prediction: The :class:`EnergyPrediction`, or None before the end of an epoch of at least two batches.
        first_prediction: The first of them.

    Raises:
        ValueError: The region is unknown, or both ``region`` and ``meter`` are given; at the first epoch, if this
            machine gives no energy reading. Where a later epoch has none, as of a power meter that was unplugged, it is
            warned of once and NaN from then on.
        TypeError: An argument is of the wrong type.

    Example:
        >>> import keras, numpy as np, tfgreen as tg
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
        >>> model.compile("sgd", "mse")
        >>> logger = tg.EnergyLogger(region="DEU", verbose=False)
        >>> history = model.fit(np.ones((64, 8)), np.ones((64, 4)), epochs=3, verbose=0, callbacks=[logger])
        >>> len(history.history["energy_kwh"]), logger.reading.kwh >= sum(history.history["energy_kwh"])
        (3, True)
    """

    def __init__(
        self, region: str | None = None, *, meter: EnergyMeter | None = None, samples: int | None = None,
        verbose: bool = True,
    ) -> None:
        super().__init__()
        if meter is not None:
            check_instance("meter", meter, EnergyMeter, "a tg.EnergyMeter")
            if region is not None:
                raise invalid_value("region", expected="None beside a meter", received=region,
                                    fix="Give it to the meter: EnergyMeter(region=...).")  # fmt: skip
        self._meter = meter if meter is not None else EnergyMeter(region)
        check_integer("samples", samples, minimum=1, optional=True)
        check_bool("verbose", verbose)
        self._samples, self._verbose = samples, verbose
        self.epochs: list[float] = []
        self.prediction: EnergyPrediction | None = None
        self.first_prediction: EnergyPrediction | None = None
        self._is_inside = False

    @property
    def reading(self) -> EnergyReading:
        """The reading of the whole training that ended last, or of one that was cut off, until now."""
        return self._meter.so_far() if self._is_inside else self._meter.reading

    def on_train_begin(self, logs: PlainDict | None = None) -> None:
        self.epochs, self.prediction, self.first_prediction = [], None, None
        self._past: list[np.ndarray] = []
        self._first_epoch: int | None = None
        self._pace: tuple[np.ndarray, np.ndarray] | None = None
        self.close()  # of a training that failed
        self._meter.__enter__()
        self._is_inside, self._noted, self._began = True, 0.0, 0.0
        self._before = self._now()

    def on_epoch_begin(self, epoch: int, logs: PlainDict | None = None) -> None:
        self._first_epoch = epoch if self._first_epoch is None else self._first_epoch
        self._counts: dict[str, list[int]] = {"train": [], "test": []}
        self._totals: dict[str, list[np.ndarray]] = {"train": [], "test": []}
        self._steps = {"train": 0, "test": 0}
        self._seen = self._samples

    def on_train_batch_end(self, batch: int, logs: PlainDict | None = None) -> None:
        self._steps["train"] = batch + 1
        self._note("train")

    def on_test_begin(self, logs: PlainDict | None = None) -> None:
        if not self._is_inside:  # evaluate, by itself
            return
        self._note("train", is_last=True)
        self._count_samples()
        self._totals["test"].append(self._now())
        self._counts["test"].append(0)

    def on_test_batch_end(self, batch: int, logs: PlainDict | None = None) -> None:
        if not self._is_inside:  # evaluate, by itself
            return
        self._steps["test"] = batch + 1
        self._note("test")

    def on_test_end(self, logs: PlainDict | None = None) -> None:
        if not self._is_inside:  # evaluate, by itself
            return
        self._note("test", is_last=True)

    def on_epoch_end(self, epoch: int, logs: PlainDict | None = None) -> None:
        if not self._counts["test"]:
            self._note("train", is_last=True)
            self._count_samples()
        reading = self._meter.so_far()
        kg_per_kwh = reading.intensity.kg_per_kwh if reading.intensity else None
        if reading.joules is None:
            self._miss(reading.how)
        else:
            now = np.array([reading.joules, reading.duration_s])
            used, self._before = now - self._before, now
            self._past.append(used)
            self.epochs.append(float(used[0]))
            if len(self._past) == 1:
                self._pace = self._steady_epoch(now)
            if len(self._past) == len(self.epochs):
                self._predict(kg_per_kwh)
        if logs is not None:
            logs.update(self._figures(kg_per_kwh))

    def _miss(self, how: str) -> None:
        """An epoch without a reading: an error where there never was one, a warning where it is lost on the way."""
        if not self.epochs:
            raise invalid_state(f"There is no energy reading: {how}.", "Train without an EnergyLogger.")
        if not np.isnan(self.epochs).any():
            sentence = f"There is no energy reading since epoch {len(self.epochs) + 1} of this training: {how}."
            warnings.warn(f"{sentence} The training goes on, without figures of its energy.", stacklevel=2)
        self.epochs.append(float("nan"))

    def on_train_end(self, logs: PlainDict | None = None) -> None:
        self.close()

    def close(self) -> None:
        """Stop measuring. Keras's ``fit`` has it done at its end, and ``tg.fit`` also where it raises."""
        if self._is_inside:
            self._meter.__exit__(None, None, None)
        self._is_inside = False

    def _now(self) -> np.ndarray:
        """Joules and seconds since the training began."""
        reading = self._meter.so_far()
        return np.array([reading.joules or 0.0, reading.duration_s])

    def _note(self, part: str, is_last: bool = False) -> None:
        """In the first epoch, read what has been used: after the first batch, now and then, and at the end."""
        counts, steps = self._counts[part], self._steps[part]
        now = time.monotonic()
        wait = max(_SECONDS, _SHARE * (self._noted - self._began))
        if self._past or counts and (counts[-1] == steps or not is_last and now - self._noted < wait):
            return
        if not counts:
            self._began = now
        self._noted = now
        counts.append(steps)
        self._totals[part].append(self._now())

    def _steady_epoch(self, end: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """Joules and seconds of an epoch without the tracing of its graphs, and how far that may be off."""
        if len(self._counts["train"]) < 2:
            return None
        mean, error = steady(self._counts["train"], np.array(self._totals["train"]))
        last = self._totals["train"][-1]
        if self._counts["test"]:
            counts, totals = self._counts["test"], np.array(self._totals["test"])
            # A single batch of validation is all that is known of it.
            more, off = steady(counts[1:], totals[1:]) if len(counts) > 2 else steady(counts, totals)
            mean, error = mean + more, np.hypot(error, off)
            last = self._totals["test"][-1]
        return mean + (end - last), error  # what other callbacks do at the end of an epoch, they do in each

    def _count_samples(self) -> None:
        """From the mean of the loss, which Keras weighs by samples; it is reset before a validation."""
        loss = next((metric for metric in self.model.metrics if metric.name == "loss"), None)
        if self._samples is None and isinstance(loss, keras.metrics.Mean):
            self._seen = int(loss.count)

    def _predict(self, kg_per_kwh: float | None) -> None:
        epochs = max(int(self.params.get("epochs") or 0) - (self._first_epoch or 0), len(self._past))
        found = predict(np.array(self._past), self._pace, epochs)
        if found is None:
            return
        (joules, seconds), (error, _) = (amounts.tolist() for amounts in found)
        kwh, off, used = joules / JOULES_PER_KWH, error / JOULES_PER_KWH, sum(self.epochs) / JOULES_PER_KWH
        co2e = None if kg_per_kwh is None else kwh * kg_per_kwh
        interval = (max(used, kwh - off), kwh + off)
        self.prediction = EnergyPrediction(kwh, interval, co2e, seconds, epochs, len(self._past))
        if self.first_prediction is None:
            self.first_prediction = self.prediction
            if self._verbose and len(self._past) < epochs:
                print(self.prediction, flush=True)

    def _figures(self, kg_per_kwh: float | None) -> dict[str, float]:
        joules = self.epochs[-1]
        found = {"energy_joules": joules, "energy_kwh": joules / JOULES_PER_KWH}
        if self._seen:
            found["joules_per_sample"] = joules / self._seen
        if kg_per_kwh is not None:
            found["co2e_kg"] = joules / JOULES_PER_KWH * kg_per_kwh
        # Every epoch has the same keys, as CSVLogger and History want it.
        whole = self.prediction
        low, high = whole.interval if whole is not None else (float("nan"), float("nan"))
        found["predicted_kwh"] = whole.kwh if whole is not None else float("nan")
        return {**found, "predicted_low_kwh": low, "predicted_high_kwh": high}
