"""What a .tflite file holds: operators, inputs and outputs, and how it is quantized."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
from ai_edge_litert.schema_py_generated import ModelT, OperatorT, SubGraphT, TensorT

from tfgreen.deploy.tflite.flatbuffer import (
    buffer_bytes,
    dtype_name,
    is_dynamic,
    operator_name,
    shape_of,
    text_of,
)
from tfgreen.errors import invalid_value
from tfgreen.tables import RowResult
from tfgreen.typing import Shape

Quantization = Literal["float32", "float16", "dynamic", "int8", "int16x8"]


def quantize_array(
    values: np.ndarray, scale: float, zero_point: int, dtype: np.dtype | type | str, subject: str = "values"
) -> np.ndarray:
    """Round real values to the nearest stored integer, saturating; ties go to the even one, as in XNNPACK."""
    real = np.asarray(values, dtype=np.float64)  # in float32 a large zero point would cost a bit
    if np.isnan(real).any():
        raise invalid_value(subject, expected="numbers", received=f"{int(np.isnan(real).sum())} NaN")
    limits = np.iinfo(dtype)
    return np.clip(np.rint(real / scale) + zero_point, limits.min, limits.max).astype(dtype)


def dequantize_array(stored: np.ndarray, scale: float | np.ndarray, zero_point: int | np.ndarray) -> np.ndarray:
    """Return the float32 values that stored integers stand for; scales and zero points broadcast."""
    return ((stored.astype(np.float64) - zero_point) * scale).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class TensorInfo(RowResult):
    """An input or output of a :class:`LiteRTModel`, or another tensor of its main subgraph.

    ``shape`` begins with the batch; ``None`` marks a dynamic dimension. ``dtype`` is what the file stores. A quantized
    tensor has a ``scale`` (real units per integer) and a ``zero_point``; for any other both are ``None``. ``index`` is
    what interpreters know it by.

    Example:
        >>> TensorInfo("x", (1, 2), "int8", scale=0.5, zero_point=3, index=0).to_stored(np.array([-1.0, 99.0]))
        array([  1, 127], dtype=int8)
    """

    name: str
    shape: Shape
    dtype: str
    scale: float | None
    zero_point: int | None
    index: int

    def to_stored(self, real: np.ndarray) -> np.ndarray:
        """Real values -> what the tensor stores, saturating where it is quantized; integers take no NaN."""
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


def edge_tensors(model: ModelT, side: Literal["inputs", "outputs"]) -> tuple[TensorInfo, ...]:
    """The inputs or outputs in the file's order, with the names of the signature, or else those of the tensors."""
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
    return tuple(tensor_info(model, *item) for item in sorted(called.items(), key=lambda item: order.index(item[1])))


def tensor_info(model: ModelT, name: str, index: int) -> TensorInfo:
    """Describe one tensor of the main subgraph."""
    tensor = model.subgraphs[0].tensors[index]
    shape: Shape = shape_of(tensor)
    if is_dynamic(tensor) and len(tensor.shapeSignature) == len(shape):
        shape = tuple(None if size < 0 else int(size) for size in tensor.shapeSignature)
    scales, zero_points, _ = scales_of(tensor)
    scale, zero_point = (float(scales[0]), int(zero_points[0])) if scales.size else (None, None)
    return TensorInfo(name, shape, dtype_name(tensor), scale, zero_point, index)


def quantized_input(model: ModelT, info: TensorInfo) -> TensorInfo:
    """What an input is rounded to where the file does nothing with it but that; else the input itself."""
    graph = model.subgraphs[0]
    readers = [operator for operator in graph.operators or [] if info.index in operator.inputs]
    if not readers or any(operator_name(model, operator) != "QUANTIZE" for operator in readers):
        return info
    held = [tensor_info(model, info.name, int(operator.outputs[0])) for operator in readers]
    return max(held, key=lambda one: (one.scale or 0.0) * np.iinfo(one.dtype).max)


def output_scale(model: ModelT, index: int) -> float | None:
    """The scale of an output, also where a DEQUANTIZE turns it into float at the very end; None for float."""
    graph = model.subgraphs[0]
    for operator in graph.operators:
        if index in operator.outputs and operator_name(model, operator) == "DEQUANTIZE":
            index = int(operator.inputs[0])
    scale, _, _ = scales_of(graph.tensors[index])
    return float(scale[0]) if scale.size else None


def ends_in_softmax(model: ModelT, index: int) -> bool:
    """Whether a tensor is the output of a softmax over its last axis, with nothing after it but a change of form."""
    graph = model.subgraphs[0]
    producers = {int(tensor): operator for operator in graph.operators or [] for tensor in operator.outputs}
    while (operator := producers.get(index)) is not None:
        name, source = operator_name(model, operator), int(operator.inputs[0]) if len(operator.inputs) else -1
        if name in ("SOFTMAX", "LOG_SOFTMAX"):
            return True
        if name not in ("DEQUANTIZE", "QUANTIZE", "RESHAPE") or source < 0:
            return False
        if shape_of(graph.tensors[source])[-1:] != shape_of(graph.tensors[index])[-1:]:
            return False
        index = source
    return False


