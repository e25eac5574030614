"""Files of 16-bit activations: integers, and what TensorFlow's quantizer gets wrong, against the model."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers, ops

import tfgreen as tg

RNG = np.random.default_rng(0)


def wide(model, x):
    """The outputs of a file, those of the model, and the file, which says of nothing that it is far from it."""
    lite = tg.convert(model, quantization="int16x8", calibration_data=x)
    assert lite.quantization == "int16x8" and not [note for note in lite.notes if "far from" in note]
    pairs = zip(keras.tree.flatten(lite.predict(x)), keras.tree.flatten(model.predict(x, verbose=0)), strict=True)
    return [*pairs], lite


def test_integer_inputs_stay_integers():
    keras.utils.set_random_seed(0)
    ids, lengths = keras.Input((5,), dtype="int32", name="ids"), keras.Input((1,), dtype="int64", name="lengths")
    x = keras.Input((3,), name="x")
    rows = layers.Embedding(20, 4)(ids)
    kept = ops.where((ids > 4)[..., None], rows, -rows)
    few = ops.cast(lengths < 3, "float32")
    scores = layers.Dense(2)(layers.Concatenate()([layers.Flatten()(kept), few, x]))
    model = keras.Model({"x": x, "ids": ids, "lengths": lengths}, [scores, ops.sum(ids, -1), ops.max(ids, -1)])
    data = {
        "ids": RNG.integers(0, 20, (64, 5)).astype("int32"), "lengths": RNG.integers(0, 6, (64, 1)),
        "x": RNG.normal(size=(64, 3)).astype("float32"),
    }
    outputs, lite = wide(model, data)
    assert {tensor.name: tensor.dtype for tensor in lite.inputs} == {"x": "float32", "ids": "int32", "lengths": "int64"}
    assert np.abs(outputs[0][0] - outputs[0][1]).max() < 0.01 * np.ptp(outputs[0][1])
    for got, expected in outputs[1:]:
        np.testing.assert_array_equal(got, expected)


def test_a_table_that_is_only_looked_up():
    ids = keras.Input((4,), dtype="int32")
    ((got, expected),), _ = wide(keras.Model(ids, layers.Embedding(10, 4)(ids)), RNG.integers(0, 10, (32, 4)))
    assert np.abs(got - expected).max() < 1e-4 * np.ptp(expected)


@pytest.mark.parametrize(
    "compute",
    [
        lambda x, y: layers.Dense(3)(layers.LayerNormalization()(x)),  # squared differences
        lambda x, y: layers.UnitNormalization()(x),  # an input squared in float32, a bound of 1e12
        lambda x, y: ops.sum(ops.square(x), -1, keepdims=True),  # larger than what it sums
        lambda x, y: ops.where(x > 0.5, 30 * layers.Dense(8)(y), x),  # of two scales
        lambda x, y: ops.minimum(layers.Dense(8)(y), 0.75) + 0.75 / ops.maximum(x, 0.75),  # a constant, float and not
        lambda x, y: ops.pad(layers.Dense(3)(x), ((0, 0), (1, 0)), constant_values=2.0),
        lambda x, y: 0.0 * layers.Dense(3)(x) + 5.0,  # of one number on all samples
        lambda x, y: [ops.argmax(x, -1), layers.Dense(2)(x)],  # of an input in float32
    ],
    ids=["differences", "norm", "sum", "where", "constant", "pad", "one", "input"],
)
def test_what_the_quantizer_gets_wrong(compute):
    keras.utils.set_random_seed(0)
    inputs = [keras.Input((8,), name="left"), keras.Input((8,), name="right")]
    data = [RNG.normal(size=(64, 8)).astype("float32") for _ in inputs]
    for got, expected in wide(keras.Model(inputs, compute(*inputs)), data)[0]:
        assert np.abs(got - expected).mean() < 0.004 * max(np.ptp(expected), 0.1)


STEEP = {
    "share": lambda x: x / (ops.sum(ops.abs(x), axis=-1, keepdims=True) + 1e-6),
    "one over": lambda x: x * (1.0 / (ops.sqrt(ops.sum(x * x, axis=-1, keepdims=True)) + 1e-6)),
    "norm": lambda x: layers.UnitNormalization()(x),
    "logarithm": lambda x: ops.log(layers.Dense(4, activation="sigmoid")(x)),
    "softplus": lambda x: 1 / layers.Dense(4, activation="softplus")(x),
}


@pytest.mark.parametrize("form", STEEP)
@pytest.mark.parametrize("zeros", [slice(0, 0), slice(150, 160)])
def test_samples_of_zeros_are_divided_by_what_the_model_adds(form, zeros):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8,))
    model = keras.Model(inputs, STEEP[form](inputs))
    x = np.random.default_rng(0).normal(size=(200, 8)).astype("float32")
    x[zeros] = 0
    lite = tg.convert(model, quantization="int16x8", calibration_data=x)
    x[::7] = 0
    expected, got = model.predict(x, verbose=0), lite.predict(x)
    assert np.isfinite(got).all()
    assert np.square(expected - got).mean() < 1e-3 * expected.var()
