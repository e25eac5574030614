"""Multiply-accumulates of each layer call, by one rule per layer class.

A layer of a class without a rule is counted by the matrix products and convolutions among its traced operations.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import keras
from keras import layers

from tfgreen.model.layer_calls import Call, trace_calls
from tfgreen.model.paths import own_weights, weights_by_path
from tfgreen.typing import Shape

if TYPE_CHECKING:
    import tensorflow as tf


class UnknownMacs(Exception):
    """MACs that cannot be counted, and why."""


# What is known of a layer: its MACs and "", or None and the reason.
Count: TypeAlias = tuple[int | None, str]


def count_macs(calls: list[Call], batch: int = 1) -> dict[int, Count]:
    """MACs of one sample by id of the layer: the sum over its calls on a batch, or None and the reason."""
    totals: dict[int, Count] = {}
    skip_below: int | None = None  # inside a layer whose rule covers what it calls
    for call in calls:
        if skip_below is not None and call.depth > skip_below:
            continue
        skip_below = call.depth if isinstance(call.layer, (layers.RNN, layers.TimeDistributed)) else None
        if isinstance(call.layer, layers.TimeDistributed):
            counts = _time_distributed(call)
        else:
            counts = {id(call.layer): _macs(call, batch)}
        for key, (macs, reason) in counts.items():
            before, reason_before = totals.get(key, (0, ""))
            if before is None or macs is None:
                totals[key] = None, reason_before or reason
            else:
                totals[key] = before + macs, ""
    return totals


def _macs(call: Call, batch: int) -> Count:
    rule = next((_RULES[cls] for cls in type(call.layer).__mro__ if cls in _RULES), None)
    try:
        return sum(map(_operation_macs, call.operations)) // batch if rule is None else rule(call), ""
    except UnknownMacs as unknown:
        return None, str(unknown)


def _product(*dims: int | None) -> int:
    """The number of elements of these dimensions, the batch left out."""
    if None in dims:
        raise UnknownMacs(f"the shape {(None, *dims)} is not fixed")
    return math.prod(dims)  # type: ignore[arg-type]


def _kernel_size(call: Call) -> int:
    """The elements of the layer's kernels; a separable convolution has two."""
    return sum(math.prod(v.shape) for name, v in own_weights(call.layer).items() if name.endswith("kernel"))


def _dense(call: Call) -> int:
    """Each position multiplies the whole kernel."""
    return _product(*call.output[1:-1]) * _kernel_size(call)


def _positions(shape: Shape, layer: keras.Layer) -> int:
    return _product(*(shape[2:] if layer.data_format == "channels_first" else shape[1:-1]))


def _convolution(call: Call) -> int:
    """Each output position multiplies the whole kernel (already divided by groups; depthwise likewise)."""
    return _positions(call.output, call.layer) * _kernel_size(call)


def _transposed_convolution(call: Call) -> int:
    """Each input position multiplies the whole kernel."""
    return _positions(call.inputs[0], call.layer) * _kernel_size(call)


def _einsum_dense(call: Call) -> int:
    """Every position outside the kernel multiplies the whole kernel."""
    letters, kernel = call.layer.equation.replace(" ", "").split("->")[0].split(",")
    named, shape = letters.replace("...", ""), call.inputs[0]
    ellipsis = len(shape) - len(named)  # how many axes it stands for
    free = [dim for letter, dim in zip(named, shape[ellipsis:]) if letter not in kernel]
    positions = [*shape[:ellipsis], *free][1:]  # without the batch axis
    return _product(*positions) * _kernel_size(call)


def _multi_head_attention(call: Call) -> int:
    """Scores and their product with the values; the projections are sublayers and count themselves."""
    layer, query = call.layer, call.inputs[0]
    value = call.inputs[1] if len(call.inputs) > 1 else query
    scores = _product(*query[1:-1]) * _product(*value[1:-1])
    if isinstance(layer, layers.MultiHeadAttention):
        return scores * layer.num_heads * (layer.key_dim + (layer.value_dim or layer.key_dim))
    return scores * layer.num_query_heads * 2 * layer.head_dim


