"""Store weights that tg.quantize_weights has rounded as the integers that they are.

The converter writes them as floats. In their place come integers with an operator that makes the very floats of them,
or, where integers are to be computed with, the integers alone: LiteRT's fully connected operator takes 8 and 4 bits
with a scale for each output, and 4 bits with one for every multiple of 32 inputs. Other groups are dequantized as rows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.schema_py_generated import ModelT, OperatorT, SubGraphT, TensorT

from tfgreen.deploy.tflite.flatbuffer import constant, opcode_of, operator_name, pack_nibbles, shape_of, text_of

_BLOCK = 32  # LiteRT's groups of inputs are multiples of it
_CODES, _OPTIONS, _FLOAT = schema.BuiltinOperator, schema.BuiltinOptions, schema.TensorType.FLOAT32


@dataclasses.dataclass(frozen=True, eq=False)
class StoredIntegers:
    """A weight as its file is to hold it, a row for each output.

    Attributes:
        layer: The path of the layer.
        values: int8 of shape (outputs, inputs).
        scales: float32 of shape (outputs, groups of inputs).
        bits: How many a value takes.
        factors: What each input's weights are divided by, float32 of shape (inputs,); None for nothing.
        real: float32, the weight itself as a matrix of the same shape as ``values``.
    """

    layer: str
    values: np.ndarray
    scales: np.ndarray
    bits: int
    factors: np.ndarray | None
    real: np.ndarray

    @property
    def groups(self) -> int:
        """Groups of inputs of each output."""
        return self.scales.shape[1]

    def is_computed_with(self) -> bool:
        """Whether LiteRT's fully connected operator takes the integers as they are."""
        if self.groups == 1:
            return True
        inputs = self.values.shape[1]
        return self.bits == 4 and inputs // self.groups % _BLOCK == 0 and _is_half(self.scales)


def _is_half(scales: np.ndarray) -> bool:
    with np.errstate(over="ignore"):
        return bool(np.array_equal(scales, scales.astype(np.float16).astype(np.float32)))


def store_integers(model: ModelT, weights: Sequence[StoredIntegers], compute: bool) -> list[str]:
    """Store weights as integers wherever a file holds them, or a multiple of each output's; return the paths of layers
    of which it holds a weight as floats only.

    Args:
        compute: Whether operators that take the integers shall compute with them, and round what they multiply.
    """
    done = set[int]()
    for graph in model.subgraphs:
        for place, tensor in enumerate(list(graph.tensors)):
            values = constant(model, tensor)
            if values is None or values.dtype != np.float32 or values.ndim < 2:
                continue
            for number, weight in enumerate(weights):
                multiple = _multiple(values, weight.real)
                if multiple is not None:
                    found = dataclasses.replace(weight, scales=(weight.scales * multiple).astype(np.float32))
                    _store(model, graph, place, found, compute)
                    done.add(number)
                    break
    return list(dict.fromkeys(weight.layer for number, weight in enumerate(weights) if number not in done))


