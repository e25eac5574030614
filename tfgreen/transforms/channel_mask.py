"""ChannelMask: zeros in a weight channel by channel, in an order that is laid down."""

from __future__ import annotations

from collections.abc import Iterable

import keras
import numpy as np

from tfgreen.transforms.base import Chain
from tfgreen.transforms.mask import Mask
from tfgreen.transforms.selection import check_finite
from tfgreen.typing import Tensor


@keras.saving.register_keras_serializable(package="tfgreen")
class ChannelMask(Mask):
    """Hold the slices of a weight that belong to channels at zero, as many as the schedule says.

    ``importance``, an array that broadcasts against the weight, holds the sparsity of the schedule at which each weight
    goes; above 1 for one that stays.
    """

    @property
    def progress(self) -> tuple[int, int]:
        importance = np.broadcast_to(keras.ops.convert_to_numpy(self.importance), self.mask.shape)
        return super().progress[0], int(np.count_nonzero(importance <= 1))

    def _score(self, weight: Tensor, name: str) -> np.ndarray:
        check_finite(keras.ops.convert_to_numpy(weight), name, "Weights that diverged cannot be used.")
        return np.broadcast_to(keras.ops.convert_to_numpy(self.importance), weight.shape)

    def _select(self, score: np.ndarray, sparsity: float) -> np.ndarray:
        return score > sparsity + 1e-6


def how_to_bake(chains: Iterable[Chain]) -> str:
    """The call that makes a plain layer of one with such chains."""
    is_channel = any(isinstance(item, ChannelMask) for chain in chains for item in chain.transforms)
    return "tg.remove_masked_channels(model)" if is_channel else "tg.strip(model)"
