"""Keys: they change with all that a result depends on, and with nothing else."""

from __future__ import annotations

import dataclasses

import keras
import pytest

from tests.recipes.run import tasks
from tfgreen.recipes.metrics.metric import Metric
from tfgreen.recipes.recipe.step_settings import TrainStep
from tfgreen.recipes.run import keys
from tfgreen.recipes.run.keys import hash_of, identity, step_key


def saved_and_loaded(model, path):
    model.save(path)
    return keras.saving.load_model(path, compile=False)


def test_the_same_model_and_data_in_another_process(tmp_path):
    model = tasks.two_outputs()
    one = tasks.task_of(saved_and_loaded(model, tmp_path / "m.keras"), tasks.kinds_and_sizes())
    other = tasks.task_of(saved_and_loaded(model, tmp_path / "m.keras"), tasks.kinds_and_sizes())
    assert identity(one) == identity(other)


def convolution(strides, loss="mse"):
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Conv2D(2, 1, strides, name="conv"), keras.layers.GlobalMaxPooling2D(name="pool")]
    model = keras.Sequential([keras.Input((8, 8, 1), name="x"), *layers], name="m")
    model.compile("adam", loss)
    return model


def changed(**fields):
    data = tasks.Data.from_arrays(tasks.masks().train.x, tasks.masks().train.x[:, 0, 0, [0, 0]])
    task = tasks.task_of(convolution(1), data)
    return identity(dataclasses.replace(task, **fields))


def test_what_changes_a_result_changes_its_key(monkeypatch):
    base = changed()
    others = [
        changed(original=convolution(2)),  # of the same weights
        changed(original=convolution(1, "mae")),
        changed(seed=1),
        changed(metric=Metric("mae")),
        changed(data=tasks.Data.from_arrays(tasks.masks().train.x, tasks.masks().train.x[:, 0, 0, [0, 0]] + 1)),
    ]
    monkeypatch.setattr(keys, "__version__", "9.9")
    others.append(changed())
    assert all(other != base for other in others)


@pytest.mark.parametrize("other", [("b", "train", TrainStep(epochs=2)), ("a", "train", TrainStep(epochs=3)),
                                   ("a", "distill", TrainStep(epochs=2)), ("a", "train", TrainStep(epochs=2), 1)])
def test_a_step_depends_on_its_settings_and_those_before(other):
    key = step_key("a", "train", TrainStep(epochs=2))
    assert key == step_key("a", "train", TrainStep(epochs=2, batch_size=32)) and key != step_key(*other)
    assert hash_of(1, {"b": 2, "a": 1}) == hash_of(1, {"a": 1, "b": 2})
