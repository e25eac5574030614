"""The loss of a run: compiled, given or told."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from tests.recipes.run import tasks
from tfgreen.errors import TfgreenError
from tfgreen.recipes.data.split import Split
from tfgreen.recipes.run.steps.losses import losses_of


def test_as_compiled_or_as_the_recipe_says():
    model, split = tasks.regression(), tasks.sums().train
    assert losses_of(model, split, None).loss == "mse" and losses_of(model, split, None).metrics == ["mae"]
    given = losses_of(model, split, "huber")
    assert (given.loss, given.metrics) == ("huber", ["huber"])
    assert losses_of(model, split, {"kind": "binary_crossentropy"}).metrics == {"kind": "accuracy"}


def head(units, activation=None):
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(units, activation)])


X = np.random.default_rng(0).normal(size=(40, 4)).astype("float32")


@pytest.mark.parametrize(
    ("model", "y", "loss", "metric"),
    [
        (head(3, "softmax"), np.arange(40) % 3, "sparse_categorical_crossentropy", "accuracy"),
        (head(3), (np.arange(40) % 3)[:, None], "sparse_categorical_crossentropy", "accuracy"),
        (head(3, "softmax"), np.eye(3)[np.arange(40) % 3], "categorical_crossentropy", "accuracy"),
        (head(1, "sigmoid"), np.arange(40) % 2, "binary_crossentropy", "accuracy"),
        (head(3, "sigmoid"), (X[:, :3] > 0).astype(int), "binary_crossentropy", "accuracy"),
        (head(1), X[:, :1], "mean_squared_error", "mean_squared_error"),
        (head(2), X[:, :2], "mean_squared_error", "mean_squared_error"),
    ],
)
def test_told_by_outputs_and_targets(model, y, loss, metric):
    found = losses_of(model, Split(X, y), None)
    assert found.loss.name == loss and found.metrics == [metric] and "as outputs and targets tell" in found.how


def test_logits_are_told_from_probabilities():
    y = np.arange(40) % 3
    assert losses_of(head(3), Split(X, y), None).loss.from_logits
    assert not losses_of(head(3, "softmax"), Split(X, y), None).loss.from_logits


@pytest.mark.parametrize("y", [np.arange(40) % 2, np.arange(40), np.arange(40) % 5 - 2, X])
def test_doubt_is_an_error_with_a_remedy(y):
    with pytest.raises(TfgreenError, match="write loss: mean_squared_error"):
        losses_of(head(1), Split(X, y), None)


def test_of_two_outputs():
    model = tasks.two_outputs()
    plain = keras.Model(model.input, model.output)
    found = losses_of(plain, tasks.kinds_and_sizes().train, None)
    assert {name: loss.name for name, loss in found.loss.items()} == {
        "kind": "sparse_categorical_crossentropy", "size": "mean_squared_error",
    }  # fmt: skip
