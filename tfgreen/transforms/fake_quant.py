"""FakeQuant: a weight rounded to the integers that LiteRT will store, in float.

References: B. Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference", 2018, arXiv:1712.05877; S. Esser et al., "Learned Step Size Quantization", 2020, arXiv:1902.08153; LiteRT's
8-bit specification for the symmetric, narrow range of weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, get_args

import keras
import numpy as np
from keras import ops

from tfgreen.checks import check_integer, check_option
from tfgreen.transforms.base import TensorTransform
from tfgreen.typing import PlainDict, Tensor

Scale = Literal["max", "learned"]
_SMALLEST = 1e-30  # a weight below it is zero: float32 could not hold its scale


def largest_magnitude(weight: Tensor, axes: Sequence[int] = ()) -> Tensor:
    """The largest ``|w|`` per output channel, of a shape that broadcasts against ``weight``; 0 for all zeros.

    Args:
        weight: Float tensor of any shape.
        axes: Axes of the output channels; none for one value.
    """
    rank = len(weight.shape)
    kept = {axis % rank for axis in axes}
    return ops.max(ops.abs(weight), axis=[axis for axis in range(rank) if axis not in kept], keepdims=True)


def symmetric_scale(weight: Tensor, bits: int = 8, axes: Sequence[int] = ()) -> Tensor:
    """What 1 stands for where the largest magnitude is the largest integer.

    Args:
        weight: Float tensor of any shape.
        bits: Width of the signed integers; the range is narrow, -(2^(bits-1) - 1) to 2^(bits-1) - 1.
        axes: Axes of the output channels for one scale per channel; none for one scale.

    Returns:
        Float tensor that broadcasts against ``weight``. It is 1 where all weights are (as good as) zero.
    """
    largest = largest_magnitude(weight, axes)
    return ops.where(largest > _SMALLEST, largest / float(2 ** (bits - 1) - 1), ops.ones_like(largest))


def fake_quantize(weight: Tensor, scale: Tensor | float) -> Tensor:
    """Round to multiples of ``scale``; the gradient passes straight through.

    Example:
        >>> import numpy as np
        >>> np.asarray(fake_quantize(ops.convert_to_tensor([0.24, -0.26, 0.0]), 0.5)).tolist()
        [0.0, -0.5, 0.0]
    """
    return weight + ops.stop_gradient(ops.round(weight / scale) * scale - weight)


def fake_quantize_learned(weight: Tensor, scale: Tensor | float, largest: int) -> Tensor:
    """Round to at most ``largest`` multiples of a scale that is trained with the weights (LSQ).

    The gradient passes straight through the rounding: it reaches the weights that are not clipped, and the scale
    through the rounding errors of those and the sign of the clipped ones.
    """
    inside = ops.clip(weight / scale, -float(largest), float(largest))
    return (inside + ops.stop_gradient(ops.round(inside) - inside)) * scale


def best_ratio(weight: np.ndarray, bits: int, axes: Sequence[int] = ()) -> np.ndarray:
    """The share of the largest magnitude at which to clip a weight for the least squared rounding error.

    Args:
        weight: Array of any shape.
        bits: Width of the integers.
        axes: Axes of the output channels for one ratio per channel; none for one ratio.

    Returns:
        float32 array that broadcasts against ``weight``, in [0.3, 1].

    Example:
        >>> float(best_ratio(np.array([1.0, -1.0, 0.5, 0.0]), bits=8).squeeze())
        1.0
    """
    weight = np.asarray(weight, np.float32)
    kept = {axis % weight.ndim for axis in axes}
    reduced = tuple(axis for axis in range(weight.ndim) if axis not in kept)
    top = np.abs(weight).max(axis=reduced, keepdims=True)
    largest = 2 ** (bits - 1) - 1
    best, least = np.ones_like(top), np.full_like(top, np.inf)
    for ratio in np.linspace(1.0, 0.3, 36, dtype=np.float32):
        scale = np.where(top > _SMALLEST, ratio * top / largest, 1)
        rounded = np.clip(np.round(weight / scale), -largest, largest) * scale
        error = ((rounded - weight) ** 2).sum(reduced, keepdims=True)
        best, least = np.where(error < least, ratio, best), np.minimum(error, least)
    return best


@keras.saving.register_keras_serializable(package="tfgreen")
class FakeQuant(TensorTransform):
    """Round a weight symmetrically to signed integers; zero stays zero, so a mask before it survives.

    The values are multiples of a scale whose largest is always taken, so a converter that measures the rounded weight
    finds the same scale and the same integers. It would choose a scale per channel where there is one for the whole
    weight, which an operation after the rounding has to mark.

    Args:
        bits: 2 to 8.
        axes: Axes of the output channels for one scale per channel; none for one scale for the whole weight.
        scale: ``"max"``: the largest magnitude is the largest integer. ``"learned"``: trained with the weights, from
            the value of least squared error on.
        marks_scale: Whether one scale for the whole weight is marked here; not where a BatchNormalization follows, see
            :func:`tfgreen.quantization.kernels.run_fused`.
        note: For ``tg.summary``.
    """

    order = 2

    def __init__(
        self,
        bits: int = 8,
        axes: Sequence[int] = (),
        scale: Scale = "max",
        marks_scale: bool = True,
        note: str = "",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_integer("bits", bits, minimum=2, maximum=8)
        check_option("scale", scale, get_args(Scale))
        self.bits = bits
        self.axes = tuple(axes)
        self.scale = scale
        self.marks_scale = marks_scale
        self.note = note

    def build(self, shape: tuple[int, ...]) -> None:
        super().build(shape)
        if self.scale == "learned":
            kept = {axis % len(shape) for axis in self.axes}
            channels = tuple(size if axis in kept else 1 for axis, size in enumerate(shape))
            # The scale as a share of the largest magnitude at the start, so that one learning rate suits all weights.
            self.ratio = self.add_weight(shape=channels, initializer="ones", name="ratio")
            self.start = self.add_weight(shape=channels, initializer="ones", trainable=False, name="start")
            self._size = math.prod(shape) / math.prod(channels)

    def start_from(self, weight: Tensor) -> None:
        """Set a learned scale to the one of least squared error for a weight."""
        if self.scale == "learned":
            self.start.assign(symmetric_scale(weight, self.bits, self.axes))
            self.ratio.assign(best_ratio(ops.convert_to_numpy(weight), self.bits, self.axes))

    def apply(self, weight: Tensor) -> Tensor:
        largest = 2 ** (self.bits - 1) - 1
        if self.scale == "learned":
            # LSQ scales the scale's gradient down, as it sums over all weights of the channel.
            factor = 1.0 / math.sqrt(self._size * largest)
            ratio = ops.stop_gradient(self.ratio.value * (1 - factor)) + self.ratio.value * factor
            # No wider than lets the outermost integer be taken, or the converter could not find the scale again.
            widest = ops.stop_gradient(largest_magnitude(weight, self.axes)) / (largest - 0.49)
            scale = ops.minimum(ops.abs(ratio) * self.start, ops.where(widest > 0, widest, 1.0))
            return fake_quantize_learned(weight, ops.maximum(scale, 1e-12), largest)
        rounded = fake_quantize(weight, ops.stop_gradient(symmetric_scale(weight, self.bits, self.axes)))
        return rounded if self.axes or not self.marks_scale else _mark_one_scale(rounded, self.bits)

    def get_config(self) -> PlainDict:
        own = {"bits": self.bits, "axes": self.axes, "scale": self.scale, "note": self.note}
        own["marks_scale"] = self.marks_scale
        return {**super().get_config(), **own}


def _mark_one_scale(weight: Tensor, bits: int) -> Tensor:
    """Mark for the converter that integers of one scale are meant; values on that grid stay as they are."""
    import tensorflow as tf

    top = ops.max(ops.abs(weight))
    top = ops.where(top > 0, top, 1.0)
    top = ops.stop_gradient(top)  # so that the operation's own gradient passes straight through: all lies within
    return tf.quantization.fake_quant_with_min_max_vars(weight, -top, top, num_bits=bits, narrow_range=True)
