"""The weights of a .tflite file as it stores them, and their zeros."""

from __future__ import annotations

import dataclasses

import numpy as np
from ai_edge_litert.schema_py_generated import BlockwiseQuantizationT, ModelT, TensorT

from tfgreen.deploy.tflite.contents import dequantize_array, scales_of
from tfgreen.deploy.tflite.flatbuffer import buffer_bytes, constant, dtype_name, text_of
from tfgreen.deploy.tflite.sparse_encoding import index_bytes
from tfgreen.tables import RowResult
from tfgreen.typing import PlainDict

_DTYPES = ("float32", "float16", "int8", "uint8", "int16", "int4")


@dataclasses.dataclass(frozen=True, eq=False)
class WeightTensor(RowResult):
    """A constant tensor as the file stores it.

    ``values`` holds the stored numbers, integers for a quantized tensor (those of 4 bits as int8), and ``bits`` says
    how many bits the file spends on each. A quantized tensor has one ``scale`` and ``zero_point``, or one per index of
    ``axis``; they are empty for a float tensor. ``sparse_bytes`` is what the non-zeros and their places take in the
    file where only they are stored, and 0 in a dense tensor.
    """

    values: np.ndarray
    bits: int
    scale: np.ndarray
    zero_point: np.ndarray
    axis: int
    sparse_bytes: int = 0

    def to_dict(self) -> PlainDict:
        """Return plain values that describe the tensor, without its numbers."""
        facts = {"shape": list(self.values.shape), "dtype": str(self.values.dtype), "bits": self.bits}
        facts |= {"zeros": self.zeros, "stored_bytes": self.stored_bytes}
        return {**facts, "scale": self.scale.tolist(), "zero_point": self.zero_point.tolist(), "axis": self.axis}

    @property
    def zeros(self) -> int:
        """How many of the values stand for 0: in a quantized tensor those equal to the zero point."""
        return int((self.values == (self._along(self.zero_point) if self.zero_point.size else 0)).sum())

    @property
    def stored_bytes(self) -> int:
        """Bytes in the file."""
        return self.sparse_bytes or (self.values.size * self.bits + 7) // 8

    @property
    def real(self) -> np.ndarray:
        """The float32 values that the stored ones stand for."""
        if not self.scale.size:
            return self.values.astype(np.float32)
        return dequantize_array(self.values, self._along(self.scale), self._along(self.zero_point))

    def _along(self, numbers: np.ndarray) -> np.ndarray:
        """One number, or one per index of ``axis`` or per value, shaped to broadcast with the values."""
        if numbers.ndim > 1:
            return numbers
        return numbers.reshape([-1 if axis == self.axis else 1 for axis in range(self.values.ndim)])


def read_weights(model: ModelT) -> dict[str, WeightTensor]:
    """Tensor name -> weight: each constant of rank 2 or more (no bias, shape or padding), shared ones once."""
    found: dict[str, WeightTensor] = {}
    seen = set[tuple[int, bytes]]()
    for tensor in (tensor for graph in model.subgraphs for tensor in graph.tensors):
        values = constant(model, tensor)
        if values is None or values.ndim < 2 or dtype_name(tensor) not in _DTYPES:
            continue
        # Of sparse tensors with the same non-zeros the places may differ.
        key = tensor.buffer, b"" if tensor.sparsity is None else values.tobytes()
        if key in seen:
            continue
        seen.add(key)
        name = wanted = text_of(tensor.name)
        while name in found:
            name = f"{wanted}:{len(found)}"
        bits = 4 if dtype_name(tensor) == "int4" else 8 * values.itemsize
        blocks = _block_scales(model, tensor, values)
        sparse = 0 if tensor.sparsity is None else len(buffer_bytes(model, tensor)) + index_bytes(tensor.sparsity)
        found[name] = WeightTensor(values, bits, *(scales_of(tensor) if blocks is None else blocks), sparse)
    return found


def _block_scales(model: ModelT, tensor: TensorT, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, int] | None:
    """A scale and zero point for each value of a weight with one per block of the last axis; None for any other."""
    details = None if tensor.quantization is None else tensor.quantization.details
    if not isinstance(details, BlockwiseQuantizationT):
        return None
    graph = next(graph for graph in model.subgraphs if any(tensor is other for other in graph.tensors))
    scales = constant(model, graph.tensors[details.scales]) if 0 <= details.scales < len(graph.tensors) else None
    if scales is None or scales.size * details.blockSize != values.size:
        return None
    along = np.repeat(scales.astype(np.float64).ravel(), details.blockSize).reshape(values.shape)
    return along, np.zeros(values.shape, np.int64), values.ndim - 1
