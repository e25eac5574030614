"""fit: Keras's fit with what makes a training cheaper, each saving where it pays, and what it came to."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Sequence
from typing import Any

import keras
from typing_extensions import Unpack

from tfgreen.config import resolve_config
from tfgreen.distillation.distiller import Distiller
from tfgreen.energy.budget import EnergyBudget
from tfgreen.energy.logger import EnergyLogger
from tfgreen.energy.meter import EnergyMeter, EnergyReading
from tfgreen.model.paths import check_built_model
from tfgreen.model.rebuild import check_compiled
from tfgreen.recipes.economy.fit_data import callback_list, fit_arguments, naming_damaged_records, validation_arguments
from tfgreen.recipes.economy.training_config import TrainingConfig, TrainingOptions
from tfgreen.recipes.economy.training_plan import Plan, make_plan, training_with
from tfgreen.reports.training_board import TrainingBoard
from tfgreen.tables import TableResult, counted
from tfgreen.typing import PlainDict


@dataclasses.dataclass(frozen=True, repr=False)
class TrainingRun(TableResult):
    """What a training came to.

    Attributes:
        history: Metrics by name, one value per epoch, as ``keras.callbacks.History.history``.
        epoch: The epochs that were trained, from 0.
        seconds: Wall-clock seconds of the training.
        energy: Its energy, with its source.
        savings: What was on or off, by the name of the setting, and why.
        stopped: Why it ended before its last epoch, or "".
    """

    history: dict[str, list[float]]
    epoch: list[int]
    seconds: float
    energy: EnergyReading
    savings: dict[str, str]
    stopped: str

    _headings = ("setting", "state")
    _left = -1

    def _headline(self) -> str:
        return f"{counted(len(self.epoch), 'epoch')}, {self.seconds:.1f} s, {joules_text(self.energy)}"

    def _rows(self) -> list[tuple[str, str]]:
        return list(self.savings.items())

    def _remarks(self) -> list[str]:
        last = ", ".join(f"{name} {values[-1]:.4g}" for name, values in self.history.items() if values)
        return [line for line in (f"{self._headline()}: {last}", self.stopped) if line]


def joules_text(reading: EnergyReading) -> str:
    """An energy with its interval and its source."""
    if reading.joules is None:
        return f"no energy reading ({reading.source})"
    between = "" if reading.interval is None else " ({:.3g} to {:.3g} J)".format(*reading.interval)
    return f"{reading.joules:.3g} J{between}, {reading.source}"


def planned(
    model: keras.Model,
    data: Any,
    config: TrainingConfig,
    callbacks: Sequence[keras.callbacks.Callback],
    validation_data: Any,
) -> tuple[PlainDict, Plan]:
    """What ``keras.Model.fit`` is called with, and the plan of a training; raises for what does not fit the model."""
    if not isinstance(model, Distiller):
        check_built_model(model)
    check_compiled(model)
    arguments = fit_arguments(model, data, config)
    validation = validation_arguments(model, validation_data, data, config)
    plan = make_plan(model, config, arguments, callbacks, validation)
    return {**arguments, "validation_data": validation}, plan


def fit(
    model: keras.Model,
    data: Any,
    config: TrainingConfig | None = None,
    *,
    callbacks: Sequence[keras.callbacks.Callback] | keras.callbacks.Callback | None = (),
    validation_data: Any = None,
    verbose: str | int = "auto",
    **options: Unpack[TrainingOptions],
) -> TrainingRun:
    """Train a compiled model in place with Keras's own ``fit``, and with what makes that cheaper.

    Each saving is a setting. What does not pay for this model on this machine is left off, and named in the result.
    Compressed models and a ``tg.Distiller`` train the same way.

    Args:
        model: A built and compiled Keras model, of any kind.
        data: Arrays ``(x, y)`` or ``(x, y, sample_weight)``, batches of these (a ``tf.data.Dataset``, a ``PyDataset``),
            a ``tg.Split``, or a ``tg.Data``, of which the training split is used.
        config: Settings; their fields may be given as keyword arguments, too.
        callbacks: Keras callbacks, ``tg.UpdateCompression()`` for a compressed model.
        validation_data: In the forms of ``data``; of a ``tg.Data`` its validation split, also where ``data`` is one and
            nothing came here.
        verbose: As for ``keras.Model.fit``.

    Returns:
        The history, the time, the energy, and which savings were on.

    Raises:
        TypeError: ``model`` or ``data`` is of another kind.
        ValueError: The model is not built or not compiled, a setting does not fit it, a metric does not exist, or the
            data holds nothing. All of it before the first step, but a metric that a ``train_step`` of your own lacks.

    Example:
        >>> import keras, numpy as np, tfgreen as tg
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        >>> model.compile("sgd", "mse")
        >>> x = np.ones((8, 4), "float32")
        >>> run = tg.fit(model, (x, x[:, :1]), epochs=2, batch_size=4, accumulate=2, verbose=0)
        >>> len(run.history["loss"]), run.savings["accumulate"]
        (2, 'on: 2 parts of a batch, one update')
    """
    config = resolve_config(TrainingConfig, config, options)
    callbacks = callback_list(callbacks)
    arguments, plan = planned(model, data, config, callbacks, validation_data)
    extra: list[keras.callbacks.Callback] = [*plan.callbacks]
    budget = None
    if config.max_kwh is not None or config.max_co2_kg is not None:
        budget = EnergyBudget(config.max_kwh, config.max_co2_kg, config.region)
        extra.append(budget)
    meter = EnergyMeter(region=config.region)
    start = time.perf_counter()
    with contextlib.ExitStack() as stack:
        stack.enter_context(naming_damaged_records())
        for context in plan.contexts:
            stack.enter_context(context)
        stack.enter_context(training_with(model, plan.steps))
        stack.enter_context(meter)
        for callback in (*extra, *callbacks):  # Keras does not tell them when it raises
            if isinstance(callback, (EnergyBudget, EnergyLogger, TrainingBoard)):
                stack.callback(callback.close)
        history = model.fit(
            **arguments, epochs=config.epochs, callbacks=[*extra, *callbacks], verbose=verbose,
        )  # fmt: skip
    seconds = time.perf_counter() - start
    stopped = budget.spent if budget is not None else ""
    if not stopped and plan.stopping is not None and plan.stopping.stopped_epoch:
        stopped = f"It stopped early: {config.early_stopping} had not improved for {counted(config.patience, 'epoch')}."
    return TrainingRun(dict(history.history), list(history.epoch), seconds, meter.reading, plan.savings, stopped)
