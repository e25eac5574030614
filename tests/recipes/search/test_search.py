"""tg.search on a small model and recipe: what it returns and writes, and what it refuses."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest

from tfgreen.deploy.litert_model import load_litert
from tfgreen.errors import FileError, InvalidTypeError, InvalidValueError
from tfgreen.recipes.data.data import Data
from tfgreen.recipes.recipe.recipe import Recipe
from tfgreen.recipes.search.search import search
from tfgreen.reports.report import RunReport

RECIPE = [
    {"prune_channels": {"ratio": {"choice": [0.25, 0.75]}}},
    {"train": {"epochs": 2}},
    {"convert": {"quantization": {"choice": ["float16", "float32"]}}},
]
FAST = {"objectives": ("metric", "size_bytes"), "stages": (0,), "trials": 4}


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(32, activation="relu"), keras.layers.Dense(2, activation="softmax")]
    model = keras.Sequential([keras.Input((4,)), *layers])
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy", metrics=["accuracy"])
    data = points()
    model.fit(*arrays(data), epochs=10, verbose=0)
    return model


def points(targets=True):
    x = np.random.default_rng(0).normal(size=(300, 4)).astype("float32")
    return Data.from_arrays(x, (x[:, 0] * x[:, 1] > 0).astype(int) if targets else None, test_share=0.2)


def arrays(data):
    x = np.random.default_rng(0).normal(size=(300, 4)).astype("float32")
    return x, (x[:, 0] * x[:, 1] > 0).astype(int)


@pytest.fixture(scope="module")
def found(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("search") / "out"
    return search(model, points(), RECIPE, output=folder, max_drop=0.5, **FAST), folder


@pytest.mark.slow
def test_the_front_is_measured_on_test_data_and_written_with_what_makes_it(found):
    result, folder = found
    assert len(result.candidates) == 4 and result.front and result.best in result.front
    assert result.candidates[0].settings == {"prune_channels.ratio": 0.25, "convert.quantization": "float16"}
    for point in result.front:
        assert "samples of validation" not in point.variant.sources["metric"]
        assert "samples of test" in point.variant.sources["metric"]
        lite = load_litert(point.folder / "model.tflite")
        assert lite.size_bytes == point.variant.size_bytes == point.candidate.figures["size_bytes"]
        assert Recipe.from_file(point.folder / "recipe.yaml") == point.recipe and not point.recipe.space
    assert (folder / "model.tflite").read_bytes() == (result.best.folder / "model.tflite").read_bytes()
    told = json.loads((folder / "search.json").read_text())
    assert told["holds"] is True and len(told["candidates"]) == 4
    report = RunReport.load(folder)
    assert [v.name for v in report.variants] == ["float32", *(point.variant.name for point in result.front)]


def test_equal_steps_are_done_once(found):
    _, folder = found
    names = [path.name.rsplit("-", 1)[0] for path in (folder / ".steps" / "1").iterdir() if path.is_dir()]
    assert names.count("01-prune_channels") == 2 and names.count("02-train") == 2


def test_it_reads_as_a_table_with_the_cost_and_shows_a_plot(found):
    result, _ = found
    text, html = str(result), result._repr_html_()
    assert "prune_channels.ratio 0.75" in text and "(best)" in text and "whole trainings" in text
    assert "recipe's own settings" in text
    assert "<svg" in html and "<table" in html and "candidates on the front" in repr(result)


@pytest.mark.slow
def test_the_same_call_goes_on_with_what_is_there(found, model):
    before, folder = found
    again = search(model, points(), RECIPE, output=folder, max_drop=0.5, **FAST)
    assert [one.stages for one in again.candidates] == [one.stages for one in before.candidates]


@pytest.mark.slow
def test_another_budget_model_or_data_is_another_study(found, model):
    before, folder = found
    other = search(model, points(), RECIPE, output=folder, max_drop=0.5, max_size=100, **{**FAST, "trials": 2})
    assert other.candidates[0].stages[0].begin > before.candidates[-1].stages[-1].end
    assert other.best is None and not other.front and other.holds is False
    assert other.binding == "max_size" and set(other.closest) == {"max_size"}
    assert {one.outcome for one in other.candidates} == {"infeasible"} and other.spending.epochs == 0
    assert "max_size is in the way" in str(other) and "Closest to max_size: candidate" in str(other)
    assert other._repr_html_() and not (folder / "model.tflite").exists()


@pytest.mark.parametrize(
    ("options", "kind", "told"),
    [
        ({"trials": 0}, InvalidValueError, "trials"),
        ({"objectives": ("metric", "speed")}, InvalidValueError, "objectives"),
        ({"objectives": "metric"}, InvalidTypeError, "objectives"),
        ({"stages": (3, 1)}, InvalidValueError, "stages"),
        ({"max_trainings": 0}, InvalidValueError, "max_trainings"),
        ({"recipe": ["convert"]}, InvalidValueError, "no setting to search for"),
        ({"recipe": "balansed"}, InvalidValueError, "Did you mean 'balanced'"),
        ({"data": points(targets=False)}, InvalidValueError, "targets"),
        ({"storage": "nosuch://host/db"}, FileError, "cannot be opened"),
        ({"max_co2": "1g"}, InvalidValueError, "region"),
    ],
)
def test_bad_input_is_refused_before_anything_is_trained(model, tmp_path, options, kind, told):
    given = {"data": points(), "recipe": RECIPE, "output": tmp_path / "out", **FAST, **options}
    with pytest.raises(kind, match=told):
        search(model, given.pop("data"), given.pop("recipe"), **given)


def test_where_no_candidate_can_be_made_the_reason_is_told(model, tmp_path):
    recipe = [{"prune_channels": {"keep": {"choice": [["no"], ["none"]]}}}, "convert"]
    with pytest.raises(InvalidValueError, match="No candidate could be made: "):
        search(model, points(), recipe, output=tmp_path / "out", **{**FAST, "trials": 2})


@pytest.mark.slow
def test_what_another_model_came_to_in_a_folder_is_not_taken_for_this_ones(model, tmp_path):
    other = keras.models.clone_model(model)
    other.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    recipe = [{"convert": {"quantization": {"choice": ["float16", "float32"]}}}]
    options = {"output": tmp_path / "out", "stages": (), "trials": 2, "objectives": ("metric", "size_bytes")}
    first = search(model, points(), recipe, **options)
    search(other, points(), recipe, **options)
    again = search(model, points(), recipe, **options)
    assert [point.variant.metric for point in again.front] == [point.variant.metric for point in first.front]


@pytest.mark.slow
def test_a_search_that_ends_before_a_candidate_does_says_so(model, tmp_path):
    with pytest.raises(InvalidValueError, match="No candidate was tried to its end.*max_hours of the search"):
        search(model, points(), RECIPE, output=tmp_path / "out", max_hours=1e-6, **FAST)


@pytest.mark.slow
def test_nothing_is_trained_for_a_candidate_that_breaks_a_bound_untrained(model, tmp_path):
    result = search(model, points(), RECIPE, output=tmp_path / "out", max_size=10, **FAST)
    assert not result.front and result.binding == "max_size" and result.spending.epochs == 0
    assert not list((tmp_path / "out" / ".steps").rglob("*-train-*"))
