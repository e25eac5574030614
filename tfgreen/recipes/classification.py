"""What the demo needs of its data: the arrays of a classifier, checked, before Keras is imported."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfgreen.errors import invalid_value
from tfgreen.recipes.data.checks import stratum
from tfgreen.recipes.data.data import Data
from tfgreen.recipes.data.parts import naming
from tfgreen.recipes.data.split import Split

# What the demo writes; here, so that its folder can be checked before Keras is imported.
_TFLITE_FILES = ("model.tflite", "float32.tflite", "pruned-float32.tflite")
RESULT_FILES = ("report.json", "report.html", "report.md", "pruned.keras", *_TFLITE_FILES)


def class_data(data: Data) -> Data:
    """The training and test split of a classifier with one input, in memory, with class numbers for labels.

    Raises:
        ValueError: There are several inputs or targets, labels are no class numbers and not one-hot, or there is no
            test split.

    Example:
        >>> x, y = np.zeros((3, 2)), np.eye(2)[[0, 1, 1]]
        >>> class_data(Data.from_arrays(x, y, test=(x, y))).test.y.tolist()
        [0, 1, 1]
    """
    train, test = _arrays(data.train), _arrays(data.test)
    return Data.from_arrays(*train, test=test, source=data.source, validation_share=0)


def check_task(data: Data) -> None:
    """Raise unless data in memory is that of a classifier; what is in files is seen when it is read."""
    if not data.train.in_batches:
        with naming(data.source):
            class_data(data)


def _arrays(split: Split) -> tuple[np.ndarray, np.ndarray]:
    """Samples, and class numbers as int64 of shape ``(samples,)``."""
    x, y = _parts(split)
    if not isinstance(x, np.ndarray):
        expected, received = "one array of samples", f"a {type(x).__name__}"
        raise invalid_value(f"x_{split.name}", expected=expected, received=received)
    classes = stratum(y)
    if classes is None or classes.dtype.kind not in "iub":
        found = np.asarray(y)
        expected = "class numbers of shape (samples,) or one-hot rows of shape (samples, classes)"
        raise invalid_value(f"y_{split.name}", expected=expected, received=f"shape {found.shape}, dtype {found.dtype}")
    return x, classes.astype("int64")


def _parts(split: Split) -> tuple[Any, Any]:
    if not split.in_batches:
        return split.x, split.y
    batches = [batch[:2] for batch in split.x.as_numpy_iterator() if isinstance(batch, tuple)]
    if not batches or not all(isinstance(part, np.ndarray) for part in batches[0]):
        expected = "one input and one target for each sample"
        raise invalid_value(f"the {split.name} split", expected=expected, received=split.x.element_spec)
    x, y = (np.concatenate(parts) for parts in zip(*batches))
    return x, y
