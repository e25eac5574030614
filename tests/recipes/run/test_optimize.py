"""A recipe carried out from model and data to report."""

from __future__ import annotations

import os

import numpy as np
import pytest

from tests.recipes.run import tasks
from tfgreen.errors import TfgreenError
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
    assert [step["name"] for step in report.steps] == ["original", *(step.name for step in recipe.steps)]
    assert report.chosen == "mine-int8" and report.verdict.holds is False
    files = {"recipe.yaml", "model.tflite", "float32.tflite", "model.keras"}
    assert set(os.listdir(tmp_path / "run")) == {*files, "report.json", "report.html", "report.md"}
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
