"""Attention in integers against Keras's own call, and against its file."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import tfgreen as tg
from tests.quantized import error_in_scales, in_int8, normal, quantized
from tfgreen.quantization.attention import run_attention
from tfgreen.quantization.lowering import lowering_of

KINDS = {
    "multi-head": lambda: layers.MultiHeadAttention(2, 4),
    "dropout": lambda: layers.MultiHeadAttention(2, 4, value_dim=3, dropout=0.3),
    "grouped": lambda: layers.GroupQueryAttention(4, 2, 2, use_bias=False),
}


@pytest.mark.parametrize("how", [{}, {"use_causal_mask": True}, {"attention_mask": np.tri(5, 5, -1, bool)[None]}])
@pytest.mark.parametrize("kind", KINDS)
def test_without_rounding_it_is_keras_own_call(kind, how):
    layer, x, memory = KINDS[kind](), normal(5, 6, count=3), normal(5, 6, count=3, seed=1)
    expected = keras.ops.convert_to_numpy(layer(x, memory, **how))
    seen = {}

    def see(index, tensor):
        seen[index] = tensor.shape
        return tensor

    got = keras.ops.convert_to_numpy(run_attention(layer, see, (x, memory), how))
    np.testing.assert_allclose(got, expected, atol=1e-6)
    assert sorted(seen) == [0, 1, 2, 3, 4, 5, 6]
    np.testing.assert_allclose(keras.ops.convert_to_numpy(layer(x, memory, **how)), expected, atol=1e-6)


def test_the_mask_of_an_embedding_reaches_it():
    tokens = keras.Input((6,), dtype="int32")
    x = layers.Embedding(9, 8, mask_zero=True)(tokens)
    model = keras.Model(tokens, layers.MultiHeadAttention(2, 4)(x, x))
    ids = np.array([[1, 2, 3, 0, 0, 0], [4, 5, 6, 7, 8, 1]], "int32")
    trained = quantized(model, ids)
    expected, got = (one.predict(ids, verbose=0) for one in (model, trained))
    assert np.abs(got - expected).mean() < 0.05 * np.abs(expected).mean()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_its_file_holds_integers_and_computes_the_same(kind):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((5, 6))
    x = KINDS[kind]()(inputs, inputs, use_causal_mask=kind != "dropout")
    model, data = keras.Model(inputs, layers.Dense(3)(x)), normal(5, 6)
    trained = quantized(model, data)
    trained.compile("sgd", "mse")
    trained.fit(data, normal(5, 3), verbose=0, callbacks=[tg.UpdateCompression()])
    lite = in_int8(trained)
    assert set(lite.float_operators) <= {"SELECT_V2", "SOFTMAX"}
    assert kind != "dropout" or not lite.float_operators
    assert error_in_scales(trained, lite, data) < 0.2


class Own(layers.MultiHeadAttention):
    def _compute_attention(self, query, key, value, *args, **kwargs):
        return value, None


def test_attention_of_ones_own_is_left_to_itself():
    assert "not Keras's own" in lowering_of(Own(1, 2)).reason
    inputs = keras.Input((5, 6))
    model, data = keras.Model(inputs, Own(2, 4)(inputs, inputs)), normal(5, 6)
    trained = quantized(model, data)
    assert error_in_scales(trained, in_int8(trained), data) < 0.3
