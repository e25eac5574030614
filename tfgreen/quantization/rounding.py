"""Rounding of activations to a range as LiteRT does it, with the gradients that training needs.

References: B. Jacob et al., 2018, arXiv:1712.05877 (the gradient passes within the range); S. Esser et al., 2020,
arXiv:1902.08153 (its width has one, too).
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from keras import ops

from tfgreen.transforms.exporting import is_exporting
from tfgreen.typing import Tensor

_HALFWAY = 1e-3  # of an integer, which float32 cannot tell from halfway in a range of 2^8


def fake_quantize_between(x: Tensor, lower: Tensor | float, upper: Tensor | float, bits: int = 8) -> Tensor:
    """Round to the ``2^bits`` evenly spaced values of a range, moved so that zero is one of them.

    It is the operation that the converter reads ranges from.

    Args:
        x: float32 tensor of any shape.
        lower, upper: Scalars, ``lower <= 0 <= upper``.
        bits: 2 to 16. While a model is exported, 8 for fewer: LiteRT has no activations of less.

    Returns:
        float32 tensor of the same shape. Its gradient is that of ``x`` within the range and 0 outside.
    """
    if bits > 8:  # 16-bit activations are symmetric
        if is_exporting():
            return x  # the converter takes trained ranges of 8 bits only, and calibrates those of 16
        top = tf.maximum(-lower, upper)
        lower, upper = -top, top * (1 - 2.0 ** (1 - bits))
    if is_exporting():
        bits = max(bits, 8)
        lower, upper = _nudged(lower, upper, bits)
    return tf.quantization.fake_quant_with_min_max_vars(x, lower, upper, num_bits=bits)


def _nudged(lower: Tensor | float, upper: Tensor | float, bits: int) -> tuple[Tensor, Tensor]:
    """A range of which zero lies halfway between two integers, as it does in a symmetric one, moved as the operator
    moves it, in float32: the converter goes by float64, and would take the other integer."""
    lower, upper = (tf.cast(end, "float32") for end in (lower, upper))
    step = (upper - lower) / float(2**bits - 1)
    place = -lower / step
    zero = tf.floor(place + 0.5)
    is_halfway = tf.abs(tf.abs(zero - place) - 0.5) < _HALFWAY
    return tf.where(is_halfway, -zero * step, lower), tf.where(is_halfway, (2**bits - 1 - zero) * step, upper)


def relu_of(x: Any) -> Any | None:
    """The operation in the graph that is being traced that a tensor comes from, if it is a ReLU."""
    if tf.executing_eagerly() or not tf.is_tensor(x):
        return None
    while x.op.type == "StopGradient":
        x = x.op.inputs[0]
    return x.op if x.op.type in ("Relu", "Relu6") else None


def round_relu(relu: Any, lower: Tensor | float, upper: Tensor | float, bits: int) -> Tensor:
    """What :func:`fake_quantize_between` makes of the output of a ReLU, with one pass for the gradient of both.

    TensorFlow takes one for the ReLU and three for the rounding, two of which are for the ends of the range.
    """

    @tf.custom_gradient
    def rounded(x: Tensor) -> Any:
        positive = tf.nn.relu(x) if relu.type == "Relu" else tf.nn.relu6(x)  # once in the graph, as TensorFlow runs it
        top = fake_quantize_between(tf.float32.max, lower, upper, bits)

        def gradient(upstream: Tensor) -> Tensor:
            # It passes where 0 < x <= top, and for a ReLU6 x < 6: as the one of a ReLU6, of which top is the 6.
            bound = top * (1 + 2.0**-22)
            bound = tf.minimum(bound, 6.0) if relu.type == "Relu6" else bound
            return tf.raw_ops.Relu6Grad(gradients=upstream, features=positive * (6.0 / bound))

        return fake_quantize_between(positive, lower, upper, bits), gradient

    return rounded(relu.inputs[0])


def round_learned(x: Tensor, lower: Tensor, upper: Tensor, width: Tensor, bits: int) -> Tensor:
    """Forward the converter's operation; backward LSQ's gradient for ``width``, the factor on both ends."""
    levels = float(2**bits - 1)

    @tf.custom_gradient
    def rounded(x: Tensor, width: Tensor) -> Any:
        y = fake_quantize_between(x, lower, upper, bits)

        def gradient(upstream: Tensor) -> tuple[Tensor, Tensor]:
            inside = tf.logical_and(x >= lower, x <= upper)
            # dy/dwidth: the rounding error where not clipped, the end of the range where clipped; over width, as both
            # scale with it. LSQ divides it by the root of the features of a sample, times the number of levels.
            slope = tf.where(inside, y - x, y) / tf.maximum(tf.abs(width), 1e-6)
            features = tf.size(x) // tf.maximum(tf.shape(x)[0], 1) if len(x.shape) else 1
            scale = tf.sign(width) / tf.sqrt(tf.cast(features, tf.float32) * levels)
            return tf.where(inside, upstream, tf.zeros_like(upstream)), tf.reduce_sum(upstream * slope) * scale

        return y, gradient

    return rounded(x, width)


def round_average(x: Tensor, lower: Tensor | float, upper: Tensor | float) -> Tensor:
    """Round an average of values of an 8-bit range to that range as LiteRT's average pooling does: halves away from
    integer 0, where :func:`fake_quantize_between` rounds halves up. A window of four values gives one half in four.

    Args:
        x: Float tensor of any shape, within the range.
        lower, upper: Scalars, ``lower <= 0 <= upper``.

    Returns:
        Tensor of the same shape and dtype.
    """
    scale = ops.maximum((upper - lower) / 255.0, 1e-12)
    zero = ops.round(-lower / scale) - 128.0
    integer = ops.cast(x, "float32") / scale + zero
    # a hair outwards, because the division leaves a half a hair off
    away = ops.sign(integer) * ops.floor(ops.abs(integer) + (0.5 + 1e-4))
    return ops.cast((away - zero) * scale, x.dtype)


def round_leaky_relu(
    x: Tensor, slope: float, source: tuple[Tensor, Tensor], target: tuple[Tensor, Tensor]
) -> Tensor:
    """A leaky ReLU of values of an 8-bit range, in multiples of the scale of another, as XNNPACK computes it: with two
    factors in whole multiples of 1/256."""
    scale, new_scale = ((upper - lower) / 255.0 for lower, upper in (source, target))
    integers, ratio = ops.round(ops.cast(x, "float32") / scale), scale / new_scale
    factor = ops.where(integers < 0, ops.round(256 * ratio * slope), ops.round(256 * ratio))
    return ops.cast(ops.floor((integers * factor + 128) / 256) * new_scale, x.dtype)


def without_gradient_of_zeros(x: Tensor, axis: int | tuple[int, ...]) -> Tensor:
    """The tensor; where all that is normalized together is 0, no gradient passes.

    That of ``x / norm(x)`` is then a million times as steep as elsewhere. Numbers that a ReLU has left are 0 only where
    it passes none; rounded, they also are where it does.
    """
    return ops.where(ops.any(ops.not_equal(x, 0.0), axis=axis, keepdims=True), x, ops.stop_gradient(x))
