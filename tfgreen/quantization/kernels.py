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
from tfgreen.model.paths import walk
from tfgreen.model.weights import is_own
from tfgreen.quantization.op_classes import inner_operation, is_identity
from tfgreen.quantization.ranges import ActivationRange
from tfgreen.transforms.compressed import Compressed
from tfgreen.transforms.fake_quant import FakeQuant, symmetric_scale
from tfgreen.typing import Tensor

_BYTES_PER_OUTPUT = 12  # of a Dense layer: the scales of its kernel and bias, and its part of the zero points
_DEPTHWISE = (layers.DepthwiseConv1D, layers.DepthwiseConv2D)
_KERNELS = (layers.Dense, layers.Conv1D, layers.Conv2D, *_DEPTHWISE)
_Neighbours = Callable[[keras.Operation], Iterable[keras.Operation]]


def has_costly_scales(model: keras.Model) -> bool:
    """Whether a scale for each output of the Dense layers would take more than 2 % of an int8 file, and 4 kB.

    TensorFlow's converter gives each output a scale and zero point for the kernel and for the bias. That pays where a
    kernel has many inputs. A network of many small ones, such as MLPerf Tiny's autoencoder, grows by more than its
    error shrinks.
    """
    found = {layer for _, layer in walk(model)} | {sub for _, sub in walk(getattr(model, "stands_for", model))}
    outputs = sum(layer.units for layer in found if isinstance(layer, layers.Dense))
    return _BYTES_PER_OUTPUT * outputs > max(4096, model.count_params() * 0.02)


def round_in_accumulator(
    x: Tensor,
    kernel: Compressed,
    source: ActivationRange | None,
    target: ActivationRange | None = None,
    norm: layers.BatchNormalization | None = None,
) -> Tensor:
    """The output of a kernel as LiteRT stores it: whole multiples of the accumulator's scale, multiplied once to become
    multiples of the output's; as it is where a scale is unknown.

    Two products in a row, to floats and back, would round one value in 100,000 the other way. A deep network makes much
    of a little: with 3 in a million values off by one scale, a random EfficientNetB0 ends 7 scales off.

    Args:
        x: The output, bias included, of shape (batch, ..., channels); that of ``norm`` if one is fused into the kernel.
        kernel: The layer.
        source: The range of its input.
        target: The range that its output is rounded to next, if any.
        norm: The BatchNormalization.
    """
    layer, rounding = kernel.layer, weight_rounding(kernel)
    if source is None or source.bits != 8 or rounding is None or not is_own(layer, _KERNELS):
        return x
    if getattr(layer, "data_format", "") == "channels_first":
        return x
    bias, gain = _bias(layer), None
    if norm is not None:
        gain, bias = gain_and_bias(norm, bias)
    scale = _accumulator_scale(kernel, rounding, source, gain)
    unit = ops.where(scale > 0, scale, 1.0)  # 0 where a gain is
    integers = ops.round((ops.cast(x, "float32") - bias) / unit) + ops.round(bias / unit)
    exact = integers * unit
    if target is not None and target.recorder is None and target.bits == 8:
        lower, upper = target.ends()
        step = ops.maximum((upper - lower) / 255.0, 1e-37)
        exact = ops.round(integers * (unit / step)) * step
    return ops.where(scale > 0, ops.cast(exact, x.dtype), x)


def _accumulator_scale(
    kernel: Compressed, rounding: FakeQuant, source: ActivationRange, gain: Tensor | None
) -> Tensor:
    """What 1 stands for in the accumulator, of shape (channels,) or (1,); 0 where the gain is."""
    lower, upper = source.ends()
    weight = next(weight for weight in kernel.chained if weight.chain.weight == "kernel").effective()
    if gain is not None and rounding.axes:  # the converter multiplies first, and then looks for the largest
        channels = ops.reshape(gain, weight.shape[-2:] if isinstance(kernel.layer, _DEPTHWISE) else (-1,))
        scale = symmetric_scale(weight * channels, rounding.bits, rounding.axes)
        scale = ops.reshape(scale, (-1,)) * ops.cast(gain != 0, "float32")
    else:
        scale = symmetric_scale(weight, rounding.bits, rounding.axes) * (1.0 if gain is None else ops.abs(gain))
    return ops.reshape(scale, (-1,)) * ops.maximum((upper - lower) / 255.0, 1e-37)


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