def _attention(call: Call) -> int:
    """Scores query . key and their product with the values."""
    query, value = call.inputs[0], call.inputs[1]
    key = call.inputs[2] if len(call.inputs) > 2 else value
    return _product(query[1]) * _product(value[1]) * (_product(key[-1]) + _product(value[-1]))


def _recurrent(call: Call) -> int:
    """Each time step multiplies every kernel of the cell, at every position for a convolutional cell."""
    matrices = {path: v for path, v in weights_by_path(call.layer).items() if len(v.shape) >= 2}
    if any(not path.endswith(("kernel", "bias")) for path in matrices):
        raise UnknownMacs("its cell is of a class that has no rule")
    times = _product(call.inputs[0][1])
    if len(call.inputs[0]) > 3:  # (batch, time, *space, channels): ConvLSTM
        times *= _positions(call.output[1:] if call.layer.return_sequences else call.output, call.layer.cell)
    return times * sum(math.prod(v.shape) for path, v in matrices.items() if path.endswith("kernel"))


def _time_distributed(call: Call) -> dict[int, Count]:
    """The MACs of the inner layer and those inside it, once for each time step."""
    _, times, *rest = shape = call.inputs[0]
    inner = count_macs(trace_calls(call.layer.layer, keras.KerasTensor((1, *rest))))
    if times is None:
        return {key: (None, f"the shape {shape} is not fixed") for key in inner}
    return {key: (None if macs is None else macs * times, reason) for key, (macs, reason) in inner.items()}


def _dot(call: Call) -> int:
    """The summed axis is multiplied for each element of the result."""
    axes = call.layer.axes
    first = axes if isinstance(axes, int) else axes[0]
    return _product(*call.output[1:]) * _product(call.inputs[0][first])


_RULES: dict[type[keras.Layer], Callable[[Call], int]] = {
    layers.Dense: _dense,
    **dict.fromkeys((layers.Conv1D, layers.Conv2D, layers.Conv3D), _convolution),
    **dict.fromkeys((layers.DepthwiseConv1D, layers.DepthwiseConv2D), _convolution),
    **dict.fromkeys((layers.SeparableConv1D, layers.SeparableConv2D), _convolution),
    **dict.fromkeys((layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose), _transposed_convolution),
    layers.EinsumDense: _einsum_dense,
    **dict.fromkeys((layers.MultiHeadAttention, layers.GroupQueryAttention), _multi_head_attention),
    layers.Attention: _attention,
    layers.RNN: _recurrent,
    layers.Dot: _dot,
    # A lookup, and elementwise work.
    **dict.fromkeys((layers.Embedding, layers.PReLU, layers.Normalization), lambda call: 0),
    **dict.fromkeys((layers.BatchNormalization, layers.LayerNormalization, layers.GroupNormalization), lambda call: 0),
}


def _operation_macs(operation: tf.Operation) -> int:
    """MACs of one TensorFlow operation on one sample; 0 if it multiplies no matrices."""
    kind = operation.type
    if kind not in ("MatMul", "BatchMatMulV2", "Einsum", "Conv2D", "Conv3D", "DepthwiseConv2dNative"):
        return 0
    first, second = (tuple(tensor.shape) for tensor in operation.inputs[:2])
    result = tuple(operation.outputs[0].shape)
    if any(dim is None for dim in (*first, *second, *result)):
        raise UnknownMacs(f"the shapes of its {kind} are not fixed")
    if kind == "MatMul":
        return math.prod(result) * first[0 if operation.get_attr("transpose_a") else 1]
    if kind == "BatchMatMulV2":
        return math.prod(result) * first[-2 if operation.get_attr("adj_x") else -1]
    if kind == "Einsum":
        letters = operation.get_attr("equation").decode().split("->")[0].split(",")
        if "..." in "".join(letters):
            raise UnknownMacs("an einsum has an ellipsis")
        return math.prod({**dict(zip(letters[0], first)), **dict(zip(letters[1], second))}.values())
    if kind == "DepthwiseConv2dNative":
        return math.prod(result) * math.prod(second[:2])
    return math.prod(result) * math.prod(second[:-1])
