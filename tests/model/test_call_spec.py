from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from tests import zoo
from tfgreen.model.call_spec import call_model, read_call_spec, symbolic_inputs
from tfgreen.structure import CallSpec, InputSpec, leaf_names, match


class Weighted(keras.Model):
    """Called with two arguments, one of them a dict."""

    def build(self, x_shape, extra_shape):
        pass

    def call(self, x, extra, training=None):
        return x * extra["scale"] + (1.0 if training else 0.0)


def weighted():
    model = Weighted()
    model(np.ones((1, 3)), {"scale": np.ones((1, 3))})
    return model


@pytest.mark.parametrize("name", zoo.ZOO)
def test_a_model_called_by_its_spec_computes_what_it_computes(name):
    model, x = zoo.ZOO[name](), zoo.sample(name)
    spec = read_call_spec(model)
    values = match(spec.structure, x, "x")
    assert list(values) == [item.name for item in spec.inputs] == leaf_names(spec.structure)
    for item in spec.inputs:
        assert values[item.name].shape[1:] == item.shape and values[item.name].dtype == item.dtype
    for one, other in zip(keras.tree.flatten(call_model(model, spec, values)), keras.tree.flatten(model(x))):
        np.testing.assert_array_equal(one, other)


def test_a_model_of_several_arguments_is_called_by_keyword():
    model = weighted()
    spec = read_call_spec(model)
    assert spec.by_keyword and spec.structure == {"x": "x", "extra": {"scale": "extra_scale"}}
    values = {"x": np.ones((2, 3)), "extra_scale": np.full((2, 3), 5.0)}
    assert np.asarray(call_model(model, spec, values)).tolist() == [[5.0] * 3] * 2
    assert np.asarray(call_model(model, spec, values, training=True)).tolist() == [[6.0] * 3] * 2


def test_the_mode_is_inference_unless_asked_for_otherwise():
    model = keras.Sequential([keras.Input((100,)), layers.Dropout(0.5)])
    spec, x = read_call_spec(model), np.ones((1, 100), "float32")
    (item,) = spec.inputs
    assert (np.asarray(call_model(model, spec, {item.name: x})) == 1).all()
    assert (np.asarray(call_model(model, spec, {item.name: x}, training=True)) == 0).any()


def test_dynamic_sizes_and_dtypes_of_inputs():
    spec = read_call_spec(keras.Sequential([keras.Input((None, 4), dtype="uint8", name="x"), layers.Rescaling(2.0)]))
    assert spec == CallSpec("x", (InputSpec("x", (None, 4), "uint8"),))


@pytest.mark.parametrize("name", zoo.ZOO)
def test_symbolic_inputs_are_one_sample(name):
    inputs, named = symbolic_inputs(zoo.ZOO[name]())
    assert [tensor.shape for tensor in keras.tree.flatten((inputs, named))] == [
        (1, *x.shape[1:]) for x in keras.tree.flatten(zoo.sample(name))]


def test_a_model_that_does_not_know_its_input_shape_says_so():
    model = keras.Model()
    model.built = True
    with pytest.raises(ValueError, match=r"\(Model\) does not know its input shape. Call it once on a batch of data."):
        read_call_spec(model)
