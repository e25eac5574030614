"""fit: Keras's fit with what makes a training cheaper, each saving where it pays, and what it came to."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, TypedDict

import keras
import tensorflow as tf
from typing_extensions import Unpack

from tfgreen.checks import check_bool, check_instance, check_integer, check_number, check_option
from tfgreen.config import Config, resolve_config
from tfgreen.distillation.distiller import Distiller
from tfgreen.energy.budget import EnergyBudget
from tfgreen.energy.meter import EnergyMeter, EnergyReading
from tfgreen.errors import invalid_type, invalid_value
from tfgreen.model.batch_norm import fuse_training, why_unfused
from tfgreen.model.cost import profile
from tfgreen.model.paths import check_built_model, walk
from tfgreen.model.rebuild import check_compiled
from tfgreen.recipes.data import Data
from tfgreen.reports.training_board import TrainingBoard
from tfgreen.tables import TableResult
from tfgreen.training.accumulate import TrainStep, accumulated
from tfgreen.training.hardest_samples import HardestSamples
from tfgreen.training.progressive_resizing import ProgressiveResizing, any_size
from tfgreen.training.reduced_precision import computing_in, why_no_gain
from tfgreen.transforms.compressed import compressed_layers
from tfgreen.typing import PlainDict

_EXECUTED = 16  # batches in one call of a small model
_SMALL_STEP = 100e6  # multiply-accumulates of a batch, which take a few milliseconds forward and backward

Precision = Literal["bfloat16", "float16"]


@dataclasses.dataclass(frozen=True)
class TrainingConfig(Config):
    """How ``tg.fit`` trains.

    Args:
        epochs: Times that the data is seen.
        batch_size: Samples of one update, of arrays; batches of a ``tf.data.Dataset`` are taken as they are.
        shuffle: Whether arrays are shuffled before each epoch.
        accumulate: Parts in which a batch goes through the model, >= 1. The update is that of the whole batch, and the
            memory that of a part. (A BatchNormalization sees the part.)
        mixed_precision: "bfloat16" or "float16", None for float32. It is left off, and said, where the hardware gains
            nothing from it, as a CPU does not. Weights and exported files stay float32.
        steps_per_execution: Batches that run in one call, or "auto": several where a step takes less than ten
            milliseconds.
        early_stopping: A metric ("val_loss") that ends the training when it has not improved for ``patience`` epochs;
            the best weights are restored. None trains all epochs.
        patience: Epochs to wait, >= 1.
        max_kwh, max_co2_kg, region: A budget at which the training ends, see :class:`tg.EnergyBudget`.
        resize: Share of the sides, in (0, 1), that images have in the first half of the training; they grow to full
            size until 80 % of it. None for full size always.
        keep_fraction: Share of each batch, the samples of the largest loss, that is trained on between 50 % and 90 % of
            the training, in (0, 1]; 1 for all.
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
        if self.accumulate > self.batch_size:
            fix = "Raise batch_size, which is the number of samples of one update, or lower accumulate."
            expected = f"at most the batch_size of {self.batch_size}"
            raise invalid_value("accumulate", expected=expected, received=self.accumulate, fix=fix)
        if self.mixed_precision is not None:
            check_option("mixed_precision", self.mixed_precision, ("bfloat16", "float16"))
        if self.steps_per_execution != "auto":
            check_integer("steps_per_execution", self.steps_per_execution, minimum=1)
        check_instance("early_stopping", self.early_stopping, (str, type(None)), "the name of a metric or None")
        if self.max_kwh is not None or self.max_co2_kg is not None:
            EnergyBudget(self.max_kwh, self.max_co2_kg, self.region)
        if self.resize is not None:
            check_number("resize", self.resize, above=0, below=1)
        check_number("keep_fraction", self.keep_fraction, above=0, maximum=1)
        check_integer("steps_per_epoch", self.steps_per_epoch, minimum=1, optional=True)
        if self.schedule is not None and not isinstance(self.schedule, keras.optimizers.schedules.LearningRateSchedule):
            check_option("schedule", self.schedule, ("cosine",))


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
        joules = "no energy reading" if self.energy.joules is None else f"{self.energy.joules:.3g} J"
        return f"{len(self.epoch)} epochs, {self.seconds:.1f} s, {joules} ({self.energy.source})"

    def _rows(self) -> list[tuple[str, str]]:
        return list(self.savings.items())

    def _remarks(self) -> list[str]:
        last = ", ".join(f"{name} {values[-1]:.4g}" for name, values in self.history.items() if values)
        return [line for line in (f"{self._headline()}: {last}", self.stopped) if line]


