"""What one 8-bit scale loses: small features beside large ones, and numbers near 0 that are divided by."""

from __future__ import annotations

from collections.abc import Mapping

import keras
import numpy as np
from keras import layers, ops

from tfgreen.model.graph import LayerGraph, LayerNode
from tfgreen.model.weights import is_own
from tfgreen.quantization.op_classes import is_pass_through, operation_name

_LEAST_SCALES = 8.0  # of a feature's deviation: rounding then adds a thousandth of its variance
_DEVIATIONS = 3.0
_SMALLER = 20.0  # times that the range of a channel is smaller than that of the largest
_SEEN = 0.02  # scales below which most of a channel counts as none
_NOISE = 0.1  # of the power of a channel, with which it is lost

_QUOTIENTS, _RECIPROCALS = ("Divide", "TrueDivide", "DivideNoNan"), ("Reciprocal", "Rsqrt")
_LOGARITHMS = ("Log", "Log10", "Log2")
# What is done to a number, or to those of an axis, before it is divided by. Whatever makes it of two tensors may be
# fused into a kernel, or have other readers.
_ARITHMETIC = frozenset(
    "Add Subtract Multiply Divide TrueDivide Maximum Minimum Square Sqrt Absolute Abs Power Exp Sum Mean Var Std Norm "
    "Softmax Sigmoid Softplus".split()
)
_EVEN = ("Exp", "Softmax", "Sigmoid", "Softplus", "Sum", "Mean", "Var", "Std", "Norm")


def near_zero(graph: LayerGraph, layer: Mapping[LayerNode, keras.Operation]) -> set[LayerNode]:
    """The nodes that divide by, or take a logarithm or root of, numbers which may round to 0; what makes these of one
    tensor, such as the sum and the small constant of ``x / (sum(x) + 1e-6)``; the layer that returns the numbers
    themselves, such as the sigmoid of ``log(sigmoid(x))``; and what is multiplied by a reciprocal, which one scale
    would not fit either, with what passes that on.

    Args:
        layer: The layer or raw operation of each node, bare of wrappers.

    Example:
        >>> x = keras.Input((3,))
        >>> graph = LayerGraph(keras.Model(x, x / (ops.sum(x, axis=-1, keepdims=True) + 1e-6)))
        >>> found = near_zero(graph, {node: node.layer for node in graph.nodes})
        >>> sorted(type(node.layer).__name__ for node in found)
        ['Add', 'Sum', 'TrueDivide']
    """
    found: set[LayerNode] = set()
    reciprocals: set[LayerNode] = set()
    for node in graph.nodes:  # producers first
        name = operation_name(layer[node])
        if not reciprocals.isdisjoint(node.producers) and (_multiplies(layer[node]) or is_pass_through(layer[node])):
            found.add(node)
            if len(set(node.producers)) == 1:
                reciprocals.add(node)
        exponent = _exponent(node) if name == "Power" else None
        is_power = exponent is not None and exponent < 0
        steep = is_power or name in (*_QUOTIENTS, *_RECIPROCALS, *_LOGARITHMS)
        if not steep and name != "Sqrt" and not (exponent is not None and exponent < 1):
            continue
        if name in _QUOTIENTS and not _is_symbolic(node, 1, "x2"):
            continue
        before = [*_arithmetic(node.producers[-1], layer)]
        if steep or before:  # a root alone is as steep in the model as it was
            found |= {node, *before}
        if steep and not any(_evens_out(one, layer[one]) for one in before):
            found.update(_makers(before[-1].producers[0] if before else node.producers[-1], layer))
        if name in _RECIPROCALS or is_power or (name in _QUOTIENTS and not _is_symbolic(node, 0, "x1")):
            reciprocals.add(node)
    return found


def _arithmetic(node: LayerNode, layer: Mapping[LayerNode, keras.Operation]) -> list[LayerNode]:
    """The node and those before it, as far as each is arithmetic on one tensor."""
    found: list[LayerNode] = []
    while operation_name(layer[node]) in _ARITHMETIC and len(set(node.producers)) == 1:
        found.append(node)
        node = node.producers[0]
    return found


def _evens_out(node: LayerNode, layer: keras.Operation) -> bool:
    """Whether numbers that have been rounded to 0 before a step of arithmetic are none after it, or do not matter."""
    if operation_name(layer) != "Add":
        return operation_name(layer) in _EVEN
    numbers = [x for x in keras.tree.flatten((node.arguments, node.named)) if not isinstance(x, keras.KerasTensor)]
    return any(isinstance(x, (int, float)) and abs(x) >= 1 for x in numbers)


def _makers(node: LayerNode, layer: Mapping[LayerNode, keras.Operation]) -> list[LayerNode]:
    """A node and, as far as it only passes numbers on, those that make them; no input of a model."""
    if not node.producers:
        return []
    before = node.producers if is_pass_through(layer[node]) else ()
    return [node, *(maker for producer in before for maker in _makers(producer, layer))]


def _is_symbolic(node: LayerNode, position: int, name: str) -> bool:
    value = node.arguments[position] if len(node.arguments) > position else node.named.get(name)
    return isinstance(value, keras.KerasTensor)


