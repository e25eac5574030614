from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from tests import zoo
from tfgreen.errors import TfgreenError
from tfgreen.model.call_spec import read_call_spec
from tfgreen.model.samples import sample_batches
from tfgreen.transforms.one_shot import layer_by_layer as module
from tfgreen.transforms.one_shot.input_statistics import input_grams, input_squares
from tfgreen.transforms.one_shot.layer_by_layer import LayerByLayer

RNG = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype("float32")


def walked(model: keras.Model, data: object, measure=input_squares) -> LayerByLayer:
    return LayerByLayer(model, list(sample_batches(data, read_call_spec(model))), measure)


def test_a_layer_that_is_called_twice_sees_both_inputs_and_batches_make_no_difference():
    first, second = keras.Input((3,)), keras.Input((3,))
    shared = layers.Dense(2)
    model = keras.Model([first, second], layers.Add()([shared(first), shared(second)]))
    a, b = normal(70, 3), normal(70, 3)
    expected = (a.astype("float64") ** 2 + b.astype("float64") ** 2).sum(0)
    batches = [([a[i : i + 7], b[i : i + 7]], np.zeros(7)) for i in range(0, 70, 7)]
    for data in ([a, b], tf.data.Dataset.from_tensor_slices(((a, b),)).batch(9), (batch for batch in batches)):
        walk = walked(model, data)
        ((variable, squares),) = walk.statistics(walk.measured)
        assert variable is shared.kernel
        np.testing.assert_allclose(squares.ravel(), expected, rtol=1e-5)


@pytest.mark.parametrize("passes", [1, 2, 12])
def test_later_layers_see_what_earlier_ones_have_become(monkeypatch, passes):
    monkeypatch.setattr(module, "_PASSES", passes)
    dense = [layers.Dense(4, use_bias=False) for _ in range(4)]
    model = keras.Sequential([keras.Input((4,)), *dense])
    x, calls = normal(10, 4), 0
    original = [layer.kernel.numpy() for layer in dense]
    walk = walked(model, x, input_grams)
    for number, (variable, gram) in enumerate(walk.statistics(walk.measured)):
        assert variable is dense[number].kernel
        group = 4 // min(passes, 4)  # these are told of together, before any of them has changed
        known = x.astype("float64")
        for before in range(number):
            known = known @ (original[before] * (1 if before >= number - number % group else 2))
        np.testing.assert_allclose(gram, known.T @ known, rtol=1e-4)
        variable.assign(variable * 2)
        calls += 1
    assert calls == 4


def test_a_run_ends_with_the_last_layer_of_interest():
    seen = []

    class Spy(layers.Layer):
        def call(self, x):
            seen.append(x.shape[0])
            return x

    model = keras.Sequential([keras.Input((4,)), layers.Dense(3), Spy(), layers.Dense(2), Spy()])
    walk = walked(model, normal(20, 4))
    seen.clear()
    assert len(list(walk.statistics(walk.measured))) == 2
    assert seen == [20]  # the first run ends before it, the second before the other one


@pytest.mark.parametrize("name", ["lstm", "attention", "subclassed", "nested", "shared_layer"])
def test_statistics_of_only_some_weights_are_equal_and_the_model_is_as_before(name):
    model = zoo.ZOO[name]()
    before = model.get_weights()
    walk = walked(model, zoo.sample(name, 6))
    of_all = {id(variable): squares for variable, squares in walk.statistics(walk.measured)}
    assert list(of_all) == list(walk.measured) and len(of_all) >= 2
    last = list(of_all)[-1]
    ((_, squares),) = walk.statistics({last})
    np.testing.assert_allclose(squares, of_all[last], rtol=1e-5)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert "call" not in {key for layer in model._flatten_layers() for key in vars(layer)}


def test_state_is_set_back_between_runs():
    lstm = layers.LSTM(4, stateful=True)
    model = keras.Sequential([keras.Input(batch_shape=(2, 6, 5)), lstm, layers.Dense(3)])
    before = [np.array(state) for state in lstm.states]
    walk = walked(model, normal(2, 6, 5))
    list(walk.statistics(walk.measured))
    for old, new in zip(before, lstm.states, strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_weight_that_is_read_as_rows_here_and_as_columns_there_is_left_out():
    table = layers.ReversibleEmbedding(7, 3, name="table")
    inputs = keras.Input((5,), dtype="int32")
    hidden = layers.Dense(3)
    model = keras.Model(inputs, table(hidden(table(inputs)), reverse=True))
    assert list(walked(model, RNG.integers(0, 7, (16, 5)).astype("int32")).measured) == [id(hidden.kernel)]


def test_numbers_that_are_not_finite_are_said():
    model = keras.Sequential([
        keras.Input((3,)), layers.Dense(2, kernel_initializer=keras.initializers.Constant(1e30)), layers.Dense(2),
    ])
    walk = walked(model, normal(4, 3) * 1e10)
    with pytest.raises(TfgreenError, match="NaN or infinite values on calibration_data. Check its weights"):
        list(walk.statistics(walk.measured))
