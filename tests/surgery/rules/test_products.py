from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers, ops

from tests.surgery.cases import PARTS, between, check_part, check_removal, randomized


@pytest.mark.parametrize("name", PARTS["products"])
def test_channels_go_where_they_can_and_nothing_else_changes(name, tmp_path):
    check_part("products", name, tmp_path)


def test_attention_scores_of_a_layer_have_no_channels():
    inputs = keras.Input((5, 3))
    x = layers.Dense(8, name="first")(inputs)
    x, scores = layers.Attention()([x, x], return_attention_scores=True)
    model = randomized(keras.Model(inputs, [layers.Dense(2)(x), scores]))
    groups, _ = check_removal(model, np.random.default_rng(0).normal(size=(2, 5, 3)).astype("float32"))
    assert groups[0].removable == 8


def test_attention_in_raw_operations():
    def part(x):
        q, k, v = (ops.reshape(layers.Dense(8)(x), (-1, 5, 4, 2)) for _ in range(3))
        scores = ops.softmax(ops.einsum("bqnh,bknh->bnqk", q, k), axis=-1)
        return layers.Dense(6)(ops.reshape(ops.einsum("bnqk,bknh->bqnh", scores, v), (-1, 5, 8)))

    groups, _ = check_removal(between(part, 5, 3), np.random.default_rng(0).normal(size=(4, 5, 3)).astype("float32"))
    assert sorted(group.removable for group in groups) == [0, 4, 6, 8]


def test_fused_attention():
    def part(x):
        q, k, v = (ops.reshape(layers.Dense(8)(x), (-1, 5, 4, 2)) for _ in range(3))
        return ops.reshape(ops.dot_product_attention(q, k, v, scale=0.5), (-1, 5, 8))

    groups, _ = check_removal(between(part, 5, 3), np.random.default_rng(0).normal(size=(4, 5, 3)).astype("float32"))
    assert sorted(group.removable for group in groups) == [0, 4, 8]
