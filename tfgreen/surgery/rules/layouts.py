"""Layers without weights: activations, pooling, reshapes, sums and concatenations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tfgreen.model.weights import channel_axis
from tfgreen.surgery.channel_labels import Axes
from tfgreen.surgery.rules.common import (
    ELEMENTWISE,
    Rules,
    activated,
    concatenated,
    entering_axes,
    only_channels,
    placed,
    sets_item,
)
from tfgreen.surgery.trace import Call

if TYPE_CHECKING:
    from tfgreen.surgery.channel_analysis import ChannelAnalysis

RULES = Rules()


@RULES.layer(*(cls.__name__ for cls in ELEMENTWISE))
def _elementwise(a: ChannelAnalysis, call: Call) -> list[Axes]:
    return [entering_axes(a, call)]


@RULES.layer("Activation")
def _activation(a: ChannelAnalysis, call: Call) -> list[Axes]:
    layer: Any = call.operation
    x = entering_axes(a, call)
    activated(a, call, layer.activation, x)
    return [x]


@RULES.layer(*(
    f"{kind}{rank}D"
    for kind in ("MaxPooling", "AveragePooling", "UpSampling", "ZeroPadding", "Cropping", "AdaptiveAveragePooling",
                 "AdaptiveMaxPooling")
    for rank in (1, 2, 3)
))  # fmt: skip
@RULES.layer("Resizing", "CenterCrop", "RandomCrop", "RandomFlip", "RandomRotation", "RandomTranslation", "RandomZoom")
@RULES.operation("MaxPool AveragePool")
def _windows(a: ChannelAnalysis, call: Call) -> list[Axes]:
    x = entering_axes(a, call)
    axis = channel_axis(call.operation, len(x))
    return [placed(len(x), axis, only_channels(a, call, x, axis), x[0])]


@RULES.layer(*(f"Global{kind}Pooling{rank}D" for kind in ("Max", "Average") for rank in (1, 2, 3)))
def _global_pooling(a: ChannelAnalysis, call: Call) -> list[Axes]:
    layer: Any = call.operation
    x = entering_axes(a, call)
    axis = channel_axis(layer, len(x))
    channels = only_channels(a, call, x, axis)
    return [placed(len(x), axis, channels, x[0]) if layer.keepdims else (x[0], channels)]


@RULES.layer("Flatten")
def _flatten(a: ChannelAnalysis, call: Call) -> list[Axes]:
    x, shape = entering_axes(a, call), tuple(call.inputs[0].shape)
    if channel_axis(call.operation, len(x)) == 1 and len(x) > 2:  # Keras flattens as if the channels came last
        x, shape = (x[0], *x[2:], x[1]), (shape[0], *shape[2:], shape[1])
    return [a.reshape(x, shape, tuple(call.outputs[0].shape), f"{call} mixes them")]


@RULES.layer("Reshape")
def _reshape(a: ChannelAnalysis, call: Call) -> list[Axes]:
    layer: Any = call.operation
    axes = a.reshape(
        entering_axes(a, call), tuple(call.inputs[0].shape), tuple(call.outputs[0].shape), f"{call} mixes them"
    )
    for place, labels in enumerate(axes[1:]):
        if labels is not None and layer.target_shape[place] != -1:
            a.setting(call.path, labels, sets_item("target_shape", place))
    return [axes]


@RULES.layer("Permute")
def _permute(a: ChannelAnalysis, call: Call) -> list[Axes]:
    layer: Any = call.operation
    x = entering_axes(a, call)
    return [(x[0], *(x[place] for place in layer.dims))]


@RULES.layer("RepeatVector")
def _repeat_vector(a: ChannelAnalysis, call: Call) -> list[Axes]:
    x = entering_axes(a, call)
    return [(x[0], None, x[1])]


@RULES.layer("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum")
def _merge(a: ChannelAnalysis, call: Call) -> list[Axes]:
    # Keras aligns the ranks of what it merges behind the batch.
    rank = max(len(tensor.shape) for tensor in call.inputs)
    operands = []
    for tensor in call.inputs:
        fill = rank - len(tensor.shape)
        axes, shape = a.of(tensor), tuple(tensor.shape)
        operands.append(((axes[0], *[None] * fill, *axes[1:]), (shape[0], *[1] * fill, *shape[1:])))
    return [a.merge(operands, call)]


@RULES.layer("Concatenate")
def _concatenate(a: ChannelAnalysis, call: Call) -> list[Axes]:
    layer: Any = call.operation
    return [concatenated(a, call, layer.axis)]
