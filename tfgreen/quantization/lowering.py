"""Which LiteRT operators a layer becomes, which ranges they need, and how to run the layer as these operators.

A row of the tables gives the ranges inside a layer and of its output. Whatever has no row is one operator (or stays in
float32, as ``_FLOAT`` says) and needs a range on its output only. A row's ``run(layer, quantize, args, kwargs)`` stands
in the place of ``layer(*args, **kwargs)``; ``quantize(i, x)`` rounds ``x`` to the i-th range inside.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import activations, layers, ops

from tfgreen.model.batch_norm import gain_and_bias
from tfgreen.model.layer_calls import around_calls
from tfgreen.model.paths import sublayers, walk
from tfgreen.model.weights import is_own
from tfgreen.quantization.attention import PROBABILITIES, run_attention
from tfgreen.quantization.op_classes import (
    FUSED,
    can_fuse_relu,
    has_kernel,
    is_pass_through,
    is_relu,
    is_separable,
    operation_name,
)
from tfgreen.quantization.rounding import fake_quantize_between
from tfgreen.transforms.exporting import is_exporting
from tfgreen.typing import Tensor

OBSERVED = "observed"  # a range that calibration finds
Range = str | tuple[float, float]

UNIT: Range = (0.0, 255 / 256)  # what LiteRT gives softmax and sigmoid
SIGNED_UNIT: Range = (-1.0, 127 / 128)  # and tanh

Quantize = Callable[[int, Tensor], Tensor]
Run = Callable[[Any, Quantize, tuple, Mapping[str, Any]], Tensor]


@dataclasses.dataclass(frozen=True)
class Lowering:
    """How a layer runs in integers.

    Attributes:
        inside: The ranges between its operators.
        output: The range of its output, or None where LiteRT gives it the range of the input.
        run: Runs it with the ranges inside; None to call the layer as it is.
        activate: For one kernel, ``activate(layer, quantize, x)``: what follows its sums and bias.
        reason: Why LiteRT computes it in float32, else "".
    """

    inside: tuple[Range, ...] = ()
    output: Range | None = OBSERVED
    run: Run | None = None
    activate: Callable[[Any, Quantize, Tensor], Tensor] | None = None
    reason: str = ""


def lowering_of(layer: keras.Operation, inputs: int = 1) -> Lowering:
    """The row of a layer or raw operation, given how many tensors it takes."""
    if is_pass_through(layer):
        return Lowering(output=None)
    for cls, reason in _FLOAT.items():
        if isinstance(layer, cls):
            return Lowering(reason=reason)
    if has_kernel(layer):
        return _with_activation(layer, (), _run_kernel)
    if is_separable(layer):
        return _with_activation(layer, (OBSERVED,), _run_separable)
    if is_relu(layer):
        return _relu(layer)
    for cls, row in _LAYERS.items():
        if is_own(layer, (cls,)):
            return row(layer, inputs)
    if isinstance(layer, keras.Layer) and (not is_own(layer, (keras.Layer,)) or _runs_model(layer)):
        inside = [range_ for _, _, ranges in _kernels_inside(layer) for range_ in ranges]
        return Lowering(tuple(inside), run=_run_opaque if inside else None, reason=_OWN_CALL)
    return _OPERATIONS.get(operation_name(layer), Lowering())


def _runs_model(layer: keras.Layer) -> bool:
    """Whether a wrapper of Keras's runs layers made of layers, once or for each step."""
    return isinstance(layer, layers.TimeDistributed) and any(True for _ in sublayers(layer.layer))


def is_opaque(layer: keras.Operation) -> bool:
    """Whether nothing is known of what a layer computes, but its output."""
    return lowering_of(layer).reason == _OWN_CALL


def without_activation(layer: keras.Layer, run: Callable[[], Tensor]) -> Tensor:
    """Run something while a layer's activation is linear."""
    activation, layer.activation = layer.activation, activations.linear
    try:
        return run()
    finally:
        layer.activation = activation


def as_constant(value: Tensor) -> Tensor:
    """A tensor that a sum or product takes as a constant, rounded as the converter rounds it: between its extremes."""
    if is_exporting():
        return value
    x = ops.cast(value, "float32")
    rounded = fake_quantize_between(x, ops.minimum(ops.min(x), 0.0), ops.maximum(ops.max(x), 0.0))
    return value + ops.stop_gradient(ops.cast(rounded, value.dtype) - value)


def _kernels_inside(layer: keras.Layer) -> list[tuple[keras.Layer, Lowering, tuple[Range, ...]]]:
    """The kernels in a layer whose code is not known, and the ranges of what goes in, is between and comes out."""
    kernels = [sub for _, sub in walk(layer) if has_kernel(sub)]
    rows = [(kernel, lowering_of(kernel)) for kernel in kernels]
    return [(kernel, row, (OBSERVED, *row.inside, row.output or OBSERVED)) for kernel, row in rows]


