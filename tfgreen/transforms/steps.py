"""Which operations LiteRT makes of a layer, where one layer becomes several: each needs a range for what it makes.

A row of the tables says which ranges a layer needs inside and on its output, and how to run it with them. Whatever has
no row is one operation (or is left in float32, as ``FLOAT`` says) and needs a range on its output only.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import activations, layers, ops

from tfgreen.model.trace import is_exporting
from tfgreen.transforms.kinds import (
    FUSED,
    fuses_relu,
    has_kernel,
    is_own,
    is_relu,
    is_separable,
    operation_name,
    shares_scale,
)
from tfgreen.transforms.ranges import fake_quantize_between

OBSERVED = "observed"  # a range that calibration finds
Range = str | tuple[float, float]

UNIT: Range = (0.0, 255 / 256)  # what LiteRT gives softmax and sigmoid
SIGNED_UNIT: Range = (-1.0, 127 / 128)  # and tanh

# quantize(i, x): x rounded to the i-th range inside
Quantize = Callable[[int, Any], Any]


@dataclasses.dataclass(frozen=True)
class Steps:
    """How a layer runs in integers.

    Attributes:
        inside: The ranges of what it makes on the way.
        output: The range of its output, or None where LiteRT gives it the range of the input.
        run: ``run(layer, quantize, args, kwargs)``; None to call the layer as it is.
        finish: For a kernel, ``finish(layer, quantize, x)``: what follows its sums; None for its activation alone.
        reason: Why LiteRT computes it in float32, else "".
    """

    inside: tuple[Range, ...] = ()
    output: Range | None = OBSERVED
    run: Callable[[Any, Quantize, tuple, dict[str, Any]], Any] | None = None
    finish: Callable[[Any, Quantize, Any], Any] | None = None
    reason: str = ""


@dataclasses.dataclass(frozen=True)
class _Activation:
    """As :class:`Steps`, for an activation function; ``run(quantize, x)``."""

    inside: tuple[Range, ...] = ()
    output: Range = OBSERVED
    run: Callable[[Quantize, Any], Any] | None = None
    reason: str = ""


def _silu(quantize: Quantize, x: Any) -> Any:
    return x * quantize(0, ops.sigmoid(x))


def _hard_sigmoid(quantize: Quantize, x: Any) -> Any:
    return quantize(0, ops.relu6(x + 3.0)) * (1.0 / 6.0)


ACTIVATIONS: dict[Any, _Activation] = {
    activations.softmax: _Activation(output=UNIT),
    activations.sigmoid: _Activation(output=UNIT),
    activations.tanh: _Activation(output=SIGNED_UNIT),
    activations.silu: _Activation((UNIT,), run=_silu),
    activations.hard_sigmoid: _Activation(((0.0, 6.0),), output=(0.0, 1.0), run=_hard_sigmoid),
    activations.hard_silu: _Activation(),
    activations.gelu: _Activation(),
    activations.leaky_relu: _Activation(),
    activations.exponential: _Activation(),
}

_FLOAT = {
    layers.Conv3D: "LiteRT has no int8 kernel for it",
    layers.Conv3DTranspose: "LiteRT has no int8 kernel for it",
    layers.ELU: "LiteRT's converter keeps it in float32",
    layers.RNN: "its steps run in float32 unless calibration data is given to convert",
    layers.Bidirectional: "its steps run in float32 unless calibration data is given to convert",
    layers.MultiHeadAttention: "what it computes between its kernels stays float32 unless calibration data is given "
    "to convert",
    layers.GroupQueryAttention: "what it computes between its kernels stays float32 unless calibration data is given "
    "to convert",
    layers.LayerNormalization: "it stays float32, in which its mean and variance are safe",
    layers.GroupNormalization: "it stays float32, in which its mean and variance are safe",
    layers.UnitNormalization: "it stays float32, in which its norm is safe",
}


def steps_of(layer: Any) -> Steps:
    """The row of a layer or raw operation."""
    if shares_scale(layer):
        return Steps(output=None)
    for cls, reason in _FLOAT.items():
        if isinstance(layer, cls):
            return Steps(reason=reason)
    if has_kernel(layer):
        return _with_activation(layer, (), _call_linear)
    if is_separable(layer):
        return _with_activation(layer, (OBSERVED,), _call_separable)
    if is_relu(layer):
        return _relu(layer)
    for cls, steps in _LAYERS.items():
        if is_own(layer, (cls,)):
            return steps(layer)
    if isinstance(layer, keras.Layer) and not is_own(layer, (keras.Layer,)):
        return Steps(reason="only its output is rounded, because its call() is not Keras's own")
    return _OPERATIONS.get(operation_name(layer), Steps())


def merge_steps(layer: Any, inputs: int) -> Steps | None:
    """The row of a merging layer, which depends on how many tensors it merges; None for any other layer."""
    if is_own(layer, (layers.Average,)):
        return Steps((OBSERVED,) * (inputs - 1), run=_call_average)
    if is_own(layer, (layers.Add, layers.Multiply)) and inputs > 2:
        return Steps((OBSERVED,) * (inputs - 2), run=_call_merge)
    return None


def _activation(function: Any) -> _Activation:
    if function in FUSED:
        return _Activation()
    if function in ACTIVATIONS:
        return ACTIVATIONS[function]
    name = getattr(function, "__name__", type(function).__name__)
    return _Activation(reason=f"LiteRT has no int8 kernel for the activation '{name}'")


def _with_activation(layer: Any, inside: tuple[Range, ...], run: Callable) -> Steps:
    """A kernel, then its activation: merged into one operation, or two with a range between them."""
    row = _activation(layer.activation)
    if layer.activation is activations.linear or (layer.activation in FUSED and fuses_relu(layer)):
        return Steps(inside, run=run if inside else None)

    def finish(layer: Any, quantize: Quantize, x: Any) -> Any:
        x = quantize(len(inside), x)
        if row.run is None:
            return layer.activation(x)
        return row.run(lambda index, value: quantize(len(inside) + 1 + index, value), x)

    def call(layer: Any, quantize: Quantize, args: tuple, kwargs: dict[str, Any]) -> Any:
        return finish(layer, quantize, without_activation(layer, lambda: run(layer, quantize, args, kwargs)))

    return Steps((*inside, OBSERVED, *row.inside), row.output, call, finish, row.reason)


def without_activation(layer: Any, run: Callable[[], Any]) -> Any:
    """Run something while a layer's activation is linear."""
    activation, layer.activation = layer.activation, activations.linear
    try:
        return run()
    finally:
        layer.activation = activation


