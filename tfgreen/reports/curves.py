"""Curves: what a run recorded over time, for a plot."""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections.abc import Mapping, Sequence

from tfgreen.energy.carbon.grid import JOULES_PER_KWH
from tfgreen.energy.prediction import EnergyPrediction
from tfgreen.reports.page import plots
from tfgreen.tables import plain
from tfgreen.typing import PlainDict


@dataclasses.dataclass(frozen=True, kw_only=True)
class Curve:
    """A plot over time or another number, for instance of the loss over epochs; labels of the axes name their units.

    Attributes:
        series: The ``(x, y)`` points of each line by its name. A y that is not finite becomes None: a gap.
        bands: The ``(x, low, high)`` points of the interval round a line, by the name of the line.
        marks: An ``(x, low, high)`` by name: an upright line within an interval.

    Example:
        >>> from tfgreen.energy.carbon.break_even import break_even
        >>> curve = Curve(**break_even(2.0, 1.0, cost=100).plot())  # a notebook draws it
        >>> curve.title, curve.marks
        ('Break-even: paid back', {'break-even': (100.0, 100.0, 100.0)})
    """

    title: str
    x_label: str
    y_label: str
    series: Mapping[str, Sequence[tuple[float, float | None]]]
    bands: Mapping[str, Sequence[tuple[float, float, float]]] = dataclasses.field(default_factory=dict)
    marks: Mapping[str, tuple[float, float, float]] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        clean = {name: tuple(_point(x, y) for x, y in points) for name, points in self.series.items()}
        object.__setattr__(self, "series", clean)
        bands = {name: tuple(_numbers(point) for point in points) for name, points in self.bands.items()}
        object.__setattr__(self, "bands", bands)
        object.__setattr__(self, "marks", {name: _numbers(mark) for name, mark in self.marks.items()})

    def to_dict(self) -> PlainDict:
        """Plain values; points are lists."""
        return plain(vars(self))

    def _repr_html_(self) -> str:
        return plots.lines(self.title, self.x_label, self.y_label, self.series, self.bands, self.marks)


def training_curves(history: Mapping[str, Sequence[float]], *, title: str = "Training") -> tuple[Curve, ...]:
    """Turn a Keras ``History.history`` into one curve per metric, training and validation together."""
    curves = []
    for metric in dict.fromkeys(name.removeprefix("val_") for name in history):
        pairs = {"training": history.get(metric), "validation": history.get(f"val_{metric}")}
        series = {name: list(enumerate(values, 1)) for name, values in pairs.items() if values is not None}
        curves.append(Curve(title=f"{title}: {metric}", x_label="epoch", y_label=metric, series=series))
    return tuple(curves)


def energy_curve(joules: Sequence[float | None], prediction: EnergyPrediction | None = None) -> Curve:
    """The ``epochs`` of a :class:`tg.EnergyLogger`, in joules, beside the mean of all epochs by its ``prediction``."""
    told = []
    if prediction is not None:
        told = [kwh * JOULES_PER_KWH / prediction.epochs for kwh in (prediction.kwh, *prediction.interval)]
    most = max([*told, *(value for value in joules if value is not None)], default=0.0)
    scale, unit = next(((s, u) for s, u in ((1e6, "MJ"), (1e3, "kJ"), (1.0, "J")) if most >= s), (1e-3, "mJ"))
    series = {"used": [(i, None if value is None else value / scale) for i, value in enumerate(joules, 1)]}
    bands = {}
    if prediction is not None:
        mean, low, high = (value / scale for value in told)
        name, ends = f"mean, predicted after epoch {prediction.after}", (1, max(prediction.epochs, len(joules)))
        series[name], bands[name] = [(x, mean) for x in ends], [(x, low, high) for x in ends]
    label = f"energy ({unit})"
    return Curve(title="Energy of each epoch", x_label="epoch", y_label=label, series=series, bands=bands)


def _point(x: float, y: float | None) -> tuple[float, float | None]:
    """Plain Python numbers for NumPy's."""
    plain = int(x) if isinstance(x, numbers.Integral) else float(x)
    return plain, float(y) if y is not None and math.isfinite(y) else None


def _numbers(values: tuple[float, float, float]) -> tuple[float, float, float]:
    x, low, high = map(float, values)
    return x, low, high
