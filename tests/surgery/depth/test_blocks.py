from __future__ import annotations

import keras
from keras import layers

from tfgreen.surgery.depth.blocks import Block, Stack


def test_a_block_goes_by_the_layer_that_ends_it_and_a_stack_by_its_classes_and_weights():
    dense, shared = layers.Dense(2), layers.Dense(2)
    for layer in (dense, shared):
        layer.build((None, 2))
    blocks = [Block((("a", 0), ("shared", number)), (dense, shared), {}) for number in range(2)]
    assert [block.output for block in blocks] == ["shared", "shared@1"]
    assert Block((("a", 0),), (dense, keras.ops.add), {}).output == ""
    stack = Stack("", dense, tuple(blocks))
    assert stack.size == 2 * 2 * 6 and stack.kind == (layers.Dense, layers.Dense)
