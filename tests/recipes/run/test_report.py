"""The report of a run."""

from __future__ import annotations

import pytest

from tests.recipes.run import tasks
from tfgreen.recipes.measure import measure_variants as measure
from tfgreen.recipes.progress import Progress
from tfgreen.recipes.recipe.recipe import Recipe
from tfgreen.recipes.run import report as report_module
from tfgreen.recipes.run.keys import identity
from tfgreen.recipes.run.report import make_report, measured, measured_on
from tfgreen.recipes.run.runner import carry_out
from tfgreen.recipes.run.store import Store


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(measure, "ENERGY_SECONDS", 0.05)
    monkeypatch.setattr(measure, "LATENCY_RUNS", 20)


def reported(tmp_path, steps, data=None, **options):
    task = tasks.task_of(tasks.classifier(), data, Recipe(steps, name="mine"), **options)
    store = Store(tmp_path)
    outcome = carry_out(task, store, identity(task))
    record, place = measured(task, outcome, store, Progress())
    assert place.is_dir()
    return make_report(task, outcome, record), task, outcome, store


CONVERT = {"convert": {"quantization": "int8"}}


def test_files_are_measured_once(tmp_path, monkeypatch):
    report, task, outcome, store = reported(tmp_path, [CONVERT])
    monkeypatch.setattr(report_module, "measure_variants", None)  # another measurement would fail
    again, _ = measured(task, outcome, store, Progress())
    assert make_report(task, outcome, again).to_dict() == report.to_dict()
    assert report.variants[0].energy is None and report.break_even is None  # there is no step energy
    assert "of test" in report.variants[0].sources["metric"] and report.layers


def test_the_energy_is_measured_where_a_step_asks_for_it(tmp_path):
    report, *_ = reported(tmp_path, [CONVERT, "energy"])
    assert report.variants[1].energy is not None and report.break_even is not None
    assert report.break_even.cost.joules == pytest.approx(sum(step["joules"] for step in report.steps))


def test_on_a_microcontroller_memory_is_that_of_the_tensors(tmp_path):
    steps = [CONVERT, {"check_target": {"target": "tflm"}}]
    report, *_, outcome, _ = reported(tmp_path, steps, bounds={"max_memory": "10kB"})
    limits = {limit.name: limit for limit in report.limits}
    arena = outcome.state.exports["mine-int8"].lite.arena_bytes.planned_bytes
    assert limits["peak memory"].value == arena < 10_000 and limits["errors of tflm"].holds


def test_without_a_test_split_or_targets_figures_say_what_they_are_of(tmp_path):
    assert measured_on(tasks.task_of(data=tasks.points(test_share=0))).name == "validation"
    data = tasks.Data.from_arrays(tasks.points().train.x)
    report, *_ = reported(tmp_path, [CONVERT], data, bounds={"max_drop": "1%"})
    assert report.variants[0].metric is None and "no targets" in report.variants[0].reasons["metric"]
    assert report.verdict.holds is None
