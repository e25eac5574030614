from __future__ import annotations

import numpy as np
import pytest
from keras import layers, ops

from tests.surgery.cases import FLAT, PARTS, between, check_part, check_removal
from tfgreen.surgery.channel_groups import channel_groups


@pytest.mark.parametrize("name", PARTS["operations"])
def test_channels_go_where_they_can_and_nothing_else_changes(name, tmp_path):
    check_part("operations", name, tmp_path)


def test_an_operation_without_a_rule_keeps_the_channels():
    group = channel_groups(between(lambda x: ops.fft((x, x))[0], *FLAT))[0]
    assert group.removable == 0 and "cannot be traced" in group.reason


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
