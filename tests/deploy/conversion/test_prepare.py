"""Copies of a model that the converter takes better: pooling of a whole map as a mean."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import tfgreen as tg
from tests.zoo import slow
from tfgreen.deploy.conversion.config import ConvertConfig
from tfgreen.deploy.conversion.prepare import prepare
from tfgreen.deploy.conversion.record import read
from tfgreen.deploy.convert import convert

X = np.random.default_rng(0).random((64, 8, 8, 3), dtype="float32")


def pooled(*pooling, shape=(8, 8, 3)):
    keras.utils.set_random_seed(0)
    conv = layers.Conv1D if len(shape) == 2 else layers.Conv2D
    body = [conv(8, 3, padding="same", activation="relu"), *pooling, layers.Flatten(), layers.Dense(3, name="out")]
    model = keras.Sequential([keras.Input(shape), *body])
    kernel = model.layers[0].kernel
    kernel.assign(kernel * 4)
    return model


def prepared(model, data=X, quantization="int8", **options):
    return prepare(read(model, ConvertConfig(quantization=quantization, calibration_data=data, **options)))


def error(model, calibration="minmax"):
    lite = convert(model, ConvertConfig(quantization="int8", calibration_data=X, calibration=calibration))
    return float(np.abs(lite.predict(X) - model.predict(X, verbose=0)).mean()), lite


@pytest.mark.parametrize("calibration", ["minmax", "mse"])
def test_pooling_of_a_whole_map_gets_a_scale_of_its_own(calibration):
    mean, lite = error(pooled(layers.AveragePooling2D(8, name="pool")), calibration)
    assert lite.operators["MEAN"] == 1 and "AVERAGE_POOL_2D" not in lite.operators and not lite.float_operators
    assert any(row.layers == ("pool",) for row in lite.audit.operators)
    # A stride of 7 leaves one window too, but over less than the map: it stays as it is, and so do two windows.
    other, kept = error(pooled(layers.AveragePooling2D(7, name="pool")), calibration)
    assert kept.operators["AVERAGE_POOL_2D"] == 1
    assert mean < other / 1.5


@pytest.mark.parametrize("quantization", ["int16x8", "int8"])
@pytest.mark.parametrize("shape", [(6, 2), (4, 6, 1)])
def test_any_map_and_any_integers(quantization, shape):
    pool = layers.AveragePooling1D(6) if len(shape) == 2 else layers.AveragePooling2D(shape[:2])
    x = np.random.default_rng(0).random((64, *shape), dtype="float32")
    model = pooled(pool, shape=shape)
    lite = convert(model, ConvertConfig(quantization=quantization, calibration_data=x))
    assert lite.operators["MEAN"] == 1 and not lite.float_operators
    np.testing.assert_allclose(lite.predict(x), model.predict(x, verbose=0), atol=0.05)


def test_the_copy_predicts_the_same_and_others_are_left_alone():
    model = pooled(layers.AveragePooling2D(8, name="pool"))
    copy = prepared(model).model
    assert [layer.name for layer in copy.layers] == [layer.name for layer in model.layers]
    assert type(model.get_layer("pool")) is layers.AveragePooling2D
    np.testing.assert_allclose(copy.predict(X, verbose=0), model.predict(X, verbose=0), atol=1e-5)
    for pool in (layers.AveragePooling2D(4), layers.AveragePooling2D(8, strides=1, padding="same"), layers.ReLU()):
        model = pooled(pool)
        assert prepared(model).model is model


def test_a_layer_used_on_maps_of_two_sizes_is_left_alone():
    pool, small, large = layers.AveragePooling2D(4), keras.Input((4, 4, 2)), keras.Input((8, 8, 2))
    model = keras.Model([small, large], [pool(small), pool(large)])
    assert prepared(model, [np.ones((4, 4, 4, 2)), np.ones((4, 8, 8, 2))]).model is model


def test_trained_ranges_stay_with_the_pooling_they_were_trained_with():
    model = pooled(layers.AveragePooling2D(8))
    quantized = tg.quantize(model, tg.QuantizeConfig(calibration_data=X))
    assert prepared(quantized).model is quantized


@keras.saving.register_keras_serializable(package="prepare")
class Fixed(layers.Layer):
    """Cannot be copied: its constructor takes what its config does not hold."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def call(self, x):
        return x * self.factor


