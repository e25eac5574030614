"""Cross-layer equalization: channels of like ranges, so that one range for a whole tensor loses little of any channel.

Reference: M. Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", 2019,
arXiv:1906.04721, section 4.1.1.
"""

from __future__ import annotations

import collections

import keras
import numpy as np
from keras import activations, layers

from tfgreen.errors import invalid_state
from tfgreen.model.graph import LayerGraph, LayerNode
from tfgreen.model.weights import is_own
from tfgreen.quantization.op_classes import is_identity
from tfgreen.techniques.fold_batch_norm import check_plain, fold_batch_norm, has_own_kernel

_TOLERANCE = 0.01
_MOST_ROUNDS = 100
_LEAST = 0.01  # of the bias: a channel whose kernel is next to nothing would get an output of nothing but a large bias

_DENSE = (layers.Dense,)
_CONV = (layers.Conv1D, layers.Conv2D)
_DEPTHWISE = (layers.DepthwiseConv1D, layers.DepthwiseConv2D)
_TRANSPOSED = (layers.Conv1DTranspose, layers.Conv2DTranspose)
_LINEAR = (*_DENSE, *_CONV, *_DEPTHWISE, *_TRANSPOSED)

# f(s * x) = s * f(x) for s > 0, and each channel by itself.
_HOMOGENEOUS = (activations.linear, activations.relu, activations.leaky_relu)
_PER_CHANNEL = (
    layers.LeakyReLU, layers.PReLU, layers.Flatten, layers.ZeroPadding1D, layers.ZeroPadding2D, layers.Cropping1D,
    layers.Cropping2D, layers.MaxPooling1D, layers.MaxPooling2D, layers.AveragePooling1D, layers.AveragePooling2D,
    layers.GlobalMaxPooling1D, layers.GlobalMaxPooling2D, layers.GlobalAveragePooling1D,
    layers.GlobalAveragePooling2D, layers.UpSampling1D, layers.UpSampling2D,
)


def equalize(model: keras.Model) -> keras.Model:
    """Return a copy of ``model`` that computes the same, with the ranges of its channels brought closer together.

    Batch normalization is folded. Then a kernel may make a channel ``s`` times smaller if the next makes it ``s`` times
    larger: each channel between two kernels gets the same range in both, until no factor changes by more than 1 %.

    The two kernels are of ``Dense``, ``Conv1D``, ``Conv2D`` (the second without groups), their transposed forms, or
    ``DepthwiseConv1D`` and ``2D``, each called once. Between them is a single path of ReLU without ``max_value``,
    LeakyReLU, PReLU, poolings, padding, Flatten, and layers that do nothing in inference. Other kernels stay as they
    are, such as those before a ReLU6, which does not commute with a scale: to equalize them, put ``layers.ReLU()`` in
    its place and train on, as the paper does.

    Ranges are those of the kernels, as in the paper; but a kernel counts as no smaller than 1 % of its bias, or a
    channel of hardly more than its bias would get a large constant output, and widen the range of all others.

    Args:
        model: A built Sequential or functional model. It is not changed.

    Returns:
        A model with the same predictions (inference mode), up to float32 rounding; not compiled.

    Raises:
        TypeError: ``model`` is no ``keras.Model``.
        ValueError: The model is not built, subclassed, or pruned, clustered or quantized and not stripped; or no two
            kernels can be equalized, with the reason for each.

    Example:
        >>> import keras, numpy as np, tfgreen as tg
        >>> model = keras.Sequential([
        ...     keras.Input((4,)), keras.layers.Dense(2, "relu", name="first"), keras.layers.Dense(3, name="second")])
        >>> model.get_layer("first").set_weights([np.array([[9.0, 0.04]] * 4), np.zeros(2)])
        >>> model.get_layer("second").set_weights([np.ones((2, 3)), np.zeros(3)])
        >>> [round(float(top), 3) for top in tg.equalize(model).get_layer("first").kernel.numpy().max(axis=0)]
        [3.0, 0.2]
    """
    check_plain(model, "Bake it with tg.strip(model), or equalize before compressing.")
    result = fold_batch_norm(model)
    pairs, reasons = find_pairs(result)
    if not pairs:
        found = "; ".join(f"after '{path}': {reason}" for path, reason in reasons.items()) or "no layer with a kernel"
        between = "only layers between them that commute with a scale"
        raise invalid_state(f"model '{model.name}' has no two kernels with {between}: {found}.")
    _equalize_pairs([(first.layer, second.layer) for first, second in pairs])
    return result


