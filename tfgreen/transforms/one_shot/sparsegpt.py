"""SparseGPT: zeros in a matrix, and the other weights changed so that its products with known inputs change least.

References: E. Frantar and D. Alistarh, "SparseGPT: Massive Language Models Can Be Accurately Pruned in One-Shot", 2023,
arXiv:2301.00774; B. Hassibi and D. Stork, "Second Order Derivatives for Network Pruning: Optimal Brain Surgeon", 1993.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tfgreen.transforms.selection import keep_largest, keep_m_by_n

_BLOCK = 128  # rows of the matrix that are pruned before the rows behind them hear of it


def sparsegpt(
    matrix: np.ndarray,
    gram: np.ndarray,
    sparsity: float,
    m_by_n: tuple[int, int] | None = None,
    run: int | None = None,
    damping: float = 0.01,
) -> tuple[np.ndarray, np.ndarray]:
    """Prune the matrix ``w`` of products ``x @ w`` for inputs of which ``gram = x.T @ x`` is known.

    Row by row the weights that go are set to zero, each at a cost of ``w^2 / u^2``, and the rows behind make up for
    them: ``u`` is the diagonal of ``U``, with ``U.T @ U = (gram + damping)^-1``. A row whose input is always 0 costs
    nothing and goes first.

    Args:
        matrix: Of shape (inputs, outputs).
        gram: Of shape (inputs, inputs), positive semidefinite.
        sparsity: Share of zeros, in [0, 1), of every 128 rows; of no effect with ``m_by_n``.
        m_by_n: m zeros in every n consecutive rows of each column.
        run: With ``m_by_n``: the counting starts anew every so many rows (the channels of a convolution's window).
        damping: What is added to the diagonal of ``gram``, as a share of its mean.

    Returns:
        The new matrix (float64), and a bool array of its shape that is True where a weight is kept.

    Example:
        The second input is twice the first, so the second weight takes over the first one's work.

        >>> x = np.array([[1.0, 2.0], [2.0, 4.0]])
        >>> pruned, kept = sparsegpt(np.array([[0.5], [1.0]]), x.T @ x, 0.5, damping=1e-9)
        >>> pruned.round(3).ravel(), kept.ravel()
        (array([0.  , 1.25]), array([False,  True]))
    """
    weights = np.array(matrix, np.float64)
    factor = inverse_factor(gram, damping)
    cost = np.where(np.diag(gram) > 0, np.diag(factor), np.inf)[:, None]
    kept = np.ones(weights.shape, bool)
    for block in _blocks(len(weights), m_by_n, run):
        first, last = block[0].start, block[-1].stop
        errors = np.zeros((last - first, weights.shape[1]))
        for group in block:
            scores = np.square(weights[group] / cost[group])
            kept[group] = keep_largest(scores, sparsity) if m_by_n is None else keep_m_by_n(scores, *m_by_n, axis=0)
            for row in range(group.start, group.stop):
                errors[row - first] = np.where(kept[row], 0.0, weights[row] / factor[row, row])
                weights[row:last] -= np.outer(factor[row, row:last], errors[row - first])
        weights[last:] -= factor[first:last, last:].T @ errors
    return np.where(kept, weights, 0.0), kept


def inverse_factor(gram: np.ndarray, damping: float) -> np.ndarray:
    """The upper triangular ``U`` with ``U.T @ U`` the inverse of the damped matrix."""
    upper = np.linalg.cholesky(damped(gram, damping)[::-1, ::-1])[::-1, ::-1]  # upper @ upper.T is the damped matrix
    return np.triu(np.linalg.inv(upper))


def damped(gram: np.ndarray, damping: float) -> np.ndarray:
    """The matrix in float64 with a share of its mean diagonal added to the diagonal, where that is 0 after it is 1."""
    result = np.array(gram, np.float64)
    diagonal = np.einsum("ii->i", result)
    diagonal[diagonal == 0] = 1.0
    diagonal += damping * diagonal.mean()
    return result


def _blocks(rows: int, m_by_n: tuple[int, int] | None, run: int | None) -> Iterator[list[slice]]:
    """The rows in blocks of groups: those that are ranked together when their turn comes."""
    run, size = (rows, _BLOCK) if m_by_n is None else (run or rows, m_by_n[1])
    block: list[slice] = []
    for first in range(0, rows, run):
        for start in range(first, min(first + run, rows), size):
            block.append(slice(start, min(start + size, first + run, rows)))
            if block[-1].stop - block[0].start >= _BLOCK:
                yield block
                block = []
    if block:
        yield block
