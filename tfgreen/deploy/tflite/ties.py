"""Weights that a file holds several times: stored once where LiteRT allows it, and found where it does not.

TensorFlow's converter writes a constant for each use. A table that is looked up has one scale, and the same weights in
a fully connected operator a scale for each output, so that tied weights differ in their bytes: the operator takes the
table, and the bias the scale that follows. What is multiplied by its transpose elsewhere stays in the file twice.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np
from ai_edge_litert.schema_py_generated import ModelT, SubGraphT, TensorT

from tfgreen.deploy.tflite.flatbuffer import buffer_bytes, constant, dtype_name, operator_name, set_constant, shape_of

_SMALL = 1024  # bytes below which a copy is not worth another scale, or a word
_LOOKED_UP, _MULTIPLIED = {("GATHER", 0), ("EMBEDDING_LOOKUP", 1)}, {("FULLY_CONNECTED", 1)}


def share_tables(model: ModelT) -> None:
    """Let fully connected operators take the int8 table that is looked up elsewhere, where they hold its numbers.

    :func:`tfgreen.deploy.tflite.biases.mend_biases` then gives their biases the scale that follows.
    """
    for graph in model.subgraphs:
        uses = _uses(model, graph)
        tables = [graph.tensors[place] for place, found in uses.items() if found <= _LOOKED_UP]
        for weights in [graph.tensors[place] for place, found in uses.items() if found <= _MULTIPLIED]:
            for table in tables:
                integers = dtype_name(table) == dtype_name(weights) == "int8"
                if integers and shape_of(table) == shape_of(weights) and _is_same(model, table, weights):
                    _share_table(model, graph, table, weights)


def _share_table(model: ModelT, graph: SubGraphT, table: TensorT, weights: TensorT) -> None:
    """Round a table anew as weights are, symmetrically, and with it all that passes on what is looked up."""
    real = np.asarray(_dequantized(model, weights)[0])
    scale = np.float32(max(np.abs(real).max() / 127, 1e-30))
    set_constant(model, graph, weights, np.clip(np.round(real / scale), -127, 127).astype(np.int8))
    old = table.quantization.scale[0], table.quantization.zeroPoint[0]
    for tensor in graph.tensors:
        q = tensor.quantization
        if q is not None and q.scale is not None and len(q.scale) == 1 and (q.scale[0], q.zeroPoint[0]) == old:
            q.scale, q.zeroPoint = np.array([scale]), np.zeros(1, np.int64)  # a wider range, so that nothing is clipped
    table.buffer, weights.quantization = weights.buffer, table.quantization


def share_buffers(model: ModelT) -> None:
    """Store constants of equal bytes once."""
    first: dict[bytes, int] = {}
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            data = buffer_bytes(model, tensor)
            if len(data):
                tensor.buffer = first.setdefault(data.tobytes(), tensor.buffer)
    used = {tensor.buffer for graph in model.subgraphs for tensor in graph.tensors}
    used |= {entry.buffer for entry in model.metadata or []}
    for place, buffer in enumerate(model.buffers):
        if place not in used:
            buffer.data = None


def repeated(model: ModelT) -> Iterator[tuple[set[int], int]]:
    """The operators of the main subgraph that use weights stored more than once, and the bytes of the copy."""
    graph = model.subgraphs[0]
    by_size: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for place in _uses(model, graph):
        tensor = graph.tensors[place]
        if len(shape_of(tensor)) == 2 and len(buffer_bytes(model, tensor)) >= _SMALL:
            by_size[tuple(sorted(shape_of(tensor)))].append(place)
    for places in by_size.values():
        for number, place in enumerate(places):
            tensor = graph.tensors[place]
            for other in places[:number]:
                before = graph.tensors[other]
                if before.buffer != tensor.buffer and _is_same(model, before, tensor):
                    bytes_ = min(len(buffer_bytes(model, before)), len(buffer_bytes(model, tensor)))
                    yield {n for n, op in enumerate(graph.operators) if {place, other} & set(op.inputs)}, bytes_
                    break


def _uses(model: ModelT, graph: SubGraphT) -> dict[int, set[tuple[str, int]]]:
    """The operators that take each constant of a subgraph, and in which place."""
    found: dict[int, set[tuple[str, int]]] = defaultdict(set)
    for operator in graph.operators or []:
        for position, place in enumerate(operator.inputs):
            if place >= 0 and len(buffer_bytes(model, graph.tensors[place])) >= _SMALL:
                found[place].add((operator_name(model, operator), position))
    return found


def _is_same(model: ModelT, one: TensorT, other: TensorT) -> bool:
    """Whether two matrices hold the same numbers, as far as their scales tell them apart, one perhaps transposed."""
    (first, scale), (second, other_scale) = _dequantized(model, one), _dequantized(model, other)
    if first is None or second is None or not np.any(first):
        return False
    for turned, turned_scale in ((first, scale), (first.T, scale.T)):
        if turned.shape == second.shape:
            limit = 0.51 * (turned_scale + other_scale)
            if _near(turned[:1], second[:1], limit[:1]) and _near(turned, second, limit):
                return True
    return False


def _near(one: np.ndarray, other: np.ndarray, limit: np.ndarray) -> bool:
    return bool((np.abs(one - other) <= limit).all())


def _dequantized(model: ModelT, tensor: TensorT) -> tuple[np.ndarray | None, np.ndarray]:
    """The numbers that a matrix stands for, and the scale of each row or column (0 for floats)."""
    values, quantization = constant(model, tensor), tensor.quantization
    if values is None or values.ndim != 2 or values.dtype.kind not in "if":
        return None, np.zeros((1, 1))
    if values.dtype.kind == "f":
        return values.astype(np.float64), np.zeros(values.shape)
    if quantization is None or quantization.scale is None:
        return None, np.zeros((1, 1))
    shape = [1, 1]
    shape[quantization.quantizedDimension if len(quantization.scale) > 1 else 0] = -1
    scale = np.asarray(quantization.scale, np.float64).reshape(shape)
    centered = values.astype(np.float64) - np.asarray(quantization.zeroPoint).reshape(shape)
    return centered * scale, np.broadcast_to(scale, values.shape)
