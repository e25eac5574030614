"""Weight update: the weights that pruning leaves, chosen anew so that products with known inputs change least.

SparseGPT solves for them row by row and does not return to a row that is done. With the zeros fixed the best weights
are those of a least-squares problem for each output (V. Boža, "Fast and Effective Weight Update for Pruned Large
Language Models", 2024, arXiv:2401.02938); here they are found by conjugate gradients, all outputs together.
"""

from __future__ import annotations

import numpy as np

from tfgreen.transforms.one_shot.sparsegpt import damped

_STEPS, _SMALL = 24, 1e-4  # at most, and the share of the first gradient at which an output is done


def update_kept(
    matrix: np.ndarray, pruned: np.ndarray, kept: np.ndarray, gram: np.ndarray, damping: float = 0.01
) -> np.ndarray:
    """Return weights with the zeros of ``kept`` whose products ``x @ w`` are nearest to those of ``matrix``.

    Args:
        matrix: Before pruning, of shape (inputs, outputs).
        pruned: To begin with, of that shape; what comes of it is nowhere further from ``matrix``.
        kept: Where a weight is kept, bool, of that shape.
        gram: ``x.T @ x``, of shape (inputs, inputs), positive semidefinite.
        damping: What is added to its diagonal, as a share of the mean.

    Returns:
        The new matrix, float64.

    Example:
        >>> x = np.array([[1.0, 2.0], [2.0, 4.0]])
        >>> matrix, pruned = np.array([[0.5], [1.0]]), np.array([[0.0], [1.0]])
        >>> update_kept(matrix, pruned, pruned > 0, x.T @ x, damping=1e-9).round(3).ravel()
        array([0.  , 1.25])
    """
    gram = damped(gram, damping)
    weights = np.where(kept, pruned, 0.0).astype(np.float64)
    residual = np.where(kept, gram @ (matrix - weights), 0.0)
    scale = np.diag(gram)[:, None]  # Jacobi's preconditioner
    direction = residual / scale
    size = first = np.sum(residual * direction, axis=0)
    for _ in range(_STEPS):
        if np.all(size <= _SMALL**2 * first):
            break
        image = np.where(kept, gram @ direction, 0.0)
        step = _share(size, np.sum(direction * image, axis=0))
        weights += step * direction
        residual -= step * image
        scaled = residual / scale
        before, size = size, np.sum(residual * scaled, axis=0)
        direction = scaled + _share(size, before) * direction
    return weights


def _share(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.divide(one, other, out=np.zeros_like(one), where=other > 0)
