"""The steps that make a file and look at it."""

from __future__ import annotations

import dataclasses

from tfgreen.deploy.conversion.config import ConvertConfig
from tfgreen.deploy.convert import run_conversion
from tfgreen.deploy.inspection.check_target import check_target
from tfgreen.recipes.measure.measure_variants import Export
from tfgreen.recipes.recipe.step_settings import NoSettings, TargetStep
from tfgreen.recipes.run.state import State, Task
from tfgreen.reports.limits import Limit
from tfgreen.techniques.strip import strip

ORIGINAL_STEP = "original"
ORIGINAL = "float32"  # the variant that all are compared with


def convert_original(state: State, settings: ConvertConfig, task: Task) -> State:
    """The original model as a float32 file, so that every figure has its before."""
    return _converted(state, ORIGINAL, Export(state.model, run_conversion(state.model, settings)))


def convert(state: State, settings: ConvertConfig, task: Task) -> State:
    """The model as it is now as a file, calibrated on training samples where its mode asks for it."""
    name = f"{task.recipe.name}-{settings.quantization}"
    number = sum(other == name or other.startswith(f"{name}-") for other in state.exports)
    config = dataclasses.replace(settings, calibration_data=task.calibration_data) if settings.integers else settings
    export = Export(strip(state.model), run_conversion(state.model, config))
    return _converted(state, name if not number else f"{name}-{number + 1}", export)


def _converted(state: State, name: str, export: Export) -> State:
    return dataclasses.replace(state, exports={**state.exports, name: export}, notes=tuple(export.lite.notes))


def check_file(state: State, settings: TargetStep, task: Task) -> State:
    """Whether a target can run the last file: that no error is found is a limit of the report."""
    findings = check_target(state.exports[state.last].lite, settings.target)
    limit = Limit(name=f"errors of {settings.target}", limit=0, value=len(findings.errors), unit="errors")
    return dataclasses.replace(state, limits=(limit,), notes=tuple(str(finding) for finding in findings))


def measured_at_the_end(state: State, settings: NoSettings, task: Task) -> State:
    """Nothing yet: the report measures all files together, in turn, so that a busy machine slows all of them alike."""
    return state
