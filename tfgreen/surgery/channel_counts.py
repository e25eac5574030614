"""Channel counts: parameters and MACs of a model without some channels, counted before any surgery."""

from __future__ import annotations

import math
from collections.abc import Iterable

import keras
import numpy as np

from tfgreen.model.cost import ModelProfile
from tfgreen.model.paths import walk
from tfgreen.surgery.channel_groups import ChannelGroup, ChannelGroups


class ChannelCounts:
    """Parameters and MACs as :func:`tfgreen.profile` counts them.

    MACs are scaled with the kernels of each layer, and for attention with its heads. Products of activations alone
    (``Dot``, ``matmul`` in code) are counted as before, so that the slim model never has more than is said here.
    """

    def __init__(self, groups: ChannelGroups, costs: ModelProfile) -> None:
        analysis = groups.analysis
        layers = {path or analysis.trace.model.name: layer for path, layer in walk(analysis.trace.model)}
        self._label_count = 1 + max((int(group.labels.max()) for group in groups), default=0)
        self._parameters = costs.parameters
        unknown = [
            f"layer '{cost.path}' cannot be counted: {cost.reason}" for cost in costs.layers if cost.macs is None
        ]
        self.unknown_macs = next(iter(unknown), "")
        # Of each weight: its shape, and the sets of labels along each axis that can shrink.
        self._weights = [
            (weight.path, weight.name, tuple(weight.variable.shape),
             [None if labels is None else analysis.labels.roots(labels) for labels in weight.axes])
            for weight in analysis.weights.values()
        ]
        self._settings: dict[str, np.ndarray] = {}
        for setting in analysis.settings:
            self._settings.setdefault(setting.path, analysis.labels.roots(setting.labels))
        self._macs = {cost.path: cost.macs or 0 for cost in costs.layers}
        self._recurrent = {path for path, layer in layers.items() if isinstance(layer, keras.layers.RNN)}

    def count(self, removed: Iterable[tuple[ChannelGroup, np.ndarray]]) -> tuple[int, int]:
        """Parameters and MACs without these channels: groups with the indices that go."""
        keep = np.ones(self._label_count, bool)
        for group, channels in removed:
            keep[group.labels[channels]] = False
        parameters, kernels = self._parameters, dict[str, list[int]]()
        for path, name, shape, axes in self._weights:
            sizes = [size if roots is None else self._kept(keep, roots) for size, roots in zip(shape, axes)]
            before, after = math.prod(shape), math.prod(sizes)
            parameters -= before - after
            if len(shape) > 1 and "bias" not in name and "lora" not in name:
                layer = path.rpartition("/")[0] if path.rpartition("/")[0] in self._recurrent else path
                held = kernels.setdefault(layer, [0, 0])
                held[0], held[1] = held[0] + before, held[1] + after
        macs = 0
        for path, count in self._macs.items():
            before = after = 1
            if path in kernels:
                before, after = kernels[path]
            elif path in self._settings:
                before, after = len(self._settings[path]), self._kept(keep, self._settings[path])
            macs += count * after // before
        return parameters, macs

    def by_macs(self, target: str) -> bool:
        """Whether MACs, not weights, are what a target is about, or nearest to."""
        return target == "target_macs" or (target == "target_latency_ms" and not self.unknown_macs)

    def _kept(self, keep: np.ndarray, roots: np.ndarray) -> int:
        """How many stay of those labels; labels of no group always do."""
        return int(np.count_nonzero(keep[np.minimum(roots, self._label_count - 1)] | (roots >= self._label_count)))
