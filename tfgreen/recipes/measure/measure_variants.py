"""Read every figure of a report off the artifacts that ship: the metric, size, sparsity, latency, energy."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Literal

import keras

from tfgreen.deploy.inspection.benchmark import BenchmarkResult, benchmark, ready_interpreter
from tfgreen.deploy.litert_model import LiteRTModel
from tfgreen.deploy.verify import VerifyResult, verify
from tfgreen.energy.inference import InferenceEnergy, measure_in_turn
from tfgreen.energy.meter import EnergyMeter
from tfgreen.recipes.data.split import Split
from tfgreen.recipes.measure.metric_interval import metric_interval
from tfgreen.recipes.metrics.metric import Metric
from tfgreen.recipes.metrics.predictions import predictions_of
from tfgreen.reports.metric import Metric as ReportMetric
from tfgreen.reports.variant import EnergyPerInference, Figure, Latency, Variant

VERIFY_SAMPLES = 500
LATENCY_RUNS = 300
ENERGY_SECONDS = 3.0


@dataclasses.dataclass(frozen=True)
class Export:
    """A Keras model and the artifact made from it."""

    model: keras.Model
    lite: LiteRTModel


def measure_variants(
    exports: Mapping[str, Export],
    split: Split,
    metric: Metric | None,
    *,
    region: str | None = None,
    joules: bool = True,
) -> list[Variant]:
    """Measure models of any task, by name, on the files that ship.

    Latencies and energies are measured in turn, so that a busy machine slows all of them alike, on the first sample.

    Args:
        exports: The files, and the models that they are compared with.
        split: What the metric is measured on, 500 samples of it being compared with the Keras models.
        metric: What the models are judged by; None where the samples have no targets.
        region: ISO 3166 alpha-3 code of a grid; without one there is no CO2 figure.
        joules: Whether to measure the energy, which takes three seconds for each file.

    Raises:
        ValueError: The split does not fit a model, or has no targets for the metric.
    """
    lites = {name: export.lite for name, export in exports.items()}
    sample = split.samples(1)
    latency = benchmark(lites, x=sample, runs=LATENCY_RUNS)
    energy = dict[str, InferenceEnergy]()
    if joules:
        runs = {name: ready_interpreter(x, sample=x.first_sample(sample)).invoke for name, x in lites.items()}
        energy = measure_in_turn(runs, EnergyMeter(region, components=("cpu",)), ENERGY_SECONDS)
    return [
        _variant(name, export, split, metric, latency[name], energy.get(name)) for name, export in exports.items()
    ]


def report_metric(metric: Metric | None) -> ReportMetric:
    """A metric as a report names it."""
    if metric is None:
        return ReportMetric()
    return ReportMetric(name=metric.name, higher_is_better=metric.direction == "higher", share=metric.is_share)


class _Figures:
    """The figures of a variant as they come in, each with its source or the reason why there is none."""

    def __init__(self) -> None:
        self.values = dict[str, object]()
        self.intervals = dict[str, tuple[float, float]]()
        self.sources, self.reasons = dict[str, str](), dict[str, str]()

    def add(self, figure: Figure, value: object, source: str, interval: tuple[float, float] | None = None) -> None:
        self.values[figure], self.sources[figure] = value, source
        if interval is not None:
            self.intervals[figure] = interval

    def lack(self, figure: Figure, reason: str) -> None:
        self.reasons[figure] = reason


def _variant(
    name: str, export: Export, split: Split, metric: Metric | None, latency: BenchmarkResult,
    energy: InferenceEnergy | None,
) -> Variant:  # fmt: skip
    lite, found = export.lite, _Figures()
    check = verify(export.model, lite, split.samples(VERIFY_SAMPLES))
    _add_metric(found, lite, split, metric)
    found.add("size_bytes", lite.size_bytes, "counted: bytes of the .tflite file")
    found.add("gzip_bytes", lite.gzip_bytes, "counted: bytes of the .tflite file after gzip -9")
    weights = "weights in the .tflite file"
    found.add("nonzero_bytes", lite.nonzero_bytes, f"counted: bytes of the {weights} that are not zero")
    found.add("sparsity", lite.sparsity, f"counted: zeros among the {weights}, biases left out")
    if latency.peak_memory_bytes:
        how = "measured: what one more interpreter takes in a process of its own"
        found.add("memory_bytes", latency.peak_memory_bytes, how)
    else:
        found.lack("memory_bytes", "it is too little to be seen: memory comes in pages")
    how = f"measured: {latency.runs} runs, batch of 1, {latency.threads} CPU thread, models in turn"
    found.add("latency_ms", Latency(latency.median_ms, latency.p90_ms), how)
    _add_energy(found, energy)
    found.sources["verified"] = f"measured: outputs of {check.samples} samples of {split.name} against the Keras model"
    if not check.passed:
        found.reasons["verified"] = _differences(check)
    return Variant(
        name=name, verified=check.passed, intervals=found.intervals, sources=found.sources, reasons=found.reasons,
        **found.values,  # type: ignore[arg-type]
    )  # fmt: skip


def _add_metric(found: _Figures, lite: LiteRTModel, split: Split, metric: Metric | None) -> None:
    if metric is None:
        found.lack("metric", "no metric was asked for" if split.has_targets else "the samples have no targets")
        return
    predictions, targets = predictions_of(lite, split)
    measured = metric.value(predictions, targets, split)
    if not math.isfinite(measured.value):
        found.lack("metric", f"{metric.name} is {measured.value} on {split.name}")
        return
    interval, how = metric_interval(metric, predictions, targets, measured.value)
    source = f"measured on the .tflite file, all {measured.samples:,} samples of {split.name}; {how}"
    found.add("metric", measured.value, source, interval)


def _add_energy(found: _Figures, energy: InferenceEnergy | None) -> None:
    if energy is None or energy.joules_per_inference is None:
        found.lack("energy", "it was not asked for" if energy is None else energy.how)
    else:
        kind: Literal["measured", "estimated"] = "estimated" if energy.source == "estimate" else "measured"
        joules = EnergyPerInference(energy.joules_per_inference, kind, energy.interval)
        found.add("energy", joules, f"{kind}: {energy.how}")
        if energy.co2e_kg_per_inference is not None:
            ends = None
            if energy.interval:
                per_joule = energy.co2e_kg_per_inference / energy.joules_per_inference
                ends = (per_joule * energy.interval[0], per_joule * energy.interval[1])
            found.add("co2e_kg", energy.co2e_kg_per_inference, f"{kind}: {energy.co2e_how}", ends)
    if "co2e_kg" not in found.values:
        found.lack("co2e_kg", "the energy was not asked for" if energy is None else energy.co2e_how)


def _differences(check: VerifyResult) -> str:
    return f"the outputs differ: {check}".replace("\n", "; ")
