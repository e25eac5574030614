from __future__ import annotations

import keras
import numpy as np
import pytest

import tfgreen as tg
from tests.deploy import cases
from tfgreen.deploy.tflite.interpreter import invoke, new_interpreter, run_all, try_files
from tfgreen.errors import ConversionError


def test_bytes_that_are_no_model_and_a_run_that_fails_say_what_the_interpreter_says():
    with pytest.raises(ConversionError, match="the LiteRT interpreter refuses the model: "):
        new_interpreter(b"TFL3", threads=1, keep_tensors=False)

    class Failing:
        def invoke(self):
            raise RuntimeError("Node number 3 failed")

    with pytest.raises(ConversionError, match="the LiteRT interpreter fails on sample 7: Node number 3 failed"):
        invoke(Failing(), " on sample 7")


def test_any_tensor_can_be_read_where_they_are_all_kept():
    lite, x = cases.artifact("functional", "float32"), cases.unseen("functional", 3)
    interpreter = new_interpreter(lite.content, threads=1, keep_tensors=True)
    assert not any(node["op_name"] == "DELEGATE" for node in interpreter._get_ops_details())
    (name,) = (info.name for info in lite.inputs)
    found = run_all(interpreter, lite.inputs, (*lite.inputs, *lite.outputs), {name: x})
    np.testing.assert_array_equal(found[name], x)
    np.testing.assert_allclose(found["probabilities"], lite.predict(x), rtol=1e-5)


def test_dynamic_dimensions_follow_the_data_and_a_size_that_cannot_be_is_an_error():
    inputs = keras.Input((None, 4))
    model = keras.Model(inputs, keras.layers.Conv1D(3, 3, padding="same")(inputs))
    lite, rng = tg.convert(model), np.random.default_rng(0)
    interpreter = lite.new_interpreter()
    for length in (5, 9, 5):
        x = rng.normal(size=(2, length, 4)).astype("float32")
        (found,) = run_all(interpreter, lite.inputs, lite.outputs, {lite.inputs[0].name: x}).values()
        np.testing.assert_allclose(found, model(x), atol=1e-5)
    with pytest.raises(ConversionError, match=r"the LiteRT interpreter refuses inputs of shape \{\d+: \(1, 4, 5\)\}"):
        run_all(interpreter, lite.inputs, lite.outputs, {lite.inputs[0].name: np.zeros((1, 4, 5))})


def test_a_file_runs_on_its_samples_or_on_zeros_and_says_why_it_is_refused():
    lite = cases.artifact("multi_io", "float32")
    zeros = {info.index: np.zeros(info.shape, info.dtype) for info in lite.inputs}
    index = next(iter(zeros))
    wrong = {**zeros, index: np.zeros((1, *np.add(zeros[index].shape[1:], 1)), zeros[index].dtype)}
    fine, also, refused = try_files([(lite.content, []), (lite.content, [zeros, zeros]), (lite.content, [wrong])])
    assert fine == also == "" and refused
