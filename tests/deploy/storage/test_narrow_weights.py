import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from keras import layers, ops

import tfgreen as tg
from tests import zoo
from tests.deploy.cases import artifact, keras_outputs, unseen
from tfgreen.deploy.tflite.flatbuffer import pack_nibbles, unpack_nibbles
from tfgreen.errors import ConversionError


@given(hnp.arrays(np.int8, st.integers(0, 40), elements=st.integers(-8, 7)))
def test_nibbles_come_back(values):
    packed = pack_nibbles(values)
    assert packed.dtype == np.uint8 and packed.size == (values.size + 1) // 2
    np.testing.assert_array_equal(unpack_nibbles(packed, values.size), values)


def _quantized(name: str, bits: int) -> tuple[keras.Model, np.ndarray]:
    keras.utils.set_random_seed(0)
    x = zoo.sample(name, 64)
    model = tg.quantize(zoo.ZOO[name](), tg.QuantizeConfig(calibration_data=x, weight_bits=bits))
    model.compile("adam", zoo.loss(name))
    model.fit(x, zoo.targets(name, 64), batch_size=16, verbose=0)
    return model, x


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sequential", "separable", *zoo.slow("residual", "batchnorm")])
def test_a_file_stores_the_trained_15_values_in_half_the_bytes_and_computes_the_same(name):
    model, x = _quantized(name, 4)
    wide = tg.convert(model, tg.ConvertConfig(quantization="int8"))
    lite = tg.convert(model, tg.ConvertConfig(quantization="int4"))
    narrow = [w for w in lite.weights.values() if np.abs(w.values).max() == 7]
    assert narrow
    assert lite.operators == wide.operators and not lite.float_operators
    assert lite.size_bytes < wide.size_bytes
    for name_, weight in lite.weights.items():
        # int8 holds the 15 values only roughly, so the int4 file is the nearer one
        np.testing.assert_allclose(weight.real, wide.weights[name_].real, atol=float(weight.scale.max()) * 7 / 127)
    # LiteRT rounds the bias in steps 18 times as coarse as with int8 weights
    assert np.abs(lite.predict(x) - model.predict(x, verbose=0)).max() <= 3 / 256


def test_a_weight_that_several_operators_read_computes_the_same_in_each():
    shared, inputs = keras.layers.Dense(6, name="shared", bias_initializer="ones"), keras.Input((6,))
    x = keras.layers.Activation("tanh")(shared(inputs))
    model = keras.Model(inputs, keras.layers.Dense(3, name="out", bias_initializer="ones")(shared(x)))
    data = np.random.default_rng(0).normal(size=(64, 6)).astype("float32")
    quantized = tg.quantize(model, tg.QuantizeConfig(calibration_data=data, weight_bits=4))
    lite = tg.convert(quantized, tg.ConvertConfig(quantization="int4"))
    assert all(weight.bits == 4 for weight in lite.weights.values())
    error = np.abs(lite.predict(data) - quantized.predict(data, verbose=0))
    assert error.mean() <= 0.5 * lite.output_scales["out"]


def test_the_integers_are_those_of_the_keras_model():
    model, _ = _quantized("functional", 4)
    lite = tg.convert(model, tg.ConvertConfig(quantization="int4"))
    kernels = {tuple(np.sort(w.real.ravel()).round(5)) for w in lite.weights.values()}
    for layer in tg.strip(model).layers:
        if layer.weights:
            assert tuple(np.sort(np.asarray(layer.kernel).ravel()).round(5)) in kernels


