"""Operators of a converted file that others replace.

- A cast to float64 and back, which kept ranges out of a float layer while it was converted, is dropped.
- XNNPACK's inverse square root of 0 is NaN, so that the bound which Keras puts on it comes too late:
  ``minimum(rsqrt(x), c)`` of a normalization to length 1 becomes ``rsqrt(maximum(x, 1 / c**2))``.
"""

from __future__ import annotations

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.schema_py_generated import ModelT, SubGraphT

from tfgreen.deploy.tflite.flatbuffer import constant, dtype_name, operator_name


def drop_casts(model: ModelT) -> int:
    """Let what reads a float32 tensor by way of float64 read it directly; return the number of casts dropped.

    A float32 number is the same one after both casts. Microcontrollers have no float64.
    """
    return sum(_drop(model, graph) for graph in model.subgraphs)


def _drop(model: ModelT, graph: SubGraphT) -> int:
    casts = {int(op.outputs[0]): op for op in graph.operators or [] if operator_name(model, op) == "CAST"}
    outputs = set(map(int, graph.outputs))
    stands_for = {}
    for index, cast in casts.items():
        first = casts.get(int(cast.inputs[0]))
        if first is not None and index not in outputs and dtype_name(graph.tensors[first.outputs[0]]) == "float64":
            source = int(first.inputs[0])
            if dtype_name(graph.tensors[source]) == dtype_name(graph.tensors[index]) == "float32":
                stands_for[index] = source
    if not stands_for:
        return 0
    for operator in graph.operators:
        operator.inputs = np.array([stands_for.get(int(i), int(i)) for i in operator.inputs], np.int32)
    before = len(graph.operators)
    for _ in range(2):  # the second casts, and then the first ones that only they have read
        read = outputs.union(int(i) for operator in graph.operators for i in operator.inputs)
        graph.operators = [
            op for op in graph.operators if operator_name(model, op) != "CAST" or int(op.outputs[0]) in read
        ]
    return before - len(graph.operators)


def bound_before_rsqrt(model: ModelT) -> int:
    """Bound from below what float32 inverse square roots take, where their results are bounded from above; return the
    number of those changed."""
    return sum(_bound(model, graph) for graph in model.subgraphs)


def _bound(model: ModelT, graph: SubGraphT) -> int:
    operators = graph.operators or []
    roots = {int(op.outputs[0]): op for op in operators if operator_name(model, op) == "RSQRT"}
    read = [int(i) for operator in operators for i in operator.inputs] + [int(i) for i in graph.outputs]
    changed = 0
    for minimum in operators:
        if operator_name(model, minimum) != "MINIMUM":
            continue
        root, bound = sorted(map(int, minimum.inputs), key=lambda index: index not in roots)
        if root not in roots or read.count(root) > 1 or dtype_name(graph.tensors[root]) != "float32":
            continue
        most = constant(model, graph.tensors[bound])
        if most is None or (most <= 0).any():
            continue
        least = np.maximum(1.0 / most.astype(np.float64) ** 2, np.finfo(np.float32).tiny).astype(np.float32)
        graph.tensors.append(schema.TensorT(most.shape, buffer=len(model.buffers), name=b"least", hasRank=True))
        model.buffers.append(schema.BufferT(least.reshape(-1).view(np.uint8)))
        maximum, square_root = roots[root], minimum
        square_root.opcodeIndex, maximum.opcodeIndex = maximum.opcodeIndex, _opcode_of_maximum(model)
        for field in ("builtinOptionsType", "builtinOptions"):
            ours, theirs = getattr(maximum, field), getattr(square_root, field)
            setattr(maximum, field, theirs)
            setattr(square_root, field, ours)
        maximum.inputs = np.array([maximum.inputs[0], len(graph.tensors) - 1], np.int32)
        square_root.inputs = np.array([root], np.int32)
        changed += 1
    return changed


def _opcode_of_maximum(model: ModelT) -> int:
    code = schema.BuiltinOperator.MAXIMUM
    for index, known in enumerate(model.operatorCodes):
        if known.builtinCode == code:
            return index
    model.operatorCodes.append(schema.OperatorCodeT(code, version=1, builtinCode=code))
    return len(model.operatorCodes) - 1
