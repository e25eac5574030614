"""check_batches: whether a dataset holds batches that a model can train on."""

from __future__ import annotations

import keras
import tensorflow as tf

from tfgreen.errors import invalid_value
from tfgreen.typing import Shape


def check_batches(model: keras.Model, dataset: tf.data.Dataset, name: str = "data") -> None:
    """Raise for a dataset of nothing, of single samples, of other shapes than the model takes, or without targets.

    What Keras makes fit is left to it: a last axis of size 1 that is missing or too much.
    """
    if int(dataset.cardinality()) == 0:
        raise invalid_value(name, expected="at least one batch", received="a dataset of none")
    spec = dataset.element_spec
    x = spec[0] if isinstance(spec, tuple) else spec
    taken = keras.tree.flatten(getattr(model, "inputs", None) or [])
    if isinstance(x, dict):
        pairs = [(x[tensor.name], tensor.shape) for tensor in taken if tensor.name in x]
    else:
        specs = keras.tree.flatten(x)
        pairs = [(one, tensor.shape) for one, tensor in zip(specs, taken) if len(specs) == len(taken)]
    shapes = [
        (tuple(one.shape), tuple(shape))
        for one, shape in pairs
        if isinstance(one, tf.TensorSpec) and one.shape.rank is not None
    ]
    if shapes and len(shapes) == len(taken) and all(_is_single(*both) for both in shapes):
        given, wanted = shapes[0]
        fix = "Call .batch(32) on it, or pass it through tg.pipeline."
        raise invalid_value(name, expected=f"batches of shape {wanted}", received=f"samples of {given}", fix=fix)
    for given, wanted in shapes:
        if len(given) == len(wanted) and not _agree(given[1:], wanted[1:]):
            fix = "Make the model for these shapes, or bring the samples to those of the model."
            raise invalid_value(name, expected=f"batches of shape {wanted}", received=f"of {given}", fix=fix)
    plain = all(getattr(type(model), each) is getattr(keras.Model, each) for each in ("train_step", "compute_loss"))
    if model.loss is not None and plain and not (isinstance(spec, tuple) and len(spec) > 1):
        fix = "Let the dataset give tuples (x, y): the model is compiled with a loss."
        raise invalid_value(name, expected="batches of (x, y)", received="batches of x alone", fix=fix)


def _agree(one: Shape, other: Shape) -> bool:
    return len(one) == len(other) and all(a is None or b is None or a == b for a, b in zip(one, other))


def _is_single(given: Shape, wanted: Shape) -> bool:
    """Whether a shape is that of a sample, and not of a batch without the last axis, which Keras adds."""
    return _agree(given, wanted[1:]) and (wanted[-1] != 1 or given[-1] == 1)
