"""Expected hypervolume improvement: by how much candidates are expected to push a front forward."""

from __future__ import annotations

import numpy as np

_SAMPLES, _POINTS = 16, 2048


def expected_improvement(
    costs: np.ndarray, feasible: np.ndarray, front: np.ndarray, reference: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """The share of the volume below a reference that each candidate is expected to add to what a front dominates.

    M. Emmerich, K. Giannakoglou and B. Naujoks, "Single- and multiobjective evolutionary optimization assisted by
    Gaussian random field metamodels", 2006; here by random points in that volume.

    Args:
        costs: What each candidate may come to, of shape (n, samples, d), to be minimized.
        feasible: Whether that holds the bounds, of shape (n, samples).
        front: What is dominated already, of shape (m, d).
        reference: Costs that are of no use, of shape (d,).
        rng: Draws the points.

    Returns:
        Of shape (n,), 0 or more.

    Example:
        >>> import numpy as np
        >>> costs = np.array([[[0.5, 0.5]], [[1.0, 0.2]], [[3.0, 0.0]]])
        >>> gains = expected_improvement(
        ...     costs, np.ones((3, 1), bool), np.array([[1.0, 0.0]]), np.array([2.0, 1.0]), np.random.default_rng(0)
        ... )
        >>> bool(gains[0] > 0.1), gains[1:].tolist()
        (True, [0.0, 0.0])
    """
    best = np.concatenate([costs.reshape(-1, costs.shape[-1]), front]).min(0)
    best = np.minimum(best, reference)
    points = best + (reference - best) * rng.random((_POINTS, len(reference)))
    if len(front):
        points = points[~np.all(front[:, None] <= points, axis=-1).any(0)]
    covered = feasible[..., None] & np.ones(len(points), bool)
    for objective in range(len(reference)):
        covered &= costs[..., objective, None] <= points[:, objective]
    return covered.sum((1, 2)) / (costs.shape[1] * _POINTS)


def normal_samples(means: np.ndarray, deviations: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Samples of normal distributions of shape (n, d), as (n, samples, d); the same quantiles for each candidate."""
    return means[:, None] + deviations[:, None] * rng.standard_normal((1, _SAMPLES, means.shape[1]))
