"""Channel selection: which channels go, for every share of them.

A scope puts all channels of a model into one order, in which they go; widths are then rounded.
"""

from __future__ import annotations

import fnmatch
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Literal

import keras
import numpy as np

from tfgreen.model.paths import own_weights
from tfgreen.model.weights import own_compressible
from tfgreen.surgery.channel_groups import ChannelGroup, ChannelGroups, Edge

Scope = Literal["uniform", "global", "sensitivity"]
Removed = list[tuple[ChannelGroup, np.ndarray]]
Widths = tuple[int, ...]  # how many channels are left of each group that may shrink


class ChannelSelection:
    """The channels of some groups in the order in which they go.

    Args:
        groups: All groups of the model.
        scores: How much each channel matters, for the groups that may shrink; None for the others.
        scope: ``"uniform"``: each group loses the same share, ``"global"``: all groups of equal structure together do
            (G. Fang et al., "Isomorphic Pruning for Vision Models", 2024, arXiv:2407.04616; groups of other structure
            have scores of another size, and thin layers would vanish), ``"sensitivity"``: all together do,
            those first that add least to the error for what they save.
        max_ratio: The largest share that a group may lose, in (0, 1).
        round_to: What the widths of weights are a multiple of, where they shrink.
        errors: For ``"sensitivity"``: of each group, the error of the outputs without its 0, 1, 2, ... least important
            channels.
        savings: For ``"sensitivity"``: of each group, what a channel costs, in the unit of the target.
    """

    def __init__(
        self,
        groups: ChannelGroups,
        scores: Sequence[np.ndarray | None],
        scope: Scope,
        max_ratio: float,
        round_to: int,
        errors: Sequence[np.ndarray | None] = (),
        savings: Sequence[float] = (),
    ) -> None:
        layers = groups.analysis.layers
        self._limits: list[tuple[ChannelGroup, np.ndarray, int, int]] = []
        ranked: dict[object, list[np.ndarray]] = defaultdict(list)  # what competes, by what it competes in
        members: dict[object, list[int]] = defaultdict(list)
        sizes: dict[object, int] = defaultdict(int)
        for number, (group, score) in enumerate(zip(groups, scores)):
            order = np.empty(0, int) if score is None else removal_order(group, score)
            if score is None or not len(order):
                continue
            fixed = group.size - len(order)
            least = max(1, fixed, math.ceil(round(group.size * (1 - max_ratio), 6)))
            key: object = number
            if scope == "global":
                key = structure_of(group, layers)
            elif scope == "sensitivity":
                key = ""
            found = errors[number] if scope == "sensitivity" else None
            values = score[order] if found is None else np.maximum.accumulate(np.diff(found)) / savings[number]
            members[key].append(len(self._limits))
            ranked[key].append(values)
            sizes[key] += group.size
            self._limits.append((group, order, least, width_step(group, layers, round_to)))
        self._when: list[np.ndarray] = [np.empty(0)] * len(self._limits)
        for key, parts in ranked.items():
            ranks = np.empty(sum(map(len, parts)))
            ranks[np.argsort(np.concatenate(parts), kind="stable")] = np.arange(1, len(ranks) + 1) / sizes[key]
            for member, when in zip(members[key], np.split(ranks, np.cumsum([len(part) for part in parts])[:-1])):
                self._when[member] = when

    @property
    def shares(self) -> list[float]:
        """Every share at which another channel goes, rising."""
        return sorted(set(np.concatenate([[0.0], *self._when]).tolist()))

    def widths(self, share: float) -> Widths:
        """How many channels each group has left if this share goes, as far as ``max_ratio`` and ``round_to`` allow."""
        counts = [int(np.count_nonzero(when <= share + 1e-9)) for when in self._when]
        limits = zip(self._limits, counts)
        return tuple(rounded_width(group.size, group.size - gone, *limit) for (group, _, *limit), gone in limits)

    def removed(self, widths: Widths) -> Removed:
        """The channels that go, the least important of each group first."""
        return [(group, channels) for group, channels, _ in self.course(widths)]

    def course(self, widths: Widths) -> list[tuple[ChannelGroup, np.ndarray, np.ndarray]]:
        """The same, and when each channel goes on the way there: 0 is the beginning, 1 the end."""
        gone = [group.size - width for (group, *_), width in zip(self._limits, widths)]
        end = max((when[count - 1] for when, count in zip(self._when, gone) if count), default=1.0)
        parts = zip(self._limits, self._when, gone)
        return [(group, order[:count], when[:count] / end) for (group, order, *_), when, count in parts if count]

    def narrower(self, widths: Widths) -> list[tuple[float, int, Widths]]:
        """The widths without one step more of a single group: when it goes, the number of the group, and the widths,
        for each group that can; the least important first."""
        found = []
        for number, ((group, _, least, step), when) in enumerate(zip(self._limits, self._when)):
            width = (widths[number] - 1) // step * step
            if width >= least:
                found.append((when[group.size - width - 1], number, _with(widths, number, width)))
        return sorted(found)

    def wider(self, widths: Widths) -> list[tuple[float, int, Widths]]:
        """The widths with one step of a single group back, the same way; the most important first."""
        found = []
        for number, ((group, _, _, step), when) in enumerate(zip(self._limits, self._when)):
            if widths[number] < group.size:
                width = min(group.size, (widths[number] // step + 1) * step)
                found.append((when[group.size - widths[number] - 1], number, _with(widths, number, width)))
        return sorted(found, reverse=True)


def removal_order(group: ChannelGroup, score: np.ndarray) -> np.ndarray:
    """The channels that can go, the least important first; equal ones from the last to the first."""
    free = np.array([not reason for reason in group.fixed])[::-1]
    order = np.argsort(score[::-1], kind="stable")
    return group.size - 1 - order[free[order]]


def rounded_width(size: int, kept: int, least: int, step: int) -> int:
    """The multiple of ``step`` next to ``kept``, the larger of two; the whole size if there is none below it.

    Example:
        >>> [rounded_width(24, kept, 4, 8) for kept in (23, 20, 19, 12, 2)]
        [24, 24, 16, 16, 8]
    """
    width = max(math.floor(kept / step + 0.5), math.ceil(least / step)) * step
    return min(size, width)


def width_step(group: ChannelGroup, layers: Mapping[str, keras.Layer], round_to: int) -> int:
    """How many channels of a group make the widths of its kernels multiples of ``round_to``.

    A group that is no wider than that takes the half, the quarter and so on, that is narrower than it.
    """
    step = 1
    for edge in group.edges:
        axes = own_compressible(layers[edge.layer]).get(edge.weight)
        if axes is not None:
            weight = _shape(layers[edge.layer], edge.weight)
            side = axes.inputs if is_input(edge, layers) else axes.outputs
            beside = [weight[axis] for axis in side if axis % len(weight) != edge.axis]
            step = max(step, round_to // math.gcd(round_to, edge.places.shape[1] * math.prod(beside)))
    while step >= group.size and step > 1:
        step = (step + 1) // 2
    return step


def structure_of(group: ChannelGroup, layers: Mapping[str, keras.Layer]) -> tuple[tuple[str, str, int], ...]:
    """What groups of equal structure have in common: the classes of their layers, and the axes of their weights."""
    return tuple(sorted((type(layers[edge.layer]).__name__, edge.weight, edge.axis) for edge in group.edges))


def is_input(edge: Edge, layers: Mapping[str, keras.Layer]) -> bool:
    """Whether the layer of an edge reads the channels, rather than making them."""
    axes = own_compressible(layers[edge.layer]).get(edge.weight)
    rank = len(_shape(layers[edge.layer], edge.weight))
    return axes is not None and edge.axis in {axis % rank for axis in axes.inputs}


def kept_groups(groups: ChannelGroups, patterns: Sequence[str]) -> set[int]:
    """The numbers of the groups that a layer, or one inside of it, makes or returns whose path matches a pattern."""
    analysis = groups.analysis
    layers = analysis.layers
    paths = {path for path in layers for pattern in patterns if fnmatch.fnmatchcase(path, pattern)}
    inside = tuple(f"{path}/" for path in paths)
    tensors = [
        tensor for call in analysis.trace.calls if call.path in paths or call.path.startswith(inside)
        for tensor in call.outputs
    ]
    returned = [analysis.labels.roots(axis) for tensor in tensors for axis in analysis.of(tensor) if axis is not None]
    held = np.unique(np.concatenate([np.empty(0, int), *returned]))
    return {
        number
        for number, group in enumerate(groups)
        if np.isin(group.labels, held).any() or any(
            (edge.layer in paths or edge.layer.startswith(inside)) and not is_input(edge, layers)
            for edge in group.edges
        )
    }


def residual_groups(groups: ChannelGroups) -> set[int]:
    """The numbers of the groups that several layers make together: the streams that residual blocks add to."""
    layers = groups.analysis.layers
    return {
        number
        for number, group in enumerate(groups)
        if len({edge.layer for edge in group.edges if _makes(edge, layers)}) > 1
    }


def _makes(edge: Edge, layers: Mapping[str, keras.Layer]) -> bool:
    """Whether an edge is that of a layer which makes the channels of others, as a depthwise kernel does not."""
    axes = own_compressible(layers[edge.layer]).get(edge.weight)
    return axes is not None and bool(axes.inputs) and not is_input(edge, layers)


def _shape(layer: keras.Layer, weight: str) -> tuple[int, ...]:
    return tuple(own_weights(layer)[weight].shape)


def _with(widths: Widths, number: int, width: int) -> Widths:
    return (*widths[:number], width, *widths[number + 1 :])
