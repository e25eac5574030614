from __future__ import annotations

import keras
import numpy as np
from keras import layers

from tests.surgery.cases import randomized
from tfgreen.surgery.channel_groups import channel_groups
from tfgreen.surgery.channel_sensitivity import channel_errors


def test_errors_are_measured_at_some_counts_and_their_roots_are_linear_between():
    inputs = keras.Input((3,), name="x")
    hidden = layers.Dense(6, "tanh", name="hidden")(layers.Dense(8, "relu", name="first")(inputs))
    model = randomized(keras.Model(inputs, layers.Dense(4, name="out")(hidden)))
    asked = []

    def error(removed):
        ((group, channels),) = removed
        asked.append((group.name, channels.tolist()))
        return float(len(channels) ** 4)

    first, hidden, out = channel_errors(channel_groups(model), [np.arange(8.0), np.arange(6.0), None], error)
    assert asked[:3] == [("first", [0, 1]), ("first", [0, 1, 2, 3]), ("first", [0, 1, 2, 3, 4, 5, 6])]  # one stays
    assert out is None and first[0] == 0 and (len(first), len(hidden)) == (9, 7)
    np.testing.assert_allclose(first[[1, 2, 3, 4]] ** 0.5, [2, 4, 10, 16])
