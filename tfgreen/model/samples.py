"""Calibration data: what a user passes, checked and split into samples of the model's input dtypes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tfgreen.errors import invalid_type, invalid_value
from tfgreen.model.call_spec import CallSpec, InputSpec
from tfgreen.model.structure import match

_SUBJECT = "calibration_data"


def calibration_arrays(data: Any, spec: CallSpec) -> list[np.ndarray]:
    """Return one checked array per input, in the order of ``spec.inputs``, each of shape ``(samples, *input shape)``.

    Args:
        data: Array, list or dict of arrays in the structure of the model's inputs; or batches of them, with their
            targets (a tuple, of which the first part counts) or without: a ``tf.data.Dataset``, a
            ``keras.utils.PyDataset`` or a generator. At least one sample.
        spec: What the model is called with.

    Raises:
        ValueError: An input is missing, empty, not finite, of another shape, or has another number of samples.
        TypeError: An input does not hold numbers.
    """
    parts = _joined(data, spec) if _comes_in_batches(data) else match(spec.structure, data, _SUBJECT)
    arrays = [_checked(parts[item.name], item) for item in spec.inputs]
    counts = {item.name: len(array) for item, array in zip(spec.inputs, arrays)}
    if len(set(counts.values())) > 1:
        raise invalid_value(_SUBJECT, expected="as many samples for every input", received=counts)
    return arrays


def _comes_in_batches(data: Any) -> bool:
    if isinstance(data, (list, tuple, dict, str, bytes)) or hasattr(data, "__array__"):
        return False
    return hasattr(data, "__iter__") or hasattr(data, "__getitem__")


def _joined(batches: Any, spec: CallSpec) -> dict[str, np.ndarray]:
    """One array per input from batches."""
    found: dict[str, list[np.ndarray]] = {item.name: [] for item in spec.inputs}
    for number, inputs in enumerate(without_targets(batches)):
        for name, value in match(spec.structure, inputs, f"{_SUBJECT}, batch {number}").items():
            found[name].append(np.asarray(value))
    if not all(found.values()):
        raise invalid_value(_SUBJECT, expected="at least one batch", received="none")
    shapes = {name: sorted({array.shape[1:] for array in arrays}) for name, arrays in found.items()}
    for name, several in shapes.items():
        if len(several) > 1:
            raise invalid_value(f"{_SUBJECT} of input '{name}'", expected="batches of one shape", received=several)
    return {name: np.concatenate(arrays) for name, arrays in found.items()}


def _checked(value: Any, item: InputSpec) -> np.ndarray:
    subject = f"{_SUBJECT} of input '{item.name}'"
    try:
        array = np.asarray(value)
    except ValueError as error:  # rows of different lengths
        raise invalid_value(subject, expected="an array", received=str(error)) from error
    if array.dtype.kind not in "fiub":
        raise invalid_type(f"{subject} (dtype {array.dtype})", expected="an array of numbers", received=value)
    fits = array.ndim == len(item.shape) + 1 and all(
        want in (None, have) for want, have in zip(item.shape, array.shape[1:])
    )
    if not fits:
        raise invalid_value(subject, expected=f"shape {('samples', *item.shape)}", received=array.shape)
    if not len(array):
        raise invalid_value(subject, expected="at least one sample", received=0)
    if not np.isfinite(array).all():
        bad = int((~np.isfinite(array)).sum())
        raise invalid_value(subject, expected="finite numbers", received=f"{bad} NaN or infinite values")
    return array.astype(item.dtype)


def without_targets(batches: Any) -> Iterator[Any]:
    """The inputs of each batch of an iterable or a ``PyDataset``, which has a length and items, but no iterator."""
    for batch in batches if hasattr(batches, "__iter__") else (batches[i] for i in range(len(batches))):
        yield batch[0] if isinstance(batch, tuple) else batch
