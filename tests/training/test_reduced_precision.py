from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import tfgreen as tg
from tfgreen.training.reduced_precision import computing_in, why_no_gain


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_layers_compute_in_16_bits_in_the_block_and_weights_stay(dtype):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(8, name="hidden"), layers.Dense(1, name="out")])
    optimizer = keras.optimizers.SGD(0.1)
    model.compile(optimizer, "mse")
    x = np.random.default_rng(0).normal(size=(32, 4)).astype("float32")
    with computing_in(model, dtype):
        assert model.get_layer("hidden")(x).dtype == dtype and model(x).dtype == "float32"
        assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer) == (dtype == "float16")
        history = model.fit(x, x[:, :1], epochs=5, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    assert {variable.dtype for variable in model.weights} == {"float32"}
    assert model.get_layer("hidden")(x).dtype == "float32" and model.optimizer is optimizer


def test_it_is_left_off_where_the_hardware_gains_nothing(monkeypatch):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: [])
    assert "no GPU" in why_no_gain("bfloat16")
    gpu = tf.config.PhysicalDevice("gpu:0", "GPU")
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: [gpu])
    details = {"compute_capability": (7, 5)}
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda device: details)
    assert not why_no_gain("float16") and "no units for bfloat16" in why_no_gain("bfloat16")


def test_fit_says_that_it_is_off():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(1)])
    model.compile("sgd", "mse")
    run = tg.fit(model, (np.ones((4, 4)), np.ones((4, 1))), mixed_precision="bfloat16", verbose=0)
    if not tf.config.list_physical_devices("GPU"):
        assert run.savings["mixed_precision"].startswith("off: there is no GPU")
