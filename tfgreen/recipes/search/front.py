"""Points of several objectives, all to be minimized: which dominate which, and the volume that they dominate."""

from __future__ import annotations

import numpy as np


def dominates(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Whether points of shape (..., d) are nowhere worse than others and better somewhere.

    Example:
        >>> import numpy as np
        >>> dominates(np.array([1, 2]), np.array([[1, 3], [1, 2], [0, 9]])).tolist()
        [True, False, False]
    """
    return np.all(one <= other, axis=-1) & np.any(one < other, axis=-1)


def front(points: np.ndarray) -> list[int]:
    """The numbers of the points, of shape (n, d), that no other dominates; equal ones are all among them.

    Example:
        >>> import numpy as np
        >>> front(np.array([[1, 4], [2, 2], [3, 3], [4, 1], [2, 2]]))
        [0, 1, 3, 4]
    """
    return [number for number, point in enumerate(points) if not dominates(points, point).any()]


def hypervolume(points: np.ndarray, reference: np.ndarray) -> float:
    """The volume between points of shape (n, d) and a reference of shape (d,) that is worse than they are.

    Points that are not better than the reference everywhere add nothing. (Optuna's own is private.) It cuts the volume
    into slices along the last objective: E. Zitzler and L. Thiele, "Multiobjective evolutionary algorithms", 1999.

    Example:
        >>> import numpy as np
        >>> hypervolume(np.array([[1, 2], [2, 1], [9, 0]]), np.array([3, 3]))
        3.0
    """
    reference = np.asarray(reference, float)
    points = np.asarray(points, float).reshape(-1, len(reference))
    points = points[np.all(points < reference, axis=1)]
    points = points[front(points)]
    if not len(points):
        return 0.0
    if len(reference) == 1:
        return float(reference[0] - points.min())
    points = points[np.argsort(points[:, -1])]
    tops = np.append(points[1:, -1], reference[-1])
    slices = tops - points[:, -1]
    return float(sum(
        depth * hypervolume(points[: number + 1, :-1], reference[:-1]) for number, depth in enumerate(slices) if depth
    ))
