"""The plan of a training: which savings are on for a model, its data and this machine, and what each needs."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import keras
import tensorflow as tf

from tfgreen.distillation.distiller import Distiller
from tfgreen.errors import invalid_state, invalid_value
from tfgreen.model.batch_norm import fuse_training, why_unfused
from tfgreen.model.cost import profile
from tfgreen.model.paths import walk
from tfgreen.recipes.economy.fit_data import AnyBatch, steps_of
from tfgreen.recipes.economy.metric_names import better_is, check_metric, metric_names, unknown_metric
from tfgreen.recipes.economy.training_config import TrainingConfig
from tfgreen.tables import counted
from tfgreen.training.accumulate import TrainStep, accumulated, naming_small_batches
from tfgreen.training.hardest_samples import HardestSamples
from tfgreen.training.progressive_resizing import ProgressiveResizing, any_size
from tfgreen.training.reduced_precision import computing_in, why_no_gain
from tfgreen.transforms.compressed import compressed_layers
from tfgreen.typing import PlainDict

_EXECUTED = 16  # batches in one call of a small model
_SMALL_STEP = 100e6  # multiply-accumulates of a batch, which take a few milliseconds forward and backward


@dataclasses.dataclass
class Plan:
    """What is set up around one training."""

    savings: dict[str, str] = dataclasses.field(default_factory=dict)
    steps: list[Callable[[TrainStep], TrainStep]] = dataclasses.field(default_factory=list)  # the innermost first
    callbacks: list[keras.callbacks.Callback] = dataclasses.field(default_factory=list)
    contexts: list[contextlib.AbstractContextManager[Any]] = dataclasses.field(default_factory=list)
    stopping: keras.callbacks.EarlyStopping | None = None


def make_plan(
    model: keras.Model,
    config: TrainingConfig,
    arguments: PlainDict,
    callbacks: Sequence[keras.callbacks.Callback],
    validation: Any = None,
) -> Plan:
    """Turn on what a config asks for and the model, the data and the machine gain from."""
    plan = Plan()
    _check_strategy(model)
    if config.accumulate > 1 or config.early_stopping is not None:
        names = metric_names(model, arguments)  # which builds them
        if config.early_stopping is not None and names is None:
            plan.callbacks.append(KnownMetric(config.early_stopping, validation is not None))
        elif config.early_stopping is not None:
            check_metric("early_stopping", config.early_stopping, names or (), validation is not None)
    if config.early_stopping is not None:
        plan.stopping = keras.callbacks.EarlyStopping(
            config.early_stopping, patience=config.patience, restore_best_weights=True,
            mode=better_is(model, config.early_stopping),
        )  # fmt: skip
        plan.callbacks.append(plan.stopping)
    datasets = [data for data in (arguments["x"], validation) if isinstance(data, tf.data.Dataset)]
    if any(int(data.cardinality()) < 0 for data in datasets):
        plan.callbacks.append(AnyBatch())
    norms = [layer for _, layer in walk(model) if isinstance(layer, keras.layers.BatchNormalization)]
    if norms and config.fuse_batch_norm:
        fuse_training(model)
        left = [f"'{norm.name}' is not: {why}" for norm in norms if (why := why_unfused(norm))]
        text = f"{len(norms) - len(left)} of {len(norms)} layers" + "".join(f"; {why}" for why in left[:1])
        plan.savings["fuse_batch_norm"] = f"{'on' if len(left) < len(norms) else 'off'}: {text}"
    if config.accumulate > 1:
        _check_batch(arguments, config)
        accumulated(model, model.train_step, config.accumulate)  # what it refuses, it refuses here
        plan.contexts.append(naming_small_batches())
        plan.steps.append(functools.partial(accumulated, model, parts=config.accumulate))
        plan.savings["accumulate"] = f"on: {config.accumulate} parts of a batch, one update"
    if config.keep_fraction < 1:
        hardest = HardestSamples(model, config.keep_fraction, config.epochs)
        if all(hardest.fraction_at(epoch) == 1 for epoch in range(config.epochs)):
            plan.savings["keep_fraction"] = f"off: no epoch but the last lies between 50 % and 90 % of {config.epochs}"
        else:
            plan.callbacks.append(hardest)
            plan.steps.append(hardest.step)
            share = f"the hardest {100 * config.keep_fraction:.3g} %"
            plan.savings["keep_fraction"] = f"on: {share} from 50 % to 90 % of the training"
    if config.resize is not None:
        resizing = ProgressiveResizing(model, config.resize, config.epochs)
        if resizing.size_at(0) == resizing.full:
            plan.savings["resize"] = f"off: {counted(config.epochs, 'epoch')}, of which none is left for smaller images"
        else:
            plan.callbacks.append(resizing)
            plan.steps.append(resizing.step)
            plan.contexts.append(any_size(model))
            plan.savings["resize"] = f"on: from {resizing.size_at(0)} to {resizing.full}"
    if config.mixed_precision is not None:
        why = why_no_gain(config.mixed_precision)
        plan.savings["mixed_precision"] = f"off: {why}" if why else f"on: {config.mixed_precision}"
        if not why:
            plan.contexts.append(computing_in(model, config.mixed_precision))
    steps = steps_of(arguments, config)
    if config.schedule is not None:
        _set_schedule(model, config.schedule, config.epochs, steps)
        kind = "cosine" if config.schedule == "cosine" else type(config.schedule).__name__
        plan.savings["schedule"] = f"on: the learning rate follows {kind}"
    if config.early_stopping is not None:
        waits = counted(config.patience, "epoch")
        plan.savings["early_stopping"] = f"on: after {waits} in which {config.early_stopping} did not improve"
    for name, unit in (("max_kwh", "kWh"), ("max_co2_kg", "kg of CO2e")):
        if (limit := getattr(config, name)) is not None:
            plan.savings[name] = f"on: ends when {limit:g} {unit} are spent"
    count, why = _steps_per_execution(model, config, steps, callbacks)
    plan.savings["steps_per_execution"] = f"{'on' if count > 1 else 'off'}: {count}, {why}"
    plan.contexts.append(_executing(model, count))
    return plan


def _check_strategy(model: keras.Model) -> None:
    strategy = model.distribute_strategy
    if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy) and strategy.num_replicas_in_sync > 1:
        raise invalid_state(
            "Keras 3's fit does not train under tf.distribute.MultiWorkerMirroredStrategy (keras-team/keras#20585).",
            "Call strategy.run in a loop of your own, with tg.UpdateCompression(model).step() after each step, or "
            "train on one machine under MirroredStrategy.",
        )


def _check_batch(arguments: PlainDict, config: TrainingConfig) -> None:
    """Raise if batches of arrays are too small to be cut. Those of datasets are known as they come."""
    if "batch_size" in arguments:
        known = len(keras.tree.flatten(arguments["x"])[0])
        samples = min(config.batch_size, known)
        if config.accumulate > samples:
            raising = "Raise batch_size, which is the number of samples of one update, or lower"
            fix = f"{raising if known > config.batch_size else 'There are no more: lower'} accumulate."
            expected = f"at most the {samples} samples of a batch"
            raise invalid_value("accumulate", expected=expected, received=config.accumulate, fix=fix)


def _set_schedule(
    model: keras.Model,
    schedule: keras.optimizers.schedules.LearningRateSchedule | Literal["cosine"],
    epochs: int,
    steps: int | None,
) -> None:
    if isinstance(schedule, str):
        if steps is None:
            fix = "Pass steps_per_epoch, or a dataset with .apply(tf.data.experimental.assert_cardinality(batches))."
            expected = "data of known length, for schedule='cosine'"
            raise invalid_value("data", expected=expected, received="a dataset of unknown length", fix=fix)
        rate = model.optimizer.learning_rate
        if not isinstance(rate, keras.Variable):  # but the value that a schedule has now
            fix = "Compile the model with a number, or leave schedule out."
            raise invalid_value("schedule", expected="one schedule", received="two, with the optimizer's", fix=fix)
        schedule = keras.optimizers.schedules.CosineDecay(float(keras.ops.convert_to_numpy(rate)), epochs * steps)
    model.optimizer.learning_rate = schedule


def _steps_per_execution(
    model: keras.Model, config: TrainingConfig, steps: int | None, callbacks: Sequence[keras.callbacks.Callback]
) -> tuple[int, str]:
    """How many batches run in one call, and why."""
    if config.steps_per_execution != "auto":
        if config.steps_per_epoch is not None and config.steps_per_epoch % config.steps_per_execution:
            expected = f"a divisor of steps_per_epoch ({config.steps_per_epoch}), beyond which Keras would run on"
            raise invalid_value("steps_per_execution", expected=expected, received=config.steps_per_execution)
        return config.steps_per_execution, "as set"
    if compressed_layers(model):
        return 1, "a compressed model counts its steps one by one"
    if isinstance(model, Distiller):
        return 1, "the teacher runs in each step, too"
    if tf.distribute.has_strategy() or model.distribute_strategy.num_replicas_in_sync > 1:
        return 1, "the devices of a strategy meet in each step"
    if config.accumulate > 1:
        return 1, "parts of a batch take long enough"
    base = keras.callbacks.Callback
    for callback in callbacks:
        hooks = ("on_train_batch_begin", "on_train_batch_end")
        if any(getattr(getattr(callback, hook), "__func__", None) is not getattr(base, hook) for hook in hooks):
            return 1, f"{type(callback).__name__} is called for each batch"
    try:
        macs = profile(model).macs
    except ValueError:  # a subclassed model that does not know its inputs
        macs = None
    if macs is None or macs * config.batch_size > _SMALL_STEP:
        return 1, "a step takes so long that calling it is nothing beside it"
    if steps is None or steps < 2:
        return 1, "the number of steps is not known" if steps is None else "an epoch is one step"
    if config.steps_per_epoch is None:
        return min(_EXECUTED, steps), "steps are short"
    # Keras ends an epoch of so many steps only where a call ends.
    count = max(count for count in range(1, _EXECUTED + 1) if config.steps_per_epoch % count == 0)
    return count, "steps are short" if count > 1 else "no such number divides steps_per_epoch"


@contextlib.contextmanager
def _executing(model: keras.Model, count: int) -> Iterator[None]:
    """In the block, so many batches run in one call."""
    before = model.steps_per_execution
    model.steps_per_execution = count
    try:
        yield
    finally:
        model.steps_per_execution = before
        if count != before:  # Keras keeps the functions that it made for the other count
            model.train_function = model.test_function = model.predict_function = None


@contextlib.contextmanager
def training_with(model: keras.Model, steps: Sequence[Callable[[TrainStep], TrainStep]]) -> Iterator[None]:
    """In the block, Keras trains ``model`` with its ``train_step`` inside of others."""
    step = model.train_step
    for around in steps:
        step = around(step)
    model.train_function = None  # Keras makes it of train_step, once
    if steps:
        vars(model)["train_step"] = step  # past Keras's __setattr__, which would track the value
    try:
        yield
    finally:
        vars(model).pop("train_step", None)
        model.train_function = None


class KnownMetric(keras.callbacks.Callback):
    """Raises after the first batch of a step of a user's own unless a metric exists, and puts the weights back.

    Keras warns at the end of each epoch. What other steps return is known before, see :func:`metric_names`.
    """

    def __init__(self, name: str, validates: bool) -> None:
        super().__init__()
        self.name, self.validates = name, validates
        self._before: list[tuple[keras.Variable, Any]] | None = None

    def on_train_begin(self, logs: PlainDict | None = None) -> None:
        variables = [*self.model.variables, *(self.model.optimizer.variables if self.model.optimizer else ())]
        self._before = [(variable, keras.ops.convert_to_numpy(variable)) for variable in variables]

    def on_train_batch_end(self, batch: int, logs: PlainDict | None = None) -> None:
        before, self._before = self._before, None
        if before is not None and self.name.removeprefix("val_" if self.validates else "") not in (logs or {}):
            for variable, value in before:
                variable.assign(value)
            raise unknown_metric("early_stopping", self.name, list(logs or {}), self.validates)