def signature_notes(model: ModelT) -> list[str]:
    """A sentence where the file can be called in several ways, of which the first subgraph is what is run here."""
    signatures = [(text_of(entry.signatureKey), int(entry.subgraphIndex)) for entry in model.signatureDefs or []]
    others = [name for name, subgraph in signatures if subgraph != 0]
    own = [name for name, subgraph in signatures if subgraph == 0] or [text_of(model.subgraphs[0].name)]
    return [f"The file has several signatures; what is run and measured is {own}, not {others}."] if others else []


def count_operators(model: ModelT) -> dict[str, int]:
    """Operator name -> how many the file holds, those inside loop and branch bodies included, most frequent first."""
    names = sorted(operator_name(model, operator) for _, operator in _operators(model))
    return dict(collections.Counter(names).most_common())


def float_operators(model: ModelT) -> list[str]:
    """Names of the operators that compute float32 (those that only unpack or convert left out)."""
    return sorted({operator_name(model, op) for graph, op in _operators(model) if computes_in_float(model, graph, op)})


def computes_in_float(model: ModelT, graph: SubGraphT, operator: OperatorT) -> bool:
    """Whether an operator computes float32; DEQUANTIZE only converts, and DENSIFY unpacks."""
    outputs = [dtype_name(graph.tensors[i]) for i in operator.outputs if i >= 0]
    return operator_name(model, operator) not in ("DEQUANTIZE", "DENSIFY") and "float32" in outputs


def quantization_of(model: ModelT) -> Quantization:
    """Judge by the integers that most operators return, or else by the dtypes of weights; small ones may be left in
    float. The 16-bit state of an LSTM among 8-bit activations is no output of an operator."""
    computed = [pair for graph in model.subgraphs for pair in _computed(model, graph)]
    computed += [(graph, index) for graph in model.subgraphs for index in graph.inputs]
    tensors = [graph.tensors[index] for graph, index in computed]
    counts = collections.Counter(dtype_name(tensor) for tensor in tensors if scales_of(tensor)[0].size)
    most = max(("int8", "uint8", "int16"), key=lambda dtype: counts[dtype])
    if counts[most]:
        return "int16x8" if most == "int16" else "int8"
    stored = [t for graph in model.subgraphs for t in graph.tensors if len(buffer_bytes(model, t))]
    weights = {dtype_name(t) for t in stored if _is_quantized(t) or dtype_name(t) == "float16"}
    if any(dtype in ("int8", "uint8", "int4", "uint4", "int2") for dtype in weights):
        return "dynamic"
    if "int16" in weights:  # a table that is only looked up
        return "int16x8"
    return "float16" if "float16" in weights else "float32"


def _computed(model: ModelT, graph: SubGraphT) -> Iterator[tuple[SubGraphT, int]]:
    """The outputs of operators but those that only take or move weights, as the lookup of an embedding does."""
    moved = {index for index, tensor in enumerate(graph.tensors) if len(buffer_bytes(model, tensor))}
    for operator in graph.operators or []:
        quantized = [i for i in operator.inputs if i >= 0 and scales_of(graph.tensors[i])[0].size]
        outputs = [index for index in operator.outputs if index >= 0]
        if len(quantized) == 1 and quantized[0] in moved and _equal_scales(graph, quantized[0], outputs):
            moved.update(outputs)
        else:
            yield from ((graph, index) for index in outputs)


def _equal_scales(graph: SubGraphT, source: int, outputs: Sequence[int]) -> bool:
    scales = [scales_of(graph.tensors[index])[0].tolist() for index in (source, *outputs)]
    return all(scale == scales[0] for scale in scales)


def _is_quantized(tensor: TensorT) -> bool:
    """Whether a constant has scales, or one for each block of it, which other tensors hold."""
    return scales_of(tensor)[0].size > 0 or getattr(tensor.quantization, "details", None) is not None


def _operators(model: ModelT) -> Iterator[tuple[SubGraphT, OperatorT]]:
    return ((graph, operator) for graph in model.subgraphs for operator in graph.operators or [])


def scales_of(tensor: TensorT) -> tuple[np.ndarray, np.ndarray, int]:
    """Scales, zero points and channel axis; empty arrays for a tensor that is not quantized."""
    q = tensor.quantization
    if q is None or q.scale is None or not len(q.scale):
        return np.zeros(0), np.zeros(0, np.int64), 0
    scale = np.asarray(q.scale, np.float64)
    zero_point = np.asarray(q.zeroPoint if q.zeroPoint is not None else np.zeros(len(scale)), np.int64)
    return scale, zero_point, int(q.quantizedDimension)
