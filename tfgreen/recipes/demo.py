"""The demo: prune a trained classifier, convert it to int8, check it, measure it, and report.

:func:`run_demo` is what a user of tfgreen does by hand, a function for each step. Data and network are scikit-learn's
handwritten digits and a small convolutional network, or the user's own.
"""

from __future__ import annotations

import dataclasses
import shlex
from typing import NamedTuple

import keras
import numpy as np

from tfgreen.checks import check_integer, check_number
from tfgreen.config import Config
from tfgreen.deploy.conversion.config import ConvertConfig
from tfgreen.deploy.convert import convert
from tfgreen.energy.carbon.break_even import break_even
from tfgreen.energy.carbon.grid import grid_intensity
from tfgreen.energy.logger import EnergyLogger
from tfgreen.energy.meter import EnergyMeter, EnergyReading
from tfgreen.errors import invalid_state
from tfgreen.files import atomic_folder
from tfgreen.model.call_spec import read_call_spec
from tfgreen.recipes.classification import RESULT_FILES, class_data
from tfgreen.recipes.data.data import Data
from tfgreen.recipes.data.digits import load_digits_data
from tfgreen.recipes.data.split import spread
from tfgreen.recipes.measure.check_fits import check_fits
from tfgreen.recipes.measure.measure_variants import Export, measure_variants, report_metric
from tfgreen.recipes.metrics.metric import Metric
from tfgreen.recipes.progress import Progress
from tfgreen.reports.curves import Curve, energy_curve, training_curves
from tfgreen.reports.environment import environment
from tfgreen.reports.layers import layer_rows
from tfgreen.reports.report import RunReport
from tfgreen.techniques.prune import PruneConfig, prune
from tfgreen.techniques.strip import strip
from tfgreen.training.callbacks import UpdateCompression
from tfgreen.training.schedules import PolynomialDecay
from tfgreen.typing import FilePath, PlainDict

BATCH_SIZE = 64
CALIBRATION_SAMPLES = 512
DIGITS_EPOCHS, DIGITS_RATE = 12, 3e-3  # of the float network; enough for the digits


class Pruning(NamedTuple):
    """How to prune: passes over the training data, share of zeros to reach, learning rate to begin with."""

    epochs: int
    sparsity: float
    rate: float


# The network for the digits can spare four weights in five. What a user's own can spare is not known beforehand: a
# ResNet-8 on CIFAR-10 loses 2 points at one in two and 6 at three in four, so be careful there.
DIGITS_PRUNING = Pruning(16, 0.8, 2e-3)
OWN_PRUNING = Pruning(4, 0.5, 1e-3)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DemoConfig(Config):
    """Settings of the demo: equal seeds give equal models; without a region there is no CO2 figure.

    ``epochs`` of pruning and ``sparsity`` to reach are 16 and 0.8 for the digits, 4 and 0.5 for a model of one's own.
    """

    seed: int = 0
    epochs: int | None = None
    sparsity: float | None = None
    region: str | None = None

    def __post_init__(self) -> None:
        check_integer("seed", self.seed, minimum=0, maximum=2**32 - 1)
        check_integer("epochs", self.epochs, minimum=1, optional=True)
        check_number("sparsity", self.sparsity, above=0, below=1, optional=True)
        if self.region is not None:
            grid_intensity(self.region)


def run_demo(
    output: FilePath,
    config: DemoConfig = DemoConfig(),
    *,
    model: keras.Model | None = None,
    data: Data | None = None,
    progress: Progress | None = None,
) -> RunReport:
    """Prune a classifier, convert it to full int8, verify, benchmark and account for it, and write the results.

    ``model``, which is not changed, is a trained classifier of one input and one output, ``data`` what it was trained
    on, in memory and prepared as for its training, with a test split; without both, the digits. The folder ``output``
    gets the report, ``model.tflite`` (int8), the float files it is compared with and the pruned Keras model, all at
    once at the end or none. Sets the global seeds of Python, NumPy and TensorFlow to ``config.seed``.
    """
    if (model is None) != (data is None):
        given, other = ("data", "model") if model is None else ("model", "data")
        raise invalid_state(f"{given} was given without {other}.", "Pass both, or neither for the digits.")
    with atomic_folder(output, RESULT_FILES) as folder:
        keras.utils.set_random_seed(config.seed)
        task = _Task(config, class_data(data or load_digits_data(config.seed)), progress or Progress.here())
        original = train_digits_network(task) if model is None else accept(model, task)
        with task.meter() as meter:
            pruned = prune_while_training(original, task, DIGITS_PRUNING if model is None else OWN_PRUNING)
            exports = export_variants(original, pruned, task)
        report = measure(exports, task, meter.reading, model)
        for name, export in exports.items():
            export.lite.save(folder / ("model.tflite" if name == "pruned-int8" else f"{name}.tflite"))
        pruned.save(folder / "pruned.keras")
        report.save(folder)
    return report


