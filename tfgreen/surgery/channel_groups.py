"""Channel groups: the sets of channels of a model that can only be removed together, and the weights they are in."""

from __future__ import annotations

import dataclasses
import textwrap
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

import keras
import numpy as np

from tfgreen.errors import invalid_state, layer_subject
from tfgreen.model.paths import check_built_model
from tfgreen.surgery.channel_analysis import ChannelAnalysis, analyse
from tfgreen.surgery.remove_channels import shrink
from tfgreen.surgery.trial import width_readers
from tfgreen.tables import RowResult, TableResult
from tfgreen.transforms.channel_mask import how_to_bake
from tfgreen.transforms.compressed import compressed_layers
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
class ChannelGroup(RowResult):
    """Channels that stand in the same axes of the same weights.

    Attributes:
        name: The path of the layer whose output they are.
        size: How many they are.
        edges: The axes of weights that shrink with them.
        fixed: Why each channel cannot be removed: a phrase, "" for one that can.

    Example:
        >>> import keras, tfgreen as tg
        >>> layers = [keras.layers.Dense(4, name="hidden"), keras.layers.Dense(2, name="out")]
        >>> hidden, out = tg.channel_groups(keras.Sequential([keras.Input((3,)), *layers]))
        >>> isinstance(hidden, tg.ChannelGroup), hidden.size, hidden.removable, out.reason
        (True, 4, 4, 'they are an output of the model')
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

    @property
    def axes(self) -> str:
        """The edges as a line, in which a layer of vectors alone (batch normalization) is one word: ``norm/*``."""
        counts = Counter(edge.layer for edge in self.edges)
        kernels = {edge.layer for edge in self.edges if edge.axis or edge.weight.endswith(("kernel", "embeddings"))}
        whole = {layer for layer, count in counts.items() if count > 1} - kernels
        parts = [f"{edge.layer}/*" if edge.layer in whole else str(edge) for edge in self.edges]
        return ", ".join(dict.fromkeys(parts))

    def __str__(self) -> str:
        what = f"{self.removable} of {self.size} channels" if self.reason else f"{self.size} channels"
        why = f" ({self.reason})" if self.reason else ""
        return f"{self.name}: {what} in {self.axes}{why}"

    def to_dict(self) -> PlainDict:
        return {
            "name": self.name, "size": self.size, "removable": self.removable, "reason": self.reason,
            "edges": [str(edge) for edge in self.edges],
        }


class ChannelGroups(TableResult, Sequence[ChannelGroup]):
    """The groups of a model, in the order in which it computes them; prints one after the other, and the total.

    Attributes:
        analysis: What they were found by.
    """

    _headings = ("group", "channels", "can go", "coupled axes of weights", "why channels stay")
    _left = (0, 3, 4)

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
        wrapper = textwrap.TextWrapper(120, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)
        return "\n".join([*(wrapper.fill(str(group)) for group in self._groups), self._headline()])

    def to_dict(self) -> PlainDict:
        """Plain values, fit for JSON."""
        return {"groups": [group.to_dict() for group in self._groups]}

    def _rows(self) -> list[tuple[str, ...]]:
        return [
            (group.name, f"{group.size:,}", f"{group.removable:,}", group.axes, group.reason)
            for group in self._groups
        ]

    def _caption(self) -> str:
        return self._headline()

    def _headline(self) -> str:
        free = sum(group.removable for group in self._groups)
        return f"{len(self)} groups, {free:,} of {sum(group.size for group in self._groups):,} channels can be removed"


def channel_groups(model: keras.Model) -> ChannelGroups:
    """Find the channels that can be removed from a model, and what goes with them.

    A channel stands in all weights that make, change or read it; a residual connection joins those of several layers.
    Channels that stand in the same axes of the same weights form a group.

    Args:
        model: Any built Keras 3 model of plain layers. It is not changed.

    Returns:
        A sequence of groups. It prints of each its layer, how many channels it has, the axes of weights that shrink
        with them (``norm/*``: all weights of a layer), and why channels stay where they have to; below, the total.

    Raises:
        TypeError: ``model`` is no ``keras.Model``.
        ValueError: It is not built, or holds compressed layers.

    Example:
        >>> import keras, tfgreen as tg
        >>> model = keras.Sequential(
        ...     [keras.Input((8,)), keras.layers.Dense(4, name="hidden"), keras.layers.Dense(2, name="out")])
        >>> print(tg.channel_groups(model))
        hidden: 4 channels in hidden/kernel[1], hidden/bias[0], out/kernel[0]
        out: 0 of 2 channels in out/kernel[1], out/bias[0] (they are an output of the model)
        2 groups, 4 of 6 channels can be removed
    """
    check_built_model(model)
    for path, layer in compressed_layers(model):
        how = how_to_bake(layer.chains)
        fix = f"Bake it first: {how}. Channels go before weights are pruned, clustered or quantized."
        raise invalid_state(f"{layer_subject(path, layer.layer)} is compressed.", fix)
    analysis = analyse(model)
    groups = ChannelGroups(analysis)
    for group, reason in width_readers(model, analysis, groups, lambda removed: shrink(model, analysis, removed)):
        analysis.fix(group.labels, reason)
        groups = ChannelGroups(analysis)
    return groups


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
