"""Scores of groups: what the criteria are given, against models worked out by hand."""

from __future__ import annotations

from typing import get_args

import keras
import numpy as np
import pytest
from keras import layers

from tests import zoo
from tests.surgery.cases import randomized
from tfgreen.errors import InvalidValueError
from tfgreen.model.call_spec import read_call_spec
from tfgreen.model.samples import sample_arrays
from tfgreen.surgery.channel_groups import channel_groups
from tfgreen.surgery.channel_importance import Criterion
from tfgreen.surgery.channel_scores import READS_DATA, channel_scores

X = np.random.default_rng(0).normal(size=(50, 3)).astype("float32")  # more than a batch


def two_layers() -> keras.Model:
    stack = [keras.Input((3,), name="x"), layers.Dense(4, "relu", name="a"), layers.Dense(2, name="b")]
    return randomized(keras.Sequential(stack))


def arrays(model: keras.Model) -> tuple[np.ndarray, ...]:
    """The hidden activations, the second kernel and the outputs, in float64."""
    a, b = model.get_layer("a"), model.get_layer("b")
    hidden = np.maximum(X.astype(float) @ a.kernel.numpy() + a.bias.numpy(), 0)
    return hidden, b.kernel.numpy().astype(float), hidden @ b.kernel.numpy() + b.bias.numpy()


def scores(model: keras.Model, criterion: Criterion, **options: object) -> np.ndarray:
    groups = channel_groups(model)
    return channel_scores(groups, criterion, {"x": X}, **options)[0]


def test_activations_are_those_that_the_next_kernel_multiplies():
    model = two_layers()
    np.testing.assert_allclose(scores(model, "activation"), np.abs(arrays(model)[0]).mean(0), rtol=1e-5)


def test_taylor_is_the_change_of_half_the_squared_outputs():
    model = two_layers()
    hidden, kernel, outputs = arrays(model)
    expected = ((hidden * (outputs @ kernel.T)) ** 2).mean(0)
    np.testing.assert_allclose(scores(model, "taylor"), expected, rtol=1e-4)


def test_taylor_with_targets_is_the_change_of_the_loss():
    model = two_layers()
    hidden, kernel, outputs = arrays(model)
    y = np.random.default_rng(1).normal(size=(50, 2)).astype("float32")
    expected = ((hidden * ((outputs - y) @ kernel.T)) ** 2).mean(0)  # of the mean over two outputs: times 2 / 2
    np.testing.assert_allclose(scores(model, "taylor", y=y, loss="mse"), expected, rtol=1e-4)


def test_the_hessian_estimates_the_squared_change_of_the_outputs():
    model = two_layers()
    hidden, kernel, _ = arrays(model)
    groups = channel_groups(model)
    many = [channel_scores(groups, "hessian", {"x": X}, seed=seed)[0] for seed in range(60)]
    expected = (hidden**2).mean(0) * (kernel**2).sum(1)
    np.testing.assert_allclose(np.mean(many, 0), expected, rtol=0.1)


def test_an_activation_behind_flatten_is_the_sum_over_the_map():
    inputs = keras.Input((4, 4, 2), name="x")
    x = layers.Conv2D(3, 3, name="conv")(inputs)
    model = randomized(keras.Model(inputs, layers.Dense(2, name="out")(layers.Flatten()(x))))
    x = np.random.default_rng(0).normal(size=(8, 4, 4, 2)).astype("float32")
    conv = keras.Model(inputs, model.get_layer("conv").output).predict(x, verbose=0)
    got = channel_scores(channel_groups(model), "activation", {"x": x})[0]
    np.testing.assert_allclose(got, np.abs(conv).mean((0, 1, 2)), rtol=1e-5)


@pytest.mark.parametrize("name", zoo.ZOO)
def test_every_criterion_scores_every_group_of_the_zoo(name):
    model = randomized(zoo.ZOO[name]())
    groups = channel_groups(model)
    samples = sample_arrays(zoo.sample(name, 4), read_call_spec(model))
    for criterion in get_args(Criterion):
        found = channel_scores(groups, criterion, samples)
        for group, score in zip(groups, found, strict=True):
            if group.removable and criterion != "bn_scale":
                assert score is not None and score.shape == (group.size,) and (score >= 0).all(), (criterion, group)
            elif score is None and criterion == "bn_scale":
                assert not any(edge.weight == "gamma" for edge in group.edges)


def test_numbers_that_are_not_finite_are_said():
    model = zoo.spoiled(np.nan)
    samples = sample_arrays(zoo.sample("functional", 4), read_call_spec(model))
    for criterion in ("l1", *READS_DATA):
        with pytest.raises(InvalidValueError, match="NaN or infinite"):
            channel_scores(channel_groups(model), criterion, samples)
