"""AWQ: inputs that are large get larger weights before the rounding, so that these lose less by it.

Reference: J. Lin et al., "AWQ: Activation-aware Weight Quantization for LLM Compression and Acceleration", 2023,
arXiv:2306.00978.
"""

from __future__ import annotations

import numpy as np

from tfgreen.transforms.integer_weights import group_scales

_EXPONENTS = np.linspace(0.0, 1.0, 21)


def awq_factors(matrix: np.ndarray, gram: np.ndarray, bits: int, group_size: int | None) -> np.ndarray:
    """The factor of each input, a power of how large it is, for which products with the rounded matrix change least.

    Args:
        matrix: ``w`` of products ``x @ w``, of shape (inputs, outputs).
        gram: ``x.T @ x``, of shape (inputs, inputs).
        bits, group_size: How the matrix is rounded, see :func:`tfgreen.transforms.integer_weights.group_scales`.

    Returns:
        float32 of shape (inputs,), 1 for all where no other power does better.

    Example:
        >>> matrix, gram = np.array([[0.4], [1.0]]), np.diag([100.0, 1.0])
        >>> awq_factors(matrix, gram, bits=2, group_size=None).round(2)
        array([1.58, 0.63], dtype=float32)
    """
    sizes = np.sqrt(np.maximum(np.diag(gram), 1e-8 * max(np.diag(gram).max(), 1e-30)))
    largest, best, least = 2 ** (bits - 1) - 1, np.ones(len(matrix), np.float32), np.inf
    for exponent in _EXPONENTS:
        factors = sizes**exponent
        factors = (factors / np.sqrt(factors.max() * factors.min())).astype(np.float32)[:, None]
        scaled = matrix * factors
        scales = group_scales(scaled, bits, group_size)
        scales = np.repeat(scales, len(matrix) // len(scales), axis=0)
        change = np.clip(np.round(scaled / scales), -largest, largest) * scales / factors - matrix
        error = float(np.sum(change * (gram @ change)))
        if error < least:
            best, least = factors[:, 0], error
    return best
