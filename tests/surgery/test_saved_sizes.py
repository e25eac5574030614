from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from tests.surgery.cases import FLAT, Gated, between, check_removal, half, randomized
from tfgreen.errors import InvalidValueError
from tfgreen.surgery.channel_groups import channel_groups
from tfgreen.surgery.remove_channels import remove_channels


def slimmed(model: keras.Model) -> keras.Model:
    groups = channel_groups(model)
    return remove_channels(model, groups.analysis, half(groups))


def test_a_setting_that_names_the_size_is_changed():
    slim = slimmed(between(Gated(6, name="gated"), *FLAT))
    assert slim.get_layer("gated").units == 3


class Multiplied(Gated):
    """A block that computes with an argument of its own."""

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        return super().call(x) / self.units


def test_a_setting_that_code_computes_with_is_left_as_it_is(tmp_path):
    groups, slim = check_removal(between(Multiplied(6, name="block"), *FLAT), np.ones((2, 3), "float32"))
    assert slim.get_layer("block").units == 6 and slim.get_layer("block").value.units == 3
    assert {group.removable for group in groups if group.name.startswith("block")} == {6}
    with pytest.raises(InvalidValueError, match="block"):
        slim.save(tmp_path / "slim.keras")


class Fixed(layers.Layer):
    """A block whose sizes stand in its code."""

    def __init__(self, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.one, self.two = layers.Dense(6), layers.Dense(8)

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        return self.two(self.one(x))


def test_what_keras_could_not_load_is_said_when_it_is_saved(tmp_path):
    model = between(Fixed(name="block"), *FLAT)
    slim = slimmed(model)
    assert slim.get_layer("block").one.units == 3
    with pytest.raises(InvalidValueError, match=r"layer 'block' \(Fixed\) has lost channels.*keep=\['block'\]"):
        slim.save(tmp_path / "slim.keras")
    x = np.ones((2, 3), "float32")
    slim.save_weights(tmp_path / "slim.weights.h5")
    before = slim.predict(x, verbose=0)
    randomized(slim, seed=1).load_weights(tmp_path / "slim.weights.h5")
    np.testing.assert_array_equal(slim.predict(x, verbose=0), before)


class Backbone(keras.Model):
    """A functional model of a class of its own, with a block inside."""

    def __init__(self, units: int, **kwargs: object) -> None:
        inputs = keras.Input(FLAT)
        super().__init__(inputs, layers.Dense(2)(Gated(units, name="gated")(layers.Dense(8)(inputs))), **kwargs)

    def get_config(self) -> dict[str, object]:
        return {"units": 6, "name": self.name}


def test_blocks_inside_of_a_model_that_cannot_be_saved_can_be(tmp_path):
    slim = slimmed(randomized(Backbone(6, name="backbone")))
    with pytest.raises(InvalidValueError, match=r"^model 'backbone' \(Backbone\) has lost.*keras.Model\(model.inputs"):
        slim.save(tmp_path / "slim.keras")
    keras.Model(slim.inputs, slim.outputs).save(tmp_path / "slim.keras")
    loaded, x = keras.models.load_model(tmp_path / "slim.keras", custom_objects={"Gated": Gated}), np.ones((2, *FLAT))
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), slim.predict(x, verbose=0))
