"""The predicates by class: of layers, subclasses, wrappers and raw operations."""

from __future__ import annotations

import keras
import pytest
from keras import layers

from tfgreen.model.operation_layer import OperationLayer
from tfgreen.model.weights import is_own
from tfgreen.quantization.op_classes import (
    averages_whole_map,
    can_fuse_relu,
    gives_back_range,
    has_kernel,
    inner_operation,
    is_averaging,
    is_concat_like,
    is_elementwise,
    is_fused_activation,
    is_identity,
    is_pass_through,
    is_relu,
    is_separable,
    operation_name,
)
from tfgreen.transforms.compressed import Compressed

PREDICATES = (
    *(has_kernel, is_averaging, is_concat_like, is_elementwise, is_fused_activation, is_identity, is_pass_through),
    *(is_relu, is_separable, gives_back_range),
)


def true_of(layer: keras.Operation) -> set:
    return {predicate for predicate in PREDICATES if predicate(layer)}


LAYERS = [
    (layers.Dense(2), {has_kernel}),
    (layers.Conv3D(2, 2), set()),
    (layers.SeparableConv2D(2, 3), {is_separable}),
    (layers.MaxPooling2D(), {is_pass_through}),
    (layers.AveragePooling1D(2), {is_pass_through, is_averaging}),
    (layers.GlobalAveragePooling2D(), set()),
    (layers.UpSampling2D(), {is_pass_through}),
    (layers.UpSampling2D(interpolation="bilinear"), {is_pass_through, is_averaging}),
    (layers.Dropout(0.1), {is_pass_through, is_identity}),
    (layers.Concatenate(), {is_concat_like, gives_back_range}),
    (layers.Maximum(), {is_concat_like, gives_back_range}),
    (layers.Add(), {is_elementwise}),
    (layers.BatchNormalization(), {is_elementwise}),
    (layers.ReLU(), {is_relu, is_fused_activation, gives_back_range}),
    (layers.ReLU(3.0), {is_relu, is_fused_activation, gives_back_range}),
    (layers.ReLU(negative_slope=0.1), {is_relu}),
    (layers.Activation("relu6"), {is_fused_activation, gives_back_range}),
    (layers.Activation("tanh"), set()),
]


@pytest.mark.parametrize("layer, expected", LAYERS, ids=[type(layer).__name__ for layer, _ in LAYERS])
def test_each_layer_is_of_its_classes(layer, expected):
    assert true_of(layer) == expected


OPERATIONS = [
    (keras.ops.relu, {is_fused_activation, gives_back_range}),
    (keras.activations.relu, {is_relu, is_fused_activation, gives_back_range}),
    (lambda x: x + x, {is_elementwise}),
    (lambda x: x[:, 0], {is_pass_through}),
    (lambda x: keras.ops.average_pool(x, 2), {is_pass_through, is_averaging}),
    (lambda x: keras.ops.concatenate([x, x]), {is_concat_like, gives_back_range}),
    (lambda x: keras.ops.clip(x, 0, 1), {gives_back_range}),
    (keras.ops.stop_gradient, {is_pass_through, is_identity}),
    (keras.ops.tanh, set()),
]


@pytest.mark.parametrize("function, expected", OPERATIONS)
def test_each_raw_operation_is_of_its_classes(function, expected):
    inputs = keras.Input((4, 4, 2))
    operation = keras.Model(inputs, function(inputs)).operations[-1]
    assert true_of(operation) == expected
    assert operation_name(operation) == type(operation).__name__


def test_a_layer_of_the_users_that_bears_the_name_of_a_raw_operation_is_none():
    for name in ("Max", "Reshape", "Add", "Relu", "Concatenate", "Softmax"):
        layer = type(name, (layers.Layer,), {"call": lambda self, x: x + 1})()
        assert not true_of(layer) and operation_name(layer) == ""


def test_a_subclass_is_its_base_unless_it_computes_by_itself():
    renamed = type("Renamed", (layers.Conv2D,), {})(2, 3)
    assert is_own(renamed, (layers.Conv2D,)) and true_of(renamed) == {has_kernel}
    for method in ("call", "convolution_op"):
        own = type("Own", (layers.Conv2D,), {method: lambda self, *args: 0})(2, 3)
        assert not is_own(own, (layers.Conv2D,)) and not true_of(own)


def test_wrappers_are_looked_through():
    inputs = keras.Input((3,))
    operation = keras.Model(inputs, inputs * 2).operations[-1]
    dense = layers.Dense(2)
    dense.build((None, 3))
    assert inner_operation(Compressed(dense, [])) is dense is inner_operation(dense)
    assert inner_operation(Compressed(OperationLayer(operation), [])) is operation


@pytest.mark.parametrize(
    "data_format, shape", [("channels_last", (None, 4, 4, 3)), ("channels_first", (None, 3, 4, 4))]
)
def test_a_window_of_the_whole_map(data_format, shape):
    for size, whole in ((4, True), (2, False)):
        layer = layers.AveragePooling2D(size, data_format=data_format)
        assert averages_whole_map(layer, shape, layer.compute_output_shape(shape)) == whole


def test_a_relu_is_not_fused_into_a_transposed_kernel():
    assert can_fuse_relu(layers.Conv2D(2, 3)) and not can_fuse_relu(layers.Conv2DTranspose(2, 3))
