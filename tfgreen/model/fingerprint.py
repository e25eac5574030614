"""A hash that says which Keras model a file was made from."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np


def fingerprint(model: Any) -> str:
    """SHA-256 of a model's layers and weights, in hexadecimal: of the paths and classes of its layers in order, and of
    the path, dtype, shape and bytes of each weight.

    Example:
        >>> import keras
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, kernel_initializer="ones", name="out")])
        >>> fingerprint(model)[:8]
        '69abca94'
    """
    import keras

    from tfgreen.model.paths import walk, weights_by_path

    digest = hashlib.sha256()
    for path, layer in walk(model):
        digest.update(f"{path}:{type(layer).__name__}\n".encode())
    for path, variable in weights_by_path(model).items():
        array = np.ascontiguousarray(keras.ops.convert_to_numpy(variable))
        digest.update(f"{path}:{variable.dtype}:{array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
