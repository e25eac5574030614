"""Importance from data, against float64 NumPy."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from tfgreen.errors import TfgreenError
from tfgreen.transforms.importance import taylor_importance

RNG = np.random.default_rng(0)


def model_of(*stack, shape: tuple[int, ...]) -> keras.Model:
    return keras.Sequential([keras.Input(shape), *stack])


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype("float32")


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
