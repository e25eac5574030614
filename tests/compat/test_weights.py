"""Weights under quantizers of the user's own."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from tfgreen.compat.quantization.keras import quantizers as q
from tfgreen.compat.weights import QuantizedWeight, Unrounded


def test_a_weight_passes_through_its_quantizer_and_its_gradient():
    weight = tf.Variable(np.linspace(-1, 1, 12).reshape(3, 4).astype("float32"))
    transform = QuantizedWeight(q.LastValueQuantizer(3, False, True, True))
    transform.build((3, 4))
    with tf.GradientTape() as tape:
        rounded = transform.apply(weight)
        loss = tf.reduce_sum(rounded * 2)
    assert len(np.unique(rounded)) <= 8
    np.testing.assert_allclose(tape.gradient(loss, weight), 2.0)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(transform))
    assert again.quantizer == transform.quantizer


def test_unrounded_is_the_weight():
    assert Unrounded().apply(3.0) == 3.0
