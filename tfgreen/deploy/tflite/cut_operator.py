"""Cut single operators out of a .tflite file, each into a file of its own."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.schema_py_generated import ModelT, OperatorT

from tfgreen.deploy.tflite.flatbuffer import buffer_bytes, dtype_name, operator_name
from tfgreen.deploy.tflite.writing import write


def reason_not_to_cut(model: ModelT, operator: OperatorT) -> str:
    """Why an operator of the main subgraph cannot run alone, or an empty string."""
    options = [o for o in (operator.builtinOptions, operator.builtinOptions2) if o is not None]
    if any("subgraph" in key.lower() for option in options for key in vars(option)):
        return "it runs another subgraph"
    tensors = [model.subgraphs[0].tensors[i] for i in (*operator.inputs, *operator.outputs) if i >= 0]
    if any(dtype_name(tensor) in ("resource", "variant") for tensor in tensors):
        return "it holds a variable or another resource"
    if any(operator is other for other in unpacking_operators(model)):
        return "it unpacks constant weights, which LiteRT does once"
    return ""


def cut_operator(model: ModelT, index: int, shapes: Mapping[int, Sequence[int]]) -> tuple[bytes, list[int]]:
    """Cut one operator of the main subgraph out into a file of its own.

    Weights that other operators unpack (float16, sparse) are unpacked in the cut file too, because kernels treat
    weights otherwise than activations. ``shapes`` are those of tensors, by index, whose size the file leaves open.
    Returns the bytes and the indices in ``model`` of its inputs: those neither constant nor variable.
    """
    graph = model.subgraphs[0]
    chosen = [*_unpackers(model, graph.operators[index]), graph.operators[index]]
    used = sorted({int(i) for op in chosen for i in (*op.inputs, *op.outputs, *_intermediates(op)) if i >= 0})
    place = {old: new for new, old in enumerate(used)} | {-1: -1}
    produced = {int(i) for op in chosen for i in op.outputs}
    buffers, tensors, sources = [schema.BufferT()], [], []
    for old in used:
        tensor = copy.copy(graph.tensors[old])
        data = buffer_bytes(model, tensor)
        if old in shapes:
            tensor.shape = np.array(shapes[old], np.int32)
        tensor.shapeSignature = None
        tensor.buffer = len(buffers) if len(data) else 0
        buffers += [schema.BufferT(data)] if len(data) else []
        sources += [old] if not (len(data) or old in produced or tensor.isVariable) else []
        tensors.append(tensor)
    operators = [copy.copy(op) for op in chosen]
    for number, op in enumerate(operators):
        op.opcodeIndex = number
        op.inputs, op.outputs = _moved(op.inputs, place), _moved(op.outputs, place)
        op.intermediates = _moved(_intermediates(op), place)
    cut = schema.SubGraphT(tensors, _moved(sources, place), operators[-1].outputs, operators, b"main")
    codes = [model.operatorCodes[op.opcodeIndex] for op in chosen]
    return write(schema.ModelT(3, codes, [cut], b"one operator", buffers)), sources


def _moved(indices: Iterable[int], place: Mapping[int, int]) -> np.ndarray:
    return np.array([place[int(i)] for i in indices], np.int32)


def _intermediates(operator: OperatorT) -> Sequence[int]:
    return operator.intermediates if operator.intermediates is not None else ()


def _unpackers(model: ModelT, operator: OperatorT) -> list[OperatorT]:
    """The operators that unpack constant weights for this one, in the order in which they run."""
    wanted = {int(i) for i in operator.inputs}
    found = [op for op in unpacking_operators(model) if not wanted.isdisjoint(map(int, op.outputs))]
    return [before for op in found for before in (*_unpackers(model, op), op)]


def unpacking_operators(model: ModelT) -> list[OperatorT]:
    """The operators that turn a constant, or what another of them has unpacked, into weights."""
    graph, found, unpacked = model.subgraphs[0], list[OperatorT](), set[int]()
    for operator in graph.operators:
        if operator_name(model, operator) in ("DEQUANTIZE", "DENSIFY"):
            source = int(operator.inputs[0])
            if source in unpacked or len(buffer_bytes(model, graph.tensors[source])):
                found.append(operator)
                unpacked.update(map(int, operator.outputs))
    return found
