"""Blocks of a graph: the runs of equal calls through which one flow of tensors goes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import keras

from tfgreen.model.internals import graph_calls, graph_of
from tfgreen.model.paths import join_path
from tfgreen.surgery.depth.blocks import Block, Stack


def stacks_of_graph(path: str, graph: keras.Model) -> Iterator[Stack]:
    """The runs of a graph of which most can be left out, none in the calls of another."""
    every = enumerate(graph_calls(graph_of(graph)))
    numbered = [(number, call) for number, call in every if not _makes_mask(call)]
    calls = [call for _, call in numbered]
    names = _numbered(calls, path)
    flow = _Flow(calls, graph_of(graph).outputs)
    signatures = [_signature(call) for call in calls]
    runs: list[tuple[int, int, int, tuple[Block, ...]]] = []
    for period in range(1, len(calls) // 2 + 1):
        for first, count in _runs(signatures, period, flow):
            starts = range(first, first + period * count, period)
            run = tuple(_block(numbered, names, flow, range(start, start + period), first) for start in starts)
            removable = sum(block.picks is not None for block in run)
            runs.append((-period * removable, period, first, run))
    taken: set[int] = set()
    for _, period, first, blocks in sorted(runs, key=lambda item: item[:3]):
        inside = range(first, first + period * len(blocks))
        if taken.isdisjoint(inside):
            taken.update(inside)
            yield Stack(path, graph, blocks)


def _makes_mask(call: Any) -> bool:
    """Whether a call computes what Keras keeps beside a tensor: these stand anywhere in the order, and may stay."""
    return not isinstance(call.operation, keras.Layer) and all(tensor.dtype == "bool" for tensor in call.outputs)


def _numbered(calls: Sequence[Any], path: str) -> list[tuple[str, int]]:
    counts: dict[int, int] = {}
    found = []
    for call in calls:
        number = counts.get(id(call.operation), 0)
        counts[id(call.operation)] = number + 1
        found.append((join_path(path, call.operation.name), number))
    return found


def _signature(call: Any) -> tuple[object, ...]:
    return type(call.operation), *(tuple(tensor.shape) for tensor in call.outputs)


class _Flow:
    """Which tensors of a graph are still read after each of its calls."""

    def __init__(self, calls: Sequence[Any], outputs: Sequence[keras.KerasTensor]) -> None:
        last: dict[int, int] = {id(tensor): len(calls) for tensor in outputs}
        for number, call in reversed(list(enumerate(calls))):
            for tensor in call.input_tensors:
                if tensor.dtype != "bool":
                    last.setdefault(id(tensor), number)
        made = {id(t): (n, i) for n, call in enumerate(calls) for i, t in enumerate(call.outputs)}
        self.last, self.made = last, made

    def born(self, tensor: int) -> int:
        """The call that returns a tensor, -1 for an input."""
        return self.made.get(tensor, (-1, 0))[0]

    def alive(self, number: int) -> frozenset[int]:
        """The tensors, by ``id``, that are there before a call, and read by it or later."""
        return frozenset(t for t, last in self.last.items() if self.born(t) < number <= last)


def _runs(signatures: Sequence[object], period: int, flow: _Flow) -> Iterator[tuple[int, int]]:
    """First call and count of each run of equal blocks of some period through which one flow goes."""
    for start in range(len(signatures) - 2 * period + 1):
        count, block = 1, signatures[start : start + period]
        while signatures[start + count * period : start + (count + 1) * period] == block and _flows(
            flow, start, period, count
        ):
            count += 1
        if count > 1:
            yield start, count


def _flows(flow: _Flow, start: int, period: int, count: int) -> bool:
    """Whether what goes into the next block is what went into the last one, with its outputs for its inputs."""
    ends = flow.alive(start + count * period), flow.alive(start + (count + 1) * period)
    made = [{t for t in end if flow.born(t) >= start + n * period} for end, n in zip(ends, (count - 1, count))]
    # All else was there before the first block: no later block reads it from one in between.
    others = all(flow.born(t) < start for end, own in zip(ends, made) for t in end - own)
    return bool(made[0]) and bool(made[1]) and others


def _block(
    numbered: Sequence[tuple[int, Any]], names: Sequence[tuple[str, int]], flow: _Flow, inside: range, first: int
) -> Block:
    calls = [call for _, call in numbered]
    operations = tuple(calls[number].operation for number in inside)
    layers = tuple(names[n] for n in inside if isinstance(calls[n].operation, keras.Layer))
    picks = _picks(calls, flow, inside, first)
    return Block(layers, operations, picks and {numbered[n][0]: passed for n, passed in picks.items()})


def _picks(calls: Sequence[Any], flow: _Flow, inside: range, first: int) -> dict[int, tuple[int, ...]] | None:
    """How each call of a block passes on what went into the block, if it can."""
    period = len(inside)
    alive = [t for t in flow.alive(inside.stop) if flow.born(t) in inside]
    shapes = {id(t): (tuple(t.shape), t.dtype) for n in inside for t in [*calls[n].input_tensors, *calls[n].outputs]}
    moving = [t for t in flow.alive(inside.start) if t in shapes]
    wanted: dict[int, int] = {}  # output of the block -> what stands for it
    for tensor in alive:
        number, index = flow.made[tensor]
        twin = [t for t in moving if flow.made.get(t) == (number - period, index)] if inside.start > first else []
        if not twin:  # the first block: the only tensor of this shape that it alone reads
            rest = [t for t in moving if flow.last[t] < inside.stop and shapes[t] == shapes[tensor]]
            twin = rest if len(rest) == 1 and len(alive) == 1 else []
        if not twin or shapes[twin[0]] != shapes[tensor]:
            return None
        wanted[tensor] = twin[0]
    stands: dict[int, int] = {tensor: tensor for tensor in wanted.values()}
    picks = {}
    for number in inside:
        call, chosen = calls[number], []
        passed = [stands.get(id(tensor)) for tensor in call.input_tensors]
        for tensor in call.outputs:
            target = wanted.get(id(tensor))
            fitting = [i for i, t in enumerate(passed) if (t == target if target is not None else t is not None)]
            if target is not None and not fitting:
                return None
            chosen.append(fitting[0] if fitting else 0)
            if fitting:
                stands[id(tensor)] = passed[fitting[0]] or 0
        picks[number] = tuple(chosen)
    return picks
