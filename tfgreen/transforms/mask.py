"""Mask: zeros in a weight, chosen by a score and following a sparsity schedule.

References: M. Zhu and S. Gupta, "To prune, or not to prune", 2017, arXiv:1710.01878 (magnitude on a schedule);
P. Molchanov et al., "Importance Estimation for Neural Network Pruning", 2019, arXiv:1906.10771 (first-order Taylor).
What ``"wanda"`` and ``"sparsegpt"`` do is in ``one_shot/``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, Protocol

import keras
import numpy as np

from tfgreen.transforms.base import TensorTransform
from tfgreen.transforms.selection import (
    Pooling,
    check_finite,
    erdos_renyi_kernel,
    keep_blocks,
    keep_largest,
    keep_largest_of_all,
    keep_m_by_n,
)
from tfgreen.typing import PlainDict, Tensor

Criterion = Literal["magnitude", "threshold", "wanda", "sparsegpt", "taylor", "random"]
Scope = Literal["layer", "global", "erk"]


class Schedule(Protocol):
    """What a mask asks of a schedule; see :class:`tfgreen.training.schedules.SparsitySchedule`."""

    def updates_at(self, step: int) -> bool: ...

    def sparsity_at(self, step: int) -> float: ...

    @property
    def goal(self) -> tuple[int, float] | None: ...


@keras.saving.register_keras_serializable(package="tfgreen")
class Mask(TensorTransform):
    """Hold part of a weight at zero, by a bool per weight. Settings not listed: :class:`tfgreen.PruneConfig`.

    Args:
        schedule: When the mask is computed anew, and with which sparsity; None for one that stays as it is.
        input_axis: The axis along which ``m_by_n`` counts.
        output_axes: The axes that are the columns of the matrix that blocks lie in.
        importance: For ``"taylor"``: an array that broadcasts against the weight.
        budget: Masks of equal number have the same settings; with a scope other than ``"layer"`` they share a budget.
    """

    projects = True
    order = 0
    _settings = (
        "criterion", "scope", "block_size", "block_pooling", "m_by_n", "input_axis", "output_axes", "threshold", "seed",
        "budget",
    )

    def __init__(
        self,
        schedule: Schedule | None,
        criterion: Criterion = "magnitude",
        scope: Scope = "layer",
        block_size: Sequence[int] = (1, 1),
        block_pooling: Pooling = "AVG",
        m_by_n: Sequence[int] | None = None,
        input_axis: int = -2,
        output_axes: Sequence[int] = (-1,),
        threshold: float | None = None,
        seed: int = 0,
        importance: np.ndarray | None = None,
        budget: int = 0,
        **kwargs: object,
    ) -> None:
        super().__init__(**kwargs)
        self.schedule = schedule
        self.scheduled = schedule is not None
        self.criterion = criterion
        self.scope = scope
        self.block_size = (int(block_size[0]), int(block_size[1]))
        self.block_pooling = block_pooling
        self.m_by_n = None if m_by_n is None else (int(m_by_n[0]), int(m_by_n[1]))
        self.input_axis = input_axis
        self.output_axes = tuple(output_axes)
        self.threshold = threshold
        self.seed = seed
        self.budget = budget
        self._importance = importance

    def build(self, shape: tuple[int, ...]) -> None:
        super().build(shape)
        self.mask = self.add_weight(shape=shape, dtype="bool", initializer="ones", trainable=False, name="mask")
        if self._importance is not None:
            shape = self._importance.shape
            self.importance = self.add_weight(shape=shape, initializer="ones", trainable=False, name="importance")
            self.importance.assign(self._importance)

    def hold(self, weight: Tensor) -> None:
        """Hold the zeros that a weight has now."""
        self.mask.assign(keras.ops.not_equal(weight, 0))

    def apply(self, weight: Tensor) -> Tensor:
        return keras.ops.where(self.mask, weight, keras.ops.zeros_like(weight))

    def project(self, weight: Tensor) -> Tensor:
        return weight * keras.ops.cast(self.mask, weight.dtype)  # a third faster than a selection on the CPU

    def due(self, last_step: int, step: int) -> bool:
        schedule = self.schedule
        return schedule is not None and any(schedule.updates_at(s) for s in range(last_step + 1, step + 1))

    @property
    def group(self) -> tuple[str, int] | None:
        return None if self.scope == "layer" else (self.scope, self.budget)

    @classmethod
    def update_together(
        cls, masks: Sequence[TensorTransform], weights: Sequence[Tensor], names: Sequence[str], step: int
    ) -> None:
        """Compute the masks that share one budget; ``names`` say which layer an error is about."""
        first: Mask = masks[0]
        if first.schedule is None:
            return
        scores = [mask._score(weight, name) for mask, weight, name in zip(masks, weights, names)]
        sparsity = first.schedule.sparsity_at(step)
        if first.scope == "global":
            found = keep_largest_of_all(scores, sparsity)
        else:
            erk = first.scope == "erk"
            shares = erdos_renyi_kernel([s.shape for s in scores], sparsity) if erk else [sparsity] * len(scores)
            found = [mask._select(score, share) for mask, score, share in zip(masks, scores, shares)]
        for mask, nonzero in zip(masks, found):
            mask.mask.assign(nonzero)

    def _score(self, weight: Tensor, name: str) -> np.ndarray:
        score = np.abs(keras.ops.convert_to_numpy(weight))
        check_finite(score, name, "Weights that diverged cannot be ranked.")
        if self.criterion == "random":
            return np.random.default_rng(self.seed).random(score.shape, np.float32)
        if self._importance is not None:
            score *= keras.ops.convert_to_numpy(self.importance)
        return score

    def _select(self, score: np.ndarray, sparsity: float) -> np.ndarray:
        if self.criterion == "threshold":
            return score > (self.threshold or 0.0)
        if self.m_by_n is not None:
            m, n = self.m_by_n
            return keep_m_by_n(score, min(m, math.floor(n * sparsity + 1e-6)), n, self.input_axis)
        if self.block_size != (1, 1):
            outputs = [axis % score.ndim for axis in self.output_axes]
            order = [axis for axis in range(score.ndim) if axis not in outputs] + outputs
            columns = math.prod(score.shape[axis] for axis in outputs)
            moved = score.transpose(order)
            nonzero = keep_blocks(moved.reshape(-1, columns), sparsity, self.block_size, self.block_pooling)
            return nonzero.reshape(moved.shape).transpose(np.argsort(order))
        return keep_largest(score, sparsity)

    @property
    def sparsity(self) -> float:
        """Share of zeros in the mask."""
        mask = keras.ops.convert_to_numpy(self.mask)
        return float(1.0 - np.count_nonzero(mask) / mask.size)

    @property
    def progress(self) -> tuple[int, int]:
        """How many weights are zero, and of how many a share is told."""
        mask = keras.ops.convert_to_numpy(self.mask)
        return int(mask.size - np.count_nonzero(mask)), int(mask.size)

    def get_config(self) -> PlainDict:
        schedule = keras.saving.serialize_keras_object(self.schedule)
        shape = None if self._importance is None else self._importance.shape
        return {**super().get_config(), "schedule": schedule, "importance_shape": shape}

    @classmethod
    def from_config(cls, config: PlainDict) -> Mask:
        config = {**config, "schedule": keras.saving.deserialize_keras_object(config["schedule"])}
        shape = config.pop("importance_shape")
        return cls(**config, importance=None if shape is None else np.ones(shape, np.float32))
