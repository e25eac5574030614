from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import tfgreen as tg
from tests.surgery.cases import PARTS, check_part, check_removal, half, randomized
from tfgreen.model.paths import own_weights
from tfgreen.surgery.channel_groups import channel_groups
from tfgreen.surgery.remove_channels import shrink


@pytest.mark.parametrize("name", PARTS["kernels"])
def test_channels_go_where_they_can_and_nothing_else_changes(name, tmp_path):
    check_part("kernels", name, tmp_path)


def test_a_weight_of_two_layers_shrinks_as_both_can():
    shared, inputs = layers.Dense(6, name="shared"), keras.Input((6,))
    model = randomized(keras.Model(inputs, layers.Dense(2)(shared(shared(inputs)))))
    group, _ = channel_groups(model)
    assert group.removable == 0 and group.name == "shared"


def test_lora_of_an_embedding_shrinks_with_it():
    inputs = keras.Input((4,), dtype="int32")
    x = layers.Flatten()(layers.Embedding(9, 6, lora_rank=2, name="embedding")(inputs))
    model = randomized(keras.Model(inputs, layers.Dense(2)(x)))
    _, slim = check_removal(model, np.arange(8).reshape(2, 4))
    assert [tuple(weight.shape) for weight in slim.get_layer("embedding").weights] == [(9, 3), (9, 2), (2, 3)]


@pytest.mark.parametrize("is_tied", [True, False])
def test_an_embedding_that_is_reversed_keeps_its_vocabulary_alone(is_tied):
    embedding, inputs = layers.ReversibleEmbedding(9, 6, tie_weights=is_tied, name="embedding"), keras.Input((4,))
    x = layers.Dense(6, name="dense")(embedding(inputs))
    model = randomized(keras.Model(inputs, embedding(x, reverse=True)))
    groups, slim = check_removal(model, np.arange(8).reshape(2, 4))
    assert [group.removable for group in groups] == [6]  # one number counts both
    assert slim.output_shape == (None, 4, 9) and slim.get_layer("embedding").output_dim == 3


def test_lora_counts_as_part_of_the_kernel_and_a_mask_holds_both():
    hidden = layers.Dense(4, use_bias=False, lora_rank=1, name="hidden")
    model = keras.Sequential([keras.Input((3,)), hidden, layers.Dense(2, use_bias=False)])
    model.layers[1].kernel.assign(np.ones((4, 2)))
    own_weights(hidden)["kernel"].assign(np.ones((3, 4)) * [1, 0.2, 1, 0.1])
    hidden.lora_kernel_a.assign(np.ones((3, 1)))
    hidden.lora_kernel_b.assign([[-1, 0, 0, 0]])  # with which the first column is zero
    masked = tg.mask_channels(model, tg.ConstantSparsity(0.5, begin_step=0, frequency=1), round_to=1)
    tg.UpdateCompression(masked)
    for slim in (tg.prune_channels(model, ratio=0.5, round_to=1), tg.remove_masked_channels(masked)):
        np.testing.assert_allclose(slim.get_layer("hidden").kernel, np.ones((3, 2)) * [0.2, 1], atol=1e-6)


FIRST = {"data_format": "channels_first"}
CHANNELS_FIRST = {
    "conv2d": (layers.Conv2D(6, 3, **FIRST), (3, 7, 7)),
    "grouped": (layers.Conv2D(6, 3, groups=2, **FIRST), (3, 7, 7)),
    "transposed": (layers.Conv2DTranspose(6, 3, **FIRST), (3, 7, 7)),
    "depthwise": (layers.DepthwiseConv2D(3, **FIRST), (3, 7, 7)),
    "separable": (layers.SeparableConv2D(6, 3, **FIRST), (3, 7, 7)),
    "conv1d": (layers.Conv1D(6, 3, **FIRST), (3, 7)),
    "conv3d": (layers.Conv3D(6, 2, **FIRST), (3, 5, 5, 5)),
}


@pytest.mark.parametrize("name", CHANNELS_FIRST)
def test_a_layer_whose_channels_come_first_expects_fewer_of_them(name):
    layer, shape = CHANNELS_FIRST[name]
    conv = {2: layers.Conv1D, 3: layers.Conv2D, 4: layers.Conv3D}[len(shape)]
    inputs = keras.Input(shape)
    x = layer(conv(8, 2, padding="same", name="first", **FIRST)(inputs))
    model = randomized(keras.Model(inputs, layers.Dense(2)(layers.Flatten(**FIRST)(x))))
    groups = channel_groups(model)
    slim = shrink(model, groups.analysis, half(groups))  # building it is checking it: not every CPU computes this
    assert slim.get_layer("first").filters == 4
