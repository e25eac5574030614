"""The .tflite file itself: check it, name its inputs and outputs, read its tensors.

Everything here works on the bytes through the schema that ``ai_edge_litert`` ships, without running the model.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfgreen.errors import FileError
from tfgreen.model.structure import Structure, leaf_names

METADATA_NAME = "tfgreen"

_IDENTIFIER = b"TFL3"
_DTYPES = {
    "FLOAT32": np.float32,
    "FLOAT16": np.float16,
    "FLOAT64": np.float64,
    "INT8": np.int8,
    "UINT8": np.uint8,
    "INT16": np.int16,
    "UINT16": np.uint16,
    "INT32": np.int32,
    "UINT32": np.uint32,
    "INT64": np.int64,
    "UINT64": np.uint64,
    "BOOL": np.bool_,
}


def parse(content: bytes, subject: str) -> Any:
    """Unpack a .tflite file into the schema's ``ModelT``, checking every reference in it.

    The interpreter trusts what it reads: a truncated or damaged file can take the whole process down. So the file is
    first unpacked in Python, where reading past the end is an exception, and every index and every constant's length
    is checked. Damage inside the weights, and most of that inside an operator's options, cannot be seen.

    Args:
        content: The bytes of the file.
        subject: The file's name, for the error.

    Raises:
        FileError: The bytes are no LiteRT model, or a truncated or damaged one.
    """
    from ai_edge_litert import schema_py_generated as schema

    if len(content) < 8 or content[4:8] != _IDENTIFIER:
        raise FileError(f"{subject}: expected a LiteRT model (identifier 'TFL3'), received another kind of file.")
    try:
        model = schema.ModelT.InitFromPackedBuf(content, 0)
        problem = _problem(model, content)
    except Exception as error:  # noqa: B902 - damaged bytes raise anything: IndexError, struct.error, TypeError, ...
        problem = f"{type(error).__name__}: {error}"
    if problem:
        raise FileError(f"{subject}: the LiteRT model is truncated or damaged ({problem}).")
    return model


def _problem(model: Any, content: bytes) -> str:
    """What is wrong with an unpacked model, or an empty string."""
    if model.version != 3 or not model.subgraphs:
        return f"version {model.version}, {len(model.subgraphs or [])} subgraphs"
    for graph in model.subgraphs:
        problem = _graph_problem(model, graph, content)
        if problem:
            return problem
    for signature in model.signatureDefs or []:
        if not 0 <= signature.subgraphIndex < len(model.subgraphs):
            return f"signature of subgraph {signature.subgraphIndex}"
        tensors = len(model.subgraphs[signature.subgraphIndex].tensors)
        entries = [*(signature.inputs or []), *(signature.outputs or [])]
        if any(not 0 <= entry.tensorIndex < tensors or not _is_text(entry.name) for entry in entries):
            return "a signature of a tensor that is not there"
    return ""


def _graph_problem(model: Any, graph: Any, content: bytes) -> str:
    tensors, used = len(graph.tensors), [graph.inputs, graph.outputs]
    for operator in graph.operators or []:
        if not 0 <= operator.opcodeIndex < len(model.operatorCodes or []):
            return f"operator code {operator.opcodeIndex}"
        used += [operator.inputs, operator.outputs]
        for key, value in vars(operator.builtinOptions).items() if operator.builtinOptions is not None else ():
            if key.endswith("SubgraphIndex") and not 0 <= value < len(model.subgraphs):
                return f"an operator that runs subgraph {value} of {len(model.subgraphs)}"
    if any(not -1 <= i < tensors for group in used if group is not None for i in group):  # -1: an input left out
        return f"a reference beyond the {tensors} tensors of a subgraph"
    for tensor in graph.tensors:
        if not _is_text(tensor.name) or not 0 <= tensor.buffer < len(model.buffers or []):
            return f"a tensor's name or buffer ({tensor.buffer})"
        stored, expected = len(buffer_bytes(model, tensor.buffer, content)), _dense_bytes(tensor)
        if stored and expected is not None and stored != expected:
            return f"tensor {text_of(tensor.name)!r} holds {stored} bytes instead of {expected}"
        if not _quantization_fits(tensor):
            return f"the quantization of tensor {text_of(tensor.name)!r}"
    return ""


def _quantization_fits(tensor: Any) -> bool:
    """Whether scales and zero points come once, or once per channel of an axis that is there."""
    q = tensor.quantization
    scales = 0 if q is None or q.scale is None else len(q.scale)
    if scales == 0:
        return True
    points = scales if q.zeroPoint is None else len(q.zeroPoint)
    shape = shape_of(tensor)
    along = scales == 1 or (0 <= q.quantizedDimension < len(shape) and scales == shape[q.quantizedDimension])
    dtype = np.dtype(_DTYPES.get(dtype_name(tensor).upper(), np.int64))
    if points and q.zeroPoint is not None and dtype.kind in "iu":
        limits = np.iinfo(dtype.name)
        along = along and limits.min <= min(q.zeroPoint) and max(q.zeroPoint) <= limits.max
    return along and points in (1, scales) and bool(np.isfinite(q.scale).all())


def _is_text(name: Any) -> bool:
    return name is None or isinstance(name, str) or name.decode(errors="ignore").encode() == name


def name_ends(model: Any, inputs: Structure, outputs: Structure) -> None:
    """Give the inputs and outputs of a converted file their Keras names, in the model's order.

    Args:
        model: A file whose signature calls its tensors ``input_0``, ``input_1``, ..., ``output_0``, ...
        inputs: Structure of the inputs, whose names in reading order replace ``input_0``, ``input_1``, ...
        outputs: The same for the outputs.
    """
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


def add_metadata(model: Any, metadata: Mapping[str, Any]) -> None:
    """Store plain values in a file; :func:`read_metadata` reads them."""
    from ai_edge_litert import schema_py_generated as schema

    payload = json.dumps(metadata, separators=(",", ":")).encode()
    model.metadata = [*(model.metadata or []), schema.MetadataT(METADATA_NAME.encode(), len(model.buffers))]
    model.buffers = [*model.buffers, schema.BufferT(np.frombuffer(payload, np.uint8))]


def write(model: Any, expected_bytes: int) -> bytes:
    """Pack a ``ModelT`` into the bytes of a file, about ``expected_bytes`` of them.

    Equal shapes, scales and zero points are stored once. Per channel of a kernel a zero point takes 8 bytes, all of
    them 0: a sixth of the file of a small network with depthwise layers.
    """
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    class AlignedBuffer(schema.BufferT):
        """The schema asks for tensor data on 16 bytes. Python's writer (and so TensorFlow's converter) gives 4."""

        def Pack(self, builder: Any) -> Any:  # noqa: N802 - the schema's name
            if self.data is not None:
                builder.Prep(16, len(self.data))
            return super().Pack(builder)

    class SharingBuilder(flatbuffers.Builder):
        """References to one vector may come from several tables; data in bytes, which is aligned otherwise, is not."""

        def __init__(self, size: int) -> None:
            super().__init__(size)
            self.written: dict[tuple[str, bytes], int] = {}

        def CreateNumpyVector(self, x: np.ndarray) -> int:  # noqa: N802 - the library's name
            if x.itemsize == 1:
                return super().CreateNumpyVector(x)
            key = x.dtype.str, x.tobytes()
            if key not in self.written:
                self.written[key] = super().CreateNumpyVector(x)
            return self.written[key]

    model.buffers = [AlignedBuffer(b.data, b.offset, b.size) for b in model.buffers]
    builder = SharingBuilder(expected_bytes + 4096)
    builder.Finish(model.Pack(builder), file_identifier=_IDENTIFIER)
    return bytes(builder.Output())


def read_metadata(model: Any, content: bytes) -> dict[str, Any]:
    """What :func:`add_metadata` stored, or an empty dict for a file that is not tfgreen's."""
    for entry in model.metadata or []:
        if text_of(entry.name) == METADATA_NAME and 0 <= entry.buffer < len(model.buffers):
            try:
                found = json.loads(buffer_bytes(model, entry.buffer, content).tobytes())
            except ValueError as error:
                raise FileError(f"the 'tfgreen' metadata of the LiteRT model is damaged: {error}.") from error
            return found if isinstance(found, dict) else {}
    return {}


