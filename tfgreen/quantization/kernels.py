"""Kernels in integers: what their accumulator holds, and the scales of one into which a BatchNormalization is fused.

The scale of an accumulator is that of the kernel's input times that of its weights. LiteRT rounds the bias to it, which
moves results; the sums of rounded floats are whole multiples of it too, but for their last digits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import keras
import tensorflow as tf
from keras import layers, ops

from tfgreen.model.batch_norm import gain_and_bias
from tfgreen.model.internals import calls_of, consumers_of, producing_call
from tfgreen.quantization.op_classes import inner_operation, is_identity, is_own
from tfgreen.quantization.ranges import ActivationRange
from tfgreen.transforms.compressed import Compressed
from tfgreen.transforms.fake_quant import FakeQuant, symmetric_scale
from tfgreen.typing import Tensor

_KERNELS = (layers.Dense, layers.Conv1D, layers.Conv2D, layers.DepthwiseConv1D, layers.DepthwiseConv2D)
_Neighbours = Callable[[keras.Operation], Iterable[keras.Operation]]


def round_in_accumulator(
    x: Tensor, kernel: Compressed, source: ActivationRange | None, norm: layers.BatchNormalization | None = None
) -> Tensor:
    """The output of a kernel in whole multiples of its accumulator's scale; as it is where that is unknown.

    Args:
        x: The output, bias included, of shape (batch, ..., channels); that of ``norm`` if one is fused into the kernel.
        kernel: The layer.
        source: The range of its input.
        norm: The BatchNormalization.
    """
    scale = _accumulator_scale(kernel, source)
    if scale is None:
        return x
    bias = _bias(kernel.layer)
    if norm is not None:
        gain, bias = gain_and_bias(norm, bias)
        scale = scale * ops.abs(gain)
    unit = ops.where(scale > 0, scale, 1.0)  # 0 where a gain is
    exact = (ops.round((ops.cast(x, "float32") - bias) / unit) + ops.round(bias / unit)) * unit
    return ops.where(scale > 0, ops.cast(exact, x.dtype), x)


def _accumulator_scale(kernel: Compressed, source: ActivationRange | None) -> Tensor | None:
    """What 1 stands for in the accumulator, of shape (channels,)."""
    layer, rounding = kernel.layer, weight_rounding(kernel)
    if source is None or source.bits != 8 or rounding is None or not is_own(layer, _KERNELS):
        return None
    if getattr(layer, "data_format", "") == "channels_first":
        return None
    lower, upper = source.ends()
    weight = next(weight for weight in kernel.chained if weight.chain.weight == "kernel").effective()
    scale = symmetric_scale(weight, rounding.bits, rounding.axes)
    return ops.reshape(scale, (-1,)) * ops.maximum((upper - lower) / 255.0, 1e-30)


def _bias(layer: keras.Layer) -> Tensor | float:
    return ops.cast(layer.bias.value, "float32") if layer.use_bias else 0.0


def weight_rounding(compressed: Compressed) -> FakeQuant | None:
    """The rounding of a kernel, or None."""
    transforms = [item for chain in compressed.chains if chain.weight == "kernel" for item in chain.transforms]
    return next((item for item in transforms if isinstance(item, FakeQuant)), None)


def can_share_scale(layer: keras.Layer) -> bool:
    """Whether :func:`run_fused` can run a layer: the converter takes scales per channel for no other kernels."""
    return is_own(layer, (layers.Conv2D,)) and layer.data_format == "channels_last"


def run_fused(kernel: Compressed, norm: layers.BatchNormalization, x: Tensor) -> Tensor:
    """A kernel with one scale for all channels and the BatchNormalization after it as one operator, for the export.

    The converter finds a scale for each channel once it has fused a BatchNormalization into a kernel, no longer the one
    that makes few integers of a codebook. So the two are fused here, and an operation tells the scales.
    """
    layer = kernel.layer
    weight = tf.convert_to_tensor(layer.kernel)
    gain, bias = gain_and_bias(norm, _bias(layer))
    largest = ops.maximum(ops.max(ops.abs(weight)) * ops.abs(gain), 1e-12)
    weight = tf.quantization.fake_quant_with_min_max_vars_per_channel(
        weight * gain, -largest, largest, num_bits=8, narrow_range=True
    )
    return ops.conv(x, weight, layer.strides, layer.padding, layer.data_format, layer.dilation_rate) + bias


def fused_norm(kernel: Compressed) -> Compressed | None:
    """The BatchNormalization that is fused into a kernel, if it is one and the same after all its calls."""
    norm = _only(kernel, consumers_of)
    return norm if norm is not None and _only(norm, _producers_of) is kernel else None


def fused_kernel(norm: Compressed) -> Compressed | None:
    """The kernel that a BatchNormalization is fused into, if it is one and the same before all its calls."""
    return _only(norm, _producers_of)


def _producers_of(layer: keras.Operation) -> list[keras.Operation]:
    return [producing_call(call.input_tensors[0]).operation for call in calls_of(layer)]


def _only(layer: keras.Operation, neighbours: _Neighbours) -> Compressed | None:
    """The compressed layer beside a layer, past identities; None if it is not compressed, or there are several."""
    found = list(neighbours(layer))
    while found and all(is_identity(inner_operation(one)) for one in found):
        found = [other for one in found for other in neighbours(one)]
    same = len({id(one) for one in found}) == 1
    return found[0] if same and isinstance(found[0], Compressed) else None
