from __future__ import annotations

import keras
from keras import layers

from tfgreen.surgery.channel_analysis import analyse


def test_weights_and_settings_hold_the_labels_of_what_they_count():
    inputs = keras.Input((3,))
    hidden = layers.Dense(4, name="hidden")(inputs)
    analysis = analyse(keras.Model(inputs, layers.Dense(2, name="out")(hidden)))
    weights = {(weight.path, weight.name): weight.axes for weight in analysis.weights.values()}
    assert weights["hidden", "kernel"][0] is None
    assert (weights["hidden", "kernel"][1] == weights["out", "kernel"][0]).all()
    assert [setting.path for setting in analysis.settings] == ["hidden", "out"]
    reasons = analysis.labels.reasons()
    assert {reasons[root] for root in analysis.labels.roots(weights["out", "kernel"][1]).tolist()} == {
        "they are an output of the model"
    }
