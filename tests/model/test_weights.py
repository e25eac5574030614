from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import tfgreen as tg
from tests import zoo
from tfgreen.model.paths import weights_by_path
from tfgreen.model.weights import TABLE, Axes, compressible_weights, reason_unchanged

IMAGE, SEQUENCE, VECTOR = (None, 6, 6, 4), (None, 5, 4), (None, 4)

# layer, build shape, weights that are compressed
CASES = [
    (lambda: layers.Dense(3), VECTOR, ["kernel"]),
    (lambda: layers.Conv1D(3, 2), SEQUENCE, ["kernel"]),
    (lambda: layers.Conv2D(4, 3, groups=2), IMAGE, ["kernel"]),
    (lambda: layers.Conv3D(3, 2), (None, 4, 4, 4, 2), ["kernel"]),
    (lambda: layers.Conv1DTranspose(3, 2), SEQUENCE, ["kernel"]),
    (lambda: layers.Conv2DTranspose(3, 2), IMAGE, ["kernel"]),
    (lambda: layers.Conv3DTranspose(3, 2), (None, 4, 4, 4, 2), ["kernel"]),
    (lambda: layers.SeparableConv1D(3, 2), SEQUENCE, ["pointwise_kernel"]),
    (lambda: layers.SeparableConv2D(3, 2), IMAGE, ["pointwise_kernel"]),
    (lambda: layers.Embedding(9, 3), (None, 5), ["embeddings"]),
    (lambda: layers.EinsumDense("abc,cd->abd", (5, 3)), SEQUENCE, ["kernel"]),
    (lambda: layers.LSTM(3), SEQUENCE, ["cell/kernel", "cell/recurrent_kernel"]),
    (lambda: layers.GRU(3), SEQUENCE, ["cell/kernel", "cell/recurrent_kernel"]),
    (lambda: layers.SimpleRNN(3), SEQUENCE, ["cell/kernel", "cell/recurrent_kernel"]),
    (
        lambda: layers.RNN([layers.LSTMCell(3), layers.GRUCell(2)]),
        SEQUENCE,
        [f"cell/cells/{i}/{name}" for i in (0, 1) for name in ("kernel", "recurrent_kernel")],
    ),
    (lambda: layers.ConvLSTM1D(2, 2), (None, 3, 5, 4), ["cell/kernel", "cell/recurrent_kernel"]),
    (lambda: layers.TimeDistributed(layers.Dense(3)), SEQUENCE, ["layer/kernel"]),
    (
        lambda: layers.Bidirectional(layers.LSTM(3)),
        SEQUENCE,
        [f"{way}_layer/cell/{name}" for way in ("forward", "backward") for name in ("kernel", "recurrent_kernel")],
    ),
    (lambda: layers.BatchNormalization(), VECTOR, []),
    (lambda: layers.LayerNormalization(), VECTOR, []),
    (lambda: layers.GroupNormalization(2), VECTOR, []),
    (lambda: layers.DepthwiseConv1D(2), SEQUENCE, []),
    (lambda: layers.DepthwiseConv2D(2), IMAGE, []),
    (lambda: layers.PReLU(), IMAGE, []),
    (lambda: layers.Dropout(0.1), VECTOR, []),
    (lambda: zoo.ScaledDense(3), VECTOR, ["matrix"]),
]


@pytest.mark.parametrize("make, shape, expected", CASES, ids=[type(make()).__name__ for make, _, _ in CASES])
def test_which_weights_of_a_layer_are_compressed(make, shape, expected):
    layer = make()
    layer.build(shape)
    found = compressible_weights(layer)
    assert sorted(found) == sorted(expected)
    assert set(found) <= set(weights_by_path(layer))
    if not expected:
        assert len(reason_unchanged(layer)) > 10
    layer.trainable = False
    assert compressible_weights(layer) == found


def test_attention_is_compressed_by_its_projections():
    layer = layers.MultiHeadAttention(2, 3)
    layer.build((None, 5, 4), (None, 5, 4))
    assert sorted(compressible_weights(layer)) == [
        f"{name}_dense/kernel" for name in ("key", "output", "query", "value")
    ]
    assert compressible_weights(layer)["query_dense/kernel"] == Axes(inputs=(0,), outputs=(1, 2))
    assert compressible_weights(layer)["output_dense/kernel"] == Axes(inputs=(0, 1), outputs=(2,))


def test_a_subclass_inherits_its_row_and_a_layer_may_choose_its_own_weights():
    class MyNorm(layers.BatchNormalization):
        pass

    class Chooser(layers.Dense):
        def get_prunable_weights(self):
            return [self.bias]

    norm, chooser = MyNorm(), Chooser(3)
    norm.build(VECTOR)
    chooser.build(VECTOR)
    assert compressible_weights(norm) == {}
    assert list(compressible_weights(chooser)) == ["bias"]


# An embedding looks rows up and a cell has several gates: their kernel's channels are not those of the output.
WITH_OUTPUT_CHANNELS = [
    cls for cls, row in TABLE.items() if not isinstance(row, str) and cls.__name__.startswith(("Dense", "Conv", "Sep"))
]


@pytest.mark.parametrize("cls", WITH_OUTPUT_CHANNELS)
def test_output_axes_are_those_along_which_outputs_are_independent(cls):
    """Zeroing one slice along an output axis must silence exactly one output channel."""
    rank = {"1": 1, "2": 2, "3": 3}.get(next((c for c in cls.__name__ if c.isdigit()), ""), 0)
    layer = cls(3, 2, use_bias=False) if rank else cls(3, use_bias=False)
    x = np.random.default_rng(0).normal(size=(1, *[5] * rank, 4)).astype("float32")
    layer(x)
    for name, axes in compressible_weights(layer).items():
        variable = weights_by_path(layer)[name]
        weight = keras.ops.convert_to_numpy(variable).copy()
        index = [slice(None)] * weight.ndim
        index[axes.outputs[0]] = 1
        weight[tuple(index)] = 0
        variable.assign(weight)
        silent = (keras.ops.convert_to_numpy(layer(x)) == 0).all(axis=tuple(range(rank + 1)))
        assert silent.tolist() == [False, True, False]


@pytest.mark.parametrize("verb", ["prune", "cluster", "quantize"])
def test_integers_that_keras_made_are_left_alone(verb):
    model = keras.Sequential([keras.Input((8,)), layers.Dense(16, name="done"), layers.Dense(4, name="out")])
    model.get_layer("done").quantize("int8")
    x = np.random.default_rng(0).normal(size=(32, 8)).astype("float32")
    result = getattr(tg, verb)(model, **({"calibration_data": x} if verb == "quantize" else {}))
    rows = {row.layer: row for row in tg.summary(result).weights}
    assert rows["out"].done and not rows["done"].done and "quantize() of Keras" in rows["done"].reason
    before, after = model.get_layer("done"), tg.strip(result).get_layer("done")
    np.testing.assert_array_equal(after(x), before(x))


def test_both_tables_of_a_reversible_embedding_that_is_not_tied():
    table = layers.ReversibleEmbedding(7, 3, tie_weights=False)
    table.build(None)
    assert list(compressible_weights(table)) == ["embeddings", "reverse_embeddings"]
