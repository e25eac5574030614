"""How a layer runs as the several operations that LiteRT makes of it, with what is between them rounded.

Each function is ``call(layer, quantize, args, kwargs)`` in the place of ``layer(*args, **kwargs)``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import activations, layers, ops

from tfgreen.model.batch_norm import gain_and_bias
from tfgreen.quantization.ranges import fake_quantize_between
from tfgreen.transforms.exporting import is_exporting

# quantize(i, x): x rounded to the i-th range inside
Quantize = Callable[[int, Any], Any]


def without_activation(layer: Any, run: Callable[[], Any]) -> Any:
    """Run something while a layer's activation is linear."""
    activation, layer.activation = layer.activation, activations.linear
    try:
        return run()
    finally:
        layer.activation = activation


def call_linear(layer: Any, quantize: Quantize, args: tuple, kwargs: dict[str, Any]) -> Any:
    """One operation: the layer as it is."""
    return layer(*args, **kwargs)


def call_separable(layer: Any, quantize: Quantize, args: tuple, kwargs: dict[str, Any]) -> Any:
    """A depthwise and a pointwise kernel; round what is between them."""
    (x,) = args
    x = ops.depthwise_conv(
        ops.cast(x, layer.compute_dtype), layer.depthwise_kernel, layer.strides, layer.padding, layer.data_format,
        layer.dilation_rate,
    )  # fmt: skip
    x = ops.conv(quantize(0, x), layer.pointwise_kernel, 1, "valid", layer.data_format)
    if layer.use_bias:
        channels = -1 if layer.data_format == "channels_last" else 1
        shape = [1] * len(x.shape)
        shape[channels] = layer.filters
        x = ops.add(x, ops.reshape(ops.cast(layer.bias, x.dtype), shape))  # Keras has a special case for add
    return layer.activation(x) if layer.activation is not None else x


def call_batch_norm(layer: Any, quantize: Quantize, args: tuple, kwargs: dict[str, Any]) -> Any:
    """LiteRT runs a BatchNorm that follows no kernel as a product and a sum; round what is between them."""
    scale, shift = gain_and_bias(layer)
    shape = [1] * len(args[0].shape)
    shape[layer.axis] = -1
    scale, shift = (ops.cast(ops.reshape(value, shape), layer.compute_dtype) for value in (scale, shift))
    if kwargs.get("training"):
        return quantize(0, layer(*args, **kwargs) - shift) + shift
    return quantize(0, ops.cast(args[0], layer.compute_dtype) * as_constant(scale)) + as_constant(shift)


def as_constant(value: Any) -> Any:
    """A tensor that a sum or product takes as a constant, rounded as the converter rounds it: between its extremes."""
    if is_exporting():
        return value
    x = ops.cast(value, "float32")
    rounded = fake_quantize_between(x, ops.minimum(ops.min(x), 0.0), ops.maximum(ops.max(x), 0.0))
    return value + ops.stop_gradient(ops.cast(rounded, value.dtype) - value)


def call_rescaling(layer: Any, quantize: Quantize, args: tuple, kwargs: dict[str, Any]) -> Any:
    """A product and a sum; round what is between them."""
    scale, offset = (ops.convert_to_tensor(value, layer.compute_dtype) for value in (layer.scale, layer.offset))
    return quantize(0, ops.cast(args[0], layer.compute_dtype) * as_constant(scale)) + as_constant(offset)


def call_normalization(layer: Any, quantize: Quantize, args: tuple, kwargs: dict[str, Any]) -> Any:
    """A difference and a product; round what is between them."""
    mean, variance = (ops.cast(value, "float32") for value in (layer.mean, layer.variance))
    factor = 1.0 / ops.maximum(ops.sqrt(variance), keras.config.epsilon())
    mean, factor = (as_constant(ops.cast(value, layer.compute_dtype)) for value in (mean, factor))
    return quantize(0, ops.cast(args[0], layer.compute_dtype) - mean) * factor


def _pairwise(layer: Any, quantize: Quantize, inputs: Sequence[Any], last: bool) -> Any:
    """Add or multiply tensors one after the other, as LiteRT does; the result itself too if it is not the ``last``."""
    total = inputs[0]
    for index, x in enumerate(inputs[1:]):
        total = total * x if isinstance(layer, layers.Multiply) else total + x
        if not last or index < len(inputs) - 2:
            total = quantize(index, total)
    return total


def call_merge(layer: Any, quantize: Quantize, args: tuple, kwargs: dict[str, Any]) -> Any:
    """A sum or product of several tensors, two by two."""
    return _pairwise(layer, quantize, args[0], last=True)


def call_average(layer: Any, quantize: Quantize, args: tuple, kwargs: dict[str, Any]) -> Any:
    """A sum of several tensors, two by two, and a product."""
    return _pairwise(layer, quantize, args[0], last=False) * (1.0 / len(args[0]))