def fit(
    model: keras.Model,
    data: Any,
    config: TrainingConfig | None = None,
    *,
    callbacks: Sequence[keras.callbacks.Callback] = (),
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
            or a ``tg.Data``, of which the training split is used.
        config: Settings; their fields may be given as keyword arguments, too.
        callbacks: Keras callbacks, ``tg.UpdateCompression()`` for a compressed model.
        validation_data: As for ``keras.Model.fit``.
        verbose: As for ``keras.Model.fit``.

    Returns:
        The history, the time, the energy, and which savings were on.

    Raises:
        TypeError: ``model`` or ``data`` is of another kind.
        ValueError: The model is not built or not compiled, a setting does not fit it, or a metric does not exist.

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
    if not isinstance(model, Distiller):
        check_built_model(model)
    check_compiled(model)
    arguments = _fit_arguments(data, config)
    plan = _plan(model, config, arguments)
    extra: list[keras.callbacks.Callback] = [*plan.callbacks]
    stopping = None
    if config.early_stopping is not None:
        stopping = keras.callbacks.EarlyStopping(
            config.early_stopping, patience=config.patience, restore_best_weights=True
        )
        extra += [_KnownMetric(config.early_stopping, validation_data is not None), stopping]
    budget = None
    if config.max_kwh is not None or config.max_co2_kg is not None:
        budget = EnergyBudget(config.max_kwh, config.max_co2_kg, config.region)
        extra.append(budget)
    meter = EnergyMeter(region=config.region)
    start = time.perf_counter()
    with contextlib.ExitStack() as stack:
        for context in plan.contexts:
            stack.enter_context(context)
        stack.enter_context(_training_with(model, plan.steps))
        stack.enter_context(meter)
        for callback in (*extra, *callbacks):  # Keras does not tell them when it raises
            if isinstance(callback, (EnergyBudget, TrainingBoard)):
                stack.callback(callback.close)
        history = model.fit(
            **arguments, epochs=config.epochs, callbacks=[*extra, *callbacks], validation_data=validation_data,
            verbose=verbose,
        )  # fmt: skip
    seconds = time.perf_counter() - start
    stopped = budget.spent if budget is not None else ""
    if not stopped and stopping is not None and stopping.stopped_epoch:
        stopped = f"It stopped early: {config.early_stopping} had not improved for {config.patience} epochs."
    return TrainingRun(dict(history.history), list(history.epoch), seconds, meter.reading, plan.savings, stopped)


@dataclasses.dataclass
class _Plan:
    savings: dict[str, str] = dataclasses.field(default_factory=dict)
    steps: list[Callable[[TrainStep], TrainStep]] = dataclasses.field(default_factory=list)  # the innermost first
    callbacks: list[keras.callbacks.Callback] = dataclasses.field(default_factory=list)
    contexts: list[contextlib.AbstractContextManager[Any]] = dataclasses.field(default_factory=list)


def _plan(model: keras.Model, config: TrainingConfig, arguments: PlainDict) -> _Plan:
    plan = _Plan()
    norms = [layer for _, layer in walk(model) if isinstance(layer, keras.layers.BatchNormalization)]
    if norms and config.fuse_batch_norm:
        fuse_training(model)
        plan.savings["fuse_batch_norm"] = f"on: {sum(not why_unfused(norm) for norm in norms)} of {len(norms)} layers"
    if config.accumulate > 1:
        accumulated(model, model.train_step, config.accumulate)  # what it refuses, it refuses here
        plan.steps.append(functools.partial(accumulated, model, parts=config.accumulate))
        plan.savings["accumulate"] = f"on: {config.accumulate} parts of a batch, one update"
    if config.keep_fraction < 1:
        hardest = HardestSamples(model, config.keep_fraction, config.epochs)
        plan.callbacks.append(hardest)
        plan.steps.append(hardest.step)
        plan.savings["keep_fraction"] = f"on: the hardest {config.keep_fraction:.0%} from 50 % to 90 % of the training"
    if config.resize is not None:
        resizing = ProgressiveResizing(model, config.resize, config.epochs)
        plan.callbacks.append(resizing)
        plan.steps.append(resizing.step)
        plan.contexts.append(any_size(model))
        plan.savings["resize"] = f"on: from {resizing.size_at(0)} to {resizing.full}"
    if config.mixed_precision is not None:
        why = why_no_gain(config.mixed_precision)
        plan.savings["mixed_precision"] = f"off: {why}" if why else f"on: {config.mixed_precision}"
        if not why:
            plan.contexts.append(computing_in(model, config.mixed_precision))
    steps = _steps(arguments, config)
    if config.schedule is not None:
        _set_schedule(model, config.schedule, config.epochs, steps)
    count, why = _steps_per_execution(model, config, steps)
    plan.savings["steps_per_execution"] = f"{'on' if count > 1 else 'off'}: {count}, {why}"
    plan.contexts.append(_attribute(model, "steps_per_execution", count))
    return plan


def _fit_arguments(data: Any, config: TrainingConfig) -> PlainDict:
    """What ``keras.Model.fit`` is called with for ``data``."""
    if isinstance(data, Data):
        data = (data.x_train, data.y_train)
    if isinstance(data, (tf.data.Dataset, keras.utils.PyDataset)):
        shuffle = config.shuffle and not isinstance(data, tf.data.Dataset)  # which is shuffled by the user, or not
        return {"x": data, "shuffle": shuffle, "steps_per_epoch": config.steps_per_epoch}
    if not isinstance(data, tuple) or not 2 <= len(data) <= 3:
        expected = "(x, y), (x, y, sample_weight), a tf.data.Dataset, a PyDataset or a tg.Data"
        raise invalid_type("data", expected=expected, received=data)
    lengths = {len(leaf) for part in data for leaf in keras.tree.flatten(part) if leaf is not None}
    if len(lengths) != 1:
        raise invalid_value("data", expected="arrays of as many samples", received=sorted(lengths))
    names = ("x", "y", "sample_weight")
    fixed = {"batch_size": config.batch_size, "shuffle": config.shuffle, "steps_per_epoch": config.steps_per_epoch}
    return {**dict(zip(names, data)), **fixed}


def _steps(arguments: PlainDict, config: TrainingConfig) -> int | None:
    """The batches of an epoch, None where that is not known."""
    if config.steps_per_epoch is not None:
        return config.steps_per_epoch
    data = arguments["x"]
    if isinstance(data, tf.data.Dataset):
        count = int(data.cardinality())
        if count == tf.data.INFINITE_CARDINALITY:
            fix = "Pass steps_per_epoch, or a dataset without repeat()."
            raise invalid_value("data", expected="a dataset that ends", received="one without end", fix=fix)
        return count if count > 0 else None
    if isinstance(data, keras.utils.PyDataset):
        return data.num_batches
    return -(-len(keras.tree.flatten(data)[0]) // config.batch_size)


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


def _steps_per_execution(model: keras.Model, config: TrainingConfig, steps: int | None) -> tuple[int, str]:
    """How many batches run in one call, and why."""
    if config.steps_per_execution != "auto":
        return config.steps_per_execution, "as set"
    if compressed_layers(model):
        return 1, "a compressed model counts its steps one by one"
    if tf.distribute.has_strategy() or model.distribute_strategy.num_replicas_in_sync > 1:
        return 1, "the devices of a strategy meet in each step"
    if config.accumulate > 1:
        return 1, "parts of a batch take long enough"
    try:
        macs = profile(model).macs
    except ValueError:  # a subclassed model that does not know its inputs
        macs = None
    if macs is None or macs * config.batch_size > _SMALL_STEP:
        return 1, "a step takes so long that calling it is nothing beside it"
    return max(1, min(_EXECUTED, steps or 1)), "steps are short"


@contextlib.contextmanager
def _attribute(model: keras.Model, name: str, value: object) -> Iterator[None]:
    """Set an attribute of a model, in the block."""
    before = getattr(model, name)
    setattr(model, name, value)
    try:
        yield
    finally:
        setattr(model, name, before)


@contextlib.contextmanager
def _training_with(model: keras.Model, steps: Sequence[Callable[[TrainStep], TrainStep]]) -> Iterator[None]:
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


class _KnownMetric(keras.callbacks.Callback):
    """Raises in the first batch unless a metric exists, where Keras warns at the end of each epoch."""

    def __init__(self, name: str, validates: bool) -> None:
        super().__init__()
        self.name, self.validates = name, validates
        self._checked = False

    def on_train_batch_end(self, batch: int, logs: PlainDict | None = None) -> None:
        if self._checked:
            return
        self._checked = True
        names = list(logs or {})
        names += [f"val_{name}" for name in names] if self.validates else []
        if self.name not in names:
            near = difflib.get_close_matches(self.name, names, 1)
            fix = f"Did you mean '{near[0]}'?" if near else ""
            if self.name.startswith("val_") and not self.validates:
                fix = "Pass validation_data."
            raise invalid_value("early_stopping", expected=f"one of {names}", received=self.name, fix=fix)