def buffer_bytes(model: Any, index: int, content: bytes) -> np.ndarray:
    """The uint8 data of a buffer, which files above 2 GB keep behind the flatbuffer."""
    buffer = model.buffers[index]
    if buffer.offset > 1:
        return np.frombuffer(content, np.uint8, count=buffer.size, offset=buffer.offset)
    return np.zeros(0, np.uint8) if buffer.data is None else np.asarray(buffer.data, np.uint8)


def dtype_name(tensor: Any) -> str:
    """The NumPy name of a tensor's stored type (``"int8"``), or the schema's own for types NumPy lacks (``"int4"``)."""
    from ai_edge_litert import schema_py_generated as schema

    return next(k for k, v in vars(schema.TensorType).items() if v == tensor.type and k.isupper()).lower()


def constant(model: Any, tensor: Any, content: bytes) -> np.ndarray | None:
    """The stored values of a constant tensor, int4 as int8; None where it is no constant, or in a sparse encoding."""
    data = buffer_bytes(model, tensor.buffer, content)
    if dtype_name(tensor) == "int4" and len(data) == _dense_bytes(tensor):
        return unpack_nibbles(data, math.prod(shape_of(tensor))).reshape(shape_of(tensor))
    dtype = _DTYPES.get(dtype_name(tensor).upper())
    if dtype is None or not len(data) or _dense_bytes(tensor) != len(data):
        return None
    return np.frombuffer(data.tobytes(), dtype).reshape(shape_of(tensor))


