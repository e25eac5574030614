"""Channel analysis: run a model's calls on labels of channels in the place of numbers.

The result says of each axis of each weight which of its slices go with which slices of other weights, and of each
layer which of its settings count channels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import keras
import numpy as np

from tfgreen.errors import layer_subject
from tfgreen.model.paths import own_weights, walk
from tfgreen.model.weights import own_compressible
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
        layers: Those of the traced copy by path, itself included, under "".
        shapes: For each layer by path, the labels of the axes of its inputs.
    """

    def __init__(self, traced: Trace) -> None:
        self.labels = ChannelLabels()
        self.weights: dict[int, WeightAxes] = {}
        self.settings: list[Setting] = []
        self.shapes: dict[str, tuple[Axes, ...]] = {}
        self.trace = traced
        self._axes: dict[int, Axes] = {}
        self._nonzero: list[Labels] = []
        self.layers = {"": traced.model, **dict(walk(traced.model))}
        self.paths = {id(layer): path for path, layer in self.layers.items()}
        self._holders = {
            id(variable): layer for layer in self.layers.values() for variable in own_weights(layer).values()
        }

    def rule_of(self, operation: keras.Operation) -> Rule | None:
        """The rule for a layer inside of another."""
        return rule_of(operation)

    def of(self, tensor: Tensor) -> Axes:
        """The labels of the axes of a tensor; None for each axis of the model's inputs."""
        return self._axes.get(id(tensor), (None,) * len(tensor.shape))

    def read(self, value: Any, named: Collection[int] | None = None) -> Axes:
        """The same of what an operation is given: a tensor, a weight of a layer whose code it is, or a constant.

        Of a weight that is new, some axes only may be ``named``, the others keep their size.
        """
        if isinstance(value, keras.KerasTensor):
            return self.of(value)
        if id(value) not in self._holders:
            return (None,) * len(value.shape)
        rank = len(value.shape)
        free = [size != 1 and (named is None or i - rank in named) for i, size in enumerate(value.shape)]
        axes = [self.labels.new(size) if one else None for size, one in zip(value.shape, free)]
        return tuple(self.weight(self._holders[id(value)], value, axes))

    def mark_nonzero(self, axes: Axes) -> None:
        """Say that channels may be other than zero where all their weights are: behind a sigmoid."""
        self._nonzero += [labels for labels in axes if labels is not None]

    def is_nonzero(self, axis: Axis) -> bool:
        if axis is None or not self._nonzero:
            return False
        return bool(np.isin(self.labels.roots(axis), self.labels.roots(np.concatenate(self._nonzero))).any())

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
                kept = f"{type(layer).__name__} '{self.paths[id(layer)]}' is also called on what keeps its size"
                self.labels.unite(one, other, kept)
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
        for labels in analysis.of(tensor):
            analysis.labels.fix_first(labels, "they are an output of the model")
    _list_untraced(analysis)
    return analysis


def _list_untraced(analysis: ChannelAnalysis) -> None:
    """Record the kernels that no call was seen to read, so that it is said of their channels why they stay."""
    for path, layer in analysis.layers.items():
        own = own_weights(layer)
        for name, axes in own_compressible(layer).items():
            if id(own[name]) not in analysis.weights:
                labels = analysis.labels.new(own[name].shape[axes.outputs[-1]])
                places: list[Axis] = [None] * len(own[name].shape)
                places[axes.outputs[-1]] = labels
                analysis.weight(layer, own[name], places)
                analysis.fix(labels, _why_untraced(analysis, path))


def _why_untraced(analysis: ChannelAnalysis, path: str) -> str:
    """Why nothing is known of the weights of a layer: of the innermost layer around it whose code cannot be traced."""
    traced, parts = analysis.trace, path.split("/")
    around = ["/".join(parts[:count]) for count in range(len(parts), -1, -1)]
    found = next((one for one in around if one in traced.unseen), None)
    one = path if found is None else found
    whole = f"model '{traced.model.name}' ({type(traced.model).__name__})"
    name = layer_subject(one, analysis.layers[one]) if one else whole
    return f"{name} cannot be traced" + (f": {traced.unseen[found]}" if found is not None else "")
