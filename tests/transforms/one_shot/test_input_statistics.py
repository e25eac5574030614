"""What layers show of their inputs, against float64 NumPy."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from tfgreen.transforms.one_shot.input_statistics import input_grams, input_squares
from tfgreen.transforms.one_shot.kernel_rows import KernelRows

RNG = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype("float32")


def built(layer: keras.Layer, *x: np.ndarray) -> keras.Layer:
    layer(*x)
    return layer


def test_each_channel_of_a_convolution_has_the_squares_of_what_comes_in():
    x = normal(10, 5, 5, 3) * np.array([1, 10, 0.1], "float32")
    found = input_squares(built(layers.Conv2D(4, 3), x), (x,), {})["kernel"]
    expected = (x.astype("float64") ** 2).sum((0, 1, 2))
    np.testing.assert_allclose(found, expected.reshape(1, 1, 3, 1), rtol=1e-5)


def test_the_groups_of_a_convolution_add_up():
    x = normal(8, 5, 5, 4)
    layer = built(layers.Conv2D(6, 1, groups=2), x)
    squares = (x.astype("float64") ** 2).sum((0, 1, 2)).reshape(2, 2)
    np.testing.assert_allclose(input_squares(layer, (x,), {})["kernel"].ravel(), squares.sum(0), rtol=1e-5)
    assert input_grams(layer, (x,), {}) == {}


def test_the_pointwise_kernel_of_a_separable_convolution_takes_the_output_of_its_depthwise_one():
    x = normal(6, 7, 7, 2)
    layer = built(layers.SeparableConv2D(3, 3), x)
    between = layers.DepthwiseConv2D(3, use_bias=False)
    between.build((None, 7, 7, 2))
    between.kernel.assign(layer.depthwise_kernel)
    expected = (between(x).numpy().astype("float64") ** 2).sum((0, 1, 2))
    np.testing.assert_allclose(input_squares(layer, (x,), {})["pointwise_kernel"].ravel(), expected, rtol=1e-4)


def test_a_recurrent_kernel_multiplies_the_state():
    x, state = normal(4, 3), normal(4, 5)
    cell = layers.GRUCell(5)
    cell(x, [state])
    found = input_squares(cell, (x, [state]), {})
    np.testing.assert_allclose(found["recurrent_kernel"].ravel(), (state**2).sum(0), rtol=1e-5)
    np.testing.assert_allclose(found["kernel"].ravel(), (x**2).sum(0), rtol=1e-5)


LAYERS = {
    "dense": (layers.Dense(3), (4, 6, 5)),
    "conv2d": (layers.Conv2D(3, (3, 2), padding="same", strides=2), (4, 7, 6, 4)),
    "heads": (layers.EinsumDense("abc,cde->abde", (None, 4, 3)), (4, 5, 6)),
    "output of heads": (layers.EinsumDense("abnh,nhd->abd", (None, 5)), (4, 4, 3, 2)),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("by_keyword", [False, True])
def test_grams_are_those_of_the_rows_and_squares_their_diagonal(name, by_keyword):
    layer, shape = LAYERS[name]
    x = normal(*shape)
    built(layer, x)
    rows = KernelRows(layer)
    matrix = rows.take(x, np.arange(rows.count(shape))).astype("float64")
    args, kwargs = ((), {"inputs": x}) if by_keyword else ((x,), {})
    gram = input_grams(layer, args, kwargs)["kernel"]
    np.testing.assert_allclose(gram, matrix.T @ matrix, rtol=1e-4, atol=1e-4)
    if name != "conv2d":  # whose windows overlap
        squares = np.broadcast_to(input_squares(layer, args, kwargs)["kernel"], layer.kernel.shape)
        np.testing.assert_allclose(rows.matrix(squares)[:, 0], np.diag(gram), rtol=1e-4)


def test_the_gram_of_more_rows_than_are_unfolded_at_once_is_whole():
    x = normal(3, 4000, 2)
    gram = input_grams(built(layers.Dense(2), x), (x,), {})["kernel"]
    flat = x.reshape(-1, 2).astype("float64")
    np.testing.assert_allclose(gram, flat.T @ flat, rtol=1e-4)


@keras.saving.register_keras_serializable(package="tests")
class Positions(layers.Layer):
    """Adds a table of rank 2, which multiplies nothing."""

    def build(self, shape):
        self.table = self.add_weight(shape=shape[1:], name="table")

    def call(self, x):
        return x + self.table


@pytest.mark.parametrize("measure", [input_squares, input_grams])
def test_what_multiplies_nothing_or_has_no_values_is_passed_over(measure):
    tokens, x = np.array([[0, 1]], "int32"), normal(2, 4, 3)
    assert measure(built(layers.Embedding(3, 2), tokens), (tokens,), {}) == {}
    assert measure(built(Positions(), x), (x,), {}) == {}
    dense, found = built(layers.Dense(2), x), []
    tf.function(lambda value: found.append(measure(dense, (value,), {})))(x)
    assert found == [{}]
