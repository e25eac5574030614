"""What a .tflite file holds: operators, weights and their zeros, inputs and outputs, and how it is quantized."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterator
from typing import Literal

import numpy as np
from ai_edge_litert.schema_py_generated import ModelT, OperatorT, SubGraphT, TensorT

from tfgreen.deploy.tflite.affine import dequantize_array, quantize_array
from tfgreen.deploy.tflite.flatbuffer import constant, dtype_name, is_dynamic, operator_name, shape_of, text_of
from tfgreen.errors import invalid_value
from tfgreen.typing import Shape

Quantization = Literal["float32", "float16", "dynamic", "int8", "int16x8"]

_WEIGHT_DTYPES = ("float32", "float16", "int8", "uint8", "int16", "int4")


@dataclasses.dataclass(frozen=True)
class TensorInfo:
    """An input or output of a LiteRT model.

    ``shape`` begins with the batch; ``None`` marks a dynamic dimension. ``dtype`` is what the file stores. A quantized
    tensor has a ``scale`` (real units per integer) and a ``zero_point``; for any other both are ``None``.
    """

    name: str
    shape: Shape
    dtype: str
    scale: float | None
    zero_point: int | None

    def to_stored(self, real: np.ndarray) -> np.ndarray:
        """Real values -> what the tensor stores, saturating where it is quantized.

        Raises:
            ValueError: The tensor cannot hold them: NaN in a quantized one, fractions in one of plain integers.
        """
        if self.scale is not None and self.zero_point is not None:
            return quantize_array(real, self.scale, self.zero_point, self.dtype, f"tensor '{self.name}'")
        if np.dtype(self.dtype).kind in "iub" and real.dtype.kind == "f" and (real % 1 != 0).any():  # NaN too
            raise invalid_value(f"tensor '{self.name}'", expected=f"whole numbers ({self.dtype})", received="fractions")
        return real.astype(self.dtype)

    def to_real(self, stored: np.ndarray) -> np.ndarray:
        """What the tensor stores -> the float32 values it stands for; as it is where the tensor is not quantized."""
        if self.scale is not None and self.zero_point is not None:
            return dequantize_array(stored, self.scale, self.zero_point)
        return stored


@dataclasses.dataclass(frozen=True, eq=False)
class WeightTensor:
    """A constant tensor as the file stores it.

    ``values`` holds the stored numbers, integers for a quantized tensor (those of 4 bits as int8), and ``bits`` says
    how many bits the file spends on each. A quantized tensor has one ``scale`` and ``zero_point``, or one per index of
    ``axis``; they are empty for a float tensor.
    """

    values: np.ndarray
    bits: int
    scale: np.ndarray
    zero_point: np.ndarray
    axis: int

    @property
    def zeros(self) -> int:
        """How many of the values stand for 0: in a quantized tensor those equal to the zero point."""
        return int((self.values == _along(self.zero_point, self.axis, self.values.ndim)).sum())

    @property
    def stored_bytes(self) -> int:
        """Bytes in the file."""
        return (self.values.size * self.bits + 7) // 8

    @property
    def real(self) -> np.ndarray:
        """The float32 values that the stored ones stand for."""
        if not self.scale.size:
            return self.values.astype(np.float32)
        rank = self.values.ndim
        centered = self.values.astype(np.float64) - _along(self.zero_point, self.axis, rank)
        return (centered * _along(self.scale, self.axis, rank)).astype(np.float32)


def edge_tensors(model: ModelT, side: Literal["inputs", "outputs"]) -> dict[str, int]:
    """Name -> index in the main subgraph of the ``"inputs"`` or ``"outputs"``, in the file's order.

    Names are those of the signature, or of the tensors where the file has none.
    """
    graph = model.subgraphs[0]
    order = [int(i) for i in getattr(graph, side)]
    called = {
        text_of(entry.name): int(entry.tensorIndex)  # two names may share a tensor: the converter merges equal outputs
        for signature in model.signatureDefs or []
        if signature.subgraphIndex == 0
        for entry in getattr(signature, side) or []
        if entry.tensorIndex in order
    }
    named = set(called.values())
    called |= {text_of(graph.tensors[i].name): i for i in order if i not in named}
    return dict(sorted(called.items(), key=lambda item: order.index(item[1])))


def tensor_info(model: ModelT, name: str, index: int) -> TensorInfo:
    """Describe one tensor of the main subgraph."""
    tensor = model.subgraphs[0].tensors[index]
    shape: Shape = shape_of(tensor)
    if is_dynamic(tensor) and len(tensor.shapeSignature) == len(shape):
        shape = tuple(None if size < 0 else int(size) for size in tensor.shapeSignature)
    scale, zero_point, _ = _quantization(tensor)
    if scale.size:
        return TensorInfo(name, shape, dtype_name(tensor), float(scale[0]), int(zero_point[0]))
    return TensorInfo(name, shape, dtype_name(tensor), None, None)


def output_scale(model: ModelT, index: int) -> float | None:
    """The scale of an output, also where a DEQUANTIZE turns it into float at the very end; None for float."""
    graph = model.subgraphs[0]
    for operator in graph.operators:
        if index in operator.outputs and operator_name(model, operator) == "DEQUANTIZE":
            index = int(operator.inputs[0])
    scale, _, _ = _quantization(graph.tensors[index])
    return float(scale[0]) if scale.size else None


def count_operators(model: ModelT) -> dict[str, int]:
    """Operator name -> how many the file holds, those inside loop and branch bodies included, most frequent first."""
    counts = collections.Counter(operator_name(model, op) for _, op in _operators(model))
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def float_operators(model: ModelT) -> list[str]:
    """Names of the operators that compute float32 (DEQUANTIZE, which only converts, left out)."""
    return sorted({operator_name(model, op) for graph, op in _operators(model) if computes_in_float(model, graph, op)})


def computes_in_float(model: ModelT, graph: SubGraphT, operator: OperatorT) -> bool:
    """Whether an operator computes float32; DEQUANTIZE only converts."""
    outputs = [dtype_name(graph.tensors[i]) for i in operator.outputs if i >= 0]
    return operator_name(model, operator) != "DEQUANTIZE" and "float32" in outputs


def quantization_of(model: ModelT) -> Quantization:
    """How the file is quantized, judged by what it holds.

    ``"int8"`` or ``"int16x8"``: activations are integers. ``"dynamic"``: only weights are. ``"float16"``: weights are
    stored as float16. Otherwise ``"float32"``, also where the converter left every weight as it was: its dynamic-range
    mode skips tensors below 1024 elements.
    """
    activations, weights = set(), set()
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            stored = constant(model, tensor)
            quantized = _quantization(tensor)[0].size > 0
            if stored is None and quantized:
                activations.add(dtype_name(tensor))
            elif stored is not None and (quantized or stored.dtype == np.float16):
                weights.add(dtype_name(tensor))
    if "int16" in activations:
        return "int16x8"
    if activations & {"int8", "uint8"}:
        return "int8"
    if weights & {"int8", "uint8"}:
        return "dynamic"
    return "float16" if "float16" in weights else "float32"


def read_weights(model: ModelT) -> dict[str, WeightTensor]:
    """Tensor name -> every weight tensor: constants of rank 2 or more with float or 4-, 8- or 16-bit integer elements.

    That leaves out biases, shapes and paddings. A buffer that several tensors share is listed once, and sparsely
    encoded tensors are left out.
    """
    found: dict[str, WeightTensor] = {}
    seen = set()
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            values = constant(model, tensor)
            if values is None or values.ndim < 2 or tensor.buffer in seen or dtype_name(tensor) not in _WEIGHT_DTYPES:
                continue
            seen.add(tensor.buffer)
            name = wanted = text_of(tensor.name)
            while name in found:
                name = f"{wanted}:{len(found)}"
            bits = 4 if dtype_name(tensor) == "int4" else 8 * values.itemsize
            found[name] = WeightTensor(values, bits, *_quantization(tensor))
    return found


def _operators(model: ModelT) -> Iterator[tuple[SubGraphT, OperatorT]]:
    for graph in model.subgraphs:
        for operator in graph.operators or []:
            yield graph, operator


def _quantization(tensor: TensorT) -> tuple[np.ndarray, np.ndarray, int]:
    """Scales, zero points and channel axis; empty arrays for a tensor that is not quantized."""
    q = tensor.quantization
    if q is None or q.scale is None or not len(q.scale):
        return np.zeros(0), np.zeros(0, np.int64), 0
    scale = np.asarray(q.scale, np.float64)
    zero_point = np.asarray(q.zeroPoint if q.zeroPoint is not None else np.zeros(len(scale)), np.int64)
    return scale, zero_point, int(q.quantizedDimension)


def _along(values: np.ndarray, axis: int, rank: int) -> np.ndarray:
    """Shape per-channel values to broadcast along ``axis``; nothing stands for 0."""
    if values.size <= 1:
        return values.reshape(-1)[:1].sum()
    shape = [1] * rank
    shape[axis] = -1
    return values.reshape(shape)
