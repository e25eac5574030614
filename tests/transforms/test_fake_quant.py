from __future__ import annotations

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tfgreen.transforms.fake_quant import FakeQuant, fake_quantize, symmetric_scale

weights = hnp.arrays(
    np.float32, hnp.array_shapes(min_dims=2, max_dims=4, max_side=5), elements=st.floats(-8, 8, width=32)
)


def reference(weight: np.ndarray, bits: int, axis: int | None) -> np.ndarray:
    """Symmetric rounding in float64."""
    top = 2 ** (bits - 1) - 1
    reduced = None if axis is None else tuple(i for i in range(weight.ndim) if i != axis % weight.ndim)
    scale = np.abs(weight).max(axis=reduced, keepdims=True).astype("float64") / top
    scale = np.where(scale > 0, scale, 1.0)
    return np.round(weight / scale) * scale


@given(weights, st.integers(2, 8), st.sampled_from([None, -1, 0]))
def test_rounding_equals_a_float64_reference_up_to_one_step_at_halves(weight, bits, axis):
    scale = keras.ops.convert_to_numpy(symmetric_scale(weight, bits, axis))
    ours = keras.ops.convert_to_numpy(fake_quantize(weight, scale))
    steps = np.abs(ours - reference(weight, bits, axis)) / scale
    near_half = np.abs(np.abs(weight / scale) % 1 - 0.5) < 1e-3
    assert steps[~near_half].max(initial=0) < 1e-3
    assert steps.max(initial=0) < 1 + 1e-3


@given(weights, st.integers(2, 8))
def test_levels_are_narrow_and_zero_stays_zero(weight, bits):
    scale = symmetric_scale(weight, bits)
    integers = keras.ops.convert_to_numpy(fake_quantize(weight, scale) / scale)
    assert np.abs(integers).max() <= 2 ** (bits - 1) - 1 + 1e-3
    assert (integers[weight == 0] == 0).all()


def test_the_gradient_passes_straight_through():
    import tensorflow as tf

    quant = FakeQuant(bits=4, axis=-1)
    weight = tf.Variable(np.random.default_rng(0).normal(size=(3, 2)).astype("float32"))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(quant.apply(weight) * tf.constant([[1.0, 2.0]]))
    np.testing.assert_array_equal(tape.gradient(loss, weight), [[1, 2]] * 3)


@pytest.mark.parametrize("bits", [1, 9, 3.5])
def test_bits_that_cannot_be_stored_are_an_error(bits):
    with pytest.raises(ValueError, match="bits.*2 to 8"):
        FakeQuant(bits=bits)
