"""The rounding of biases against NumPy in float64, and the export of a kernel of one scale under a norm."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import tfgreen as tg
from tests.quantized import error_in_scales, in_int8, normal, quantized, varied
from tfgreen.quantization.activation_quantizer import range_before
from tfgreen.quantization.histogram import Histogram
from tfgreen.quantization.kernels import (
    can_share_scale,
    fused_kernel,
    fused_norm,
    round_in_accumulator,
    weight_rounding,
)
from tfgreen.quantization.ranges import FixedRange
from tfgreen.transforms.base import Chain
from tfgreen.transforms.compressed import Compressed
from tfgreen.transforms.exporting import exporting
from tfgreen.transforms.fake_quant import FakeQuant

RANGE = FixedRange(-3.0, 3.375)
STEP = 6.375 / 255  # 1/40


def kernel_of(layer: layers.Layer, shape: tuple[int, ...], bits: int = 8, axes=(-1,)) -> Compressed:
    inputs = keras.Input(shape)
    layer = varied(keras.Model(inputs, layer(inputs))).layers[-1]
    return Compressed(layer, [Chain("kernel", [FakeQuant(bits, axes)])])


def off_grid(value: np.ndarray, scale: np.ndarray) -> float:
    return float(np.abs(value / scale - np.round(value / scale)).max())


KERNELS = {
    "dense": (layers.Dense(5), (40,), (-1,)),
    "conv": (layers.Conv2D(4, 3, groups=2), (7, 7, 4), (-1,)),
    "conv 1d, causal": (layers.Conv1D(3, 3, padding="causal"), (7, 4), (-1,)),
    "depthwise": (layers.DepthwiseConv2D(3, depth_multiplier=2), (7, 7, 4), (-2, -1)),
    "one scale": (layers.Dense(5), (40,), ()),
}


@pytest.mark.parametrize("layer, shape, axes", KERNELS.values(), ids=KERNELS)
@pytest.mark.parametrize("bits", [8, 4])
def test_a_kernel_makes_whole_multiples_of_the_accumulators_scale(layer, shape, axes, bits):
    kernel = kernel_of(type(layer).from_config(layer.get_config()), shape, bits, axes)
    weight = kernel.layer.kernel.numpy().astype("float64")
    reduced = tuple(axis for axis in range(weight.ndim) if axis - weight.ndim not in axes)
    scale = (np.abs(weight).max(reduced) / (2 ** (bits - 1) - 1)).reshape(-1) * STEP
    x = keras.ops.convert_to_numpy(RANGE(normal(*shape)))
    y = keras.ops.convert_to_numpy(kernel(x))
    ours = keras.ops.convert_to_numpy(round_in_accumulator(y, kernel, RANGE))
    assert off_grid(ours, scale) < 0.02 < off_grid(y, scale)
    bias = kernel.layer.bias.numpy()
    change = np.round(bias / scale) * scale - bias
    np.testing.assert_allclose(ours, y + change, atol=0.02 * float(scale.max()))


def test_a_fused_norm_makes_multiples_of_the_scale_times_the_gain_whatever_its_sign():
    kernel = kernel_of(layers.Conv2D(4, 3), (6, 6, 3))
    norm = varied(keras.Sequential([keras.Input((4, 4, 4)), layers.BatchNormalization()])).layers[0]
    norm.gamma.assign([1.0, -0.5, 2.0, 0.0])
    gain = norm.gamma.numpy() / np.sqrt(norm.moving_variance.numpy() + norm.epsilon)
    scale = np.abs(kernel.layer.kernel.numpy()).max((0, 1, 2)) / 127 * STEP * np.abs(gain)
    y = keras.ops.convert_to_numpy(norm(kernel(RANGE(normal(6, 6, 3)))))
    ours = keras.ops.convert_to_numpy(round_in_accumulator(y, kernel, RANGE, norm=norm))
    assert off_grid(ours[..., :3], scale[:3]) < 0.02
    assert (np.abs(ours - y) <= scale * 0.51).all()  # nothing where the gain is 0


class Doubled(layers.Dense):
    def call(self, x):
        return 2.0 * super().call(x)


UNKNOWN = {
    "no kernel": (layers.ReLU(), (4,)),
    "transposed": (layers.Conv2DTranspose(2, 2), (4, 4, 2)),
    "own call": (Doubled(2), (4,)),
    "channels first": (layers.Conv2D(2, 2, data_format="channels_first"), (3, 4, 4)),
}


@pytest.mark.parametrize("layer, shape", UNKNOWN.values(), ids=UNKNOWN)
def test_what_has_no_such_accumulator_is_left_as_it_is(layer, shape):
    inputs = keras.Input(shape)
    layer = keras.Model(inputs, layer(inputs)).layers[-1]
    chains = [Chain("kernel", [FakeQuant()])] if hasattr(layer, "kernel") else []
    x = normal(3)
    assert round_in_accumulator(x, Compressed(layer, chains), RANGE) is x


@pytest.mark.slow
def test_a_deep_network_computes_what_its_file_does_to_the_bit():
    """One value in 100,000 that is rounded the other way would become scales of difference at the end."""
    inputs = x = keras.Input((12, 12, 3))
    for _ in range(8):
        y = layers.BatchNormalization()(layers.Conv2D(24, 1, use_bias=False)(x))
        y = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(layers.Activation("silu")(y))
        y = layers.Activation("silu")(layers.BatchNormalization()(y))
        x = layers.Add()([layers.Conv2D(24, 1)(y), y])
    model, data = varied(keras.Model(inputs, x)), normal(12, 12, 3)
    trained = quantized(model, data)
    assert error_in_scales(trained, in_int8(trained), data) < 1e-4


def test_without_a_range_of_8_bits_or_a_rounded_kernel_nothing_is_known():
    kernel, x = kernel_of(layers.Dense(2), (4,)), normal(2)
    assert round_in_accumulator(x, kernel, None) is x
    assert round_in_accumulator(x, kernel, FixedRange(-1.0, 1.0, bits=16)) is x
    assert round_in_accumulator(x, Compressed(kernel.layer, []), RANGE) is x


def test_a_fused_kernel_computes_what_its_integers_do():
    """Against the sums of integers in NumPy's int64."""
    x = normal(6, 6, 3, count=8)
    stack = [layers.Conv2D(4, 6, name="conv"), layers.BatchNormalization(name="norm")]
    model = varied(keras.Sequential([keras.Input((6, 6, 3)), *stack]))
    model = quantized(model, x)
    kernel, norm = model.get_layer("conv"), model.get_layer("norm")
    norm.activations.output_range.recorder = Histogram()  # so that the output is not rounded
    source = kernel.activations.input_ranges[0]
    lower, upper = source.numbers().astype("float64")
    step = (upper - lower) / 255
    integers = np.round(keras.ops.convert_to_numpy(source(x)) / step).astype("int64")
    weight = keras.ops.convert_to_numpy(kernel.layer.kernel.value).astype("float64")
    scale = np.abs(weight).max((0, 1, 2)) / 127
    sums = integers.reshape(8, -1) @ np.round(weight / scale).astype("int64").reshape(-1, 4)
    gain = norm.layer.gamma.numpy() / np.sqrt(norm.layer.moving_variance.numpy() + norm.layer.epsilon)
    bias = (kernel.layer.bias.numpy() - norm.layer.moving_mean.numpy()) * gain + norm.layer.beta.numpy()
    accumulator = scale * step * np.abs(gain)
    expected = (sums * np.sign(gain) + np.round(bias / accumulator)) * accumulator
    ours = keras.ops.convert_to_numpy(model(x)).reshape(8, 4)
    assert (np.abs(ours - expected) < 0.05 * accumulator).all()


