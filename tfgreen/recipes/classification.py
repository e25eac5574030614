"""What the demo needs of its data: the arrays of a classifier, checked, before Keras is imported."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from tfgreen.errors import invalid_value
from tfgreen.recipes.data.data import Data
from tfgreen.recipes.data.parts import naming
from tfgreen.recipes.data.split import Split
from tfgreen.typing import FilePath, Shape, Tensors

if TYPE_CHECKING:
    import keras

# What the demo writes; here, so that its folder can be checked before Keras is imported.
_TFLITE_FILES = ("model.tflite", "float32.tflite", "pruned-float32.tflite")
RESULT_FILES = ("report.json", "report.html", "report.md", "pruned.keras", *_TFLITE_FILES)


@dataclasses.dataclass(frozen=True, eq=False)
class Classification:
    """Training and test samples of a classifier with one input; ``source`` says where they come from.

    Samples are finite numbers of shape ``(samples, *sample shape)``; labels become class numbers from 0, int64 of
    shape ``(samples,)``.
    """

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    source: str

    def __post_init__(self) -> None:
        for split in ("train", "test"):
            _check_inputs(f"x_{split}", getattr(self, f"x_{split}"))
            object.__setattr__(self, f"y_{split}", class_numbers(f"y_{split}", getattr(self, f"y_{split}")))
        if self.x_train.shape[1:] != self.x_test.shape[1:]:
            expected = f"samples of shape {self.x_train.shape[1:]}, as in x_train"
            raise invalid_value("x_test", expected=expected, received=self.x_test.shape[1:])

    @classmethod
    def of(cls, data: Data) -> Classification:
        """The training and test split, read into memory."""
        return cls(*_arrays(data.train), *_arrays(data.test), data.source)

    @property
    def classes(self) -> int:
        """One more than the largest label."""
        return int(max(self.y_train.max(), self.y_test.max())) + 1


def load_classification(path: FilePath) -> Data:
    """Read the ``.npz`` file of a classifier, of which nothing is drawn from train; raises where it is of another task.

    For labels see :func:`class_numbers`.
    """
    data = Data.from_npz(path, validation_share=0)
    check_task(data)
    return data


def check_task(data: Data) -> None:
    """Raise unless data in memory is that of a classifier; what is in files is seen when it is read."""
    if not data.train.in_batches:
        with naming(data.source):
            Classification.of(data)


def check_fits(data: Classification, model: keras.Model) -> None:
    """Raise unless ``model`` is a classifier of one input and one output that ``data`` fits."""
    import keras

    from tfgreen.model.call_spec import symbolic_inputs

    def shapes(tensors: Tensors) -> list[Shape]:
        return [tuple(tensor.shape[1:]) for tensor in keras.tree.flatten(tensors)]

    args, kwargs = symbolic_inputs(model)
    inputs, outputs = shapes([*args, kwargs]), shapes(model.compute_output_spec(*args, **kwargs))
    classes = outputs[0][0] if len(inputs) == len(outputs) == len(outputs[0]) == 1 else None
    if classes is None or classes < 2:
        expected = "a classifier: one input, one output of shape (samples, classes) with two classes or more"
        received = f"inputs of shape {inputs}, outputs of shape {outputs} (without samples)"
        raise invalid_value(f"model '{model.name}'", expected=expected, received=received)
    shape, sample = inputs[0], data.x_train.shape[1:]
    if len(sample) != len(shape) or any(size not in (None, given) for size, given in zip(shape, sample)):
        expected = f"samples of shape {shape}, as model '{model.name}' takes"
        raise invalid_value("x_train", expected=expected, received=sample)
    if data.classes > classes:
        expected = f"labels from 0 to {classes - 1}, as model '{model.name}' has {classes} outputs"
        raise invalid_value("y_train and y_test", expected=expected, received=f"labels up to {data.classes - 1}")


def _arrays(split: Split) -> tuple[Any, Any]:
    """Samples and targets."""
    if not split.in_batches:
        return split.x, split.y
    batches = [batch[:2] for batch in split.x.as_numpy_iterator() if isinstance(batch, tuple)]
    if not batches or not all(isinstance(part, np.ndarray) for part in batches[0]):
        expected = "one input and one target for each sample"
        raise invalid_value(f"the {split.name} split", expected=expected, received=split.x.element_spec)
    x, y = (np.concatenate(parts) for parts in zip(*batches))
    return x, y


def _check_inputs(name: str, x: object) -> None:
    """Raise unless ``x`` is one array of numbers with two axes or more."""
    if not isinstance(x, np.ndarray):
        fix = "Load the samples of one input into memory."
        raise invalid_value(name, expected="one array", received=f"a {type(x).__name__}", fix=fix)
    if x.ndim < 2:
        raise invalid_value(name, expected="shape (samples, ...) with at least one sample", received=f"shape {x.shape}")
    if x.dtype.kind not in "fiub":
        raise invalid_value(name, expected="an array of numbers", received=f"dtype {x.dtype}")


def class_numbers(name: str, y: object) -> np.ndarray:
    """Labels as int64 of shape ``(samples,)``, from integers of that shape or ``(samples, 1)`` or from one-hot rows."""
    if not isinstance(y, np.ndarray):
        raise invalid_value(name, expected="one array of class numbers", received=f"a {type(y).__name__}")
    if y.dtype.kind not in "fiub" or y.ndim not in (1, 2) or not y.size:
        expected = "class numbers of shape (samples,) or one-hot rows of shape (samples, classes)"
        raise invalid_value(name, expected=expected, received=f"shape {y.shape}, dtype {y.dtype}")
    if y.ndim == 2 and y.shape[1] > 1:
        rows = int((~(((y == 0) | (y == 1)).all(axis=1) & (y.sum(axis=1) == 1))).sum())
        if rows:
            raise invalid_value(name, expected="one-hot rows", received=f"{rows} rows that are not one-hot")
        return y.argmax(axis=1)
    if y.dtype.kind == "f":
        raise invalid_value(name, expected="whole class numbers", received=f"dtype {y.dtype}", fix="Store integers.")
    if y.min() < 0:
        raise invalid_value(name, expected="class numbers from 0", received=int(y.min()))
    return y.reshape(-1).astype("int64")
