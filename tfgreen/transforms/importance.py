"""Importance of weights from data: the norm of what they multiply, and the size of their gradient.

References: M. Sun et al., 2023, arXiv:2306.11695 (``|w| * ||x||``); P. Molchanov et al., 2019, arXiv:1906.10771
(``(w * dL/dw)^2``, averaged over batches).
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from tfgreen.errors import invalid_state, invalid_type, invalid_value, layer_subject
from tfgreen.model.call_spec import call_model, read_call_spec
from tfgreen.model.layer_calls import around_calls
from tfgreen.model.paths import own_weights, walk
from tfgreen.model.samples import sample_arrays, sample_batches
from tfgreen.model.weights import Axes, channel_axis, own_compressible
from tfgreen.typing import Arrays, Samples, Tensor, Tensors

# A Keras loss, its name, or a function of targets and outputs.
Loss: TypeAlias = "str | keras.losses.Loss | Callable[[Tensor, Tensor], Tensor]"

_BATCH = 32


def activation_importance(model: keras.Model, calibration_data: Samples) -> dict[int, np.ndarray]:
    """Root of the summed squares of what each weight multiplies, over all samples, with the model in inference mode.

    By ``id`` of each compressible variable: a float32 array that broadcasts against it, one norm per input channel.
    """
    spec = read_call_spec(model)
    sums: dict[int, np.ndarray | float] = defaultdict(float)
    paths = {layer: path for path, layer in [(model.name, model), *walk(model)]}

    def collect(layer: keras.Layer, call: Callable[..., Tensors], /, *args: Tensors, **kwargs: object) -> Tensors:
        for name, axes in _multiplying(layer, args, kwargs).items():
            variable = own_weights(layer)[name]
            squares = _squares(layer, name, args, kwargs)
            shape = [1] * len(variable.shape)
            for axis in axes.inputs:
                shape[axis] = variable.shape[axis]
            channels = math.prod(shape)
            if squares is None or math.prod(squares.shape) % channels:
                subject, path = layer_subject(paths[layer], layer), paths[layer]
                raise invalid_state(
                    f"{subject} does not show in its call the {channels} channels that '{name}' multiplies.",
                    f"Choose another criterion for this layer, or leave it out: layers={{'{path}': None}}.",
                )
            # Groups of a grouped convolution share one kernel axis: their squares add up.
            total = sums[id(variable)]  # of another shape where the layer multiplies by rows and by columns
            sums[id(variable)] = total + ops.convert_to_numpy(squares).reshape(-1, channels).sum(0).reshape(shape)
        return call(*args, **kwargs)

    with around_calls(paths, collect):
        for batch in sample_batches(calibration_data, spec):
            call_model(model, spec, batch)
    return _checked({key: np.sqrt(total).astype(np.float32) for key, total in sums.items()}, "calibration_data")


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
    roots = [np.sqrt(square / len(parts)) for square in squares]
    return _checked({id(variable): root for variable, root in zip(variables, roots)}, "x and y")


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
        lines = re.sub(r"\{\{.*?\}\}|\[Op:.*|  +Label values.*", "", str(error)).strip().splitlines()
        reason = (lines[0] if lines else type(error).__name__).rstrip(".")
        fix = "One loss is taken of every output: pass one that fits, and targets of the shape that it takes."
        raise invalid_state(f"loss={loss!r} does not fit the outputs and y ({reason}).", fix) from error


def _checked(importance: dict[int, np.ndarray], data: str) -> dict[int, np.ndarray]:
    if not all(np.isfinite(array).all() for array in importance.values()):
        fix = "Check its weights, and scale the samples as for training."
        raise invalid_state(f"The model computes NaN or infinite values on {data}.", fix)
    return importance


def _multiplying(layer: keras.Layer, args: tuple, kwargs: Mapping[str, object]) -> Mapping[str, Axes]:
    """The weights that take part in this call, and the axes that its inputs meet."""
    weights = own_compressible(layer)
    if not isinstance(layer, layers.ReversibleEmbedding):
        return weights
    if not _is_reversed(layer, args, kwargs):
        return {"embeddings": weights["embeddings"]}
    if layer.tie_weights:  # the transpose of the table
        return {"embeddings": Axes(weights["embeddings"].outputs, weights["embeddings"].inputs)}
    return {"reverse_embeddings": weights["reverse_embeddings"]}


def _is_reversed(layer: keras.Layer, args: tuple, kwargs: Mapping[str, object]) -> bool:
    is_reversible = isinstance(layer, layers.ReversibleEmbedding)
    return is_reversible and bool(args[1] if len(args) > 1 else kwargs.get("reverse", False))


def _squares(layer: keras.Layer, name: str, args: tuple, kwargs: Mapping[str, object]) -> Tensor | None:
    """Summed squares of what the weight ``name`` multiplies in this call, one per input channel, or None."""
    tensors = [t for t in keras.tree.flatten((args, kwargs)) if hasattr(t, "shape")]
    if not tensors:
        return None
    if isinstance(layer, layers.Embedding) and not _is_reversed(layer, args, kwargs):
        # row i is multiplied by how often token i occurs
        tokens = ops.reshape(ops.cast(tensors[0], "int32"), (-1,))
        return ops.cast(ops.bincount(tokens, minlength=layer.input_dim), "float32")
    value = tensors[1] if name == "recurrent_kernel" and len(tensors) > 1 else tensors[0]
    if isinstance(layer, (layers.SeparableConv1D, layers.SeparableConv2D)):  # the pointwise kernel comes second
        settings = (layer.strides, layer.padding, layer.data_format, layer.dilation_rate)
        value = ops.depthwise_conv(value, layer.depthwise_kernel, *settings)
    value = ops.cast(value, "float32")
    if isinstance(layer, layers.EinsumDense):
        letters, kernel = layer.equation.replace(" ", "").split("->")[0].split(",")
        shared = [letter for letter in kernel if letter in letters]
        return ops.einsum(f"{letters},{letters}->{''.join(shared)}", value, value)
    rank = len(value.shape)
    return ops.sum(ops.square(value), axis=[axis for axis in range(rank) if axis != channel_axis(layer, rank)])
