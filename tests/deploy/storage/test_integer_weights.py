"""What is stored of integer weights, against LiteRT's interpreter."""

from __future__ import annotations

import warnings

import keras
import numpy as np
import pytest
from keras import layers

import tfgreen as tg
from tests import zoo
from tfgreen.deploy.storage.integer_weights import StoredIntegers, store_integers
from tfgreen.deploy.tflite.flatbuffer import parse

RNG = np.random.default_rng(0)


def transformer() -> keras.Model:
    tokens = keras.Input((8,), dtype="int32", name="tokens")
    x = layers.Embedding(20, 64)(tokens)
    x = layers.LayerNormalization()(x + layers.MultiHeadAttention(4, 16)(x, x))
    x = layers.Dense(64, activation="gelu")(x)
    return keras.Model(tokens, layers.Dense(4)(layers.GlobalAveragePooling1D()(x)))


def tokens() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 20, (64, 8)).astype("int32")


SETTINGS = {
    "8 bits": {"bits": 8},
    "4 bits": {"bits": 4},
    "groups": {"bits": 4, "group_size": 32},
    "small groups": {"bits": 4, "group_size": 16},
    "groups of 8 bits": {"bits": 8, "group_size": 32},
    "awq": {"bits": 4, "group_size": 32, "method": "awq", "calibration_data": tokens()},
}


@pytest.mark.parametrize("settings", zoo.one_in(2, SETTINGS))
def test_a_float_file_computes_what_the_model_does_from_integers(settings):
    model, x, settings = transformer(), tokens(), SETTINGS[settings]
    rounded = tg.quantize_weights(model, **settings)
    lite = tg.convert(rounded)
    np.testing.assert_allclose(lite.predict(x), rounded.predict(x, verbose=0), atol=1e-5)
    stored = [weight for weight in lite.weights.values() if weight.values.size >= 512]
    assert len(stored) == 6 and {weight.bits for weight in stored} == {settings["bits"]}
    floats = 4 * sum(weight.values.size for weight in stored)
    grouped = "group_size" in settings
    most = floats * settings["bits"] / 32 + floats / (settings["group_size"] if grouped else 5.3)
    assert floats - most < len(tg.convert(model).content) - len(lite.content) + 12_000
    assert lite.quantization == "dynamic" and tg.verify(rounded, lite, x).passed


@pytest.mark.slow
@pytest.mark.parametrize("name", ["8 bits", "4 bits", "groups", "awq"])
def test_a_dynamic_file_computes_with_the_integers(name):
    model, x = transformer(), tokens()
    rounded = tg.quantize_weights(model, **SETTINGS[name])
    lite = tg.convert(rounded, quantization="dynamic")
    assert lite.operators["DEQUANTIZE"] == 1  # of the table
    expected = rounded.predict(x, verbose=0)
    assert np.abs(lite.predict(x) - expected).max() < 0.03 * np.abs(expected).max()
    assert len(lite.content) < len(tg.convert(rounded).content)


def test_groups_that_no_kernel_takes_are_dequantized_in_a_dynamic_file():
    rounded = tg.quantize_weights(transformer(), bits=4, group_size=16)
    lite = tg.convert(rounded, quantization="dynamic")
    np.testing.assert_allclose(lite.predict(tokens()), rounded.predict(tokens(), verbose=0), atol=1e-5)
    assert lite.operators["DEQUANTIZE"] == 7


def test_kernels_of_convolutions_and_of_layers_that_a_normalization_follows_are_found():
    inputs = keras.Input((8, 8, 4))
    x = layers.Conv2D(8, 3, use_bias=False)(inputs)
    x = layers.ReLU()(layers.BatchNormalization(beta_initializer="ones")(x))
    x, spread = layers.Dense(8)(layers.Flatten()(x)), keras.initializers.RandomUniform(0.5, 2.0)
    model = keras.Model(inputs, layers.BatchNormalization(moving_variance_initializer=spread)(x))
    x = RNG.normal(size=(16, 8, 8, 4)).astype("float32")
    for settings in ({"bits": 8}, {"bits": 4, "group_size": 12}):
        rounded = tg.quantize_weights(model, **settings)
        lite = tg.convert(rounded)
        assert lite.operators["DEQUANTIZE"] == 2 and not lite.notes
        np.testing.assert_allclose(lite.predict(x), rounded.predict(x, verbose=0), atol=1e-4)


def test_layers_that_are_left_out_stay_float_and_float16_holds_them():
    rounded = tg.quantize_weights(transformer(), layers={"dense*": None})
    sizes = [len(tg.convert(rounded, quantization=mode).content) for mode in ("float32", "float16")]
    assert sizes[0] - sizes[1] > 64 * 64


def test_an_integer_file_rounds_them_again_and_says_so():
    rounded = tg.quantize_weights(transformer(), bits=4, group_size=32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lite = tg.convert(rounded, quantization="int8", calibration_data=tokens())
    assert any("are rounded again" in note for note in lite.notes) and lite.quantization == "int8"


def test_weights_of_which_a_file_holds_no_multiple_are_named():
    file = parse(tg.convert(transformer()).content, "file")
    real = RNG.normal(size=(64, 64)).astype("float32")
    scales = np.ones((64, 1), np.float32)
    odd = StoredIntegers("odd", real.astype("int8"), scales, 8, None, real)
    assert store_integers(file, [odd], compute=True) == ["odd"]
