from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from tfgreen.model.batch_norm import fused_inference, gain_and_bias, norm_parameters


def trained(settings, shape, dtype="float32"):
    """A layer whose statistics and weights are no ones and zeros, built for a shape."""
    norm = layers.BatchNormalization(dtype=dtype, **settings)
    norm.build(shape)
    rng = np.random.default_rng(1)
    for variable in norm.weights:
        variable.assign(rng.uniform(0.1, 3, variable.shape))
    return norm


@pytest.mark.parametrize("settings", [{}, {"scale": False}, {"center": False, "epsilon": 1e-7}], ids=str)
def test_gain_and_bias_are_what_keras_computes_in_inference(settings):
    norm = trained(settings, (None, 6))
    x, bias = np.random.default_rng(0).normal(size=(2, 9, 6))[0], np.linspace(-2, 2, 6)
    gain, shift = (np.asarray(value) for value in gain_and_bias(norm, bias, "float64"))
    weights = {variable.name: np.asarray(variable, "float64") for variable in norm.weights}
    expected = weights.get("gamma", 1.0) / np.sqrt(weights["moving_variance"] + norm.epsilon)
    np.testing.assert_allclose(gain, expected, rtol=1e-12)
    np.testing.assert_allclose(gain * x + shift, norm(x + bias), rtol=1e-5, atol=1e-5)
    assert gain.dtype == "float64" and gain_and_bias(norm)[0].dtype == "float32"


def test_parameters_that_a_layer_lacks_are_ones_and_zeros():
    gamma, beta, mean, variance = norm_parameters(trained({"scale": False, "center": False}, (None, 3)))
    assert np.asarray(gamma).tolist() == [1.0] * 3 and np.asarray(beta).tolist() == [0.0] * 3
    assert (np.asarray(mean) > 0).all() and (np.asarray(variance) > 0).all()


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
