"""The work of a .tflite file: multiply-accumulates and traffic of each operator, read off its bytes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from ai_edge_litert.schema_py_generated import BuiltinOperator, ModelT, OperatorT, SubGraphT, TensorT

from tfgreen.deploy.inspection.sparse_inference import dense_because, refused_integers, stores_sparse
from tfgreen.deploy.litert_model import LiteRTModel
from tfgreen.deploy.tflite.cut_operator import unpacking_operators
from tfgreen.deploy.tflite.flatbuffer import (
    buffer_bytes,
    constant,
    dtype_name,
    is_dynamic,
    opens_batch_only,
    operator_name,
    shape_of,
    text_of,
)
from tfgreen.energy.devices.work import LayerWork, ModelWork
from tfgreen.errors import invalid_state

_BYTES: dict[str, float] = {"float64": 8, "int64": 8, "uint64": 8, "float16": 2, "bfloat16": 2, "int16": 2, "uint16": 2}
_BYTES |= {"int8": 1, "uint8": 1, "bool": 1, "int4": 0.5, "int2": 0.25}
_VIEWS = ("RESHAPE", "SQUEEZE", "EXPAND_DIMS", "SHAPE", "VAR_HANDLE")  # no numbers are computed or moved
_LOOKUPS = ("GATHER", "EMBEDDING_LOOKUP", "GATHER_ND")
_LOOPS = ("WHILE", "IF", "CALL", "CALL_ONCE", "STABLEHLO_WHILE", "STABLEHLO_COMPOSITE")


def file_work(lite: LiteRTModel) -> ModelWork:
    """The work of one inference of a file, operator by operator; an open batch is 1.

    Raises:
        ValueError: The file leaves another size open, has loops or branches, or an operator that is not built in.
    """
    model, graph = lite.parsed, lite.parsed.subgraphs[0]
    if not opens_batch_only(graph):
        names = [text_of(graph.tensors[i].name) for i in graph.inputs if is_dynamic(graph.tensors[i], with_batch=False)]
        raise invalid_state(
            f"input '{names[0]}' leaves a size open, and what one inference costs depends on it.",
            "Give every keras.Input a full shape and convert again.",
        )
    unpacking = unpacking_operators(model)
    unpacked = {int(i) for operator in unpacking for i in operator.outputs}
    sparse = stores_sparse(lite) and not dense_because(lite) and not refused_integers(lite)
    rows = [
        _operator_work(model, graph, operator, status.where, unpacked, sparse)
        for status, operator in zip(lite.audit.operators, graph.operators)
        if not any(operator is other for other in unpacking)
    ]
    notes = ["counted on the file, operator by operator"]
    if is_dynamic(graph.tensors[graph.inputs[0]]) if len(graph.inputs) else False:
        notes.append("its batch is open, and taken as 1")
    shapes = {info.name: tuple(dim or 1 for dim in info.shape) for info in lite.inputs}
    return ModelWork(f"{lite.quantization} file", shapes, tuple(row for row in rows if row is not None), tuple(notes))


def _operator_work(
    model: ModelT, graph: SubGraphT, operator: OperatorT, where: str, unpacked: set[int], sparse: bool
) -> LayerWork | None:
    name = operator_name(model, operator)
    if name in _VIEWS:
        return None
    if name in _LOOPS or not hasattr(BuiltinOperator, name):
        kind = "runs another graph as often as it finds" if name in _LOOPS else "is not built in"
        fix = "Give recurrent layers unroll=True." if name in _LOOPS else "Replace its layer with one of built-in ones."
        raise invalid_state(f"operator {name} of {where}: it {kind}, so what it costs is not known.", fix)
    inputs = [(int(i), graph.tensors[int(i)]) for i in operator.inputs if i >= 0]
    outputs = [graph.tensors[int(i)] for i in operator.outputs if i >= 0]
    weights = [tensor for i, tensor in inputs if i in unpacked or len(buffer_bytes(model, tensor))]
    values = [tensor for tensor in (item for _, item in inputs) if not any(tensor is other for other in weights)]
    results, given = sum(map(_size, outputs)), sum(map(_size, values))
    macs = _MACS[name](operator, [tensor for _, tensor in inputs], outputs) if name in _MACS else 0
    looked_up = name in _LOOKUPS
    zeros = 0.0
    kernel = max(weights, key=_size, default=None)
    if macs and kernel is not None:
        zeros = _zero_share(model, graph, kernel)
    takes_sparse = sparse and macs and name in ("CONV_2D", "FULLY_CONNECTED") and shape_of(kernel)[1:3] != (3, 3)
    channels = shape_of(outputs[0])[-1] if macs and shape_of(outputs[0]) else 0
    kernel_name = "CONV_2D" if name == "FULLY_CONNECTED" and results > channels else name
    return LayerWork(
        f"{name} of {where}",
        kernel_name,
        _dtype(outputs, values, kernel),
        macs,
        results if macs else max(results, given),
        sum(_bytes(tensor) for tensor in outputs) if looked_up else sum(map(_bytes, weights)),
        sum(map(_bytes, outputs)) + sum(map(_bytes, values)),
        channels,
        1 - zeros if takes_sparse else 1.0,
        zeros,
    )


def _dtype(outputs: Sequence[TensorT], values: Sequence[TensorT], kernel: TensorT | None) -> str:
    """What an operator computes in: floats that meet integer weights are rounded first (dynamic range)."""
    made = next((dtype_name(t) for t in (*outputs, *values) if dtype_name(t) in _COMPUTED), "int8")
    stored = "" if kernel is None else dtype_name(kernel)
    if made == "float32" and stored in ("int8", "uint8", "int4", "int2"):
        return "int8"
    return "int8" if made == "uint8" else made


_COMPUTED = ("float32", "float16", "bfloat16", "int8", "uint8", "int16")


def _zero_share(model: ModelT, graph: SubGraphT, kernel: TensorT) -> float:
    """The share of a kernel's weights that stand for 0."""
    source = kernel
    while not len(buffer_bytes(model, source)):  # unpacked by an operator before
        maker = next(op for op in graph.operators if any(graph.tensors[int(i)] is source for i in op.outputs))
        source = graph.tensors[int(maker.inputs[0])]
    stored = constant(model, source)
    points = None if source.quantization is None else source.quantization.zeroPoint
    zero = int(points[0]) if points is not None and len(points) else 0
    return float((stored == zero).mean()) if stored is not None and stored.size else 0.0


