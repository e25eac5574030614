"""Data for a classifier: the npz file of a user, or the handwritten digits of scikit-learn, checked before use."""

from __future__ import annotations

import contextlib
import dataclasses
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tfgreen.errors import FileError, InvalidValueError, TfgreenError, invalid_value
from tfgreen.files import reading
from tfgreen.typing import FilePath, Shape, Tensors

if TYPE_CHECKING:
    import keras

# What the demo writes; here, so that its folder can be checked before Keras is imported.
_TFLITE_FILES = ("model.tflite", "float32.tflite", "pruned-float32.tflite")
RESULT_FILES = ("report.json", "report.html", "pruned.keras", *_TFLITE_FILES)
ARRAYS = ("x_train", "y_train", "x_test", "y_test")


@dataclasses.dataclass(frozen=True, eq=False)
class Data:
    """Training and test split of a classification task, checked; ``source`` says for the report where it comes from.

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
            x, y = getattr(self, f"x_{split}"), getattr(self, f"y_{split}")
            check_inputs(f"x_{split}", x)
            object.__setattr__(self, f"y_{split}", class_numbers(f"y_{split}", y))
            if len(y) != len(x):
                raise invalid_value(f"y_{split}", expected=f"a label for each of {len(x)} samples", received=len(y))
        if self.x_train.shape[1:] != self.x_test.shape[1:]:
            expected = f"samples of shape {self.x_train.shape[1:]}, as in x_train"
            raise invalid_value("x_test", expected=expected, received=self.x_test.shape[1:])

    @property
    def classes(self) -> int:
        """One more than the largest label."""
        return int(max(self.y_train.max(), self.y_test.max())) + 1


def load_npz(path: FilePath) -> Data:
    """Read a classification task from an ``.npz`` file with ``x_train``, ``y_train``, ``x_test`` and ``y_test``.

    For labels see :func:`class_numbers`. Pickled objects are never loaded: they can run code.
    """
    arrays = _read(path, ARRAYS)
    with _named(path):
        return Data(**arrays, source=Path(path).name)


def load_samples(path: FilePath, *names: str) -> np.ndarray | dict[str, np.ndarray]:
    """Read samples of a model from an ``.npz`` file: the first of the arrays ``names`` that it has, or else all arrays.

    All arrays are a dict by the name of the input; each has shape ``(samples, *sample shape)``.
    """
    present = array_names(path)
    if not present:
        raise FileError(f"{path}: expected an array named {' or '.join(names)}, received no arrays.")
    first = next((name for name in names if name in present), None)
    arrays = _read(path, (first,) if first else tuple(present))
    with _named(path):
        for name, array in arrays.items():
            check_inputs(name, array)
    return arrays[first] if first else arrays


@contextlib.contextmanager
def _named(path: FilePath) -> Iterator[None]:
    """Put the file before what is wrong with an array of it."""
    try:
        yield
    except TfgreenError as error:
        raise InvalidValueError(f"{path}: {error}") from error


def array_names(path: FilePath) -> list[str]:
    """Names of the arrays of an ``.npz`` file, without reading them: the check that takes no time."""
    file = Path(path)
    if file.is_dir() or not file.exists():
        what = "received a folder" if file.is_dir() else "but there is no such file"
        raise FileError(f"{file}: expected an .npz file, {what}.")
    try:
        with reading(file), zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile as error:
        raise FileError(f"{file}: expected an .npz file, as numpy.savez writes it, received something else.") from error
    return [name.removesuffix(".npy") for name in names if name.endswith(".npy")]


def load_digits_data(seed: int = 0) -> Data:
    """The 1,797 handwritten digits of scikit-learn, float32 of shape ``(samples, 8, 8, 1)`` from 0 to 1; no download.

    Real handwriting of 43 people (UCI "Optical Recognition of Handwritten Digits", Alpaydin and Kaynak, 1998). A fifth
    of each of the ten classes is the test split, drawn with ``seed``.
    """
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        fix = 'Install it with pip install "tfgreen[demo]".'
        raise FileError(f"The digits come with scikit-learn, which is not installed. {fix}") from error
    digits = load_digits()
    images = (digits.images / 16.0).astype("float32")[..., None]
    x_train, x_test, y_train, y_test = train_test_split(
        images, digits.target, test_size=0.2, random_state=seed, stratify=digits.target
    )
    return Data(x_train, y_train, x_test, y_test, source="scikit-learn's handwritten digits")


def check_fits(data: Data, model: keras.Model) -> None:
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


def check_inputs(name: str, x: np.ndarray) -> None:
    """Raise unless ``x`` holds finite numbers for at least one sample."""
    if x.ndim < 2 or not len(x):
        raise invalid_value(name, expected="shape (samples, ...) with at least one sample", received=f"shape {x.shape}")
    if x.dtype.kind not in "fiub":
        raise invalid_value(name, expected="an array of numbers", received=f"dtype {x.dtype}")
    if x.dtype.kind == "f":
        bad = int(x.size - np.isfinite(x).sum())
        if bad:
            raise invalid_value(name, expected="finite numbers", received=f"{bad} NaN or infinite values")


def class_numbers(name: str, y: np.ndarray) -> np.ndarray:
    """Labels as int64 of shape ``(samples,)``, from integers of that shape or ``(samples, 1)`` or from one-hot rows."""
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


def _read(path: FilePath, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    present = array_names(path)
    missing = [name for name in names if name not in present]
    if missing:
        expected = f"expected the arrays {', '.join(names)}, received {', '.join(present) or 'no arrays'}"
        raise FileError(f"{path}: {expected}; missing: {', '.join(missing)}.")
    arrays = {}
    with np.load(path, allow_pickle=False) as archive:
        for name in names:
            try:
                arrays[name] = archive[name]
            except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
                what = "Python objects, which are never loaded" if "pickle" in str(error) else "damaged data"
                raise FileError(f"{path}: expected numbers in {name}, received {what}.") from error
    return arrays
