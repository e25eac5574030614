"""Biases that TensorFlow's converter gets wrong in a model with trained ranges (seen in TensorFlow 2.21).

A bias is added to the accumulator, so that its scale is the product of the input's scale and the weights'.

- A bias whose numbers are all equal gets the integer of the first channel in every channel, although each has a scale
  of its own (``bias_initializer="ones"`` is enough).
- A layer that is called on tensors of different ranges gets a bias with the scale of one call in all calls.
"""

from __future__ import annotations

import numpy as np
from ai_edge_litert.schema_py_generated import ModelT, SubGraphT, TensorT

from tfgreen.deploy.tflite.flatbuffer import constant, operator_name, parse, set_constant, write

# Where an operator takes the input, the weights and the bias.
_PLACES = {
    "CONV_2D": (0, 1, 2), "DEPTHWISE_CONV_2D": (0, 1, 2), "FULLY_CONNECTED": (0, 1, 2), "TRANSPOSE_CONV": (2, 1, 3),
}


def mend_biases(content: bytes) -> bytes:
    """Return the file with each such bias rounded anew; the same bytes where it has none."""
    model = parse(content, "converted model")
    mended = [
        _mend(model, graph, *(graph.tensors[operator.inputs[place]] for place in places))
        for graph in model.subgraphs
        for operator in graph.operators
        if (places := _PLACES.get(operator_name(model, operator))) is not None
        and len(operator.inputs) > places[-1] >= 0
        and operator.inputs[places[-1]] >= 0
    ]
    return write(model) if any(mended) else content


def _mend(model: ModelT, graph: SubGraphT, x: TensorT, weights: TensorT, bias: TensorT) -> bool:
    values, fed, kernel, own = constant(model, bias), _scales(x), _scales(weights), _scales(bias)
    if values is None or values.dtype.kind != "i" or not (fed.size and kernel.size and own.size):
        return False
    true, stored = np.broadcast_to(fed * kernel, values.shape), np.broadcast_to(own, values.shape)
    # One integer for scales that differ would be the bias of numbers that differ as they do, to the last digit.
    equal = values[0] != 0 and (values == values[0]).all() and len(np.unique(stored)) > 1
    if not equal and np.allclose(true, stored, rtol=1e-3, atol=0):
        return False
    real = values * (stored[0] if equal else stored)
    limits = np.iinfo(values.dtype)
    integers = np.clip(np.round(real / true), limits.min, limits.max).astype(values.dtype)
    set_constant(model, graph, bias, integers)
    bias.quantization.scale = np.asarray(true if kernel.size > 1 else true[:1], np.float32)
    bias.quantization.zeroPoint = np.zeros(len(bias.quantization.scale), np.int64)
    return True


def _scales(tensor: TensorT) -> np.ndarray:
    scales = None if tensor.quantization is None else tensor.quantization.scale
    return np.zeros(0) if scales is None else np.asarray(scales, np.float64)
