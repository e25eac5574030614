"""The .tflite file itself, as the schema's objects: parse and check it, name its edges, read its tensors."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.schema_py_generated import ModelT, OperatorT, SubGraphT, TensorT
from ai_edge_litert.tools import flatbuffer_utils

from tfgreen.deploy.tflite.sparse_encoding import decode_sparse, sparse_problem
from tfgreen.errors import FileError
from tfgreen.structure import Structure, leaf_names

METADATA_NAME = "tfgreen"

IDENTIFIER = b"TFL3"
_NUMBERS = ("float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
_DTYPES = {name: np.dtype(name) for name in (*_NUMBERS, "bool")}


def parse(content: bytes, subject: str) -> ModelT:
    """Unpack a .tflite file, called ``subject`` in errors, checking every index and the length of every constant in it.

    The interpreter trusts what it reads, and a damaged file can take the whole process down; in Python reading past the
    end is an exception. Damage inside weights, and most of that inside an operator's options, cannot be seen. Buffers
    that files above 2 GB keep behind the flatbuffer are read into the model.
    """
    if len(content) < 8 or content[4:8] != IDENTIFIER:
        raise FileError(f"{subject}: expected a LiteRT model (identifier 'TFL3'), received another kind of file.")
    try:
        model = flatbuffer_utils.convert_bytearray_to_object(content)
        for buffer in model.buffers or []:
            if buffer.offset > 1:
                buffer.data = np.frombuffer(content, np.uint8, buffer.size, buffer.offset)
                buffer.offset = buffer.size = 0
        for operator in [operator for graph in model.subgraphs for operator in graph.operators or []]:
            for side in ("inputs", "outputs"):
                if getattr(operator, side) is None:  # as the unpacked form of an empty list may be
                    setattr(operator, side, np.zeros(0, np.int32))
        problem = next(_problems(model), "")
    except Exception:  # noqa: B902 - damaged bytes raise anything: IndexError, struct.error, TypeError, ...
        problem = "its tables cannot be read"
    if problem:
        raise FileError(f"{subject}: the LiteRT model is truncated or damaged ({problem}).")
    return model


def _problems(model: ModelT) -> Iterator[str]:
    """What is wrong with an unpacked model; what follows the first problem may fail for it."""
    if model.version != 3 or not model.subgraphs:
        yield f"version {model.version}, {len(model.subgraphs or [])} subgraphs"
    for graph in model.subgraphs:
        yield from _graph_problems(model, graph)
    for signature in model.signatureDefs or []:
        if not 0 <= signature.subgraphIndex < len(model.subgraphs):
            yield f"signature of subgraph {signature.subgraphIndex}"
        tensors = len(model.subgraphs[signature.subgraphIndex].tensors)
        entries = [*(signature.inputs or []), *(signature.outputs or [])]
        if any(not 0 <= entry.tensorIndex < tensors or not _is_text(entry.name) for entry in entries):
            yield "a signature of a tensor that is not there"


def _graph_problems(model: ModelT, graph: SubGraphT) -> Iterator[str]:
    tensors, used = len(graph.tensors), [graph.inputs, graph.outputs]
    for operator in graph.operators or []:
        if not 0 <= operator.opcodeIndex < len(model.operatorCodes or []):
            yield f"operator code {operator.opcodeIndex}"
        used += [operator.inputs, operator.outputs]
        for key, value in vars(operator.builtinOptions).items() if operator.builtinOptions is not None else ():
            if key.endswith("SubgraphIndex") and not 0 <= value < len(model.subgraphs):
                yield f"an operator that runs subgraph {value} of {len(model.subgraphs)}"
    if any(not -1 <= i < tensors for group in used if group is not None for i in group):  # -1: an input left out
        yield f"a reference beyond the {tensors} tensors of a subgraph"
    for tensor in graph.tensors:
        if not _is_text(tensor.name) or not 0 <= tensor.buffer < len(model.buffers or []):
            yield f"a tensor's name or buffer ({tensor.buffer})"
        stored, expected = len(buffer_bytes(model, tensor)), dense_bytes(tensor)
        if stored and expected is not None and stored != expected:
            yield f"tensor {text_of(tensor.name)!r} holds {stored} bytes instead of {expected}"
        if tensor.sparsity is not None and dtype_name(tensor) in _DTYPES:
            count, rest = divmod(stored, _DTYPES[dtype_name(tensor)].itemsize)
            sparse = "bytes left over" if rest else sparse_problem(tensor.sparsity, shape_of(tensor), count)
            if sparse:
                yield f"the sparse encoding of tensor {text_of(tensor.name)!r}: {sparse}"
        if not _quantization_fits(tensor):
            yield f"the quantization of tensor {text_of(tensor.name)!r}"


def _quantization_fits(tensor: TensorT) -> bool:
    """Whether scales and zero points are one, or one per index of an axis that is there, and lie within the dtype."""
    q, shape = tensor.quantization, shape_of(tensor)
    if q is None or q.scale is None or not len(q.scale):
        return True
    scales, points = np.asarray(q.scale), np.zeros(1) if q.zeroPoint is None else np.asarray(q.zeroPoint)
    axis = q.quantizedDimension
    along = scales.size == 1 or (0 <= axis < len(shape) and scales.size == shape[axis])
    dtype = _DTYPES.get(dtype_name(tensor), np.dtype(np.int64))
    if points.size and dtype.kind in "iu":
        along = along and np.iinfo(dtype).min <= points.min() and points.max() <= np.iinfo(dtype).max
    return along and points.size in (1, scales.size) and bool(np.isfinite(scales).all())


def _is_text(name: bytes | str | None) -> bool:
    return name is None or isinstance(name, str) or name.decode(errors="ignore").encode() == name


def name_edges(model: ModelT, inputs: Structure, outputs: Structure) -> None:
    """Give the inputs and outputs of a converted file, ``input_0``, ``output_0``, ..., their Keras names and order."""
    signature = model.signatureDefs[0]
    graph = model.subgraphs[signature.subgraphIndex]
    for prefix, side, structure in (("input_", "inputs", inputs), ("output_", "outputs", outputs)):
        names = leaf_names(structure)
        # The converter sorts them in its own way; whoever feeds tensors by position expects the model's order.
        entries = sorted(getattr(signature, side), key=lambda entry: int(text_of(entry.name).removeprefix(prefix)))
        for entry in entries:
            name = names[int(text_of(entry.name).removeprefix(prefix))]
            entry.name = graph.tensors[entry.tensorIndex].name = name.encode()
        setattr(signature, side, entries)
        setattr(graph, side, np.array([entry.tensorIndex for entry in entries], np.int32))


def set_metadata(model: ModelT, metadata: Mapping[str, Any]) -> None:
    """Store plain values in a file, in the place of earlier ones; :func:`read_metadata` reads them."""
    payload = json.dumps(metadata, separators=(",", ":")).encode()
    for entry in model.metadata or []:
        if entry.name == METADATA_NAME.encode():
            model.buffers[entry.buffer].data = np.frombuffer(payload, np.uint8)
            return
    model.metadata = [*(model.metadata or []), schema.MetadataT(METADATA_NAME.encode(), len(model.buffers))]
    model.buffers = [*model.buffers, schema.BufferT(np.frombuffer(payload, np.uint8))]


def read_metadata(model: ModelT, subject: str = "file") -> dict[str, Any]:
    """What :func:`set_metadata` stored, or an empty dict for a file that is not tfgreen's."""
    for entry in model.metadata or []:
        if text_of(entry.name) == METADATA_NAME and 0 <= entry.buffer < len(model.buffers):
            try:
                found = json.loads(buffer_bytes(model, entry).tobytes())
            except ValueError as error:
                raise FileError(f"{subject}: the 'tfgreen' metadata in the file is damaged: {error}.") from error
            return found if isinstance(found, dict) else {}
    return {}


