from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

import tfgreen as tg
from tests.surgery.cases import FLAT, Gated, between, check_removal, half, outputs, randomized
from tfgreen.errors import InvalidValueError
from tfgreen.surgery.channel_groups import channel_groups
from tfgreen.surgery.remove_channels import remove_channels


def slimmed(model: keras.Model) -> keras.Model:
    groups = channel_groups(model)
    return remove_channels(model, groups.analysis, half(groups))


def test_a_setting_that_names_the_size_is_changed():
    slim = slimmed(between(Gated(6, name="gated"), *FLAT))
    assert slim.get_layer("gated").units == 3


def check_saved(slim: keras.Model, folder: Path, x: object, *classes: type) -> keras.Model:
    """What is loaded computes the same, and can be saved and slimmed again."""
    custom = {cls.__name__: cls for cls in classes}
    before, loaded = outputs(slim, x), slim
    for _ in range(2):
        loaded.save(folder / "slim.keras")
        loaded = keras.models.load_model(folder / "slim.keras", custom_objects=custom, compile=False)
        for expected, got in zip(before, outputs(loaded, x), strict=True):
            np.testing.assert_array_equal(got, expected)
    assert slimmed(loaded).count_params() < slim.count_params()
    return loaded


class Multiplied(Gated):
    """A block that computes with an argument of its own."""

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        return super().call(x) / self.units


def test_a_setting_that_code_computes_with_is_left_as_it_is(tmp_path):
    groups, slim = check_removal(between(Multiplied(6, name="block"), *FLAT), np.ones((2, 3), "float32"))
    assert slim.get_layer("block").units == 6 and slim.get_layer("block").value.units == 3
    assert {group.removable for group in groups if group.name.startswith("block")} == {6}
    check_saved(slim, tmp_path, np.ones((2, 3), "float32"), Multiplied)


class Fixed(layers.Layer):
    """A block whose sizes stand in its code."""

    def __init__(self, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.one, self.two = layers.Dense(6), layers.Dense(8)

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        return self.two(self.one(x))


def test_sizes_that_stand_in_code_are_saved_beside_the_config(tmp_path):
    slim = slimmed(between(Fixed(name="block"), *FLAT))
    assert slim.get_layer("block").one.units == 3 and isinstance(slim.get_layer("block"), Fixed)
    loaded = check_saved(slim, tmp_path, np.ones((2, 3), "float32"), Fixed)
    assert loaded.get_layer("block").one.units == 3 and isinstance(loaded.get_layer("block"), Fixed)
    block = keras.models.clone_model(loaded).get_layer("block")
    assert keras.ops.any(block.one.kernel) and keras.ops.any(block.two.kernel)


def test_a_slim_block_goes_through_every_verb(tmp_path):
    slim = slimmed(between(Fixed(name="block"), *FLAT))
    x = np.random.default_rng(0).normal(size=(16, 3)).astype("float32")
    pruned = tg.strip(tg.prune(slim))
    assert [weight.shape for weight in pruned.weights] == [weight.shape for weight in slim.weights]
    compressed = tg.quantize(tg.prune(slim), calibration_data=x)
    compressed.save(tmp_path / "slim.keras")
    loaded = keras.models.load_model(tmp_path / "slim.keras", custom_objects={"Fixed": Fixed}, compile=False)
    np.testing.assert_array_equal(outputs(loaded, x), outputs(compressed, x))
    np.testing.assert_allclose(tg.convert(slim).predict(x), slim.predict(x, verbose=0), rtol=0, atol=1e-5)


class Unnamed(Fixed):
    """A block whose config does not hold what its constructor needs."""

    def __init__(self, units: int, **kwargs: object) -> None:
        super().__init__(**kwargs)

    def get_config(self) -> dict[str, object]:
        return {"name": self.name}


def test_what_keras_could_not_load_is_said_when_it_is_saved(tmp_path):
    slim = slimmed(between(Unnamed(6, name="block"), *FLAT))
    with pytest.raises(InvalidValueError, match=r"layer 'block' \(Unnamed\) has lost channels.*all its arguments"):
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


def test_a_model_of_its_own_class_and_the_plain_one_of_its_graph_are_saved(tmp_path):
    slim, x = slimmed(randomized(Backbone(6, name="backbone"))), np.ones((2, *FLAT))
    assert isinstance(check_saved(slim, tmp_path, x, Backbone, Gated), Backbone)
    check_saved(keras.Model(slim.inputs, slim.outputs), tmp_path, x, Gated)
