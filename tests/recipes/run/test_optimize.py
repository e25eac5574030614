"""A recipe carried out from model and data to report."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from tests.recipes.run import tasks
from tfgreen.errors import TfgreenError
from tfgreen.recipes.data.digits import load_digits_data
from tfgreen.recipes.demo import digits_network
from tfgreen.recipes.measure import measure_variants as measure
from tfgreen.recipes.recipe.budget import Budget
from tfgreen.recipes.recipe.recipe import Recipe
from tfgreen.recipes.run.optimize import optimize
from tfgreen.reports.report import RunReport


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(measure, "ENERGY_SECONDS", 0.05)
    monkeypatch.setattr(measure, "LATENCY_RUNS", 20)


STEPS = [
    {"prune_channels": {"ratio": 0.5}}, {"distill": {"epochs": 1}}, {"prune": {"sparsity": 0.5}},
    {"train": {"epochs": 2}}, "quantize", {"train": {"epochs": 1}}, {"convert": {"quantization": "int8"}}, "verify",
    "benchmark", "energy",
]  # fmt: skip


def test_from_model_and_data_to_report(tmp_path):
    model, data = tasks.classifier(), tasks.points()
    before = model.get_weights()
    recipe = Recipe(STEPS, name="mine", budget=Budget(max_drop="90%", max_size="1MB"))
    report = optimize(model, data, recipe, output=tmp_path / "run", max_size="2kB", max_hours=1)
    for old, new in zip(before, model.get_weights()):
        np.testing.assert_array_equal(old, new)
    assert [variant.name for variant in report.variants] == ["float32", "mine-int8"]
    assert {limit.name: limit.holds for limit in report.limits} == {
        "drop of accuracy": True, "size": False, "time of the run": True,
    }  # fmt: skip
    assert [step["name"] for step in report.steps] == ["original", *(step.name for step in recipe.steps), "measure"]
    assert report.chosen == "mine-int8" and report.verdict.holds is False
    files = {"recipe.yaml", "model.tflite", "float32.tflite", "model.keras"}
    reports = {"report.json", "report.html", "report.md"}
    assert set(os.listdir(tmp_path / "run")) == {*files, *reports, ".lock", ".owner", "run.json", "steps"}
    assert RunReport.load(tmp_path / "run").to_dict() == report.to_dict()
    assert Recipe.from_file(tmp_path / "run" / "recipe.yaml").budget == Budget(
        max_drop=0.9, max_size=2000, max_hours=1
    )


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"recipe": [{"prune": {"sparsity": {"choice": [0.5, 0.6]}}}, "convert"]}, "leaves prune.sparsity open"),
        ({"recipe": "balnced"}, "Did you mean 'balanced'"),
        ({"metric": "precison"}, "metric: expected one of"),
        ({"max_co2": "1g"}, "max_co2 needs a region"),
        ({"max_size": "many"}, "max_size"),
        ({"max_szie": 3}, "max_size"),
        ({"seed": -1}, "seed"),
        ({"data": tasks.points(test_share=0).train}, "data: expected a tg.Data"),
    ],
)
def test_what_cannot_be_run_is_refused_at_once(tmp_path, given, match):
    arguments = {"model": tasks.classifier(), "data": tasks.points(), "output": tmp_path / "run", **given}
    with pytest.raises(TfgreenError, match=match):
        optimize(**arguments)
    assert not os.listdir(tmp_path)


def test_training_needs_targets(tmp_path):
    data = tasks.Data.from_arrays(tasks.points().train.x)
    with pytest.raises(TfgreenError, match="has no targets"):
        optimize(tasks.classifier(), data, ["train", "convert"], output=tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "data", "metric"),
    [
        (tasks.regression, tasks.sums, "mae"), (tasks.segmentation, tasks.masks, "accuracy"),
        (tasks.two_outputs, tasks.kinds_and_sizes, "kind_accuracy"),
    ],
)  # fmt: skip
def test_other_tasks(tmp_path, model, data, metric):
    report = optimize(model(), data(), STEPS[2:], output=tmp_path / "run", max_drop="500%")
    assert report.metric.name == metric and report.verdict.holds
    assert all(variant.metric is not None and variant.size_bytes for variant in report.variants)


@pytest.mark.slow
def test_a_second_call_goes_on_and_a_third_begins_anew(tmp_path):
    given = {"model": tasks.classifier(), "data": tasks.points(), "recipe": [{"train": {"epochs": 1}}, "convert"]}
    first = optimize(**given, output=tmp_path / "run")
    again = optimize(**given, output=tmp_path / "run")
    assert again.to_dict()["steps"] == first.to_dict()["steps"] and again.variants == first.variants
    anew = optimize(**given, output=tmp_path / "run", resume=False)
    assert anew.to_dict()["steps"] != first.to_dict()["steps"]
    assert [v.metric for v in anew.variants] == [v.metric for v in first.variants]
    assert len(os.listdir(tmp_path / "run" / "steps")) == 4
    other = tmp_path / "other"
    other.mkdir()
    (other / "notes.txt").write_text("mine")
    with pytest.raises(TfgreenError, match="holds 'notes.txt'"):
        optimize(**given, output=other)


RUN = """
import os, signal, sys
import keras
from tests.recipes.run import tasks
from tfgreen.recipes.measure import measure_variants as measure
from tfgreen.recipes.run.optimize import optimize
from tfgreen.recipes.run.steps.watch import Watch

