"""QuantizedActivations: the ranges of one layer; whole models are in tests/techniques/test_quantize.py."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from tests.quantized import normal
from tfgreen.quantization.activation_quantizer import QuantizedActivations
from tfgreen.quantization.ranges import ActivationRange, MovingAverageRange
from tfgreen.transforms.compressed import Compressed
from tfgreen.transforms.exporting import exporting

X = normal(6, count=16)


def around(layer: layers.Layer, *places, kind=ActivationRange, **settings) -> Compressed:
    activations = QuantizedActivations(kind(), *places, **settings)
    if isinstance(layer, layers.Dense):
        layer.build((None, 6))
    layer.built = True
    compressed = Compressed(layer, [], activations)
    for range_ in activations.ranges():
        range_.set(-1.0, 1.0)
    return compressed


def levels(y: np.ndarray) -> int:
    return len(np.unique(np.round(keras.ops.convert_to_numpy(y) * 127.5)))


def test_only_the_places_that_are_asked_for_are_rounded():
    x = np.linspace(-2, 2, 4006, dtype="float32").reshape(-1, 2)[:, :1] * np.ones((1, 6), "float32")
    nothing, output = around(layers.Identity()), around(layers.Identity(), (), (), "observed")
    np.testing.assert_array_equal(nothing(x), x)
    y = keras.ops.convert_to_numpy(output(x))
    assert levels(y) == 256 and abs(y).max() <= 1.01
    entered = around(layers.Lambda(lambda x: 3.0 * x), (0,))
    assert levels(entered(x) / 3.0) == 256


def test_inputs_are_counted_by_position_through_lists_and_integers_are_left_alone():
    compressed = around(layers.Concatenate(), (1, 2))
    a, b, c = X, X, np.arange(96).reshape(16, 6)
    y = keras.ops.convert_to_numpy(compressed([a, b, keras.ops.convert_to_tensor(c)]))
    np.testing.assert_array_equal(y[:, :6], a)
    assert (y[:, 6:12] != b).any() and abs(y[:, 6:12]).max() <= 1.01
    np.testing.assert_array_equal(y[:, 12:], c)


def test_an_input_that_was_rounded_already_is_not_rounded_again():
    first = around(layers.Identity(), (), (), "observed")
    second = around(layers.ReLU(), (0,))
    second.activations.input_ranges[0].set(-0.1, 0.1)
    once = first(X)
    np.testing.assert_array_equal(second(once), np.maximum(once, 0))
    assert keras.ops.convert_to_numpy(second(X)).max() <= 0.11


def test_ranges_follow_training_batches_only_until_they_are_frozen():
    compressed = around(layers.Identity(), (), (), "observed", kind=MovingAverageRange, freeze_after=2)
    range_ = compressed.activations.output_range
    compressed(X)
    assert tuple(range_.numbers()) == (-1.0, 1.0)
    compressed.watched = True
    compressed(X, training=True)
    moved = tuple(range_.numbers())
    np.testing.assert_allclose(moved, [-0.99 + 0.01 * X.min(), 0.99 + 0.01 * X.max()], rtol=1e-5)
    compressed.activations.step.assign(2)
    compressed(X, training=True)
    assert tuple(range_.numbers()) == moved


def test_a_layer_kept_in_float_is_run_as_it_is_and_apart_in_the_export():
    compressed = around(layers.Dense(3), kept=True, apart=True, reason="asked for")
    np.testing.assert_array_equal(compressed(X), compressed.layer(X))
    with exporting():
        np.testing.assert_allclose(compressed(X), compressed.layer(X), rtol=1e-6)


@pytest.mark.parametrize("pooling", [layers.AveragePooling1D(2), layers.UpSampling1D()])
def test_a_pooling_hands_on_the_range_of_its_input(pooling):
    first = around(layers.Identity(), (), (), "observed")
    pool = around(pooling, merges=1)
    y = keras.ops.convert_to_numpy(pool(first(normal(8, 3))))
    step = 2 / 255
    assert np.abs(y / step - np.round(y / step)).max() < 0.02


def test_settings_and_ranges_survive_a_round_trip():
    settings = {"merges": 2, "folds": True, "freeze_after": 7, "weight_bits": 4, "reason": "because"}
    places = ((0, 2), ("observed", (0.0, 6.0)), (0.0, 1.0))
    one = QuantizedActivations(MovingAverageRange(momentum=0.5), *places, **settings)
    other = QuantizedActivations.from_config(keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(one)).get_config())
    assert other.places == one.places and other.kind.momentum == 0.5 and other.freeze_after == 7
    assert [type(range_).__name__ for range_ in other.ranges()] == [
        "MovingAverageRange", "MovingAverageRange", "MovingAverageRange", "FixedRange", "FixedRange",
    ]  # fmt: skip
    assert (other.reason, other.weight_bits) == ("because", 4)
