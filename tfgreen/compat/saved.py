"""Files that TFMOT has saved: Keras 3 cannot load them, and ``tg.load_model`` does."""

from __future__ import annotations

import keras

from tfgreen.errors import InvalidValueError
from tfgreen.typing import PlainDict


def wrapped_by_tfmot(*names: str) -> dict[str, type[keras.Layer]]:
    """For each of these classes of TFMOT one that says, when a file names it, how the file is loaded.

    Example:
        >>> list(wrapped_by_tfmot("ClusterWeights"))
        ['ClusterWeights']
    """
    return {name: type(name, (_OfTfmot,), {}) for name in names}


class _OfTfmot(keras.layers.Layer):
    @classmethod
    def from_config(cls, config: PlainDict) -> keras.Layer:
        raise InvalidValueError(
            f"{cls.__name__}: expected a model of Keras 3, received one that TFMOT has saved with Keras 2. Load it "
            "with tg.load_model(path), which reads .h5 files of TFMOT's wrappers as its strip functions leave them."
        )
