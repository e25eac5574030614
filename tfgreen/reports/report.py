"""The report of a run: every figure of every variant with its source, as JSON, as one HTML file and as text."""

from __future__ import annotations

import dataclasses
import json
import math
import numbers
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tfgreen.errors import FileError, invalid_type, invalid_value
from tfgreen.files import made_folder, write_atomic
from tfgreen.reports.curves import Curve
from tfgreen.reports.html import page
from tfgreen.reports.text import variants_html, variants_text
from tfgreen.reports.variant import Variant
from tfgreen.typing import FilePath, PlainDict
from tfgreen.version import __version__


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class RunReport:
    """What a run did and what came out of it: plain values but for the variants and curves.

    Ratios are against the first variant. Each of the ``steps``, in order, has a ``"name"`` and whatever else describes
    it; ``environment`` is that of :func:`tfgreen.reports.environment.environment`.
    """

    variants: Sequence[Variant]
    steps: Sequence[PlainDict] = ()
    environment: PlainDict = dataclasses.field(default_factory=dict)
    curves: Sequence[Curve] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "variants", tuple(self.variants))
        object.__setattr__(self, "curves", tuple(self.curves))
        object.__setattr__(self, "steps", tuple(_plain(step) for step in self.steps))
        object.__setattr__(self, "environment", _plain(self.environment))
        names = [variant.name for variant in self.variants]
        if not names or len(set(names)) < len(names):
            raise invalid_value("report, variants", expected="one or more with different names", received=names)
        for step in self.steps:
            if not isinstance(step, dict) or not step.get("name"):
                raise invalid_value("report, step", expected="a dictionary with a 'name'", received=step)

    def __repr__(self) -> str:
        return variants_text(self.variants, shutil.get_terminal_size().columns)

    def _repr_html_(self) -> str:
        return variants_html(self.variants)

    def to_dict(self) -> PlainDict:
        """Plain values, fit for strict JSON (no NaN), in the format of ``report.json``."""
        return {
            "tfgreen": __version__,
            "variants": [variant.to_dict() for variant in self.variants],
            "environment": self.environment,
            "steps": list(self.steps),
            "curves": [curve.to_dict() for curve in self.curves],
        }

    @classmethod
    def from_dict(cls, data: PlainDict) -> RunReport:
        """Rebuild a report from :meth:`to_dict` or from a parsed ``report.json``."""
        missing = {"variants", "environment", "steps"} - set(data)
        if missing:
            received = f"a dictionary without {sorted(missing)}"
            raise invalid_value("report", expected="the keys of report.json", received=received)
        return cls(
            variants=[Variant.from_dict(variant) for variant in data["variants"]],
            steps=data["steps"],
            environment=data["environment"],
            curves=[Curve(**curve) for curve in data.get("curves", ())],
        )

    @classmethod
    def load(cls, path: FilePath) -> RunReport:
        """Read a ``report.json``, or the one in a folder."""
        file = Path(path)
        file = file / "report.json" if file.is_dir() else file
        try:
            return cls.from_dict(json.loads(file.read_text(encoding="utf-8")))
        except (OSError, UnicodeDecodeError, ValueError, TypeError, KeyError) as error:
            raise FileError(f"{file}: not a report.json of tfgreen: {error}") from error

    def save(self, folder: FilePath) -> tuple[Path, Path]:
        """Write ``report.json`` and the self-contained ``report.html``, each whole or not at all; return their paths.

        The folder is made if it is missing.
        """
        text = json.dumps(self.to_dict(), indent=2, allow_nan=False, ensure_ascii=False) + "\n"
        html = page(self.variants, steps=self.steps, environment=self.environment, curves=self.curves)
        with made_folder(folder) as target:
            return write_atomic(target / "report.json", text), write_atomic(target / "report.html", html)


def _plain(value: object) -> Any:
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
        return float(value) if math.isfinite(value) else None
    raise invalid_type("report", expected="plain values (numbers, texts, lists, dictionaries)", received=value)
