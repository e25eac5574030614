from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

import tfgreen as tg
from tests.surgery.cases import FLAT, between, check_removal, half, randomized
from tfgreen.errors import InvalidValueError
from tfgreen.surgery.channel_groups import channel_groups
from tfgreen.surgery.remove_channels import remove_channels
from tfgreen.surgery.trial import compare_outputs


class Coded(layers.Layer):
    """A dense layer, and a function of the layer, of what the dense one returns, and of whether it is trained."""

    def __init__(self, function, units=16, **kwargs):
        super().__init__(**kwargs)
        self.function, self.units = function, units
        self.dense = layers.Dense(units)

    def call(self, x, training=False):
        return self.function(self, self.dense(x), training)

    def get_config(self):
        return {**super().get_config(), "function": self.function, "units": self.units}


READS = {
    "shape": lambda layer, x, training: x / x.shape[-1],
    "tensor of the shape": lambda layer, x, training: x / ops.sqrt(ops.cast(ops.shape(x)[-1], "float32")),
    "branch": lambda layer, x, training: x * 2 if x.shape[-1] > 10 else x * 3,
    "units of a layer": lambda layer, x, training: x * layer.dense.units,
    "argument of its own": lambda layer, x, training: x * layer.units,
    "while it trains": lambda layer, x, training: x + keras.random.normal((16,)) if training else x,
}


@pytest.mark.parametrize("name", READS)
def test_channels_stay_with_whose_number_code_computes(name):
    model = between(lambda x: layers.Dense(6)(Coded(READS[name], name="coded")(x)), *FLAT)
    groups, slim = check_removal(model, np.ones((2, *FLAT), "float32"))
    dense = next(group for group in groups if group.name == "coded/dense")
    assert dense.removable == 0 and dense.reason == "Coded 'coded' computes with their number"
    assert slim.get_layer("first").units == 4 and slim.get_layer("coded").units == 16
    slim.compile("sgd", "mse")
    slim.fit(np.ones((2, *FLAT)), np.ones((2, 3)), verbose=0)


DRAWS = {
    "noise": lambda layer, x, training: x + keras.random.normal(ops.shape(x)) if training else x,
    "scale": lambda layer, x, training: x * keras.random.uniform((1,), 0.5, 1.5) if training else x,
    "noise at inference": lambda layer, x, training: x + 1e-6 * keras.random.normal((1, 1)),
}


@pytest.mark.parametrize("name", DRAWS)
def test_numbers_drawn_at_random_keep_no_channels(name):
    groups, slim = check_removal(between(Coded(DRAWS[name], name="coded"), *FLAT), np.ones((2, *FLAT), "float32"))
    assert [group.removable for group in groups] == [8, 16, 0]
    slim.compile("sgd", "mse")
    slim.fit(np.ones((2, *FLAT)), np.ones((2, 3)), verbose=0)


def test_other_channels_of_the_same_layer_go():
    def attend(layer, x, training):
        scores = ops.matmul(layer.query(x), ops.transpose(layer.key(x), (0, 2, 1)))
        return ops.matmul(ops.softmax(scores / layer.key.units), x)

    inputs = keras.Input((5, 3))
    coded = Coded(attend, name="coded")
    coded.query, coded.key = layers.Dense(8), layers.Dense(8)
    model = randomized(keras.Model(inputs, layers.Dense(2)(coded(inputs))))
    groups, _ = check_removal(model, np.random.default_rng(0).normal(size=(2, 5, 3)).astype("float32"))
    found = {group.name: group.removable for group in groups}
    assert (found["coded/query"], found["coded/dense"]) == (0, 16)


def test_outputs_that_differ_are_an_error_that_names_the_channels():
    model = between(lambda x: layers.Dense(6, name="second")(x), *FLAT)
    groups = channel_groups(model)
    removed = half(groups)
    assert [group.name for group, _ in removed] == ["first", "second"]
    # What no rule knows: a sum over the weights of a layer elsewhere.
    kernel = model.get_layer("first").kernel
    model.get_layer("second").activation = lambda x: x + ops.sum(ops.ones_like(kernel))
    with pytest.raises(InvalidValueError, match=r"Without the channels of \['first'\].*keep=\['first'\]"):
        remove_channels(model, groups.analysis, removed)


def test_inputs_that_cannot_be_made_up_are_said_and_calibration_data_is_used_instead():
    inputs = keras.Input((1,), dtype="string")
    x = layers.Embedding(5, 8)(layers.StringLookup(vocabulary=["a", "b"])(inputs))
    second = layers.Dense(8)
    model = randomized(keras.Model(inputs, layers.Dense(2)(second(x))))
    words = np.array([["a"], ["c"], ["b"], ["a"]])
    with pytest.warns(UserWarning, match="was not checked: no inputs at random fit it.*calibration_data"):
        groups, slim = check_removal(model, tf.constant(words))
    assert groups[0].removable == 8
    tg.prune_channels(model, round_to=1, calibration_data=words, reconstruct="none")
    second.activation = lambda x: x + ops.sum(ops.ones_like(second.kernel))
    with pytest.raises(InvalidValueError, match="Without the channels of"):
        tg.prune_channels(model, round_to=1, calibration_data=words, reconstruct="none")


def test_a_model_without_stable_digits_is_not_compared():
    inputs = keras.Input((8,))
    x = layers.Dense(8, name="first")(inputs)
    model = randomized(keras.Model(inputs, layers.Dense(2)(ops.sign(ops.sin(x * 1e9)))))
    groups = channel_groups(model)
    removed = half(groups)
    error, why = compare_outputs(model, keras.models.clone_model(model), removed)
    assert error == 0 and "rounding" in why
