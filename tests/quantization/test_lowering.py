"""The operations that LiteRT makes of one layer, run apart, compute what the layer does."""

from __future__ import annotations

import functools

import keras
import numpy as np
import pytest
from keras import layers

import tfgreen as tg
from tests.quantized import normal, varied
from tfgreen.quantization.lowering import (
    ACTIVATIONS,
    OBSERVED,
    SIGNED_UNIT,
    UNIT,
    Lowering,
    as_constant,
    lowering_of,
    without_activation,
)


def called(layer: layers.Layer, *inputs: np.ndarray) -> layers.Layer:
    x = [keras.Input(one.shape[1:]) for one in inputs]
    return varied(keras.Model(x, layer(x if len(x) > 1 else x[0]))).layers[-1]


IMAGE, ROW = normal(6, 6, 4, count=8), normal(9, 4, count=8)
RUN = {
    "separable": (layers.SeparableConv2D(3, 3, 2, activation="relu"), IMAGE),
    "separable 1d": (layers.SeparableConv1D(3, 3, padding="same", dilation_rate=2), ROW),
    "silu inside": (layers.Conv2D(3, 3, activation="silu"), IMAGE),
    "hard_sigmoid inside": (layers.Dense(3, activation="hard_sigmoid"), ROW),
    "gelu inside": (layers.DepthwiseConv2D(3, activation="gelu"), IMAGE),
    "transposed": (layers.Conv1DTranspose(3, 3, strides=2, activation="relu"), ROW),
    "silu": (layers.Activation("silu"), IMAGE),
    "hard_sigmoid": (layers.Activation("hard_sigmoid"), IMAGE),
    "norm": (layers.BatchNormalization(), IMAGE),
    "norm without scale and centre": (layers.BatchNormalization(axis=1, scale=False, center=False), IMAGE),
    "rescaling": (layers.Rescaling(1 / 127.5, offset=-1.0), IMAGE),
    "rescaling by channel": (layers.Rescaling([0.1, 0.2, 0.3, 0.4], offset=[1.0, 2.0, 3.0, 4.0]), IMAGE),
    "normalization": (layers.Normalization(mean=[0.1, 0.2, 0.3, 0.4], variance=[1.0, 2.0, 3.0, 4.0]), IMAGE),
}


@pytest.mark.parametrize("layer, x", RUN.values(), ids=RUN)
def test_the_operators_without_rounding_are_the_layer(layer, x, monkeypatch):
    monkeypatch.setattr("tfgreen.quantization.lowering.fake_quantize_between", lambda x, lower, upper: x)
    layer = called(type(layer).from_config(layer.get_config()), x)
    lowering = lowering_of(layer)
    asked = []
    ours = lowering.run(layer, lambda index, value: asked.append(index) or value, (keras.ops.convert_to_tensor(x),), {})
    np.testing.assert_allclose(ours, layer(x), atol=1e-5)
    assert asked == list(range(len(lowering.inside)))


@pytest.mark.parametrize(
    "cls, count", [(layers.Add, 3), (layers.Multiply, 4), (layers.Average, 2), (layers.Average, 3)]
)
def test_merging_several_tensors_is_pairwise(cls, count):
    inputs = [normal(4, seed=seed) for seed in range(count)]
    layer = called(cls(), *inputs)
    lowering = lowering_of(layer, count)
    assert len(lowering.inside) == count - (1 if cls is layers.Average else 2)
    asked = []
    ours = lowering.run(layer, lambda index, value: asked.append(index) or value, (inputs,), {})
    np.testing.assert_allclose(ours, layer(inputs), atol=1e-5)
    assert asked == list(range(len(lowering.inside)))
    assert lowering_of(layers.Add(), 2) == Lowering() == lowering_of(layers.Multiply(), 1)


@pytest.mark.parametrize("name", ["softmax", "sigmoid", "tanh", "hard_sigmoid"])
def test_fixed_ranges_are_those_that_the_converter_gives(name):
    from tests.quantized import in_int8, quantized

    x = normal(6)
    layer = layers.Dense(4, activation=name)
    lite = in_int8(quantized(keras.Sequential([keras.Input((6,)), layer]), x))
    lower, upper = lowering_of(layer).output
    (step,) = lite.output_scales.values()
    assert step == pytest.approx((upper - lower) / 255, rel=1e-5)
    assert ACTIVATIONS[keras.activations.get(name)].output in (UNIT, SIGNED_UNIT, (0.0, 1.0))


