from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from tests import zoo
from tests.surgery.cases import Gated, between, check_removal, randomized
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


def test_an_input_that_is_handed_back_by_a_model_whose_code_fails_is_an_input():
    """Keras says that the model made it: whoever follows the calls backwards would go round in a circle."""

    class Trained(layers.Layer):
        def call(self, x, training=False):
            return x + keras.ops.ones((5,)) if training else x

    inputs = keras.Input((8,))
    model = keras.Model(inputs, [inputs, Trained()(layers.Dense(3)(inputs))])
    traced = trace(model, has_rule, training=True)
    assert "" in traced.unseen and [type(call.operation) for call in traced.calls] == [type(model)]
    assert traced.outputs[0] is traced.inputs[0]


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


def test_code_that_needs_the_size_of_an_open_axis_is_run_with_one():
    class Positions(layers.Layer):
        def call(self, x):
            return x * keras.ops.reshape(keras.ops.arange(keras.ops.shape(x)[1], dtype="float32"), (1, -1, 1))

    inputs = keras.Input((None, 3))
    x = Positions(name="positions")(layers.Dense(8, name="first")(inputs))
    model = randomized(keras.Model(inputs, layers.Dense(2)(x)))
    traced = trace(model, has_rule)
    assert not traced.unseen and "Multiply" in names(model) and None not in traced.inputs[0].shape
    groups, slim = check_removal(model, np.random.default_rng(0).normal(size=(2, 5, 3)).astype("float32"))
    assert groups[0].removable == 8 and slim.input_shape == (None, None, 3)


class Cached(layers.Layer):
    """A layer that may return a cache, and multiplies with its weight first."""

    def build(self, shape: tuple[int | None, ...]) -> None:
        self.gamma = self.add_weight(shape=(shape[-1],), name="gamma")

    def call(self, x: keras.KerasTensor) -> tuple[keras.KerasTensor, None]:
        return self.gamma * x, None


class Block(layers.Layer):
    def __init__(self, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.cached, self.dense = Cached(), layers.Dense(3)

    def build(self, shape: tuple[int | None, ...]) -> None:
        self.cached.build(shape)
        self.dense.build(shape)

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        y, cache = self.cached(x)
        return self.dense(x + y) if cache is None else cache


def test_weights_on_the_left_and_outputs_that_are_none_are_followed():
    groups, _ = check_removal(between(Block(name="block"), 5), np.ones((2, 5), "float32"))
    assert [group.size for group in groups if not group.reason] == [8, 3]
    assert "block/cached/gamma[0]" in str(groups[0]).replace("\n", "")
