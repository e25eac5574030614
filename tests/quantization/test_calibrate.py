"""Ranges start from what tensors hold over the calibration data, seen without any rounding."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import tfgreen as tg
from tests import zoo
from tests.quantized import normal, quantized, ranges_of, varied
from tfgreen.quantization.calibrate import calibrate

X = normal(6, count=100)


def network() -> keras.Model:
    stack = [layers.Dense(5, "relu", name="a"), layers.Dense(3, name="b")]
    return varied(keras.Sequential([keras.Input((6,)), *stack]))


def test_ranges_are_the_extremes_of_the_tensors_before_they_are_rounded():
    model = network()
    found = ranges_of(quantized(model, X))
    plain = tg.strip(quantized(model, X))  # weights are rounded while ranges are observed
    a = keras.ops.convert_to_numpy(plain.get_layer("a")(X))
    b = keras.ops.convert_to_numpy(plain.get_layer("b")(a))
    expected = {"a/input_0": (X.min(), X.max()), "a/output": (0.0, a.max()), "b/output": (b.min(), b.max())}
    assert found.keys() == expected.keys()
    for name, ends in expected.items():
        np.testing.assert_allclose(found[name], ends, rtol=1e-5)


@pytest.mark.slow
def test_what_is_computed_of_a_batch_is_calibrated_sample_by_sample_as_the_file_runs():
    inputs = keras.Input((8,), name="x")
    mean = keras.ops.mean(layers.Dense(8, name="dense")(inputs), axis=0, keepdims=True)
    model = varied(keras.Model(inputs, layers.Dense(2, name="out")(inputs - 2.0 * mean)))
    x = normal(8, count=64)
    means = keras.Model(inputs, mean).predict(x, batch_size=1, verbose=0)
    trained = quantized(model, x)
    lower, upper = ranges_of(trained)["mean/output"]
    assert (lower, upper) == pytest.approx((means.min(), means.max()), rel=0.05)
    lite = tg.convert(model, quantization="int8", calibration_data=x)
    assert any("Layers ['mean'" in note and "computes of each sample" in note for note in lite.notes)
    assert not any("far from" in note for note in lite.notes) and tg.verify(model, lite, x).passed
    assert tg.verify(model, tg.convert(trained, quantization="int8"), x).passed


def test_a_model_may_be_calibrated_again_and_each_layer_in_a_way_of_its_own():
    model = quantized(network(), X)
    outlier = X.copy()
    outlier[0] = 50.0
    calibrate(model, outlier, lambda path: "percentile" if path == "a" else "minmax")
    lower, upper = ranges_of(model)["a/input_0"]
    assert upper == pytest.approx(50.0, rel=0.01)  # 6 of 600 values are more than 0.01 %
    calibrate(model, iter([np.tile(X, (1000, 1)), outlier[:1]]), lambda path: "percentile")
    assert ranges_of(model)["a/input_0"][1] < 5
    assert all(range_.recorder is None for layer in model.layers for range_ in layer.activations.ranges())


def test_data_that_fails_half_way_leaves_no_recorder_behind():
    model = quantized(network(), X)
    before = ranges_of(model)
    with pytest.raises(ValueError, match="NaN"):
        calibrate(model, iter([X, X * np.nan]), lambda path: "minmax")
    assert all(range_.recorder is None for layer in model.layers for range_ in layer.activations.ranges())
    assert ranges_of(model) == before


def test_a_layer_that_makes_nan_is_named():
    model = quantized(network(), X)
    model.get_layer("b").layer.bias.assign([np.nan, 0, 0])
    with pytest.raises(ValueError, match="layer 'b' makes NaN or infinity of the calibration data"):
        calibrate(model, X, lambda path: "minmax")


def test_inputs_by_name_are_calibrated():
    data = zoo.sample("multi_io", 64)
    ranges = ranges_of(quantized(zoo.multi_io(), data))
    image = next(ends for name, ends in ranges.items() if name.startswith("conv") and name.endswith("input_0"))
    np.testing.assert_allclose(image, [data["image"].min(), data["image"].max()], rtol=1e-5)
