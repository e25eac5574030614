"""Importance of weights from labelled data: the size of their gradient.

Reference: P. Molchanov et al., 2019, arXiv:1906.10771 (``(w * dL/dw)^2``, averaged over batches).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from tfgreen.errors import invalid_state, invalid_type, invalid_value, reason_of
from tfgreen.model.call_spec import call_model, read_call_spec
from tfgreen.model.paths import own_weights, walk
from tfgreen.model.samples import sample_arrays
from tfgreen.model.weights import own_compressible
from tfgreen.typing import Arrays, Samples, Tensor

# A Keras loss, its name, or a function of targets and outputs.
Loss: TypeAlias = "str | keras.losses.Loss | Callable[[Tensor, Tensor], Tensor]"

_BATCH = 32


def taylor_importance(model: keras.Model, x: Samples, y: Arrays, loss: Loss) -> dict[int, np.ndarray]:
    """Root mean square of the gradient of each weight over batches of 32, with the model in inference mode.

    Multiplied by ``|w|`` and squared it is the first-order estimate of how much the loss changes without the weight.
    By ``id`` of each compressible variable: a float32 array of its shape. Several outputs have one loss for all.
    """
    spec = read_call_spec(model)
    arrays = sample_arrays(x, spec, subject="x")
    count = len(next(iter(arrays.values())))
    check_targets(y, count)
    every_layer = [model, *(layer for _, layer in walk(model))]
    variables = [own_weights(layer)[name] for layer in every_layer for name in own_compressible(layer)]
    squares = [np.zeros(variable.shape, np.float32) for variable in variables]
    parts = spec.slices(count, _BATCH)
    for part in parts:
        inputs = {name: array[part] for name, array in arrays.items()}
        targets = keras.tree.map_structure(lambda array: array[part], y)
        values = [variable.value for variable in variables]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(values)
            total = summed_loss(loss, targets, keras.tree.flatten(call_model(model, spec, inputs)))
        for square, gradient in zip(squares, tape.gradient(total, values, unconnected_gradients="zero")):
            square += ops.convert_to_numpy(tf.convert_to_tensor(gradient)) ** 2  # a gradient of a table is sparse
    if not all(np.isfinite(square).all() for square in squares):
        fix = "Check its weights, and scale the samples as for training."
        raise invalid_state("The model computes NaN or infinite values on x and y.", fix)
    return {id(variable): np.sqrt(square / len(parts)) for variable, square in zip(variables, squares)}


def check_targets(y: Arrays, count: int) -> None:
    """Raise unless ``y`` holds arrays of as many targets as there are samples."""
    leaves = keras.tree.flatten(y)
    for leaf in leaves:
        if not getattr(leaf, "shape", ()):
            raise invalid_type("y", expected="arrays of shape (samples, ...)", received=leaf)
    counts = [int(leaf.shape[0]) for leaf in leaves]
    if set(counts) != {count}:
        raise invalid_value("y", expected=f"targets of {count} samples, as x has", received=counts)
    for array in map(np.asarray, leaves):
        if array.dtype.kind not in "biuf":
            raise invalid_type("y", expected="arrays of numbers", received=array.flat[0], fix="Encode the labels.")
        if not np.isfinite(array).all():
            fix = "Leave their samples out."
            raise invalid_value("y", expected="finite targets", received="NaN or infinite values", fix=fix)


def summed_loss(loss: Loss, targets: Arrays, outputs: Sequence[Tensor]) -> Tensor:
    """The mean loss of each output, summed; a ValueError if Keras knows no such loss, or it does not fit."""
    try:
        function = keras.losses.get(loss)
    except (ValueError, TypeError) as error:
        expected, fix = "a Keras loss, its name or a function", "Pass for instance loss='categorical_crossentropy'."
        raise invalid_value("loss", expected=expected, received=repr(loss), fix=fix) from error
    try:
        return sum(ops.mean(function(t, o)) for t, o in zip(keras.tree.flatten(targets), outputs, strict=True))
    except (ValueError, TypeError, tf.errors.InvalidArgumentError) as error:
        fix = "One loss is taken of every output: pass one that fits, and targets of the shape that it takes."
        raise invalid_state(f"loss={loss!r} does not fit the outputs and y ({reason_of(error)}).", fix) from error
