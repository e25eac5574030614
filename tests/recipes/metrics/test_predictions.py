from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfgreen as tg
from tfgreen.errors import TfgreenError
from tfgreen.recipes.metrics.predictions import predictions_of

X = np.random.default_rng(0).normal(size=(11, 3)).astype("float32")


def two_outputs():
    x = keras.Input((3,))
    return keras.Model(x, {"label": keras.layers.Dense(2)(x), "size": keras.layers.Dense(1)(x)})


def test_model_and_file_predict_the_same_of_arrays_and_of_batches():
    model, y = two_outputs(), {"size": np.arange(11.0), "label": np.arange(11) % 2}
    batches = tg.Split(tf.data.Dataset.from_tensor_slices((X, y)).batch(4))
    wanted = {name: np.asarray(part) for name, part in model(X).items()}
    for subject in (model, tg.convert(model)):
        for split in (tg.Split(X, y), batches):
            predictions, targets = predictions_of(subject, split)
            for name in y:
                np.testing.assert_allclose(predictions[name], wanted[name], rtol=1e-5, atol=1e-6)
                np.testing.assert_array_equal(targets[name], y[name])


def test_what_cannot_be_predicted_is_named():
    empty = tg.Split(tf.data.Dataset.from_tensor_slices((X, X)).filter(lambda x, y: False).batch(4))
    with pytest.raises(TfgreenError, match="x_train: expected at least one sample"):
        predictions_of(two_outputs(), empty)
    with pytest.raises(TfgreenError, match="has no targets"):
        predictions_of(two_outputs(), tg.Split(X))
