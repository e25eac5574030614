from __future__ import annotations

import re

import numpy as np
import pytest
from keras import layers, ops

from tests.surgery.cases import FLAT, between, check_removal
from tfgreen.surgery.channel_groups import channel_groups

MIXING = {
    "softmax": "Softmax 'softmax.*' is computed along them",
    lambda x: x / ops.sum(x, axis=-1, keepdims=True): "Sum 'sum.*' is taken over them",
    lambda x: ops.reshape(ops.relu(x), (-1, 8)): "Reshape 'reshape.*' names their number",
    lambda x: layers.LayerNormalization()(x): "may mix",
    lambda x: x * np.arange(8, dtype="float32"): "joins them with what keeps its size",
    lambda x: x if float(x[0, 0]) > 0 else -x: "may mix",
    layers.PReLU(): "may mix",
}


@pytest.mark.parametrize("activation", MIXING)
def test_an_activation_that_may_mix_channels_keeps_them(activation):
    group, _ = channel_groups(between(layers.Activation(activation), *FLAT))
    assert group.removable == 0
    assert re.search(MIXING[activation], group.reason), group.reason


@pytest.mark.parametrize("activation", [lambda x: x, lambda x: ops.gelu(x, True), lambda x: x * ops.tanh(x)])
def test_a_function_of_each_channel_alone_lets_them_go(activation):
    model = between(layers.Dense(6, activation), *FLAT)
    groups, _ = check_removal(model, np.random.default_rng(0).normal(size=(4, *FLAT)).astype("float32"))
    assert [group.removable for group in groups] == [8, 6, 0]
