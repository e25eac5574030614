from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import tfgreen as tg
from tfgreen.deploy.tflite.biases import mend_biases
from tfgreen.deploy.tflite.flatbuffer import constant

LAYERS = {
    "dense": ((6,), lambda: layers.Dense(5, bias_initializer="ones", name="layer")),
    "conv": ((6, 6, 3), lambda: layers.Conv2D(5, 3, bias_initializer=keras.initializers.Constant(-0.7), name="layer")),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_an_equal_bias_is_rounded_channel_by_channel(kind):
    keras.utils.set_random_seed(0)
    shape, layer = LAYERS[kind]
    model = keras.Sequential([keras.Input(shape), layer()])
    kernel = model.get_layer("layer").kernel
    kernel.assign(kernel * np.geomspace(0.2, 5, 5))
    x = np.random.default_rng(0).normal(size=(64, *shape)).astype("float32")
    quantized = tg.quantize(model, tg.QuantizeConfig(calibration_data=x))
    lite = tg.convert(quantized, tg.ConvertConfig(quantization="int8"))
    real = [
        constant(lite.parsed, tensor) * np.asarray(tensor.quantization.scale)
        for tensor in lite.parsed.subgraphs[0].tensors
        if tensor.quantization is not None and tensor.type == 2 and tuple(tensor.shape) == (5,)
    ]
    np.testing.assert_allclose(real[0], model.get_layer("layer").bias, rtol=1e-3)
    error = np.abs(lite.predict(x) - quantized.predict(x, verbose=0)).mean()
    assert error <= 0.05 * lite.output_scales["layer"]
    assert not mend_biases(lite.parsed, trained=True)


@pytest.mark.parametrize("width", [0.0, 1e-7])
def test_a_bias_much_larger_than_what_it_is_added_to_stays(width):
    """The converter widens the scales of the weights until each bias is the largest integer that it makes."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6,))
    bias = keras.initializers.Constant([0.5, 0.25, 2.0])
    model = keras.Model(inputs, layers.Dense(3, bias_initializer=bias)(layers.Rescaling(width, name="small")(inputs)))
    x = np.random.default_rng(0).normal(size=(64, 6)).astype("float32")
    quantized = tg.quantize(model, calibration_data=x)
    quantized.get_layer("small").activations.output_range.upper.assign(width)
    lite = tg.convert(quantized, quantization="int8")
    np.testing.assert_allclose(lite.predict(x), quantized.predict(x, verbose=0), atol=0.01)


@pytest.mark.parametrize("kind", ["dense", "conv", "depthwise"])
def test_a_layer_called_on_tensors_of_different_ranges_adds_its_bias_in_each(kind):
    keras.utils.set_random_seed(0)
    shape, shared = {
        "dense": ((5,), layers.Dense(5)),
        "conv": ((6, 6, 3), layers.Conv2D(3, 3, padding="same")),
        "depthwise": ((6, 6, 3), layers.DepthwiseConv2D(3, padding="same")),
    }[kind]
    inputs = keras.Input(shape)
    model = keras.Model(inputs, shared(layers.Activation("tanh")(shared(inputs)) * 0.3))
    shared.bias.assign(np.linspace(-1, 1, shared.bias.shape[0]))
    x = np.random.default_rng(0).normal(size=(64, *shape)).astype("float32") * 2
    quantized = tg.quantize(model, calibration_data=x)
    lite = tg.convert(quantized, quantization="int8")
    (scale,) = lite.output_scales.values()
    assert np.abs(lite.predict(x) - quantized.predict(x, verbose=0)).mean() <= 0.5 * scale
    assert np.abs(lite.predict(x) - model.predict(x, verbose=0)).mean() <= 2 * scale


def dead_models():
    """Models with a layer that returns 0 on all data, before and after what shares or takes its scale."""
    initializer = keras.initializers.Constant(-1.0)
    flat, image = keras.Input((6,)), keras.Input((8, 8, 2))
    dense = layers.Dense(6, "relu", kernel_initializer=initializer, name="dead")
    conv = layers.Conv2D(4, 3, activation="relu", kernel_initializer=initializer, name="dead")
    pooled = layers.MaxPooling2D()(conv(image))
    return {
        "bias after": keras.Model(flat, layers.Dense(3, bias_initializer="ones")(dense(flat))),
        "output": keras.Model(flat, dense(flat)),
        "sum": keras.Model(flat, dense(flat) + flat),
        "pooled": keras.Model(image, layers.DepthwiseConv2D(2, bias_initializer="ones")(pooled)),
    }


@pytest.mark.parametrize("name", ["bias after", "output", "sum", "pooled"])
def test_a_layer_that_returns_0_gets_a_scale_that_the_runtime_takes(name):
    keras.utils.set_random_seed(0)
    model = dead_models()[name]
    x = np.random.default_rng(0).random((32, *model.input_shape[1:]), np.float32)
    lite = tg.convert(model, quantization="int8", calibration_data=x)
    np.testing.assert_allclose(lite.predict(x), model.predict(x, verbose=0), atol=0.01)
    assert any("['dead'] return 0 on all calibration data" in note for note in lite.notes)


@pytest.mark.parametrize("name", ["bias after", "pooled"])
def test_16_bit_activations_of_a_layer_that_returns_0(name):
    model = dead_models()[name]
    x = np.random.default_rng(0).random((32, *model.input_shape[1:]), np.float32)
    lite = tg.convert(model, quantization="int16x8", calibration_data=x)
    np.testing.assert_allclose(lite.predict(x), model.predict(x, verbose=0), atol=1e-3)
