"""Which operations LiteRT makes of a layer, where one layer becomes several: each needs a range for what it makes.

A row of the tables says which ranges a layer needs inside and on its output, and how to run it with them. Whatever has
no row is one operation (or is left in float32, as ``_FLOAT`` says) and needs a range on its output only.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import activations, layers, ops

from tfgreen.quantization.lowered_calls import (
    Quantize,
    call_average,
    call_batch_norm,
    call_linear,
    call_merge,
    call_normalization,
    call_rescaling,
    call_separable,
    without_activation,
)
from tfgreen.quantization.op_classes import (
    FUSED,
    fuses_relu,
    has_kernel,
    is_own,
    is_relu,
    is_separable,
    operation_name,
    shares_scale,
)

OBSERVED = "observed"  # a range that calibration finds
Range = str | tuple[float, float]

UNIT: Range = (0.0, 255 / 256)  # what LiteRT gives softmax and sigmoid
SIGNED_UNIT: Range = (-1.0, 127 / 128)  # and tanh


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
        return _with_activation(layer, (), call_linear)
    if is_separable(layer):
        return _with_activation(layer, (OBSERVED,), call_separable)
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
        return Steps((OBSERVED,) * (inputs - 1), run=call_average)
    if is_own(layer, (layers.Add, layers.Multiply)) and inputs > 2:
        return Steps((OBSERVED,) * (inputs - 2), run=call_merge)
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
    return Steps((OBSERVED,), run=call_rescaling) if np.any(np.asarray(layer.offset)) else Steps()


_LAYERS: dict[Any, Callable[[Any], Steps]] = {
    layers.Activation: _activation_layer,
    layers.Embedding: lambda layer: Steps(output=None),  # what it looks up was rounded as a weight
    layers.Softmax: lambda layer: Steps(output=UNIT),
    layers.BatchNormalization: lambda layer: Steps((OBSERVED,), run=call_batch_norm),
    layers.Rescaling: _rescaling,
    layers.Normalization: lambda layer: Steps() if layer.invert else Steps((OBSERVED,), run=call_normalization),
}
_OPERATIONS = {
    "Softmax": Steps(output=UNIT),
    "Sigmoid": Steps(output=UNIT),
    "Tanh": Steps(output=SIGNED_UNIT),
    "Silu": Steps((UNIT,), run=lambda layer, quantize, args, kwargs: _silu(quantize, *args)),
    **{name: Steps(reason="LiteRT has no int8 kernel for it") for name in ("Negative", "Square", "Sin", "Cos")},
}
