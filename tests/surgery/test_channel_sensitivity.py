from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from tests.surgery.cases import randomized
from tfgreen.surgery.channel_groups import channel_groups
from tfgreen.surgery.channel_sensitivity import channel_errors
from tfgreen.surgery.remove_channels import remove_channels


@pytest.mark.parametrize("batch", [None, 5])
def test_errors_are_those_of_the_slim_models_and_the_model_stays_as_it_is(batch):
    inputs = keras.Input(batch_shape=(batch, 3), name="x")
    hidden = layers.Dense(6, "tanh", name="hidden")(layers.Dense(8, "relu", name="first")(inputs))
    model = randomized(keras.Model(inputs, layers.Dense(4, name="out")(hidden)))
    x = np.random.default_rng(0).normal(size=(20, 3)).astype("float32")
    groups = channel_groups(model)
    scores = [np.arange(8.0), np.arange(6.0), None]
    first, hidden, out = channel_errors(groups, scores, {"x": x})
    assert out is None and first[0] == 0 and (len(first), len(hidden)) == (9, 7)
    expected = model.predict(x, verbose=0)
    for count in (2, 4):  # a quarter and a half are measured
        got = remove_channels(model, groups.analysis, [(groups[0], np.arange(count))]).predict(x, verbose=0)
        error = ((got - expected) ** 2).sum() / (expected**2).sum()
        np.testing.assert_allclose(first[count], error, rtol=1e-4)
    np.testing.assert_allclose(first[3] ** 0.5, (first[2] ** 0.5 + first[4] ** 0.5) / 2)
    again = channel_errors(groups, scores, {"x": x})
    np.testing.assert_array_equal(first, again[0])
