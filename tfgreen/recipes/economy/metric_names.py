"""Which metrics a training will have, so that one that is asked for is checked before it begins."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Collection
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf

from tfgreen.distillation.distiller import Distiller
from tfgreen.errors import InvalidValueError, invalid_value
from tfgreen.model.internals import build_metrics, compile_settings, run_symbolically
from tfgreen.recipes.metrics.direction import direction_of
from tfgreen.typing import PlainDict


def metric_names(model: keras.Model, arguments: PlainDict) -> list[str] | None:
    """The metrics of a compiled model, which is built for the data of ``fit``'s arguments as Keras does in its first
    step; None where only that step tells, as it is the user's own."""
    steps = ("train_step", "test_step")
    is_own = any(getattr(type(model), step) is not getattr(keras.Model, step) for step in steps)
    batch = _first_batch(arguments)
    if is_own and not isinstance(model, Distiller) or batch is None:
        return None
    with model.distribute_strategy.scope():
        build_metrics(model, batch)
    return list(run_symbolically(model.get_metrics_result))


def check_metric(argument: str, name: str, names: Collection[str], validates: bool) -> None:
    """Raise unless a training of these metrics, with validation data or not, has one of this name."""
    if name not in names and not (validates and name.startswith("val_") and name.removeprefix("val_") in names):
        raise unknown_metric(argument, name, names, validates)


def unknown_metric(argument: str, name: str, names: Collection[str], validates: bool) -> InvalidValueError:
    """The error for a metric that is none of ``names``, those of the training, with the one that was meant."""
    every = [*names, *(f"val_{one}" for one in names)]
    meant = _near(name, every)
    fix = f"Did you mean '{meant}'?" if meant and meant != name else ""
    if meant.startswith("val_") and not validates:
        fix = f"Pass validation_data{'' if meant == name else f', and {argument}={meant!r}'}."
    expected = f"one of {every if validates else list(names)}"
    return invalid_value(argument, expected=expected, received=repr(name), fix=fix)


def better_is(model: keras.Model, name: str) -> Literal["max", "min"]:
    """Whether a metric of a compiled model is better high or low, as Keras's callbacks call it."""
    asked, settings = name.removeprefix("val_"), compile_settings(model)
    compiled = keras.tree.flatten([settings.get("metrics"), settings.get("weighted_metrics")])
    metrics = [one for one in compiled if isinstance(one, keras.metrics.Metric)]
    for metric in [*(one for one in metrics if f"_{asked}".endswith(f"_{one.name}")), asked]:
        with contextlib.suppress(InvalidValueError):
            return "max" if direction_of(metric) == "higher" else "min"
    expected = "a metric that is known to be better high or low, as a loss or an accuracy is by its name"
    fix = f"Pass callbacks=[keras.callbacks.EarlyStopping('{name}', mode='min')], or mode='max', in its place."
    raise invalid_value("early_stopping", expected=expected, received=repr(name), fix=fix)


def _near(name: str, names: Collection[str]) -> str:
    """The name that was meant, or ""."""
    lower = {one.lower(): one for one in names}
    asked = name.lower().replace(" ", "_")
    starts = [one for one in lower if asked.removeprefix("val_") and one.startswith(asked)]
    found = difflib.get_close_matches(asked, lower, 1)
    return lower[asked] if asked in lower else lower[starts[0]] if starts else lower[found[0]] if found else ""


def _first_batch(arguments: PlainDict) -> Any:
    """Shapes and dtypes of a batch, None where it is not of dense tensors."""
    x = arguments["x"]
    if isinstance(x, tf.data.Dataset):
        spec = x.element_spec
        return spec if all(isinstance(leaf, tf.TensorSpec) for leaf in keras.tree.flatten(spec)) else None
    if isinstance(x, keras.utils.PyDataset):
        return keras.tree.map_structure(_spec, x[0])
    data = (x, arguments["y"], arguments.get("sample_weight"))
    return keras.tree.map_structure(_spec, data)


def _spec(array: Any) -> tf.TensorSpec | None:
    if array is None:
        return None
    kind = np.dtype(getattr(array.dtype, "as_numpy_dtype", array.dtype)).kind if hasattr(array, "dtype") else "O"
    dtype = "string" if kind in "OUS" else keras.config.floatx() if kind == "f" else array.dtype
    return tf.TensorSpec((None, *array.shape[1:]), dtype)
