from __future__ import annotations

import keras
from keras import layers

from tests.surgery.cases import FLAT, between
from tfgreen.surgery.channel_groups import channel_groups


def test_layers_that_compute_in_another_way_are_left_alone():
    class Doubled(layers.Dense):
        def call(self, x):
            return super().call(x) * keras.ops.sum(x)

    class Plain(layers.Dense):
        """Overrides nothing."""

    assert not channel_groups(between(Doubled(4), *FLAT))[0].removable
    assert channel_groups(between(Plain(4), *FLAT))[0].removable == 8
    integers = layers.Dense(4, name="integers")
    model = between(integers, *FLAT)
    integers.quantize("int8")
    assert {group.name: group.removable for group in channel_groups(model)} == {"first": 0, "last": 0}
