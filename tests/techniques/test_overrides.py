from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Mapping

import keras
import numpy as np
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
from tfgreen.transforms.compressed import compressed_layers
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
    assert weights_to_compress("norm", norm, config, "get_prunable_weights") == {"gamma": (Axes((), (-1,)), config)}
    expected = {"kernel": (Axes((-2,), (-1,)), config)}
    assert weights_to_compress("depthwise", conv, config, "get_prunable_weights") == expected
    assert weights_to_compress("other", conv, config, "get_prunable_weights") == {}


def test_a_pattern_without_effect_is_named_with_what_it_could_have_matched():
    check_layer_patterns(["a", "b"], ["a", "*"])
    with pytest.raises(ValueError, match=r"layers: expected a pattern that matches one of a, b, received 'c'"):
        check_layer_patterns(["a", "b"], ["c"])
    with pytest.raises(ValueError, match=r"no earlier pattern matches \(none\), received 'a'.*the narrower one first"):
        check_layer_patterns(["a", "b"], ["*", "a"])
    with pytest.raises(ValueError, match="extra_weights.*hidden/kernel.*received 'hidden/gamma'"):
        check_patterns(zoo.functional(), Settings(extra_weights=("hidden/gamma",)))


class Block(keras.layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.blocks = [layers.Dense(8), layers.Dense(8)]
        self.attention = layers.MultiHeadAttention(2, 4)

    def call(self, x):
        return self.attention(self.blocks[1](self.blocks[0](x)), x)


class Task(keras.Model):
    """As KerasHub's: a graph that a constructor of its own makes, so that no layer of it can be replaced."""

    def __init__(self, **kwargs):
        inputs = keras.Input((3, 8))
        super().__init__(inputs, layers.Dense(4, name="head")(Block(name="block")(inputs)), **kwargs)


PATTERNS = {
    "a layer": ("block/attention/query_dense", ["block/attention/query_dense/kernel"]),
    "layers": ("block/blocks/*", ["block/blocks/0/kernel", "block/blocks/1/kernel"]),
    "a list": ("block/blocks", ["block/blocks/0/kernel", "block/blocks/1/kernel"]),
    "a block": (
        "block/attention",
        [f"block/attention/{name}_dense/kernel" for name in ("query", "key", "value", "output")],
    ),
    "the head": ("head", ["head/kernel"]),
}
VERBS = {
    "prune": (tg.prune, tg.PruneConfig),
    "cluster": (tg.cluster, tg.ClusterConfig),
    "quantize_weights": (tg.quantize_weights, tg.QuantizeWeightsConfig),
}


def done(model: keras.Model) -> dict[str, str]:
    """The words of the summary for each weight, by its path from the model on."""
    found = tg.summary(model).weights
    return {(s.weight if s.layer == model.name else f"{s.layer}/{s.weight}"): s.text for s in found if s.size}


@pytest.mark.parametrize("pattern", zoo.one_in(2, PATTERNS))
@pytest.mark.parametrize("verb", VERBS)
def test_patterns_reach_the_layers_inside_a_task_and_a_block(verb, pattern):
    call, config = VERBS[verb]
    written, weights = PATTERNS[pattern]
    inputs = keras.Input((3, 8))
    functional = keras.Model(inputs, layers.Dense(4, name="head")(Block(name="block")(inputs)))
    for model in (Task(), functional):
        without = done(call(model, layers={written: None}))
        assert [path for path, text in without.items() if text == "unchanged: the settings leave it out"] == weights
        only = done(call(model, layers={written: config(), "*": None}))
        assert {path for path, text in only.items() if not text.startswith("unchanged")} == set(weights)


def test_a_layer_inside_a_task_gets_settings_of_its_own():
    at_once = {"head": tg.PruneConfig(schedule=tg.ConstantSparsity(0.75, 0)), "block/attention": None}
    pruned = tg.prune(Task(), schedule=tg.ConstantSparsity(0.25, 0), layers=at_once)
    tg.UpdateCompression(pruned).step()
    shares = {status.weight: status.sparsity for status in tg.summary(pruned).weights if status.done}
    assert shares == {"block/blocks/0/kernel": 0.25, "block/blocks/1/kernel": 0.25, "head/kernel": 0.75}
    few = tg.cluster(Task(), number_of_clusters=8, layers={"head": tg.ClusterConfig(number_of_clusters=3)})
    assert len(np.unique(tg.strip(few).layers[-1].kernel)) == 3
    small = tg.quantize_weights(Task(), layers={"block/*": tg.QuantizeWeightsConfig(bits=4)})
    chains = {chain.weight: chain.transforms for _, layer in compressed_layers(small) for chain in layer.chains}
    assert {weight for weight, (rounding,) in chains.items() if rounding.bits == 8} == {"head/kernel"}


def test_data_scores_the_layers_inside_a_task_by_their_settings():
    x = np.random.default_rng(0).normal(size=(64, 3, 8)).astype("float32")
    more = tg.PruneConfig(criterion="wanda", schedule=tg.ConstantSparsity(0.75, 0), calibration_data=x)
    settings = {"block/blocks/0": more, "block/attention": None}
    pruned = tg.prune(Task(), criterion="wanda", calibration_data=x, layers=settings)
    shares = {status.weight: status.sparsity for status in tg.summary(pruned).weights if status.done}
    assert shares == {"block/blocks/0/kernel": 0.75, "block/blocks/1/kernel": 0.5, "head/kernel": 0.5}


def test_a_pattern_that_a_wider_one_hides_inside_a_block_is_refused():
    with pytest.raises(ValueError, match="no earlier pattern matches.*received 'block/attention/query_dense'"):
        tg.prune(Task(), layers={"block/*": None, "block/attention/query_dense": tg.PruneConfig()})
    with pytest.raises(ValueError, match="matches one of block, block/blocks.*received 'blok/'.*Did you mean 'block"):
        tg.cluster(Task(), layers={"blok/": None})


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
