"""Names for what signatures take and return. Nothing here is imported at run time but Python's own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, Union

if TYPE_CHECKING:
    import keras
    import numpy as np
    import tensorflow as tf

FilePath: TypeAlias = Union[str, "os.PathLike[str]"]
Shape: TypeAlias = tuple[Union[int, None], ...]

# A tensor of the backend, symbolic or not, or a NumPy array: whatever keras.ops computes with.
Tensor: TypeAlias = "tf.Tensor | keras.KerasTensor | keras.Variable | np.ndarray"

# Tensors in the structure in which a model takes or returns them: one, or lists and dicts of them.
Tensors: TypeAlias = "Tensor | Sequence[Tensors] | Mapping[str, Tensors]"

# The same with NumPy arrays.
Arrays: TypeAlias = "np.ndarray | Sequence[Arrays] | Mapping[str, Arrays]"

# Samples in every form in which Keras's own methods take them: arrays in the structure of the model's inputs, or
# batches of them (with targets, of which nothing is read, or without).
Samples: TypeAlias = "Arrays | tf.data.Dataset | keras.utils.PyDataset | Iterable[Any]"

# A number, or what gives one for a training step: a keras.optimizers.schedules object or a function of the step.
Schedule: TypeAlias = Union[float, Callable[["Tensor"], "Tensor"]]

# What to_dict returns and from_config takes: plain Python values.
PlainDict: TypeAlias = dict[str, Any]
