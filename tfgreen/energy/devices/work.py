"""What one inference of a model is: the arithmetic and the traffic of each layer or operator."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from tfgreen.typing import Shape


@dataclasses.dataclass(frozen=True)
class LayerWork:
    """The work of one layer or operator, called ``where``, in one inference.

    ``operator`` names the kernel, as a profile does: a dense layer on several rows is a 1x1 CONV_2D. ``dtype`` is what
    it computes in. ``elements`` counts the numbers beside multiply-accumulates: results, or what is
    reduced. ``nonzero_share`` is that of its weights which a sparse kernel computes with, and 1 where none can run.
    """

    where: str
    operator: str
    dtype: str
    macs: int
    elements: int
    weight_bytes: int
    activation_bytes: int
    channels: int = 0  # of its result, where products are summed into them
    nonzero_share: float = 1.0
    zero_share: float = 0.0  # of its weights, stored in whatever form


@dataclasses.dataclass(frozen=True)
class ModelWork:
    """The work of a model on inputs of these ``shapes``, the batch included; ``notes`` say how it was counted."""

    name: str
    shapes: Mapping[str, Shape]
    layers: tuple[LayerWork, ...]
    notes: tuple[str, ...]

    @property
    def weight_bytes(self) -> int:
        return sum(layer.weight_bytes for layer in self.layers)
