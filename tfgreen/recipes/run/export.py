"""The steps that make a file and look at it."""

from __future__ import annotations

import dataclasses

from tfgreen.config import Config
from tfgreen.deploy.conversion.config import ConvertConfig
from tfgreen.deploy.convert import run_conversion
from tfgreen.deploy.inspection.check_target import check_target
from tfgreen.recipes.measure.measure_variants import Export
from tfgreen.recipes.recipe.step_settings import BenchmarkStep, EnergyStep, TargetStep, VerifyStep
from tfgreen.recipes.run.state import State, Task
from tfgreen.reports.limits import Limit
from tfgreen.techniques.strip import strip

ORIGINAL = "float32"  # the variant that all are compared with
_MEASURES: dict[type[Config], str] = {VerifyStep: "verify", BenchmarkStep: "benchmark", EnergyStep: "energy"}


def convert_original(state: State, settings: ConvertConfig, task: Task) -> State:
    """The original model as a float32 file, so that every figure has its before."""
    return _converted(state, ORIGINAL, settings, task)


def convert(state: State, settings: ConvertConfig, task: Task) -> State:
    """The model as it is now as a file, calibrated on training samples where its mode asks for it."""
    name = f"{task.recipe.name}-{settings.quantization}"
    number = sum(other == name or other.startswith(f"{name}-") for other in state.exports)
    return _converted(state, name if not number else f"{name}-{number + 1}", settings, task)


def _converted(state: State, name: str, settings: ConvertConfig, task: Task) -> State:
    config = settings
    if config.integers:
        config = dataclasses.replace(config, calibration_data=task.calibration_data)
    lite = run_conversion(state.model, config)
    exports = {**state.exports, name: Export(strip(state.model), lite)}
    return dataclasses.replace(state, exports=exports, notes=tuple(lite.notes))


def check_file(state: State, settings: TargetStep, task: Task) -> State:
    """Whether a target can run the last file: no error found is a limit of the report; for TFLM, so is the arena."""
    lite = state.exports[state.last].lite
    findings = check_target(lite, settings.target)
    limit = Limit(name=f"errors of {settings.target}", limit=0, value=len(findings.errors), unit="errors")
    measures = {**state.measures, "check_target": settings.target}
    notes = tuple(str(finding) for finding in findings)
    return dataclasses.replace(state, limits=(limit,), notes=notes, measures=measures)


def measured(state: State, settings: VerifyStep | BenchmarkStep | EnergyStep, task: Task) -> State:
    """Have the report measure something: of all files together, in turn, once the last is made."""
    measures = {**state.measures, _MEASURES[type(settings)]: dataclasses.asdict(settings)}
    return dataclasses.replace(state, measures=measures)
