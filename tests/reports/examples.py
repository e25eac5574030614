"""Variants and a report to show: one with every figure, one without some."""

from __future__ import annotations

import math

import numpy as np

from tfgreen.energy.carbon.break_even import break_even
from tfgreen.reports.curves import Curve, training_curves
from tfgreen.reports.environment import environment
from tfgreen.reports.layer_row import LayerRow
from tfgreen.reports.limits import Limit
from tfgreen.reports.report import RunReport
from tfgreen.reports.variant import FIGURES, EnergyPerInference, Latency, Variant

SOURCES = {
    "metric": "measured: 10,000 test images through the .tflite",
    "size_bytes": "counted: bytes of the file",
    "gzip_bytes": "counted: gzip at level 9",
    "nonzero_bytes": "counted: bytes of the weights that are not zero",
    "sparsity": "counted: zeros among the compressible weights",
    "memory_bytes": "measured: one more interpreter",
    "latency_ms": "measured: 200 runs on one thread",
    "energy": "estimated: 4 W per busy thread",
    "co2e_kg": "estimated: energy x 0.381 kg per kWh in Germany (2023)",
}
FULL = {
    "metric": 0.838,
    "size_bytes": 318_000,
    "gzip_bytes": 290_000,
    "nonzero_bytes": 310_000,
    "sparsity": 0.0,
    "memory_bytes": 900_000,
    "latency_ms": Latency(3.21, 3.9),
    "energy": EnergyPerInference(0.0132, "estimated"),
    "co2e_kg": 1.4e-9,
}


def full(name="float32", **changes):
    return Variant(**{"name": name, "verified": True, "sources": SOURCES, **FULL, **changes})


def partial(name="pruned-int8"):
    reasons = {f: "no benchmark was asked for" for f in ("memory_bytes", "latency_ms", "energy", "co2e_kg")}
    return Variant(
        name=name,
        metric=0.831,
        size_bytes=98_000,
        gzip_bytes=31_000,
        nonzero_bytes=19_000,
        sparsity=0.8,
        sources={f: SOURCES[f] for f in FIGURES if f not in reasons},
        reasons={**reasons, "verified": "largest difference 0.2 is above 0.1"},
    )


def whole_report(**changes):
    curves = training_curves({"loss": [2.0, math.nan, 1.0], "val_loss": [2.1, 1.6, 1.4]}, title="pruning")
    steps = [(0, 0.0), (100, 0.5), (200, 0.8)]
    sparsity = Curve(title="Sparsity", x_label="training step", y_label="share of zeros", series={"conv": steps})
    limits = [
        Limit(name="size", limit=100_000, value=98_000, unit="B"),
        Limit(name="accuracy drop", limit=0.5, value=0.7, unit="points"),
        Limit(name="latency", limit=5, value=None, unit="ms", reason="no benchmark was asked for"),
    ]
    layers = [
        LayerRow(path="conv", macs=500, macs_before=1000, channels=8, channels_before=16, sparsity=0.8, bits=8),
        LayerRow(path="head", macs=100, macs_before=100, bits=8, sqnr_db=31.5, reason="too small"),
    ]
    settings = {
        "variants": [full(), partial()],
        "title": "digits",
        "limits": limits,
        "steps": [{"name": "prune", "config": {"final_sparsity": 0.8}, "seconds": np.float32(12.5), "notes": []}],
        "skipped": {"distill": "no teacher was given"},
        "layers": layers,
        "environment": environment(),
        "curves": [*curves, sparsity],
        "break_even": break_even(0.010, 0.006, cost=3600, per_day=1000),
        "command": "tfgreen demo --seed 3",
        "seed": 3,
    }
    return RunReport(**{**settings, **changes})


def measured(name, **changes):
    """A variant with intervals."""
    spread = {"metric": (0.80, 0.87), "latency_ms": (3.1, 3.4)}
    return full(name, intervals=spread, energy=EnergyPerInference(0.0132, "estimated", (0.012, 0.014)), **changes)
