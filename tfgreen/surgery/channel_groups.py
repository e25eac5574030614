"""Channel groups: the sets of channels of a model that can only be removed together, and the weights they are in."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterator, Sequence

import keras
import numpy as np

from tfgreen.surgery.channel_analysis import ChannelAnalysis, analyse
from tfgreen.typing import PlainDict


@dataclasses.dataclass(frozen=True, eq=False)
class Edge:
    """An axis of a weight that a group shrinks.

    ``places`` of shape (channels, n) are the indices along ``axis`` that go with each channel of the group: n is 4 for
    the gates of an LSTM, and the size of the map for a dense layer behind ``Flatten``.
    """

    layer: str
    weight: str
    axis: int
    places: np.ndarray = dataclasses.field(repr=False)

    def __str__(self) -> str:
        return f"{self.layer}/{self.weight}[{self.axis}]"


@dataclasses.dataclass(frozen=True, eq=False)
class ChannelGroup:
    """Channels that stand in the same axes of the same weights.

    Attributes:
        name: The path of the layer whose output they are.
        size: How many they are.
        edges: The axes of weights that shrink with them.
        fixed: Why each channel cannot be removed: a phrase, "" for one that can.
    """

    name: str
    size: int
    edges: tuple[Edge, ...]
    fixed: tuple[str, ...]
    labels: np.ndarray = dataclasses.field(repr=False)

    @property
    def removable(self) -> int:
        """How many of the channels can be removed."""
        return sum(not reason for reason in self.fixed)

    @property
    def reason(self) -> str:
        """Why channels stay, or ""."""
        return next((reason for reason in self.fixed if reason), "")

    def __str__(self) -> str:
        what = f"{self.removable} of {self.size} channels" if self.reason else f"{self.size} channels"
        why = f" ({self.reason})" if self.reason else ""
        return f"{self.name}: {what} in {', '.join(map(str, self.edges))}{why}"

    def to_dict(self) -> PlainDict:
        return {
            "name": self.name, "size": self.size, "removable": self.removable, "reason": self.reason,
            "edges": [str(edge) for edge in self.edges],
        }


class ChannelGroups(Sequence[ChannelGroup]):
    """The groups of a model, in the order in which it computes them."""

    def __init__(self, analysis: ChannelAnalysis) -> None:
        self.analysis = analysis
        self._groups = _grouped(analysis)

    def __len__(self) -> int:
        return len(self._groups)

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        return self._groups[index]

    def __iter__(self) -> Iterator[ChannelGroup]:
        return iter(self._groups)

    def __str__(self) -> str:
        return "\n".join(map(str, self._groups))


def channel_groups(model: keras.Model) -> ChannelGroups:
    """Find the channels that can be removed from a built model of any kind, and what goes with them."""
    return ChannelGroups(analyse(model))


def _grouped(analysis: ChannelAnalysis) -> list[ChannelGroup]:
    reasons = analysis.labels.reasons()
    found: dict[int, dict[tuple[int, int], list[int]]] = {}  # channel -> (weight, axis) -> places
    producers: dict[int, str] = {}
    for key, weight in analysis.weights.items():
        for axis, labels in enumerate(weight.axes):
            if labels is None:
                continue
            for place, root in enumerate(analysis.labels.roots(labels).tolist()):
                found.setdefault(root, {}).setdefault((key, axis), []).append(place)
                producers.setdefault(root, weight.path)
    alike: dict[tuple[tuple[tuple[int, int], int], ...], list[int]] = defaultdict(list)
    for root, edges in found.items():
        alike[tuple((edge, len(places)) for edge, places in edges.items())].append(root)
    groups = []
    for signature, roots in alike.items():
        parts = []
        for (key, axis), _ in signature:
            weight = analysis.weights[key]
            parts.append(Edge(weight.path, weight.name, axis, np.array([found[root][key, axis] for root in roots])))
        fixed = tuple(reasons.get(root, "") for root in roots)
        groups.append(ChannelGroup(producers[roots[0]], len(roots), tuple(parts), fixed, np.array(roots)))
    return groups