def _multiple(values: np.ndarray, real: np.ndarray) -> np.ndarray | None:
    """What each row of a weight is multiplied by in a constant, of shape (outputs, 1); None if that is not the weight.

    The converter merges products with constants, such as that of a normalization, into weights.
    """
    if values.size != real.size or values.shape[0] * (real.size // len(real)) != values.size:
        return None
    rows, largest = values.reshape(real.shape), np.abs(real).argmax(axis=1)[:, None]
    at, of = np.take_along_axis(rows, largest, 1), np.take_along_axis(real, largest, 1)
    multiple = np.where(of != 0, at / np.where(of != 0, of, 1), 1).astype(np.float32)
    if not np.allclose(rows[:1], real[:1] * multiple[:1], rtol=1e-5, atol=0):
        return None
    return multiple if np.allclose(rows, real * multiple, rtol=1e-5, atol=0) else None


def _store(model: ModelT, graph: SubGraphT, place: int, weight: StoredIntegers, compute: bool) -> None:
    readers = [operator for operator in graph.operators if place in operator.inputs]
    products = [op for op in readers if operator_name(model, op) == "FULLY_CONNECTED" and int(op.inputs[1]) == place]
    tensor, index = graph.tensors[place], next(i for i, op in enumerate(graph.operators) if op in readers)
    if compute and len(products) == len(readers) and weight.is_computed_with():
        _hold(model, graph, tensor, weight, shape_of(tensor), in_blocks=weight.groups > 1)
        for operator in products:
            _divide_inputs(model, graph, operator, weight)
            operator.opcodeIndex = opcode_of(model, _CODES.FULLY_CONNECTED, version=12)
            operator.builtinOptions.asymmetricQuantizeInputs = True
        return
    name, shape, added = text_of(tensor.name), shape_of(tensor), list[OperatorT]()
    held = schema.TensorT(**vars(tensor))
    tensor.buffer, tensor.name = 0, f"{name}_float32".encode()
    steps = ["integers"]
    if weight.groups > 1:
        steps += ["groups", "rows"]
    if weight.factors is not None:
        steps += ["factors"]
    rows = (weight.scales.size, weight.values.shape[1] // weight.groups)
    _hold(model, graph, held, weight, shape if weight.groups == 1 else rows, in_blocks=False)
    source = _add_tensor(graph, held)
    for number, step in enumerate(steps):
        size = rows if weight.groups > 1 and step in ("integers", "groups") else shape
        made = place if number == len(steps) - 1 else _add_tensor(graph, _tensor(f"{name}_{step}", size, _FLOAT))
        if step == "integers":
            added.append(_dequantize(model, source, made))
        elif step == "rows":
            sizes = _new_constant(model, graph, f"{name}_shape", np.array(shape, np.int32), schema.TensorType.INT32)
            options = schema.ReshapeOptionsT(newShape=list(shape))
            added.append(_operator(model, _CODES.RESHAPE, [source, sizes], made, _OPTIONS.ReshapeOptions, options))
        else:
            scales = weight.scales.reshape(-1, 1) if step == "groups" else _shares(weight).reshape(1, *shape[1:])
            factors = _new_constant(model, graph, f"{name}_{step}_of", scales, _FLOAT)
            added.append(_product(model, source, factors, made))
        source = made
    graph.operators = [*graph.operators[:index], *added, *graph.operators[index:]]


def _shares(weight: StoredIntegers) -> np.ndarray:
    """What is left of an input that is divided by the factors of a weight."""
    return np.asarray(1 / (np.ones(1, np.float32) if weight.factors is None else weight.factors), np.float32)


def _hold(
    model: ModelT, graph: SubGraphT, tensor: TensorT, weight: StoredIntegers, shape: tuple[int, ...], in_blocks: bool
) -> None:
    """Make a tensor one of the integers of a weight."""
    data = weight.values.reshape(-1)
    tensor.type = schema.TensorType.INT4 if weight.bits == 4 else schema.TensorType.INT8
    tensor.shape, tensor.buffer = np.array(shape, np.int32), len(model.buffers)
    model.buffers.append(schema.BufferT(pack_nibbles(data) if weight.bits == 4 else data.view(np.uint8)))
    tensor.quantization = schema.QuantizationParametersT(quantizedDimension=0)
    if in_blocks:
        halves = weight.scales.astype(np.float16)
        scales = _new_constant(model, graph, f"{text_of(tensor.name)}_scales", halves, schema.TensorType.FLOAT16)
        tensor.quantization.detailsType = schema.QuantizationDetails.BlockwiseQuantization
        size = weight.values.shape[1] // weight.groups
        tensor.quantization.details = schema.BlockwiseQuantizationT(scales=scales, zeroPoints=-1, blockSize=size)
    else:
        # Scales of groups are multiplied by behind: beside each in here stands a zero point of 8 bytes.
        tensor.quantization.scale = weight.scales.ravel() if weight.groups == 1 else np.ones(1, np.float32)
        tensor.quantization.zeroPoint = np.zeros(len(tensor.quantization.scale), np.int64)


def _divide_inputs(model: ModelT, graph: SubGraphT, operator: OperatorT, weight: StoredIntegers) -> None:
    """Let an operator take its inputs divided by the factors of a weight, if it has any."""
    if weight.factors is None:
        return
    source = graph.tensors[int(operator.inputs[0])]
    name = f"{text_of(source.name)}_by_factors"
    factors = _new_constant(model, graph, f"{name}_of", _shares(weight), _FLOAT)
    made = _add_tensor(graph, schema.TensorT(**{**vars(source), "buffer": 0, "name": name.encode()}))
    product = _product(model, int(operator.inputs[0]), factors, made)
    operator.inputs = np.array([made, *operator.inputs[1:]], np.int32)
    index = next(i for i, other in enumerate(graph.operators) if other is operator)
    graph.operators = [*graph.operators[:index], product, *graph.operators[index:]]


def _product(model: ModelT, one: int, other: int, made: int) -> OperatorT:
    return _operator(model, _CODES.MUL, [one, other], made, _OPTIONS.MulOptions, schema.MulOptionsT())


def _dequantize(model: ModelT, source: int, made: int) -> OperatorT:
    options = schema.DequantizeOptionsT()
    operator = _operator(model, _CODES.DEQUANTIZE, [source], made, _OPTIONS.DequantizeOptions, options)
    operator.opcodeIndex = opcode_of(model, _CODES.DEQUANTIZE, version=6)
    return operator


def _operator(
    model: ModelT, code: int, inputs: list[int], output: int, kind: int, options: object
) -> OperatorT:
    ends = {"inputs": np.array(inputs, np.int32), "outputs": np.array([output], np.int32)}
    return OperatorT(opcodeIndex=opcode_of(model, code), builtinOptionsType=kind, builtinOptions=options, **ends)


def _add_tensor(graph: SubGraphT, tensor: TensorT) -> int:
    graph.tensors.append(tensor)
    return len(graph.tensors) - 1


def _new_constant(model: ModelT, graph: SubGraphT, name: str, values: np.ndarray, dtype: int) -> int:
    tensor = _tensor(name, values.shape, dtype)
    tensor.buffer = len(model.buffers)
    model.buffers.append(schema.BufferT(np.ascontiguousarray(values).reshape(-1).view(np.uint8)))
    return _add_tensor(graph, tensor)


def _tensor(name: str, shape: tuple[int, ...], dtype: int) -> TensorT:
    shape_array = np.array(shape, np.int32)
    return schema.TensorT(name=name.encode(), shape=shape_array, type=dtype, buffer=0, hasRank=True)