def _call_linear(layer: Any, quantize: Quantize, args: tuple, kwargs: dict[str, Any]) -> Any:
    return layer(*args, **kwargs)


def _call_separable(layer: Any, quantize: Quantize, args: tuple, kwargs: dict[str, Any]) -> Any:
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


def _call_batch_norm(layer: Any, quantize: Quantize, args: tuple, kwargs: dict[str, Any]) -> Any:
    """LiteRT runs a BatchNorm that follows no kernel as a product and a sum; round what is between them."""
    scale = ops.rsqrt(layer.moving_variance + layer.epsilon)
    scale = scale * layer.gamma if layer.scale else scale
    shift = (layer.beta if layer.center else 0.0) - layer.moving_mean * scale
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


def _call_rescaling(layer: Any, quantize: Quantize, args: tuple, kwargs: dict[str, Any]) -> Any:
    scale, offset = (ops.convert_to_tensor(value, layer.compute_dtype) for value in (layer.scale, layer.offset))
    return quantize(0, ops.cast(args[0], layer.compute_dtype) * as_constant(scale)) + as_constant(offset)


def _call_normalization(layer: Any, quantize: Quantize, args: tuple, kwargs: dict[str, Any]) -> Any:
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


def _call_merge(layer: Any, quantize: Quantize, args: tuple, kwargs: dict[str, Any]) -> Any:
    return _pairwise(layer, quantize, args[0], last=True)


def _call_average(layer: Any, quantize: Quantize, args: tuple, kwargs: dict[str, Any]) -> Any:
    return _pairwise(layer, quantize, args[0], last=False) * (1.0 / len(args[0]))


def _activation_layer(layer: Any) -> Steps:
    row = _activation(layer.activation)
    function = row.run
    if function is None:
        return Steps(row.inside, row.output, reason=row.reason)

    def run(layer: Any, quantize: Quantize, args: tuple, kwargs: dict[str, Any]) -> Any:
        return function(quantize, *args)

    return Steps(row.inside, row.output, run, reason=row.reason)


def _relu(layer: Any) -> Steps:
    """A ReLU with an upper bound is a range that ends there."""
    if layer.max_value in (None, 6) or layer.negative_slope or layer.threshold:
        return Steps()
    return Steps(output=(0.0, float(layer.max_value)), run=lambda layer, quantize, args, kwargs: ops.relu(args[0]))


def _rescaling(layer: Any) -> Steps:
    return Steps((OBSERVED,), run=_call_rescaling) if np.any(np.asarray(layer.offset)) else Steps()


_LAYERS: dict[Any, Callable[[Any], Steps]] = {
    layers.Activation: _activation_layer,
    layers.Softmax: lambda layer: Steps(output=UNIT),
    layers.BatchNormalization: lambda layer: Steps((OBSERVED,), run=_call_batch_norm),
    layers.Rescaling: _rescaling,
    layers.Normalization: lambda layer: Steps() if layer.invert else Steps((OBSERVED,), run=_call_normalization),
}
_OPERATIONS = {
    "Softmax": Steps(output=UNIT),
    "Sigmoid": Steps(output=UNIT),
    "Tanh": Steps(output=SIGNED_UNIT),
    "Silu": Steps((UNIT,), run=lambda layer, quantize, args, kwargs: _silu(quantize, *args)),
    **{name: Steps(reason="LiteRT has no int8 kernel for it") for name in ("Negative", "Square", "Sin", "Cos")},
}
