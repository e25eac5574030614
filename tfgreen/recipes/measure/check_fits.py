"""Check that data fits a model: each split, input and target, before anything takes time."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfgreen.checks import check_instance, check_option
from tfgreen.errors import TfgreenError, invalid_state, invalid_value, reason_of
from tfgreen.model.call_spec import outputs_of, read_call_spec, symbolic_inputs
from tfgreen.model.internals import compile_settings
from tfgreen.model.paths import check_built_model
from tfgreen.model.samples import sample_batches
from tfgreen.recipes.data.split import Split
from tfgreen.recipes.data.splits import Splits
from tfgreen.recipes.measure.target_rules import check_target
from tfgreen.recipes.metrics.compiled_metrics import by_output
from tfgreen.recipes.metrics.metric import Metric
from tfgreen.structure import CallSpec, leaf_names, match, name_leaves
from tfgreen.typing import Shape

_BATCH, _BATCHES = 256, 10


def check_fits(data: Splits, model: keras.Model, *, loss: Any = None, metric: Metric | None = None) -> None:
    """Raise unless a model can be trained and measured on data; the model is run on a few samples of each split.

    Arrays are checked whole, the labels of files too, and of a ``tf.data.Dataset`` the first ten batches. Targets are
    checked by what Keras's losses take: class numbers, one-hot rows, or numbers in the shape of the output.

    Args:
        data: The data.
        model: A built model, of any task.
        loss: As ``Model.compile`` takes it; None for that of the model, if it is compiled.
        metric: What the model is judged by.

    Raises:
        TypeError: An input or a target does not hold numbers, or ``data`` is something else.
        ValueError: The inputs, the targets, a shape, a label or a number does not fit, or the model fails on them.

    Example:
        >>> import tfgreen as tg
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        >>> data = tg.Data.from_arrays(np.zeros((20, 4)), np.eye(3)[np.arange(20) % 3])
        >>> check_fits(data, model, loss="sparse_categorical_crossentropy")
        Traceback (most recent call last):
        ...
        tfgreen.errors.InvalidValueError: y_train: expected class numbers, as sparse_categorical_crossentropy takes \
them, received one-hot rows. Use loss='categorical_crossentropy', or y.argmax(axis=-1).
    """
    check_instance("data", data, Splits, "a tg.Data")
    check_built_model(model)
    spec, (structure, shapes) = read_call_spec(model), _outputs(model)
    judges = _judges(model, list(shapes), loss, metric)
    for name, split in data.splits.items():
        if split.lacks_image_size:
            height, width = (side or 224 for side in spec.inputs[0].shape[:2])
            sentence = f"The images of {split.source} have no size yet, and model '{model.name}' takes one."
            raise invalid_state(sentence, f"Call data.with_image_size({height}, {width}).")
        for x, y in _parts(split):
            for _ in sample_batches(x, spec, _BATCH, f"x_{name}"):
                pass
            if y is not None:
                for output, target in match(structure, y, f"y_{name}").items():
                    subject = f"y_{name} of output '{output}'" if len(shapes) > 1 else f"y_{name}"
                    for judge in judges.get(output, ()):
                        check_target(subject, np.asarray(target), shapes[output], judge)
        _try(model, spec, split, metric)


def _outputs(model: keras.Model) -> tuple[Any, dict[str, Shape]]:
    """The structure of a model's outputs, and the shape of each without samples by its name."""
    args, kwargs = symbolic_inputs(model)
    names = list(getattr(model, "output_names", None) or [])
    outputs = model.compute_output_spec(*args, **kwargs)
    structure, leaves = name_leaves(outputs, lambda _, i: names[i] if i < len(names) else f"output_{i}")
    return structure, dict(zip(leaf_names(structure), (tuple(leaf.shape[1:]) for leaf in leaves)))


def _judges(model: keras.Model, outputs: list[str], loss: Any, metric: Metric | None) -> dict[str, list[Any]]:
    """The losses and metrics of each output by its name."""
    if loss is None and model.compiled:
        loss = compile_settings(model).get("loss")
    losses = by_output(loss, outputs, "loss")
    for output in losses:
        check_option("loss of output", output, (None, *outputs))
    found = [*losses.items(), *((output, judge) for output, judge, _ in (metric.parts if metric is not None else ()))]
    judges: dict[str, list[Any]] = {}
    for output, judge in found:
        name = outputs[0] if len(outputs) == 1 else output
        if name is not None and judge is not None:
            judges.setdefault(name, []).append(judge)
    return judges


def _parts(split: Split) -> Iterator[tuple[Any, Any]]:
    """Samples and targets: arrays whole, or the first batches."""
    if not split.in_batches:
        yield split.x, split.y
        return
    batches = iter(split.x)
    first = next(batches, None)
    if first is None:
        raise invalid_value(f"x_{split.name}", expected="at least one sample", received=0)
    for batch in itertools.chain([first], itertools.islice(batches, _BATCHES - 1)):
        yield (batch[0], batch[1]) if isinstance(batch, tuple) else (batch, None)


def _try(model: keras.Model, spec: CallSpec, split: Split, metric: Metric | None) -> None:
    """Run the model on a few samples, and judge what it gives."""
    some, what = split.few(32), f"Model '{model.name}' fails on samples of {split.name} ({split.source})"
    try:
        arrays = {name: array[:32] for name, array in next(sample_batches(some.samples(32), spec, None)).items()}
        try:
            outputs_of(model, spec, arrays, 32)
        except TfgreenError as error:
            raise invalid_state(f"{what}: {error}") from error
        if metric is not None and split.has_targets:
            metric.evaluate(model, some)
    except (ValueError, TypeError, tf.errors.OpError) as error:
        if isinstance(error, TfgreenError):
            raise
        raise invalid_state(f"{what}: {reason_of(error)}.") from error
