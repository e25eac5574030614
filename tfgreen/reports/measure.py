"""Read every figure of a report off the artifacts that ship: accuracy, size, sparsity, latency, energy."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Literal

import keras
import numpy as np

from tfgreen.deploy.inspection.benchmark import BenchmarkResult, benchmark, ready_interpreter
from tfgreen.deploy.litert_model import LiteRTModel
from tfgreen.deploy.verify import verify
from tfgreen.energy.inference import InferenceEnergy, measure_in_turn
from tfgreen.energy.meter import EnergyMeter
from tfgreen.reports.metric import share_interval
from tfgreen.reports.variant import EnergyPerInference, Latency, Variant

VERIFY_SAMPLES = 500
LATENCY_RUNS = 300
ENERGY_SECONDS = 3.0


@dataclasses.dataclass(frozen=True)
class Export:
    """A Keras model and the artifact made from it."""

    model: keras.Model
    lite: LiteRTModel


def measure_variants(
    exports: Mapping[str, Export], x_test: np.ndarray, y_test: np.ndarray, *, region: str | None = None
) -> list[Variant]:
    """Measure classifiers, by name, on the files that ship; ``y_test`` holds class numbers of shape ``(samples,)``.

    Latencies and energies are measured in turn, so that a busy machine slows all of them alike. Without a region (an
    ISO 3166 alpha-3 code) there is no CO2 figure.
    """
    lites = {name: export.lite for name, export in exports.items()}
    latency = benchmark(lites, runs=LATENCY_RUNS)
    runs = {name: ready_interpreter(lite).invoke for name, lite in lites.items()}
    energy = measure_in_turn(runs, EnergyMeter(region, components=("cpu", "ram")), ENERGY_SECONDS)
    return [_variant(name, export, latency[name], energy[name], x_test, y_test) for name, export in exports.items()]


def spread(samples: np.ndarray | dict[str, np.ndarray], count: int) -> np.ndarray | dict[str, np.ndarray]:
    """At most ``count`` samples of each array, evenly spread, so that data sorted by class still gives all classes."""
    def some(array: np.ndarray) -> np.ndarray:
        return array if len(array) <= count else array[np.linspace(0, len(array) - 1, count).astype(int)]

    return {name: some(array) for name, array in samples.items()} if isinstance(samples, dict) else some(samples)


def _variant(
    name: str, export: Export, latency: BenchmarkResult, energy: InferenceEnergy, x_test: np.ndarray,
    y_test: np.ndarray,
) -> Variant:  # fmt: skip
    lite = export.lite
    check = verify(export.model, lite, spread(x_test, VERIFY_SAMPLES))
    sources = {
        "metric": f"measured on the .tflite file, all {len(y_test)} test samples; interval of 95 % (Wilson)",
        "size_bytes": "counted: bytes of the .tflite file",
        "gzip_bytes": "counted: bytes of the .tflite file after gzip -9",
        "nonzero_bytes": "counted: bytes of the weights in the .tflite file that are not zero",
        "sparsity": "counted: zeros among the weights stored in the .tflite file, biases left out",
        "memory_bytes": "measured: what one more interpreter takes in a process of its own",
        "latency_ms": f"measured: {latency.runs} runs, batch of 1, {latency.threads} CPU thread, models in turn",
        "verified": f"measured: outputs of {check.samples} test samples against the Keras model",
    }
    reasons = {} if check.passed else {"verified": f"the outputs differ: {check}".replace("\n", "; ")}
    if not latency.peak_memory_bytes:
        reasons["memory_bytes"] = "it is too little to be seen: memory comes in pages"
        del sources["memory_bytes"]
    joules = None
    kind: Literal["measured", "estimated"] = "estimated" if energy.source == "estimate" else "measured"
    if energy.joules_per_inference is None:
        reasons["energy"] = energy.how
    else:
        joules = EnergyPerInference(energy.joules_per_inference, kind, energy.interval)
        sources["energy"] = f"{kind}: {energy.how}"
    if energy.co2e_kg_per_inference is None:
        reasons["co2e_kg"] = energy.co2e_how
    else:
        sources["co2e_kg"] = f"{kind}: {energy.co2e_how}"
    accuracy = lite.evaluate(x_test, y_test)
    intervals = {"metric": share_interval(accuracy, len(y_test))}
    if energy.interval and energy.joules_per_inference and energy.co2e_kg_per_inference:
        per_joule = energy.co2e_kg_per_inference / energy.joules_per_inference
        intervals["co2e_kg"] = (per_joule * energy.interval[0], per_joule * energy.interval[1])
    return Variant(
        name=name,
        metric=accuracy,
        size_bytes=lite.size_bytes,
        gzip_bytes=lite.gzip_bytes,
        nonzero_bytes=lite.nonzero_bytes,
        sparsity=lite.sparsity,
        memory_bytes=latency.peak_memory_bytes or None,
        latency_ms=Latency(latency.median_ms, latency.p90_ms),
        energy=joules,
        co2e_kg=energy.co2e_kg_per_inference,
        verified=check.passed,
        intervals=intervals,
        sources=sources,
        reasons=reasons,
    )
