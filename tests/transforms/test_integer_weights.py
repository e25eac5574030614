from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfgreen.transforms.integer_weights import IntegerWeights, Rows, group_scales

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("shape, axes", [((6, 4), (-1,)), ((6, 4), (0,)), ((3, 3, 4, 8), (-1,)), ((6, 2, 4), (1, 2))])
def test_the_matrix_of_a_weight_is_made_a_weight_again(shape, axes):
    weight, rows = RNG.normal(size=shape).astype("float32"), Rows(shape, axes)
    matrix = np.asarray(rows.matrix(weight))
    assert matrix.shape == rows.shape and rows.shape[1] == np.prod([shape[axis] for axis in axes])
    np.testing.assert_array_equal(rows.weight(matrix), weight)


@pytest.mark.parametrize("bits, group_size", [(8, None), (4, 8), (4, None)])
def test_weights_are_rounded_as_numpy_rounds_them_in_float64(bits, group_size):
    weight = RNG.normal(size=(32, 6)).astype("float32")
    rounding = IntegerWeights(bits, (-1,), group_size)
    rounding.build(weight.shape)
    rounding.start_from(weight)
    groups = weight.astype("float64").reshape(-1, group_size or 32, 6)
    scales = np.abs(groups).max(1) / (2 ** (bits - 1) - 1)
    if group_size:
        scales = scales.astype("float16")
    expected = np.rint(groups / scales[:, None]) * scales[:, None].astype("float64")
    np.testing.assert_allclose(rounding.apply(weight), expected.reshape(32, 6), rtol=1e-5)
    assert np.abs(rounding.integers(weight)).max() == 2 ** (bits - 1) - 1


def test_scales_of_groups_are_of_float16_unless_that_lacks_them_and_1_where_all_is_0():
    matrix = np.array([[0.7, 1e-9, 0.0], [0.3, 2e-9, 0.0]], "float32")
    scales = group_scales(matrix, bits=4, group_size=2)[0]
    assert scales[0] == np.float16(0.1) and scales[1] == pytest.approx(2e-9 / 7) and scales[2] == 1
    assert group_scales(matrix, bits=4, group_size=None)[0, 0] == np.float32(0.7) / np.float32(7)


def test_factors_of_inputs_cancel_out_but_for_the_rounding_and_the_gradient_passes():
    weight, factors = RNG.normal(size=(8, 4)).astype("float32"), np.linspace(0.5, 2, 8, dtype="float32")
    rounding = IntegerWeights(8, (-1,), scales_inputs=True)
    rounding.build(weight.shape)
    rounding.start_from(weight, factors)
    np.testing.assert_allclose(rounding.apply(weight), weight, atol=2 * np.abs(weight).max() / 127)
    scaled = weight * factors[:, None]
    scales = np.abs(scaled).max(0) / 127
    np.testing.assert_allclose(rounding.apply(weight), np.rint(scaled / scales) * scales / factors[:, None], rtol=1e-5)
    x = tf.constant(weight)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = tf.reduce_sum(rounding.apply(x) * 3.0)
    np.testing.assert_array_equal(tape.gradient(y, x), np.full(weight.shape, 3.0, "float32"))


def test_its_config_makes_another_one():
    rounding = IntegerWeights(4, (0,), 32, True, "a note", name="rounding")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(rounding))
    assert again.get_config() == rounding.get_config()
