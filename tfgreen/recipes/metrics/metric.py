"""Metric: what a model is judged by, whether more of it is better, and its value on a split, in Keras or of a file."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias, Union

import keras

from tfgreen.checks import check_instance, check_option
from tfgreen.deploy.litert_model import LiteRTModel
from tfgreen.deploy.metrics import keras_metrics
from tfgreen.errors import invalid_state, invalid_value
from tfgreen.recipes.data.split import Split
from tfgreen.recipes.metrics.compiled_metrics import compiled_metrics
from tfgreen.recipes.metrics.direction import Direction, direction_of, is_metric, is_share, metric_name
from tfgreen.recipes.metrics.predictions import predictions_of
from tfgreen.tables import SentenceResult

# What Keras takes as a metric or a loss: its name, an object, or a function of targets and predictions.
KerasMetric: TypeAlias = Union[str, keras.metrics.Metric, keras.losses.Loss, Any]


@dataclasses.dataclass(frozen=True, repr=False)
class MetricValue(SentenceResult):
    """A value of a metric, and where it is from.

    Attributes:
        name: The name of the metric.
        value: The value.
        split: The name of the split it was measured on: "train", "validation" or "test".
        samples: How many samples were measured.
        source: Where these are from.
    """

    name: str
    value: float
    split: str
    samples: int
    source: str

    def __str__(self) -> str:
        return f"{self.name} {self.value:.4g} on {self.samples:,} samples of {self.split} ({self.source})"


class Judged(NamedTuple):
    """A metric of Keras, what it judges, and what it weighs in a sum."""

    metric: Any
    predictions: Any
    targets: Any
    weight: float


class Metric:
    """What models are compared by: any metric or loss of Keras, with the direction that is better.

    Args:
        metric: A name that Keras knows ("accuracy", "mae"), a ``keras.metrics.Metric``, a ``keras.losses.Loss`` or a
            function ``f(y_true, y_pred)``.
        output: The name of the output that it judges, where the model has several.
        direction: "higher" or "lower", which is better; None where the name tells: accuracy, AUC, F1, IoU and R2 are
            better higher, losses and errors lower.
        name: What to call it; None for its own name, after that of the output.

    Attributes:
        name: What it is called.
        output: The name of the output, or None.
        direction: "higher" or "lower".
        is_share: Whether it lies in [0, 1] and reads as percent, as accuracy and IoU do; a drop then is in points.

    Raises:
        TypeError, ValueError: The metric is something else, Keras does not know it, or its name tells no direction.

    Example:
        >>> import keras, numpy as np, tfgreen as tg
        >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, kernel_initializer="ones")])
        >>> split = tg.Split(np.array([[1.0], [3.0]]), np.array([2.0, 2.0]), name="validation")
        >>> metric = tg.Metric("mae")
        >>> metric.direction, metric.evaluate(model, split).value, metric.evaluate(tg.convert(model), split).value
        ('lower', 1.0, 1.0)
        >>> print(metric.evaluate(model, split))
        mae 1 on 2 samples of validation (arrays)
        >>> tg.Metric("accuracy").drop(before=0.9, after=0.75) > 0
        True
    """

    def __init__(
        self,
        metric: KerasMetric,
        *,
        output: str | None = None,
        direction: Direction | None = None,
        name: str | None = None,
    ) -> None:
        check_instance("output", output, (str, type(None)), "the name of an output, or None")
        own = metric_name(metric)
        check_option("direction", direction, ("higher", "lower", None))
        self.name = name or (own if output is None else f"{output}_{own}")
        self.output = output
        self.direction: Direction = direction or direction_of(metric)
        self.is_share = is_share(metric)
        self.parts: list[tuple[str | None, Any, float]] = [(output, metric, 1.0)]  # output, metric, weight

    def __repr__(self) -> str:
        return f"<Metric {self.name}, {self.direction} is better>"

    @classmethod
    def of(cls, model: keras.Model, name: str | None = None, *, direction: Direction | None = None) -> Metric:
        """A metric that a model was compiled with.

        Args:
            model: A compiled model.
            name: As in the history of ``fit``: "accuracy", "loss", or with several outputs "label_accuracy",
                "label_loss"; ``"val_"`` before it is left out. None for the first metric, or the loss where there is
                none.
            direction: "higher" or "lower"; None where the name tells.

        Raises:
            ValueError: The model is not compiled, or has no such metric.

        Example:
            >>> import keras, tfgreen as tg
            >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
            >>> model.compile("adam", "mse", metrics=["mae"])
            >>> tg.Metric.of(model), tg.Metric.of(model, "val_loss")
            (<Metric mae, lower is better>, <Metric loss, lower is better>)
        """
        found = compiled_metrics(model)
        if not found:
            sentence = f"Model '{model.name}' was compiled without a metric and a loss."
            raise invalid_state(sentence, "Call model.compile(optimizer, loss, metrics=[...]).")
        wanted = next(iter(found)) if name is None else name.removeprefix("val_")
        if wanted not in found:
            near = difflib.get_close_matches(wanted, found, 1)
            fix = f"Did you mean '{near[0]}'?" if near else "Compile the model with it: metrics=[...]."
            raise invalid_value("metric", expected=f"one of {list(found)}", received=repr(name), fix=fix)
        compiled = found[wanted]
        output, metric, _ = compiled[0]
        is_loss = wanted == "loss" or wanted.endswith("_loss")
        result = cls(metric, output=output, direction=direction or ("lower" if is_loss else None), name=wanted)
        result.parts, result.is_share = compiled, not is_loss and is_share(metric)
        return result

    def evaluate(self, model: keras.Model | LiteRTModel, split: Split) -> MetricValue:
        """The value of the metric on a split, of a Keras model or of a LiteRT file, computed the same way.

        Sample weights are left out, as Keras leaves them out of ``metrics``.

        Raises:
            TypeError: ``model`` or ``split`` is something else.
            ValueError: The split has no targets, does not fit the model, or Keras cannot compute the metric.
        """
        check_instance("split", split, Split, "a tg.Split, such as data.validation")
        return evaluate_metrics(model, split, [self])[self.name]

    def value(self, predictions: Mapping[str, Any], targets: Mapping[str, Any], split: Split) -> MetricValue:
        """The value of what a model predicted of a split."""
        value, count = 0.0, 0
        for judged in self.judged(predictions, targets):
            (part,) = keras_metrics(judged.predictions, judged.targets, [judged.metric]).values()
            value, count = value + judged.weight * part, len(judged.targets)
        if self.is_share and not (math.isnan(value) or -1e-6 <= value <= 1 + 1e-6):
            fix = "Give one that is none another name: tg.Metric(..., name='score', direction='higher')."
            raise invalid_value(f"metric {self.name}", expected="a share from 0 to 1", received=value, fix=fix)
        return MetricValue(self.name, value, split.name, count, split.source)

    def judged(self, predictions: Mapping[str, Any], targets: Mapping[str, Any]) -> list[Judged]:
        """What the value is the weighted sum of.

        Raises:
            ValueError: It names no output of several, or one that there is not.
        """
        found = []
        for output, measured, weight in self.parts:
            if output is None and len(predictions) > 1:
                fix = f"Name one: tg.Metric(..., output='{next(iter(predictions))}')."
                raise invalid_state(f"Metric {self.name} names no output of {list(predictions)}.", fix)
            name = output if output is not None and len(predictions) > 1 else next(iter(predictions))
            check_option(f"output of metric {self.name}", name, list(predictions))
            made = measured if is_metric(measured) else _mean_of(measured)
            found.append(Judged(made, predictions[name], targets[name], weight))
        return found

    def is_better(self, value: float, than: float) -> bool:
        """Whether a value is better than another."""
        return self.drop(than, value) < 0

    def drop(self, before: float, after: float) -> float:
        """How much worse ``after`` is than ``before``: positive where something was lost, whatever the direction."""
        return before - after if self.direction == "higher" else after - before


def evaluate_metrics(
    model: keras.Model | LiteRTModel, split: Split, metrics: Sequence[Metric]
) -> dict[str, MetricValue]:
    """The values of several metrics on a split by name; the model runs once.

    Raises:
        TypeError, ValueError: See :meth:`Metric.evaluate`.
    """
    predictions, targets = predictions_of(model, split)
    return {metric.name: metric.value(predictions, targets, split) for metric in metrics}


def _mean_of(loss: Any) -> keras.metrics.Metric:
    """A metric that is the mean of a loss over samples."""
    loss = keras.losses.get(loss)
    function = loss.call if isinstance(loss, keras.losses.Loss) else loss
    return keras.metrics.MeanMetricWrapper(function, name="mean_of_loss")
