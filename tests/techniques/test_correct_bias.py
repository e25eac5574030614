"""Bias correction: against NumPy for one and two layers, and in the int8 file it is made for."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import tfgreen as tg
from tests import zoo
from tests.quantized import in_int8, normal, varied


def rounded(kernel: np.ndarray) -> np.ndarray:
    """To 127 steps of each column's largest magnitude."""
    scale = np.abs(kernel).max(axis=0, keepdims=True) / 127
    return np.round(kernel / scale) * scale


def coarse(model: keras.Model, seed: int = 0) -> keras.Model:
    """Kernels of which one weight per channel is so large that the others get few steps."""
    rng = np.random.default_rng(seed)
    for variable in varied(model, seed).variables:
        if variable.name == "kernel":
            kernel = rng.normal(size=variable.shape).astype("float32")
            kernel.reshape(-1, kernel.shape[-1])[0] = 60
            variable.assign(kernel)
    return model


def positive(*shape: int, count: int = 256, seed: int = 0) -> np.ndarray:
    return np.abs(normal(*shape, count=count, seed=seed)) + 0.5


def test_one_dense_layer_as_by_hand_its_kernel_as_it_was():
    model, x = coarse(keras.Sequential([keras.Input((6,)), layers.Dense(4, "relu", name="out")])), positive(6)
    before = model.get_weights()
    kernel, bias = tg.correct_bias(model, x).get_layer("out").get_weights()
    error = rounded(before[0].astype(np.float64)) - before[0]
    np.testing.assert_array_equal(kernel, before[0])
    np.testing.assert_allclose(bias, before[1] - x.astype(np.float64).mean(axis=0) @ error, rtol=1e-4)
    assert np.abs(bias - before[1]).max() > 0.1
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_second_layer_sees_what_the_corrected_first_makes():
    model = coarse(keras.Sequential([keras.Input((6,)), layers.Dense(5, "relu"), layers.Dense(3)]))
    x = positive(6)
    w1, b1, w2, b2 = (weight.astype(np.float64) for weight in model.get_weights())
    exact = np.maximum(x @ w1 + b1, 0) @ w2
    b1 = b1 - x.mean(axis=0) @ (rounded(w1) - w1)
    changed = np.maximum(x @ rounded(w1) + b1, 0) @ rounded(w2)
    result = tg.correct_bias(model, x)
    np.testing.assert_allclose(result.layers[-1].bias, b2 - (changed - exact).mean(axis=0), rtol=1e-3, atol=1e-4)


def test_batches_of_the_size_that_a_model_fixes_give_the_mean_of_all():
    inputs = keras.Input(batch_shape=(4, 6))
    rows = keras.ops.reshape(inputs, (4, 6))  # no other batch goes
    model = coarse(keras.Model(inputs, layers.Dense(4, "relu", name="out")(rows)))
    x = positive(6, count=64)
    kernel, before = (weight.astype(np.float64) for weight in model.get_weights())
    expected = before - x.mean(axis=0) @ (rounded(kernel) - kernel)
    np.testing.assert_allclose(tg.correct_bias(model, x).get_layer("out").bias, expected, rtol=1e-4)
    for count in (10, 4):  # the last batch goes back to samples of the one before
        assert np.abs(tg.correct_bias(model, x[:count]).get_layer("out").bias - before).max() > 0.1


NETS = {
    "conv": [layers.Conv2D(4, 3, activation="relu", padding="same"), layers.Conv2D(3, 3)],
    "norm": [layers.Conv2D(4, 3, use_bias=False), layers.BatchNormalization(), layers.ReLU(), layers.Conv2D(3, 3)],
    "depthwise": [layers.DepthwiseConv2D(3, activation="relu"), layers.Conv2D(3, 1)],
    "transposed": [layers.Conv2DTranspose(4, 3, strides=2, activation="relu"), layers.Flatten(), layers.Dense(3)],
    "separable": [layers.SeparableConv2D(4, 3, activation="relu"), layers.Conv2D(3, 1)],
}