def buffer_bytes(model: ModelT, tensor: TensorT | schema.MetadataT) -> np.ndarray:
    """The bytes of a constant tensor, or of metadata, as uint8; none for any other tensor."""
    data = model.buffers[tensor.buffer].data
    return np.zeros(0, np.uint8) if data is None else np.asarray(data, np.uint8)


def is_shared(graph: SubGraphT, tensor: TensorT) -> bool:
    """Whether another tensor of the subgraph has the same buffer."""
    return sum(tensor.buffer == other.buffer for other in graph.tensors) > 1


def set_constant(model: ModelT, graph: SubGraphT, tensor: TensorT, values: np.ndarray) -> None:
    """Give a constant tensor other values of its type, in a buffer of its own where it shares one."""
    if is_shared(graph, tensor):
        tensor.buffer = len(model.buffers)
        model.buffers.append(schema.BufferT())
    model.buffers[tensor.buffer].data = np.ascontiguousarray(values).reshape(-1).view(np.uint8)


def dtype_name(tensor: TensorT) -> str:
    """The NumPy name of a tensor's stored type (``"int8"``), or the schema's own for types NumPy lacks (``"int4"``)."""
    return flatbuffer_utils.type_to_name(tensor.type).lower()


def constant(model: ModelT, tensor: TensorT) -> np.ndarray | None:
    """The stored values of a constant tensor, int4 as int8, the zeros of a sparse one filled in; None where it is no
    constant, or of a type that NumPy lacks."""
    data, dtype = buffer_bytes(model, tensor), _DTYPES.get(dtype_name(tensor))
    if tensor.sparsity is not None and dtype is not None:
        return decode_sparse(np.frombuffer(data.tobytes(), dtype), tensor.sparsity, shape_of(tensor))
    if not len(data) or dense_bytes(tensor) != len(data):
        return None
    if dtype_name(tensor) == "int4":
        return unpack_nibbles(data, math.prod(shape_of(tensor))).reshape(shape_of(tensor))
    return np.frombuffer(data.tobytes(), dtype).reshape(shape_of(tensor))


