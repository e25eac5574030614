"""Scales and biases that TensorFlow's converter gets wrong (seen in TensorFlow 2.21).

A bias is added to the accumulator, so that its scale is the product of the input's scale and the weights'.

- A layer that returned nothing but 0 on the calibration data gets an output scale of 1e-8. XNNPACK refuses the operator
  whose accumulator has 256 times that scale, or more, and the process may end when it does.
- In a model with trained ranges, a bias whose numbers are all equal gets the integer of the first channel in every
  channel, although each has a scale of its own (``bias_initializer="ones"`` is enough).
- A layer that is called on tensors of different ranges gets a bias with the scale of one call in all calls.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from ai_edge_litert.schema_py_generated import ModelT, OperatorT, SubGraphT, TensorT

from tfgreen.deploy.tflite.flatbuffer import constant, operator_name, set_constant

# Where an operator takes the input, the weights and the bias.
_PLACES = {
    "CONV_2D": (0, 1, 2), "DEPTHWISE_CONV_2D": (0, 1, 2), "FULLY_CONNECTED": (0, 1, 2), "TRANSPOSE_CONV": (2, 1, 3),
}
_WIDENED = 2**30 - 1  # a bias that does not fit: the converter widens the scales of the weights until it is that
_MOST = 256.0  # XNNPACK: scale of the accumulator over that of the output


def mend_scales(model: ModelT) -> list[int]:
    """Widen output scales that XNNPACK refuses; return the numbers of their operators in the main subgraph.

    Tensors of the same scale and zero point get the new one too: operators that pass values through want one scale.
    """
    mended = []
    for graph, number, (x, weights, _), output in _weighted(model):
        old, fed, kernel = _scales(output), _scales(x), _scales(weights)
        if not (old.size and fed.size and kernel.size) or fed[0] * kernel.max() < _MOST * old[0]:
            continue
        key = old[0], int(output.quantization.zeroPoint[0])
        for tensor in graph.tensors:
            if _scales(tensor).size == 1 and (_scales(tensor)[0], int(tensor.quantization.zeroPoint[0])) == key:
                tensor.quantization.scale = np.array([fed[0] * kernel.max()], np.float32)
        mended += [number] if graph is model.subgraphs[0] else []
    return mended


def weighted_operators(model: ModelT) -> list[int]:
    """The numbers of the operators with weights in the main subgraph."""
    return [number for graph, number, _, _ in _weighted(model) if graph is model.subgraphs[0]]


def mend_biases(model: ModelT, trained: bool) -> bool:
    """Round each such bias anew, those of equal numbers where the ranges are ``trained``; tell whether any was."""
    mended = [_mend(model, graph, *tensors, trained) for graph, _, tensors, _ in _weighted(model) if tensors[-1]]
    return any(mended)


def _weighted(model: ModelT) -> Iterator[tuple[SubGraphT, int, tuple[TensorT, TensorT, TensorT | None], TensorT]]:
    """The operators with weights: subgraph, number, input, weights, bias if any, output."""
    for graph in model.subgraphs:
        for number, operator in enumerate(graph.operators or []):
            places = _PLACES.get(operator_name(model, operator))
            if places is not None:
                x, weights, bias = (_tensor(graph, operator, place) for place in places)
                if x is not None and weights is not None:
                    yield graph, number, (x, weights, bias), graph.tensors[operator.outputs[0]]


def _tensor(graph: SubGraphT, operator: OperatorT, place: int) -> TensorT | None:
    given = place < len(operator.inputs) and operator.inputs[place] >= 0
    return graph.tensors[operator.inputs[place]] if given else None


def _mend(
    model: ModelT, graph: SubGraphT, x: TensorT, weights: TensorT, bias: TensorT, trained: bool
) -> bool:
    values, fed, kernel, own = constant(model, bias), _scales(x), _scales(weights), _scales(bias)
    if values is None or values.dtype.kind != "i" or not (fed.size and kernel.size and own.size):
        return False
    true, stored = np.broadcast_to(fed * kernel, values.shape), np.broadcast_to(own, values.shape)
    # One integer for scales that differ would be the bias of numbers that differ as they do, to the last digit.
    equal = trained and abs(int(values[0])) not in (0, _WIDENED) and (values == values[0]).all()
    equal = equal and len(np.unique(stored)) > 1
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
