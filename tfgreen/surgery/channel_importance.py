"""Channel importance: how much each channel of a group matters, from the slices of its weights or its activations.

Each criterion is a function of arrays. Scores are >= 0, and those of groups of equal structure can be compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

Criterion = Literal["l1", "l2", "bn_scale", "geometric_median", "activation", "taylor", "hessian", "random"]


def slices(weight: np.ndarray, axis: int, places: np.ndarray) -> np.ndarray:
    """What a weight holds of each channel: an array of shape (channels, elements).

    ``places`` of shape (channels, n) are the indices along the axis that go with each channel.

    Example:
        >>> slices(np.arange(6).reshape(2, 3), 1, np.array([[0], [2]])).tolist()
        [[0, 3], [2, 5]]
    """
    return np.moveaxis(weight, axis, 0)[places].reshape(len(places), -1)


def norm_importance(parts: Sequence[np.ndarray], power: int) -> np.ndarray:
    """The mean over the edges of the L1 or L2 norm of each channel's slice, in multiples of the edge's mean norm.

    So a wide edge counts as a narrow one. References: H. Li et al., "Pruning Filters for Efficient ConvNets", 2017,
    arXiv:1608.08710 (L1); G. Fang et al., "DepGraph: Towards Any Structural Pruning", 2023, arXiv:2301.12900 (over all
    that is coupled).

    Args:
        parts: The slices of each edge, of shape (channels, elements).
        power: 1 or 2.

    Example:
        >>> norm_importance([np.array([[1.0, -1.0], [3.0, 3.0]]), np.array([[5.0], [15.0]])], 1).tolist()
        [0.5, 1.5]
    """
    return _mean_of_edges([np.linalg.norm(part, power, axis=1) for part in parts])


def geometric_median_importance(parts: Sequence[np.ndarray]) -> np.ndarray:
    """The summed distances of each channel's slice to those of all others, averaged over the edges as a norm is.

    A channel near the geometric median is what the others can make up for. Reference: Y. He et al., "Filter Pruning via
    Geometric Median for Deep Convolutional Neural Networks Acceleration", 2019, arXiv:1811.00250.
    """
    distances = []
    for part in parts:
        squares = (part**2).sum(1)
        between = squares[:, None] + squares[None] - 2 * part @ part.T
        distances.append(np.sqrt(np.maximum(between, 0)).sum(1))
    return _mean_of_edges(distances)


def scale_importance(scales: Sequence[np.ndarray]) -> np.ndarray:
    """The mean magnitude of each channel's scales in batch normalizations, of shape (channels, n) each.

    Reference: Z. Liu et al., "Learning Efficient Convolutional Networks through Network Slimming", 2017,
    arXiv:1708.06519, which trains with an L1 penalty on the scales.
    """
    return np.mean([np.abs(scale).mean(1) for scale in scales], 0)


def mean_magnitude(values: np.ndarray) -> np.ndarray:
    """The mean magnitude of activations of shape (samples, channels, positions), by channel.

    Reference: P. Molchanov et al., "Pruning Convolutional Neural Networks for Resource Efficient Inference", 2017,
    arXiv:1611.06440.
    """
    return np.abs(values).mean((0, 2))


def gate_change(values: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    """The first-order change of a number when a channel is set to zero, squared and averaged over samples.

    Of a loss it is the Taylor criterion (P. Molchanov et al., "Importance Estimation for Neural Network Pruning", 2019,
    arXiv:1906.10771). Of random projections of the outputs it is, on average over these, the squared change of the
    outputs themselves, for which no label is needed (so O. Gordon, H. V. Habi and A. Netzer, "EPTQ: Enhanced
    Post-Training Quantization", 2023, and Sony's Model Compression Toolkit estimate a label-free Hessian).

    Args:
        values: Activations of shape (samples, channels, positions).
        gradients: Those of the number by the activations.
    """
    return ((values * gradients).sum(2) ** 2).mean(0)


def random_importance(count: int, *seeds: int) -> np.ndarray:
    """Chance, equal for equal seeds: what any criterion has to beat."""
    return np.random.default_rng(seeds).random(count)


def _mean_of_edges(norms: Sequence[np.ndarray]) -> np.ndarray:
    means = [norm.mean() for norm in norms]
    return np.mean([norm / mean if mean else norm for norm, mean in zip(norms, means)], 0)
