"""Importance of weights from data: the norm of what they multiply, and the size of their gradient.

References: M. Sun et al., 2023, arXiv:2306.11695 (``|w| * ||x||``); P. Molchanov et al., 2019, arXiv:1906.10771
(``(w * dL/dw)^2``, averaged over batches).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import keras
import numpy as np
from keras import layers, ops

from tfgreen.errors import invalid_type, invalid_value, layer_subject
from tfgreen.model.layer_calls import around_calls
from tfgreen.model.paths import own_weights, walk
from tfgreen.model.weights import own_compressible
from tfgreen.typing import Tensor, Tensors

# A Keras loss, its name, or a function of targets and outputs.
Loss: TypeAlias = "str | keras.losses.Loss | Callable[[Tensor, Tensor], Tensor]"

_BATCH = 32


def activation_importance(model: keras.Model, x: Any) -> dict[int, np.ndarray]:
    """Root of the summed squares of what each weight multiplies, over all samples.

    Args:
        model: A built model. It runs in inference mode and is not changed.
        x: Inputs of shape (samples, ...) in the structure the model takes.

    Returns:
        ``id`` of each compressible variable -> float32 array that broadcasts against it: one norm per input channel.

    Raises:
        TypeError, ValueError: ``x`` is no arrays, or has no samples or NaN; the input of a layer cannot be told apart
            by its channels; the layer is named.
    """
    _check_samples(x)
    sums: dict[int, Any] = defaultdict(float)
    paths = {layer: path for path, layer in [(model.name, model), *walk(model)]}

    def collect(layer: keras.Layer, call: Callable[..., Tensors], /, *args: Any, **kwargs: Any) -> Tensors:
        for name, axes in own_compressible(layer).items():
            variable = own_weights(layer)[name]
            squares = _squares(layer, name, args, kwargs)
            shape = [1] * len(variable.shape)
            for axis in axes.inputs:
                shape[axis] = variable.shape[axis]
            channels = math.prod(shape)
            if squares is None or math.prod(squares.shape) % channels:
                raise invalid_value(
                    layer_subject(paths[layer], layer),
                    expected=f"an input of {channels} channels for '{name}'",
                    received="none that can be told from its call",
                    fix="Choose another criterion for this layer, or leave it out: layers={'name': None}.",
                )
            # Groups of a grouped convolution share one kernel axis: their squares add up.
            sums[id(variable)] += ops.convert_to_numpy(squares).reshape(-1, channels).sum(0).reshape(shape)
        return call(*args, **kwargs)

    with around_calls(paths, collect):
        for batch in _batches(x):
            model(batch, training=False)
    return _checked({key: np.sqrt(total).astype(np.float32) for key, total in sums.items()})


def taylor_importance(model: keras.Model, x: Any, y: Any, loss: Loss) -> dict[int, np.ndarray]:
    """Root mean square of the gradient of each compressible weight over batches of 32.

    Multiplied by ``|w|`` and squared it is the first-order estimate of how much the loss changes without the weight.

    Args:
        model: A built model. It runs in inference mode and is not changed.
        x: Inputs of shape (samples, ...) in the structure the model takes.
        y: Targets, in the structure of its outputs.
        loss: A Keras loss, or its name; for several outputs one for all.

    Returns:
        ``id`` of each compressible variable -> float32 array of its shape.

    Raises:
        TypeError, ValueError: ``x`` and ``y`` are no arrays of equally many samples, or hold NaN.
    """
    import tensorflow as tf

    _check_samples((x, y))
    loss_function = keras.losses.get(loss)
    every_layer = [model, *(layer for _, layer in walk(model))]
    variables = [own_weights(layer)[name] for layer in every_layer for name in own_compressible(layer)]
    sums: list[Any] = [0.0] * len(variables)
    count = 0
    for inputs, targets in zip(_batches(x), _batches(y)):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([variable.value for variable in variables])
            outputs = keras.tree.flatten(model(inputs, training=False))
            total = sum(ops.mean(loss_function(t, o)) for t, o in zip(keras.tree.flatten(targets), outputs))
        gradients = tape.gradient(total, [variable.value for variable in variables])
        dense = [0.0 if g is None else ops.convert_to_numpy(tf.convert_to_tensor(g)) for g in gradients]
        sums = [s + g**2 for s, g in zip(sums, dense)]
        count += 1
    roots = [np.broadcast_to(np.sqrt(s / count), v.shape).astype(np.float32) for v, s in zip(variables, sums)]
    return _checked({id(variable): root for variable, root in zip(variables, roots)})


def _check_samples(data: Any) -> None:
    """Raise unless all arrays of a structure have equally many samples, and some."""
    leaves = keras.tree.flatten(data)
    for leaf in leaves:
        if not getattr(leaf, "shape", ()):
            raise invalid_type("data", expected="arrays of shape (samples, ...)", received=leaf)
    counts = [int(leaf.shape[0]) for leaf in leaves]
    if not counts or min(counts) < 1 or len(set(counts)) > 1:
        raise invalid_value("data", expected="one or more samples, and as many in each array", received=counts)


def _checked(importance: dict[int, np.ndarray]) -> dict[int, np.ndarray]:
    if not all(np.isfinite(array).all() for array in importance.values()):
        raise invalid_value(
            "data", expected="samples on which the model computes finite values", received="NaN or infinite ones",
            fix="Look for NaN in the samples, and scale them as for training.",
        )  # fmt: skip
    return importance


def _batches(data: Any) -> Iterator[Any]:
    size = len(keras.tree.flatten(data)[0])
    for start in range(0, size, _BATCH):
        yield keras.tree.map_structure(lambda array: array[start : start + _BATCH], data)


def _squares(layer: keras.Layer, name: str, args: tuple, kwargs: dict[str, Any]) -> Any:
    """Summed squares of what the weight ``name`` multiplies in this call, one per input channel, or None."""
    tensors = [t for t in keras.tree.flatten((args, kwargs)) if hasattr(t, "shape")]
    if not tensors:
        return None
    if isinstance(layer, layers.Embedding):  # row i is multiplied by how often token i occurs
        tokens = ops.reshape(ops.cast(tensors[0], "int32"), (-1,))
        return ops.cast(ops.bincount(tokens, minlength=layer.input_dim), "float32")
    value = tensors[1] if name == "recurrent_kernel" and len(tensors) > 1 else tensors[0]
    if isinstance(layer, (layers.SeparableConv1D, layers.SeparableConv2D)):  # the pointwise kernel comes second
        value = ops.depthwise_conv(
            value, layer.depthwise_kernel, layer.strides, layer.padding, layer.data_format, layer.dilation_rate
        )
    value = ops.cast(value, "float32")
    if isinstance(layer, layers.EinsumDense):
        letters, kernel = layer.equation.replace(" ", "").split("->")[0].split(",")
        kept = [letter for letter in kernel if letter in letters]
        return ops.einsum(f"{letters},{letters}->{''.join(kept)}", value, value)
    channel = 1 if getattr(layer, "data_format", None) == "channels_first" else len(value.shape) - 1
    return ops.sum(ops.square(value), axis=[axis for axis in range(len(value.shape)) if axis != channel])
