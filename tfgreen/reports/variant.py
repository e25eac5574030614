"""Variant: one version of a model, and where each of its figures comes from."""

from __future__ import annotations

import dataclasses
import numbers
import re
from collections.abc import Mapping
from typing import Literal, TypeAlias

from tfgreen.checks import check_bool, check_number, check_option
from tfgreen.errors import invalid_state, invalid_value
from tfgreen.typing import PlainDict

Figure: TypeAlias = Literal[
    "metric", "size_bytes", "gzip_bytes", "nonzero_bytes", "sparsity", "memory_bytes", "latency_ms", "energy", "co2e_kg"
]
KINDS = ("measured", "counted", "estimated")


@dataclasses.dataclass(frozen=True)
class Latency:
    """Milliseconds of one inference: the median and the 90th percentile."""

    median: float
    p90: float


@dataclasses.dataclass(frozen=True)
class EnergyPerInference:
    """Joules of one inference with their interval, or None, and the kind of source: measured or estimated."""

    joules_per_inference: float
    source: Literal["measured", "estimated"]
    interval: tuple[float, float] | None = None


# figure -> minimum, above, maximum; a size, a time or an energy of 0 is a missing reading in disguise
_BOUNDS: dict[Figure, tuple[float | None, float | None, float | None]] = {
    "metric": (None, None, None),
    "size_bytes": (1, None, None),
    "gzip_bytes": (1, None, None),
    "nonzero_bytes": (0, None, None),
    "sparsity": (0, None, 1),
    "memory_bytes": (1, None, None),
    "latency_ms": (None, 0, None),
    "energy": (None, 0, None),
    "co2e_kg": (None, 0, None),
}
FIGURES = tuple(_BOUNDS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Variant:
    """One version of the model with its figures: of its ``.tflite`` file, and of one inference with it.

    Every figure that is there has a text in ``sources`` that begins with ``"measured"``, ``"counted"`` or
    ``"estimated"`` and goes on to say how; every figure that is None has its reason in ``reasons``. The ``metric`` is
    that of the report; sparsity (of the compressible weights) is a share from 0 to 1; ``intervals`` holds the lowest
    and highest value of figures where they are known (that of an energy is its own); ``verified`` says whether the file
    was shown to do what the Keras model does.
    """

    name: str
    metric: float | None = None
    size_bytes: int | None = None
    gzip_bytes: int | None = None
    nonzero_bytes: int | None = None
    sparsity: float | None = None
    memory_bytes: int | None = None
    latency_ms: Latency | None = None
    energy: EnergyPerInference | None = None
    co2e_kg: float | None = None
    verified: bool = False
    intervals: Mapping[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    sources: Mapping[str, str] = dataclasses.field(default_factory=dict, repr=False)
    reasons: Mapping[str, str] = dataclasses.field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise invalid_value("variant name", expected="a text", received=repr(self.name))
        subject = f"variant '{self.name}'"
        check_bool(f"{subject}, verified", self.verified)
        for figure, (minimum, above, maximum) in _BOUNDS.items():
            where, value = f"{subject}, {figure}", getattr(self, figure)
            if value is None:
                if not self.reasons.get(figure):
                    raise invalid_state(f"{where} is None without a reason.", f"Pass reasons={{'{figure}': ...}}.")
                continue
            for part in _parts(where, value):
                fix = "If it could not be obtained, use None and a reason." if part == 0 else ""
                check_number(where, part, minimum=minimum, above=above, maximum=maximum, fix=fix)
            source = self.sources.get(figure, "")
            if re.split(r"\W", str(source), maxsplit=1)[0] not in KINDS:
                fix = "Say how the figure was obtained, for example 'measured: 50 runs on one thread'."
                expected = f"a text that begins with one of {KINDS}"
                raise invalid_value(f"{where}, source", expected=expected, received=repr(source), fix=fix)
            if isinstance(value, numbers.Real):  # a plain Python number for a NumPy one
                plain = int(value) if isinstance(value, numbers.Integral) else float(value)
                object.__setattr__(self, figure, plain)
        for name, ends in self.intervals.items():
            for end in ends:
                check_number(f"{subject}, {name}, interval", end)
        object.__setattr__(self, "intervals", {name: _ends(ends) for name, ends in self.intervals.items()})
        unknown = (set(self.sources) | set(self.reasons) | set(self.intervals)) - set(FIGURES) - {"verified"}
        if unknown:
            raise invalid_value(subject, expected=f"keys of {FIGURES}", received=sorted(unknown))

    def number(self, figure: Figure) -> float | None:
        """The one number that a figure is compared by: the median of a latency, the joules of an energy."""
        value = getattr(self, figure)
        value = getattr(value, "median", getattr(value, "joules_per_inference", value))
        return None if value is None else float(value)

    def interval(self, figure: Figure) -> tuple[float, float] | None:
        """The lowest and the highest value of a figure, or None."""
        own = self.energy.interval if figure == "energy" and self.energy else None
        return own or self.intervals.get(figure)

    def to_dict(self) -> PlainDict:
        """Plain values; nested figures keep their keys when they are null, and an energy has an interval or none."""
        latency, energy = self.latency_ms, self.energy
        times = (float(latency.median), float(latency.p90)) if latency else (None, None)
        joules, source = (float(energy.joules_per_inference), energy.source) if energy else (None, "unavailable")
        spread = {"interval": [float(end) for end in energy.interval]} if energy and energy.interval else {}
        return {
            **{field.name: getattr(self, field.name) for field in dataclasses.fields(self)},
            "latency_ms": dict(zip(("median", "p90"), times)),
            "energy": {"joules_per_inference": joules, "source": source, **spread},
            "intervals": {name: list(ends) for name, ends in self.intervals.items()},
            "sources": dict(self.sources),
            "reasons": dict(self.reasons),
        }

    @classmethod
    def from_dict(cls, data: PlainDict) -> Variant:
        """Rebuild a variant from :meth:`to_dict`."""
        values = dict(data)
        names = {field.name for field in dataclasses.fields(cls)}
        if set(values) != names:
            raise invalid_value("report, variant", expected=f"the keys {sorted(names)}", received=sorted(values))
        latency, energy = values["latency_ms"], values["energy"]
        values["latency_ms"] = None if latency["median"] is None else Latency(**latency)
        if "interval" in energy:
            energy = {**energy, "interval": tuple(energy["interval"])}
        values["energy"] = None if energy["joules_per_inference"] is None else EnergyPerInference(**energy)
        return cls(**values)


def _ends(ends: tuple[float, float]) -> tuple[float, float]:
    low, high = map(float, ends)
    return low, high


def _parts(where: str, value: object) -> list[object]:
    """The numbers of a figure."""
    if isinstance(value, Latency):
        return [value.median, value.p90]
    if isinstance(value, EnergyPerInference):
        check_option(f"{where}, source", value.source, ("measured", "estimated"))
        for end in value.interval or ():
            check_number(f"{where}, interval", end, minimum=0)
        return [value.joules_per_inference]
    return [value]
