from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import tfgreen as tg
from tests import zoo
from tfgreen.model.graph import weights_by_path


def test_statistics_are_the_average_over_the_batches_and_nothing_else_changes():
    model = keras.Sequential(
        [
            keras.Input((5,)),
            layers.Dense(4, name="first"),
            layers.BatchNormalization(name="norm", momentum=0.9),
            layers.BatchNormalization(name="frozen", trainable=False),
        ]
    )
    x = np.random.default_rng(0).normal(2.0, 3.0, (70, 5)).astype("float32")
    before = model.get_weights()
    result = tg.recalibrate_batch_norm(model, x, batch_size=16)
    seen = model.get_layer("first")(x[:64]).numpy().astype("float64").reshape(4, 16, 4)
    norm = result.get_layer("norm")
    np.testing.assert_allclose(norm.moving_mean, seen.mean(axis=(0, 1)), rtol=1e-4)
    np.testing.assert_allclose(norm.moving_variance, seen.var(axis=1).mean(axis=0), rtol=1e-4)
    assert norm.momentum == 0.9 and norm.trainable and not result.get_layer("frozen").trainable
    assert np.abs(result.get_layer("frozen").moving_mean.numpy()).max() < 0.1 < np.abs(norm.moving_mean.numpy()).max()
    np.testing.assert_array_equal(result.get_layer("first").kernel, model.get_layer("first").kernel)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", ["residual", "multi_io", "shared_layer", "subclassed"])
def test_any_model(name):
    model = zoo.ZOO[name]()
    result = tg.recalibrate_batch_norm(model, zoo.sample(name), batch_size=4)
    changed = [p for p, v in weights_by_path(result).items() if "moving" in p and not v.path.startswith("seed")]
    assert bool(changed) == (name == "residual")


def test_bad_data():
    model = zoo.residual()
    with pytest.raises(TypeError, match="data.*NumPy array"):
        tg.recalibrate_batch_norm(model, None)
    with pytest.raises(ValueError, match="data.*one batch of 128.*received 8"):
        tg.recalibrate_batch_norm(model, zoo.sample("residual"))
    with pytest.raises(TypeError, match="a keras.Model"):
        tg.recalibrate_batch_norm("model", zoo.sample("residual"))
