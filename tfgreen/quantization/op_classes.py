"""Predicates by class: how LiteRT treats the ranges around a layer or raw operation that runs Keras's own code."""

from __future__ import annotations

import keras
from keras import activations, layers

from tfgreen.model.operation_layer import OperationLayer
from tfgreen.model.weights import is_own
from tfgreen.typing import Shape

FUSED = (activations.linear, activations.relu, activations.relu6)  # computed within the operation before them

AVERAGE_POOLING = (layers.AveragePooling1D, layers.AveragePooling2D)
# Keras has them from 3.13 on.
ADAPTIVE_AVERAGE_POOLING = tuple(
    getattr(layers, name) for name in ("AdaptiveAveragePooling1D", "AdaptiveAveragePooling2D") if hasattr(layers, name)
)

_TRANSPOSED = (layers.Conv1DTranspose, layers.Conv2DTranspose)
_KERNELS = (
    *(layers.Dense, layers.EinsumDense, layers.Conv1D, layers.Conv2D, layers.DepthwiseConv1D, layers.DepthwiseConv2D),
    *_TRANSPOSED,
)
_SEPARABLE = (layers.SeparableConv1D, layers.SeparableConv2D)
# Classes of layers and raw operations. The latter go by name, because Keras does not publish them.
_IDENTITY = {
    *(layers.Identity, layers.Dropout, layers.SpatialDropout1D, layers.SpatialDropout2D, layers.SpatialDropout3D),
    *(layers.AlphaDropout, layers.GaussianDropout, layers.GaussianNoise, layers.ActivityRegularization),
    *"Identity StopGradient Copy".split(),
}
_PASS_THROUGH = {
    *(layers.Flatten, layers.Reshape, layers.Permute, layers.RepeatVector, layers.Masking, *AVERAGE_POOLING),
    *(layers.MaxPooling1D, layers.MaxPooling2D, layers.MaxPooling3D),
    *(layers.GlobalMaxPooling1D, layers.GlobalMaxPooling2D, layers.GlobalMaxPooling3D),
    *(layers.ZeroPadding1D, layers.ZeroPadding2D, layers.ZeroPadding3D),
    *(layers.Cropping1D, layers.Cropping2D, layers.Cropping3D),
    *(layers.UpSampling1D, layers.UpSampling2D, layers.UpSampling3D),
    *"Reshape Transpose Squeeze ExpandDims GetItem Flip Moveaxis Swapaxes Ravel MaxPool Repeat Tile Slice".split(),
    *"Split Unstack Roll AveragePool Max Pad".split(),
}
_CONCAT_LIKE = {
    *(layers.Concatenate, layers.Maximum, layers.Minimum),
    *"Concatenate Stack Maximum Minimum Where Pad".split(),
}
_ELEMENTWISE = {
    *(layers.BatchNormalization, layers.Add, layers.Subtract, layers.Multiply),
    *"Add Subtract Multiply".split(),
}
_PRODUCT = {
    *(layers.Multiply, layers.Rescaling, layers.BatchNormalization, layers.Normalization),
    *"Multiply Divide TrueDivide".split(),
}


def inner_operation(layer: keras.Operation) -> keras.Operation:
    """The layer or raw operation that wrappers of this package stand for."""
    inner = getattr(layer, "stands_for", layer)
    return inner.operation if isinstance(inner, OperationLayer) else inner


def operation_name(layer: keras.Operation) -> str:
    """The class of a raw operation; "" for a layer, whose class may bear any name."""
    return "" if isinstance(layer, keras.Layer) else type(layer).__name__


def _is_among(layer: keras.Operation, classes: set[type | str]) -> bool:
    own = tuple(cls for cls in classes if isinstance(cls, type))
    return is_own(layer, own) or operation_name(layer) in classes


def has_kernel(layer: keras.Operation) -> bool:
    """Whether LiteRT runs a layer as one operation with a kernel, into which it fuses BatchNormalization and ReLU."""
    return is_own(layer, _KERNELS)


def is_separable(layer: keras.Operation) -> bool:
    """Whether a layer is two kernels, one after the other."""
    return is_own(layer, _SEPARABLE)


def is_identity(layer: keras.Operation) -> bool:
    """Whether a layer returns its input when it is not being trained."""
    linear = is_own(layer, (layers.Activation,)) and layer.activation is activations.linear
    return linear or _is_among(layer, _IDENTITY)


def is_pass_through(layer: keras.Operation) -> bool:
    """Whether LiteRT gives the output of a layer the range of its input."""
    return is_identity(layer) or _is_among(layer, _PASS_THROUGH)


def is_averaging(layer: keras.Operation) -> bool:
    """Whether a pass-through layer computes new values, which LiteRT rounds to the range of the input."""
    bilinear = is_own(layer, (layers.UpSampling2D,)) and layer.interpolation != "nearest"
    return bilinear or is_own(layer, AVERAGE_POOLING) or operation_name(layer) == "AveragePool"


def averages_whole_map(layer: keras.Layer, input_shape: Shape, output_shape: Shape) -> bool:
    """Whether one window of a layer of ``AVERAGE_POOLING`` holds the whole map."""
    axes = slice(1, -1) if layer.data_format == "channels_last" else slice(2, None)
    return tuple(input_shape[axes]) == tuple(layer.pool_size) and set(output_shape[axes]) == {1}


def is_concat_like(layer: keras.Operation) -> bool:
    """Whether LiteRT gives all inputs of a layer the range of its output. A padding does so where it adds other values
    than zeros, which every range holds."""
    return _is_among(layer, _CONCAT_LIKE)


def gives_back_range(layer: keras.Operation) -> bool:
    """Whether LiteRT gives what a layer takes in, or what it is fused into, the range of its output."""
    return is_concat_like(layer) or is_fused_activation(layer) or operation_name(layer) == "Clip"


def is_elementwise(layer: keras.Operation) -> bool:
    """Whether a layer is one sum or product, into which LiteRT fuses a ReLU."""
    return _is_among(layer, _ELEMENTWISE)


def is_product(layer: keras.Operation) -> bool:
    """Whether a layer multiplies tensors, or one by numbers that are known."""
    return _is_among(layer, _PRODUCT)


def normalized_axis(layer: keras.Operation) -> int | tuple[int, ...] | None:
    """The axes over which a layer divides by the norm; None for any other."""
    is_norm = is_own(layer, (layers.UnitNormalization,)) or operation_name(layer) == "Normalize"
    return layer.axis if is_norm else None


def can_fuse_relu(layer: keras.Operation) -> bool:
    """Whether LiteRT fuses a ReLU into a kernel; the converter does not where the kernel is transposed."""
    return not isinstance(layer, _TRANSPOSED)


def is_relu(layer: keras.Operation) -> bool:
    """Whether a layer or raw operation is a ReLU, with or without bounds and a slope."""
    return is_own(layer, (layers.ReLU,)) or operation_name(layer) == "ReLU"


def is_fused_activation(layer: keras.Operation) -> bool:
    """Whether LiteRT fuses a layer into the operation before it: a ReLU, whatever its upper bound."""
    if is_relu(layer):
        return not layer.negative_slope and not layer.threshold
    if is_own(layer, (layers.Activation,)):
        return layer.activation in FUSED
    return operation_name(layer) in ("Relu", "Relu6")
