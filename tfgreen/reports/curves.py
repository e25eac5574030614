"""Curves: what a run recorded over time, for a plot."""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections.abc import Mapping, Sequence

from tfgreen.typing import PlainDict


@dataclasses.dataclass(frozen=True, kw_only=True)
class Curve:
    """A plot over time, for instance of the loss over epochs; labels of the axes name their units.

    ``series`` holds the ``(x, y)`` points of each line by its name. A y that is not finite becomes None: a gap.
    """

    title: str
    x_label: str
    y_label: str
    series: Mapping[str, Sequence[tuple[float, float | None]]]

    def __post_init__(self) -> None:
        clean = {name: tuple(_point(x, y) for x, y in points) for name, points in self.series.items()}
        object.__setattr__(self, "series", clean)

    def to_dict(self) -> PlainDict:
        """Plain values; points are ``[x, y]`` lists."""
        series = {name: [list(point) for point in points] for name, points in self.series.items()}
        return {"title": self.title, "x_label": self.x_label, "y_label": self.y_label, "series": series}


def training_curves(history: Mapping[str, Sequence[float]], *, title: str = "Training") -> tuple[Curve, ...]:
    """Turn a Keras ``History.history`` into one curve per metric, training and validation together."""
    curves = []
    for metric in dict.fromkeys(name.removeprefix("val_") for name in history):
        pairs = {"training": history.get(metric), "validation": history.get(f"val_{metric}")}
        series = {name: list(enumerate(values, 1)) for name, values in pairs.items() if values is not None}
        curves.append(Curve(title=f"{title}: {metric}", x_label="epoch", y_label=metric, series=series))
    return tuple(curves)


def _point(x: float, y: float | None) -> tuple[float, float | None]:
    """Plain Python numbers for NumPy's."""
    plain = int(x) if isinstance(x, numbers.Integral) else float(x)
    return plain, float(y) if y is not None and math.isfinite(y) else None
