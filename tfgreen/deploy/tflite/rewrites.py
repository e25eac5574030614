"""Operators of a converted file that others replace.

- Detours by which ranges were kept apart while the file was converted are dropped.
- XNNPACK's inverse square root of 0 is NaN, so that the bound which Keras puts on it comes too late:
  ``minimum(rsqrt(x), c)`` of a normalization to length 1 becomes ``rsqrt(maximum(x, 1 / c**2))``.
- ONE_HOT of integers gets its two values in the scale of its output.
- Constants are stored in the scale to which an operator would bring them.
- Tensors that nothing reads or makes any more are left out, with their names.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.schema_py_generated import ModelT, OperatorT, SubGraphT

from tfgreen.deploy.tflite.contents import dequantize_array, quantize_array, scales_of
from tfgreen.deploy.tflite.flatbuffer import constant, dtype_name, opcode_of, operator_name, set_constant

_DETOURS = {("CAST", "CAST"): "float64", ("DEQUANTIZE", "QUANTIZE"): "float32"}
_MOVES = ("RESHAPE", "TRANSPOSE")
_BETWEEN_TYPES = {name for pair in _DETOURS for name in pair}


def drop_detours(model: ModelT) -> int:
    """Let what reads a tensor by way of another type read it directly; return the number of operators dropped.

    A float32 number is the same one after a cast to float64 and back; microcontrollers have no float64. Integers that
    become floats and then integers of another range are requantized in one operator, as accelerators want it; those of
    the same range stay what they are. What only moves them in between moves integers.
    """
    dropped = sum(_drop(model, graph) for graph in model.subgraphs)
    for graph in model.subgraphs:
        _move_integers(model, graph)
    return dropped + sum(_drop(model, graph) for graph in model.subgraphs)


def _move_integers(model: ModelT, graph: SubGraphT) -> None:
    made = {int(i): operator for operator in graph.operators or [] for i in operator.outputs}
    read = [int(i) for operator in graph.operators or [] for i in operator.inputs] + [int(i) for i in graph.outputs]
    for second in graph.operators or []:
        moved, index = list[OperatorT](), int(second.inputs[0]) if len(second.inputs) else -1
        if operator_name(model, second) != "QUANTIZE":
            continue
        while index in made and operator_name(model, made[index]) in _MOVES and read.count(index) == 1:
            moved.append(made[index])
            index = int(made[index].inputs[0])
        first = made.get(index)
        if not moved or first is None or operator_name(model, first) != "DEQUANTIZE":
            continue
        source = graph.tensors[int(first.inputs[0])]
        moved[-1].inputs = np.array([first.inputs[0], *moved[-1].inputs[1:]], np.int32)
        for tensor in (graph.tensors[int(operator.outputs[0])] for operator in moved):
            tensor.type, tensor.quantization = source.type, source.quantization


def _drop(model: ModelT, graph: SubGraphT) -> int:
    outputs, before = set(map(int, graph.outputs)), len(graph.operators or [])
    for first, second in _pairs(model, graph):
        here, there = (scales_of(graph.tensors[int(places[0])])[:2] for places in (first.inputs, second.outputs))
        if all(map(np.array_equal, here, there)) and int(second.outputs[0]) not in outputs:
            for operator in graph.operators:
                kept = [int(first.inputs[0]) if i == second.outputs[0] else int(i) for i in operator.inputs]
                operator.inputs = np.array(kept, np.int32)
        elif operator_name(model, second) == "QUANTIZE":
            second.inputs = first.inputs
    for _ in range(3):  # the last ones, and then those that only they have read
        read = outputs.union(int(i) for operator in graph.operators or [] for i in operator.inputs)
        graph.operators = [
            operator
            for operator in graph.operators or []
            if int(operator.outputs[0]) in read or operator_name(model, operator) not in _BETWEEN_TYPES
        ]
    return before - len(graph.operators)


def _pairs(model: ModelT, graph: SubGraphT) -> Iterator[tuple[OperatorT, OperatorT]]:
    """The operators there and back."""
    made = {int(i): operator for operator in graph.operators or [] for i in operator.outputs}
    for second in graph.operators or []:
        first = made.get(int(second.inputs[0])) if len(second.inputs) else None
        if first is None:
            continue
        through = _DETOURS.get((operator_name(model, first), operator_name(model, second)))
        types = [dtype_name(graph.tensors[int(i)]) for i in (first.inputs[0], first.outputs[0], second.outputs[0])]
        if through == types[1] and types[0] == types[2]:
            yield first, second


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
        square_root.opcodeIndex = maximum.opcodeIndex
        maximum.opcodeIndex = opcode_of(model, schema.BuiltinOperator.MAXIMUM)
        for field in ("builtinOptionsType", "builtinOptions"):
            ours, theirs = getattr(maximum, field), getattr(square_root, field)
            setattr(maximum, field, theirs)
            setattr(square_root, field, ours)
        maximum.inputs = np.array([maximum.inputs[0], len(graph.tensors) - 1], np.int32)
        square_root.inputs = np.array([root], np.int32)
        changed += 1
    return changed


def mend_one_hot(model: ModelT) -> int:
    """Store the two values of ONE_HOT in the scale of its output, where they are integers: the converter gives each a
    scale of its own, which the operator does not look at; return the number of values changed."""
    changed = 0
    for graph in model.subgraphs:
        for operator in graph.operators or []:
            output = graph.tensors[int(operator.outputs[0])]
            scales, points, _ = scales_of(output)
            if operator_name(model, operator) != "ONE_HOT" or not scales.size:
                continue
            for tensor in (graph.tensors[int(index)] for index in operator.inputs[2:]):
                stored = constant(model, tensor)
                if stored is not None:
                    real = dequantize_array(stored, *scales_of(tensor)[:2])
                    stored = quantize_array(real, scales[0], points[0], dtype_name(output))
                    set_constant(model, graph, tensor, stored)
                    tensor.quantization = output.quantization
                    changed += 1
    return changed


def fold_requantized(model: ModelT) -> int:
    """Store integer constants in the scale to which a QUANTIZE brings them, saturated; return the number folded. The
    operator's multiplication overflows where a bound of 1e7 gets the scale of what it bounds."""
    folded = 0
    for graph in model.subgraphs:
        for operator in list(graph.operators or []):
            if operator_name(model, operator) != "QUANTIZE":
                continue
            source, target = (graph.tensors[int(places[0])] for places in (operator.inputs, operator.outputs))
            stored, (scales, points, _) = constant(model, source), scales_of(source)
            if stored is not None and scales.size == 1 and scales_of(target)[0].size == 1:
                real, (scale, point, _) = (stored.astype(np.float64) - points[0]) * scales[0], scales_of(target)
                target.buffer = len(model.buffers)
                model.buffers.append(schema.BufferT())
                set_constant(model, graph, target, quantize_array(real, scale[0], point[0], dtype_name(target)))
                graph.operators.remove(operator)
                folded += 1
    return folded


