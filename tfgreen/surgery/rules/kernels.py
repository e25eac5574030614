"""Layers with kernels: dense, convolution, embedding; and slopes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tfgreen.model.weights import channel_axis, einsum_letters
from tfgreen.surgery.channel_labels import Axes, Axis
from tfgreen.surgery.rules.common import (
    Rules,
    activated,
    entering_axes,
    only_channels,
    own_bias,
    placed,
    sets_item,
)
from tfgreen.surgery.trace import Call

if TYPE_CHECKING:
    from tfgreen.surgery.channel_analysis import ChannelAnalysis

RULES = Rules()


@RULES.layer("Dense")
def _dense(a: ChannelAnalysis, call: Call) -> list[Axes]:
    layer: Any = call.operation
    x = entering_axes(a, call)
    out = a.kernel(layer, [x[-1], a.labels.new(layer.units)])[1]
    own_bias(a, layer, out)
    a.attribute(layer, "units", out)
    activated(a, call, layer.activation, (*x[:-1], out))
    return [(*x[:-1], out)]


def _read(a: ChannelAnalysis, call: Call) -> tuple[Any, Axis]:
    """A layer that moves windows, and the channels that enter it."""
    x = entering_axes(a, call)
    return call.operation, only_channels(a, call, x, channel_axis(call.operation, len(x)))


def _returned(a: ChannelAnalysis, call: Call, out: Axis) -> list[Axes]:
    """What such a layer returns: channels to which it adds a bias, and which its activation changes."""
    layer: Any = call.operation
    own_bias(a, layer, out)
    x = entering_axes(a, call)
    axes = placed(len(x), channel_axis(layer, len(x)), out, x[0])
    activated(a, call, layer.activation, axes)
    return [axes]


@RULES.layer("Conv1D", "Conv2D", "Conv3D")
def _conv(a: ChannelAnalysis, call: Call) -> list[Axes]:
    layer, entering = _read(a, call)
    spatial = (None,) * layer.rank
    groups, per_group = layer.groups, layer.kernel.shape[-2]
    if groups == 1:
        out = a.kernel(layer, [*spatial, entering, a.labels.new(layer.filters)])[-1]
        a.attribute(layer, "filters", out)
    elif per_group == 1:  # a filter per channel: a group goes as a whole
        out = None if entering is None else np.repeat(entering, layer.filters // groups)
        a.kernel(layer, [*spatial, None, out])
        a.attribute(layer, "filters", out)
        a.attribute(layer, "groups", entering)
    else:  # every group loses the same places
        if entering is not None:
            entering = a.labels.unite_along(entering.reshape(groups, per_group), 1)
        new = np.tile(a.labels.new(layer.filters // groups), groups)
        out = a.kernel(layer, [*spatial, entering, new])[-1]
        a.attribute(layer, "filters", out)
    return _returned(a, call, out)


@RULES.layer("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose")
def _conv_transpose(a: ChannelAnalysis, call: Call) -> list[Axes]:
    layer, entering = _read(a, call)
    out = a.kernel(layer, [*[None] * layer.rank, a.labels.new(layer.filters), entering])[-2]
    a.attribute(layer, "filters", out)
    return _returned(a, call, out)


@RULES.layer("DepthwiseConv1D", "DepthwiseConv2D")
def _depthwise(a: ChannelAnalysis, call: Call) -> list[Axes]:
    layer, entering = _read(a, call)
    out = None if entering is None else np.repeat(entering, layer.depth_multiplier)
    a.kernel(layer, [*[None] * layer.rank, entering, None])
    return _returned(a, call, out)


@RULES.layer("SeparableConv1D", "SeparableConv2D")
def _separable(a: ChannelAnalysis, call: Call) -> list[Axes]:
    layer, entering = _read(a, call)
    spatial = [None] * layer.rank
    inner = None if entering is None else np.repeat(entering, layer.depth_multiplier)
    a.weight(layer, layer.depthwise_kernel, [*spatial, entering, None])
    out = a.weight(layer, layer.pointwise_kernel, [*spatial, inner, a.labels.new(layer.filters)])[-1]
    a.attribute(layer, "filters", out)
    return _returned(a, call, out)


@RULES.layer("Embedding")
def _embedding(a: ChannelAnalysis, call: Call) -> list[Axes]:
    layer: Any = call.operation
    out = a.kernel(layer, [None, a.labels.new(layer.output_dim)], "embeddings")[1]
    if getattr(layer, "reverse_embeddings", None) is not None:
        a.kernel(layer, [out, None], "reverse_embeddings")
    a.attribute(layer, "output_dim", out)
    return [(*entering_axes(a, call), out)]


@RULES.layer("ReversibleEmbedding")
def _reversible(a: ChannelAnalysis, call: Call) -> list[Axes]:
    layer: Any = call.operation
    if not call.kwargs.get("reverse", len(call.args) > 1 and call.args[1]):
        return _embedding(a, call)
    x = entering_axes(a, call)
    if layer.tie_weights:
        a.kernel(layer, [None, x[-1]], "embeddings")
    else:
        a.kernel(layer, [x[-1], None], "reverse_embeddings")
    return [(*x[:-1], None)]


@RULES.layer("EinsumDense")
def _einsum_dense(a: ChannelAnalysis, call: Call) -> list[Axes]:
    layer: Any = call.operation
    x = entering_axes(a, call)
    first, second, result = einsum_letters(layer)
    if "..." in first or "..." in result:
        extra = "".join(chr(0x100 + i) for i in range(len(x) - len(first.replace("...", ""))))
        first, result = first.replace("...", extra), result.replace("...", extra)
    axes: dict[str, Axis] = dict(zip(first, x, strict=True))
    for place, letter in enumerate(second):
        if letter not in axes:
            axes[letter] = a.labels.new(layer.kernel.shape[place])
    axes |= dict(zip(second, a.kernel(layer, [axes[letter] for letter in second])))
    if layer.bias is not None:
        a.weight(layer, layer.bias, _bias_axes(layer, result, axes))
    for place, letter in enumerate(reversed(result[-len(layer.partial_output_shape) :]), 1):  # "..." is no part of it
        if letter in second:
            a.setting(a.paths[id(layer)], axes[letter], sets_item("partial_output_shape", -place))
        elif layer.partial_output_shape[-place] is not None:
            a.fix(axes[letter], f"{call} names their number")
    returned = tuple(axes[letter] for letter in result)
    activated(a, call, layer.activation, returned)
    return [returned]


def _bias_axes(layer: Any, result: str, axes: dict[str, Axis]) -> list[Axis]:
    """The bias has the size of each letter in ``bias_axes``, and 1 for those between and after the first of them."""
    held = [letter if letter in layer.bias_axes else None for letter in result]
    return [None if letter is None else axes[letter] for letter in held[len(held) - len(layer.bias.shape) :]]


@RULES.layer("PReLU")
def _prelu(a: ChannelAnalysis, call: Call) -> list[Axes]:
    layer: Any = call.operation
    x = entering_axes(a, call)
    sizes = layer.alpha.shape
    a.weight(layer, layer.alpha, [labels if size != 1 else None for labels, size in zip(x[1:], sizes)])
    return [x]
