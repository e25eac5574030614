"""The loop over steps: what is done, what is taken from disk, what is skipped, and what a cut comes to."""

from __future__ import annotations

import dataclasses
import os

import keras
import numpy as np
import pytest

from tests.recipes.run import tasks
from tfgreen.errors import TfgreenError
from tfgreen.recipes.recipe.recipe import Recipe
from tfgreen.recipes.run import runner
from tfgreen.recipes.run.keys import identity
from tfgreen.recipes.run.runner import carry_out
from tfgreen.recipes.run.steps import watch
from tfgreen.recipes.run.steps.backup import Backup
from tfgreen.recipes.run.steps.functions import FUNCTIONS
from tfgreen.recipes.run.store import Store

STEPS = [
    {"prune": {"sparsity": 0.5}}, {"distill": {"epochs": 2}}, {"cluster": {"number_of_clusters": 8}},
    {"train": {"epochs": 2}}, "convert", {"check_target": {"target": "xnnpack"}},
]  # fmt: skip


class CutOff(BaseException):
    """What a kill is like, but for the process."""


@pytest.fixture
def done(monkeypatch):
    """The names of the steps that are carried out, as they are."""
    names = []

    def counted(name, function):
        def step(state, settings, task):
            names.append(name)
            return function(state, settings, task)

        return step

    monkeypatch.setattr(runner, "FUNCTIONS", {name: counted(name, f) for name, f in FUNCTIONS.items()})
    return names


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A model in a file, as each process loads it."""
    path = tmp_path_factory.mktemp("model") / "model.keras"
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((8,)), keras.layers.Dense(16, "relu"), keras.layers.Dropout(0.2), keras.layers.Dense(2)]
    )
    model.save(path)
    return path


def run(saved, folder, steps=STEPS, optional=(), **options):
    model = keras.saving.load_model(saved)
    task = tasks.task_of(model, tasks.points(), Recipe(steps, name="mine", optional=optional), **options)
    return carry_out(task, Store(folder), identity(task))


def result(outcome):
    """What does not depend on the clock."""
    told = [(record.name, record.notes, record.limits, record.exports, record.cut) for record in outcome.records]
    curves = [c.to_dict() for record in outcome.records for c in record.curves if "energy" not in c.y_label]
    weights = [variable.numpy().tolist() for variable in outcome.state.model.weights if "seed" not in variable.name]
    return told, curves, weights, bytes(outcome.state.exports[outcome.state.last].lite.content)


@pytest.fixture(scope="module")
def whole(saved, tmp_path_factory):
    return result(run(saved, tmp_path_factory.mktemp("whole") / "steps"))


@pytest.mark.slow
def test_a_finished_run_is_taken_from_disk(saved, whole, tmp_path, done):
    assert result(run(saved, tmp_path)) == whole
    assert done == ["original", "prune", "distill", "cluster", "train", "convert", "check_target"]
    done.clear()
    assert result(run(saved, tmp_path)) == whole and done == ["check_target"]


def test_what_comes_before_a_change_is_not_repeated(saved, tmp_path, done):
    steps = [{"prune": {"sparsity": 0.5}}, {"train": {"epochs": 1}}, "convert"]
    run(saved, tmp_path, steps)
    done.clear()
    run(saved, tmp_path, [*steps[:2], {"convert": {"quantization": "float16"}}])
    assert done == ["convert"]
    done.clear()
    run(saved, tmp_path, [steps[0], {"train": {"epochs": 2}}, "convert"])
    assert done[0] == "prune"  # whose sparsity rises over as many steps as are trained next


CUTS = {
    "in an epoch": (Backup, "on_epoch_begin", 3),
    "while an epoch is kept": (os, "replace", 4),
    "while a step is kept": (Store, "write", 2),
    "before the first step": (Store, "write", 0),
}


@pytest.mark.slow
@pytest.mark.parametrize("where", CUTS)
def test_a_run_that_is_cut_off_comes_to_the_same(saved, whole, tmp_path, monkeypatch, where):
    owner, name, calls = CUTS[where]
    original, count = getattr(owner, name), [0]

    def cutting(*args, **kwargs):
        count[0] += 1
        if count[0] > calls:
            raise CutOff
        return original(*args, **kwargs)

    with monkeypatch.context() as patch, pytest.raises(CutOff):
        patch.setattr(owner, name, cutting)
        run(saved, tmp_path)
    assert result(run(saved, tmp_path)) == whole
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".part")]


def test_a_spent_budget_ends_training_and_leaves_what_costs_little(saved, tmp_path):
    outcome = run(saved, tmp_path, bounds={"max_hours": 1e-9})
    assert list(outcome.skipped) == ["prune", "distill", "cluster", "train"]
    assert "at its limit" in outcome.skipped["train"]
    assert [record.name for record in outcome.records] == ["original", "convert", "check_target"]


@pytest.mark.slow
def test_a_training_that_the_budget_has_cut_goes_on_with_a_larger_one(saved, whole, tmp_path, monkeypatch, done):
    spent = {"calls": 0}
    real = runner.exceeded

    def in_the_first_epoch(budget, total):
        spent["calls"] += 1
        return "The time is up." if budget.max_hours == 5 and spent["calls"] > 1 else ""

    with monkeypatch.context() as patch:
        patch.setattr(watch, "exceeded", in_the_first_epoch)
        patch.setattr(runner, "exceeded", lambda budget, total: "spent" if total.seconds > 1e6 else "")
        outcome = run(saved, tmp_path, bounds={"max_hours": 5})
        cut = [record.name for record in outcome.records if record.cut]
        assert cut == ["distill", "train"]
    monkeypatch.setattr(runner, "exceeded", real)
    done.clear()
    assert result(run(saved, tmp_path, bounds={"max_hours": 6})) == whole
    assert done == ["distill", "cluster", "train", "convert", "check_target"]


class Unsaveable(keras.Model):
    """A subclassed model with a plain constructor, which Keras cannot load."""

    def __init__(self, units):
        super().__init__()
        self.hidden, self.out = keras.layers.Dense(16, "relu"), keras.layers.Dense(units)

    def call(self, x):
        return self.out(self.hidden(x))


@pytest.mark.slow
def test_a_model_that_keras_cannot_save_is_carried_in_memory(tmp_path):
    model = Unsaveable(2)
    model(np.zeros((1, 8), "float32"))
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    steps = [{"prune": {"sparsity": 0.5}}, {"train": {"epochs": 1}}, "convert"]
    task = tasks.task_of(model, tasks.points(), Recipe(steps))
    outcome = carry_out(task, Store(tmp_path), identity(task))
    assert "Keras cannot keep the model" in outcome.records[0].notes[-1] and not os.listdir(tmp_path)
    assert np.mean(np.asarray(outcome.state.exports[outcome.state.last].model.hidden.kernel) == 0) == 0.5


def test_what_the_recipe_leaves_out_is_told(saved, tmp_path):
    outcome = run(saved, tmp_path, [{"prune": {"choice": [None]}}, "convert"])
    assert outcome.skipped == {"prune": "the recipe leaves it out"} and len(outcome.records) == 2
    assert outcome.spent.seconds == pytest.approx(sum(record.spent.seconds for record in outcome.records))
    assert dataclasses.is_dataclass(outcome)


def test_what_the_model_does_not_admit_is_an_error_or_skipped_where_it_is_optional(saved, tmp_path):
    steps = [{"prune_channels": {"target_macs": 0.001}}, "convert"]
    outcome = run(saved, tmp_path, steps, optional=("prune_channels",))
    assert "target_macs: expected at least" in outcome.skipped["prune_channels"]
    assert [record.name for record in outcome.records] == ["original", "convert"]
    with pytest.raises(TfgreenError):
        run(saved, tmp_path, steps)
