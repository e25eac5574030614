"""FakeQuant: a weight rounded to the integers that LiteRT will store, in float.

References: B. Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference", 2018, arXiv:1712.05877; S. Esser et al., "Learned Step Size Quantization", 2020, arXiv:1902.08153; LiteRT's
8-bit specification for the symmetric, narrow range of weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

import keras
import numpy as np
from keras import ops

from tfgreen.checks import check_integer, check_option
from tfgreen.transforms.base import TensorTransform
from tfgreen.transforms.exporting import is_exporting
from tfgreen.typing import Tensor

Scale = Literal["max", "learned"]
_SMALLEST = 2e-36  # a weight below it is zero: float32 could not hold 1/127 of it


def largest_magnitude(weight: Tensor, axes: Sequence[int] = ()) -> Tensor:
    """The largest ``|w|`` for each index along the axes (none: of all), in a shape that broadcasts to ``weight``."""
    return ops.max(ops.abs(weight), axis=_other_axes(len(weight.shape), axes), keepdims=True)


def _other_axes(rank: int, axes: Sequence[int]) -> tuple[int, ...]:
    return tuple(axis for axis in range(rank) if axis not in axes and axis - rank not in axes)


def symmetric_scale(weight: Tensor, bits: int = 8, axes: Sequence[int] = ()) -> Tensor:
    """What 1 stands for where the largest magnitude is the largest integer, ``2^(bits-1) - 1``.

    One scale for each index along the axes (none: of all), of a shape that broadcasts against ``weight``; 1 where all
    weights are (as good as) zero.
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
    """The share, in [0.3, 1], of the largest magnitude at which to clip a weight for the least squared rounding error.

    One for each index along the axes (none: of all): float32, of a shape that broadcasts against ``weight``.
    """
    weight = np.asarray(weight, np.float32)
    reduced = _other_axes(weight.ndim, axes)
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
    weight (no ``axes``), which an operation after the rounding has to mark: here with ``marks_scale``, or where a
    BatchNormalization follows in :func:`tfgreen.quantization.kernels.run_fused`. A ``"max"`` scale makes the largest
    magnitude the largest integer, a ``"learned"`` one is trained, from the value of least squared error on.
    """

    _settings = ("bits", "axes", "scale", "marks_scale", "note")

    def __init__(
        self,
        bits: int = 8,
        axes: Sequence[int] = (),
        scale: Scale = "max",
        marks_scale: bool = True,
        note: str = "",
        **kwargs: object,
    ) -> None:
        super().__init__(**kwargs)
        check_integer("bits", bits, minimum=2, maximum=8)
        check_option("scale", scale, get_args(Scale))
        self.bits = bits
        self.axes = tuple(axes)
        self.scale = scale
        self.marks_scale = marks_scale
        self.note = note
        self._exports = 0

    def build(self, shape: tuple[int, ...]) -> None:
        super().build(shape)
        if self.scale == "learned":
            others = _other_axes(len(shape), self.axes)
            channels = tuple(1 if axis in others else size for axis, size in enumerate(shape))
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
            rounded = fake_quantize_learned(weight, ops.maximum(scale, 1e-12), largest)
        else:
            rounded = fake_quantize(weight, ops.stop_gradient(symmetric_scale(weight, self.bits, self.axes)))
        if self.axes or not self.marks_scale or not is_exporting():
            return rounded
        self._exports += 1
        return _mark_one_scale(rounded, self._exports)


def _mark_one_scale(weight: Tensor, exports: int) -> Tensor:
    """Mark for the converter that integers of one scale are meant: in 8 bits, among which those of fewer are found.

    It would merge the marks of a weight that is read several times, and then store that in float32: each of them
    (``exports``) gets a scale that differs in the last digits, and the same integers.
    """
    import tensorflow as tf

    top = ops.max(ops.abs(weight))
    # Without a gradient to it, the operation's own passes straight through: all lies within.
    top = ops.stop_gradient(ops.where(top > 0, top, 1.0)) * (1.0 + 1e-6 * exports)
    return tf.quantization.fake_quant_with_min_max_vars(weight, -top, top, num_bits=8, narrow_range=True)
