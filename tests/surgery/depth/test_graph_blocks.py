from __future__ import annotations

import keras
from keras import layers

from tests.surgery.depth.cases import encoder
from tfgreen.surgery.depth.graph_blocks import stacks_of_graph


def test_what_masks_are_made_of_is_no_part_of_a_block():
    (stack,) = [stack for stack in stacks_of_graph("", encoder(3)) if len(stack.blocks) == 3]
    assert [type(operation).__name__ for operation in stack.blocks[2].operations] == [
        "MultiHeadAttention", "Add", "LayerNormalization", "Dense", "Dense", "Add", "LayerNormalization",
    ]


def test_a_first_block_that_makes_what_the_others_read_cannot_be_left_out():
    class Block(layers.Layer):
        def call(self, x: keras.KerasTensor, bias: keras.KerasTensor | None = None) -> tuple[keras.KerasTensor, ...]:
            bias = x * 2 if bias is None else bias
            return x + bias, bias

    x, bias = keras.Input((4,)), None
    outputs = x
    for _ in range(3):
        outputs, bias = Block()(outputs, bias=bias)
    (stack,) = stacks_of_graph("", keras.Model(x, outputs))
    assert [block.picks is None for block in stack.blocks] == [True, False, False]


def test_blocks_of_other_shapes_are_other_blocks():
    widths = (8, 8, 4, 4, 4)
    model = keras.Sequential([keras.Input((8,)), *[layers.Dense(width) for width in widths]])
    assert sorted(len(stack.blocks) for stack in stacks_of_graph("", model)) == [2, 3]
