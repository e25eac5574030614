"""Data for a classifier: the npz file of a user, or the handwritten digits of scikit-learn, checked before use."""

from __future__ import annotations

import dataclasses
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tfgreen.errors import FileError, InvalidValueError, TfgreenError, invalid_value
from tfgreen.typing import FilePath

if TYPE_CHECKING:
    import keras

# What the demo writes; here, so that its folder can be checked before Keras is imported.
RESULT_FILES = (
    "report.json", "report.html", "model.tflite", "float32.tflite", "pruned-float32.tflite", "pruned.keras"
)
ARRAYS = ("x_train", "y_train", "x_test", "y_test")


@dataclasses.dataclass(frozen=True, eq=False)
class Data:
    """Training and test split of a classification task.

    Attributes:
        x_train: Numbers of shape ``(samples, *sample shape)``, in the dtype of the file.
        y_train: Class numbers from 0, int64 of shape ``(samples,)``.
        x_test: As ``x_train``.
        y_test: As ``y_train``.
        source: Where the data comes from, for the report.

    Raises:
        ValueError: An array is empty, not numeric, holds NaN or infinite values, or the arrays do not fit each other.
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

    Labels may be class numbers ``(samples,)`` or ``(samples, 1)``, or one-hot rows ``(samples, classes)``. Pickled
    objects are never loaded: they can run code.

    Args:
        path: Written by ``numpy.savez(path, x_train=..., y_train=..., x_test=..., y_test=...)``.

    Raises:
        OSError: The file is missing, unreadable, no npz file, or lacks one of the arrays.
        ValueError: An array cannot be used, see :class:`Data`.
    """
    arrays = _read(path, ARRAYS)
    try:
        return Data(**arrays, source=f"{Path(path).name}")
    except TfgreenError as error:
        raise InvalidValueError(f"{path}: {error}") from error


def load_samples(path: FilePath, *names: str) -> np.ndarray | dict[str, np.ndarray]:
    """Read samples of a model from an ``.npz`` file: the first of the arrays ``names`` that it has, or else all arrays.

    Returns:
        An array of numbers of shape ``(samples, *sample shape)``, or a dict of them by the name of the input.

    Raises:
        OSError: As :func:`load_npz`; or there is no array.
        ValueError: An array is empty, not numeric, or holds NaN or infinite values.
    """
    present = array_names(path)
    if not present:
        raise FileError(f"{path}: expected an array named {' or '.join(names)}, received no arrays.")
    first = next((name for name in names if name in present), None)
    arrays = _read(path, (first,) if first else tuple(present))
    try:
        for name, array in arrays.items():
            check_inputs(name, array)
    except TfgreenError as error:
        raise InvalidValueError(f"{path}: {error}") from error
    return arrays[first] if first else arrays


def array_names(path: FilePath) -> list[str]:
    """Names of the arrays of an ``.npz`` file, without reading them: the check that takes no time.

    Raises:
        OSError: The file is missing, unreadable or no npz file.
    """
    file = Path(path)
    if file.is_dir() or not file.exists():
        what = "received a folder" if file.is_dir() else "but there is no such file"
        raise FileError(f"{file}: expected an .npz file, {what}.")
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile as error:
        raise FileError(f"{file}: expected an .npz file, as numpy.savez writes it, received something else.") from error
    except OSError as error:
        raise FileError(f"{file}: cannot be read: {error.strerror or error}.") from error
    return [name.removesuffix(".npy") for name in names if name.endswith(".npy")]


def load_digits_data(seed: int = 0) -> Data:
    """The 1,797 handwritten digits of scikit-learn, 8 x 8 pixels scaled to 0..1, no download.

    Real handwriting of 43 people (UCI "Optical Recognition of Handwritten Digits", Alpaydin and Kaynak, 1998). A fifth
    of each class is the test split.

    Args:
        seed: Of the split; equal seeds give equal splits.

    Returns:
        float32 images of shape ``(samples, 8, 8, 1)``, ten classes.

    Raises:
        OSError: scikit-learn is not installed.
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
    """Raise unless ``model`` is a classifier of one input and one output that ``data`` fits.

    Raises:
        ValueError: The model has several inputs or outputs, takes samples of another shape, or has fewer outputs than
            there are classes.
    """
    import keras

    from tfgreen.model.call_spec import symbolic_inputs

    args, kwargs = symbolic_inputs(model)
    inputs = keras.tree.flatten((args, kwargs))
    outputs = keras.tree.flatten(model.compute_output_spec(*args, **kwargs))
    shapes = [tuple(tensor.shape[1:]) for tensor in inputs], [tuple(tensor.shape[1:]) for tensor in outputs]
    if len(inputs) != 1 or len(outputs) != 1 or len(shapes[1][0]) != 1 or shapes[1][0][0] in (None, 1):
        expected = "a classifier: one input, one output of shape (samples, classes) with two classes or more"
        received = f"inputs of shape {shapes[0]}, outputs of shape {shapes[1]} (without samples)"
        raise invalid_value(f"model '{model.name}'", expected=expected, received=received)
    ((shape,), ((outputs_of_model,),)) = shapes
    sample = data.x_train.shape[1:]
    if len(sample) != len(shape) or any(size not in (None, given) for size, given in zip(shape, sample)):
        expected = f"samples of shape {shape}, as model '{model.name}' takes"
        raise invalid_value("x_train", expected=expected, received=sample)
    if data.classes > outputs_of_model:
        expected = f"labels from 0 to {outputs_of_model - 1}, as model '{model.name}' has {outputs_of_model} outputs"
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
    """Labels as class numbers: int64 of shape ``(samples,)``.

    Args:
        name: What the labels are called, for errors.
        y: Integers of shape ``(samples,)`` or ``(samples, 1)``, or one-hot rows of any numeric dtype.

    Raises:
        ValueError: The labels are of another form, negative, or not exactly one-hot.
    """
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
