from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from tests.surgery.cases import PARTS, STEPS, between, check_part, check_removal, randomized
from tfgreen.surgery.channel_groups import channel_groups


@pytest.mark.parametrize("name", PARTS["sequences"])
def test_channels_go_where_they_can_and_nothing_else_changes(name, tmp_path):
    check_part("sequences", name, tmp_path)


def test_both_directions_lose_the_same_units():
    model = between(layers.Bidirectional(layers.LSTM(4), name="both"), *STEPS)
    (units,) = [group for group in channel_groups(model) if group.name.startswith("both")]
    assert units.size == 4 and {edge.layer.split("/")[1] for edge in units.edges if "/" in edge.layer} == {
        "forward_layer", "backward_layer",
    }  # fmt: skip


def test_heads_go_with_the_lora_of_their_projections():
    attention, inputs = layers.MultiHeadAttention(4, 3, name="attention"), keras.Input(STEPS)
    model = keras.Model(inputs, attention(inputs, inputs))
    attention._query_dense.enable_lora(2)
    attention._value_dense.enable_lora(2)
    check_removal(randomized(model), np.random.default_rng(0).normal(size=(2, *STEPS)).astype("float32"))
    (heads,) = [group for group in channel_groups(model) if group.removable]
    assert heads.size == 4 and {edge.axis for edge in heads.edges if "lora" in edge.weight} == {1}


@pytest.mark.parametrize("layer", [layers.MultiHeadAttention(4, 3), layers.GroupQueryAttention(3, 4, 2)])
def test_heads_stay_where_their_scores_are_an_output(layer):
    inputs = keras.Input(STEPS)
    x, scores = layer(inputs, inputs, return_attention_scores=True)
    sample = np.random.default_rng(0).normal(size=(2, *STEPS)).astype("float32")
    for last in (scores, keras.ops.mean(scores, axis=1), keras.ops.max(scores, axis=1)):
        groups, slim = check_removal(randomized(keras.Model(inputs, [layers.Dense(2)(x), last])), sample)
        assert groups[0].removable == 0 and groups[0].reason
        assert slim.output_shape[1] == last.shape
    on_scores = layers.Dense(2)(layers.Flatten()(scores))
    groups, _ = check_removal(randomized(keras.Model(inputs, [layers.Dense(2)(x), on_scores])), sample)
    assert groups[0].removable == groups[0].size  # what reads the scores loses the places of a head


def test_heads_stay_of_which_a_mask_has_one_for_each():
    inputs = keras.Input(STEPS)
    x = layers.MultiHeadAttention(4, 3)(inputs, inputs, attention_mask=keras.ops.ones((1, 4, 5, 5), "bool"))
    assert "attention mask" in channel_groups(keras.Model(inputs, layers.Dense(2)(x)))[0].reason
