"""FakeQuant: a weight rounded to the integers that LiteRT will store, in float.

Reference: B. Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference", 2018, arXiv:1712.05877; LiteRT's 8-bit specification for the symmetric, narrow range of weights.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tfgreen.errors import invalid_value
from tfgreen.transforms.base import TensorTransform


def symmetric_scale(weight: Any, bits: int = 8, axis: int | None = None) -> Any:
    """The step between two integers that lets the largest magnitude reach the largest integer.

    Args:
        weight: Float tensor of any shape.
        bits: Width of the signed integers; the range is narrow, -(2^(bits-1) - 1) to 2^(bits-1) - 1.
        axis: Axis of the output channels for one scale per channel; None for one scale.

    Returns:
        Float tensor that broadcasts against ``weight``. It is 1 where all weights are zero.
    """
    rank = len(weight.shape)
    reduced = None if axis is None else [i for i in range(rank) if i != axis % rank]
    largest = ops.max(ops.abs(weight), axis=reduced, keepdims=True)
    return ops.where(largest > 0, largest / float(2 ** (bits - 1) - 1), ops.ones_like(largest))


def fake_quantize(weight: Any, scale: Any) -> Any:
    """Round to multiples of ``scale``; the gradient passes straight through.

    Example:
        >>> import numpy as np
        >>> np.asarray(fake_quantize(ops.convert_to_tensor([0.24, -0.26, 0.0]), 0.5)).tolist()
        [0.0, -0.5, 0.0]
    """
    return weight + ops.stop_gradient(ops.round(weight / scale) * scale - weight)


@keras.saving.register_keras_serializable(package="tfgreen")
class FakeQuant(TensorTransform):
    """Round a weight symmetrically to signed integers; zero stays zero, so a mask before it survives.

    Args:
        bits: 2 to 8.
        axis: Axis of the output channels for one scale per channel; None for one scale for the whole weight.
    """

    def __init__(self, bits: int = 8, axis: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if bits not in range(2, 9):
            raise invalid_value("bits", expected="an integer from 2 to 8", received=bits)
        self.bits = bits
        self.axis = axis

    def apply(self, weight: Any) -> Any:
        return fake_quantize(weight, ops.stop_gradient(symmetric_scale(weight, self.bits, self.axis)))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "bits": self.bits, "axis": self.axis}