def shape_of(tensor: Any) -> tuple[int, ...]:
    """The static shape stored in a tensor; 1 stands where a dimension is dynamic."""
    return tuple(int(d) for d in tensor.shape) if tensor.shape is not None else ()


def operator_name(model: Any, operator: Any) -> str:
    """The name of an operator: ``"CONV_2D"``, or the custom code of one that is not built in."""
    from ai_edge_litert import schema_py_generated as schema

    code = model.operatorCodes[operator.opcodeIndex]
    number = max(code.builtinCode, code.deprecatedBuiltinCode)  # old files fill only the second, an int8
    if number == schema.BuiltinOperator.CUSTOM:
        return text_of(code.customCode)
    return next((k for k, v in vars(schema.BuiltinOperator).items() if v == number and k.isupper()), f"CODE_{number}")


def _dense_bytes(tensor: Any) -> int | None:
    """Bytes that a constant of this shape and type takes; None where they do not follow from the shape."""
    if dtype_name(tensor) == "int4" and tensor.sparsity is None:
        return (math.prod(shape_of(tensor)) + 1) // 2
    dtype = _DTYPES.get(dtype_name(tensor).upper())
    if dtype is None or tensor.sparsity is not None:
        return None
    return math.prod(shape_of(tensor)) * np.dtype(dtype).itemsize


def text_of(name: Any) -> str:
    """A name of the schema, which holds bytes where it was read and text where it was set."""
    return name.decode(errors="replace") if isinstance(name, bytes) else str(name)


def pack_nibbles(values: np.ndarray) -> np.ndarray:
    """Pack int8 values of -8..7, two to a byte, the first in the lower half.

    Returns:
        uint8 array of half the length, rounded up.

    Example:
        >>> pack_nibbles(np.array([1, -1, 7], np.int8)).tolist()
        [241, 7]
    """
    nibbles = np.append(values, np.zeros(values.size % 2, np.int8)).astype(np.uint8) & 0x0F
    return nibbles[::2] | (nibbles[1::2] << 4)


def unpack_nibbles(data: np.ndarray, count: int) -> np.ndarray:
    """The inverse of :func:`pack_nibbles`: ``count`` int8 values of -8..7."""
    halves = np.stack([data & 0x0F, data >> 4], axis=-1).ravel()[:count].astype(np.int8)
    return np.where(halves > 7, halves - 16, halves).astype(np.int8)
