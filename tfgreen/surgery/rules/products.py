"""Products of tensors that are summed over an axis of both: ``matmul``, ``einsum``, dots and attention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import keras

from tfgreen.surgery.channel_labels import Axes, Axis
from tfgreen.surgery.rules.common import Rules, given_to, stop
from tfgreen.surgery.trace import Call

if TYPE_CHECKING:
    from tfgreen.surgery.channel_analysis import ChannelAnalysis

RULES = Rules()


def _sum_over(a: ChannelAnalysis, call: Call, given: Sequence[Any], one: Axis, other: Axis) -> None:
    """Two axes are multiplied and summed over: a channel that is gone counts as 0, and must be that at weights of 0."""
    if not any(isinstance(value, keras.Variable) for value in given):
        for labels in (one, other):
            if a.is_nonzero(labels):
                a.fix(labels, f"{call} sums over them, which are not zero where their weights are")
    if one is not None or other is not None:
        a.labels.unite(one, other, f"{call} sums over them")


@RULES.operation("Matmul")
def _matmul(a: ChannelAnalysis, call: Call) -> list[Axes]:
    given = given_to(call)
    if len(given) != 2 or any(len(tensor.shape) < 2 for tensor in given):
        return stop(a, call)
    one, other = map(a.read, given)
    _sum_over(a, call, given, one[-1], other[-2])
    shapes = [tuple(tensor.shape[:-2]) for tensor in given]
    batch = a.merge([(one[:-2], shapes[0]), (other[:-2], shapes[1])], call)
    return [(*batch, one[-2], other[-1])]


@RULES.operation("Einsum")
def _einsum(a: ChannelAnalysis, call: Call) -> list[Axes]:
    operation: Any = call.operation
    operands, arrow, result = operation.subscripts.replace(" ", "").partition("->")
    names = operands.split(",")
    given = given_to(call)
    if not arrow or "." in operands or len(given) != len(names):
        return stop(a, call)
    found: dict[str, Axis] = {}
    for letters, tensor in zip(names, given):
        for letter, labels in zip(letters, a.read(tensor), strict=True):
            if letter in found:
                _sum_over(a, call, given, found[letter], labels)
            else:
                found[letter] = labels
    return [tuple(found[letter] for letter in result)]


@RULES.operation("DotProductAttention")
def _attention(a: ChannelAnalysis, call: Call) -> list[Axes]:
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
    if call.kwargs.get("scale") is None and len(call.args) < 6:
        a.fix([query[3], key[3]], f"{call} scales by their number")
    else:
        _sum_over(a, call, call.inputs, query[3], key[3])
    return [(query[0], None, query[2], value[3])]


@RULES.layer("Dot")
def _dot(a: ChannelAnalysis, call: Call) -> list[Axes]:
    layer: Any = call.operation
    one, other = map(a.of, call.inputs)
    first, second = (layer.axes, layer.axes) if isinstance(layer.axes, int) else layer.axes
    first, second = first % len(one), second % len(other)
    _sum_over(a, call, call.inputs, one[first], other[second])
    rest = (*one[:first], *one[first + 1 :], *(labels for i, labels in enumerate(other) if i not in (0, second)))
    return [rest if len(rest) > 1 else (*rest, None)]


@RULES.layer("Attention", "AdditiveAttention")
def _layer_attention(a: ChannelAnalysis, call: Call) -> list[Axes]:
    layer: Any = call.operation
    if len(call.inputs) > 3 or len(call.inputs) < 2 or any(len(tensor.shape) != 3 for tensor in call.inputs):
        return stop(a, call)
    query, value, key = (a.of(tensor) for tensor in (*call.inputs[:2], call.inputs[-1]))
    a.fix([query[1], value[1], key[1]], f"{call} attends to them as positions")
    _sum_over(a, call, call.inputs, query[2], key[2])
    if isinstance(layer, keras.layers.AdditiveAttention) and layer.scale is not None:
        a.weight(layer, layer.scale, [query[2]])
    result: list[Axes] = [(query[0], None, value[2]), (query[0], None, None)]
    return result[: len(call.outputs)]
