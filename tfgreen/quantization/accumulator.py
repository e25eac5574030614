"""A kernel in integers: what LiteRT's accumulator holds before it is rounded to the output's range.

The Keras model could multiply the rounded floats as well. But float32 sums are off in the last digits, and LiteRT
rounds the bias to the accumulator's step; both tip a value over to the next one now and then, and the layers after it
spread the difference. Sums of whole numbers are exact in float32 up to 2^24.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
from keras import layers, ops

from tfgreen.model.batch_norm import gain_and_bias
from tfgreen.model.weights import quantizable_weights
from tfgreen.quantization.op_classes import is_own
from tfgreen.quantization.ranges import ActivationRange
from tfgreen.transforms.fake_quant import symmetric_scale


@dataclasses.dataclass(frozen=True)
class Accumulator:
    """Sums of products of integers.

    Attributes:
        sums: Whole numbers as float32, of shape (batch, ..., channels).
        step: What 1 stands for, of shape (channels,).
        bias: Not in the sums: float32 of shape (channels,), or 0.
    """

    sums: Any
    step: Any
    bias: Any

    def values(self) -> Any:
        """The output of the kernel, its bias rounded as LiteRT rounds it."""
        return (self.sums + round_to_steps(self.bias, self.step)) * self.step

    def normalized(self, norm: keras.layers.BatchNormalization) -> Any:
        """The output of the kernel into which a BatchNormalization was merged, with its moving statistics."""
        gain, bias = gain_and_bias(norm, self.bias)
        step = self.step * ops.abs(gain)
        return (self.sums * ops.sign(gain) + round_to_steps(bias, step)) * step


@dataclasses.dataclass(frozen=True)
class SharedKernel:
    """A kernel whose channels share one scale, and what it was called on, for the export.

    The converter finds a scale for each channel once it has merged a BatchNormalization into a kernel, and no longer
    the one that makes few integers of a codebook. So the BatchNormalization calls the kernel again, merged with it, and
    tells the scales.
    """

    layer: Any
    inputs: Any
    kernel: Any
    bias: Any
    bits: int

    def normalized(self, norm: keras.layers.BatchNormalization) -> Any:
        """The output of the kernel with a BatchNormalization merged into it, with its moving statistics."""
        import tensorflow as tf

        gain, bias = gain_and_bias(norm, self.bias)
        largest = ops.maximum(ops.max(ops.abs(self.kernel)) * ops.abs(gain), 1e-12)
        merged = tf.quantization.fake_quant_with_min_max_vars_per_channel(
            self.kernel * gain, -largest, largest, num_bits=self.bits, narrow_range=True
        )
        return _conv(self.layer, self.inputs, merged) + bias


def round_to_steps(bias: Any, step: Any) -> Any:
    """A bias in whole steps; 0 where the step is 0.

    Example:
        >>> import numpy as np
        >>> np.asarray(round_to_steps(np.float32([0.24, 1.0]), np.float32([0.1, 0.5]))).tolist()
        [2.0, 2.0]
    """
    return ops.where(step > 0, ops.round(bias / ops.where(step > 0, step, 1.0)), 0.0)


def accumulate(
    layer: Any, args: tuple, source: ActivationRange | None, weight_bits: int, one_scale: bool
) -> Accumulator | None:
    """Run a kernel on integers, or None where that cannot be done: no kernel, or an input that was not rounded.

    Args:
        layer: Any layer; it computes with the kernel it shows.
        args: What it is called on.
        source: The range of its input.
        weight_bits: Width of the integers of its kernel.
        one_scale: Whether all channels of the kernel have the same scale.
    """
    if source is None or source.bits != 8 or len(args) != 1 or not is_own(layer, tuple(_RUN)):
        return None
    if getattr(layer, "data_format", "") == "channels_first" or getattr(layer, "padding", "") == "causal":
        return None
    axes = quantizable_weights(layer).get("kernel")
    if axes is None:
        return None
    run = next(run for cls, run in _RUN.items() if isinstance(layer, cls))
    lower, upper = source.ends()
    input_step = ops.maximum((upper - lower) / float(2**source.bits - 1), 1e-30)
    kernel = ops.convert_to_tensor(layer.kernel)
    scale = symmetric_scale(kernel, weight_bits, () if one_scale else axes)
    sums = run(layer, ops.round(ops.cast(args[0], "float32") / input_step), ops.round(kernel / scale))
    bias = ops.convert_to_tensor(layer.bias) if layer.use_bias else 0.0
    return Accumulator(sums, ops.reshape(scale, (-1,)) * input_step, bias)


def shared_kernel(layer: keras.layers.Conv2D, inputs: Any, weight_bits: int) -> SharedKernel:
    """What a layer is called on, with the kernel and the bias that it shows by now, not when they are used."""
    import tensorflow as tf

    kernel, bias = (0.0 if weight is None else tf.convert_to_tensor(weight) for weight in (layer.kernel, layer.bias))
    return SharedKernel(layer, inputs, kernel, bias, weight_bits)


def can_share_scale(layer: Any) -> bool:
    """Whether :class:`SharedKernel` can call a layer: the converter refuses scales per channel of other kernels."""
    return is_own(layer, (layers.Conv2D,)) and layer.data_format == "channels_last"


def _conv(layer: Any, x: Any, kernel: Any) -> Any:
    return ops.conv(x, kernel, layer.strides, layer.padding, layer.data_format, layer.dilation_rate)


def _depthwise(layer: Any, x: Any, kernel: Any) -> Any:
    return ops.depthwise_conv(x, kernel, layer.strides, layer.padding, layer.data_format, layer.dilation_rate)


_RUN = {
    layers.Dense: lambda layer, x, kernel: ops.matmul(x, kernel),
    layers.Conv1D: _conv,
    layers.Conv2D: _conv,
    layers.DepthwiseConv1D: _depthwise,
    layers.DepthwiseConv2D: _depthwise,
}
