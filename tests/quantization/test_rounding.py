from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

import tfgreen as tg
from tfgreen.quantization.rounding import fake_quantize_between, relu_of, round_average, round_relu

ends = st.tuples(st.floats(-50, 0, width=32), st.floats(0.125, 50, width=32))


def grid(lower: float, upper: float) -> tuple[float, int]:
    """Step and integer of zero for 8 bits, as TensorFlow's rounding computes them: in float32, halves upwards, which
    decides where a range is symmetric."""
    lower, upper = np.float32(lower), np.float32(upper)
    step = (upper - lower) / np.float32(255)
    return float(step), int(np.floor(-lower / step + np.float32(0.5))) - 128


@given(ends, st.integers(0, 2**31))
def test_averages_are_rounded_as_litert_does_halves_away_from_integer_zero(ends, seed):
    lower, upper = ends
    step, zero = grid(lower, upper)
    integers = np.random.default_rng(seed).integers(-128, 128, (50, 4))
    x = ((integers - zero) * step).astype("float32").mean(1)
    ours = keras.ops.convert_to_numpy(round_average(x, lower, upper)) / step + zero
    total = integers.sum(1)
    expected = np.sign(total) * ((np.abs(total) + 2) // 4)  # what the kernel computes on the sums
    np.testing.assert_allclose(ours, expected, atol=0.02)


@pytest.mark.parametrize("relu, top", [("relu", 2.0), ("relu", 0.37), ("relu6", 2.0), ("relu6", 6.0), ("relu6", 9.0)])
@pytest.mark.parametrize("lower", [0.0, -0.5])
def test_a_relu_and_the_rounding_of_its_output_have_the_gradient_of_the_two(relu, top, lower):
    rng = np.random.default_rng(0)
    x = np.concatenate([np.linspace(-1, 10, 4001), [0.0, -0.0, 6.0, 1e-30, top / 2]]).astype("float32")
    upstream = rng.normal(size=x.shape).astype("float32")

    def gradient_of(rounding):
        @tf.function
        def run(x):
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = rounding(getattr(tf.nn, relu)(x))
            return y, tape.gradient(y, x, upstream)

        return [value.numpy() for value in run(tf.constant(x))]

    def together(positive):
        return round_relu(relu_of(tf.stop_gradient(positive)), tf.constant(lower), tf.constant(top), 8)

    found = gradient_of(together)
    expected = gradient_of(lambda positive: fake_quantize_between(positive, tf.constant(lower), tf.constant(top)))
    for one, other in zip(found, expected):
        np.testing.assert_array_equal(one, other)
    assert 0 < np.count_nonzero(found[1]) < len(x)


def test_a_quantized_network_trains_the_same_whether_its_relus_are_seen_in_a_graph_or_not():
    layers = keras.layers
    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).normal(size=(32, 8, 8, 3)).astype("float32")
    model = keras.Sequential(
        [keras.Input((8, 8, 3)), layers.Conv2D(4, 3, activation="relu"), layers.Conv2D(4, 3), layers.ReLU(6.0),
         layers.Flatten(), layers.Dense(3)]
    )  # fmt: skip
    trained = []
    for eagerly in (False, True):
        quantized = tg.quantize(model, calibration_data=x)
        quantized.compile("sgd", "mse", run_eagerly=eagerly)
        quantized.fit(x, x[:, 0, 0], epochs=3, batch_size=16, shuffle=False, verbose=0)
        trained.append(quantized.get_weights())
    for one, other in zip(*trained):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_the_least_of_a_relu_is_not_looked_for():
    x = np.ones((4, 8), "float32")
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, activation="relu")])
    quantized = tg.quantize(model, calibration_data=x)
    graph = tf.function(lambda x: quantized(x, training=True)).get_concrete_function(x).graph
    kinds = [operation.type for operation in graph.get_operations()]
    assert kinds.count("Min") == 1  # of the input
