"""Multiply-accumulates of each layer call, by one rule per layer class.

A layer of a class without a rule is counted by the matrix products and convolutions among its traced operations.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING

import keras
from keras import layers

from tfgreen.model.layer_calls import Call, trace_calls
from tfgreen.model.paths import own_weights, weights_by_path
from tfgreen.typing import Shape

if TYPE_CHECKING:
    import tensorflow as tf


class UnknownMacs(Exception):
    """MACs that cannot be counted, and why."""


def count_macs(calls: list[Call]) -> dict[int, tuple[int | None, str]]:
    """MACs by id of the layer: the sum over its calls, or None and the reason."""
    totals: dict[int, tuple[int | None, str]] = defaultdict(lambda: (0, ""))
    skip_below: int | None = None  # inside a layer whose rule covers what it calls
    for call in calls:
        if skip_below is not None and call.depth > skip_below:
            continue
        skip_below = call.depth if isinstance(call.layer, (layers.RNN, layers.TimeDistributed)) else None
        if isinstance(call.layer, layers.TimeDistributed):
            for key, (macs, reason) in _time_distributed(call).items():
                totals[key] = _add(totals[key], macs, reason)
            continue
        try:
            totals[id(call.layer)] = _add(totals[id(call.layer)], _macs(call), "")
        except UnknownMacs as unknown:
            totals[id(call.layer)] = (None, str(unknown))
    return dict(totals)


def _add(total: tuple[int | None, str], macs: int | None, reason: str) -> tuple[int | None, str]:
    if total[0] is None or macs is None:
        return None, total[1] or reason
    return total[0] + macs, ""


def _macs(call: Call) -> int:
    rule = next((_RULES[cls] for cls in type(call.layer).__mro__ if cls in _RULES), None)
    return rule(call) if rule is not None else sum(_operation_macs(operation) for operation in call.operations)


def _size(shape: Shape) -> int:
    """Number of elements of one sample (the batch axis left out)."""
    if any(dim is None for dim in shape[1:]):
        raise UnknownMacs(f"the shape {shape} is not fixed")
    return math.prod(dim for dim in shape[1:] if dim is not None)


def _weight_size(call: Call, *names: str) -> int:
    weights = weights_by_path(call.layer)
    return sum(math.prod(weights[name].shape) for name in names)


def _dense(call: Call) -> int:
    """Each position multiplies the whole kernel."""
    return _size(call.output[:-1]) * _weight_size(call, "kernel")


def _spatial(shape: Shape, layer: keras.Layer) -> int:
    positions = shape[2:] if layer.data_format == "channels_first" else shape[1:-1]
    return _size((None, *positions))


def _convolution(call: Call) -> int:
    """Each output position multiplies the whole kernel (already divided by groups; depthwise likewise)."""
    kernels = [name for name in own_weights(call.layer) if name.endswith("kernel")]
    return _spatial(call.output, call.layer) * _weight_size(call, *kernels)


def _transposed_convolution(call: Call) -> int:
    """Each input position multiplies the whole kernel."""
    return _spatial(call.inputs[0], call.layer) * _weight_size(call, "kernel")


def _einsum_dense(call: Call) -> int:
    """Every position outside the kernel multiplies the whole kernel."""
    operands, _ = call.layer.equation.replace(" ", "").split("->")
    letters, kernel = operands.split(",")
    known = call.inputs[0][-len(letters.replace("...", "")) :] if "..." in letters else call.inputs[0]
    free = [dim for letter, dim in zip(letters.replace("...", ""), known) if letter not in kernel]
    ellipsis = call.inputs[0][: len(call.inputs[0]) - len(known)]
    positions = [*ellipsis, *free][1:]  # without the batch axis
    return _size((None, *positions)) * _weight_size(call, "kernel")


def _multi_head_attention(call: Call) -> int:
    """Scores and their product with the values; the projections are sublayers and count themselves."""
    layer, query = call.layer, call.inputs[0]
    value = call.inputs[1] if len(call.inputs) > 1 else query
    pairs = _size((None, *query[1:-1])) * _size((None, *value[1:-1]))
    if isinstance(layer, layers.MultiHeadAttention):
        return pairs * layer.num_heads * (layer.key_dim + (layer.value_dim or layer.key_dim))
    return pairs * layer.num_query_heads * 2 * layer.head_dim


def _attention(call: Call) -> int:
    """Scores query . key and their product with the values."""
    query, value = call.inputs[0], call.inputs[1]
    key = call.inputs[2] if len(call.inputs) > 2 else value
    pairs = _size((None, query[1])) * _size((None, value[1]))
    return pairs * (_size((None, key[-1])) + _size((None, value[-1])))


def _recurrent(call: Call) -> int:
    """Each time step multiplies every kernel of the cell, at every position for a convolutional cell."""
    steps = _size((None, call.inputs[0][1]))
    matrices = {path: v for path, v in weights_by_path(call.layer).items() if len(v.shape) >= 2}
    kernels = [v for path, v in matrices.items() if path.endswith("kernel")]
    if any(not path.endswith(("kernel", "bias")) for path in matrices):
        raise UnknownMacs("its cell is of a class that has no rule")
    positions = 1
    if len(call.inputs[0]) > 3:  # (batch, time, *space, channels): ConvLSTM
        shape = call.output[2:] if call.layer.return_sequences else call.output[1:]
        first = call.layer.cell.data_format == "channels_first"
        positions = _size((None, *(shape[1:] if first else shape[:-1])))
    return steps * positions * sum(math.prod(v.shape) for v in kernels)


def _time_distributed(call: Call) -> dict[int, tuple[int | None, str]]:
    """The inner layer's MACs, once for each time step."""
    shape = call.inputs[0]
    inner = count_macs(trace_calls(call.layer.layer, keras.KerasTensor((1, *shape[2:]))))
    if shape[1] is None:
        return {key: (None, f"the shape {shape} is not fixed") for key in inner}
    return {key: (None if macs is None else macs * shape[1], reason) for key, (macs, reason) in inner.items()}


def _dot(call: Call) -> int:
    """The summed axis is multiplied for each element of the result."""
    axes = call.layer.axes
    first = axes if isinstance(axes, int) else axes[0]
    return _size(call.output) * _size((None, call.inputs[0][first]))


def _nothing(call: Call) -> int:
    return 0


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
    **dict.fromkeys((layers.Embedding, layers.PReLU, layers.Normalization), _nothing),  # a lookup, and elementwise work
    **dict.fromkeys((layers.BatchNormalization, layers.LayerNormalization, layers.GroupNormalization), _nothing),
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
