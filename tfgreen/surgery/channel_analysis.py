"""Channel analysis: run a model's calls on labels of channels in the place of numbers.

The result says of each axis of each weight which of its slices go with which slices of other weights, and of each
layer which of its settings count channels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
import numpy as np

from tfgreen.model.paths import own_weights, walk
from tfgreen.surgery.channel_labels import Axes, Axis, ChannelLabels, Labels, reshaped
from tfgreen.surgery.rules.common import Rule, stop
from tfgreen.surgery.rules.table import has_rule, rule_of
from tfgreen.surgery.trace import Call, Trace, trace
from tfgreen.transforms.lora import adapters
from tfgreen.typing import Tensor

Keep = np.ndarray  # of bool: which of the channels of an axis stay


@dataclasses.dataclass(frozen=True, eq=False)
class Setting:
    """What of an operation depends on the number of channels: ``change(copy, keep)`` sets it for those that stay.

    A raw operation may be replaced: ``change`` then returns what stands for it.
    """

    path: str
    labels: Labels
    change: Callable[[Any, Keep], Any]


@dataclasses.dataclass(frozen=True, eq=False)
class WeightAxes:
    """A weight of the traced copy, by the path of its layer and its name, and the labels of its axes."""

    path: str
    name: str
    variable: keras.Variable
    axes: list[Axis]


class ChannelAnalysis:
    """The labels of all tensors and weights of a model, for the rules of its layers and operations to fill in.

    Attributes:
        labels: Which channels go together.
        weights: Those whose axes may shrink, by ``id`` of the variable.
        settings: The settings that count channels.
        shapes: For each layer by path, the labels of the axes of its inputs.
    """

    def __init__(self, traced: Trace) -> None:
        self.labels = ChannelLabels()
        self.weights: dict[int, WeightAxes] = {}
        self.settings: list[Setting] = []
        self.shapes: dict[str, tuple[Axes, ...]] = {}
        self.trace = traced
        self._axes: dict[int, Axes] = {}
        self.paths = {id(layer): path for path, layer in walk(traced.model)}

    def rule_of(self, operation: keras.Operation) -> Rule | None:
        """The rule for a layer inside of another."""
        return rule_of(operation)

    def of(self, tensor: Tensor) -> Axes:
        """The labels of the axes of a tensor; None for each axis of the model's inputs."""
        return self._axes.get(id(tensor), (None,) * len(tensor.shape))

    def put(self, tensor: Tensor, axes: Axes) -> None:
        self._axes[id(tensor)] = axes

    def fix(self, axes: Axis | Iterable[Axis], reason: str) -> None:
        """Let the channels of one or several axes stay, for a reason."""
        for axis in [axes] if axes is None or isinstance(axes, np.ndarray) else axes:
            self.labels.fix(axis, reason)

    def weight(self, layer: keras.Layer, variable: keras.Variable, axes: Sequence[Axis]) -> list[Axis]:
        """Say what the axes of a variable of a layer are, and return what is known of them: a variable that is used
        twice shrinks alike for both."""
        if id(variable) not in self.weights:
            name = next(name for name, own in own_weights(layer).items() if own is variable)
            self.weights[id(variable)] = WeightAxes(self.paths[id(layer)], name, variable, list(axes))
            return self.weights[id(variable)].axes
        known = self.weights[id(variable)].axes
        for number, (one, other) in enumerate(zip(known, axes, strict=True)):
            if one is not None or other is not None:
                self.labels.unite(one, other, "another layer that holds the same weight needs all of it")
                known[number] = one if one is not None else other
        return known

    def kernel(self, layer: keras.Layer, axes: Sequence[Axis], name: str = "kernel") -> list[Axis]:
        """The same of the kernel of a layer, and of the product that LoRA adds to it, whose inner size stays."""
        variable = own_weights(layer)[name]
        known = self.weight(layer, variable, axes)
        adapter = adapters(layer).get(id(variable))
        if adapter is not None:
            self.weight(layer, adapter.a, [*known[:-1], None])
            self.weight(layer, adapter.b, [None, known[-1]])
        return known

    def attribute(self, layer: keras.Layer, name: str, labels: Axis) -> None:
        """Say that an attribute of a layer is the number of channels of an axis."""
        if labels is not None:
            self.setting(self.paths[id(layer)], labels, lambda copy, keep: setattr(copy, name, int(keep.sum())))

    def setting(self, path: str, labels: Axis, change: Callable[[Any, Keep], Any]) -> None:
        if labels is not None:
            self.settings.append(Setting(path, labels, change))

    def reshape(self, axes: Axes, old: Sequence[int | None], new: Sequence[int | None], reason: str) -> Axes:
        return reshaped(axes, old, new, self.labels, lambda axis: self.fix(axis, reason))

    def merge(self, operands: Sequence[tuple[Axes, Sequence[int | None]]], call: Call) -> Axes:
        """The axes of a tensor that is computed element by element of several, which broadcast."""
        rank = max((len(shape) for _, shape in operands), default=0)
        result: list[Axis] = [None] * rank
        for place in range(-rank, 0):
            here = [(axes[place], shape[place]) for axes, shape in operands if len(shape) >= -place]
            wide = [axis for axis, size in here if size != 1]
            for axis in wide[1:]:
                if wide[0] is not None or axis is not None:
                    self.labels.unite(wide[0], axis, f"{call} joins them with what keeps its size")
            result[place] = next((axis for axis in wide if axis is not None), None)
        return tuple(result)


def analyse(model: keras.Model) -> ChannelAnalysis:
    """Trace a built model of any kind, and follow its channels from layer to layer."""
    traced = trace(model, has_rule)
    analysis = ChannelAnalysis(traced)
    for call in traced.calls:
        if isinstance(call.operation, keras.Layer):
            analysis.shapes.setdefault(call.path, tuple(map(analysis.of, call.inputs)))
        outputs = (rule_of(call.operation) or stop)(analysis, call)
        for tensor, axes in zip(call.outputs, outputs, strict=True):
            analysis.put(tensor, axes)
    for path, tensors in traced.entered.items():
        analysis.shapes[path] = tuple(map(analysis.of, tensors))
    for tensor in traced.shut:
        analysis.fix(analysis.of(tensor), "they enter a model that a layer of its own class holds")
    for tensor in traced.outputs:
        analysis.fix(analysis.of(tensor), "they are an output of the model")
    return analysis
