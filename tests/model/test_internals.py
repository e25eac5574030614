"""What the package takes from private Keras, checked so that a new release of Keras that moves it fails here."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from tests import zoo
from tfgreen.model.internals import (
    graph_calls,
    graph_of,
    input_layers,
    is_container,
    is_graph,
    passed_inputs,
    replay,
    run_symbolically,
    set_build_config,
    tracked_layers,
    tracked_variables,
)


class Named(keras.Model):
    """A functional model of a class that Keras makes anew from inputs and outputs."""


class Sized(keras.Model):
    """A functional model whose class has a constructor of its own."""

    def __init__(self, units):
        inputs = keras.Input((3,))
        super().__init__(inputs, layers.Dense(units)(inputs))


def test_containers_are_models_that_keras_makes_anew_with_other_layers():
    inputs = keras.Input((3,))
    assert is_container(zoo.sequential()) and is_container(zoo.functional()) and is_container(Named(inputs, inputs * 2))
    for other in (Sized(2), zoo.subclassed(), layers.Dense(2), keras.Sequential([layers.Dense(2)])):
        assert not is_container(other)
    assert is_graph(Sized(2)) and not is_graph(zoo.subclassed())


@pytest.mark.parametrize("name", [name for name in zoo.ZOO if name != "subclassed"])
def test_calls_come_after_those_that_feed_them_and_none_is_missed(name):
    model = zoo.ZOO[name]()
    graph = graph_of(model)
    known = {id(tensor) for tensor in graph.inputs}
    for call in graph_calls(graph):
        assert {id(tensor) for tensor in call.input_tensors} <= known
        known |= {id(tensor) for tensor in call.outputs}
    assert {id(tensor) for tensor in graph.outputs} <= known
    called = {id(call.operation) for call in graph_calls(graph)}
    assert called == {id(op) for op in graph.operations if not isinstance(op, layers.InputLayer)}


def test_inputs_passed_by_name_are_put_in_the_order_of_the_model():
    a, b = keras.Input((3,), name="a"), keras.Input((2,), name="b")
    inner = keras.Model([a, b], layers.Concatenate()([a, b]), name="inner")
    p, q = keras.Input((3,), name="p"), keras.Input((2,), name="q")
    (call,) = graph_calls(graph_of(keras.Model([p, q], inner({"b": q, "a": p}))))
    assert [tensor is other for tensor, other in zip(passed_inputs(call), (p, q))] == [True, True]


def test_input_layers_keep_the_structure_of_the_inputs():
    named = {key: layer.name for key, layer in input_layers(zoo.multi_io()).items()}
    assert named == {"image": "image", "meta": "meta"}
    assert [layer.name for layer in input_layers(zoo.shared_layer())] == ["left", "right"]
    assert isinstance(input_layers(zoo.sequential()), layers.InputLayer)


def test_sublayers_and_variables_that_keras_tracks():
    norm = layers.BatchNormalization()
    norm.build((None, 3))
    norm.trainable = False
    assert [[v.name for v in part] for part in tracked_variables(norm)] == [
        ["gamma", "beta"], ["moving_mean", "moving_variance"]]
    wrapper = layers.Bidirectional(layers.LSTM(2))
    assert set(map(id, tracked_layers(wrapper))) >= {id(wrapper.forward_layer), id(wrapper.backward_layer)}


@pytest.mark.parametrize("config", [{"input_shape": [None, 3]}, {"shapes_dict": {"a_shape": [None, 3]}}], ids=str)
def test_a_build_config_that_was_set_is_the_one_that_keras_stores(config):
    layer = layers.Layer()
    set_build_config(layer, config)
    found = layer.get_build_config()
    assert [None, 3] in list(found.get("shapes_dict", found).values())


def test_a_replayed_graph_runs_other_operations_on_other_inputs():
    model = zoo.functional()
    doubled = keras.Input((12,))
    outputs = replay(model, doubled, lambda operation: lambda x, **kwargs: x * 2)
    count = len([layer for layer in model.layers if not isinstance(layer, layers.InputLayer)])
    assert (np.asarray(keras.Model(doubled, outputs)(np.ones((1, 12)))) == 2.0**count).all()


def test_a_symbolic_run_calls_every_layer_and_returns_shapes():
    class Seen(layers.Layer):
        seen = 0

        def call(self, x):
            Seen.seen += 1
            return x

    model = keras.Sequential([keras.Input((3,)), Seen()])
    before = Seen.seen
    outputs = run_symbolically(model, keras.KerasTensor((5, 3)))
    assert outputs.shape == (5, 3) and Seen.seen == before + 1