class _Task:
    """What the steps share: settings and data, and the notes they leave for the report."""

    def __init__(self, config: DemoConfig, data: Data, progress: Progress) -> None:
        self.config, self.data, self.progress = config, data, progress
        self.steps: list[PlainDict] = [
            {"name": "data", "source": data.source, "training": data.train.count, "test": data.test.count}
        ]
        self.curves: list[Curve] = []

    @property
    def batches(self) -> int:
        """Training steps of one epoch."""
        return -(-len(self.data.train.x) // BATCH_SIZE)

    def meter(self) -> EnergyMeter:
        """A meter of the CPU and memory, which is what the files are measured with too."""
        return EnergyMeter(self.config.region, components=("cpu", "ram"))

    def take_as(self, dtype: str) -> None:
        """Turn the samples into the dtype that the model takes (pixels often come as uint8)."""
        train, test = ((split.x.astype(dtype), split.y) for split in (self.data.train, self.data.test))
        self.data = Data.from_arrays(*train, test=test, source=self.data.source, validation_share=0)

    def fit(
        self, model: keras.Model, title: str, rate: float, epochs: int, *callbacks: keras.callbacks.Callback
    ) -> None:
        """Train in place with Adam, the learning rate falling to 0 along half a cosine."""
        schedule = keras.optimizers.schedules.CosineDecay(rate, epochs * self.batches)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=gives_logits(model, self.data.train.x))
        model.compile(keras.optimizers.Adam(schedule), loss, metrics=["accuracy"])
        with self.progress.step(title) as say:

            def show(epoch: int, logs: dict[str, float]) -> None:
                right = f"{logs['accuracy']:.1%} of the training data right"
                say(f"epoch {epoch + 1} of {epochs}, {right}", (epoch + 1) / epochs)

            logger = EnergyLogger(meter=self.meter(), verbose=False)
            callbacks = (*callbacks, logger, keras.callbacks.LambdaCallback(on_epoch_end=show))
            arguments = self.data.train.fit_arguments(BATCH_SIZE)
            history = model.fit(**arguments, epochs=epochs, verbose=0, callbacks=list(callbacks))
        learned = {name: values for name, values in history.history.items() if name in ("loss", "accuracy")}
        curve = energy_curve(logger.epochs, logger.first_prediction)
        self.curves += [*training_curves(learned, title=title), dataclasses.replace(curve, title=f"{title}: energy")]


def train_digits_network(task: _Task) -> keras.Model:
    """Train the network for the digits from scratch."""
    model = digits_network()
    task.fit(model, "train the float network", DIGITS_RATE, DIGITS_EPOCHS)
    task.steps.append({"name": "train", "epochs": DIGITS_EPOCHS, "learning_rate": DIGITS_RATE, "model": model.name})
    return model


def digits_network() -> keras.Model:
    """Three blocks of convolution, batch normalization and ReLU: 8 x 8 pixels to ten probabilities."""
    layers = keras.layers
    x = inputs = keras.Input((8, 8, 1), name="image")
    for number, filters in enumerate((32, 64, 128), 1):
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False, name=f"conv{number}")(x)
        x = layers.BatchNormalization(momentum=0.9, name=f"norm{number}")(x)
        x = layers.ReLU(name=f"relu{number}")(x)
        if number == 2:
            x = layers.MaxPooling2D(name="pool")(x)
    x = layers.GlobalAveragePooling2D(name="mean")(x)
    return keras.Model(inputs, layers.Dense(10, activation="softmax", name="digit")(x), name="digits")


