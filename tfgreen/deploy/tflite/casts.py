"""Drop what a cast to float64 and back leaves in a file: it kept ranges out of a float layer while it was converted."""

from __future__ import annotations

import numpy as np
from ai_edge_litert.schema_py_generated import ModelT, SubGraphT

from tfgreen.deploy.tflite.flatbuffer import dtype_name, operator_name


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
