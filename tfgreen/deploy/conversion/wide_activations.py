"""Calibrated float file -> one of 16-bit activations, past the faults of TensorFlow's quantizer (seen in 2.21).

- It wants a range for what is read by an operator that has an int8 kernel and no 16-bit one, such as a comparison, and
  calibration sees none of integers. They get one, to which nothing is rounded.
- It quantizes operators that LiteRT then computes wrongly or not at all: SQUARED_DIFFERENCE has no kernel, PADV2 gets a
  float to fill in, SUM the range of what it sums, and SELECT takes numbers of two scales for those of one. They compute
  in float32: another operator, unknown to the quantizer, stands in their place.
- A float operator that reads an input of the file, or a constant, gets integers where another one reads it in 16 bits.
- Of a tensor that is 0 on all samples it makes a scale that no file may have.
- What leads to a divisor, a logarithm or an inverse square root, and what is multiplied by a reciprocal, does too:
  small numbers round to 0 in 16 bits as well, and reciprocals leave little of the range to others.
- A bound beyond 2**31 scales, such as the 1e12 that keeps a norm from 0, overflows to the other end of the range.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.schema_py_generated import BuiltinOperator, ModelT, OperatorT, SubGraphT, TensorT
from ai_edge_litert.tools import flatbuffer_utils

from tfgreen.deploy.tflite.flatbuffer import constant, dtype_name, operator_name, parse, set_constant
from tfgreen.deploy.tflite.writing import write

_STAND_INS = {
    BuiltinOperator.PADV2: BuiltinOperator.RANGE,
    BuiltinOperator.SELECT: BuiltinOperator.SELECT_V2,
    BuiltinOperator.SQUARED_DIFFERENCE: BuiltinOperator.ATAN2,
    BuiltinOperator.SUM: BuiltinOperator.REDUCE_PROD,
}
_BINARY = ("ADD", "SUB", "MUL", "DIV", "MAXIMUM", "MINIMUM", "POW")
_UNARY = ("ABS", "EXP", "LOG", "LOGISTIC", "NEG", "RSQRT", "SOFTMAX", "SQRT", "SQUARE")
_REDUCING = ("MEAN", "SUM")
_STEEP_STAND_INS = {
    **dict.fromkeys(_BINARY, BuiltinOperator.ATAN2),
    **dict.fromkeys(_UNARY, BuiltinOperator.SIGN),
    **dict.fromkeys(_REDUCING, BuiltinOperator.REDUCE_PROD),
}
_MOVES = ("EXPAND_DIMS", "RESHAPE", "SQUEEZE", "TRANSPOSE")
_NONE = 1e-30  # the end of a range of zeros: the converter writes 1e-38


def with_16_bits(calibrated: bytes) -> bytes:
    """Quantize a float file that holds the ranges of calibration: weights to int8, activations to int16."""
    import tensorflow as tf
    from tensorflow.lite.python.optimize.calibrator import Calibrator

    file, before = (parse(calibrated, "calibrated model") for _ in range(2))
    stand_ins = {
        index: _STAND_INS[code.builtinCode]
        for index, code in enumerate(file.operatorCodes)
        if code.builtinCode in _STAND_INS
    }
    for graph in file.subgraphs:
        steep = steep_operators(file, graph)
        _prepare(file, graph, steep)
        for operator in (one for one in steep if one.opcodeIndex not in stand_ins):
            name = operator_name(file, operator)
            file.operatorCodes.append(copy.copy(file.operatorCodes[operator.opcodeIndex]))
            operator.opcodeIndex = len(file.operatorCodes) - 1
            stand_ins[operator.opcodeIndex] = _STEEP_STAND_INS[name]
    stand_ins = {index: stand_ins[old] for index, old in enumerate(_drop_unused_codes(file)) if old in stand_ins}
    codes = {index: file.operatorCodes[index].builtinCode for index in stand_ins}
    for index, stand_in in stand_ins.items():
        _name(file, index, stand_in)
    written = flatbuffer_utils.convert_object_to_bytearray(file)  # where equal constants are not stored once
    content = Calibrator(bytes(written)).calibrate_and_quantize(
        lambda: iter(()), tf.float32, tf.float32, True, tf.int16, tf.int64, resize_input=False
    )
    file = parse(bytes(content), "converted model")
    for index, code in codes.items():
        _name(file, index, code)
    _read_in_float(file, before)
    return write(file)


def _drop_unused_codes(file: ModelT) -> list[int]:
    """Drop the codes that no operator has, which the calibrator refuses; return where those that stay have been."""
    operators = [operator for graph in file.subgraphs for operator in graph.operators]
    kept = sorted({operator.opcodeIndex for operator in operators})
    file.operatorCodes = [file.operatorCodes[index] for index in kept]
    for operator in operators:
        operator.opcodeIndex = kept.index(operator.opcodeIndex)
    return kept


def _name(file: ModelT, index: int, code: int) -> None:
    file.operatorCodes[index].builtinCode = code
    file.operatorCodes[index].deprecatedBuiltinCode = min(code, 127)


def steep_operators(file: ModelT, graph: SubGraphT) -> list[OperatorT]:
    """The operators of a float graph that divide by, or take a logarithm or inverse root of, numbers which may round to
    0, what makes these of one tensor, and what is multiplied by a reciprocal."""
    made = {int(operator.outputs[0]): operator for operator in graph.operators}
    found: dict[int, OperatorT] = {}
    reciprocals = set[int]()

    def numbers(operator: OperatorT) -> list[int]:
        """The tensors that an operator computes with, constants left out."""
        given = [int(index) for index in operator.inputs if index >= 0]
        return [index for index in given if constant(file, graph.tensors[index]) is None]

    for operator in graph.operators:  # in the order in which they run
        name, read, output = operator_name(file, operator), numbers(operator), int(operator.outputs[0])
        divides = name == "DIV" and int(operator.inputs[1]) in read
        if divides or name in ("LOG", "RSQRT") or (name == "POW" and len(read) == 1):
            found[output] = operator
            index = int(operator.inputs[1 if name == "DIV" else 0])
            while index in made and operator_name(file, made[index]) in _STEEP_STAND_INS:
                before = made[index]
                if len(set(numbers(before))) != 1:
                    break
                found[index] = before
                index = numbers(before)[0]
            if name != "LOG" and len(read) == 1:
                reciprocals.add(output)
        elif not reciprocals.isdisjoint(read) and name in ("MUL", "MAXIMUM", "MINIMUM", *_MOVES):
            if name in _STEEP_STAND_INS:
                found[output] = operator
            if len(set(read)) == 1:
                reciprocals.add(output)
    return list(found.values())


def _prepare(file: ModelT, graph: SubGraphT, steep: Sequence[OperatorT]) -> None:
    """Give integers a range, each constant a buffer of its own, and bounds the range of what they bound, but for those
    of ``steep`` operators, which compute in float32."""
    in_float = {id(operator) for operator in steep}
    for tensor in graph.tensors:
        values, ranges = constant(file, tensor), tensor.quantization
        seen = [] if ranges is None or ranges.min is None else [-ranges.min[0], ranges.max[0]]
        if values is not None:
            set_constant(file, graph, tensor, values)
        elif dtype_name(tensor) != "float32" or (seen and max(seen) < _NONE):
            tensor.quantization = schema.QuantizationParametersT(min=[0.0], max=[1.0])
    for operator in graph.operators:
        bounded = graph.tensors[int(operator.outputs[0])].quantization
        for place, tensor in enumerate(graph.tensors[int(index)] for index in operator.inputs):
            bounds = operator_name(file, operator) in ("MINIMUM", "MAXIMUM") and id(operator) not in in_float
            values = constant(file, tensor) if bounds else None
            if values is not None and dtype_name(tensor) == "float32":
                most = max(-bounded.min[0], bounded.max[0])
                _read(file, graph, operator, place, tensor, np.clip(values, -most, most))


def _read(file: ModelT, graph: SubGraphT, operator: OperatorT, place: int, like: TensorT, values: np.ndarray) -> None:
    """Let an operator read values instead of a constant."""
    graph.tensors.append(copy.copy(like))
    set_constant(file, graph, graph.tensors[-1], values)
    operator.inputs = np.array(operator.inputs, np.int32)
    operator.inputs[place] = len(graph.tensors) - 1


def _read_in_float(file: ModelT, before: ModelT) -> None:
    """Let float operators read inputs and constants as the calibrated file holds them."""
    for graph, old in zip(file.subgraphs, before.subgraphs):
        made = {int(op.outputs[0]): op.inputs[0] for op in graph.operators if operator_name(file, op) == "QUANTIZE"}
        given = {rounded: index for rounded, index in made.items() if index in graph.inputs}
        for operator in graph.operators:
            wide = any(dtype_name(graph.tensors[int(index)]) == "int16" for index in operator.outputs)
            if wide or operator_name(file, operator) == "DEQUANTIZE":
                continue
            operator.inputs = np.array([given.get(int(index), index) for index in operator.inputs], np.int32)
            for place, index in enumerate(operator.inputs):
                tensor = old.tensors[int(index)] if 0 <= index < len(old.tensors) else None
                values = constant(before, tensor) if tensor is not None else None
                if values is not None and dtype_name(tensor) != dtype_name(graph.tensors[int(index)]):
                    _read(file, graph, operator, place, tensor, values)
