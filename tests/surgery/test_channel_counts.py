"""Counts without surgery are those of the slim model."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import tfgreen as tg
from tests import zoo
from tests.surgery.cases import half, randomized
from tfgreen.surgery.channel_counts import ChannelCounts
from tfgreen.surgery.channel_groups import channel_groups
from tfgreen.surgery.remove_channels import remove_channels


@pytest.mark.parametrize("name", zoo.ZOO)
def test_parameters_and_macs_are_those_of_the_slim_model(name):
    model = zoo.ZOO[name]()
    groups = channel_groups(model)
    counts, removed = ChannelCounts(groups, tg.profile(model)), half(groups)
    slim = tg.profile(remove_channels(model, groups.analysis, removed))
    assert counts.count(removed) == (slim.parameters, slim.macs)
    assert counts.count([]) == (tg.profile(model).parameters, tg.profile(model).macs)


def test_products_of_activations_are_counted_as_before():
    inputs = keras.Input((5, 3))
    x = layers.Dense(8, name="wide")(inputs)
    model = randomized(keras.Model(inputs, layers.Dense(2)(layers.Dot(axes=2)([x, x]))))
    groups = channel_groups(model)
    wide = next(group for group in groups if group.name == "wide")
    removed = [(wide, np.arange(4))]
    slim = tg.profile(remove_channels(model, groups.analysis, removed))
    counted = ChannelCounts(groups, tg.profile(model)).count(removed)
    assert counted[0] == slim.parameters and counted[1] >= slim.macs


def test_macs_that_are_unknown_are_named():
    inputs = keras.Input((None, 3))
    model = keras.Model(inputs, layers.Dense(2)(layers.Dense(8, name="wide")(inputs)))
    counts = ChannelCounts(channel_groups(model), tg.profile(model))
    assert "layer 'wide' cannot be counted" in counts.unknown_macs
    assert not counts.by_macs("target_latency_ms")
