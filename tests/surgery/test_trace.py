from __future__ import annotations

import keras
import pytest
import tensorflow as tf
from keras import layers

from tests import zoo
from tests.surgery.cases import Gated
from tfgreen.surgery.rules.table import has_rule
from tfgreen.surgery.trace import trace


def names(model: keras.Model) -> list[str]:
    found = [type(call.operation).__name__ for call in trace(model, has_rule).calls]
    return [name for name in found if name != "ConvertToTensor"]  # of the model's input


def test_code_of_ones_own_is_looked_into():
    inputs = keras.Input((8,))
    model = keras.Model(inputs, layers.Dense(2)(Gated(4, name="gated")(inputs)))
    assert names(model) == ["Dense", "Dense", "Multiply", "Dense", "Add", "Dense"]
    assert [call.path for call in trace(model, has_rule).calls if call.in_graph][:2] == ["gated/value", "gated/gate"]


def test_code_that_needs_more_than_symbolic_tensors_is_one_call():
    class Odd(layers.Layer):
        def call(self, x):
            return tf.strings.to_number(tf.strings.as_string(x)) * 2.0

    inputs = keras.Input((8,))
    model = keras.Model(inputs, layers.Dense(2)(Odd()(layers.Dense(3)(inputs))))
    assert names(model) == ["Dense", "Odd", "Dense"]


@pytest.mark.parametrize("name", zoo.ZOO)
def test_calls_come_in_order_and_the_model_stays_as_it_was(name):
    model = zoo.ZOO[name]()
    nodes = [len(layer._inbound_nodes) for layer in model._flatten_layers()]
    traced = trace(model, has_rule)
    assert [len(layer._inbound_nodes) for layer in model._flatten_layers()] == nodes
    known = {id(tensor) for tensor in traced.inputs}
    for call in traced.calls:
        assert {id(tensor) for tensor in call.inputs} <= known
        known |= {id(tensor) for tensor in call.outputs}
    assert {id(tensor) for tensor in traced.outputs} <= known
