"""Models on disk, from which a run goes on."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from tests.recipes.run import tasks
from tfgreen.recipes.run.kept_model import CannotKeep, load_kept, save_kept
from tfgreen.techniques.prune import prune
from tfgreen.techniques.quantize import quantize


class Scaled(keras.layers.Layer):
    """A layer of a user's, not registered, whose config says all."""

    def __init__(self, factor=2.0, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, x):
        return x * self.factor

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


class Forgetful(Scaled):
    def get_config(self):
        return {name: value for name, value in super().get_config().items() if name != "factor"}


class Plain(keras.Model):
    """A subclassed model with a plain constructor."""

    def __init__(self, units):
        super().__init__()
        self.out = keras.layers.Dense(units)

    def call(self, x):
        return self.out(x)


def with_layer(layer):
    model = keras.Sequential([keras.Input((8,)), layer, keras.layers.Dense(2, name="out")])
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def test_compressed_models_and_layers_of_the_users(tmp_path):
    task = tasks.task_of(with_layer(Scaled(3.0)))
    x = tasks.points().train.x
    for number, model in enumerate([task.original, quantize(prune(task.original), calibration_data=x)]):
        loaded = save_kept(model, tmp_path / f"{number}.keras", task)
        assert loaded is not model
        np.testing.assert_allclose(loaded.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-6)


def test_a_lambda_is_loaded_where_the_user_has_brought_it(tmp_path):
    task = tasks.task_of(with_layer(keras.layers.Lambda(lambda x: x + 1)))
    save_kept(task.original, tmp_path / "lambda.keras", task)
    with pytest.raises(ValueError, match="Lambda|lambda"):
        load_kept(tmp_path / "lambda.keras", tasks.task_of())


@pytest.mark.parametrize("layer", [Forgetful(3.0)])
def test_what_is_loaded_must_compute_the_same(tmp_path, layer):
    task = tasks.task_of(with_layer(layer))
    with pytest.raises(CannotKeep, match="something else"):
        save_kept(task.original, tmp_path / "m.keras", task)


def test_what_keras_cannot_save_or_load(tmp_path):
    model = Plain(2)
    model(np.zeros((1, 8), "float32"))
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    task = tasks.task_of(model)
    with pytest.raises(CannotKeep):
        save_kept(model, tmp_path / "m.keras", task)
