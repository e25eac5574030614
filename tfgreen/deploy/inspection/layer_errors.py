"""What a comparison layer by layer shows: how much each layer loses, which one is the cause, and what may help."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

_OUTLIERS, _APART = 4.0, 20.0  # from where on a stretched range, or channels of unequal ranges, are called the cause
_GOOD = 1e-3  # noise as a share of the signal's power, 30 dB, that no score suffers from


@dataclasses.dataclass(frozen=True)
class LayerComparison:
    """How far the output of one layer is from the Keras model's.

    Attributes:
        layer: Path of the layer.
        merged: Paths of the layers before it that the same operator computes.
        sources: Paths of the compared layers nearest before it, whose outputs it takes.
        operator: The operator that makes its output.
        noise: Power of the difference as a share of the signal's, ``sum((keras - file)^2) / sum(keras^2)``.
        added_noise: How much larger that is than the largest of its sources.
        mean_error: Mean absolute difference, in units of the output.
        max_error: The largest.
        step: Quantization scale of the output; None where it is float.
        outliers: Largest magnitude of the output over its 99.9th percentile.
        channels_apart: Largest over smallest range (90th percentile of the magnitudes) of the output's channels, its
            last axis; empty ones left out.
    """

    layer: str
    merged: tuple[str, ...]
    sources: tuple[str, ...]
    operator: str
    noise: float
    added_noise: float
    mean_error: float
    max_error: float
    step: float | None
    outliers: float
    channels_apart: float

    @property
    def paths(self) -> tuple[str, ...]:
        """The layers that the operator computes, in the order in which they run."""
        return (*self.merged, self.layer)

    @property
    def sqnr_db(self) -> float:
        """Signal-to-quantization-noise ratio in decibels, ``-10 log10(noise)``; infinite where there is none."""
        return -10 * math.log10(self.noise) if self.noise else math.inf

    @property
    def lost_db(self) -> float:
        """By how many decibels the ratio is lower than before the layer, below 30 dB.

        A difference of noise would blame layers late in a network, which pass on more of it than there was to lose.
        """
        if not math.isfinite(self.noise) or math.isnan(self.added_noise):  # a layer of zeros
            return 0.0
        return 10 * math.log10(max(self.noise, _GOOD) / max(self.noise - self.added_noise, _GOOD))

    @property
    def mean_steps(self) -> float | None:
        """The mean error in steps of the output; None where it is float."""
        return None if self.step is None else self.mean_error / self.step

    @property
    def max_steps(self) -> float | None:
        """The largest error in steps of the output; None where it is float."""
        return None if self.step is None else self.max_error / self.step


@dataclasses.dataclass(frozen=True)
class LayerErrors:
    """The comparison of each layer, in the order in which they run; prints as a table, the one that loses most first.

    Attributes:
        layers: One entry per layer that could be compared.
        skipped: Path of a layer that could not -> why.
    """

    layers: tuple[LayerComparison, ...]
    skipped: Mapping[str, str]

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
        """Which layer loses most, why, and what may help."""
        return self._judged()[0]

    @property
    def cause_layers(self) -> tuple[str, ...]:
        """Paths of the layers, computed by one operator, that the cause lies in."""
        return self._judged()[1]

    def _judged(self) -> tuple[str, tuple[str, ...]]:
        """Values that are lost by sharing a scale with larger ones are lost where they are made, but count only where
        the next layer weighs them up: it is that one whose output is worse than its input."""
        worst = self.worst
        if worst is None:
            return "No layer could be compared.", ()
        text = f"{_named(worst)} loses most: the noise is {worst.noise:.2%} of the power of its output"
        if worst.noise > worst.added_noise:
            text += f", {worst.noise - worst.added_noise:.2%} of that of its input"
        made = self.sources_of(worst)
        # A layer of which both ends are float is float; that takes the layers before it too.
        keep = f"keep_float={tuple(path for row in (*made, worst) for path in row.paths)}"
        apart = max(made, key=lambda row: row.channels_apart, default=None)
        if apart is not None and apart.channels_apart > _APART:
            why = f"whose channels share one scale though their ranges lie up to {apart.channels_apart:.0f} times apart"
            remedy = f"try tg.equalize(model), or {keep}"
            return f"{text}. It takes what {_named(apart)} makes, {why}: {remedy}.", apart.paths
        wide = max((*made, worst), key=lambda row: row.outliers)
        if wide.outliers > _OUTLIERS:
            why = f"is {wide.outliers:.0f} times the 99.9th percentile"
            remedy = f"try calibration='percentile', or {keep}"
            return f"{text}. The largest value that {_named(wide)} makes {why}: {remedy}.", wide.paths
        return f"{text}. Try {keep}, or train it: tg.quantize.", worst.paths

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; a figure that is not finite is None."""
        rows = [{**dataclasses.asdict(layer), "sqnr_db": layer.sqnr_db} for layer in self.layers]
        return {
            "layers": [{key: _plain(value) for key, value in row.items()} for row in rows],
            "skipped": dict(self.skipped),
            "cause": self.cause,
        }

    def __str__(self) -> str:
        rows: list[tuple[str, ...]] = [("layer", "operator", "SQNR dB", "lost dB", "mean steps", "max steps")]
        for layer in self.ranked():
            steps = ["" if v is None else f"{v:.3f}" for v in (layer.mean_steps, layer.max_steps)]
            name = layer.layer + (f" (with {', '.join(layer.merged)})" if layer.merged else "")
            rows.append((name, layer.operator, f"{layer.sqnr_db:.1f}", f"{layer.lost_db:.1f}", *steps))
        widths = [max(len(row[i]) for row in rows) for i in range(6)]
        pads = [str.ljust, str.ljust, str.rjust, str.rjust, str.rjust, str.rjust]
        lines = ["  ".join(pad(c, n) for pad, c, n in zip(pads, row, widths)).rstrip() for row in rows]
        skipped = [f"not compared: {path} ({reason})" for path, reason in self.skipped.items()]
        return "\n".join([*lines, *skipped, self.cause])


def _named(row: LayerComparison) -> str:
    return f"'{' + '.join(row.paths)}'"


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value
