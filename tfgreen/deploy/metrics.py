"""What evaluate() computes from predictions: the top-1 accuracy of class scores, or any of Keras's metrics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias, Union

import numpy as np

from tfgreen.checks import check_instance
from tfgreen.deploy.tflite.contents import TensorInfo
from tfgreen.errors import InvalidValueError, invalid_type, invalid_value, reason_of
from tfgreen.typing import Arrays, Tensors

if TYPE_CHECKING:
    import keras

# What Model.compile takes as metrics: for several outputs a list for each, or a dict by name.
Metrics: TypeAlias = "Sequence[Metric] | Mapping[str, Metric | Sequence[Metric]] | Sequence[Sequence[Metric]]"
Metric: TypeAlias = Union[str, "keras.metrics.Metric"]


def check_classifier(outputs: Sequence[TensorInfo]) -> None:
    """Raise unless there is one output, of shape ``(samples, classes)`` with two classes or more."""
    if len(outputs) != 1 or len(outputs[0].shape) != 2 or outputs[0].shape[1] == 1:
        raise invalid_value(
            "evaluate without metrics",
            expected="a model with one output of shape (samples, classes), two classes or more",
            received=f"outputs {[(output.name, output.shape) for output in outputs]}",
            fix="Say what to compute: metrics=['mae'].",
        )


def top1_accuracy(scores: np.ndarray, y: np.ndarray) -> float:
    """The share of samples whose highest score is that of their label; the first of equal scores counts.

    ``scores`` have the shape ``(samples, classes)``; ``y`` holds integers, as a row or a column, or is one-hot.
    """
    samples, classes = scores.shape
    labels = np.asarray(y)
    if labels.ndim == 2 and labels.shape[1] == classes:
        labels = labels.argmax(axis=1)
    elif labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.dtype.kind not in "fiub":
        fix = "Number them in the order of the outputs: y = np.array([names.index(label) for label in labels])."
        raise invalid_type(f"y (dtype {labels.dtype})", expected="class numbers", received=y, fix=fix)
    for name, array in (("y", labels), ("scores of the file", scores)):
        if count := count_nan([array]):
            fix = "Leave out samples without a label." if name == "y" else "Look for NaN in x, or verify the file."
            raise invalid_value(name, expected="numbers", received=f"{count} NaN", fix=fix)
    if labels.ndim != 1 or (labels.dtype.kind == "f" and (labels % 1 != 0).any()):
        raise invalid_value(
            "y",
            expected=f"integer labels, or one-hot rows of {classes} classes",
            received=f"shape {np.shape(y)}, dtype {np.asarray(y).dtype}",
        )
    if len(labels) != samples:
        raise invalid_value("y", expected=f"a label for each of the {samples} samples", received=len(labels))
    if samples and not (0 <= labels.min() and labels.max() < classes):
        raise invalid_value("y", expected=f"labels from 0 to {classes - 1}", received=f"{labels.min()}..{labels.max()}")
    return float((scores.argmax(axis=1) == labels).mean())


def count_nan(arrays: Iterable[np.ndarray]) -> int:
    """How many values of arrays are NaN."""
    return sum(int(np.isnan(array).sum()) for array in arrays if array.dtype.kind == "f")


def keras_metrics(predictions: Arrays, y: Arrays, metrics: Metrics) -> dict[str, float]:
    """Compute Keras's metrics of arrays of shape ``(samples, ...)``, as ``Model.evaluate`` does of those of a model."""
    import tensorflow as tf

    try:
        values = metric_model(metrics).evaluate(columns(predictions), columns(y), verbose=0, return_dict=True)
    except (ValueError, TypeError, tf.errors.InvalidArgumentError) as error:
        raise InvalidValueError(f"metrics {metrics!r} cannot be computed: {reason_of(error)}.") from error
    return {name: float(value) for name, value in values.items() if name != "loss"}


def metric_model(metrics: Metrics) -> keras.Model:
    """A model that hands its inputs on, compiled with metrics: it computes them of predictions."""
    import keras

    check_instance("metrics", metrics, (list, tuple, Mapping), "a list of metrics, or a dict of them by output")
    if not metrics:
        raise invalid_value("metrics", expected="at least one", received=metrics, fix="Name one: metrics=['mae'].")

    class Identity(keras.Model):
        def call(self, inputs: Tensors) -> Tensors:
            return inputs

        def compute_loss(self, *args: object, **kwargs: object) -> float:
            return 0.0

    for metric in keras.tree.flatten(metrics):
        if isinstance(metric, keras.metrics.Metric):
            metric.reset_state()  # Keras would begin with the state that another model left in it
    model = Identity()
    model.compile(metrics=metrics)
    return model


def columns(arrays: Arrays) -> Arrays:
    """Arrays of rank 1 as columns: Keras averages rows batch by batch, also where the last batch is smaller."""
    import keras

    return keras.tree.map_structure(lambda array: array[:, None] if array.ndim == 1 else array, arrays)
