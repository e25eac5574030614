"""The sparse encoding of a constant tensor, as the schema's ``SparsityParameters`` describe it.

A tensor is a tree with a level for each dimension, in the traversal order, and then for each block dimension. A dense
level holds every index of each node above; a sparse one (CSR) the indices ``[segments[node], segments[node + 1])``. The
values are those of the leaves. What is written here has one sparse level, the last: the non-zeros of each row.

Source: ``FormatConverter`` in ``tflite/kernels/internal/utils/sparsity_format_converter.cc``, by which LiteRT reads it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TypeAlias

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.schema_py_generated import DimensionMetadataT, SparsityParametersT

_DENSE, _CSR = schema.DimensionType.DENSE, schema.DimensionType.SPARSE_CSR
_Level: TypeAlias = tuple[int, int, DimensionMetadataT]  # size, distance of neighbours in the dense tensor, storage
_Vector: TypeAlias = schema.Uint8VectorT | schema.Uint16VectorT | schema.Int32VectorT


def encode_sparse(values: np.ndarray) -> tuple[np.ndarray, SparsityParametersT]:
    """The non-zeros of an array of rank 1 or more, and where they stand; -0.0 is a zero.

    The sparse level is the dimension that takes the fewest bytes: a long one has few rows, a short one small indices.
    """
    count = max(int(np.count_nonzero(values)), 1)
    pointer = _index_dtype(count).itemsize
    axis = min(
        reversed(range(values.ndim)),
        key=lambda i: values.size // max(values.shape[i], 1) * pointer + count * _index_dtype(values.shape[i]).itemsize,
    )
    order = [*(i for i in range(values.ndim) if i != axis), axis]
    rows = values.transpose(order).reshape(-1, values.shape[axis])
    kept = rows != 0
    kept[:1, :1] |= not kept.any()  # a constant without data is none
    segments = np.concatenate([[0], np.cumsum(kept.sum(axis=1))])
    levels = [DimensionMetadataT(_DENSE, values.shape[i]) for i in order[:-1]]
    pairs = (*_stored(segments, count), *_stored(np.nonzero(kept)[1], values.shape[axis]))
    levels.append(DimensionMetadataT(_CSR, values.shape[axis], *pairs))
    return rows[kept], SparsityParametersT(np.array(order, np.int32), None, levels)


def _index_dtype(largest: int) -> np.dtype:
    return np.dtype(np.uint8 if largest < 2**8 else np.uint16 if largest < 2**16 else np.int32)


def _stored(numbers: np.ndarray, largest: int) -> tuple[int, _Vector]:
    """Indices in the smallest type of the schema that holds them, and the number of that type."""
    name = {1: "Uint8Vector", 2: "Uint16Vector", 4: "Int32Vector"}[_index_dtype(largest).itemsize]
    vector: _Vector = getattr(schema, f"{name}T")(numbers.astype(_index_dtype(largest)))
    return getattr(schema.SparseIndexVector, name), vector


def index_bytes(sparsity: SparsityParametersT) -> int:
    """Bytes that the places of the values take in the file."""
    vectors = [vector for level in sparsity.dimMetadata for vector in (level.arraySegments, level.arrayIndices)]
    return sum(_numbers(vector).nbytes for vector in vectors)


def sparse_problem(sparsity: SparsityParametersT, shape: Sequence[int], values: int) -> str:
    """Why an encoding does not describe a tensor of a shape in so many values; empty where it does.

    LiteRT does not look, and writes outside of its memory. Nothing larger than the file is made here.
    """
    order = _ints(sparsity.traversalOrder)
    if len(order) != len(shape) + len(_ints(sparsity.blockMap)) or sorted(order) != list(range(len(order))):
        return f"traversal order {order}"
    if len(sparsity.dimMetadata or []) != len(order) or any(not 0 <= i < len(shape) for i in _ints(sparsity.blockMap)):
        return "its dimensions"
    nodes = 1
    for size, _, level in _levels(sparsity, shape):
        if level.format == _DENSE:
            if level.denseSize != size:
                return f"{level.denseSize} instead of {size} rows"
            nodes *= size
            continue
        segments, indices = _numbers(level.arraySegments), _numbers(level.arrayIndices)
        ends = len(segments) == nodes + 1 and segments[0] == 0 and segments[-1] == len(indices)
        if not ends or (segments[1:] < segments[:-1]).any():
            return "its segments"
        if len(indices) and not 0 <= indices.min() <= indices.max() < size:
            return f"an index beyond {size}"
        nodes = len(indices)
    return "" if nodes == values else f"{values} values instead of {nodes}"


def decode_sparse(values: np.ndarray, sparsity: SparsityParametersT, shape: Sequence[int]) -> np.ndarray:
    """The dense array of a shape, of an encoding in which :func:`sparse_problem` finds nothing."""
    places = np.zeros(1, np.int64)
    for size, stride, level in _levels(sparsity, shape):
        if level.format == _DENSE:
            places = (places[:, None] + np.arange(size) * stride).ravel()
        else:
            segments, indices = (_numbers(v).astype(np.int64) for v in (level.arraySegments, level.arrayIndices))
            places = np.repeat(places, segments[1:] - segments[:-1]) + indices * stride
    dense = np.zeros(math.prod(shape), values.dtype)
    dense[places] = values
    return dense.reshape(shape)


def _levels(sparsity: SparsityParametersT, shape: Sequence[int]) -> Iterator[_Level]:
    """The levels of the tree, in order; a dimension that is cut into blocks has one for the blocks, one within them."""
    order, blocked = _ints(sparsity.traversalOrder), _ints(sparsity.blockMap)
    blocks = {dim: sparsity.dimMetadata[order.index(len(shape) + i)].denseSize for i, dim in enumerate(blocked)}
    for number, level in zip(order, sparsity.dimMetadata):
        dim = number if number < len(shape) else blocked[number - len(shape)]
        stride, block = math.prod(shape[dim + 1 :]), max(blocks.get(dim, 1), 1)
        yield (shape[dim] // block, stride * block, level) if number < len(shape) else (block, stride, level)


def _ints(numbers: Sequence[int] | None) -> list[int]:
    return [] if numbers is None else [int(number) for number in numbers]


def _numbers(vector: _Vector | None) -> np.ndarray:
    return np.zeros(0, np.int32) if vector is None or vector.values is None else np.asarray(vector.values)
