"""A wrapper shows Keras the layer inside, also when that is built by shapes of several inputs."""

from __future__ import annotations

import keras
import pytest
from keras import layers

from tfgreen.compat.prune import PruneLowMagnitude
from tfgreen.compat.wrappers.wrapper import Wrapper
from tfgreen.techniques.prune import PruneConfig


def test_a_built_layer_is_copied_and_an_unbuilt_one_is_not():
    layer = layers.Dense(2)
    assert PruneLowMagnitude(layer, config=PruneConfig()).layer is layer
    layer.build((None, 3))
    wrapper = PruneLowMagnitude(layer, config=PruneConfig())
    assert wrapper.layer is not layer and layer.kernel.constraint is None
    assert wrapper.name == f"prune_low_magnitude_{layer.name}"
    assert PruneLowMagnitude(layers.Dropout(0.5), config=PruneConfig(), name="mine").name == "mine"


def test_build_takes_the_shapes_of_the_layer_inside():
    wrapper = PruneLowMagnitude(layers.Attention(use_scale=True))
    query, value = keras.Input((4, 3)), keras.Input((5, 3))
    assert keras.Model([query, value], wrapper([query, value])).output_shape == (None, 4, 3)


def test_a_subclass_says_what_it_chooses():
    with pytest.raises(NotImplementedError, match="must implement choose"):
        Wrapper(layers.Dense(2)).choose()
