from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Mapping

import keras
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import layers

import tfgreen as tg
from tests import zoo
from tfgreen.config import Config
from tfgreen.model.weights import Axes
from tfgreen.techniques.overrides import (
    all_settings,
    check_layer_patterns,
    check_overrides,
    check_patterns,
    check_without,
    settings_for,
    weights_to_compress,
)
from tfgreen.transforms.base import Chain
from tfgreen.transforms.codebook import Codebook
from tfgreen.transforms.mask import Mask


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(Config):
    strength: int = 1
    layers: Mapping[str, Settings | None] = dataclasses.field(default_factory=dict)
    extra_weights: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_overrides(self)


@given(st.lists(st.sampled_from(["a*", "*b", "a/?", "*"]), unique=True), st.text("ab/", min_size=1, max_size=4))
def test_the_first_pattern_that_matches_counts(patterns, path):
    config = Settings(layers={pattern: Settings(strength=10 + place) for place, pattern in enumerate(patterns)})
    matching = [10 + place for place, pattern in enumerate(patterns) if fnmatch.fnmatchcase(path, pattern)]
    assert settings_for(path, config).strength == (matching or [1])[0]


def test_none_leaves_a_layer_out_and_settings_are_listed_once():
    own = Settings(strength=2)
    config = Settings(layers={"head": None, "a": own, "b": own})
    assert settings_for("head", config) is None and settings_for("body", config) is config
    assert all_settings(config) == [config, own]


def test_the_settings_keep_copies_of_what_they_were_given():
    given_layers, given_weights = {"head": None}, ["*/bias"]
    config = Settings(layers=given_layers, extra_weights=given_weights)
    given_layers["body"] = None
    given_weights.append("*/gamma")
    assert config.layers == {"head": None} and config.extra_weights == ("*/bias",)


def test_extra_weights_are_asked_for_by_the_path_of_the_layer_and_of_the_weight():
    norm = layers.BatchNormalization()
    norm.build((None, 3))
    conv = layers.DepthwiseConv2D(3)
    conv.build((None, 8, 8, 4))
    config = Settings(extra_weights=("depthwise/kernel", "*/gamma"))
    assert weights_to_compress("norm", norm, config, "get_prunable_weights") == {"gamma": Axes((), (-1,))}
    assert weights_to_compress("depthwise", conv, config, "get_prunable_weights") == {"kernel": Axes((-2,), (-1,))}
    assert weights_to_compress("other", conv, config, "get_prunable_weights") == {}


def test_a_pattern_without_effect_is_named_with_what_it_could_have_matched():
    check_layer_patterns(["a", "b"], ["a", "*"])
    with pytest.raises(ValueError, match=r"layers: expected a pattern that matches one of a, b, received 'c'"):
        check_layer_patterns(["a", "b"], ["c"])
    with pytest.raises(ValueError, match=r"no earlier pattern matches \(none\), received 'a'.*the narrower one first"):
        check_layer_patterns(["a", "b"], ["*", "a"])
    with pytest.raises(ValueError, match="extra_weights.*hidden/kernel.*received 'hidden/gamma'"):
        check_patterns(zoo.functional(), Settings(extra_weights=("hidden/gamma",)))


def test_a_layer_that_is_done_already_is_named():
    chains = {"kernel": Chain("kernel", [Mask(schedule=None)])}
    layer = keras.layers.Dense(2)
    check_without("out", layer, chains, Codebook, "clustered")
    with pytest.raises(ValueError, match=r"layer 'out' \(Dense\) is pruned already.*tg.strip"):
        check_without("out", layer, chains, Mask, "pruned")


def test_a_layer_names_its_weights_in_tfmots_way():
    class Own(keras.layers.Dense):
        def get_prunable_weights(self):
            return [self.bias]

        def get_clusterable_weights(self):
            return [("kernel", self.kernel), ("bias", self.bias)]

    layer = Own(4)
    layer.build((None, 3))
    assert list(weights_to_compress("own", layer, tg.PruneConfig(), "get_prunable_weights")) == ["bias"]
    assert list(weights_to_compress("own", layer, tg.ClusterConfig(), "get_clusterable_weights")) == ["kernel", "bias"]
