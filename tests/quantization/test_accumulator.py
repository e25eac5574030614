"""A kernel on integers against the same sums in NumPy's int64."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from tests.quantized import normal, varied
from tfgreen.quantization.accumulator import Accumulator, accumulate, round_to_steps
from tfgreen.quantization.ranges import FixedRange

LOWER, UPPER = -3.0, 3.375
STEP = (UPPER - LOWER) / 255  # 1/40
RANGE = FixedRange(LOWER, UPPER)


def rounded(*shape: int) -> tuple[np.ndarray, np.ndarray]:
    """A float tensor that the range holds, and its integers less the zero point."""
    integers = np.clip(np.round(normal(*shape, count=4) / STEP), -120, 135)
    return (integers * STEP).astype("float32"), integers.astype("int64")


def called(layer: layers.Layer, shape: tuple[int, ...]) -> layers.Layer:
    inputs = keras.Input(shape)
    return varied(keras.Model(inputs, layer(inputs))).layers[-1]


def test_a_dense_layer_sums_integers_exactly_and_rounds_its_bias():
    layer = called(layers.Dense(5), (40,))
    x, integers = rounded(40)
    sums = accumulate(layer, (x,), RANGE, 8, False)
    kernel = layer.kernel.numpy().astype("float64")
    scale = np.abs(kernel).max(0) / 127
    expected = integers @ np.round(kernel / scale).astype("int64")
    np.testing.assert_array_equal(sums.sums, expected)
    bias = np.round(layer.bias.numpy() / (scale * STEP))
    np.testing.assert_allclose(sums.values(), (expected + bias) * scale * STEP, rtol=1e-5, atol=1e-6)


def test_one_scale_for_all_channels():
    layer = called(layers.Dense(5), (40,))
    x, integers = rounded(40)
    sums = accumulate(layer, (x,), RANGE, 8, True)
    kernel = layer.kernel.numpy().astype("float64")
    scale = np.abs(kernel).max() / 127
    np.testing.assert_array_equal(sums.sums, integers @ np.round(kernel / scale).astype("int64"))
    np.testing.assert_allclose(sums.step, [scale * STEP], rtol=1e-6)


KERNELS = {
    "conv": (layers.Conv2D(3, 3, strides=2, padding="same"), (7, 7, 4)),
    "conv groups": (layers.Conv2D(4, 3, groups=2, dilation_rate=2), (7, 7, 4)),
    "conv 1d": (layers.Conv1D(3, 3, use_bias=False), (7, 4)),
    "depthwise": (layers.DepthwiseConv2D(3, depth_multiplier=2), (7, 7, 4)),
    "depthwise 1d": (layers.DepthwiseConv1D(3), (7, 4)),
    "dense of rank 3": (layers.Dense(3), (7, 4)),
}


@pytest.mark.parametrize("layer, shape", KERNELS.values(), ids=KERNELS)
@pytest.mark.parametrize("bits", [8, 4])
def test_sums_are_whole_numbers_that_stand_for_what_the_layer_computes(layer, shape, bits):
    from tfgreen.model.weights import quantizable_weights
    from tfgreen.transforms.fake_quant import FakeQuant

    layer = called(type(layer).from_config(layer.get_config()), shape)
    layer.kernel.assign(FakeQuant(bits, quantizable_weights(layer)["kernel"]).apply(layer.kernel.value))
    x, _ = rounded(*shape)
    sums = accumulate(layer, (x,), RANGE, bits, False)
    np.testing.assert_array_equal(sums.sums, np.round(sums.sums))
    np.testing.assert_allclose(sums.values(), layer(x), atol=float(np.max(sums.step)))


def test_a_norm_is_merged_with_its_moving_statistics_whatever_the_sign_of_its_gain():
    conv = called(layers.Conv2D(4, 3), (6, 6, 3))
    norm = called(layers.BatchNormalization(), (4, 4, 4))
    norm.gamma.assign([1.0, -0.5, 2.0, -1.5])
    x, _ = rounded(6, 6, 3)
    sums = accumulate(conv, (x,), RANGE, 8, False)
    exact = norm(sums.sums * sums.step + conv.bias)
    step = np.abs(np.asarray(sums.step) * norm.gamma.numpy() / np.sqrt(norm.moving_variance.numpy() + norm.epsilon))
    assert (np.abs(sums.normalized(norm) - exact) <= step / 2 + 1e-5).all()


def test_an_empty_channel_has_no_step_and_no_bias():
    np.testing.assert_array_equal(round_to_steps(np.float32([1.0, 0.24]), np.float32([0.0, 0.1])), [0.0, 2.0])
    nothing = Accumulator(np.zeros((1, 2), "float32"), np.float32([0.0, 0.5]), np.float32([1.0, 1.0]))
    np.testing.assert_array_equal(nothing.values(), [[0.0, 1.0]])


class Doubled(layers.Dense):
    def call(self, x):
        return 2.0 * super().call(x)


@pytest.mark.parametrize(
    "layer, shape",
    [(layers.ReLU(), (4,)), (layers.Conv2DTranspose(2, 2), (4, 4, 2)), (Doubled(2), (4,)),
     (layers.Conv1D(2, 2, padding="causal"), (4, 2))],
    ids=["no kernel", "transposed", "own call", "causal"],
)  # fmt: skip
def test_what_cannot_be_summed_in_integers_is_left_to_the_layer(layer, shape):
    assert accumulate(called(layer, shape), (rounded(*shape)[0],), RANGE, 8, False) is None


def test_an_input_that_was_not_rounded_is_left_to_the_layer():
    assert accumulate(called(layers.Dense(2), (4,)), (normal(4),), None, 8, False) is None
