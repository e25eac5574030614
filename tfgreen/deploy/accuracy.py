"""Top-1 accuracy of class scores."""

from __future__ import annotations

import numpy as np

from tfgreen.errors import invalid_value


def top1_accuracy(scores: np.ndarray, y: np.ndarray) -> float:
    """Return the share of samples whose highest score is that of their label; the first of equal scores counts.

    Args:
        scores: Shape ``(samples, classes)``.
        y: Integer labels of shape ``(samples,)`` or ``(samples, 1)``, or one-hot rows of shape ``(samples, classes)``.

    Raises:
        ValueError: ``y`` has another shape, another length, or a label that is no class.

    Example:
        >>> top1_accuracy(np.array([[0.1, 0.9], [0.8, 0.2]]), np.array([1, 1]))
        0.5
    """
    samples, classes = scores.shape
    labels = np.asarray(y)
    if labels.ndim == 2 and labels.shape[1] == classes:
        labels = labels.argmax(axis=1)
    elif labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or (labels.dtype.kind not in "iub" and (labels % 1 != 0).any()):
        raise invalid_value(
            "y",
            expected=f"integer labels, or one-hot rows of {classes} classes",
            received=f"shape {np.shape(y)}, dtype {np.asarray(y).dtype}",
        )
    if len(labels) != samples:
        raise invalid_value("y", expected=f"a label for each of the {samples} samples", received=len(labels))
    if samples and not (0 <= labels.min() and labels.max() < classes):
        raise invalid_value("y", expected=f"labels from 0 to {classes - 1}", received=f"{labels.min()}..{labels.max()}")
    return float((scores.argmax(axis=1) == labels).mean())
