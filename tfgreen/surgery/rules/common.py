"""What the rules share: how one is registered, and the words in which they speak of axes.

A rule takes the analysis and a call, records the layer's weights and settings, and returns the axes of each output.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import activations, layers

from tfgreen.surgery.channel_labels import Axes, Axis
from tfgreen.surgery.trace import Call

if TYPE_CHECKING:
    from tfgreen.surgery.channel_analysis import ChannelAnalysis

Rule = Callable[["ChannelAnalysis", Call], list[Axes]]

# Not to be tried: Keras warns of them where there is one channel.
_MIXING = (activations.softmax, activations.log_softmax, activations.sparsemax)
_DRAWS = 8  # of inputs of an activation: code may take a branch by any of them


class Rules:
    """The rules of one module: of layers by class, and of raw operations by the name of theirs, which is private."""

    def __init__(self) -> None:
        self.of_layers: dict[type, Rule] = {}
        self.of_operations: dict[str, Rule] = {}

    def layer(self, *names: str) -> Callable[[Rule], Rule]:
        """Register a rule for the classes of ``keras.layers`` of these names, as far as this Keras has them."""

        def register(rule: Rule) -> Rule:
            self.of_layers.update({getattr(layers, name): rule for name in names if hasattr(layers, name)})
            return rule

        return register

    def operation(self, names: str) -> Callable[[Rule], Rule]:
        """Register a rule for raw operations, whose names stand in a text."""

        def register(rule: Rule) -> Rule:
            self.of_operations.update(dict.fromkeys(names.split(), rule))
            return rule

        return register


ELEMENTWISE = tuple(
    getattr(layers, name)
    for name in (
        *"ReLU LeakyReLU ELU Dropout SpatialDropout1D SpatialDropout2D SpatialDropout3D AlphaDropout".split(),
        *"GaussianDropout GaussianNoise Identity ActivityRegularization".split(),
    )
    if hasattr(layers, name)
)


def entering_axes(a: ChannelAnalysis, call: Call) -> Axes:
    """The axes of the first input."""
    return a.of(call.inputs[0])


def activated(a: ChannelAnalysis, call: Call, activation: Any, axes: Axes) -> None:
    """What an activation does to a tensor with these axes."""
    unmixed(a, call, activation, axes)
    if not (activation is None or _keeps_zero(activation, len(axes))):
        a.mark_nonzero(axes)


def unmixed(a: ChannelAnalysis, call: Call, activation: Any, axes: Axes) -> None:
    """An activation that mixes channels, or computes with their number, keeps all."""
    for place, labels in enumerate(axes):
        if labels is not None and activation not in (None, activations.linear) and _mixes(activation, axes, place):
            a.fix(labels, f"the activation of {call} may mix them")


def _keeps_zero(activation: Any, rank: int) -> bool:
    try:
        return activation not in _MIXING and not np.any(np.asarray(activation(keras.ops.zeros((1,) * rank))))
    except Exception:  # code of the user's, which may fail in any way
        return False


def _mixes(activation: Any, axes: Axes, place: int) -> bool:
    """Whether a function of some slices along an axis is not, or may not be, these slices of the function of all."""
    if isinstance(activation, keras.Layer):
        return not isinstance(activation, ELEMENTWISE)  # another may have weights
    if activation in _MIXING:
        return True
    rng, sizes = np.random.default_rng(0), [2 if labels is None else len(labels) for labels in axes]
    for _ in range(_DRAWS):
        x = rng.normal(0, 3, sizes).astype("float32")
        some = np.flatnonzero(rng.permutation(sizes[place]) < (sizes[place] + 1) // 2)
        try:
            whole, part = (np.asarray(activation(keras.ops.convert_to_tensor(y))) for y in (x, x.take(some, place)))
        except Exception:  # code of the user's, which may fail in any way on another number of channels
            return True
        if whole.shape != x.shape or part.shape != whole.take(some, place).shape:
            return True
        if not np.allclose(part, whole.take(some, place), 1e-5, 1e-6):
            return True
    return False


def only_channels(a: ChannelAnalysis, call: Call, axes: Axes, axis: int) -> Axis:
    """The labels of the channel axis; those of other axes, over which the layer moves windows, stay."""
    a.fix([labels for i, labels in enumerate(axes) if i not in (0, axis)], f"{call} takes them as positions")
    return axes[axis]


def keep_along(a: ChannelAnalysis, x: Axes, over: Collection[int], reason: str) -> Axes:
    """Keep all channels along some axes; returns the others'."""
    a.fix([x[i] for i in over], reason)
    return tuple(None if i in over else labels for i, labels in enumerate(x))


def placed(rank: int, axis: int, labels: Axis, batch: Axis = None) -> Axes:
    """The axes of a tensor of which only the channels, and the batch, may shrink."""
    return (batch, *(labels if i == axis else None for i in range(1, rank)))


def own_bias(a: ChannelAnalysis, layer: Any, labels: Axis) -> None:
    """Record the bias of a layer, if it has one."""
    if getattr(layer, "bias", None) is not None:
        a.weight(layer, layer.bias, [labels])


def sets_item(name: str, place: int) -> Callable[[Any, np.ndarray], None]:
    """A change of one item of an attribute of a layer that is a shape."""

    def change(copy: Any, keep: np.ndarray) -> None:
        shape = list(getattr(copy, name))
        shape[place] = int(keep.sum())
        setattr(copy, name, tuple(shape))

    return change


def given_to(call: Call) -> list[Any]:
    """The tensors, weights and constants that an operation is given."""
    return [value for value in keras.tree.flatten((call.args, call.kwargs)) if hasattr(value, "shape")]


def stop(a: ChannelAnalysis, call: Call) -> list[Axes]:
    """Keep all channels that a call reads."""
    unseen = a.trace.unseen.get(call.path, "")
    why = f": {unseen}" if unseen else ""
    for value in given_to(call):
        a.fix(a.read(value, (-1,)), f"{call} reads them, which cannot be traced{why}")
    return [(None,) * len(tensor.shape) for tensor in call.outputs]


def axes_named(value: Any, rank: int) -> set[int]:
    """The axes that an operation names; all where it names none."""
    if value is None:
        return set(range(rank))
    return {int(axis) % rank for axis in (value if isinstance(value, (list, tuple)) else [value])}


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
