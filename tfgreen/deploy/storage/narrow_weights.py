"""Store weights in fewer bits than TensorFlow's converter does: those of 15 values in 4, others as float16.

The converter writes the former as int8. As float16 it stores every constant, and makes 0 or infinity of some.
"""

from __future__ import annotations

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.schema_py_generated import ModelT, OperatorT, SubGraphT, TensorT, TensorType

from tfgreen.deploy.tflite.flatbuffer import (
    constant,
    is_shared,
    opcode_of,
    operator_name,
    pack_nibbles,
    set_constant,
    text_of,
)
from tfgreen.errors import ConversionError

# Operators whose LiteRT kernels take int4 weights with int8 activations.
_OPERATORS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
# int8 codes of -7..7 when the largest magnitude of a channel is stored as 127
_CODES = np.round(np.arange(-7, 8) * (127 / 7)).astype(np.int8)

_SMALL = 1024  # numbers below which a vector is not worth an operator
_LEAST, _MOST = 2.0**-14, 65504.0  # of float16 in full precision


def pack_int4(model: ModelT) -> None:
    """Rewrite the int8 weights of a file that take 15 evenly spaced values as int4; a file without any is refused."""
    packed, unfit = 0, set[str]()
    for graph in model.subgraphs:
        for index in [i for i, tensor in enumerate(graph.tensors) if _takes_15_values(model, tensor)]:
            operators = [op for op in graph.operators if index in op.inputs]  # several where a layer is called again
            if operators and all(operator_name(model, op) in _OPERATORS and op.inputs[1] == index for op in operators):
                packed += _pack_weight(model, graph, index, operators)
            else:
                unfit |= {operator_name(model, op) for op in operators}
    if not packed:
        reason = f"only {', '.join(sorted(unfit))} take weights of 15 values" if unfit else "none takes 15 values only"
        raise ConversionError(
            f"quantization='int4': no weight can be stored in 4 bits: {reason}. LiteRT has kernels for them in "
            f"{', '.join(_OPERATORS)}, of a model that was quantized with tg.QuantizeConfig(weight_bits=4). Convert "
            "with quantization='int8'."
        )


def _pack_weight(model: ModelT, graph: SubGraphT, index: int, operators: list[OperatorT]) -> bool:
    weight = graph.tensors[index]
    values = constant(model, weight)
    if values is None or is_shared(graph, weight):
        return False  # another tensor reads the same bytes as int8
    levels = np.round(values * (7 / 127)).astype(np.int8)
    weight.type = TensorType.INT4
    weight.quantization.scale = (np.asarray(weight.quantization.scale, np.float64) * (127 / 7)).astype(np.float32)
    set_constant(model, graph, weight, pack_nibbles(levels.ravel()))
    with_bias = [op for op in operators if len(op.inputs) > 2 and op.inputs[2] >= 0]
    for number, source in {int(op.inputs[2]): graph.tensors[op.inputs[0]] for op in with_bias}.items():
        bias = graph.tensors[number]
        values = constant(model, bias)
        if values is None:
            raise ConversionError(f"quantization='int4': the bias {text_of(bias.name)!r} is no constant.")
        set_constant(model, graph, bias, np.round(values * (7 / 127)).astype(values.dtype))
        # Its scale must be that of the input times that of the weight.
        scale = np.asarray(weight.quantization.scale, np.float64) * float(source.quantization.scale[0])
        bias.quantization.scale = scale.astype(np.float32)
    return True


def _takes_15_values(model: ModelT, tensor: TensorT) -> bool:
    values = constant(model, tensor)
    return values is not None and values.ndim > 1 and values.dtype == np.int8 and bool(np.isin(values, _CODES).all())


def store_float16(model: ModelT) -> set[int]:
    """Store the float32 constants of a file as float16, each with an operator that makes float32 of it, as LiteRT's
    delegates know it; return the tensors of the main subgraph that stay float32 though they are large.

    Small vectors stay as they are: they hold biases, and what is added to divisors. So does what float16 cannot hold.
    """
    stored: dict[int, int] = {}
    kept = set[int]()
    for graph in model.subgraphs:
        found = []
        for place, values in float_constants(model, graph):
            tensor = graph.tensors[place]
            if _is_small(values):
                continue
            if _fits(values):
                if tensor.buffer not in stored:
                    stored[tensor.buffer] = len(model.buffers)
                    model.buffers.append(schema.BufferT(values.astype(np.float16).reshape(-1).view(np.uint8)))
                halves = {"type": schema.TensorType.FLOAT16, "buffer": stored[tensor.buffer]}
                found.append(filled_from(model, graph, place, schema.TensorT(**{**vars(tensor), **halves}), version=3))
            elif graph is model.subgraphs[0]:
                kept.add(place)
        graph.operators = [*found, *(graph.operators or [])]
    return kept


def float_constants(model: ModelT, graph: SubGraphT) -> list[tuple[int, np.ndarray]]:
    """The places and values of the float32 constants that operators read."""
    read = {int(place) for operator in graph.operators or [] for place in operator.inputs}
    places = sorted(read.difference(map(int, graph.outputs), (-1,)))
    pairs = [(place, constant(model, graph.tensors[place])) for place in places]
    return [(place, values) for place, values in pairs if values is not None and values.dtype == np.float32]


def filled_from(model: ModelT, graph: SubGraphT, place: int, narrow: TensorT, version: int) -> OperatorT:
    """The operator that fills a tensor which was a constant from a narrow one, which is added and gets its name.

    Args:
        version: Of DEQUANTIZE, which takes more dtypes from one to the next.
    """
    tensor = graph.tensors[place]
    narrow.name = tensor.name
    graph.tensors.append(narrow)
    tensor.buffer, tensor.name = 0, f"{text_of(tensor.name)}_float32".encode()
    ends = {"inputs": np.array([len(graph.tensors) - 1], np.int32), "outputs": np.array([place], np.int32)}
    return OperatorT(
        opcodeIndex=opcode_of(model, schema.BuiltinOperator.DEQUANTIZE, version=version),
        builtinOptionsType=schema.BuiltinOptions.DequantizeOptions, builtinOptions=schema.DequantizeOptionsT(), **ends,
    )


def _is_small(values: np.ndarray) -> bool:
    return values.size < _SMALL and values.size == max(values.shape, default=1)


def _fits(values: np.ndarray) -> bool:
    largest = float(np.abs(values).max())
    return largest == 0 or _LEAST <= largest <= _MOST
