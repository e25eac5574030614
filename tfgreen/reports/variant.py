"""Variant: one version of a model, and where each of its figures comes from."""

from __future__ import annotations

import dataclasses
import math
import numbers
import re
from collections.abc import Mapping
from typing import Any

from tfgreen.errors import invalid_type, invalid_value

KINDS = ("measured", "counted", "estimated")


@dataclasses.dataclass(frozen=True)
class Latency:
    """Milliseconds of one inference: the median and the 90th percentile."""

    median: float
    p90: float


@dataclasses.dataclass(frozen=True)
class EnergyPerInference:
    """Joules of one inference and the kind of their source: ``"measured"`` or ``"estimated"``."""

    joules_per_inference: float
    source: str


# figure -> smallest and largest value it may have; a size, a time or an energy of 0 is a missing reading in disguise
_RANGES = {
    "accuracy": (0.0, 1.0),
    "size_bytes": (1, math.inf),
    "gzip_bytes": (1, math.inf),
    "nonzero_bytes": (0, math.inf),
    "sparsity": (0.0, 1.0),
    "latency_ms": (5e-324, math.inf),
    "energy": (5e-324, math.inf),
    "co2e_kg": (5e-324, math.inf),
}
FIGURES = tuple(_RANGES)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Variant:
    """One version of the model with its figures.

    Every figure that is there has a text in ``sources`` that begins with ``"measured"``, ``"counted"`` or
    ``"estimated"`` and goes on to say how; every figure that is None has its reason in ``reasons``.

    Attributes:
        name: What it is: ``"float32"``, ``"pruned-int8"`` ...
        accuracy: Share of right answers, 0 to 1.
        size_bytes: Bytes of the ``.tflite`` file.
        gzip_bytes: Bytes of the same file after gzip.
        nonzero_bytes: Bytes of the weights in the file that are not zero.
        sparsity: Share of zeros among the compressible weights, 0 to 1.
        latency_ms: Milliseconds of one inference.
        energy: Joules of one inference.
        co2e_kg: Kilograms of CO2 equivalent of one inference.
        verified: Whether the exported file was shown to do what the Keras model does.
        sources: Figure -> kind and method.
        reasons: Figure -> why it is None. May also hold ``"verified"``.

    Raises:
        ValueError: A figure is out of range or not finite, or has no source, or is None without a reason.
        TypeError: A figure is not a number.

    Example:
        >>> Variant(name="int8", size_bytes=1200, sources={"size_bytes": "counted: bytes of int8.tflite"},
        ...         reasons=dict.fromkeys(set(FIGURES) - {"size_bytes"}, "not asked for")).size_bytes
        1200
    """

    name: str
    accuracy: float | None = None
    size_bytes: int | None = None
    gzip_bytes: int | None = None
    nonzero_bytes: int | None = None
    sparsity: float | None = None
    latency_ms: Latency | None = None
    energy: EnergyPerInference | None = None
    co2e_kg: float | None = None
    verified: bool = False
    sources: Mapping[str, str] = dataclasses.field(default_factory=dict)
    reasons: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise invalid_value("variant name", expected="a text", received=repr(self.name))
        if not isinstance(self.verified, bool):
            raise invalid_type(f"variant '{self.name}', verified", expected="True or False", received=self.verified)
        for figure, (low, high) in _RANGES.items():
            where, value = f"variant '{self.name}', {figure}", getattr(self, figure)
            if value is None:
                if not self.reasons.get(figure):
                    fix = "A figure that could not be obtained needs its reason in reasons."
                    raise invalid_value(where, expected="a figure, or None with a reason", received=value, fix=fix)
                continue
            for part in _numbers(where, value):
                if not low <= part <= high or part == math.inf:
                    fix = "If it could not be obtained, use None and a reason." if part == 0 else ""
                    expected = f"a finite number in [{low:g}, {high:g}]"
                    raise invalid_value(where, expected=expected, received=part, fix=fix)
            if re.split(r"\W", str(self.sources.get(figure, "")), maxsplit=1)[0] not in KINDS:
                fix = "Say how the figure came about, for example 'measured: 50 runs on one thread'."
                received = repr(self.sources.get(figure))
                expected = f"a text that begins with one of {KINDS}"
                raise invalid_value(f"{where}, source", expected=expected, received=received, fix=fix)
            plain = _number(value) if isinstance(value, numbers.Real) else value
            object.__setattr__(self, figure, plain)
        unknown = (set(self.sources) | set(self.reasons)) - set(FIGURES) - {"verified"}
        if unknown:
            raise invalid_value(f"variant '{self.name}'", expected=f"keys of {FIGURES}", received=sorted(unknown))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values; nested figures keep their keys when they are null."""
        latency, energy = self.latency_ms, self.energy
        return {
            "name": self.name,
            "accuracy": self.accuracy,
            "size_bytes": self.size_bytes,
            "gzip_bytes": self.gzip_bytes,
            "nonzero_bytes": self.nonzero_bytes,
            "sparsity": self.sparsity,
            "latency_ms": {
                "median": float(latency.median) if latency else None,
                "p90": float(latency.p90) if latency else None,
            },
            "energy": {
                "joules_per_inference": float(energy.joules_per_inference) if energy else None,
                "source": energy.source if energy else "unavailable",
            },
            "co2e_kg": self.co2e_kg,
            "verified": self.verified,
            "sources": dict(self.sources),
            "reasons": dict(self.reasons),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Variant:
        """Rebuild a variant from :meth:`to_dict`.

        Raises:
            ValueError: Keys are missing or unknown, or the figures are refused.
        """
        values = dict(data)
        names = {field.name for field in dataclasses.fields(cls)}
        if set(values) != names:
            raise invalid_value("report, variant", expected=f"the keys {sorted(names)}", received=sorted(values))
        latency, energy = values["latency_ms"], values["energy"]
        values["latency_ms"] = None if latency["median"] is None else Latency(**latency)
        values["energy"] = None if energy["joules_per_inference"] is None else EnergyPerInference(**energy)
        return cls(**values)


def _numbers(where: str, value: Any) -> list[float]:
    """Return the numbers of a figure."""
    found = [value]
    if isinstance(value, Latency):
        found = [value.median, value.p90]
    elif isinstance(value, EnergyPerInference):
        found = [value.joules_per_inference]
        if value.source not in ("measured", "estimated"):
            raise invalid_value(f"{where}, source", expected="'measured' or 'estimated'", received=value.source)
    for number in found:
        if isinstance(number, bool) or not isinstance(number, numbers.Real):
            raise invalid_type(where, expected="a number", received=number)
    return [float(number) for number in found]


def _number(value: Any) -> Any:
    """Return a plain Python number for a NumPy one."""
    return int(value) if isinstance(value, numbers.Integral) else float(value)
