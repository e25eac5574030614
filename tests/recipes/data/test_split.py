from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfgreen as tg
from tfgreen.errors import TfgreenError


def dataset(count=100, batch=8, *weights):
    return tf.data.Dataset.from_tensor_slices((np.arange(float(count)), np.arange(count), *weights)).batch(batch)


def model():
    result = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, kernel_initializer="ones")])
    result.compile("sgd", "mse")
    return result


@pytest.mark.parametrize("kind", ["arrays", "weighted", "dataset"])
def test_every_form_trains_and_is_evaluated_in_keras_and_in_the_file(kind):
    x, y = np.arange(12.0)[:, None], np.arange(12.0)[:, None] + 1
    weights = [np.ones(12)] if kind == "weighted" else []
    split = tg.Split(tf.data.Dataset.from_tensor_slices((x, y)).batch(5) if kind == "dataset" else x,
                     *([] if kind == "dataset" else [y, *weights]))  # fmt: skip
    net = model()
    assert tg.convert(net).evaluate(**split.evaluate_arguments(), metrics=["mae"]) == {"mae": 1.0}
    assert net.evaluate(**split.evaluate_arguments(), verbose=0) == pytest.approx(1.0)
    before = net.get_weights()[0].copy()
    net.fit(**split.fit_arguments(batch_size=4), validation_data=split.validation_data(), verbose=0)
    assert not np.array_equal(net.get_weights()[0], before)
    assert ("sample_weight" in split.fit_arguments()) == (kind == "weighted")
    assert kind == "dataset" or len(split.validation_data()) == 2 + len(weights)


@pytest.mark.parametrize("count, wanted", [(7, 20), (100, 10), (100, 1), (997, 64)])
def test_samples_are_spread_over_a_dataset_of_unknown_length(count, wanted):
    unknown = dataset(count).filter(lambda *_: True)
    found = tg.Split(unknown).samples(wanted)
    assert len(found) == min(count, wanted) == len(set(found))
    if 1 < wanted < count:
        gaps = np.diff(found)
        assert gaps.min() >= 1 and gaps.max() <= 4 * count / wanted and found[-1] >= 0.5 * count
    several = tf.data.Dataset.from_tensor_slices({"a": np.arange(9.0), "b": np.ones((9, 2))}).batch(4)
    assert {name: x.shape for name, x in tg.Split(several).samples(5).items()} == {"a": (5,), "b": (5, 2)}


def test_the_length_is_told_where_it_is_known():
    assert tg.Split(np.zeros(3)).count == 3 and tg.Split({"a": np.zeros((4, 2)), "b": np.zeros(4)}).count == 4
    assert tg.Split(dataset()).count is None and "unknown number" in repr(tg.Split(dataset()))
    assert tg.Split(dataset(100, 8).unbatch().batch(8, drop_remainder=True)).count is None
    whole = tf.data.Dataset.from_tensor_slices((np.zeros(9), np.zeros(9))).batch(4, drop_remainder=True)
    assert tg.Split(whole).count == 8


BAD = [
    (lambda: tg.Split(dataset().repeat()), "x_train never ends"),
    (lambda: tg.Split(dataset().unbatch()), r"expected a dataset of batches, received single samples. Batch it"),
    (lambda: tg.Split(dataset(), np.zeros(3)), "x_train is a dataset, and y or sample_weight came too"),
    (lambda: tg.Split(dataset().map(lambda x, y: (x, y, y, y))), "received tuples of 4"),
    (lambda: tg.Split([[1, 2], [3, 4]]), "x_train/0: expected|expected an array"),
    (lambda: tg.Split(np.zeros(3), np.zeros(3), np.array([1, -2, 1])), "weights from 0, and one above it, received -2"),
    (lambda: tg.Split(np.zeros(3), np.zeros(3), np.zeros(3)), "weights from 0, .*received 0 for every sample"),
    (lambda: tg.Split(np.zeros(3), np.zeros(3), np.array(["a", "b", "c"])), "sample_weight_train: .* of numbers"),
    (lambda: tg.Split(np.zeros(3), np.zeros(3), np.zeros(2), name="test"), "sample_weight_test: expected an entry for"),
    (lambda: tg.Split(np.zeros(3)).fit_arguments(), "The train split has no targets .* To train on it, pass y as well"),
    (lambda: tg.Split(np.zeros(3)).samples(0), "count: expected an integer >= 1"),
    (lambda: tg.Split(dataset().take(0)).samples(2), "x_train: expected at least one sample"),
    (lambda: tg.Split(np.zeros(3)).with_image_size(2, 2), "is no folder of images"),
]


@pytest.mark.parametrize("make, message", BAD)
def test_what_is_no_split_is_named(make, message):
    with pytest.raises(TfgreenError, match=message):
        make()
