"""Variant: no figure without its source, none missing without its reason."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from tests.reports.examples import FULL, SOURCES, full, partial
from tfgreen.errors import TfgreenError
from tfgreen.reports.variant import EnergyPerInference, Latency, Variant


def test_numpy_figures_become_plain_numbers():
    variant = full(metric=np.float32(0.5), size_bytes=np.int64(7), latency_ms=Latency(np.float64(1), np.float32(2)))
    text = json.dumps(variant.to_dict(), allow_nan=False)
    assert json.loads(text)["size_bytes"] == 7 and type(variant.size_bytes) is int
    assert Variant.from_dict(json.loads(text)).to_dict() == variant.to_dict()


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"metric": math.nan}, ValueError, "metric"),
        ({"metric": "good"}, TypeError, "metric"),
        ({"memory_bytes": 0}, ValueError, "use None and a reason"),
        ({"intervals": {"metric": (0.8, math.nan)}}, ValueError, "metric, interval"),
        ({"intervals": {"speed": (1, 2)}}, ValueError, "speed"),
        ({"sparsity": -0.1}, ValueError, "sparsity"),
        ({"size_bytes": 0}, ValueError, "use None and a reason"),
        ({"latency_ms": Latency(0.0, 1.0)}, ValueError, "use None and a reason"),
        ({"latency_ms": Latency(1.0, math.inf)}, ValueError, "latency_ms"),
        ({"energy": EnergyPerInference(0.0, "measured")}, ValueError, "use None and a reason"),
        ({"energy": EnergyPerInference(1.0, "guessed")}, ValueError, "'measured' or 'estimated'"),
        ({"energy": EnergyPerInference(1.0, "measured", (-1.0, 2.0))}, ValueError, "energy, interval.*>= 0"),
        ({"co2e_kg": 0.0}, ValueError, "use None and a reason"),
        ({"co2e_kg": None}, ValueError, "reason"),
        ({"sources": {**SOURCES, "metric": ""}}, ValueError, "begins with one of"),
        ({"sources": {**SOURCES, "metric": "from the log"}}, ValueError, "begins with one of"),
        ({"sources": {**SOURCES, "speed": "measured"}}, ValueError, "speed"),
        ({"name": ""}, ValueError, "name"),
        ({"verified": np.bool_(True)}, TypeError, "verified"),
    ],
)
def test_a_figure_without_source_or_reason_is_refused(changes, error, text):
    arguments = {"name": "int8", "sources": SOURCES, **FULL, **changes}
    with pytest.raises(error, match=text) as raised:
        Variant(**arguments)
    assert isinstance(raised.value, TfgreenError)


def test_dictionaries_come_back_and_others_are_refused():
    spread = full(energy=EnergyPerInference(np.float32(0.5), "measured", (0.25, np.float64(0.75))))
    known = full(intervals={"metric": (np.float64(0.83), 0.85)})
    assert known.interval("metric") == (0.83, 0.85) and spread.interval("energy") == (0.25, 0.75)
    for variant in (full(), partial(), spread, known):
        assert Variant.from_dict(json.loads(json.dumps(variant.to_dict()))) == variant
    with pytest.raises(ValueError, match="expected the keys"):
        Variant.from_dict({"name": "int8"})


def test_it_is_shown_short():
    assert len(repr(full())) < 400 and "size_bytes=318000" in repr(full()) and "through the .tflite" not in repr(full())
