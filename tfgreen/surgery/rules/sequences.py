"""Attention, recurrent layers and the wrappers around them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from tfgreen.surgery.channel_labels import Axes, Axis
from tfgreen.surgery.rules.common import Rules, activated, entering_axes, sets_item, stop, unmixed
from tfgreen.surgery.trace import Call

if TYPE_CHECKING:
    from tfgreen.surgery.channel_analysis import ChannelAnalysis

RULES = Rules()


@RULES.layer("MultiHeadAttention")
def _attention(a: ChannelAnalysis, call: Call) -> list[Axes]:
    """Heads go as a whole: queries, keys, values and what is projected of them."""
    layer: Any = call.operation
    heads = a.labels.new(layer._num_heads)
    _project_heads(a, call, {"_query_dense": heads, "_key_dense": heads, "_value_dense": heads, "_gate_dense": heads})
    a.attribute(layer, "_num_heads", heads)
    return _attended(a, call, heads)


@RULES.layer("GroupQueryAttention", "GroupedQueryAttention")
def _grouped_attention(a: ChannelAnalysis, call: Call) -> list[Axes]:
    """A head of keys and values goes with all the heads of queries that it serves."""
    layer: Any = call.operation
    groups = a.labels.new(layer.num_key_value_heads)
    heads = np.repeat(groups, layer.num_query_heads // layer.num_key_value_heads)
    _project_heads(a, call, {"_query_dense": heads, "_gate_dense": heads, "_key_dense": groups, "_value_dense": groups})
    a.attribute(layer, "num_query_heads", heads)
    a.attribute(layer, "num_key_value_heads", groups)
    return _attended(a, call, heads)


def _project_heads(a: ChannelAnalysis, call: Call, projections: dict[str, Axis]) -> None:
    layer: Any = call.operation
    for tensor in call.inputs:
        a.fix(a.of(tensor), f"{call} projects them, and keeps its width")
    for name, heads in projections.items():
        dense = getattr(layer, name, None)
        if dense is not None:
            a.kernel(dense, [None, heads, None])
            a.setting(a.paths[id(dense)], heads, sets_item("partial_output_shape", len(dense.partial_output_shape) - 2))
            if dense.bias is not None:
                a.weight(dense, dense.bias, [heads, None])
    output = layer._output_dense
    heads = projections["_query_dense"]
    width = a.labels.new(output.kernel.shape[-1])
    a.kernel(output, [heads, *[None] * (len(output.kernel.shape) - 2), width])
    a.fix(width, f"{call} keeps the width of what it returns")
    x = (None,) * (len(call.inputs[0].shape) - 1)
    a.shapes.setdefault(a.paths[id(output)], ((*x, heads, None),))


def _attended(a: ChannelAnalysis, call: Call, heads: Axis) -> list[Axes]:
    """The axes of what attention returns: its output, and its scores if asked for, of each head."""
    mask = call.kwargs.get("attention_mask")
    if mask is not None and len(mask.shape) > 3:
        a.fix(heads, f"the attention mask of {call} has one for each")
    result: list[Axes] = [(None,) * len(tensor.shape) for tensor in call.outputs]
    if len(result) > 1 and len(call.inputs[0].shape) == 3:
        result[1] = (None, heads, *result[1][2:])
    elif len(result) > 1:
        a.fix(heads, f"{call} returns its scores")
    return result


@RULES.layer("LSTM", "GRU", "SimpleRNN")
def _recurrent(a: ChannelAnalysis, call: Call) -> list[Axes]:
    layer: Any = call.operation
    return recurrent(a, call, layer)


def recurrent(a: ChannelAnalysis, call: Call, layer: Any) -> list[Axes]:
    """The outputs of a recurrent layer: its units, which its states share."""
    cell = layer.cell
    x = entering_axes(a, call)
    a.fix(x[1], f"{call} runs over them as steps")
    gates = cell.kernel.shape[-1] // cell.units
    gated: Any = a.weight(cell, cell.kernel, [x[2], np.tile(a.labels.new(cell.units), gates)])[1]
    units = gated[: cell.units]
    a.weight(cell, cell.recurrent_kernel, [units, np.tile(units, gates)])
    if cell.bias is not None:
        a.weight(cell, cell.bias, [*[None] * (len(cell.bias.shape) - 1), np.tile(units, gates)])
    activated(a, call, cell.activation, (x[0], units))
    unmixed(a, call, getattr(cell, "recurrent_activation", None), (x[0], units))
    a.setting(a.paths[id(cell)], units, _sets_units)
    a.setting(a.paths[id(layer)], units, lambda copy, keep: _sets_states(copy, int(keep.sum())))
    a.shapes.setdefault(a.paths[id(cell)], ((x[0], x[2]),))
    a.shapes.setdefault(a.paths[id(layer)], (x,))
    for tensor in call.inputs[1:]:  # the states to begin with
        if len(tensor.shape) == 2 and tensor.shape[-1] == cell.units and tensor.dtype != "bool":
            a.labels.unite(a.of(tensor)[-1], units, f"{call} starts from them")
        else:
            a.fix(a.of(tensor), f"{call} reads them")
    if layer.stateful:
        a.fix(units, f"{call} keeps them from batch to batch")
    output = (x[0], x[1], units) if layer.return_sequences else (x[0], units)
    return [output, *[(x[0], units)] * (len(layer.state_size) if layer.return_state else 0)]


def _sets_units(cell: Any, keep: np.ndarray) -> None:
    count = int(keep.sum())
    cell.units = cell.output_size = count
    cell.state_size = [count] * len(cell.state_size) if isinstance(cell.state_size, (list, tuple)) else count


def _sets_states(layer: Any, count: int) -> None:
    layer.state_size = type(layer.state_size)(count for _ in layer.state_size)


@RULES.layer("Bidirectional")
def _bidirectional(a: ChannelAnalysis, call: Call) -> list[Axes]:
    layer: Any = call.operation
    halves = [layer.forward_layer, layer.backward_layer]
    if len(call.inputs) > 1 or any(a.rule_of(half) is not _recurrent for half in halves):
        return stop(a, call)
    forward, backward = (recurrent(a, call, half) for half in halves)
    states = [*forward[1:], *backward[1:]]
    one, other = forward[0], backward[0]
    a.labels.unite(one[-1], other[-1], "")  # Keras takes the one to be as wide as the other, in every merge mode
    if layer.merge_mode is None:
        return [one, other, *states]
    if layer.merge_mode == "concat":
        return [(*one[:-1], np.concatenate([one[-1], other[-1]])), *states]
    return [one, *states]


@RULES.layer("TimeDistributed")
def _time_distributed(a: ChannelAnalysis, call: Call) -> list[Axes]:
    """The layer inside, on what is left of the tensors without their second axis."""
    layer: Any = call.operation.layer
    x, rule = entering_axes(a, call), a.rule_of(layer)
    if rule is None or len(call.inputs) > 1:
        return stop(a, call)
    inner = [keras.KerasTensor((shape[0], *shape[2:])) for shape in (call.inputs[0].shape, call.outputs[0].shape)]
    a.put(inner[0], (x[0], *x[2:]))
    (out,) = rule(a, dataclasses.replace(call, operation=layer, inputs=(inner[0],), outputs=(inner[1],)))
    a.shapes.setdefault(a.paths[id(layer)], ((x[0], *x[2:]),))
    return [(out[0], x[1], *out[1:])]
