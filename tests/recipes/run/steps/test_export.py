"""The steps that make a file and look at it."""

from __future__ import annotations

from tests.recipes.run import tasks
from tfgreen.deploy.conversion.config import ConvertConfig
from tfgreen.recipes.recipe.step_settings import NoSettings, TargetStep
from tfgreen.recipes.run.state import State
from tfgreen.recipes.run.steps.export import check_file, convert, convert_original, measured_at_the_end
from tfgreen.techniques.quantize import quantize
from tfgreen.transforms.compressed import compressed_layers


def test_files_have_names_and_the_plain_model_they_are_of():
    task = tasks.task_of()
    state = convert_original(State(task.original), ConvertConfig(), task)
    state = State(quantize(task.original, calibration_data=task.calibration_data), state.exports)
    for _ in range(2):
        state = convert(state, ConvertConfig(quantization="int8"), task)
    state = convert(state, ConvertConfig(quantization="float16"), task)
    assert list(state.exports) == ["float32", "mine-int8", "mine-int8-2", "mine-float16"]
    assert state.last == "mine-float16" and state.exports["mine-int8"].lite.quantization == "int8"
    assert compressed_layers(state.model) and not compressed_layers(state.exports["mine-int8"].model)


def test_a_target_is_a_limit_of_the_report():
    task = tasks.task_of()
    state = convert(State(task.original), ConvertConfig(quantization="int8"), task)
    (limit,) = check_file(state, TargetStep("tflm"), task).limits
    assert limit.holds and limit.name == "errors of tflm"
    state = convert(state, ConvertConfig(), task)
    checked = check_file(state, TargetStep("edgetpu"), task)
    assert checked.limits[0].holds is False and "int8 only" in checked.notes[0]


def test_measuring_is_left_to_the_report():
    state = State(tasks.classifier())
    assert measured_at_the_end(state, NoSettings(), tasks.task_of()) is state
