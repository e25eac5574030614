"""Store float32 constants that are integers times a scale as these integers, without loss.

Quantization-aware training rounds all weights. Those of an operator that has no range computes in float32, such as the
attention or the experts of a block whose code is not known, and the converter writes them as floats, as they are or as
a table of what is looked up in them.
"""

from __future__ import annotations

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.schema_py_generated import ModelT, TensorT

from tfgreen.deploy.storage.narrow_weights import filled_from, float_constants

_SMALL = 1024  # numbers below which a constant is not worth an operator
_LARGEST = 127  # of the integers
_NEAR = 1e-3  # of an integer: float32 is 100 times as near to integers up to 127
_TRIED = 64  # numbers of a slice by which scales are told apart
_SCALE_BYTES = 12  # a scale and its zero point


def store_constants(model: ModelT) -> int:
    """Store such constants as int8, each with an operator that makes the same floats of it; return how many.

    There is one scale for a tensor or one for each index of an axis, as long as that takes less than half the bytes.
    """
    stored: dict[int, TensorT | None] = {}
    for graph in model.subgraphs:
        found = []
        for place, values in float_constants(model, graph):
            if values.size < _SMALL:
                continue
            buffer = graph.tensors[place].buffer
            if buffer not in stored:
                stored[buffer] = _integers(model, values)
            integers = stored[buffer]
            if integers is not None:
                found.append(filled_from(model, graph, place, schema.TensorT(**vars(integers)), version=6))
        graph.operators = [*found, *(graph.operators or [])]
    return sum(integers is not None for integers in stored.values())


def _integers(model: ModelT, values: np.ndarray) -> TensorT | None:
    """A tensor of the integers of a constant, of which the buffer is in the model; None if it is something else."""
    for axis in (None, *range(values.ndim)):
        slices = 1 if axis is None else values.shape[axis]
        if values.size + _SCALE_BYTES * slices > values.nbytes / 2:
            continue
        rows = values.reshape(1, -1) if axis is None else np.moveaxis(values, axis, 0).reshape(slices, -1)
        scales = integer_scales(rows)
        if scales is None:
            continue
        by_axis = scales.reshape([-1 if axis == index else 1 for index in range(values.ndim)])
        data = np.round(values.astype(np.float64) / by_axis).astype(np.int8)
        buffer = len(model.buffers)
        model.buffers.append(schema.BufferT(data.reshape(-1).view(np.uint8)))
        zeros = np.zeros(len(scales), np.int64)
        how = schema.QuantizationParametersT(scale=scales, zeroPoint=zeros, quantizedDimension=axis or 0)
        shape = np.array(values.shape, np.int32)
        return schema.TensorT(shape=shape, type=schema.TensorType.INT8, buffer=buffer, quantization=how, hasRank=True)
    return None


def integer_scales(rows: np.ndarray) -> np.ndarray | None:
    """A scale for each row of a matrix, of which all its numbers are multiples by up to 127; None unless there is one
    for each. float32 of shape (rows,).

    Example:
        >>> integer_scales(np.array([[-127, 3, 64], [0, 5, 1]]) * [[0.5], [0.25]])
        array([0.5 , 0.01], dtype=float32)
    """
    scales = np.ones(len(rows))
    for row, numbers in enumerate(rows):
        scale = _scale_of(numbers.astype(np.float64))
        if scale is None:
            return None
        scales[row] = scale
    return scales.astype(np.float32)


def _scale_of(numbers: np.ndarray) -> float | None:
    largest = np.abs(numbers).max()
    if not largest:
        return 1.0
    if not np.isfinite(largest):
        return None
    candidates = largest / np.arange(_LARGEST, 0, -1)
    few = numbers[:: max(1, len(numbers) // _TRIED)]
    for scale in candidates[_are_multiples(few, candidates[:, None])]:
        if _are_multiples(numbers, scale):
            return float(scale)
    return None


def _are_multiples(numbers: np.ndarray, scales: np.ndarray | float) -> np.ndarray:
    quotients = numbers / scales
    return np.asarray((np.abs(quotients - np.round(quotients)) < _NEAR).all(axis=-1))
