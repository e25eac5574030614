"""What divides by numbers that round to 0 in 8 bits stays in float32: in training, and in files with data and without.

Some samples are 0 throughout, as a ReLU leaves many: the constant that keeps the model from dividing by 0 is then all
that there is to divide by.
"""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

import tfgreen as tg
from tests import zoo
from tfgreen.model.graph import LayerGraph
from tfgreen.quantization.feature_scales import near_zero
from tfgreen.quantization.op_classes import inner_operation


def power(x):
    return ops.sum(ops.square(x), axis=-1, keepdims=True)


FORMS = {  # how it is written, and the operations that stay in float32
    "share": (lambda x: x / (ops.sum(x, axis=-1, keepdims=True) + 1e-3), "Add Sum TrueDivide"),
    "norm": (lambda x: x / ops.sqrt(power(x) + 1e-6), "Add Sqrt Square Sum TrueDivide"),
    "largest": (lambda x: x / ops.maximum(ops.sqrt(power(x)), 1e-3), "Maximum Sqrt Square Sum TrueDivide"),
    "rsqrt": (lambda x: x * ops.rsqrt(power(x) + 1e-6), "Add Multiply Rsqrt Square Sum"),
    "reciprocal": (lambda x: ops.reciprocal(ops.sqrt(power(x)) + 1e-3) * x, "Add Multiply Reciprocal Sqrt Square Sum"),
    "one over": (lambda x: x * (1.0 / (ops.sum(x, axis=-1, keepdims=True) + 1e-3)), "Add Multiply Sum TrueDivide"),
    "passed on": (
        lambda x: x * ops.expand_dims(0.5 * ops.rsqrt(ops.sum(ops.square(x), axis=-1) + 1e-6), -1),
        "Add ExpandDims Multiply Rsqrt Square Sum",
    ),
    "power": (lambda x: layers.Multiply()([x, (power(x) + 1e-6) ** -0.5]), "Add Multiply Power Square Sum"),
    "deviation": (
        lambda x: (x - ops.mean(x, axis=-1, keepdims=True)) / (ops.std(x, axis=-1, keepdims=True) + 1e-3),
        "Add Std TrueDivide",
    ),
    "logarithm": (lambda x: ops.log(x + 1e-2), "Add Dense Log"),
    "entropy": (lambda x: ops.softmax(x) * ops.log(ops.softmax(x) + 1e-7), "Add Log Softmax"),
    "root": (lambda x: ops.sqrt(power(x) + 1e-4), "Add Sqrt Square Sum"),
}
NORMS = {
    "normalize": lambda x: ops.normalize(x, axis=-1),
    "unit normalization": lambda x: layers.UnitNormalization()(x),
    "cosine": lambda x: layers.Dot(1, normalize=True)([x, ops.flip(x, axis=-1)]),
}


def model_of(form) -> keras.Model:
    inputs = keras.Input((8,))
    x = layers.Dense(6, activation="relu", use_bias=False)(inputs)
    return keras.Model(inputs, layers.Dense(3)(form(x)))


def data(count: int = 256) -> np.ndarray:
    x = np.random.default_rng(0).normal(size=(count, 8)).astype("float32")
    x[::16] = 0
    return x


def decibels(expected: np.ndarray, got: np.ndarray) -> float:
    assert np.isfinite(got).all()
    return 10 * np.log10(expected.var() / max(np.square(expected - got).mean(), 1e-30))


def gradient(model: keras.Model, x: np.ndarray) -> float:
    y = np.random.default_rng(1).normal(size=(len(x), *model.output_shape[1:]))
    with tf.GradientTape() as tape:
        loss = ops.mean(ops.square(model(x, training=True) - y))
    found = tape.gradient(loss, model.trainable_variables)
    return float(np.sqrt(sum(np.square(part).sum() for part in found if part is not None)))


@pytest.mark.parametrize("form", FORMS)
def test_what_leads_to_a_divisor_stays_in_float(form):
    build, names = FORMS[form]
    graph = LayerGraph(model_of(build))
    found = near_zero(graph, {node: inner_operation(node.layer) for node in graph.nodes})
    assert sorted({type(node.layer).__name__ for node in found}) == names.split()


@pytest.mark.parametrize("form", zoo.one_in(2, [*FORMS, *NORMS]))
def test_training_and_both_files_are_near_the_model_where_some_samples_are_zero(form):
    model, x = model_of(FORMS[form][0] if form in FORMS else NORMS[form]), data()
    expected, small = model.predict(x, verbose=0), keras.tree.flatten(x)[0]
    trained = tg.quantize(model, calibration_data=x)
    assert gradient(trained, small) < 3 * gradient(model, small)
    got = trained.predict(x, verbose=0)
    assert decibels(expected, got) > 20
    assert decibels(got, tg.convert(trained, quantization="int8").predict(x)) > 35
    assert decibels(expected, tg.convert(model, quantization="int8", calibration_data=x).predict(x)) > 20


