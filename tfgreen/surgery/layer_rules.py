"""The rules of Keras's layers: what of their weights and settings goes with which channels of inputs and outputs.

A rule takes the analysis and a call, records the layer's weights and settings, and returns the axes of each output.
A subclass that overrides how its layer computes is traced as Python code.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import activations, layers

from tfgreen.model.weights import channel_axis
from tfgreen.quantization.op_classes import is_own
from tfgreen.surgery.channel_analysis import ChannelAnalysis
from tfgreen.surgery.channel_labels import Axes, Axis
from tfgreen.surgery.trace import Call

Rule = Callable[[ChannelAnalysis, Call], list[Axes]]
_RULES: dict[type, Rule] = {}

_ELEMENTWISE_ACTIVATIONS = tuple(
    getattr(activations, name)
    for name in (
        *"celu elu exponential gelu hard_shrink hard_sigmoid hard_silu hard_tanh leaky_relu linear log_sigmoid".split(),
        *"mish relu relu6 selu sigmoid silu soft_shrink softplus softsign sparse_plus sparse_sigmoid squareplus".split(),
        *"tanh tanh_shrink threshold".split(),
    )
    if hasattr(activations, name)
)


def _rule(*names: str) -> Callable[[Rule], Rule]:
    def register(rule: Rule) -> Rule:
        _RULES.update({getattr(layers, name): rule for name in names if hasattr(layers, name)})
        return rule

    return register


def rule_of(operation: keras.Operation) -> Rule | None:
    """The rule for a layer; None for a class without one, or for one whose weights are not plain."""
    rule = next((_RULES[cls] for cls in type(operation).__mro__ if cls in _RULES), None)
    cls = next((cls for cls in type(operation).__mro__ if cls in _RULES), None)
    if rule is None or cls is None or not is_own(operation, (cls,)):
        return None
    plain = not getattr(operation, "quantization_mode", None) and not getattr(operation, "lora_enabled", False)
    return rule if plain else None


def has_rule(layer: keras.Layer) -> bool:
    """Whether a layer is taken as it is; any other layer with layers or code of its own is looked into."""
    return rule_of(layer) is not None or isinstance(layer, layers.Wrapper) or (
        type(layer).__module__.startswith("keras.") and not isinstance(layer, keras.Model)
    )  # fmt: skip


def _input(a: ChannelAnalysis, call: Call) -> Axes:
    return a.of(call.inputs[0])


def _activated(a: ChannelAnalysis, call: Call, activation: Any, labels: Axis) -> None:
    """An activation that mixes channels, or may, keeps all of them."""
    cls = activation if isinstance(activation, type) else type(activation)
    known = activation in _ELEMENTWISE_ACTIVATIONS or (isinstance(activation, keras.Layer) and cls in _ELEMENTWISE)
    if activation is not None and not known:
        a.fix(labels, f"the activation of {call} may mix them")


def _only_channels(a: ChannelAnalysis, call: Call, axes: Axes, axis: int) -> Axis:
    """The labels of the channel axis; those of other axes, over which the layer moves windows, stay."""
    a.fix([labels for i, labels in enumerate(axes) if i not in (0, axis)], f"{call} takes them as positions")
    return axes[axis]


def _placed(rank: int, axis: int, labels: Axis, batch: Axis = None) -> Axes:
    return (batch, *(labels if i == axis else None for i in range(1, rank)))


def _own_bias(a: ChannelAnalysis, layer: Any, labels: Axis) -> None:
    if getattr(layer, "bias", None) is not None:
        a.weight(layer, layer.bias, [labels])


@_rule("Dense")
def _dense(a: ChannelAnalysis, call: Call) -> list[Axes]:
    layer: Any = call.operation
    x = _input(a, call)
    out = a.labels.new(layer.units)
    a.weight(layer, layer.kernel, [x[-1], out])
    out = a.weights[id(layer.kernel)].axes[1]
    _own_bias(a, layer, out)
    a.attribute(layer, "units", out)
    _activated(a, call, layer.activation, out)
    return [(*x[:-1], out)]


@_rule("Conv1D", "Conv2D", "Conv3D")
def _conv(a: ChannelAnalysis, call: Call) -> list[Axes]:
    layer: Any = call.operation
    x, axis = _input(a, call), channel_axis(layer, len(call.inputs[0].shape))
    entering = _only_channels(a, call, x, axis)
    spatial = (None,) * layer.rank
    groups, per_group = layer.groups, layer.kernel.shape[-2]
    if groups == 1:
        out = a.labels.new(layer.filters)
        a.weight(layer, layer.kernel, [*spatial, entering, out])
        out = a.weights[id(layer.kernel)].axes[-1]
        a.attribute(layer, "filters", out)
    elif per_group == 1:  # a filter per channel: a group goes as a whole
        out = None if entering is None else np.repeat(entering, layer.filters // groups)
        a.weight(layer, layer.kernel, [*spatial, None, out])
        a.attribute(layer, "filters", out)
        a.attribute(layer, "groups", entering)
    else:  # every group loses the same places
        if entering is not None:
            entering = a.labels.unite_along(entering.reshape(groups, per_group), 1)
        out = np.tile(a.labels.new(layer.filters // groups), groups)
        a.weight(layer, layer.kernel, [*spatial, entering, out])
        a.attribute(layer, "filters", out)
    _own_bias(a, layer, out)
    _activated(a, call, layer.activation, out)
    return [_placed(len(x), axis, out, x[0])]


@_rule("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose")
def _conv_transpose(a: ChannelAnalysis, call: Call) -> list[Axes]:
    layer: Any = call.operation
    x, axis = _input(a, call), channel_axis(layer, len(call.inputs[0].shape))
    entering = _only_channels(a, call, x, axis)
    out = a.labels.new(layer.filters)
    a.weight(layer, layer.kernel, [*[None] * layer.rank, out, entering])
    out = a.weights[id(layer.kernel)].axes[-2]
    _own_bias(a, layer, out)
    a.attribute(layer, "filters", out)
    _activated(a, call, layer.activation, out)
    return [_placed(len(x), axis, out, x[0])]


@_rule("DepthwiseConv1D", "DepthwiseConv2D")
def _depthwise(a: ChannelAnalysis, call: Call) -> list[Axes]:
    layer: Any = call.operation
    x, axis = _input(a, call), channel_axis(layer, len(call.inputs[0].shape))
    entering = _only_channels(a, call, x, axis)
    out = None if entering is None else np.repeat(entering, layer.depth_multiplier)
    a.weight(layer, layer.kernel, [*[None] * layer.rank, entering, None])
    _own_bias(a, layer, out)
    _activated(a, call, layer.activation, out)
    return [_placed(len(x), axis, out, x[0])]


@_rule("SeparableConv1D", "SeparableConv2D")
def _separable(a: ChannelAnalysis, call: Call) -> list[Axes]:
    layer: Any = call.operation
    x, axis = _input(a, call), channel_axis(layer, len(call.inputs[0].shape))
    entering = _only_channels(a, call, x, axis)
    spatial = [None] * layer.rank
    inner = None if entering is None else np.repeat(entering, layer.depth_multiplier)
    out = a.labels.new(layer.filters)
    a.weight(layer, layer.depthwise_kernel, [*spatial, entering, None])
    a.weight(layer, layer.pointwise_kernel, [*spatial, inner, out])
    out = a.weights[id(layer.pointwise_kernel)].axes[-1]
    _own_bias(a, layer, out)
    a.attribute(layer, "filters", out)
    _activated(a, call, layer.activation, out)
    return [_placed(len(x), axis, out, x[0])]


@_rule("BatchNormalization")
def _batch_norm(a: ChannelAnalysis, call: Call) -> list[Axes]:
    layer: Any = call.operation
    x = _input(a, call)
    axis = layer.axis % len(x)
    for variable in (layer.gamma, layer.beta, layer.moving_mean, layer.moving_variance):
        if variable is not None:
            a.weight(layer, variable, [x[axis]])
    a.fix([labels for i, labels in enumerate(x) if i != axis], f"{call} takes its statistics over them")
    return [x]


@_rule("GroupNormalization")
def _group_norm(a: ChannelAnalysis, call: Call) -> list[Axes]:
    layer: Any = call.operation
    x = _input(a, call)
    axis = layer.axis % len(x)
    channels = _only_channels(a, call, x, axis)
    if channels is not None:
        groups = len(channels) if layer.groups == -1 else layer.groups
        whole = a.labels.unite_along(channels.reshape(groups, -1), 0)  # a group is kept or goes as a whole
        channels = np.repeat(whole, len(channels) // groups)
        if layer.groups != -1:
            a.attribute(layer, "groups", whole)
        for variable in (layer.gamma, layer.beta):
            if variable is not None:
                a.weight(layer, variable, [channels])
    return [_placed(len(x), axis, channels, x[0])]


@_rule("LayerNormalization", "RMSNormalization", "UnitNormalization", "Softmax")
def _normalizes(a: ChannelAnalysis, call: Call) -> list[Axes]:
    x = _input(a, call)
    axis: Any = getattr(call.operation, "axis", -1)
    over = {place % len(x) for place in (axis if isinstance(axis, (list, tuple)) else [axis])}
    a.fix([x[i] for i in over], f"{call} takes its statistics over them")
    return [tuple(None if i in over else labels for i, labels in enumerate(x))]


@_rule("Embedding")
def _embedding(a: ChannelAnalysis, call: Call) -> list[Axes]:
    layer: Any = call.operation
    out = a.labels.new(layer.output_dim)
    a.weight(layer, layer.embeddings, [None, out])
    out = a.weights[id(layer.embeddings)].axes[1]
    a.attribute(layer, "output_dim", out)
    return [(*_input(a, call), out)]


@_rule("EinsumDense")
def _einsum_dense(a: ChannelAnalysis, call: Call) -> list[Axes]:
    layer: Any = call.operation
    return [einsum_dense(a, call, layer, _input(a, call), {})]


def einsum_dense(a: ChannelAnalysis, call: Call, layer: Any, x: Axes, given: dict[str, Axis]) -> Axes:
    """The output of an EinsumDense; letters of the equation in ``given`` have those labels, a new letter new ones."""
    operands, result = layer.equation.replace(" ", "").split("->")
    first, second = operands.split(",")
    if "..." in first or "..." in result:
        extra = "".join(chr(0x100 + i) for i in range(len(x) - len(first.replace("...", ""))))
        first, result = first.replace("...", extra), result.replace("...", extra)
    axes: dict[str, Axis] = dict(zip(first, x, strict=True)) | given
    for place, letter in enumerate(second):
        if letter not in axes:
            axes[letter] = a.labels.new(layer.kernel.shape[place])
    a.weight(layer, layer.kernel, [axes[letter] for letter in second])
    axes |= dict(zip(second, a.weights[id(layer.kernel)].axes))
    if layer.bias is not None:
        a.weight(layer, layer.bias, _bias_axes(layer, result, axes))
    for place, letter in enumerate(result[1:]):
        if axes[letter] is not None and letter in second:
            a.setting(a.paths[id(layer)], axes[letter], _sets_partial_shape(place))
        if letter not in second and axes[letter] is not None and layer.partial_output_shape[place] is not None:
            a.fix(axes[letter], f"{call} names their number")
    for letter in result[-1:]:
        _activated(a, call, layer.activation, axes[letter])
    return tuple(axes[letter] for letter in result)


def _bias_axes(layer: Any, result: str, axes: dict[str, Axis]) -> list[Axis]:
    """The bias has the size of each letter in ``bias_axes``, and 1 for those between and after the first of them."""
    held = [letter if letter in layer.bias_axes else None for letter in result]
    return [None if letter is None else axes[letter] for letter in held[len(held) - len(layer.bias.shape) :]]


def _sets_partial_shape(place: int) -> Callable[[Any, np.ndarray], None]:
    def change(copy: Any, keep: np.ndarray) -> None:
        shape = list(copy.partial_output_shape)
        shape[place] = int(keep.sum())
        copy.partial_output_shape = tuple(shape)

    return change


@_rule("MultiHeadAttention")
def _attention(a: ChannelAnalysis, call: Call) -> list[Axes]:
    """Heads go as a whole: queries, keys, values and what is projected of them."""
    layer: Any = call.operation
    heads = a.labels.new(layer._num_heads)
    _project_heads(a, call, {"_query_dense": heads, "_key_dense": heads, "_value_dense": heads, "_gate_dense": heads})
    a.attribute(layer, "_num_heads", heads)
    return [(None,) * len(tensor.shape) for tensor in call.outputs]


@_rule("GroupQueryAttention", "GroupedQueryAttention")
def _grouped_attention(a: ChannelAnalysis, call: Call) -> list[Axes]:
    """A head of keys and values goes with all the heads of queries that it serves."""
    layer: Any = call.operation
    groups = a.labels.new(layer.num_key_value_heads)
    heads = np.repeat(groups, layer.num_query_heads // layer.num_key_value_heads)
    _project_heads(a, call, {"_query_dense": heads, "_gate_dense": heads, "_key_dense": groups, "_value_dense": groups})
    a.attribute(layer, "num_query_heads", heads)
    a.attribute(layer, "num_key_value_heads", groups)
    return [(None,) * len(tensor.shape) for tensor in call.outputs]


def _project_heads(a: ChannelAnalysis, call: Call, projections: dict[str, Axis]) -> None:
    layer: Any = call.operation
    for tensor in call.inputs:
        a.fix(a.of(tensor), f"{call} projects them, and keeps its width")
    for name, heads in projections.items():
        dense = getattr(layer, name, None)
        if dense is not None:
            a.weight(dense, dense.kernel, [None, heads, None])
            a.setting(a.paths[id(dense)], heads, _sets_partial_shape(len(dense.partial_output_shape) - 2))
            if dense.bias is not None:
                a.weight(dense, dense.bias, [heads, None])
    output = layer._output_dense
    heads = projections["_query_dense"]
    a.weight(output, output.kernel, [heads, None, *[None] * (len(output.kernel.shape) - 2)])
    x = (None,) * (len(call.inputs[0].shape) - 1)
    a.shapes.setdefault(a.paths[id(output)], ((*x, heads, None),))


@_rule("PReLU")
def _prelu(a: ChannelAnalysis, call: Call) -> list[Axes]:
    layer: Any = call.operation
    x = _input(a, call)
    sizes = layer.alpha.shape
    a.weight(layer, layer.alpha, [labels if size != 1 else None for labels, size in zip(x[1:], sizes)])
    return [x]


@_rule("LSTM", "GRU", "SimpleRNN")
def _recurrent(a: ChannelAnalysis, call: Call) -> list[Axes]:
    layer: Any = call.operation
    return recurrent(a, call, layer)


def recurrent(a: ChannelAnalysis, call: Call, layer: Any) -> list[Axes]:
    """The outputs of a recurrent layer: its units, which its states share."""
    cell = layer.cell
    x = _input(a, call)
    a.fix(x[1], f"{call} runs over them as steps")
    gates = cell.kernel.shape[-1] // cell.units
    units = a.labels.new(cell.units)
    a.weight(cell, cell.kernel, [x[2], np.tile(units, gates)])
    units = a.weights[id(cell.kernel)].axes[1][: cell.units]  # type: ignore[index]
    a.weight(cell, cell.recurrent_kernel, [units, np.tile(units, gates)])
    if cell.bias is not None:
        a.weight(cell, cell.bias, [*[None] * (len(cell.bias.shape) - 1), np.tile(units, gates)])
    _activated(a, call, cell.activation, units)
    _activated(a, call, getattr(cell, "recurrent_activation", None), units)
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


@_rule("Bidirectional")
def _bidirectional(a: ChannelAnalysis, call: Call) -> list[Axes]:
    layer: Any = call.operation
    halves = [layer.forward_layer, layer.backward_layer]
    if len(call.inputs) > 1 or any(rule_of(half) is not _recurrent for half in halves):
        a.fix([labels for tensor in call.inputs for labels in a.of(tensor)], f"{call} cannot be traced")
        return [(None,) * len(tensor.shape) for tensor in call.outputs]
    forward, backward = (recurrent(a, call, half) for half in halves)
    states = [*forward[1:], *backward[1:]]
    one, other = forward[0], backward[0]
    if layer.merge_mode is None:
        return [one, other, *states]
    if layer.merge_mode == "concat":
        return [(*one[:-1], np.concatenate([one[-1], other[-1]])), *states]  # type: ignore[list-item]
    a.labels.unite(one[-1], other[-1], "")
    return [one, *states]


@_rule("TimeDistributed")
def _time_distributed(a: ChannelAnalysis, call: Call) -> list[Axes]:
    """The layer inside, on what is left of the tensors without their second axis."""
    layer: Any = call.operation.layer
    x, rule = _input(a, call), rule_of(layer)
    if rule is None or len(call.inputs) > 1:
        a.fix([labels for tensor in call.inputs for labels in a.of(tensor)], f"{call} cannot be traced")
        return [(None,) * len(tensor.shape) for tensor in call.outputs]
    inner = [keras.KerasTensor((shape[0], *shape[2:])) for shape in (call.inputs[0].shape, call.outputs[0].shape)]
    a.put(inner[0], (x[0], *x[2:]))
    (out,) = rule(a, dataclasses.replace(call, operation=layer, inputs=(inner[0],), outputs=(inner[1],)))
    a.shapes.setdefault(a.paths[id(layer)], ((x[0], *x[2:]),))
    return [(out[0], x[1], *out[1:])]


_ELEMENTWISE = tuple(
    getattr(layers, name)
    for name in (
        *"ReLU LeakyReLU ELU Dropout SpatialDropout1D SpatialDropout2D SpatialDropout3D AlphaDropout".split(),
        *"GaussianDropout GaussianNoise Identity ActivityRegularization".split(),
    )
    if hasattr(layers, name)
)


@_rule(*(cls.__name__ for cls in _ELEMENTWISE))
def _elementwise(a: ChannelAnalysis, call: Call) -> list[Axes]:
    return [_input(a, call)]


@_rule("Activation")
def _activation(a: ChannelAnalysis, call: Call) -> list[Axes]:
    layer: Any = call.operation
    x = _input(a, call)
    for labels in x:
        _activated(a, call, layer.activation, labels)
    return [x]


@_rule("Rescaling")
def _rescaling(a: ChannelAnalysis, call: Call) -> list[Axes]:
    layer: Any = call.operation
    x = _input(a, call)
    if np.size(layer.scale) > 1 or np.size(layer.offset) > 1:
        a.fix(x, f"{call} has a number for each")
    return [x]


@_rule(*(
    f"{kind}{rank}D"
    for kind in ("MaxPooling", "AveragePooling", "UpSampling", "ZeroPadding", "Cropping", "AdaptiveAveragePooling",
                 "AdaptiveMaxPooling")
    for rank in (1, 2, 3)
))  # fmt: skip
def _windows(a: ChannelAnalysis, call: Call) -> list[Axes]:
    x = _input(a, call)
    axis = channel_axis(call.operation, len(x))
    return [_placed(len(x), axis, _only_channels(a, call, x, axis), x[0])]


@_rule(*(f"Global{kind}Pooling{rank}D" for kind in ("Max", "Average") for rank in (1, 2, 3)))
def _global_pooling(a: ChannelAnalysis, call: Call) -> list[Axes]:
    layer: Any = call.operation
    x = _input(a, call)
    axis = channel_axis(layer, len(x))
    channels = _only_channels(a, call, x, axis)
    return [_placed(len(x), axis, channels, x[0]) if layer.keepdims else (x[0], channels)]


@_rule("Flatten")
def _flatten(a: ChannelAnalysis, call: Call) -> list[Axes]:
    x, shape = _input(a, call), tuple(call.inputs[0].shape)
    if channel_axis(call.operation, len(x)) == 1 and len(x) > 2:  # Keras flattens as if the channels came last
        x, shape = (x[0], *x[2:], x[1]), (shape[0], *shape[2:], shape[1])
    return [a.reshape(x, shape, tuple(call.outputs[0].shape), f"{call} mixes them")]


@_rule("Reshape")
def _reshape(a: ChannelAnalysis, call: Call) -> list[Axes]:
    layer: Any = call.operation
    axes = a.reshape(
        _input(a, call), tuple(call.inputs[0].shape), tuple(call.outputs[0].shape), f"{call} mixes them"
    )
    for place, labels in enumerate(axes[1:]):
        if labels is not None and layer.target_shape[place] != -1:
            a.setting(call.path, labels, _sets_item("target_shape", place))
    return [axes]


def _sets_item(name: str, place: int) -> Callable[[Any, np.ndarray], None]:
    def change(copy: Any, keep: np.ndarray) -> None:
        shape = list(getattr(copy, name))
        shape[place] = int(keep.sum())
        setattr(copy, name, tuple(shape))

    return change


@_rule("Permute")
def _permute(a: ChannelAnalysis, call: Call) -> list[Axes]:
    layer: Any = call.operation
    x = _input(a, call)
    return [(x[0], *(x[place] for place in layer.dims))]


@_rule("RepeatVector")
def _repeat_vector(a: ChannelAnalysis, call: Call) -> list[Axes]:
    x = _input(a, call)
    return [(x[0], None, x[1])]


@_rule("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum")
def _merge(a: ChannelAnalysis, call: Call) -> list[Axes]:
    # Keras aligns the ranks of what it merges behind the batch.
    rank = max(len(tensor.shape) for tensor in call.inputs)
    operands = []
    for tensor in call.inputs:
        fill = rank - len(tensor.shape)
        axes, shape = a.of(tensor), tuple(tensor.shape)
        operands.append(((axes[0], *[None] * fill, *axes[1:]), (shape[0], *[1] * fill, *shape[1:])))
    return [a.merge(operands, call)]


@_rule("Concatenate")
def _concatenate(a: ChannelAnalysis, call: Call) -> list[Axes]:
    layer: Any = call.operation
    return [concatenated(a, call, layer.axis)]


def concatenated(a: ChannelAnalysis, call: Call, axis: int) -> Axes:
    """The axes of a concatenation: along its own the labels of one input after the other, fixed ones included."""
    rank = len(call.inputs[0].shape)
    axis %= rank
    operands = [(a.of(tensor), tuple(tensor.shape)) for tensor in call.inputs]
    others = [
        ([None if i == axis else labels for i, labels in enumerate(axes)],
         [1 if i == axis else size for i, size in enumerate(shape)])
        for axes, shape in operands
    ]  # fmt: skip
    result = list(a.merge([(tuple(axes), shape) for axes, shape in others], call))
    if any(axes[axis] is not None for axes, _ in operands):
        parts = []
        for axes, shape in operands:
            part = axes[axis]
            if part is None:
                if shape[axis] is None:
                    a.fix([axes[axis] for axes, _ in operands], f"{call} joins them with an open size")
                    return tuple(result)
                part = a.labels.new(shape[axis])
                a.fix(part, f"{call} joins them with what keeps its size")
            parts.append(part)
        result[axis] = np.concatenate(parts)
    return tuple(result)
