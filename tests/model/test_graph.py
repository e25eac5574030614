from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from tests import zoo
from tfgreen.model.graph import (
    check_built_model,
    own_parameters,
    own_weights,
    replaceable_layers,
    symbolic_inputs,
    trace_calls,
    walk,
    weights_by_path,
)


class Block(layers.Layer):
    """Sublayers in attributes, lists and dicts, under private names too; built by its first call."""

    def __init__(self):
        super().__init__(name="block")
        self.steps = [layers.Dense(3), layers.Dense(3)]
        self.by_name = {"a": layers.Dense(3)}
        self._hidden = layers.Dense(3)

    def call(self, x):
        for step in [*self.steps, self.by_name["a"], self._hidden]:
            x = step(x)
        return x


def test_sublayers_go_by_attribute_names_that_do_not_depend_on_the_process():
    layers.Dense(1)  # shifts Keras's automatic names
    block = Block()
    block(np.zeros((1, 3), "float32"))
    assert [path for path, _ in walk(block)] == ["steps/0", "steps/1", "by_name/a", "hidden"]
    assert set(weights_by_path(block)) == {
        f"{path}/{name}" for path in ("steps/0", "steps/1", "by_name/a", "hidden") for name in ("kernel", "bias")
    }


@pytest.mark.parametrize("name", zoo.ZOO)
def test_weights_by_path_holds_each_weight_of_the_model_once(name):
    model = zoo.ZOO[name]()
    found = [id(variable) for variable in weights_by_path(model).values()]
    assert len(found) == len(set(found))
    assert set(found) == {id(variable) for variable in model.weights}


def test_paths_of_nested_recurrent_and_attention_layers():
    assert [path for path, _ in replaceable_layers(zoo.nested())] == [
        "features/conv2d",
        "features/global_average_pooling2d",
        "head/logits",
    ]
    lstm = dict(replaceable_layers(zoo.lstm()))["lstm"]
    assert set(weights_by_path(lstm)) == {"cell/kernel", "cell/recurrent_kernel", "cell/bias"}
    attention = dict(replaceable_layers(zoo.attention()))["multi_head_attention"]
    assert "query_dense/kernel" in weights_by_path(attention)


def test_frozen_weights_are_still_parameters_and_statistics_never_are():
    norm = layers.BatchNormalization()
    norm.build((None, 3))
    norm.trainable = False
    assert set(own_weights(norm)) == {"gamma", "beta", "moving_mean", "moving_variance"}
    assert set(own_parameters(norm)) == {"gamma", "beta"}


def test_trace_sees_every_call_with_its_shapes():
    model = zoo.shared_layer()
    inputs, named = symbolic_inputs(model)
    calls = trace_calls(model, *inputs, **named)
    assert [(type(c.layer).__name__, c.output, c.depth) for c in calls] == [
        ("Functional", (1, 4), 0),
        ("Dense", (1, 8), 1),
        ("Dense", (1, 8), 1),
        ("Concatenate", (1, 16), 1),
        ("Dense", (1, 4), 1),
    ]
    assert calls[3].inputs == ((1, 8), (1, 8))


def test_tracing_leaves_keras_as_it_was():
    before = keras.Layer.__call__
    model = zoo.functional()
    inputs, named = symbolic_inputs(model)
    trace_calls(model, *inputs, **named)
    assert keras.Layer.__call__ is before
    with pytest.raises(Exception, match="shape"):
        trace_calls(model, keras.KerasTensor((1, 5)))
    assert keras.Layer.__call__ is before


def test_a_subclassed_model_that_was_never_called_is_not_built():
    with pytest.raises(ValueError, match="'TwoLayerNet'|built model"):
        check_built_model(zoo.TwoLayerNet())
    with pytest.raises(TypeError, match="teacher.*received Dense"):
        check_built_model(layers.Dense(2), "teacher")
