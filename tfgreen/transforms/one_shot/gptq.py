"""GPTQ: a matrix rounded to integers so that its products with known inputs change least.

Reference: E. Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers", 2022,
arXiv:2210.17323, in the order of the largest inputs ("act-order"), with scales that are fixed before.
"""

from __future__ import annotations

import numpy as np

from tfgreen.transforms.one_shot.sparsegpt import inverse_factor

_BLOCK = 128  # rows of the matrix that are rounded before the rows behind them hear of it


def gptq(
    matrix: np.ndarray, gram: np.ndarray, scales: np.ndarray, largest: int, free: np.ndarray | None = None,
    damping: float = 0.01,
) -> np.ndarray:
    """Round the matrix ``w`` of products ``x @ w``, for inputs of which ``gram = x.T @ x`` is known, to multiples.

    Row by row, those of the largest inputs first, weights are rounded, and the rows behind make up for what that
    changes.

    Args:
        matrix: Of shape (inputs, outputs).
        gram: Of shape (inputs, inputs), positive semidefinite.
        scales: What 1 stands for, of the shape of the matrix.
        largest: The largest multiple.
        free: False where a weight is to be 0, a bool array of the shape of the matrix.
        damping: What is added to the diagonal of ``gram``, as a share of its mean.

    Returns:
        The multiples of the scales (float64).

    Example:
        The inputs are equal, so that what the first weight gains by rounding, the second loses.

        >>> x = np.ones((2, 2))
        >>> gptq(np.array([[0.6], [0.6]]), x.T @ x, np.ones((2, 1)), 7, damping=1e-9).ravel()
        array([1., 0.])
    """
    order = np.argsort(-np.diag(gram), kind="stable")
    weights, scales = np.array(matrix, np.float64)[order], np.asarray(scales, np.float64)[order]
    free = np.ones(weights.shape, bool) if free is None else free[order]
    factor = inverse_factor(gram[np.ix_(order, order)], damping)
    rounded = np.zeros(weights.shape)
    for first in range(0, len(weights), _BLOCK):
        last = min(first + _BLOCK, len(weights))
        errors = np.zeros((last - first, weights.shape[1]))
        for row in range(first, last):
            multiples = np.clip(np.round(weights[row] / scales[row]), -largest, largest) * free[row]
            rounded[row] = multiples
            errors[row - first] = (weights[row] - multiples * scales[row]) / factor[row, row]
            weights[row:last] -= np.outer(factor[row, row:last], errors[row - first])
        weights[last:] -= factor[first:last, last:].T @ errors
    result = np.empty_like(rounded)
    result[order] = rounded
    return result
