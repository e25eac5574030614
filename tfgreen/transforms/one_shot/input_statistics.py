"""What a layer shows, in a call, of the inputs that its weights multiply: sums that add up over calls and batches."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TypeAlias

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from tfgreen.model.paths import own_weights
from tfgreen.model.weights import channel_axis, einsum_letters, own_compressible
from tfgreen.transforms.one_shot.kernel_rows import KernelRows
from tfgreen.typing import Tensor

# layer, positional and keyword arguments of its call -> an array for each weight of its own that can be told of
Measure: TypeAlias = Callable[[keras.Layer, tuple, Mapping[str, object]], Mapping[str, np.ndarray]]

_ROWS = 8192  # that are unfolded at once


def input_squares(layer: keras.Layer, args: tuple, kwargs: Mapping[str, object]) -> dict[str, np.ndarray]:
    """Summed squares of each input channel of each weight, which broadcast against it.

    A table that is looked up multiplies nothing, and a weight of a layer of the user's is passed over where the
    channels of the inputs are not as many as its own.

    Example:
        >>> dense = layers.Dense(2)
        >>> dense.build((None, 3))
        >>> input_squares(dense, (ops.array([[1.0, 2.0, 3.0], [0.0, 1.0, 1.0]]),), {})["kernel"].ravel()
        array([ 1.,  5., 10.], dtype=float32)
    """
    found: dict[str, np.ndarray] = {}
    tensors = _tensors(args, kwargs)
    if isinstance(layer, layers.Embedding) or not tensors:
        return found
    for name, axes in own_compressible(layer).items():
        shape = own_weights(layer)[name].shape
        inputs = [axis % len(shape) for axis in axes.inputs]
        wide = [size if axis in inputs else 1 for axis, size in enumerate(shape)]
        squares = np.asarray(_squares(layer, name, inputs, tensors))
        # Groups of a grouped convolution share one kernel axis: their squares add up.
        if inputs and squares.size == math.prod(wide) * getattr(layer, "groups", 1):
            found[name] = squares.reshape(-1, math.prod(wide)).sum(0).reshape(wide)
    return found


def input_grams(layer: keras.Layer, args: tuple, kwargs: Mapping[str, object]) -> dict[str, np.ndarray]:
    """``x.T @ x`` of the rows ``x`` that the kernel of a dense layer, EinsumDense or convolution is multiplied by.

    Example:
        >>> dense = layers.Dense(2)
        >>> dense.build((None, 2))
        >>> input_grams(dense, (ops.array([[1.0, 2.0], [0.0, 1.0]]),), {})["kernel"]
        array([[1., 2.],
               [2., 5.]])
    """
    tensors = _tensors(args, kwargs)
    if not tensors or "kernel" not in own_compressible(layer) or not KernelRows.is_product(layer):
        return {}
    rows, x = KernelRows(layer), np.asarray(ops.cast(tensors[0], "float32"))
    count, gram = rows.count(x.shape), np.zeros(())
    for first in range(0, count, _ROWS):
        part = rows.take(x, np.arange(first, min(first + _ROWS, count)))
        gram = gram + part.T @ part
    return {"kernel": np.asarray(gram, np.float64)} if count else {}


def _tensors(args: tuple, kwargs: Mapping[str, object]) -> list[Tensor]:
    """What a layer is called with, unless it is being traced and has no values."""
    tensors = [t for t in keras.tree.flatten((args, kwargs)) if hasattr(t, "shape")]
    return [] if any(tf.is_symbolic_tensor(t) for t in tensors) else tensors


def _squares(layer: keras.Layer, name: str, inputs: list[int], tensors: list[Tensor]) -> Tensor:
    """Summed squares of what the weight ``name`` multiplies in this call, one per input channel."""
    value = tensors[1] if name == "recurrent_kernel" and len(tensors) > 1 else tensors[0]
    if isinstance(layer, (layers.SeparableConv1D, layers.SeparableConv2D)):  # the pointwise kernel comes second
        settings = (layer.strides, layer.padding, layer.data_format, layer.dilation_rate)
        value = ops.depthwise_conv(value, layer.depthwise_kernel, *settings)
    value = ops.cast(value, "float32")
    if isinstance(layer, layers.EinsumDense):
        letters, kernel, _ = einsum_letters(layer)
        return ops.einsum(f"{letters},{letters}->{''.join(kernel[axis] for axis in inputs)}", value, value)
    rank = len(value.shape)
    return ops.sum(ops.square(value), axis=[axis for axis in range(rank) if axis != channel_axis(layer, rank)])
