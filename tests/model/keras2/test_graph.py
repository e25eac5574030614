"""The graph of a Keras 2 config: calls, call arguments, shared layers, nested models; without a file."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from tfgreen.model.keras2.graph import model_from_keras2


def entry(name, config, *calls, kind="Dense"):
    return {"class_name": kind, "name": name, "config": {"name": name, **config}, "inbound_nodes": list(calls)}


def functional(layers, inputs, outputs, **config):
    ends = {"input_layers": [[name, 0, 0] for name in inputs], "output_layers": [[*end, 0] for end in outputs]}
    return {"class_name": "Functional", "config": {"name": "net", "layers": layers, **ends, **config}}


def given(name, *shape):
    return entry(name, {"batch_input_shape": [None, *shape]}, kind="InputLayer")


def test_configs_of_older_keras2():
    dense = {"class_name": "Dense", "config": {"name": "d", "units": 2, "batch_input_shape": [None, 3]}}
    dense["config"]["kernel_initializer"] = {"class_name": "GlorotUniform", "config": {"dtype": "float32"}}
    gru = {"class_name": "GRU", "config": {"name": "g", "units": 2, "batch_input_shape": [None, 4, 3]}}
    model = model_from_keras2({"class_name": "Sequential", "config": {"name": "s", "layers": [dense]}})
    assert model.input_shape == (None, 3) and model.output_shape == (None, 2)
    model = model_from_keras2({"class_name": "Sequential", "config": {"name": "s", "layers": [gru]}})
    assert model.get_layer("g").reset_after is False
    stack = {"class_name": "Sequential", "config": {"name": "s", "layers": [{"class_name": "Dense", "config": {}}]}}
    stack["config"]["layers"][0]["config"] = {"name": "d", "units": 2}
    with pytest.raises(ValueError, match="'s' .*no input shape in the file"):
        model_from_keras2(stack)
    stack["config"]["layers"] = [dense, {"class_name": "Dense", "config": {"name": "d", "units": 2}}]
    with pytest.raises(ValueError, match=r"'s' \(Sequential\): .*unique names"):
        model_from_keras2(stack)


def test_a_shared_layer_is_one_layer_called_twice():
    shared = entry("d", {"units": 3}, [["a", 0, 0, {}]], [["b", 0, 0, {}]])
    add = entry("add", {}, [["d", 0, 0, {}], ["d", 1, 0, {}]], kind="Add")
    model = model_from_keras2(functional([given("a", 3), given("b", 3), shared, add], ["a", "b"], [["add", 0]]))
    model.get_layer("d").set_weights([np.eye(3), np.zeros(3)])
    a, b = np.ones((2, 3), "float32"), np.full((2, 3), 5.0, "float32")
    np.testing.assert_array_equal(model([a, b]), a + b)
    assert len(model.weights) == 2


def test_layers_are_called_when_their_inputs_are_known_whatever_their_order():
    last = entry("last", {"units": 2}, [["first", 0, 0, {}]])
    first = entry("first", {"units": 4}, [["x", 0, 0, {}]])
    model = model_from_keras2(functional([last, first, given("x", 3)], ["x"], [["last", 0]]))
    assert model.output_shape == (None, 2) and model.get_layer("last").kernel.shape == (4, 2)


def test_arguments_of_an_operation_may_be_tensors_and_constants():
    op = {"function": "math.multiply"}
    product = entry("multiply", op, ["x", 0, 0, {"y": ["x", 0, 0], "name": None}], kind="TFOpLambda")
    scaled = entry("multiply_1", op, ["multiply", 0, 0, {"y": 0.5, "name": None}], kind="TFOpLambda")
    model = model_from_keras2(functional([given("x", 2), product, scaled], ["x"], [["multiply_1", 0]]))
    np.testing.assert_allclose(model(np.array([[3.0, 4.0]])), [[4.5, 8.0]])


def test_an_operation_without_a_counterpart_names_its_layer():
    op = entry("fft", {"function": "signal.fft"}, ["x", 0, 0, {}], kind="TFOpLambda")
    with pytest.raises(ValueError, match=r"layer 'fft' \(TFOpLambda\).*received tf.signal.fft"):
        model_from_keras2(functional([given("x", 2), op], ["x"], [["fft", 0]]))


def test_a_nested_model_that_is_frozen_stays_so_and_is_found_by_its_path():
    inner = functional([given("y", 3), entry("bad", {"units": 2, "time_major": True}, [["y", 0, 0, {}]])],
                       ["y"], [["bad", 0]], trainable=False)
    nested = {**inner, "name": "inner", "inbound_nodes": [[["x", 0, 0, {}]]]}
    config = functional([given("x", 3), nested], ["x"], [["inner", 1]])
    with pytest.raises(ValueError, match="layer 'inner/bad'"):
        model_from_keras2(config)
    del inner["config"]["layers"][1]["config"]["time_major"]
    model = model_from_keras2(config)
    assert isinstance(model, keras.Model) and not model.trainable_weights and len(model.weights) == 2


def test_custom_classes_are_found_by_name():
    class Twice(keras.layers.Layer):
        def call(self, x):
            return x + x

    config = functional([given("x", 2), entry("t", {}, [["x", 0, 0, {}]], kind="Twice")], ["x"], [["t", 0]])
    assert model_from_keras2(config, {"Twice": Twice})(np.ones((1, 2))).numpy().tolist() == [[2.0, 2.0]]
    with pytest.raises(ValueError, match=r"layer 't' \(Twice\).*custom_objects={'Twice': Twice}"):
        model_from_keras2(config)
