from __future__ import annotations

import keras
import pytest
from keras import layers

from tests.surgery.depth.cases import Listed, encoder
from tfgreen.surgery.depth.find_stacks import find_stacks


def outputs_of_blocks(model: keras.Model) -> list[list[str]]:
    return [[block.output for block in stack.blocks] for stack in find_stacks(model)]


def test_a_block_of_several_calls_ends_where_one_flow_goes_on():
    assert outputs_of_blocks(encoder(3)) == [["last_0", "last_1", "last_2"]]
    (stack,) = find_stacks(encoder(3, norm_first=True))
    assert [len(block.operations) for block in stack.blocks] == [6, 6, 6]
    assert {block.output for block in stack.blocks} == {""}  # a raw addition
    assert [name for name, _ in stack.blocks[1].layers] == ["norm_1", "attention_1", "in_1", "out_1"]


def test_layers_in_a_list_are_blocks_if_each_reads_the_one_before():
    model = Listed()
    model.build((None, 8))
    assert outputs_of_blocks(model) == [[f"blocks/{number}" for number in range(4)]]

    class Branches(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.branches = [layers.Dense(8) for _ in range(3)]

        def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
            return layers.add([branch(x) for branch in self.branches])

    branched = Branches()
    branched(keras.ops.ones((1, 8)))
    with pytest.raises(ValueError, match="repeats no blocks"):
        find_stacks(branched)


def test_blocks_whose_outputs_are_read_elsewhere_are_none():
    x = inputs = keras.Input((8,))
    every = []
    for number in range(3):
        x = layers.Dense(8, name=f"block_{number}")(x)
        every.append(x)
    with pytest.raises(ValueError, match="repeats no blocks"):
        find_stacks(keras.Model(inputs, layers.Add()(every)))


def test_a_layer_that_is_called_again_is_a_block_for_each_call():
    shared, x = layers.Dense(8, name="shared"), keras.Input((8,))
    model = keras.Model(x, layers.Dense(2)(shared(shared(shared(x)))))
    assert outputs_of_blocks(model) == [["shared", "shared@1", "shared@2"]]


def test_of_several_stacks_the_largest_counts_with_those_of_its_kind():
    wide = [layers.Dense(32, name=f"wide_{number}") for number in range(3)]
    small = [layers.BatchNormalization(name=f"small_{number}") for number in range(3)]
    model = keras.Sequential([keras.Input((32,)), *wide, *small, layers.Dense(2)])
    assert outputs_of_blocks(model) == [["wide_0", "wide_1", "wide_2"]]
