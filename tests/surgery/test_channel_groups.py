from __future__ import annotations

import keras
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
