"""PruneLowMagnitude: a pruned layer with the attributes of TFMOT's wrapper."""

from __future__ import annotations

import itertools

import keras
import numpy as np

from tfgreen.compat.wrappers.wrapper import Wrapper
from tfgreen.techniques.prune import PruneConfig, masks_of
from tfgreen.training.schedules import CallableSchedule, ConstantSparsity, ScheduleLike
from tfgreen.transforms.compress import Choice
from tfgreen.transforms.compressed import ChainedWeight
from tfgreen.transforms.mask import Mask, Schedule
from tfgreen.transforms.selection import Pooling


@keras.saving.register_keras_serializable(package="tfgreen")
class PruneLowMagnitude(Wrapper):
    """A layer that is pruned as soon as it has weights. What it holds is read as in TFMOT, and not set.

    Example:
        >>> import keras, tfgreen.compat as tfmot
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, name="out")])
        >>> layer = tfmot.sparsity.keras.prune_low_magnitude(model, block_size=(2, 2)).get_layer("out")
        >>> layer.block_size, [(weight.name, tuple(mask.shape)) for weight, mask, _ in layer.pruning_vars]
        ((2, 2), [('kernel', (8, 4))])
    """

    config: PruneConfig | None
    prefix = "prune_low_magnitude_"

    def choose(self) -> Choice:
        return masks_of(self.name, self.layer, self.config or PruneConfig(), itertools.count(1))

    @property
    def _settings(self) -> PruneConfig | Mask:
        return next((mask for _, mask in self._masked), self.config or PruneConfig())  # masks are saved

    @property
    def _masked(self) -> list[tuple[ChainedWeight, Mask]]:
        return [(w, item) for w in self.chained for item in w.chain.transforms if isinstance(item, Mask)]

    @property
    def prunable_weights(self) -> list[keras.Variable]:
        """The weights that are pruned; none before the layer is built."""
        return [weight.variable for weight, _ in self._masked]

    @property
    def pruning_vars(self) -> list[tuple[keras.Variable, keras.Variable, float]]:
        """Each pruned weight, its mask (bool), and the smallest magnitude that the mask keeps (0 if it keeps all)."""
        return [(weight.variable, mask.mask, _threshold(weight, mask)) for weight, mask in self._masked]

    @property
    def pruning_step(self) -> keras.Variable | None:
        """The variable that counts finished batches, from 0; None where nothing is pruned."""
        return next((mask.step for _, mask in self._masked if mask.scheduled), None)

    @property
    def pruning_schedule(self) -> Schedule | ScheduleLike:
        """The schedule, as it was given."""
        schedule = self._settings.schedule or ConstantSparsity(0.5, 0)
        return schedule.function if isinstance(schedule, CallableSchedule) else schedule

    @property
    def block_size(self) -> tuple[int, int]:
        """Rows and columns of a block."""
        return self._settings.block_size

    @property
    def block_pooling_type(self) -> Pooling:
        """How a block is scored."""
        return self._settings.block_pooling

    @property
    def sparsity_m_by_n(self) -> tuple[int, int] | None:
        """m zeros in every n weights, or None."""
        return self._settings.m_by_n


def _threshold(weight: ChainedWeight, mask: Mask) -> float:
    kept = keras.ops.convert_to_numpy(mask.mask)
    magnitudes = np.abs(keras.ops.convert_to_numpy(weight.value))[kept]
    return 0.0 if kept.all() or not magnitudes.size else float(magnitudes.min())
