"""Store weights of 15 values in 4 bits: what TensorFlow's converter, which writes them as int8, leaves undone."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfgreen.deploy.flatbuffer import constant, operator_name, pack_nibbles, parse, text_of, write
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
        ConversionError: No weight is of 15 values.
    """
    model = parse(content, "converted model")
    packed = 0
    for graph in model.subgraphs:
        for operator in graph.operators:
            if operator_name(model, operator) in _OPERATORS:
                packed += _pack_weight(model, graph, operator, content)
    if not packed:
        raise ConversionError(
            "quantization='int4': no weight of the model takes 15 values only. Quantize it for training first, with "
            "tg.QuantizeConfig(weight_bits=4)."
        )
    return write(model, len(content))


def _pack_weight(model: Any, graph: Any, operator: Any, content: bytes) -> bool:
    from ai_edge_litert import schema_py_generated as schema

    source, weight = (graph.tensors[i] for i in operator.inputs[:2])
    values = constant(model, weight, content)
    if values is None or values.dtype != np.int8 or not np.isin(values, _CODES).all():
        return False
    if sum(weight.buffer == tensor.buffer for tensor in graph.tensors) > 1:
        return False  # another tensor reads the same bytes as int8
    levels = np.round(values * (7 / 127)).astype(np.int8)
    old = np.asarray(weight.quantization.scale, np.float64)
    new = old * (127 / 7)
    weight.type = schema.TensorType.INT4
    weight.quantization.scale = new.astype(np.float32)
    model.buffers[weight.buffer].data = pack_nibbles(levels.ravel())
    if len(operator.inputs) > 2 and operator.inputs[2] >= 0:
        _rescale_bias(model, graph.tensors[operator.inputs[2]], old, new, source, content)
    return True


def _rescale_bias(model: Any, bias: Any, old: np.ndarray, new: np.ndarray, source: Any, content: bytes) -> None:
    """LiteRT wants a bias in steps of the input's scale times the weight's."""
    values = constant(model, bias, content)
    if values is None:
        raise ConversionError(f"quantization='int4': the bias {text_of(bias.name)!r} is no constant.")
    step = float(source.quantization.scale[0])
    model.buffers[bias.buffer].data = np.round(values * (old / new)).astype(values.dtype).view(np.uint8)
    bias.quantization.scale = (new * step).astype(np.float32)
