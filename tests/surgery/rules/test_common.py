from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

from tests.surgery.cases import FLAT, between, check_removal
from tfgreen.surgery.channel_groups import channel_groups

MIXING = [
    "softmax", lambda x: x / ops.sum(x, axis=-1, keepdims=True), lambda x: ops.reshape(ops.relu(x), (-1, 8)),
    lambda x: layers.LayerNormalization()(x), lambda x: x * np.arange(8, dtype="float32"),
    lambda x: x if float(x[0, 0]) > 0 else -x, lambda x: x / x.shape[-1], lambda x: x + np.random.normal(size=x.shape),
    layers.PReLU(),
]  # fmt: skip


@pytest.mark.parametrize("activation", MIXING)
def test_an_activation_that_may_mix_channels_keeps_them(activation):
    group, _ = channel_groups(between(layers.Activation(activation), *FLAT))
    assert group.removable == 0 and "may mix them" in group.reason


def test_a_recurrent_layer_is_activated_step_by_step():
    gru = layers.GRU(4, activation=lambda x: ops.softmax(x, axis=1))
    group = channel_groups(between(gru, 5, 3))[1]
    assert group.removable == 0 and "may mix them" in group.reason


KNOWN = "celu elu exponential gelu hard_sigmoid leaky_relu mish relu6 selu sigmoid silu softplus softsign tanh".split()
ALONE = [lambda x: x, lambda x: ops.gelu(x, True), lambda x: x * ops.tanh(x), tf.nn.relu, keras.activations.swish]


@pytest.mark.slow
@pytest.mark.parametrize("activation", [*KNOWN, *ALONE])
def test_a_function_of_each_channel_alone_lets_them_go(activation):
    model = between(layers.Dense(6, activation), *FLAT)
    groups, _ = check_removal(model, np.random.default_rng(0).normal(size=(4, *FLAT)).astype("float32"))
    assert [group.removable for group in groups] == [8, 6, 0]