def branches() -> keras.Model:
    """``a`` and the norm after it; ``b`` with two norms; ``c``, called twice."""
    inputs = keras.Input((8, 8, 4))
    a, b, c = (layers.Conv2D(4, 3, padding="same", name=name) for name in "abc")
    x = layers.BatchNormalization(name="norm_a")(layers.Dropout(0.1)(a(inputs)))
    y = b(inputs)
    y = [layers.BatchNormalization(name=name)(y) for name in ("norm_b", "norm_c")]
    return varied(keras.Model(inputs, layers.Add()([x, *y, c(layers.ReLU()(c(inputs)))])))


def test_neighbours_are_read_off_the_graph_after_saving_too(tmp_path):
    model = quantized(branches(), normal(8, 8, 4))
    model.save(tmp_path / "m.keras")
    pruned = tg.prune(model, tg.PruneConfig(schedule=tg.ConstantSparsity(0.5, begin_step=0)))
    for one in (model, keras.models.load_model(tmp_path / "m.keras"), pruned):
        a, norm = one.get_layer("a"), one.get_layer("norm_a")
        assert fused_norm(a) is norm and fused_kernel(norm) is a
        assert fused_norm(one.get_layer("b")) is None and fused_norm(one.get_layer("c")) is None
        assert range_before(a) is a.activations.input_ranges[0]
        assert range_before(norm) is None  # what a fused kernel makes is not rounded


def test_the_range_before_a_layer_is_found_past_pass_through_layers():
    model = keras.Sequential([
        keras.Input((8, 8, 3)), layers.Conv2D(4, 3, activation="relu", name="conv"), layers.MaxPooling2D(),
        layers.Flatten(), layers.Dropout(0.1), layers.Dense(3, name="out"), layers.Dense(2, name="last"),
    ])
    model = quantized(model, normal(8, 8, 3), keep_float=("last",))
    conv, out = model.get_layer("conv"), model.get_layer("out")
    assert range_before(out) is conv.activations.output_range
    assert range_before(model.get_layer("last")) is out.activations.output_range
    conv.activations.output_range.recorder = object()  # while it is calibrated its ends mean nothing
    assert range_before(out) is None


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(8, 8, 4), (9, 9, 4)])
def test_a_kernel_of_one_scale_is_exported_fused_and_computes_the_same(shape):
    x = normal(*shape)
    stack = [layers.Conv2D(6, 3, name="conv"), layers.BatchNormalization(name="norm")]
    model = varied(keras.Sequential([keras.Input(shape), *stack]))
    model.get_layer("norm").gamma.assign([1.0, -0.5, 2.0, 0.3, -1.0, 0.7])
    result = tg.quantize(tg.cluster(model, tg.ClusterConfig(number_of_clusters=8)), calibration_data=x)
    kernel = result.get_layer("conv")
    assert weight_rounding(kernel).axes == () and can_share_scale(kernel.layer)
    with exporting():
        fused = keras.ops.convert_to_numpy(result(x))
    lite = in_int8(result)
    scale = lite.output_scales["norm"]
    assert np.abs(fused - result.predict(x, verbose=0)).max() <= 1.01 * scale
    assert np.abs(lite.predict(x) - result.predict(x, verbose=0)).mean() <= 0.05 * scale
    (weight,) = lite.weights.values()
    assert len(np.unique(np.abs(weight.values))) <= 8
