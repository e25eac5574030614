"""Which metrics a training will have, so that one that is asked for is checked before it begins."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfgreen.distillation.distiller import Distiller
from tfgreen.errors import InvalidValueError, invalid_value
from tfgreen.model.internals import build_metrics, run_symbolically
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


def unknown_metric(argument: str, name: str, names: Collection[str], validates: bool) -> InvalidValueError:
    """The error for a metric that is none of ``names``, those of the training, with the one that was meant."""
    every = [*names, *(f"val_{one}" for one in names)]
    meant = _near(name, every)
    fix = f"Did you mean '{meant}'?" if meant and meant != name else ""
    if meant.startswith("val_") and not validates:
        fix = f"Pass validation_data{'' if meant == name else f', and {argument}={meant!r}'}."
    return invalid_value(argument, expected=f"one of {every if validates else list(names)}", received=repr(name), fix=fix)


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
