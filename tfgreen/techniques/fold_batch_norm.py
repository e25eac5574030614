"""Fold batch normalization into the layer before it, as converters do, but before compression instead of after it.

Reference: B. Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference", 2018, arXiv:1712.05877, section 3.2.
"""

from __future__ import annotations

import collections
from collections.abc import Mapping

import keras
import numpy as np
from keras import layers

from tfgreen.errors import invalid_state, layer_subject
from tfgreen.model.batch_norm import gain_and_bias
from tfgreen.model.graph import LayerGraph
from tfgreen.model.internals import add_bias, is_container
from tfgreen.model.paths import check_built_model
from tfgreen.model.rebuild import rebuild
from tfgreen.model.weights import channel_axis
from tfgreen.transforms.compressed import compressed_layers

# Layer class -> the weight to scale, and its axes of output channels.
_FOLDABLE: Mapping[type[keras.Layer], tuple[str, tuple[int, ...]]] = {
    **dict.fromkeys((layers.DepthwiseConv1D, layers.DepthwiseConv2D), ("kernel", (-2, -1))),
    **dict.fromkeys((layers.SeparableConv1D, layers.SeparableConv2D), ("pointwise_kernel", (-1,))),
    **dict.fromkeys((layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose), ("kernel", (-2,))),
    **dict.fromkeys((layers.Conv1D, layers.Conv2D, layers.Conv3D, layers.Dense), ("kernel", (-1,))),
}


def fold_batch_norm(model: keras.Model) -> keras.Model:
    """Return a copy of ``model`` whose batch normalization is part of the kernels and biases before it.

    A ``BatchNormalization`` is folded if it is called once, on the output of a convolution or dense layer without
    activation that nothing else takes. The model then has no such layer any more, and a layer without a bias gets one.
    Others, and those inside of subclassed models and blocks, stay.

    Args:
        model: A built model. It is not changed.

    Returns:
        A model with the same predictions (inference mode), up to float32 rounding; not compiled.

    Raises:
        TypeError: ``model`` is no ``keras.Model``.
        ValueError: The model is not built, or a layer cannot be copied.

    Example:
        >>> import keras
        >>> model = keras.Sequential([
        ...     keras.Input((3,)), keras.layers.Dense(2, use_bias=False, name="dense"),
        ...     keras.layers.BatchNormalization(name="norm")])
        >>> folded = fold_batch_norm(model)
        >>> [layer.name for layer in folded.layers], folded.get_layer("dense").use_bias
        (['dense'], True)
    """
    check_built_model(model)
    norm_after = foldable(model) if is_container(model) else {}
    folded = set(norm_after.values())
    originals = {node.path: node.layer for node in LayerGraph(model).nodes} if folded else {}

    def replace(path: str, layer: keras.Layer) -> keras.Layer | None:
        if path in norm_after:
            return _scaled(layer, originals[norm_after[path]])
        return None if path in folded else layer

    return rebuild(model, replace)


def check_plain(model: keras.Model, fix: str) -> None:
    """Raise if a layer is compressed: its weights are not the ones that it computes with."""
    for path, layer in compressed_layers(model) if isinstance(model, keras.Model) else ():
        raise invalid_state(f"{layer_subject(path, layer.layer)} is compressed.", fix)


def foldable(model: keras.Model) -> dict[str, str]:
    """Path of each layer of a graph into which batch normalization can be folded -> path of the latter."""
    graph = LayerGraph(model)
    calls = collections.Counter(node.path for node in graph.nodes)
    found = {}
    for norm in graph.nodes:
        if not isinstance(norm.layer, layers.BatchNormalization) or calls[norm.path] > 1 or len(norm.producers) != 1:
            continue
        producer = norm.producers[0]
        alone = calls[producer.path] == 1 and producer.consumers == [norm] and producer not in graph.outputs
        rank = len(producer.output_shapes[0])
        same_channels = norm.layer.axis % rank == channel_axis(producer.layer, rank)
        if alone and same_channels and _takes_scale(producer.layer):
            found[producer.path] = norm.path
    return found


def has_own_kernel(layer: keras.Operation) -> bool:
    """Whether a layer computes with the kernel it stores: not after Keras's ``quantize()`` or ``enable_lora()``."""
    return not (getattr(layer, "quantization_mode", None) or getattr(layer, "lora_enabled", False))


def _takes_scale(layer: keras.Operation) -> bool:
    """Whether the weights of a layer can take in a scale and an offset of its outputs."""
    if type(layer) not in _FOLDABLE or layer.activation is not keras.activations.linear or not has_own_kernel(layer):
        return False
    return all(getattr(layer, f"{name}_constraint", None) is None for name in ("kernel", "pointwise", "depthwise"))


def _scaled(layer: keras.Layer, norm: layers.BatchNormalization) -> keras.Layer:
    """A layer with the factor and the offset of the normalization after it in its weights."""
    weight, axes = _FOLDABLE[type(layer)]
    bias = 0.0 if layer.bias is None else keras.ops.cast(layer.bias, "float64")
    factor, offset = map(keras.ops.convert_to_numpy, gain_and_bias(norm, bias, "float64"))
    if layer.bias is None:
        add_bias(layer, len(offset))
    variable = getattr(layer, weight)
    kernel = keras.ops.convert_to_numpy(variable).astype(np.float64)
    shape = [kernel.shape[axis] if axis - kernel.ndim in axes else 1 for axis in range(kernel.ndim)]
    variable.assign(kernel * factor.reshape(shape))
    layer.bias.assign(offset)
    return layer
