from __future__ import annotations

import warnings

import keras
import numpy as np
import pytest
from keras import layers

import tfgreen as tg
from tfgreen.deploy.conversion.made_samples import made_samples
from tfgreen.deploy.conversion.record import read

RNG = np.random.default_rng(0)


def made(inputs: list, outputs: object, data: list, count: int = 8) -> dict[str, np.ndarray]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Features .* are lost")
        model = tg.quantize(keras.Model(inputs, outputs), calibration_data=data)
    return made_samples(read(model, tg.ConvertConfig(quantization="int8")), count)


def test_floats_fill_the_trained_range_each_sample_with_ends_of_its_own():
    x = keras.Input((6, 6, 1), name="image")
    image = RNG.uniform(-1, 3, (32, 6, 6, 1))
    samples = made([x], layers.Conv2D(2, 3)(layers.Identity()(x)), [image])["image"]
    assert samples.shape == (8, 6, 6, 1) and samples.dtype == np.float32
    assert image.min() - 0.02 <= samples.min() < -0.8 and 2.8 < samples.max() <= image.max() + 0.02
    widths = np.ptp(samples.reshape(8, -1), axis=1)
    assert widths.max() > 2 * widths.min()


def test_ids_are_those_of_the_smallest_table_whatever_their_dtype():
    ids, flags = keras.Input((40,), dtype="int32", name="ids"), keras.Input((40,), name="flags")
    found = [layers.Embedding(size, 4)(ids) for size in (5, 9)] + [layers.Embedding(3, 4)(flags)]
    whole = RNG.integers(0, 3, (32, 40))
    samples = made([ids, flags], layers.Dense(2)(layers.Concatenate()(found)), [whole, whole.astype("float32")])
    assert samples["ids"].dtype == np.int32 and set(np.unique(samples["ids"])) == {0, 1, 2, 3, 4}
    assert samples["flags"].dtype == np.float32 and set(np.unique(samples["flags"])) == {0.0, 1.0, 2.0}


def test_features_that_a_normalization_knows_lie_within_its_deviations():
    x = keras.Input((2,), name="features")
    data = np.stack([RNG.normal(5, 1, 64), RNG.normal(1e6, 1e4, 64)], axis=1)
    norm = layers.Normalization()
    norm.adapt(data)
    samples = made([x], layers.Dense(2)(norm(x)), [data])["features"]
    assert (np.abs(samples - [5, 1e6]) <= [2.5, 2.5e4]).all()


def test_one_reader_may_know_each_feature_and_another_the_whole():
    x = keras.Input((3,), name="features")
    data = RNG.normal(size=(64, 3)) * [1, 100, 10_000]  # which the normalization takes in float32
    norm = layers.Normalization()
    norm.adapt(data)
    out = layers.Dense(2)(layers.Concatenate()([norm(x), layers.Rescaling(1e-4)(x)]))
    samples = made([x], out, [data])["features"]
    assert samples.shape == (8, 3) and (np.abs(samples) <= [2.5, 250, 25_000]).all()
    with pytest.warns(UserWarning, match="Features .0, 1. .* are lost"):
        model = tg.quantize(keras.Model(x, out), calibration_data=data)
    assert tg.verify(model, tg.convert(model, quantization="int8"), data).passed


def test_nothing_is_made_up_of_what_nothing_is_known():
    number, x = keras.Input((3,), dtype="int32", name="number"), keras.Input((3,), name="x")
    out = layers.Dense(2)(x) + layers.Dense(2)(keras.ops.cast(number, "float32") / 7)
    data = [np.ones((8, 3), "int32"), np.ones((8, 3))]
    assert set(made([number, x], out, data)) == {"x"}
    unread = keras.Input((3,), dtype="int32", name="unread")
    assert set(made([unread, x], layers.Dense(2)(x), data)) == {"unread", "x"}
    image = keras.Input((4,), dtype="uint8", name="image")
    samples = made([image], layers.Dense(2)(layers.Rescaling(1 / 255)(image)), [RNG.integers(0, 256, (8, 4))])
    assert samples["image"].dtype == np.uint8 and samples["image"].max() > 200
    kinds = keras.Input((2,), dtype="int32", name="kinds")
    encoded = layers.CategoryEncoding(4, output_mode="multi_hot")(kinds)
    samples = made([kinds], layers.Dense(2)(encoded), [RNG.integers(0, 4, (8, 2))])
    assert set(np.unique(samples["kinds"])) == {0, 1, 2, 3}


@pytest.mark.parametrize("seed", [0, 1])
def test_they_are_the_same_again(seed):
    x = keras.Input((3,), name="x")
    data = [np.random.default_rng(seed).normal(size=(8, 3))]
    first, second = (made([x], layers.Dense(2)(x), data)["x"] for _ in range(2))
    np.testing.assert_array_equal(first, second)
