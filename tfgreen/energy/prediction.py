"""EnergyPrediction: what a whole training will use, told from its first epochs."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from tfgreen.tables import SentenceResult

# Two-sided 95 % quantiles of Student's t for 1, 2, ... degrees of freedom; 1.96 beyond.
STUDENT_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
Amounts: TypeAlias = np.ndarray  # (rows, kinds) in float64: joules and seconds, say


@dataclasses.dataclass(frozen=True, repr=False)
class EnergyPrediction(SentenceResult):
    """What a training will have used after its last epoch, if no callback ends it before.

    Attributes:
        kwh: Kilowatt-hours of the whole training.
        interval: Lowest and highest kWh: 95 %, from how much parts of what has run differ.
        co2e_kg: Kilograms of CO2 equivalent, or None without a region.
        seconds: Wall-clock time of the whole training.
        epochs: How many epochs there will be.
        after: How many of them the prediction knows.

    Example:
        >>> told = EnergyPrediction(0.5, (0.4, 0.6), co2e_kg=None, seconds=3600.0, epochs=10, after=1)
        >>> print(told)
        10 epochs will use 0.5 kWh (0.4 to 0.6), and take 3,600 s; told after 1 epoch
    """

    kwh: float
    interval: tuple[float, float]
    co2e_kg: float | None
    seconds: float
    epochs: int
    after: int

    def __str__(self) -> str:
        low, high = self.interval
        co2e = "" if self.co2e_kg is None else f", {self.co2e_kg:.3g} kg of CO2e"
        known = "1 epoch" if self.after == 1 else f"{self.after} epochs"
        return (f"{self.epochs} epochs will use {self.kwh:.3g} kWh ({low:.3g} to {high:.3g}){co2e}, "
                f"and take {_time(self.seconds)}; told after {known}")  # fmt: skip


def _time(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds < 100 else f"{seconds:,.0f} s"


def quantile(freedom: int) -> float:
    """The two-sided 95 % quantile of Student's t."""
    return STUDENT_T[freedom - 1] if freedom <= len(STUDENT_T) else 1.96


def steady(counts: Sequence[int], totals: Amounts) -> tuple[Amounts, Amounts]:
    """What the last count takes at the pace behind the first reading, and how far that may be off (95 %).

    ``totals`` of shape (readings, kinds) is what had been used after so many batches. The first batch, which traces
    the graph, and those of the first fifth, while memory is allocated, are left out. Parts of an epoch differ as
    epochs do, so the error is that of one part. A pace that was read once may be anything between 0 and twice.
    """
    skipped = sum(count < counts[0] + (counts[-1] - counts[0]) / 5 for count in counts)
    first = min(skipped, max(0, len(counts) - 3))
    done, used = np.diff(counts[first:]), np.diff(totals[first:], axis=0)
    pace = used.sum(0) / done.sum()
    if len(done) < 2:
        return pace * counts[-1], pace * counts[-1]
    spread = np.sqrt((done[:, None] * (used / done[:, None] - pace) ** 2).sum(0) / done.sum())
    return pace * counts[-1], quantile(len(done) - 1) * spread * counts[-1]


def predict(past: Amounts, pace: tuple[Amounts, Amounts] | None, epochs: int) -> tuple[Amounts, Amounts] | None:
    """The whole of a training, and how far that may be off (95 %); None where nothing is known of an epoch to come.

    ``past`` of shape (epochs, kinds) is what each epoch took. The first, in which graphs are traced, says nothing of
    the others: ``pace`` is what its steady part says; the second stands beside it, and from the third on epochs speak.
    """
    known, left = past[1:], epochs - len(past)
    if len(known) >= 2:
        mean = known.mean(0)
        error = quantile(len(known) - 1) * known.std(0, ddof=1) * math.sqrt(1 / len(known) + 1 / max(left, 1))
    elif pace is not None:
        mean = (pace[0] + known.sum(0)) / (1 + len(known))
        error = np.maximum(pace[1], np.abs(mean - pace[0]))
    elif len(known):
        mean = error = known[0]
    else:
        return None
    return past.sum(0) + left * mean, left * error
