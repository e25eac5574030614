"""Layers that normalize or rescale."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tfgreen.surgery.channel_labels import Axes
from tfgreen.surgery.rules.common import Rules, axes_named, entering_axes, keep_along, only_channels, placed
from tfgreen.surgery.trace import Call

if TYPE_CHECKING:
    from tfgreen.surgery.channel_analysis import ChannelAnalysis

RULES = Rules()


@RULES.layer("BatchNormalization")
def _batch_norm(a: ChannelAnalysis, call: Call) -> list[Axes]:
    layer: Any = call.operation
    x = entering_axes(a, call)
    axis = layer.axis % len(x)
    for variable in (layer.gamma, layer.beta, layer.moving_mean, layer.moving_variance):
        if variable is not None:
            a.weight(layer, variable, [x[axis]])
    a.fix([labels for i, labels in enumerate(x) if i != axis], f"{call} takes its statistics over them")
    return [x]


@RULES.layer("GroupNormalization")
def _group_norm(a: ChannelAnalysis, call: Call) -> list[Axes]:
    layer: Any = call.operation
    x = entering_axes(a, call)
    axis = layer.axis % len(x)
    channels = only_channels(a, call, x, axis)
    if channels is not None:
        groups = len(channels) if layer.groups == -1 else layer.groups
        whole = a.labels.unite_along(channels.reshape(groups, -1), 0)  # a group is kept or goes as a whole
        channels = np.repeat(whole, len(channels) // groups)
        if layer.groups != -1:
            a.attribute(layer, "groups", whole)
        for variable in (layer.gamma, layer.beta):
            if variable is not None:
                a.weight(layer, variable, [channels])
    return [placed(len(x), axis, channels, x[0])]


@RULES.layer("LayerNormalization", "RMSNormalization", "UnitNormalization", "Softmax")
def _normalizes(a: ChannelAnalysis, call: Call) -> list[Axes]:
    x = entering_axes(a, call)
    over = axes_named(getattr(call.operation, "axis", -1), len(x))
    return [keep_along(a, x, over, f"{call} takes its statistics over them")]


@RULES.layer("Masking", "Normalization")
def _each_counts(a: ChannelAnalysis, call: Call) -> list[Axes]:
    a.fix(entering_axes(a, call), f"{call} has a number for each, or looks at all")
    return [entering_axes(a, call)]


@RULES.layer("Rescaling")
def _rescaling(a: ChannelAnalysis, call: Call) -> list[Axes]:
    layer: Any = call.operation
    x = entering_axes(a, call)
    if np.size(layer.scale) > 1 or np.size(layer.offset) > 1:
        a.fix(x, f"{call} has a number for each")
    if np.any(layer.offset):
        a.mark_nonzero(x)
    return [x]
