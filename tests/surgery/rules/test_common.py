from __future__ import annotations

import keras
from keras import layers

from tests.surgery.cases import FLAT, between
from tfgreen.surgery.channel_groups import channel_groups


def test_an_activation_that_may_mix_channels_keeps_them():
    for activation in ("softmax", lambda x: x / keras.ops.sum(x, axis=-1, keepdims=True)):
        group, _ = channel_groups(between(layers.Activation(activation), *FLAT))
        assert group.removable == 0 and "may mix" in group.reason