def _run_opaque(layer: keras.Layer, quantize: Quantize, args: tuple, kwargs: Mapping[str, Any]) -> Tensor:
    """Code that is not known, in float32, with the kernels that it calls in integers."""
    places: dict[keras.Layer, tuple[int, Lowering, int]] = {}
    first = 0
    for kernel, row, ranges in _kernels_inside(layer):
        places[kernel] = first, row, first + len(ranges) - 1
        first += len(ranges)
    running = set[keras.Layer]()

    def around(kernel: keras.Layer, call: Callable[..., Tensor], /, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if kernel in running:  # by its row
            return call(x, *args, **kwargs)
        before, row, after = places[kernel]
        running.add(kernel)
        try:
            x = quantize(before, x)
            if row.run is None:
                y = call(x, *args, **kwargs)
            else:
                y = row.run(kernel, lambda index, value: quantize(before + 1 + index, value), (x, *args), kwargs)
        finally:
            running.remove(kernel)
        return quantize(after, y)

    with around_calls(places, around):
        return layer(*args, **kwargs)


def _run_kernel(layer: keras.Layer, quantize: Quantize, args: tuple, kwargs: Mapping[str, Any]) -> Tensor:
    if not is_exporting() or not _is_dilated(layer):
        return layer(*args, **kwargs)
    # TensorFlow moves the places between its weights into the batch and back, so that it has a gradient. The converter
    # makes one operator of that, but not where two kernels take in the same: their operators then have no ranges.
    x, padding = ops.cast(args[0], layer.compute_dtype), layer.padding
    if padding == "causal":
        x, padding = ops.pad(x, [[0, 0], [layer.dilation_rate[0] * (layer.kernel_size[0] - 1), 0], [0, 0]]), "valid"
    kernel, padding = tf.convert_to_tensor(layer.kernel), padding.upper()
    if isinstance(layer, layers.DepthwiseConv2D):
        rates = [1, *layer.dilation_rate, 1]
        x = tf.raw_ops.DepthwiseConv2dNative(
            input=x, filter=kernel, strides=[1, 1, 1, 1], padding=padding, dilations=rates
        )
    else:
        conv = tf.nn.conv1d if isinstance(layer, layers.Conv1D) else tf.nn.conv2d
        x = conv(x, kernel, 1, padding, dilations=layer.dilation_rate)
    if layer.use_bias:
        x = ops.add(x, ops.cast(layer.bias, x.dtype))
    return layer.activation(x) if layer.activation is not None else x


def _is_dilated(layer: keras.Layer) -> bool:
    """Whether a kernel leaves places out, and LiteRT has an operator for that."""
    has_operator = is_own(layer, (layers.Conv1D, layers.Conv2D, layers.DepthwiseConv2D))
    return has_operator and layer.data_format == "channels_last" and max(layer.dilation_rate) > 1


def _activate(layer: keras.Layer, quantize: Quantize, x: Tensor) -> Tensor:
    return layer.activation(x)


def _run_separable(layer: keras.Layer, quantize: Quantize, args: tuple, kwargs: Mapping[str, Any]) -> Tensor:
    """A depthwise and a pointwise kernel."""
    x = ops.cast(args[0], layer.compute_dtype)
    how = (layer.strides, layer.padding, layer.data_format, layer.dilation_rate)
    x = ops.depthwise_conv(x, layer.depthwise_kernel, *how)
    x = ops.conv(quantize(0, x), layer.pointwise_kernel, 1, "valid", layer.data_format)
    if layer.use_bias:
        shape = [1] * len(x.shape)
        shape[-1 if layer.data_format == "channels_last" else 1] = layer.filters
        x = ops.add(x, ops.reshape(ops.cast(layer.bias, x.dtype), shape))  # Keras has a special case for add
    return layer.activation(x) if layer.activation is not None else x


def _run_batch_norm(layer: keras.Layer, quantize: Quantize, args: tuple, kwargs: Mapping[str, Any]) -> Tensor:
    """A product and a sum, where it follows no kernel."""
    shape = [1] * len(args[0].shape)
    shape[layer.axis] = -1
    gain, bias = (ops.cast(ops.reshape(value, shape), layer.compute_dtype) for value in gain_and_bias(layer))
    if kwargs.get("training"):
        return quantize(0, layer(*args, **kwargs) - bias) + bias
    product = quantize(0, ops.cast(args[0], layer.compute_dtype) * as_constant(gain))
    if is_exporting() and not _adds(layer):
        return product  # the converter would leave the sum out, and then find two ranges where it can take one
    return product + as_constant(bias)


def _adds(layer: layers.BatchNormalization) -> bool:
    with tf.init_scope():
        return bool(np.any(ops.convert_to_numpy(gain_and_bias(layer)[1])))


def _run_rescaling(layer: keras.Layer, quantize: Quantize, args: tuple, kwargs: Mapping[str, Any]) -> Tensor:
    """A product and a sum."""
    scale, offset = (ops.convert_to_tensor(value, layer.compute_dtype) for value in (layer.scale, layer.offset))
    return quantize(0, ops.cast(args[0], layer.compute_dtype) * as_constant(scale)) + as_constant(offset)


def _run_normalization(layer: keras.Layer, quantize: Quantize, args: tuple, kwargs: Mapping[str, Any]) -> Tensor:
    """A difference and a product."""
    with tf.init_scope():  # numbers, of which the converter sees whether they change anything
        mean, variance = (ops.cast(value, "float32") for value in (layer.mean, layer.variance))
        factor = 1.0 / ops.maximum(ops.sqrt(variance), keras.config.epsilon())
    mean, factor = (as_constant(ops.cast(value, layer.compute_dtype)) for value in (mean, factor))
    return quantize(0, ops.cast(args[0], layer.compute_dtype) - mean) * factor


def _pairwise(layer: keras.Layer, quantize: Quantize, inputs: Sequence[Tensor], last: bool) -> Tensor:
    """Add or multiply tensors one after the other; round the result too unless it is the ``last``."""
    total = inputs[0]
    for index, x in enumerate(inputs[1:]):
        total = total * x if isinstance(layer, layers.Multiply) else total + x
        if not last or index < len(inputs) - 2:
            total = quantize(index, total)
    return total


def _run_merge(layer: keras.Layer, quantize: Quantize, args: tuple, kwargs: Mapping[str, Any]) -> Tensor:
    return _pairwise(layer, quantize, args[0], last=True)


def _run_average(layer: keras.Layer, quantize: Quantize, args: tuple, kwargs: Mapping[str, Any]) -> Tensor:
    return _pairwise(layer, quantize, args[0], last=False) * (1.0 / len(args[0]))


def _run_reversible(layer: keras.Layer, quantize: Quantize, args: tuple, kwargs: Mapping[str, Any]) -> Tensor:
    """A lookup, or a product with the table of which a tanh caps the logits."""
    if not (kwargs.get("reverse") or (False, *args)[-1] is True):
        return layer(*args, **kwargs)
    cap, without = layer.logit_soft_cap, object.__new__(type(layer))
    without.__dict__.update(vars(layer), logit_soft_cap=None)  # other threads may run the layer meanwhile
    x = quantize(0, type(layer).call(without, ops.cast(args[0], layer.compute_dtype), *args[1:], **kwargs))
    return quantize(2, ops.tanh(quantize(1, x * (1.0 / cap)))) * cap


def _run_silu(layer: keras.Operation, quantize: Quantize, args: tuple, kwargs: Mapping[str, Any]) -> Tensor:
    return args[0] * quantize(0, ops.sigmoid(args[0]))


def _run_hard_sigmoid(layer: keras.Operation, quantize: Quantize, args: tuple, kwargs: Mapping[str, Any]) -> Tensor:
    return quantize(0, ops.relu6(args[0] + 3.0)) * (1.0 / 6.0)


def _run_relu(layer: keras.Operation, quantize: Quantize, args: tuple, kwargs: Mapping[str, Any]) -> Tensor:
    return ops.relu(args[0])


ACTIVATIONS: dict[Any, Lowering] = {
    **dict.fromkeys((*FUSED, activations.hard_silu, activations.gelu, activations.leaky_relu), Lowering()),
    activations.exponential: Lowering(),
    activations.softmax: Lowering(output=UNIT),
    activations.sigmoid: Lowering(output=UNIT),
    activations.tanh: Lowering(output=SIGNED_UNIT),
    activations.silu: Lowering((UNIT,), run=_run_silu),
    activations.hard_sigmoid: Lowering(((0.0, 6.0),), (0.0, 1.0), run=_run_hard_sigmoid),
}


def _activation(layer: keras.Layer) -> Lowering:
    """The row of a layer's activation function."""
    name = getattr(layer.activation, "__name__", type(layer.activation).__name__)
    return ACTIVATIONS.get(layer.activation, Lowering(reason=_NO_ACTIVATION.format(name)))


def _with_activation(layer: keras.Layer, inside: tuple[Range, ...], run: Run) -> Lowering:
    """A kernel and its activation: fused into one operator, or two with a range between them."""
    if layer.activation is activations.linear or (layer.activation in FUSED and can_fuse_relu(layer)):
        return Lowering(inside, run=run if inside or _is_dilated(layer) else None, activate=_activate)
    row, first = _activation(layer), len(inside)

    def activate(layer: keras.Layer, quantize: Quantize, x: Tensor) -> Tensor:
        x = quantize(first, x)
        if row.run is None:
            return layer.activation(x)
        return row.run(layer, lambda index, value: quantize(first + 1 + index, value), (x,), {})

    def run_both(layer: keras.Layer, quantize: Quantize, args: tuple, kwargs: Mapping[str, Any]) -> Tensor:
        return activate(layer, quantize, without_activation(layer, lambda: run(layer, quantize, args, kwargs)))

    return Lowering((*inside, OBSERVED, *row.inside), row.output, run_both, activate, row.reason)


def _relu(layer: keras.Operation) -> Lowering:
    """A ReLU with an upper bound is a range that ends there."""
    if layer.max_value in (None, 6) or layer.negative_slope or layer.threshold:
        return Lowering()
    return Lowering(output=(0.0, float(layer.max_value)), run=_run_relu)


def _merging(layer: keras.Layer, inputs: int) -> Lowering:
    return Lowering((OBSERVED,) * (inputs - 2), run=_run_merge) if inputs > 2 else Lowering()


_NO_KERNEL = "LiteRT has no int8 kernel for it"
_NO_ACTIVATION = "LiteRT has no int8 kernel for the activation '{}'"
# Of which TensorFlow's calibration gives a part the range of another, which clips it or is too wide.
_CELU, _SPARSE_PLUS = map(_NO_ACTIVATION.format, ("celu", "sparse_plus"))
BADLY_CALIBRATED = (_CELU, _SPARSE_PLUS)
_LOOPS = "its steps run in float32 unless calibration data is given to convert"
_OWN_CALL = "only its kernels and its output are rounded, because its call() is not Keras's own"
_NORMALIZES = "it stays float32, in which its mean, variance or norm is safe"
_FLOAT = {
    layers.Conv3D: _NO_KERNEL,
    layers.Conv3DTranspose: _NO_KERNEL,
    layers.ELU: "LiteRT's converter keeps it in float32",
    layers.RNN: _LOOPS,
    layers.Bidirectional: _LOOPS,
    layers.LayerNormalization: _NORMALIZES,
    layers.GroupNormalization: _NORMALIZES,
    layers.RMSNormalization: _NORMALIZES,
    layers.UnitNormalization: _NORMALIZES,
}
WIDE_FEATURES = "one 8-bit scale for its features would lose the small ones"
DIVIDES = "it stays float32, in which small numbers that are divided by do not round to 0"
# Given samples, the converter computes layers in integers that lose by it, and others that should be.
LOSES_IN_INTEGERS = (_NORMALIZES, WIDE_FEATURES, DIVIDES)
NEEDS_SAMPLES = (_LOOPS, _OWN_CALL)
_ONE_INSIDE = (OBSERVED,)
_ATTENTION = Lowering((*[OBSERVED] * PROBABILITIES, UNIT, OBSERVED), run=run_attention)
_LAYERS: dict[type, Callable[[Any, int], Lowering]] = {
    layers.Activation: lambda layer, inputs: _activation(layer),
    layers.Embedding: lambda layer, inputs: (  # what it looks up was rounded as a weight
        Lowering((OBSERVED, OBSERVED, SIGNED_UNIT), None, _run_reversible)
        if getattr(layer, "logit_soft_cap", None)
        else Lowering(output=None)
    ),
    layers.Softmax: lambda layer, inputs: Lowering(output=UNIT),
    layers.BatchNormalization: lambda layer, inputs: Lowering(_ONE_INSIDE, run=_run_batch_norm),
    layers.Rescaling: lambda layer, inputs: (
        Lowering(_ONE_INSIDE, run=_run_rescaling) if np.any(np.asarray(layer.offset)) else Lowering()
    ),
    layers.Normalization: lambda layer, inputs: (
        Lowering() if layer.invert else Lowering(_ONE_INSIDE, run=_run_normalization)
    ),
    layers.Average: lambda layer, inputs: Lowering((OBSERVED,) * (inputs - 1), run=_run_average),
    layers.MultiHeadAttention: lambda layer, inputs: _ATTENTION,
    layers.GroupQueryAttention: lambda layer, inputs: _ATTENTION,
    layers.Dot: lambda layer, inputs: Lowering(reason=_NORMALIZES) if layer.normalize else Lowering(),
    layers.Add: _merging,
    layers.Multiply: _merging,
}
_OPERATIONS = {
    "Softmax": Lowering(output=UNIT),
    "Sigmoid": Lowering(output=UNIT),
    "Tanh": Lowering(output=SIGNED_UNIT),
    "Silu": Lowering((UNIT,), run=_run_silu),
    "Celu": Lowering(reason=_CELU),
    "Normalize": Lowering(reason=_NORMALIZES),
    "SparsePlus": Lowering(reason=_SPARSE_PLUS),
    **dict.fromkeys(("Negative", "Square", "Sin", "Cos"), Lowering(reason=_NO_KERNEL)),
}