def test_a_layer_without_a_usable_config_does_not_keep_a_model_from_being_prepared():
    _, lite = error(pooled(Fixed(0.5), layers.AveragePooling2D(8)))
    assert "AVERAGE_POOL_2D" not in lite.operators and lite.operators["MEAN"] == 1


def test_the_note_names_the_precision_that_a_model_had():
    with_bfloat16 = keras.Sequential([keras.Input((4,)), layers.Dense(2, dtype="mixed_bfloat16")])
    assert any("instead of bfloat16" in note for note in convert(with_bfloat16).notes)


@pytest.mark.parametrize(
    "pool, shape",
    [
        (layers.AdaptiveAveragePooling2D(2), (8, 8, 3)),
        (layers.AdaptiveAveragePooling2D((2, 3)), (8, 6, 3)),
        (layers.AdaptiveAveragePooling1D(4), (8, 3)),
    ],
    ids=["square", "oblong", "line"],
)
def test_adaptive_pooling_with_windows_of_one_size_is_one_operator_that_clips_nothing(pool, shape):
    model = keras.Sequential([keras.Input(shape), type(pool).from_config(pool.get_config())])
    x = np.random.default_rng(0).normal(size=(64, *shape)).astype("float32")
    copy = prepared(model, x).model
    np.testing.assert_allclose(copy.predict(x, verbose=0), model.predict(x, verbose=0), atol=1e-6)
    lite = convert(model, ConvertConfig(quantization="int8", calibration_data=x))
    assert lite.operators["AVERAGE_POOL_2D"] == 1 and "CONCATENATION" not in lite.operators
    steps = np.ptp(x) / 255
    assert np.abs(lite.predict(x) - model.predict(x, verbose=0)).mean() <= steps / 2


def test_adaptive_pooling_with_windows_of_several_sizes_is_left_alone():
    model = keras.Sequential([keras.Input((8, 8, 3)), layers.AdaptiveAveragePooling2D(3)])
    assert prepared(model).model is model


def dense_network(units, depth):
    body = [layers.Dense(units, activation="relu") for _ in range(depth)]
    return keras.Sequential([keras.Input((64,)), *body, layers.Dense(64)])


@pytest.mark.parametrize(
    "units, depth, one", [(96, 6, True), (96, 1, False), (1500, 2, False)], ids=["many small", "few", "large"]
)
def test_dense_kernels_have_one_scale_where_more_would_take_much_of_the_file(units, depth, one):
    keras.utils.set_random_seed(0)
    model = dense_network(units, depth)
    x = np.random.default_rng(0).random((64, 64), dtype="float32")
    lite = convert(model, ConvertConfig(quantization="int8", calibration_data=x))
    assert all((weight.scale.size == 1) == one for weight in lite.weights.values())
    assert any("one scale each" in note for note in lite.notes) == one
    if one:
        weights = sum(weight.values.size for weight in lite.weights.values())
        assert lite.size_bytes < 1.1 * weights + 4 * (units * depth + 64)
    assert tg.verify(model, lite, x).passed


def test_what_is_averaged_and_then_joined_is_not_clipped():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, padding="same", activation="relu", name="conv")(inputs)
    average = layers.AveragePooling2D(4, strides=1, padding="same", name="average")(x)
    small = layers.Conv2D(4, 1, kernel_initializer=keras.initializers.RandomNormal(stddev=0.05))(x)
    model = keras.Model(inputs, layers.Concatenate()([average, small]))
    mean, lite = error(model)
    assert mean <= 0.75 * max(lite.output_scales.values())
    assert any("would clip what layers ['average'] average" in note for note in lite.notes)
    assert not lite.float_operators


@pytest.mark.parametrize("cell", [layers.GRU, *slow(layers.LSTM, layers.SimpleRNN)])
def test_masked_steps_of_a_bidirectional_layer_are_zeros_when_it_is_unrolled(cell):
    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).normal(size=(32, 5, 3)).astype("float32")
    x[:, 3:], x[::2, 0] = 0, 0
    both = layers.Bidirectional(cell(4, return_sequences=True))
    model = keras.Sequential([keras.Input((5, 3)), layers.Masking(), both])
    expected = model.predict(x, verbose=0)
    dynamic = convert(model, dynamic_batch=True)
    np.testing.assert_allclose(dynamic.predict(x), expected, atol=1e-5)
    trained = convert(tg.quantize(model, calibration_data=x), quantization="int8")
    assert np.abs(trained.predict(x) - expected).mean() < 0.01