def shape_of(tensor: TensorT) -> tuple[int, ...]:
    """The static shape stored in a tensor; 1 stands where a dimension is dynamic."""
    return tuple(int(d) for d in tensor.shape) if tensor.shape is not None else ()


def is_dynamic(tensor: TensorT, with_batch: bool = True) -> bool:
    """Whether the file leaves a dimension of a tensor open, the first one included or not."""
    signature = np.zeros(0) if tensor.shapeSignature is None else np.asarray(tensor.shapeSignature)
    return bool((signature[int(not with_batch) :] < 0).any())


def opens_batch_only(graph: SubGraphT) -> bool:
    """Whether inputs leave nothing open but the batch, as TensorFlow's converter writes them: it is 1 by default."""
    return not any(is_dynamic(graph.tensors[index], with_batch=False) for index in graph.inputs)


def operator_name(model: ModelT, operator: OperatorT) -> str:
    """The name of an operator: ``"CONV_2D"``, or the custom code of one that is not built in."""
    name = flatbuffer_utils.opcode_to_name(model, operator.opcodeIndex)
    code = model.operatorCodes[operator.opcodeIndex]
    if name == "CUSTOM":
        return text_of(code.customCode)
    return name or f"CODE_{flatbuffer_utils.get_builtin_code_from_operator_code(code)}"


def opcode_of(model: ModelT, code: int, version: int = 1) -> int:
    """The index of a built-in operator's code in a file, which is added where it is not there."""
    for index, known in enumerate(model.operatorCodes):
        if known.builtinCode == code and known.version >= version:
            return index
    # readers of old take the first byte, which ends at 127
    model.operatorCodes.append(schema.OperatorCodeT(min(code, 127), version=version, builtinCode=code))
    return len(model.operatorCodes) - 1


def dense_bytes(tensor: TensorT) -> int | None:
    """Bytes that a constant of this shape and type takes; None where they do not follow, as in a sparse one."""
    if tensor.sparsity is not None:
        return None
    if dtype_name(tensor) == "int4":
        return (math.prod(shape_of(tensor)) + 1) // 2
    dtype = _DTYPES.get(dtype_name(tensor))
    return None if dtype is None else math.prod(shape_of(tensor)) * dtype.itemsize


def text_of(name: bytes | str | None) -> str:
    """A name of the schema, which holds bytes where it was read and text where it was set."""
    return name.decode(errors="replace") if isinstance(name, bytes) else str(name)


def pack_nibbles(values: np.ndarray) -> np.ndarray:
    """Pack int8 values of -8..7, two to a byte (uint8), the first in the lower half."""
    nibbles = np.append(values, np.zeros(values.size % 2, np.int8)).astype(np.uint8) & 0x0F
    return nibbles[::2] | (nibbles[1::2] << 4)


def unpack_nibbles(data: np.ndarray, count: int) -> np.ndarray:
    """The inverse of :func:`pack_nibbles`: ``count`` int8 values of -8..7."""
    halves = np.stack([data & 0x0F, data >> 4], axis=-1).ravel()[:count].astype(np.int8)
    return np.where(halves > 7, halves - 16, halves).astype(np.int8)