def test_a_norm_in_training_uses_the_batch_and_rounds_the_product():
    layer = called(layers.BatchNormalization(), IMAGE)
    x = keras.ops.convert_to_tensor(IMAGE)
    mean, variance = layer.moving_mean.numpy(), layer.moving_variance.numpy()
    seen = []
    ours = lowering_of(layer).run(layer, lambda index, value: seen.append(value) or value, (x,), {"training": True})
    layer.moving_mean.assign(mean), layer.moving_variance.assign(variance)
    np.testing.assert_allclose(ours, layer(x, training=True), atol=1e-5)
    assert len(seen) == 1


def test_a_relu_with_a_bound_is_a_range_that_ends_there():
    assert lowering_of(layers.ReLU(4.0)).output == (0.0, 4.0)
    for plain in (layers.ReLU(), layers.ReLU(6.0), layers.ReLU(4.0, negative_slope=0.1), layers.ReLU(threshold=1.0)):
        assert lowering_of(plain).output == OBSERVED


def test_constants_are_rounded_between_their_extremes_and_zero():
    value = np.float32([0.2, 0.55, 1.02])
    ours = keras.ops.convert_to_numpy(as_constant(keras.ops.convert_to_tensor(value)))
    np.testing.assert_allclose(ours, np.round(value / (1.02 / 255)) * (1.02 / 255), rtol=1e-5)
    assert (ours != value).any()


def test_a_layer_of_the_users_that_bears_the_name_of_a_raw_operation_is_none():
    for name in ("Max", "Reshape", "Add", "Relu", "Concatenate", "Softmax"):
        layer = type(name, (layers.Layer,), {"call": lambda self, x: x + 1})()
        assert lowering_of(layer).output == OBSERVED and not lowering_of(layer).inside


ACTIVATED = [layers.Dense(3), layers.Dense(3, "relu"), layers.Dense(3, "silu"), layers.Conv1D(3, 3, activation="gelu")]


@pytest.mark.parametrize("layer", ACTIVATED, ids=lambda layer: f"{layer.name} {layer.activation.__name__}")
def test_what_follows_the_sums_of_a_kernel_can_be_run_on_its_own(layer):
    layer = called(type(layer).from_config(layer.get_config()), ROW)
    sums = without_activation(layer, lambda: layer(ROW))
    lowering, asked = lowering_of(layer), []
    ours = lowering.activate(layer, lambda index, value: asked.append(index) or value, sums)
    np.testing.assert_allclose(ours, layer(ROW), atol=1e-6)
    assert asked == list(range(len(lowering.inside)))


@pytest.mark.parametrize("activations", [("tanh", "sigmoid"), ("relu", "relu"), (None, "sigmoid")])
@pytest.mark.parametrize("shape, conv", [
    ((24, 6), functools.partial(layers.Conv1D, 6, 2, dilation_rate=2, padding="causal")),
    ((12, 10, 4), functools.partial(layers.Conv2D, 4, 3, dilation_rate=(2, 1), padding="same")),
    ((12, 10, 4), functools.partial(layers.Conv2D, 4, 3, dilation_rate=2, use_bias=False)),
    ((12, 10, 4), functools.partial(layers.Conv2D, 4, 3, dilation_rate=2, groups=2)),
    ((12, 10, 4), functools.partial(layers.DepthwiseConv2D, 3, dilation_rate=2, padding="same")),
])  # fmt: skip
def test_dilated_kernels_of_one_tensor_are_integer_operators(shape, conv, activations):
    rng = np.random.default_rng(0)
    data, x = rng.normal(size=(64, *shape)).astype("float32"), keras.Input(shape)
    y = layers.Dense(shape[-1])(x)
    model = keras.Model(x, layers.Dense(3)(layers.Multiply()([conv(activation=one)(y) for one in activations])))
    for weight in model.weights:
        weight.assign(weight + 0.1 * rng.normal(size=weight.shape))  # biases too, as trained
    quantized = tg.quantize(model, calibration_data=data)
    lite = tg.convert(quantized, quantization="int8")
    assert not lite.audit.float_layers and "SPACE_TO_BATCH_ND" not in lite.operators
    assert lite.operators.get("CONV_2D", 0) + lite.operators.get("DEPTHWISE_CONV_2D", 0) == 2
    report = tg.verify(quantized, lite, data)
    assert report.passed, report
