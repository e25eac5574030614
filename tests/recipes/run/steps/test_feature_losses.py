from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from tfgreen.recipes.run.steps.feature_losses import feature_losses, joins


def residual(*names: str) -> keras.Model:
    x = inputs = keras.Input((4,))
    for name in names:
        x = layers.Add(name=name)([x, layers.Dense(4)(x)])
    return keras.Model(inputs, layers.Dense(2)(x))


def test_each_join_that_both_have_counts_by_its_power():
    teacher, student = residual("one", "two", "three"), residual("one", "three")
    x = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
    losses, weights = feature_losses(teacher, student, x, 2.0)
    assert [(loss.teacher_layer_name, loss.student_layer_name) for loss in losses] == [("one",) * 2, ("three",) * 2]
    for name, weight in zip(("one", "three"), weights):
        features = keras.Model(teacher.input, teacher.get_layer(name).output)(x).numpy().astype("float64")
        assert weight == pytest.approx(2 / features.var(0).mean(), rel=1e-4)
    losses, (weight,) = feature_losses(teacher, residual("two"), x, 1.0)
    assert len(losses) == 1 and weight > 0


def test_a_join_is_seen_behind_its_activation():
    x = inputs = keras.Input((4,))
    x = layers.ReLU(name="behind")(layers.Add(name="sum")([x, layers.Dense(4)(x)]))
    y = layers.Add(name="twice")([x, layers.Dense(4)(x)])
    model = keras.Model(inputs, layers.Concatenate()([y, layers.Activation("tanh")(y)]))
    assert joins(model) == ["behind", "twice"]


def test_a_model_without_joins_and_a_weight_of_zero_have_none():
    plain = keras.Sequential([keras.Input((4,)), layers.Dense(2)])
    x = np.zeros((2, 4), "float32")
    assert feature_losses(plain, plain, x, 2.0) == ([], [])
    assert feature_losses(residual("one"), residual("one"), x, 0.0) == ([], [])

    class Own(keras.Model):
        def call(self, inputs):
            return inputs

    assert joins(Own()) == []
