from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import tfgreen as tg
from tests import zoo
from tfgreen.model.call_spec import call_model, outputs_of, read_call_spec, symbolic_inputs
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


class Rows(layers.Layer):
    """Relies on four samples."""

    def call(self, x):
        return keras.ops.reshape(x, (4, -1))


@pytest.fixture(scope="module")
def of_four():
    return keras.Sequential([keras.Input(batch_shape=(4, 8)), Rows(), layers.Dense(3, name="out")])


@pytest.mark.parametrize("name", ("of_four", "stateful"))
def test_samples_run_in_batches_of_the_size_that_a_model_fixes(of_four, name):
    lstm = [keras.Input(batch_shape=(1, 6, 5)), layers.LSTM(4, stateful=True), layers.Dense(3)]
    model = of_four if name == "of_four" else keras.Sequential(lstm)
    x = np.random.default_rng(0).normal(size=(10, *model.input_shape[1:])).astype("float32")
    assert tg.quantize(model, calibration_data=x).count_params() > 0
    tg.check_calibration(model, x)
    tg.prune(model, criterion="wanda", calibration_data=x)


def test_outputs_of_a_fixed_batch_are_those_of_every_sample_once(of_four):
    x = np.random.default_rng(0).normal(size=(10, 8)).astype("float32")
    spec = read_call_spec(of_four)
    (found,) = outputs_of(of_four, spec, {spec.inputs[0].name: x}, 32)
    kernel, bias = of_four.get_layer("out").get_weights()
    np.testing.assert_allclose(found, x @ kernel + bias, rtol=1e-5, atol=1e-6)


def test_another_batch_than_a_model_fixes_is_said(of_four):
    x = np.zeros((3, 8), "float32")
    with pytest.raises(tg.TfgreenError, match="fails on a batch of 3 samples: its batch size is fixed, 4. Pass"):
        tg.quantize(of_four, calibration_data=x)
    with pytest.raises(tg.TfgreenError, match="batch size is fixed, 4.*build it anew with an open one"):
        tg.correct_bias(of_four, x)
    with pytest.raises(tg.TfgreenError, match="batch of one sample.*batch size is fixed, 4"):
        tg.convert(of_four)
    bare = keras.Sequential([keras.Input(batch_shape=(4, 8)), Rows()])
    with pytest.raises(tg.TfgreenError, match="it returns 4 rows for it. Build it with an open batch size"):
        tg.convert(bare)


class MeanOfColumns(keras.Model):
    def call(self, x):
        return keras.ops.mean(x, axis=0), keras.ops.mean(x), x, keras.ops.reshape(x, (-1, 2))


@pytest.mark.parametrize("count", [1, 4, 40])
def test_outputs_without_a_batch_axis_are_those_of_each_sample(count):
    model, x = MeanOfColumns(), np.random.default_rng(0).normal(size=(count, 4)).astype("float32")
    model(x)
    columns, scalars, same, halves = outputs_of(model, read_call_spec(model), {"input_0": x}, 32)
    np.testing.assert_allclose(columns, x.ravel())
    np.testing.assert_allclose(scalars, x.mean(axis=1), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(same, x)
    np.testing.assert_array_equal(halves, x.reshape(-1, 2))


class Counted(keras.layers.Layer):
    calls = 0

    def call(self, x):
        self.calls += 1
        return x


@pytest.mark.parametrize("shape, runs", [((6,), 1), ((None,), 2)])
def test_a_batch_is_run_once_where_the_shapes_of_outputs_tell_that_rows_are_samples(shape, runs):
    counted = Counted()
    x = keras.Input(shape, name="x")
    model = keras.Model(x, counted(x))
    counted.calls = 0
    (y,) = outputs_of(model, read_call_spec(model), {"x": np.ones((4, 6), "float32")}, 8)
    assert y.shape == (4, 6) and counted.calls == runs


def test_loops_over_time_compute_the_same_and_fail_with_the_same_words():
    model = keras.Sequential([keras.Input((6,), name="ids"), layers.Embedding(9, 4), layers.GRU(3), layers.Dense(2)])
    ids = np.random.default_rng(0).integers(0, 9, (20, 6))
    (y,) = outputs_of(model, read_call_spec(model), {"ids": ids}, 8)
    np.testing.assert_allclose(y, model(ids), atol=1e-6)
    with pytest.raises(tg.InvalidValueError, match=r"cannot run on inputs of shapes .*indices\[0,0\] = 9 is not in"):
        outputs_of(model, read_call_spec(model), {"ids": ids * 0 + 9}, 8)