@settings(max_examples=4, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_every_weight_is_found_again_whatever_its_values(seed):
    rng = np.random.default_rng(seed)
    inputs = keras.Input((5,))
    model = keras.Model(inputs, keras.layers.Dense(3, name="out")(inputs))
    model.get_layer("out").kernel.assign(rng.standard_t(2, size=(5, 3)) * 10.0 ** rng.integers(-3, 3))
    data = rng.normal(size=(32, 5)).astype("float32")
    quantized = tg.quantize(model, tg.QuantizeConfig(calibration_data=data, weight_bits=4))
    lite = tg.convert(quantized, tg.ConvertConfig(quantization="int4"))
    (weight,) = lite.weights.values()
    assert np.abs(weight.values).max(axis=1).tolist() == [7, 7, 7]


def test_a_model_of_wider_weights_is_refused_with_the_remedy():
    model, _ = _quantized("functional", 8)
    with pytest.raises(ConversionError, match="weight_bits=4"):
        tg.convert(model, tg.ConvertConfig(quantization="int4"))


def with_zeros(*shape: int) -> np.ndarray:
    """Samples of which the last are zeros, on which only what is added to a divisor keeps NaN away."""
    x = np.random.default_rng(0).normal(size=(8, *shape)).astype("float32")
    x[6:] = 0.0
    return x


@pytest.mark.parametrize(
    "part",
    [
        layers.UnitNormalization(),
        layers.Lambda(lambda x: ops.normalize(x, epsilon=1e-8)),
        layers.Lambda(lambda x: x / (ops.abs(x) + 1e-8)),
        layers.Lambda(lambda x: ops.log(ops.square(x) + 1e-12)),
        layers.Lambda(lambda x: x * 1e-9),
        layers.Lambda(lambda x: x - 1e9 * ops.relu(x)),
        layers.Lambda(lambda x: x * np.full((40, 40), 3e-9, "float32")),
        layers.Lambda(lambda x: x + np.full((40, 40), 1e9, "float32")),
    ],
)
def test_constants_that_float16_does_not_hold_stay_what_they_are(part):
    inputs = keras.Input((40, 40))
    net, x = keras.Model(inputs, part(layers.Dense(40)(inputs))), with_zeros(40, 40)
    lite = tg.convert(net, quantization="float16")
    expected = net.predict(x, verbose=0)
    error = np.abs(lite.predict(x) - expected)  # a few signs of what is next to nothing turn with the kernel's rounding
    assert error.mean() <= 1e-3 * np.abs(expected).max() and error[6:].max() <= 1e-6 * np.abs(expected).max()


@pytest.mark.parametrize("factor", [1e6, 1e-9])
def test_a_kernel_that_does_not_fit_is_named(factor):
    net = keras.Sequential([keras.Input((64,)), layers.Dense(32, name="fits"), layers.Dense(16, name="odd")])
    net.layers[1].kernel.assign(net.layers[1].kernel * factor)
    lite, x = tg.convert(net, quantization="float16"), with_zeros(64)
    assert [note for note in lite.notes if "['odd'] stay float32" in note]
    assert sorted(weight.bits for weight in lite.weights.values() if weight.values.ndim > 1) == [16, 32]
    expected = net.predict(x, verbose=0)
    np.testing.assert_allclose(lite.predict(x), expected, rtol=0, atol=1e-2 * np.abs(expected).max())


@pytest.mark.parametrize("name", ["separable", "lstm", "attention", "multi_io"])
def test_matrices_are_stored_in_half_the_bytes_and_rounded_once(name):
    lite, plain = artifact(name, "float16"), artifact(name, "float32")
    assert lite.quantization == "float16"
    half = sorted(weight.values.astype("float32").tobytes() for weight in lite.weights.values() if weight.bits == 16)
    whole = [weight.values for weight in plain.weights.values() if weight.values.size > max(weight.values.shape)]
    assert half and set(half) <= {values.astype("float16").astype("float32").tobytes() for values in whole}
    expected = keras.tree.flatten(keras_outputs(name))
    for a, b in zip(keras.tree.flatten(lite.predict(unseen(name))), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-2 * np.abs(b).max())


def test_a_file_of_small_vectors_says_that_it_is_float32():
    net = keras.Sequential([keras.Input((4,)), layers.LayerNormalization()])
    lite = tg.convert(net, quantization="float16")
    assert lite.quantization == "float32" and any("The file is float32" in note for note in lite.notes)
