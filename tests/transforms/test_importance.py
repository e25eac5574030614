"""Importance from data, against float64 NumPy."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from tfgreen.errors import TfgreenError
from tfgreen.transforms.importance import activation_importance, taylor_importance

RNG = np.random.default_rng(0)


def model_of(*stack, shape: tuple[int, ...]) -> keras.Model:
    return keras.Sequential([keras.Input(shape), *stack])


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype("float32")


def test_each_channel_of_a_convolution_has_the_norm_of_what_comes_in():
    x = normal(40, 5, 5, 3) * np.array([1, 10, 0.1], "float32")
    model = model_of(layers.Conv2D(4, 3, name="conv"), shape=(5, 5, 3))
    found = activation_importance(model, x)[id(model.get_layer("conv").kernel)]
    expected = np.sqrt((x.astype("float64") ** 2).sum((0, 1, 2)))
    np.testing.assert_allclose(found, expected.reshape(1, 1, 3, 1), rtol=1e-5)


def test_the_groups_of_a_convolution_add_up():
    grouped = model_of(layers.Conv2D(6, 1, groups=2, name="conv"), shape=(5, 5, 4))
    x = normal(8, 5, 5, 4)
    found = activation_importance(grouped, x)[id(grouped.get_layer("conv").kernel)]
    squares = (x.astype("float64") ** 2).sum((0, 1, 2)).reshape(2, 2)
    np.testing.assert_allclose(found.ravel(), np.sqrt(squares.sum(0)), rtol=1e-5)


def test_a_row_of_an_embedding_counts_its_tokens():
    tokens = np.array([[0, 1, 1], [1, 2, 2]], "int32")
    inputs = keras.Input((3,), dtype="int32")
    layer = layers.Embedding(4, 2)
    found = activation_importance(keras.Model(inputs, layer(inputs)), tokens)[id(layer.embeddings)]
    np.testing.assert_allclose(found.ravel(), np.sqrt([1, 3, 2, 0]))


def test_the_pointwise_kernel_of_a_separable_convolution_takes_the_output_of_its_depthwise_one():
    x = normal(6, 7, 7, 2)
    model = model_of(layers.SeparableConv2D(3, 3, name="separable"), shape=(7, 7, 2))
    layer = model.get_layer("separable")
    between = layers.DepthwiseConv2D(3, use_bias=False)
    between.build((None, 7, 7, 2))
    between.kernel.assign(layer.depthwise_kernel)
    expected = np.sqrt((between(x).numpy().astype("float64") ** 2).sum((0, 1, 2)))
    found = activation_importance(model, x)[id(layer.pointwise_kernel)]
    np.testing.assert_allclose(found.ravel(), expected, rtol=1e-4)


def test_a_layer_that_is_called_twice_sees_both_inputs_and_batches_make_no_difference():
    first, second = keras.Input((3,)), keras.Input((3,))
    shared = layers.Dense(2)
    model = keras.Model([first, second], layers.Add()([shared(first), shared(second)]))
    a, b = normal(70, 3), normal(70, 3)
    expected = np.sqrt((a.astype("float64") ** 2 + b.astype("float64") ** 2).sum(0))
    batches = [([a[i : i + 7], b[i : i + 7]], np.zeros(7)) for i in range(0, 70, 7)]
    for data in ([a, b], tf.data.Dataset.from_tensor_slices(((a, b),)).batch(9), (batch for batch in batches)):
        found = activation_importance(model, data)[id(shared.kernel)]
        np.testing.assert_allclose(found.ravel(), expected, rtol=1e-5)


def test_the_gradients_are_those_of_least_squares_batch_by_batch():
    x, y = normal(64, 3), normal(64, 2)
    model = model_of(layers.Dense(2, use_bias=False, name="out"), shape=(3,))
    kernel = model.get_layer("out").kernel.numpy().astype("float64")
    squares = []
    for part in (slice(0, 32), slice(32, 64)):
        error = x[part].astype("float64") @ kernel - y[part]
        squares.append((2 * x[part].astype("float64").T @ error / error.size) ** 2)
    found = taylor_importance(model, x, y, "mse")[id(model.get_layer("out").kernel)]
    np.testing.assert_allclose(found, np.sqrt(np.mean(squares, axis=0)), rtol=1e-4)


def test_data_that_do_not_fit_are_named():
    model = model_of(layers.Dense(2, name="out"), shape=(3,))
    with pytest.raises(ValueError, match=r"shape \('samples', 3\), received \(4, 5\)"):
        activation_importance(model, normal(4, 5))
    with pytest.raises(ValueError, match=r"y: expected targets of 4 samples, as x has, received \[3\]"):
        taylor_importance(model, normal(4, 3), normal(3, 2), "mse")
    with pytest.raises(ValueError, match=r"^x of input '\w+': expected shape \('samples', 3\), received"):
        taylor_importance(model, normal(4, 5), normal(4, 2), "mse")
    with pytest.raises(ValueError, match=r"^x of input .*expected finite numbers, received 4 NaN"):
        taylor_importance(model, normal(4, 3) * [np.nan, 1, 1], normal(4, 2), "mse")
    with pytest.raises(ValueError, match=r"NaN or infinite values on x and y\. Check its weights"):
        broken = model_of(layers.Dense(2, kernel_initializer=keras.initializers.Constant(np.nan)), shape=(3,))
        taylor_importance(broken, normal(4, 3), normal(4, 2), "mse")
    with pytest.raises(TypeError, match=r"y: expected arrays of shape \(samples, ...\)"):
        taylor_importance(model, normal(4, 3), 1.0, "mse")


def test_a_table_that_is_also_multiplied_counts_in_both_of_its_roles():
    tokens = np.random.default_rng(0).integers(0, 7, (16, 5)).astype("int32")
    inputs = keras.Input((5,), dtype="int32")
    table, hidden = layers.ReversibleEmbedding(7, 3, name="table"), layers.Dense(3, name="hidden")
    x = hidden(table(inputs))
    found = activation_importance(keras.Model(inputs, table(x, reverse=True)), tokens)[id(table.embeddings)]
    looked_up = np.bincount(tokens.ravel(), minlength=7)[:, None]
    multiplied = (keras.Model(inputs, x).predict(tokens, verbose=0).astype("float64") ** 2).sum((0, 1))
    np.testing.assert_allclose(found, np.sqrt(looked_up + multiplied), rtol=1e-5)


@pytest.mark.parametrize(("y", "loss", "message"), [
    (np.zeros((8, 4)), "foo", "loss: expected a Keras loss, its name or a function, received 'foo'"),
    (np.zeros((8, 4)), 3, "loss: expected a Keras loss, its name or a function, received 3"),
    (np.full((8, 4), np.nan), "mse", "y: expected finite targets"),
    (np.array(["a"] * 8), "mse", "y: expected arrays of numbers"),
    (np.zeros((8, 3)), "mse", r"loss='mse' does not fit the outputs and y \(Incompatible shapes[^{]*\)"),
    (np.full(8, 9), "sparse_categorical_crossentropy", r"label value of 9 which is outside the valid range of .*\)"),
])
def test_losses_and_targets_that_do_not_fit_are_said(y, loss, message):
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(4, "softmax")])
    with pytest.raises((ValueError, TypeError), match=message) as caught:
        taylor_importance(model, np.ones((8, 6), "float32"), y, loss)
    assert isinstance(caught.value, TfgreenError) and "{{" not in str(caught.value)
