"""TFMOT's quantizers, beside its own where it is right."""

from __future__ import annotations

import subprocess
import sys
import tempfile

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfgreen.compat.quantization.keras import quantizers as q
from tfgreen.compat.ranges import NamedWeights

X = np.linspace(-1.0, 3.0, 41, dtype="float32").reshape(1, 41)


def run(quantizer: q.Quantizer, *batches: np.ndarray, training: bool = True) -> np.ndarray:
    layer = keras.layers.Layer()
    state = quantizer.build(tf.TensorShape(batches[0].shape), "x", NamedWeights(layer))
    return np.asarray([quantizer(tf.constant(batch), training, weights=state) for batch in batches][-1])


@pytest.mark.slow
def test_last_value_is_that_of_tfmot():
    code = """
import sys, numpy as np, tensorflow as tf
from tensorflow_model_optimization.python.core.quantization.keras.quantizers import LastValueQuantizer
import tf_keras
x = np.linspace(-1.0, 3.0, 41, dtype="float32").reshape(1, 41)
for symmetric in (False, True):
    for narrow in (False, True):
        quantizer = LastValueQuantizer(num_bits=4, per_axis=False, symmetric=symmetric, narrow_range=narrow)
        weights = quantizer.build(tf.TensorShape(x.shape), "x", tf_keras.layers.Layer())
        np.save(f"{sys.argv[1]}/{symmetric}{narrow}.npy", quantizer(tf.constant(x), True, weights=weights))
"""
    with tempfile.TemporaryDirectory() as folder:  # in a process apart: importing TFMOT turns tf.keras into Keras 2
        subprocess.run([sys.executable, "-W", "ignore", "-c", code, folder], check=True, capture_output=True)
        for symmetric in (False, True):
            for narrow in (False, True):
                expected = np.load(f"{folder}/{symmetric}{narrow}.npy")
                found = run(q.LastValueQuantizer(4, False, symmetric, narrow), X)
                np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("cls", "upper"), [(q.LastValueQuantizer, 1.0), (q.MovingAverageQuantizer, 1.99), (q.AllValuesQuantizer, 2.0)],
    ids=["last", "average", "all"],
)
def test_where_the_ends_go(cls, upper):
    quantizer, layer = cls(8, False, False, False), keras.layers.Layer()
    state = quantizer.build(tf.TensorShape((3,)), "x", NamedWeights(layer))
    batch = tf.constant([-1.0, 0.5, 1.23456])
    np.testing.assert_array_equal(quantizer(batch, False, state), batch)  # no training batch has come
    for top in (2.0, 1.0):
        quantizer(tf.constant([-1.0, 0.5, top]), True, state)
    assert float(state["max_var"].value) == pytest.approx(upper)
    assert [variable.name for variable in layer.weights] == ["x_min", "x_max"]


@pytest.mark.parametrize("rank", [2, 3, 5])
def test_per_axis_has_ends_for_each_index_of_the_last_axis(rank):
    x = np.zeros((*[2] * (rank - 1), 2), "float32")
    x[..., 0], x[..., 1] = np.linspace(0.1, 1, 2 ** (rank - 1)).reshape(x.shape[:-1]), 100.0
    found = run(q.LastValueQuantizer(8, True, True, True), x)
    np.testing.assert_allclose(found[..., 0], np.round(x[..., 0] * 127) / 127, atol=1e-6)


def test_fixed_uses_its_bits_and_checks_its_ends():
    assert len(np.unique(run(q.FixedQuantizer(4, -1.0, 3.0, False), X))) == 16
    with pytest.raises(ValueError, match="init_min <= 0 <= init_max"):
        q.FixedQuantizer(8, 1.0, 2.0, False)
    with pytest.raises(ValueError, match="num_bits"):
        q.LastValueQuantizer(1, False, True, True)


def test_equal_settings_are_equal_and_survive_serialization():
    one = q.MovingAverageQuantizer(num_bits=8, per_axis=False, symmetric=False, narrow_range=False)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(one))
    assert again == one and hash(again) == hash(one) and one != q.AllValuesQuantizer(8, False, False, False)
    assert q.LastValueQuantizer.from_config(one.get_config()).num_bits == 8