def _size(tensor: TensorT) -> int:
    return math.prod(shape_of(tensor))


def _bytes(tensor: TensorT) -> int:
    return math.ceil(_size(tensor) * _BYTES.get(dtype_name(tensor), 4))


def _convolution(operator: OperatorT, inputs: Sequence[TensorT], outputs: Sequence[TensorT]) -> int:
    """Each result sums the products with one filter, whose numbers stand behind the first axis."""
    return _size(outputs[0]) * math.prod(shape_of(inputs[1])[1:])


def _depthwise(operator: OperatorT, inputs: Sequence[TensorT], outputs: Sequence[TensorT]) -> int:
    return _size(outputs[0]) * math.prod(shape_of(inputs[1])[1:3])


def _transposed(operator: OperatorT, inputs: Sequence[TensorT], outputs: Sequence[TensorT]) -> int:
    """Each position of the input (third, after the shape and the kernel) meets the whole kernel."""
    return math.prod(shape_of(inputs[2])[:-1]) * _size(inputs[1])


def _volume(operator: OperatorT, inputs: Sequence[TensorT], outputs: Sequence[TensorT]) -> int:
    return _size(outputs[0]) * math.prod(shape_of(inputs[1])[:-1])


def _fully_connected(operator: OperatorT, inputs: Sequence[TensorT], outputs: Sequence[TensorT]) -> int:
    return _size(outputs[0]) * shape_of(inputs[1])[-1]


def _matmul(operator: OperatorT, inputs: Sequence[TensorT], outputs: Sequence[TensorT]) -> int:
    return _size(outputs[0]) * shape_of(inputs[0])[-2 if operator.builtinOptions.adjX else -1]


def _recurrent(operator: OperatorT, inputs: Sequence[TensorT], outputs: Sequence[TensorT]) -> int:
    """Each time step multiplies every matrix."""
    matrices = [tensor for tensor in inputs[1:] if len(shape_of(tensor)) == 2 and not tensor.isVariable]
    shape = shape_of(inputs[0])
    return (shape[0] * shape[1] if len(shape) == 3 else shape[0]) * sum(map(_size, matrices))


_MACS: dict[str, Callable[[OperatorT, Sequence[TensorT], Sequence[TensorT]], int]] = {
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _depthwise,
    "TRANSPOSE_CONV": _transposed,
    "CONV_3D": _volume,
    "FULLY_CONNECTED": _fully_connected,
    "BATCH_MATMUL": _matmul,
    **dict.fromkeys(("UNIDIRECTIONAL_SEQUENCE_LSTM", "UNIDIRECTIONAL_SEQUENCE_RNN", "LSTM", "RNN"), _recurrent),
}