@pytest.mark.parametrize("net", NETS)
def test_the_mean_error_of_each_channel_of_the_int8_file_shrinks(net):
    parts = [type(layer).from_config(layer.get_config()) for layer in NETS[net]]
    model = coarse(keras.Sequential([keras.Input((8, 8, 3)), *parts]))
    x, unseen = positive(8, 8, 3), positive(8, 8, 3, count=64, seed=1)
    exact = model.predict(unseen, verbose=0)

    def mean_error(other: keras.Model) -> float:
        error = in_int8(other, x).predict(unseen) - exact
        return float(np.abs(error.mean(axis=tuple(range(error.ndim - 1)))).mean())

    assert mean_error(tg.correct_bias(model, x)) < 0.5 * mean_error(model)


def test_layers_without_a_bias_or_called_twice_are_left_and_made_up_for():
    inputs = keras.Input((6,))
    bare, twice = layers.Dense(6, use_bias=False, name="bare"), layers.Dense(6, "tanh", name="twice")
    model = keras.Model(inputs, layers.Dense(3, name="out")(twice(twice(bare(inputs)))))
    coarse(model)
    result = tg.correct_bias(model, positive(6))
    assert not result.get_layer("bare").use_bias
    np.testing.assert_array_equal(result.get_layer("twice").bias, model.get_layer("twice").bias)
    assert np.abs(result.get_layer("out").bias - model.get_layer("out").bias).max() > 1e-3


@pytest.mark.parametrize("name", ["nested", "multi_io", "residual", "lstm", "attention", "batchnorm"])
def test_other_graphs_keep_their_activations_and_take_batches(name):
    model, x = zoo.ZOO[name](), zoo.sample(name, 32)
    result = tg.correct_bias(model, x)
    for a, b in zip(*(keras.tree.flatten(one.predict(x, verbose=0)) for one in (model, result)), strict=True):
        np.testing.assert_allclose(b, a, atol=0.05)
    batches = [keras.tree.map_structure(lambda array: array[i : i + 8], x) for i in (0, 8, 16, 24)]
    for a, b in zip(result.get_weights(), tg.correct_bias(model, iter(batches)).get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


BAD = {
    "empty": (np.zeros((0, 12), "float32"), ValueError, "at least one sample"),
    "nan": (np.full((4, 12), np.nan, "float32"), ValueError, "finite numbers"),
    "shape": (np.zeros((4, 3), "float32"), ValueError, r"shape \('samples', 12\)"),
    "text": ("data.npz", TypeError, "calibration_data"),
}


@pytest.mark.parametrize("case", BAD)
def test_data_that_does_not_fit_is_named(case):
    data, error, message = BAD[case]
    with pytest.raises(error, match=message):
        tg.correct_bias(zoo.functional(), data)


def test_models_that_cannot_be_corrected_are_named():
    x = zoo.sample("functional")
    with pytest.raises(ValueError, match="outputs of layer 'hidden' \\(Dense\\) on .*: expected finite"):
        tg.correct_bias(zoo.spoiled(np.inf), x)
    with pytest.raises(ValueError, match="subclass"):
        tg.correct_bias(zoo.subclassed(), zoo.sample("subclassed"))
    with pytest.raises(ValueError, match="layer 'hidden' \\(Dense\\).*strip"):
        tg.correct_bias(tg.cluster(zoo.functional(), tg.ClusterConfig(number_of_clusters=4)), x)
    with pytest.raises(ValueError, match="model 'bare'.*with a bias"):
        tg.correct_bias(keras.Sequential([keras.Input((12,)), layers.ReLU()], name="bare"), x)
    with pytest.raises(TypeError, match="a keras.Model.*received str"):
        tg.correct_bias("model.keras", x)


def test_a_model_that_is_corrected_already_is_refused_until_its_biases_change():
    model = keras.Sequential([keras.Input((2,)), layers.Dense(1, name="out")])
    model.set_weights([np.array([[127.0], [0.25]]), np.zeros(1)])
    data = np.array([[0.0, 3.0], [0.0, 5.0]], "float32")
    once = tg.correct_bias(model, data)
    with pytest.raises(ValueError, match="'out'.*corrected already"):
        tg.correct_bias(once, data)
    once.get_layer("out").bias.assign([0.5])
    np.testing.assert_allclose(tg.correct_bias(once, data).get_layer("out").bias, [1.5])
    np.testing.assert_allclose(tg.correct_bias(model, data).get_layer("out").bias, [1.0])
