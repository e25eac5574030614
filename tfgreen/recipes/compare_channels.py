"""compare_channels: what pruning channels has changed, in layers and in the file."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, get_args

import keras

from tfgreen.checks import check_bool, check_integer, check_option
from tfgreen.config import named_options
from tfgreen.deploy.conversion.config import Quantization
from tfgreen.errors import invalid_state, invalid_value, layer_subject
from tfgreen.model.call_spec import read_call_spec
from tfgreen.model.cost import profile
from tfgreen.model.paths import check_built_model, own_weights, walk
from tfgreen.model.samples import sample_arrays
from tfgreen.model.weights import own_compressible
from tfgreen.recipes.measured_files import latencies_ms, to_lite
from tfgreen.surgery.channel_groups import ChannelGroups, channel_groups
from tfgreen.tables import RowResult, TableResult, html_table, text_table
from tfgreen.transforms.compressed import compressed_layers
from tfgreen.typing import Samples

_FIGURES = ("figure", "before", "after", "left")
_BOTH = "Pass the model that was passed to tg.prune_channels, and what that returned."
_OUTPUT = "they are an output of the model"
_KEEPS = "they are joined with what keeps its size"
_NONE_WENT = "they could go: kept, or others matter less"


@dataclasses.dataclass(frozen=True)
class LayerWidth(RowResult):
    """How wide a layer was and is.

    Attributes:
        layer, class_name: Its path, and its class.
        before, after: How many channels, units or heads it has.
        reason: Why channels had to stay, where some did; or that they could go, where none did; else "".
    """

    layer: str
    class_name: str
    before: int
    after: int
    reason: str = ""


@dataclasses.dataclass(frozen=True, repr=False)
class ChannelComparison(TableResult):
    """What :func:`tfgreen.compare_channels` found; prints as a table of the model's figures and one of its layers.

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
    _left = (0, 1, 4)

    def _rows(self) -> list[tuple[str, ...]]:
        return [(row.layer, row.class_name, f"{row.before:,}", f"{row.after:,}", row.reason) for row in self.layers]

    def _figures(self) -> list[tuple[str, ...]]:
        """Of each figure of the model that is known: its name, both values, and the share that is left."""
        named = {
            "MACs": self.macs, "parameters": self.parameters, f"bytes of the {self.quantization} file": self.size_bytes,
            "milliseconds": self.latency_ms,
        }
        return [
            (name, _number(before), _number(after), f"{after / before:.0%}")
            for name, (before, after) in named.items() if before is not None and after is not None
        ]

    def __str__(self) -> str:
        return f"{text_table(_FIGURES, self._figures())}\n\n{super().__str__()}"

    def _repr_html_(self) -> str:
        return html_table(_FIGURES, self._figures(), self._narrower()) + super()._repr_html_()

    def _marked(self) -> list[int]:
        return [number for number, row in enumerate(self.layers) if row.after < row.before]

    def _narrower(self) -> str:
        return f"{len(self._marked())} of {len(self.layers)} layers narrower"

    def _headline(self) -> str:
        figures = (f"{name}: {before} -> {after} ({share})" for name, before, after, share in self._figures())
        return f"{self._narrower()}, {'; '.join(figures)}"


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
        calibration_data: For the modes with integer activations: representative inputs. Also for the latency where
            inputs are of open size, of which the first sample then runs.
        threads: CPU threads for the latency.

    Raises:
        TypeError: An argument is of another type.
        ValueError: A model is not built or holds compressed layers, or ``after`` lacks a layer of ``before`` or has a
            wider one.

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
    for path, layer in compressed_layers(after):
        raise invalid_state(f"after: {layer_subject(path, layer.layer)} is compressed.", "Pass tg.strip(after).")
    samples = None if calibration_data is None else sample_arrays(calibration_data, read_call_spec(before))
    rows = _widths(before, after, groups)
    old, new = profile(before), profile(after)
    lites = [to_lite(model, quantization, samples) for model in (before, after)]
    times = latencies_ms(dict(enumerate(lites)), threads, samples) if latency else {}
    return ChannelComparison(
        tuple(rows), (old.parameters, new.parameters), (old.macs, new.macs),
        (lites[0].size_bytes, lites[1].size_bytes), (times.get(0), times.get(1)), quantization,
    )


def _widths(before: keras.Model, after: keras.Model, groups: ChannelGroups) -> list[LayerWidth]:
    reasons: dict[tuple[str, str, int], str] = {}
    for group in groups:
        for edge in group.edges:
            key = edge.layer, edge.weight, edge.axis
            reasons[key] = reasons.get(key) or group.reason
    analysis, now, rows = groups.analysis, dict(walk(after)), []
    outputs = {id(tensor) for tensor in analysis.trace.outputs}
    last = {call.path for call in analysis.trace.calls if outputs & set(map(id, call.outputs))}
    for path, layer in walk(before):
        table = own_compressible(layer)
        name = next(iter(table), None)
        if name is None:
            continue
        weights = own_weights(now[path]) if path in now else {}
        if name not in weights:
            expected = f"a model with the layer '{path}'"
            raise invalid_value("after", expected=expected, received=f"'{after.name}'", fix=_BOTH)
        old = tuple(own_weights(layer)[name].shape)
        axes = [axis % len(old) for axis in table[name].outputs]
        shrinkable = [axis for axis in axes if (path, name, axis) in reasons]
        axis = shrinkable[0] if shrinkable else axes[-1]
        left = int(weights[name].shape[axis])
        if left > old[axis]:
            expected = f"no layer wider than it was in before ('{path}': {old[axis]})"
            raise invalid_value("after", expected=expected, received=left, fix=_BOTH)
        reason = _OUTPUT if path in last else reasons.get((path, name, axis), _KEEPS)
        reason = _NONE_WENT if not reason and left == old[axis] else reason
        rows.append(LayerWidth(path, type(layer).__name__, old[axis], left, reason))
    return rows


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