def drop_unused_tensors(model: ModelT) -> int:
    """Leave out tensors that no operator, input, output or signature names; return the number of them."""
    dropped = 0
    for number, graph in enumerate(model.subgraphs):
        operators = graph.operators or []
        blocks = [getattr(getattr(t.quantization, "details", None), "scales", -1) for t in graph.tensors]
        entries = [e for s in model.signatureDefs or [] if s.subgraphIndex == number for e in (*s.inputs, *s.outputs)]
        lists = [(holder, side) for holder in (graph, *operators) for side in ("inputs", "outputs")]
        lists += [(op, "intermediates") for op in operators if op.intermediates is not None]
        used = {int(i) for holder, side in lists for i in getattr(holder, side)} | {e.tensorIndex for e in entries}
        used |= {blocks[i] for i in used if i >= 0}
        kept = sorted(used - {-1})
        place = {old: new for new, old in enumerate(kept)} | {-1: -1}
        for holder, side in lists:
            setattr(holder, side, np.array([place[int(i)] for i in getattr(holder, side)], np.int32))
        for entry in entries:
            entry.tensorIndex = place[entry.tensorIndex]
        for old in kept:
            if blocks[old] >= 0:
                graph.tensors[old].quantization.details.scales = place[blocks[old]]
        dropped += len(graph.tensors) - len(kept)
        graph.tensors = [graph.tensors[i] for i in kept]
    return dropped
