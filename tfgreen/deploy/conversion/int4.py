"""Store weights of 15 values in 4 bits; TensorFlow's converter writes them as int8."""

from __future__ import annotations

import numpy as np
from ai_edge_litert.schema_py_generated import ModelT, OperatorT, SubGraphT, TensorT, TensorType

from tfgreen.deploy.tflite.flatbuffer import (
    constant,
    is_shared,
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
