"""The tensor arena: how much memory LiteRT for Microcontrollers needs for the tensors of a file."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from ai_edge_litert.schema_py_generated import ModelT, SubGraphT, TensorT

from tfgreen.deploy.tflite.audit import Audit
from tfgreen.deploy.tflite.flatbuffer import (
    buffer_bytes,
    dense_bytes,
    dtype_name,
    is_dynamic,
    opens_batch_only,
    text_of,
)
from tfgreen.errors import invalid_state
from tfgreen.tables import SentenceResult
from tfgreen.typing import PlainDict

_ALIGNMENT = 16


@dataclasses.dataclass(frozen=True, repr=False)
class ArenaEstimate(SentenceResult):
    """Memory for the tensors of a model on a microcontroller, ``lite.arena_bytes``; prints as a sentence.

    Attributes:
        planned_bytes: Size of the tensors as a greedy planner lays them out.
        lower_bound_bytes: The most that is alive at once; no layout needs less.
        peak: The operator at which that is, with its Keras layers or else its output tensor.
    """

    planned_bytes: int
    lower_bound_bytes: int
    peak: str

    def to_dict(self) -> PlainDict:
        """Return the fields as plain values, and ``"source": "estimated: tensors only"``."""
        return {**super().to_dict(), "source": "estimated: tensors only"}

    def __str__(self) -> str:
        return (
            f"{self.planned_bytes:,} bytes for tensors (estimated; at least {self.lower_bound_bytes:,}, "
            f"at {self.peak}); scratch buffers and the interpreter come on top"
        )


def estimate_arena(model: ModelT, audit: Audit) -> ArenaEstimate:
    """Estimate the arena of a parsed file; raises as ``LiteRTModel.arena_bytes``.

    A tensor that is not constant takes memory from its first use to its last, but inputs from the start, outputs to the
    end and variables always. An open batch is 1.
    """
    if len(model.subgraphs) > 1:
        raise invalid_state(
            f"The arena of a file with loops or branches is not known: it has {len(model.subgraphs)} graphs.",
            "Give recurrent layers unroll=True and a fixed number of steps.",
        )
    graph = model.subgraphs[0]
    first, last = _lifetimes(graph)
    batch = not opens_batch_only(graph)
    variables = sum(_aligned_size(tensor, batch) for tensor in graph.tensors if tensor.isVariable)
    used = [(i, graph.tensors[i]) for i in sorted(first)]
    planned = [i for i, tensor in used if not tensor.isVariable and not len(buffer_bytes(model, tensor))]
    sizes = [_aligned_size(graph.tensors[i], batch) for i in planned]
    starts, ends = [first[i] for i in planned], [last[i] for i in planned]
    alive = alive_bytes(sizes, starts, ends)
    end = max((offset + size for offset, size in zip(plan(sizes, starts, ends), sizes)), default=0)
    return ArenaEstimate(end + variables, max(alive, default=0) + variables, _peak(audit, alive))


def plan(sizes: Sequence[int], starts: Sequence[int], ends: Sequence[int]) -> list[int]:
    """The offset of each buffer, of so many bytes, that is alive from a start to an end.

    Greedy by size (Pisarchyk and Lee 2020, arXiv:2001.03288): the largest first, each at the first gap between those
    alive with it, as the planner of LiteRT for Microcontrollers does. (The paper takes the smallest gap.)
    """
    offsets: dict[int, int] = {}
    for i in sorted(range(len(sizes)), key=lambda i: (-sizes[i], -i)):  # of equal ones the last, as on the device
        offset = 0
        for j in sorted(offsets, key=lambda j: offsets[j]):
            if starts[j] <= ends[i] and starts[i] <= ends[j]:
                if offsets[j] - offset >= sizes[i]:
                    break
                offset = max(offset, offsets[j] + sizes[j])
        offsets[i] = offset
    return [offsets[i] for i in range(len(sizes))]


def alive_bytes(sizes: Sequence[int], starts: Sequence[int], ends: Sequence[int]) -> list[int]:
    """The bytes alive at each time from 0 on, for buffers as in :func:`plan`."""
    times = range(max(ends, default=-1) + 1)
    return [sum(size for size, a, b in zip(sizes, starts, ends) if a <= time <= b) for time in times]


def _peak(audit: Audit, alive: Sequence[int]) -> str:
    """The operator at the time when most is alive; time 0 is before the first."""
    if not audit.operators:
        return "no operator"
    status = audit.operators[max(int(np.argmax(alive)) - 1, 0)]
    return f"{status.operator} of {', '.join(map(repr, status.layers)) or repr(status.tensor)}"


def _lifetimes(graph: SubGraphT) -> tuple[dict[int, int], dict[int, int]]:
    """The first and the last time at which each tensor is in use."""
    first = {int(i): 0 for i in graph.inputs}
    last = dict(first)
    for time, operator in enumerate(graph.operators, 1):
        used = [int(i) for i in (*operator.outputs, *operator.inputs) if i >= 0]
        first = dict.fromkeys(used, time) | first
        last |= dict.fromkeys(used, time)
    outputs = [int(i) for i in graph.outputs]
    return dict.fromkeys(outputs, 0) | first, last | dict.fromkeys(outputs, len(graph.operators))


def _aligned_size(tensor: TensorT, batch: bool) -> int:
    name, size = text_of(tensor.name), dense_bytes(tensor)
    if is_dynamic(tensor, batch):
        raise invalid_state(
            f"tensor '{name}' has the shape {np.asarray(tensor.shapeSignature).tolist()}: its size is open.",
            "Give every keras.Input a full shape and convert again.",
        )
    if size is None:
        raise invalid_state(f"tensor '{name}' is of dtype {dtype_name(tensor)}, whose size is not known.")
    return -(-size // _ALIGNMENT) * _ALIGNMENT
