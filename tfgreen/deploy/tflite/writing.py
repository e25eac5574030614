"""Write a .tflite file: what several tensors have in common is stored once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.schema_py_generated import ModelT, TensorT

from tfgreen.deploy.tflite.flatbuffer import IDENTIFIER, buffer_bytes


class _AlignedBuffer(schema.BufferT):
    """The schema asks for tensor data on 16 bytes; Python's writer (and so TensorFlow's converter) gives 4."""

    def Pack(self, builder: flatbuffers.Builder) -> int:  # noqa: N802 - the schema's name
        if self.data is not None:
            builder.Prep(16, len(self.data))
        return super().Pack(builder)


class _SharedQuantization(schema.QuantizationParametersT):
    """Tensors of one scale and zero point, as all steps of a recurrent layer are, refer to one table."""

    def Pack(self, builder: _SharingBuilder) -> int:  # noqa: N802 - the schema's name
        if self.details is not None:
            return super().Pack(builder)
        key = tuple(None if value is None else np.asarray(value).tobytes() for value in vars(self).values())
        if key not in builder.written:
            builder.written[key] = super().Pack(builder)
        return builder.written[key]


class _SharingBuilder(flatbuffers.Builder):
    """Equal vectors, a sixth of a small file, are written once; those of bytes hold tensor data, which is aligned."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.written: dict[tuple[object, ...], int] = {}

    def CreateNumpyVector(self, x: np.ndarray) -> int:  # noqa: N802 - the library's name
        if x.itemsize == 1:
            return super().CreateNumpyVector(x)
        key = x.dtype.str, x.tobytes()
        if key not in self.written:
            self.written[key] = super().CreateNumpyVector(x)
        return self.written[key]


def write(model: ModelT) -> bytes:
    """Pack a model into the bytes of a file, storing equal data, shapes, scales and zero points once."""
    tensors = [tensor for graph in model.subgraphs for tensor in graph.tensors]
    _share_buffers(model, [*tensors, *(model.metadata or [])])
    for tensor in tensors:
        if tensor.quantization is not None:
            tensor.quantization = _SharedQuantization(**vars(tensor.quantization))
    model.buffers = [_AlignedBuffer(buffer.data, buffer.offset, buffer.size) for buffer in model.buffers]
    builder = _SharingBuilder(4096 + sum(len(b.data) for b in model.buffers if b.data is not None))
    builder.Finish(model.Pack(builder), file_identifier=IDENTIFIER)
    return bytes(builder.Output())


def _share_buffers(model: ModelT, users: Sequence[TensorT | schema.MetadataT]) -> None:
    """Let equal data be one buffer, and tensors without data refer to the first, which is empty."""
    kept, place = [model.buffers[0]], dict[int, int]()
    by_data: dict[tuple[int, int, bytes], int] = {}
    for user in users:
        if user.buffer not in place:
            data = buffer_bytes(model, user)
            buffer = model.buffers[user.buffer]
            key = len(data), buffer.offset, hashlib.sha256(data.tobytes()).digest()
            if (len(data) or buffer.offset > 1) and key not in by_data:
                by_data[key] = len(kept)
                kept.append(buffer)
            place[user.buffer] = by_data.get(key, 0)
    for user in users:
        user.buffer = place[user.buffer]
    model.buffers = kept
