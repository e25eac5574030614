"""What LiteRT makes of the ranges around a layer or raw operation: by its kind, as far as it runs Keras's own code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import activations, layers

FUSED = (activations.linear, activations.relu, activations.relu6)  # computed within the operation before them

ATTENTION = (layers.MultiHeadAttention, layers.GroupQueryAttention)
AVERAGE_POOLING = (layers.AveragePooling1D, layers.AveragePooling2D)
# Keras has them from 3.13 on.
ADAPTIVE_AVERAGE_POOLING = tuple(
    getattr(layers, name) for name in ("AdaptiveAveragePooling1D", "AdaptiveAveragePooling2D") if hasattr(layers, name)
)

_KERNELS = (
    layers.Dense, layers.EinsumDense, layers.Conv1D, layers.Conv2D, layers.DepthwiseConv1D, layers.DepthwiseConv2D,
    layers.Conv1DTranspose, layers.Conv2DTranspose,
)  # fmt: skip
_SEPARABLE = (layers.SeparableConv1D, layers.SeparableConv2D)
_ONLY_IN_TRAINING = (
    layers.Identity, layers.Dropout, layers.SpatialDropout1D, layers.SpatialDropout2D, layers.SpatialDropout3D,
    layers.AlphaDropout, layers.GaussianDropout, layers.GaussianNoise, layers.ActivityRegularization,
)  # fmt: skip
_SAME_SCALE = (
    layers.Flatten, layers.Reshape, layers.Permute, layers.RepeatVector, layers.MaxPooling1D, layers.MaxPooling2D,
    layers.MaxPooling3D, layers.AveragePooling1D, layers.AveragePooling2D, layers.GlobalMaxPooling1D,
    layers.GlobalMaxPooling2D, layers.GlobalMaxPooling3D, layers.ZeroPadding1D, layers.ZeroPadding2D,
    layers.ZeroPadding3D, layers.Cropping1D, layers.Cropping2D, layers.Cropping3D, layers.UpSampling1D,
    layers.UpSampling2D, layers.UpSampling3D, layers.Masking,
)  # fmt: skip
# Classes of raw operations, by name because Keras does not publish them.
_NOTHING_OPERATIONS = frozenset("Identity StopGradient Copy".split())
_SAME_SCALE_OPERATIONS = frozenset(
    "Reshape Transpose Squeeze ExpandDims GetItem Flip Moveaxis Swapaxes Ravel MaxPool Repeat Tile Slice Split "
    "Unstack Roll AveragePool Max Pad".split()
)
_JOINS_OPERATIONS = frozenset("Concatenate Stack Maximum Minimum".split())


def is_own(layer: Any, classes: tuple[type, ...]) -> bool:
    """Whether a layer computes as one of Keras's classes does: it is one, or a subclass that overrides nothing."""
    return isinstance(layer, classes) and all(
        getattr(type(layer), method).__module__.startswith("keras.")
        for method in ("call", "convolution_op")
        if hasattr(type(layer), method)
    )


def operation_name(layer: Any) -> str:
    """The class of a raw operation; "" for a layer, whose class may bear any name."""
    return "" if isinstance(layer, keras.Layer) else type(layer).__name__


def has_kernel(layer: Any) -> bool:
    """Whether LiteRT runs a layer as one operation with a kernel, into which BatchNorm and ReLU can be merged."""
    return is_own(layer, _KERNELS)


def is_separable(layer: Any) -> bool:
    """Whether a layer is two kernels, one after the other."""
    return is_own(layer, _SEPARABLE)


def does_nothing(layer: Any) -> bool:
    """Whether a layer passes on what it gets when it is not being trained."""
    return is_own(layer, _ONLY_IN_TRAINING) or operation_name(layer) in _NOTHING_OPERATIONS


def shares_scale(layer: Any) -> bool:
    """Whether LiteRT gives the output of a layer the range of its input."""
    return does_nothing(layer) or is_own(layer, _SAME_SCALE) or operation_name(layer) in _SAME_SCALE_OPERATIONS


def averages(layer: Any) -> bool:
    """Whether a layer that shares its input's scale computes new values, which LiteRT rounds to it."""
    bilinear = is_own(layer, (layers.UpSampling2D,)) and layer.interpolation != "nearest"
    averaging = is_own(layer, AVERAGE_POOLING)
    return averaging or bilinear or operation_name(layer) == "AveragePool"


def averages_whole(layer: Any, came: Sequence[int | None], made: Sequence[int | None]) -> bool:
    """Whether a pooling layer averages the whole of a map as one window.

    Args:
        layer: One of ``AVERAGE_POOLING``.
        came: Shape of its input.
        made: Shape of its output.
    """
    axes = slice(1, -1) if layer.data_format == "channels_last" else slice(2, None)
    return tuple(came[axes]) == tuple(layer.pool_size) and set(made[axes]) == {1}


def joins(layer: Any) -> bool:
    """Whether LiteRT gives all inputs of a layer the range of its output."""
    joining = (layers.Concatenate, layers.Maximum, layers.Minimum)
    return is_own(layer, joining) or operation_name(layer) in _JOINS_OPERATIONS


def sums(layer: Any) -> bool:
    """Whether a layer is one sum or product, into which LiteRT merges a ReLU."""
    summing = (layers.BatchNormalization, layers.Add, layers.Subtract, layers.Multiply)
    return is_own(layer, summing) or operation_name(layer) in ("Add", "Subtract", "Multiply")


def fuses_relu(layer: Any) -> bool:
    """Whether LiteRT computes a ReLU within a kernel; the converter does not where the kernel is transposed."""
    return not isinstance(layer, (layers.Conv1DTranspose, layers.Conv2DTranspose))


def is_relu(layer: Any) -> bool:
    """Whether a layer or raw operation is a ReLU that may have bounds and a slope."""
    return is_own(layer, (layers.ReLU,)) or operation_name(layer) == "ReLU"


def fuses(layer: Any) -> bool:
    """Whether LiteRT computes a layer within the operation before it: a ReLU, whatever its upper bound."""
    if is_relu(layer):
        return not layer.negative_slope and not layer.threshold
    if is_own(layer, (layers.Activation,)):
        return layer.activation in FUSED
    return operation_name(layer) in ("Relu", "Relu6")