@pytest.mark.parametrize(
    "form",
    [
        lambda x: x / 3.0,
        lambda x: ops.sqrt(x),
        lambda x: x**2,
        lambda x: x * (ops.sum(x, axis=-1, keepdims=True) + 1.0),
        lambda x: x / np.float32(2.0) + ops.exp(-x),
    ],
)
def test_what_divides_by_nothing_small_stays_in_integers(form):
    graph = LayerGraph(model_of(form))
    assert not near_zero(graph, {node: inner_operation(node.layer) for node in graph.nodes})


HEADS = {  # what makes the numbers is a layer: an activation that is fused, or a layer of its own, or one that moves
    "log of sigmoid": (lambda x: ops.log(layers.Dense(4, activation="sigmoid")(3 * x)), "Dense Log"),
    "log of softmax": (lambda x: ops.log(layers.Softmax()(layers.Dense(4)(3 * x))), "Log Softmax"),
    "one over softplus": (lambda x: 1 / layers.Dense(4, activation="softplus")(x), "Dense TrueDivide"),
    "power of softplus": (lambda x: (2 * layers.Dense(4, activation="softplus")(x)) ** -0.5, "Dense Multiply Power"),
    "moved": (
        lambda x: ops.log2(layers.Reshape((2, 2))(layers.Dense(4, activation="sigmoid")(x))), "Dense Log2 Reshape",
    ),
}


@pytest.mark.parametrize("form", HEADS)
def test_a_layer_that_makes_what_is_divided_by_stays_in_float(form):
    build, names = HEADS[form]
    inputs = keras.Input((8,))
    model = keras.Model(inputs, build(layers.Dense(6, activation="relu", name="first")(inputs)))
    graph = LayerGraph(model)
    found = near_zero(graph, {node: inner_operation(node.layer) for node in graph.nodes})
    assert sorted({type(node.layer).__name__ for node in found}) == names.split()
    assert "first" not in {node.path for node in found}
    x = data()
    expected, trained = model.predict(x, verbose=0), tg.quantize(model, calibration_data=x)
    assert decibels(expected, trained.predict(x, verbose=0)) > 20
    assert decibels(expected, tg.convert(model, quantization="int8", calibration_data=x).predict(x)) > 20
    file = tg.convert(trained, quantization="int8").predict(x)
    assert decibels(trained.predict(x, verbose=0), file) > 35


def test_what_is_far_from_0_before_a_logarithm_stays_in_integers():
    inputs = keras.Input((8,))
    for form in (lambda x: ops.log(x + 1.0), lambda x: ops.log(ops.exp(x)), lambda x: ops.log(ops.sum(x, axis=-1))):
        graph = LayerGraph(keras.Model(inputs, form(layers.Dense(6, activation="relu")(inputs))))
        found = near_zero(graph, {node: inner_operation(node.layer) for node in graph.nodes})
        assert "Dense" not in {type(node.layer).__name__ for node in found}


def test_no_gradient_passes_where_all_that_is_normalized_is_rounded_to_zero():
    model = model_of(NORMS["unit normalization"])
    x = data(64)
    x[:8] *= 1e-3  # rounds to 0, and is not
    with pytest.warns(UserWarning, match="is far from .* keep_float="):
        trained = tg.quantize(model, calibration_data=x)
    assert gradient(trained, x) < 3 * gradient(model, x[8:])
    kernel = trained.layers[1].trainable_variables[0]
    with tf.GradientTape() as tape:
        loss = ops.sum(ops.square(trained(x[:8], training=True)))
    assert not np.any(tape.gradient(loss, kernel))


class Share(layers.Layer):
    """Code that is not looked into, because it has a weight of its own."""

    def build(self, shape):
        self.gain = self.add_weight(shape=shape[-1:], initializer="ones")

    def call(self, x):
        return self.gain * x / (ops.sum(x, axis=-1, keepdims=True) + 1e-3)


def test_code_that_divides_by_zero_in_integers_is_refused_with_a_remedy_that_works():
    model, x = model_of(lambda x: Share(name="share")(x)), data()
    with pytest.raises(tg.errors.ConversionError, match=r"DIV.*rounds to 0.*keep_float=\['share'\]"):
        tg.convert(model, quantization="int8", calibration_data=x)
    lite = tg.convert(model, quantization="int8", calibration_data=x, keep_float=["share"])
    assert decibels(model.predict(x, verbose=0), lite.predict(x)) > 25
