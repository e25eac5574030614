from __future__ import annotations

import keras
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import tfgreen as tg
from tests.quantization.test_rounding import ends, grid
from tfgreen.quantization.histogram import Histogram
from tfgreen.quantization.ranges import ActivationRange, FixedRange, LearnedRange, MovingAverageRange
from tfgreen.quantization.rounding import fake_quantize_between


def built(cls=ActivationRange, lower: float = -1.0, upper: float = 3.0, **settings) -> ActivationRange:
    range_ = cls(**settings)
    range_.build()
    range_.set(lower, upper)
    return range_


@given(ends, st.integers(0, 2**31))
@example((-0.99999, 0.99999), 0)
@example((-1.0, 1.0), 0)
def test_rounding_is_what_the_stored_integers_stand_for(ends, seed):
    lower, upper = ends
    x = np.random.default_rng(seed).uniform(lower - 1, upper + 1, 100).astype("float32")
    ours = keras.ops.convert_to_numpy(built(lower=lower, upper=upper)(x))
    step, zero = grid(lower, upper)
    integers = ours / step + zero
    assert np.abs(integers - np.round(integers)).max() < 1e-2
    assert -128 <= np.round(integers).min() and np.round(integers).max() <= 127
    inside = (x > lower + step) & (x < upper - step)
    assert np.abs(ours - x)[inside].max(initial=0) <= 0.51 * step
    assert keras.ops.convert_to_numpy(built(lower=lower, upper=upper)(np.zeros(1, "float32")))[0] == 0


def test_a_range_is_widened_to_hold_zero_and_is_never_empty():
    for given_, held in (((1.0, 2.0), (0.0, 2.0)), ((-2.0, -1.0), (-2.0, 0.0)), ((0.0, 0.0), (0.0, 1.0))):
        assert tuple(built(lower=given_[0], upper=given_[1]).numbers()) == held


def test_the_moving_average_follows_the_share_of_the_extremes_that_calibration_took():
    histogram = Histogram()
    values = np.random.default_rng(0).normal(size=100_000).astype("float32")
    values[0] = 40.0
    histogram.add(values)
    range_ = built(MovingAverageRange, momentum=0.9)
    range_.start_from(histogram, "percentile")
    lower, upper = range_.numbers()
    assert upper < 5 and lower > -5
    low, high = float(values.min()), 40.0
    for _ in range(3):
        range_.follow(keras.ops.convert_to_tensor(2 * values))
    expected = [
        0.9**3 * end + (1 - 0.9**3) * 2 * extreme * (end / extreme) for end, extreme in ((lower, low), (upper, high))
    ]
    np.testing.assert_allclose(range_.numbers(), expected, rtol=1e-5)
    np.testing.assert_allclose(range_.moved_by(np.array([lower, upper]), 3), [2 * low, 2 * high], rtol=1e-4)


def test_a_batch_of_nothing_but_zeros_leaves_a_range_as_it_is_and_one_of_other_numbers_moves_it():
    range_ = built(MovingAverageRange, 0.0, 1.0)
    range_.catches_up = True
    range_.follow(keras.ops.zeros((4,)))
    assert tuple(range_.numbers()) == (0.0, 1.0)
    range_.follow(keras.ops.convert_to_tensor([-0.01, 0.02]))
    np.testing.assert_allclose(range_.numbers(), [-0.01, 0.02])


def test_a_learned_range_has_the_gradients_of_the_paper():
    import tensorflow as tf

    rng = np.random.default_rng(0)
    x, upstream = rng.normal(size=(50, 8)), rng.normal(size=(50, 8))
    range_ = built(LearnedRange, -1.0, 1.5)
    range_.width.assign(1.2)
    range_.follow(None)
    np.testing.assert_allclose(range_.numbers(), [-1.2, 1.8], rtol=1e-6)
    variable = tf.Variable(x.astype("float32"))
    with tf.GradientTape() as tape:
        y = range_(variable)
        loss = tf.reduce_sum(y * upstream.astype("float32"))
    by_x, by_width = tape.gradient(loss, [variable, range_.width.value])
    lower, upper = -1.2, 1.8
    inside = (x >= lower) & (x <= upper)
    rounded = keras.ops.convert_to_numpy(y).astype("float64")
    slope = np.where(inside, rounded - x, np.where(x > upper, rounded.max(), rounded.min())) / 1.2
    np.testing.assert_allclose(by_x, upstream * inside, atol=1e-6)
    np.testing.assert_allclose(by_width, (upstream * slope).sum() / np.sqrt(8 * 255), rtol=1e-4)  # 8 features


def test_a_learned_range_is_rounded_to_as_it_was_followed_last_whatever_the_optimizer_does():
    range_ = built(LearnedRange, -1.0, 1.5)
    range_.width.assign(2.0)
    assert tuple(range_.numbers()) == (-1.0, 1.5)
    range_.follow(None)
    assert tuple(range_.numbers()) == (-2.0, 3.0)


def test_fixed_ranges_have_no_variables_do_not_move_and_clip_while_calibrating():
    range_ = FixedRange(0.0, 4.0)
    range_.build()
    range_.set(-9.0, 9.0)
    assert not range_.variables and range_.ends() == (0.0, 4.0)
    range_.recorder = Histogram()
    np.testing.assert_array_equal(range_(np.array([-1.0, 2.003, 9.0], "float32")), np.float32([0.0, 2.003, 4.0]))


def test_what_is_recorded_passes_as_it_is():
    range_ = built()
    range_.recorder = Histogram()
    x = keras.ops.convert_to_tensor(np.float32([-7.0, 0.123, 9.0]))
    y = range_(x)
    np.testing.assert_array_equal(x, y)
    assert (range_.recorder.lower, range_.recorder.upper) == (-7.0, 9.0)


def test_float16_tensors_are_rounded_in_float32_and_handed_back_in_float16():
    x = keras.ops.convert_to_tensor(np.linspace(-1, 3, 9).astype("float16"))
    y = built()(x)
    assert keras.backend.standardize_dtype(y.dtype) == "float16"
    exact = keras.ops.convert_to_numpy(fake_quantize_between(keras.ops.cast(x, "float32"), -1.0, 3.0))
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(y), exact.astype("float16"))


@pytest.mark.parametrize("end", [0.99999, 1.0, 2.5])
def test_a_symmetric_range_has_its_zero_in_the_file_where_it_has_it_in_training(end):
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(4, kernel_initializer="identity", name="out")(inputs))
    x = np.random.default_rng(0).uniform(-end - 0.1, end + 0.1, (256, 4)).astype("float32")
    quantized = tg.quantize(model, calibration_data=x, input_range=(-end, end), output_range=(-end, end))
    np.testing.assert_allclose(tg.convert(quantized, quantization="int8").predict(x), quantized(x), atol=end * 1e-5)
