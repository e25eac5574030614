import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers, ops

import tfgreen as tg
from tests.transformers import LENGTH
from tfgreen.deploy.conversion import finish
from tfgreen.deploy.storage.integer_constants import integer_scales


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 12), st.integers(1, 200), st.integers(1, 127), st.floats(-30, 30))
def test_integers_times_a_scale_come_back(seed, rows, columns, largest, exponent):
    rng = np.random.default_rng(seed)
    integers = rng.integers(-largest, largest + 1, (rows, columns))
    values = (integers * rng.uniform(1, 2, (rows, 1)) * 2.0**exponent).astype(np.float32)
    scales = integer_scales(values)
    assert scales is not None and scales.dtype == np.float32
    codes = np.round(values / scales[:, None])
    assert np.abs(codes).max() <= 127
    np.testing.assert_allclose(codes * scales[:, None], values, rtol=1e-5)


def test_other_numbers_do_not_pass_for_integers():
    rng = np.random.default_rng(0)
    assert integer_scales(rng.normal(size=(4, 256)).astype(np.float32)) is None
    assert integer_scales(np.arange(-200, 201, dtype=np.float32)[None]) is None  # of more than 8 bits
    assert integer_scales(np.array([[1.0, np.inf], [1.0, 2.0]], np.float32)) is None
    np.testing.assert_array_equal(integer_scales(np.zeros((2, 9), np.float32)), [1, 1])


@keras.saving.register_keras_serializable("tests")
class Biased(layers.Layer):
    """Scores of pairs of places, plus a bias that is looked up by their distance: as T5 has it."""

    def build(self, shape):
        self.query = layers.Dense(shape[-1], use_bias=False)
        self.query.build(shape)
        self.distances = self.add_weight(shape=(2 * shape[1], 4), name="embeddings", initializer="random_normal")

    def call(self, x):
        count = x.shape[1]
        places = ops.arange(count)[None] - ops.arange(count)[:, None] + count
        bias = ops.transpose(ops.take(self.distances, places, axis=0), (2, 0, 1))
        heads = ops.transpose(ops.reshape(self.query(x), (-1, count, 4, x.shape[-1] // 4)), (0, 2, 1, 3))
        weights = ops.softmax(ops.matmul(heads, ops.transpose(heads, (0, 1, 3, 2))) + bias)
        return ops.reshape(ops.transpose(ops.matmul(weights, heads), (0, 2, 1, 3)), (-1, count, x.shape[-1]))


def _trained(model: keras.Model, x: np.ndarray) -> keras.Model:
    model = tg.quantize(model, calibration_data=x)
    model.compile("adam", "mse")
    model.fit(x, model.predict(x, verbose=0) * 0, verbose=0)
    return model


def _floats(lite: tg.LiteRTModel) -> int:
    return max((weight.values.size for weight in lite.weights.values() if weight.values.dtype == np.float32), default=0)


def test_a_table_of_biases_by_distance_is_stored_as_it_was_rounded(monkeypatch):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((LENGTH, 48)), Biased(), layers.Dense(3)])
    x = np.random.default_rng(0).normal(size=(64, LENGTH, 48)).astype("float32")
    trained = _trained(model, x)
    lite = tg.convert(trained, quantization="int8")
    assert _floats(lite) < 1024
    monkeypatch.setattr(finish, "store_constants", lambda file: 0)
    before = tg.convert(trained, quantization="int8")
    assert _floats(before) == 4 * LENGTH * LENGTH
    assert lite.size_bytes < before.size_bytes - 2 * 4 * LENGTH * LENGTH
    step = np.ptp(before.predict(x)) / 255
    assert np.abs(lite.predict(x) - before.predict(x)).max() <= 1.01 * step
    [table] = [w.real for w in lite.weights.values() if w.values.size == 4 * LENGTH * LENGTH]
    stored = [w.values for w in before.weights.values() if w.values.size == table.size]
    np.testing.assert_allclose(table.reshape(-1), stored[0].reshape(-1), rtol=1e-5)


IN_FLOAT = {
    "LSTM": lambda: [keras.Input((5, 16)), layers.LSTM(32)],
    "GRU": lambda: [keras.Input((5, 16)), layers.GRU(32, reset_after=False)],
    "Conv3D": lambda: [keras.Input((6, 6, 6, 8)), layers.Conv3D(16, 3), layers.GlobalAveragePooling3D()],
}


@pytest.mark.parametrize("name", IN_FLOAT)
def test_kernels_of_layers_that_compute_in_float_are_integers(name):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([*IN_FLOAT[name](), layers.Dense(3)])
    x = np.random.default_rng(0).normal(size=(32, *model.input_shape[1:])).astype("float32")
    trained = _trained(model, x)
    lite = tg.convert(trained, quantization="int8")
    assert {"LSTM": "FULLY_CONNECTED", "GRU": "FULLY_CONNECTED", "Conv3D": "CONV_3D"}[name] in lite.float_operators
    assert _floats(lite) < 1024
    assert tg.verify(trained, lite, x).passed


def test_a_layer_that_is_to_stay_float_keeps_its_floats():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((64,)), layers.Dense(64, name="kept"), layers.Dense(64), layers.Dense(3)])
    x = np.random.default_rng(0).normal(size=(64, 64)).astype("float32")
    lite = tg.convert(tg.quantize(model, calibration_data=x, keep_float=("kept",)), quantization="int8")
    kernels = [w.values for w in lite.weights.values() if w.values.dtype == np.float32 and w.values.ndim == 2]
    np.testing.assert_array_equal(kernels[0], model.get_layer("kept").kernel.numpy().T)


def test_a_microcontroller_that_reads_one_scale_is_an_error():
    """What ``tflite-micro``'s interpreter computes of such a file is far off, and it says nothing."""
    model = keras.Sequential([keras.Input((5, 16)), layers.LSTM(32), layers.Dense(3)])
    x = np.random.default_rng(0).normal(size=(32, 5, 16)).astype("float32")
    trained = tg.quantize(model, calibration_data=x)
    (finding,) = tg.check_target(tg.convert(trained, quantization="int8"), "tflm")
    assert finding.severity == "error" and "reads one scale of a tensor" in finding.message
    assert "calibration_data" in finding.fix
    assert not tg.check_target(tg.convert(trained, quantization="int8", calibration_data=x), "tflm")
