"""Store weights of 15 values in 4 bits: what TensorFlow's converter, which writes them as int8, leaves undone."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfgreen.deploy.tflite.flatbuffer import constant, operator_name, pack_nibbles, parse, text_of, write
from tfgreen.errors import ConversionError

# Operators whose LiteRT kernels take int4 weights with int8 activations.
_OPERATORS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
# int8 codes of -7..7 when the largest magnitude of a channel is stored as 127
_CODES = np.round(np.arange(-7, 8) * (127 / 7)).astype(np.int8)


def pack_int4(content: bytes) -> bytes:
    """Rewrite the int8 weights of a file that take 15 evenly spaced values as int4, two to a byte.

    Args:
        content: A converted file of a model that was quantized with ``weight_bits`` of 4 or less.

    Raises:
        ConversionError: No weight is of 15 values and read by an operator with a kernel for them.
    """
    model = parse(content, "converted model")
    packed, unfit = 0, set()
    for graph in model.subgraphs:
        readers: dict[int, list[Any]] = {}  # a layer that is called several times has one weight and several operators
        for operator in graph.operators:
            for index in operator.inputs:
                readers.setdefault(int(index), []).append(operator)
        for index, operators in readers.items():
            if index < 0 or not _takes_15_values(model, graph.tensors[index], content):  # -1: an input left out
                continue
            if all(operator_name(model, op) in _OPERATORS and op.inputs[1] == index for op in operators):
                packed += _pack_weight(model, graph, index, operators, content)
            else:
                unfit |= {operator_name(model, op) for op in operators}
    if not packed:
        reason = f"only {', '.join(sorted(unfit))} take weights of 15 values" if unfit else "none takes 15 values only"
        raise ConversionError(
            f"'int4': no weight can be stored in 4 bits: {reason}. LiteRT has kernels for them in "
            f"{', '.join(_OPERATORS)}, of a model that was quantized with tg.QuantizeConfig(weight_bits=4). Convert "
            "with quantization='int8'."
        )
    return write(model, len(content))


def _pack_weight(model: Any, graph: Any, index: int, operators: list[Any], content: bytes) -> bool:
    from ai_edge_litert import schema_py_generated as schema

    weight = graph.tensors[index]
    values = constant(model, weight, content)
    if values is None or sum(weight.buffer == tensor.buffer for tensor in graph.tensors) > 1:
        return False  # another tensor reads the same bytes as int8
    levels = np.round(values * (7 / 127)).astype(np.int8)
    weight.type = schema.TensorType.INT4
    weight.quantization.scale = (np.asarray(weight.quantization.scale, np.float64) * (127 / 7)).astype(np.float32)
    model.buffers[weight.buffer].data = pack_nibbles(levels.ravel())
    biases = {int(op.inputs[2]): graph.tensors[op.inputs[0]] for op in operators if len(op.inputs) > 2}
    for number, source in biases.items():
        if number >= 0:
            _rescale_bias(model, graph, graph.tensors[number], weight, source, content)
    return True


def _takes_15_values(model: Any, tensor: Any, content: bytes) -> bool:
    values = constant(model, tensor, content)
    return values is not None and values.ndim > 1 and values.dtype == np.int8 and bool(np.isin(values, _CODES).all())


def _rescale_bias(model: Any, graph: Any, bias: Any, weight: Any, source: Any, content: bytes) -> None:
    """LiteRT wants a bias in steps of the input's scale times the weight's."""
    from ai_edge_litert import schema_py_generated as schema

    values = constant(model, bias, content)
    if values is None:
        raise ConversionError(f"quantization='int4': the bias {text_of(bias.name)!r} is no constant.")
    if sum(bias.buffer == tensor.buffer for tensor in graph.tensors) > 1:  # equal bytes, which are now other ones
        bias.buffer = len(model.buffers)
        model.buffers.append(schema.BufferT())
    model.buffers[bias.buffer].data = np.round(values * (7 / 127)).astype(values.dtype).view(np.uint8)
    step = float(source.quantization.scale[0])
    bias.quantization.scale = (np.asarray(weight.quantization.scale, np.float64) * step).astype(np.float32)
