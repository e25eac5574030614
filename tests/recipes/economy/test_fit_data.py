from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfgreen as tg
from tfgreen.recipes.economy.fit_data import callback_list, fit_arguments, steps_of

X = np.ones((10, 3), "float32")


def model() -> keras.Model:
    made = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    made.compile("sgd", "mse")
    return made


def test_the_batches_of_an_epoch_are_counted():
    config = tg.TrainingConfig(batch_size=4)
    assert steps_of(fit_arguments(model(), (X, X[:, :1]), config), config) == 3
    dataset = tf.data.Dataset.from_tensor_slices((X, X[:, :1])).batch(5)
    assert steps_of(fit_arguments(model(), dataset, config), config) == 2
    assert steps_of(fit_arguments(model(), dataset.filter(lambda *_: True), config), config) is None
    assert fit_arguments(model(), tg.Split(X, X[:, :1]), config)["batch_size"] == 4


class _None(keras.utils.PyDataset):
    def __len__(self):
        return 0


def test_data_of_nothing_is_refused_whatever_it_is():
    none = tf.data.Dataset.from_tensor_slices((X, X[:, :1])).batch(5).take(0)
    for data in (none, (X[:0], X[:0, :1]), _None()):
        with pytest.raises(ValueError, match="data: expected.*at least one"):
            fit_arguments(model(), data, tg.TrainingConfig())


def test_callbacks_are_taken_in_the_forms_in_which_keras_takes_them():
    one = keras.callbacks.Callback()
    assert callback_list(one) == callback_list((one,)) == callback_list([one]) == [one] and callback_list(None) == []
    with pytest.raises(TypeError, match="callbacks: expected a list of Keras callbacks, received int"):
        callback_list(3)


def test_a_file_that_is_damaged_after_its_first_record_is_named(tmp_path):
    file = tmp_path / "x.tfrecord"
    with tf.io.TFRecordWriter(str(file)) as writer:
        for _ in range(4):
            writer.write(X[0].tobytes())
    file.write_bytes(file.read_bytes()[:-3])

    def parse(record):
        row = tf.ensure_shape(tf.io.decode_raw(record, tf.float32), (3,))
        return row, row[:1]

    with pytest.raises(tg.FileError, match="damaged ones.*record"):
        tg.fit(model(), tg.pipeline(file, parse=parse, batch=2), verbose=0)
    with pytest.raises(tg.FileError, match="cannot be filled.*record"):
        tg.pipeline(file, parse=parse, cache=tmp_path / "cache")
