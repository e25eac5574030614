"""Quantization-aware training trains as the float model does: losses and gradients of its size, whatever it ends in."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import tfgreen as tg

X = np.random.default_rng(0).random((64, 8)).astype("float32")


def quantized(model, x=X, **options):
    return tg.quantize(model, calibration_data=x, **options)


def gradients(model, x, y, loss):
    with tf.GradientTape() as tape:
        value = loss(y, model(x, training=True))
    return float(value), [np.asarray(g) for g in tape.gradient(value, [v.value for v in model.trainable_variables])]


@pytest.mark.parametrize("end", ["softmax", "sigmoid"])
@pytest.mark.parametrize("through", ["", "reshape", "activation"])
def test_a_small_probability_keeps_its_gradient(end, through):
    bias = keras.initializers.Constant(-7.0)
    inputs = keras.Input((8,))
    x = layers.Dense(2, None if through else end, kernel_initializer="zeros", bias_initializer=bias)(inputs)
    x = layers.Activation(end)(x) if through else x
    outputs = layers.Reshape((2, 1))(x) if through == "reshape" else x
    model = keras.Model(inputs, outputs)
    if end == "softmax":
        model.layers[1].bias.assign([-7.0, 0.0])
    y = np.ones((64, *outputs.shape[1:]), "float32") * (np.arange(2).reshape(outputs.shape[1:]) == 0)
    loss = keras.losses.BinaryCrossentropy()
    (float_loss, expected), (loss_value, found) = (gradients(one, X, y, loss) for one in (model, quantized(model)))
    assert loss_value == pytest.approx(float_loss, rel=0.05)
    np.testing.assert_allclose(found[-1], expected[-1], rtol=0.05, atol=1e-4)


def test_the_file_rounds_the_probabilities_that_training_did_not():
    model = quantized(keras.Sequential([keras.Input((8,)), layers.Dense(3, "softmax")]))
    lite = tg.convert(model, quantization="int8")
    assert not lite.float_operators
    rounded = model.predict(X, verbose=0) * 256
    np.testing.assert_allclose(rounded, np.round(rounded), atol=1e-3)
    assert tg.verify(model, lite, X).passed


@pytest.mark.slow
def test_gradients_do_not_explode_where_batch_normalization_has_not_settled():
    x = np.random.default_rng(0).normal(size=(32, 8, 8, 3)).astype("float32")
    y = np.random.default_rng(1).integers(0, 3, 32)
    small = keras.initializers.RandomNormal(stddev=0.02, seed=1)
    inputs = hidden = keras.Input((8, 8, 3))
    for _ in range(16):
        conv = layers.Conv2D(8, 3, padding="same", use_bias=False, kernel_initializer=small)
        hidden = layers.ReLU()(layers.BatchNormalization()(conv(hidden)))
    model = keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling2D()(hidden)))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    largest = [max(np.abs(g).max() for g in gradients(one, x, y, loss)[1]) for one in (model, quantized(model, x))]
    assert largest[1] < 10 * largest[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    "layer",
    [
        lambda reg: layers.Dense(4, activity_regularizer=reg),
        lambda reg: layers.Dense(4, activation="softmax", activity_regularizer=reg),
        lambda reg: layers.BatchNormalization(activity_regularizer=reg),
        lambda reg: layers.Activation("tanh", activity_regularizer=reg),
    ],
    ids=["dense", "softmax", "norm", "activation"],
)
def test_activity_regularizers_are_kept_and_see_the_output(layer, tmp_path):
    model = keras.Sequential([keras.Input((8,)), layer(keras.regularizers.L2(1.0))])
    copy = quantized(model)
    copy.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    plain = tg.strip(loaded)
    y = np.zeros((64, model.output_shape[-1]))
    found = []
    for one in (model, copy, loaded, plain):
        one.compile("sgd", "mse")
        found.append(one.evaluate(X, y, verbose=0))
    np.testing.assert_allclose(found, found[0], rtol=0.05)
    assert plain.layers[-1].activity_regularizer is not None
    assert [type(one.layers[-1].activity_regularizer) for one in (model,)] == [keras.regularizers.L2]


@pytest.mark.slow
def test_ids_in_a_float_input_are_not_rounded():
    inputs = keras.Input((3,))
    ids = keras.ops.cast(inputs, "int32")
    model = keras.Model(inputs, layers.Dense(2)(layers.Flatten()(layers.Embedding(1000, 4)(ids))))
    direct = keras.Model(inputs, layers.Dense(2)(layers.Flatten()(layers.Embedding(1000, 4)(inputs))))
    x = np.random.default_rng(0).integers(0, 1000, (64, 3)).astype("float32")
    for one in (model, direct):
        reference, copy = one.predict(x, verbose=0), quantized(one, x)
        for found in (copy.predict(x, verbose=0), tg.convert(copy, quantization="int8").predict(x)):
            assert np.abs(found - reference).max() < 0.05 * np.abs(reference).max()


def test_preserving_falls_back_where_a_kernel_has_nothing_to_preserve():
    model = keras.Sequential([keras.Input((8,)), layers.Dense(16, name="body"), layers.Dense(4, name="head")])
    pruned = tg.prune(model, schedule=tg.ConstantSparsity(0.5, begin_step=0, frequency=1), layers={"head": None})
    tg.UpdateCompression(pruned).step()
    clustered = tg.strip(tg.cluster(tg.strip(pruned), number_of_clusters=4))
    copy = tg.strip(quantized(clustered, preserve_sparsity=True, preserve_clusters=True))
    body = np.asarray(copy.get_layer("body").kernel)
    assert (body == 0).mean() >= 0.5 and len(np.unique(body)) <= 4
    assert len(np.unique(copy.get_layer("head").kernel)) <= 4


def test_codebooks_per_channel_are_preserved_after_strip():
    model = keras.Sequential([keras.Input((8, 8, 8)), layers.Conv2D(6, 3)])
    clustered = tg.strip(tg.cluster(model, number_of_clusters=8, per_channel=True))
    x = np.random.default_rng(0).random((16, 8, 8, 8)).astype("float32")
    kernel = np.asarray(tg.strip(quantized(clustered, x, preserve_clusters=True)).layers[-1].kernel)
    assert max(len(np.unique(kernel[..., channel])) for channel in range(6)) <= 8


def test_a_depthwise_kernel_beside_clustered_ones_has_none_to_preserve():
    model = keras.Sequential([keras.Input((8, 8, 8)), layers.SeparableConv2D(6, 3, name="separable")])
    clustered = tg.strip(tg.cluster(model, number_of_clusters=4))
    x = np.random.default_rng(0).random((16, 8, 8, 8)).astype("float32")
    copy = quantized(clustered, x, preserve_clusters=True)
    assert {status.weight: status.done for status in tg.summary(copy).weights} == {
        "pointwise_kernel": ("Codebook", "FakeQuant"), "depthwise_kernel": ("FakeQuant",)
    }
