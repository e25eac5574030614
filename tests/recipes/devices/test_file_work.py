"""The work of a .tflite file, against the Keras model's profile and hand counts."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import tfgreen as tg
from tfgreen.recipes.devices.file_work import file_work


@pytest.fixture(scope="module")
def network():
    """Each kind of product once: convolution, with groups, depthwise, transposed, dense, a product of two inputs."""
    x = inputs = keras.Input((8, 8, 4), name="x")
    x = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu")(x)
    x = layers.DepthwiseConv2D(3, padding="same")(x)
    x = layers.Conv2DTranspose(4, 2, strides=2)(x)
    x = layers.Reshape((16, 16))(x)
    x = layers.Dot((2, 1))([x, layers.Permute((2, 1))(x)])
    x = layers.GlobalAveragePooling1D()(x)
    return keras.Model(inputs, layers.Dense(5, activation="softmax")(x))


def test_the_macs_of_a_file_are_those_of_the_model(network):
    work = file_work(tg.convert(network))
    assert sum(layer.macs for layer in work.layers) == tg.profile(network).macs
    assert work.shapes == {"x": (1, 8, 8, 4)}
    assert {layer.dtype for layer in work.layers} == {"float32"}
    assert all("RESHAPE" not in layer.operator for layer in work.layers)


def test_dtypes_and_bytes_are_those_of_the_file():
    model = keras.Sequential([keras.Input((64,), name="x"), layers.Dense(32, use_bias=False, name="out")])
    x = np.random.default_rng(0).normal(size=(20, 64)).astype("float32")

    def dense(**options):
        work = file_work(tg.convert(model, **options))
        return next(layer for layer in work.layers if layer.operator == "FULLY_CONNECTED")

    plain = dense()
    assert (plain.dtype, plain.weight_bytes, plain.activation_bytes) == ("float32", 4 * 64 * 32, 4 * (64 + 32))
    quantized = dense(quantization="int8", calibration_data=x)
    assert quantized.dtype == "int8" and quantized.activation_bytes == 64 + 32
    assert 64 * 32 <= quantized.weight_bytes <= 64 * 32 + 4 * 32  # and a bias
    wide = dense(quantization="int16x8", calibration_data=x)
    assert wide.dtype == "int16" and wide.activation_bytes == 2 * (64 + 32)
    half = dense(quantization="float16")  # unpacked when it is loaded: computes, and is read, in float32
    assert half.dtype == "float32" and half.weight_bytes == 4 * 64 * 32


def test_float_inputs_with_integer_weights_are_rounded_first():
    model = keras.Sequential([keras.Input((256,)), layers.Dense(64, use_bias=False)])
    work = file_work(tg.convert(model, quantization="dynamic"))
    assert work.layers[0].dtype == "int8" and work.layers[0].weight_bytes == 256 * 64


def test_a_lookup_reads_its_rows():
    model = keras.Sequential([keras.Input((6,), dtype="int32"), layers.Embedding(500, 4)])
    rows = next(layer for layer in file_work(tg.convert(model)).layers if layer.operator.startswith(("GATHER", "EMB")))
    assert rows.weight_bytes == 6 * 4 * 4 and rows.macs == 0


def test_zeros_count_as_skipped_only_where_a_sparse_kernel_can_run():
    """XNNPACK's kernels start at a 3x3 convolution of stride 2 and end at a mean; a dense layer alone has none."""
    x = inputs = keras.Input((32, 32, 3))
    x = layers.Conv2D(16, 3, strides=2, activation="relu")(layers.ZeroPadding2D(1)(x))
    for _ in range(2):
        x = layers.Conv2D(64, 1, activation="relu")(x)
    chain = keras.Model(inputs, layers.Dense(4)(layers.GlobalAveragePooling2D()(x)))
    alone = keras.Sequential([keras.Input((64,)), layers.Dense(64)])
    rng = np.random.default_rng(0)
    for model in (chain, alone):
        for weight in model.weights:
            if len(weight.shape) > 1:
                weight.assign(np.where(rng.random(weight.shape) < 0.9, 0, rng.normal(size=weight.shape)))

    def shares(model, sparse):
        layers = file_work(tg.convert(model, sparse_weights=sparse)).layers
        assert all(0.8 < layer.zero_share for layer in layers if layer.macs > 4000)
        return [layer.nonzero_share for layer in layers if layer.macs]

    first, *others = shares(chain, True)
    assert first == 1 and max(others) < 0.3
    assert set(shares(chain, False)) == {1.0} and set(shares(alone, True)) == {1.0}


def test_open_sizes_and_loops_are_refused_with_a_remedy():
    tokens = keras.Sequential([keras.Input((None, 4), name="x"), layers.Conv1D(2, 3, padding="same")])
    with pytest.raises(tg.InvalidValueError, match="leaves a size open.* full shape and convert again"):
        file_work(tg.convert(tokens))
    recurrent = keras.Sequential([keras.Input((6, 4)), layers.LSTM(3)])
    lite = tg.convert(recurrent)
    if "WHILE" in lite.operators:
        with pytest.raises(tg.InvalidValueError, match="unroll=True"):
            file_work(lite)
