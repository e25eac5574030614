"""The work of a Keras model, against hand counts and tfgreen's own profile."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import tfgreen as tg
from tests import zoo
from tfgreen.energy.devices.keras_work import keras_work


def test_arithmetic_and_traffic_by_hand():
    model = keras.Sequential(
        [keras.Input((8, 8, 3), name="x"), layers.Conv2D(4, 3, padding="same", name="conv"), layers.Flatten(),
         layers.Dense(10, name="out")]
    )
    work = keras_work(model)
    conv, dense = work.layers
    assert (conv.where, conv.operator, conv.dtype) == ("conv", "CONV_2D", "float32")
    assert conv.macs == 8 * 8 * 4 * 27 and conv.elements == 8 * 8 * 4
    assert conv.weight_bytes == 4 * (27 * 4 + 4) and conv.activation_bytes == 4 * 8 * 8 * (3 + 4)
    assert dense.macs == 2560 and dense.activation_bytes == 4 * (256 + 10)
    assert work.shapes == {"x": (1, 8, 8, 3)}


@pytest.mark.parametrize("name", sorted(zoo.ZOO))
def test_the_macs_of_every_zoo_model_are_those_of_its_profile(name):
    model = zoo.ZOO[name]()
    profile = tg.profile(model)
    shapes = [x.shape for x in model.inputs] if getattr(model, "inputs", None) else []
    if profile.macs is None or any(None in shape[1:] for shape in shapes):
        with pytest.raises(tg.InvalidValueError, match="open|not known"):
            keras_work(model)
        return
    work = keras_work(model)
    batch = next(iter(work.shapes.values()))[0]
    assert sum(layer.macs for layer in work.layers) == profile.macs * batch
    assert work.weight_bytes > 0


def test_a_mixed_policy_computes_and_moves_half_floats():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((8,)), layers.Dense(4, dtype="mixed_float16", use_bias=False)])
    work = keras_work(model).layers[0]
    assert work.dtype == "float16" and work.weight_bytes == 2 * 32 and work.activation_bytes == 2 * 12


def test_a_lookup_moves_its_rows_and_a_shared_layer_its_weights_twice():
    x = keras.Input((5,), dtype="int32")
    shared = layers.Dense(8, use_bias=False, name="shared")
    y = shared(shared(layers.Embedding(1000, 8, name="rows")(x)))
    rows, dense = keras_work(keras.Model(x, y)).layers
    assert rows.weight_bytes == 4 * 5 * 8 and rows.macs == 0
    assert dense.weight_bytes == 2 * 4 * 64 and dense.macs == 2 * 5 * 64


def test_zeros_are_counted_and_a_fixed_batch_too():
    model = keras.Sequential([keras.Input((4,), batch_size=3), layers.Dense(4, use_bias=False)])
    kernel = np.ones((4, 4))
    kernel[:, :2] = 0
    model.layers[0].set_weights([kernel])
    work = keras_work(model)
    assert work.layers[0].zero_share == 0.5 and work.layers[0].macs == 3 * 16 and work.layers[0].nonzero_share == 1
    assert next(iter(work.shapes.values())) == (3, 4)


@pytest.mark.parametrize("attends", ["heads", "plain", "own"])
def test_products_of_results_move_their_factors_and_results(attends):
    """Of 10 queries and keys of 16 numbers: scores of each head, read again with the values."""

    class Own(layers.Layer):
        def build(self, shape):
            self.mix = self.add_weight(shape=(16, 16), name="mix")

        def call(self, x):
            return keras.ops.matmul(keras.ops.matmul(x, keras.ops.transpose(x, (0, 2, 1))), x @ self.mix)

    x = keras.Input((10, 16))
    if attends == "heads":
        y = layers.MultiHeadAttention(2, 8, name="block")(x, x)
    else:
        y = layers.Attention(name="block")([x, x]) if attends == "plain" else Own(name="block")(x)
    work = next(layer for layer in keras_work(keras.Model(x, y)).layers if layer.where == "block")
    projected = 2 if attends == "own" else 0  # x @ mix reads x and writes a result
    scores = 200 if attends == "heads" else 100
    assert work.activation_bytes == 4 * ((4 + projected) * 160 + 2 * scores)
    assert work.macs == 3200 + (2560 if attends == "own" else 0)


@pytest.mark.parametrize(
    "layer, shape",
    [(layers.Conv2D(8, 3), (28, 28, 1)), (layers.Dense(8), (9,)),
     (layers.EinsumDense("ab,bcd->acd", (2, 4), bias_axes="cd"), (9,)),
     (layers.SimpleRNN(4, unroll=True), (5, 3)), (layers.GRU(4, unroll=True), (5, 3)),
     (layers.SeparableConv1D(8, 3), (9, 4))],
    ids=lambda value: type(value).__name__ if isinstance(value, layers.Layer) else "",
)
def test_only_the_zeros_of_kernels_save_products(layer, shape):
    model = keras.Sequential([keras.Input(shape), layer])
    values = [np.zeros(v.shape) if v.path.endswith("kernel") else np.ones(v.shape) for v in layer.weights]
    for value, variable in zip(values, layer.weights):
        if variable.path.endswith("kernel"):
            value.flat[::4] = 1
    layer.set_weights(values)
    kernels = [value for value, v in zip(values, layer.weights) if v.path.endswith("kernel")]
    share = sum(int((k == 0).sum()) for k in kernels) / sum(k.size for k in kernels)
    assert keras_work(model).layers[0].zero_share == pytest.approx(share)


def test_open_sizes_and_unknown_layers_are_refused_with_a_remedy():
    with pytest.raises(tg.InvalidValueError, match="leaves open. Give every keras.Input a full shape"):
        keras_work(keras.Sequential([keras.Input((None, 3), name="x"), layers.Dense(2)]))
    with pytest.raises(tg.InvalidValueError, match="expected a built model"):
        keras_work(keras.Sequential([layers.Dense(2)]))