def _exponent(node: LayerNode) -> float | None:
    """That of a power, if it is a number."""
    value = node.arguments[1] if len(node.arguments) > 1 else node.named.get("x2")
    if value is None or isinstance(value, keras.KerasTensor) or np.size(value) != 1:
        return None
    return float(ops.convert_to_numpy(value))


def _multiplies(layer: keras.Operation) -> bool:
    return operation_name(layer) == "Multiply" or is_own(layer, (layers.Multiply,))


def needs_float_input(layer: keras.Operation) -> bool:
    """Whether one 8-bit scale for what a layer takes in would lose a feature.

    A ``Normalization`` or ``BatchNormalization`` knows the mean and deviation of each feature, and a ``Rescaling`` by
    several numbers their deviations. The scale is that of the mean and three deviations, of all features.

    Example:
        >>> [needs_float_input(layers.Normalization(mean=[0.0, 0.0], variance=[1.0, v])) for v in (4.0, 4e4)]
        [False, True]
    """
    mean, deviation = statistics(layer)
    varied = (deviation > 0) | (mean != 0)  # a feature that is always 0 is exact in any scale
    if not varied.any():
        return False
    lower, upper = (mean - _DEVIATIONS * deviation).min(), (mean + _DEVIATIONS * deviation).max()
    scale = (max(upper, 0.0) - min(lower, 0.0)) / 255
    return bool(deviation[varied].min() < _LEAST_SCALES * scale)


def lost_channels(
    expected: np.ndarray, got: np.ndarray, scale: float | None = None, axis: int = -1, noise: float = _NOISE
) -> list[int]:
    """The channels (along ``axis``) of an output of shape ``(samples, ..., channels)`` that drown in noise because they
    share a scale, by default 1/255 of the range, with much larger ones: ``noise`` is the share of their power at which
    they do. Integers and probabilities have none.

    Example:
        >>> boxes_and_scores = np.array([[300.0, 0.5], [120.0, 0.75], [20.0, 0.25]])
        >>> lost_channels(boxes_and_scores, np.round(boxes_and_scores))
        [1]
    """
    fits = expected.ndim > 1 and expected.size and expected.shape == got.shape and expected.dtype.kind not in "iub"
    if not (fits and np.isfinite(expected).all() and np.isfinite(got).all()):
        return []
    moved = (np.moveaxis(x.astype(np.float64), axis, -1) for x in (expected, expected - got))
    rows, errors = (x.reshape(-1, x.shape[-1]) for x in moved)
    scale = scale or float(np.ptp(rows)) / 255
    if scale == 1 / 256 or (rows.min() >= 0 and np.allclose(rows.sum(axis=1), 1, rtol=0, atol=1e-3)):
        return []
    size = np.abs(rows)
    lost = (errors**2).sum(axis=0) > noise * (rows**2).sum(axis=0)
    most = np.percentile(size, 90, axis=0)  # outliers are another matter
    lost &= (most * _SMALLER < most.max()) & (np.median(size, axis=0) > _SEEN * scale)
    return [int(channel) for channel in np.flatnonzero(lost)]


def lost_features(values: np.ndarray, rounded: np.ndarray) -> list[int]:
    """The features (along the last axis) of an input of shape ``(samples, ..., features)`` of whose variance little is
    left by rounding to one scale, because others are much larger.

    Example:
        >>> celsius_and_pascal = np.array([[21.0, 99_000.0], [23.0, 102_000.0], [18.0, 101_000.0]])
        >>> lost_features(celsius_and_pascal, 400 * np.round(celsius_and_pascal / 400))
        [0]
    """
    if values.ndim < 2 or not values.size:
        return []
    rows, noise = (x.astype(np.float64).reshape(-1, values.shape[-1]) for x in (values, values - rounded))
    most = np.percentile(np.abs(rows), 90, axis=0)
    most = np.where(most == 0, np.abs(rows).max(axis=0), most)  # of a feature that is seldom there
    varied = rows.var(axis=0)
    lost = (varied > 0) & ((noise**2).mean(axis=0) > _NOISE * varied) & (most * _SMALLER < most.max())
    return [int(feature) for feature in np.flatnonzero(lost)]


def statistics(layer: keras.Operation) -> tuple[np.ndarray, np.ndarray]:
    """The mean and deviation of each feature; zeros where the layer does not know."""
    if is_own(layer, (layers.Normalization,)) and not layer.invert:
        mean, variance = (layer.mean, layer.variance) if layer.built else (layer.input_mean, layer.input_variance)
    elif is_own(layer, (layers.BatchNormalization,)):
        mean, variance = layer.moving_mean, layer.moving_variance
    elif is_own(layer, (layers.Rescaling,)) and np.size(layer.scale) > 1:
        mean, variance = 0.0, 1.0 / np.maximum(np.square(np.asarray(layer.scale, np.float64)), 1e-30)
    else:
        mean, variance = 0.0, 0.0
    mean, variance = (np.asarray(ops.convert_to_numpy(value), np.float64) for value in (mean, variance))
    mean, variance = np.broadcast_arrays(mean, variance)
    return mean.ravel(), np.sqrt(variance.ravel())
