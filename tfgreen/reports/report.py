"""The report of a run: every figure of every variant with its source, as JSON, as one HTML file and as a table."""

from __future__ import annotations

import dataclasses
import json
import math
import numbers
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tfgreen.errors import FileError, invalid_type, invalid_value
from tfgreen.files import write_atomic
from tfgreen.reports.variant import FIGURES, EnergyPerInference, Latency, Variant
from tfgreen.version import __version__

__all__ = ["FIGURES", "Curve", "EnergyPerInference", "Latency", "RunReport", "Variant", "training_curves"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Curve:
    """A plot over time: training history, sparsity over steps.

    Attributes:
        title: Heading.
        x_label: What the horizontal axis counts (``"epoch"``, ``"training step"``).
        y_label: What is shown, with its unit (``"loss"``, ``"sparsity (share of zeros)"``).
        series: Name of a line -> its ``(x, y)`` points. A y that is not finite becomes None: a gap.
    """

    title: str
    x_label: str
    y_label: str
    series: Mapping[str, Sequence[tuple[float, float | None]]]

    def __post_init__(self) -> None:
        clean = {name: tuple((_plain(x), _finite(y)) for x, y in points) for name, points in self.series.items()}
        object.__setattr__(self, "series", clean)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values; points are ``[x, y]`` lists."""
        series = {name: [list(point) for point in points] for name, points in self.series.items()}
        return {"title": self.title, "x_label": self.x_label, "y_label": self.y_label, "series": series}


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A plot of results side by side: a student alone, the same student distilled, and its teacher.

    Attributes:
        title: Heading.
        axis: What is shown, with its unit (``"test accuracy, %"``).
        values: Name -> the results of its runs (seeds), at least one each.
        reference: Name and value of a line through all rows, or None.

    Raises:
        ValueError: There are no values, or a name has none or one that is not finite.
    """

    title: str
    axis: str
    values: Mapping[str, Sequence[float]]
    reference: tuple[str, float] | None = None

    def __post_init__(self) -> None:
        values = {name: tuple(_finite(value) for value in runs) for name, runs in self.values.items()}
        if not values or any(not runs or None in runs for runs in values.values()):
            subject = f"comparison '{self.title}'"
            raise invalid_value(subject, expected="finite values for each name", received=self.values)
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "reference", None if self.reference is None else tuple(self.reference))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        values = {name: list(runs) for name, runs in self.values.items()}
        reference = None if self.reference is None else list(self.reference)
        return {"title": self.title, "axis": self.axis, "values": values, "reference": reference}

    def _repr_html_(self) -> str:
        """Jupyter shows the plot."""
        from tfgreen.reports.plots import comparison

        return comparison(self.title, self.axis, self.values, self.reference)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunReport:
    """What a run did and what came out of it.

    Attributes:
        variants: The versions of the model; ratios are against the first.
        steps: What was done, in order: one dictionary each, with a ``"name"`` and whatever else there is to tell.
        environment: Where it ran (see :func:`tfgreen.reports.environment.environment`).
        curves: Plots over time.
        comparisons: Plots of results side by side.

    Raises:
        ValueError: There is no variant, two share a name, or a step has no name.
        TypeError: A step or the environment holds something that is not a plain value.
    """

    variants: Sequence[Variant]
    steps: Sequence[Mapping[str, Any]] = ()
    environment: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    curves: Sequence[Curve] = ()
    comparisons: Sequence[Comparison] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "variants", tuple(self.variants))
        object.__setattr__(self, "curves", tuple(self.curves))
        object.__setattr__(self, "comparisons", tuple(self.comparisons))
        object.__setattr__(self, "steps", tuple(_plain(step) for step in self.steps))
        object.__setattr__(self, "environment", _plain(self.environment))
        names = [variant.name for variant in self.variants]
        if not names or len(set(names)) < len(names):
            raise invalid_value("report, variants", expected="one or more with different names", received=names)
        for step in self.steps:
            if not isinstance(step, dict) or not step.get("name"):
                raise invalid_value("report, step", expected="a dictionary with a 'name'", received=step)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, fit for strict JSON (no NaN), in the format of ``report.json``."""
        return {
            "tfgreen": __version__,
            "variants": [variant.to_dict() for variant in self.variants],
            "environment": self.environment,
            "steps": list(self.steps),
            "curves": [curve.to_dict() for curve in self.curves],
            "comparisons": [comparison.to_dict() for comparison in self.comparisons],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> RunReport:
        """Rebuild a report from :meth:`to_dict` or from a parsed ``report.json``.

        Raises:
            ValueError: Something is missing or refused.
        """
        missing = {"variants", "environment", "steps"} - set(data)
        if missing:
            raise invalid_value("report", expected="the keys of report.json", received=f"no {sorted(missing)}")
        return cls(
            variants=[Variant.from_dict(variant) for variant in data["variants"]],
            steps=data["steps"],
            environment=data["environment"],
            curves=[Curve(**curve) for curve in data.get("curves", ())],
            comparisons=[Comparison(**comparison) for comparison in data.get("comparisons", ())],
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> RunReport:
        """Read a ``report.json``, or the one in a folder.

        Raises:
            OSError: The file is missing, or does not hold a report.
        """
        file = Path(path)
        file = file / "report.json" if file.is_dir() else file
        try:
            return cls.from_dict(json.loads(file.read_text(encoding="utf-8")))
        except (OSError, UnicodeDecodeError, ValueError, TypeError, KeyError) as error:
            raise FileError(f"{file}: not a report.json of tfgreen: {error}") from error

    def save(self, folder: str | os.PathLike[str]) -> tuple[Path, Path]:
        """Write ``report.json`` and the self-contained ``report.html`` into ``folder``, each whole or not at all.

        Args:
            folder: Made if missing.

        Returns:
            The two paths, JSON first.

        Raises:
            OSError: The folder cannot be made or written.
        """
        from tfgreen.reports.html import page

        text = json.dumps(self.to_dict(), indent=2, allow_nan=False, ensure_ascii=False) + "\n"
        html = page(self)
        target = Path(folder)
        try:
            target.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FileError(f"{target}: cannot be made: {error.strerror or error}.") from error
        return write_atomic(target / "report.json", text), write_atomic(target / "report.html", html)

    def print(self, console: Any = None) -> None:
        """Print the table to the terminal, or to the ``rich.console.Console`` given."""
        from rich.console import Console

        (console or Console()).print(self)

    def __rich__(self) -> Any:
        """Let Rich show the report wherever it prints objects."""
        from tfgreen.reports.text import ReportTable

        return ReportTable(self)


def training_curves(history: Mapping[str, Sequence[float]], *, title: str = "Training") -> tuple[Curve, ...]:
    """Turn a Keras ``History.history`` into one curve per metric, training and validation together.

    Args:
        history: Metric -> one value per epoch, ``val_...`` for validation.
        title: Which training it was.

    Example:
        >>> [(c.title, list(c.series)) for c in training_curves({"loss": [2.0, 1.0], "val_loss": [2.1, 1.3]})]
        [('Training: loss', ['training', 'validation'])]
    """
    curves = []
    for metric in dict.fromkeys(name.removeprefix("val_") for name in history):
        pairs = {"training": history.get(metric), "validation": history.get(f"val_{metric}")}
        series = {name: list(enumerate(values, 1)) for name, values in pairs.items() if values is not None}
        curves.append(Curve(title=f"{title}: {metric}", x_label="epoch", y_label=metric, series=series))
    return tuple(curves)


def _finite(value: Any) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def _plain(value: Any) -> Any:
    """Copy a value into what JSON has; NumPy scalars become numbers, a number that is not finite becomes None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return _finite(value)
    raise invalid_type("report", expected="plain values (numbers, texts, lists, dictionaries)", received=value)
