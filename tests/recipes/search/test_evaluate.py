"""Stages of a recipe, the figures of a file and the bounds of a budget."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from tfgreen.deploy.convert import convert
from tfgreen.errors import InvalidTypeError, InvalidValueError
from tfgreen.recipes.data.data import Data
from tfgreen.recipes.measure.measure_variants import Export
from tfgreen.recipes.metrics.metric import Metric
from tfgreen.recipes.recipe.budget import Budget
from tfgreen.recipes.recipe.recipe import Recipe
from tfgreen.recipes.run.state import Task
from tfgreen.recipes.search.evaluate import Evaluation, bounds_of, check_stages, cut_short, epochs_of
from tfgreen.recipes.search.space import Space

RECIPE = Recipe(
    [{"train": {"epochs": {"choice": [5, 1]}}}, {"distill": {"epochs": 2}}, {"convert": {"quantization": "float16"}}]
)


def test_a_stage_cuts_long_trainings_and_leaves_the_rest():
    whole = RECIPE.pick({"train.epochs": 5})
    assert [epochs_of(cut_short(whole, most)) for most in (0, 1, 3, None)] == [0, 2, 5, 7]
    assert [step.settings for step in cut_short(whole, 0).steps] == [None, None, {"quantization": "float16"}]
    assert cut_short(whole, None) == whole


@pytest.fixture(scope="module")
def task():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="softmax")])
    rng = np.random.default_rng(0)
    data = Data.from_arrays(rng.normal(size=(60, 4)).astype("float32"), rng.integers(0, 3, 60), test_share=0.2)
    return Task(model, data, Metric("accuracy"), RECIPE)


@pytest.mark.slow
def test_a_candidate_is_measured_on_validation_data_and_its_times_once(task, tmp_path):
    done = []

    def carry_out(of):
        done.append(of.recipe)
        return Export(task.original, convert(task.original, quantization="float16"))

    space = Space(RECIPE.space)
    evaluation = Evaluation(task, space, (0, 3, None), ["latency_ms"], carry_out, tmp_path)
    settings = {"train.epochs": 5}
    found = [evaluation(settings, stage) for stage in range(3)]
    assert [epochs_of(recipe) for recipe in done] == [0, 5, 7] == [evaluation.epochs(settings, n) for n in range(3)]
    lite = convert(task.original, quantization="float16")
    assert found[0]["size_bytes"] == lite.size_bytes and found[0]["gzip_bytes"] == lite.gzip_bytes
    assert found[0]["metric"] == pytest.approx(task.metric.evaluate(lite, task.data.validation).value)
    assert len({figures["latency_ms"] for figures in found}) == 1 and "energy" not in found[0]
    kept = evaluation.export(settings)
    x = task.data.test.samples(5)
    np.testing.assert_array_equal(kept.lite.predict(x), lite.predict(x))
    assert len(done) == 3  # taken from where it was kept
    evaluation.export({"train.epochs": 1})
    assert len(done) == 4  # made again


def test_bounds_come_from_the_budget_and_the_float_file():
    base = {"size_bytes": 1000.0, "latency_ms": 1.0, "metric": 0.9}
    found = {b.name: b for b in bounds_of(Budget(max_size="1kB", max_drop="2%"), base, Metric("accuracy"))}
    assert found["max_size"].limit == 1000 and not found["max_size"].trained
    drop = found["max_drop"]
    assert drop.limit == pytest.approx(0.88) and drop.at_least and drop.trained
    (error,) = bounds_of(Budget(max_drop="10%"), {"metric": 2.0}, Metric("mae"))
    assert error.limit == pytest.approx(2.2) and not error.at_least
    with pytest.raises(InvalidValueError, match="max_joules: this machine gives no energy"):
        bounds_of(Budget(max_joules=1), base, Metric("accuracy"))
    target = bounds_of(Budget(), {**base, "target_errors": 0.0}, None)
    assert [(bound.name, bound.limit) for bound in target] == [("check_target", 0)]


@pytest.mark.parametrize("stages", [(1, 0), (1, 1), (-1,)])
def test_stages_grow(stages):
    with pytest.raises(InvalidValueError, match="stages"):
        check_stages(stages)


def test_stages_are_a_sequence():
    with pytest.raises(InvalidTypeError, match="stages"):
        check_stages(3)
