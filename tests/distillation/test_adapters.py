"""Adapters: what is requested comes out, whatever the model, and no gradient flows into a teacher."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from tests import zoo
from tfgreen.distillation.adapters import KerasAdapter, PredictorAdapter, adapt_teacher


def network(activation: str | None = "softmax") -> keras.Model:
    x = inputs = keras.Input((5,))
    x = layers.Dense(6, activation="relu", name="hidden")(x)
    return keras.Model(inputs, layers.Dense(3, activation=activation, name="head")(x), name="net")


X = np.random.default_rng(0).normal(size=(4, 5)).astype("float32")


def hidden(model: keras.Model) -> np.ndarray:
    kernel, bias = model.get_layer("hidden").get_weights()
    return np.maximum(X @ kernel + bias, 0)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid", None])
def test_a_keras_model_gives_outputs_logits_and_layers_in_one_run(activation):
    model = network(activation)
    adapter = KerasAdapter(model, "teacher")
    keys = [
        adapter.request_output(""),
        adapter.request_logits("", activation or "softmax", None),
        adapter.request_layer("hidden"),
    ]
    assert [adapter.requests[key].shape for key in keys] == [(1, 3), (1, 3), (1, 6)]
    assert [adapter.requests[key].softmax for key in keys] == [False, activation != "sigmoid", False]
    found = adapter.run(X)
    kernel, bias = model.get_layer("head").get_weights()
    np.testing.assert_array_equal(found[keys[0]], model(X))
    np.testing.assert_allclose(found[keys[1]], hidden(model) @ kernel + bias, atol=1e-6)
    np.testing.assert_allclose(found[keys[2]], hidden(model), atol=1e-6)
    assert adapter.recorded is None


def test_no_gradient_flows_into_a_teacher_and_the_student_is_read_where_it_runs():
    model = network()
    teacher, student = KerasAdapter(model, "teacher"), KerasAdapter(model, "student")
    keys = teacher.request_layer("hidden"), student.request_layer("hidden")
    with tf.GradientTape(persistent=True) as tape:
        theirs = teacher.run(X)[keys[0]]
        with student.recording() as recorded:
            outputs = model(X, training=True)
        ours = student.read(outputs, recorded)[keys[1]]
    weights = model.get_layer("hidden").trainable_variables
    assert tape.gradient(theirs, [v.value for v in weights]) == [None, None]
    assert all(np.abs(g).max() > 0 for g in tape.gradient(ours, [v.value for v in weights]))


def test_a_predictor_gives_its_outputs_and_the_logits_of_its_probabilities_inside_a_graph():
    model = network()

    class Predictor:
        """Anything with predict."""

        def predict(self, x):
            return model(x).numpy()

    adapter = adapt_teacher(Predictor(), model)
    assert isinstance(adapter, PredictorAdapter) and adapter.heads[""].shape == (1, 3)
    with pytest.raises(ValueError, match="teacher 'Predictor'.*State from_logits"):
        adapter.request_logits("", "softmax", None)
    keys = adapter.request_output(""), adapter.request_logits("", "softmax", False)
    found = tf.function(adapter.run)(X)
    np.testing.assert_allclose(found[keys[0]], model(X), atol=1e-6)
    np.testing.assert_allclose(keras.ops.softmax(found[keys[1]]), model(X), atol=1e-6)
    with pytest.raises(ValueError, match="teacher 'Predictor': expected a Keras model, whose layers can be read"):
        adapter.request_layer("hidden")
    with pytest.raises(TypeError, match="with a cache: expected a Keras or LiteRT model, received Predictor"):
        adapter.fingerprint()


def test_the_fingerprint_is_of_weights_and_activations_not_of_names():
    model, twin, other = network(), keras.models.clone_model(network()), network(None)
    twin.set_weights(model.get_weights())
    other.set_weights(model.get_weights())
    found = [KerasAdapter(m, "teacher").fingerprint() for m in (model, twin, other)]
    assert found[0] == found[1] != found[2]
    model.get_layer("head").bias.assign([0.0, 0.0, 1e-6])
    assert KerasAdapter(model, "teacher").fingerprint() != found[0]
    keras.utils.set_random_seed(0)
    unnamed = [keras.Sequential([keras.Input((5,)), layers.Dense(2, kernel_initializer="ones")]) for _ in range(2)]
    assert unnamed[0].layers[0].name != unnamed[1].layers[0].name
    assert len({KerasAdapter(m, "teacher").fingerprint() for m in unnamed}) == 1


def test_outputs_are_named_and_their_names_are_checked():
    adapter = KerasAdapter(zoo.multi_io(), "student")
    assert adapter.output_named("size") == "size"
    for name in (None, "nothing"):
        with pytest.raises(ValueError, match=r"student.*output= one of \['label', 'size'\], received output="):
            adapter.output_named(name)
    key = adapter.request_output("size")
    assert adapter.read({"label": 1, "size": 2}, {}) == {key: 2}


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_teacher_that_would_teach_nan_is_refused(value):
    teacher = network()
    weight = teacher.weights[0]
    weight.assign(np.full(weight.shape, value))
    with pytest.raises(ValueError, match=rf"teacher.*weight '{weight.path}': expected finite values.*checkpoint"):
        adapt_teacher(teacher, network())


def test_what_is_no_teacher_or_no_model_is_named():
    student = network()
    with pytest.raises(TypeError, match="teacher: expected a keras.Model, a tg.LiteRTModel"):
        adapt_teacher("teacher.keras", student)
    with pytest.raises(TypeError, match=r"student: expected a keras.Model \(Keras 3\), received int"):
        KerasAdapter(3, "student")
    with pytest.raises(ValueError, match="weights that are also the student's"):
        adapt_teacher(student, student)
