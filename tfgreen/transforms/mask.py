"""Mask: zeros in a weight, chosen by magnitude and following a sparsity schedule.

Reference: M. Zhu and S. Gupta, "To prune, or not to prune: exploring the efficacy of pruning for model compression",
2017, arXiv:1710.01878.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from tfgreen.errors import invalid_value
from tfgreen.transforms.base import TensorTransform


def magnitude_mask(weight: np.ndarray, sparsity: float) -> np.ndarray:
    """Mark the weights of largest magnitude.

    As TFMOT counts, ``max(round(size * (1 - sparsity)), 1)`` weights are kept, computed in float32 and rounded half to
    even. Unlike there, ties are broken by position (the first is kept), so the sparsity is reached exactly even when
    weights are equal.

    Args:
        weight: Any shape, finite floats.
        sparsity: Share of zeros, in [0, 1).

    Returns:
        A bool array of the same shape: True where the weight is kept. Time and memory are linear in its size.

    Raises:
        ValueError: The weight holds NaN or infinite values, which have no rank.

    Example:
        >>> magnitude_mask(np.array([0.1, -0.9, 0.3, 0.2]), 0.5)
        array([False,  True,  True, False])
    """
    magnitude = np.abs(weight).ravel()
    kept = max(int(np.round(np.float32(magnitude.size) * (np.float32(1) - np.float32(sparsity)))), 1)
    if kept >= magnitude.size:
        return np.ones(weight.shape, bool)
    threshold = np.partition(magnitude, magnitude.size - kept)[magnitude.size - kept]
    if not np.isfinite(threshold) or not np.isfinite(magnitude).all():
        raise invalid_value(
            "weight", expected="finite values", received=f"{int((~np.isfinite(magnitude)).sum())} NaN or infinite ones"
        )
    mask = magnitude > threshold
    ties = np.flatnonzero(magnitude == threshold)
    mask[ties[: kept - int(mask.sum())]] = True
    return mask.reshape(weight.shape)


@keras.saving.register_keras_serializable(package="tfgreen")
class Mask(TensorTransform):
    """Hold part of a weight at zero.

    The mask is one bool (one byte) per weight. A masked weight gets no gradient, and the stored weight is zero there
    after every optimizer step.

    Args:
        schedule: Says at which step the mask is computed anew, and with which sparsity; see
            :mod:`tfgreen.training.schedules`.
    """

    scheduled = True
    projects = True

    def __init__(self, schedule: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.schedule = schedule

    def build(self, shape: tuple[int, ...]) -> None:
        super().build(shape)
        self.mask = self.add_weight(shape=shape, dtype="bool", initializer="ones", trainable=False, name="mask")

    def apply(self, weight: Any) -> Any:
        return keras.ops.where(self.mask, weight, keras.ops.zeros_like(weight))

    project = apply

    def due(self, last_step: int, step: int) -> bool:
        return any(self.schedule.updates_at(s) for s in range(last_step + 1, step + 1))

    def update(self, weight: Any, step: int) -> None:
        self.mask.assign(magnitude_mask(keras.ops.convert_to_numpy(weight), self.schedule.sparsity_at(step)))

    @property
    def sparsity(self) -> float:
        """Share of zeros in the mask."""
        return 1.0 - float(np.mean(keras.ops.convert_to_numpy(self.mask)))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "schedule": keras.saving.serialize_keras_object(self.schedule)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Mask:
        return cls(**{**config, "schedule": keras.saving.deserialize_keras_object(config["schedule"])})
