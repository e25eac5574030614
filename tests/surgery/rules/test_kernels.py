from __future__ import annotations

import keras
import pytest
from keras import layers

from tests.surgery.cases import PARTS, check_part, randomized
from tfgreen.surgery.channel_groups import channel_groups


@pytest.mark.parametrize("name", PARTS["kernels"])
def test_channels_go_where_they_can_and_nothing_else_changes(name, tmp_path):
    check_part("kernels", name, tmp_path)


def test_a_weight_of_two_layers_shrinks_as_both_can():
    shared, inputs = layers.Dense(6, name="shared"), keras.Input((6,))
    model = randomized(keras.Model(inputs, layers.Dense(2)(shared(shared(inputs)))))
    group, _ = channel_groups(model)
    assert group.removable == 0 and group.name == "shared"
