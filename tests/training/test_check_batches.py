from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfgreen as tg
from tfgreen.training.check_batches import check_batches


def model(*shape, loss="mse") -> keras.Model:
    pool = keras.layers.GlobalAveragePooling2D() if None in shape else keras.layers.Flatten()
    made = keras.Sequential([keras.Input(shape), pool, keras.layers.Dense(1)])
    made.compile("sgd", loss)
    return made


def dataset(*shape, count=8, y=True) -> tf.data.Dataset:
    x = np.ones((count, *shape), "float32")
    return tf.data.Dataset.from_tensor_slices((x, np.ones((count, 1))) if y else x)


@pytest.mark.parametrize(
    "shape, data, message",
    [
        ((4, 4, 3), dataset(4, 4, 3), r"batches of shape \(None, 4, 4, 3\), received samples of \(4, 4, 3\).*batch"),
        ((1,), dataset(1), "samples of"),
        ((4, 4, 3), dataset(4, 4, 1).batch(2), r"received of \(None, 4, 4, 1\)"),
        ((3,), dataset(3, y=False).batch(2), r"batches of \(x, y\), received batches of x alone"),
        ((3,), dataset(3).batch(2).take(0), "at least one batch"),
    ],
    ids=range(5),
)
def test_what_does_not_fit_is_named_by_all_that_train(shape, data, message):
    for call in (tg.profile_pipeline, tg.fit):
        with pytest.raises(ValueError, match=message):
            call(model(*shape), data)


def test_what_keras_takes_passes():
    check_batches(model(4, 4, 1), dataset(4, 4).batch(2))
    check_batches(model(4, None, 3), dataset(4, 7, 3).batch(2))
    check_batches(model(1), dataset().batch(2))
    check_batches(model(3, loss=None), dataset(3, y=False).batch(2))
    a, b = keras.Input((2,), name="b"), keras.Input((3,), name="a")
    two = keras.Model([a, b], keras.layers.Concatenate()([a, b]))
    two.compile("sgd", "mse")
    x = {"a": np.ones((4, 3)), "b": np.ones((4, 2)), "other": np.ones(4)}
    check_batches(two, tf.data.Dataset.from_tensor_slices((x, np.ones((4, 5)))).batch(2))
