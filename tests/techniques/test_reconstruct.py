from __future__ import annotations

import re

import keras
import numpy as np
import pytest
from keras import layers

from tests import zoo
from tests.surgery.cases import half, randomized
from tfgreen.surgery.channel_groups import channel_groups
from tfgreen.surgery.remove_channels import remove_channels
from tfgreen.techniques.reconstruct import reconstruct


@pytest.mark.parametrize("name", ["sequential", "residual", "multi_io", "attention", "batchnorm", "subclassed", "lstm"])
def test_auto_keeps_what_is_nearest_on_samples_held_out(name):
    model, data = randomized(zoo.ZOO[name]()), zoo.sample(name, 200)
    groups = channel_groups(model)
    removed = half(groups)
    slim = remove_channels(model, groups.analysis, removed)
    weights = [weight.numpy() for weight in slim.weights]
    found = reconstruct(model, slim, groups.analysis, removed, data)
    assert found.errors[found.method] == min(found.errors.values()) <= found.errors["none"]
    with_norm = {"batch_norm", "both"} if name in ("residual", "batchnorm") else set()
    assert set(found.errors) == {"none", "least_squares"} | with_norm
    assert all(np.array_equal(a, b.numpy()) for a, b in zip(weights, slim.weights))
    assert found.method != "none" or name in ("lstm", "attention")
    for method in found.errors:
        assert reconstruct(model, slim, groups.analysis, removed, data, method).method == method


def slimmed(*stack: keras.Layer, size: int) -> tuple:
    model = randomized(keras.Sequential([keras.Input((20,)), *stack, layers.Dense(4)]))
    groups = channel_groups(model)
    removed = half(groups)
    x = np.random.default_rng(1).normal(size=(size, 20)).astype("float32")
    return model, remove_channels(model, groups.analysis, removed), groups.analysis, removed, x


def test_both_is_least_squares_where_nothing_is_normalized():
    case = slimmed(layers.Dense(32, "relu"), size=200)
    both, solved = (reconstruct(*case, method) for method in ("both", "least_squares"))
    assert both.method == "both" and both.errors["both"] == solved.errors["least_squares"] < both.errors["none"]
    assert all(map(np.array_equal, both.model.get_weights(), solved.model.get_weights())) and both.doubt == ""


@pytest.mark.parametrize(("count", "method"), [(1, "batch_norm"), (2, "both"), (5, "batch_norm"), (9, "auto")])
def test_too_few_samples_are_spoken_of(count, method):
    found = reconstruct(*slimmed(layers.Dense(64), layers.BatchNormalization(), layers.ReLU(), size=count), method)
    words = "may not hold for others" if found.errors[found.method] <= found.errors["none"] else "brings .* further"
    assert re.match(rf"reconstruct='{method}' on {count} samples? {words}", found.doubt)
    assert count == 1 or found.method == "none" or method != "auto"


def test_what_changes_nothing_is_spoken_of():
    no_norm = reconstruct(*slimmed(layers.Dense(32, "relu"), size=50), "batch_norm")
    assert "changes nothing: the model has no BatchNormalization" in no_norm.doubt and no_norm.method == "none"
    inputs = keras.Input((5, 4))
    model = randomized(keras.Model(inputs, layers.LSTM(3)(layers.LSTM(8, return_sequences=True)(inputs))))
    groups = channel_groups(model)
    slim = remove_channels(model, groups.analysis, half(groups))
    x = np.random.default_rng(1).normal(size=(50, 5, 4)).astype("float32")
    found = reconstruct(model, slim, groups.analysis, half(groups), x, "least_squares")
    assert "changes nothing: no kernel behind the channels that went can be solved" in found.doubt


def test_samples_fill_the_batches_that_a_model_fixes():
    inputs = keras.Input((4,), batch_size=8)
    hidden = layers.BatchNormalization()(layers.Dense(16)(inputs))
    model = randomized(keras.Model(inputs, layers.Dense(2)(hidden)))
    groups = channel_groups(model)
    slim = remove_channels(model, groups.analysis, half(groups))
    for count in (8, 9, 16):
        x = np.random.default_rng(1).normal(size=(count, 4)).astype("float32")
        assert reconstruct(model, slim, groups.analysis, half(groups), x, "both").errors["both"] < 1e9
