"""ProximalTerm: the gradient of FedProx, in the loss of training only."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from tfgreen.federated.proximal import ProximalTerm


def made(regularizer: str | None = None) -> keras.Model:
    dense = keras.layers.Dense(2, use_bias=False, kernel_regularizer=regularizer)
    model = keras.Sequential([keras.Input((3,)), dense])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    return model


@pytest.mark.parametrize("regularizer", [None, "l2"])
def test_each_step_is_that_of_the_formula(regularizer):
    rng = np.random.default_rng(0)
    x, y, model = rng.normal(size=(8, 3)), rng.normal(size=(8, 2)), made(regularizer)
    model.train_on_batch(x, y)  # traced without the term
    term, kernel = ProximalTerm(model), model.layers[0].kernel
    start = np.asarray(kernel, "float64")
    expected = start.copy()
    term.start(3.0)
    for _ in range(4):
        model.train_on_batch(x, y)
        gradient = 2 * x.T @ (x @ expected - y) / y.size + 3.0 * (expected - start)
        expected -= 0.1 * (gradient + (0.02 * expected if regularizer else 0))
    np.testing.assert_allclose(np.asarray(kernel), expected, atol=1e-5)
    term.end()
    loss = model.evaluate(x, y, verbose=0)
    own = np.mean((x @ expected - y) ** 2) + (0.01 * np.sum(expected**2) if regularizer else 0)
    assert loss == pytest.approx(own, rel=1e-4)


def test_it_leaves_the_model_as_it_was():
    model = made("l2")
    term, own = ProximalTerm(model), model.layers[0].kernel.regularizer
    term.start(0.0)
    assert model.layers[0].kernel.regularizer is own  # nothing to add
    term.start(1.0)
    assert model.layers[0].kernel.regularizer is not own
    term.remove()
    assert model.layers[0].kernel.regularizer is own and len(model.losses) == 1
