"""Raw operations that move values: reshapes, transposes, slices, concatenations."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from tfgreen.surgery.channel_labels import Axes, Axis
from tfgreen.surgery.rules.common import Rules, axes_named, concatenated, entering_axes, keep_along, stop
from tfgreen.surgery.trace import Call

if TYPE_CHECKING:
    from tfgreen.surgery.channel_analysis import ChannelAnalysis

RULES = Rules()


@RULES.operation("Reshape")
def _reshape(a: ChannelAnalysis, call: Call) -> list[Axes]:
    operation: Any = call.operation
    (x,) = call.inputs
    axes = a.reshape(a.of(x), tuple(x.shape), tuple(call.outputs[0].shape), f"{call} mixes them")
    for place, labels in enumerate(axes):
        if labels is not None and operation.newshape[place] != -1:
            if call.in_graph:
                a.setting(call.path, labels, _sets_shape(place))
            else:
                a.fix(labels, f"{call} names their number")
    return [axes]


def _sets_shape(place: int) -> Callable[[Any, np.ndarray], Any]:
    def change(operation: Any, keep: np.ndarray) -> Any:
        shape = list(operation.newshape)
        shape[place] = int(keep.sum())
        return type(operation)(tuple(shape), name=operation.name)  # Keras saves what it was made with

    return change


@RULES.operation("Transpose")
def _transpose(a: ChannelAnalysis, call: Call) -> list[Axes]:
    operation: Any = call.operation
    x = entering_axes(a, call)
    order = operation.axes if operation.axes is not None else range(len(x))[::-1]
    return [tuple(x[axis] for axis in order)]


@RULES.operation("Swapaxes")
def _swapaxes(a: ChannelAnalysis, call: Call) -> list[Axes]:
    operation: Any = call.operation
    x = list(entering_axes(a, call))
    one, other = operation.axis1, operation.axis2
    x[one], x[other] = x[other], x[one]
    return [tuple(x)]


@RULES.operation("Moveaxis")
def _moveaxis(a: ChannelAnalysis, call: Call) -> list[Axes]:
    operation: Any = call.operation
    x = entering_axes(a, call)
    places = list(range(len(x)))
    sources = [axis % len(x) for axis in np.atleast_1d(operation.source).tolist()]
    targets = [axis % len(x) for axis in np.atleast_1d(operation.destination).tolist()]
    order = [place for place in places if place not in sources]
    for target, source in sorted(zip(targets, sources)):
        order.insert(target, source)
    return [tuple(x[place] for place in order)]


@RULES.operation("ExpandDims")
def _expand_dims(a: ChannelAnalysis, call: Call) -> list[Axes]:
    operation: Any = call.operation
    x = list(entering_axes(a, call))
    rank = len(call.outputs[0].shape)
    for axis in sorted(axes_named(operation.axis, rank)):
        x.insert(axis, None)
    return [tuple(x)]


@RULES.operation("Squeeze")
def _squeeze(a: ChannelAnalysis, call: Call) -> list[Axes]:
    operation: Any = call.operation
    x, shape = entering_axes(a, call), call.inputs[0].shape
    if operation.axis is None:
        gone = {i for i, size in enumerate(shape) if size == 1}
    else:
        gone = axes_named(operation.axis, len(x))
    a.fix([x[i] for i in gone], f"{call} drops them")
    return [tuple(labels for i, labels in enumerate(x) if i not in gone)]


@RULES.operation("Concatenate")
def _concatenate(a: ChannelAnalysis, call: Call) -> list[Axes]:
    operation: Any = call.operation
    if len(call.inputs) != len(keras.tree.flatten((call.args, call.kwargs))):  # a constant among them
        return stop(a, call)
    return [concatenated(a, call, operation.axis)]


@RULES.operation("Stack")
def _stack(a: ChannelAnalysis, call: Call) -> list[Axes]:
    operation: Any = call.operation
    axes = list(a.merge([(a.of(tensor), tuple(tensor.shape)) for tensor in call.inputs], call))
    axes.insert(operation.axis % len(call.outputs[0].shape), None)
    return [tuple(axes)]


@RULES.operation("Split")
def _split(a: ChannelAnalysis, call: Call) -> list[Axes]:
    operation: Any = call.operation
    x = entering_axes(a, call)
    axis = operation.axis % len(x)
    labels, count = x[axis], len(call.outputs)
    if labels is None:
        return [x] * count
    if not isinstance(operation.indices_or_sections, int):
        a.fix(labels, f"{call} names their places")
    else:  # parts of one size stay parts of one size
        labels = np.tile(a.labels.unite_along(labels.reshape(count, -1), 1), count)
    ends = np.cumsum([tensor.shape[axis] for tensor in call.outputs])[:-1]
    return [(*x[:axis], part, *x[axis + 1 :]) for part in np.split(labels, ends)]


@RULES.operation("Unstack")
def _unstack(a: ChannelAnalysis, call: Call) -> list[Axes]:
    operation: Any = call.operation
    x = entering_axes(a, call)
    axis = operation.axis % len(x)
    a.fix(x[axis], f"{call} takes them apart")
    return [(*x[:axis], *x[axis + 1 :])] * len(call.outputs)


@RULES.operation("Flip")
def _flip(a: ChannelAnalysis, call: Call) -> list[Axes]:
    x = entering_axes(a, call)
    over = axes_named(getattr(call.operation, "axis", None), len(x))
    return [tuple(labels[::-1] if i in over and labels is not None else labels for i, labels in enumerate(x))]


@RULES.operation("Pad")
def _pad(a: ChannelAnalysis, call: Call) -> list[Axes]:
    x, old, new = entering_axes(a, call), call.inputs[0].shape, call.outputs[0].shape
    grown = {i for i in range(len(x)) if old[i] != new[i]}
    return [keep_along(a, x, grown, f"{call} adds to them")]


@RULES.operation("Repeat")
def _repeat(a: ChannelAnalysis, call: Call) -> list[Axes]:
    operation: Any = call.operation
    x = entering_axes(a, call)
    if operation.axis is None or not isinstance(operation.repeats, int):
        return stop(a, call)
    axis = operation.axis % len(x)
    labels = x[axis]
    return [(*x[:axis], None if labels is None else np.repeat(labels, operation.repeats), *x[axis + 1 :])]


@RULES.operation("Take")
def _take(a: ChannelAnalysis, call: Call) -> list[Axes]:
    operation: Any = call.operation
    x, places = ((*call.args, *call.kwargs.values()))[:2]
    if operation.axis is None or not hasattr(x, "shape"):
        return stop(a, call)
    axes = a.read(x)
    axis = operation.axis % len(axes)
    a.fix(axes[axis], f"{call} names their places")
    indices = a.read(places) if hasattr(places, "shape") else (None,) * np.ndim(places)
    return [(*axes[:axis], *indices, *axes[axis + 1 :])]


@RULES.operation("GetItem")
def _get_item(a: ChannelAnalysis, call: Call) -> list[Axes]:
    """Slices of channels are moved to what is left of them, where the operation stands in a graph."""
    x = entering_axes(a, call)
    parts = _parts(call.args[1] if len(call.args) > 1 else call.kwargs["key"], len(x))
    if any(not (part is None or isinstance(part, (int, np.integer, slice))) for part in parts):
        return stop(a, call)
    result: list[Axis] = []
    axis = 0
    for place, part in enumerate(parts):
        if part is None:
            result.append(None)
            continue
        labels = x[axis]
        axis += 1
        if not isinstance(part, slice):
            a.fix(labels, f"{call} takes one of them")
            continue
        if labels is not None and part != slice(None):
            if call.in_graph and part.step in (None, 1):
                a.setting(call.path, labels, _moves_slice(place, len(x)))
            else:
                a.fix(labels, f"{call} names their places")
            labels = labels[part]
        result.append(labels)
    return [tuple(result)]


def _parts(key: Any, rank: int) -> list[Any]:
    """A key with one part for each axis, and None for each new one."""
    parts = list(key) if isinstance(key, tuple) else [key]
    rest = [slice(None)] * (rank - sum(part is not None and part is not Ellipsis for part in parts))
    place = next((i for i, part in enumerate(parts) if part is Ellipsis), None)
    return [*parts, *rest] if place is None else [*parts[:place], *rest, *parts[place + 1 :]]


def _moves_slice(place: int, rank: int) -> Callable[[Any, np.ndarray], Callable[..., Any]]:
    def change(operation: Any, keep: np.ndarray) -> Callable[..., Any]:
        def call(x: Any, key: Any) -> Any:
            parts = _parts(key, rank)
            start, stop, _ = parts[place].indices(len(keep))
            parts[place] = slice(int(keep[:start].sum()), int(keep[:stop].sum()))
            return operation(x, tuple(parts))

        return call

    return change
