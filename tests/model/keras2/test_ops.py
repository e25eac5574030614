"""Each TensorFlow op of the table computes what TensorFlow computes, called as a Keras 2 config calls it."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfgreen.model.keras2.ops import OPS

A = np.random.default_rng(0).uniform(0.2, 2.0, (2, 3, 4)).astype("float32")
B = np.random.default_rng(1).uniform(0.2, 2.0, (2, 3, 4)).astype("float32")

# Symbol -> TensorFlow's function, and keyword arguments under TensorFlow's names.
BINARY = "add subtract multiply divide maximum minimum mod floordiv truediv pow".split()
UNARY = "abs negative square sqrt rsqrt exp log round sin cos tanh sigmoid sign".split()
ACTIVATIONS = "relu relu6 elu selu softplus softsign silu softmax log_softmax swish gelu".split()
REDUCTIONS = [f"reduce_{name}" for name in "mean sum max min prod".split()]
CASES = {
    **{name: (getattr(tf.math, name), {"y": B}) for name in BINARY},
    **{name: (getattr(tf.math, name), {}) for name in UNARY},
    **{name: (getattr(tf.nn, name), {}) for name in ACTIVATIONS},
    **{name: (getattr(tf, name), {"axis": 1, "keepdims": True}) for name in REDUCTIONS},
    "neg": (tf.negative, {}),
    "argmax": (tf.argmax, {}),
    "cast": (tf.cast, {"dtype": "int32"}),
    "clip_by_value": (tf.clip_by_value, {"clip_value_min": 0.5, "clip_value_max": 1.0}),
    "concat": (lambda x, axis: tf.concat([x, x], axis), {"axis": 1}),
    "expand_dims": (tf.expand_dims, {"axis": 1}),
    "leaky_relu": (lambda x, alpha: tf.nn.leaky_relu(x - 1.0, alpha), {"alpha": 0.3}),
    "matmul": (tf.matmul, {"b": B, "transpose_b": True}),
    "reshape": (tf.reshape, {"shape": (2, 12)}),
    "split": (tf.split, {"num_or_size_splits": [1, 3], "axis": 2}),
    "squeeze": (lambda x, axis: tf.squeeze(x[:, :1], axis), {"axis": 1}),
    "stack": (lambda x, axis: tf.stack([x, x], axis), {"axis": 1}),
    "tile": (tf.tile, {"multiples": (1, 2, 1)}),
    "transpose": (tf.transpose, {"perm": (0, 2, 1)}),
    "unstack": (tf.unstack, {"axis": 1}),
}
INPUTS = {"concat": [A, A], "stack": [A, A], "leaky_relu": A - 1.0, "squeeze": A[:, :1]}


def test_every_op_of_the_table_has_a_case():
    assert set(CASES) | {"getitem"} == set(OPS)


@pytest.mark.parametrize("name", CASES)
def test_an_op_computes_what_tensorflow_computes(name):
    reference, arguments = CASES[name]
    function, names = OPS[name]
    found = function(INPUTS.get(name, A), **{names.get(key, key): value for key, value in arguments.items()})
    expected = reference(A, **arguments)
    if not isinstance(expected, (list, tuple)):
        found, expected = [found], [expected]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "spec, index",
    [
        ({"start": 1, "stop": None, "step": None}, slice(1, None)),
        ([{"start": None, "stop": None, "step": None}, 0], (slice(None), 0)),
        ([{"class_name": "__ellipsis__"}, {"start": None, "stop": None, "step": -1}], (..., slice(None, None, -1))),
    ],
)
def test_a_slice_is_read_as_written(spec, index):
    np.testing.assert_array_equal(OPS["getitem"][0](A, spec), A[index])


def test_equal_parts_and_reversed_axes():
    parts = OPS["split"][0](A, 3, axis=1)
    assert [part.shape for part in parts] == [(2, 1, 4)] * 3
    np.testing.assert_allclose(OPS["matmul"][0](A, B, transpose_a=True), np.swapaxes(A, 1, 2) @ B, rtol=1e-5)
