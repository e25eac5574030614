from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers, ops

from tests.surgery.cases import FLAT, PARTS, between, check_part, check_removal
from tfgreen.surgery.channel_groups import channel_groups


@pytest.mark.parametrize("name", PARTS["moves"])
def test_channels_go_where_they_can_and_nothing_else_changes(name, tmp_path):
    check_part("moves", name, tmp_path)


class Halves(layers.Layer):
    """Code that names the places of channels."""

    def call(self, x):
        return x[:, :4] * x[:, 4:]


class Doubling(layers.Layer):
    def call(self, x):
        return ops.reshape(x, (-1, 2, 4))


def test_numbers_in_code_keep_the_channels():
    for layer in (Halves(), Doubling()):
        group = channel_groups(between(layer, *FLAT))[0]
        assert group.removable == 0 and "names their" in group.reason


def test_a_constant_in_a_concatenation():
    model = between(lambda x: keras.ops.concatenate([x, x * 0], axis=-1), *FLAT)
    check_removal(model, np.ones((2, 3), "float32"))
