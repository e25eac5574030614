"""Whether the features of a tensor fit one 8-bit scale, read off the layer that makes them alike."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers, ops

from tfgreen.quantization.op_classes import is_own

_LEAST_SCALES = 8.0  # of a feature's deviation: rounding then adds a thousandth of its variance
_DEVIATIONS = 3.0


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
