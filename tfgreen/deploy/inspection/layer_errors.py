"""Errors layer by layer: which layer loses most, why, and what may help."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import ClassVar, Literal

from tfgreen.tables import RowResult, TableResult, plain
from tfgreen.typing import PlainDict

_OUTLIERS, _IMBALANCE = 4.0, 20.0  # above which a stretched range, or channels of unequal ranges, are the cause
_JOINING = ("CONCATENATION", "PACK", "RESHAPE")
Remedy = Literal["place", "train", "equalize", "alone"]
_BOTH: frozenset[Remedy] = frozenset({"place", "train"})
GOOD = 1e-3  # noise as a share of the signal's power, 30 dB, that no score suffers from


@dataclasses.dataclass(frozen=True)
class LayerComparison(RowResult):
    """How far the output of one layer in the file is from that in the Keras model.

    Attributes:
        layer: Path of the layer.
        fused: Paths of the layers before it that the same operator computes.
        sources: Paths of the nearest compared layers before it, whose outputs it takes.
        operator: The operator that computes its output.
        noise: Power of the difference as a share of the signal's, ``sum((keras - file)^2) / sum(keras^2)``.
        added_noise: How much larger that is than the largest of its sources.
        mean_error, max_error: Mean and largest absolute difference, in units of the output.
        scale: Quantization scale of the output; None where it is float.
        outlier_ratio: Largest magnitude of the output over its 99.9th percentile.
        channel_imbalance: Largest over smallest range (90th percentile of the magnitudes) of the output's channels, its
            last axis; empty ones left out.
    """

    layer: str
    fused: tuple[str, ...]
    sources: tuple[str, ...]
    operator: str
    noise: float
    added_noise: float
    mean_error: float
    max_error: float
    scale: float | None
    outlier_ratio: float
    channel_imbalance: float

    @property
    def paths(self) -> tuple[str, ...]:
        """The layers that the operator computes, in the order in which they run."""
        return (*self.fused, self.layer)

    @property
    def sqnr_db(self) -> float:
        """Signal-to-quantization-noise ratio in decibels, ``-10 log10(noise)``; infinite where there is none."""
        return -10 * math.log10(self.noise) if self.noise else math.inf

    @property
    def lost_db(self) -> float:
        """By how many decibels the ratio is lower than before the layer, below 30 dB.

        The difference of noise would blame layers late in a network, which pass on most of it.
        """
        if not math.isfinite(self.noise) or not math.isfinite(self.added_noise):  # a layer of zeros
            return 0.0
        return 10 * math.log10(max(self.noise, GOOD) / max(self.noise - self.added_noise, GOOD))

    @property
    def mean_scales(self) -> float | None:
        """The mean error in scales of the output; None where it is float."""
        return None if self.scale is None else self.mean_error / self.scale

    @property
    def max_scales(self) -> float | None:
        """The largest error in scales of the output; None where it is float."""
        return None if self.scale is None else self.max_error / self.scale

    def to_dict(self) -> PlainDict:
        """Return the fields as plain values, and ``"sqnr_db"``."""
        return plain({**vars(self), "sqnr_db": self.sqnr_db})


@dataclasses.dataclass(frozen=True, repr=False)
class LayerErrors(TableResult):
    """The comparison layer by layer; prints as a table, the layer that loses most first.

    Attributes:
        layers: A :class:`LayerComparison` per layer that could be compared, in the order in which they run.
        skipped: Path of a layer that could not -> why.
        remedies: What applies to the model and its file: ``"place"`` (``keep_float`` and ``calibration`` of a
            conversion; the former was tried), ``"train"`` (``keep_float`` of training), ``"equalize"`` (tried: the
            channels are then even), ``"alone"`` (the file computes in floats, as the model does).
        notes: What makes the comparison doubtful, in sentences.
    """

    layers: tuple[LayerComparison, ...]
    skipped: Mapping[str, str]
    remedies: frozenset[Remedy] = _BOTH
    notes: tuple[str, ...] = ()

    _headings: ClassVar[tuple[str, ...]] = ("layer", "operator", "SQNR dB", "lost dB", "mean scales", "max scales")
    _left = 2

    def ranked(self) -> list[LayerComparison]:
        """The layers, the one that loses most first."""
        return sorted(self.layers, key=lambda layer: (-layer.lost_db, -layer.added_noise))

    def sources_of(self, layer: LayerComparison) -> list[LayerComparison]:
        """The comparisons of the layers whose outputs a layer takes."""
        return [other for other in self.layers if other.layer in layer.sources]

    @property
    def worst(self) -> LayerComparison | None:
        """The layer that loses most; None if none could be compared."""
        return next(iter(self.ranked()), None)

    @property
    def cause(self) -> str:
        """Which layer loses most, why, and what may help, in a sentence or two."""
        return self._judged()[0]

    @property
    def cause_layers(self) -> tuple[str, ...]:
        """Paths of the layers, computed by one operator, that the cause lies in."""
        return self._judged()[1]

    def _judged(self) -> tuple[str, tuple[str, ...]]:
        # Values that share a scale with larger ones are lost where they are computed, but count only where the next
        # layer weighs them up: it is that one whose output is worse than its input.
        worst = self.worst
        if worst is None:
            return "No layer could be compared.", ()
        if worst.noise < GOOD:
            return f"No layer loses much: the most is {worst.noise:.2%} of the power of {_named(worst)}.", worst.paths
        text = f"{_named(worst)} loses most: the noise is {worst.noise:.2%} of the power of its output"
        if worst.noise > worst.added_noise:
            text += f", {worst.noise - worst.added_noise:.2%} of that of its input"
        joins = self._joins(worst)
        if joins:
            why = f"Its output gets the scale of {_named(joins[-1])}, where larger values join it"
            return f"{text}. {why}: {self._remedy('try')}.", worst.paths
        sources, uneven = self.sources_of(worst), self.uneven
        wide = max((*sources, worst), key=lambda row: row.outlier_ratio)
        if uneven is not None:
            why = f"whose channels share one scale though their ranges differ {uneven.channel_imbalance:.0f} times"
            first = "try tg.equalize(model), or" if "equalize" in self.remedies else "try"
            return f"{text}. Its input is the output of {_named(uneven)}, {why}: {self._remedy(first)}.", uneven.paths
        if wide.outlier_ratio > _OUTLIERS:
            why = f"is {wide.outlier_ratio:.0f} times the 99.9th percentile"
            remedy = self._remedy("try calibration='percentile', or" if "place" in self.remedies else "try")
            return f"{text}. The largest value in the output of {_named(wide)} {why}: {remedy}.", wide.paths
        train = ", or train it: tg.quantize" if self.remedies >= _BOTH else ""
        return f"{text}. {self._remedy('Try')}{train}.", worst.paths

    @property
    def uneven(self) -> LayerComparison | None:
        """The layer before the worst whose channels have the most different ranges, where that is a cause."""
        sources = [] if self.worst is None or self.worst.noise < GOOD else self.sources_of(self.worst)
        row = max(sources, key=lambda row: row.channel_imbalance, default=None)
        return row if row is not None and row.channel_imbalance > _IMBALANCE else None

    def _joins(self, worst: LayerComparison) -> list[LayerComparison]:
        """The concatenations, and what lies between, to whose scale the output of a layer is rounded again."""
        found = [worst] if worst.operator == "QUANTIZE" else []
        for row in self.layers:
            if row.operator in _JOINING and any(before.layer in row.sources for before in found):
                found.append(row)
        return found[1:]

    @property
    def kept(self) -> tuple[str, ...]:
        """Paths of the layers to keep in float, whatever the cause; a layer is float where its input and output are."""
        rows = () if self.worst is None else self._joins(self.worst) or (*self.sources_of(self.worst), self.worst)
        return tuple(path for row in rows for path in row.paths)

    def _remedy(self, start: str) -> str:
        keep = f"keep_float={self.kept}"
        if "place" in self.remedies:
            return f"{start} {keep}"
        if "train" in self.remedies:
            return f"{start} tg.quantize(float_model, {keep}) and train that"
        if "alone" in self.remedies:
            return f"{start} the model on one sample at a time, as files run: it may compute those of a batch together"
        return f"{start} quantization='float16'"

    def to_dict(self) -> PlainDict:
        """Return the fields as plain values, and ``"cause"``; a figure that is not finite is None."""
        return plain({"layers": self.layers, "skipped": self.skipped, "notes": self.notes, "cause": self.cause})

    def _headline(self) -> str:
        return self.cause

    def _rows(self) -> list[tuple[str, ...]]:
        rows = []
        for row in self.ranked():
            name = row.layer + (f" (with {', '.join(row.fused)})" if row.fused else "")
            scales = ["" if value is None else f"{value:.3f}" for value in (row.mean_scales, row.max_scales)]
            rows.append((name, row.operator, f"{row.sqnr_db:.1f}", f"{row.lost_db:.1f}", *scales))
        return rows

    def _remarks(self) -> list[str]:
        skipped = [f"not compared: {path} ({reason})" for path, reason in self.skipped.items()]
        return [*skipped, *self.notes, self.cause]


def _named(row: LayerComparison) -> str:
    return f"'{' + '.join(row.paths)}'"
