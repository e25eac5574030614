from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import tfgreen as tg
from tests import zoo
from tfgreen.model.batch_norm import fused_inference
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
    with pytest.raises(TypeError, match="data.*NumPy array"):
        tg.recalibrate_batch_norm(model, None)
    with pytest.raises(ValueError, match="data.*one batch of 128.*received 8"):
        tg.recalibrate_batch_norm(model, zoo.sample("residual"))
    with pytest.raises(TypeError, match="a keras.Model"):
        tg.recalibrate_batch_norm("model", zoo.sample("residual"))


@pytest.mark.parametrize("dtype", ["float32", "mixed_float16", "float64"])
@pytest.mark.parametrize(
    "settings, shape",
    [
        ({}, (3, 5, 4, 6)),
        ({"scale": False}, (3, 5, 4, 6)),
        ({"center": False, "epsilon": 1e-7}, (3, 5, 4, 6)),
        ({"axis": 1}, (3, 5, 4, 6)),
        ({}, (3, 6)),
    ],
    ids=["image", "no gamma", "tiny epsilon", "channels first", "vector"],
)
def test_fused_inference_is_keras_inference(settings, shape, dtype):
    rng = np.random.default_rng(0)
    norm = layers.BatchNormalization(dtype=dtype, **settings)
    x = keras.ops.convert_to_tensor(rng.normal(size=shape), norm.compute_dtype)
    norm(x)
    for variable in norm.weights:
        variable.assign(rng.uniform(0.1, 3, variable.shape))
    expected = {training: norm(x, training=training) for training in (False, None)}
    norm.call = fused_inference(norm)
    for training, y in expected.items():
        found = norm(x, training=training)
        assert found.dtype == y.dtype
        np.testing.assert_allclose(found, y, rtol=2e-3 if dtype == "mixed_float16" else 1e-5, atol=1e-5)


def test_fused_inference_leaves_training_to_keras():
    x = np.random.default_rng(0).normal(size=(8, 4, 4, 3)).astype("float32")
    norm, other = layers.BatchNormalization(), layers.BatchNormalization()
    norm(x), other(x)
    norm.call = fused_inference(norm)
    np.testing.assert_array_equal(norm(x, training=True), other(x, training=True))
    np.testing.assert_array_equal(norm.moving_mean, other.moving_mean)