measure.LATENCY_RUNS = 20
if sys.argv[3] == "kill":
    Watch.on_epoch_end = lambda self, epoch, logs=None: epoch == 1 and os.kill(os.getpid(), signal.SIGKILL)
model = keras.saving.load_model(sys.argv[1])
optimize(model, tasks.points(), KILLED, output=sys.argv[2])
"""
KILLED = [{"train": {"epochs": 3}}, "quantize", {"distill": {"epochs": 1}}, {"convert": {"quantization": "int8"}}]


@pytest.mark.slow
def test_a_killed_process_goes_on_in_another(tmp_path):
    tasks.classifier().save(tmp_path / "m.keras")

    def started(name, *arguments):
        code = RUN.replace("KILLED", repr(KILLED))
        command = [sys.executable, "-c", code, tmp_path / "m.keras", tmp_path / name, *arguments]
        return subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[3])

    assert started("cut", "kill").returncode == -signal.SIGKILL
    (part,) = (tmp_path / "cut" / "steps").glob("*.part")
    assert (part / "epochs" / "00001").is_dir()
    assert started("cut", "on").returncode == 0
    optimize(keras.saving.load_model(tmp_path / "m.keras"), tasks.points(), KILLED, output=tmp_path / "whole")
    cut, whole = ((tmp_path / name / "model.tflite").read_bytes() for name in ("cut", "whole"))
    assert cut == whole


def quickly(name):
    """A recipe that comes with tfgreen, with one epoch for each training."""
    recipe = Recipe.named(name)
    steps = [{s.name: {**s.settings, "epochs": 1} if s.kind.trains else s.settings} for s in recipe.steps]
    return recipe.replace(steps=steps)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in Recipe.names() if name != "posttraining"])
def test_every_recipe_can_be_carried_out_on_digits(tmp_path, name):
    data = load_digits_data(validation_share=0.1)
    report = optimize(digits_network(), data, quickly(name), output=tmp_path / "run")
    assert not report.skipped and report.variants[1].size_bytes < report.variants[0].size_bytes / 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "data"),
    [(tasks.regression, tasks.sums), (tasks.segmentation, tasks.masks), (tasks.two_outputs, tasks.kinds_and_sizes)],
)
def test_balanced_can_be_carried_out_in_any_task(tmp_path, model, data):
    report = optimize(model(), data(), quickly("balanced"), output=tmp_path / "run")
    assert report.variants[1].metric is not None and set(report.skipped) <= {"prune_channels"}


def test_without_training_and_targets(tmp_path):
    data = tasks.Data.from_arrays(tasks.masks().train.x)
    report = optimize(tasks.segmentation(), data, "posttraining", output=tmp_path / "run", max_size="100kB")
    assert report.verdict.holds and report.metric is not None and report.variants[1].verified
