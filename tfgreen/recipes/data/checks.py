"""Checks of the arrays of a split: numbers or texts, finite, one length."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from tfgreen.errors import invalid_type, invalid_value
from tfgreen.structure import leaf_names, name_leaves


def named_leaves(value: Any) -> dict[str, Any]:
    """The arrays of a dict or a list by name, or one alone under "".

    Example:
        >>> named_leaves({"image": 1, "sizes": [2, 3]}), named_leaves(4)
        ({'image': 1, 'sizes_0': 2, 'sizes_1': 3}, {'': 4})
    """
    structure, leaves = name_leaves(value, lambda _, index: str(index))
    if isinstance(structure, str):
        return {"": value}
    return dict(zip(leaf_names(structure), leaves))


def check_arrays(subject: str, arrays: Any, count: int | None = None) -> int:
    """Raise unless all the arrays hold numbers for ``count`` samples, or for as many as each other; return how many.

    ``subject`` is the name of the argument, such as ``x_train``; that of an array in a dict is ``x_train/image``.
    """
    leaves = named_leaves(arrays)
    if not leaves:
        raise invalid_value(subject, expected="one array or more", received=repr(arrays))
    for name, array in leaves.items():
        whole = f"{subject}/{name}" if name else subject
        check_array(whole, array)
        if count is not None and len(array) != count:
            kind = "a label" if subject.startswith("y") else "an entry"
            raise invalid_value(whole, expected=f"{kind} for each of {count} samples", received=len(array))
        count = len(array)
    return count or 0


def check_weights(subject: str, arrays: Any, count: int) -> None:
    """Raise unless all the arrays hold a weight for each sample, and one above 0."""
    check_arrays(subject, arrays, count)
    for name, array in named_leaves(arrays).items():
        whole = f"{subject}/{name}" if name else subject
        if array.dtype.kind in "SU":
            raise invalid_value(whole, expected="an array of numbers", received=f"dtype {array.dtype}")
        least, most = float(array.min()), float(array.max())
        if least < 0 or most == 0:
            received = f"{least:g}" if least < 0 else "0 for every sample"
            raise invalid_value(whole, expected="weights from 0, and one above it", received=received)


def check_array(subject: str, array: Any) -> None:
    """Raise unless an array holds finite numbers, or texts, for at least one sample."""
    if not isinstance(array, np.ndarray):
        fix = "Pass arrays in a list or a dict, numpy.asarray(x), or a tf.data.Dataset of batches."
        raise invalid_type(subject, expected="an array", received=array, fix=fix)
    if not array.ndim or not len(array):
        expected = "shape (samples, ...) with at least one sample"
        raise invalid_value(subject, expected=expected, received=f"shape {array.shape}")
    if array.dtype.kind not in "fiubSU" and array.dtype.name != "bfloat16":
        fix = "Turn it into numbers, or texts with x.astype(str)." if array.dtype.kind == "O" else ""
        raise invalid_value(subject, expected="an array of numbers", received=f"dtype {array.dtype}", fix=fix)
    if array.dtype.kind in "fV":
        bad = ~np.isfinite(array)
        if count := int(bad.sum()):
            first = int(np.argwhere(bad)[0, 0])
            received = f"{count} NaN or infinite values, the first in sample {first}"
            raise invalid_value(subject, expected="finite numbers", received=received)


def check_alike(splits: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> None:
    """Raise unless all splits have the same inputs, each of the same rank, and the same targets, or none of them any.

    ``splits`` holds by name of the split, and of "x" or "y", the shape of each array without samples, or None.
    """
    first = next(iter(splits), "")
    for name, sides in splits.items():
        reference = splits[first]
        if bool(sides["y"]) != bool(reference["y"]):
            lacks, has = (name, first) if reference["y"] else (first, name)
            fix = f"Pass y_{lacks} too, or no y at all."
            raise invalid_value("data", expected="y for each split", received=f"y_{has}; missing: y_{lacks}", fix=fix)
        for side in ("x", "y"):
            if set(sides[side]) != set(reference[side]):
                expected = f"{_names(reference[side])}, as in {side}_{first}"
                raise invalid_value(f"{side}_{name}", expected=expected, received=_names(sides[side]))
            for leaf, shape in sides[side].items():
                wanted = reference[side][leaf]
                if side == "x" and shape is not None and wanted is not None and len(shape) != len(wanted):
                    subject = f"{side}_{name}/{leaf}" if leaf else f"{side}_{name}"
                    expected = f"samples of shape {tuple(wanted)}, as in {side}_{first}"
                    raise invalid_value(subject, expected=expected, received=tuple(shape))


def stratum(y: Any) -> np.ndarray | None:
    """The class of each sample, where ``y`` holds one integer for each or is one-hot; otherwise None.

    Example:
        >>> stratum(np.eye(3)[[2, 0]]).tolist(), stratum(np.array([[4], [5]])).tolist(), stratum(np.ones((2, 1)))
        ([2, 0], [4, 5], None)
    """
    if not isinstance(y, np.ndarray) or y.ndim not in (1, 2):
        return None
    if y.ndim == 2 and y.shape[1] > 1:
        one_hot = ((y == 0) | (y == 1)).all() and (y.sum(axis=1) == 1).all()
        return y.argmax(axis=1) if one_hot else None
    return y.reshape(-1) if y.dtype.kind in "iubSU" else None


def _names(leaves: Iterable[str]) -> str:
    names = sorted(leaves)
    return "one array" if names == [""] else f"arrays {', '.join(names)}"