def accept(model: keras.Model, task: _Task) -> keras.Model:
    """Take a user's trained model, once it is sure that the data fits it."""
    check_fits(task.data, model, loss="sparse_categorical_crossentropy")
    task.take_as(read_call_spec(model).inputs[0].dtype)
    outputs = "logits" if gives_logits(model, task.data.train.x) else "probabilities"
    task.steps.append({"name": "model", "source": "given", "model": model.name, "outputs": outputs})
    return model


def gives_logits(model: keras.Model, x: np.ndarray) -> bool:
    """Whether a classifier gives logits rather than probabilities, which lie in [0, 1] for every sample.

    Its last layer would not tell: the softmax may be an op, or inside a nested or subclassed model.
    """
    outputs = np.asarray(model(spread(x, BATCH_SIZE), training=False))
    return bool(outputs.min() < -1e-6 or outputs.max() > 1 + 1e-6)


def prune_while_training(model: keras.Model, task: _Task, default: Pruning) -> keras.Model:
    """Prune a copy of the model little by little while it goes on training; return it as plain Keras layers."""
    epochs, sparsity = task.config.epochs or default.epochs, task.config.sparsity or default.sparsity
    steps = epochs * task.batches
    times = {"begin_step": 0, "end_step": max(1, steps * 5 // 8), "frequency": max(1, steps // 40)}
    schedule = PolynomialDecay(initial_sparsity=0.0, final_sparsity=sparsity, **times)
    pruned = prune(model, PruneConfig(schedule=schedule))
    task.fit(pruned, "prune while training", default.rate, epochs, UpdateCompression())
    note = "few epochs, to be quick; more of them usually win accuracy back (--epochs)"
    task.steps.append(
        {"name": "prune", "schedule": schedule.to_dict(), "epochs": epochs, "learning_rate": default.rate, "note": note}
    )
    return strip(pruned)


def export_variants(original: keras.Model, pruned: keras.Model, task: _Task) -> dict[str, Export]:
    """Convert both models as they are, and the pruned one to full int8 with ranges seen on training samples."""
    calibration = task.data.train.samples(CALIBRATION_SAMPLES)
    int8 = ConvertConfig(quantization="int8", calibration_data=calibration)
    requested = {
        "float32": (original, ConvertConfig()),
        "pruned-float32": (pruned, ConvertConfig()),
        "pruned-int8": (pruned, int8),
    }
    exports = {}
    for name, (model, config) in requested.items():
        with task.progress.step(f"convert to {name}"):
            exports[name] = Export(model, convert(model, config))
        step: PlainDict = {"name": f"convert to {name}", "notes": exports[name].lite.notes}
        task.steps.append({**step, "calibration_samples": len(calibration)} if config is int8 else step)
    return exports


def measure(exports: dict[str, Export], task: _Task, cost: EnergyReading, given: keras.Model | None) -> RunReport:
    """Report all figures of the files; ``cost`` is the energy of making them, ``given`` the model of a user."""
    config, data = task.config, task.data
    with task.progress.step("measure the files: accuracy, latency, energy, error of the layers"):
        metric = Metric("accuracy")
        variants = measure_variants(exports, data.test, metric, region=config.region)
        first, last = exports["float32"], exports["pruned-int8"]
        layers = layer_rows(last.model, last.lite, before=first.model, x=data.test.samples(BATCH_SIZE))
    paid, before, after = None, variants[0].energy, variants[-1].energy
    if before is not None and after is not None and cost.joules is not None:
        paid = break_even(before, after, cost)
    options = {**({} if given is None else {"model": "FILE", "data": data.source}), **dataclasses.asdict(config)}
    words = [f" --{name} {shlex.quote(str(value))}" for name, value in options.items() if value is not None]
    return RunReport(
        variants=variants, metric=report_metric(metric), title=f"{first.model.name} on {data.source}",
        steps=task.steps, layers=layers, curves=task.curves, break_even=paid, environment=environment(),
        command=f"tfgreen demo{''.join(words)}", seed=config.seed,
    )  # fmt: skip
