"""MACs of one layer call against loops that count them, and against the operations that TensorFlow traces."""

from __future__ import annotations

import keras
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

from tfgreen.model.layer_calls import trace_calls
from tfgreen.model.macs import UnknownMacs, count_macs


def macs(layer, *shapes):
    """MACs of a layer and the reason, for one batch of these shapes."""
    tensors = [keras.KerasTensor((1, *shape)) for shape in shapes]
    counted = count_macs(trace_calls(layer, *tensors))
    return counted[id(layer)]


class Own(layers.Layer):
    """The same computation in a class without a rule, so that its traced operations are counted."""

    def __init__(self, inner):
        super().__init__()
        self.run = type(inner).call.__get__(inner)

    def call(self, x):
        return self.run(x)


sizes = st.integers(1, 7)


@settings(max_examples=20, deadline=None)
@given(st.integers(5, 9), st.integers(1, 4), st.integers(1, 3), st.integers(1, 2), st.sampled_from(["same", "valid"]))
def test_a_convolution_multiplies_its_kernel_at_every_output_position(size, filters, kernel, strides, padding):
    layer = layers.Conv2D(filters, kernel, strides=strides, padding=padding)
    outputs = layer.compute_output_shape((1, size, size + 1, 3))
    assert macs(layer, (size, size + 1, 3)) == (outputs[1] * outputs[2] * filters * kernel * kernel * 3, "")


@settings(max_examples=10, deadline=None)
@given(sizes, sizes, sizes)
def test_a_dense_layer_multiplies_its_kernel_at_every_position(positions, inputs, units):
    assert macs(layers.Dense(units), (positions, inputs)) == (positions * inputs * units, "")


@pytest.mark.parametrize(
    "layer, shape, expected",
    [
        (layers.DepthwiseConv2D(3, depth_multiplier=2), (8, 8, 4), 6 * 6 * 9 * 8),
        (layers.SeparableConv2D(5, 3), (8, 8, 4), 6 * 6 * (9 * 4 + 4 * 5)),
        (layers.Conv2D(6, 3, groups=2), (8, 8, 4), 6 * 6 * 9 * 2 * 6),
        (layers.Conv2D(6, 3, data_format="channels_first"), (4, 8, 8), 6 * 6 * 9 * 4 * 6),
        (layers.Conv2DTranspose(3, 2, strides=2), (5, 5, 4), 25 * 4 * 4 * 3),
        (layers.EinsumDense("abc,cd->abd", (None, 5)), (3, 4), 3 * 4 * 5),
        (layers.EinsumDense("...x,xy->...y", 5), (3, 4), 3 * 4 * 5),
        (layers.LSTM(6), (5, 4), 5 * (4 * 24 + 6 * 24)),
        (layers.ConvLSTM1D(3, 3, padding="same"), (5, 8, 2), 5 * 8 * (3 * 2 * 12 + 3 * 3 * 12)),
        (layers.Embedding(10, 4), (6,), 0),
        (layers.BatchNormalization(), (8, 8, 4), 0),
        (layers.ReLU(), (8, 8, 4), 0),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, keras.Layer) else "",
)
def test_rules(layer, shape, expected):
    assert macs(layer, shape) == (expected, "")


def test_a_time_distributed_layer_counts_its_inner_layer_for_each_step():
    outer = layers.TimeDistributed(layers.Dense(3))
    counted = count_macs(trace_calls(outer, keras.KerasTensor((1, 5, 4))))
    assert counted[id(outer.layer)] == (5 * 4 * 3, "")


@pytest.mark.parametrize("layer", [layers.Dense(3), layers.Conv2D(3, 2), layers.DepthwiseConv2D(3)], ids=str)
def test_a_class_without_a_rule_is_counted_by_its_operations(layer):
    shape = (6, 6, 4) if not isinstance(layer, layers.Dense) else (4,)
    layer.build((None, *shape))
    assert macs(Own(layer), shape) == macs(layer, shape)


def test_what_is_not_known_has_a_reason():
    count, reason = macs(layers.Conv2D(2, 3), (None, None, 1))
    assert count is None and "not fixed" in reason

    class Cell(layers.Layer):
        state_size = output_size = 2

        def build(self, shape):
            self.matrix = self.add_weight(shape=(shape[-1], 2), name="matrix")

        def call(self, x, states):
            return keras.ops.matmul(x, self.matrix), states

    assert macs(layers.RNN(Cell()), (5, 4)) == (None, "its cell is of a class that has no rule")
    assert issubclass(UnknownMacs, Exception)
