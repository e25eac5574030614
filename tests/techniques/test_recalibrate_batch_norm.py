from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import tfgreen as tg
from tests import zoo
from tfgreen.model.paths import weights_by_path


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
    with pytest.raises(TypeError, match="calibration_data.*arrays.*received NoneType"):
        tg.recalibrate_batch_norm(model, None)
    with pytest.raises(ValueError, match="calibration_data.*one batch of 128.*received 8.*batch_size"):
        tg.recalibrate_batch_norm(model, zoo.sample("residual"))
    with pytest.raises(ValueError, match="batch_size.*received 0"):
        tg.recalibrate_batch_norm(model, zoo.sample("residual"), batch_size=0)
    with pytest.raises(TypeError, match="a keras.Model"):
        tg.recalibrate_batch_norm("model", zoo.sample("residual"))


def test_batches_with_targets_count_as_arrays_do_and_a_shorter_last_one_not_at_all():
    model, x = zoo.residual(), zoo.sample("residual", 20)
    data = tf.data.Dataset.from_tensor_slices((x, np.zeros(20))).batch(8)
    found, expected = (tg.recalibrate_batch_norm(model, values, batch_size=8) for values in (data, x))
    for a, b in zip(found.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
