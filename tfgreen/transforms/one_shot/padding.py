"""Padding: positions of a sequence that calibration data says do not count, as they do in no statistics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from tfgreen.model.call_spec import of_same_part, padding_inputs
from tfgreen.model.internals import keras_mask
from tfgreen.structure import CallSpec
from tfgreen.typing import Tensor


class Padding:
    """What is padding in a batch: by inputs called ``padding_mask`` or ``attention_mask``, or by a mask of Keras's."""

    def __init__(self, spec: CallSpec, batch: Mapping[str, np.ndarray]) -> None:
        self._masks = {name: np.asarray(batch[name]) != 0 for name in padding_inputs(spec) if name in batch}

    def removed(self, path: str, args: tuple, kwargs: Mapping[str, object]) -> tuple[tuple, Mapping[str, object]]:
        """The arguments of the call of the layer at a path, of shape (batch, length, ...), with 0 where padding is.

        Of several masks that fit, that of an encoder or decoder is the one which bears the name of part of the path.

        Example:
            >>> from tfgreen.structure import InputSpec
            >>> spec = CallSpec(["padding_mask"], (InputSpec("padding_mask", (3,), "int32"),))
            >>> padding = Padding(spec, {"padding_mask": np.array([[1, 1, 0]])})
            >>> np.asarray(padding.removed("dense", (np.ones((1, 3, 1)),), {})[0][0]).ravel()
            array([1., 1., 0.])
        """

        def visit(x: Any) -> Any:
            floats = hasattr(x, "shape") and keras.backend.is_float_dtype(keras.backend.standardize_dtype(x.dtype))
            mask = self._mask_of(path, x) if floats and len(x.shape) > 2 else None
            if mask is None:
                return x
            mask = ops.reshape(ops.cast(mask, "bool"), (*x.shape[:2], *[1] * (len(x.shape) - 2)))
            return ops.where(mask, x, ops.zeros_like(x))

        visited: tuple[tuple, Mapping[str, object]] = keras.tree.map_structure(visit, (args, dict(kwargs)))
        return visited

    def _mask_of(self, path: str, x: Tensor) -> Tensor | None:
        fitting = {name: mask for name, mask in self._masks.items() if mask.shape == tuple(x.shape[:2])}
        if len(fitting) > 1:
            fitting = {name: fitting[name] for name in of_same_part(fitting, path)}
        mask = keras_mask(x)
        if mask is None and len(fitting) == 1:
            (mask,) = fitting.values()
        return mask
