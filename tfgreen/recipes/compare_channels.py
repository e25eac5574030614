"""compare_channels: what pruning channels has changed, in layers and in the file."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, get_args

import keras

from tfgreen.checks import check_bool, check_integer, check_option
from tfgreen.config import named_options
from tfgreen.deploy.conversion.config import Quantization
from tfgreen.errors import invalid_value
from tfgreen.model.call_spec import read_call_spec
from tfgreen.model.cost import profile
from tfgreen.model.paths import check_built_model, own_weights, walk
from tfgreen.model.samples import sample_arrays
from tfgreen.model.weights import own_compressible
from tfgreen.recipes.prune_channels import latencies_ms, to_lite
from tfgreen.surgery.channel_groups import ChannelGroups, channel_groups
from tfgreen.tables import RowResult, TableResult
from tfgreen.typing import Samples


@dataclasses.dataclass(frozen=True)
class LayerWidth(RowResult):
    """How wide a layer was and is.

    Attributes:
        layer, class_name: Its path, and its class.
        before, after: How many channels, units or heads it has.
        reason: Why channels had to stay, where some did; else "".
    """

    layer: str
    class_name: str
    before: int
    after: int
    reason: str = ""


@dataclasses.dataclass(frozen=True, repr=False)
class ChannelComparison(TableResult):
    """What :func:`tfgreen.compare_channels` found; prints as a table of layers, with the figures of the model below.

    Attributes:
        layers: One :class:`LayerWidth` for each layer with a kernel.
        parameters, macs, size_bytes, latency_ms: Of the model before and after: weights, multiply-accumulates (None
            where they cannot be counted), bytes of the ``.tflite`` file, and milliseconds of an inference (None where
            they were not measured).
        quantization: The mode of the file.
    """

    layers: tuple[LayerWidth, ...]
    parameters: tuple[int, int]
    macs: tuple[int | None, int | None]
    size_bytes: tuple[int, int]
    latency_ms: tuple[float | None, float | None]
    quantization: Quantization

    _headings: ClassVar[tuple[str, ...]] = ("layer", "class", "before", "after", "why channels stay")
    _left = 2

    def _rows(self) -> list[tuple[str, ...]]:
        return [(row.layer, row.class_name, f"{row.before:,}", f"{row.after:,}", row.reason) for row in self.layers]

    def _remarks(self) -> list[str]:
        lines = [
            _change("MACs", *self.macs), _change("parameters", *self.parameters),
            _change(f"bytes of the {self.quantization} file", *self.size_bytes),
            _change("milliseconds", *self.latency_ms),
        ]
        return [line for line in lines if line]

    def _headline(self) -> str:
        shrunk = sum(row.after < row.before for row in self.layers)
        return f"{shrunk} of {len(self.layers)} layers narrower, {'; '.join(self._remarks())}"


@named_options
def compare_channels(
    before: keras.Model,
    after: keras.Model,
    *,
    latency: bool = False,
    quantization: Quantization = "float32",
    calibration_data: Samples | None = None,
    threads: int = 1,
) -> ChannelComparison:
    """Say what :func:`tfgreen.prune_channels` has made of a model, layer by layer, and why the rest stayed.

    Args:
        before: The model that was passed to the verb.
        after: What it returned, trained since or not.
        latency: Whether to measure both files in turn, on random inputs.
        quantization: The mode of the files, as for :class:`tfgreen.ConvertConfig`.
        calibration_data: For the modes with integer activations: representative inputs.
        threads: CPU threads for the latency.

    Raises:
        TypeError: An argument is of another type.
        ValueError: A model is not built or holds compressed layers, or ``after`` lacks a layer of ``before``.

    Example:
        >>> import keras, tfgreen as tg
        >>> model = keras.Sequential(
        ...     [keras.Input((8,)), keras.layers.Dense(16, name="hidden"), keras.layers.Dense(4, name="out")])
        >>> found = tg.compare_channels(model, tg.prune_channels(model, ratio=0.5))
        >>> found.macs, [(row.layer, row.before, row.after) for row in found.layers]
        ((192, 96), [('hidden', 16, 8), ('out', 4, 4)])
    """
    check_bool("latency", latency)
    check_option("quantization", quantization, get_args(Quantization))
    check_integer("threads", threads, minimum=1, maximum=1024)
    groups = channel_groups(before)
    check_built_model(after, "after")
    samples = None if calibration_data is None else sample_arrays(calibration_data, read_call_spec(before))
    rows = _widths(before, after, groups)
    costs = [profile(model) for model in (before, after)]
    lites = {model is after: to_lite(model, quantization, samples) for model in (before, after)}
    times = latencies_ms(lites, threads) if latency else {False: None, True: None}
    return ChannelComparison(
        tuple(rows), (costs[0].parameters, costs[1].parameters), (costs[0].macs, costs[1].macs),
        (lites[False].size_bytes, lites[True].size_bytes), (times[False], times[True]), quantization,
    )


def _widths(before: keras.Model, after: keras.Model, groups: ChannelGroups) -> list[LayerWidth]:
    reasons: dict[tuple[str, str, int], str] = {}
    for group in groups:
        for edge in group.edges:
            key = edge.layer, edge.weight, edge.axis
            reasons[key] = reasons.get(key) or group.reason
    now = dict(walk(after))
    rows = []
    for path, layer in walk(before):
        table = own_compressible(layer)
        name = next(iter(table), None)
        if name is None:
            continue
        weights = own_weights(now[path]) if path in now else {}
        if name not in weights:
            fix = "Pass the model that was passed to tg.prune_channels, and what that returned."
            raise invalid_value("after", expected=f"a model with the layer '{path}'", received=after.name, fix=fix)
        old = tuple(own_weights(layer)[name].shape)
        axes = [axis % len(old) for axis in table[name].outputs]
        shrinkable = [axis for axis in axes if (path, name, axis) in reasons]
        axis = shrinkable[0] if shrinkable else axes[-1]
        reason = reasons.get((path, name, axis), "it cannot be traced")
        rows.append(LayerWidth(path, type(layer).__name__, old[axis], int(weights[name].shape[axis]), reason))
    return rows


def _change(name: str, before: float | None, after: float | None) -> str:
    if before is None or after is None:
        return ""
    old, new = (f"{value:,}" if isinstance(value, int) else f"{value:.4g}" for value in (before, after))
    return f"{name}: {old} -> {new} ({after / before:.0%})"
