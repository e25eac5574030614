"""Costs against numbers worked out by hand, as written in each case."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
from keras import layers

import tfgreen as tg
from tests import zoo

# layer, input shape of one sample, parameters, MACs
HAND_COUNTED = {
    "dense": (lambda: layers.Dense(5), (3,), 3 * 5 + 5, 3 * 5),
    "dense on a sequence": (lambda: layers.Dense(5), (7, 3), 20, 7 * 15),
    "conv1d": (lambda: layers.Conv1D(5, 3), (8, 2), 3 * 2 * 5 + 5, 6 * 30),
    "conv2d strided": (lambda: layers.Conv2D(5, 3, strides=2, padding="same"), (8, 8, 2), 95, 4 * 4 * 90),
    "conv2d grouped": (lambda: layers.Conv2D(6, 3, groups=2, use_bias=False), (6, 6, 4), 9 * 2 * 6, 16 * 108),
    "conv2d dilated": (lambda: layers.Conv2D(2, 3, dilation_rate=2), (7, 7, 1), 20, 3 * 3 * 18),
    "conv3d": (lambda: layers.Conv3D(2, 2), (3, 3, 3, 4), 8 * 4 * 2 + 2, 8 * 64),
    "depthwise": (lambda: layers.DepthwiseConv2D(3, depth_multiplier=2), (5, 5, 4), 9 * 8 + 8, 9 * 72),
    "depthwise 1d": (lambda: layers.DepthwiseConv1D(3), (5, 4), 12 + 4, 3 * 12),
    "separable": (lambda: layers.SeparableConv2D(6, 3), (5, 5, 4), 36 + 24 + 6, 9 * (36 + 24)),
    "transpose": (lambda: layers.Conv2DTranspose(3, 2, strides=2), (4, 4, 5), 4 * 15 + 3, 16 * 60),
    "einsum": (lambda: layers.EinsumDense("abc,cde->abde", (None, 2, 3)), (7, 4), 24, 7 * 24),
    "einsum ellipsis": (lambda: layers.EinsumDense("...c,cd->...d", 3), (7, 5, 4), 12, 35 * 12),
    "embedding": (lambda: layers.Embedding(10, 4), (6,), 40, 0),
    "lstm": (lambda: layers.LSTM(6), (5, 4), 4 * 6 * (4 + 6 + 1), 5 * 4 * 6 * (4 + 6)),
    "gru": (lambda: layers.GRU(6), (5, 4), 3 * 6 * (4 + 6 + 2), 5 * 3 * 6 * (4 + 6)),
    "simple rnn": (lambda: layers.SimpleRNN(6), (5, 4), 6 * (4 + 6 + 1), 5 * 6 * (4 + 6)),
    "bidirectional": (lambda: layers.Bidirectional(layers.SimpleRNN(6)), (5, 4), 2 * 66, 2 * 300),
    "conv lstm": (lambda: layers.ConvLSTM2D(2, 3), (4, 6, 6, 1), 9 * 8 + 9 * 2 * 8 + 8, 4 * 16 * (72 + 144)),
    "time distributed": (lambda: layers.TimeDistributed(layers.Conv2D(2, 3)), (4, 5, 5, 1), 20, 4 * 9 * 18),
    "batch norm": (lambda: layers.BatchNormalization(), (5,), 20, 0),
    "layer norm": (lambda: layers.LayerNormalization(), (5,), 10, 0),
    "prelu": (lambda: layers.PReLU(), (5,), 5, 0),
    "pooling": (lambda: layers.MaxPooling2D(), (4, 4, 2), 0, 0),
    "spectral": (lambda: layers.SpectralNormalization(layers.Dense(5)), (3,), 20 + 5, 15),
    "custom": (lambda: zoo.ScaledDense(5), (7, 3), 15 + 5, 7 * 15),
}


@pytest.mark.parametrize("case", HAND_COUNTED)
def test_costs_of_one_layer_are_those_worked_out_by_hand(case):
    make, shape, parameters, macs = HAND_COUNTED[case]
    inputs = keras.Input(shape)
    profile = tg.profile(keras.Model(inputs, make()(inputs)))
    assert profile.parameters == parameters
    assert profile.macs == macs
    assert profile.size_bytes == 4 * parameters


@pytest.mark.parametrize("name", zoo.ZOO)
def test_parameters_of_every_zoo_model_are_those_keras_counts_and_pruning_changes_no_cost(name):
    model = zoo.ZOO[name]()
    profile = tg.profile(model)
    assert profile.parameters == model.count_params()
    assert profile.macs is not None and profile.macs > 0
    pruned = tg.profile(tg.prune(model, tg.PruneConfig(schedule=tg.ConstantSparsity(0.5, 0))))
    assert pruned == profile


def test_attention_counts_scores_and_values():
    query, value = keras.Input((7, 8)), keras.Input((5, 8))
    profile = tg.profile(keras.Model([query, value], layers.MultiHeadAttention(2, 3, value_dim=4)(query, value)))
    projections = 7 * 8 * 6 + 5 * 8 * 6 + 5 * 8 * 8 + 7 * 8 * 8
    assert profile.macs == projections + 2 * 7 * 5 * (3 + 4)


def test_a_shared_layer_is_counted_for_every_call_and_its_weights_once():
    shared = {cost.path: cost for cost in tg.profile(zoo.shared_layer()).layers}["shared"]
    assert (shared.parameters, shared.macs) == (6 * 8 + 8, 2 * 6 * 8)


def test_nested_models_are_counted_at_the_shapes_they_are_called_with():
    inner = keras.Sequential([keras.Input((None, None, 1)), layers.Conv2D(2, 3, name="conv")], name="inner")
    inputs = keras.Input((6, 6, 1))
    profile = tg.profile(keras.Model(inputs, inner(inputs)))
    assert [(cost.path, cost.macs) for cost in profile.layers] == [("inner/conv", 16 * 18)]


def test_products_of_raw_operations_are_counted():
    left, right = keras.Input((3, 4)), keras.Input((4, 5))
    assert tg.profile(keras.Model([left, right], keras.ops.matmul(left, right))).macs == 3 * 4 * 5
    assert tg.profile(keras.Model([left, right], layers.Dot((2, 1))([left, right]))).macs == 3 * 4 * 5


def test_an_open_shape_is_unknown_with_its_reason_and_never_zero():
    inputs = keras.Input((None, None, 1))
    profile = tg.profile(keras.Model(inputs, layers.Conv2D(2, 3, name="conv")(inputs)))
    assert profile.macs is None and profile.layers[0].macs is None
    assert "not fixed" in profile.layers[0].reason
    assert "unknown" in str(profile) and "not fixed" in str(profile)


def test_nonzeros_are_counted_and_the_table_and_the_dict_say_the_same():
    model = zoo.functional()
    kernel = np.zeros((12, 16), "float32")
    kernel[0, :5] = 1
    model.get_layer("hidden").kernel.assign(kernel)
    profile = tg.profile(model)
    hidden = profile.layers[0]
    assert (hidden.nonzeros, hidden.parameters) == (5, 208)
    data = json.loads(json.dumps(profile.to_dict()))
    assert data["macs"] == profile.macs and data["layers"][0]["nonzeros"] == 5
    assert f"{profile.parameters:,}" in str(profile).splitlines()[-1]


def test_mlperf_tiny_resnet8_has_its_published_parameters_and_macs():
    """78,666 parameters and 12.5 M MACs, as MLPerf Tiny states for its image classification reference."""

    def block(x, filters, stride):
        y = layers.Conv2D(filters, 3, strides=stride, padding="same")(x)
        y = layers.Activation("relu")(layers.BatchNormalization()(y))
        y = layers.BatchNormalization()(layers.Conv2D(filters, 3, padding="same")(y))
        if stride > 1:
            x = layers.Conv2D(filters, 1, strides=stride, padding="same")(x)
        return layers.Activation("relu")(layers.Add()([x, y]))

    inputs = keras.Input((32, 32, 3))
    x = layers.Conv2D(16, 3, padding="same")(inputs)
    x = layers.Activation("relu")(layers.BatchNormalization()(x))
    x = block(block(block(x, 16, 1), 32, 2), 64, 2)
    x = layers.Flatten()(layers.AveragePooling2D(8)(x))
    profile = tg.profile(keras.Model(inputs, layers.Dense(10, activation="softmax")(x)))
    assert profile.parameters == 78_666
    assert profile.macs == 12_501_632


def test_a_fixed_batch_size_counts_one_sample():
    class Product(layers.Layer):
        def call(self, x):
            return keras.ops.matmul(x, keras.ops.transpose(x, (0, 2, 1)))

    def macs(batch_size, stateful):
        inputs = keras.Input((6, 8), batch_size=batch_size)
        x = layers.LSTM(4, return_sequences=True, stateful=stateful)(Product()(inputs))
        return tg.profile(keras.Model(inputs, keras.ops.reshape(x, (batch_size or -1, 24)))).macs

    assert macs(5, True) == macs(None, False) == 6 * 6 * 8 + 6 * 4 * 4 * (6 + 4)
