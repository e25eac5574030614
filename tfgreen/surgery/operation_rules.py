"""The rules of raw operations (``x + y``, ``keras.ops.reshape``), by the name of their class, which Keras keeps private.

An operation in Python code of the user's is run again as it is written: what names a number of channels there keeps
them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from tfgreen.quantization.op_classes import operation_name
from tfgreen.surgery.channel_analysis import ChannelAnalysis
from tfgreen.surgery.channel_labels import Axes, Axis
from tfgreen.surgery.layer_rules import concatenated
from tfgreen.surgery.trace import Call

Rule = Callable[[ChannelAnalysis, Call], list[Axes]]
_RULES: dict[str, Rule] = {}


def _rule(names: str) -> Callable[[Rule], Rule]:
    def register(rule: Rule) -> Rule:
        _RULES.update(dict.fromkeys(names.split(), rule))
        return rule

    return register


def rule_of(operation: keras.Operation) -> Rule | None:
    """The rule for a raw operation, or None."""
    return _RULES.get(operation_name(operation))


def _input(a: ChannelAnalysis, call: Call) -> Axes:
    return a.of(call.inputs[0])


@_rule(
    "Abs Absolute Add Angle Arccos Arccosh Arcsin Arcsinh Arctan Arctan2 Arctanh Cast Cbrt Ceil Celu Clip ConvertToTensor "
    "Copy Cos Cosh Divide DivideNoNan Elu Equal Erf Erfinv Exp Exp2 Expm1 Floor FloorDivide Gelu Greater GreaterEqual "
    "HardShrink HardSigmoid HardSilu HardTanh Identity Isfinite Isinf Isnan LeakyRelu Less LessEqual Log Log10 Log1p Log2 "
    "LogSigmoid Logaddexp LogicalAnd LogicalNot LogicalOr LogicalXor Maximum Minimum Mish Mod Multiply NanToNum Negative "
    "NotEqual OnesLike Power Reciprocal Relu Relu6 Round Rsqrt Selu Sigmoid Sign Silu Sin Sinh SoftShrink Softplus "
    "Softsign SparsePlus SparseSigmoid Sqrt Square Squareplus StopGradient Subtract Tan Tanh TanhShrink Threshold "
    "TrueDivide Where ZerosLike"
)
def _elementwise(a: ChannelAnalysis, call: Call) -> list[Axes]:
    operands = []
    for value in keras.tree.flatten((call.args, call.kwargs)):
        if isinstance(value, keras.KerasTensor):
            operands.append((a.of(value), tuple(value.shape)))
        elif hasattr(value, "shape"):  # a constant or a variable: it keeps its size
            operands.append(((None,) * len(value.shape), tuple(value.shape)))
    return [a.merge(operands, call)]


def _axes_of(value: Any, rank: int) -> set[int]:
    """The axes that an operation names; all where it names none."""
    if value is None:
        return set(range(rank))
    return {int(axis) % rank for axis in (value if isinstance(value, (list, tuple)) else [value])}


@_rule("Mean Sum Max Min Amax Amin Prod Std Var Any All Argmax Argmin Logsumexp CountNonzero Median Norm")
def _reduction(a: ChannelAnalysis, call: Call) -> list[Axes]:
    operation: Any = call.operation
    x = _input(a, call)
    over = _axes_of(getattr(operation, "axis", None), len(x))
    a.fix([x[i] for i in over], f"{call} is taken over them")
    if getattr(operation, "keepdims", False):
        return [tuple(None if i in over else labels for i, labels in enumerate(x))]
    return [tuple(labels for i, labels in enumerate(x) if i not in over)]


@_rule("Softmax LogSoftmax Sparsemax Normalize Cumsum Cumprod Sort Argsort Roll LayerNorm LayerNormalization RMSNorm")
def _along_axis(a: ChannelAnalysis, call: Call) -> list[Axes]:
    x = _input(a, call)
    over = _axes_of(getattr(call.operation, "axis", None), len(x))
    a.fix([x[i] for i in over], f"{call} is computed along them")
    for value in keras.tree.flatten((call.args[1:], call.kwargs)):
        if hasattr(value, "shape") and len(value.shape):
            a.fix(x, f"{call} has a number for each")
    return [tuple(None if i in over else labels for i, labels in enumerate(x))] * len(call.outputs)


@_rule("Matmul")
def _matmul(a: ChannelAnalysis, call: Call) -> list[Axes]:
    if len(call.inputs) != 2 or any(len(tensor.shape) < 2 for tensor in call.inputs):
        return _stop(a, call)
    one, other = map(a.of, call.inputs)
    a.labels.unite(one[-1], other[-2], f"{call} sums over them")
    shapes = [tuple(tensor.shape[:-2]) for tensor in call.inputs]
    batch = a.merge([(one[:-2], shapes[0]), (other[:-2], shapes[1])], call)
    return [(*batch, one[-2], other[-1])]


@_rule("Einsum")
def _einsum(a: ChannelAnalysis, call: Call) -> list[Axes]:
    operation: Any = call.operation
    operands, arrow, result = operation.subscripts.replace(" ", "").partition("->")
    names = operands.split(",")
    if not arrow or "." in operands or len(call.inputs) != len(names):
        return _stop(a, call)
    found: dict[str, Axis] = {}
    for letters, tensor in zip(names, call.inputs):
        for letter, labels in zip(letters, a.of(tensor), strict=True):
            if letter in found:
                if labels is not None or found[letter] is not None:
                    a.labels.unite(found[letter], labels, f"{call} sums over them")
            else:
                found[letter] = labels
    return [tuple(found[letter] for letter in result)]


@_rule("DotProductAttention")
def _attention(a: ChannelAnalysis, call: Call) -> list[Axes]:
    operation: Any = call.operation
    query, key, value, *others = (a.of(tensor) for tensor in call.inputs)
    for axes in others:  # a mask or a bias
        a.fix(axes, f"{call} reads them")
    a.fix([query[1], key[1], value[1]], f"{call} attends to them as positions")
    if {query[2] is None, key[2] is None, value[2] is None} == {False}:
        if not len(query[2]) == len(key[2]) == len(value[2]) or others:  # type: ignore[arg-type]
            a.fix([query[2], key[2], value[2]], f"{call} shares heads among them")
        else:
            a.labels.unite(query[2], key[2], "")
            a.labels.unite(query[2], value[2], "")
    else:
        a.fix([query[2], key[2], value[2]], f"{call} takes as many heads of each")
    if operation.scale is None:
        a.fix([query[3], key[3]], f"{call} scales by their number")
    elif query[3] is not None or key[3] is not None:
        a.labels.unite(query[3], key[3], f"{call} sums over them")
    return [(query[0], None, query[2], value[3])]


@_rule("Reshape")
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


def _sets_shape(place: int) -> Callable[[Any, np.ndarray], None]:
    def change(copy: Any, keep: np.ndarray) -> None:
        shape = list(copy.newshape)
        shape[place] = int(keep.sum())
        copy.newshape = tuple(shape)

    return change


@_rule("Ravel")
def _ravel(a: ChannelAnalysis, call: Call) -> list[Axes]:
    return _stop(a, call)


@_rule("Transpose")
def _transpose(a: ChannelAnalysis, call: Call) -> list[Axes]:
    operation: Any = call.operation
    x = _input(a, call)
    order = operation.axes if operation.axes is not None else range(len(x))[::-1]
    return [tuple(x[axis] for axis in order)]


@_rule("Swapaxes")
def _swapaxes(a: ChannelAnalysis, call: Call) -> list[Axes]:
    operation: Any = call.operation
    x = list(_input(a, call))
    one, other = operation.axis1, operation.axis2
    x[one], x[other] = x[other], x[one]
    return [tuple(x)]


@_rule("Moveaxis")
def _moveaxis(a: ChannelAnalysis, call: Call) -> list[Axes]:
    operation: Any = call.operation
    x = _input(a, call)
    places = list(range(len(x)))
    sources = [axis % len(x) for axis in np.atleast_1d(operation.source).tolist()]
    targets = [axis % len(x) for axis in np.atleast_1d(operation.destination).tolist()]
    order = [place for place in places if place not in sources]
    for target, source in sorted(zip(targets, sources)):
        order.insert(target, source)
    return [tuple(x[place] for place in order)]


@_rule("ExpandDims")
def _expand_dims(a: ChannelAnalysis, call: Call) -> list[Axes]:
    operation: Any = call.operation
    x = list(_input(a, call))
    rank = len(call.outputs[0].shape)
    for axis in sorted(_axes_of(operation.axis, rank)):
        x.insert(axis, None)
    return [tuple(x)]


@_rule("Squeeze")
def _squeeze(a: ChannelAnalysis, call: Call) -> list[Axes]:
    operation: Any = call.operation
    x, shape = _input(a, call), call.inputs[0].shape
    if operation.axis is None:
        gone = {i for i, size in enumerate(shape) if size == 1}
    else:
        gone = _axes_of(operation.axis, len(x))
    a.fix([x[i] for i in gone], f"{call} drops them")
    return [tuple(labels for i, labels in enumerate(x) if i not in gone)]


@_rule("Concatenate")
def _concatenate(a: ChannelAnalysis, call: Call) -> list[Axes]:
    operation: Any = call.operation
    if len(call.inputs) != len(keras.tree.flatten((call.args, call.kwargs))):  # a constant among them
        return _stop(a, call)
    return [concatenated(a, call, operation.axis)]


@_rule("Stack")
def _stack(a: ChannelAnalysis, call: Call) -> list[Axes]:
    operation: Any = call.operation
    axes = list(a.merge([(a.of(tensor), tuple(tensor.shape)) for tensor in call.inputs], call))
    axes.insert(operation.axis % len(call.outputs[0].shape), None)
    return [tuple(axes)]


@_rule("Split")
def _split(a: ChannelAnalysis, call: Call) -> list[Axes]:
    operation: Any = call.operation
    x = _input(a, call)
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


@_rule("Unstack")
def _unstack(a: ChannelAnalysis, call: Call) -> list[Axes]:
    operation: Any = call.operation
    x = _input(a, call)
    axis = operation.axis % len(x)
    a.fix(x[axis], f"{call} takes them apart")
    return [(*x[:axis], *x[axis + 1 :])] * len(call.outputs)


@_rule("Flip")
def _flip(a: ChannelAnalysis, call: Call) -> list[Axes]:
    x = _input(a, call)
    over = _axes_of(getattr(call.operation, "axis", None), len(x))
    return [tuple(labels[::-1] if i in over and labels is not None else labels for i, labels in enumerate(x))]


@_rule("Pad")
def _pad(a: ChannelAnalysis, call: Call) -> list[Axes]:
    x, old, new = _input(a, call), call.inputs[0].shape, call.outputs[0].shape
    grown = {i for i in range(len(x)) if old[i] != new[i]}
    a.fix([x[i] for i in grown], f"{call} adds to them")
    return [tuple(None if i in grown else labels for i, labels in enumerate(x))]


@_rule("Repeat")
def _repeat(a: ChannelAnalysis, call: Call) -> list[Axes]:
    operation: Any = call.operation
    x = _input(a, call)
    if operation.axis is None or not isinstance(operation.repeats, int):
        return _stop(a, call)
    axis = operation.axis % len(x)
    labels = x[axis]
    return [(*x[:axis], None if labels is None else np.repeat(labels, operation.repeats), *x[axis + 1 :])]


@_rule("MaxPool AveragePool")
def _pool(a: ChannelAnalysis, call: Call) -> list[Axes]:
    x = _input(a, call)
    axis = 1 if getattr(call.operation, "data_format", "") == "channels_first" else len(x) - 1
    a.fix([labels for i, labels in enumerate(x) if i not in (0, axis)], f"{call} takes them as positions")
    return [tuple(labels if i in (0, axis) else None for i, labels in enumerate(x))]


@_rule("GetItem")
def _get_item(a: ChannelAnalysis, call: Call) -> list[Axes]:
    """Slices of channels are moved to what is left of them, where the operation stands in a graph."""
    x = _input(a, call)
    parts = _parts(call.args[1] if len(call.args) > 1 else call.kwargs["key"], len(x))
    if any(not (part is None or isinstance(part, (int, np.integer, slice))) for part in parts):
        return _stop(a, call)
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


def _stop(a: ChannelAnalysis, call: Call) -> list[Axes]:
    for tensor in call.inputs:
        a.fix(a.of(tensor), f"{call} reads them, which cannot be traced")
    return [(None,) * len(tensor.shape) for tensor in call.outputs]
