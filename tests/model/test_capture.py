"""Tensors read inside a model as it runs."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from tests import zoo
from tests.model.test_layer_calls import overlapping
from tfgreen.model.capture import Capture, find_layer, outputs_by_name, read_heads


@pytest.mark.parametrize("name", zoo.ZOO)
def test_heads_of_the_zoo_and_their_logits(name):
    model, x = zoo.ZOO[name](), zoo.sample(name)
    heads, _ = read_heads(model)
    expected = {"label": "softmax", "size": "linear"} if name == "multi_io" else {"": "softmax"}
    assert {output: head.activation for output, head in heads.items()} == expected
    place = {"z": (heads["label" if name == "multi_io" else ""].operation, "logits")}
    capture = Capture(place)
    before = [dict(vars(layer)) for layer in [place["z"][0]]]
    with capture.recording() as kept:
        outputs = outputs_by_name(model, model(x))
    (logits,) = kept["z"]
    np.testing.assert_array_equal(keras.ops.softmax(logits), outputs["label" if name == "multi_io" else ""])
    assert [set(vars(layer)) for layer in [place["z"][0]]] == [set(attributes) for attributes in before]
    assert capture.current is None


def ending(*last):
    return keras.Sequential([keras.Input((4, 3)), layers.Dense(3), *last])


@pytest.mark.parametrize(
    ("model", "activation"),
    [
        (ending(), "linear"),
        (ending(layers.Activation("sigmoid")), "sigmoid"),
        (ending(layers.Softmax()), "softmax"),
        (ending(layers.Softmax(axis=1)), ""),
        (ending(layers.Softmax(), layers.Activation("linear", dtype="float32")), "softmax"),
        (ending(layers.Softmax(), layers.Dropout(0.5)), "softmax"),
        (ending(layers.ReLU()), ""),
        (ending(layers.Dense(3, activation="tanh")), ""),
        (ending(layers.Flatten()), ""),
        (ending(layers.LSTM(3)), ""),
        (ending(layers.Conv1D(3, 1, activation="sigmoid")), "sigmoid"),
    ],
)
def test_what_an_output_ends_in_is_told_or_left_open(model, activation):
    assert read_heads(model)[0][""].activation == activation


def test_operations_at_the_end():
    inputs = keras.Input((4, 3))
    for result, activation in (
        (keras.ops.softmax(inputs), "softmax"),
        (keras.ops.softmax(inputs, axis=1), ""),
        (keras.ops.sigmoid(inputs), "sigmoid"),
        (inputs * 2, ""),
    ):
        assert read_heads(keras.Model(inputs, result))[0][""].activation == activation


def test_two_recordings_of_one_layer_do_not_disturb_each_other():
    model = ending()
    capture = Capture({"a": (model.layers[0], "output"), "b": (model.layers[0], "logits")})
    with capture.recording() as outer:
        model(np.ones((1, 4, 3)))
        with capture.recording() as inner:
            model(np.ones((2, 4, 3)))
        model(np.ones((3, 4, 3)))
    assert [len(t) for t in outer["a"]] == [1, 3] and [len(t) for t in inner["b"]] == [2]
    model(np.ones((1, 4, 3)))
    assert len(outer["a"]) == 2 and "call" not in vars(model.layers[0])


def test_an_error_in_the_model_puts_everything_back():
    model = ending()
    capture = Capture({"a": (model.layers[0], "logits")})
    with pytest.raises(ValueError, match="incompatible with the layer"):
        with capture.recording():
            model(np.ones((1, 4, 5)))
    assert "call" not in vars(model.layers[0])
    assert model.layers[0].activation is keras.activations.linear


def test_layers_are_found_by_path_or_by_a_name_that_is_the_only_one():
    model = zoo.nested()
    assert find_layer(model, "head/logits", "layer") is find_layer(model, "logits", "layer")
    with pytest.raises(ValueError, match=r"teacher_layer of model 'nested_net'.*head/logits.*received 'logit'"):
        find_layer(model, "logit", "teacher_layer")
    inner = keras.Sequential([keras.Input((3,)), layers.Dense(3, name="same")], name="inner")
    outer = keras.Sequential([keras.Input((3,)), inner, layers.Dense(3, name="other")])
    twice = keras.Sequential([keras.Input((3,)), keras.Sequential([keras.Input((3,)), inner], name="a"),
                              keras.Sequential([layers.Dense(3, name="same")], name="b")])  # fmt: skip
    assert find_layer(outer, "same", "layer").name == "same"
    with pytest.raises(ValueError, match="a/inner/same.*b/same.*several layers"):
        find_layer(twice, "same", "layer")


def test_two_threads_that_record_one_model_at_once_keep_their_own_tensors():
    model = ending(layers.Activation("sigmoid"))
    capture = Capture({"a": (model.layers[1], "logits"), "b": (model.layers[0], "output")})
    activation = model.layers[1].activation

    def records(size):
        def work(start, end):
            with capture.recording() as kept:
                start()
                for _ in range(20):
                    model(np.ones((size, 4, 3), "float32"))
            end()
            return {name: [len(tensor) for tensor in tensors] for name, tensors in kept.items()}

        return work

    found = overlapping(records(2), records(3))
    assert found == [{"a": [size] * 20, "b": [size] * 20} for size in (2, 3)]
    assert model.layers[1].activation is activation and capture.current is None
