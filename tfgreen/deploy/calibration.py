"""Calibration data: what a user passes, checked and split into samples of the model's input dtypes."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfgreen.deploy.export import CallSpec, InputSpec
from tfgreen.deploy.structure import match
from tfgreen.errors import invalid_type, invalid_value


def calibration_arrays(data: Any, spec: CallSpec) -> list[np.ndarray]:
    """Return one checked array per input, in the order of ``spec.inputs``, each of shape ``(samples, *input shape)``.

    Args:
        data: Array, list or dict of arrays in the structure of the model's inputs; at least one sample.
        spec: What the model is called with.

    Raises:
        ValueError: An input is missing, empty, not finite, of another shape, or has another number of samples.
        TypeError: An input does not hold numbers.
    """
    parts = match(spec.structure, data, "calibration_data")
    arrays = [_checked(parts[item.name], item) for item in spec.inputs]
    counts = {item.name: len(array) for item, array in zip(spec.inputs, arrays)}
    if len(set(counts.values())) > 1:
        raise invalid_value("calibration_data", expected="as many samples for every input", received=counts)
    return arrays


def _checked(value: Any, item: InputSpec) -> np.ndarray:
    subject = f"calibration_data of input '{item.name}'"
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
