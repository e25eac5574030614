"""Store the kernels of a file sparse: only the numbers that are not 0, and where they stand.

The interpreter unpacks them when it loads the file, an operator for each (DENSIFY), and computes with the same numbers:
what is saved is flash and disk, what is paid time and memory to load. A file with integer kernels stays dense: LiteRT
refuses a fully connected operator of sparse int8, and where int8 files go, microcontrollers and accelerators, nothing
unpacks them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.schema_py_generated import ModelT, OperatorT, SparsityParametersT, SubGraphT, TensorT

from tfgreen.deploy.litert_model import LiteRTModel
from tfgreen.deploy.tflite.flatbuffer import (
    buffer_bytes,
    constant,
    dtype_name,
    opcode_of,
    operator_name,
    parse,
    set_metadata,
    shape_of,
    text_of,
)
from tfgreen.deploy.tflite.sparse_encoding import encode_sparse, index_bytes
from tfgreen.deploy.tflite.writing import write

# Operators whose kernels LiteRT packs when it loads a file: unpacking them before takes no more memory.
_OPERATORS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
_OVERHEAD = 400  # bytes of the tables of a sparse tensor and of its operator
# Size over that of the dense file that is worth longer loading, and more memory: 10 % at 90 % of zeros, over 50 % at
# half of them (``scripts/bench_sparse.py``).
_WORTH = 0.5


def store_sparse(lite: LiteRTModel, always: bool) -> LiteRTModel | None:
    """The artifact with its float kernels stored sparse, each where that is smaller; None where none is, or the file
    does not become half as large, unless ``always``."""
    file = parse(lite.content, "converted model")
    main = file.subgraphs[0]
    layers = {id(operator): paths for operator, paths in zip(main.operators, lite.metadata["layers"])}
    dense = sparse = 0
    for graph, tensors in _kernels(file):
        values = constant(file, tensors[0])
        if values is None or np.count_nonzero(values) * (values.itemsize + 1) >= values.nbytes:
            continue
        data, sparsity = encode_sparse(values)
        after = data.nbytes + len(tensors) * index_bytes(sparsity)
        if after + len(tensors) * _OVERHEAD < values.nbytes:
            dense, sparse = dense + values.nbytes, sparse + after
            file.buffers[tensors[0].buffer].data = data.view(np.uint8)
            for tensor in tensors:
                unpack = _unpacked(file, graph, tensor, sparsity)
                reader = next(operator for operator in graph.operators if unpack.outputs[0] in operator.inputs)
                layers[id(unpack)] = layers.get(id(reader), [])[:1]
                graph.operators.insert(0, unpack)
    if not dense:
        return None
    note = (
        f"Kernels of {dense:,} bytes are stored sparse, in {sparse:,}, and unpacked when the file is loaded. That "
        "saves flash and disk; the size after gzip hardly changes, loading takes longer and some more memory, and "
        "inference is no faster. LiteRT for Microcontrollers cannot unpack them: convert with sparse_weights=False."
    )
    rows = [layers[id(operator)] for operator in main.operators]
    set_metadata(file, {**lite.metadata, "layers": rows, "notes": [*lite.notes, note]})
    stored = LiteRTModel(write(file))
    return stored if always or stored.size_bytes <= _WORTH * lite.size_bytes else None


def _kernels(file: ModelT) -> Iterator[tuple[SubGraphT, list[TensorT]]]:
    """The float kernels that nothing but their operators read: the tensors of one shape that have a buffer."""
    sharing: dict[int, list[tuple[SubGraphT, int]]] = defaultdict(list)
    for graph in file.subgraphs:
        for place, tensor in enumerate(graph.tensors):
            sharing[tensor.buffer].append((graph, place))
    for users in sharing.values():
        graph, tensors = users[0][0], [graph.tensors[place] for graph, place in users]
        shape, dtype = shape_of(tensors[0]), dtype_name(tensors[0])
        alike = all(other is graph for other, _ in users) and all(shape_of(tensor) == shape for tensor in tensors)
        if alike and dtype in ("float32", "float16") and len(shape) > 1 and len(buffer_bytes(file, tensors[0])):
            if all(_is_kernel(file, graph, place) for _, place in users):
                yield graph, tensors


def _is_kernel(file: ModelT, graph: SubGraphT, place: int) -> bool:
    """Whether operators read a tensor as their kernel and in no other way, perhaps made float32 before."""
    readers = [operator for operator in graph.operators or [] if place in operator.inputs]
    if not readers or place in graph.outputs:
        return False
    for operator in readers:
        name = operator_name(file, operator)
        halves = name == "DEQUANTIZE" and _is_kernel(file, graph, int(operator.outputs[0]))
        if not halves and not (name in _OPERATORS and list(operator.inputs).index(place) == 1):
            return False
    return True


def _unpacked(file: ModelT, graph: SubGraphT, tensor: TensorT, sparsity: SparsityParametersT) -> OperatorT:
    """The operator that fills a tensor which was a constant, from another that is stored sparse."""
    stored = schema.TensorT(**{**vars(tensor), "sparsity": sparsity})
    place = next(number for number, other in enumerate(graph.tensors) if other is tensor)
    tensor.buffer, tensor.name = 0, f"{text_of(tensor.name)}_dense".encode()
    graph.tensors.append(stored)
    return OperatorT(
        opcode_of(file, schema.BuiltinOperator.DENSIFY), np.array([len(graph.tensors) - 1], np.int32),
        np.array([place], np.int32), schema.BuiltinOptions.DensifyOptions, schema.DensifyOptionsT(),
    )
