"""A hash that says which Keras model a file was made from."""

from __future__ import annotations

import hashlib

import keras
import numpy as np

from tfgreen.model.paths import walk, weights_by_path


def fingerprint(model: keras.Model) -> str:
    """SHA-256, in hexadecimal, of the classes and activations of a model's layers in order, and of the dtype, shape and
    bytes of each weight. Names are left out: Keras counts them up within a process; so are seeds, which a call changes.

    Example:
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, kernel_initializer="ones", name="out")])
        >>> fingerprint(model)[:8]
        '2a50c857'
    """
    digest = hashlib.sha256()
    for path, layer in walk(model):
        activation = getattr(getattr(layer, "activation", None), "__name__", "")
        digest.update(f"{path.count('/')}:{type(layer).__name__}:{activation}\n".encode())
    for variable in weights_by_path(model).values():
        if variable.name == "seed_generator_state":
            continue
        array = np.ascontiguousarray(variable.numpy())
        digest.update(f"{variable.dtype}:{array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
