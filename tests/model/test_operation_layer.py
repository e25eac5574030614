from __future__ import annotations

import inspect

import keras
import numpy as np
import pytest
from keras import layers, ops

from tfgreen.model.internals import graph_of
from tfgreen.model.operation_layer import OperationLayer, with_signature_of
from tfgreen.model.rebuild import rebuild

X = np.arange(12.0).reshape(2, 6).astype("float32")

GRAPHS = {
    "x + y": lambda x: x + x,
    "x * 2": lambda x: x * 2.0,
    "2 / x": lambda x: 2.0 / (x + 1.0),
    "slice": lambda x: x[:, 1:3],
    "relu": lambda x: ops.relu(x - 3.0),
    "concatenate": lambda x: ops.concatenate([x, x], axis=-1),
    "reshape": lambda x: ops.reshape(x, (-1, 3, 2)),
    "split": lambda x: ops.split(x, 2, axis=1),
    "sum": lambda x: ops.sum(x, axis=1, keepdims=True),
}


def wrapped(operation):
    layer = OperationLayer(operation)

    def call(*args, **kwargs):
        args, kwargs = layer.arguments(args, kwargs)
        return layer(*args, **kwargs)

    return layer, call


@pytest.mark.parametrize("build", GRAPHS.values(), ids=GRAPHS)
def test_a_wrapped_operation_computes_the_same_in_a_graph_and_after_saving(build, tmp_path):
    inputs = keras.Input((6,))
    model = keras.Model(inputs, build(inputs))
    found = []

    def replace(path, operation):
        layer, call = wrapped(operation)
        found.append(layer)
        return call

    copy = rebuild(model, lambda path, layer: layer, replace)
    assert len(found) == len(graph_of(model).operations) - 1
    for one, other in zip(keras.tree.flatten(model(X)), keras.tree.flatten(copy(X)), strict=True):
        np.testing.assert_array_equal(one, other)
    copy.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    for one, other in zip(keras.tree.flatten(model(X)), keras.tree.flatten(again(X)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_it_bears_the_name_of_the_operation_has_no_weights_and_casts_nothing():
    inputs = keras.Input((6,))
    operation = next(op for op in graph_of(keras.Model(inputs, inputs + 1.0)).operations if type(op).__name__ == "Add")
    layer = OperationLayer(operation)
    assert layer.name == operation.name and not layer.weights and layer.built and layer.supports_masking
    assert OperationLayer(operation, dtype="mixed_float16")(X, X).dtype == "float32"


def test_a_signature_gets_training_if_it_lacks_it_before_the_other_keywords():
    class Plain(layers.Layer):
        def call(self, x, scale=1.0, **others):
            return x * scale

    call = with_signature_of(Plain(), lambda *args, **kwargs: (args, kwargs))
    assert list(inspect.signature(call).parameters) == ["x", "scale", "training", "others"]
    assert call(1, scale=2, training=True) == ((1,), {"scale": 2, "training": True})
    known = with_signature_of(layers.Dropout(0.5), print)
    assert list(inspect.signature(known).parameters) == ["inputs", "training"]
