from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from tests import zoo
from tfgreen.surgery.channel_groups import channel_groups


def test_groups_are_the_coupled_axes_of_weights():
    x = inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, padding="same", name="stem")(x)
    y = layers.BatchNormalization(name="norm")(layers.Conv2D(6, 3, padding="same", name="inner")(x))
    x = layers.Add()([x, layers.Conv2D(4, 3, padding="same", use_bias=False, name="back")(y)])
    model = keras.Model(inputs, layers.Dense(2, name="out")(layers.Flatten()(x)))
    stream, inner, out = channel_groups(model)
    assert set(map(str, stream.edges)) == {
        "stem/kernel[3]", "stem/bias[0]", "inner/kernel[2]", "back/kernel[3]", "out/kernel[0]",
    }  # fmt: skip
    assert [edge.places.shape for edge in stream.edges if edge.layer == "out"] == [(4, 64)]
    assert {edge.layer for edge in inner.edges} == {"inner", "norm", "back"} and len(inner.edges) == 7
    assert out.reason == "they are an output of the model" and out.removable == 0
    assert inner.axes == "inner/kernel[3], inner/bias[0], norm/*, back/kernel[2]"
    assert f"inner: 6 channels in {inner.axes}\n" in str(channel_groups(model)) and out.to_dict()["size"] == 2
    assert str(channel_groups(model)).endswith("\n3 groups, 10 of 12 channels can be removed")
    assert "3 groups, 10 of 12" in channel_groups(model)._repr_html_()


def test_long_lines_are_wrapped():
    x = inputs = keras.Input((8,))
    x = layers.Dense(6, name="stem")(x)
    for number in range(12):
        x = layers.Add()([x, layers.BatchNormalization(name=f"norm_{number}")(layers.Dense(6, name=f"d_{number}")(x))])
    lines = str(channel_groups(keras.Model(inputs, layers.Dense(2)(x)))).splitlines()
    assert max(map(len, lines)) <= 120 and lines[0].startswith("stem: 6 channels in") and lines[1].startswith("    ")


def test_channels_of_a_concatenation_are_groups_of_their_own():
    assert [group.size for group in channel_groups(zoo.concat())] == [4, 4, 4, 4]


class Foreign(keras.Model):
    """A model whose code calls TensorFlow."""

    def __init__(self):
        super().__init__()
        self.one, self.two = layers.Dense(4), layers.Dense(2)

    def call(self, x):
        x = self.one(x)
        x = tf.nn.relu(x)
        return self.two(x)


def test_kernels_that_cannot_be_traced_are_listed_with_the_reason():
    model = Foreign()
    model(np.zeros((1, 3)))
    reason = "model 'foreign' (Foreign) cannot be traced: 'x = tf.nn.relu(x)' calls TensorFlow; call keras.ops instead"
    model.name = "foreign"
    found = [(group.name, group.removable, group.reason) for group in channel_groups(model)]
    assert found == [("one", 0, reason), ("two", 0, reason)]
    x = inputs = keras.Input((5, 3))
    x = layers.SpectralNormalization(layers.Dense(4), name="norm")(x)
    x = layers.RNN([layers.LSTMCell(4), layers.GRUCell(4)], name="stack")(x)
    groups = channel_groups(keras.Model(inputs, layers.Dense(2, "softmax")(x)))
    assert {"norm/layer", "stack/cell/cells/0", "stack/cell/cells/1"} <= {group.name for group in groups}
    assert all(group.reason for group in groups)


def test_the_reason_that_cannot_be_helped_goes_first():
    inputs = keras.Input((6,))
    (group,) = channel_groups(keras.Model(inputs, layers.Dense(3, "softmax")(inputs)))
    assert group.reason == "they are an output of the model"
    nested, inputs = keras.Sequential([keras.Input((6,)), layers.Dense(6, name="twice")]), keras.Input((6,))
    group, _ = channel_groups(keras.Model(inputs, layers.Dense(2)(nested(nested(inputs)))))
    assert "also called on what keeps its size" in group.reason
