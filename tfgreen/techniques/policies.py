"""Pruning policies: which layers of a model to prune so that the zeros pay off where the model will run.

A policy is what ``tg.PruneConfig(policy=...)`` takes: a callable of the model.

References: "Sparse Inference" in the README of TensorFlow Lite's XNNPACK delegate, and ``xnn_check_nchw_compatibility``
in XNNPACK's ``src/subgraph.c``, for what runs sparse; ``tfmot.sparsity.keras.PruneForLatencyOnXNNPack``, whose rules
hold here too unless a comment says otherwise; E. Elsen et al., "Fast Sparse ConvNets", 2019, arXiv:1911.09723.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable

import keras
from keras import activations, layers

from tfgreen.config import Config
from tfgreen.errors import InvalidValueError, invalid_value, layer_subject
from tfgreen.model.graph import LayerGraph, LayerNode
from tfgreen.model.paths import own_parameters, replaceable_layers, walk
from tfgreen.quantization.op_classes import inner_operation


@dataclasses.dataclass(frozen=True, kw_only=True)
class PruneForLatencyOnXNNPack(Config):
    """Prune only what XNNPACK can run sparse: the 1x1 ``Conv2D`` layers of a model that qualifies as a whole.

    XNNPACK, which runs float models in LiteRT, skips zeros only in an unbroken chain of layers that it can run channels
    first. From each input the chain starts at a 3x3 convolution of stride 2 on 3 channels; towards each output it ends
    at a global average pooling. In between there may be 1x1 ``Conv2D``, 3x3 or 5x5 ``DepthwiseConv2D``, batch
    normalization, ReLU and a few more activations, additions and multiplications, bilinear upsampling, and global
    pooling that keeps its dimensions. Any layer may stand before the start and after the end.

    The latency falls only if at least two thirds of the weights of these convolutions are zero, the file stores them as
    sparse tensors, and XNNPACK has sparse kernels for the processor: ARM, WebAssembly, or x86 without AVX.

    Calling the policy on a model returns, for the path of each layer, ``""`` if it may be pruned, else the reason.

    Raises:
        TypeError: What it is called on is no ``keras.Model``.
        ValueError: The model is not built, is subclassed, or does not qualify; the first layer in the way is named.

    Example:
        >>> import keras
        >>> from keras import layers
        >>> model = keras.Sequential([
        ...     keras.Input((32, 32, 3)),
        ...     layers.ZeroPadding2D(1),
        ...     layers.Conv2D(8, 3, strides=2, activation="relu", name="first"),
        ...     layers.Conv2D(16, 1, activation="relu", name="pointwise"),
        ...     layers.GlobalAveragePooling2D(),
        ... ])
        >>> verdicts = PruneForLatencyOnXNNPack()(model)
        >>> verdicts["pointwise"], verdicts["first"]
        ('', 'its kernel is 3x3; XNNPACK runs only 1x1 Conv2D layers sparse')
    """

    def __call__(self, model: keras.Model) -> dict[str, str]:
        _check_qualifies(LayerGraph(model))
        return {path: _reason_dense(inner_operation(layer)) for path, layer in replaceable_layers(model)}


def _reason_dense(layer: keras.Operation) -> str:
    # As in TFMOT, 1x1 convolutions outside of the chain, such as a classifier after the pooling, are pruned as well.
    reason = "XNNPACK runs only 1x1 Conv2D layers sparse"
    if not isinstance(layer, layers.Conv2D):
        return reason
    return "" if layer.kernel_size == (1, 1) else "its kernel is {}x{}; {}".format(*layer.kernel_size, reason)


_START = (
    "sparse inference to start, before other layers with weights, with a Conv2D of kernel_size (3, 3), strides (2, 2), "
    "padding 'valid' and groups 1 on 3 input channels, whose input comes from a ZeroPadding2D(1) of its own"
)
_END = "a GlobalAveragePooling2D on the way to every output, with only layers that XNNPACK runs sparse before it"


def _check_qualifies(graph: LayerGraph) -> None:
    """Raise, naming the first layer in the way, if XNNPACK would run the model dense."""
    before, starts = _reach(graph.inputs, lambda node: node.consumers, _is_start)
    behind, _ = _reach(graph.outputs, lambda node: node.producers, _is_start)
    # A node that is reached from both sides is on a way from an input to an output that meets no start.
    startless = [node for node in graph.nodes if node in before & behind]
    if startless:
        raise _blocked(next((node for node in startless if _has_parameters(node)), startless[-1]), _START)

    before, _ = _reach(starts, lambda node: node.consumers, _is_end)
    behind, ends = _reach(graph.outputs, lambda node: node.producers, _is_end)
    endless = [node for node in graph.nodes if node in before & behind]
    if endless:
        raise _blocked(next((node for node in endless if _objection(node, starts)), endless[-1]), _END)

    inside, _ = _reach(starts, lambda node: node.consumers, lambda node: node in ends)
    for node in graph.nodes:
        objection = _objection(node, starts) if node in inside else ""
        if objection:
            raise _blocked(node, f"{objection}, between the start and the end of sparse inference")


def _reach(
    sources: Iterable[LayerNode], follow: Callable[[LayerNode], Iterable[LayerNode]], stop: Callable[[LayerNode], bool]
) -> tuple[set[LayerNode], set[LayerNode]]:
    """The nodes that are reached from ``sources`` without passing those at which to stop, and the latter."""
    passed: set[LayerNode] = set()
    stops: set[LayerNode] = set()
    waiting = list(sources)
    while waiting:
        node = waiting.pop()
        if stop(node):
            stops.add(node)
        elif node not in passed:
            passed.add(node)
            waiting.extend(follow(node))
    return passed, stops


def _is_start(node: LayerNode) -> bool:
    layer = inner_operation(node.layer)
    return (
        isinstance(layer, layers.Conv2D)
        and (layer.kernel_size, layer.strides, layer.padding, layer.groups) == ((3, 3), (2, 2), "valid", 1)
        and layer.data_format == "channels_last"
        and [shape[-1] for shape in node.input_shapes] == [3]
        and _zeros_before(node) == ((1, 1), (1, 1))
    )


def _is_end(node: LayerNode) -> bool:
    layer = inner_operation(node.layer)
    return isinstance(layer, layers.GlobalAveragePooling2D) and layer.data_format == "channels_last"


# Allowed whatever their settings. Dropout and Identity are gone from the exported file.
_ELEMENTWISE = (
    layers.Add, layers.Multiply, layers.ReLU, layers.LeakyReLU, layers.ELU, layers.Dropout, layers.Identity,
)
# TFMOT's list. Hard swish is new in Keras 3: in Keras 2 it was written as additions, ReLU6 and multiplications, which
# TFMOT allows, and XNNPACK runs both forms.
_ACTIVATIONS = (
    activations.linear, activations.relu, activations.relu6, activations.leaky_relu, activations.elu,
    activations.sigmoid, activations.hard_silu,
)
# Classes of keras.ops, which Keras does not export. TFMOT allows a raw subtraction too, but to XNNPACK it is a
# different operator than addition, for which it has no channels-first form: the whole model would run dense.
_OPERATIONS = ("Add", "Multiply", "Relu", "Relu6", "LeakyRelu", "Elu", "Sigmoid", "HardSilu")
_ZEROS_FOR_KERNEL = {(3, 3): ((1, 1), (1, 1)), (5, 5): ((2, 2), (2, 2))}


def _objection(node: LayerNode, starts: Collection[LayerNode]) -> str:
    """What was expected of a node of the chain in order to run sparse; empty if it does."""
    layer = inner_operation(node.layer)
    if not isinstance(layer, keras.Layer):
        known = type(layer).__module__.startswith("keras.") and type(layer).__name__ in _OPERATIONS
        return "" if known else f"a raw operation of {', '.join(_OPERATIONS)}"
    if getattr(layer, "data_format", "channels_last") != "channels_last":  # TFMOT does not look; LiteRT is NHWC
        return "data_format 'channels_last'"
    # TFMOT does not look at the activation in a convolution, but it becomes the same operator as a layer of its own.
    if isinstance(layer, (layers.Activation, layers.Conv2D, layers.DepthwiseConv2D)):
        if layer.activation not in _ACTIVATIONS and not isinstance(layer.activation, _ELEMENTWISE):
            return f"an activation of {', '.join(function.__name__ for function in _ACTIVATIONS)}"
    if node in starts or isinstance(layer, (*_ELEMENTWISE, layers.Activation)):
        return ""
    if isinstance(layer, layers.Conv2D):
        settings = (layer.kernel_size, layer.strides, layer.dilation_rate, layer.groups)
        sparse = settings == ((1, 1), (1, 1), (1, 1), 1)
        return "" if sparse else "a Conv2D with kernel_size (1, 1), strides (1, 1), dilation_rate (1, 1) and groups 1"
    if isinstance(layer, layers.DepthwiseConv2D):
        return "" if _is_sparse_depthwise(node, layer) else (
            "a DepthwiseConv2D with kernel_size (3, 3) or (5, 5), depth_multiplier 1, no dilation, and padding 'same' "
            "with strides (1, 1), or 'valid' with strides (1, 1) or (2, 2) and as much ZeroPadding2D of its own"
        )
    if isinstance(layer, layers.ZeroPadding2D):
        # XNNPACK fuses the zeros with the convolution that takes them, and has no channels-first padding. TFMOT allows
        # it anywhere.
        takers = [inner_operation(consumer.layer) for consumer in node.consumers]
        fused = len(takers) == 1 and isinstance(takers[0], layers.DepthwiseConv2D) and takers[0].padding == "valid"
        return "" if fused else "a ZeroPadding2D that goes to one DepthwiseConv2D with padding 'valid' and nowhere else"
    if isinstance(layer, layers.GlobalAveragePooling2D):
        return "" if layer.keepdims else "keepdims=True"
    if isinstance(layer, layers.BatchNormalization):
        return "" if layer.axis in (-1, 3) else "axis -1 or 3"
    if isinstance(layer, layers.UpSampling2D):
        return "" if layer.interpolation == "bilinear" else "interpolation 'bilinear'"
    return "a layer that XNNPACK runs sparse (1x1 Conv2D, DepthwiseConv2D, BatchNormalization, ReLU, Add, Multiply ...)"


def _is_sparse_depthwise(node: LayerNode, layer: layers.DepthwiseConv2D) -> bool:
    if layer.kernel_size not in _ZEROS_FOR_KERNEL or (layer.depth_multiplier, layer.dilation_rate) != (1, (1, 1)):
        return False
    if layer.padding == "same":
        return bool(layer.strides == (1, 1))
    return layer.strides in ((1, 1), (2, 2)) and _zeros_before(node) == _ZEROS_FOR_KERNEL[layer.kernel_size]


def _zeros_before(node: LayerNode) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """The padding of a ZeroPadding2D that feeds this node alone, else None."""
    for producer in node.producers:
        layer = inner_operation(producer.layer)
        if isinstance(layer, layers.ZeroPadding2D) and len(producer.consumers) == 1:
            return layer.padding
    return None


def _has_parameters(node: LayerNode) -> bool:
    layer = node.layer
    return isinstance(layer, keras.Layer) and any(own_parameters(sub) for _, sub in [("", layer), *walk(layer)])


def _blocked(node: LayerNode, expected: str) -> InvalidValueError:
    layer = inner_operation(node.layer)
    names = "kernel_size strides padding dilation_rate groups depth_multiplier activation data_format keepdims axis"
    values = {name: getattr(layer, name) for name in f"{names} interpolation".split() if hasattr(layer, name)}
    shown = ", ".join(f"{name} {getattr(value, '__name__', repr(value))}" for name, value in values.items())
    settings = f" with {shown}" if shown else ""
    origins = " and ".join(type(inner_operation(producer.layer)).__name__ for producer in node.producers)
    received = f"{type(layer).__name__}{settings} on {' and '.join(map(str, node.input_shapes))} from {origins}"
    fix = "Change the layer, or prune without PruneForLatencyOnXNNPack: the zeros then save bytes, but no time."
    return invalid_value(layer_subject(node.path, layer), expected=expected, received=received, fix=fix)