def equalize_pair(
    first: np.ndarray, bias: np.ndarray, second: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Scale the channels between two kernels so that the range of each is the same in both.

    The kernels have the shape (before, channels, after), with the output channels of the first and the input channels
    of the second in the middle. Returned are ``first / s``, ``bias / s``, ``second * s``, and ``s`` per channel: ``s =
    sqrt(r1 * r2) / r2``, where r1 and r2 are the largest magnitudes of a channel, r1 at least 1 % of the bias. A
    channel of which one kernel is zero has s = 1.

    Example:
        >>> first, bias, second = np.array([8.0, 1.0]), np.array([4.0, 1.0]), np.array([2.0, 1.0])
        >>> [a.ravel().tolist() for a in equalize_pair(first[None, :, None], bias, second[None, :, None])]
        [[4.0, 1.0], [2.0, 1.0], [4.0, 1.0], [2.0, 1.0]]
    """
    one, two = (np.abs(kernel).max(axis=(0, 2)) for kernel in (first, second))
    used = (one > 0) & (two > 0)
    one = np.maximum(one, _LEAST * np.abs(bias))
    # sqrt(r1 * r2) / r2, in a form whose product cannot underflow
    factor = np.sqrt(np.where(used, one, 1.0)) / np.sqrt(np.where(used, two, 1.0))
    return first / factor[:, None], bias / factor, second * factor[:, None], factor


def find_pairs(model: keras.Model) -> tuple[list[tuple[LayerNode, LayerNode]], dict[str, str]]:
    """The pairs of kernels that can be equalized, in the order of the graph, and by path why others begin none."""
    graph = LayerGraph(model)
    calls = collections.Counter(node.path for node in graph.nodes)
    pairs, reasons = [], {}
    for node in graph.nodes:
        if type(node.layer) in _LINEAR:
            found = _second(node, graph, calls)
            if isinstance(found, str):
                reasons[node.path] = found
            else:
                pairs.append((node, found))
    return pairs, reasons


def _second(first: LayerNode, graph: LayerGraph, calls: collections.Counter[str]) -> LayerNode | str:
    """The next kernel on the only path from another, or why there is none."""
    reason = _unfit(first, calls) or _not_homogeneous(first)
    node = first
    while not reason:
        if node in graph.outputs:
            return "its output is an output of the model"
        if len(node.consumers) != 1:
            return f"{len(node.consumers)} layers take the output of '{node.path}'"
        (node,) = node.consumers
        if type(node.layer) in _LINEAR:
            if getattr(node.layer, "groups", 1) > 1:
                return f"'{node.path}' ({type(node.layer).__name__}) has groups"
            return _unfit(node, calls) or node
        reason = _not_homogeneous(node)
    return reason


def _unfit(node: LayerNode, calls: collections.Counter[str]) -> str:
    """Why the kernel of a layer cannot be scaled, or ""."""
    layer, named = node.layer, f"'{node.path}' ({type(node.layer).__name__})"
    if calls[node.path] > 1:
        return f"{named} is called {calls[node.path]} times"
    if any(getattr(layer, f"{name}_constraint", None) is not None for name in ("kernel", "depthwise", "bias")):
        return f"{named} has a constraint"
    if not has_own_kernel(layer):
        return f"{named} computes with another kernel than its own (quantize() or enable_lora() of Keras)"
    return ""


def _not_homogeneous(node: LayerNode) -> str:
    """Why a layer does not pass on a scale of each channel, or ""; what follows the kernel counts, not the kernel."""
    layer, named = node.layer, f"'{node.path}' ({type(node.layer).__name__})"
    if getattr(layer, "data_format", "channels_last") == "channels_first":
        return f"{named} has its channels first"
    if is_own(layer, (layers.ReLU,)):
        if layer.max_value is not None:
            return f"{named} has max_value={layer.max_value}, which does not commute with a scale"
        return f"{named} has a threshold" if layer.threshold else ""
    if is_own(layer, (layers.Activation, *_LINEAR)):
        name = getattr(layer.activation, "__name__", type(layer.activation).__name__)
        return "" if layer.activation in _HOMOGENEOUS else f"{named} has the activation '{name}', which is not linear"
    if is_identity(layer) or is_own(layer, _PER_CHANNEL):
        return ""
    return f"{named} does not pass on a scale of each channel"


def _equalize_pairs(pairs: list[tuple[keras.Layer, keras.Layer]]) -> None:
    """Equalize pairs in turns, because a kernel between two others belongs to two pairs, and assign the result."""
    found = {id(layer): layer for pair in pairs for layer in pair}
    kernels = {key: _numbers(layer.kernel) for key, layer in found.items()}
    biases = {key: _numbers(layer.bias) if layer.use_bias else np.zeros(()) for key, layer in found.items()}
    for _ in range(_MOST_ROUNDS):
        largest = 0.0
        for first, second in pairs:
            one = _by_output(first, kernels[id(first)])
            two = _by_input(second, kernels[id(second)], channels=one.shape[1])
            bias = np.broadcast_to(biases[id(first)], one.shape[1])
            one, biases[id(first)], two, factor = equalize_pair(one, bias, two)
            kernels[id(first)] = one.reshape(first.kernel.shape)
            kernels[id(second)] = two.reshape(second.kernel.shape)
            largest = max(largest, float(np.abs(np.log(factor)).max()))
        if largest < _TOLERANCE:
            break
    for key, layer in found.items():
        layer.kernel.assign(kernels[key])
        if layer.use_bias:
            layer.bias.assign(biases[key])


def _numbers(variable: keras.Variable) -> np.ndarray:
    return keras.ops.convert_to_numpy(variable).astype(np.float64)


def _by_output(layer: keras.Layer, kernel: np.ndarray) -> np.ndarray:
    """A kernel with its output channels in the middle axis of three."""
    if type(layer) in _TRANSPOSED:
        return kernel.reshape(-1, *kernel.shape[-2:])
    channels = kernel.shape[-2] * kernel.shape[-1] if type(layer) in _DEPTHWISE else kernel.shape[-1]
    return kernel.reshape(-1, channels, 1)


def _by_input(layer: keras.Layer, kernel: np.ndarray, channels: int) -> np.ndarray:
    """A kernel with its input channels in the middle axis of three; after a Flatten they come once per position."""
    if type(layer) in _TRANSPOSED:
        return kernel.reshape(-1, channels, 1)
    return kernel.reshape(-1, channels, kernel.shape[-1])
